"""Exact binomial statistics against scipy.stats, mpmath and slow textbook loops."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from obstruction.sampling.inference import binomial
from obstruction.sampling.inference.binomial import detectable, holm, interval, p_value, z_score

HUGE = 10**13


def random_cells(size, *, seed, most=6.0):
    """Counts of every kind: likely and absurd, for rates of every size, none and all."""
    rng = np.random.default_rng(seed)
    n = np.floor(10.0 ** rng.uniform(0.0, most, size)).astype(np.int64)
    tiny = 10.0 ** rng.uniform(-9.0, 0.0, size)
    p = np.select(
        [rng.random(size) < 0.4, rng.random(size) < 0.3, rng.random(size) < 0.2],
        [tiny, 1.0 - tiny, np.full(size, 0.5)],
        rng.random(size),
    )
    spread = rng.choice([0.3, 1.0, 3.0, 8.0], size) * rng.standard_normal(size)
    k = np.rint(n * p + spread * np.sqrt(n * p * (1.0 - p)))
    k = np.where(rng.random(size) < 0.1, rng.choice([0, 1], size) * n, k)
    return np.clip(k, 0, n).astype(np.int64), n, p


def slow_p_value(k, n, p):
    """The definition, summed in rational numbers."""
    rate = Fraction(p)
    pmf = [math.comb(n, j) * rate**j * (1 - rate) ** (n - j) for j in range(n + 1)]
    return float(sum(chance for chance in pmf if chance <= pmf[k] * (1 + Fraction(1, 10**7))))


def mp_tail(k, n, p, *, upper):
    """P(K >= k) or P(K <= k) as an integral of the beta density, outwards from ``p``."""
    a = mpmath.mpf(k if upper else k + 1)
    b = n + 1 - a
    constant = mpmath.loggamma(n + 1) - mpmath.loggamma(a) - mpmath.loggamma(b)
    step = mpmath.sqrt(a * b / mpmath.mpf(n) ** 3) * (-1 if upper else 1)
    points = [t for t in (p + i * step for i in range(12)) if 0 < t < 1]

    def density(t):
        return mpmath.exp(constant + (a - 1) * mpmath.log(t) + (b - 1) * mpmath.log1p(-t))

    return abs(mpmath.quad(density, points))


def test_interval_equals_scipy():
    k, n, _ = random_cells(150, seed=1)
    for level in (0.5, 0.95, 1.0 - 1e-9):
        low, high = interval(k, n, level=level)
        expected = [
            stats.binomtest(int(a), int(b), 0.5).proportion_ci(level, method="exact")
            for a, b in zip(k, n, strict=True)
        ]
        # scipy looks for the ends by bracketing, to 2e-12.
        np.testing.assert_allclose(low, [ci.low for ci in expected], rtol=1e-9, atol=4e-12)
        np.testing.assert_allclose(high, [ci.high for ci in expected], rtol=1e-9, atol=4e-12)
        some, lacking = k > 0, k < n
        above = stats.binom.sf(k[some] - 1, n[some], low[some])
        below = stats.binom.cdf(k[lacking], n[lacking], high[lacking])
        # Where an end is close to 1, its last digit moves the tail by some 1e-7.
        np.testing.assert_allclose(np.r_[above, below], (1.0 - level) / 2, rtol=1e-6)


def test_interval_ends_are_exact_at_no_event_and_at_all():
    low, high = interval([0, 7], 7, level=0.9)
    assert low[0] == 0.0
    assert high[1] == 1.0
    assert high[0] == pytest.approx(1.0 - 0.05 ** (1 / 7), rel=1e-13)
    assert low[1] == pytest.approx(0.05 ** (1 / 7), rel=1e-13)
    low, high = interval(0, 0)
    assert (low, high) == (0.0, 1.0)


@pytest.mark.parametrize("k", [40, 3 * 10**12, 9 * 10**12])
def test_interval_of_ten_trillion_trials(k):
    with mpmath.workdps(30):
        low, high = interval(k, HUGE)
        for rate, upper in ((low, True), (high, False)):
            tail = mp_tail(k, HUGE, mpmath.mpf(float(rate)), upper=upper)
            # A step of one ulp of the rate moves the tail by about 1e-9.
            assert float(tail) == pytest.approx(0.025, rel=2e-8)


def test_interval_covers_at_least_as_often_as_it_says():
    n = 12
    k = np.arange(n + 1)
    low, high = interval(k, n, level=0.8)
    p = np.linspace(0.001, 0.999, 997)[:, None]
    coverage = np.sum(stats.binom.pmf(k, n, p) * ((low <= p) & (p <= high)), axis=1)
    assert coverage.min() >= 0.8
    assert coverage.min() < 0.83  # and is not just as wide as can be


def test_interval_scatters_shared_pairs_back():
    k, n = np.array([[3, 0, 3], [5, 3, 0]]), np.array([9, 8, 9])
    low, high = interval(k, n)
    assert low.shape == high.shape == (2, 3)
    for index in np.ndindex(k.shape):
        assert (low[index], high[index]) == interval(k[index], n[index[1]])
    assert len(set(high.ravel().tolist())) == 5  # (3, 9) stands twice


def test_p_value_equals_scipy():
    k, n, p = random_cells(1000, seed=2)
    cells = zip(k.tolist(), n.tolist(), p.tolist(), strict=True)
    expected = [stats.binomtest(*cell).pvalue for cell in cells]
    np.testing.assert_allclose(p_value(k, n, p), expected, rtol=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 31])
@pytest.mark.parametrize("p", [2.0**-60, 0.01, 0.1, 0.25, 1 / 3, 0.5, 0.7, 0.999])
def test_p_value_equals_the_definition(n, p):
    expected = [slow_p_value(k, n, p) for k in range(n + 1)]
    np.testing.assert_allclose(p_value(np.arange(n + 1), n, p), expected, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize(
    ("k", "n", "p"),
    [
        (40, HUGE, 1e-11),
        (2, HUGE, 1e-12),
        (200, HUGE, 1e-11),
        (HUGE - 40, HUGE, 1.0 - 2.0**-35),
        (HUGE - 8, HUGE, 1.0 - 8107 * 2.0**-53),  # the mode is 9 failures, by a hair
        (3, 10**12, 1e-40),
        (1, 10**6, 1e-150),
        (11, 599196119, 2.2216179497925965e-08),
        (17, 80, 0.11609090337853846),
        (22, 80, 0.11609090337853846),  # the other tail is the count 0 alone
    ],
)
def test_p_value_of_rare_events_equals_a_long_sum(k, n, p):
    with mpmath.workdps(40):
        rate = mpmath.mpf(p)
        mirrored, rate = (n - k, 1 - rate) if p > 0.5 else (k, rate)
        terms = range(min(n, 500) + 1)
        pmf = [mpmath.binomial(n, j) * rate**j * (1 - rate) ** (n - j) for j in terms]
        limit = pmf[mirrored] * (1 + mpmath.mpf("1e-7"))
        expected = sum(chance for chance in pmf if chance <= limit)
    assert float(expected) > 0.0
    assert float(p_value(k, n, p)) == pytest.approx(float(expected), rel=1e-11)


def mp_log_pmf(k, n, p):
    ways = mpmath.loggamma(n + 1) - mpmath.loggamma(k + 1) - mpmath.loggamma(n - k + 1)
    return ways + k * mpmath.log(p) + (n - k) * mpmath.log1p(-p)


def mp_mirror(k, n, p):
    """The first count beyond the mean that is no likelier than ``k``, within 1e-7, by bisection."""
    goal = mp_log_pmf(k, n, p) + mpmath.log1p(mpmath.mpf("1e-7"))
    likely, beyond = (math.ceil(n * p) - 1, n) if k < n * p else (math.floor(n * p) + 1, 0)
    while abs(beyond - likely) > 1:
        middle = (likely + beyond) // 2
        likely, beyond = (likely, middle) if mp_log_pmf(middle, n, p) <= goal else (middle, beyond)
    return beyond


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.25, 1e-3, 0.75])
@pytest.mark.parametrize("z", [-5.0, -0.5, 1e-4, 4.0])
def test_p_value_of_ten_trillion_trials(p, z):
    k = round(HUGE * p + z * math.sqrt(HUGE * p * (1.0 - p)))
    with mpmath.workdps(30):
        rate = mpmath.mpf(p)
        expected = mp_tail(k, HUGE, rate, upper=z > 0)
        expected += mp_tail(mp_mirror(k, HUGE, rate), HUGE, rate, upper=z < 0)
    assert float(p_value(k, HUGE, p)) == pytest.approx(float(expected), rel=3e-9)


def test_p_value_keeps_relative_accuracy_in_the_far_tail():
    with mpmath.workdps(40):
        expected = mp_tail(31000, 10**6, mpmath.mpf("0.025"), upper=True)
    tail = float(p_value(31000, 10**6, 0.025))
    assert 1e-310 < expected < 1e-200
    # The other tail, at 19,300 or so, holds less than 1e-300.
    assert tail == pytest.approx(float(expected), rel=1e-9)


def test_p_value_of_the_likeliest_count_is_one():
    n = np.array([5, 100, 10**6, HUGE])
    for p in (1e-20, 0.013, 0.5, 0.8):
        mode = np.minimum(np.floor((n + 1.0) * p), n).astype(np.int64)
        assert p_value(mode, n, p).tolist() == [1.0] * 4
    assert p_value(0, 0, 0.3) == 1.0


def test_p_value_of_certain_rates_and_of_none():
    assert p_value([0, 1, 9], 9, 0.0).tolist() == [1.0, 0.0, 0.0]
    assert p_value([9, 8, 0], 9, 1.0).tolist() == [1.0, 0.0, 0.0]
    assert np.isnan(p_value([0, 3], 9, math.nan)).all()
    assert p_value([], [], []).shape == (0,)


def test_p_value_rejects_no_more_often_than_it_says():
    for n, p in ((7, 0.5), (30, 0.07), (64, 0.9)):
        k = np.arange(n + 1)
        found = p_value(k, n, p)
        chance = stats.binom.pmf(k, n, p)
        for alpha in found:
            assert chance[found <= alpha].sum() <= alpha * (1.0 + 1e-6)


def test_p_value_does_not_depend_on_the_other_cells():
    k, n, p = random_cells(200, seed=3, most=13.0)
    together = p_value(k, n, p)
    alone = [float(p_value(*cell)) for cell in zip(k, n, p, strict=True)]
    assert together.tolist() == alone
    assert p_value(k[:, None], n[:, None], p[None, :5]).shape == (200, 5)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 2**40), st.floats(0, 1), st.integers(1, 2**19 - 1))
def test_counting_the_failures_gives_the_same_p_value(n, share, numerator):
    k, p = min(n, round(share * n)), numerator / 2**20
    one, other = float(p_value(k, n, p)), float(p_value(n - k, n, 1.0 - p))
    assert 0.0 <= one <= 1.0
    assert one == pytest.approx(other, rel=1e-12, abs=0.0)


def test_log_pmf_equals_mpmath():
    k, n, p = random_cells(200, seed=6, most=7.0)
    with mpmath.workdps(40):
        cells = zip(k.tolist(), n.tolist(), p.tolist(), strict=True)
        expected = [float(mp_log_pmf(a, b, mpmath.mpf(c))) for a, b, c in cells]
    found = binomial._log_pmf(*(x.astype(float) for x in (k, n, p)))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_the_search_falls_back_on_bisection():
    calls = 0

    def evaluate(m, rows):  # so steep that each Newton step goes only 1000 to the left
        nonlocal calls
        calls += 1
        return -np.expm1(m / 1000.0), -np.expm1((m - 1.0) / 1000.0)

    target, guess, limit = np.array([-1.0, 1.0]), np.full(2, 6e5), np.full(2, 6e5)
    assert binomial._first_at_most(evaluate, target, guess, limit).tolist() == [694.0, 0.0]
    assert calls < 40


def test_z_score_by_hand():
    assert z_score([60, 45], 100, 0.5).tolist() == [2.0, -1.0]
    assert z_score(30, 100, 0.1) == pytest.approx(20 / 3)
    assert z_score([0, 1], 9, 0.0).tolist() == [0.0, math.inf]
    assert z_score([9, 8], 9, 1.0).tolist() == [0.0, -math.inf]
    assert z_score(0, 0, 0.5) == 0.0
    assert np.isnan(z_score(0, 0, math.nan))
    # n p is no exact number here, but the distance from it is.
    assert z_score(HUGE - 9, HUGE, 1.0 - 2.0**-40) == pytest.approx(
        (HUGE * 2.0**-40 - 9) / math.sqrt(HUGE * 2.0**-40), rel=1e-11
    )


def slow_rejections(n, p, alpha):
    """The first counts that reject, ``(k_lo, k_hi)``, looked for one by one; None if none does."""
    k = np.arange(n + 1)
    small = np.array([stats.binomtest(int(j), n, p).pvalue <= alpha for j in k])
    up = (k > n * p) & (stats.binom.sf(k - 1, n, p) <= alpha / 2) & small
    down = (k < n * p) & (stats.binom.cdf(k, n, p) <= alpha / 2) & small
    return (k[down].max() if down.any() else None), (k[up].min() if up.any() else None)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 6, 25, 70, 160])
@pytest.mark.parametrize("p", [1e-6, 0.004, 0.03, 0.2, 0.5, 0.86, 0.997])
@pytest.mark.parametrize("alpha", [0.05, 1e-4])
def test_detectable_errors_have_just_the_power_they_say(n, p, alpha):
    seen = detectable(n, p, alpha=alpha, power=0.9)
    k_lo, k_hi = slow_rejections(n, p, alpha)
    assert np.isfinite(seen.upward) == (k_hi is not None)
    assert np.isfinite(seen.downward) == (k_lo is not None)
    assert seen.either == min(seen.upward, seen.downward)
    rejecting = p_value(np.arange(n + 1), n, p) <= alpha
    for error, edge, sign in ((seen.upward, k_hi, 1), (seen.downward, k_lo, -1)):
        if edge is None:
            continue

        def power(rate, edge=edge, sign=sign):
            return stats.binom.sf(edge - 1, n, rate) if sign > 0 else stats.binom.cdf(edge, n, rate)

        assert error > 0.0
        assert power(p * (1 + sign * error)) == pytest.approx(0.9, rel=1e-9)
        assert power(p * (1 + sign * error * 0.999)) < 0.9
        # So the p-value is small enough that often, whichever tail it comes from.
        chance = stats.binom.pmf(np.arange(n + 1), n, p * (1 + sign * error))
        assert chance[rejecting].sum() >= 0.9 - 1e-9


def test_detectable_errors_of_large_cells():
    _, n, p = random_cells(300, seed=4, most=7.0)
    alpha = 1e-9
    seen = detectable(n, p, alpha=alpha)
    assert 100 < np.isfinite(seen.upward).sum() < 300
    assert 50 < np.isfinite(seen.downward).sum() < 250
    for error, sign in ((seen.upward, 1), (seen.downward, -1)):
        rows = np.isfinite(error)
        rate, m, q = p[rows] * (1 + sign * error[rows]), n[rows], p[rows]
        # Which count has the stated power? That one must reject, and the next one inwards not.
        k = stats.binom.ppf(0.1 if sign > 0 else 0.9, m, rate)
        k = np.stack([k - 1, k, k + 1])
        tail = stats.binom.sf(k - 1, m, rate) if sign > 0 else stats.binom.cdf(k, m, rate)
        edge = np.take_along_axis(k, np.abs(tail - 0.9).argmin(axis=0)[None], axis=0)[0]
        assert np.abs(tail - 0.9).min(axis=0).max() < 1e-6
        own = stats.binom.sf(edge - 1, m, q) if sign > 0 else stats.binom.cdf(edge, m, q)
        inner = stats.binom.sf(edge - 2, m, q) if sign > 0 else stats.binom.cdf(edge + 1, m, q)
        assert (own <= alpha / 2 * (1 + 1e-9)).all()
        assert (p_value(edge, m, q) <= alpha).all()
        assert ((inner > alpha / 2) | (p_value(edge - sign, m, q) > alpha)).all()


def test_detectable_shrinks_with_the_square_root_of_the_trials():
    many = detectable([10**6, 10**8, 10**10, 10**12], 0.3, alpha=1e-6).either
    np.testing.assert_allclose(many[:-1] / many[1:], 10.0, rtol=0.01)
    expected = (stats.norm.isf(5e-7) + stats.norm.isf(0.1)) * math.sqrt(0.7 / 0.3 / 1e12)
    assert many[-1] == pytest.approx(expected, rel=1e-5)


def test_detectable_at_the_limits():
    seen = detectable([10, 10, 10, 0, 1, 10**6], [0.0, math.nan, 1.0, 0.5, 0.5, 5e-324], alpha=0.01)
    assert seen.upward.tolist() == pytest.approx([math.inf, math.nan] + [math.inf] * 4, nan_ok=True)
    expected = [math.inf, math.nan, 1.0 - 0.1**0.1, math.inf, math.inf, math.inf]
    assert seen.downward.tolist() == pytest.approx(expected, nan_ok=True)
    assert seen.either.tolist() == pytest.approx(expected, nan_ok=True)
    assert detectable(np.ones((2, 3), dtype=int), [0.1, 0.2, 0.3], alpha=0.1).either.shape == (2, 3)


def test_detectable_does_not_depend_on_the_other_cells():
    _, n, p = random_cells(60, seed=5, most=13.0)
    together = detectable(n, p, alpha=1e-6)
    for i in range(60):
        alone = detectable(n[i], p[i], alpha=1e-6)
        assert (together.upward[i], together.downward[i]) == (alone.upward, alone.downward)


def slow_holm(p_values):
    """Holm's step-down procedure, one hypothesis after the other."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, (len(p_values) - rank) * p_values[i])
        adjusted[i] = min(largest, 1.0)
    return adjusted


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []
    assert holm(0.2) == 0.2
    assert holm([[0.01, 0.5], [0.2, 0.001]]).tolist() == [[0.03, 0.5], [0.4, 0.004]]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.sampled_from([0.0, 1e-300, 0.02, 1.0]), st.floats(0, 1)), max_size=30))
def test_holm_equals_the_slow_loop(p_values):
    adjusted = holm(p_values)
    assert adjusted.tolist() == pytest.approx(slow_holm(p_values), rel=1e-12, abs=0.0)
    with_gaps = [x for p in p_values for x in (math.nan, p)]
    assert holm(with_gaps)[1::2].tolist() == adjusted.tolist()
    assert np.isnan(holm(with_gaps)[::2]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interval(3, 2), r"k = 3: must be at most n = 2"),
        (lambda: interval([1, -1], 2), r"k = -1.0: must be an integer"),
        (lambda: interval(1, 2.5), r"n = 2.5: must be an integer"),
        (lambda: interval(math.nan, 2), r"k = nan: must be an integer"),
        (lambda: interval(1, 2**60), r"n = .*must be an integer from 0 to 2\*\*53"),
        (lambda: interval(1, 2, level=1.0), r"level = 1.0: must be strictly between 0 and 1"),
        (lambda: interval(1, 2, level=math.nan), r"level = nan: must be strictly between 0 and 1"),
        (lambda: p_value(1, 2, 1.5), r"p = 1.5: must be between 0 and 1"),
        (lambda: z_score(1, 2, [0.5, -0.1]), r"p = -0.1: must be between 0 and 1"),
        (lambda: detectable(5, 0.5, alpha=0.0), r"alpha = 0.0: must be strictly between 0 and 1"),
        (lambda: detectable(5, 0.5, alpha=0.2, power=0.1), r"power = 0.1: must be .* 0.2 and 1"),
        (lambda: holm([0.5, 1.1]), r"p_values = 1.1: must be between 0 and 1"),
    ],
)
def test_impossible_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
