"""Runs from start to finish: what they write and print, going on, and being interrupted."""

from __future__ import annotations

import csv
import dataclasses
import errno
import fcntl
import io
import json
import os
import pty
import random
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

import obstruction as ob
from obstruction.cli import main, running
from obstruction.reporting import heatmaps
from obstruction.sampling.rare import estimate as tilting
from obstruction.sampling.runner import Runner
from obstruction.studies import exact_values as reference
from obstruction.studies import folder, table
from obstruction.studies.table import COLUMNS

FILES = {"cells.csv", "run.json", "heatmap.png", "heatmap.pdf"}
GRID = ("--d", "1:4", "--l", "1,2,5")
SMALL = (*GRID, "--networks", "2000")


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """Write a word in place of pictures, which take longer than all the rest."""
    monkeypatch.setattr(heatmaps, "figure", lambda table: SimpleNamespace(clear=lambda: None))
    monkeypatch.setattr(heatmaps, "write", lambda figure, stream, kind: stream.write(kind.encode()))


@pytest.fixture
def run(command):
    """Run a study that must succeed; return what it wrote in ``cells.csv``."""

    def call(out, *words):
        outcome = command("run", "--out", out, *words)
        assert (outcome.code, outcome.err) == (0, "")
        assert set(os.listdir(out)) == FILES
        return (out / "cells.csv").read_bytes()

    return call


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


# --- what a run writes and prints --------------------------------------------------------------


def test_what_is_printed(command, tmp_path):
    outcome = command("run", *SMALL, "--threads", "1", "--out", tmp_path / "a")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0] == "xavier_normal, kaiming_normal"
    assert lines[1] == (
        "  d 1 to 4, l 1 to 5: 4 x 3 cells, 2,000 networks each, nested plan, seed 0"
    )
    assert re.fullmatch(
        r"  2,000 networks per cell drawn in [\d.]+ s on 1 thread: [\d,]+ networks/s "
        r"in each of 24 cells",
        lines[2],
    )
    assert lines[3].startswith("AGREES: ")
    assert any(line.startswith("  Worst: ") for line in lines)
    written = ("cells.csv", "heatmap.png", "heatmap.pdf", "run.json")
    assert lines[-1] == "Written: " + ", ".join(str(tmp_path / "a" / name) for name in written)
    assert all(len(line) <= 100 for line in lines[:-1])


def test_what_is_written(run, tmp_path):
    text = run(tmp_path / "a", *SMALL, "--scheme", "orthogonal", "--scheme", "lecun_normal")
    rows = list(csv.DictReader(text.decode().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["scheme"], int(row["d"]), int(row["l"])) for row in rows] == [
        (scheme, d, l)
        for scheme in ("orthogonal", "lecun_normal")
        for d in (1, 2, 3, 4)
        for l in (1, 2, 5)
    ]
    study = ob.sample(["orthogonal", "lecun_normal"], d=range(1, 5), l=[1, 2, 5], networks=2000)
    assert [int(row["obstructed"]) for row in rows] == study.counts.obstructed.ravel().tolist()
    assert [int(row["pathological"]) for row in rows] == study.counts.pathological.ravel().tolist()
    assert all((row["exact"] == "") == (row["scheme"] == "orthogonal") for row in rows)
    assert all(float(row["empirical"]) == int(row["obstructed"]) / 2000 for row in rows)
    assert (tmp_path / "a" / "heatmap.png").read_bytes() == b"png"
    assert (tmp_path / "a" / "heatmap.pdf").read_bytes() == b"pdf"


def test_quiet_prints_nothing(command, tmp_path):
    outcome = command("run", *SMALL, "--quiet", "--threads", "100000", "--out", tmp_path / "a")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert set(os.listdir(tmp_path / "a")) == FILES


def test_a_scheme_without_exact_values_is_untested(command, tmp_path):
    outcome = command("run", *SMALL, "--scheme", "orthogonal", "--out", tmp_path / "a")
    assert outcome.code == 0
    assert "UNTESTED" in outcome.out
    assert "AGREES" not in outcome.out


def test_zero_scales(run, tmp_path):
    schemes = ("--scheme", "custom:output_std=0", "--scheme", "custom:hidden_std=0")
    rows = list(csv.DictReader(run(tmp_path / "a", *SMALL, *schemes).decode().splitlines()))
    for row in rows:
        probability = "0.0" if "output" in row["scheme"] else "1.0"
        assert row["exact"] == row["empirical"] == row["exact_neuron"] == probability
        assert row["p_value"] == row["p_value_neuron"] == "1.0"


def wrong(config):
    """Take the number of hidden neurons for one more than it is."""
    right = reference.exact_values(config)
    return right._replace(network=1 - (1 - right.neuron) ** (np.array(config.l) + 1))


@pytest.mark.parametrize("quiet", [False, True])
def test_disagreement_is_loud_and_exits_1(quiet, command, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "exact_values", wrong)
    out = tmp_path / "a"
    outcome = command("run", *SMALL, "--out", out, *["--quiet"] * quiet)
    assert outcome.code == 1
    assert ("DISAGREES" in outcome.out) == (not quiet)
    assert json.loads((out / "run.json").read_text())["agreement"]["verdict"] == "disagrees"
    again = command("check", out)
    assert again.code == 1
    assert "\nDISAGREES: " in again.out
    assert command("run", "--resume", "--out", out).code == 1
    monkeypatch.undo()
    assert command("check", out).code == 0


def test_threads_and_repetition_do_not_change_a_byte(run, tmp_path):
    grid = ("--d", "1:6", "--l", "1:9", "--networks", "30000")
    first, *others = (
        run(tmp_path / str(i), *grid, "--threads", threads, "--quiet")
        for i, threads in enumerate((1, 2, 2))
    )
    assert others == [first, first]
    assert run(tmp_path / "seed", *grid, "--seed", "1", "--quiet") != first


def test_more_threads_than_cores_are_clamped_with_a_note(command, tmp_path):
    outcome = command("run", *SMALL, "--threads", "100000", "--out", tmp_path / "a")
    assert outcome.code == 0
    assert re.fullmatch(
        r"obstruction: threads = 100000: this process may use \d+ cores?, so it does\n", outcome.err
    )


@pytest.mark.parametrize("plan", ["nested", "independent"])
def test_run_json_is_enough_to_repeat_the_run(plan, run, tmp_path):
    label = "kaiming_normal:mode=fan_out,output_gain=0.3"
    words = ("--scheme", label, "--scheme", "xavier_uniform", "--d", "geom:1:9:4", "--l", "5,2")
    first = run(tmp_path / "a", *words, "--networks", "1500", "--seed", "77", "--plan", plan)
    about = json.loads((tmp_path / "a" / "run.json").read_text())
    again = [word for entry in about["schemes"] for word in ("--scheme", entry["label"])]
    for axis in ("d", "l"):
        again += [f"--{axis}", ",".join(map(str, about[axis]))]
    for option in ("networks", "seed", "plan"):
        again += [f"--{option}", about[option]]
    assert run(tmp_path / "b", *again) == first


# --- a folder that holds a study ---------------------------------------------------------------


def test_a_second_run_refuses(run, refused, tmp_path):
    run(tmp_path, *SMALL)
    before = contents(tmp_path)
    message = refused("run", *SMALL, "--out", tmp_path)
    for word in ("holds a study already", "--overwrite", "--resume", "--out"):
        assert word in message
    assert contents(tmp_path) == before


def test_overwrite_replaces(run, tmp_path):
    first = run(tmp_path / "a", *SMALL)
    second = run(tmp_path / "a", *GRID, "--networks", "1000", "--seed", "1", "--overwrite")
    assert second != first
    assert run(tmp_path / "b", *GRID, "--networks", "1000", "--seed", "1") == second
    assert (ob.load(tmp_path / "a").networks, ob.load(tmp_path / "a").config.seed) == (1000, 1)


def test_overwrite_replaces_even_what_cannot_be_read(run, tmp_path):
    (tmp_path / "run.json").write_text("torn")
    run(tmp_path, *SMALL, "--overwrite")
    assert ob.load(tmp_path).networks == 2000


def test_overwrite_and_resume_exclude_each_other(run, refused, tmp_path):
    run(tmp_path, *SMALL)
    before = contents(tmp_path)
    assert "exclude each other" in refused("run", "--overwrite", "--resume", "--out", tmp_path)
    assert contents(tmp_path) == before


OTHER = ("--scheme", "lecun_normal", "--scheme", "lecun_uniform", "--seed", "9", *GRID)


@pytest.mark.parametrize("plan", ["nested", "independent"])
def test_resume_equals_one_uninterrupted_run(plan, run, tmp_path):
    words = (*OTHER, "--plan", plan)
    whole = run(tmp_path / "whole", *words, "--networks", "3e3")
    run(tmp_path / "parts", *words, "--networks", "700")
    run(tmp_path / "parts", "--resume", "--networks", "1100")  # options come from the study
    assert run(tmp_path / "parts", "--resume", "--networks", "3000", *words) == whole
    one, other = (json.loads((tmp_path / p / "run.json").read_text()) for p in ("whole", "parts"))
    for key in ("schemes", "d", "l", "seed", "plan", "block", "networks", "done", "agreement"):
        assert one[key] == other[key]


def test_resume_tells_what_it_drew(run, command, tmp_path):
    run(tmp_path, *SMALL)
    outcome = command("run", "--resume", "--networks", "5000", "--out", tmp_path)
    assert "3 cells, 5,000 networks each" in outcome.out
    assert "\n  3,000 networks per cell drawn in " in outcome.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--d", "1:5"), "d is 1 2 3 4 5 here and 1 2 3 4 there"),
        (("--l", "2"), "l is 2 here and 1 2 5 there"),
        (("--seed", "1"), "seed is 1 here and 0 there"),
        (("--plan", "independent"), "plan is independent here and nested there"),
        (
            ("--scheme", "custom"),
            "schemes is custom here and xavier_normal kaiming_normal there",
        ),
        (("--seed", "1", "--d", "7"), "d is 7 here and 1 2 3 4 there; seed is 1 here and 0 there"),
        (("--networks", "1999"), "networks = 1,999: {out} holds 2,000 networks already"),
        (("--networks", "0"), "networks = 0"),
    ],
)
def test_resume_refuses_another_study(words, message, run, refused, tmp_path):
    run(tmp_path, *SMALL)
    before = contents(tmp_path)
    assert message.format(out=tmp_path) in refused("run", "--resume", *words, "--out", tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("words", [(), ("--networks", "2000"), ("--networks", "2e3", *GRID)])
def test_resume_of_a_complete_study_draws_nothing(words, run, command, tmp_path):
    run(tmp_path, *SMALL)
    before = contents(tmp_path)
    outcome = command("run", "--resume", *words, "--out", tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"{tmp_path} holds these 2,000 networks already; nothing to draw." in outcome.out
    assert "AGREES" in outcome.out
    assert contents(tmp_path) == before
    assert command("run", "--resume", "--quiet", *words, "--out", tmp_path).out == ""


RARE = ("--d", "1,25,50", "--l", "2,30,60", "--networks", "700")


def test_auto_and_20_000_samples_are_the_default(run, tmp_path):
    plain = run(tmp_path / "a", *RARE)
    assert run(tmp_path / "b", *RARE, "--estimator", "auto", "--samples", "2e4") == plain
    study = ob.load(tmp_path / "a")
    assert (study.estimator, study.samples) == ("auto", 20_000)
    assert 0 < np.count_nonzero(study.rare.where) < 18
    rows = list(csv.DictReader(plain.decode().splitlines()))
    assert {(row["estimator"], row["samples"]) for row in rows} == {
        ("direct", "0"),
        ("tilted", "20000"),
    }


def test_resume_from_direct_to_tilted_and_back_to_auto(run, command, tmp_path):
    direct = run(tmp_path / "a", *RARE, "--estimator", "direct")
    assert ob.load(tmp_path / "a").rare is None
    tilted = run(tmp_path / "a", "--resume", "--estimator", "tilted", "--samples", "500")
    study = ob.load(tmp_path / "a")
    assert (study.estimator, study.samples, study.networks) == ("tilted", 500, 700)
    assert study.rare.where.all()
    assert tilted == run(tmp_path / "b", *RARE, "--estimator", "tilted", "--samples", "500")
    auto = run(tmp_path / "a", "--resume", "--estimator", "auto")  # 500 samples are kept
    assert auto == run(tmp_path / "c", *RARE, "--samples", "500")
    assert len({direct, tilted, auto}) == 3
    more = run(tmp_path / "a", "--resume", "--networks", "5000")  # and so is the estimator
    assert more == run(tmp_path / "d", *RARE, "--networks", "5000", "--samples", "500")
    few, many = (np.count_nonzero(ob.load(tmp_path / name).rare.where) for name in "dc")
    assert few < many
    again = run(tmp_path / "a", "--resume", "--estimator", "direct", "--samples", "20000")
    assert again == run(tmp_path / "e", *RARE, "--networks", "5000", "--estimator", "direct")


@pytest.mark.parametrize("words", [(), ("--estimator", "auto"), ("--samples", "20000")])
def test_resume_with_the_estimator_that_was_used_does_nothing(words, run, command, tmp_path):
    run(tmp_path, *RARE)
    before = contents(tmp_path)
    outcome = command("run", "--resume", *words, "--out", tmp_path)
    assert "holds these 700 networks already; nothing to draw." in outcome.out
    assert contents(tmp_path) == before
    changed = command("run", "--resume", "--samples", "300", "--out", tmp_path)
    assert "networks per cell drawn" not in changed.out
    assert " weighted samples in " in changed.out
    assert contents(tmp_path)["cells.csv"] != before["cells.csv"]


def test_check_and_plot_of_weighted_samples(run, command, tmp_path):
    run(tmp_path, *RARE, "--samples", "400")
    printed = command("check", tmp_path)
    assert printed.code == 0
    rare = np.count_nonzero(ob.load(tmp_path).rare.where)
    assert f"AGREES: the counts of {18 - rare} cells and the weighted samples of {rare} cells" in (
        printed.out
    )


def test_resume_needs_a_study(refused, tmp_path):
    assert "holds no study to resume" in refused("run", "--resume", "--out", tmp_path)
    assert "holds no study to resume" in refused("run", "--resume", "--out", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_nothing_is_touched_before_all_is_understood(refused, tmp_path):
    out = tmp_path / "new"
    for words in (
        ("--scheme", "nope"),
        ("--d", "0"),
        ("--networks", "0"),
        ("--threads", "0"),
        ("--level", "0.95"),
        ("--d", "1:100000", "--l", "1:100000"),
    ):
        refused("run", *SMALL, *words, "--out", out)
        assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--samples", "1"), "samples = 1: must be a whole number of at least 2"),
        (("--samples", "x"), "samples = 'x': must be a whole number"),
        (
            ("--estimator", "nonsense"),
            "estimator = 'nonsense': must be one of direct, tilted, auto",
        ),
        (("--estimator", ""), "estimator = '': must be one of direct, tilted, auto"),
        (
            ("--estimator", "tilted", "--scheme", "orthogonal"),
            "estimator = 'tilted': the weights of scheme 'orthogonal' depend on each other",
        ),
    ],
)
def test_estimators_that_do_not_do_are_refused_at_once(
    words, message, run, refused, tmp_path, monkeypatch
):
    run(tmp_path / "a", *SMALL, "--scheme", "orthogonal")
    held = contents(tmp_path / "a")
    monkeypatch.setattr(Runner, "run", lambda *words, **options: pytest.fail("it was counted"))
    assert message in refused("run", *SMALL, *words, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert message in refused("run", "--overwrite", *words, "--out", tmp_path / "a")
    own = [word for word in words if word not in ("--scheme", "orthogonal")]
    assert message in refused("run", "--resume", *own, "--out", tmp_path / "a")
    assert contents(tmp_path / "a") == held


# --- interruption ------------------------------------------------------------------------------


def interrupt(monkeypatch, number, after):
    """Make the next runs count ``after`` networks and then receive a signal."""
    original = Runner.run

    def run(self, networks, *, start, threads, watch):
        if after:
            original(self, after, threads=threads)
        signal.raise_signal(number)
        raise AssertionError("the signal was ignored")

    monkeypatch.setattr(Runner, "run", run)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_run_goes_on_to_the_same_end(name, command, run, tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", *SMALL)
    number = signal.Signals[name]
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    out = tmp_path / "my results"
    with monkeypatch.context() as patch:
        interrupt(patch, number, 700)
        outcome = command("run", *SMALL, "--quiet", "--out", out)
    assert (outcome.code, outcome.out) == (128 + number, "")
    advice = f"obstruction run --resume --out {shlex.quote(str(out))}"
    kept = f"700 of 2,000 networks are saved in {out}"
    assert outcome.err == f"obstruction: interrupted; {kept}; go on with: {advice}\n"
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert os.listdir(out) == ["checkpoint.npz"]
    assert not ob.load(out).complete
    checked = command("check", out)
    assert (checked.code, checked.err) == (0, "")
    assert "700 of 2,000 (interrupted) networks" in checked.out
    resumed = command(*shlex.split(advice)[1:])
    assert (resumed.code, resumed.err) == (0, "")
    assert "1,300 networks per cell drawn" in resumed.out
    assert (out / "cells.csv").read_bytes() == whole
    assert set(os.listdir(out)) == FILES


def test_resume_of_an_interrupted_run_to_fewer_than_wanted(
    command, run, refused, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        interrupt(patch, signal.SIGINT, 700)
        assert command("run", *SMALL, "--out", tmp_path / "a").code == 130
    out = ("--out", tmp_path / "a")
    assert "holds a study already" in refused("run", *SMALL, *out)
    assert "holds 700 networks already" in refused("run", "--resume", "--networks", "699", *out)
    resumed = run(tmp_path / "a", "--resume", "--networks", "700")
    assert resumed == run(tmp_path / "b", *GRID, "--networks", "700")


@pytest.mark.parametrize("before", ["nothing", "study"])
def test_an_interruption_before_the_first_network_changes_nothing(
    before, command, run, tmp_path, monkeypatch
):
    words = []
    if before == "study":
        run(tmp_path, *SMALL)
        words = ["--overwrite"]
    held = contents(tmp_path)
    interrupt(monkeypatch, signal.SIGINT, 0)
    outcome = command("run", *words, "--seed", "5", "--out", tmp_path)
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err == (
        "obstruction: interrupted; no network was counted yet and nothing was changed\n"
    )
    assert contents(tmp_path) == held


def test_an_interrupted_overwrite_holds_the_new_study(command, run, tmp_path, monkeypatch):
    run(tmp_path / "a", *SMALL)
    words = (*GRID, "--networks", "900", "--seed", "5", "--overwrite")
    with monkeypatch.context() as patch:
        interrupt(patch, signal.SIGTERM, 300)
        assert command("run", *words, "--out", tmp_path / "a").code == 143
    held = ob.load(tmp_path / "a")
    assert (held.networks, held.target, held.config.seed) == (300, 900, 5)
    resumed = run(tmp_path / "a", "--resume")
    assert resumed == run(tmp_path / "b", *words)


def test_an_interruption_while_drawing_loses_nothing(command, run, tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", *SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(heatmaps, "figure", lambda table: signal.raise_signal(signal.SIGINT))
        outcome = command("run", *SMALL, "--out", tmp_path / "a")
    assert outcome.code == 130
    assert "interrupted; 2,000 of 2,000 networks are saved in" in outcome.err
    assert run(tmp_path / "a", "--resume") == whole


def interrupt_weighted_sampling(monkeypatch, number):
    """Make the next runs receive a signal when a part of their weighted samples is drawn."""
    original = tilting.estimate

    def estimate(*words, watch, **options):
        original(*words, watch=lambda share: signal.raise_signal(number), **options)
        raise AssertionError("the signal was ignored")

    monkeypatch.setattr(tilting, "estimate", estimate)


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interruption_while_weighing_keeps_the_counts(
    name, quiet, command, run, tmp_path, monkeypatch
):
    words = (*RARE, "--samples", "900")
    whole = run(tmp_path / "whole", *words)
    number, out = signal.Signals[name], tmp_path / "a"
    with monkeypatch.context() as patch:
        interrupt_weighted_sampling(patch, number)
        outcome = command("run", *words, *quiet, "--out", out)
    assert (outcome.code, outcome.out) == (128 + number, "")
    advice = f"obstruction run --resume --out {out} --samples 900"
    kept = f"700 of 700 networks are saved in {out}, but table and pictures are not made yet"
    assert outcome.err == f"obstruction: interrupted; {kept}; go on with: {advice}\n"
    assert os.listdir(out) == ["checkpoint.npz"]
    held = ob.load(out)
    assert (held.networks, held.complete, held.rare) == (700, True, None)
    assert (held.estimator, held.samples) == ("auto", 900)
    assert command("check", out).code == 0
    resumed = command("run", "--resume", "--out", out)
    assert (resumed.code, resumed.err) == (0, "")
    assert "networks per cell drawn" not in resumed.out
    assert " weighted samples in " in resumed.out
    assert (out / "cells.csv").read_bytes() == whole
    assert set(os.listdir(out)) == FILES


def test_an_interrupted_change_of_estimator_leaves_the_study(command, run, tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", *RARE, "--estimator", "tilted", "--samples", "300")
    out = tmp_path / "a"
    before = run(out, *RARE, "--samples", "400")
    with monkeypatch.context() as patch:
        interrupt_weighted_sampling(patch, signal.SIGINT)
        words = ("--resume", "--estimator", "tilted", "--samples", "300", "--out", out)
        outcome = command("run", *words)
    assert outcome.code == 130
    advice = f"obstruction run --resume --out {out} --estimator tilted --samples 300"
    assert outcome.err.endswith(f"; go on with: {advice}\n")
    held = ob.load(out)
    assert (held.estimator, held.samples) == ("auto", 400)
    assert (out / "cells.csv").read_bytes() == before
    assert command(*shlex.split(advice)[1:]).code == 0
    assert (out / "cells.csv").read_bytes() == whole
    assert set(os.listdir(out)) == FILES


def test_more_signals_while_saving_are_ignored(command, tmp_path, monkeypatch):
    save = folder.save_checkpoint

    def disturbed(*words, **options):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        save(*words, **options)

    interrupt(monkeypatch, signal.SIGTERM, 700)
    monkeypatch.setattr(folder, "save_checkpoint", disturbed)
    assert command("run", *SMALL, "--out", tmp_path).code == 143
    assert ob.load(tmp_path).networks == 700


def test_checkpoints_on_the_way(command, run, tmp_path, monkeypatch):
    save, count = folder.save_checkpoint, Runner.run
    saved = []

    def note(study, path, *, replace):
        save(study, path, replace=replace)
        saved.append((ob.load(path).networks, replace))

    def stepwise(self, networks, *, start, threads, watch):
        watch(0)
        for part in (500, 1200, networks):
            count(self, part, threads=threads)
            watch(self.counted)

    run(tmp_path, *SMALL)
    monkeypatch.setattr(Runner, "run", stepwise)
    monkeypatch.setattr(folder, "save_checkpoint", note)
    words = ("run", *SMALL, "--seed", "3", "--overwrite", "--out", tmp_path)
    assert command(*words).code == 0
    assert saved == [(2000, True)]
    saved.clear()
    monkeypatch.setattr(running, "CHECKPOINT_SECONDS", 0.0)
    assert command(*words).code == 0
    assert saved == [(500, True), (1200, False), (2000, False), (2000, False)]


@pytest.mark.parametrize("place", ["checkpoint", "end"])
def test_a_full_disk_is_told_in_one_line(place, run, refused, tmp_path, monkeypatch):

    def full(descriptor):
        if place == "checkpoint" or (tmp_path / "checkpoint.npz").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        message = f"out = {tmp_path}: cannot be written (No space left on device)"
        assert message in refused("run", *SMALL, "--out", tmp_path)
    assert os.listdir(tmp_path) == ["checkpoint.npz"] * (place == "end")
    if place == "end":
        run(tmp_path, "--resume")


def test_what_an_interruption_left_behind_a_gap_is_not_taken_back(run, refused, tmp_path):
    """Of networks 0 to 999 some 700 are counted: 800 would be others than a run of 800 counts."""
    out, gaps = tmp_path / "a", ((0, 300), (600, 1000))
    run(out, *SMALL, "--networks", "700")
    finished = ob.load(out)
    folder.save_checkpoint(dataclasses.replace(finished, done=gaps, target=2000), out, replace=True)
    assert ob.load(out).networks == 700
    message = refused("run", "--resume", "--networks", "800", "--out", out)
    assert f"networks = 800: {out} holds 700 of the first 1,000 networks already" in message
    assert "ask for 1,000 or more" in message
    run(out, "--resume", "--networks", "1000")
    assert (ob.load(out).networks, ob.load(out).done) == (1000, ((0, 1000),))


# --- real processes ----------------------------------------------------------------------------

HURRIED = """
from obstruction.cli import main, running
running.CHECKPOINT_SECONDS = 0.0
main()
"""
LONG = ("--d", "1:20", "--l", "1:20", "--networks", "1e10", "--threads", "2")


def start(*words, **options):
    """Start a run in a process of its own that saves a checkpoint ten times a second."""
    line = [sys.executable, "-c", HURRIED, "run", *map(str, words)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def wait_for(path, process) -> None:
    for _ in range(1200):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_stop_a_long_run_within_a_second_or_so(name, command, run, tmp_path):
    out = tmp_path / "a"
    number = signal.Signals[name]
    process = start(*LONG, "--out", out)
    wait_for(out / "checkpoint.npz", process)
    begun = time.perf_counter()
    process.send_signal(number)
    printed, complaint = process.communicate(timeout=60)
    assert time.perf_counter() - begun < 3.0
    assert (process.returncode, printed) == (128 + number, b"")
    found = re.fullmatch(
        rf"obstruction: interrupted; ([\d,]+) of 10,000,000,000 networks are saved in {out}; "
        rf"go on with: obstruction run --resume --out {out}\n",
        complaint.decode(),
    )
    assert found
    held = ob.load(out)
    assert held.networks == int(found[1].replace(",", ""))
    assert command("check", out).code == 0
    target = held.done[-1][1] + 3000
    resumed = run(out, "--resume", "--networks", target)
    assert resumed == run(tmp_path / "b", *LONG, "--networks", target)


def killed(command, run, tmp_path, rounds) -> None:
    out, before = tmp_path / "a", 0
    chance = random.Random(0)
    for number in range(rounds):
        process = start(*(("--resume",) if number else LONG), "--out", out)
        wait_for(out / "checkpoint.npz", process)
        time.sleep((1.5 if number else 0.0) + chance.uniform(0.0, 0.6))
        process.kill()
        process.communicate(timeout=60)
        held = ob.load(out)
        assert before <= held.networks < held.target == 10**10
        assert command("check", out).code == 0
        before = held.networks
    target = held.done[-1][1] + 3000
    resumed = run(out, "--resume", "--networks", target)
    assert resumed == run(tmp_path / "b", *LONG, "--networks", target)


def test_kill_leaves_a_readable_folder(command, run, tmp_path):
    killed(command, run, tmp_path, 1)


@pytest.mark.slow
def test_kill_at_many_moments_leaves_a_readable_folder(command, run, tmp_path):
    killed(command, run, tmp_path, 12)


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["nested", "independent"])
def test_signals_stop_a_large_run_in_time(plan, tmp_path):
    grid = ("--d", "1:300", "--l", "1:300", "--networks", "1e8", "--plan", plan)
    process = start(*grid, "--out", tmp_path / "a")
    time.sleep(12.0)
    begun = time.perf_counter()
    process.send_signal(signal.SIGINT)
    complaint = process.communicate(timeout=60)[1]
    assert time.perf_counter() - begun < 3.0  # 0.3 and 0.6 s when nothing else runs
    assert process.returncode == 130
    assert complaint.startswith(b"obstruction: interrupted; ")


def on_a_terminal(*words) -> tuple[int, bytes, bytes]:
    """Run with standard error on a terminal of 80 columns; return code, output and that."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    seen = bytearray()

    def watch():
        try:
            while part := os.read(ours, 4096):
                seen.extend(part)
        except OSError:  # closed at the other end
            pass

    line = [sys.executable, "-c", "from obstruction.cli import main; main()", "run", *words]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    reader = threading.Thread(target=watch)
    reader.start()
    printed = process.communicate(timeout=120)[0]
    reader.join()
    os.close(ours)
    return process.returncode, printed, bytes(seen)


def test_progress_bar_is_one_line_on_a_terminal_and_goes_away(tmp_path):
    words = ("--d", "1:20", "--l", "1:20", "--networks", "6e5", "--samples", "2000")
    words += ("--out", str(tmp_path / "a"))
    code, printed, shown = on_a_terminal(*words)
    assert code == 0
    assert b"\n" not in shown
    assert b"networks/s]" in shown
    assert b"/600k" in shown
    assert re.search(rb"\d+%\|", shown)
    frames = shown.decode().split("\r")
    assert all(len(frame) <= 80 for frame in frames)
    assert frames[-1] == ""
    assert frames[-2].strip() == ""
    assert b"\r" not in printed
    assert set(os.listdir(tmp_path / "a")) == FILES
    assert (tmp_path / "a" / "heatmap.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a" / "heatmap.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("words", [(), ("--quiet",)])
def test_progress_bar_on_a_terminal_unless_quiet(words, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(SystemExit):
        main(["run", *RARE, *words, "--out", str(tmp_path)])
    assert ("networks/s]" in sys.stderr.getvalue()) == (not words)
    assert ("%/s]" in sys.stderr.getvalue()) == (not words)
