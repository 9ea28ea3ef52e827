"""Small models of every kind: hand-derived laws against linear algebra, and what the search finds.

Three sources must agree: the derivation by hand in `kinds`, the dimension of all laws by plain
linear algebra on random gradients in `every_law`, and the search of the package.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
from every_law import gradient, linear_and_diagonal, parameters_of, quadratic_laws, trained
from kind import torch, without_eps
from kinds import KINDS
from open_cases import LAWS, NUMBERS, open_ones
from searching import blocks, counts, forms, found, parameters

LARGE = 33
"""With more parameters than this, linear algebra takes more than a moment."""


def sized(kinds, most):
    """Return cases as parameters of a test, slow above a number of parameters."""
    return [
        pytest.param(
            kind, id=kind.name, marks=[pytest.mark.slow] if parameters_of(kind) > most else []
        )
        for kind in kinds
    ]


VARIANTS = {
    "relu chain without biases",
    "shared prelu",
    "threshold",
    "randomised leaky relu",
    "dropout",
    "several writers",
    "residual stream, activated before readers",
    "log-softmax inside",
    "sigmoid of a score",
    "frozen first layer",
    "frozen last layer",
    "max-pooling",
    "nearest upsampling",
    "channel dropout",
    "strided",
    "dilated",
    "transposed, 1 groups",
    "three dimensions",
    "flatten to as many neurons",
    "concatenation, 1 readers",
    "split 3 and 3",
    "batch norm, nothing behind",
    "batch norm, tanh behind",
    "layer norm, nothing behind",
    "layer norm, GELU behind",
    "layer norm, no bias before",
    "RMS norm",
    "RMS-normalised residual block",
    "SwiGLU",
    "GeGLU",
    "GeGLU with biases",
    "SwiGLU in one layer, up first",
    "ReGLU",
    "bilinear unit",
    "embedding, ReLU",
    "attention without biases",
    "causal attention",
    "attention weights as outputs",
    "rotary attention, half",
    "rotary attention, interleaved",
    "rotary attention, interleaved, groups",
    "outputs: a tuple",
    "outputs: a tuple with the hidden layer",
    "outputs: a scalar",
}
"""Cases that resemble another so much that they are run with the slow tests."""


def quick(kinds):
    """Return cases as parameters of a test, slow if they are variants of others."""
    marks = {True: [pytest.mark.slow], False: []}
    return [pytest.param(k, id=k.name, marks=marks[k.name in VARIANTS]) for k in kinds]


honest = [kind for kind in KINDS if kind.complete]
valued = [kind for kind in KINDS if kind.values]


def test_names_are_unique_and_known():
    names = {kind.name for kind in KINDS}
    assert len(names) == len(KINDS)
    assert names >= VARIANTS


@pytest.mark.parametrize("kind", sized(honest, LARGE))
def test_no_law_of_squares_or_scalars_is_missed_by_hand(kind):
    assert linear_and_diagonal(kind) == (kind.linear, kind.diagonal)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [pytest.param(k, id=k.name) for k in honest if parameters_of(k) < 50]
)
def test_no_quadratic_law_is_missed_by_hand(kind):
    assert quadratic_laws(kind) == kind.quadratic


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.name) for kind in valued])
def test_values_by_hand_are_kept(kind):
    """A quadratic or linear function is kept iff it is the same at θ + ∇L and θ - ∇L.

    For θᵀSθ the difference is 4⟨Sθ, ∇L⟩, and for ⟨u, θ⟩ it is 2⟨u, ∇L⟩.
    """
    model, inputs = kind.made()
    model = without_eps(model)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in trained(model):
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
    (step,) = gradient(model, inputs, generator)
    ahead, behind = copy.deepcopy(model), copy.deepcopy(model)
    with torch.no_grad():
        for one, other, g in zip(trained(ahead), trained(behind), step, strict=True):
            one.add_(g)
            other.sub_(g)
    assert max(float(g.abs().max()) for g in step) > 1e-3
    for name, by_hand in kind.values.items():
        one, other = by_hand(ahead), by_hand(behind)
        assert len(one) == kind.count(name)
        size = sum(float(p.detach().square().sum()) for p in trained(ahead))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12 * size)


@pytest.mark.parametrize("kind", open_ones(quick(KINDS), LAWS))
def test_the_search_finds_the_laws(kind):
    laws = found(kind)
    expected = {name: n for name, n in kind.expected.items() if n and name not in kind.convention}
    assert counts(laws, kind.convention) == expected, kind.why
    if "matrix" not in kind.convention:
        assert blocks(laws) == sorted(kind.blocks), kind.why


@pytest.mark.parametrize("kind", open_ones(quick(valued), NUMBERS))
def test_the_search_finds_the_numbers(kind):
    """The laws of a kind span the same space as those by hand, whatever basis they are in."""
    model, _ = kind.made()
    laws, start = found(kind), parameters(model)
    for name, by_hand in kind.values.items():
        theirs = forms(laws, name, start)
        ours = forms_by_hand(model, by_hand)
        assert theirs.shape == ours.shape
        assert np.linalg.matrix_rank(theirs) == len(theirs)
        assert np.linalg.matrix_rank(np.concatenate([theirs, ours])) == len(ours)


def forms_by_hand(model, by_hand):
    """Return the coefficients of numbers by hand: a row a number, a column a scalar."""
    model = copy.deepcopy(model)
    columns = []
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        for p in trained(model):
            for place in range(p.numel()):
                p.view(-1)[place] = 1.0
                columns.append(by_hand(model).numpy())
                p.view(-1)[place] = 0.0
    return np.array(columns).T
