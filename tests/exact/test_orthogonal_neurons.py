"""One neuron with orthogonal weights: against mpmath, known answers and drawn matrices."""

import math

import mpmath as mp
import numpy as np
import pytest

from obstruction import exact
from obstruction.exact import orthogonal

VALUE_HEAD = f"orthogonal:hidden_gain={math.sqrt(2.0)!r}"
"""PPO of stable-baselines3: hidden layers with gain sqrt(2), the value head with gain 1."""


def by_quadrature(d, l, rho):
    """Return P(R > rho S) as an integral over the angle of the row."""
    with mp.workdps(40):
        d, l, rho, half = mp.mpf(d), mp.mpf(l), mp.mpf(rho), mp.mpf(1) / 2
        end = mp.pi / 2 if rho <= 1 else mp.asin(1 / mp.sqrt(rho))

        def integrand(t):
            rest = max(1 - rho * mp.sin(t) ** 2, mp.mpf(0))
            tail = mp.betainc((l - 1) / 2, half, 0, rest, regularized=True)
            return mp.sin(t) ** (d - 1) * mp.cos(t) ** (l - d - 1) * tail

        points = [end * k / 16 for k in (0, 1, 2, 4, 8, 12, 14, 16)]
        return float(2 / mp.beta(d / 2, (l - d) / 2) * mp.quad(integrand, points))


# From `by_quadrature`.
ORACLE = [
    (3, 64, 2.0, 0.08904056813430981),
    (2, 64, 2.0, 0.18130985929080537),
    (1, 2, 0.5, 0.6935643552999448),
    (1, 2, 3.0, 0.24392058409088435),
    (4, 5, 1.0, 0.042795988359359875),
    (4, 5, 0.7, 0.10673939694016678),
    (4, 5, 1.3, 0.0229500374362121),
    (1, 50, 0.1, 0.8065529250427186),
    (20, 60, 2.0, 6.03985706666354e-07),
    (30, 200, 5.0, 6.48494058200996e-14),
    (1, 3, 1e-06, 0.9995),
    (10, 11, 100.0, 3.3639757588445543e-14),
]


@pytest.mark.parametrize(("d", "l", "rho", "p"), ORACLE)
def test_agrees_with_mpmath(d, l, rho, p):
    name = f"orthogonal:hidden_gain={math.sqrt(rho)!r}"
    assert exact.pathological_probability(name, d, l) == pytest.approx(p, rel=1e-12, abs=0)
    log = exact.log_pathological_probability(name, d, l)
    assert log == pytest.approx(math.log(p), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("d", "l", "rho", "p"), ORACLE)
def test_the_oracle_says_so(d, l, rho, p):
    assert by_quadrature(d, l, rho) == pytest.approx(p, rel=1e-14)


def test_the_value_head_of_ppo():
    """One hidden layer of 64 neurons, and three or two observations."""
    p = exact.pathological_probability(VALUE_HEAD, [3, 2], 64)
    assert p.round(4).tolist() == [0.0890, 0.1813]


@pytest.mark.parametrize(("d", "l", "rho"), [(3, 64, 2.0), (5, 6, 0.8), (6, 5, 0.3), (1, 1, 0.5)])
def test_drawn_matrices_are_pathological_as_often(d, l, rho):
    """The mean over networks of a share in [0, 1] varies at most like a coin's; |z| < 4.5 each."""
    rng, n = np.random.default_rng(2), 6000
    shares, wrong = np.empty(n), np.empty(n)
    for k in range(n):
        matrix = rng.standard_normal((max(l, d), min(l, d)))
        q, r = np.linalg.qr(matrix)
        q *= np.sign(np.diagonal(r))
        rows = q if l > d else q.T
        v = rng.standard_normal(l)
        s = rho * np.sum(rows**2, axis=1)
        shares[k] = np.mean(s < (v / np.linalg.norm(v)) ** 2)
        wrong[k] = np.mean(s * rho < (v / np.linalg.norm(v)) ** 2)
    p = exact.pathological_probability(f"orthogonal:hidden_gain={math.sqrt(rho)!r}", d, l)
    spread = max(math.sqrt(p * (1 - p) / n), 1e-12)
    assert abs(shares.mean() - p) < 4.5 * spread
    if l > 1:  # a gain that is applied twice is noticed
        assert abs(wrong.mean() - p) > 4.5 * spread


@pytest.mark.parametrize("l", [2, 3, 40])
def test_one_input_is_one_share_against_another(l):
    """The row's square and the output weight's are shares of the same law."""
    assert exact.pathological_probability("orthogonal", 1, l) == pytest.approx(0.5, rel=1e-12)
    more, less = (
        exact.pathological_probability(f"orthogonal:hidden_gain={gain}", 1, l) for gain in (2, 0.5)
    )
    assert more + less == pytest.approx(1.0, rel=1e-12)


def test_rows_of_a_fixed_length():
    """For l <= d one weight of a unit vector is compared with a number."""
    for d in (2, 7, 10**6):
        p = exact.pathological_probability("orthogonal:output_gain=2", d, 2)
        assert p == pytest.approx(1 - 2 / math.pi * math.asin(0.5), rel=1e-12)
    assert exact.pathological_probability("orthogonal", [2, 5], 2).tolist() == [0.0, 0.0]
    lone = exact.pathological_probability("orthogonal:output_gain=2", [1, 4], 1)
    assert lone.tolist() == [1.0, 1.0]
    assert exact.pathological_probability("orthogonal", 1, 1) == 0.0


def test_layers_of_zeros():
    assert exact.pathological_probability("orthogonal:output_gain=0", [1, 9], 4).tolist() == [0, 0]
    assert exact.pathological_probability("orthogonal:hidden_gain=0", [1, 9], 4).tolist() == [1, 1]


def test_large_sizes_tend_to_normal_weights():
    """For many more neurons than inputs, the shares are squares of independent normal weights."""
    p = exact.pathological_probability("orthogonal", 3, 10**6)
    assert p == pytest.approx(exact.pathological_probability_from_ratio(3, 1.0), rel=1e-5)
    log = exact.log_pathological_probability(VALUE_HEAD, 50_000, 100_000)
    assert log == pytest.approx(-34662.900607877331, rel=1e-12)


def test_the_nodes_suffice(monkeypatch):
    d, l = (x.ravel() for x in np.meshgrid([1.0, 2.0, 9.0, 300.0], [2.0, 10.0, 301.0, 10_000.0]))
    d, l = d[d < l], l[d < l]
    for rho in (1e-3, 0.9, 1.0, 1.1, 50.0):
        monkeypatch.setattr(orthogonal, "_NODES", 240)
        exponent, factor = orthogonal.factors(d, l, rho)
        monkeypatch.setattr(orthogonal, "_NODES", 1500)
        fine = orthogonal.factors(d, l, rho)
        error = exponent + np.log(factor) - fine[0] - np.log(fine[1])
        assert np.abs(error).max() < 1e-11


def test_two_logits():
    two = {"e": 2, "loss": "cross_entropy"}
    one, both = (exact.pathological_probability(VALUE_HEAD, [2, 70], 64, **k) for k in ({}, two))
    np.testing.assert_array_equal(one, both)
    rng = np.random.default_rng(3)
    v = rng.standard_normal((2, 50, 10**4))
    v /= np.sqrt((v**2).sum(axis=0))  # one neuron: a unit vector of two logits
    rate = np.mean((v[0] - v[1]) ** 2 / 2 > 0.3)
    p = exact.pathological_probability(f"orthogonal:hidden_gain={math.sqrt(0.3)!r}", 4, 1, **two)
    assert rate == pytest.approx(p, abs=0.003)
    assert exact.pathological_probability("orthogonal", 2, 9, e=3, loss="cross_entropy") == 0.0


def test_what_has_no_value():
    with pytest.raises(exact.NoExactValue, match="depend on each other"):
        exact.obstruction_probability("orthogonal", 3, 64)
    with pytest.raises(ValueError, match=r"^l = 2,000,000: exact values of scheme 'orthogonal'"):
        exact.pathological_probability("orthogonal", 3, 2 * 10**6)
    with pytest.raises(ValueError, match=r"^d = 0\.0: must be a whole number"):
        exact.pathological_probability("orthogonal", 0, 4)
