"""The tidy table."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

import obstruction as ob
from obstruction.sampling.config import StudyConfig
from obstruction.sampling.counts import Counts
from obstruction.sampling.inference import binomial
from obstruction.studies import table
from obstruction.studies.table import COLUMNS

REQUIRED = ["scheme", "d", "l", "networks", "obstructed", "pathological"]
REQUIRED += ["empirical", "ci_low", "ci_high", "exact", "z", "p_value"]

LABELS = ("xavier_normal", "orthogonal", "kaiming_normal:mode=fan_out,output_gain=0.5")
TEXTS = ("scheme", "method", "estimator")


@pytest.fixture(scope="module")
def study():
    return ob.sample(LABELS, d=[1, 3], l=[1, 2, 10], networks=3000, seed=5)


def test_columns_and_rows(study):
    frame = study.table()
    assert list(frame.columns) == list(COLUMNS)
    assert list(frame.columns[:12]) == REQUIRED
    assert list(zip(frame["scheme"], frame["d"], frame["l"], strict=True)) == [
        (label, d, l) for label in LABELS for d in (1, 3) for l in (1, 2, 10)
    ]
    integers = {"d", "l", "networks", "obstructed", "pathological", "samples"}
    for name in COLUMNS:
        if name in TEXTS:
            assert isinstance(frame[name].dtype, pd.CategoricalDtype)
        else:
            assert frame[name].dtype == (np.int64 if name in integers else np.float64)


def test_values_follow_from_the_counts(study):
    frame = study.table()
    assert frame["obstructed"].tolist() == study.counts.obstructed.ravel().tolist()
    assert frame["pathological"].tolist() == study.counts.pathological.ravel().tolist()
    for row in frame.itertuples():
        assert row.networks == 3000
        assert row.empirical == row.obstructed / 3000
        assert row.empirical_neuron == row.pathological / (3000 * row.l)
        assert row.ci_low <= row.empirical <= row.ci_high
        low, high = binomial.interval(np.array([row.obstructed]), 3000, level=0.95)
        assert (row.ci_low, row.ci_high) == (low[0], high[0])
        scheme = ob.scheme(row.scheme)
        assert row.a == scheme.ratio(row.d, row.l)
        assert row.method.partition(":")[0] == ob.exact.method(scheme)
        assert (row.estimator, row.samples) == ("direct", 0)
        for rate, trials, error in (
            (row.empirical, 3000, row.relative_error),
            (row.empirical_neuron, 3000 * row.l, row.relative_error_neuron),
        ):
            expected = math.sqrt((1 - rate) / trials / rate) if rate else math.inf
            assert error == pytest.approx(expected)
        for name in ("empirical", "ci_low", "ci_high"):
            value = getattr(row, name)
            log = math.log10(value) if value else -math.inf
            assert getattr(row, f"log10_{name}") == pytest.approx(log, rel=1e-14)
        assert math.isnan(row.log_mean_weight + row.skewness + row.largest_share + row.log_bound)
        if row.scheme == "orthogonal":
            assert row.method == "none: weights depend on each other"
            assert math.isnan(row.exact)
            assert row.exact_neuron == ob.exact.pathological_probability(scheme, row.d, row.l)
            assert math.isnan(row.z + row.p_value + row.z_neuron + row.p_value_neuron)
            assert math.isnan(row.log10_exact)
            continue
        whole = ob.exact.obstruction_probability(scheme, row.d, row.l)
        neuron = ob.exact.pathological_probability(scheme, row.d, row.l)
        assert (row.exact, row.exact_neuron) == (whole, neuron)
        assert row.log10_exact == pytest.approx(math.log10(whole))
        spread = math.sqrt(whole * (1 - whole) / 3000)
        assert row.z == pytest.approx((row.empirical - whole) / spread)
        spread = math.sqrt(neuron * (1 - neuron) / (3000 * row.l))
        assert row.z_neuron == pytest.approx((row.empirical_neuron - neuron) / spread)
        assert 0 < row.p_value <= 1
        assert 0 < row.p_value_neuron <= 1


def test_certain_cells():
    config = StudyConfig.of(["custom:output_std=0", "custom:hidden_std=0"], d=[2], l=[3])
    counts = Counts(50, np.array([[[0]], [[50]]]), np.array([[[0]], [[150]]]))
    frame = table.build(config, counts)
    assert frame["exact"].tolist() == frame["empirical"].tolist() == [0.0, 1.0]
    assert frame["p_value"].tolist() == frame["p_value_neuron"].tolist() == [1.0, 1.0]
    assert frame["a"].tolist() == [0.0, math.inf]
    assert frame["log10_exact"].tolist() == [-math.inf, 0.0]


def test_the_table_given_away_is_a_copy(study):
    mine = study.table()
    mine["obstructed"] = 0
    assert study.table()["obstructed"].sum() > 0
