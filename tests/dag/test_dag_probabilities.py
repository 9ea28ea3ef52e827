"""Exact probabilities on graphs against two layers, integrals and samples; agreement that fails."""

import itertools
import math

import numpy as np
import pytest
from scipy import special

import obstruction as ob
from obstruction import exact
from obstruction.dag import Network, disconnection_probability, frozen_probabilities
from obstruction.dag.probability import exact as module
from obstruction.exact import NoExactValue
from obstruction.schemes import scheme_names
from obstruction.schemes.laws import CONSTANT, NORMAL, TRUNCATED, UNIFORM

SCHEMES = [name for name in scheme_names() if ob.scheme(name).independent]
LEVEL = 1e-3


def two_layers(scheme, d, l, e=1):
    return Network.mlp([d, l, e], hidden_bias=ob.scheme(scheme).has_bias)


@pytest.mark.parametrize("scheme", [*SCHEMES, "kaiming_normal:mode=fan_out", "custom:law=constant"])
@pytest.mark.parametrize("sizes", [(1, 3, 1), (4, 3, 1), (30, 7, 1), (3, 5, 2), (1, 4, 3)])
def test_two_layers_have_the_values_of_exact(scheme, sizes):
    d, l, e = sizes
    found = frozen_probabilities(two_layers(scheme, d, l, e), scheme)
    assert found.reason == ""
    expected = exact.disconnection_probability(scheme, d, l, e=e)
    assert found.disconnected == pytest.approx(expected, rel=1e-9, abs=1e-300)
    assert found.law.sum() == pytest.approx(1.0, abs=1e-12)
    assert found.law @ np.arange(found.law.size) == pytest.approx(found.mean, abs=1e-12)
    components = exact.expected_components(scheme, d, l, e=e)
    assert found.law @ 2.0 ** np.arange(found.law.size) == pytest.approx(components, rel=1e-9)
    if e == 1:
        p = exact.pathological_probability(scheme, d, l)
        np.testing.assert_allclose(found.edges[-l:], p, rtol=1e-9)
        if d > 1 or ob.scheme(scheme).has_bias:
            np.testing.assert_allclose(
                found.law, exact.pathological_count(scheme, d, l).pmf(np.arange(l + 1)), atol=1e-13
            )
    if e == 1 < d or (d > 1 and e > 1):
        assert not found.edges[: d * l].any()


@pytest.mark.parametrize("scheme", ["kaiming_normal", "xavier_uniform", "torch_linear"])
@pytest.mark.parametrize("widths", [(5, 8, 6, 1), (2, 9, 3, 7, 4, 1)])
def test_deep_networks_have_the_values_of_their_last_hidden_layer(scheme, widths):
    net = Network.mlp(widths, hidden_bias=ob.scheme(scheme).has_bias)
    found, (*_, d, l, _) = frozen_probabilities(net, scheme), widths
    assert found.log_disconnected == pytest.approx(
        exact.log_obstruction_probability(scheme, d, l), rel=1e-10
    )
    assert disconnection_probability(net, scheme) == found.disconnected
    last = [edge[1] == "y0" and edge[0] != "bias" for edge in net.edges]
    assert np.flatnonzero(found.edges).tolist() == np.flatnonzero(last).tolist()


def test_probabilities_that_underflow_keep_their_logarithm():
    net, scheme = Network.mlp([3, 60, 60, 1]), "kaiming_normal:output_gain=1e-6"
    found = frozen_probabilities(net, scheme)
    assert found.disconnected == 0.0
    expected = exact.log_obstruction_probability(scheme, 60, 60)
    assert found.log_disconnected == pytest.approx(expected, rel=1e-12)
    assert (
        frozen_probabilities(Network.mlp([3, 4, 2]), "kaiming_normal").log_disconnected == -np.inf
    )


def test_independent_events_by_all_subsets():
    p = np.array([0.5, 0.1, 0.1, 0.9, 0.0])
    law = np.zeros(6)
    for happened in itertools.product([0, 1], repeat=5):
        law[sum(happened)] += np.prod(np.where(happened, p, 1 - p))
    np.testing.assert_allclose(module._convolved(p), law, atol=1e-15)
    with np.errstate(divide="ignore"):
        assert module._log_some(p, np.log(p)) == pytest.approx(math.log(1 - law[0]), rel=1e-14)
        assert module._log_some(np.array([1.0, 0.5]), np.log([1.0, 0.5])) == 0.0


# --- weights of several variances ----------------------------------------------------------------


def test_two_variances_by_integration():
    """P(V² > s χ²_3 + t χ²_2) as an integral over the radii of the two balls."""
    s, t = 0.3, 1.7
    nodes, mass = np.polynomial.legendre.leggauss(300)
    r, mass = 6.5 * (nodes + 1.0), 6.5 * mass
    three = mass * np.sqrt(2 / np.pi) * r**2 * np.exp(-(r**2) / 2)
    two = mass * r * np.exp(-(r**2) / 2)
    tail = special.erfc(np.sqrt((s * r[:, None] ** 2 + t * r**2) / 2))
    exponent, factor = module._factors(NORMAL, 2.0, [(NORMAL, 2 * s, 3), (NORMAL, 2 * t, 2)])
    assert np.exp(exponent) * factor == pytest.approx(three @ tail @ two, rel=1e-7)


@pytest.mark.parametrize("law", [NORMAL, UNIFORM, TRUNCATED, CONSTANT])
def test_equal_variances_in_two_groups_are_one(law):
    whole = module._factors(NORMAL, 0.7, [(law, 0.5, 5)])
    parts = module._craig(0.7, [(law, 0.5, 2), (law, 0.5, 3)])
    np.testing.assert_allclose(np.exp(parts[0]) * parts[1], np.exp(whole[0]) * whole[1], rtol=1e-12)


def skip_network(widths, bias=False):
    """Layers that are fed by the two layers before."""
    layers = [[f"{i}.{k}" for k in range(n)] for i, n in enumerate(widths)]
    edges = [
        edge
        for i in range(1, len(layers))
        for j in range(max(0, i - 2), i)
        for edge in itertools.product(layers[j], layers[i])
    ]
    return Network.from_edges(edges, inputs=layers[0], outputs=layers[-1], hidden_bias=bias)


BRANCHES = Network.from_edges(
    [("x", "a"), ("z", "a"), ("a", "b"), ("a", "c"), ("b", "y"), ("c", "y"), ("x", "c")],
    inputs=["x", "z"],
    outputs=["y"],
)
"""A node b with a single weight in and out, a node c with two in and one out."""

NETS = {
    "deep": Network.mlp([3, 5, 4, 1]),
    "one input": Network.mlp([1, 4, 2]),
    "one input, deep": Network.mlp([1, 4, 3, 1]),
    "bottleneck": Network.mlp([3, 4, 1, 3, 2, 1]),
    "skips": skip_network([3, 4, 3, 1]),
    "skips, biases": skip_network([2, 3, 3, 1], bias=True),
    "branches": BRANCHES,
}
CASES = [
    (name, scheme)
    for name in NETS
    for scheme in (
        "kaiming_normal",
        "xavier_normal",
        "xavier_uniform",
        "custom:law=truncated_normal",
    )
]


@pytest.mark.parametrize(("name", "scheme"), CASES)
def test_samples_agree(name, scheme):
    """False alarms at most 1e-3 a case; the seed is fixed."""
    study = ob.sample_dag(NETS[name], scheme, networks=40_000, seed=11)
    verdict = study.agreement(level=LEVEL)
    known = study.exact.edges[study.exact.edges > 0]
    if np.isfinite(known).any():
        assert verdict.agrees, str(verdict)
    else:
        assert verdict.verdict == "untested"
    if not math.isnan(study.exact.mean):
        assert abs(study.mean - study.exact.mean) <= 4.5 * study.mean_error


WRONG = {
    "fan-in one too large": lambda laws, net: laws._replace(
        stds=laws.stds * np.where(net.heads >= net.last, 0.97, 1.0)
    ),
    "a weight forgotten": lambda laws, net: laws._replace(
        stds=np.where(
            np.arange(net.size) == np.flatnonzero(net.heads == net.last - 1)[0], 0, laws.stds
        )
    ),
    "the sides exchanged": lambda laws, net: laws._replace(
        stds=np.where(net.heads >= net.last, laws.stds.min(), laws.stds.max())
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", ["deep", "skips"])
def test_agreement_fails_for_wrong_fans(wrong, name, monkeypatch):
    right = module.edge_laws

    def mutated(graph, scheme):
        return WRONG[wrong](right(graph, scheme), graph)

    monkeypatch.setattr(module, "edge_laws", mutated)
    verdict = ob.sample_dag(NETS[name], "kaiming_normal", networks=100_000).agreement(level=LEVEL)
    assert verdict.verdict == "disagrees"
    assert str(verdict).startswith("DISAGREES: ")
    assert verdict.smallest < LEVEL


# --- what has no exact value ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "scheme", "reason"),
    [
        (Network.mlp([3, 4, 1, 1]), "kaiming_normal", r"h1\.0 -> h2\.0 joins two nodes"),
        (Network.mlp([1, 4, 3, 1]), "kaiming_normal", r"h1\.0 -> h2\.0 joins two nodes"),
        (skip_network([4, 3, 3, 1]), "xavier_uniform", "have several variances"),
    ],
)
def test_reasons(net, scheme, reason):
    found = frozen_probabilities(net, scheme)
    assert found.law is None
    assert math.isnan(found.disconnected)
    with pytest.raises(NoExactValue, match=reason):
        disconnection_probability(net, scheme)


def test_branches_by_hand():
    """One weight of b is always frozen, c's with 1 - (1 + a)^(-1/2) for a = 1."""
    found = frozen_probabilities(BRANCHES, "kaiming_normal")
    p = 1 - 2**-0.5
    np.testing.assert_allclose(found.law, [0, 1 - p, p], atol=1e-14)


def test_a_weight_that_both_ends_can_freeze():
    """Frozen unless it is below what comes in before and what goes out behind."""
    edges = [("x", "u"), ("z", "u"), ("u", "v"), ("v", "a"), ("v", "b"), ("a", "y"), ("b", "y")]
    edges += [("x", "a"), ("x", "b"), ("a", "t"), ("b", "t")]
    net = Network.from_edges(edges, inputs=["x", "z"], outputs=["y", "t"])
    found = frozen_probabilities(net, "kaiming_normal")
    assert math.isnan(found.edges[2])
    assert found.law is None
    study = ob.sample_dag(net, "kaiming_normal", networks=2000)
    assert study.to_dataframe().exact.isna().all()
    assert study.agreement().verdict == "untested"
    assert str(study.agreement()).startswith("UNTESTED: nothing is known exactly: ")
    assert "no exact value" in str(study)


def test_means_are_known_where_laws_are_not():
    found = frozen_probabilities(Network.mlp([1, 5, 3, 1]), "kaiming_normal")
    assert found.law is None
    p = exact.pathological_probability("kaiming_normal", 5, 3)
    q = 1 - exact.pathological_probability_from_ratio(3, 2 / 5 / 2)  # roles exchanged: 3 ways out
    assert found.mean == pytest.approx(3 * p + 5 * found.edges[0])
    assert found.edges[0] == pytest.approx(exact.pathological_probability_from_ratio(3, 5.0))
    assert 0 < q < 1


def test_dependent_weights_are_refused_by_name():
    with pytest.raises(NoExactValue, match="scheme 'orthogonal' has no exact value"):
        frozen_probabilities(Network.mlp([3, 4, 1]), "orthogonal")


# --- what a study tells --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study():
    return ob.sample_dag(Network.mlp([8, 16, 4, 1]), "kaiming_normal", networks=20_000, seed=0)


def test_a_study_adds_up(study):
    counts, table = study.counts, study.to_dataframe()
    assert counts.numbers.sum() == study.networks == 20_000
    assert counts.numbers @ np.arange(5) == counts.frozen == table.frozen.sum()
    assert study.disconnected == counts.disconnected / 20_000
    assert study.law.sum() == pytest.approx(1.0)
    low, high = study.interval()
    assert low < study.disconnected < high
    number = np.repeat(np.arange(5), counts.numbers)
    assert study.mean == pytest.approx(number.mean())
    assert study.mean_error == pytest.approx(number.std(ddof=1) / math.sqrt(20_000))
    assert list(zip(table["tail"], table["head"], strict=True)) == [
        (f"h2.{i}", "y0") for i in range(4)
    ]
    assert study.worst(2).frozen.tolist() == sorted(table.frozen)[:-3:-1]
    assert math.isnan(ob.sample_dag(study.network, study.scheme, networks=1).mean_error)


def test_a_study_prints_well(study):
    text = str(study)
    assert text.splitlines()[0] == repr(study.network)
    assert "kaiming_normal, 20,000 networks, seed 0" in text
    assert "exact 0.22842" in text
    assert "4 of 196 can be" in text
    assert max(map(len, text.splitlines())) <= 100
    assert "exact 0.251088" in text
    assert "<DagStudy of kaiming_normal: Network: 8 inputs" in repr(study)
    assert str(study.agreement()).startswith("AGREES: the counts bear out")
    with pytest.raises(ValueError, match="level = 2"):
        study.agreement(level=2)


def test_a_long_summary_is_cut():
    study = ob.sample_dag(Network.mlp([1, 30, 1]), "kaiming_normal", networks=500)
    assert "and 52 more that can be frozen" in str(study)
    assert study.counts.numbers[30] == 500
    assert "30" in str(study)


def test_a_node_between_two_single_weights_disconnects_for_sure():
    net = Network.mlp([4, 3, 1, 1, 1])
    found = frozen_probabilities(net, "xavier_normal")
    assert found.law is None
    assert disconnection_probability(net, "xavier_normal") == found.disconnected == 1.0
    study = ob.sample_dag(net, "xavier_normal", networks=3000)
    assert study.disconnected == 1.0
    assert "exact 1\n" in str(study)
    assert study.agreement().agrees
    with pytest.raises(NoExactValue):  # constant weights of one size: the balance is zero
        disconnection_probability(net, "custom:law=constant")
    biased = Network.mlp([4, 3, 1, 1, 1], hidden_bias=True)
    assert math.isnan(frozen_probabilities(biased, "torch_linear").disconnected)
