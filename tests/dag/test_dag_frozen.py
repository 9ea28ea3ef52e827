"""Frozen weights on graphs: all sets of nodes, linear programmes, maximum flows, certificates."""

import itertools
import math
from collections import Counter
from fractions import Fraction
from functools import cache

import networkx
import numpy as np
import pytest
from dag_networks import KINDS, Sets, random_network, smallest_by_programming
from hypothesis import given, settings
from hypothesis import strategies as st

from obstruction import topology
from obstruction.dag import BIAS, Network, frozen_edges, smallest_squares
from obstruction.topology.chains import frozen_weights
from obstruction.topology.closures import smallest_closed_sum

seeds = st.integers(0, 2**32 - 1)


def random_weights(rng, net, number):
    """Return weights of a kind; whole ones are small, so that sums of balances are often zero."""
    if number == "float":
        return rng.standard_normal(net.size) * 10.0 ** rng.uniform(-3, 3)
    whole = rng.integers(1, 6, net.size) * rng.choice([-1, 0, 1], net.size, p=[0.45, 0.1, 0.45])
    if number == "int":
        return whole
    return [
        Fraction(int(a), int(b)) for a, b in zip(whole, rng.integers(1, 4, net.size), strict=True)
    ]


def check_certificate(net, weights, one, exact):
    """Check a frozen edge as a reader would, by hand, from its bottleneck."""
    inside = set(one.bottleneck)
    assert len(inside) == len(one.bottleneck) > 0
    assert inside <= set(net.hidden)
    out = [(a, b) for a, b in net.edges if a in inside and b not in inside]
    into = [(a, b) for a, b in net.edges if b in inside and a not in inside]
    assert (out if one.side == "out" else into) == [one.edge]
    w = dict(zip(net.edges, weights, strict=True))
    total = sum(w[e] ** 2 for e in into) - sum(w[e] ** 2 for e in out)
    scale = sum(w[e] ** 2 for e in net.edges)
    if exact:
        assert one.balance == total
        assert not isinstance(one.balance, float)
    else:
        assert one.balance == pytest.approx(total, rel=1e-9, abs=1e-12 * scale)
    assert one.sign == np.sign(float(w[one.edge]))
    if one.status == "frozen":
        assert total < 0 if one.side == "out" else total > 0
        assert one.sign
    assert one.least == pytest.approx(math.sqrt(abs(total)), rel=1e-9, abs=1e-6 * scale**0.5)


@settings(max_examples=400, derandomize=True)
@given(seeds, st.integers(1, 8), st.sampled_from(KINDS), st.sampled_from(["int", "rational"]))
def test_agrees_with_all_sets_of_nodes_exactly(seed, hidden, kind, number):
    rng = np.random.default_rng(seed)
    net = random_network(rng, hidden, kind)
    weights = random_weights(rng, net, number)
    c = net.balances(weights)
    least = Sets(net).smallest_squares(c)
    assert list(smallest_squares(net, c)) == list(net.smallest_squares(c)) == least
    found = net.frozen_edges(weights)
    frozen = [(edge, size) for edge, size in zip(net.edges, least, strict=True) if size > 0]
    assert [(one.edge, abs(one.balance)) for one in found] == frozen
    assert net.components(weights) == 2 ** len(frozen)
    # at the boundary: the best bottleneck has the balance zero
    tight = boundary_by_sets(net, c)
    assert {one.edge for one in found.boundary} == tight - {edge for edge, _ in frozen}
    assert all(one.balance == 0 == one.least for one in found.boundary)
    for one in (*found.frozen, *found.boundary):
        check_certificate(net, weights, one, exact=True)


def boundary_by_sets(net, c):
    """Return the edges that are the only one out of or into a set with balance zero."""
    sets = Sets(net)
    zero = sets.sums(c) == 0
    alone = [crossing[zero & (crossing.sum(axis=1) == 1)] for crossing in (sets.out, sets.into)]
    return {net.edges[e] for e in np.flatnonzero(np.vstack(alone).any(axis=0))}


@settings(max_examples=100, derandomize=True)
@given(seeds, st.integers(1, 14), st.sampled_from(KINDS))
def test_agrees_with_all_sets_of_up_to_14_nodes_in_floats(seed, hidden, kind):
    rng = np.random.default_rng(seed)
    net = random_network(rng, hidden, kind)
    weights = random_weights(rng, net, "float")
    least = np.array(Sets(net).smallest_squares(net.balances(weights)))
    scale = (weights**2).sum()
    found = net.frozen_edges(weights)
    assert [one.edge for one in found] == [net.edges[e] for e in np.flatnonzero(least > 0)]
    np.testing.assert_allclose(
        net.smallest_squares(net.balances(weights)), least, rtol=1e-9, atol=1e-13 * scale
    )
    for one in found:
        check_certificate(net, weights, one, exact=False)


@settings(max_examples=25, derandomize=True)
@given(seeds, st.integers(1, 10), st.sampled_from(KINDS))
def test_agrees_with_linear_programming(seed, hidden, kind):
    agree_with_programming(np.random.default_rng(seed), hidden, kind)


@pytest.mark.slow
@settings(max_examples=400, derandomize=True)
@given(seeds, st.integers(1, 20), st.sampled_from(KINDS))
def test_agrees_with_linear_programming_on_many_networks(seed, hidden, kind):
    agree_with_programming(np.random.default_rng(seed), hidden, kind)


def agree_with_programming(rng, hidden, kind):
    net = random_network(rng, hidden, kind)
    weights = random_weights(rng, net, "int")
    c = net.balances(weights)
    np.testing.assert_allclose(
        smallest_by_programming(net, c), smallest_squares(net, c).astype(float), atol=1e-7
    )


def smallest_by_flows(net, weights):
    """Return the least square of each weight: what cannot be led round it, from where it is.

    The most flow from tail to head of an edge through all others: those may grow without bound, and
    shrink down to zero. Inputs, bias and outputs are one node, which takes and gives all.
    """
    hidden = set(net.hidden)
    ends = [tuple(v if v in hidden else "ends" for v in edge) for edge in net.edges]
    squares = [w * w for w in weights]
    least = []
    for e, (tail, head) in enumerate(ends):
        capacities = Counter()
        for f, (a, b) in enumerate(ends):
            if f != e and a != b:
                capacities[a, b] += math.inf
                capacities[b, a] += squares[f]
        flow = networkx.DiGraph()
        flow.add_nodes_from([*hidden, "ends"])
        for (a, b), capacity in capacities.items():
            flow.add_edge(a, b, **{} if capacity == math.inf else {"capacity": capacity})
        if tail == head:
            least.append(0)
            continue
        try:
            least.append(max(squares[e] - networkx.maximum_flow_value(flow, tail, head), 0))
        except networkx.NetworkXUnbounded:
            least.append(0)
    return least


@settings(max_examples=60, derandomize=True)
@given(seeds, st.integers(1, 12), st.sampled_from(KINDS))
def test_agrees_with_maximum_flows(seed, hidden, kind):
    agree_with_flows(np.random.default_rng(seed), hidden, kind)


@pytest.mark.slow
@settings(max_examples=400, derandomize=True)
@given(seeds, st.integers(1, 20), st.sampled_from(KINDS))
def test_agrees_with_maximum_flows_on_many_networks(seed, hidden, kind):
    agree_with_flows(np.random.default_rng(seed), hidden, kind)


def agree_with_flows(rng, hidden, kind):
    net = random_network(rng, hidden, kind)
    weights = random_weights(rng, net, "int").tolist()
    assert list(smallest_squares(net, net.balances(weights))) == smallest_by_flows(net, weights)


def test_random_networks_are_worth_it():
    """They freeze edges from both sides, by several nodes, and have ties."""
    rng = np.random.default_rng(0)
    frozen, larger, ties, sides = 0, 0, 0, set()
    for hidden, kind in itertools.product(range(1, 9), KINDS):
        net = random_network(rng, hidden, kind)
        found = net.frozen_edges(random_weights(rng, net, "int"))
        frozen += len(found)
        ties += len(found.boundary)
        larger += sum(len(one.bottleneck) > 1 for one in found)
        sides |= {one.side for one in found}
    assert frozen > 60
    assert larger > 20
    assert ties > 5
    assert sides == {"in", "out"}


# --- closed sets ---------------------------------------------------------------------------------


@settings(max_examples=300, derandomize=True)
@given(seeds, st.integers(1, 9), st.sampled_from([int, float]))
def test_smallest_closed_sum(seed, n, number):
    rng = np.random.default_rng(seed)
    share = rng.random()
    after = [[j for j in range(i + 1, n) if rng.random() < share] for i in range(n)]
    values = (rng.integers(-4, 5, n) if number is int else rng.standard_normal(n)).tolist()
    closed = [
        members
        for k in range(n + 1)
        for members in itertools.combinations(range(n), k)
        if all(set(after[v]) <= set(members) for v in members)
    ]
    sums = [sum(Fraction(values[v]) for v in members) for members in closed]
    found, members = smallest_closed_sum(values, after)
    assert found == min(sums)
    assert tuple(members) in closed
    assert sum(Fraction(values[v]) for v in members) == found


def test_large_closed_sets_are_no_deep_recursion():
    n = 5000
    chain = [[i + 1] for i in range(n - 1)] + [[]]
    assert smallest_closed_sum([-1] * n, chain) == (-n, list(range(n)))
    assert smallest_closed_sum([1] * (n - 1) + [-1], chain) == (-1, [n - 1])
    assert smallest_closed_sum([-n] + [1] * (n - 1), chain)[0] == -1


# --- two layers and chains ------------------------------------------------------------------------


@cache
def mlp(widths, bias):
    return Network.mlp(widths, hidden_bias=bias)


def shallow_agrees(rng):
    d, l, e = (int(n) for n in rng.integers(1, [4, 6, 4]))
    bias = bool(rng.random() < 0.5)
    net = mlp((d, l, e), bias)
    if rng.random() < 0.5:  # with ties
        W1, W2, b = (rng.integers(-2, 3, shape) for shape in ((l, d), (e, l), l))
    else:
        W1, W2, b = (rng.standard_normal(shape) for shape in ((l, d), (e, l), l))
    theta = (W1.astype(float), W2.astype(float), b.astype(float) if bias else None)
    weights = net.from_layers([W1, W2], [b if bias else None])
    label = topology.component_label(*theta)
    counts = topology.sign_counts(topology.balances(*theta))
    found = net.frozen_edges(weights)
    assert found.components == topology.components(d, counts.l_pos, counts.l_neg, e, bias)
    signs = {one.edge: one.sign for one in found}
    outs = {
        (f"h1.{k}", "y0"): s for k, s in zip(label.output_neurons, label.output_signs, strict=True)
    }
    ins = {
        ("x0", f"h1.{k}"): s for k, s in zip(label.input_neurons, label.input_signs, strict=True)
    }
    assert signs == {**outs, **ins}
    zeros = net.balances(weights) == 0
    assert len(found.boundary) == np.count_nonzero(zeros) * ((d == 1 and not bias) + (e == 1))
    return len(found)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_two_layers_are_a_special_case(part):
    """10,000 random networks with one or more inputs and outputs, biases, and ties."""
    rng = np.random.default_rng(part)
    frozen = sum(shallow_agrees(rng) for _ in range(2500))
    assert frozen > 500


def chain_agrees(rng):
    depth = int(rng.integers(2, 6))
    widths = np.where(rng.random(depth + 2) < 0.5, 1, rng.integers(2, 5, depth + 2)).tolist()
    bias = bool(rng.random() < 0.4)
    net = Network.mlp(widths, hidden_bias=bias)
    weights = rng.integers(-3, 4, net.size) if rng.random() < 0.5 else rng.random(net.size)
    c = net.balances(weights)
    layers = np.split(c.astype(float), np.cumsum(widths[1:-1])[:-1])
    told = frozen_weights(layers, widths[0], widths[-1], [bias] * depth)
    found = net.frozen_edges(weights)
    assert found.components == told.components
    names = [["x0"], *([f"h{i}.{k}" for k in range(n)] for i, n in enumerate(widths[1:-1], 1))]
    names.append(["y0"])
    edges = set()
    for i, layer in enumerate(told.layers, 1):
        edges |= {(names[i][k], names[i + 1][0]) for k in np.flatnonzero(layer.out_frozen)}
        edges |= {(names[i - 1][0], names[i][k]) for k in np.flatnonzero(layer.in_frozen)}
    assert {one.edge for one in found} == edges
    return len(found)


def test_chains_are_a_special_case():
    rng = np.random.default_rng(9)
    assert sum(chain_agrees(rng) for _ in range(300)) > 300


@pytest.mark.slow
def test_many_more_special_cases():
    rng = np.random.default_rng(10)
    assert sum(shallow_agrees(rng) for _ in range(30_000)) > 8_000
    assert sum(chain_agrees(rng) for _ in range(6_000)) > 6_000


# --- exact ties, tolerances, sizes -------------------------------------------------------------


def chain(*widths, **options):
    return Network.mlp(widths, **options)


def test_exact_ties_are_at_the_boundary():
    net = chain(2, 1, 1)
    for weights in ([3, 4, 5], [Fraction(3, 7), Fraction(4, 7), Fraction(5, 7)], [0, 0, 0]):
        found = net.frozen_edges(weights)
        assert len(found) == 0
        (one,) = found.boundary
        assert (one.edge, one.balance, one.least) == (("h1.0", "y0"), 0, 0.0)
        assert one.sign == (weights[2] > 0)
    # whole numbers too large for floats to tell apart
    big = 10**20
    assert len(net.frozen_edges([3 * big, 4 * big, 5 * big])) == 0
    assert len(net.frozen_edges([3 * big, 4 * big, 5 * big + 1])) == 1
    assert len(net.frozen_edges([3 * big, 4 * big + 1, 5 * big]).boundary) == 0
    # mixed numbers are floats
    assert net.frozen_edges([3, 4.0, 5]).boundary[0].status == "boundary"


def test_floats_have_a_tolerance():
    net = chain(2, 1, 1)
    for share, status in ((1e-12, "boundary"), (-1e-12, "boundary"), (1e-6, "frozen"), (-1e-6, "")):
        found = net.frozen_edges([3.0, 4.0, 5.0 * (1.0 + share)])
        assert [one.status for one in (*found.frozen, *found.boundary)] == [status] * bool(status)
    assert len(net.frozen_edges([3.0, 4.0, 5.0 * (1 + 1e-12)], rtol=0)) == 1
    assert len(net.frozen_edges([3.0, 4.0, 6.0], rtol=0.5)) == 0
    found = net.frozen_edges([3, 4, 6], rtol=0.5)  # exact numbers, and a tolerance all the same
    assert (len(found), found.boundary[0].balance) == (0, -11)


@settings(max_examples=100, derandomize=True)
@given(seeds, st.integers(1, 8), st.sampled_from(KINDS))
def test_no_balance_within_the_tolerance_contradicts(seed, hidden, kind):
    """Frozen is frozen for all of them; what is neither that nor at the boundary is always free."""
    rng = np.random.default_rng(seed)
    net = random_network(rng, hidden, kind)
    weights = random_weights(rng, net, "float")
    rtol = float(10.0 ** rng.uniform(-6, -0.5))
    found = net.frozen_edges(weights, rtol=rtol)
    status = dict.fromkeys(net.edges, "free")
    status |= {one.edge: one.status for one in (*found.frozen, *found.boundary)}
    slack = rtol * np.max(net.sums_of_squares(weights), axis=0)
    c = net.balances(weights)
    for corner in (-1.0, 1.0, None, None):
        off = corner * np.ones(c.size) if corner else rng.uniform(-1, 1, c.size)
        least = smallest_squares(net, c + off * slack * (1 - 1e-12))
        for edge, size in zip(net.edges, least, strict=True):
            assert (status[edge], size > 0) not in {("frozen", False), ("free", True)}


def test_what_freezes_by_hand():
    """Biases free weights in; skip connections free weights out."""
    weights = {("x0", "h1.0"): 2, ("h1.0", "y0"): 1}
    (one,) = chain(1, 1, 1).frozen_edges(weights)
    assert (one.edge, one.side, one.balance, one.least) == (("x0", "h1.0"), "in", 3, 3**0.5)
    biased = chain(1, 1, 1, hidden_bias=True)
    assert len(biased.frozen_edges({**weights, (BIAS, "h1.0"): 0})) == 0
    # in = 1 < out = 4 at g; its only way on is frozen, unless it can skip
    edges = [("x", "g"), ("g", "h"), ("h", "y"), ("z", "h"), ("h", "u")]
    net = Network.from_edges(edges, inputs=["x", "z"], outputs=["y", "u"])
    assert [one.edge for one in net.frozen_edges([1, 2, 1, 1, 1])] == [("g", "h")]
    net = Network.from_edges([*edges, ("g", "y")], inputs=["x", "z"], outputs=["y", "u"])
    assert len(net.frozen_edges([1, 2, 1, 1, 1, 0])) == 0
    # two nodes together: c(g) = 3, c(h) = -8, of which g takes 3 along
    net = Network.from_edges(
        [("x", "g"), ("z", "g"), ("g", "h"), ("h", "y")], inputs=["x", "z"], outputs=["y"]
    )
    (one,) = net.frozen_edges([2, 0, 1, 3]).frozen
    assert (one.edge, one.bottleneck, one.balance) == (("h", "y"), ("h",), -8)
    assert net.smallest_squares([-3, -5]).tolist() == [0, 0, 3, 8]
    assert net.smallest_squares([3, -8]).tolist() == [0, 0, 0, 8]


def test_results_are_sequences_and_tables():
    net = chain(2, 3, 1)
    weights = net.from_layers([[[1, 0], [0, 1], [1, 1]], [[2, 1, 3]]])
    found = net.frozen_edges(weights)
    assert len(found) == found.log2_components == net.log2_components(weights) == 2
    assert found[0].edge == ("h1.0", "y0")
    assert found[-1] in found
    assert [one.balance for one in found] == [-3, -7]
    table = found.to_dataframe()
    assert list(table.columns) == (
        ["tail", "head", "status", "sign", "least", "side", "bottleneck", "balance"]
    )
    assert table["status"].tolist() == ["frozen", "frozen", "boundary"]
    assert "h1.2 -> y0  frozen  sign +1  |w| >= 2.64575  only edge out of {h1.2}, c = -7" in str(
        found
    )
    assert str(found).startswith("2 frozen, 1 at the boundary\n")


def test_components_of_wide_networks_are_exact():
    net = chain(1, 3000, 1)
    weights = np.concatenate([np.ones(3000), 2 * np.ones(3000)])
    assert net.components(weights) == 2**3000
    assert net.components(weights.astype(int)) == 2**3000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: net.frozen_edges([1e200] * 4), "must be 0, or between 1e-150 and 1e150"),
        (lambda net: net.frozen_edges([10**200] * 4), "must be 0, or between 1e-150 and 1e150"),
        (lambda net: net.frozen_edges([1e-200] * 4), "must be 0, or between 1e-150 and 1e150"),
        (lambda net: net.frozen_edges([1] * 4, rtol=1.0), "^rtol = 1.0: must be a number from 0 "),
        (lambda net: net.frozen_edges([1] * 4, rtol="a"), "^rtol = 'a': must be a number"),
        (lambda net: net.frozen_edges([1] * 4, rtol=-1), "^rtol = -1: must be"),
        (lambda net: net.frozen_edges([1] * 4, rtol=math.nan), "^rtol = nan: must be"),
        (
            lambda net: net.smallest_squares([1]),
            r"^balances: must be one number for each of 2 hidden nodes, not of shape \(1,\)$",
        ),
        (
            lambda net: net.smallest_squares([1, math.inf]),
            "^balances: the value for h1.1 must be finite, not inf$",
        ),
        (
            lambda net: net.smallest_squares([1, "a"]),
            "^balances: the value for h1.1 must be a number, not 'a'$",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(chain(1, 2, 1))


def test_function_and_method_agree():
    net = chain(2, 2, 1)
    weights = [1, 2, 3, 4, 9, 1]
    assert frozen_edges(net, weights).frozen == net.frozen_edges(weights).frozen
