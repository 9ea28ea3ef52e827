"""A tight gradient flow keeps every claimed number and every frozen sign.

The flow itself is tested first: it keeps numbers by formulas written here and lets wrong ones
drift, so that a drift of a claimed number means that the claim is wrong.
"""

from __future__ import annotations

import numpy as np
import pytest
from flow import distance, gradient_flow
from kind import nn, torch, without_eps
from kinds import KINDS
from searching import drifts, laws_of

NAMED = {kind.name: kind for kind in KINDS}
KEPT = 1e-8
LOST = 1e-5


def square(array, axis=None):
    return (array**2).sum(axis)


def largest_drift(path, number):
    """Return the largest change of a number along a path, relative to the size at the start."""
    start = number(path[0])
    return max(np.abs(number(point) - start).max() for point in path) / np.abs(start).max()


def flow_of(name):
    model, inputs = NAMED[name].made()
    path = gradient_flow(without_eps(model), inputs)
    assert distance(path) > 1e-2
    return path


def test_relu_neurons_keep_their_balance_and_no_other_sum():
    path = flow_of("relu chain")
    inward = lambda p: square(p["0.weight"], 1) + p["0.bias"] ** 2  # noqa: E731
    outward = lambda p: square(p["2.weight"], 0)  # noqa: E731
    assert largest_drift(path, lambda p: inward(p) - outward(p)) < KEPT
    assert largest_drift(path, lambda p: inward(p) + outward(p)) > LOST
    assert largest_drift(path, lambda p: square(p["0.weight"], 1) - outward(p)) > LOST


def test_only_the_up_row_of_swiglu_keeps_a_balance():
    path = flow_of("SwiGLU")
    down = lambda p: square(p["down.weight"], 0)  # noqa: E731
    assert largest_drift(path, lambda p: square(p["up.weight"], 1) - down(p)) < KEPT
    assert largest_drift(path, lambda p: square(p["gate.weight"], 1) - down(p)) > LOST


def test_batch_norm_keeps_rows_biases_and_the_balance_of_gains():
    path = flow_of("batch norm, dense")
    gains = lambda p: p["1.weight"] ** 2 + p["1.bias"] ** 2  # noqa: E731
    assert largest_drift(path, lambda p: gains(p) - square(p["3.weight"], 0)) < KEPT
    assert largest_drift(path, lambda p: p["1.weight"] ** 2 - square(p["3.weight"], 0)) > LOST
    assert largest_drift(path, lambda p: square(p["0.weight"], 1)) < KEPT
    assert largest_drift(path, lambda p: p["0.bias"]) < KEPT
    assert largest_drift(path, lambda p: p["0.weight"]) > LOST


def test_heads_of_attention_keep_matrices():
    path = flow_of("attention")

    def gram(p, name):
        rows = np.concatenate([p[f"{name}.weight"], p[f"{name}.bias"][:, None]], 1)
        rows = rows.reshape(2, 2, -1)
        return rows @ rows.transpose(0, 2, 1)

    def values_and_outputs(p):
        columns = p["o.weight"].T.reshape(2, 2, -1)
        return gram(p, "v") - columns @ columns.transpose(0, 2, 1)

    assert largest_drift(path, values_and_outputs) < KEPT
    assert largest_drift(path, lambda p: gram(p, "q") - gram(p, "k")) < KEPT
    assert largest_drift(path, lambda p: gram(p, "q") - gram(p, "v")) > LOST


def one_neuron(out):
    """Return 2 -> 1 -> 1 that is positive on its inputs, and a loss that asks for the opposite."""
    layers = [nn.Linear(2, 1), nn.LeakyReLU(0.1), nn.Linear(1, 1, bias=False)]
    model = nn.Sequential(*layers).double()
    inputs = torch.tensor([[0.2, 1.0], [0.7, 0.3], [1.5, 0.4]], dtype=torch.float64)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.6, 0.5]]))
        model[0].bias.fill_(0.4)
        model[2].weight.fill_(out)
        wanted = -model(inputs)
    return model, inputs, lambda outputs: (outputs - wanted).square().sum()


@pytest.mark.parametrize(("out", "frozen"), [(1.0, True), (0.8, False)])
def test_a_sign_is_frozen_if_the_balance_is_negative(out, frozen):
    """Row² = 0.77. With v = 1 the balance is -0.23, and v² never falls below 0.23."""
    model, inputs, loss = one_neuron(out)
    path = gradient_flow(model, inputs, loss=loss, time=20.0)
    v = np.array([p["2.weight"][0, 0] for p in path])
    balance = 0.77 - out**2
    if frozen:
        assert (v >= np.sqrt(-balance) - 1e-9).all()
        assert v[-1] < 0.6
    else:
        assert v[-1] < -0.5


QUICK = {
    "depthwise",
    "layer-normalised residual block",
    "bilinear unit",
    "raw attention",
}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, id=kind.name, marks=[] if kind.name in QUICK else [pytest.mark.slow])
        for kind in KINDS
    ],
)
def test_the_flow_keeps_what_the_search_claims(kind):
    """Where a normalisation has an eps, it is made to vanish, so that norms of blocks are exact."""
    model, inputs = kind.made()
    laws = laws_of(without_eps(model), inputs, training=kind.training)
    path = gradient_flow(model, inputs)
    assert distance(path) > 1e-4
    for point in path[1:]:
        assert drifts(laws, path[0], point).max(initial=0.0) < KEPT


@pytest.mark.parametrize("name", ["batch norm, tanh behind", "layer norm, GELU behind"])
def test_norms_of_blocks_drift_by_eps_alone(name):
    """d‖block‖²/dt = -2⟨block, ∇L⟩, which is of the order of eps, and vanishes with it."""
    drift = []
    for eps in (1e-3, 1e-4):
        model, inputs = NAMED[name].made()
        model[1].eps = eps
        path = gradient_flow(model, inputs)
        drift.append(largest_drift(path, lambda p: square(p["0.weight"]) + square(p["0.bias"])))
    assert 5 < drift[0] / drift[1] < 20
