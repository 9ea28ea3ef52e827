"""What callers may pass in, and what is said when it is wrong."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import obstruction as ob
from obstruction.tools.checks import (
    LARGEST_COUNT,
    check_axis,
    check_choice,
    check_count,
    check_probability,
    check_rtol,
    check_seed,
    check_share,
    check_tolerance,
)


@pytest.mark.parametrize(
    "value", [7, 7.0, np.int8(7), np.float32(7), np.uint64(7), Fraction(14, 2)]
)
def test_whole_numbers_of_any_type(value):
    number = check_count("networks", value)
    assert number == 7
    assert type(number) is int


@pytest.mark.parametrize(
    "value",
    [
        *(0, -1, -1e6, 0.5, 1e6 + 0.5, float("nan"), float("inf"), 7 + 0j, Decimal("7.5")),
        *("7", "1e6", b"7", None, True, np.bool_(True), np.nan, object(), [7], {}),
    ],
)
def test_bad_counts_name_the_argument(value):
    with pytest.raises(ValueError, match=r"^networks = .*: must be a whole number of at least 1"):
        check_count("networks", value)


@given(st.integers())
def test_count_limits(number):
    if 1 <= number <= LARGEST_COUNT:
        assert check_count("networks", number) == number
    else:
        with pytest.raises(ValueError, match="at most" if number > 0 else "at least"):
            check_count("networks", number)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (3, (3,)),
        (3.0, (3,)),
        (np.int64(3), (3,)),
        (np.array(3), (3,)),
        ([5, 2, 5], (2, 5)),
        ((2.0, 1), (1, 2)),
        (range(1, 4), (1, 2, 3)),
        (np.arange(3, 0, -1), (1, 2, 3)),
        (np.array([2.0]), (2,)),
        ({4, 1}, (1, 4)),
        ((size for size in (2, 1)), (1, 2)),
    ],
)
def test_axes(values, expected):
    axis = check_axis("d", values)
    assert axis == expected
    assert all(type(size) is int for size in axis)


@pytest.mark.parametrize(
    "values",
    [
        *(0, -1, 1.5, [], (), {}, np.array([]), [1, 0], [1, -2], [1, 2.5], [1, np.nan], [1, "2"]),
        *("1:5", b"1", None, [None], [True], np.array([[1, 2]]), [[1]], 10**10, float("inf")),
        object(),
    ],
)
def test_bad_axes(values):
    with pytest.raises(ValueError, match=r"^d = "):
        check_axis("d", values)


@pytest.mark.parametrize(
    "values", [range(1, 10**9), range(1, 10**20), np.zeros(10**6 + 1, np.int8)]
)
def test_absurd_axes_say_how_much_memory_they_need(values):
    with pytest.raises(ValueError, match=r"^d: [\d,]+ sizes would need [\d,.]+ GiB"):
        check_axis("d", values)


def test_seeds():
    assert check_seed(0) == 0
    assert check_seed(2**128 - 1) == 2**128 - 1
    for bad in (-1, 2**128, 0.5, None, "1", True):
        with pytest.raises(ValueError, match=r"^seed = "):
            check_seed(bad)


def test_probabilities():
    assert check_probability("level", "0.25") == 0.25
    for bad in (0, 1, -0.1, 1.1, float("nan"), float("inf"), None, "x", []):
        with pytest.raises(ValueError, match=r"^level = .*between 0 and 1, both excluded"):
            check_probability("level", bad)
    with pytest.raises(ValueError, match=r"between 0 and 0.5"):
        check_probability("level", 0.5, below=0.5)


@pytest.mark.parametrize(
    ("check", "good", "bad", "message"),
    [
        (
            check_rtol,
            [0, 1e-6, 0.999],
            [1, 1.5],
            r"^rtol = .*: must be a number from 0 to below 1$",
        ),
        (
            check_tolerance,
            [0, 0.5, 1e300],
            [float("inf"), 10**400],
            r"^tolerance = .*: must be a finite number of at least 0$",
        ),
        (
            lambda value: check_share("s", value),
            [0, 0.5, 1],
            [1.5, float("inf")],
            r"^s = .*: must be a number from 0 to 1$",
        ),
    ],
)
def test_tolerances_and_shares(check, good, bad, message):
    for value in (*good, *map(str, good), *map(np.float64, good)):
        assert check(value) == float(value)
        assert type(check(value)) is float
    for value in (*bad, -0.1, float("nan"), None, "x", [], 0.5j):
        with pytest.raises(ValueError, match=message):
            check(value)


def test_choices():
    assert check_choice("plan", "nested", ("nested", "independent")) == "nested"
    message = r"^plan = 'nestd': must be one of nested, independent \(did you mean 'nested'\?\)$"
    with pytest.raises(ValueError, match=message):
        check_choice("plan", "nestd", ("nested", "independent"))


GOOD = {"schemes": "kaiming_normal", "d": 2, "l": 3, "networks": 10}


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("schemes", "kaimin_normal", "did you mean 'kaiming_normal'"),
        ("schemes", [], "at least one"),
        ("schemes", 3, "scheme"),
        ("d", 0, "^d = 0"),
        ("d", [], "^d = "),
        ("d", 1.5, "^d = 1.5"),
        ("d", range(1, 10**9), "GiB"),
        ("l", -4, "^l = -4"),
        ("l", "1:5", "^l = '1:5'"),
        ("networks", 0, "^networks = 0"),
        ("networks", 2.5, "^networks = 2.5"),
        ("networks", "abc", "^networks = 'abc'"),
        ("networks", 1e16, "at most"),
        ("threads", 0, "^threads = 0"),
        ("threads", 1.5, "^threads = 1.5"),
        ("seed", -1, "^seed = -1"),
        ("seed", 0.5, "^seed = 0.5"),
        ("plan", "nestd", "^plan = 'nestd'"),
    ],
)
def test_sample_refuses(argument, value, message):
    arguments = {**GOOD, argument: value}
    with pytest.raises(ValueError, match=message):
        ob.sample(arguments.pop("schemes"), **arguments)


def test_sample_refuses_what_does_not_fit_into_memory():
    sizes = range(1, 200_001)
    with pytest.raises(ValueError, match=r"^d, l: .* would need about [\d,.]+ GiB of memory"):
        ob.sample("kaiming_normal", d=sizes, l=sizes, networks=1)
