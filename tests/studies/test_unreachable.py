"""Targets out of reach: what is counted against the formula, plain Python and wrong formulas."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats

import obstruction as ob
from obstruction.sampling import streams
from obstruction.sampling.config import StudyConfig
from obstruction.sampling.grid_parts import grid_parts
from obstruction.sampling.inference import binomial
from obstruction.sampling.kernels import signs as sign_kernels
from obstruction.studies.unreachable import sample_unreachable

LABELS = ("xavier_normal", "kaiming_uniform", "torch_linear", "torch_xavier_normal")
AXES = {"d": [1, 2, 5], "l": [1, 2, 3, 8]}
MANY = (*LABELS, "kaiming_normal:mode=fan_out", "custom:law=truncated_normal,bias_law=constant")
CONSTANT = "custom:hidden_law=uniform,output_law=constant"
NEEDS = {
    "one negative": {"negative": 1},
    "one of both if there are two": {"positive": lambda l: l // 2, "negative": lambda l: l > 1},
    "half": {"positive": lambda l: l // 2, "negative": lambda l: l - l // 2},
}


def half(l):
    return l // 2


# --- against the formula -----------------------------------------------------------------------


@pytest.mark.parametrize("name", NEEDS)
def test_counts_agree_with_the_formula(name):
    """48 cells each; Bonferroni: each of the three runs fails for one seed in 10⁴."""
    needs = {
        sign: (lambda l, need=need: int(need(l))) if callable(need) else need
        for sign, need in NEEDS[name].items()
    }
    found = sample_unreachable(LABELS, **AXES, **needs, networks=5000, seed=3)
    assert len(found) == 48
    assert (found["networks"] == 5000).all()
    assert found["p_value"].min() > 1e-4 / 48
    assert found["unreachable"].max() > 500
    for row in found.itertuples():
        for sign in ("positive", "negative"):
            need = needs.get(sign, 0)
            assert getattr(row, sign) == (need(row.l) if callable(need) else need)
        exact = ob.exact.unreachable_probability(
            row.scheme, row.d, row.l, positive=row.positive, negative=row.negative
        )
        assert row.exact == pytest.approx(exact, rel=1e-12)
        assert row.empirical == row.unreachable / 5000
        assert row.ci_low <= row.empirical <= row.ci_high
        if exact == 0.0:
            assert (row.unreachable, row.z, row.p_value) == (0, 0.0, 1.0)
            continue
        spread = np.sqrt(exact * (1 - exact) / 5000)
        assert row.z == pytest.approx((row.empirical - exact) / spread)
        tested = stats.binomtest(row.unreachable, 5000, exact).pvalue
        assert row.p_value == pytest.approx(tested, rel=1e-6)


def frozen(scheme, d, l):
    return ob.exact.pathological_probability(scheme, d, l)


# Wrong probabilities that a network of l neurons, each frozen with probability p, cannot reach
# m positive and n negative weights.
WRONG = {
    "signs not fair": lambda l, p, m, n: stats.binom.sf(l - n, l, p),
    "either sign will do": lambda l, p, m, n: stats.binom.sf(l - n, l, p / 2),
    "one too many": lambda l, p, m, n: (
        stats.binom.sf(l - n - 1, l, p / 2) + stats.binom.sf(l - m - 1, l, p / 2)
    ),
    "one too few": lambda l, p, m, n: (
        stats.binom.sf(l - n + 1, l, p / 2) + stats.binom.sf(l - m + 1, l, p / 2)
    ),
    "frozen at all": lambda l, p, m, n: -np.expm1(l * np.log1p(-p)),
    "p for p/2": lambda l, p, m, n: stats.binom.sf(l - n, l, p) + stats.binom.sf(l - m, l, p),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_formula_is_rejected(wrong):
    sizes, needs = {"d": [2, 3], "l": [2, 4]}, {"positive": half, "negative": half}
    found = sample_unreachable(LABELS, **sizes, **needs, networks=20_000, seed=1)
    assert found["p_value"].min() > 1e-4 / len(found)
    p = np.array([frozen(*row) for row in found[["scheme", "d", "l"]].itertuples(index=False)])
    cells = (found["l"].to_numpy(), p, found["positive"], found["negative"])
    right = stats.binom.sf(cells[0] - cells[2], cells[0], p / 2) * 2
    np.testing.assert_allclose(found["exact"], right, rtol=1e-10)
    stated = np.asarray(WRONG[wrong](*cells))
    p_values = binomial.p_value(found["unreachable"], 20_000, stated)
    assert p_values.min() < 1e-6


def test_signs_exchanged_are_noticed_where_they_are_not_fair():
    """Weights that are all positive: only the negative ones that are needed can be missing."""
    found = sample_unreachable(CONSTANT, d=2, l=[2, 5], negative=1, networks=4000)
    assert found["p_value"].min() > 1e-4 / 2
    assert found["unreachable"].min() > 0
    swapped = sample_unreachable(CONSTANT, d=2, l=[2, 5], positive=1, networks=4000)
    assert swapped["unreachable"].tolist() == [0, 0]
    assert swapped["exact"].tolist() == [0.0, 0.0]
    assert binomial.p_value(found["unreachable"], 4000, swapped["exact"]).max() == 0.0


def test_what_is_certain():
    nothing = sample_unreachable(LABELS, **AXES, networks=300)
    assert (nothing["unreachable"] == 0).all()
    assert (nothing["exact"] == 0.0).all()
    assert (nothing["p_value"] == 1.0).all()
    never = sample_unreachable("zero_output", **AXES, positive=half, negative=half, networks=300)
    assert (never["unreachable"] == 0).all()
    always = sample_unreachable("custom:hidden_std=0", d=3, l=[1, 6], positive=1, networks=9000)
    assert always["exact"].tolist() == pytest.approx([0.5, 0.5**6])
    assert always["p_value"].min() > 1e-4 / 2


# --- against plain Python and the other sampler ------------------------------------------------


def test_every_network_is_judged_as_its_weights_say():
    labels, networks = (*LABELS, CONSTANT), 150
    sizes = {"d": [1, 3], "l": [1, 2, 5]}
    need = {"positive": half, "negative": lambda l: (l + 2) // 4}
    found = sample_unreachable(labels, **sizes, **need, networks=networks, seed=5)
    out = []
    for label in labels:
        for d in sizes["d"]:
            for l in sizes["l"]:
                hopeless = 0
                for network in range(networks):
                    W1, W2, b1 = ob.replay(5, network=network, d=d, l=l, scheme=label)
                    inward = (W1**2).sum(axis=1) + (0.0 if b1 is None else b1**2)
                    stuck = W2[0][inward < W2[0] ** 2]
                    free = l - stuck.size
                    positive = free + np.count_nonzero(stuck > 0)
                    negative = free + np.count_nonzero(stuck < 0)
                    hopeless += positive < l // 2 or negative < (l + 2) // 4
                out.append(hopeless)
    assert found["unreachable"].tolist() == out
    assert len(set(out)) > 8


def by_kernel(config, networks, kernel, *, positive=0, negative=0, stop=0):
    """Count a configuration's networks with a kernel: unreachable, and frozen of both signs."""
    sizes = np.array(config.l)
    needs = np.full(sizes.size, positive), np.full(sizes.size, negative)
    unreachable = np.zeros(config.shape, np.int64)
    stuck = np.zeros((2, *config.shape), np.int64)
    for part in grid_parts(config):
        shape = part.grid.thresholds[..., :-1].shape
        for block, first, count in streams.pieces(0, networks):
            found, signs = np.zeros(shape, np.int64), np.zeros((2, *shape), np.int64)
            key = streams.block_key(config.seed, part.path, block)
            flag = np.array([stop], np.uint8)
            finished = kernel(
                key, part.codes, first, count, part.grid, sizes, *needs, flag, found, signs
            )
            assert finished == (not stop)
            unreachable[part.where] += found
            for both, mine in zip(stuck, signs, strict=True):
                both[part.where] += mine
    return unreachable, stuck


def test_frozen_weights_are_the_pathological_neurons_of_a_study():
    """An independent way to the counts of `ob.sample`: whole networks, every cell on its own."""
    config = StudyConfig.of(MANY, d=[1, 2, 3, 4, 5, 9], l=[1, 2, 3, 8, 20], seed=4)
    _, signs = by_kernel(config, 1500, sign_kernels.count_unreachable)
    study = ob.sample(MANY, d=config.d, l=config.l, networks=1500, seed=4)
    assert np.array_equal(signs.sum(axis=0), study.counts.pathological)
    assert 0.45 < signs[0].sum() / signs.sum() < 0.55


def test_one_neuron_lacks_the_sign_at_which_it_is_not_frozen():
    """Networks that cannot be positive and those that cannot be negative: all obstructed ones."""
    config = StudyConfig.of(LABELS, d=[1, 2, 5], l=[1], seed=6)
    study = ob.sample(LABELS, d=config.d, l=1, networks=1100, seed=6)
    parts = [
        by_kernel(config, 1100, sign_kernels.count_unreachable, **need)[0]
        for need in ({"positive": 1}, {"negative": 1})
    ]
    assert np.array_equal(sum(parts), study.counts.obstructed)
    assert parts[0].min() > 0


def test_compiled_and_interpreted_kernels_agree():
    config = StudyConfig.of(MANY, d=[1, 3, 4, 6], l=[1, 3, 7], seed=4)
    compiled, interpreted = (
        by_kernel(config, 40, kernel, negative=1)
        for kernel in (sign_kernels.count_unreachable, sign_kernels.count_unreachable.py_func)
    )
    for mine, theirs in zip(compiled, interpreted, strict=True):
        assert np.array_equal(mine, theirs)
        assert mine.sum() > 0


def test_a_stopped_kernel_counts_nothing():
    config = StudyConfig.of(LABELS, **AXES)
    for kernel in (sign_kernels.count_unreachable, sign_kernels.count_unreachable.py_func):
        unreachable, signs = by_kernel(config, 30, kernel, stop=1)
        assert not unreachable.any()
        assert not signs.any()


# --- the same whatever the work is cut into, and what is refused -------------------------------


def test_threads_grid_and_number_of_networks_have_no_influence():
    words = {"negative": 1, "seed": 2}
    first = sample_unreachable(LABELS, **AXES, **words, networks=1300, threads=1)
    assert sample_unreachable(LABELS, **AXES, **words, networks=1300, threads=2).equals(first)
    other = sample_unreachable(LABELS, **AXES, **{**words, "seed": 3}, networks=1300, threads=2)
    assert not other["unreachable"].equals(first["unreachable"])
    row = first[(first["scheme"] == "torch_linear") & (first["d"] == 1) & (first["l"] == 2)]
    alone = sample_unreachable("torch_linear", d=1, l=2, **words, networks=1300)
    assert alone["unreachable"].item() == row["unreachable"].item() > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"positive": 3, "negative": 3}, "positive = 3, negative = 3: together at most l = 5"),
        ({"positive": 6}, "positive = 6, negative = 0: together at most l = 5"),
        ({"negative": lambda l: l + 1}, "positive = 0, negative = 6: together at most l = 5"),
        ({"negative": -1}, "negative = -1: must be a whole number of at least 0"),
        ({"positive": 0.5}, "positive = 0.5: must be a whole number"),
        ({"positive": lambda l: l / 2}, "positive = 2.5: must be a whole number"),
        ({"positive": "half"}, "positive = 'half': must be"),
        ({"networks": 0}, "networks = 0: must be"),
        ({"threads": 0}, "threads = 0: must be"),
        ({"seed": -1}, "seed = -1: must be"),
        ({"d": 0}, "d = 0: must be"),
        ({"schemes": "orthogonal"}, "scheme = 'orthogonal': its weights must be independent"),
        ({"schemes": ["ntk", "kaiming"]}, "unknown scheme 'kaiming'"),
    ],
)
def test_what_cannot_be_is_refused(words, message):
    given = {"schemes": "ntk", "d": 2, "l": 5, "networks": 10, **words}
    with pytest.raises(ValueError, match=f"^{message}"):
        sample_unreachable(given.pop("schemes"), **given)


def test_an_interruption_ends_the_work(monkeypatch):
    calls = []

    def interrupted(*words):
        calls.append(words)
        time.sleep(0.002)  # or a busy machine ends the work before the interruption is heard of
        raise KeyboardInterrupt

    monkeypatch.setattr(sign_kernels, "count_unreachable", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sample_unreachable("ntk", d=2, l=5, networks=100_000, threads=1)
    assert 1 <= len(calls) < 1000


def test_networks_that_would_not_fit_are_refused():
    message = r"neurons with 1,000,000 inputs each would need about [\d,.]+ GiB of memory"
    with pytest.raises(ValueError, match=rf"^d, l: 2 networks of 1,000,000 {message}"):
        sample_unreachable("ntk", d=10**6, l=10**6, networks=10, threads=2)
    with pytest.raises(ValueError, match=rf"^d, l: a network of 1,000,000 {message}"):
        ob.replay(0, network=0, d=10**6, l=10**6, scheme="ntk")
