"""Merged parts are one run: the same counts, estimates and bytes; nothing is counted twice."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

import obstruction as ob
from obstruction.sampling.config import StudyConfig
from obstruction.studies import folder
from obstruction.studies.run import StudyRun
from obstruction.studies.run_file import digest

SCHEMES = ("kaiming_normal", "torch_linear", "orthogonal")
GRID = {"d": [2, 5, 30], "l": [1, 4, 9]}
NETWORKS = 2_000


def drawn(first=None, networks=NETWORKS, *, seed=3, schemes=SCHEMES, **given):
    options = {"estimator": "auto", "samples": 500, "threads": 1}
    config = {**GRID, **{name: given.pop(name) for name in ("d", "l", "plan") if name in given}}
    run = StudyRun(
        StudyConfig.of(schemes, seed=seed, **config),
        networks=networks,
        first=first,
        **{**options, **given},
    )
    run.count()
    return run.weigh()


@pytest.fixture(scope="module")
def whole():
    return drawn()


def cells(study, where):
    folder.save(study, where)
    return (where / "cells.csv").read_bytes()


@pytest.mark.parametrize(
    "ends", [[0, 2000], [0, 1, 2000], [0, 700, 1999, 2000], [0, 64, 128, 1000, 1024, 1500, 2000]]
)
@pytest.mark.parametrize("plan", ["nested", "independent"])
def test_shards_are_one_run_to_the_byte(tmp_path, ends, plan):
    parts = [drawn(a, b - a, plan=plan) for a, b in itertools.pairwise(ends)]
    assert all(part.rare is None for part in parts)
    np.random.default_rng(len(ends)).shuffle(parts)
    merged = ob.merge(*parts, threads=2)
    expected = drawn(plan=plan)
    assert merged.counts == expected.counts
    assert (merged.first, merged.done, merged.others) == (None, ((0, NETWORKS),), ())
    assert merged.rare is not None
    assert cells(merged, tmp_path / "merged") == cells(expected, tmp_path / "one")
    assert digest(merged) == digest(expected)


def test_folders_are_merged_and_read_again(tmp_path, whole):
    for i, (first, networks) in enumerate([(0, 600), (600, 1400)]):
        folder.save(drawn(first, networks), tmp_path / str(i))
    merged = ob.merge(tmp_path / "0", str(tmp_path / "1"))
    assert merged.counts == whole.counts
    folder.save(merged, tmp_path / "all")
    assert digest(ob.load(tmp_path / "all")) == digest(whole)


def test_parts_of_parts(whole):
    late = ob.merge(drawn(500, 500), drawn(1000, 1000))
    assert (late.first, late.done, late.rare) == (500, ((500, 2000),), None)
    assert ob.merge(late, drawn(0, 500)).counts == whole.counts


def test_cells_that_fill_a_grid_are_one_run(tmp_path, whole):
    parts = [
        drawn(schemes="orthogonal"),
        drawn(schemes=SCHEMES[:2], d=[2, 30]),
        drawn(schemes=SCHEMES[:2], d=5, l=[1, 9]),
        drawn(schemes=SCHEMES[:2], d=5, l=4),
    ]
    merged = ob.merge(*parts)
    order = {scheme.label for scheme in merged.config.schemes}
    assert order == set(SCHEMES)
    again = ob.merge(*parts[1:], parts[0])
    assert cells(again, tmp_path / "merged") == cells(whole, tmp_path / "one")


def test_cells_and_networks_together(tmp_path, whole):
    parts = [drawn(a, 1000, d=d) for a in (0, 1000) for d in (2, 5, 30)]
    assert cells(ob.merge(*parts), tmp_path / "a") == cells(whole, tmp_path / "b")


def test_other_seeds_add_up(tmp_path, whole):
    merged = ob.merge(drawn(seed=9), whole, drawn(seed=0, networks=100))
    assert merged.seeds == (0, 3, 9)
    assert merged.networks == merged.target == 2 * NETWORKS + 100
    parts = (drawn(seed=9), drawn(seed=0, networks=100))
    expected = sum((part.counts for part in parts), start=whole.counts)
    assert merged.counts == expected
    assert "seeds 0, 3 and 9" in merged.describe()
    folder.save(merged, tmp_path / "all")
    read = ob.load(tmp_path / "all")
    assert (read.seeds, read.others) == (merged.seeds, merged.others)
    with pytest.raises(ValueError, match="is merged from studies of several seeds"):
        StudyRun.resume("all", read, {})
    with pytest.raises(ValueError, match=r"study 2: networks 0 to 1,999 of seed 3 are in study 1"):
        ob.merge(read, whole)


def test_gaps_are_told_and_drawn(whole):
    merged = ob.merge(drawn(0, 300), drawn(1500, 500))
    assert not merged.complete
    assert merged.done == ((0, 300), (1500, 2000))
    run = StudyRun.resume("out", merged, {})
    run.count()
    assert run.study().counts == whole.counts


def test_a_part_is_resumed_where_it_begins():
    part = drawn(100, 50)
    run = StudyRun.resume("out", part, {}, networks=80)
    run.count()
    assert run.study().done == ((100, 180),)
    assert run.study().first == 100
    with pytest.raises(ValueError, match="holds 50 networks already"):
        StudyRun.resume("out", part, {}, networks=40)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([(0, 2000)], "networks 0 to 1,999 of seed 3"),
        ([(1999, 5)], "networks 1,999 to 1,999 of seed 3"),
        ([(2000, 5), (2003, 1)], "study 3: networks 2,003 to 2,003 of seed 3 are in study 2"),
    ],
)
def test_nothing_is_counted_twice(whole, others, message):
    with pytest.raises(ValueError, match=message):
        ob.merge(whole, *(drawn(*one) for one in others))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"plan": "independent"}, "plan is nested there and independent here"),
        ({"estimator": "direct"}, "estimator is auto there and direct here"),
        ({"samples": 600}, "samples is 500 there and 600 here"),
        ({"d": [2, 5], "seed": 4}, "has other cells than study 1 and other networks"),
        ({"d": [5, 7]}, "the cell kaiming_normal, d = 5, l = 1 is in study 1, too"),
        ({"d": [7], "l": [1]}, "fill no grid; the cell kaiming_normal, d = 7, l = 4 is missing"),
        (
            {"schemes": "xavier_normal", "l": 1},
            "fill no grid; the cell xavier_normal, d = 2, l = 4",
        ),
    ],
)
def test_what_does_not_fit_is_refused(whole, given, message):
    with pytest.raises(ValueError, match=message):
        ob.merge(whole, drawn(**given))


def test_what_is_no_study_is_refused(whole, tmp_path):
    with pytest.raises(ValueError, match="there is no study to merge"):
        ob.merge()
    with pytest.raises(ValueError, match=r"study 2: is int; only studies of \(d, l\) are merged"):
        ob.merge(whole, 3)
    with pytest.raises(ValueError, match="no such folder"):
        ob.merge(whole, tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"networks-from = -1: must be a whole number"):
        drawn(-1)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("done", [[2000, 4000]]),
        ("done", [[0, 1000], [2000, 3000]]),
        ("networks_wanted", 4000),
        ("networks_from", 0),
        ("networks_from", -1),
        ("networks_from", True),
        ("merged", [{"seed": 4, "done": [[0, 5]]}]),
        ("merged", [{"seed": 3, "done": []}]),
        ("merged", 7),
        ("merged", None),
        ("format", 2),
        ("format", True),
    ],
)
def test_ranges_are_part_of_the_checksum(tmp_path, whole, entry, value):
    """A range that somebody edits would let networks be counted twice."""
    folder.save(whole, tmp_path)
    content = json.loads((tmp_path / "run.json").read_bytes())
    content[entry] = value
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"run\.json, line 1: damaged|run\.json: damaged"):
        ob.load(tmp_path)


def test_the_format_before_is_read(tmp_path, whole):
    folder.save(whole, tmp_path)
    content = json.loads((tmp_path / "run.json").read_bytes())
    for name in ("networks_from", "merged"):
        del content[name]
    content |= {"format": 2, "digest": digest(whole, version=2)}
    (tmp_path / "run.json").write_text(json.dumps(content))
    assert ob.load(tmp_path).counts == whole.counts
    assert digest(whole, version=2) == digest(
        dataclasses.replace(whole, done=((5, 2005),)), version=2
    )
