"""Orthogonal weights: counted as they are replayed, and as often as Beta laws say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

import obstruction as ob
from obstruction.sampling import orthogonal, streams
from obstruction.sampling.config import PLANS, StudyConfig
from obstruction.sampling.counts import Counts
from obstruction.sampling.grid_parts import grid_parts
from obstruction.sampling.grid_sampler import GridSampler
from obstruction.sampling.runner import Runner

PLAIN = "orthogonal"
GAINS = "orthogonal:hidden_gain=0.8,output_gain=1.5"
LABELS = (PLAIN, GAINS, "orthogonal:output_gain=0.6")

NONE = "none: weights depend on each other"


@pytest.mark.parametrize("plan", PLANS)
def test_counts_are_those_of_the_replayed_weights(plan):
    """Without l = 1 and equal gains: there both sides are equal, and rounding would decide."""
    config = StudyConfig.of(LABELS, d=[1, 2, 3, 6, 7], l=[2, 3, 5], seed=3, plan=plan)
    networks = 80
    expected = Counts.zero(config.shape)
    for k, scheme in enumerate(config.schemes):
        for i, d in enumerate(config.d):
            for j, l in enumerate(config.l):
                for network in range(networks):
                    W1, W2, b1 = ob.replay(config, network=network, d=d, l=l, scheme=scheme)
                    assert b1 is None
                    frozen = np.count_nonzero((W1**2).sum(axis=1) < W2[0] ** 2)
                    expected.pathological[k, i, j] += frozen
                    expected.obstructed[k, i, j] += frozen > 0
    study = ob.sample(
        LABELS, d=config.d, l=config.l, networks=networks, seed=3, plan=plan, threads=1
    )
    assert np.array_equal(study.counts.obstructed, expected.obstructed)
    assert np.array_equal(study.counts.pathological, expected.pathological)
    assert expected.obstructed.sum() < expected.pathological.sum()


@pytest.mark.parametrize(("d", "l"), [(1, 1), (1, 4), (3, 5), (5, 5), (7, 2), (40, 60)])
def test_replayed_weights_are_orthogonal(d, l):
    W1, W2, _ = ob.replay(5, network=1030, d=d, l=l, scheme=GAINS)
    assert (W1.shape, W2.shape) == ((l, d), (1, l))
    product = W1.T @ W1 if l > d else W1 @ W1.T
    np.testing.assert_allclose(product, 0.64 * np.eye(min(d, l)), atol=1e-13)
    assert np.linalg.norm(W2) == pytest.approx(1.5)


def test_a_network_is_the_leading_part_of_a_larger_one_in_its_inputs():
    """With more neurons than inputs, the columns are those of Gram and Schmidt."""
    large = ob.replay(5, network=3, d=6, l=9, scheme=PLAIN)
    small = ob.replay(5, network=3, d=2, l=9, scheme=PLAIN)
    np.testing.assert_allclose(small.W1, large.W1[:, :2], atol=1e-14)
    assert np.array_equal(small.W2, large.W2)


@pytest.mark.parametrize("plan", PLANS)
def test_neurons_of_length_one_are_never_pathological(plan):
    """Rows have length 1 if l <= d; no output weight is longer, and that of l = 1 is as long."""
    study = ob.sample(PLAIN, d=[1, 2, 5, 9], l=[1, 2, 5, 9], networks=400, seed=1, plan=plan)
    short = np.array(study.config.l) <= np.array(study.config.d)[:, None]
    assert not study.counts.pathological[0][short].any()
    assert (study.counts.obstructed[0][~short] > 100).all()
    louder = ob.sample("orthogonal:output_gain=1.01", d=[1, 9], l=1, networks=50, plan=plan)
    assert louder.counts.obstructed.tolist() == [[[50], [50]]]


# --- the probability of one neuron -------------------------------------------------------------


def marginal(d, l, ratio):
    """P(ratio · V² > S): S a row's, V² an output weight's share of a unit vector's square."""
    row, output = stats.beta(d / 2, (l - d) / 2), stats.beta(0.5, (l - 1) / 2)
    value, error = integrate.quad(
        lambda share: row.cdf(ratio * output.ppf(share)), 0.0, 1.0, limit=500, epsabs=1e-9
    )
    assert error < 1e-6
    return value


def test_the_integral_is_right_where_the_answer_is_known():
    """One input: two shares of one law are in either order alike; two neurons: arcsine laws."""
    for l in (2, 5, 40):
        assert marginal(1, l, 1.0) == pytest.approx(0.5, abs=1e-6)
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, (2, 10**6))
    rate = np.mean(0.36 * np.cos(angles[0]) ** 2 > np.cos(angles[1]) ** 2)
    assert marginal(1, 2, 0.36) == pytest.approx(rate, abs=0.002)


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
def test_neurons_are_pathological_as_often_as_beta_laws_say(plan):
    """The mean over networks of a share within [0, 1] varies at most like a coin's.

    Neurons of a network depend on each other, so that is a bound; 18 cells or 8, 4.8 standard
    deviations each: at most one false alarm in 10⁴ seeds for either plan.
    """
    if plan == "nested":
        axes, cells, networks = {"d": [1, 2, 4], "l": [2, 3, 5, 9]}, 18, 20_000
    else:
        axes, cells, networks = {"d": [1, 2], "l": [3, 5]}, 8, 4000
    assert 2 * stats.norm.sf(4.8) * cells < 1e-4
    table = ob.sample([PLAIN, GAINS], **axes, networks=networks, seed=4, plan=plan).table()
    table = table[table["d"] < table["l"]]
    assert len(table) == cells
    off, other = [], []
    for row in table.itertuples():
        ratio = 1.0 if row.scheme == PLAIN else (1.5 / 0.8) ** 2
        p = marginal(row.d, row.l, ratio)
        assert row.exact_neuron == pytest.approx(p, abs=1e-6)
        spread = np.sqrt(p * (1 - p) / networks)
        off.append(abs(row.empirical_neuron - p) / spread)
        independent = stats.f.sf(row.d / row.a, 1, row.d)  # normal weights of the same variances
        other.append(abs(row.empirical_neuron - independent) / spread)
    assert max(off) < 4.8
    assert max(other) > 10.0


# --- what there is not -------------------------------------------------------------------------


def test_there_is_nothing_to_hold_the_counts_against():
    study = ob.sample(LABELS, d=[1, 2, 6], l=[1, 3], networks=200, estimator="auto")
    table, found = study.table(), study.agreement()
    empty = ["exact", "z", "p_value", "log10_exact", "z_neuron", "p_value_neuron"]
    assert table[empty].isna().all(axis=None)
    assert table["exact_neuron"].notna().all()
    assert set(table["method"]) == {NONE}
    assert set(table["estimator"]) == {"direct"}
    assert study.rare is None
    assert (found.verdict, found.agrees, found.tests, found.untested) == ("untested", False, 0, 18)
    assert str(found).startswith("UNTESTED: none of the 18 cells has both")
    with pytest.raises(ob.exact.NoExactValue, match="'orthogonal' has no exact value"):
        ob.exact.obstruction_probability(PLAIN, 2, 3)


def test_another_scheme_beside_it_is_tested():
    study = ob.sample([PLAIN, "kaiming_normal"], d=[1, 2, 6], l=[1, 3], networks=200)
    found = study.agreement()
    assert (found.verdict, found.tests, found.untested) == ("agrees", 12, 6)
    assert "6 cells are untested: no exact value, or no network sampled." in str(found)
    assert study.table()["method"].tolist() == [NONE] * 6 + ["F distribution"] * 6


# --- the work ----------------------------------------------------------------------------------


def counted(config, networks, threads):
    runner = Runner(GridSampler(config))
    runner.run(networks, threads=threads)
    return runner.snapshot()[1]


@pytest.mark.parametrize("plan", PLANS)
def test_threads_and_sizes_of_the_pieces_have_no_influence(plan, monkeypatch):
    networks = 1100 if plan == "nested" else 250
    config = StudyConfig.of([*LABELS, "ntk"], d=[1, 2, 5], l=[1, 3, 6], seed=2, plan=plan)
    expected = counted(config, networks, 1)
    assert expected.obstructed[0].sum() > 100
    for threads in (2, 3):
        assert counted(config, networks, threads) == expected
    monkeypatch.setattr(orthogonal, "_FLOATS", 100)
    assert counted(config, networks, 2) == expected


@pytest.mark.parametrize("plan", PLANS)
def test_the_grid_around_a_cell_has_no_influence(plan):
    words = {"networks": 300, "seed": 8, "plan": plan}
    grid = ob.sample(LABELS, d=[1, 2, 4, 9], l=[2, 3, 7], **words)
    for d, l in ((2, 7), (4, 3), (1, 2), (9, 7)):
        alone = ob.sample(GAINS, d=d, l=l, **words)
        where = 1, grid.config.d.index(d), grid.config.l.index(l)
        assert alone.counts.obstructed.item() == grid.counts.obstructed[where]
        assert alone.counts.pathological.item() == grid.counts.pathological[where]


def test_a_stopped_count_says_so():
    (part,) = grid_parts(StudyConfig.of(PLAIN, d=[1, 2], l=[2, 5], seed=2))
    key = streams.block_key(2, part.path, 0)
    for stop in (0, 1):
        steps = np.zeros((2, *part.grid.thresholds.shape), np.int32)
        flag = np.array([stop], np.uint8)
        assert orthogonal.count(key, 0, 50, part.grid, flag, *steps) == (not stop)
        assert steps.any() == (not stop)


def test_an_interrupted_run_keeps_whole_networks_only():
    config = StudyConfig.of(PLAIN, d=[1, 2, 5], l=[3, 40], seed=2)
    runner = Runner(GridSampler(config))

    def watch(networks):
        if networks > 500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run(10**7, threads=2, watch=watch, watch_seconds=0.01)
    done, counts = runner.snapshot()
    assert 500 < counts.networks < 10**7
    end = max(stop for _, stop in done)
    runner.run(end, threads=2)
    assert runner.snapshot()[1] == counted(config, end, 1)


def test_matrices_that_would_not_fit_are_refused(refused, tmp_path):
    message = r"would need about [\d,.]+ GiB of memory; [\d,.]+ GiB are free"
    with pytest.raises(ValueError, match=rf"^d, l: .* with up to 1,000,000 neurons {message}"):
        ob.sample("orthogonal", d=10**6, l=10**6, networks=1)
    words = ("--scheme", "orthogonal", "--d", "1e6", "--l", "1e6", "--out", tmp_path / "a")
    assert "GiB of memory" in refused("run", *words)
    assert not (tmp_path / "a").exists()
    assert ob.sample("kaiming_normal", d=10**6, l=10, networks=1).networks == 1
