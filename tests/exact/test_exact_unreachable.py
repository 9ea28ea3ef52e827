"""Targets out of reach: exact rational sums, brute force and extremes."""

import itertools
import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest

from obstruction import exact
from obstruction.exact import unreachable as reach
from obstruction.schemes import scheme


def trinomial(l, p, m, n):
    """Sum over all numbers of frozen neurons, term by term, in the arithmetic of ``p``."""
    total = 0 * p
    for plus in range(l + 1):
        for minus in range(l + 1 - plus):
            if plus > l - n or minus > l - m:
                ways = math.comb(l, plus) * math.comb(l - plus, minus)
                total += ways * (p / 2) ** (plus + minus) * (1 - p) ** (l - plus - minus)
    return total


def by_tails(l, p, m, n):
    """The same from two binomial tails in high precision."""
    with mp.workdps(60):
        q = mp.mpf(p) / 2

        def tail(k):
            return sum(mp.binomial(l, j) * q**j * (1 - q) ** (l - j) for j in range(k, l + 1))

        return tail(l - n + 1) + tail(l - m + 1)


@pytest.mark.parametrize("l", [1, 2, 5, 9])
def test_agrees_with_the_trinomial_sum(l):
    rule = scheme("custom", output_std=1.3)
    for d in (1, 3):
        p = Fraction(exact.pathological_probability(rule, d, l))
        for m, n in itertools.product(range(l + 1), repeat=2):
            if m + n <= l:
                expected = float(trinomial(l, p, m, n))
                found = exact.unreachable_probability(rule, d, l, positive=m, negative=n)
                assert found == pytest.approx(expected, rel=1e-13, abs=0), (d, m, n)


@pytest.mark.parametrize(
    ("l", "m", "n"),
    [
        (200, 60, 90),
        pytest.param(1000, 500, 500, marks=pytest.mark.slow),
        (1000, 1, 0),
        pytest.param(3000, 10, 2900, marks=pytest.mark.slow),
        (777, 0, 700),
    ],
)
@pytest.mark.parametrize("std", [0.05, 0.5, 3.0, 100.0])
def test_agrees_with_60_digits(l, m, n, std):
    rule = scheme("custom", output_std=std)
    for d in (1, 4, 40):
        p = exact.pathological_probability(rule, d, l)
        reference = by_tails(l, p, m, n)
        found = exact.unreachable_probability(rule, d, l, positive=m, negative=n)
        log = exact.log_unreachable_probability(rule, d, l, positive=m, negative=n)
        expected = float(mp.log(reference))
        assert log == pytest.approx(expected, rel=1e-13, abs=1e-12)
        if expected > -690.0:
            assert found == pytest.approx(float(reference), rel=2e-12, abs=0)


def test_wide_networks():
    l = 100_000
    with mp.workdps(40):
        q = mp.mpf(exact.pathological_probability("custom", 1, l)) / 2  # 1/4
        k = l - 74_800 + 1
        term = mp.binomial(l, k) * q**k * (1 - q) ** (l - k)
        reference, j = mp.mpf(0), k
        while term > mp.mpf(10) ** -40:
            reference += term
            term *= mp.mpf(l - j) / (j + 1) * q / (1 - q)
            j += 1
    found = exact.unreachable_probability("custom", 1, l, positive=0, negative=74_800)
    assert found == pytest.approx(float(reference), rel=1e-11)
    halves = exact.unreachable_probability("kaiming_normal", 2, l, positive=0, negative=[10, l])
    assert halves[0] == 0.0
    p = exact.pathological_probability("kaiming_normal", 2, l)
    assert halves[1] == pytest.approx(-math.expm1(l * math.log1p(-p / 2)), rel=1e-12)


def test_sampled_networks_are_out_of_reach_as_often():
    rng = np.random.default_rng(3)
    d, l, n = 2, 4, 200_000
    w, b = rng.uniform(-1, 1, (n, l, d)), rng.uniform(-1, 1, (n, l))
    v = rng.uniform(-1, 1, (n, l)) * math.sqrt(d / l)
    frozen = v**2 > (w**2).sum(axis=2) + b**2
    plus, minus = (frozen & (v > 0)).sum(axis=1), (frozen & (v < 0)).sum(axis=1)
    out = np.count_nonzero((plus > l - 2) | (minus > l - 1))
    p = exact.unreachable_probability("torch_linear", d, l, positive=1, negative=2)
    assert 0.0 < p < 1.0
    assert abs(out - n * p) < 4 * math.sqrt(n * p * (1 - p))


def test_what_the_target_needs_makes_it_harder():
    needs = np.arange(51)
    log = exact.log_unreachable_probability("xavier_normal", 5, 100, positive=needs, negative=50)
    assert np.all(np.diff(log) >= 0.0)
    mirrored = exact.log_unreachable_probability(
        "xavier_normal", 5, 100, positive=50, negative=needs
    )
    np.testing.assert_allclose(log, mirrored, rtol=1e-14)


def test_a_target_that_needs_nothing_is_always_in_reach():
    assert exact.unreachable_probability("custom", 1, 7, positive=0, negative=0) == 0.0
    assert exact.log_unreachable_probability("custom", 1, 7, positive=0, negative=0) == -np.inf
    never = scheme("custom", output_std=0.0)
    assert exact.unreachable_probability(never, 1, 7, positive=3, negative=4) == 0.0


def test_all_neurons_frozen():
    """Then the signs are coins: exactly the needed numbers must come up if m + n = l."""
    always = scheme("custom", hidden_std=0.0)
    found = exact.unreachable_probability(always, 3, 6, positive=2, negative=4)
    assert found == pytest.approx(1 - math.comb(6, 2) / 2**6, rel=1e-14)
    assert exact.unreachable_probability(always, 3, 1, positive=1, negative=0) == 0.5


def test_constant_output_weights_are_all_positive():
    name = "custom:hidden_law=uniform,output_law=constant"
    p = exact.pathological_probability(name, 2, 5)
    found = exact.unreachable_probability(name, 2, 5, positive=2, negative=3)
    tail = sum(math.comb(5, k) * p**k * (1 - p) ** (5 - k) for k in range(3, 6))
    assert found == pytest.approx(tail, rel=1e-13)
    assert exact.unreachable_probability(name, 2, 5, positive=5, negative=0) == 0.0
    frozen = "custom:law=constant,output_std=9"
    assert exact.unreachable_probability(frozen, 2, 5, positive=4, negative=1) == 1.0


def test_probabilities_below_all_floats():
    log = exact.log_unreachable_probability("kaiming_normal", 5000, 300, positive=0, negative=7)
    log_p = exact.log_pathological_probability("kaiming_normal", 5000, 300)
    k = 300 - 7 + 1
    assert log == pytest.approx(math.log(math.comb(300, k)) + k * (log_p - math.log(2)), rel=1e-13)
    assert exact.unreachable_probability("kaiming_normal", 5000, 300, positive=0, negative=7) == 0.0


def test_broadcasting_and_errors():
    grid = exact.unreachable_probability(
        "kaiming_normal", [[1], [2]], [4, 5, 6], positive=[1, 2, 3], negative=2
    )
    assert grid.shape == (2, 3)
    one = exact.unreachable_probability("kaiming_normal", 2, 6, positive=3, negative=2)
    assert type(one) is float
    assert grid[1, 2] == one
    with pytest.raises(
        ValueError, match=r"^positive = 3 and negative = 3: together at most l = 5$"
    ):
        exact.unreachable_probability("kaiming_normal", 2, 5, positive=3, negative=3)
    with pytest.raises(ValueError, match=r"at most l = 5 \(in cell \(1,\) of"):
        exact.unreachable_probability("kaiming_normal", 2, [6, 5], positive=3, negative=3)
    for bad in (-1, 0.5, math.nan, True, "1"):
        with pytest.raises(ValueError, match=r"^negative = .*: must be a whole number from 0 to"):
            exact.unreachable_probability("kaiming_normal", 2, 5, positive=0, negative=bad)
    with pytest.raises(exact.NoExactValue):
        exact.unreachable_probability("orthogonal", 2, 5, positive=0, negative=1)


def test_a_wrong_count_would_be_seen(monkeypatch):
    """Off by one in the tail, or all frozen at the same sign, and the trinomial sum disagrees."""
    p = Fraction(exact.pathological_probability("custom", 2, 6))
    expected = float(trinomial(6, p, 2, 3))
    right = reach._log_tail
    for wrong in (
        lambda k, n, q, log_q: right(np.minimum(k + 1.0, n + 1.0), n, q, log_q),
        lambda k, n, q, log_q: right(k, n, 2.0 * q, log_q + math.log(2.0)),
    ):
        monkeypatch.setattr(reach, "_log_tail", wrong)
        found = exact.unreachable_probability("custom", 2, 6, positive=2, negative=3)
        assert found != pytest.approx(expected, rel=1e-3)
