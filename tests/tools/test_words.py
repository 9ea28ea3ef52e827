"""Words, powers, durations and columns of text, as they are printed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from obstruction.tools.json_values import json_object
from obstruction.tools.words import aligned, columns, counted, duration, listed, power_of_two

ROWS = [("layer", "neurons", "l"), ("a", "1,000", ""), ("second", "7", "12345")]


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 cells"), (1, "1 cell"), (np.int64(1), "1 cell"), (12_345, "12,345 cells")],
)
def test_a_noun_has_an_s_unless_there_is_one(number, words):
    assert counted(number, "cell") == words


def test_a_list_takes_words_of_any_kind_and_needs_one():
    assert listed(str(d) for d in (2, 5, 10)) == listed([2, 5, 10]) == "2, 5 and 10"
    with pytest.raises(ValueError, match="not enough values"):
        listed([])


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (60.0, "1 min 0 s"), (3661, "61 min 1 s")],
)
def test_a_duration_has_minutes_from_the_first_one_on(seconds, words):
    assert duration(seconds) == words


def test_a_power_of_two_is_written_out_below_its_limit():
    assert power_of_two(39, below=40) == "2^39 = 549,755,813,888"
    assert power_of_two(1, below=1) == "2^1"


def test_columns_are_as_wide_as_their_longest_cell():
    assert list(columns(ROWS)) == ["layer   neurons  l", "a       1,000", "second  7        12345"]
    assert list(columns(ROWS, left=1, indent=2)) == [
        "  layer   neurons      l",
        "  a         1,000",
        "  second        7  12345",
    ]
    assert list(columns(ROWS, left=0))[1] == "     a    1,000"


def test_a_row_keeps_its_widths_and_cuts_nothing():
    assert aligned(("a", "b", "long"), (3, 3, 2), left=1, gap=1) == "a     b long"


def test_what_json_cannot_hold_is_none():
    values = {"nan": math.nan, "inf": np.float64("inf"), "n": np.int64(3), "x": 0.5, "s": "word"}
    assert json_object(values) == {"nan": None, "inf": None, "n": 3, "x": 0.5, "s": "word"}
    assert type(json_object(values)["n"]) is int
