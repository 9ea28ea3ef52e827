"""Starts from which nothing can learn, compared with what gradients really change."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from conftest import framework

import obstruction as ob
from obstruction.auditing.learning import can_learn
from obstruction.cli import main
from obstruction.models.contents import Tensor
from obstruction.models.model import Layer

KINDS = ("relu", "leaky_relu", "linear")


def arrays(*widths, seed=0, bias=True):
    """Return weights ``(outputs, inputs)`` and biases of a chain, or None for these."""
    random = np.random.default_rng(seed)
    found = []
    for inputs, outputs in itertools.pairwise(widths):
        found.append(random.normal(size=(outputs, inputs)))
        found.append(random.normal(size=outputs) if bias else None)
    return found


def layers(parts):
    made = []
    for i in range(0, len(parts), 2):
        bias = None if parts[i + 1] is None else Tensor(f"b{i}", parts[i + 1], "float64")
        made.append(Layer(f"fc{i}", Tensor(f"w{i}", parts[i], "float64"), bias, "out_in"))
    return made


def zeroed(parts, *indices):
    return [
        np.zeros_like(one) if i in indices and one is not None else one
        for i, one in enumerate(parts)
    ]


def moves(torch, parts, kind, steps=8):
    """Return whether the outputs differ between inputs after steps along gradients."""
    values = [None if one is None else torch.tensor(one, requires_grad=True) for one in parts]
    torch.manual_seed(0)
    inputs = torch.randn(64, parts[0].shape[1], dtype=torch.float64)
    target = torch.randn(64, parts[-2].shape[0], dtype=torch.float64)
    functions = {
        "relu": torch.relu,
        "leaky_relu": torch.nn.functional.leaky_relu,
        "linear": lambda x: x,
    }

    def outputs():
        x = inputs
        for i in range(0, len(values), 2):
            x = x if i == 0 else functions[kind](x)
            x = torch.nn.functional.linear(x, values[i], values[i + 1])
        return x

    trained = [one for one in values if one is not None]
    for _ in range(steps):
        gradients = torch.autograd.grad(((outputs() - target) ** 2).mean(), trained)
        with torch.no_grad():
            for value, gradient in zip(trained, gradients, strict=True):
                value -= 0.05 * gradient
    with torch.no_grad():
        found = outputs()
    return bool((found != found[0]).any())


# --- single patterns, each with its reason ------------------------------------------------------


@pytest.mark.parametrize(
    ("zeros", "expected"),
    [
        ((), (True, True, True)),
        ((0, 1), (False, True, True)),  # a layer before a ReLU: its derivative at 0 is 0
        ((0,), (True, True, True)),  # a ReLU with a positive bias lets gradients pass
        ((2, 3), (False, True, True)),
        ((4, 5), (True, True, True)),  # outputs that start at zero learn
        ((0, 1, 2), (False, False, False)),  # nothing comes in and no gradient comes back
        ((0, 1, 3, 4), (False, False, False)),  # the same, although no two layers in a row are zero
        ((0, 1, 4), (False, True, True)),  # the biases between them bring gradients
        ((2, 4), (True, True, True)),
        ((2, 3, 4), (False, False, False)),
        ((0, 1, 2, 3, 4, 5), (False, False, False)),
    ],
)
def test_whole_layers_of_zeros(zeros, expected):
    torch = framework("torch")
    parts = arrays(3, 4, 5, 2)
    parts[1::2] = [np.abs(bias) for bias in parts[1::2]]
    parts = zeroed(parts, *zeros)
    for kind, learns in zip(KINDS, expected, strict=True):
        assert can_learn(layers(parts), [kind] * 2) is learns, kind
        assert moves(torch, parts, kind) is learns, kind


def test_a_relu_that_reads_a_negative_bias_alone_is_off_for_ever():
    torch = framework("torch")
    parts = zeroed(arrays(3, 4, 2), 0)
    parts[1] = -np.abs(parts[1])
    assert can_learn(layers(parts), ["relu"]) is moves(torch, parts, "relu") is False
    assert can_learn(layers(parts), ["linear"]) is moves(torch, parts, "linear") is True
    report = report_of(parts)
    assert (report.verdict, report.summary()["dead"]) == ("degenerate", 0)
    assert "nothing in it can learn: too many weights are zero" in " ".join(str(report).split())
    parts[1][0] = 1.0
    assert can_learn(layers(parts), ["relu"]) is moves(torch, parts, "relu") is True


def test_a_layer_that_reads_only_dead_neurons_is_dead():
    torch = framework("torch")
    first, second, last = np.eye(2), np.array([[1.0, 0.0]]), np.array([[1.0]])
    first[0] = 0.0
    parts = [first, None, second, None, last, None]
    assert can_learn(layers(parts), ["relu"] * 2) is moves(torch, parts, "relu") is False
    assert can_learn(layers(parts), ["linear"] * 2) is moves(torch, parts, "linear") is True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [False, True])
def test_random_zeros(kind, bias):
    """What is said to be stuck never moves; what is said to move does, up to bad luck of ReLU."""
    torch = framework("torch")
    random = np.random.default_rng(1)
    counts = {True: 0, False: 0}
    for seed in range(150):
        parts = arrays(2, *random.integers(1, 4, size=random.integers(1, 4)), 2, seed=seed)
        parts = [
            None if one is None or (i % 2 and not bias) else one * (random.random(one.shape) < keep)
            for i, one in enumerate(parts)
            for keep in [random.choice([0.0, 0.4, 1.0])]
        ]
        links = len(parts) // 2 - 1
        learns = can_learn(layers(parts), [kind] * links)
        counts[learns] += 1
        if not learns:
            assert not moves(torch, parts, kind, steps=12), seed
        else:  # with other numbers in the same places, as a ReLU may always be off
            found = (
                [
                    None if one is None else one * random.uniform(0.5, 2.0, one.shape) * sign
                    for one, sign in zip(parts, signs, strict=True)
                ]
                for signs in itertools.product((1.0, -1.0), repeat=len(parts))
            )
            assert any(moves(torch, one, kind) for one in found), seed
    assert min(counts.values()) > 10


@pytest.mark.parametrize("layout", ["C", "F"])
def test_large_matrices_are_searched_in_blocks(layout):
    weight = np.zeros((3000, 1000), order=layout)
    weight[2500, 999] = 1.0
    made = layers([weight, None, np.ones((1, 3000)), None])
    assert can_learn(made, ["relu"])
    weight[:] = 0.0
    assert not can_learn(made, ["relu"])


# --- the report ---------------------------------------------------------------------------------


def report_of(parts, kind="relu", **options):
    return ob.audit(parts, kind, layout="out_in", **options)


def test_the_report_says_that_nothing_can_learn():
    report = report_of(zeroed(arrays(5, 4, 2), 0, 1))
    assert (report.verdict, report.learns, report.luck) == ("degenerate", False, None)
    assert report.summary()["learns"] is False
    assert report.stuck == (range(2),)
    text = " ".join(str(report).split())
    assert (
        "DEGENERATE: nothing in it can learn: all weights and biases into the neurons of W1" in text
    )
    assert "nothing to do" not in text
    assert "in one piece" not in text
    assert "nothing in it can learn" in report._repr_html_()


def test_a_frozen_weight_besides_is_told_too():
    parts = zeroed(arrays(5, 4, 3, 1), 0, 1)
    parts[4] *= 10.0
    report = report_of(parts)
    assert report.verdict == "degenerate"
    assert report.frozen_weights > 0
    assert "can never change its sign" in str(report)


def test_one_dead_neuron_is_no_dead_network():
    parts = arrays(5, 4, 2)
    parts[0][1], parts[1][1] = 0.0, 0.0
    report = report_of(parts)
    assert (report.verdict, report.learns) == ("clear", True)
    assert report.summary()["dead"] == 1


def test_a_start_of_zeros_is_stuck_and_a_head_of_zeros_is_not():
    assert report_of(zeroed(arrays(5, 4, 2), 0, 1, 2, 3)).verdict == "degenerate"
    assert report_of(zeroed(arrays(5, 4, 2), 2, 3)).learns
    assert report_of(zeroed(arrays(5, 4, 2), 0, 1), "leaky_relu").learns
    assert not report_of(zeroed(arrays(5, 4, 2), 0, 1, 2), "leaky_relu").learns


def test_only_a_part_may_be_stuck():
    random = np.random.default_rng(0)
    shapes = {"a": (4, 3), "b": (4, 4), "c": (5, 4), "d": (2, 5)}
    held = {f"{name}.weight": random.normal(size=shape) for name, shape in shapes.items()}
    held["b.weight"] *= 0.0
    held |= {"c.bias": np.ones(5), "norm.weight": np.ones(5), "norm.bias": np.ones(5)}
    report = ob.audit(held, "relu", layout="out_in", layers=["a", "b", "c", "d"])
    assert report.stuck == (range(3),)
    assert "nothing in a to c can learn" in " ".join(str(report).split())


@pytest.mark.parametrize(
    ("fail_on", "code"), [("pathological", 1), ("boundary", 1), ("degenerate", 2), ("never", 0)]
)
def test_exit_codes(tmp_path, capsys, fail_on, code):
    parts = zeroed(arrays(5, 4, 2), 0, 1)
    names = ("b1.weight", "b1.bias", "a2.weight", "a2.bias")
    np.savez(tmp_path / "net.npz", **dict(zip(names, parts, strict=True)))
    with pytest.raises(SystemExit) as ended:
        main(["audit", str(tmp_path / "net.npz"), "--activation", "relu", "--fail-on", fail_on])
    assert ended.value.code == code
    told = capsys.readouterr()
    assert ("can learn" in " ".join(told.out.split())) is (code != 2)
