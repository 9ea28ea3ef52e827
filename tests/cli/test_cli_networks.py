"""Commands about a network: exit codes, formats, what goes where."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import obstruction as ob


def save(path, scale=1.0, seed=0, widths=(6, 20, 1), bias=True):
    """Write an .npz with a chain of layers whose last weights are scaled."""
    generator = np.random.default_rng(seed)
    arrays = {}
    for i in range(len(widths) - 1):
        last = i == len(widths) - 2
        factor = scale if last else 1.0
        arrays[f"{2 * i}.weight"] = factor * generator.standard_normal(widths[i : i + 2][::-1])
        if bias:
            arrays[f"{2 * i}.bias"] = generator.standard_normal(widths[i + 1])
    np.savez(path, **arrays)
    return path


@pytest.fixture
def frozen(tmp_path):
    return save(tmp_path / "frozen.npz", scale=2.0)


@pytest.fixture
def sound(tmp_path):
    return save(tmp_path / "sound.npz", scale=0.1)


def test_audit_tells_and_exits_with_one(command, frozen):
    outcome = command("audit", frozen, "--activation", "relu")
    assert (outcome.code, outcome.err) == (1, "")
    assert "OBSTRUCTED" in outcome.out
    assert outcome.out.startswith("frozen.npz")


def test_a_sound_network_exits_with_zero(command, sound):
    outcome = command("audit", sound, "--activation", "relu")
    assert (outcome.code, outcome.err) == (0, "")
    assert "CLEAR" in outcome.out


def test_json_is_alone_on_standard_output(command, frozen):
    outcome = command("audit", frozen, "--activation", "relu", "--format", "json")
    assert (outcome.code, outcome.err) == (1, "")
    content = json.loads(outcome.out)
    report = ob.audit(frozen, activation="relu")
    assert content["summary"] == report.summary()
    assert len(content["neurons"]) == 20
    outcome = command("audit", frozen, "--activation", "relu", "--format", "json", "--max", 2)
    assert len(json.loads(outcome.out)["neurons"]) == 2


def test_csv_is_the_table_of_neurons(command, frozen):
    outcome = command("audit", frozen, "--activation", "relu", "--format", "csv")
    table = pd.read_csv(io.StringIO(outcome.out), keep_default_na=False)
    assert table["status"].tolist() == ob.audit(frozen, "relu").neurons["status"].tolist()
    assert table["in_norm"].tolist() == ob.audit(frozen, "relu").neurons["in_norm"].tolist()


def test_max_bounds_the_neurons_listed(command, frozen):
    few = command("audit", frozen, "--activation", "relu", "--max", 1).out
    many = command("audit", frozen, "--activation", "relu", "--max", 100).out
    assert few.count("pathological  ") < many.count("pathological  ")
    assert "more" in few


def test_what_makes_it_fail_can_be_chosen(command, frozen, tmp_path):
    words = ("audit", frozen, "--activation", "relu", "--fail-on")
    assert command(*words, "never").code == 0
    assert command(*words, "boundary").code == 1
    edge = tmp_path / "edge.npz"
    np.savez(edge, W1=np.eye(2), W2=np.ones((1, 2)))
    words = ("audit", edge, "--activation", "relu", "--fail-on")
    assert command(*words, "pathological").code == 0
    outcome = command(*words, "boundary")
    assert outcome.code == 1
    assert "UNDECIDED" in outcome.out
    assert command(*words, "boundary", "--rtol", 0).code == 1


def test_targets(command, sound, tmp_path):
    words = ("audit", sound, "--activation", "relu")
    outcome = command(*words, "--negative", 20)
    assert outcome.code == 0
    assert "within reach" in outcome.out
    stuck = tmp_path / "stuck.npz"
    np.savez(stuck, W1=np.eye(2), W2=np.full((1, 2), 2.0))
    words = ("audit", stuck, "--activation", "relu", "--negative", 1)
    assert "OUT OF reach" in command(*words).out
    assert command(*words).code == 1
    assert command(*words, "--fail-on", "never").code == 0


def test_nothing_auditable_is_three(command, frozen):
    outcome = command("audit", frozen, "--activation", "tanh")
    assert (outcome.code, outcome.out) == (3, "")
    assert "tanh is not positively homogeneous" in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert command("repair", frozen, "--activation", "tanh", "--dry-run").code == 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "--activation"),
        (("--activation", "rleu"), "rleu"),
        (("--activation", "relu", "--layout", "sideways"), "layout"),
        (("--activation", "relu", "--layers", "0,7"), "layers"),
        (("--activation", "relu", "--scheme", "nonsense"), "nonsense"),
        (("--activation", "relu", "--format", "xml"), "format"),
        (("--activation", "relu", "--fail-on", "dead"), "fail-on"),
        (("--activation", "relu", "--max", "few"), "max"),
        (("--activation", "relu", "--rtol", "2"), "rtol"),
        (("--activation", "relu", "--negative", "21"), "negative"),
    ],
)
def test_wrong_use_is_one_line_and_two(refused, frozen, words, expected):
    assert expected in refused("audit", frozen, *words)


def test_unreadable_files(refused, tmp_path):
    assert "no such file" in refused("audit", tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    refused("audit", tmp_path / "text.npz")
    refused("inspect", tmp_path / "text.npz")
    refused("repair", tmp_path / "text.npz", "--dry-run")


def test_repair_writes_a_sound_network_of_the_same_format(command, refused, frozen, tmp_path):
    out = tmp_path / "fixed.npz"
    words = ("repair", frozen, "--activation", "relu")
    assert "--out" in refused(*words)
    outcome = command(*words, "--dry-run")
    assert outcome.code == 0
    assert "same function" in outcome.out
    assert list(tmp_path.iterdir()) == [frozen]
    assert command(*words, "--out", out).code == 0
    assert command("audit", out, "--activation", "relu").code == 0
    assert "is there already" in refused(*words, "--out", out)
    assert command(*words, "--out", out, "--overwrite").code == 0
    again = command("repair", out, "--activation", "relu", "--dry-run")
    assert "Nothing to repair" in again.out
    assert command(*words, "--margin", 0.5, "--scope", "frozen", "--dry-run").code == 0
    assert "margin" in refused(*words, "--margin", 0, "--dry-run")
    assert "scope" in refused(*words, "--scope", "some", "--dry-run")


def test_inspect_shows_tensors_and_layers(command, frozen):
    outcome = command("inspect", frozen, "--activation", "relu")
    assert outcome.code == 0
    assert "20 x 6" in outcome.out
    assert "0.weight" in outcome.out
    assert "float64" in outcome.out
    outcome = command("inspect", frozen)
    assert outcome.code == 0
    assert "0.weight" in outcome.out
    assert "--activation" in outcome.out


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 3, 3), (4,)])
def test_inspect_shows_what_makes_no_network(command, tmp_path, shape):
    path = tmp_path / "one.npz"
    np.savez(path, **{"conv.weight": np.zeros(shape)})
    outcome = command("inspect", path)
    assert outcome.code == 0
    assert " x ".join(map(str, shape)) in outcome.out
    assert "no chain of fully connected layers" in outcome.out
    assert command("audit", path, "--activation", "relu").code == 3


def test_a_repair_is_written_to_ordinary_files_of_its_format(refused, frozen, tmp_path):
    words = ("repair", frozen, "--activation", "relu", "--overwrite", "--out")
    assert "must end with '.npz'" in refused(*words, tmp_path / "fixed.pt")
    (tmp_path / "folder.npz").mkdir()
    assert "ordinary file" in refused(*words, tmp_path / "folder.npz")
    os.mkfifo(tmp_path / "pipe.npz")
    assert "ordinary file" in refused(*words, tmp_path / "pipe.npz")
    refused(*words, tmp_path / "missing" / "fixed.npz")


def test_audit_imports_neither_the_compiler_nor_the_plots(frozen):
    code = (
        "import sys; from obstruction.cli import main\n"
        "try: main()\n"
        "finally: print({'numba', 'matplotlib', 'seaborn', 'torch'} & set(sys.modules))"
    )
    line = [sys.executable, "-c", code, "audit", str(frozen), "--activation", "relu"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "set()"
