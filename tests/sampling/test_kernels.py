"""The compiled kernels: the generator, the laws and the counting, each against something slower."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

from obstruction.sampling import streams
from obstruction.sampling.config import StudyConfig
from obstruction.sampling.grid_parts import grid_parts
from obstruction.sampling.kernels import networks as kernels
from obstruction.sampling.kernels.packing import LANES
from obstruction.sampling.thresholds import NO_BIAS
from obstruction.schemes import LayerRule, scheme
from obstruction.schemes.laws import CONSTANT, CUT_STD, LAWS, TRUNCATED

NORMAL, UNIFORM = (LAWS[name].code for name in ("normal", "uniform"))
LAW_CODES = [law.code for law in LAWS.values()]
LAW_TRIPLES = [
    *((hidden, output, NO_BIAS) for hidden in LAW_CODES for output in LAW_CODES),
    *((0, output, bias) for output in (0, 1) for bias in LAW_CODES),
]

# --- the generator -------------------------------------------------------------------------

PUBLISHED = [
    # counter, key, words: the vectors published with Random123 for threefry4x32, 20 rounds
    ("00000000 " * 4, "00000000 " * 4, "9c6ca96a e17eae66 fc10ecd4 5256a7d8"),
    ("ffffffff " * 4, "ffffffff " * 4, "2a881696 57012287 f6c7446e a16a6732"),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0 082efa98 ec4e6c89",
        "59cd1dbb b8879579 86b5d00c ac8b6d84",
    ),
]

ROTATIONS = [(10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20)]


def slow_threefry(counter, key):
    """Threefry-4x32-20 as in Salmon et al. (SC 2011), with Python's integers."""
    mask = 0xFFFFFFFF
    schedule = [*key, 0x1BD11BDA ^ key[0] ^ key[1] ^ key[2] ^ key[3]]
    x = [(c + k) & mask for c, k in zip(counter, key, strict=True)]
    for r in range(20):
        partners = ((0, 1), (2, 3)) if r % 2 == 0 else ((0, 3), (2, 1))
        for (i, j), rotation in zip(partners, ROTATIONS[r % 8], strict=True):
            x[i] = (x[i] + x[j]) & mask
            x[j] = ((x[j] << rotation | x[j] >> 32 - rotation) & mask) ^ x[i]
        if r % 4 == 3:
            step = r // 4 + 1
            x = [(word + schedule[(step + i) % 5]) & mask for i, word in enumerate(x)]
            x[3] = (x[3] + step) & mask
    return tuple(x)


def hexadecimal(text):
    return tuple(int(word, 16) for word in text.split())


def kernel_words(key, group, rows, networks, role, threefry=None):
    """The words of ``n`` counters that share a group and a role, shape (4, n)."""
    n = len(rows)
    words = np.empty((4, n), np.uint32)
    (threefry or kernels.threefry)(
        np.array(key, np.uint32),
        group,
        np.array(rows, np.uint32),
        np.array(networks, np.uint32),
        np.uint32(role),
        n,
        words,
    )
    return words


@pytest.mark.parametrize(("counter", "key", "words"), PUBLISHED)
def test_generator_gives_the_published_vectors(counter, key, words):
    counter, key, words = map(hexadecimal, (counter, key, words))
    assert slow_threefry(counter, key) == words
    group, row, network, role = counter
    assert tuple(kernel_words(key, group, [row], [network], role)[:, 0]) == words


def test_generator_equals_the_slow_one_on_random_counters_and_keys():
    rng = np.random.default_rng(20)
    for _ in range(8):
        key = rng.integers(0, 2**32, 4).tolist()
        group, role = rng.integers(0, 2**32, 2).tolist()
        rows, networks = rng.integers(0, 2**32, (2, 50)).tolist()
        words = kernel_words(key, group, rows, networks, role)
        expected = [
            slow_threefry((group, row, network, role), key)
            for row, network in zip(rows, networks, strict=True)
        ]
        assert words.T.tolist() == [list(four) for four in expected]


# --- interpreted and compiled --------------------------------------------------------------


@pytest.fixture
def interpreted(monkeypatch):
    """The kernels without compilation: every function of the module replaced by its source."""
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        pytest.skip("nothing is compiled")
    for name, value in list(vars(kernels).items()):
        if hasattr(value, "py_func"):
            monkeypatch.setattr(kernels, name, value.py_func)
    with np.errstate(all="ignore"):  # integers wrap around silently once compiled
        yield kernels


def draw(law, words):
    """Squares and signs of some words of shape (4, n), whatever kernels are in force."""
    n = words.shape[1]
    square, sign = np.empty((4, n)), np.empty((4, n))
    kernels.squares(law, words, n, np.empty((2, n), np.float32), square)
    kernels.signs(law, words, n, sign)
    return square, sign


def edge_words():
    """Words next to every power of two, and the same downwards from the top: 192 of them."""
    powers = [2**i for i in range(32)]
    words = {p + step for p in powers for step in (-1, 0, 1)}
    words |= {2**32 - 1 - word for word in words}
    return np.array(sorted(words), np.uint32)


def quadruples():
    """All pairs of edge words as (radius, angle), then random words; shape (4, n)."""
    edges = edge_words()
    radius, angle = (part.ravel() for part in np.meshgrid(edges, edges))
    pairs = np.stack([radius, angle, angle, radius])
    rng = np.random.default_rng(21)
    return np.concatenate([pairs, rng.integers(0, 2**32, (4, 2000)).astype(np.uint32)], axis=1)


@pytest.mark.parametrize("law", LAW_CODES)
def test_compiled_words_squares_and_signs_equal_the_interpreted_ones(law, request):
    words = np.ascontiguousarray(quadruples()[:, ::61])
    rng = np.random.default_rng(22)
    key = rng.integers(0, 2**32, 4)
    rows, networks = rng.integers(0, 2**32, (2, 40))
    compiled = [kernel_words(key, 3, rows, networks, 1), *draw(law, words)]
    request.getfixturevalue("interpreted")
    plain = [kernel_words(key, 3, rows, networks, 1), *draw(law, words)]
    for one, other in zip(compiled, plain, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("laws", LAW_TRIPLES)
def test_compiled_networks_equal_the_interpreted_ones(laws, request):
    def drawn():
        square, sign, bias = np.empty((5, 12)), np.empty((5, 12)), np.zeros(5)
        kernels.draw_network(np.arange(4, dtype=np.uint32), laws, 9, square, sign, bias)
        return np.column_stack([square, sign, bias])

    compiled = drawn()
    request.getfixturevalue("interpreted")
    np.testing.assert_array_equal(drawn(), compiled)


MIXED = "custom:hidden_law=uniform,output_law=normal,output_std=1.5"
EVERY_PATH = (
    "kaiming_normal",  # falls along l
    "kaiming_normal:mode=fan_out",  # rises
    "custom:output_std=0.8",  # constant
    "xavier_uniform",
    "kaiming_uniform:mode=fan_out",
    MIXED,
    "keras_he_normal",
    "custom:law=constant,hidden_law=truncated_normal,output_std=0.4",
    "torch_linear",  # the bias is one more weight
    "torch_xavier_normal",  # falls along l, with a bias that grows
    "torch_kaiming_uniform:mode=fan_out",  # rises, and so does the bias
    "custom:bias_law=constant,bias_std=0.3",
)


def test_compiled_counts_equal_the_interpreted_ones(request):
    config = StudyConfig.of(EVERY_PATH, d=[1, 6], l=[1, 3], seed=5)
    compiled = [count(part, config.seed, 3, first=2, batch=2) for part in grid_parts(config)]
    request.getfixturevalue("interpreted")
    for part, expected in zip(grid_parts(config), compiled, strict=True):
        np.testing.assert_array_equal(count(part, config.seed, 3, first=2, batch=2), expected)


INTERPRETED_STUDY = """
import sys
import numpy as np
import numba
import obstruction as ob
assert numba.config.DISABLE_JIT
np.seterr(all="ignore")
labels, plan = sys.argv[1].split(), sys.argv[2]
study = ob.sample(labels, d=[1, 5], l=[1, 4], networks=4, seed=11, plan=plan, threads=2)
print(study.counts.obstructed.ravel().tolist(), study.counts.pathological.ravel().tolist())
"""


@pytest.mark.parametrize("plan", ["nested", "independent"])
def test_a_process_without_compiler_counts_the_same(plan):
    import obstruction as ob

    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED_STUDY, " ".join(EVERY_PATH), plan],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    study = ob.sample(EVERY_PATH, d=[1, 5], l=[1, 4], networks=4, seed=11, plan=plan)
    counts = study.counts
    assert 0 < counts.obstructed.sum() < counts.pathological.sum()
    expected = f"{counts.obstructed.ravel().tolist()} {counts.pathological.ravel().tolist()}"
    assert done.stdout.strip() == expected


# --- words to weights ----------------------------------------------------------------------


def exact_radius(word):
    """``-2 ln u`` for ``u = (word + 1/2) / 2**32``, in double precision."""
    return -2.0 * np.log((word.astype(np.float64) + 0.5) / 2.0**32)


def exact_share(word):
    """``sin² θ`` of the angle that the upper 29 bits of a word stand for."""
    return np.sin(np.pi / 4.0 * ((word >> 3).astype(np.float64) + 0.5) / 2.0**29) ** 2


def exact_squares(law, words):
    """The squares that the words (4, n) stand for, computed with the library in double."""
    if law == UNIFORM:
        return 3.0 * (((words >> 1).astype(np.float64) + 0.5) / 2.0**31) ** 2
    if law == TRUNCATED.code:
        z = ((words >> 1).astype(np.float64) + 0.5) / 2.0**31
        return 2.0 * special.erfinv(z * special.erf(np.sqrt(2.0))) ** 2 / CUT_STD**2
    if law == CONSTANT.code:
        return np.ones(words.shape)
    square = np.empty(words.shape)
    for first in (0, 2):
        radius, sine = exact_radius(words[first]), exact_share(words[first + 1])
        swap = (words[first + 1] & 1).astype(bool)
        square[first] = radius * np.where(swap, sine, 1.0 - sine)
        square[first + 1] = radius * np.where(swap, 1.0 - sine, sine)
    return square


def worst_errors(square, words):
    """The largest relative error of the pairs' radii, and of the members given the radius.

    A radius may in addition be off by the rounding of u to single precision, which its logarithm
    shows where u is near 1: 2⁻²³ in absolute terms.
    """
    exact = exact_squares(NORMAL, words)
    radius, true = (part[0::2] + part[1::2] for part in (square, exact))
    off = np.maximum(np.abs(radius - true) - 2.0**-23, 0.0) / true
    given = np.repeat(radius / true, 2, axis=0)
    return off.max(), np.abs(square / (exact * given) - 1.0).max()


def test_normal_squares_are_accurate_to_single_precision():
    """Of a square of any size, the smallest included: tiny squares decide rare events."""
    words = quadruples()
    square, _ = draw(NORMAL, words)
    radius, share = worst_errors(square, words)
    assert radius < 3e-7
    assert share < 3e-7


def test_inaccurate_squares_are_noticed():
    words = quadruples()
    square, _ = draw(NORMAL, words)
    assert worst_errors(square * (1.0 + 1e-6), words)[0] > 5e-7
    rounded = np.round(square * 2.0**24) / 2.0**24
    assert worst_errors(rounded, words)[1] > 5e-7


def test_uniform_squares_are_exact():
    words = quadruples()
    square, _ = draw(UNIFORM, words)
    np.testing.assert_allclose(square, exact_squares(UNIFORM, words), rtol=1e-15)


def test_truncated_squares_are_accurate_to_single_precision():
    """Tiny ones included, and the cut is never passed but for that precision."""
    words = quadruples()
    square, sign = draw(TRUNCATED.code, words)
    exact = exact_squares(TRUNCATED.code, words)
    np.testing.assert_allclose(square, exact, rtol=5e-7)
    assert square.max() <= TRUNCATED.bound**2 * (1.0 + 1e-7)
    np.testing.assert_array_equal(sign < 0, (words & 1).astype(bool))


def test_constant_weights_are_one():
    square, sign = draw(CONSTANT.code, quadruples())
    assert (square == 1.0).all()
    assert (sign == 1.0).all()


@pytest.mark.parametrize("law", [NORMAL, UNIFORM, TRUNCATED.code])
def test_extreme_words_give_proper_weights(law):
    square, sign = draw(law, quadruples())
    assert np.isfinite(square).all()
    assert (square > 0.0).all()
    assert set(np.unique(sign)) == {-1.0, 1.0}
    largest = {NORMAL: 2.0 * 33.0 * math.log(2.0), UNIFORM: 3.0}.get(law, TRUNCATED.bound**2)
    assert square.max() <= largest * (1.0 + 1e-6)
    assert square.max() == pytest.approx(largest, rel=1e-6)  # 6.76 and 1.73 standard deviations


def test_signs_are_the_documented_bits():
    words = quadruples()
    _, normal = draw(NORMAL, words)
    _, uniform = draw(UNIFORM, words)
    bits = [(1, 1), (1, 2), (3, 1), (3, 2)]
    for j, (source, shift) in enumerate(bits):
        np.testing.assert_array_equal(normal[j] < 0, (words[source] >> shift & 1).astype(bool))
        np.testing.assert_array_equal(uniform[j] < 0, (words[j] & 1).astype(bool))


@pytest.mark.parametrize("laws", LAW_TRIPLES)
def test_weights_follow_from_the_slow_generator_and_the_library(laws):
    """Pins the layout: counter (group, row, network, role), four columns a group."""
    key, network, rows = [11, 22, 33, 44], 77, kernels.CHUNK + 3
    hidden, output, bias_law = laws
    square, sign, bias = np.empty((rows, 12)), np.empty((rows, 12)), np.full(rows, 7.0)
    kernels.draw_network(np.array(key, np.uint32), laws, network, square, sign, bias)
    for row in (0, 1, kernels.CHUNK - 1, kernels.CHUNK, rows - 1):
        for group in range(3):
            words = np.array(
                [slow_threefry((group, row, network, kernels.HIDDEN_ROLE), key)], np.uint32
            ).T
            expected, signs = exact_squares(hidden, words), draw(hidden, words)[1]
            if group == 0 and output != hidden:
                words = np.array(
                    [slow_threefry((group, row, network, kernels.OUTPUT_ROLE), key)], np.uint32
                ).T
                expected[0] = exact_squares(output, words)[0]
                signs[0] = draw(output, words)[1][0]
            columns = slice(4 * group, 4 * group + 4)
            np.testing.assert_allclose(square[row, columns], expected[:, 0], rtol=2e-6)
            np.testing.assert_array_equal(sign[row, columns], signs[:, 0])
        if bias_law == NO_BIAS:
            assert bias[row] == 7.0
            continue
        words = np.array([slow_threefry((0, row, network, kernels.BIAS_ROLE), key)], np.uint32).T
        weight = np.sqrt(exact_squares(bias_law, words)[0, 0]) * draw(bias_law, words)[1][0, 0]
        assert bias[row] == pytest.approx(weight, rel=2e-6)


# --- the laws ------------------------------------------------------------------------------

NETWORKS, ROWS, COLUMNS = 32, 16_384, 8


def standardised(law, *, seed=0, block=0, output=None, networks=NETWORKS, columns=COLUMNS):
    """Weights of variance 1 of shape (networks, rows, columns), through `draw_network`."""
    output = law if output is None else output
    key = streams.block_key(seed, (0, law, output), block)
    weights = np.empty((networks, ROWS, columns))
    sign = np.empty((ROWS, columns))
    for i in range(networks):
        kernels.draw_network(key, (law, output, NO_BIAS), i, weights[i], sign, np.empty(0))
        np.sqrt(weights[i], out=weights[i])
        weights[i] *= sign
    return weights


@pytest.fixture(scope="module")
def normal():
    return standardised(NORMAL)


@pytest.fixture(scope="module")
def uniform():
    return standardised(UNIFORM)


@pytest.fixture(scope="module")
def truncated():
    return standardised(TRUNCATED.code)


def binomial_p(k, n, p):
    return stats.binomtest(int(k), int(n), float(p)).pvalue


def shape_p_values(weights, cdf):
    """Kolmogorov-Smirnov, column by column (5·10⁵ weights each)."""
    return [
        stats.kstest(weights[..., c].ravel(), cdf, method="asymp").pvalue
        for c in range(weights.shape[-1])
    ]


def moment_p_values(weights, fourth, eighth):
    """The mean of squares and of fourth powers over all weights (4·10⁶)."""
    square = weights.ravel() ** 2
    root = math.sqrt(square.size)
    quartic = square**2
    z = (
        (square.mean() - 1.0) / math.sqrt(fourth - 1.0) * root,
        (quartic.mean() - fourth) / math.sqrt(eighth - fourth**2) * root,
    )
    return (2.0 * special.ndtr(-np.abs(z))).tolist()


def tail_p_values(weights, inside, marks):
    """The number of weights beyond each mark, in every column and on either side."""
    found = []
    for mark in marks:
        beyond = (1.0 - inside(mark)) / 2.0
        for side in (weights > mark, weights < -mark):
            counts = side.sum(axis=(0, 1))
            found += [binomial_p(k, weights[..., 0].size, beyond) for k in counts]
            found.append(binomial_p(counts.sum(), weights.size, beyond))
    return found


def centre_p_values(weights, inside):
    """The number of weights next to zero, in every column."""
    n = weights[..., 0].size
    return [
        binomial_p(k, n, inside(mark))
        for mark in (0.1, 1e-2, 1e-3, 1e-4, 1e-5)
        for k in (np.abs(weights) < mark).sum(axis=(0, 1))
    ]


def sign_p_values(weights):
    """The number of positive weights, in every column, and among the large and the small ones."""
    size = np.abs(weights)
    cuts = [size > 0.0, size > 1.5, size < 0.3]
    return [
        binomial_p(((weights > 0.0) & cut)[..., c].sum(), cut[..., c].sum(), 0.5)
        for cut in cuts
        for c in range(weights.shape[-1])
    ]


def normal_inside(x):
    return special.erf(x / math.sqrt(2.0))


def uniform_inside(x):
    return min(x / math.sqrt(3.0), 1.0)


def uniform_cdf(x):
    return np.clip(0.5 + x / (2.0 * math.sqrt(3.0)), 0.0, 1.0)


def truncated_inside(x):
    return min(special.erf(x * CUT_STD / math.sqrt(2.0)) / special.erf(math.sqrt(2.0)), 1.0)


def truncated_cdf(x):
    return stats.truncnorm.cdf(x * CUT_STD, -2.0, 2.0)


TRUNCATED_MOMENTS = [stats.truncnorm.moment(k, -2.0, 2.0) / CUT_STD**k for k in (4, 8)]
NORMAL_SUSPICIONS = {
    "shape": lambda w: shape_p_values(w, special.ndtr),
    "moments": lambda w: moment_p_values(w, 3.0, 105.0),
    "tails": lambda w: tail_p_values(w, normal_inside, (2.0, 3.0, 4.0, 4.3, 5.0)),
    "centre": lambda w: centre_p_values(w, normal_inside),
    "signs": sign_p_values,
}
UNIFORM_SUSPICIONS = {
    "shape": lambda w: shape_p_values(w, uniform_cdf),
    "moments": lambda w: moment_p_values(w, 9.0 / 5.0, 9.0),
    "tails": lambda w: tail_p_values(w, uniform_inside, (1.0, 1.7, 1.7318, 1.73204)),
    "centre": lambda w: centre_p_values(w, uniform_inside),
    "signs": sign_p_values,
}


TRUNCATED_SUSPICIONS = {
    "shape": lambda w: shape_p_values(w, truncated_cdf),
    "moments": lambda w: moment_p_values(w, *TRUNCATED_MOMENTS),
    "tails": lambda w: tail_p_values(w, truncated_inside, (1.5, 2.0, 2.2, 2.27, 2.2736)),
    "centre": lambda w: centre_p_values(w, truncated_inside),
    "signs": sign_p_values,
}


def alarm(p_values):
    """Whether a family of tests raises an alarm: at most one sound family in 10⁴ does."""
    return min(p_values) <= 1e-4 / len(p_values)


@pytest.mark.parametrize("suspicion", NORMAL_SUSPICIONS)
def test_normal_weights_are_normal(normal, suspicion):
    """4·10⁶ weights; each of the five families cries wolf for one seed in 10⁴ (Bonferroni)."""
    assert not alarm(NORMAL_SUSPICIONS[suspicion](normal))


@pytest.mark.parametrize("suspicion", UNIFORM_SUSPICIONS)
def test_uniform_weights_are_uniform(uniform, suspicion):
    """4·10⁶ weights; each of the five families cries wolf for one seed in 10⁴ (Bonferroni)."""
    assert not alarm(UNIFORM_SUSPICIONS[suspicion](uniform))


@pytest.mark.parametrize("suspicion", TRUNCATED_SUSPICIONS)
def test_truncated_weights_are_truncated_normal(truncated, suspicion):
    """4·10⁶ weights; each of the five families cries wolf for one seed in 10⁴ (Bonferroni)."""
    assert not alarm(TRUNCATED_SUSPICIONS[suspicion](truncated))


def test_a_truncation_elsewhere_is_noticed(truncated, normal):
    cut = normal[:8].ravel()
    cut = cut[np.abs(cut) < 2.1][:960_000].reshape(1, -1, 4)
    assert alarm(TRUNCATED_SUSPICIONS["tails"](cut / cut.std()))
    assert alarm(TRUNCATED_SUSPICIONS["shape"](truncated * CUT_STD))
    assert alarm(TRUNCATED_SUSPICIONS["moments"](truncated * CUT_STD))  # not corrected


def test_uniform_weights_stay_within_root_three(uniform):
    assert 1.732050 < np.abs(uniform).max() <= math.sqrt(3.0)


def one_per_cent_wide(w):
    return w * 1.01


def shifted(w):
    return w + 0.01


def cut_off(w):
    return np.clip(w, -4.25, 4.25)


def with_a_hole(w):
    return np.where(np.abs(w) < 1e-4, 2e-4, w)


def with_an_atom(w):
    w = w.copy()
    w[..., 1] = np.where(np.abs(w[..., 1]) < 1.4e-4, 1e-9, w[..., 1])
    return w


def one_side_in_the_tail(w):
    return np.where(w < -4.0, -w, w)


def large_ones_positive(w):
    return np.where((w < -1.5) & (np.abs(np.sin(1e4 * w)) < 0.02), -w, w)


@pytest.mark.parametrize(
    ("wrong", "suspicion"),
    [
        (one_per_cent_wide, "shape"),
        (one_per_cent_wide, "moments"),
        (shifted, "shape"),
        (cut_off, "tails"),
        (one_side_in_the_tail, "tails"),
        (with_a_hole, "centre"),
        (with_an_atom, "centre"),
        (large_ones_positive, "signs"),
    ],
)
def test_weights_of_a_wrong_law_are_noticed(normal, wrong, suspicion):
    assert alarm(NORMAL_SUSPICIONS[suspicion](wrong(normal)))


def test_the_sum_of_twelve_uniforms_is_not_normal_enough(normal):
    rng = np.random.default_rng(23)
    weights = rng.random((12, 1, 500_000, 1)).sum(axis=0) - 6.0
    assert alarm(NORMAL_SUSPICIONS["tails"](weights))
    assert alarm(UNIFORM_SUSPICIONS["shape"](normal[:, :500, :2]))


# --- independence --------------------------------------------------------------------------

BINS = 16


def binned(weights, law):
    """The bin of every weight among `BINS` equally likely ones."""
    cdf = special.ndtr if law == NORMAL else uniform_cdf
    return np.minimum((cdf(weights) * BINS).astype(np.int64), BINS - 1)


def dependence_p_values(first, second):
    """Tests of independence of two arrays of bins: the whole table, the signs, the sizes."""
    first, second = first.ravel(), second.ravel()
    n, expected = first.size, first.size / BINS**2
    table = np.bincount(BINS * first + second, minlength=BINS**2).astype(np.float64)
    whole = stats.chi2.sf(((table - expected) ** 2 / expected).sum(), BINS**2 - 1)
    middle = (BINS - 1) / 2.0
    position = np.arange(BINS) - middle
    size = np.abs(position) - np.abs(position).mean()
    table = table.reshape(BINS, BINS)
    found = [whole]
    for score in (np.sign(position), position, size):
        z = score @ table @ score / (math.sqrt(n) * (score**2).mean())
        found.append(2.0 * special.ndtr(-abs(z)))
    return found


def neighbours(bins):
    """Pairs of arrays of weights that ought to be independent: columns, rows, networks."""
    pairs = [(bins[..., i], bins[..., j]) for i in range(8) for j in range(i)]
    pairs += [
        (bins[:, 0::2, :], bins[:, 1::2, :]),
        (bins[:, : ROWS // 2, :], bins[:, ROWS // 2 :, :]),
        (bins[:, :-1:2, 1:], bins[:, 1::2, :-1]),
        (bins[:, : -kernels.CHUNK, 0], bins[:, kernels.CHUNK :, 0]),
        (bins[0::2], bins[1::2]),
        (bins[: NETWORKS // 2], bins[NETWORKS // 2 :]),
        (bins[:-1:2, :-1:2], bins[1::2, 1::2]),
    ]
    return pairs


@pytest.mark.parametrize("law", [NORMAL, UNIFORM])
def test_columns_rows_and_networks_are_independent(law, normal, uniform):
    """35 pairs of 5·10⁵ to 2·10⁶ weights, four tests each: one false alarm in 10⁴ seeds."""
    bins = binned(normal if law == NORMAL else uniform, law)
    assert not alarm([p for pair in neighbours(bins) for p in dependence_p_values(*pair)])


def test_seeds_blocks_and_roles_are_independent(normal, uniform):
    """Same counters under other keys and roles: one false alarm in 10⁴ seeds."""
    bins = binned(normal, NORMAL)[:16]
    mixed = standardised(UNIFORM, output=NORMAL, networks=16)
    again = standardised(NORMAL, output=UNIFORM, networks=16)
    pairs = [
        (bins, binned(standardised(NORMAL, block=1, networks=16), NORMAL)),
        (bins, binned(standardised(NORMAL, seed=1, networks=16), NORMAL)),
        (bins, binned(uniform[:16], UNIFORM)),
        (binned(mixed[..., 0], NORMAL), binned(mixed[..., 1], UNIFORM)),
        (binned(again[..., 0], UNIFORM), binned(again[..., 1], NORMAL)),
        (binned(again[..., 0], UNIFORM), binned(mixed[..., 0], NORMAL)),
    ]
    assert not alarm([p for pair in pairs for p in dependence_p_values(*pair)])


def test_each_kind_of_dependence_is_noticed(normal):
    bins = binned(normal, NORMAL)
    one, other, third = bins[..., 0].ravel(), bins[..., 2].ravel(), normal[..., 4].ravel()
    assert not alarm(dependence_p_values(one, other))
    # One weight in a hundred repeats its neighbour, up to the sign or not, or shares its sign.
    some = np.abs(third) < 0.0125
    mirrored = np.where(some, np.where(third > 0, one, BINS - 1 - one), other)
    assert [p < 1e-6 for p in dependence_p_values(one, mirrored)] == [True, False, False, True]
    copied = np.where(some, one, other)
    assert max(dependence_p_values(one, copied)) < 1e-6
    same_side = np.where(some & ((one < BINS // 2) != (other < BINS // 2)), BINS - 1 - other, other)
    assert dependence_p_values(one, same_side)[1] < 1e-6
    # A pair that is never swapped: the first member is always the larger one.
    pair = np.sort(np.abs(normal[..., :2]), axis=-1)
    assert alarm(dependence_p_values(*(binned(pair[..., i], NORMAL) for i in (0, 1))))


def test_the_triple_of_signs_is_independent_too(normal):
    """Products of three and four signs of one row: one false alarm in 10⁴ seeds."""
    sign = np.sign(normal)
    products = [sign[..., i] * sign[..., i + 1] * sign[..., i + 2] for i in range(6)]
    products += [products[i] * sign[..., i + 3] for i in range(5)]
    found = [binomial_p((product > 0).sum(), product.size, 0.5) for product in products]
    assert not alarm(found)


# --- counting ------------------------------------------------------------------------------


def count(part, seed, networks, *, first=0, batch=7, block=0, stop=0, pool=0):
    """The counts of a part as (2, schemes, nd, nl), or None if the kernel gave up."""
    steps = np.zeros((2, *part.grid.thresholds.shape), np.int32)
    finished = add(steps, part, seed, networks, first, batch, block, stop, pool)
    return np.cumsum(steps[..., :-1], axis=-1) if finished else None


def add(steps, part, seed, networks, first, batch, block, stop, pool):
    """Call the kernel, with no more room than it asks for and garbage in it."""
    room = kernels.Room.of(min(batch, networks) * part.grid.row_cell.size, pool)
    for array in room:
        array[...] = np.nan if array.dtype == np.float64 else 0xDEADBEEF
    return kernels.count_nested(
        streams.block_key(seed, part.path, block),
        part.codes,
        first,
        networks,
        part.grid,
        batch,
        room,
        np.full(1, stop, np.uint8),
        *steps,
    )


def counted(config, networks, **options):
    """The counts of a whole configuration, part by part."""
    found = np.zeros((2, *config.shape), np.int64)
    for part in grid_parts(config):
        for table, counts in zip(found, count(part, config.seed, networks, **options), strict=True):
            table[part.where] += counts
    return found


GEOMETRIC = [1, 2, 3, 4, 6, 9, 13, 19, 28, 42]
FALLING_BIAS = replace(
    scheme("torch_linear:hidden_gain=0.5"), bias=LayerRule(LAWS["uniform"], 40.0, "fan_out")
)
STEP_FOUR = [3, 4, 7, 8, 11, 15, 16]
CASES = {
    # name: schemes, d, l, networks
    "falling": (["kaiming_normal", "xavier_normal"], range(1, 13), range(1, 13), 60),
    "rising": (["kaiming_normal:mode=fan_out"], range(1, 13), range(1, 13), 60),
    "constant": (["custom:output_std=1.7"], range(1, 9), range(1, 9), 60),
    "falling, rising and constant at once": (
        ["kaiming_normal:mode=fan_out", "xavier_normal", "custom:hidden_std=0.6", "lecun_normal"],
        range(1, 10),
        range(1, 10),
        60,
    ),
    "uniform": (["kaiming_uniform", "xavier_uniform:output_gain=2"], range(1, 9), range(1, 9), 60),
    "uniform, rising": (["kaiming_uniform:mode=fan_out"], range(1, 9), range(1, 9), 60),
    "mixed laws": ([MIXED, "custom:hidden_law=normal,output_law=uniform"], [1, 2, 5], [1, 4], 60),
    "all pairs of laws": ([*EVERY_PATH, "kaiming_normal:output_gain=3"], [1, 3, 6], [2, 5, 6], 40),
    "gains": (
        ["kaiming_normal:output_gain=0.5", "xavier_normal:hidden_gain=0.3,output_gain=2"],
        range(1, 9),
        range(1, 9),
        60,
    ),
    "truncated": (["keras_he_normal", "haiku_linear:output_gain=2"], range(1, 9), range(1, 9), 60),
    "constant outputs": (
        ["custom:output_law=constant,output_std=1.5", "custom:output_law=constant"],
        range(1, 9),
        range(1, 9),
        60,
    ),
    "constant inputs": (["custom:hidden_law=constant,output_std=2"], [1, 2, 3, 5], [1, 4, 9], 60),
    "bias like a weight": (["torch_linear", "sklearn_mlp:output_gain=2"], *2 * [range(1, 12)], 60),
    "bias like a weight, rising": (
        ["torch_kaiming_normal:mode=fan_out,hidden_gain=2"],
        range(1, 9),
        range(1, 9),
        60,
    ),
    "bias that grows": (
        ["torch_xavier_normal", "torch_kaiming_normal", "torch_xavier_normal:output_gain=2"],
        range(1, 12),
        range(1, 12),
        60,
    ),
    "bias that grows, sparse": (["torch_xavier_uniform"], GEOMETRIC, GEOMETRIC, 60),
    "bias of any shape": (
        ["torch_kaiming_uniform:mode=fan_out", FALLING_BIAS, "torch_xavier_uniform"],
        range(1, 10),
        range(1, 10),
        60,
    ),
    "bias in one cell": (["torch_xavier_normal"], [3], [8], 90),
    "own bias": (
        ["custom:bias_law=normal,bias_std=0.5", "custom:bias_law=normal,bias_std=3,output_std=4"],
        range(1, 9),
        range(1, 9),
        60,
    ),
    "zero biases": (["keras_dense", "xavier_uniform"], range(1, 6), range(1, 6), 40),
    "zero output": (["custom:output_std=0", "kaiming_normal"], [1, 2, 9], [1, 3, 8], 40),
    "zero hidden": (["custom:hidden_std=0", "xavier_normal"], [1, 2, 9], [1, 3, 8], 40),
    "zero hidden, uniform": (["kaiming_uniform:hidden_gain=0"], [1, 2, 9], [1, 3, 8], 40),
    "sparse": (["kaiming_normal", "xavier_normal"], GEOMETRIC, GEOMETRIC, 60),
    "sparse, rising": (["kaiming_normal:mode=fan_out"], GEOMETRIC, GEOMETRIC, 60),
    "groups partly listed": (["xavier_normal", "kaiming_normal"], STEP_FOUR, [2, 5, 17], 60),
    "one cell": (["xavier_normal"], [6], [9], 90),
    "one cell, d = 1": (["kaiming_normal"], [1], [30], 90),
    "one cell, l = 1": (["xavier_normal"], [30], [1], 90),
    "one row": (["xavier_normal", "kaiming_normal"], range(1, 30), [1], 90),
    "one column": (["xavier_normal", "kaiming_normal:mode=fan_out"], [1], range(1, 30), 90),
    "two cells": (["xavier_normal"], [2, 3], [7, 8], 90),
    "wider than a chunk": (["kaiming_normal", "xavier_normal"], [1, 2, 5], [1, 511, 512, 700], 5),
    "wider than a chunk, rising": (["lecun_normal:output_gain=9", MIXED], [4, 9], [513, 1300], 5),
    "all rows near a threshold": (["custom:output_std=3"], [1, 2, 3, 5], [1, 900, 2500], 5),
    "all rows near, rising": (["kaiming_normal:mode=fan_out"], [1, 3, 6], [1, 900, 2500], 5),
    "bias, wider than a chunk": (["torch_xavier_normal"], [1, 2, 5], [1, 511, 512, 700], 5),
    "bias of any shape, wide": ([FALLING_BIAS], [1, 2, 5], [1, 511, 512, 700], 5),
    "rises beyond a chunk": (["kaiming_normal:mode=fan_out"], [3, 400, 900], [2, 600, 1100], 3),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("plan", ["nested", "independent"])
def test_counts_equal_the_slow_ones_in_every_cell(case, plan, slowly):
    schemes, d, l, networks = CASES[case]
    if plan == "independent":
        networks = min(networks, 12)
    config = StudyConfig.of(schemes, d=d, l=l, seed=3, plan=plan)
    expected = slowly(config, range(networks))
    obstructed, pathological = counted(config, networks)
    np.testing.assert_array_equal(pathological, expected.pathological)
    np.testing.assert_array_equal(obstructed, expected.obstructed)


def test_the_slow_count_is_sensitive(slowly):
    """What the comparison above relies on: another ratio by 1 %, or another order, shows."""
    config = StudyConfig.of("xavier_normal", d=range(1, 13), l=range(1, 13), seed=3)
    near = StudyConfig.of("xavier_normal:output_gain=1.005", d=config.d, l=config.l, seed=3)
    other = StudyConfig.of("xavier_normal", d=config.d, l=config.l, seed=4)
    expected = slowly(config, range(60))
    assert expected != slowly(near, range(60))
    assert expected != slowly(other, range(60))
    assert expected != slowly(config, range(1, 61))


@pytest.mark.parametrize(
    "case", ["falling, rising and constant at once", "wider than a chunk", "all rows near, rising"]
)
def test_batches_have_no_influence(case):
    schemes, d, l, networks = CASES[case]
    config = StudyConfig.of(schemes, d=d, l=l, seed=4)
    expected = counted(config, networks, batch=1)
    assert expected.any()
    for batch in (2, 7, 1000):
        for pool in (0, 16, 80, 3000, 10**5):
            found = counted(config, networks, batch=batch, pool=pool)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("batch", [3, 200])
def test_networks_can_be_counted_piece_by_piece(batch):
    config = StudyConfig.of(EVERY_PATH, d=[1, 2, 5, 6], l=[1, 4, 9], seed=6)
    whole = counted(config, 100, first=900, block=2, batch=batch)
    pieces = [counted(config, n, first=first, block=2, batch=batch) for first, n in PIECES]
    assert whole.any()
    np.testing.assert_array_equal(sum(pieces), whole)


PIECES = [(900, 1), (901, 2), (903, 60), (963, 37)]


def test_counts_are_added_to_the_arrays():
    config = StudyConfig.of("xavier_normal", d=[1, 2, 5], l=[1, 4], seed=6)
    (part,) = grid_parts(config)
    once = count(part, 6, 50)
    steps = np.zeros((2, *part.grid.thresholds.shape), np.int32)
    for _ in range(3):
        assert add(steps, part, 6, 50, 0, 9, 0, 0, 0)
    np.testing.assert_array_equal(np.cumsum(steps[..., :-1], axis=-1), 3 * once)


def test_a_bad_guess_has_no_influence():
    """Where it does not fit, the curve only says where to look first, whatever numbers it has."""
    config = StudyConfig.of(["xavier_normal", "kaiming_normal"], d=GEOMETRIC, l=GEOMETRIC, seed=8)
    (part,) = grid_parts(config)
    expected = count(part, 8, 200)
    rng = np.random.default_rng(24)
    guess = part.grid.curve.copy()
    for curve in (0.0 * guess, -guess[::-1], rng.normal(size=guess.shape), 1e200 + 0.0 * guess):
        part.grid.curve[...] = curve
        np.testing.assert_array_equal(count(part, 8, 200), expected)


def test_a_curve_is_trusted_only_where_it_fits():
    """What the comparison of regular grids with the slow count relies on."""
    config = StudyConfig.of(["xavier_normal", "kaiming_normal"], d=GEOMETRIC, l=GEOMETRIC, seed=8)
    (part,) = grid_parts(config)
    expected = count(part, 8, 200)
    part.grid.fits[...] = True
    assert (count(part, 8, 200) != expected).any()


def near_thresholds(thresholds, rng):
    """Sums and squared outputs whose ratio is a threshold, or next to one, or anywhere."""
    r = np.repeat(thresholds, 30)
    off = np.tile(
        [0.0, *(s * 10.0**-e for e in range(2, 16) for s in (-1, 1)), 0.3], thresholds.size
    )
    output = rng.exponential(size=r.size) + 1e-9
    total = output * r * (1.0 + off)
    neighbours = [np.nextafter(total, to) for to in (0.0, np.inf)]
    anywhere = output * np.exp(rng.uniform(-9.0, 9.0, r.size))
    return np.concatenate([total, *neighbours, anywhere]), np.tile(output, 4)


def found_by_curve(find, part, k, j, total, output):
    """Ends of one row at a time, and whether the curve was certain of them."""
    thresholds, curve = part.grid.thresholds[k, j], part.grid.curve[k, j]
    ends, marks = np.zeros(1, np.uint32), np.zeros(1 + LANES, np.uint8)
    at = np.zeros(1, np.uint32)
    found = np.empty((2, total.size), np.int64)
    for i in range(total.size):
        found[1, i] = find(1, total[i:], output[i:], at, thresholds, curve, ends, marks)
        found[0, i] = ends[0]
        assert marks[0] == (ends[0] > 0)
    return found


@pytest.mark.parametrize("axis", [range(1, 41), range(3, 900, 13)])
def test_where_a_curve_is_certain_it_is_right(axis):
    """For sums at a threshold, one rounding error from it, or anywhere; far away it is certain."""
    config = StudyConfig.of(["kaiming_normal", "xavier_normal"], d=[1, 2, 7, 300], l=axis, seed=0)
    (part,) = grid_parts(config)
    assert part.grid.fits.all()
    rng = np.random.default_rng(25)
    for k in range(2):
        for j in range(4):
            thresholds = part.grid.thresholds[k, j, :-1]
            total, output = near_thresholds(thresholds, rng)
            true = (total[:, None] < output[:, None] * thresholds).sum(axis=1)
            ends, certain = found_by_curve(kernels.find_events, part, k, j, total, output)
            np.testing.assert_array_equal(ends[certain == 1], true[certain == 1])
            assert certain[-thresholds.size * 30 :].mean() > 0.99
            if (k, j) != (1, 0):  # a(1, l) = 1: two sides and nothing between
                assert 0.1 < 1.0 - certain.mean() < 0.9


def test_a_curve_that_never_doubts_would_be_wrong(interpreted, monkeypatch):
    config = StudyConfig.of("xavier_normal", d=[7], l=range(3, 300, 13), seed=0)
    (part,) = grid_parts(config)
    thresholds = part.grid.thresholds[0, 0, :-1]
    total, output = near_thresholds(thresholds, np.random.default_rng(26))
    true = (total[:, None] < output[:, None] * thresholds).sum(axis=1)
    monkeypatch.setattr(kernels, "DOUBT", -1.0)
    ends, certain = found_by_curve(interpreted.find_events, part, 0, 0, total, output)
    assert certain.all()
    assert (ends != true).any()


def test_a_stopped_kernel_says_so():
    (part,) = grid_parts(StudyConfig.of("xavier_normal", d=[1, 2], l=[3], seed=0))
    assert count(part, 0, 5, stop=1) is None
    assert count(part, 0, 5, stop=0) is not None


def test_zero_scales_are_certain():
    config = StudyConfig.of(
        ["custom:output_std=0", "custom:hidden_std=0", "kaiming_uniform:hidden_gain=0"],
        d=[1, 2, 7],
        l=[1, 4],
        seed=0,
    )
    obstructed, pathological = counted(config, 50)
    assert not obstructed[0].any()
    assert not pathological[0].any()
    assert (obstructed[1:] == 50).all()
    assert (pathological[1:] == 50 * np.array([1, 4])).all()


def test_kernels_that_python_may_call_have_public_names():
    """The others are compiled without what a call from Python needs, and would crash."""
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        pytest.skip("nothing is compiled")
    found = {name: value for name, value in vars(kernels).items() if hasattr(value, "py_func")}
    bare = {name for name, value in found.items() if "no_cpython_wrapper" in value.targetoptions}
    assert bare == {name for name in found if name.startswith("_")}
