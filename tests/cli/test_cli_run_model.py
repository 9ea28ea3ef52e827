"""``obstruction run --model`` and what the other commands make of its folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import framework

import obstruction as ob
from obstruction.reporting import heatmaps
from obstruction.studies.factories import architecture
from obstruction.studies.factories.exact_sides import exact_sides
from obstruction.studies.factories.model_folder import load_models

torch = framework("torch")

SOURCE = """
import os
import signal
import time

from torch import nn

CALLS = []
SIGNAL = []  # the number of a call and the signal that it sends


def critic(width=8, observations=2, kind="relu", outputs=1):
    activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[kind]
    return nn.Sequential(nn.Linear(observations, width), activation(), nn.Linear(width, outputs))


def read(width=8):
    '''Look at a random number, so that each draw calls the whole factory.'''
    CALLS.append(width)
    if SIGNAL and len(CALLS) == SIGNAL[0]:
        signal.raise_signal(SIGNAL[1])
        time.sleep(0.5)  # the main thread notices it
    model = critic(width)
    assert abs(float(model[0].weight[0, 0].detach())) < 1.0
    return model


def slow(marker):
    CALLS.append(0)
    if len(CALLS) == 21:
        open(marker, "w").close()
    time.sleep(0.01)
    return read()


def at_once():
    CALLS.append(0)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1.0)
    return critic()


def breaks(after=8):
    CALLS.append(0)
    if len(CALLS) > after:
        raise KeyError("no such thing")
    model = critic()
    assert abs(float(model[0].weight[0, 0].detach())) < 1.0
    return model


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = critic(width)

    def forward(self, x):
        return self.inner(x)


ready = critic()


def nothing():
    return None


def hostile(kind):
    class_ = type("<script>alert(1)</script>", (nn.Sequential,), {})
    return class_(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
"""
FILES = ["cells.csv", "laws.csv", "run.json"]
PICTURES = ["heatmap.pdf", "heatmap.png"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("code")
    (place / "drawn_nets.py").write_text(SOURCE)
    yield place
    sys.modules.pop("drawn_nets", None)


@pytest.fixture(autouse=True)
def nets(folder, monkeypatch):
    """The module of the factories, with nothing counted."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    import drawn_nets

    drawn_nets.CALLS.clear()
    drawn_nets.SIGNAL.clear()
    return drawn_nets


@pytest.fixture
def run(command):
    """Run a study that must succeed; return what was printed."""

    def call(out, *words):
        outcome = command("run", "--out", out, *words)
        assert (outcome.code, outcome.err) == (0, "")
        return outcome.out

    return call


def words(name="critic", *more, networks=40, inputs="2"):
    return ("--model", f"drawn_nets:{name}", "--inputs", inputs, "--networks", networks, *more)


GRID = words("critic", "--grid", "width=4,8", "--grid", "observations=2:3", inputs="{observations}")


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def same(one, other):
    assert one.table().equals(other.table())
    assert one.by_law().equals(other.by_law())
    assert (one.axes, one.networks, one.seed) == (other.axes, other.networks, other.seed)


# --- what a run prints and writes --------------------------------------------------------------


def test_a_run_prints_the_study_the_verdict_and_the_files(run, tmp_path, nets):
    out = tmp_path / "a"
    printed = run(out, *words(networks=1500)).splitlines()
    assert printed[0].startswith("Sequential (PyTorch): 1,500 draws by its own initialisation, se")
    assert printed[1].startswith("P(some sign frozen) = ")
    assert "AGREES: the counts of 1 architecture and 1 side bear out the exact values." in printed
    assert printed[-1] == "Written: " + ", ".join(str(out / name) for name in FILES)
    assert sorted(os.listdir(out)) == FILES
    x = np.random.default_rng(0).standard_normal((4, 2))
    same(load_models(out), ob.sample_model(nets.critic, inputs=x, networks=1500))


def test_arguments_loss_and_seed_reach_the_draws(run, tmp_path, nets):
    options = (
        "--call",
        "width=5",
        "--call",
        "outputs=2",
        "--seed",
        3,
        "--loss",
        "cross_entropy",
        "--quiet",
    )
    assert run(tmp_path / "a", *words("critic", *options)) == ""
    x = np.random.default_rng(3).standard_normal((4, 2))
    same(
        load_models(tmp_path / "a"),
        ob.sample_model(
            lambda: nets.critic(5, outputs=2), inputs=x, networks=40, seed=3, loss="cross_entropy"
        ),
    )


def test_a_class_is_a_factory(run, tmp_path):
    assert "Net (PyTorch)" in run(tmp_path / "a", *words("Net", "--call", "width=4"))


def test_a_grid_with_two_axes_is_drawn(run, tmp_path):
    out = tmp_path / "a"
    printed = run(out, *GRID)
    assert "4 architectures, 40 draws each" in printed
    assert sorted(os.listdir(out)) == sorted([*FILES, *PICTURES])
    assert str(out / "heatmap.png") in printed.splitlines()[-1]
    assert ob.load(out).axes == {"width": (4, 8), "observations": (2, 3)}
    assert ob.load(out).by_law()["others"].tolist() == [3.0, 4.0, 3.0, 4.0]


def test_a_grid_of_texts_has_no_heatmap(run, tmp_path):
    run(
        tmp_path / "a",
        *words("critic", "--grid", "kind=relu,tanh", "--grid", "width=4", networks=2),
    )
    assert sorted(os.listdir(tmp_path / "a")) == FILES
    assert ob.load(tmp_path / "a").axes == {"kind": ("relu", "tanh"), "width": (4,)}


def test_without_exact_values_nothing_is_tested_and_all_is_well(command, tmp_path):
    outcome = command("run", *words("read"), "--out", tmp_path / "a")
    assert outcome.code == 0
    assert "\nUNTESTED: of 1 architecture and 1 side, none has an exact value" in outcome.out
    assert "Untested: 1 architecture and 1 side: no exact value, since each draw calls the" in (
        " ".join(outcome.out.split())
    )
    assert command("check", tmp_path / "a").code == 0


def forgotten_bias(sides, laws, shapes):
    """Take the exact values for those without a bias."""
    found = exact_sides(sides, laws, shapes)
    return found._replace(
        probability=ob.exact.obstruction_probability("torch_linear:bias=none", 2, 8),
        shares=(ob.exact.pathological_probability("torch_linear:bias=none", 2, 8),),
    )


def test_disagreement_exits_with_1(command, tmp_path, monkeypatch):
    monkeypatch.setattr(architecture, "exact_sides", forgotten_bias)
    outcome = command("run", *words(networks=1500), "--out", tmp_path / "a")
    assert outcome.code == 1
    assert "\nDISAGREES: 2 of 2 tests contradict the exact value." in outcome.out
    assert command("run", *words(networks=1500), "--quiet", "--out", tmp_path / "b").code == 1
    assert command("run", "--resume", "--out", tmp_path / "a").code == 1
    checked = command("check", tmp_path / "a")
    assert checked.code == 1
    assert "\nDISAGREES: 2 of 2 tests" in checked.out
    ob.write_report(tmp_path / "a", tmp_path / "page.html")
    assert 'class="verdict disagrees"' in (tmp_path / "page.html").read_text()


# --- wrong use ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (words("ready"), "drawn_nets:ready: is a model already; each draw needs a new one"),
        (words("missing"), "drawn_nets has no missing"),
        (words("os"), "drawn_nets:os: is a module, and no factory or model"),
        (words("nothing"), "model = None"),
        (
            ("--model", "nets.py", "--inputs", 2),
            "model = 'nets.py': must be package.module:factory",
        ),
        (
            ("--model", "drawn_nets:critic"),
            "give the shape of its inputs, such as --inputs 3,64,64",
        ),
        (words(inputs="2x2"), "inputs = '2x2': must be a shape"),
        (words(inputs="7"), "the model could not be run with inputs of"),
        (
            words("critic", "--call", "size=3"),
            "critic() got an unexpected keyword argument",
        ),
        (words("critic", "--call", "seed=3"), "each draw has a seed of its own"),
        (words("critic", "--call", "width=3", "--call", "width=4"), "width is given twice"),
        (words("critic", "--call", "width=3", "--grid", "width=4"), "width is given by --call"),
        (words("critic", "--grid", "width"), "grid = 'width': must be KEY=AXIS"),
        (words("critic", "--grid", "width=4,"), "grid = 'width=4,': must be KEY=AXIS"),
        (words("critic", "--grid", "width=4", "--grid", "width=5"), "width is given twice"),
        (words("critic", "--grid", "width=9:4"), "stops at 4, before it starts at 9"),
        (words("critic", "--grid", "size=4"), "factory: cannot be called with the keywords size"),
        (words("critic", "--grid", "width=4,4"), "must hold values that differ"),
        (words(inputs="{width}"), "inputs: {width} is no axis; --grid width=... makes one"),
        (words("critic", "--loss", "mse"), "loss = 'mse': must be None or one of"),
        (words(networks="0"), "networks = 0"),
        (words("critic", "--seed", "-1"), "seed = -1"),
        (words("critic", "--level", "0.95"), "level = 0.95"),
        (words("breaks", "--call", "after=3"), "KeyError"),
        (words("critic", "--d", "3"), "--d is about a grid of (d, l), and not about a model"),
        (words("critic", "--l", "3"), "--l is about a grid"),
        (words("critic", "--scheme", "lecun_normal"), "--scheme is about a grid"),
        (words("critic", "--plan", "nested"), "--plan is about a grid"),
        (words("critic", "--threads", "1"), "--threads is about a grid"),
        (words("critic", "--estimator", "direct"), "--estimator is about a grid"),
        (words("critic", "--samples", "9"), "--samples is about a grid"),
        (("--call", "width=3"), "--call needs --model package.module:factory"),
        (("--inputs", "3"), "--inputs needs --model"),
        (("--loss", "cross_entropy"), "--loss needs --model"),
        (("--grid", "width=3"), "--grid needs --model"),
        (words("critic", "--resume"), "holds no study to resume"),
        (words("critic", "--resume", "--overwrite"), "exclude each other"),
    ],
)
def test_wrong_use_is_one_line_and_touches_nothing(refused, given, message, tmp_path):
    assert message in refused("run", *given, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_factory_that_fails_later_loses_no_draws(refused, tmp_path):
    message = refused("run", *words("breaks"), "--out", tmp_path / "new")
    assert "KeyError" in message
    held = int(re.search(r"(\d+) of 40 draws are saved in", message)[1])
    assert 0 < held < 8
    assert ob.load(tmp_path / "new").cells[0].counts.networks == held


# --- a folder that holds a study ---------------------------------------------------------------


def test_a_second_run_refuses(run, refused, tmp_path):
    run(tmp_path / "a", *words())
    before = contents(tmp_path / "a")
    message = refused("run", *words(), "--out", tmp_path / "a")
    assert "holds a study already; --overwrite replaces it, --resume goes on with it" in message
    assert contents(tmp_path / "a") == before


def test_resume_draws_what_is_missing(run, tmp_path, nets):
    out = tmp_path / "a"
    run(out, *words("read"))
    nets.CALLS.clear()
    printed = run(out, "--resume", "--networks", 50)  # the factory is that of the folder
    assert "50 draws by its own initialisation" in printed
    assert len(nets.CALLS) == 10 + 4  # to find the laws, to see the same start, and to record
    run(tmp_path / "b", *words("read", networks=50))
    same(ob.load(out), ob.load(tmp_path / "b"))
    (out / "cells.csv").unlink()
    run(out, "--resume", "--networks", 51, "--model", "drawn_nets:read", "--inputs", 2)
    assert sorted(os.listdir(out)) == FILES


def test_resume_adds_values_to_a_grid(run, tmp_path, nets):
    out = tmp_path / "a"
    run(out, *words("read", "--grid", "width=4,6"))
    nets.CALLS.clear()
    run(out, "--resume", "--grid", "width=4,6,8")
    assert set(nets.CALLS) == {8}
    assert ob.load(out).axes == {"width": (4, 6, 8)}


@pytest.mark.parametrize("more", [(), ("--networks", 40), ("--seed", 0, "--inputs", 2)])
def test_resume_of_a_complete_study_draws_nothing(run, tmp_path, nets, more):
    out = tmp_path / "a"
    run(out, *words("read"))
    before = contents(out)
    nets.CALLS.clear()
    printed = run(out, "--resume", *more)
    assert f"{out} holds these 40 draws already; nothing to draw.\nUNTESTED" in printed
    assert run(out, "--resume", "--quiet", *more) == ""
    assert (nets.CALLS, contents(out)) == ([], before)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--seed", 1), "holds another study: seed is 0 there"),
        (("--loss", "cross_entropy"), "holds another study: loss is None there"),
        (("--model", "drawn_nets:read"), "model is drawn_nets:read here and drawn_nets:critic th"),
        (("--call", "width=9"), "call is width=9 here and not given there"),
        (("--grid", "width=9"), "holds another study: it has no grid"),
        (("--networks", 39), "networks = 39: {out} holds 40 networks already"),
        (("--d", "3"), "--d is about a grid of (d, l), and not about a model"),
    ],
)
def test_resume_refuses_another_study(run, refused, tmp_path, given, message):
    out = tmp_path / "a"
    run(out, *words())
    before = contents(out)
    assert message.format(out=out) in refused("run", "--resume", *given, "--out", out)
    assert contents(out) == before


def test_a_study_that_a_program_made_is_continued_with_its_factory(run, refused, tmp_path, nets):
    x = np.random.default_rng(0).standard_normal((4, 2))
    ob.sample_model(nets.critic, inputs=x, networks=20, out=tmp_path)
    resume = ("run", "--resume", "--networks", 30, "--out", tmp_path)
    assert "does not say what made its models; give --model" in refused(*resume)
    run(tmp_path, *words(networks=30), "--resume")
    same(ob.load(tmp_path), ob.sample_model(nets.critic, inputs=x, networks=30))
    assert ob.sample_model(nets.critic, inputs=x, networks=31, out=tmp_path).origin == {
        "model": "drawn_nets:critic",
        "call": [],
        "inputs": ["2"],
    }


def test_studies_of_both_kinds_are_told_apart(run, command, refused, tmp_path):
    sizes = ("--d", 2, "--l", "1,2", "--networks", 100)
    run(tmp_path / "a", *words())
    assert command("run", *sizes, "--out", tmp_path / "b").code == 0
    assert isinstance(ob.load(tmp_path / "a"), ob.ModelStudy)
    assert isinstance(ob.load(tmp_path / "b"), ob.Study)
    message = refused("run", *words(), "--resume", "--out", tmp_path / "b")
    assert "holds a study of (d, l), and not of models" in message
    with pytest.raises(ValueError, match=r"run\.json: is a study of models, and not of \(d, l\)"):
        ob.replay(tmp_path / "a", network=0, d=2, l=1, scheme="lecun_normal")
    assert command("run", *sizes, "--overwrite", "--out", tmp_path / "a").code == 0
    assert isinstance(ob.load(tmp_path / "a"), ob.Study)
    assert sorted(os.listdir(tmp_path / "a")) == ["cells.csv", *PICTURES, "run.json"]
    run(tmp_path / "b", *words(), "--overwrite")
    assert isinstance(ob.load(tmp_path / "b"), ob.ModelStudy)
    assert sorted(os.listdir(tmp_path / "b")) == FILES


def test_overwrite_replaces(run, tmp_path):
    out = tmp_path / "a"
    run(out, *GRID)
    run(out, *words("critic", "--seed", 1, networks=30), "--overwrite")
    assert sorted(os.listdir(out)) == FILES
    run(tmp_path / "b", *words("critic", "--seed", 1, networks=30))
    same(ob.load(out), ob.load(tmp_path / "b"))
    assert contents(out)["laws.csv"] == contents(tmp_path / "b")["laws.csv"]
    (out / "run.json").write_text("torn")
    run(out, *words(), "--overwrite")
    assert ob.load(out).networks == 40


def test_an_overwrite_that_fails_leaves_the_old_study(run, refused, tmp_path):
    out = tmp_path / "a"
    run(out, *words())
    before = contents(out)
    for name in ("missing", "breaks"):
        refused("run", *words(name), "--overwrite", "--out", out)
        assert files_of(out) == before
    run(out, *words("critic", "--seed", 2), "--overwrite")
    assert ob.load(out).seed == 2


def files_of(path):
    """Return the files of a folder, without those in folders below it."""
    return {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}


# --- interruption ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_run_goes_on_to_the_same_end(name, command, run, tmp_path, nets):
    run(tmp_path / "whole", *words("read", "--grid", "width=4,6"))
    number, out = signal.Signals[name], tmp_path / "my results"
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    nets.CALLS.clear()
    nets.SIGNAL[:] = [60, number]
    outcome = command("run", *words("read", "--grid", "width=4,6"), "--quiet", "--out", out)
    assert (outcome.code, outcome.out) == (128 + number, "")
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    advice = f"obstruction run --resume --out {shlex.quote(str(out))}"
    found = re.fullmatch(
        rf"obstruction: interrupted; (\d+) of 80 draws are saved in {out}; go on with: "
        rf"{re.escape(advice)}\n",
        outcome.err,
    )
    held = ob.load(out)
    assert int(found[1]) == sum(cell.counts.networks for cell in held.cells) < 80
    assert not held.complete
    checked = command("check", out)
    assert checked.code == 0
    assert "(interrupted)" in checked.out
    nets.SIGNAL.clear()
    nets.CALLS.clear()
    resumed = command(*shlex.split(advice)[1:])
    assert (resumed.code, resumed.err) == (0, "")
    assert len(nets.CALLS) < 80
    same(ob.load(out), ob.load(tmp_path / "whole"))
    assert sorted(os.listdir(out)) == FILES


def test_an_interruption_before_the_first_draw_changes_nothing(command, run, tmp_path):
    outcome = command("run", *words("at_once"), "--out", tmp_path / "new")
    assert outcome.code == 130
    assert outcome.err == (
        "obstruction: interrupted; no draw was counted yet and nothing was changed\n"
    )
    assert not (tmp_path / "new").exists()
    run(tmp_path / "a", *words())
    before = contents(tmp_path / "a")
    words_ = (*words("at_once"), "--overwrite", "--out", tmp_path / "a")
    assert command("run", *words_).code == 130
    assert contents(tmp_path / "a") == before


def test_an_interrupted_overwrite_keeps_both_studies(command, run, tmp_path, nets):
    out = tmp_path / "a"
    run(out, *words())
    before = contents(out)
    new = words("read", "--seed", 4, networks=60)
    nets.SIGNAL[:] = [40, signal.SIGINT]
    outcome = command("run", *new, "--overwrite", "--out", out)
    assert outcome.code == 130
    assert "beside the study that they will replace; go on with: " in outcome.err
    advice = shlex.split(outcome.err.rpartition("go on with: ")[2])
    assert files_of(out) == before
    nets.SIGNAL.clear()
    nets.CALLS.clear()
    assert command(*advice[1:]).code == 0
    assert len(nets.CALLS) < 60
    assert sorted(os.listdir(out)) == FILES
    run(tmp_path / "b", *new)
    same(ob.load(out), ob.load(tmp_path / "b"))


def test_an_overwrite_of_another_model_does_not_use_what_was_saved(command, run, tmp_path, nets):
    out = tmp_path / "a"
    run(out, *words())
    nets.SIGNAL[:] = [40, signal.SIGINT]
    new = words("read", "--seed", 4, networks=60)
    assert command("run", *new, "--overwrite", "--out", out).code == 130
    nets.SIGNAL.clear()
    other = words("critic", "--seed", 5, networks=20)
    run(out, *other, "--overwrite")
    run(tmp_path / "b", *other)
    same(ob.load(out), ob.load(tmp_path / "b"))
    assert sorted(os.listdir(out)) == FILES


def test_an_interruption_while_drawing_loses_nothing(command, run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(heatmaps, "figure", lambda table, axes: signal.raise_signal(signal.SIGINT))
        outcome = command("run", *GRID, "--out", tmp_path / "a")
    assert outcome.code == 130
    assert "160 of 160 draws are saved in" in outcome.err
    assert "but not all files are made yet" in outcome.err
    run(tmp_path / "a", "--resume")
    assert sorted(os.listdir(tmp_path / "a")) == sorted([*FILES, *PICTURES])


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signals_stop_a_process(name, tmp_path, command):
    out, marker = tmp_path / "a", tmp_path / "marker"
    call = ("--call", f"marker={marker}")
    line = ["-c", "from obstruction.cli import main; main()", "run", "--out", str(out)]
    line += [str(word) for word in words("slow", *call, networks=100_000)]
    process = subprocess.Popen(
        [sys.executable, *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(ob.__file__).parents[1])},
    )
    for _ in range(1200):
        if marker.exists():
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    assert marker.exists()
    begun = time.perf_counter()
    process.send_signal(signal.Signals[name])
    printed, complaint = process.communicate(timeout=60)
    assert time.perf_counter() - begun < 5.0
    assert (process.returncode, printed) == (128 + signal.Signals[name], b"")
    assert b" of 100,000 draws are saved in " in complaint
    held = ob.load(out)
    assert 0 < held.cells[0].counts.networks < 100_000
    assert command("check", out).code == 0


# --- check, plot and report of such a folder ---------------------------------------------------


@pytest.fixture(scope="module")
def grid(folder, tmp_path_factory):
    """A folder with a study of a grid, and the study."""
    from obstruction.cli import main

    out = tmp_path_factory.mktemp("grid") / "a"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with pytest.raises(SystemExit):
            main(["run", *map(str, GRID), "--quiet", "--out", str(out)])
    return out, ob.load(out)


def test_check_prints_the_study_and_the_verdict(grid, command):
    out, study = grid
    checked = command("check", out)
    assert (checked.code, checked.err) == (0, "")
    assert checked.out == f"{study}\n{study.agreement()}\n"
    assert study.agreement()
    assert "level 1e-05" not in command("check", out, "--level", "1e-5").out


def test_plot_draws_a_grid(grid, command, refused, run, tmp_path):
    out, _ = grid
    for name in PICTURES:
        (out / name).unlink()
    drawn = command("plot", out)
    assert drawn.out.split() == [str(out / name) for name in ("heatmap.png", "heatmap.pdf")]
    logs = command("plot", out, "--value", "log10", "--out", tmp_path / "log.png")
    assert (logs.code, (tmp_path / "log.pdf").exists()) == (0, True)
    run(tmp_path / "one", *words(networks=2))
    message = refused("plot", tmp_path / "one")
    assert "needs a grid with two axes of whole numbers of at least 1; this one has no grid" in (
        message
    )


def test_heatmaps_of_studies_and_folders(grid):
    out, study = grid
    first = ob.heatmap(study.table(), axes=("width", "observations"))
    for source in (study, out, str(out)):
        ax = ob.heatmap(source)
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("width", "observations")
        assert np.array_equal(ax.collections[0].get_array(), first.collections[0].get_array())
    turned = ob.heatmap(study, "exact", axes=("observations", "width"))
    assert turned.get_xlabel() == "observations"
    schemes = ob.sample("lecun_normal", d=[1, 2], l=[1, 2], networks=100)
    assert ob.heatmap(schemes).get_xlabel() == "inputs $d$"


def test_the_report_has_all_parts(grid, command, tmp_path):
    framework("jinja2")
    out, study = grid
    assert command("report", out).out == f"{out / 'report.html'}\n"
    text = (out / "report.html").read_text(encoding="utf-8")
    (out / "report.html").unlink()
    ob.write_report(out, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == text
    plain = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text))
    for sentence in study.agreement().sentences():
        assert sentence in plain
    for heading in ("Summary", "Figures", "By law", "How the draws were made", "Provenance"):
        assert f">{heading}</h2>" in text
    assert "default-src 'none'; script-src 'none'" in unescape(text)
    assert "<script" not in text
    assert "http" not in text.replace("https://arxiv.org/abs/2410.14837", "").replace(
        "http-equiv", ""
    )
    assert "Each draw fills only the parameters in these balances" in plain
    assert plain.count(" 2.weight ") == 4
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</tr>", text)
    assert len(rows) == 4 + 4
    assert "--grid width=4,8 --grid observations=2,3 --networks 40 --seed 0" in plain
    assert 'alt="Heatmaps over width (to the right) and observations (upwards)' in text


def test_the_report_s_command_makes_the_same_study(grid, command, tmp_path):
    framework("jinja2")
    _, study = grid
    ob.write_report(study, tmp_path / "page.html")
    text = unescape((tmp_path / "page.html").read_text(encoding="utf-8"))
    line = re.search(r"<code>(obstruction run [^<]*)</code>", text)[1]
    assert command(*shlex.split(line)[1:], "--out", tmp_path / "b").code == 0
    same(ob.load(tmp_path / "b"), study)


def test_the_report_of_a_single_model_without_exact_value(run, tmp_path):
    framework("jinja2")
    run(tmp_path, *words("read"))
    path = ob.write_report(tmp_path, tmp_path / "page.html")
    text = path.read_text(encoding="utf-8")
    assert 'class="verdict untested"' in text
    assert (
        "Each draw calls the whole factory: a random number or the state of a generator was read"
        in text
    )
    assert "Figures" not in text
    assert "<img" not in text


def test_hostile_names_are_text_in_the_report(run, tmp_path):
    framework("jinja2")
    name = "<img src=x onerror=alert(1)>"
    run(tmp_path, *words("hostile", "--grid", f"kind={name}", networks=3))
    text = ob.write_report(tmp_path, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text


# --- tables ------------------------------------------------------------------------------------


def test_tables_of_models(grid, command, tmp_path):
    out, study = grid
    printed = command("table", out, "--rows", "width=8,4", "--columns", "observations").out
    lines = printed.splitlines()
    assert lines[0].startswith("Probability that a draw of `Sequential` by its own initialisation")
    assert lines[2].startswith("| `width` | `observations = 2`, exact | `observations = 2`, emp")
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| 8", "| 4"]
    first = study.table().iloc[2]
    assert f"| 8 | {first['exact']:.4g} | {first['empirical']:.2f} [" in lines[4]
    path = tmp_path / "table.csv"
    command("table", out, "--rows", "width", "--rows", "observations", "--out", path)
    rows = pd.read_csv(path)
    for name in ("width", "observations", "networks", "obstructed"):
        assert rows[name].tolist() == study.table()[name].tolist()
    latex = command(
        "table", out, "--rows", "observations", "--columns", "width", "--format", "latex"
    )
    assert r"\multicolumn{2}{c}{\texttt{width = 4}}" in latex.out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--rows", "d"), "rows: 'd' is none of width, observations"),
        (("--rows", "width"), "observations: is in neither rows nor columns"),
        (("--rows", "width", "--columns", "width"), "columns: width is among the rows already"),
        (("--rows", "width", "--rows", "width"), "rows: width is given twice"),
        (("--rows", "width=3", "--columns", "observations"), "the study has width = 4, 8"),
        (("--rows", "width", "--scheme", "lecun_normal"), "is about studies of (d, l)"),
    ],
)
def test_tables_of_models_refuse_other_axes(grid, refused, given, message):
    out, _ = grid
    assert message in refused("table", out, *given)


def test_the_table_of_a_single_model_says_why_it_has_no_exact_value(run, command, tmp_path):
    run(tmp_path, *words("read"))
    printed = command("table", tmp_path, "--rows", "model").out
    assert "| `Sequential` | — | " in printed
    assert "— no exact value, since each draw calls the whole factory: a random number" in printed


def test_reports_of_models_take_no_sizes(grid, refused, tmp_path):
    framework("jinja2")
    out, _ = grid
    assert "d = [2]: is about a study of (d, l), not of models" in refused("report", out, "--d", 2)
    assert not (out / "report.html").exists()


# --- the verdict in words ----------------------------------------------------------------------


def test_the_verdict_reads_well(grid):
    _, study = grid
    agreement = study.agreement(level=0.01)
    lines = str(agreement).splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert all(line.startswith("  ") for line in lines[1:])
    text = " ".join(str(agreement).split())
    assert text.startswith("AGREES: the counts of 4 architectures and 4 sides bear out the exact")
    assert "has probability at most 0.01, whatever the dependence between the tests (4 tests" in (
        text
    )
    worst = agreement.worst
    assert worst["p_value"] == np.nanmin(agreement.p_values)
    assert f"adjusted {worst['p_adjusted']:.2g}." in text
    assert json.loads(json.dumps(agreement.to_dict()))["tests"] == {"networks": 4, "weights": 4}
    assert agreement.number("weights") == (4, 4)


def test_the_verdict_is_true_only_if_it_agrees(nets):
    x = np.random.default_rng(0).standard_normal((4, 2))
    untested = ob.sample_model(nets.read, inputs=x, networks=3).agreement()
    assert (untested.verdict, bool(untested), untested.untested) == ("untested", False, 2)
    wrong = ob.sample_model(nets.critic, inputs=x, networks=400, exact=0.9).agreement()
    assert (wrong.verdict, bool(wrong)) == ("disagrees", False)
    assert "DISAGREES: 1 of 2 tests contradict the exact value." in str(wrong)
    assert "Worst: draws with a frozen sign: rate" in " ".join(str(wrong).split())
    free = ob.sample_model(lambda: nets.critic(kind="tanh"), inputs=x, networks=3).agreement()
    assert "no weight is alone on a side" in " ".join(str(free).split())
