"""Singular points: ranks, linear programmes, all cuts; and that pruning keeps the function."""

import itertools
import math
from fractions import Fraction

import networkx
import numpy as np
import pytest
from dag_networks import KINDS, Sets, can_vanish, random_network
from hypothesis import given, settings
from hypothesis import strategies as st

from obstruction.dag import Network
from obstruction.dag.reachable.singular import _minimum_cut

seeds = st.integers(0, 2**32 - 1)


def crossing(net, members):
    """Return the places of the edges with one end in a set of hidden nodes."""
    inside = set(members)
    return {e for e, (a, b) in enumerate(net.edges) if (a in inside) != (b in inside)}


# --- where it is singular ------------------------------------------------------------------------


@settings(max_examples=60, derandomize=True)
@given(seeds, st.integers(1, 10), st.sampled_from(KINDS), st.floats(0.0, 0.9))
def test_singular_exactly_where_the_rank_drops(seed, hidden, kind, share):
    """The Jacobian of the balances is ``2 B diag(w)``; each group that is cut off costs one."""
    rng = np.random.default_rng(seed)
    net = random_network(rng, hidden, kind)
    weights = rng.uniform(0.5, 2.0, net.size) * rng.choice([-1, 1], net.size)
    weights[rng.random(net.size) < share] = 0.0
    jacobian = 2.0 * net.incidence().toarray() * weights
    groups = net.cut_off(weights)
    assert np.linalg.matrix_rank(jacobian) == hidden - len(groups)
    assert net.is_singular(weights) == bool(groups)
    for members in groups:
        assert not weights[list(crossing(net, members))].any()
        assert sum(net.balances(weights)[net.hidden.index(v)] for v in members) == pytest.approx(
            0.0, abs=1e-9
        )


def test_the_jacobian_is_that_of_the_balances():
    rng = np.random.default_rng(1)
    net = random_network(rng, 5)
    weights, h = rng.standard_normal(net.size), 1e-6
    for e, unit in enumerate(np.eye(net.size)):
        slope = (net.balances(weights + h * unit) - net.balances(weights - h * unit)) / (2 * h)
        jacobian = 2.0 * net.incidence().toarray() * weights
        np.testing.assert_allclose(jacobian[:, e], slope, atol=1e-8)


def test_tolerance():
    net = Network.mlp([1, 2, 1])
    weights = [1.0, 1e-4, 1.0, -1e-3]
    assert net.cut_off(weights) == ()
    assert net.cut_off(weights, tolerance=1e-4) == ()
    assert net.cut_off(weights, tolerance=1e-3) == (("h1.1",),)
    assert net.is_singular(weights, tolerance=1e-3)
    assert not net.is_singular([0, 1, 1, 0])  # neither neuron does anything, both are attached
    assert net.cut_off([0] * 4) == (("h1.0",), ("h1.1",))
    for bad in (-1.0, math.nan, math.inf, "a", None):
        for call in (net.cut_off, net.is_singular, net.prune):
            with pytest.raises(ValueError, match=r"^tolerance = .*: must be a finite number of at"):
                call(weights, tolerance=bad)


# --- what can be cut off -------------------------------------------------------------------------


def by_programming(net, balances):
    """Return all connected sets that no weight needs to cross."""
    graph = networkx.Graph(net.edges)
    sets = itertools.chain.from_iterable(
        itertools.combinations(net.hidden, k) for k in range(1, len(net.hidden) + 1)
    )
    return {
        members
        for members in sets
        if networkx.is_connected(graph.subgraph(members))
        and can_vanish(net, balances, crossing(net, members))
    }


@settings(max_examples=25, derandomize=True)
@given(seeds, st.integers(1, 4), st.sampled_from(KINDS), st.booleans())
def test_what_can_be_cut_off(seed, hidden, kind, rational):
    rng = np.random.default_rng(seed)
    net = random_network(rng, hidden, kind)
    weights = rng.integers(-1, 2, net.size).tolist()
    if rational:
        weights = [Fraction(w, 3) for w in weights]
    found = net.singular_subnetworks(weights)
    assert len(set(found)) == len(found)
    assert [len(members) for members in found] == sorted(len(members) for members in found)
    assert set(found) == by_programming(net, net.balances(weights))
    assert set(net.singular_subnetworks([float(w) for w in weights])) == set(found)


@pytest.mark.parametrize("kind", KINDS)
def test_balanced_networks_can_lose_everything(kind):
    """All balances zero: every connected set can go, as all weights may vanish."""
    rng = np.random.default_rng(2)
    net = random_network(rng, 5, kind)
    graph = networkx.Graph(net.edges)
    connected = [
        members
        for k in range(1, 6)
        for members in itertools.combinations(net.hidden, k)
        if networkx.is_connected(graph.subgraph(members))
    ]
    assert set(net.singular_subnetworks([0] * net.size)) == set(connected)
    one = Network.mlp([1, 3, 1])  # balanced, and far from zero
    assert len(one.singular_subnetworks([1, 2, 3, 1, -2, 3])) == 3
    assert one.singular_subnetworks([1, 2, 3, 1, -2, 4]) == (("h1.0",), ("h1.1",))


def test_random_weights_have_no_singular_points():
    rng = np.random.default_rng(3)
    for kind in KINDS:
        net = random_network(rng, 8, kind)
        assert net.singular_subnetworks(rng.standard_normal(net.size)) == ()


def test_sums_of_zero_are_not_enough():
    """``c(S) = 0``, but what enters at one node cannot get to the other against the arrow."""
    net = Network.from_edges(
        [("x", "g"), ("g", "h"), ("h", "y"), ("g", "u"), ("z", "h")],
        inputs=["x", "z"],
        outputs=["y", "u"],
    )
    down, up = net.balances([1, 1, 1, 1, 1]), [2, 1, 2, 0, 0]
    assert down.tolist() == [-1, 1]
    assert net.singular_subnetworks([1, 1, 1, 1, 1]) == (("g", "h"),) * can_vanish(
        net, down, crossing(net, ["g", "h"])
    )
    assert net.balances(up).tolist() == [3, -3]
    assert net.singular_subnetworks(up) == ()


def test_too_many_nodes():
    net = Network.mlp([1, 21, 1])
    with pytest.raises(ValueError, match=r"^graph: must have at most 20 hidden nodes, not 21$"):
        net.singular_subnetworks(np.ones(net.size))
    assert len(Network.mlp([1, 11, 1]).singular_subnetworks(np.ones(22))) == 11
    weights = np.random.default_rng(0).standard_normal(40)
    weights[20] = weights[0]
    assert Network.mlp([1, 20, 1]).singular_subnetworks(weights) == (("h1.0",),)


# --- the nearest singular point ------------------------------------------------------------------


@settings(max_examples=60, derandomize=True)
@given(seeds, st.integers(1, 10), st.sampled_from(KINDS))
def test_distance_to_the_nearest_singular_point(seed, hidden, kind):
    rng = np.random.default_rng(seed)
    net = random_network(rng, hidden, kind)
    weights = rng.standard_normal(net.size)
    sets = Sets(net)
    sizes = (sets.out | sets.into) @ weights**2
    found = net.distance_to_singularity(weights)
    assert found.distance == pytest.approx(math.sqrt(sizes[1:].min()), rel=1e-12)
    assert found.nodes
    # the point is singular, at that distance, with these nodes cut off
    there = weights.copy()
    there[list(crossing(net, found.nodes))] = 0.0
    assert net.is_singular(there)
    assert set(itertools.chain(*net.cut_off(there))) == set(found.nodes)
    assert np.linalg.norm(there - weights) == pytest.approx(found.distance, rel=1e-12)
    places = [net.hidden.index(v) for v in found.nodes]
    assert found.balance == pytest.approx(net.balances(weights)[places].sum(), abs=1e-12)
    # no supports by chance are singular and nearer
    for _ in range(20):
        other = np.where(rng.random(net.size) < 0.5, weights, 0.0)
        if net.is_singular(other):
            assert np.linalg.norm(other - weights) >= found.distance * (1 - 1e-12)


def test_distance_is_zero_at_singular_points():
    net = Network.mlp([2, 3, 1])
    weights = np.ones(net.size)
    weights[[2, 3, 7]] = 0.0
    found = net.distance_to_singularity(weights)
    assert (found.distance, found.nodes, found.balance) == (0.0, ("h1.1",), 0.0)


def test_distance_refuses():
    with pytest.raises(ValueError, match=r"^graph: must have 1 to 4,000 hidden nodes, not 0$"):
        Network.mlp([1, 1]).distance_to_singularity([1.0])
    with pytest.raises(ValueError, match=r"^graph: must have 1 to 4,000 hidden nodes, not 4,001$"):
        Network.mlp([1, 4001, 1]).distance_to_singularity(np.ones(8002))


@settings(max_examples=60, derandomize=True)
@given(seeds, st.integers(2, 8))
def test_minimum_cut(seed, n):
    rng = np.random.default_rng(seed)
    between = np.triu(rng.random((n, n)) * (rng.random((n, n)) < 0.6), 1)
    between += between.T
    size, sides = _minimum_cut(between)
    cuts = [
        between[np.ix_(members, [v for v in range(n) if v not in members])].sum()
        for k in range(1, n)
        for members in itertools.combinations(range(n), k)
    ]
    assert size == pytest.approx(min(cuts), abs=1e-12)
    assert 0 < sides.sum() < n
    assert between[sides == 1][:, sides == 0].sum() == pytest.approx(size, abs=1e-12)


# --- pruning -------------------------------------------------------------------------------------


@settings(max_examples=50, derandomize=True)
@given(seeds, st.integers(1, 12), st.sampled_from(KINDS), st.floats(0.0, 0.8))
def test_pruning_keeps_the_function(seed, hidden, kind, share):
    rng = np.random.default_rng(seed)
    net = random_network(rng, hidden, kind)
    weights = rng.standard_normal(net.size)
    weights[rng.random(net.size) < share] = 0.0
    pruned = net.prune(weights)
    small, x = pruned.network, rng.standard_normal((20, len(net.inputs)))
    np.testing.assert_allclose(
        small.evaluate(pruned.weights, x), net.evaluate(weights, x), rtol=1e-12, atol=1e-12
    )
    assert (small.inputs, small.outputs, pruned.largest) == (net.inputs, net.outputs, 0.0)
    # what is left: the edges on ways from inputs and bias to outputs that have weights
    graph = networkx.DiGraph([e for e, w in zip(net.edges, weights, strict=True) if w])
    graph.add_nodes_from([*net.inputs, *net.outputs, "bias"])
    live = set().union(*({v, *networkx.descendants(graph, v)} for v in (*net.inputs, "bias")))
    live &= set().union(*({v, *networkx.ancestors(graph, v)} for v in net.outputs))
    kept = [e for e in net.edges if graph.has_edge(*e) and live.issuperset(e)]
    assert list(small.edges) == kept
    values = dict(zip(net.edges, weights, strict=True))
    assert pruned.weights.tolist() == [values[e] for e in kept]
    assert set(small.hidden) == live & set(net.hidden)
    assert set(pruned.removed_edges) == set(net.edges) - set(kept)
    assert set(pruned.removed_nodes) == set(net.hidden) - set(small.hidden)
    assert pruned.removed_nodes == tuple(v for v in net.hidden if v in pruned.removed_nodes)
    # what is cut off is gone, and nothing is left to prune
    assert set(itertools.chain(*net.cut_off(weights))) <= set(pruned.removed_nodes)
    assert not small.is_singular(pruned.weights)
    again = small.prune(pruned.weights)
    assert again.network.edges == small.edges
    assert (again.removed_nodes, again.removed_edges) == ((), ())


def test_pruning_with_a_tolerance_says_what_it_ignored():
    net = Network.mlp([2, 3, 1])
    weights = net.from_layers([[[1.0, 1e-5], [1e-4, 0.0], [2.0, 1.0]], [[1.0, 1e-3, 1.0]]])
    pruned = net.prune(weights, tolerance=1e-4)
    assert pruned.removed_nodes == ("h1.1",)
    assert pruned.largest == 1e-4
    assert set(pruned.removed_edges) == {
        ("x1", "h1.0"),
        ("x0", "h1.1"),
        ("x1", "h1.1"),
        ("h1.1", "y0"),
    }
    x = np.random.default_rng(0).standard_normal((50, 2))
    change = np.abs(pruned.network.evaluate(pruned.weights, x) - net.evaluate(weights, x))
    assert 0.0 < change.max() < 1e-3


def test_pruning_everything():
    net = Network.mlp([2, 3, 2], hidden_bias=True)
    pruned = net.prune([0] * net.size)
    assert (pruned.network.size, pruned.network.hidden) == (0, ())
    assert len(pruned.removed_edges) == net.size
    assert pruned.network.evaluate([], [[1.0, 2.0]]).tolist() == [[0.0, 0.0]]
    exact = net.prune([Fraction(1, 3)] * net.size)
    assert exact.weights.tolist() == [Fraction(1, 3)] * net.size
