"""``cells.csv``: what is written reads back, and damage is reported with its line."""

from __future__ import annotations

import csv
import io
import math

import pandas as pd
import pytest

import obstruction as ob
from obstruction.studies import cells_file
from obstruction.studies.table import COLUMNS

LABELS = ("xavier_normal", "orthogonal", "kaiming_normal:mode=fan_out,output_gain=0.5")
TEXTS = ("scheme", "method", "estimator")


@pytest.fixture(scope="module")
def study():
    return ob.sample(LABELS, d=[1, 3], l=[1, 2, 10], networks=3000, seed=5)


@pytest.fixture
def cells(study, tmp_path):
    """Return a correct ``cells.csv``."""
    path = tmp_path / "cells.csv"
    with path.open("wb") as stream:
        cells_file.write_cells(study.table(), stream)
    return path


def test_floats_read_back_to_the_same_value(study, cells):
    frame = study.table()
    with cells.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    assert tuple(rows[0]) == COLUMNS
    for row, (_, expected) in zip(rows[1:], frame.iterrows(), strict=True):
        for text, name in zip(row, COLUMNS, strict=True):
            value = expected[name]
            if name in TEXTS:
                assert text == value
            elif isinstance(value, float) and math.isnan(value):
                assert text == ""
            else:
                assert float(text) == value


def test_the_file_is_plain(cells):
    data = cells.read_bytes()
    assert data.endswith(b"\n")
    assert b"\r" not in data
    assert b"nan" not in data.lower()
    assert b'"kaiming_normal:mode=fan_out,output_gain=0.5",1,1,3000,' in data
    assert list(pd.read_csv(cells)["scheme"].unique()) == list(LABELS)


def test_counts_read_back(study, cells):
    assert cells_file.read_cells(cells, study.config, 3000) == (study.counts, None)


def test_lines_that_end_as_on_windows_are_read(study, cells):
    cells.write_bytes(cells.read_bytes().replace(b"\n", b"\r\n"))
    assert cells_file.read_cells(cells, study.config, 3000) == (study.counts, None)


def damage(line: int, old: str, new: str):
    """Return what replaces a text on a line, counted from 1."""

    def apply(data: bytes) -> bytes:
        lines = data.decode().split("\n")
        assert old in lines[line - 1]
        lines[line - 1] = lines[line - 1].replace(old, new, 1)
        return "\n".join(lines).encode()

    return apply


def swap(data: bytes) -> bytes:
    lines = data.split(b"\n")
    lines[4], lines[5] = lines[5], lines[4]
    return b"\n".join(lines)


def edit(line: int, column: str, change):
    """Return what changes a field on a line."""

    def apply(data: bytes) -> bytes:
        rows = list(csv.reader(io.StringIO(data.decode())))
        at = COLUMNS.index(column)
        rows[line - 1][at] = change(rows[line - 1][at])
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(rows)
        return out.getvalue().encode()

    return apply


def more(step: int):
    return lambda field: str(int(field) + step)


ROWS = len(LABELS) * 2 * 3
DAMAGES = {
    "empty": (lambda data: b"", 1, "header"),
    "binary": (lambda data: bytes(range(256)) * 8, 1, "header"),
    "zeros": (lambda data: b"\0" * len(data), 1, "header"),
    "header": (damage(1, "obstructed", "obstrcted"), 1, "the header must read scheme,d,l,networks"),
    "no header": (lambda data: data.split(b"\n", 1)[1], 1, "header"),
    "only header": (lambda data: data.split(b"\n", 1)[0] + b"\n", 1, "ends here"),
    "torn line": (lambda data: data[:-40], ROWS + 1, "fields"),
    "torn end": (lambda data: data[:-1], ROWS + 1, "torn"),
    "half": (lambda data: data[: data.index(b"\n", 900) + 1], None, "the file ends here"),
    "missing line": (
        lambda data: b"\n".join(data.split(b"\n")[:3] + data.split(b"\n")[4:]),
        4,
        "is the cell xavier_normal, d = 3, l = 1, not xavier_normal, d = 1, l = 10",
    ),
    "missing last line": (
        lambda data: data[: data.rindex(b"\n", 0, -1) + 1],
        ROWS,
        "d = 3, l = 10 is missing",
    ),
    "line twice": (lambda data: data + data[data.rindex(b"\n", 0, -1) + 1 :], ROWS + 2, "too many"),
    "extra words": (lambda data: data + b"the end\n", ROWS + 2, "one line too many"),
    "lines swapped": (swap, 5, "is the cell"),
    "blank line": (
        lambda data: edit(7, "obstructed", more(1))(data).replace(b"\n", b"\n\n", 3),
        2,
        "has 0 fields",
    ),
    "other scheme": (damage(2, "xavier_normal", "xavier_uniform"), 2, "is the cell xavier_uniform"),
    "other d": (damage(2, "xavier_normal,1,", "xavier_normal,2,"), 2, "is the cell"),
    "networks": (damage(3, ",3000,", ",3001,"), 3, "networks = 3001, but the study drew 3000"),
    "obstructed": (edit(7, "obstructed", more(1)), 7, "does not fit empirical"),
    "pathological": (edit(7, "pathological", more(-1)), 7, "does not fit empirical_neuron"),
    "impossible": (
        edit(7, "obstructed", more(3000)),
        7,
        "impossible for 3000 networks of 10 neurons",
    ),
    "negative": (edit(6, "obstructed", more(-5000)), 6, "is not a count"),
    "word": (damage(4, ",3000,", ",many,"), 4, "networks = 'many' is not a count"),
    "fraction": (damage(4, ",3000,", ",3000.5,"), 4, "is not a count"),
    "long number": (damage(4, ",3000,", f",{'9' * 5000},"), 4, "is not a count"),
    "float": (damage(4, "0.", "0.x"), 4, "empirical = '0.x"),
    "no rate": (edit(4, "empirical", lambda field: ""), 4, "does not fit empirical = nothing"),
    "field more": (damage(4, ",3000,", ",3000,3000,"), 4, "has 31 fields, not 30"),
    "field less": (damage(4, ",3000,", ","), 4, "has 29 fields, not 30"),
    "quote": (damage(4, ",3000,", ',"3000,'), 4, "fields"),
    "endless field": (damage(4, ",3000,", "," + "x" * 200_000), 4, "is not CSV"),
    "no estimator": (edit(4, "estimator", lambda field: ""), 4, "estimator = '' is none of direct"),
    "estimator": (edit(4, "estimator", lambda field: "auto"), 4, "estimator = 'auto' is none of"),
    "no samples": (edit(4, "samples", lambda field: ""), 4, "samples = '' does not fit"),
    "samples": (edit(4, "samples", more(500)), 4, "samples = '500' does not fit estimator direct"),
    "odd digit": (edit(4, "samples", lambda field: "²"), 4, "samples = '²' is not a number"),
    "many samples": (edit(4, "samples", lambda field: "9" * 5000), 4, "samples = '999"),
    "weights": (edit(4, "skewness", lambda field: "none of"), 4, "skewness = 'none of' is not a"),
    "tilted": (edit(4, "estimator", lambda field: "tilted"), 4, "log_mean_weight =  does not fit"),
    "bytes": (lambda data: data.replace(b",3000,", b",\xff\xfe\x00,", 1), 2, "is not a count"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_reported_with_file_and_line(name, study, cells):
    change, line, why = DAMAGES[name]
    cells.write_bytes(change(cells.read_bytes()))
    with pytest.raises(ValueError, match=r"cells\.csv, line ") as caught:
        cells_file.read_cells(cells, study.config, 3000)
    message = str(caught.value)
    assert message.startswith(f"{cells}, line ")
    assert why in message
    if line is not None:
        assert message.startswith(f"{cells}, line {line}: ")
    assert "\n" not in message
    assert len(message) < len(str(cells)) + 250


def test_a_file_that_cannot_be_read(study, tmp_path):
    with pytest.raises(ValueError, match=r"none\.csv: cannot be read"):
        cells_file.read_cells(tmp_path / "none.csv", study.config, 3000)
    with pytest.raises(ValueError, match="cannot be read"):
        cells_file.read_cells(tmp_path, study.config, 3000)
