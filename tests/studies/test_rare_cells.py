"""Rare cells: which they are, what weighted samples say there, and whether that would be seen."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

import obstruction as ob
from obstruction.sampling.config import StudyConfig
from obstruction.sampling.counts import Counts
from obstruction.sampling.inference.weighted import Estimate
from obstruction.studies import exact_values as reference
from obstruction.studies import rare_cells as rare
from obstruction.studies import table
from obstruction.studies.rare_cells import check_estimator, estimate_rare, rare_cells
from obstruction.studies.verdict import agreement
from obstruction.tools import progress

MIXED = ("kaiming_normal", "torch_linear", "orthogonal", "keras_glorot_normal")
AXES = {"d": [1, 5, 20, 60], "l": [1, 4, 30, 100]}
LOGS = ("log10_ci_low", "log10_empirical", "log10_ci_high")


def config(labels=MIXED, **axes):
    return StudyConfig.of(labels, **{**AXES, **axes})


def fields(estimate):
    return {one.name: getattr(estimate, one.name) for one in dataclasses.fields(Estimate)}


def same(one, other) -> bool:
    """Whether estimates are equal to the last bit."""
    return all(
        np.array_equal(mine, theirs)
        for mine, theirs in zip(fields(one).values(), fields(other).values(), strict=True)
    )


# --- which cells -------------------------------------------------------------------------------


@pytest.mark.parametrize("networks", [1, 300, 10**6])
def test_auto_picks_the_cells_where_little_is_to_be_counted(networks):
    where = rare_cells(config(), networks, "auto")
    assert where.shape == (4, 4, 4)
    for k, label in enumerate(MIXED):
        for i, d in enumerate(AXES["d"]):
            for j, l in enumerate(AXES["l"]):
                if label == "orthogonal":
                    assert not where[k, i, j]
                    continue
                expected = networks * l * ob.exact.pathological_probability(label, d, l)
                assert where[k, i, j] == (expected < 100)
        if label != "orthogonal" and networks > 1:
            assert 0 < np.count_nonzero(where[k]) < where[k].size


def test_a_hundred_are_enough_and_ninety_nine_are_not():
    certain = StudyConfig.of("custom:hidden_std=0", d=1, l=[1, 2])
    assert rare_cells(certain, 99, "auto").tolist() == [[[True, False]]]
    assert rare_cells(certain, 100, "auto").tolist() == [[[False, False]]]


def test_direct_picks_none_and_tilted_all():
    assert not rare_cells(config(), 1, "direct").any()
    assert rare_cells(config(MIXED[:2]), 10**9, "tilted").all()


def test_no_rare_cell_needs_no_estimate():
    study = ob.sample("xavier_normal", d=[1, 2], l=[1, 5], networks=2000, estimator="auto")
    assert study.rare is None
    assert set(study.table()["estimator"]) == {"direct"}
    assert (study.estimator, study.samples) == ("auto", 20_000)
    assert ob.sample("xavier_normal", d=90, l=9, networks=9).rare is None


def test_estimators_that_do_not_do():
    for estimator in rare.ESTIMATORS:
        assert check_estimator(config(MIXED[:2]), estimator) == estimator
        if estimator != "tilted":
            assert check_estimator(config(), estimator) == estimator
    message = r"^estimator = 'tilted': the weights of scheme 'orthogonal:output_gain=2' depend"
    labels = ["xavier_normal", "orthogonal:output_gain=2"]
    for call in (
        lambda: check_estimator(config(labels), "tilted"),
        lambda: ob.sample(labels, d=2, l=3, networks=9, estimator="tilted"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match=r"^estimator = 'tlted': must be one of direct, tilted"):
        ob.sample("xavier_normal", d=2, l=3, networks=9, estimator="tlted")
    for samples in (1, 0, -5, 2.5, "x", None, True):
        with pytest.raises(ValueError, match=r"^samples = .*: must be a whole number of at least"):
            ob.sample("xavier_normal", d=2, l=3, networks=9, samples=samples)


# --- what they say -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tilted():
    labels = ["kaiming_normal", "torch_linear", "custom:law=truncated_normal,bias_law=normal"]
    axes = {"d": [1, 10, 1000, 5000], "l": [1, 30, 1000, 5000]}
    return ob.sample(labels, **axes, networks=3, seed=2, estimator="tilted", samples=3000)


def test_the_table_holds_estimates_in_place_of_rates(tilted):
    frame, estimate = tilted.table(), tilted.rare.estimate
    assert tilted.rare.where.all()
    assert set(frame["estimator"]) == {"tilted"}
    assert set(frame["samples"]) == {3000}
    assert frame["method"].tolist() == [
        ob.exact.method(scheme) for scheme in tilted.config.schemes for _ in range(16)
    ]
    assert frame["obstructed"].tolist() == tilted.counts.obstructed.ravel().tolist()
    for name, values in {
        "log_mean_weight": estimate.log_p,
        "relative_error_neuron": estimate.relative_error,
        "skewness": estimate.skewness,
        "largest_share": estimate.largest_share,
        "log_bound": estimate.log_bound,
        "empirical_neuron": np.exp(estimate.log_p),
    }.items():
        assert frame[name].tolist() == values.tolist()
    assert frame["z"].equals(frame["z_neuron"])
    assert frame["p_value"].equals(frame["p_value_neuron"])
    for name in ("empirical", "ci_low", "ci_high"):
        np.testing.assert_allclose(frame[name], 10.0 ** frame[f"log10_{name}"], rtol=1e-10)
    p, l = np.minimum(frame["empirical_neuron"], 1.0), frame["l"]
    seen = frame["log10_empirical"] > -200
    whole = np.where(p < 1.0, -np.expm1(l * np.log1p(-np.where(p < 1.0, p, 0.5))), 1.0)
    np.testing.assert_allclose(frame["empirical"][seen], whole[seen], rtol=1e-9)


def test_estimates_are_near_the_exact_values(tilted):
    """48 tests of 3000 samples each; Bonferroni at 1e-4."""
    frame = tilted.table()
    assert (frame["relative_error_neuron"] < 0.2).all()
    assert frame["z"].abs().max() < 5.0
    assert frame["p_value"].min() > 1e-4 / 48
    d, l = np.array(tilted.config.d)[:, None], np.array(tilted.config.l)
    formula = ob.exact.log_pathological_probability
    log_p = np.concatenate([formula(scheme, d, l).ravel() for scheme in tilted.config.schemes])
    off = np.expm1(frame["log_mean_weight"] - log_p)
    assert (np.abs(off) < 5.0 * frame["relative_error_neuron"] + 1e-9).all()
    assert not (np.abs(off + 0.3) < 5.0 * frame["relative_error_neuron"]).all()


def test_ends_of_intervals_are_in_order(tilted):
    low, middle, high = (tilted.table()[name] for name in LOGS)
    assert (low <= middle).all()
    assert (middle <= high).all()
    assert (high <= 0.0).all()
    open_ended = tilted.table()["relative_error"] > 1e-6
    assert (low < high)[open_ended].all()
    assert np.count_nonzero(open_ended) > 30


def test_logarithms_do_not_underflow(tilted):
    frame = tilted.table().set_index(["scheme", "d", "l"])
    far = frame.loc[("kaiming_normal", 5000, 5000)]
    assert far["empirical"] == far["exact"] == far["ci_high"] == far["empirical_neuron"] == 0.0
    assert far["log10_empirical"] == pytest.approx(far["log10_exact"], abs=0.2)
    assert -800.0 < far["log10_ci_low"] < far["log10_empirical"] < far["log10_ci_high"] < -700.0
    assert abs(far["z"]) < 5.0
    assert 0.0 < far["relative_error"] < 0.2
    near = frame.loc[("kaiming_normal", 1000, 1000)]
    assert 0.0 < near["ci_low"] < near["empirical"] < near["ci_high"] < 1e-100
    assert near["log10_empirical"] == pytest.approx(math.log10(near["empirical"]), rel=1e-12)


# --- always the same ---------------------------------------------------------------------------


def test_threads_have_no_influence_and_the_seed_has():
    one = config(MIXED[:2], d=[5, 60, 300], l=[4, 300])
    where = rare_cells(one, 300, "auto")
    assert 0 < np.count_nonzero(where) < where.size
    first = estimate_rare(one, where, samples=35_000, threads=1)
    for threads in (1, 2, 3):
        again = estimate_rare(one, where, samples=35_000, threads=threads)
        assert same(again.estimate, first.estimate)
        assert np.array_equal(again.where, where)
    other = estimate_rare(dataclasses.replace(one, seed=1), where, samples=35_000, threads=2)
    assert not np.isin(other.estimate.log_p, first.estimate.log_p).any()


def test_other_cells_and_schemes_do_not_change_an_estimate():
    options = {"networks": 50, "seed": 3, "estimator": "tilted", "samples": 700}
    many = ob.sample([MIXED[0], MIXED[3], MIXED[1]], **AXES, **options).table()
    for label, d, l in (("torch_linear", 20, 30), ("kaiming_normal", 60, 100), (MIXED[3], 5, 4)):
        alone = ob.sample(label, d=d, l=l, **options).table()
        row = many[(many["scheme"] == label) & (many["d"] == d) & (many["l"] == l)]
        assert len(row) == 1
        for name in table.COLUMNS:
            assert row[name].item() == alone[name].item(), name


def test_estimates_stand_where_they_belong():
    """Joined scheme by scheme: rows of the table and entries of the estimate are in one order."""
    study = ob.sample(MIXED, **AXES, networks=300, seed=3, estimator="auto", samples=700)
    frame = study.table()
    assert np.array_equal((frame["estimator"] == "tilted").to_numpy(), study.rare.where.ravel())
    tilted_rows = frame[study.rare.where.ravel()]
    assert 20 < len(tilted_rows) < len(frame) - 10
    assert tilted_rows["log_mean_weight"].tolist() == study.rare.estimate.log_p.tolist()
    direct = ob.sample(MIXED, **AXES, networks=300, seed=3).table()
    assert frame[~study.rare.where.ravel()].equals(direct[~study.rare.where.ravel()])


def test_work_is_reported_from_beginning_to_end_and_can_be_ended():
    shares = []
    where = rare_cells(config(), 300, "auto")
    estimate_rare(config(), where, samples=200_000, threads=2, watch=shares.append)  # some seconds
    assert shares == sorted(shares)
    assert len(shares) > 30
    assert 0.0 <= shares[0] < 0.2
    assert shares[-1] == pytest.approx(1.0)

    def stop(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        estimate_rare(config(), where, samples=40_000, threads=2, watch=stop)


def test_both_stages_show_how_they_go_on(monkeypatch):
    shown = []

    class Seen(progress.Bar):
        def __call__(self, number):
            shown.append((self._bar.total, number))

    monkeypatch.setattr(progress, "Bar", Seen)
    options = {"networks": 300, "estimator": "auto", "samples": 3_000_000}
    ob.sample("kaiming_normal", d=60, l=30, **options)
    assert shown == []
    study = ob.sample("kaiming_normal", d=60, l=30, **options, progress=True)
    assert study.rare is not None
    assert (300, 300) in shown
    assert shown[-1] == (100, 100)
    assert len([number for total, number in shown if total == 100]) > 2


# --- the verdict -------------------------------------------------------------------------------


def mixed_study(label, seed=7):
    axes = {"d": [2, 6, 15, 40], "l": [2, 10, 40, 150]}
    return ob.sample(label, **axes, networks=400, seed=seed, estimator="auto", samples=5000)


def test_the_verdict_on_a_mixed_grid():
    labels = [label for label in MIXED if label != "orthogonal"]
    study = mixed_study([*labels, "orthogonal"])
    found = study.agreement()
    rare_ones = np.count_nonzero(study.rare.where)
    counted = 48 - rare_ones
    assert (found.cells, found.untested, found.tilted) == (64, 16, rare_ones)
    assert found.tests == 2 * counted + rare_ones
    assert found.agrees, str(found)
    means = f"the counts of {counted} cells and the weighted samples of {rare_ones} cells"
    assert str(found).startswith(f"AGREES: {means} bear out the exact values.\n")
    assert f"({found.tests} tests, Holm)" in str(found)
    assert found.to_dict()["tilted_cells"] == rare_ones
    assert set(found.worst["estimator"]) <= {"direct", "tilted"}
    adjusted = found.adjusted[study.table()["estimator"] == "tilted"]
    assert adjusted["p_adjusted"].isna().all()
    assert adjusted["p_adjusted_neuron"].notna().all()


def test_weighted_samples_alone_and_counts_alone_are_named():
    tilted = ob.sample("kaiming_normal", d=50, l=50, networks=9, estimator="tilted", samples=500)
    text = "AGREES: the weighted samples of 1 cell bear out the exact values."
    assert str(tilted.agreement()).splitlines()[0] == text
    assert "Worst: weighted samples at kaiming_normal d=50 l=50:" in str(tilted.agreement())
    counted = ob.sample("kaiming_normal", d=2, l=2, networks=99)
    assert str(counted.agreement()).startswith("AGREES: the counts of 1 cell bear out")


def test_what_weighted_samples_would_have_caught():
    study = mixed_study("torch_linear")
    found, frame = study.agreement(), study.table()
    tilted = (frame["estimator"] == "tilted").to_numpy()
    seen = found.detectable.loc[tilted, "detectable_neuron"]
    factor = stats.norm.isf(1e-3 / found.tests / 2) + stats.norm.ppf(0.9)
    np.testing.assert_allclose(seen, factor * frame.loc[tilted, "relative_error_neuron"])
    assert found.detectable.loc[tilted, "detectable"].isna().all()
    assert found.detectable.loc[~tilted].notna().all(axis=None)


def test_certain_cells_boast_of_nothing():
    labels = ["zero_output", "custom:law=constant", "custom:hidden_std=0"]
    study = ob.sample(labels, d=[1, 9], l=[2, 7], networks=5, estimator="tilted", samples=10)
    found, frame = study.agreement(), study.table()
    assert (found.verdict, found.tilted, found.sensitivity) == ("agrees", 12, {})
    assert (frame["empirical"] == frame["exact"]).all()
    assert (frame["ci_low"] == frame["ci_high"]).all()
    assert frame["log10_empirical"].tolist() == [-math.inf] * 8 + [0.0] * 4


# A study and what its exact values would be by mistake: another scheme, other inputs.
WRONG = {
    "d + 1 for d": ("kaiming_normal", "kaiming_normal", 1),
    "d - 1 for d": ("torch_linear", "torch_linear", -1),
    "fan_out for fan_in": ("kaiming_normal", "kaiming_normal:mode=fan_out", 0),
    "Xavier for LeCun": ("lecun_uniform", "xavier_uniform", 0),
    "output gain forgotten": ("kaiming_normal:output_gain=0.98", "kaiming_normal", 0),
    "hidden gain forgotten": ("xavier_uniform:hidden_gain=1.03", "xavier_uniform", 0),
    "bias forgotten": ("torch_linear", "torch_linear:bias=none", 0),
    "wrong law": ("keras_glorot_normal", "xavier_normal", 0),
    "truncation": ("keras_he_normal", "keras_he_normal:truncation=uncorrected,output_gain=1.1", 0),
}


def with_mistakes(study, label, shift, monkeypatch):
    """Return the table as it would be with wrong exact values in the rare cells alone."""
    right = reference.exact_values(study.config)
    d = tuple(d + shift for d in study.config.d)
    wrong = reference.exact_values(StudyConfig.of(label, d=d, l=study.config.l))
    mixed = reference.ExactValues(
        *(np.where(study.rare.where, w, r) for w, r in zip(wrong, right, strict=True))
    )
    monkeypatch.setattr(table, "exact_values", lambda config: mixed)
    return table.build(study.config, study.counts, study.rare)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_exact_values_of_rare_cells_are_rejected(name, monkeypatch):
    """The right ones are not: each of these runs disagrees for about one seed in 1000."""
    label, other, shift = WRONG[name]
    study = mixed_study(label)
    assert 4 <= np.count_nonzero(study.rare.where) <= 12
    assert study.agreement().agrees, str(study.agreement())
    frame = with_mistakes(study, other, shift, monkeypatch)
    found = agreement(frame)
    assert found.verdict == "disagrees"
    assert found.smallest < 1e-6
    rejected = found.adjusted.min(axis=1) <= 1e-3
    assert (frame.loc[rejected, "estimator"] == "tilted").all()
    assert found.rejected == np.count_nonzero(rejected)
    assert found.worst["estimator"][0] == "tilted"
    assert str(found).startswith(f"DISAGREES: {found.rejected} of 16 cells contradict")


def alarms(seeds, off):
    """How often the verdict at level 0.05 is "disagrees", with exact values off by a factor."""
    one = config(["kaiming_normal", "torch_linear"], d=[10, 25], l=[40])
    right = reference.exact_values(one)
    stated = right._replace(log_neuron=right.log_neuron + math.log(off))
    everywhere, none = np.full(one.shape, True), np.zeros(one.shape, np.int64)
    found = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "exact_values", lambda config: stated)
        for seed in seeds:
            seeded = dataclasses.replace(one, seed=seed)
            sampled = estimate_rare(seeded, everywhere, samples=2000, threads=1)
            frame = table.build(seeded, Counts(1, none, none), sampled)
            found += agreement(frame, level=0.05).verdict == "disagrees"
    return found


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_stated():
    """Four cells, 200 seeds: 5 % would be 10; more than 20 has probability 1e-3 at that rate."""
    assert stats.binom.sf(20, 200, 0.05) < 1.2e-3
    assert alarms(range(200), 1.0) <= 20
    assert alarms(range(10), 1.2) == alarms(range(10), 1 / 1.2) == 10
