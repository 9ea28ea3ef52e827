"""Two logits under cross-entropy: the conserved quantity, and the probability of a frozen sign."""

import math

import numpy as np
import pytest
from scipy import special

from obstruction import exact
from obstruction.exact import inversion, transforms
from obstruction.schemes import scheme
from obstruction.schemes.laws import NORMAL, TRIANGULAR, TRUNCATED, UNIFORM

TWO = {"e": 2, "loss": "cross_entropy"}


def draw(rng, rule, variance, shape):
    if rule.law == NORMAL:
        return math.sqrt(variance) * rng.standard_normal(shape)
    return rng.uniform(-math.sqrt(3 * variance), math.sqrt(3 * variance), shape)


def sampled(name, d, l, networks, seed, *, half=0.5):
    """Return how many of many networks have ``|in|^2 < half (v_1 - v_2)^2`` for some neuron."""
    rule, rng, found, size = scheme(name), np.random.default_rng(seed), 0, 2000
    for _ in range(networks // size):
        s = np.sum(draw(rng, rule.hidden, rule.hidden_variance(d, l), (size, l, d)) ** 2, axis=2)
        if rule.bias_law is not None:
            s += draw(rng, rule.bias, rule.bias_variance(d, l), (size, l)) ** 2
        v = draw(rng, rule.output, rule.output_variance(d, l, 2), (2, size, l))
        found += int(np.any(s < half * (v[0] - v[1]) ** 2, axis=1).sum())
    return found


CELLS = [
    ("kaiming_normal", 2, 20),
    ("xavier_normal", 6, 4),
    ("kaiming_normal:mode=fan_out", 20, 8),
    ("kaiming_uniform", 3, 12),
    ("xavier_uniform", 30, 3),
    ("xavier_uniform:output_gain=6", 40, 3),
    ("torch_linear", 2, 9),
    ("sklearn_mlp", 20, 2),
    ("custom:output_law=uniform,output_std=3,hidden_std=0.5", 25, 2),
]


@pytest.mark.parametrize(("name", "d", "l"), CELLS)
def test_sampled_networks_are_obstructed_as_often(name, d, l):
    """Seeded; |z| > 4 in none of 9 cells: wrong for one seed in 1700 if all is right."""
    n = 20_000
    p = exact.obstruction_probability(name, d, l, **TWO)
    assert 0.01 < p < 0.99
    assert abs(sampled(name, d, l, n, 5) - n * p) < 4 * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize(("name", "d", "l"), CELLS)
@pytest.mark.parametrize("half", [1.0, 0.25])
def test_a_wrong_factor_would_be_seen(name, d, l, half):
    n = 20_000
    p = exact.obstruction_probability(name, d, l, **TWO)
    assert abs(sampled(name, d, l, n, 5, half=half) - n * p) > 6 * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize(("logits", "conserved"), [(2, True), (3, False)])
def test_gradient_flow_conserves_it(logits, conserved):
    """``|in|^2 - (v_1 - v_2)^2 / 2`` has the derivative 0 along the gradient, for two logits."""
    rng = np.random.default_rng(1)
    w, v = rng.standard_normal((4, 3)), rng.standard_normal((logits, 4))
    x, labels = rng.standard_normal((3, 50)), rng.integers(logits, size=50)
    hidden = np.maximum(w @ x, 0.0)
    error = special.softmax(v @ hidden, axis=0) - np.eye(logits)[:, labels]
    to_v = error @ hidden.T
    to_w = ((v.T @ error) * (hidden > 0.0)) @ x.T
    change = 2 * np.sum(w * to_w, axis=1) - (v[0] - v[1]) * (to_v[0] - to_v[1])
    assert np.allclose(change, 0.0, atol=1e-12 * np.abs(to_v).sum()) is conserved


def test_normal_weights_have_the_formula_of_one_output():
    for name in ("kaiming_normal", "normal_002"):
        one = exact.pathological_probability(name, [2, 10], 7)
        np.testing.assert_array_equal(exact.pathological_probability(name, [2, 10], 7, **TWO), one)
    rule = scheme("xavier_normal")  # the variance of the output weights depends on e
    ratio = rule.ratio(10, 7, 2)
    expected = exact.pathological_probability_from_ratio(10, ratio)
    assert exact.pathological_probability(rule, 10, 7, **TWO) == expected
    assert exact.obstruction_probability("kaiming_normal", 2, 200, **TWO) == pytest.approx(
        -math.expm1(-200 * math.log(math.sqrt(1 + 2 / 200))), rel=1e-12
    )


@pytest.mark.parametrize("d", [1, 2, 5, 16, 17, 60, 1000])
def test_a_ball_inside_the_cube(d):
    """For ``alpha <= 1`` the ball of radius ``sqrt(alpha) V`` is inside the cube of the weights."""
    ratio = np.array([1e-9, 0.1, 0.5])
    alpha = 2.0 * ratio
    moment = 2.0 / ((d + 1) * (d + 2))  # E V^d for the density 2 (1 - v)
    volume = d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1) - d * math.log(2)
    expected = volume + math.log(moment) + d / 2 * np.log(alpha)
    for std, value in zip(np.sqrt(ratio), expected, strict=True):
        name = f"custom:law=uniform,output_std={float(std)!r}"
        found = exact.log_pathological_probability(name, d, 3, **TWO)
        assert abs(found - value) < max(1e-11, 1e-13 * abs(value))


@pytest.mark.parametrize("hidden", [UNIFORM, NORMAL, TRUNCATED])
@pytest.mark.parametrize(("bias", "beta"), [(None, 0.0), (UNIFORM, 0.4), (NORMAL, 2.0)])
@pytest.mark.parametrize("d", [pytest.param(18.0, marks=pytest.mark.slow), 200.0])
def test_it_is_a_mean_over_uniform_laws(hidden, bias, beta, d):
    """A triangular variable is a uniform one times the root of another: ``2 s`` is the density."""
    nodes, weights = np.polynomial.legendre.leggauss(20)
    s = ((np.arange(40)[:, None] + (1.0 + nodes) / 2.0) / 40.0).ravel()
    mass = np.tile(weights, 40) / 80.0 * 2.0 * s
    for a in (0.3, d / 3, 1.2 * d, 30.0 * d):
        cells = (np.full(s.size, d), 2.0 * a * s**2, np.full(s.size, beta))
        exponent, factor = inversion.factors(UNIFORM, hidden, bias, *cells)
        expected = math.log(np.sum(mass * np.exp(exponent) * factor))
        one = (np.array([d]), np.array([a]), np.array([beta]))
        exponent, factor = inversion.factors(TRIANGULAR, hidden, bias, *one)
        assert abs(exponent[0] + math.log(factor[0]) - expected) < 1e-10


def test_contour_and_real_integrals_agree(monkeypatch):
    d, a = (np.ravel(x) for x in np.meshgrid([9.0, 12.0, 16.0], [1e-3, 0.8, 2.0, 5.0, 9.0, 60.0]))
    by_few = inversion.factors(TRIANGULAR, UNIFORM, None, d, a, np.zeros_like(a))
    monkeypatch.setattr(inversion.few, "FEW", 0)
    by_contour = inversion.factors(TRIANGULAR, UNIFORM, None, d, a, np.zeros_like(a))
    few, other = (exponent + np.log(factor) for exponent, factor in (by_few, by_contour))
    assert np.abs(few - other).max() < 1e-10


@pytest.mark.parametrize("turn", [0.0, 0.3, 1.2])
def test_the_transforms_of_the_triangular_law(turn):
    """Near 0, in between and far out, against Gauss-Legendre rules."""
    nodes, weights = np.polynomial.legendre.leggauss(600)
    u = (nodes + 1.0) / 2.0
    for size in (0.5, 3.0, 40.0, 59.0, 61.0, 300.0):
        w = np.array([size * np.exp(1j * turn)]) if turn else np.array([size])
        inside = np.sum(weights * (1.0 - u) * np.exp(w * (u * u - 1.0)))
        found = np.exp(transforms.log_top(TRIANGULAR, w))[0]
        assert abs(found / inside - 1.0) < 1e-11
        t = u * 60.0 / w.real[0]  # t = u^2 - 1
        beyond = np.sum(weights * (np.sqrt(1.0 + t) - 1.0) / np.sqrt(1.0 + t) * np.exp(-w * t))
        beyond *= 30.0 / w.real[0]
        found = np.exp(transforms.log_beyond(TRIANGULAR, w))[0]
        assert abs(found / beyond - 1.0) < 1e-10


def test_three_logits_freeze_nothing():
    values = exact.obstruction_probability("torch_linear", 2, 10, e=[2, 3, 5], loss="cross_entropy")
    assert values[0] > 0.0
    assert values[1:].tolist() == [0.0, 0.0]
    log = exact.log_obstruction_probability("kaiming_normal", 2, 10, e=3, loss="cross_entropy")
    assert log == -math.inf


def test_equal_output_weights_freeze_nothing():
    assert exact.obstruction_probability("custom:output_law=constant", 2, 10, **TWO) == 0.0
    assert exact.obstruction_probability("zero_output", 2, 10, **TWO) == 0.0


def test_the_count_is_that_of_the_logits():
    count = exact.pathological_count("kaiming_uniform", 3, 12, **TWO)
    p = exact.pathological_probability("kaiming_uniform", 3, 12, **TWO)
    assert count.mean() == pytest.approx(12 * p, rel=1e-12)
    assert p != exact.pathological_probability("kaiming_uniform", 3, 12)


def test_errors_name_the_argument():
    p = exact.obstruction_probability
    with pytest.raises(ValueError, match=r"^e = 2: must be 1 unless loss='cross_entropy'"):
        p("kaiming_normal", 2, 10, e=2)
    with pytest.raises(ValueError, match=r"^e = 1: must be at least 2 with loss = 'cross_entropy'"):
        p("kaiming_normal", 2, 10, loss="cross_entropy")
    with pytest.raises(ValueError, match=r"^loss = 'mse': must be one of cross_entropy"):
        p("kaiming_normal", 2, 10, e=2, loss="mse")
    with pytest.raises(ValueError, match=r"^e = 1\.5: must be a whole number"):
        p("kaiming_normal", 2, 10, e=1.5, loss="cross_entropy")
    with pytest.raises(exact.NoExactValue, match="difference of two truncated normal output"):
        p("flax_dense", 2, 10, **TWO)
    with pytest.raises(exact.NoExactValue, match="depend on each other"):
        p("orthogonal", 2, 10, **TWO)
