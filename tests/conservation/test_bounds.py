"""Nothing is claimed where bounds, steps and smooth corners lie far from the usual magnitudes.

What an activation does below a hundredth, or above five, probes of the usual size hardly meet. A
smooth corner before a normalisation even looks like the ``eps`` of that.
"""

from __future__ import annotations

from functools import partial

import pytest
from kind import nn, torch
from not_homogeneous import Activation, case, dishonest, function, through
from searching import counts, found

import obstruction as ob

relu = torch.relu


def hooked(change):
    """Return ReLU whose gradient is changed on its way back by a hook."""

    def forward(z):
        hidden = relu(z)
        if hidden.requires_grad:
            hidden.register_hook(change)
        return hidden

    return function(forward)


BOUNDS = [
    (Activation("clamp to 0.01", function(lambda z: z.clamp(-0.01, 0.01))), (4, "none", "dense")),
    (dishonest("hard shrinkage of 5", partial(nn.Hardshrink, 5.0)), (2, "none", "dense")),
    *(
        (Activation(name, build), (2, f"{norm} behind", "dense"))
        for name, build in (
            ("square root of z² + 0.01", function(lambda z: (z * z + 0.01).sqrt())),
            ("square root of z² + 1e-6", function(lambda z: (z * z + 1e-6).sqrt())),
            ("square root of z² + 1e-10", function(lambda z: (z * z + 1e-10).sqrt())),
            ("very steep softplus", partial(nn.Softplus, 1000.0)),
            ("threshold 0.001", partial(nn.Threshold, 0.001, 0.0)),
            ("a little tanh beside", function(lambda z: relu(z) + 1e-4 * torch.tanh(z))),
        )
        for norm in ("batch", "layer")
    ),
    (dishonest("straight-through tanh", through(torch.tanh)), (2, "batch behind", "dense")),
    *(
        (
            dishonest(f"gradient that a hook clips at {most}", hooked(partial(clip, most=most))),
            (4, "batch behind", "dense"),
        )
        for clip in (lambda g, most: g.clamp(-most, most),)
        for most in (1e-4, 0.1, 5.0)
    ),
]
"""Activations with the depth, norm and form of networks in which a false law was claimed once."""


@pytest.mark.parametrize(
    "kind", [pytest.param(one, id=one.name) for one in (case(a, *d) for a, d in BOUNDS)]
)
def test_no_bound_is_overlooked(kind):
    assert counts(found(kind)) == kind.expected


class Named(nn.Module):
    """What is no normalisation may hold a number that is called ``eps`` as well."""

    def __init__(self, change, eps):
        super().__init__()
        self.change, self.eps = change, eps

    def forward(self, z):
        return self.change(z, self.eps)


@pytest.mark.parametrize("eps", [1e-3, 0.1, 1.0])
@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.LayerNorm])
@pytest.mark.parametrize(
    "change",
    [
        lambda z, eps: z.clamp(min=eps),
        lambda z, eps: relu(z) + eps * z.tanh(),
        nn.functional.softshrink,
        lambda z, eps: (z * z + eps).sqrt(),
    ],
    ids=["clamp", "sum", "shrinkage", "square root"],
)
def test_eps_is_removed_from_normalisations_only(change, norm, eps):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8, bias=False), Named(change, eps), norm(8), nn.Linear(8, 2))
    assert ob.conservation_laws(net, inputs=torch.randn(16, 5)).counts == {"balance": 8}


@pytest.mark.parametrize(("eps", "kept"), [(1e-3, True), (1.0, False), (10.0, False)])
def test_norms_that_a_large_eps_lets_drift_are_not_conserved(eps, kept):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8, eps=eps), nn.Tanh(), nn.Linear(8, 2))
    expected = {"constant": 8} | ({"scale": 8} if kept else {})
    assert ob.conservation_laws(net, inputs=torch.randn(16, 5)).counts == expected


class Moments(nn.Module):
    """A normalisation that loses the digits of a large offset twice, as in Keras on PyTorch."""

    def forward(self, z):
        mean = z.mean(0)
        return (z - mean) * torch.rsqrt((z * z).mean(0) - mean * mean + 1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_a_bias_before_a_norm_is_constant_also_where_rounding_grows_with_it(seed):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6), Moments(), nn.ReLU(), nn.Linear(6, 2))
    laws = ob.conservation_laws(net, inputs=torch.randn(16, 5), seed=seed)
    assert laws.counts == {"scale": 6, "constant": 6}
