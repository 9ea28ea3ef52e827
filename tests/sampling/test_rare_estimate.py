"""Rare events: the tilted sampler against formulas, brute force and itself."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from scipy import special, stats

from obstruction import schemes
from obstruction.sampling.inference import weighted
from obstruction.sampling.kernels import tilted as tilted_kernels
from obstruction.sampling.rare import estimate as tilting
from obstruction.sampling.rare import tilts
from obstruction.schemes.laws import CONSTANT, LAWS, NORMAL, ORTHOGONAL, TRUNCATED, UNIFORM

ALL = tuple(LAWS.values())
SCATTERED = (NORMAL, UNIFORM, TRUNCATED)
NO_STOP = np.zeros(1, np.uint8)


def f_formula(d, a):
    """``log p`` for normal weights, by another library than the package's."""
    with mpmath.workdps(30):
        y = mpmath.mpf(a) / (1 + mpmath.mpf(a))
        return float(mpmath.log(mpmath.betainc(mpmath.mpf(d) / 2, 0.5, 0, y, regularized=True)))


def ball_formula(d, a):
    """``log p`` for uniform weights and a <= 1: a ball inside a cube, averaged over V."""
    ball = d / 2 * math.log(math.pi * a) - math.lgamma(d / 2 + 1)
    return ball - d * math.log(2) - math.log(d + 1)


def drawn(law, size, rng):
    """Weights of a law by NumPy and SciPy alone."""
    if law == NORMAL:
        return rng.standard_normal(size)
    if law == UNIFORM:
        return rng.uniform(-math.sqrt(3), math.sqrt(3), size)
    if law == TRUNCATED:
        cut = stats.truncnorm(-2, 2)
        return cut.rvs(size, random_state=rng) / cut.std()
    return np.ones(size)


# --- kernels -------------------------------------------------------------------------------


def mapped(function, values):
    return np.array([function(value) for value in values])


@pytest.mark.parametrize(
    ("ours", "theirs", "values", "tolerance"),
    [
        ("_minus_log", lambda x: -np.log(x), np.geomspace(1e-12, 0.999, 4001), 1e-14),
        ("_exp", np.exp, np.linspace(-690, 690, 4001), 2e-14),
        ("_erfcx", special.erfcx, np.r_[0, np.geomspace(1e-9, 1e9, 4001)], 1e-14),
        (
            "_erfinv_squared",
            lambda t: special.erfinv(t) ** 2,
            np.r_[np.linspace(1e-7, 0.999, 4001), 1 - np.geomspace(1e-3, 2.0**-33, 500)],
            4e-10,
        ),
    ],
)
def test_functions_are_as_accurate_as_stated(ours, theirs, values, tolerance):
    found = mapped(getattr(tilted_kernels, ours), values)
    np.testing.assert_allclose(found, theirs(values), rtol=tolerance)


def test_the_exponential_has_bounds():
    assert tilted_kernels._exp(-1e300) == tilted_kernels._exp(-700.0) < 1e-300
    assert tilted_kernels._exp(1e300) == tilted_kernels._exp(700.0) > 1e300


def words(n, seed):
    return np.random.default_rng(seed).integers(0, 2**32, (4, n), dtype=np.uint32)


@pytest.mark.parametrize("law", SCATTERED)
@pytest.mark.parametrize("kappa", [0.0, 1e-9, 0.1, 1.0, 30.0, 1e6])
def test_draws_follow_the_tilted_law(law, kappa):
    n = 100_000
    square = np.empty((4, n))
    edge, scale = (float(x) for x in tilts.edge_and_scale(law, np.asarray(kappa)))
    tilted_kernels.tilted_squares(law.code, words(n, 1), n, edge, scale, square)
    k = {NORMAL: 0.5, UNIFORM: 0.0, TRUNCATED: 0.5 * stats.truncnorm(-2, 2).var()}[law]
    if k + kappa < 1e-6:
        theirs = stats.uniform(0, law.bound)
    else:
        sigma = 1 / math.sqrt(2 * (k + kappa))
        theirs = stats.truncnorm(0, law.bound / sigma, scale=sigma)
    for j in range(4):
        assert stats.kstest(np.sqrt(square[j]), theirs.cdf).pvalue > 1e-4
    assert np.all(square <= law.bound**2 * (1 + 1e-9))
    mean = float(tilts.mean_square(law, np.asarray(kappa)))
    assert square.mean() == pytest.approx(mean, rel=0.02)
    correlation = np.corrcoef(square)
    assert np.abs(correlation - np.eye(4)).max() < 0.02


@pytest.mark.parametrize("law", ALL)
def test_the_normaliser_is_the_mean(law):
    kappa = np.array([0.0, 1e-12, 1e-3, 0.7, 20.0])
    w = np.linspace(0, min(law.bound, 12), 200_001)
    density = np.exp(-0.5 * w**2 * (1 if law == NORMAL else stats.truncnorm(-2, 2).var()))
    density = np.ones_like(w) if law == UNIFORM else density
    if law == CONSTANT:
        w, density = np.array([1.0, 1.0 + 1e-12]), np.ones(2)
    whole = np.trapezoid(density, w)
    for k, ours in zip(kappa, tilts.log_mean_exp(law, kappa), strict=True):
        mean = np.trapezoid(density * np.exp(-k * w * w), w) / whole
        assert ours == pytest.approx(math.log(mean), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("law", ALL)
def test_weights_are_the_tail_of_the_output_weight(law):
    s = np.geomspace(1e-6, 40.0, 500)
    a, kappa, shift = 3.0, 0.3, 1.2
    out = np.empty_like(s)
    slope = tilts._SLOPES[law] / a
    tilted_kernels.weigh(law.code, kappa, shift, slope, s, s.size, out)
    v = np.sqrt(s / a)
    tail = {
        NORMAL: lambda: 2 * stats.norm.sf(v),
        UNIFORM: lambda: np.maximum(1 - v / math.sqrt(3), 0),
        TRUNCATED: lambda: 2 * stats.truncnorm.sf(v * stats.truncnorm.std(-2, 2), -2, 2),
        CONSTANT: lambda: (v < 1) * 1.0,
    }[law]()
    np.testing.assert_allclose(out, np.exp(kappa * s - shift) * tail, rtol=1e-10, atol=1e-14)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(tilts.log_tail(law, s / a), np.log(tail), rtol=1e-7, atol=1e-9)


def test_moments_are_sums_of_powers():
    weight = np.random.default_rng(2).exponential(size=tilted_kernels.BLOCK)
    sums = np.zeros(tilted_kernels.SUMS)
    half = np.empty((tilted_kernels.SUMS, tilted_kernels.BLOCK // 2))
    kept = weight[:1000].copy()
    tilted_kernels.add_moments(weight, 1000, half, sums)
    expected = [*(np.sum(kept**k) for k in range(1, 5)), kept.max()]
    np.testing.assert_allclose(sums, expected, rtol=1e-13)


@pytest.mark.parametrize("hidden", ALL)
def test_compiled_and_interpreted_kernels_agree(hidden, monkeypatch):
    arguments = (
        words(8, 3).reshape(-1, 4)[:2].copy(), 1500, hidden.code, TRUNCATED.code, UNIFORM.code,
        0.4, 0.9, 0.7, np.array([1, 4, 6]), np.array([0, 1, 3, 4]),
        np.array([[0.1, 0.2, 0, 1, 1], [0, 0.3, 2, 0.8, 2], [0, 0.1, 2, 0.8, 2], [1, 1, 0, 1, 1]]),
        NO_STOP,
    )  # fmt: skip
    compiled, interpreted = np.zeros((2, 4, tilted_kernels.SUMS))
    assert tilted_kernels.sample(*arguments, compiled)
    for name in ("_erfcx", "_erfinv_squared", "_exp", "_minus_log", "_sine_squared", "weigh"):
        monkeypatch.setattr(tilted_kernels, name, getattr(tilted_kernels, name).py_func)
    for name in ("_normal_pair", "_cut_normal", "tilted_squares", "_with_bias", "add_moments"):
        monkeypatch.setattr(tilted_kernels, name, getattr(tilted_kernels, name).py_func)
    assert tilted_kernels.sample.py_func(*arguments, interpreted)
    assert compiled.any()
    np.testing.assert_array_equal(compiled, interpreted)


# --- estimates -----------------------------------------------------------------------------

NORMAL_CELLS = [
    (1, 1.0), (1, 1e-8), (2, 3.0), (2, 1e3), (3, 1.0), (10, 1.0), (10, 50.0), (16, 1e-2),
    (30, 3.0), (100, 1.0), (100, 1e-3), (990, 1.0), (1985, 1.0), (300, 0.1),
]  # fmt: skip
BALL_CELLS = [
    (1, 1.0), (1, 1e-8), (2, 1.0), (5, 0.3), (28, 1.0), (60, 1.0), (178, 1.0), (316, 1.0),
    (100, 1e-6), (40, 0.05),
]  # fmt: skip


@pytest.mark.parametrize(
    ("laws", "cells", "formula", "most"),
    [
        ((NORMAL, NORMAL), NORMAL_CELLS, f_formula, 0.75),
        ((UNIFORM, UNIFORM), BALL_CELLS, ball_formula, 3.0),
    ],
)
def test_estimates_meet_the_formulas(laws, cells, formula, most):
    d, a = np.array(cells).T
    exact = np.array([formula(int(n), float(r)) for n, r in cells])
    assert exact.min() < math.log(1e-299)
    found = tilting.estimate_ratios(laws, d, a, samples=20_000, threads=2)
    assert np.all(weighted.p_value(found, exact) > 1e-4)
    assert np.all(found.relative_error * math.sqrt(found.samples) < most)
    assert np.all(found.largest_share < 0.01)
    low, high = weighted.interval(found, level=0.9999)
    assert np.all((low <= exact) & (exact <= high))


@pytest.mark.parametrize("law", [NORMAL, UNIFORM])
def test_relative_errors_are_those_promised(law):
    """With 1e5 samples 0.05 % (normal) and 0.5 % (uniform) at 1e-16, and 0.8 % at 1e-150."""
    d = np.array([100, 985]) if law == NORMAL else np.array([31, 180])
    found = tilting.estimate_ratios((law, law), d, 1.0, samples=10_000)
    error = found.relative_error * math.sqrt(found.samples / 1e5)
    assert np.all(found.log_p < np.log([1e-15, 1e-148]))
    assert np.all(error < ([0.0006, 0.0008] if law == NORMAL else [0.0055, 0.009]))


@pytest.mark.parametrize("hidden", ALL)
@pytest.mark.parametrize("output", ALL)
def test_estimates_meet_brute_force(hidden, output):
    rng = np.random.default_rng([3, hidden.code, output.code])
    n = 200_000
    d, a, beta = (3, 2.5, 0.7) if output == CONSTANT else (3, 1.5, 0.7)
    s = np.sum(drawn(hidden, (n, d), rng) ** 2, axis=1)
    v = drawn(output, n, rng) ** 2
    for bias in (None, *ALL):
        b = 0.0 if bias is None else beta * drawn(bias, n, rng) ** 2
        count = int(np.count_nonzero(a * v > s + b))
        found = tilting.estimate_ratios(
            (hidden, output), d, a, beta=beta * (bias is not None), bias_law=bias, samples=20_000
        )
        p = float(np.exp(found.log_p))
        error = math.hypot(math.sqrt(p * (1 - p) / n), p * found.relative_error if p else 0.0)
        assert abs(count / n - p) <= 4.5 * error + 1e-12, bias


def test_estimates_of_schemes_use_their_ratios():
    for name in ("kaiming_normal", "torch_linear", "keras_he_normal", "mean_field"):
        scheme = schemes.scheme(name)
        d, l = np.array([[2], [9]]), np.array([1, 4, 30])
        ratios = tilting.estimate_ratios(
            scheme.laws, d, scheme.ratio(d, l), beta=scheme.bias_ratio(d, l),
            bias_law=scheme.bias_law, samples=1000, seed=5,
        )  # fmt: skip
        found = tilting.estimate(name, d, l, 1000, seed=5)
        assert found.log_p.shape == (2, 3)
        np.testing.assert_array_equal(found.log_p, ratios.log_p)


def test_small_and_huge_networks():
    one = tilting.estimate("xavier_normal", 1, 1, 20_000)
    assert one.log_p.shape == ()
    assert weighted.p_value(one, math.log(0.5)) > 1e-4
    huge = tilting.estimate("kaiming_normal", 100_000, 100_000, 2048)
    # the asymptotic series of the F distribution's tail: relative error below 1e-9 there
    m, y = 50_000.0, 0.5
    exact = m * math.log(y) + 0.5 * math.log(1 - y) - math.log(m) - special.betaln(m, 0.5)
    exact += float(mpmath.log(mpmath.hyp2f1(m + 0.5, 1, m + 1, y)))
    assert exact < -34_000
    assert weighted.p_value(huge, exact) > 1e-4
    assert huge.relative_error < 0.02


def test_large_biases_do_no_harm():
    found = tilting.estimate_ratios(
        (NORMAL, NORMAL), 1, 1.0, beta=[1.0, 1e3, 1e6], bias_law=NORMAL, samples=50_000
    )
    # a V^2 > W^2 + beta B^2: B below is Cauchy in the limit; integrate over the angle of (V, B)
    angle = (np.arange(400_000) + 0.5) / 400_000 * math.pi / 2
    for k, beta in enumerate((1.0, 1e3, 1e6)):
        c = np.cos(angle) ** 2 - beta * np.sin(angle) ** 2
        exact = np.mean(np.sqrt(np.maximum(c, 0) / (1 + np.maximum(c, 0))))
        assert abs(np.exp(found.log_p[k]) / exact - 1) < 5 * found.relative_error[k] + 2e-3


def test_what_is_certain_is_not_sampled():
    nothing = tilting.estimate_ratios((NORMAL, UNIFORM), 3, [0.0, np.inf], samples=100)
    assert nothing.log_p.tolist() == [-np.inf, 0.0]
    assert nothing.relative_error.tolist() == [0.0, 0.0]
    assert weighted.p_value(nothing, [-np.inf, 0.0]).tolist() == [1.0, 1.0]
    assert weighted.p_value(nothing, [-800.0, -1e-9]).tolist() == [0.0, 0.0]
    low, high = weighted.interval(nothing)
    assert low.tolist() == high.tolist() == [-np.inf, 0.0]
    d = np.array([1, 3, 49])
    for a, expected in ((d, -np.inf), (d * (1 + 1e-15), 0.0), (d * (1 - 1e-15), -np.inf)):
        fixed = tilting.estimate_ratios((CONSTANT, CONSTANT), d, a, samples=100)
        assert fixed.log_p.tolist() == [expected] * 3
    bounded = tilting.estimate_ratios((UNIFORM, CONSTANT), 2, [6.1, 5.9], samples=100_000)
    assert bounded.log_p[0] == 0.0 == bounded.relative_error[0]
    assert bounded.log_p[1] < 0.0
    assert tilting.estimate("zero_output", 5, 5, 100).log_p == -np.inf


def test_a_constant_hidden_layer_needs_no_luck():
    found = tilting.estimate_ratios((CONSTANT, NORMAL), [4, 400], 1.0, samples=100)
    exact = np.log(2) + stats.norm.logsf([2.0, 20.0])
    np.testing.assert_allclose(found.log_p, exact, rtol=1e-12)
    assert np.all(weighted.p_value(found, exact) > 0.9)
    edge = 1 / TRUNCATED.bound**2
    barely = tilting.estimate_ratios((CONSTANT, TRUNCATED), 1, edge * (1 + 1e-15), samples=100)
    assert barely.log_p < math.log(1e-13)


@pytest.mark.parametrize("name", ["kaiming_normal", "torch_linear"])
def test_estimates_depend_on_their_cell_and_seed_alone(name):
    d, l = np.array([[1], [7], [64], [130]]), np.array([1, 5, 50])
    whole = tilting.estimate(name, d, l, 20_000, seed=3, threads=1)
    again = tilting.estimate(name, d[::-1], l[::-1], 20_000, seed=3, threads=3)
    np.testing.assert_array_equal(whole.log_p, again.log_p[::-1, ::-1])
    np.testing.assert_array_equal(whole.skewness, again.skewness[::-1, ::-1])
    alone = tilting.estimate(name, 64, 5, 20_000, seed=3)
    assert (alone.log_p, alone.relative_error) == (whole.log_p[2, 1], whole.relative_error[2, 1])
    other = tilting.estimate(name, 64, 5, 20_000, seed=4)
    assert other.log_p != alone.log_p


def test_wrong_formulas_are_rejected():
    d, l = 50, 40
    found = tilting.estimate("kaiming_normal", d, l, 20_000)
    right = d / l
    wrong = {
        "d + 1": (d + 1, right), "d - 1": (d - 1, right), "swapped fans": (d, l / d),
        "forgotten gain": (d, right * 2), "Xavier": (d, (d + l) / (l + 1)),
        "1 % of a": (d, right * 1.01),
    }  # fmt: skip
    assert weighted.p_value(found, f_formula(d, right)) > 1e-4
    for what, (n, a) in wrong.items():
        assert weighted.p_value(found, f_formula(n, a)) < 1e-9, what
    uniform = tilting.estimate_ratios((UNIFORM, UNIFORM), 50, 0.8, samples=20_000)
    assert weighted.p_value(uniform, ball_formula(50, 0.8)) > 1e-4
    assert weighted.p_value(uniform, f_formula(50, 0.8)) < 1e-9


def test_refusals():
    with pytest.raises(ValueError, match="depend on each other"):
        tilting.estimate("orthogonal", 3, 3)
    with pytest.raises(ValueError, match="depend on each other"):
        tilting.estimate_ratios((ORTHOGONAL, NORMAL), 3, 1.0)
    for wrong in (
        {"d": 0}, {"d": 2.5}, {"d": np.nan}, {"a": -1.0}, {"a": np.nan}, {"beta": -1.0},
        {"beta": np.inf}, {"samples": 1}, {"samples": 2.5}, {"seed": -1}, {"threads": 0},
    ):  # fmt: skip
        (name,) = wrong
        given = {"d": 3, "a": 1.0, "beta": 0.0, "bias_law": NORMAL, "samples": 10, **wrong}
        with pytest.raises(ValueError, match=name):
            tilting.estimate_ratios((NORMAL, NORMAL), given.pop("d"), given.pop("a"), **given)
    with pytest.raises(ValueError, match="beta"):
        tilting.estimate_ratios((NORMAL, NORMAL), 3, 1.0, beta=1.0)


def test_work_can_be_watched_and_stopped():
    seen = []
    tilting.estimate("kaiming_normal", [5, 60], [[3], [70]], 40_000, threads=2, watch=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)

    def enough(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tilting.estimate("kaiming_normal", 2000, np.arange(1, 2000), 40_000, watch=enough)


def test_a_stopped_kernel_says_so():
    sums = np.zeros((1, tilted_kernels.SUMS))
    cell = np.array([[0.0, 0.5, 0.0, 1.0, 1.0]])
    place = np.array([9]), np.array([0, 1]), cell
    keys = words(1, 0).reshape(1, 4)
    stop = np.ones(1, np.uint8)
    assert not tilted_kernels.sample(keys, 5, 0, 0, 3, 0.1, 1.0, 1.0, *place, stop, sums)
    assert not sums.any()


# --- intervals and tests -------------------------------------------------------------------


def made(log_p=-50.0, error=0.01, skewness=0.0, samples=10_000, share=1e-3, bound=np.inf):
    fields = (np.asarray(x, float) for x in (log_p, error, skewness, share, bound))
    return weighted.Estimate(samples, *fields)


@pytest.mark.parametrize("skewness", [0.0, 3.0, -3.0, 20.0])
@pytest.mark.parametrize("level", [0.5, 0.95, 1 - 1e-7])
def test_intervals_hold_what_tests_do_not_reject(skewness, level):
    estimate = made(skewness=skewness)
    low, high = weighted.interval(estimate, level=level)
    assert low < estimate.log_p < high
    for end, inside in ((low, 1e-6), (high, -1e-6)):
        assert weighted.p_value(estimate, end + inside) >= 1 - level
        assert weighted.p_value(estimate, end - inside) <= (1 - level) * (1 + 1e-6)
    wider = weighted.interval(made(), level=level)
    assert low <= wider[0] + 1e-12
    assert high >= wider[1] - 1e-12


def test_a_wide_interval_may_reach_zero():
    low, high = weighted.interval(made(error=0.5, skewness=4.0))
    assert low == -np.inf
    assert -50 < high < -48
    assert weighted.interval(made(log_p=0.0))[1] == 0.0


def test_weights_that_are_all_zero_give_an_upper_end():
    none = made(log_p=-np.inf, error=np.inf, bound=-30.0, samples=1000)
    low, high = weighted.interval(none)
    assert low == -np.inf
    assert math.exp(high + 30) == pytest.approx(1 - 0.05**0.001)
    assert weighted.p_value(none, high) == pytest.approx(0.05)
    assert weighted.p_value(none, -29.0) == 0.0
    assert weighted.z_score(none, -40.0) == 0.0


def test_few_effective_samples_make_tests_cautious():
    few, many = made(error=0.3, samples=100), made(error=0.3, samples=10**9)
    assert weighted.p_value(few, math.log(0.1) - 50) > weighted.p_value(many, math.log(0.1) - 50)
    assert few.effective_samples == pytest.approx(10)


def test_scores():
    estimate = made()
    assert weighted.z_score(estimate, math.log(0.98) - 50) == pytest.approx(2.0)
    assert np.isnan(weighted.p_value(estimate, np.nan))
    assert np.isnan(weighted.z_score(estimate, np.nan))
    assert weighted.p_value(estimate, -np.inf) < 1e-300
    assert weighted.p_value(estimate, 900.0) == 0.0
    assert weighted.p_value(made(), -50.0) == 1.0


def test_from_neuron_to_network():
    p = np.array([1e-9, 1e-3, 0.5, 1.0])
    with mpmath.workdps(30):
        exact = [float(mpmath.log(1 - (1 - mpmath.mpf(float(x))) ** 7)) for x in p]
    np.testing.assert_allclose(weighted.log_network(np.log(p), 7), exact, rtol=1e-13, atol=1e-15)
    assert weighted.log_network(-1e4, 100) == pytest.approx(-1e4 + math.log(100))
    assert weighted.log_network(1e-3, 5) == 0.0
    assert weighted.log_network(-np.inf, 5) == -np.inf
    estimate = made(log_p=np.log(p), error=np.full(4, 1e-3), skewness=np.zeros(4))
    step = 1e-6
    change = weighted.log_network(np.log(p) + step, 7) - weighted.log_network(np.log(p), 7)
    error = weighted.network_error(estimate, 7)
    np.testing.assert_allclose(error, 1e-3 * change / step, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(weighted.network_error(estimate, 1), 1e-3)
    assert weighted.network_error(made(log_p=-np.inf, error=np.inf), 3) == np.inf


def coverage(laws, d, a, exact, samples, repetitions):
    hits, alarms, scores = 0, 0, []
    for seed in range(repetitions):
        found = tilting.estimate_ratios(laws, d, a, samples=samples, seed=seed)
        low, high = weighted.interval(found)
        hits += bool(low <= exact <= high)
        alarms += bool(weighted.p_value(found, exact) < 0.01)
        scores.append(float(weighted.z_score(found, exact)))
    return hits / repetitions, alarms / repetitions, np.array(scores)


COVERED = [
    (NORMAL, 2, 1.4, f_formula),
    (NORMAL, 100, 1.0, f_formula),
    (UNIFORM, 6, 1.0, ball_formula),
    (UNIFORM, 178, 1.0, ball_formula),
]


@pytest.mark.parametrize(("law", "d", "a", "formula"), COVERED)
def test_intervals_cover(law, d, a, formula):
    share, alarms, scores = coverage((law, law), d, a, formula(d, a), 1000, 200)
    assert share > 0.95 - 4 * math.sqrt(0.95 * 0.05 / 200)
    assert alarms < 0.01 + 4 * math.sqrt(0.01 / 200)
    assert abs(np.mean(scores)) < 0.4


@pytest.mark.slow
@pytest.mark.parametrize(("law", "d", "a", "formula"), [*COVERED, (NORMAL, 985, 1.0, f_formula)])
def test_intervals_cover_nearly_as_often_as_stated(law, d, a, formula):
    share, alarms, scores = coverage((law, law), d, a, formula(d, a), 4000, 1000)
    assert abs(share - 0.955) < 0.025
    assert alarms < 0.02
    assert stats.kstest(scores, stats.norm.cdf).pvalue > 1e-4


@pytest.mark.slow
def test_every_scheme_is_sampled_well():
    d = np.array([1, 2, 3, 5, 10, 30, 100, 300])
    for name in schemes.scheme_names():
        if schemes.scheme(name).independent:
            found = tilting.estimate(name, d[:, None], d, 10_000, threads=2)
            assert np.all(found.relative_error * 100 < 5), name
            assert np.all(found.largest_share < 0.02), name
