"""The commands that run the user's own code: ``laws``, and ``audit`` of an import path."""

from __future__ import annotations

import json
import sys

import pytest

import obstruction as ob
from obstruction.cli.factories import example_inputs

torch = pytest.importorskip("torch")

SOURCE = """
import torch
from torch import nn


def net(scale=1.0, outputs=1, kind="relu", zero=False):
    layers = {"relu": nn.ReLU, "tanh": nn.Tanh}
    model = nn.Sequential(nn.Linear(3, 5), layers[kind](), nn.Linear(5, outputs))
    with torch.no_grad():
        model[2].weight.mul_(scale)
        if zero:
            for parameter in model.parameters():
                parameter.zero_()
    return model


def dead_branch():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 5), nn.Linear(5, 2), nn.Linear(3, 2)
            nn.init.zeros_(self.a.weight)
            nn.init.zeros_(self.a.bias)

        def forward(self, x):
            return self.b(torch.relu(self.a(x))) + self.c(x)

    return Both()


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(7, 4), nn.Linear(4, 1)

    def forward(self, *, tokens, x):
        return self.head(torch.relu(self.words(tokens).mean(1))) + x


class Idle(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.net, self.idle = net(scale), nn.Parameter(torch.ones(3, 3))

    def forward(self, x):
        return self.net(x) + (self.idle * 0.0).sum()


ready = net()


def fails():
    raise KeyError("no such\\nthing")


def leaves():
    raise SystemExit(7)


def nothing():
    return None


def wordy():
    raise RuntimeError("one\\n" + "x" * 5000)


def wordless():
    raise ValueError


def not_finite():
    model = net()
    model[0].weight.data[0, 1] = float("nan")
    return model


def fixed():
    return net().requires_grad_(False)


def empty():
    return nn.ReLU()


class Runs(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.net, self.function = net(), function

    def forward(self, x):
        return self.function(self.net, x)


def says_text():
    return Runs(lambda net, x: "text")


def stops_running():
    def stop(net, x):
        raise SystemExit(7)

    return Runs(stop)


def words():
    class Means(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.head = nn.Embedding(7, 4), nn.Linear(4, 1)

        def forward(self, tokens):
            return self.head(torch.relu(self.words(tokens)).mean(1))

    return Means()


def prints():
    print("noise of the factory")
    return Runs(lambda net, x: print("noise of the model") or net(x))


def several():
    return Runs(lambda net, x: (net(x), {"hidden": [net[0](x)]}, None, 3))


def tied():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
    model[2].weight = model[0].weight
    return model


def half(kind="float16"):
    return net(0.25).to(getattr(torch, kind))


def normalised():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).eval()


def lazy():
    return nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.Linear(5, 1))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("code")
    (place / "own_code.py").write_text(SOURCE)
    (place / "breaks.py").write_text("1 / 0")
    yield place
    for name in ("own_code", "breaks"):
        sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_audit_runs_the_code_and_prints_the_report(command):
    before = list(sys.path)
    outcome = command("audit", "own_code:net", "--inputs", 3, "--call", "scale=9.0")
    assert (outcome.code, outcome.err) == (1, "")
    assert outcome.out.startswith("Sequential (PyTorch): 26 trained weights")
    assert "OBSTRUCTED" in outcome.out
    assert sys.path == before


def test_json_is_that_of_the_report_of_the_same_seed(command):
    words = ("audit", "own_code:net", "--inputs", 3, "--call", "scale=9.0", "--format", "json")
    outcome = command(*words, "--seed", 3)
    assert (outcome.code, outcome.err) == (1, "")
    torch.manual_seed(3)
    report = ob.audit(sys.modules["own_code"].net(scale=9.0), inputs=torch.randn(4, 3))
    found = json.loads(outcome.out)["summary"]
    assert found["frozen_weights"] == report.frozen_weights > 0
    assert found["smallest_margin"] == pytest.approx(report.smallest_margin, rel=1e-9)


def test_laws_are_printed_and_written_as_json(command):
    outcome = command("laws", "own_code:net", "--inputs", "3", "--call", "outputs=2")
    assert (outcome.code, outcome.err) == (0, "")
    assert "balance  5  writes 0.weight, 0.bias  reads 2.weight" in outcome.out
    content = json.loads(command("laws", "own_code:ready", "--inputs", "3", "--json").out)
    assert content["counts"] == {"balance": 5}
    assert content["laws"][0]["readers"] == ["2.weight"]


def test_named_inputs_and_whole_numbers(command):
    words = ("--inputs", "tokens=6:0..6", "--inputs", "x=1")
    outcome = command("laws", "own_code:Words", *words)
    assert outcome.code == 0
    assert "writes words.weight  reads head.weight" in outcome.out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("own_code:net", "--call", "zero=True"), 1),
        (("own_code:net", "--call", "zero=True", "--fail-on", "boundary"), 1),
        (("own_code:net", "--call", "zero=True", "--fail-on", "never"), 0),
        (("own_code:dead_branch",), 0),
        (("own_code:dead_branch", "--fail-on", "degenerate"), 1),
        (("own_code:net", "--call", "kind=tanh"), 0),
        (("own_code:Idle", "--call", "scale=0.01"), 3),
        (("own_code:Idle", "--call", "scale=9.0"), 1),
    ],
)
def test_exit_codes(command, words, code):
    assert command("audit", *words, "--inputs", "3").code == code


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("own_code:net",), "--inputs 3,64,64"),
        (("own_code:net", "--inputs", "3x4"), "inputs = '3x4'"),
        (("own_code:net", "--inputs", "3:9..1"), "9 is above 1"),
        (("own_code:net", "--inputs", "3", "--inputs", "x=3"), "different names"),
        (("own_code:net", "--inputs", "7"), "shape"),
        (("own_code:net", "--inputs", "3", "--call", "scale=1,outputs=2"), "repeat --call"),
        (("own_code:net", "--inputs", "3", "--call", "scale"), "KEY=VALUE"),
        (("own_code:net", "--inputs", "3", "--call", "size=3"), "TypeError"),
        (("own_code:net", "--inputs", "3", "--loss", "mse"), "cross_entropy"),
        (("own_code:net", "--inputs", "3", "--layers", "0,2"), "--layers 0: is about files"),
        (("own_code:net", "--inputs", "3", "--activation", "relu"), "--activation relu"),
        (("own_code:net", "--inputs", "3", "--positive", "1"), "--positive 1"),
        (("own_code:net", "--inputs", "3", "--seed", "x"), "seed"),
        (("own_code:ready", "--inputs", "3", "--call", "scale=2"), "takes no arguments"),
        (("own_code:fails", "--inputs", "3"), "KeyError"),
        (("own_code:leaves", "--inputs", "3"), "SystemExit"),
        (("own_code:missing", "--inputs", "3"), "own_code has no missing"),
        (("own_code:torch", "--inputs", "3"), "is a module"),
        (("breaks:net", "--inputs", "3"), "ZeroDivisionError"),
        (("no_such_module:net", "--inputs", "3"), "ModuleNotFoundError"),
        (("own_code:nothing", "--inputs", "3"), "own_code:nothing: returns None of type NoneType"),
        (("own_code:wordy", "--inputs", "3"), "RuntimeError: one xxx"),
        (("own_code:wordless", "--inputs", "3"), "ValueError"),
        (("own_code:not_finite", "--inputs", "3"), "model: 0.weight[0, 1] = nan: weights must be"),
        (("own_code:fixed", "--inputs", "3"), "no parameters that are trained"),
        (("own_code:empty", "--inputs", "3"), "no parameters that are trained"),
        (("own_code:says_text", "--inputs", "3"), "returns no array of floats"),
        (
            ("own_code:stops_running", "--inputs", "3"),
            "running the model failed with SystemExit",
        ),
        (
            ("own_code:net", "--inputs", "3", "--call", "scale=1", "--call", "scale=2"),
            "given twice",
        ),
        (("own_code:net", "--inputs", "0"), "inputs is empty"),
        (("own_code:net", "--inputs", "99999,99999,9"), "more than 1,000,000,000 numbers"),
        (("own_code:net", "--inputs", "3:0..99999999999999999999"), "must be below 2^63"),
        (("own_code:words", "--inputs", "3"), "inputs: the model could not be run with inputs of"),
        (("own_code:words", "--inputs", "3:0..99"), "IndexError"),
        (("json:net", "--inputs", "3"), "json has no net; it was imported from"),
        (("net.npz", "--inputs", "3"), "--inputs 3: is about what is run"),
        (("net.npz", "--fail-on", "degenerate"), "--fail-on degenerate"),
        (("net.npz", "--verbose"), "--verbose: is about what is run"),
    ],
)
def test_wrong_use_is_one_line(refused, words, expected):
    assert expected in refused("audit", *words)


def test_what_the_code_prints_is_no_part_of_the_report(command):
    done = command("laws", "own_code:prints", "--inputs", "3", "--json")
    assert done.code == 0
    assert json.loads(done.out)["counts"] == {"balance": 5}
    assert "noise of the factory" in done.err
    assert "noise of the model" in done.err


@pytest.mark.parametrize(
    ("factory", "counts"),
    [
        ("several", {}),  # an output shows the hidden layer: no channel can be scaled
        ("tied", {}),  # what writes a channel of the second layer writes one of the first, too
        ("half", {"balance": 5}),
        # a bias is constant, filters keep their norms in training mode, whatever mode was set
        ("normalised", {"balance": 4, "scale": 4, "constant": 4}),
        ("lazy", {"balance": 5}),
    ],
)
def test_models_that_are_unusual_have_their_laws(command, factory, counts):
    done = command("laws", f"own_code:{factory}", "--inputs", "3", "--json", "--seed", "0")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["counts"] == counts


def test_laws_need_an_import_path(refused):
    assert "package.module:factory" in refused("laws", "net.npz", "--inputs", "3")


def test_example_inputs():
    one = example_inputs(["2,5"], seed=0)
    assert (one.shape, one.dtype.kind) == ((4, 2, 5), "f")
    pair = example_inputs(["2", "300:-1..1"], seed=0)
    assert isinstance(pair, tuple)
    assert set(pair[1].ravel().tolist()) == {-1, 0, 1}
    assert (example_inputs(["2"], seed=1) != example_inputs(["2"], seed=2)).all()
