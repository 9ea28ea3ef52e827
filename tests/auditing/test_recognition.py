"""Is the scheme recognised from which weights were drawn, and no other?

Seeds are fixed. Where rates are measured, an exact binomial test decides at a level of 1e-6.
"""

from __future__ import annotations

import itertools
import math
import os
import time
import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from conftest import framework

import obstruction as ob
from obstruction import models
from obstruction.auditing.origin.recognition import candidates, misfit, recognise
from obstruction.auditing.origin.tensor_tests import TensorSample, compare
from obstruction.models.contents import round_bfloat16
from obstruction.models.model import Link, Model
from obstruction.models.options import ReadOptions
from obstruction.schemes import LayerRule
from obstruction.schemes.laws import NORMAL, TRUNCATED, UNIFORM

RARE = 1e-6
STANDARD = {
    NORMAL: scipy.stats.norm(),
    UNIFORM: scipy.stats.uniform(-math.sqrt(3.0), 2.0 * math.sqrt(3.0)),
    TRUNCATED: scipy.stats.truncnorm(-2.0, 2.0, scale=1.0 / scipy.stats.truncnorm(-2, 2).std()),
}
# Two candidates bear the label of `orthogonal`, one of them with biases.
CANDIDATES = {one.label: one for one in reversed(candidates())}


def read(*weights: np.ndarray, biases: list | None = None, layout: str = "out_in") -> Model:
    """The network with these weights, and hidden biases if any."""
    arrays: list[np.ndarray] = []
    for i, weight in enumerate(weights):
        arrays.append(weight)
        if biases is not None:
            arrays.append(biases[i] if i < len(biases) else np.zeros(1))
    return models.read(arrays, ReadOptions("relu", layout=layout))


def replayed(scheme, d: int, l: int, network: int = 0, seed: int = 0) -> Model:
    w1, w2, b1 = ob.replay(seed, network=network, d=d, l=l, scheme=scheme)
    return read(w1, w2, biases=None if b1 is None else [b1])


def drawn(rule: LayerRule, fans: tuple[int, int], shape, rng) -> np.ndarray:
    """Values of a rule, drawn by SciPy."""
    std = math.sqrt(rule.variance(*(np.float64(fan) for fan in fans)))
    if std == 0.0:
        return np.zeros(shape)
    return std * STANDARD[rule.law].rvs(shape, random_state=rng)


def deep(scheme, sizes: tuple[int, ...], seed: int = 0) -> Model:
    """A chain of layers, the last with the output rule and all others with the hidden one."""
    rng = np.random.default_rng(seed)
    weights, biases = [], []
    for i, fans in enumerate(itertools.pairwise(sizes)):
        rule = scheme.output if i == len(sizes) - 2 else scheme.hidden
        weights.append(drawn(rule, fans, fans[::-1], rng))
        if scheme.bias is not None:
            biases.append(drawn(scheme.bias, fans, fans[1], rng))
    return read(*weights, biases=biases or None)


def labels(model: Model, **options) -> list[tuple[str, ...]]:
    return [fit.labels for fit in recognise(model, **options)]


# --- the right scheme, and no other -------------------------------------------------------------


@pytest.mark.parametrize("label", CANDIDATES)
def test_a_network_of_realistic_size_fits_its_own_scheme_only(label):
    fits = recognise(replayed(label, 784, 128))
    assert len(fits) == 1
    assert label in fits[0].labels
    assert fits[0].scheme.label == fits[0].labels[0]


ALIKE = {
    "keras_dense": ("keras_dense", "torch_xavier_uniform:bias=zero", "xavier_uniform"),
    "xavier_normal": ("xavier_normal", "torch_xavier_normal:bias=none"),
    "torch_kaiming_normal:bias=zero": ("torch_kaiming_normal:bias=zero", "kaiming_normal"),
    "torch_linear": ("torch_linear",),
    "flax_dense": ("flax_dense",),
}


@pytest.mark.parametrize("label", ALIKE)
def test_schemes_that_are_the_same_for_a_network_are_one_fit(label):
    assert labels(replayed(label, 784, 128)) == [ALIKE[label]]


def test_gains_that_make_two_schemes_the_same_are_seen():
    half = math.sqrt(0.5)
    same = ["lecun_normal", f"kaiming_normal:hidden_gain={half},output_gain={half}"]
    found = labels(replayed("lecun_normal", 20, 30), schemes=[*same, "xavier_normal"])
    assert found[0] == tuple(same)
    linear = ["torch_linear:bias=none", f"kaiming_uniform:negative_slope={math.sqrt(5.0)}"]
    found = labels(replayed(linear[0], 200, 30), schemes=linear)
    assert [set(one) for one in found] == [set(linear)]


def test_what_tells_two_schemes_apart_only_elsewhere_does_not_here():
    """Fan-in and the mean of the fans are one for square layers, but not for the output."""
    fits = labels(deep(ob.scheme("lecun_normal"), (64, 64, 64, 64)))
    assert [set(fit) for fit in fits] == [
        {"lecun_normal", "xavier_normal", "torch_xavier_normal:bias=none"}
    ]
    assert labels(deep(ob.scheme("lecun_normal"), (200, 200, 200, 1))) == [("lecun_normal",)]


SIZES = [(2, 3), (3, 40), (40, 3), (30, 64)]


@pytest.mark.parametrize("size", [*SIZES, (20, 30, 25, 1)], ids=str)
@pytest.mark.parametrize(
    "label",
    [
        "torch_linear",
        *(
            pytest.param(label, marks=pytest.mark.slow)
            for label in ("xavier_normal", "keras_he_normal", "sklearn_mlp", "zero_output")
        ),
    ],
)
def test_the_true_scheme_is_excluded_no_oftener_than_the_level_says(label, size):
    level, count = 0.2, 150
    scheme = ob.scheme(label)
    missed = 0
    for seed in range(count):
        model = deep(scheme, size if len(size) > 2 else (*size, 1), seed)
        missed += misfit(model, scheme).p_value < level
    assert scipy.stats.binom.sf(missed - 1, count, level) > RARE


def test_a_deep_network_is_recognised_by_all_its_layers():
    rng = np.random.default_rng(3)
    scheme = ob.scheme("torch_kaiming_normal")
    sizes = (50, 80, 60, 90, 1)
    assert labels(deep(scheme, sizes)) == [("torch_kaiming_normal",)]
    model = deep(scheme, sizes)
    for i in (1, 2):  # one layer, or its biases, from elsewhere
        for weight, bias in ((True, False), (False, True)):
            layers = list(model.layers)
            arrays = {}
            if weight:
                arrays["weight"] = rng.normal(size=layers[i].weight.shape) / math.sqrt(sizes[i])
            if bias:
                arrays["bias"] = rng.uniform(-1, 1, size=sizes[i + 1]) * 2 / math.sqrt(sizes[i])
            parts = {"weight": layers[i].weight, "bias": layers[i].bias, **arrays}
            every = [a for layer in layers for a in (layer.weight, layer.bias)]
            every[2 * i : 2 * i + 2] = parts["weight"], parts["bias"]
            every[-1] = np.zeros(1)
            changed = models.read(every, ReadOptions("relu", layout="out_in"))
            assert recognise(changed) == ()


def test_the_last_layer_alone_has_the_output_rule():
    scheme = ob.scheme("mean_field")
    assert labels(deep(scheme, (50, 60, 70, 1))) == [("mean_field",)]
    rng = np.random.default_rng(0)
    w1, w2 = (layer.weight for layer in deep(scheme, (50, 60, 1)).layers)
    wide = rng.normal(size=(60, 50))  # as output weights are drawn
    assert misfit(read(w1, w2), scheme).p_value > 1e-3
    assert misfit(read(wide, w2), scheme).p_value < 1e-9
    assert misfit(read(w1, w2 / math.sqrt(60)), scheme).p_value < 1e-9


def test_layers_that_are_not_audited_are_not_looked_at():
    model = deep(ob.scheme("torch_linear"), (50, 60, 70, 200, 1))
    layers = list(model.layers)
    wild = np.full_like(layers[0].weight, 7.0)
    arrays = [wild, layers[0].bias, *(a for y in layers[1:] for a in (y.weight, y.bias))]
    spoiled = models.read(arrays, ReadOptions("relu", layout="out_in"))
    assert recognise(spoiled) == ()
    links = (Link("tanh", reason="tanh"), *spoiled.links[1:])
    assert labels(Model(spoiled.layers, links, (), "")) == [("torch_linear",)]
    nothing = tuple(Link("tanh", reason="tanh") for _ in links)
    assert recognise(Model(spoiled.layers, nothing, (), "")) == ()


def test_the_stored_layout_makes_no_difference():
    model = replayed("torch_linear", 300, 500)
    first, second = model.layers
    turned = read(
        first.weight.T.copy(), second.weight.T.copy(), biases=[first.bias], layout="in_out"
    )
    assert labels(turned) == labels(model) == [("torch_linear",)]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("label", ["torch_linear", "flax_dense", "kaiming_normal", "orthogonal"])
@pytest.mark.parametrize("size", [(784, 128), (16, 2000)])
def test_rounding_does_not_exclude(label, dtype, size):
    w1, w2, b1 = ob.replay(1, network=0, d=size[0], l=size[1], scheme=label)

    def rounded(array: np.ndarray) -> np.ndarray:
        if dtype == "bfloat16":
            return round_bfloat16(array)
        return array.astype(dtype).astype(np.float32)

    model = read(rounded(w1), rounded(w2), biases=None if b1 is None else [rounded(b1)])
    (fit,) = recognise(model, level=0.01)
    assert label in fit.labels


def test_small_networks_fit_many_schemes_likeliest_first():
    fits = recognise(replayed("kaiming_normal", 2, 3, network=1))
    assert len(fits) > 5
    assert "kaiming_normal" in {label for fit in fits for label in fit.labels}
    assert all(fit.p_value >= 1e-3 for fit in fits)
    assert fits[0].log_likelihood > fits[-1].log_likelihood
    assert len({fit.scheme for fit in fits}) == len(fits)


# --- what fits nothing --------------------------------------------------------------------------


def trained(label: str, steps: int, *, adam: bool = False) -> Model:
    """Descend on batches of a regression, 784-128-1, with plain SGD or with Adam."""
    rng = np.random.default_rng(5)
    w1, w2, b1 = ob.replay(2, network=0, d=784, l=128, scheme=label)
    weights = [w1, w2, np.zeros(128) if b1 is None else b1]
    mean = [np.zeros_like(w) for w in weights]
    square = [np.zeros_like(w) for w in weights]
    direction = rng.normal(size=(784, 3)) / 28.0
    inputs = rng.normal(size=(512, 784))
    targets = np.tanh(2.0 * inputs @ direction).sum(axis=1)
    for step in range(steps):
        w1, w2, bias = weights
        batch = slice(32 * (step % 16), 32 * (step % 16) + 32)
        x = inputs[batch]
        z = x @ w1.T + bias
        h = np.maximum(z, 0.0)
        error = (h @ w2[0] - targets[batch]) / len(x)
        back = error[:, None] * w2 * (z > 0)
        gradients = [back.T @ x, error[None] @ h, back.sum(axis=0)]
        for k, g in enumerate(gradients):
            if not adam:
                weights[k] = weights[k] - 0.02 * g
                continue
            mean[k] = 0.9 * mean[k] + 0.1 * g
            square[k] = 0.999 * square[k] + 0.001 * g**2
            root = np.sqrt(square[k] / (1.0 - 0.999 ** (step + 1))) + 1e-8
            weights[k] = weights[k] - 3e-3 * mean[k] / (1.0 - 0.9 ** (step + 1)) / root
    w1, w2, bias = weights
    assert np.isfinite(w1).all()
    return read(w1, w2, biases=[bias] if b1 is not None else None)


@pytest.mark.parametrize("label", ["torch_linear", "keras_dense", "torch_kaiming_normal"])
def test_trained_weights_fit_nothing(label):
    assert any(label in one for one in labels(trained(label, 0)))
    assert recognise(trained(label, 60)) == ()


@pytest.mark.slow
def test_normal_weights_without_biases_must_have_moved():
    """These steps move large weights by less than a tenth: nothing tells them from fresh ones."""
    assert labels(trained("kaiming_normal", 60))[0][0] == "kaiming_normal"
    assert recognise(trained("kaiming_normal", 150, adam=True)) == ()
    assert recognise(trained("lecun_normal", 100)) == ()


def test_layers_that_depend_on_each_other_are_seen():
    """Weights that training has turned towards the next layer, with all moments kept."""
    rng = np.random.default_rng(1)
    w1, w2 = rng.normal(size=(128, 784)) / 28.0, rng.normal(size=(1, 128)) / math.sqrt(128)
    scheme = ob.scheme("lecun_normal")
    assert misfit(read(w1, w2), scheme).p_value > 1e-3
    way = rng.normal(size=784) / 28.0
    turned = w1 + 0.8 * w2.T * way / np.linalg.norm(w2)
    found = misfit(read(turned, w2), scheme)
    assert found.p_value < 1e-6
    assert "next layer" in found.reason
    first = rng.normal(size=(784, 200)) / math.sqrt(200)
    assert misfit(read(first, w1, w2), scheme).p_value > 1e-3
    assert "next layer" in misfit(read(first, turned, w2), scheme).reason
    back = first + 0.3 * w1[:4].T @ rng.normal(size=(4, 200)) / math.sqrt(200)
    assert "next layer" in misfit(read(back, w1, w2), scheme).reason


def test_weights_that_are_no_numbers_fit_nothing():
    for value in (math.nan, math.inf):
        model = replayed("torch_linear", 20, 30)
        first, second = model.layers
        spoiled = first.weight_tensor.array.copy()
        spoiled[3, 4] = value
        layers = (first.with_values({first.weight_tensor.name: spoiled}), second)
        assert recognise(replace(model, layers=layers)) == ()


@pytest.mark.parametrize("label", ["torch_linear", "keras_glorot_normal"])
def test_weights_beyond_the_bound_exclude_the_law(label):
    w1, w2, b1 = ob.replay(0, network=0, d=784, l=128, scheme=label)
    rule = ob.scheme(label).hidden
    bound = rule.law.bound * math.sqrt(rule.variance(np.float64(784), np.float64(128)))
    w1[7, 7] = 1.003 * bound  # may be rounding
    assert recognise(read(w1, w2, biases=[b1]))
    w1[7, 7] = 1.1 * bound
    one = recognise(read(w1, w2, biases=[b1]))
    assert bool(one) == (label == "keras_glorot_normal")  # Keras on PyTorch leaves 4 in a million
    w1[8, :10] = -1.1 * bound
    assert recognise(read(w1, w2, biases=[b1])) == ()


def test_biases_decide():
    w1, w2, b1 = ob.replay(0, network=0, d=300, l=200, scheme="torch_linear")
    assert labels(read(w1, w2, biases=[b1])) == [("torch_linear",)]
    assert labels(read(w1, w2, biases=[0 * b1])) == [("torch_linear:bias=zero",)]
    assert labels(read(w1, w2)) == [("torch_linear:bias=none",)]
    assert recognise(read(w1, w2, biases=[2.0 * b1])) == ()
    almost = 0 * b1
    almost[17] = 1e-6
    assert recognise(read(w1, w2, biases=[almost])) == ()


def test_orthogonal_matrices_are_nothing_else():
    for d, l in ((64, 64), (20, 100), (100, 20)):
        w1, w2, _ = ob.replay(0, network=0, d=d, l=l, scheme="orthogonal")
        assert labels(read(w1, w2)) == [("orthogonal",)]
        bias = np.random.default_rng(0).uniform(-1, 1, l) / math.sqrt(d)
        assert labels(read(w1, w2, biases=[bias])) == [("orthogonal",)]
        assert recognise(read(1.1 * w1, w2)) == ()
        w1 += 0.1 * np.random.default_rng(1).normal(size=w1.shape) / math.sqrt(max(d, l))
        assert ("orthogonal",) not in labels(read(w1, w2))
    # lecun_normal has the same variance where the layer is square
    assert labels(replayed("lecun_normal", 64, 64), schemes=["orthogonal", "lecun_normal"]) == [
        ("lecun_normal",)
    ]


# --- one tensor and one scheme ------------------------------------------------------------------


def test_a_misfit_says_what_is_wrong():
    model = replayed("torch_linear", 300, 200)
    for label, reason in (
        ("keras_dense", "of the weights of 'W1'"),
        ("torch_linear:output_gain=1.3", "weights of 'W2'"),
        ("torch_linear:bias=none", "the biases of 'W1' are not zero"),
        ("torch_linear:bias=zero", "the biases of 'W1' are not zero"),
    ):
        found = misfit(model, label)
        assert found.p_value < 1e-3
        assert reason in found.reason.replace("fc1", "W1").replace("fc2", "W2")
    bare = replayed("kaiming_normal", 30, 20)
    assert "are missing" in misfit(bare, "torch_kaiming_normal").reason
    assert misfit(bare, "torch_kaiming_normal").p_value == 0.0
    assert misfit(bare, "kaiming_normal").p_value > 1e-3


@pytest.mark.parametrize("law", STANDARD, ids=str)
@pytest.mark.parametrize("n", [3, 60, 1500, 30_000])
def test_p_values_are_those_of_scipy(law, n):
    rng = np.random.default_rng(n)
    for gain in (1.0, 1.0 - 0.8 / math.sqrt(n)):
        x = gain * STANDARD[law].rvs(n, random_state=rng)
        findings, likelihood = compare(TensorSample("values", 0.3 * x), law, 0.09)
        if law == NORMAL or n >= 1000:
            mean, square = findings[0].p_value, findings[1].p_value
            z = x.mean() * math.sqrt(n)
            assert mean == pytest.approx(2.0 * scipy.stats.norm.sf(abs(z)), rel=1e-9)
            if law == NORMAL:
                tails = [f(np.sum(x**2), n) for f in (scipy.stats.chi2.cdf, scipy.stats.chi2.sf)]
            else:
                error = math.sqrt((STANDARD[law].moment(4) - 1.0) / n)
                tails = [scipy.stats.norm.sf(abs(np.mean(x**2) - 1.0) / error)]
            assert square == pytest.approx(min(1.0, 2.0 * min(tails)), rel=1e-6)
        ks = next(f.p_value for f in findings if "distributed" in f.reason())
        half = x[::2] if n > 20_000 else x
        exact = scipy.stats.kstest(half, STANDARD[law].cdf)
        nearer = scipy.stats.kstwo.sf(exact.statistic - 0.0021, len(half))
        assert exact.pvalue * (1.0 - 1e-9) <= ks <= min(1.0, 2.0 * nearer)
        direct = float(np.sum(STANDARD[law].logpdf(x))) - n * math.log(0.3)
        assert likelihood == pytest.approx(direct, rel=1e-9)


@pytest.mark.parametrize("law", STANDARD, ids=str)
def test_no_rounding_makes_the_distance_larger(law):
    """Even if all values are rounded to the same side."""
    rng = np.random.default_rng(4)
    for _ in range(8):
        x = STANDARD[law].rvs(300, random_state=rng)
        exact = scipy.stats.kstest(x, STANDARD[law].cdf).pvalue
        for side in (-1.0, 1.0):
            for rounded in (x * (1.0 + side * 0.99 / 256.0), x + side * np.abs(x) / 260.0):
                findings, _ = compare(TensorSample("values", rounded), law, 1.0)
                (ks,) = (f.p_value for f in findings if "distributed" in f.reason())
                assert ks >= exact * (1.0 - 1e-9)


@pytest.mark.parametrize("law", STANDARD, ids=str)
@pytest.mark.parametrize("n", [2, 30, 1200])
def test_no_test_raises_more_alarms_than_it_may(law, n):
    level, count = 0.1, 300
    rng = np.random.default_rng(11)
    alarms: dict[int, int] = {}
    for _ in range(count):
        x = STANDARD[law].rvs(n, random_state=rng)
        for i, finding in enumerate(compare(TensorSample("values", x), law, 1.0)[0]):
            alarms[i] = alarms.get(i, 0) + (finding.p_value <= level)
    assert len(alarms) == (5 if law == NORMAL or n >= 1000 else 3)
    for found in alarms.values():
        assert scipy.stats.binom.sf(found - 1, count, level) > RARE
    # the bound is never broken, the largest size must alarm about as often as it may
    largest = alarms[len(alarms) - 2]
    if law != UNIFORM or n < 100:  # rounding may move a size by more than its spacing
        assert scipy.stats.binom.cdf(largest, count, 0.5 * level) > RARE


def test_too_large_too_small_and_shifted_values_are_seen():
    rng = np.random.default_rng(0)
    x = rng.normal(size=50_000)
    for spoiled, word in (
        (x + 0.03, "mean"),
        (x * 1.03, "mean square"),
        (np.append(x, 7.0), "largest"),
        (np.clip(x, -3.0, 3.0), "largest"),
        (np.where(rng.random(50_000) < 0.1, 0.0, x / math.sqrt(0.9)), "distributed"),
    ):
        findings, _ = compare(TensorSample("values", spoiled), NORMAL, 1.0)
        worst = min(findings, key=lambda finding: finding.p_value)
        assert worst.p_value < 1e-6
        assert word in worst.reason()


def test_bad_arguments_are_refused():
    model = replayed("torch_linear", 3, 4)
    with pytest.raises(ValueError, match="level = 2"):
        recognise(model, level=2)
    with pytest.raises(ValueError, match="unknown scheme 'kaiming'"):
        recognise(model, schemes="kaiming")
    with pytest.raises(ValueError, match="unknown scheme 'kaiming'"):
        misfit(model, "kaiming")


# --- cost ---------------------------------------------------------------------------------------


def large() -> Model:
    """Ten layers of 4096 x 4096 and an output, in the memory of one."""
    rng = np.random.default_rng(0)
    square = rng.standard_normal((4096, 4096), dtype=np.float32) * np.float32(math.sqrt(2 / 4096))
    biases = [np.zeros(4096, np.float32)] * 10
    one = read(square, square[:1].copy(), biases=biases[:1])
    layers = (*[one.layers[0]] * 10, one.layers[1])
    return Model(layers, (Link("relu"),) * 10, (), "")


@pytest.mark.parametrize("shape", [(4096, 128), (128, 4096), (3000, 300), (7, 100_000)])
def test_all_rows_and_columns_of_a_large_matrix_are_looked_at(shape):
    rows, columns = (np.broadcast_to(i, shape) for i in np.ogrid[: shape[0], : shape[1]])
    for numbers, count in zip((rows, columns), shape, strict=True):
        for layout in (np.ascontiguousarray(numbers), np.asfortranarray(numbers)):
            values = TensorSample("numbers", layout).values
            assert 2**16 < values.size <= 2**17
            assert np.unique(values).size > 0.7 * count or count > 10_000


@pytest.mark.parametrize("shape", [(50, 2000), (2000, 50), (300, 1024), (300, 1025)])
@pytest.mark.parametrize("outputs", [1, 3, 9])
def test_products_with_the_next_layer_are_those_of_some_columns(shape, outputs):
    rng = np.random.default_rng(0)
    array, following = rng.normal(size=shape), rng.normal(size=(outputs, shape[0]))
    products = TensorSample("values", array, following).products
    rows = min(outputs, 4)
    assert products.size == min(shape[1], 1024 // rows // 8 * 8) * rows
    directions = np.linalg.qr(following[:rows].T).Q
    every = np.abs(directions.T @ array)
    assert np.isin(np.round(np.abs(products), 9), np.round(every, 9)).all()
    assert np.unique(np.round(products, 9)).size == products.size  # no column twice
    assert TensorSample("values", array).products.size == 0
    assert TensorSample("values", array, 0.0 * following).products.size == 0


def test_large_networks_are_not_copied():
    model = large()
    recognise(replayed("torch_linear", 3, 4))  # whatever is loaded at first
    tracemalloc.start()
    fits = recognise(model)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fits[0].labels == ("torch_kaiming_normal:bias=zero", "kaiming_normal")
    assert peak < 64 * 2**20  # one layer has 64 MiB in float32


@pytest.mark.slow
def test_large_networks_take_little_time():
    """0.1 s on an idle machine, less than the norms of all rows take."""
    model = large()
    times, norms = [], []
    for _ in range(7):
        begun = time.perf_counter()
        recognise(model)
        times.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        for layer in model.layers:
            np.linalg.norm(layer.weight, axis=1)
        norms.append(time.perf_counter() - begun)
    assert min(times) < max(0.3, min(norms))


# --- frameworks ---------------------------------------------------------------------------------

D, L = 100, 150


def torch_network(function: str | None = None, **options) -> Model:
    torch = framework("torch")
    torch.manual_seed(2)
    layers = [torch.nn.Linear(D, L), torch.nn.Linear(L, L), torch.nn.Linear(L, 1)]
    for layer in layers:
        if function is not None:
            getattr(torch.nn.init, function)(layer.weight, **options)
    weights = [layer.weight.detach().numpy() for layer in layers]
    return read(*weights, biases=[layer.bias.detach().numpy() for layer in layers])


@pytest.mark.parametrize(
    ("label", "function", "options"),
    [
        ("torch_linear", None, {}),
        ("torch_xavier_normal", "xavier_normal_", {}),
        ("torch_xavier_uniform", "xavier_uniform_", {}),
        ("torch_kaiming_normal", "kaiming_normal_", {}),
        ("torch_kaiming_uniform", "kaiming_uniform_", {}),
        ("torch_kaiming_normal:mode=fan_out", "kaiming_normal_", {"mode": "fan_out"}),
        ("orthogonal", "orthogonal_", {}),
    ],
)
def test_torch_networks_are_recognised(label, function, options):
    assert labels(torch_network(function, **options))[0] == (label,)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("keras_dense", "glorot_uniform"),
        ("keras_he_normal", "he_normal"),
        ("keras_glorot_normal", "glorot_normal"),
    ],
)
def test_keras_networks_are_recognised(label, name):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = framework("keras")
    keras.utils.set_random_seed(3)
    arrays = []
    with warnings.catch_warnings():  # PyTorch's tensors do not know NumPy 2's copy keyword
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        for fan_in, units in ((D, L), (L, L), (L, 1)):
            layer = keras.layers.Dense(units, kernel_initializer=name)
            layer.build((None, fan_in))
            arrays += [keras.ops.convert_to_numpy(v) for v in (layer.kernel, layer.bias)]
    model = models.read(arrays, ReadOptions("relu", layout="in_out"))
    assert labels(model)[0][0] == label


def test_flax_networks_are_recognised():
    linen, jax = framework("flax.linen"), framework("jax")
    arrays = []
    for seed, (fan_in, units) in enumerate(((D, L), (L, L), (L, 1))):
        made = linen.Dense(units).init(jax.random.key(seed), np.ones((1, fan_in)))["params"]
        arrays += [np.asarray(made["kernel"]), np.asarray(made["bias"])]
    model = models.read(arrays, ReadOptions("relu", layout="in_out"))
    assert labels(model)[0] == ("flax_dense",)


@pytest.mark.parametrize("activation", ["relu", "logistic"])
def test_sklearn_networks_are_recognised(activation):
    networks, exceptions = framework("sklearn.neural_network"), framework("sklearn.exceptions")
    rng = np.random.default_rng(0)
    options = {"solver": "sgd", "learning_rate_init": 1e-300, "alpha": 0.0, "max_iter": 1}
    options |= {"hidden_layer_sizes": (L, L), "activation": activation, "random_state": 1}
    net = networks.MLPRegressor(**options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        net.fit(rng.normal(size=(20, D)), rng.normal(size=20))
    arrays = [a for pair in zip(net.coefs_, net.intercepts_, strict=True) for a in pair]
    model = models.read(arrays, ReadOptions("relu", layout="in_out"))
    label = "sklearn_mlp" if activation == "relu" else "sklearn_mlp:activation=logistic"
    assert labels(model)[0] == (label,)
