"""Tables to paste: the right numbers in every format, rounded as is promised, and compiled."""

from __future__ import annotations

import csv
import importlib.util
import io
import math
import re
import shutil
import subprocess
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import mpmath
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

import obstruction as ob
from obstruction import exact, tables
from obstruction.reporting.tables.cells import MOST_DIGITS, accurate_digits
from obstruction.reporting.tables.rounding import Shown, by_digits, by_interval, precise
from obstruction.studies import folder

ROOT = Path(__file__).parents[2]
SCHEMES = ("xavier_normal", "kaiming_normal", "orthogonal")
D, L = (1, 2, 5, 10, 100), (1, 10, 100)


@pytest.fixture(scope="module")
def study():
    """A study with counted and tilted cells, zeros, ones, and a scheme without exact values."""
    made = ob.sample(SCHEMES, d=D, l=L, networks=2000, seed=3, estimator="auto", samples=2000)
    table = made.table()
    assert set(table["estimator"]) == {"direct", "tilted"}
    direct = table[table["estimator"] == "direct"]
    assert (direct["obstructed"] == 0).any()
    assert (direct["obstructed"] == 2000).any()
    return made


@pytest.fixture(scope="module")
def place(study, tmp_path_factory):
    """A folder that holds the study."""
    path = tmp_path_factory.mktemp("tables") / "study"
    folder.save(study, path)
    return path


# --- rounding ----------------------------------------------------------------------------------


def places(mantissa: str) -> int:
    return len(mantissa.partition(".")[2])


def significant(mantissa: str) -> int:
    return len(mantissa.replace(".", "").lstrip("0"))


@given(st.floats(0.0, 1.0, exclude_min=True), st.integers(1, MOST_DIGITS))
@example(0.99996, 4)
@example(9.9996e-4, 4)
@example(5e-324, 4)
def test_exact_values_have_the_digits_asked_for(x, digits):
    value = precise(x, math.log10(x))
    shown = by_digits(value, digits)
    assert significant(shown.mantissa) == digits
    assert abs(shown.value - value) <= Decimal("0.50001") * Decimal(10) ** (
        value.adjusted() - digits + 1
    )
    if shown.exponent:
        assert shown.exponent < -3
        assert 1 <= Decimal(shown.mantissa) < 10
    else:
        assert shown.value >= Decimal("0.001")


@given(st.integers(-(10**7), -300), st.floats(1.0, 9.999))
def test_values_below_the_smallest_double_come_from_their_logarithm(exponent, mantissa):
    shown = by_digits(precise(0.0, exponent + math.log10(mantissa)), 5)
    off = Decimal(shown.mantissa) * Decimal(10) ** (shown.exponent - exponent) - Decimal(mantissa)
    assert abs(off) < Decimal("2e-4")
    assert len(shown.mantissa) == 6


@given(st.integers(1, 10**15), st.data())
def test_clopper_pearson_is_rounded_by_its_width(networks, data):
    events = data.draw(st.integers(0, networks))
    low, high = (
        stats.binomtest(events, networks).proportion_ci(0.95)
        if networks < 10**6
        else (
            stats.beta.ppf(
                [0.025, 0.975], [events, events + 1], [networks - events + 1, networks - events]
            )
        )
    )
    low, high = 0.0 if events == 0 else float(low), 1.0 if events == networks else float(high)
    check_rounding(events / networks, low, high)


@given(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3).map(sorted))
@example([1e-20, 1e-19, 1e-3])
@example([0.25, 0.25, 0.25])
@example([1e-300, 1e-300, 2e-300])
def test_any_interval_is_rounded_by_its_width(numbers):
    low, middle, high = numbers
    check_rounding(middle, low, high)


def check_rounding(middle, low, high):
    """Check the rules of `by_interval` from their words, with whole fractions."""
    middle, low, high = map(Decimal, (middle, low, high))
    if not low <= middle <= high:  # the quantiles of scipy are off in the last digit
        return
    shown, interval = by_interval(middle, low, high)
    if low == high:
        assert interval is None
        assert math.isclose(shown.value, middle, rel_tol=1e-14)
    elif middle == 0:
        assert (shown.relation, interval) == ("<", None)
        assert high <= shown.value <= high * Decimal("1.1")
        assert significant(shown.mantissa) == 2
    elif middle == 1:
        assert (shown.relation, interval) == (">", None)
        assert (1 - low) <= (1 - shown.value) <= (1 - low) * Decimal("1.1000001")
    else:
        assert shown.relation == ""
        assert shown.exponent == interval.exponent
        digits = {places(text) for text in (shown.mantissa, interval.low, interval.high)}
        assert len(digits) == 1
        unit = Decimal(10) ** (shown.exponent - digits.pop())
        half = (high - low) / 2
        if unit > middle * Decimal("1e-14"):  # not as narrow as the spacing of doubles
            assert 10 * unit <= half * Decimal("1.0000001")
            assert half < 100 * unit
        left = Decimal(interval.low) * Decimal(10) ** interval.exponent
        right = Decimal(interval.high) * Decimal(10) ** interval.exponent
        assert left <= low < left + unit
        assert right - unit < high <= right
        assert left <= (low + high) / 2 <= right
        assert abs(shown.value - middle) <= unit / 2
        assert left <= shown.value <= right


def test_a_zero_and_a_one_of_a_million():
    high = stats.beta.ppf(0.975, 1, 10**6)
    assert by_interval(Decimal(0), Decimal(0), Decimal(high))[0] == Shown("3.7", -6, "<")
    assert by_interval(Decimal(1), Decimal(1 - high), Decimal(1))[0] == Shown("0.9999963", 0, ">")


def test_digits_stop_where_accuracy_stops():
    deep = tables.probability_table(
        rows={"d": [10**7]}, columns={"l": [10**7]}, schemes="kaiming_normal", digits=11
    )
    assert accurate_digits("F distribution", -1.5e6) == 7
    assert accurate_digits("real integral", -math.inf) == MOST_DIGITS  # exactly 0
    (cell,) = deep.layout.groups[0].rows[0][1]
    assert significant(cell.number.mantissa) == 7
    with mpmath.workdps(40):
        y, d = mpmath.mpf(1) / 2, mpmath.mpf(10**7)
        p = mpmath.betainc(d / 2, y, 0, y, regularized=True) * 10**7
        assert abs(mpmath.mpf(str(cell.number.value)) / p - 1) < 1e-6
    assert "fewer digits" in deep.to_markdown()
    table = tables.probability_table(
        rows={"d": [5]}, columns={"l": [5]}, schemes="torch_linear", digits=MOST_DIGITS
    )
    assert significant(table.layout.groups[0].rows[0][1][0].number.mantissa) == 9
    few = tables.probability_table(rows={"d": [5]}, columns={"l": [5]}, schemes="torch_linear")
    assert few.layout.notes == ()


# --- formats, read back ------------------------------------------------------------------------

_RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-")
_POWER = r"(?: × 10(-\d+))?"
_CELL = re.compile(rf"([<>]?) ?(\d[\d.]*){_POWER}(†?)(?: \[(\d[\d.]*), (\d[\d.]*)\]{_POWER})?(†?)")


def read_cell(text):
    """Return (relation, estimate, low, high, tilted) of a cell, or None for a dash."""
    text = text.translate(_RAISED).replace("\\", "").strip()
    if text == "—":
        return None
    found = _CELL.fullmatch(text)
    assert found, text
    relation, mantissa, power, mark, low, high, same, later = found.groups()
    assert same == power or low is None
    scale = Decimal(10) ** int(power or 0)
    ends = [None if end is None else Decimal(end) * scale for end in (low, high)]
    return relation, Decimal(mantissa) * scale, *ends, bool(mark or later)


def check_cell(text, row, value):
    """Check a cell of any format against the row of the study's table."""
    read = read_cell(text)
    if value == "exact":
        if math.isnan(row["exact"]):
            assert read is None
            return
        relation, number, low, high, tilted = read
        assert (relation, low, high, tilted) == ("", None, None, False)
        assert math.isclose(number, row["exact"], rel_tol=5.001e-4)
        assert math.isclose(number.log10(), row["log10_exact"], abs_tol=3e-4)
        return
    relation, number, low, high, tilted = read
    assert tilted == (row["estimator"] == "tilted")
    if row["empirical"] == 0.0:
        assert relation == "<"
        assert row["ci_high"] <= number <= 1.1 * row["ci_high"]
    elif row["empirical"] == 1.0:
        assert relation == ">"
        assert 1 - row["ci_low"] <= 1 - number <= 1.1 * (1 - row["ci_low"])
    else:
        assert relation == ""
        half = (row["ci_high"] - row["ci_low"]) / 2
        assert abs(float(number) - row["empirical"]) <= half / 10
        assert 0 <= row["ci_low"] - float(low) <= half / 10
        assert 0 <= float(high) - row["ci_high"] <= half / 10


def rows_of(study):
    return {(r["scheme"], r["d"], r["l"]): r for r in study.table().to_dict("records")}


def everything(study):
    return tables.probability_table(study, rows={"scheme": None, "d": None}, columns="l")


def read_markdown(text):
    """Return the header, the alignments and the rows of the only pipe table."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len({len(row) for row in split}) == 1
    return split[0], split[1], split[2:]


def test_markdown_reads_back(study):
    text = everything(study).to_markdown()
    head, rules, lines = read_markdown(text)
    assert head[:4] == ["scheme", "*d*", "*l* = 1, exact", "*l* = 1, empirical"]
    assert rules == [":---"] + ["---:"] * 7
    assert len(lines) == len(SCHEMES) * len(D)
    rows = rows_of(study)
    columns = [(l, value) for l in L for value in ("exact", "empirical")]
    for scheme, d, *cells in lines:
        for (l, value), cell in zip(columns, cells, strict=True):
            check_cell(cell, rows[scheme.strip("`"), int(d), l], value)
    notes = text.split("\n\n", 2)[2].split("\n\n")
    assert [note.lstrip("\\")[0] for note in notes] == ["†", "<", ">", "—"]
    assert {"| \\< ", "| \\> ", "\n\\< ", "\n\\> "} == set(
        re.findall(r"(?:\| |\n)[^\w\s|]*[<>] ", text)
    )
    assert "2,000 weighted samples" in notes[0]
    assert [note[-4:] for note in notes[1:3]] == ["is 0", "is 1"]
    assert "`orthogonal`: its weights depend on each other" in notes[3]
    caption = text.split("\n")[0]
    for words in ("2,000 networks per cell", "seed\u00a03", "95\u00a0%", *SCHEMES, "nested plan"):
        assert words in caption


class Reader(HTMLParser):
    """The cells of a table with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.words, self.caption = [], [], None, ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag != "br":
            self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        assert self.tags.pop() == tag

    def handle_data(self, text):
        if {"td", "th"} & set(self.tags):
            self.rows[-1][-1][2] += text
        if "caption" in self.tags:
            self.caption += text


def test_html_reads_back_and_can_be_heard(study):
    text = everything(study).to_html()
    assert text.isascii()
    reader = Reader(text)
    assert reader.tags == []
    assert "95\u00a0% confidence intervals" in reader.caption
    assert text.index("<caption>") == text.index("<table>") + len("<table>\n")
    heads, body = reader.rows[:2], reader.rows[2:]
    assert all(tag == "th" for row in heads for tag, _, _ in row)
    assert [a["scope"] for _, a, _ in heads[0]] == ["col", *["colgroup"] * 3]
    assert heads[0][0][1]["rowspan"] == "2"
    assert [t for _, _, t in heads[0][1:]] == ["l = 1", "l = 10", "l = 100"]
    assert [t for _, _, t in heads[1]] == ["exact", "empirical"] * 3
    rows, seen = rows_of(study), 0
    for row in body:
        if len(row) == 1:
            assert (row[0][1]["scope"], row[0][1]["colspan"]) == ("rowgroup", "7")
            scheme = row[0][2]
            continue
        assert row[0][:2] == ["th", {"scope": "row"}]
        for i, (tag, _, cell) in enumerate(row[1:]):
            assert tag == "td"
            seen += 1
            key = scheme, int(row[0][2]), L[i // 2]
            check_cell(cell, rows[key], ("exact", "empirical")[i % 2])
    assert seen == len(SCHEMES) * len(D) * len(L) * 2


def test_pandas_reads_the_html(study):
    pytest.importorskip("lxml")
    table = tables.probability_table(study, rows="d", columns="l", schemes="kaiming_normal")
    (frame,) = pd.read_html(io.StringIO(table.to_html()))
    assert frame.shape == (len(D), 1 + 2 * len(L))
    assert frame.columns.nlevels == 2
    rows = rows_of(study)
    for i, d in enumerate(D):
        assert frame.iloc[i, 0] == d
        for l in L:
            row = rows["kaiming_normal", d, l]
            for value in ("exact", "empirical"):
                check_cell(str(frame.loc[i, (f"l = {l}", value)]), row, value)


def test_csv_keeps_every_digit(study):
    table = everything(study)
    lines = list(csv.DictReader(io.StringIO(table.to_csv())))
    rows = rows_of(study)
    assert len(lines) == len(rows) == len(table.frame)
    for line in lines:
        row = rows[line["scheme"], int(line["d"]), int(line["l"])]
        assert float(line["interval_level"]) == 0.95
        for name in set(line) - {"interval_level"}:
            if isinstance(row[name], str):
                assert line[name] == row[name]
            else:
                assert line[name] == "" if math.isnan(row[name]) else float(line[name]) == row[name]


def test_latex_reads_back(study):
    text = everything(study).to_latex(label="tab:all")
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    rows, seen, scheme, cells = rows_of(study), 0, "", []
    for line in re.findall(r"^(.*) \\\\$", body, re.MULTILINE):
        title = re.fullmatch(r"\\multicolumn\{7\}\{@\{\}l\}\{\\texttt\{(.*)\}\}", line)
        if title:
            scheme = title[1].replace(r"\_", "_")
            continue
        first, *parts = [part.strip() for part in line.split(" & ")]
        if first:
            d, cells = int(first), parts
            continue
        for i, (number, interval) in enumerate(zip(cells, parts, strict=True)):
            words = re.sub(r"e(-\d+)", r" × 10\1", number).replace("{---}", "—")
            words = re.sub(r" \{\\rlap\{.*\}\}", "†", words)
            ends = re.sub(r"\{\\times\}10\^\{(-\d+)\}", r" × 10\1", interval).replace(r",\,", ", ")
            ends = re.sub(r"^\{\\\w+ \$|\$\}$", "", ends)
            check_cell(f"{words} {ends}", rows[scheme, d, L[i // 2]], ("exact", "empirical")[i % 2])
            seen += 1
    assert seen > 60  # rows without any interval have no second line
    assert r"\label{tab:all}" in text
    assert text.count(r"\toprule") == text.count(r"\begin{table}") == 1
    assert r"2,000 networks per cell (nested plan, seed~3), with 95~\%" in text
    comments = [line[2:] for line in text.splitlines() if line.startswith("% ")]
    assert "\n".join(comments).endswith(tables.bibtex())
    assert "Exact values of kaiming_normal: F distribution." in comments


def test_what_to_cite_is_what_the_citation_file_says():
    path = ROOT / "CITATION.cff"
    if not path.exists():
        pytest.skip("the package is installed away from its citation file")
    entries = " ".join(tables.bibtex().replace("{", "").replace("}", "").split())
    text = path.read_text(encoding="utf-8")
    for title in re.findall(r'title: "(.*)"', text):
        assert title in entries
    for names in zip(
        re.findall(r"family-names: (.*)", text), re.findall(r"given-names: (.*)", text), strict=True
    ):
        assert ", ".join(names) in entries
    (version,) = re.findall(r"^version: (.*)", text, re.MULTILINE)
    assert f"version {version}" in entries
    assert "2410.14837" in entries


# --- arrangement -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (("d",), ("l", "scheme")),
        (("d",), ("scheme", "l")),
        (("scheme", "l"), ("d",)),
        (("l", "scheme"), ("d",)),
        (("d", "l"), ("scheme",)),
        (("scheme", "d", "l"), ()),
        (("scheme",), ("d", "l")),
    ],
)
def test_every_arrangement_puts_every_cell_in_its_place(rows, columns):
    keys = {"d": [7, 3], "l": [5, 4, 9], "scheme": ["kaiming_normal", "keras_dense"]}
    table = tables.probability_table(
        rows={name: keys[name] for name in rows},
        columns={name: keys[name] for name in columns},
        digits=9,
    )
    frame = table.frame.set_index(["scheme", "d", "l"])["exact"]

    def points(names):
        found = [{}]
        for name in names:
            found = [{**point, name: key} for point in found for key in keys[name]]
        return found

    lines = [cells for group in table.layout.groups for _, cells in group.rows]
    assert len(lines) == len(points(rows))
    for place, cells in zip(points(rows), lines, strict=True):
        for point, cell in zip(points(columns), cells, strict=True):
            at = {**place, **point}
            value = frame[at["scheme"], at["d"], at["l"]]
            assert cell.number == by_digits(Decimal(value), 9)
            right = exact.obstruction_probability(at["scheme"], at["d"], at["l"])
            assert math.isclose(value, right, rel_tol=1e-13)
    assert all(sum(head.span for head in row) == table.layout.width for row in table.layout.head)
    head, _, body = read_markdown(table.to_markdown())
    for place, line in zip(points(rows), body, strict=True):
        for name, text in zip(rows, line, strict=False):
            assert text.strip("`*").removeprefix(f"{name}* = ") == str(place[name])
    for point, text in zip(points(columns), head[len(rows) :], strict=False):
        assert all(str(key) in text for key in point.values())


def test_several_schemes_go_to_the_rows_and_single_sizes_to_the_caption():
    study = ob.sample(["xavier_normal", "kaiming_normal"], d=5, l=[2, 3], networks=100, seed=0)
    table = tables.probability_table(study, rows="l", values="empirical")
    assert [group.title for group in table.layout.groups] == ["`xavier_normal`", "`kaiming_normal`"]
    assert "with $d = 5$ inputs, $l$ hidden neurons" in table.caption
    assert [head.text for head in table.layout.head[0]] == ["empirical"]
    single = tables.probability_table(study, rows="l", schemes="kaiming_normal", values="exact")
    assert [group.title for group in single.layout.groups] == [""]
    assert set(single.frame["scheme"]) == {"kaiming_normal"}


def test_labels_with_options_are_split_at_the_right_commas():
    text = "scheme=kaiming_normal:mode=fan_out,output_gain=0.5,xavier_normal,custom:law=uniform"
    assert tables.parse_axes("rows", [text]) == {
        "scheme": [
            "kaiming_normal:mode=fan_out,output_gain=0.5",
            "xavier_normal",
            "custom:law=uniform",
        ]
    }


def test_certainties_are_written_without_further_digits():
    table = tables.probability_table(
        rows={"scheme": ["zero_output", "kaiming_normal"]}, columns={"l": [10**4], "d": [1]}
    )
    shown = [cells[0].number for group in table.layout.groups for _, cells in group.rows]
    assert shown == [Shown("0"), Shown("1.000")]


def test_a_whole_study_of_weighted_samples(tmp_path):
    study = ob.sample(
        "keras_dense", d=[200], l=[1000], networks=10, seed=0, estimator="tilted", samples=500
    )
    table = tables.probability_table(study, rows="d", columns="l")
    row = table.frame.iloc[0]
    assert row["log10_ci_low"] < -150
    exact_cell, cell = table.layout.groups[0].rows[0][1]
    assert cell.mark == "†"
    assert math.isclose(cell.number.value.log10(), row["log10_empirical"], abs_tol=0.1)
    assert cell.number.exponent == math.floor(row["log10_empirical"])
    assert exact_cell.number.exponent == -160


def test_a_network_is_counted_in_the_singular():
    study = ob.sample("kaiming_normal", d=[2], l=[2], networks=1, seed=0)
    table = tables.probability_table(study, rows="d", columns="l", values="empirical")
    assert "from 1 network per cell" in table.caption


# --- what is refused ---------------------------------------------------------------------------

PLAIN = "--rows d=2,5 --columns l=1,10"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (f"{PLAIN}", "name the FOLDER of a study, or --exact"),
        (f"FOLDER --exact {PLAIN}", "--exact takes no FOLDER"),
        (f"--exact --value exact {PLAIN}", "--exact and --value exclude each other"),
        (f"--exact {PLAIN}", "schemes: at least one is needed without a study"),
        ("FOLDER --columns l=1", "Missing option '--rows'"),
        ("FOLDER --rows d=2,7 --columns l=1", "d = 7: the study has d = 1, 2, 5, 10, 100"),
        ("FOLDER --rows d=2 --columns l=1:3", "l = 2: the study has l = 1, 10, 100"),
        ("FOLDER --rows d=2", "l: is in neither rows nor columns"),
        ("FOLDER --rows d --columns d=2", "d is among the rows already"),
        ("FOLDER --rows d --rows d=2 --columns l", "rows: d is given twice"),
        ("FOLDER --rows x=2 --columns l", "rows = 'x=2': must read d=2,5,10"),
        ("FOLDER --rows d= --columns l", "d = '': must be whole numbers"),
        ("FOLDER --rows d=0 --columns l", "d = 0: must be a whole number of at least 1"),
        ("FOLDER --rows scheme=lecun_normal --rows d --columns l", "scheme = 'lecun_normal': the"),
        ("FOLDER --scheme kaimin_normal --rows d --columns l", "did you mean 'kaiming_normal'"),
        (
            "FOLDER --scheme orthogonal --rows scheme=orthogonal --rows d --columns l",
            "schemes: are",
        ),
        (f"FOLDER {PLAIN} --value exactly", "values = 'exactly': must be one of exact, empirical"),
        (f"FOLDER {PLAIN} --value exact,exact", "must be one or both of exact, empirical"),
        (f"FOLDER {PLAIN} --value empirical --digits 3", "digits = 3: is about exact values"),
        (f"FOLDER {PLAIN} --digits 12", "at most 11"),
        (f"FOLDER {PLAIN} --digits 0", "digits = 0: must be a whole number of at least 1"),
        (f"FOLDER {PLAIN} --format word", "format = 'word': must be one of latex, markdown"),
        (f"FOLDER {PLAIN} --label tab:x", "label = 'tab:x': markdown has no labels"),
        (f"FOLDER {PLAIN} --format latex --label a}}b", "label = 'a}b': must be a letter"),
        (f"FOLDER {PLAIN} --format html --landscape", "landscape: html tables are not turned"),
        (f"FOLDER {PLAIN} --out x.doc", "which format? say --format, or end in .tex"),
        (f"FOLDER {PLAIN} --out MISSING/x.md", "x.md: cannot be written (No such file"),
        (f"MISSING {PLAIN}", "no such folder"),
        ("--exact --scheme orthogonal --rows d=2 --columns l=2", "has no exact value"),
        ("--exact --scheme keras_dense --rows d=2000000 --columns l=2", "go up to d = 1,000,000"),
        ("--exact --scheme keras_dense --rows d --columns l=2", "d: sizes are needed without"),
        ("--exact --scheme keras_dense --rows d=1:200 --columns l=1:200", "40,000 cells are too"),
    ],
)
def test_wrong_use_gets_one_line(words, message, place, refused, tmp_path):
    words = words.replace("FOLDER", str(place)).replace("MISSING", str(tmp_path / "missing"))
    assert message in refused("table", *words.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 3}, "rows = 3: must be a name or a mapping"),
        ({"rows": {}}, "rows: must name at least one"),
        ({"rows": {"e": [1]}}, "rows: 'e' is none of d, l, scheme"),
        ({"rows": {"d": [2]}, "columns": {"l": ["2"]}}, "l = '2': must be a whole number"),
        ({"rows": {"d": [2]}, "columns": {"l": [2]}, "values": []}, "values = []"),
        ({"rows": {"d": [2]}, "columns": {"l": [2]}, "values": "empirical"}, "without a study"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tables.probability_table(schemes="kaiming_normal", **arguments)


# --- the command -------------------------------------------------------------------------------


def test_the_command_prints_and_writes(place, study, command, tmp_path):
    words = ("table", place, "--rows", "d=2,10", "--columns", "l=1,100", "--scheme", SCHEMES[1])
    table = tables.probability_table(
        study, rows={"d": [2, 10]}, columns={"l": [1, 100]}, schemes=SCHEMES[1]
    )
    assert command(*words).out == table.to_markdown() == f"{table}\n"
    assert table._repr_html_() == table.to_html()
    for suffix, name in tables.SUFFIXES.items():
        path = tmp_path / f"table{suffix}"
        outcome = command(*words, "--out", path)
        assert (outcome.code, outcome.out, outcome.err) == (0, f"{path}\n", "")
        assert path.read_bytes().decode() == table.render(name)
        assert command(*words, "--format", name).out == table.render(name)
    landscape = command(*words, "--format", "latex", "--label", "tab:x", "--landscape").out
    assert landscape == table.to_latex(label="tab:x", landscape=True)
    assert r"\begin{sidewaystable}" in landscape


def test_exact_values_need_no_study(command):
    words = "--exact --scheme kaiming_normal --rows d=2 --columns l=10,1000 --digits 7"
    _, _, ((d, *cells),) = read_markdown(command("table", *words.split()).out)
    assert d == "2"
    for cell, l in zip(cells, (10, 1000), strict=True):
        value = exact.obstruction_probability("kaiming_normal", 2, l)
        assert cell == f"{value:.7f}"


def test_values_stand_in_the_order_asked_for(place, command):
    words = f"table {place} --rows d=2 --columns l=1 --scheme orthogonal --value empirical,exact"
    head, _, _ = read_markdown(command(*words.split()).out)
    assert head == ["*d*", "*l* = 1, empirical", "*l* = 1, exact"]


def test_the_documentation_works(command, place, monkeypatch, tmp_path):
    path = ROOT / "docs" / "tables.md"
    if not path.exists():
        pytest.skip("the package is installed away from its documentation")
    text = path.read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    names = {}
    exec(compile(code, str(path), "exec"), names)
    assert r"\label{tab:kaiming}" in names["latex"]
    monkeypatch.chdir(tmp_path)
    words = re.findall(r"^\$ obstruction (.*)$", text.replace("\\\n", " "), re.MULTILINE)
    assert len(words) == 2
    for line in words:
        line = line.replace("results/fig5", str(place)).replace("5,10,50,100", "5,10,100")
        assert command(*line.split()).code == 0
    for name in tables.FORMATS:
        assert f"| `{name}` |" in text
    million = stats.beta.ppf(0.975, 1, 10**6)
    assert f"{million:.2g}" == "3.7e-06"
    assert "< 3.7 × 10⁻⁶" in text


# --- compiled ----------------------------------------------------------------------------------


def installed(*files):
    """Return whether LaTeX is there with some packages."""
    found = shutil.which("kpsewhich") and shutil.which("pdflatex")
    return bool(found) and all(
        subprocess.run(["kpsewhich", name], capture_output=True, check=False).returncode == 0
        for name in files
    )


LATEX = installed("booktabs.sty", "siunitx.sty", "rotating.sty")


def compiled(latex, path):
    """Compile tables in the text of NeurIPS; return the log, and the text if it can be read."""
    document = [
        r"\documentclass{article}",
        r"\usepackage[textwidth=5.5in,textheight=9in]{geometry}",
        r"\usepackage{booktabs,siunitx,rotating}",
        *(r"\begin{document}", latex, r"\end{document}"),
    ]
    (path / "table.tex").write_text("\n".join(document), encoding="utf-8")
    run = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    outcome = subprocess.run(run, cwd=path, capture_output=True, check=False, timeout=120)
    log = (path / "table.log").read_text(encoding="utf-8", errors="replace")
    assert outcome.returncode == 0, log[-2000:]
    assert (path / "table.pdf").read_bytes().startswith(b"%PDF")
    return log


@pytest.mark.skipif(not LATEX, reason="needs pdflatex with booktabs, siunitx and rotating")
def test_latex_compiles_without_complaint_and_fits(study, tmp_path):
    two = ("xavier_normal", "kaiming_normal")
    made = [
        everything(study).to_latex(label="tab:a"),
        tables.probability_table(
            study, rows="d", columns={"scheme": two, "l": [10, 100]}, values="empirical"
        ).to_latex(label="tab:b"),
        tables.probability_table(
            study, rows={"l": None, "scheme": None}, columns={"d": [1]}
        ).to_latex(label="tab:c"),
        (ROOT / "figures" / "table1.tex").read_text(encoding="utf-8"),
    ]
    log = compiled("\n".join(made), tmp_path)
    for complaint in ("Overfull", "! ", "Package siunitx Warning", "multiply", "Missing character"):
        assert complaint not in log
    if shutil.which("pdftotext"):
        subprocess.run(["pdftotext", "-layout", "table.pdf"], cwd=tmp_path, check=True)
        text = (tmp_path / "table.txt").read_text(encoding="utf-8")
        row = rows_of(study)["kaiming_normal", 5, 10]
        assert f"{row['exact']:.4f}" in text
        assert "2,000 networks per cell" in text.replace("\n", " ")


def test_typst_compiles(study, tmp_path):
    typst = pytest.importorskip("typst")
    first = tables.probability_table(study, rows="d", columns={"scheme": None, "l": [10]})
    text = everything(study).to_typst(label="tab:all") + first.to_typst() + "See @tab:all."
    path = tmp_path / "table.typ"
    path.write_text(text, encoding="utf-8")
    assert typst.compile(path, format="pdf").startswith(b"%PDF")


def test_typst_has_every_cell(study):
    text = everything(study).to_typst()
    cells = re.findall(r"^    \[\d+\], (.*),$", text, re.MULTILINE)
    assert len(cells) == len(SCHEMES) * len(D)
    assert all(line.count("], [") == 5 for line in cells)
    row = rows_of(study)["kaiming_normal", 5, 10]
    assert f"[${row['exact']:.4f}$]" in text
    assert text.endswith("] <tab:obstruction>\n")
    assert "// @inproceedings{nurisso2024topological," in text


# --- the reference table -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def script():
    path = ROOT / "scripts" / "table1.py"
    if not path.exists():
        pytest.skip("the package is installed away from its scripts")
    spec = importlib.util.spec_from_file_location("table1", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_reference_table_is_what_the_script_writes(script):
    for name, text in script.files().items():
        assert (ROOT / "figures" / name).read_bytes().decode() == text


def obstructed(p, l):
    return -mpmath.expm1(l * mpmath.log1p(-p))


def uniform_two_inputs(a, beta):
    """The probability that a V^2 > W1^2 + W2^2 + beta B^2, all uniform on [-1, 1]: midpoints."""
    v = (np.arange(1000) + 0.5) / 1000
    r2 = a * v[:, None] ** 2 - beta * v[None, :] ** 2
    r = np.sqrt(np.maximum(r2, 0.0))
    safe = np.clip(r, 1.0, None)
    cap = np.sqrt(safe**2 - 1.0) + safe**2 * (np.pi / 4 - np.arccos(1.0 / safe))
    area = np.where(r <= 1.0, np.pi * r**2 / 4, np.where(r < np.sqrt(2.0), cap, 1.0))
    return float(area.mean())


def test_the_reference_table_is_right(script):
    pages = script.pages()
    _, _, lines = read_markdown(pages["tab:obstruction-textbook"].to_markdown())
    read = {(row[0].strip("`"), int(row[1])): row[2:] for row in lines}
    assert len(read) == 20
    with mpmath.workdps(30):
        for scheme, ratio in (
            ("kaiming_normal", lambda d, l: mpmath.mpf(d) / l),
            ("xavier_normal", lambda d, l: mpmath.mpf(d + l) / (l + 1)),
        ):
            for d, l in ((1, 20), (5, 1), (50, 1000), (1000, 5)):
                a = ratio(d, l)
                p = mpmath.betainc(mpmath.mpf(d) / 2, 0.5, 0, a / (1 + a), regularized=True)
                cell = read[scheme, d][script.SIZES.index(l)]
                _, number, *_ = read_cell(cell)
                value = obstructed(p, l)
                assert abs(mpmath.mpf(str(number)) / value - 1) < 5.01e-4
    assert math.isclose(
        float(read_cell(read["kaiming_normal", 10][3])[1]),
        1 - stats.f.cdf(10.0, 1, 10) ** 10,
        rel_tol=5e-4,
    )
    _, _, lines = read_markdown(pages["tab:obstruction-frameworks"].to_markdown())
    read = {(row[0].strip("`"), int(row[1])): row[2:] for row in lines}
    for scheme, beta in (("torch_linear", 1.0), ("keras_dense", 0.0)):
        for j, l in enumerate(script.SIZES[:4]):
            a = 2 / l if beta else (2 + l) / (l + 1)
            p = uniform_two_inputs(a, beta)
            number = float(read_cell(read[scheme, 2][j])[1])
            assert number == pytest.approx(1 - (1 - p) ** l, rel=2e-3)


def test_cells_beyond_the_reach_of_a_method_are_dashes():
    study = ob.sample("keras_dense", d=[2, 2 * 10**6], l=[1], networks=1, seed=0)
    table = tables.probability_table(study, rows="d", columns="l", values="exact")
    near, far = (cells[0].number for _, cells in table.layout.groups[0].rows)
    assert (near.mantissa, far) == ("0.3771", None)
    (note,) = table.layout.notes
    assert note.mark == "—"
    assert "(contour integral) does not reach so many inputs" in note.text
