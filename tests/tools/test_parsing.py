"""How counts and axes are written on the command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obstruction.tools.checks import LARGEST_AXIS, LARGEST_COUNT, LARGEST_SIZE, check_axis
from obstruction.tools.parsing import axis_text, parse_axis, parse_count

sizes = st.integers(1, LARGEST_SIZE)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("1e6", 10**6), ("2.5e3", 2500), ("1E2", 100), (" 7 ", 7), ("12.0", 12)],
)
def test_counts(text, number):
    assert parse_count("networks", text) == number


@given(st.integers(1, LARGEST_COUNT))
def test_every_count_reads_back(number):
    assert parse_count("networks", str(number)) == number
    assert parse_count("networks", f"{number}e0") == number


@given(st.integers(1, 999), st.integers(0, 12))
def test_powers_of_ten_are_exact(digits, zeros):
    assert parse_count("networks", f"{digits}e{zeros}") == digits * 10**zeros


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "abc", "0", "-1", "0.5", "2.5", "1e-3", "nan", "inf", "-inf", "1e16", "1e"),
        *("1e99999999999", "1:2", "1,2", "0x10", "1 0", "1e1000000"),
    ],
)
def test_bad_counts(text):
    with pytest.raises(ValueError, match=r"^networks = .*must be a whole number of at least 1"):
        parse_count("networks", text)


def test_count_limits():
    assert parse_count("seed", "0", least=0) == 0
    with pytest.raises(ValueError, match="at most 5"):
        parse_count("seed", "6", least=0, most=5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100", [100]),
        ("1e3", [1000]),
        ("2,3,5", [2, 3, 5]),
        ("5,2,2", [5, 2, 2]),
        (" 2 , 3 ", [2, 3]),
        ("1:5", [1, 2, 3, 4, 5]),
        ("3:3", [3]),
        ("1:100:5", [*range(1, 101, 5)]),
        ("1:11:5", [1, 6, 11]),
        ("10:20:100", [10]),
        ("geom:2:4096:12", [2**k for k in range(1, 13)]),
        ("GEOM:1:1000:4", [1, 10, 100, 1000]),
        ("geom:1:3:50", [1, 2, 3]),
        ("geom:7:7:1", [7]),
        ("1:3,10,geom:100:1e4:3", [1, 2, 3, 10, 100, 1000, 10000]),
    ],
)
def test_axes(text, expected):
    assert list(parse_axis("d", text)) == expected


@given(st.lists(sizes, min_size=1, max_size=20))
def test_lists_read_back(values):
    assert list(parse_axis("d", ",".join(map(str, values)))) == values


@given(sizes, st.integers(0, 500), st.integers(1, 50))
def test_ranges_include_their_stop(start, length, step):
    stop = min(start + length, LARGEST_SIZE)
    assert list(parse_axis("l", f"{start}:{stop}:{step}")) == list(range(start, stop + 1, step))
    assert parse_axis("l", f"{start}:{stop}")[-1] == stop


@given(sizes, sizes, st.integers(2, 200))
def test_geometric_axes_ascend_from_start_to_stop(one, other, number):
    start, stop = sorted((one, other))
    values = list(parse_axis("d", f"geom:{start}:{stop}:{number}"))
    assert (values[0], values[-1]) == (start, stop)
    assert values == sorted(set(values))
    assert len(values) <= number
    ratio = (stop / start) ** (1 / (number - 1))
    limits = [(a + 0.5) * ratio + 0.5 + 1e-6 * a for a in values]
    assert all(b <= limit for b, limit in zip(values[1:], limits, strict=False))


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ",", "1,", ",1", "1,,2", ":", "1:", ":5", "1:2:3:4", "a", "1.5", "1,2.5"),
        *("geom", "geom:1:10", "geom:1:10:2:3", "geom::10:3", "nan", "inf", "1e99999999999"),
        *("1;2", "1-5", "1 2"),
    ],
)
def test_malformed_axes_say_what_is_expected(text):
    with pytest.raises(ValueError, match=r"^d = .*1:100:5 \(stop included\) or as geom:2:4096:20"):
        parse_axis("d", text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "^d = 0: must be a whole number of at least 1"),
        ("-3", "^d = -3: must be"),
        ("1,0", "^d = '1,0': size = 0: must be"),
        ("0:5", "^d = '0:5': start = 0: must be"),
        ("1:5:0", "^d = '1:5:0': step = 0: must be"),
        ("1:5:-1", "step = -1"),
        ("geom:0:5:3", "start = 0"),
        ("geom:1:5:0", "number = 0"),
        ("5:1", "^d = '5:1': stops at 1, before it starts at 5"),
        ("geom:5:1:3", "stops at 1"),
        ("geom:1:5:1", "one size cannot be both 1 and 5"),
        ("1e10", "at most 1,000,000,000"),
        ("1e30", "at most 1,000,000,000"),
        ("geom:1:1e9:1e9", "1,000,000,000 sizes would need 93.1 GiB .* at most 1,000,000 sizes"),
        ("5,1:1e9", "GiB"),
    ],
)
def test_bad_sizes(text, message):
    with pytest.raises(ValueError, match=message):
        parse_axis("d", text)


def test_a_huge_range_is_refused_without_being_built():
    with pytest.raises(ValueError, match=r"^d: 1,000,000,000 sizes would need .* GiB"):
        check_axis("d", parse_axis("d", "1:1000000000"))


@given(st.text(alphabet="0123456789:,.-eEgom abN∞٣", max_size=24))
def test_any_text_is_read_or_refused(text):
    try:
        values, complaint = parse_axis("d", text), "d"
    except ValueError as error:
        values, complaint = [1], str(error)
    assert complaint.startswith("d")
    assert len(values) >= 1
    assert all(1 <= value <= LARGEST_SIZE for value in values[:LARGEST_AXIS:997])


@pytest.mark.parametrize("sizes", [[4], [1, 9], [1, 2, 3], [5, 10, 15, 20], [1, 2, 4, 8]])
def test_the_text_of_an_axis_reads_back(sizes):
    assert list(parse_axis("d", axis_text(sizes))) == sizes
