"""The report of a study as a file: its parts, its numbers, what it refuses, how it is written."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import json
import os
import re
import sys
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from conftest import framework

import obstruction as ob
from obstruction.reporting import heatmaps
from obstruction.reporting.page import report_page
from obstruction.reporting.page.provenance import command as command_of
from obstruction.reporting.page.provenance import recorded
from obstruction.reporting.page.selection import MOST_CELLS, select
from obstruction.sampling.config import StudyConfig
from obstruction.sampling.counts import Counts
from obstruction.studies import folder
from obstruction.studies.study import Study

framework("bokeh")

CSS = Path(ob.__file__).parent / "reporting" / "page" / "page.css"
TWO = ("xavier_normal", "kaiming_normal:mode=fan_out,output_gain=0.5")
VOID = {"meta", "input", "img", "br", "link"}


class Page(HTMLParser):
    """A page taken apart: elements with their attributes, their text and what they are in."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.data = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, "all elements are closed"

    def handle_starttag(self, tag, attributes):
        element = {"tag": tag, "in": tuple(e["tag"] for e in self.open), "text": ""}
        element |= {"at": dict(attributes)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, text):
        for element in self.open:
            element["text"] += text

    def all(self, tag, **attributes):
        found = [e for e in self.elements if e["tag"] == tag]
        return [e for e in found if all(e["at"].get(k) == v for k, v in attributes.items())]

    def one(self, tag, **attributes):
        (element,) = self.all(tag, **attributes)
        return element

    @property
    def numbers(self):
        return json.loads(self.one("script", id="data")["text"])


@pytest.fixture(scope="module")
def study():
    return ob.sample(
        TWO, d=[1, 2, 5, 10, 40], l=[1, 3, 10, 30, 100], networks=2000, estimator="auto", samples=99
    )


@pytest.fixture(scope="module")
def text(study):
    return report_page(study)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


@pytest.fixture
def quick(page, monkeypatch):
    """Let reports have the picture of another one: for tests that do not look at it."""
    address = page.all("img")[0]["at"]["src"]
    picture = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    monkeypatch.setattr(heatmaps, "write", lambda figure, stream: stream.write(picture))


# --- structure ---------------------------------------------------------------------------------


def test_the_page_has_language_title_landmarks_and_one_h1(page):
    assert page.one("html")["at"]["lang"] == "en"
    assert page.one("title")["text"].startswith("Obstruction at initialisation: xavier_normal and")
    assert len(page.all("h1")) == 1
    for tag in ("header", "main", "footer"):
        assert page.one(tag)["in"] == ("html", "body")
    assert page.one("nav")["in"] == ("html", "body", "header")
    levels = [int(e["tag"][1]) for e in page.elements if re.fullmatch("h[1-6]", e["tag"])]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    first = next(e for e in page.elements if e["tag"] == "a")
    assert (first["at"]["class"], first["at"]["href"]) == ("skip", "#main")


def test_references_inside_the_page_lead_somewhere(page):
    ids = [e["at"]["id"] for e in page.elements if "id" in e["at"]]
    assert len(ids) == len(set(ids))
    for e in page.elements:
        names = [e["at"].get(a) for a in ("aria-labelledby", "aria-describedby", "for")]
        names += [e["at"].get("href", "")[1:]] if e["at"].get("href", "").startswith("#") else []
        assert {name for name in names if name} <= set(ids)
    for section in page.all("section"):
        assert "aria-labelledby" in section["at"]
    for e in page.elements:
        if e["tag"] in ("input", "select"):
            assert "label" in e["in"]
    for region in (e for e in page.elements if e["at"].get("tabindex") == "0"):
        assert {"aria-label", "role"} <= set(region["at"])


def test_tables_have_captions_and_scopes(page):
    assert len(page.all("table")) == len(page.all("caption")) == 3
    for head in page.all("th"):
        assert head["at"]["scope"] == ("col" if "thead" in head["in"] else "row")
    assert page.one("table", id="table")


def test_pictures_say_what_they_show_with_numbers(page, study):
    images = page.all("img")
    assert len(images) == 2
    table = study.table()
    for image in images:
        alt = image["at"]["alt"]
        for label in TWO:
            rows = table[table["scheme"] == label]
            assert f"{label}: the exact probability of obstruction ranges from" in alt
            assert f"at least 0.5 in {(rows['exact'] >= 0.5).sum()} of 25 cells" in alt
            worst = rows.loc[rows["z"].abs().idxmax()]
            z = f"{worst['z']:+.2f}".replace("-", "−")
            assert f"largest z-score is {z} at d = {worst['d']}, l = {worst['l']}" in alt
        data = base64.b64decode(image["at"]["src"].removeprefix("data:image/png;base64,"))
        assert data.startswith(b"\x89PNG")
        size = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
        assert size == (int(image["at"]["width"]), int(image["at"]["height"]))
    assert images[0]["at"]["src"] != images[1]["at"]["src"]


# --- nothing from outside ----------------------------------------------------------------------


def test_the_page_loads_nothing(page):
    loading = {"src", "srcset", "href", "data", "poster", "action", "background", "style"}
    for e in page.elements:
        for name in loading & set(e["at"]):
            address = e["at"][name]
            if e["tag"] == "a":
                assert address.startswith(("#", "https://arxiv.org/abs/"))
            else:
                assert address.startswith("data:image/png;base64,")
    assert not page.all("link") + page.all("iframe") + page.all("object") + page.all("base")
    style = page.one("style")["text"]
    assert "url(" not in style
    assert "@import" not in style
    assert not [n for e in page.elements for n in e["at"] if n.startswith("on")]


def test_the_policy_forbids_it_and_lets_only_the_page_s_programs_run(page):
    policy = page.all("meta")[1]["at"]
    assert policy["http-equiv"] == "Content-Security-Policy"
    rules = dict(rule.strip().split(" ", 1) for rule in policy["content"].split(";"))
    assert rules["default-src"] == "'none'"
    assert "connect-src" not in rules
    assert "unsafe" not in rules["script-src"]
    programs = [e["text"] for e in page.all("script") if "type" not in e["at"]]
    assert rules["script-src"].split() == [
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in programs
    ]
    assert "Copyright (c) Anaconda" in programs[0]


def test_hostile_names_are_text(study, quick):
    name = "</script><script>alert(1)</script><img src=x onerror='alert(2)'>\u2028\"&amp;"
    hostile = dataclasses.replace(study.config.schemes[0], name=name)
    config = dataclasses.replace(study.config, schemes=(hostile, study.config.schemes[1]))
    bad = Page(report_page(dataclasses.replace(study, config=config)))
    assert bad.numbers["schemes"][0]["label"] == name
    assert len(bad.all("script")) == 3
    assert len(bad.all("img")) == 2
    assert not [n for e in bad.elements for n in e["at"] if n.startswith("on")]
    assert bad.all("option")[1]["text"] == name


# --- numbers -----------------------------------------------------------------------------------

_RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-")
_NUMBER = re.compile(r"(?:[<>] )?([\d.]+)†?(?: × 10(-\d+)†?)?")


def read_number(text):
    """Return the number and one unit of its last digit."""
    mantissa, power = _NUMBER.fullmatch(text.translate(_RAISED)).groups()
    digits = len(mantissa.partition(".")[2])
    return float(Decimal(f"{mantissa}e{power or 0}")), 10.0 ** (int(power or 0) - digits)


def read_interval(text):
    ends, power = re.fullmatch(r"\[(.*)\](?: × 10(-\d+))?", text.translate(_RAISED)).groups()
    return tuple(
        read_number(end + (f" × 10{power}" if power else ""))[0] for end in ends.split(", ")
    )


def doubles(text):
    return np.frombuffer(base64.b64decode(text), "<f8")


def check_numbers(numbers, table):
    """Check all that a page holds about its cells against the study's table."""
    for name, column in (("exact", "log10_exact"), ("empirical", "log10_empirical"), ("z", "z")):
        np.testing.assert_array_equal(doubles(numbers["numbers"][name]), table[column])
    tilted = np.frombuffer(base64.b64decode(numbers["tilted"]), np.uint8)
    np.testing.assert_array_equal(tilted, table["estimator"] == "tilted")
    texts = numbers["texts"]
    labels = [one["label"] for one in numbers["schemes"]]
    cells = itertools.product(labels, numbers["d"], numbers["l"])
    for i, (cell, (_, row)) in enumerate(zip(cells, table.iterrows(), strict=True)):
        assert cell == (row["scheme"], row["d"], row["l"])
        if np.isnan(row["exact"]):
            assert texts["exact"][i] == texts["z"][i] == "—"
        else:
            value, _ = read_number(texts["exact"][i])
            assert value == pytest.approx(row["exact"], rel=5.1e-4)
            z = texts["z"][i].translate(_RAISED)
            assert (z == "—") if np.isnan(row["z"]) else abs(float(z) - row["z"]) < 0.0051
        empirical = texts["empirical"][i]
        assert ("†" in empirical) == (row["estimator"] == "tilted")
        value, unit = read_number(empirical)
        low, high = read_interval(texts["interval"][i])
        assert low <= row["ci_low"] * (1 + 1e-12)
        assert row["ci_high"] * (1 - 1e-12) <= high
        if empirical.startswith("<"):
            assert (row["obstructed"], low, high) == (0, 0.0, value)
        elif empirical.startswith(">"):
            assert (row["obstructed"], low, high) == (row["networks"], value, 1.0)
        else:
            assert abs(value - row["empirical"]) <= 0.501 * unit
            assert max(row["ci_low"] - low, high - row["ci_high"]) <= 1.001 * unit


def test_the_numbers_are_those_of_the_table(page, study):
    table = study.table()
    assert {"direct", "tilted"} == set(table["estimator"])
    texts = page.numbers["texts"]["empirical"]
    assert any(text.startswith(">") for text in texts)
    check_numbers(page.numbers, table)


def test_the_first_rows_are_there_without_javascript(page):
    cells = [e["text"] for e in page.elements if e["tag"] in ("th", "td") and e["in"][-3:-1] ==
             ("table", "tbody")]  # fmt: skip
    start = next(
        i for i, e in enumerate(cells) if e == TWO[0] and cells[i + 1 : i + 3] == ["1"] * 2
    )
    numbers = page.numbers
    assert numbers["rows"] == 25
    for i in range(25):
        row = cells[start + 8 * i : start + 8 * i + 8]
        d, l = divmod(i, 5)
        assert row[:3] == [TWO[0], str(numbers["d"][d]), str(numbers["l"][l])]
        assert row[3:7] == [numbers["texts"][k][i] for k in ("exact", "empirical", "interval", "z")]
    assert page.one("noscript")


def test_the_maps_are_drawn_where_the_sizes_are(page):
    numbers = page.numbers
    for name in ("d", "l"):
        edges, sizes = numbers["axes"][name], numbers[name]
        assert len(edges) == len(sizes) + 1
        assert all(a < x < b for a, x, b in zip(edges, sizes, edges[1:], strict=False))
        inner = [np.sqrt(a * b) for a, b in itertools.pairwise(sizes)]
        np.testing.assert_allclose(edges[1:-1], inner)  # uneven sizes: a logarithmic axis
    described = json.dumps(numbers["maps"]["document"])
    assert described.count('"LogScale"') == 4
    scales = numbers["scales"]
    ends = {name: (scale["low"], scale["high"]) for name, scale in scales.items()}
    assert ends["chance"] == (0, 1)
    assert ends["z"] == (-4, 4)
    assert ends["log10"][1] == 0
    assert all(len(set(scale["palette"])) > 200 for scale in scales.values())
    assert scales["chance"]["palette"][0] == "#440154"  # viridis


def test_even_sizes_get_linear_axes(quick):
    study = ob.sample("kaiming_normal", d=range(2, 12), l=[4], networks=10)
    numbers = Page(report_page(study)).numbers
    np.testing.assert_allclose(numbers["axes"]["d"], np.arange(1.5, 12.0))
    assert '"LogScale"' not in json.dumps(numbers["maps"]["document"])


# --- words -------------------------------------------------------------------------------------


def verdict_of(page):
    element = next(e for e in page.elements if e["at"].get("class", "").startswith("verdict"))
    return element["at"]["class"].split()[1], " ".join(element["text"].split())


def test_the_verdict_is_that_of_check(page, study):
    assert verdict_of(page) == ("agrees", " ".join(str(study.agreement()).split()))


def test_a_disagreement_is_said(study, quick):
    counts = Counts(2000, study.counts.obstructed * 0 + 1, study.counts.pathological * 0 + 1)
    wrong = dataclasses.replace(study, counts=counts, estimator="direct", rare=None)
    word, text = verdict_of(Page(report_page(wrong, level=0.01)))
    assert word == "disagrees"
    assert text == " ".join(str(wrong.agreement(level=0.01)).split())
    assert text.startswith("DISAGREES: ")


ODD = {
    "no exact value": ("orthogonal", [2, 3], [1, 5], "direct"),
    "some without exact value": (("orthogonal", "kaiming_normal"), [2, 9], [1, 5], "direct"),
    "one cell": ("kaiming_normal", [10], [10], "direct"),
    "weighted": ("torch_linear", [2, 3, 100], [1, 5], "tilted"),
    "certain": ("kaiming_normal:hidden_gain=0", [2, 3], [1, 5], "direct"),
    "far": ("keras_dense", [2, 2 * 10**6], [1], "direct"),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in ("certain", "far") else [])
        for name in ODD
    ],
)
def test_all_kinds_of_studies_are_shown(name, quick):
    schemes, d, l, estimator = ODD[name]
    study = ob.sample(schemes, d=d, l=l, networks=20, estimator=estimator, samples=50)
    page = Page(report_page(study))
    check_numbers(page.numbers, study.table())
    assert verdict_of(page)[1] == " ".join(str(study.agreement()).split())
    enabled = {
        e["at"]["value"] for e in page.all("input", type="radio") if "disabled" not in e["at"]
    }
    assert ("exact" in enabled) == (name != "no exact value")
    (checked,) = [e for e in page.all("input", type="radio") if "checked" in e["at"]]
    assert checked["at"]["value"] in enabled
    if "exact value" in name:
        assert "No exact value (weights depend on each other)" in page.one("main")["text"]


def provenance(page):
    terms = [e["text"] for e in page.all("dt")]
    return dict(zip(terms, [e["text"] for e in page.all("dd")], strict=True))


def test_provenance_of_a_study_in_memory(page, study):
    found = provenance(page)
    assert found["Seed"] == "0"
    assert found["Networks per cell"] == "2,000"
    assert found["Inputs"] == "d = 1, 2, 5, 10, 40"
    assert found["Plan"].startswith("nested")
    assert found["Estimator"].startswith("auto: cells are counted, or get 99 weighted samples")
    assert found["Checksum"].startswith("none")
    assert "Saved" not in found
    assert ob.tables.bibtex() in page.one("main")["text"]
    again = command_of(study).split()
    assert again[:4] == ["obstruction", "run", "--scheme", TWO[0]]
    assert again[again.index("--d") + 1] == "1,2,5,10,40"


def test_provenance_of_a_saved_study(study, tmp_path, quick):
    folder.save(study, tmp_path, agreement=study.agreement())
    run = json.loads((tmp_path / "run.json").read_text())
    path = ob.write_report(tmp_path, tmp_path / "report.html")
    found = provenance(Page(path.read_text(encoding="utf-8")))
    assert found["Checksum"] == run["digest"]
    assert found["Software"].startswith(f"obstruction {run['version']}, python ")
    assert found["Saved"].replace(" UTC", "+00:00").replace(" ", "T") == run["written"]
    other = ob.sample(TWO, d=[2], l=[3], networks=10)
    assert recorded(other, tmp_path) is None
    assert recorded(study, tmp_path / "missing") is None


# --- the choice of cells -----------------------------------------------------------------------


def test_a_part_of_a_study_says_what_is_left_out(study, quick):
    page = Page(report_page(study, schemes=TWO[1], d=[10, 2], l=30))
    table = study.table()
    table = table[(table["scheme"] == TWO[1]) & table["d"].isin([2, 10]) & (table["l"] == 30)]
    check_numbers(page.numbers, table)
    (note,) = [
        e["text"] for e in page.all("p", **{"class": "left-out"}) if "noscript" not in e["in"]
    ]
    assert "shows 2 of the study's 50 cells: 1 of 2 schemes, 2 of 5 values of d, 1 of 5" in note
    assert "other 48 are left out" in note
    assert verdict_of(page)[1] == " ".join(str(study.agreement()).split())


def huge(d, l):
    config = StudyConfig.of(TWO, d=d, l=l)
    zeros = np.zeros(config.shape, np.int64)
    return Study(config, Counts(1, zeros, zeros), ((0, 1),), 1)


@pytest.mark.parametrize(
    ("d", "l"),
    [
        (range(1, 1001), range(1, 1001)),
        ([3], range(1, 200_001)),
        ([n * n for n in range(1, 1001)], range(1, 400, 3)),
    ],
)
def test_too_many_cells_are_refused_with_a_way_out(d, l, tmp_path):
    study = huge(d, l)
    with pytest.raises(ValueError, match="cells are too many for a report, at most 100,000") as no:
        ob.write_report(study, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())
    advice = dict(re.findall(r"--(d|l) (\S+)", str(no.value)))
    from obstruction.tools.parsing import parse_axis

    chosen = {name: list(parse_axis(name, axis)) for name, axis in advice.items()}
    assert 1 <= select(study, **chosen).cells <= MOST_CELLS


# --- the file ----------------------------------------------------------------------------------


def test_the_same_study_gives_the_same_bytes(study, text):
    again = report_page(study)
    assert again == text
    assert len(text.encode()) < 3_000_000


@pytest.mark.slow
def test_a_report_of_twenty_thousand_cells_stays_small():
    sizes = range(1, 101)
    two = ("xavier_normal", "kaiming_normal")
    study = ob.sample(two, d=sizes, l=sizes, networks=20_000, estimator="auto", samples=100)
    text = report_page(study)
    # a digit more in an estimate and both ends of its interval for a hundred times the networks
    assert len(text.encode()) + 20_000 * 3 <= 5_000_000
    assert len(json.loads(Page(text).one("script", id="data")["text"])["texts"]["z"]) == 20_000


def test_a_file_is_written_whole_or_not_at_all(study, tmp_path, monkeypatch, quick):
    path = tmp_path / "report.html"
    path.write_text("before")

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(ValueError, match=r"report\.html: cannot be written \(No space left"):
            ob.write_report(study, path, d=[1], l=[1])
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert ob.write_report(study, path, d=[1], l=[1]) == path
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_command(study, command, refused, tmp_path, quick):
    place = tmp_path / "study"
    folder.save(study, place)
    outcome = command("report", place)
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{place / 'report.html'}\n", "")
    part = tmp_path / "part.html"
    words = ("--scheme", TWO[0], "--d", "1:5:4", "--l", "10", "--level", "0.01", "--out", part)
    assert command("report", place, *words).out == f"{part}\n"
    page = Page(part.read_text(encoding="utf-8"))
    assert (page.numbers["d"], page.numbers["l"]) == ([1, 5], [10])
    assert verdict_of(page)[1] == " ".join(str(study.agreement(level=0.01)).split())
    missing = tmp_path / "missing"
    assert "missing: no such folder" in refused("report", missing)
    assert "holds no study" in refused("report", tmp_path)
    assert "cannot be written (No such file" in refused(
        "report", place, "--out", missing / "a.html"
    )
    (tmp_path / "folder.html").mkdir()
    assert "is a folder" in refused("report", place, "--out", tmp_path / "folder.html")
    for own in ("cells.csv", "run.json"):  # what it reports on
        before = (place / own).read_bytes()
        assert "must end in .html" in refused("report", place, "--out", place / own)
        assert (place / own).read_bytes() == before
    assert "must end in .html" in refused("report", place, "--out", "")
    assert "d = 3: the study has d = 1, 2, 5, 10, 40" in refused("report", place, "--d", "3")
    assert "the study has xavier_normal" in refused("report", place, "--scheme", "lecun_normal")
    assert "level = 1.0: must be" in refused("report", place, "--level", "1")


@pytest.mark.parametrize("name", ["bokeh.document", "jinja2"])
def test_a_missing_library_is_named(study, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"pip install 'obstruction\[report\]'"):
        ob.write_report(study, tmp_path / "report.html", d=[1], l=[1])


# --- contrast ----------------------------------------------------------------------------------


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_text_is_easily_told_from_its_background():
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    style = CSS.read_text(encoding="utf-8")
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", style))
    used = set(re.findall(r"[\s{;]color: ([^;]+);", style))
    assert used == {"var(--ink)", "var(--soft)", "var(--link)", "inherit"} | {
        f"var(--{name})" for name in ("good", "bad", "unsure")
    }
    backgrounds = set(re.findall(r"background: ([^;]+);", style)) - {"none", "#ffffff"}
    names = {name[6:-1] for name in backgrounds}
    assert names == {"paper", "panel", "good-panel", "bad-panel", "unsure-panel"}
    for front in ("ink", "soft", "link", "good", "bad", "unsure"):
        for back in names:
            assert contrast(colours[front], colours[back]) >= 4.5, (front, back)
    for back in ("paper", "panel"):  # edges of controls
        assert contrast(colours["frame"], colours[back]) >= 3.0
