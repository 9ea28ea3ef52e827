"""Components are real: paths within them, none between them, and gradient flow itself."""

import itertools

import numpy as np
import pytest
from dag_networks import KINDS, can_vanish, random_network
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import DOP853
from scipy.optimize import linprog

from obstruction.dag import Network

seeds = st.integers(0, 2**32 - 1)


def another_point(rng, net, weights, flip):
    """Return weights of the same balances: a random mixture of corners, and some flipped signs."""
    c = net.balances(weights)
    squares = []
    for _ in range(3):
        found = linprog(rng.random(net.size) + 0.1, A_eq=net.incidence(), b_eq=c, method="highs-ds")
        assert found.status == 0
        squares.append(np.maximum(found.x, 0.0))
    shares = rng.dirichlet(np.ones(4))
    squares = sum(s * x for s, x in zip(shares, [weights**2, *squares], strict=True))
    signs = np.where(weights < 0, -1.0, 1.0)
    return np.sqrt(squares) * np.where(flip, -signs, signs)


def drift(net, weights, start):
    """Return by how much balances differ, in parts of the largest sum of squares at a node."""
    scale = np.max([net.sums_of_squares(w) for w in (weights, start)], initial=1e-300)
    return np.abs(net.balances(weights) - net.balances(start)).max(initial=0.0) / scale


def check_path(net, one, two):
    point = net.path(one, two)
    np.testing.assert_array_equal(point(0.0), one)
    np.testing.assert_array_equal(point(1.0), two)
    assert max(drift(net, point(s), one) for s in np.linspace(0, 1, 41)) < 1e-9
    # continuous: steps shrink with their length (square roots: with the root of it)
    size = max(np.abs(one).max(), np.abs(two).max(), *(np.abs(point(s)).max() for s in (0.3, 0.7)))
    for s in np.linspace(0, 1 - 1e-10, 101):
        assert np.abs(point(s + 1e-10) - point(s)).max() < 1e-3 * size
    return point


@settings(max_examples=30, derandomize=True)
@given(seeds, st.integers(1, 8), st.sampled_from(KINDS))
def test_free_weights_change_their_signs_along_paths(seed, hidden, kind):
    rng = np.random.default_rng(seed)
    net = random_network(rng, hidden, kind)
    one = rng.standard_normal(net.size)
    frozen = np.isin(np.arange(net.size), [net.edges.index(f.edge) for f in net.frozen_edges(one)])
    two = another_point(rng, net, one, ~frozen & (rng.random(net.size) < 0.7))
    assert net.same_component(one, two)
    point = check_path(net, one, two)
    for s in np.linspace(0, 1, 50):
        np.testing.assert_array_equal(np.sign(point(s))[frozen], np.sign(one)[frozen])
    if frozen.any():
        three = two.copy()
        three[rng.choice(np.flatnonzero(frozen))] *= -1
        assert not net.same_component(one, three)
        with pytest.raises(ValueError, match=r"^other: must lie in the same component"):
            net.path(one, three)


@settings(max_examples=15, derandomize=True)
@given(seeds, st.integers(1, 6), st.sampled_from(KINDS))
def test_paths_between_degenerate_points(seed, hidden, kind):
    """Whole numbers: weights that are zero, sets without balance, edges at the boundary."""
    rng = np.random.default_rng(seed)
    net = random_network(rng, hidden, kind)
    one = rng.integers(-2, 3, net.size).astype(float)
    frozen = {f.edge for f in net.frozen_edges(one.astype(int))}
    flip = np.array([edge not in frozen for edge in net.edges]) & (rng.random(net.size) < 0.7)
    check_path(net, one, another_point(rng, net, one, flip))


@pytest.mark.parametrize("widths", [(1, 1, 1), (2, 2, 1), (1, 3, 1, 1), (2, 1, 1, 2)])
def test_paths_through_the_origin(widths):
    """All balances zero: the set is a cone, and all of it is one component."""
    net = Network.mlp(widths)
    zero = np.zeros(net.size)
    one = another_point(np.random.default_rng(0), net, zero, np.zeros(net.size, bool))
    assert not one.any()
    # the same square on every way through
    fan = np.prod(widths)
    squares = [fan / (m * n) for m, n in itertools.pairwise(widths) for _ in range(m * n)]
    one = np.sqrt(squares)
    np.testing.assert_allclose(net.balances(one), 0, atol=1e-12)
    for two in (-one, zero, one, np.where(np.arange(net.size) % 2, one, -one)):
        point = check_path(net, one, two)
        assert net.components(point(0.5)) == 1


def test_frozen_means_that_no_point_has_a_zero():
    rng = np.random.default_rng(3)
    for _ in range(15):
        net = random_network(rng, 4)
        weights = rng.standard_normal(net.size)
        frozen = {one.edge for one in net.frozen_edges(weights)}
        for e, edge in enumerate(net.edges):
            assert can_vanish(net, net.balances(weights), {e}) == (edge not in frozen)


def test_same_component():
    net = Network.mlp([2, 1, 1])
    assert net.same_component([1, 0, 2], [0, 1, 2])
    assert not net.same_component([1, 0, 2], [1, 0, -2])
    assert not net.same_component([1, 0, 2], [2, 0, 2])  # another balance
    assert net.same_component([2, 0, 1], [2, 0, -1])
    assert net.same_component([1.0, 0.0, 2.0], [1.0 + 1e-12, 0.0, 2.0])
    assert not net.same_component([1.0, 0.0, 2.0], [1.0 + 1e-6, 0.0, 2.0])
    assert net.same_component([1.0, 0.0, 2.0], [1.0 + 1e-6, 0.0, 2.0], rtol=1e-3)
    assert net.same_component([1.0, 0.0, 1.0], [1.0, 0.0, -1.0])  # through the cone's tip


@pytest.mark.parametrize("s", [-0.1, 1.1, np.nan, np.inf])
def test_off_the_path(s):
    point = Network.mlp([2, 1, 1]).path([2, 0, 1], [2, 0, -1])
    with pytest.raises(ValueError, match=r"^s = .*: must be a number from 0 to 1$"):
        point(s)


# --- gradient flow -------------------------------------------------------------------------------


def velocity(net, weights, x, y):
    return -net.gradient(weights, x, 2.0 * (net.evaluate(weights, x) - y) / len(x))


def flow(net, weights, x, y, time, steps, rtol=1e-10):
    """Follow the gradient flow of the mean squared error with small errors, and return its states.

    It is stopped after so many steps: at kinks of the activation they become ever so small.
    """
    solver = DOP853(
        lambda _, w: velocity(net, w, x, y),
        *(0.0, weights, time),
        rtol=rtol,
        atol=rtol / 100,
        max_step=time / 10,
    )
    states = [weights]
    while solver.status == "running" and len(states) <= steps:
        solver.step()
        assert solver.status != "failed"
        states.append(solver.y.copy())
    return np.array(states)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_flow_stays_in_its_component(kind):
    rng = np.random.default_rng(KINDS.index(kind))
    checked = moved = 0
    for _ in range(2):
        found, speed = (), 0.0
        while not found or speed < 0.3:
            net = random_network(rng, int(rng.integers(2, 5)), kind)
            weights = rng.uniform(0.2, 2.0, net.size) * rng.choice([1] * 9 + [-1], net.size)
            found = net.frozen_edges(weights)
            x = rng.uniform(0.2, 1.5, (6, len(net.inputs)))
            y = 2.0 * rng.standard_normal((6, len(net.outputs)))
            speed = np.abs(velocity(net, weights, x, y)).max()
        states = flow(net, weights, x, y, 2.0, steps=20)
        for state in states[::2]:
            assert drift(net, state, weights) < 1e-8
            assert net.same_component(weights, state, rtol=1e-7)
        for one in found:
            values = states[:, net.edges.index(one.edge)]
            assert set(np.sign(values)) == {one.sign}
            assert (np.abs(values) > one.least - 1e-6).all()
            checked += 1
        moved += np.abs(states[-1] - weights).max() > 0.1
    assert moved
    assert checked >= 2


def test_squares_alone_are_not_conserved():
    """What a wrong sign in the balance would say does move."""
    rng = np.random.default_rng(8)
    net = random_network(rng, 4, "dense")
    weights = rng.standard_normal(net.size)
    x, y = rng.standard_normal((6, len(net.inputs))), rng.standard_normal((6, len(net.outputs)))
    states = flow(net, weights, x, y, 2.0, steps=20)
    (into, out), (into2, out2) = (net.sums_of_squares(states[i]) for i in (0, -1))
    assert np.abs((into + out) - (into2 + out2)).max() > 0.02
    assert np.abs((into - out) - (into2 - out2)).max() < 1e-8


@pytest.mark.parametrize("skip", [False, True])
def test_a_skip_connection_lets_a_sign_change(skip):
    """A weight that should turn negative, the only way out of ``g`` or not.

    ``c(g) = 1 - 2.25 < 0`` freezes ``g -> h``, as it is the only edge out of ``g``. A further edge
    out of ``g``, small at first, makes it free. All values are positive, so no ReLU turns off.
    """
    edges = [("x", "g"), ("g", "h"), ("z", "h"), ("h", "y")]
    if skip:
        edges.append(("g", "u"))
    net = Network.from_edges(edges, inputs=["x", "z"], outputs=["y", "u"])
    weights = np.array([1.0, 1.25**0.5, 1.5, 1.0, 1.0] if skip else [1.0, 1.5, 1.5, 1.0])
    assert net.balances(weights)[0] == pytest.approx(-1.25)
    frozen = {one.edge for one in net.frozen_edges(weights)}
    assert (("g", "h") in frozen) is not skip
    x = np.random.default_rng(0).uniform(0.5, 1.5, (10, 2)) + np.array([0.0, 0.5])
    y = x @ [[-0.4, 2.0], [1.5, 0.0]]
    states = flow(net, weights, x, y, 20.0, steps=150, rtol=1e-8)
    assert set(np.sign(states[:, 1])) == ({-1.0, 1.0} if skip else {1.0})
    assert drift(net, states[-1], weights) < 1e-6
    loss = np.mean((net.evaluate(states[-1], x) - y)[:, 0] ** 2)
    assert (loss < 0.01) == skip
