"""Replay: the weights of any network again, which give exactly the counts when counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import obstruction as ob
from obstruction.sampling.config import PLANS
from obstruction.schemes.laws import CUT_STD
from obstruction.studies.replay import Weights

LABELS = (
    "xavier_normal",
    "kaiming_normal:mode=fan_out",
    "kaiming_uniform:output_gain=1.5",
    "custom:hidden_law=uniform,output_law=normal,hidden_std=0.5",
    "torch_linear:output_gain=2",
    "torch_xavier_normal",
    "keras_he_normal",
    "orthogonal:output_gain=2",
    "custom:bias_law=constant,bias_std=0.4",
)
NETWORKS = 2000


@pytest.fixture(scope="module", params=PLANS)
def study(request):
    return ob.sample(LABELS, d=[2, 7], l=[3, 12], networks=NETWORKS, seed=5, plan=request.param)


def pathological(weights):
    """The number of pathological neurons, from the definition."""
    inward = (weights.W1**2).sum(axis=1)
    if weights.b1 is not None:
        inward = inward + weights.b1**2
    return np.count_nonzero(inward < weights.W2[0] ** 2)


# --- the counts are those of the weights ---------------------------------------------------


@pytest.mark.parametrize(("d", "l"), [(2, 3), pytest.param(7, 12, marks=pytest.mark.slow)])
@pytest.mark.parametrize("scheme", LABELS)
def test_counting_replayed_networks_gives_the_counts(study, scheme, d, l):
    found = [
        pathological(ob.replay(study, network=i, d=d, l=l, scheme=scheme)) for i in range(NETWORKS)
    ]
    cell = LABELS.index(scheme), study.config.d.index(d), study.config.l.index(l)
    assert sum(found) == study.counts.pathological[cell]
    assert np.count_nonzero(found) == study.counts.obstructed[cell]
    assert 0 < np.count_nonzero(found) < sum(found)


def test_other_networks_give_other_counts(study):
    """What the comparison above would notice: another seed, and other networks."""
    label, cell = LABELS[0], (0, 1, 1)
    later = sum(
        pathological(ob.replay(study, network=NETWORKS + i, d=7, l=12, scheme=label))
        for i in range(NETWORKS)
    )
    other = sum(
        pathological(ob.replay(6, network=i, d=7, l=12, scheme=label, plan=study.config.plan))
        for i in range(NETWORKS)
    )
    assert len({later, other, int(study.counts.pathological[cell])}) == 3


def test_a_block_boundary_leaves_no_gap():
    study = ob.sample(LABELS[0], d=2, l=3, networks=1025, seed=8)
    less = ob.sample(LABELS[0], d=2, l=3, networks=1023, seed=8)
    found = sum(pathological(ob.replay(study, network=i, d=2, l=3)) for i in (1023, 1024))
    assert study.counts.pathological.item() - less.counts.pathological.item() == found


# --- the weights ---------------------------------------------------------------------------


def test_weights_come_in_two_matrices(study):
    weights = ob.replay(study, network=4, d=7, l=3, scheme=LABELS[0])
    assert isinstance(weights, Weights)
    W1, W2, b1 = weights
    assert b1 is None
    assert (W1.shape, W2.shape) == ((3, 7), (1, 3))
    assert (W1.dtype, W2.dtype) == (np.float64, np.float64)
    assert np.isfinite(W1).all()
    assert np.isfinite(W2).all()
    assert np.unique(np.abs([*W1.ravel(), *W2.ravel()])).size == 24


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("label", [label for label in LABELS if "orthogonal" not in label])
def test_weights_have_the_law_and_variance_of_their_scheme(label, plan):
    """Kolmogorov-Smirnov and signs of 60 000 hidden and 20 000 output weights.

    Each test raises a false alarm for one seed in 10⁵; 64 tests in all.
    """
    scheme, d, l = ob.scheme(label), 3, 2000
    networks = [ob.replay(3, network=i, d=d, l=l, scheme=scheme, plan=plan) for i in range(10)]
    layers = {
        "W1": (scheme.laws[0], scheme.hidden_variance(d, l)),
        "W2": (scheme.laws[1], scheme.output_variance(d, l)),
    }
    for name, (law, variance) in layers.items():
        weights = np.concatenate([getattr(one, name).ravel() for one in networks])
        std = math.sqrt(variance)
        width = math.sqrt(3.0) * std
        frozen = {
            "normal": stats.norm(0, std),
            "uniform": stats.uniform(-width, 2 * width),
            "truncated_normal": stats.truncnorm(-2, 2, scale=std / CUT_STD),
        }[law.name]
        assert stats.kstest(weights, frozen.cdf).pvalue > 1e-5
        positive = np.count_nonzero(weights > 0)
        assert stats.binomtest(positive, weights.size, 0.5).pvalue > 1e-5
        # A standard deviation wrong by 10 % would have shown.
        assert stats.kstest(1.1 * weights, frozen.cdf).pvalue < 1e-5


def test_biases_are_the_third_part():
    def biases(scheme, **options):
        replayed = [ob.replay(3, network=i, d=4, l=2000, scheme=scheme) for i in range(10)]
        assert all(weights.b1.shape == (2000,) for weights in replayed)
        return np.concatenate([weights.b1 for weights in replayed])

    assert ob.replay(3, network=0, d=4, l=5, scheme="torch_linear:bias=none").b1 is None
    assert not biases("keras_dense").any()
    bias = biases("torch_xavier_normal")
    assert np.abs(bias).max() <= 0.5  # 1 / sqrt(4)
    assert stats.kstest(bias, stats.uniform(-0.5, 1.0).cdf).pvalue > 1e-5
    assert (biases("custom:bias_law=constant,bias_std=0.25") == 0.25).all()


@pytest.mark.parametrize(("d", "l"), [(5, 5), (7, 3), (3, 7), (1, 4), (4, 1), (1, 1)])
def test_orthogonal_weights_are_orthogonal(d, l):
    scheme = "orthogonal:hidden_gain=2,output_gain=3"
    weights = ob.replay(1, network=5, d=d, l=l, scheme=scheme)
    product = weights.W1 @ weights.W1.T if l <= d else weights.W1.T @ weights.W1
    np.testing.assert_allclose(product, 4.0 * np.eye(min(d, l)), atol=1e-14)
    assert np.linalg.norm(weights.W2) == pytest.approx(3.0, rel=1e-14)
    assert weights.b1 is None


def test_orthogonal_weights_are_uniform_among_such():
    """Entries of W1 and W2 against the law of a coordinate of a point on a sphere."""
    d, l = 3, 6
    weights = [ob.replay(1, network=i, d=d, l=l, scheme="orthogonal") for i in range(3000)]
    law = stats.beta(0.5, (l - 1) / 2)
    for found in (weights[0].W1, weights[0].W2):
        assert np.abs(found).max() < 1.0
    first = np.array([one.W1 for one in weights])
    for k in range(l):
        for i in range(d):
            assert stats.kstest(first[:, k, i] ** 2, law.cdf).pvalue > 1e-5
            assert stats.binomtest(int((first[:, k, i] > 0).sum()), 3000).pvalue > 1e-5
        assert stats.kstest([one.W2[0, k] ** 2 for one in weights], law.cdf).pvalue > 1e-5
    rows = (first**2).sum(axis=2)
    assert stats.kstest(rows[:, 2], stats.beta(d / 2, (l - d) / 2).cdf).pvalue > 1e-5
    assert stats.kstest(rows[:, 2], law.cdf).pvalue < 1e-5


def test_zero_standard_deviations_give_zero_weights():
    W1, W2, _ = ob.replay(0, network=0, d=4, l=5, scheme="custom:hidden_std=0")
    assert not W1.any()
    assert W2.all()
    W1, W2, _ = ob.replay(0, network=0, d=4, l=5, scheme="custom:output_std=0")
    assert W1.all()
    assert not W2.any()


# --- which network -------------------------------------------------------------------------


@pytest.mark.parametrize("label", LABELS)
def test_a_study_its_configuration_and_its_seed_replay_the_same(study, label):
    one = ob.replay(study, network=1500, d=7, l=3, scheme=label)
    plan = study.config.plan
    for other in (
        ob.replay(study, network=1500, d=7, l=3, scheme=label),
        ob.replay(study, network=1500.0, d=np.int64(7), l=3.0, scheme=ob.scheme(label)),
        ob.replay(study.config, network=1500, d=7, l=3, scheme=label),
        ob.replay(5, network=1500, d=7, l=3, scheme=label, plan=plan),
    ):
        np.testing.assert_array_equal(one.W1, other.W1)
        np.testing.assert_array_equal(one.W2, other.W2)


def test_the_only_scheme_of_a_study_need_not_be_named():
    study = ob.sample("lecun_normal", d=3, l=4, networks=10, seed=1)
    one = ob.replay(study, network=2, d=3, l=4)
    other = ob.replay(1, network=2, d=3, l=4, scheme="lecun_normal")
    np.testing.assert_array_equal(one.W1, other.W1)


@pytest.mark.parametrize("plan", PLANS)
def test_networks_and_seeds_differ(plan):
    def first_weight(seed, network):
        return ob.replay(seed, network=network, d=2, l=3, scheme=LABELS[0], plan=plan).W1[0, 0]

    numbers = (0, 1, 1023, 1024, 2047, 2048, 10**9, 10**14)
    assert len({first_weight(seed, i) for seed in (0, 1) for i in numbers}) == 2 * len(numbers)


@pytest.mark.parametrize("label", [label for label in LABELS if "orthogonal" not in label])
def test_a_small_nested_network_is_the_leading_block_of_a_large_one(label):
    scheme = ob.scheme(label)
    L, D = 700, 23
    for network in (0, 1025):
        large = ob.replay(2, network=network, d=D, l=L, scheme=scheme)
        for l, d in ((1, 1), (3, 4), (512, 22), (513, 3), (L, 1), (1, D)):
            small = ob.replay(2, network=network, d=d, l=l, scheme=scheme)
            hidden = np.sqrt(scheme.hidden_variance(d, l) / scheme.hidden_variance(D, L))
            output = np.sqrt(scheme.output_variance(d, l) / scheme.output_variance(D, L))
            np.testing.assert_allclose(small.W1, hidden * large.W1[:l, :d], rtol=1e-14)
            np.testing.assert_allclose(small.W2, output * large.W2[:, :l], rtol=1e-14)


def test_nested_schemes_of_one_law_share_their_networks():
    one = ob.replay(2, network=3, d=5, l=6, scheme="xavier_normal")
    other = ob.replay(2, network=3, d=5, l=6, scheme="custom:hidden_std=3,output_std=0.1")
    np.testing.assert_allclose(other.W1 / one.W1, 3 / math.sqrt(2 / 11), rtol=1e-14)
    np.testing.assert_allclose(other.W2 / one.W2, 0.1 / math.sqrt(2 / 7), rtol=1e-14)


def test_independent_cells_share_nothing():
    options = {"network": 3, "plan": "independent"}
    sizes = [(5, 6), (5, 7), (6, 6)]
    weights = [ob.replay(2, d=d, l=l, scheme="custom", **options).W2[0, 0] for d, l in sizes]
    weights.append(ob.replay(2, d=5, l=6, scheme="custom:output_gain=1.0001", **options).W2[0, 0])
    weights.append(ob.replay(2, network=3, d=5, l=6, scheme="custom").W2[0, 0])
    assert np.abs(np.subtract.outer(weights, weights))[~np.eye(5, dtype=bool)].min() > 1e-3


# --- arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": -1}, "network = -1: must be a whole number of at least 0"),
        ({"network": 0.5}, "network = 0.5: must be a whole number of at least 0"),
        ({"d": 0}, "d = 0: must be a whole number of at least 1"),
        ({"l": "3"}, "l = '3': must be a whole number of at least 1"),
        ({"d": 10**10}, "d = 10000000000: must be .* at most 1,000,000,000"),
        ({"d": 3}, "d = 3: not on the grid of this study"),
        ({"l": 4}, "l = 4: not on the grid of this study"),
        ({"scheme": None}, "scheme = None: must name one of the study's schemes: xavier_normal, "),
        ({"scheme": "lecun_normal"}, "scheme = 'lecun_normal': this study has xavier_normal, "),
        ({"scheme": "kaiming_normal"}, "scheme = 'kaiming_normal': this study has "),
        ({"scheme": "xavier_norm"}, "unknown scheme 'xavier_norm'"),
        ({"source": 0, "scheme": None}, "scheme = None: must be given if the source is a seed"),
        ({"source": -1}, "seed = -1: must be a whole number of at least 0"),
        ({"source": 0.5}, "seed = 0.5: must be a whole number"),
        ({"source": 0, "plan": "nest"}, "plan = 'nest': must be one of nested, independent"),
    ],
)
def test_bad_arguments_are_named(study, arguments, message):
    good = {"source": study, "network": 0, "d": 2, "l": 3, "scheme": LABELS[0]}
    given = {**good, **arguments}
    with pytest.raises(ValueError, match=message):
        ob.replay(given.pop("source"), **given)
