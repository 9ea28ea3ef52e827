"""Exact values of laws without a closed form, against independent formulas and each other."""

import itertools
import math

import mpmath as mp
import numpy as np
import pytest
from scipy import special

from obstruction import exact
from obstruction.exact import contour_integral as contour
from obstruction.exact import craig_integral as craig
from obstruction.exact import f_distribution as normal
from obstruction.exact import few_inputs as few
from obstruction.exact import inversion, transforms
from obstruction.schemes.laws import CONSTANT, LAWS, NORMAL, TRUNCATED, UNIFORM

CUT_SQUARE = 1 - 4 * mp.exp(-2) / mp.sqrt(2 * mp.pi) / mp.erf(mp.sqrt(2))
BOUNDED = ("uniform", "truncated_normal")
RATIOS = np.concatenate([np.logspace(-12, 12, 25), np.linspace(0.5, 30, 30)])


def log_p(output, hidden, bias, d, a, beta=0.0):
    d, a, beta = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (d, a, beta)))
    law = None if bias is None else LAWS[bias]
    exponent, factor = inversion.factors(LAWS[output], LAWS[hidden], law, d, a, beta)
    with np.errstate(divide="ignore"):
        return exponent + np.log(factor)


def assert_close(found, expected, tolerance=1e-10):
    """Logarithms agree to ``tolerance`` or to 1e-13 of their size."""
    found, expected = np.broadcast_arrays(found, expected)
    same = found == expected  # infinities
    with np.errstate(invalid="ignore"):
        error = np.abs(found - expected)
    assert np.all(same | (error <= np.maximum(tolerance, 1e-13 * np.abs(expected))))


# --- an oracle: Laplace inversion with mpmath's hypergeometric functions -------------------


def transform(law, z):
    """Return E exp(z W^2) of a standardised variable."""
    if law == "constant":
        return mp.exp(z)
    if law == "normal":
        return 1 / mp.sqrt(1 - 2 * z)
    if law == "uniform":
        return mp.hyp1f1(0.5, 1.5, 3 * z)
    return mp.hyp1f1(0.5, 1.5, 4 * z / CUT_SQUARE - 2) / mp.hyp1f1(0.5, 1.5, -2)


def bromwich(output, hidden, bias, d, a, beta):
    """Return P(a V^2 > S) along a line near the saddle point, piece by piece."""
    a, beta = mp.mpf(a), mp.mpf(beta)

    def f(z):
        value = transform(output, a * z) * transform(hidden, -z) ** d / z
        return value * transform(bias, -beta * z) if bias else value

    high = 0.499 / a if output == "normal" else (mp.mpf(d) + 4) / a
    s = min((high * k / 60 for k in range(1, 60)), key=f)
    scale, width = f(s), 2 * mp.pi / (3 * a)
    total, y = mp.mpf(0), mp.mpf(0)
    while True:
        total += mp.quad(lambda t: mp.re(f(mp.mpc(s, t)) / scale), [y, y + width])
        y += width
        if abs(f(mp.mpc(s, y)) / scale) * y < mp.mpf(10) ** -20 * abs(total) * s:
            return scale * total / mp.pi


# From `bromwich` and, for d = 1, two nested real integrals, all with 20 digits or more.
ORACLE = [
    ("uniform", "uniform", None, 1, 2.5, 0.0, "0.6837722339831621"),
    ("uniform", "uniform", "uniform", 1, 2.5, 0.3, "0.6157875139439231"),
    ("truncated_normal", "uniform", "normal", 1, 0.7, 2.0, "0.1625512227222527"),
    ("uniform", "truncated_normal", "uniform", 1, 40.0, 25.0, "0.5886375222330293"),
    ("truncated_normal", "truncated_normal", "truncated_normal", 1, 1.3, 1.0, "0.3408102969151151"),
    ("uniform", "normal", "truncated_normal", 1, 1.5, 0.01, "0.6235304379280439"),
    ("uniform", "uniform", None, 30, 10.0, 0.0, "0.0344937319674484"),
    ("uniform", "uniform", "uniform", 30, 3.0, 0.4, "5.400186717335885e-9"),
    ("truncated_normal", "truncated_normal", None, 40, 4.0, 0.0, "1.545787918244614e-5"),
    ("truncated_normal", "uniform", "normal", 100, 20.0, 3.0, "0.005249060117433707"),
    ("uniform", "normal", "uniform", 60, 50.0, 0.2, "0.3691082729253516"),
    ("constant", "uniform", None, 60, 40.0, 0.0, "0.001272842165004865"),
]
BY_INVERSION = [row for row in ORACLE if row[3] >= 20]


@pytest.mark.parametrize(("output", "hidden", "bias", "d", "a", "beta", "p"), ORACLE)
def test_agrees_with_mpmath(output, hidden, bias, d, a, beta, p):
    found = math.exp(log_p(output, hidden, bias, d, a, beta))
    assert found == pytest.approx(float(p), rel=2e-13, abs=0)


@pytest.mark.slow
@pytest.mark.parametrize(("output", "hidden", "bias", "d", "a", "beta", "p"), BY_INVERSION)
def test_the_oracle_says_so(output, hidden, bias, d, a, beta, p):
    with mp.workdps(25):
        value = bromwich(output, hidden, bias, d, a, beta)
        assert abs(value / mp.mpf(p) - 1) < mp.mpf(10) ** -14


# --- formulas known otherwise --------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 3, 10, 300, 10**5])
def test_craigs_integral_agrees_with_the_f_distribution(d):
    a = np.logspace(-12, 12, 49)
    sizes, none = np.full(49, float(d)), np.zeros(49)
    cells = contour.Cells(NORMAL, CONSTANT, sizes, a, none, none)
    found = craig.solve(a, none, cells.log_transform, cells.slope)
    expected = normal.factors(sizes, a)
    assert_close(found[0] + np.log(found[1]), expected[0] + np.log(expected[1]), 2e-13)


@pytest.mark.parametrize("d", [1, 2, 3, 5, 7, 8, 12, 16, 17, 18, 30, 100, 1000, 10**4, 10**5])
def test_a_ball_inside_the_cube(d):
    a = np.array([1e-300, 1e-12, 1e-6, 1e-3, 0.1, 0.5, 0.9, 1.0])
    ball = special.gammaln(d / 2 + 1) + d * math.log(2) + math.log(d + 1)
    expected = d / 2 * np.log(np.pi * a) - ball
    assert_close(log_p("uniform", "uniform", None, d, a), expected, 1e-12)


@pytest.mark.parametrize("other", ["normal", *BOUNDED])
def test_constant_hidden_weights_leave_a_tail(other):
    for d in (1, 3, 10**5):
        a = d * np.array([0.01, 0.2, 0.35, 0.9, 1.0, 2.0, 1e6])
        v = np.sqrt(d / a)
        if other == "normal":
            expected = special.erfc(v / math.sqrt(2))
        elif other == "uniform":
            expected = np.maximum(1 - v / math.sqrt(3), 0)
        else:
            s = math.sqrt(CUT_SQUARE / 2)
            expected = np.maximum(1 - special.erf(v * s) / math.erf(math.sqrt(2)), 0)
        found = np.exp(log_p(other, "constant", None, d, a))
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-15)


def test_uniform_output_with_room_above_is_a_mean_root():
    """With a >= d no sum passes the bound, and p = 1 - E sqrt(S) / sqrt(3 a)."""
    a = np.array([1.0, 2.0, 50.0])
    assert_close(np.exp(log_p("uniform", "uniform", None, 1, a)), 1 - 0.5 / np.sqrt(a), 1e-14)
    corner = (math.sqrt(2) + math.asinh(1)) / 3  # the mean distance from a corner of the square
    found = np.exp(log_p("uniform", "uniform", None, 2, a[1:]))
    assert_close(found, 1 - corner / np.sqrt(a[1:]), 1e-14)


def test_certain_and_impossible_cells_are_exact():
    def p(*case):
        return np.exp(log_p(*case)).tolist()

    assert p("constant", "constant", "constant", 3, [3.4, 3.5, 3.6], 0.5) == [0.0, 0.0, 1.0]
    assert p("constant", "uniform", None, 2, [5.999, 6.0, 6.1])[1:] == [1.0, 1.0]
    assert p("constant", "uniform", None, 2, 5.999) < 1.0
    assert p("uniform", "constant", None, 9, [2.9, 3.0, 3.1])[:2] == [0.0, 0.0]
    assert p("uniform", "constant", None, 9, 3.1) > 0.0
    assert p("uniform", "normal", "constant", 50, [0.1, 1.0], 3.0) == [0.0, 0.0]
    for laws in itertools.product(LAWS, LAWS, (None, *LAWS)):
        assert p(*laws, [1, 40], 0.0, 0.3) == [0.0, 0.0]
        assert p(*laws, [1, 40], np.inf, 0.3) == [1.0, 1.0]


# --- one method against the other ----------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "hidden"),
    [
        ("constant", "normal"),
        ("uniform", "normal"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in itertools.product((*BOUNDED, "constant"), (*BOUNDED, "normal"))
            if pair not in (("constant", "normal"), ("uniform", "normal"))
        ),
    ],
)
def test_contour_and_real_integrals_agree(output, hidden, monkeypatch):
    cases = [(None, 13, 0.0), (None, 16, 0.0), ("constant", 12, 0.7), ("uniform", 9, 0.3)]
    cases += [("truncated_normal", 9, 5.0), ("normal", 9, 1.2)]
    for bias, d, beta in cases:
        a = RATIOS[::3] if bias else RATIOS
        values = []
        for limit in (7, 16):
            monkeypatch.setattr(few, "FEW", limit)
            monkeypatch.setattr(few, "FEW_BIASED", limit)
            values.append(log_p(output, hidden, bias, d, a, beta))
        assert_close(values[0], values[1], 2e-12)


@pytest.mark.parametrize(("output", "hidden"), [("uniform", "uniform"), ("constant", "normal")])
def test_far_larger_biases_are_integrated_outside(output, hidden, monkeypatch):
    a = np.array([3.0, 300.0, 3000.0])
    inside = log_p(output, hidden, "uniform", 12, a, 1e3)
    monkeypatch.setattr(few, "FEW", 7)
    assert_close(log_p(output, hidden, "uniform", 12, a, 1e3), inside, 2e-12)
    outside = log_p(output, hidden, "uniform", 400, a, 1e4)
    monkeypatch.setattr(inversion, "_APART", np.inf)
    assert_close(log_p(output, hidden, "uniform", 400, a, 1e4), outside, 2e-12)


@pytest.mark.parametrize("bias", ["normal", *BOUNDED])
def test_small_biases_vanish_and_large_ones_rule(bias):
    for output, d in itertools.product(("normal", *BOUNDED), (2, 30)):
        none = log_p(output, "uniform", None, d, 1.0 * d)
        assert_close(log_p(output, "uniform", bias, d, 1.0 * d, 1e-15), none, 1e-12)
        ruled = log_p(output, "uniform", bias, d, 1e15, 1e15)
        assert_close(ruled, log_p(output, bias, None, 1, 1.0), 1e-5)


# --- shape ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "hidden", "bias"),
    [
        ("uniform", "uniform", None),
        ("truncated_normal", "uniform", "normal"),
        ("constant", "truncated_normal", "uniform"),
        ("normal", "uniform", "uniform"),
    ],
)
@pytest.mark.parametrize(
    "d", [1, *(pytest.param(d, marks=pytest.mark.slow) for d in (2, 5, 7, 16, 17, 10**5)), 8, 100]
)
def test_p_rises_with_the_ratio_and_never_jumps(output, hidden, bias, d):
    a = np.concatenate([np.logspace(-12, 12, 60), d * np.linspace(0.2, 1.5, 60)])
    a = np.sort(np.concatenate([a, a * (1 + 1e-9)]))
    found = log_p(output, hidden, bias, d, a, 0.4 if bias else 0.0)
    step, size = np.diff(found), np.diff(np.log(a))
    assert np.all(found <= 1e-12)
    assert np.all(step >= -1e-10 - 1e-13 * np.abs(found[1:]))
    # d log p / d log a is at most about (d + 1) / 2, less where p is not tiny
    close = size < 1e-8
    assert np.all(step[close] <= 1e-8 * (d + 10) + 1e-10 + 1e-13 * np.abs(found[1:][close]))


@pytest.mark.parametrize("output", [*BOUNDED, "constant"])
def test_p_falls_with_the_number_of_inputs_across_methods(output):
    d = np.arange(1, 60)
    for hidden, bias in itertools.product((*BOUNDED, "normal"), (None, "uniform")):
        for a in (0.1, 2.0, 9.0):
            step = np.diff(log_p(output, hidden, bias, d, a, 0.4))
            assert np.all(step <= 1e-12)
            assert np.all(np.abs(np.diff(step[5:])) < 0.5)  # no method's edge shows


def test_a_cell_does_not_depend_on_its_neighbours():
    d, a = np.arange(1, 40)[:, None], np.array([0.01, 1.0, 5.0, 70.0])
    grid = log_p("uniform", "truncated_normal", "uniform", d, a, 0.3)
    singles = [
        [log_p("uniform", "truncated_normal", "uniform", x, y, 0.3) for y in a] for x in d[:, 0]
    ]
    np.testing.assert_allclose(grid, singles, rtol=1e-12)


# --- sampled networks ----------------------------------------------------------------------


def draw(rng, law, shape):
    if law == "normal":
        return rng.standard_normal(shape)
    if law == "uniform":
        return rng.uniform(-math.sqrt(3), math.sqrt(3), shape)
    if law == "constant":
        return np.ones(shape)
    values = special.ndtri(rng.uniform(special.ndtr(-2), special.ndtr(2), shape))
    return values / math.sqrt(CUT_SQUARE)


def test_sampled_neurons_are_pathological_as_often():
    """Seeded; |z| > 4.5 in none of 64 cells: wrong for one seed in 2000 if all is right."""
    rng = np.random.default_rng(2)
    n = 50_000
    for output, hidden, bias in itertools.product(LAWS, LAWS, LAWS):
        d, a, beta = 3, 4.1, 0.7
        square = (draw(rng, hidden, (n, d)) ** 2).sum(axis=1) + beta * draw(rng, bias, n) ** 2
        count = np.count_nonzero(a * draw(rng, output, n) ** 2 > square)
        p = math.exp(log_p(output, hidden, bias, d, a, beta))
        spread = math.sqrt(max(n * p * (1 - p), 1e-9))
        assert abs(count - n * p) < 4.5 * spread, (output, hidden, bias)
        if 0.01 < p < 0.99:  # a forgotten bias or one input less would be seen
            for wrong in (
                log_p(output, hidden, None, d, a),
                log_p(output, hidden, bias, 2, a, beta),
            ):
                assert abs(count - n * math.exp(wrong)) > 6 * spread


# --- parts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("law", [UNIFORM, TRUNCATED])
def test_transforms_keep_all_digits(law):
    rng = np.random.default_rng(1)
    size, angle = np.exp(rng.uniform(-12, 9, 120)), rng.uniform(-np.pi / 2, np.pi / 2, 120)
    for side in (1.0, -1.0):
        for z in side * size * np.exp(1j * angle):
            found = mp.mpc(transforms.log_transform(law, np.array([z]))[0])
            shift = 0 if law == UNIFORM else 2
            with mp.workdps(40):
                value = mp.hyp1f1(0.5, 1.5, -mp.mpc(z) - shift) / mp.hyp1f1(0.5, 1.5, -shift)
                expected = mp.log(value)
                turns = mp.nint((found - expected).imag / (2 * mp.pi))
                error = abs(found - expected - 2j * mp.pi * turns)
            limit = abs(expected) if abs(z) < 1 else max(1, abs(expected))
            assert error < 3e-14 * limit  # scipy's near the zeros, else 1e-15


def test_distribution_functions_of_few_squares():
    """A quarter disc beyond the unit square, and the corner of a cube."""
    base = few.pieces(UNIFORM, 2)
    t = 1.44
    angle = math.acos(1 / 1.2)
    area = math.sqrt(t - 1) + t * (math.pi / 2 - 2 * angle) / 2
    assert float(base(1, np.array([math.sqrt(t - 1)]), np.ones(1))[0]) == pytest.approx(
        area, rel=1e-14
    )
    for law in (UNIFORM, TRUNCATED):
        for d in (3, 9, 16):
            base = few.pieces(law, d)
            ends = [float(base(k, np.ones(1), np.ones(1))[0]) for k in range(d)]
            starts = [float(base(k, np.zeros(1), np.ones(1))[0]) for k in range(1, d)]
            np.testing.assert_allclose(ends[:-1], starts, rtol=2e-12)
            assert ends[-1] == pytest.approx(1.0, rel=1e-13)


def test_a_grid_needs_little_memory_and_time():
    import time
    import tracemalloc

    size = np.arange(1, 101)
    start = time.process_time()
    exact.obstruction_probability("kaiming_uniform", size[:, None], size)
    assert time.process_time() - start < 10.0  # about 0.5 s
    tracemalloc.start()
    exact.obstruction_probability("torch_linear", size[::3, None], size)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20


def test_more_inputs_than_the_method_can_do_are_refused():
    with pytest.raises(ValueError, match=r"d = 1,000,001: exact values of scheme 'torch_linear'"):
        exact.pathological_probability("torch_linear", [3, 10**6 + 1], 5)
    assert exact.log_pathological_probability("kaiming_normal", 10**7, 10**7) < -1e6
    d = 10**6
    small_ball = d / 2 * np.log(np.pi) - special.gammaln(d / 2 + 1) - d * np.log(2) - np.log(d + 1)
    found = exact.log_pathological_probability("kaiming_uniform", d, d)
    assert found == pytest.approx(small_ball, rel=1e-13)
