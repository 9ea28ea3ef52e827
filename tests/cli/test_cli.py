"""The command line: what it refuses, what it prints, what it loads."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import obstruction as ob
import obstruction.__main__
from obstruction.cli import cli
from obstruction.reporting import heatmaps
from obstruction.schemes import scheme_options, scheme_origin
from obstruction.studies import folder, table

SCHEMES = Path(__file__).parents[2] / "docs" / "schemes.md"
COMMANDS = (
    *("run", "exact", "design", "check", "plot", "schemes"),
    *("audit", "repair", "inspect", "laws", "merge", "table", "report", "dag", "wild"),
)


def python(code: str) -> str:
    """Run a program in a fresh interpreter and return what it printed."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    ).stdout


# --- bad input ---------------------------------------------------------------------------------

BAD_GRIDS = [
    ("--scheme kaimin_normal", "unknown scheme 'kaimin_normal' (did you mean 'kaiming_normal'?)"),
    ("--scheme kaiming_normal:mod=fan_in", "no option 'mod' (did you mean 'mode'?)"),
    ("--scheme kaiming_normal:mode=fan_inn", "mode = 'fan_inn': must be one of fan_in, fan_out"),
    ("--scheme kaiming_normal:mode", "options must be name=value"),
    ("--scheme kaiming_normal:hidden_gain=-1", "hidden_gain = '-1': must be a number >= 0"),
    ("--scheme kaiming_normal:hidden_gain=nan", "hidden_gain = 'nan': must be a finite number"),
    ("--scheme kaiming_normal:output_gain=inf", "output_gain = 'inf': must be a finite number"),
    ("--scheme custom:hidden_std=-2", "hidden_std = '-2'"),
    ("--scheme custom:output_std=nan", "output_std = 'nan'"),
    ("--scheme custom:hidden_std=0,output_std=0", "would both be all zeros"),
    ("--scheme kaiming_normal:hidden_gain=0,output_gain=0", "would both be all zeros"),
    ("--scheme custom --scheme custom", "custom given more than once"),
    ("--d 0", "d = 0: must be a whole number of at least 1"),
    ("--l -1", "l = -1: must be a whole number of at least 1"),
    ("--d 1.5", "d = '1.5': must be whole numbers"),
    ("--d=", "d = '': must be whole numbers"),
    ("--l 1,,2", "l = '1,,2': must be whole numbers"),
    ("--d geom:1:10", "or as geom:2:4096:20"),
    ("--d 5:1", "stops at 1, before it starts at 5"),
    ("--d 1:1000000000", "1,000,000,000 sizes would need 93.1 GiB"),
    ("--l geom:1:1e9:1e8", "100,000,000 sizes would need 9.3 GiB"),
    ("--l 10000000000", "at most 1,000,000,000"),
]


@pytest.mark.parametrize(("words", "message"), BAD_GRIDS)
def test_bad_grids(words, message, refused, tmp_path):
    out = tmp_path / "new"
    assert message in refused("run", *words.split(), "--out", out)
    assert not out.exists()
    options = {"--d": "2", "--l": "2"}
    scheme = [] if "--scheme" in words else ["--scheme", "custom"]
    rest = [word for k, v in options.items() if k not in words for word in (k, v)]
    for style in ([], ["--json"]):
        assert message in refused("exact", *scheme, *words.split(), *rest, *style)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--networks 0", "networks = 0: must be a whole number of at least 1"),
        ("--networks -5", "networks = -5"),
        ("--networks 2.5", "networks = '2.5': must be a whole number"),
        ("--networks abc", "networks = 'abc': must be a whole number"),
        ("--networks nan", "networks = 'nan'"),
        ("--networks 1e16", "at most"),
        ("--threads 0", "threads = 0: must be a whole number of at least 1"),
        ("--threads -2", "threads = -2"),
        ("--threads 1.5", "threads = '1.5'"),
        ("--threads x", "threads = 'x'"),
        ("--seed -1", "seed = -1: must be a whole number of at least 0"),
        ("--seed 0.5", "seed = '0.5'"),
        ("--plan nestd", "plan = 'nestd': must be one of nested, independent"),
        ("--level 0", "level = 0.0: must be a number between 0 and 0.9"),
        ("--level 1", "level = 1.0"),
        ("--level 2", "level = 2.0"),
        ("--level nan", "level = nan"),
        ("--level x", "'x' is not a valid float"),
        ("--d 1:100000 --l 1:100000", "GiB of memory"),
        ("--overwrite --resume", "--overwrite and --resume exclude each other"),
        ("--nope", "No such option"),
        ("extra", "unexpected extra argument"),
    ],
)
def test_bad_runs(words, message, refused, tmp_path):
    out = tmp_path / "new"
    assert message in refused("run", "--out", out, *words.split())
    assert not out.exists()


def test_bad_places(refused, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    small = ("--d", "2", "--l", "2", "--networks", "10")
    for out, message in (
        (file, "exists and is not a folder"),
        (file / "below", "cannot be written (Not a directory)"),
        ("/proc/nowhere", "cannot be written"),
        ("x" * 300, "File name too long"),
        ("", "empty"),
    ):
        assert message in refused("run", *small, "--out", out)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("words", [("check",), ("plot",), ("run", "--resume", "--out")])
def test_places_without_a_study(words, refused, tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("none", "file", "."):
        assert str(tmp_path / place) in refused(*words, tmp_path / place)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nope"], "No such command 'nope'"),
        (["--nope"], "No such option"),
        (["check"], "Missing argument 'FOLDER'"),
        (["plot"], "Missing argument 'FOLDER'"),
        (["exact", "--scheme", "custom", "--d", "2"], "Missing option '--l'"),
        (["exact", "--d", "2", "--l", "2"], "Missing option '--scheme'"),
        (["schemes", "x"], "unexpected extra argument"),
    ],
)
def test_wrong_use(words, message, refused):
    assert message in refused(*words)


def test_unexpected_failures_of_the_system_are_one_line(refused, monkeypatch):
    for error, message in (
        (MemoryError(), "obstruction: out of memory\n"),
        (
            PermissionError(13, "Permission denied", "/a/b"),
            "obstruction: /a/b: Permission denied\n",
        ),
        (OSError("no\nluck"), "obstruction: system: no luck\n"),
    ):

        def fail(path, error=error):
            raise error

        monkeypatch.setattr(folder, "load", fail)
        assert refused("check", "x") == message


# --- saved studies -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study():
    labels = ["kaiming_normal", "lecun_uniform"]
    return ob.sample(labels, d=[1, 2, 4], l=[1, 2, 5], networks=3000, seed=0)


@pytest.fixture
def saved(study, tmp_path):
    folder.save(study, tmp_path / "study")
    return tmp_path / "study"


def replace(old: bytes, new: bytes):
    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return change


DAMAGES = {
    "torn cells": ("cells.csv", lambda data: data[:-20], "cells.csv, line 19: "),
    "impossible counts": (
        "cells.csv",
        replace(b"kaiming_normal,1,1,3000,", b"kaiming_normal,1,1,3000,9"),
        "cells.csv, line 2: obstructed = 9",
    ),
    "missing line": (
        "cells.csv",
        lambda data: b"".join(data.splitlines(True)[:5] + data.splitlines(True)[6:]),
        "cells.csv, line 6: is the cell kaiming_normal, d = 2, l = 5, not",
    ),
    "extra line": (
        "cells.csv",
        lambda data: data + data.splitlines(True)[-1],
        "cells.csv, line 20: one line too many",
    ),
    "wrong header": ("cells.csv", replace(b"obstructed", b"o"), "cells.csv, line 1: the header"),
    "garbage cells": ("cells.csv", lambda data: os.urandom(500), "cells.csv, line 1: the header"),
    "empty cells": ("cells.csv", lambda data: b"", "cells.csv, line 1: the header"),
    "torn run": ("run.json", lambda data: data[:200], "run.json, line "),
    "no run": ("run.json", lambda data: b"results\n", "run.json, line 1: damaged"),
    "array": ("run.json", lambda data: b"[]", "run.json: damaged (is not a JSON object)"),
    "wrong type": (
        "run.json",
        replace(b'"seed": 0', b'"seed": "zero"'),
        "damaged (seed = 'zero': must be a whole number of at least 0)",
    ),
    "missing key": ("run.json", replace(b'"seed"', b'"seeds"'), "damaged ('seed' is missing)"),
    "format": (
        "run.json",
        replace(b'"format": 3', b'"format": 9'),
        "run.json, line 2: damaged (format = 9: this version of obstruction reads format 3)",
    ),
}


@pytest.mark.parametrize("words", [("check",), ("plot",), ("run", "--resume", "--out")])
@pytest.mark.parametrize("name", DAMAGES)
def test_damage_names_file_and_line(name, words, saved, refused):
    file, change, message = DAMAGES[name]
    path = saved / file
    path.write_bytes(change(path.read_bytes()))
    held = {one.name: one.read_bytes() for one in saved.iterdir()}
    complaint = refused(*words, saved)
    assert message in complaint
    assert str(path) in complaint
    assert {one.name: one.read_bytes() for one in saved.iterdir()} == held


@pytest.mark.parametrize("words", [("check",), ("plot",), ("run", "--resume", "--out")])
def test_damaged_checkpoint(words, study, refused, tmp_path):
    folder.save_checkpoint(study, tmp_path)
    path = tmp_path / "checkpoint.npz"
    for data in (b"", path.read_bytes()[:-100], b"\0" * 100):
        path.write_bytes(data)
        assert f"{path}: damaged (" in refused(*words, tmp_path)


def with_one_input_more(config):
    return dataclasses.replace(config, d=tuple(d + 1 for d in config.d))


def test_check(study, saved, command, monkeypatch):
    outcome = command("check", saved)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"{study.describe()}\n{study.agreement()}\n"
    strict = command("check", saved, "--level", "0.25")
    assert strict.out == f"{study.describe()}\n{study.agreement(level=0.25)}\n"
    right = table.exact_values
    monkeypatch.setattr(table, "exact_values", lambda config: right(with_one_input_more(config)))
    outcome = command("check", saved)
    assert (outcome.code, outcome.err) == (1, "")
    assert "DISAGREES" in outcome.out
    monkeypatch.undo()
    for level in ("0", "1", "0.95", "nan"):
        outcome = command("check", saved, "--level", level)
        assert (outcome.code, outcome.out) == (2, "")


def test_plot(saved, command, tmp_path, monkeypatch):
    drawn = []
    figure = heatmaps.figure(ob.load(saved).table(), value="exact")
    monkeypatch.setattr(
        heatmaps, "figure", lambda table, **words: drawn.append(tuple(words.values())) or figure
    )
    for words, stem in (
        ([], saved / "heatmap"),
        (["--value", "log10"], saved / "heatmap-log10"),
        (["--value", "exact", "--out", tmp_path / "new" / "name"], tmp_path / "new" / "name"),
        (["--value", "zscore", "--out", tmp_path / "z.png"], tmp_path / "z"),
    ):
        outcome = command("plot", saved, *words)
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out.splitlines() == [f"{stem}.png", f"{stem}.pdf"]
        for path, magic in zip(outcome.out.splitlines(), (b"\x89PNG", b"%PDF"), strict=True):
            with open(path, "rb") as stream:
                assert stream.read(4) == magic
    plain = [(value, "linear", ("d", "l")) for value in (None, "exact", "zscore")]
    assert drawn == [plain[0], (None, "log10", ("d", "l")), *plain[1:]]


@pytest.mark.parametrize("value", ["exact", "empirical", "zscore", "log10"])
def test_plot_values(value, saved, command, monkeypatch):
    drawn = []
    monkeypatch.setattr(heatmaps, "figure", lambda table, **words: drawn.append(words))
    monkeypatch.setattr(heatmaps, "save", lambda figure, stem: [stem])
    assert command("plot", saved, "--value", value).out == f"{saved / f'heatmap-{value}'}\n"
    every = {"value": None, "scale": "log10"}
    wanted = every if value == "log10" else {"value": value, "scale": "linear"}
    assert drawn == [{**wanted, "axes": ("d", "l")}]


def test_plot_refuses(saved, refused, tmp_path):
    (tmp_path / "file").write_text("")
    words = "value = 'foo': must be one of exact, empirical, zscore, log10"
    assert words in refused("plot", saved, "--value", "foo")
    assert "cannot be written" in refused("plot", saved, "--out", tmp_path / "file" / "x")
    assert "out = '': names no file" in refused("plot", saved, "--out", "")


def test_check_and_plot_write_nothing_else(saved, command):
    held = {one.name: one.read_bytes() for one in saved.iterdir()}
    command("check", saved)
    assert {one.name: one.read_bytes() for one in saved.iterdir()} == held
    shutil.rmtree(saved)


# --- exact -------------------------------------------------------------------------------------

EXACT = ("exact", "--scheme", "kaiming_normal", "--scheme", "xavier_normal:output_gain=1e-10")
AXES = ("--d", "2,10,100", "--l", "10,1000")


def test_exact_json(command):
    outcome = command(*EXACT, *AXES, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    rows = json.loads(outcome.out)
    assert [(row["scheme"], row["d"], row["l"]) for row in rows] == [
        (scheme, d, l)
        for scheme in ("kaiming_normal", "xavier_normal:output_gain=1e-10")
        for d in (2, 10, 100)
        for l in (10, 1000)
    ]
    for row in rows:
        assert list(row) == ["scheme", "d", "l", "a", "p", "P", "log10_p", "log10_P"]
        cell = row["scheme"], row["d"], row["l"]
        assert row["a"] == ob.scheme(row["scheme"]).ratio(row["d"], row["l"])
        assert row["p"] == ob.exact.pathological_probability(*cell)
        assert row["P"] == ob.exact.obstruction_probability(*cell)
        log = ob.exact.log_pathological_probability(*cell) / math.log(10)
        assert row["log10_p"] == pytest.approx(log, rel=1e-15)
        log = ob.exact.log_obstruction_probability(*cell) / math.log(10)
        assert row["log10_P"] == pytest.approx(log, rel=1e-15)
    assert rows[-1]["P"] == 0.0
    assert rows[-1]["log10_P"] < -990


def test_exact_table_is_aligned_and_says_the_same(command):
    outcome = command(*EXACT, *AXES)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["scheme", "d", "l", "a", "p", "P", "log10", "p", "log10", "P"]
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) < 120
    for line, row in zip(lines[1:], json.loads(command(*EXACT, *AXES, "--json").out), strict=True):
        scheme, d, l, *numbers = line.split()
        assert (scheme, int(d), int(l)) == (row["scheme"], row["d"], row["l"])
        for number, key in zip(numbers, ("a", "p", "P", "log10_p", "log10_P"), strict=True):
            assert float(number) == pytest.approx(row[key], rel=1e-5)


def test_exact_of_large_sizes_and_zero_scales(command):
    sizes = ("--d", "1,1000000000", "--l", "1000000000")
    schemes = ("custom:output_std=0", "custom:hidden_std=0", "kaiming_normal")
    words = ("exact", *(w for s in schemes for w in ("--scheme", s)), *sizes)
    lines = command(*words).out.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split()[3:] == ["0", "0", "0", "-inf", "-inf"]
    assert lines[3].split()[3:] == ["inf", "1", "1", "0", "0"]
    rows = json.loads(command(*words, "--json").out)
    assert [rows[0][key] for key in ("a", "p", "P", "log10_p", "log10_P")] == [0, 0, 0, None, None]
    assert [rows[2][key] for key in ("a", "p", "P", "log10_p", "log10_P")] == [None, 1, 1, 0, 0]
    assert rows[5]["P"] == 0
    assert -1e10 < rows[5]["log10_P"] < -1e7


def test_exact_of_neurons_that_depend_on_each_other(command, refused):
    words = ("exact", "--scheme", "orthogonal:hidden_gain=1.4142135623730951", "--d", "2,3")
    lines = command(*words, "--l", "64").out.splitlines()
    assert len({len(line) for line in lines}) == 1
    numbers = [line.split()[3:] for line in lines[1:]]
    assert [float(row[1]) for row in numbers] == pytest.approx([0.1813099, 0.0890406], abs=1e-6)
    assert [(row[2], row[4]) for row in numbers] == [("none", "none")] * 2
    rows = json.loads(command(*words, "--l", "64", "--json").out)
    for row in rows:
        assert (row["P"], row["log10_P"]) == (None, None)
        assert 10 ** row["log10_p"] == pytest.approx(row["p"], rel=1e-12)
    for style in ((), ("--json",)):
        message = refused(*words, "--l", "64,2000000", *style)
        assert message.startswith("obstruction: l = 2,000,000: exact values of scheme 'orthogonal")


def test_exact_of_two_logits(command, refused):
    words = ("exact", "--scheme", "kaiming_uniform", "--d", "3,5", "--l", "12", "--json")
    two = {"e": 2, "loss": "cross_entropy"}
    for row in json.loads(command(*words, "--logits", "2").out):
        cell = row["scheme"], row["d"], row["l"]
        assert row["p"] == ob.exact.pathological_probability(*cell, **two)
        assert row["P"] == ob.exact.obstruction_probability(*cell, **two)
        assert row["P"] != ob.exact.obstruction_probability(*cell)
    (row, _) = json.loads(command(*words, "--logits", "3").out)
    assert (row["p"], row["P"], row["log10_P"]) == (0.0, 0.0, None)
    assert "logits = 1: must be a whole number of at least 2" in refused(*words, "--logits", "1")
    flax = ("exact", "--scheme", "flax_dense", "--d", "3", "--l", "12", "--logits", "2")
    assert "two truncated normal output weights has no formula" in refused(*flax)


def test_a_reader_that_stops_reading_is_no_error(saved):
    code = "from obstruction.cli import main; main()"
    words = ["exact", "--scheme", "kaiming_normal", "--d", "1:3000", "--l", "1:9"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline().startswith(b"scheme")
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


# --- schemes, help, version --------------------------------------------------------------------


def test_schemes_text(command):
    outcome = command("schemes")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert all(len(line) <= 120 for line in lines)
    table = {line.split()[0]: line.split()[1:] for line in reversed(lines) if line}
    for name in ob.scheme_names():
        made = ob.scheme(name)
        law = made.hidden.law.name.removesuffix("_normal")
        numbers = (*made.formulas(), made.bias_formula())
        assert table[name] == [law, *numbers, *" ".join(scheme_origin(name)).split()]
    assert table["mode"][0] == "fan_in"
    assert table["negative_slope"][0] == "0"
    assert (table["hidden_law"][0], table["bias_law"][0]) == ("as", "none")
    options = outcome.out[outcome.out.index("option  ") :]
    words = " ".join(options.split())
    assert "hidden_gain 1 factor on the hidden standard deviation all output_gain" in words
    assert "deviation all but zero_output mode" in words
    assert "forward pass mup, ntk, mean_field bias_std 0 b_std: factor" in words
    for name in ob.scheme_names():
        for option in scheme_options(name):
            assert re.search(rf"^{option} ", options, re.MULTILINE)
    assert ob.scheme("kaiming_normal:mode=fan_out,output_gain=0.5").label in outcome.out


def test_schemes_json(command):
    rows = json.loads(command("schemes", "--json").out)
    assert [row["scheme"] for row in rows] == list(ob.scheme_names())
    for row in rows:
        made = ob.scheme(row["scheme"])
        assert list(row) == [
            "scheme",
            "about",
            "law",
            "var_w1",
            "var_w2",
            "a",
            "var_b1",
            "framework",
            "api",
            "options",
        ]
        given = {name: value for name, value in row["options"].items() if value != ""}
        assert ob.scheme(row["scheme"], **given).label == row["scheme"]
        assert (row["var_w1"], row["var_w2"], row["a"]) == made.formulas()
        assert row["var_b1"] == made.bias_formula()
        assert (row["framework"], row["api"]) == scheme_origin(row["scheme"])


def test_schemes_markdown(command, refused):
    outcome = command("schemes", "--markdown")
    assert (outcome.code, outcome.err) == (0, "")
    head, rule, *rows = outcome.out.splitlines()
    assert len({line.count("|") for line in (head, rule, *rows)}) == 1
    assert [row.split("`")[1] for row in rows] == list(ob.scheme_names())
    assert "--json and --markdown exclude each other" in refused("schemes", "--json", "--markdown")


def test_the_documents_hold_the_table_of_schemes(command):
    text = SCHEMES.read_text(encoding="utf-8")
    table = command("schemes", "--markdown").out
    assert f"\n\n{table}\n" in text, "obstruction schemes --markdown prints what belongs there"
    labels = re.findall(r"^    (\w+:\S+)$", text, re.MULTILINE)
    assert len(labels) == 5, labels
    for label in labels:
        assert ob.scheme(label).label == label


# --- design ------------------------------------------------------------------------------------

DESIGN = ("design", "--scheme", "kaiming_normal", "--d", "30", "--l", "64")


def test_design_json(command):
    outcome = command(*DESIGN, "--scheme", "xavier_normal:hidden_gain=2", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    rows = json.loads(outcome.out)
    assert [row["scheme"] for row in rows] == ["kaiming_normal", "xavier_normal:hidden_gain=2"]
    for row in rows:
        scheme = row["scheme"]
        assert (row["d"], row["l"], row["risk"]) == (30, 64, 1e-6)
        assert row["P"] == ob.exact.obstruction_probability(scheme, 30, 64)
        assert row["max_output_gain"] == ob.design.max_output_gain(scheme, 30, 64, 1e-6)
        assert row["P_at_max_output_gain"] == pytest.approx(1e-6, rel=1e-9)
        assert row["width_range"] == list(ob.design.width_range(scheme, 30, 1e-6))
        width = row["width_range"][0]
        assert row["P_at_min_width"] == ob.exact.obstruction_probability(scheme, 30, width)
        assert row["inputs_range"] == list(ob.design.inputs_range(scheme, 64, 1e-6))
        inputs = row["inputs_range"][0]
        assert row["P_at_min_inputs"] == ob.exact.obstruction_probability(scheme, inputs, 64)
        assert row["reasons"] == {}


def test_design_text(command):
    outcome = command(*DESIGN, "--risk", "1e-6")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == command(*DESIGN).out
    assert outcome.out.splitlines() == [
        "kaiming_normal, d = 30, l = 64, risk 1e-06",
        "  probability P of obstruction now      4.01013e-07, not above the risk",
        "  largest output gain                   1.045739049  (P = 1e-06)",
        "  smallest width l at d = 30            58, and all up to 10,000,000  (P = 9.92023e-07)",
        "  smallest inputs d at l = 64           27, and all up to 10,000,000  (P = 8.61157e-07)",
    ]
    both = command(*DESIGN, "--scheme", "xavier_normal", "--risk", "0.01").out
    assert "\n\nxavier_normal, d = 30, l = 64, risk 0.01\n" in both
    assert "37, and all up to 1,421  (P = " in both


def test_design_says_why_there_is_no_answer(command):
    words = ("design", "--scheme", "kaiming_normal", "--d", "1", "--l", "1")
    outcome = command(*words)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[1].endswith("0.5, above the risk")
    assert "1.570796327e-06  (P = 1e-06)" in lines[2]
    for line, axis in ((lines[3], "l"), (lines[4], "d")):
        reason = (
            f"none: no {axis} up to 10,000,000 brings the probability of obstruction to 1e-06; "
        )
        assert reason in line
    (row,) = json.loads(command(*words, "--json").out)
    assert (row["width_range"], row["inputs_range"], row["P_at_min_width"]) == (None, None, None)
    assert set(row["reasons"]) == {"width_range", "inputs_range"}


def test_design_of_extreme_schemes_and_sizes(command):
    schemes = ("custom:output_std=0", "custom:hidden_std=0", "kaiming_normal", "zero_output")
    words = [w for s in schemes for w in ("--scheme", s)]
    outcome = command("design", *words, "--d", "1e6", "--l", "100")
    assert (outcome.code, outcome.err) == (0, "")
    assert "none: the output weights are zero" in outcome.out
    assert "largest output gain                   0  (P = 0)" in outcome.out
    assert "kaiming_normal, d = 1,000,000, l = 100, risk 1e-06" in outcome.out
    never, always, _, zero = json.loads(
        command("design", *words, "--d", "1e6", "--l", "100", "--json").out
    )
    assert (never["P"], never["max_output_gain"], never["inputs_range"]) == (0, None, [1, 10**7])
    assert zero["reasons"]["max_output_gain"].startswith("scheme 'zero_output' has no option")
    assert (zero["P"], zero["width_range"]) == (0, [1, 10**7])
    assert (always["P"], always["max_output_gain"], always["width_range"]) == (1, 0, None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--risk 0", "risk = '0': must be a number between 0 and 1, both excluded"),
        ("--risk 1", "risk = '1': must be"),
        ("--risk -1e-6", "risk = '-1e-6': must be"),
        ("--risk nan", "risk = 'nan': must be"),
        ("--risk often", "risk = 'often': must be"),
        ("--d 0", "d = 0: must be a whole number of at least 1"),
        ("--l 1.5", "l = '1.5': must be a whole number"),
        ("--d 1:100", "d = '1:100': must be a whole number"),
        ("--l 1e8", "and at most 10,000,000"),
        ("--scheme orthogonal", "scheme 'orthogonal'"),
        ("--scheme kaimin_normal", "did you mean 'kaiming_normal'"),
        ("--scheme kaiming_normal", "given more than once"),
        ("extra", "unexpected extra argument"),
    ],
)
def test_design_refuses(words, message, refused):
    for style in ((), ("--json",)):
        assert message in refused(*DESIGN, *words.split(), *style)


def test_design_needs_schemes_and_sizes(refused):
    assert "Missing option '--scheme'" in refused("design", "--d", "3", "--l", "3")
    assert "Missing option '--d'" in refused("design", "--scheme", "ntk", "--l", "3")


def test_version(command):
    assert command("--version").out == f"obstruction, version {ob.__version__}\n"
    assert importlib.metadata.version("obstruction") == ob.__version__


def test_the_installed_command_is_this_one():
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="obstruction")
    assert entry.load() is obstruction.__main__.main


@pytest.mark.parametrize("words", [(), ("--help",), *((name, "--help") for name in COMMANDS)])
def test_help(words, command):
    outcome = command(*words)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("Usage: obstruction")
    assert all(len(line) <= 100 for line in outcome.out.splitlines())
    if len(words) < 2:
        assert set(COMMANDS) == set(cli.commands)
        listed = outcome.out.split("Commands:\n")[1].splitlines()
        assert {line.split()[0] for line in listed} == set(COMMANDS)
        assert "..." not in outcome.out.split("Commands:\n")[1]
    else:
        for option in cli.commands[words[0]].params:
            if option.param_type_name == "option":
                assert option.opts[0] in outcome.out
                assert option.help


# --- what is loaded ----------------------------------------------------------------------------

LOADED = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def loaded_by(*words: str) -> set[str]:
    """Return the packages that a command loads."""
    lines = [
        "from obstruction.cli import main",
        "try:",
        f"    main({list(words)!r})",
        "except SystemExit:",
        f"    {LOADED}",
    ]
    return set(python("\n".join(lines)).splitlines()[-1].split())


def test_importing_the_package_loads_nothing_heavy():
    packages = set(python(f"import obstruction; {LOADED}").split())
    assert "obstruction" in packages
    assert not packages & {"numba", "matplotlib", "seaborn", "pandas", "scipy", "numpy", "click"}


def test_importing_public_names_compiles_and_plots_nothing():
    code = "import obstruction as ob; ob.sample, ob.exact, ob.replay, ob.load; import sys;"
    code += "from obstruction.sampling.kernels import networks as kernels;"
    code += (
        "print(sum(len(f.signatures) for f in vars(kernels).values() if hasattr(f, 'py_func')));"
    )
    compiled, packages = python(code + LOADED).splitlines()
    assert compiled == "0"
    assert not set(packages.split()) & {"matplotlib", "seaborn"}
    assert "numba" in packages.split()


def test_help_loads_neither_numba_nor_matplotlib():
    for words in (("--help",), ("run", "--help"), ("--version",)):
        heavy = {"numba", "matplotlib", "seaborn", "pandas", "scipy", "numpy"}
        assert not loaded_by(*words) & heavy


def test_design_does_not_load_the_sampler():
    packages = loaded_by(*DESIGN)
    assert "scipy" in packages
    assert not packages & {"numba", "matplotlib", "seaborn", "pandas"}


def test_exact_does_not_load_the_sampler():
    packages = loaded_by("exact", "--scheme", "kaiming_normal", "--d", "2", "--l", "3")
    assert "numpy" in packages
    assert not packages & {"numba", "matplotlib", "seaborn", "pandas"}


def test_a_foreign_picture_is_not_replaced(refused, command, tmp_path):
    (tmp_path / "heatmap.png").write_bytes(b"precious")
    words = ("run", "--d", "1", "--l", "1", "--networks", "10", "--out", tmp_path)
    assert "holds heatmap.png already; --overwrite" in refused(*words)
    assert (tmp_path / "heatmap.png").read_bytes() == b"precious"
    assert command(*words, "--overwrite").code == 0
    assert (tmp_path / "heatmap.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("digits", ["1_000", "١٢", "１"])
def test_only_plain_digits_are_numbers(digits, refused, tmp_path):
    assert "must be whole numbers" in refused("run", "--d", digits, "--out", tmp_path / "new")


def test_the_package_is_a_command(tmp_path):
    command = [sys.executable, "-m", "obstruction", "--version"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert shown.stdout.startswith("obstruction, version ")
