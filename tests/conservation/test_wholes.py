"""Balances of single channels: layers of one neuron, and numbers that multiply whole layers."""

from __future__ import annotations

import itertools

import pytest
from conftest import framework

import obstruction as ob

torch = framework("torch")
nn = torch.nn


def chain(*sizes, bias=True):
    torch.manual_seed(0)
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize(
    ("sizes", "number"),
    [
        ((1, 1, 1), 1),
        ((2, 1, 1), 1),
        ((1, 1, 2), 1),
        ((3, 1, 1, 1, 1), 3),
        ((2, 1, 2), 1),
        ((1, 2, 1), 2),  # the sum of both balances is none of its own
        ((1, 2, 1, 2, 1), 5),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_layers_of_one_neuron_keep_their_balance(sizes, number, bias):
    laws = ob.conservation_laws(chain(*sizes, bias=bias), inputs=torch.randn(32, sizes[0]))
    assert laws.counts == {"balance": number}


def test_a_layer_of_one_neuron_can_be_frozen_or_at_the_boundary():
    model = chain(1, 1, 1, bias=False)
    for out, verdict in ((3.0, "obstructed"), (1.0, "boundary")):
        with torch.no_grad():
            model[0].weight.fill_(1.0)
            model[2].weight.fill_(out)
        assert ob.audit(model, inputs=torch.randn(32, 1)).verdict == verdict


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_number_that_multiplies_a_branch_is_frozen(shape):
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1)
            self.gain = nn.Parameter(torch.full(shape, 2.0))

        def forward(self, x):
            h = torch.tanh(self.a(x))
            return self.c(torch.tanh(h + self.gain * self.b(h)))

    model, inputs = Branch(), torch.randn(32, 3)
    report = ob.audit(model, inputs=inputs)
    size = sum(float((p.detach() ** 2).sum()) for p in model.b.parameters())
    assert size < 4.0
    (frozen,) = report.frozen.to_dict("records")
    assert frozen["tensor"] == "gain"
    assert frozen["least"] == pytest.approx((4.0 - size) ** 0.5)
    assert report.laws.drift(model)["largest"].max() == 0.0
    fixed = ob.repair(model, report)
    assert fixed.gain.shape == shape
    assert ob.audit(fixed, inputs=inputs).verdict == "clear"


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_number_of_jax_that_multiplies_a_branch(shape):
    jax = framework("jax")
    jnp = framework("jax.numpy")
    keys = jax.random.split(jax.random.key(0), 3)
    params = {
        "a": jax.random.normal(keys[0], (3, 4)),
        "b": 0.1 * jax.random.normal(keys[1], (4, 4)),
        "c": jax.random.normal(keys[2], (4, 1)),
        "gain": jnp.full(shape, 2.0),
    }

    def apply(params, x):
        h = jnp.tanh(x @ params["a"])
        return jnp.tanh(h + params["gain"] * (h @ params["b"])) @ params["c"]

    report = ob.audit((apply, params), inputs=jnp.ones((8, 3)) * jnp.arange(8.0)[:, None])
    (frozen,) = report.frozen.to_dict("records")
    assert "gain" in frozen["tensor"]
    assert report.laws.drift(params)["largest"].max() == 0.0
    assert ob.repair((apply, params), report)["gain"].shape == shape


@pytest.mark.parametrize("bias", [True, False])
def test_sums_over_recurrent_neurons_are_no_laws_of_their_own(bias):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.RNN(5, 6, batch_first=True, nonlinearity="relu", bias=bias)
            self.head = nn.Linear(6, 1, bias=bias)

        def forward(self, x):
            return self.head(self.cell(x)[0][:, -1])

    torch.manual_seed(0)
    assert ob.conservation_laws(Recurrent(), inputs=torch.randn(8, 7, 5)).counts == {"balance": 6}
