"""Betti numbers of networks on graphs: the paper's theorem, cells of the set, linear programmes."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from dag_networks import can_vanish, random_network
from scipy.optimize import linprog

from obstruction import topology
from obstruction.dag import Network
from obstruction.dag.reachable import betti

# --- the set itself, as cells ---------------------------------------------------------------------


def vertices(net, balances):
    """Return the corners of the flow polyhedron, cut off far out, as sets of zero coordinates.

    Exact for whole balances. The last coordinate is what is left up to the cut.
    """
    B = np.asarray(net.incidence().toarray())
    far = 1 + 10 * int(sum(abs(c) for c in balances))
    rows = np.vstack([np.hstack([B, np.zeros((len(B), 1))]), np.ones(net.size + 1)])
    right = np.array([*(int(c) for c in balances), far], dtype=float)
    found = {}
    for chosen in itertools.combinations(range(net.size + 1), len(rows)):
        square = rows[:, chosen]
        if round(np.linalg.det(square)) == 0:
            continue
        x = np.zeros(net.size + 1)
        x[list(chosen)] = np.linalg.solve(square, right)
        x = [Fraction(value).limit_denominator(1000) for value in x]
        if min(x) >= 0:
            found[tuple(x)] = frozenset(i for i, value in enumerate(x) if value == 0)
    return found


def betti_by_cells(net, balances):
    """Return the Betti numbers modulo 2 of all weights with these balances.

    Their set is cut into cells: a face of the polyhedron with a sign for each coordinate that does
    not vanish on it. Neither nerves nor sets of nodes nor reflections are used.
    """
    corners = vertices(net, balances)
    faces = set(corners.values())
    while more := {a & b for a in faces for b in corners.values()} - faces:
        faces |= more
    dimension = {}
    for zeros in faces:
        on = np.array([list(map(float, x)) for x, z in corners.items() if zeros <= z])
        dimension[zeros] = int(np.linalg.matrix_rank(on - on[0], tol=1e-6))
    facets = {
        zeros: [z for z in faces if zeros < z and dimension[z] == dimension[zeros] - 1]
        for zeros in faces
    }
    cells = [[] for _ in range(max(dimension.values()) + 1)]
    for zeros in faces:
        free = [e for e in range(net.size) if e not in zeros]
        for signs in itertools.product((-1, 1), repeat=len(free)):
            cells[dimension[zeros]].append((zeros, dict(zip(free, signs, strict=True))))

    def key(zeros, signs):
        return zeros, tuple((e, s) for e, s in signs.items() if e not in zeros)

    ranks = [0]
    for small, large in itertools.pairwise(cells):
        place = {key(*cell): i for i, cell in enumerate(small)}
        columns = [
            sum(1 << place[key(facet, signs)] for facet in facets[zeros]) for zeros, signs in large
        ]
        ranks.append(rank_modulo_2(columns))
    ranks.append(0)
    return trimmed(len(level) - ranks[k] - ranks[k + 1] for k, level in enumerate(cells))


def rank_modulo_2(columns):
    pivots = {}
    for column in columns:
        while column and (top := column.bit_length()) in pivots:
            column ^= pivots[top]
        if column:
            pivots[column.bit_length()] = column
    return len(pivots)


def trimmed(numbers):
    found = list(numbers)
    while not found[-1]:
        found.pop()
    return found


TORUS = Network.from_edges(
    [("x", "g"), ("z", "g"), ("g", "h"), ("z", "h"), ("g", "y"), ("h", "y")],
    inputs=["x", "z"],
    outputs=["y"],
)
DEEP = [TORUS, Network.mlp([2, 1, 2, 1]), Network.mlp([1, 2, 1, 2])]


def test_cells_of_a_known_set():
    """Two inputs, one output: a hyperboloid of one sheet, of two, and a cone."""
    net = Network.mlp([2, 1, 1])
    assert betti_by_cells(net, [1]) == [1, 1]
    assert betti_by_cells(net, [-1]) == [2]
    assert betti_by_cells(net, [0]) == [1]


@pytest.mark.parametrize("generic", [True, False])
def test_agrees_with_cells_of_the_set(generic):
    rng = np.random.default_rng(1)
    seen = set()
    networks = [small_network(rng, 4, 6) for _ in range(16)]
    for net in [*networks, *DEEP * 4]:
        c = balances_of(rng, net, generic)
        found = betti.poincare_polynomial(net, weights_with(net, c)).dense()
        assert found == betti_by_cells(net, c)
        seen.add(tuple(found))
    assert len(seen) > 5
    if generic:
        assert any(sum(found).bit_count() > 1 for found in seen)  # no product of spheres


@pytest.mark.slow
@pytest.mark.parametrize("generic", [True, False])
def test_agrees_with_cells_of_more_sets(generic):
    rng = np.random.default_rng(2)
    for _ in range(60):
        net = small_network(rng, 5, 8)
        c = balances_of(rng, net, generic)
        found = betti.poincare_polynomial(net, weights_with(net, c)).dense()
        assert found == betti_by_cells(net, c)


def small_network(rng, least, most):
    while True:
        net = random_network(rng, int(rng.integers(1, 5)), rng.choice(["any", "dense"]))
        if least <= net.size <= most:
            return net


def balances_of(rng, net, generic):
    """Return whole balances; generic ones without a set of nodes whose sum is zero."""
    n = len(net.hidden)
    if generic:
        return (rng.choice([-1, 1], n) * rng.permutation(2 ** np.arange(n))).tolist()
    return rng.integers(-2, 3, n).tolist()


def weights_with(net, balances):
    """Return weights that have these balances up to rounding, roots of small whole squares."""
    solved = linprog(
        np.ones(net.size), A_eq=net.incidence(), b_eq=balances, bounds=(0, None), method="highs-ds"
    )
    return np.sqrt(np.round(solved.x))


# --- linear programmes and plain elimination -----------------------------------------------------


def betti_by_sums(net, balances):
    """Sum up the homology of all complexes of edges that can vanish together, modulo 32003."""
    can = {
        s: can_vanish(net, balances, s)
        for k in range(net.size + 1)
        for s in map(frozenset, itertools.combinations(range(net.size), k))
    }
    numbers = [0] * (net.size + 1)
    for k in range(net.size + 1):
        for w in itertools.combinations(range(net.size), k):
            levels = [
                [s for s in itertools.combinations(w, j) if can[frozenset(s)]] for j in range(k + 1)
            ]
            ranks = [0, *(boundary_rank(a, b) for a, b in itertools.pairwise(levels)), 0]
            for j, level in enumerate(levels):
                numbers[j] += len(level) - ranks[j] - ranks[j + 1]
    return trimmed(numbers)


def boundary_rank(small, large):
    if not large:
        return 0
    matrix = np.zeros((len(small), len(large)), dtype=np.int64)
    place = {s: i for i, s in enumerate(small)}
    for j, s in enumerate(large):
        for i in range(len(s)):
            matrix[place[s[:i] + s[i + 1 :]], j] = (-1) ** i
    return int(np.linalg.matrix_rank(matrix))


def test_agrees_with_linear_programmes_and_all_sets_of_edges():
    rng = np.random.default_rng(3)
    for i in range(6):
        net = small_network(rng, 5, 6)
        c = balances_of(rng, net, generic=i % 2 == 0)
        found = betti.poincare_polynomial(net, weights_with(net, c)).dense()
        assert found == betti_by_sums(net, c)


def test_short_cuts_agree_with_elimination(monkeypatch):
    """Cones, joins and suspensions against the matrices alone."""
    rng = np.random.default_rng(4)
    cases = []
    for _ in range(60):
        net = small_network(rng, 8, 14)
        weights = rng.standard_normal(net.size)
        cases.append((net, weights, betti.poincare_polynomial(net, weights).dense()))
    betti._polynomial.cache_clear()
    monkeypatch.setattr(betti, "_ranks", betti._ranks_of_boundaries)
    for net, weights, found in cases:
        assert betti.poincare_polynomial(net, weights).dense() == found
    betti._polynomial.cache_clear()
    assert sum(len(found) > 2 for _, _, found in cases) > 10


def test_components_are_those_of_the_frozen_edges():
    rng = np.random.default_rng(5)
    for _ in range(100):
        net = small_network(rng, 6, 18)
        weights = rng.integers(-3, 4, net.size)
        assert net.betti_numbers(weights)[0] == net.components(weights)


# --- two layers: theorem 1 ------------------------------------------------------------------------


def shallow_cases(most):
    for d, l, e, bias in itertools.product(range(1, most), range(1, most), range(1, most), (0, 1)):
        if l * (d + e + bias) <= most:
            for signs in itertools.product((-1, 0, 1), repeat=l):
                yield d, l, e, bool(bias), signs


def test_theorem_1_on_every_shallow_network_with_up_to_8_edges():
    cases = 0
    for d, l, e, bias, signs in shallow_cases(8):
        net = Network.mlp([d, l, e], hidden_bias=bias)
        W1, W2, b = np.zeros((l, d)), np.zeros((e, l)), np.zeros(l)
        W1[:, 0], W2[0] = 1 + np.maximum(signs, 0), 1 - np.minimum(signs, 0)
        weights = net.from_layers([W1, W2], [b if bias else None])
        theorem = topology.poincare_polynomial(d, signs.count(1), signs.count(-1), e, bias)
        found = net.poincare_polynomial(weights)
        assert found.dense() == theorem.dense()
        assert net.betti_numbers(weights) == theorem.dense()
        assert found(-1) == theorem(-1)
        assert (found.degree, found.total) == (theorem.degree, theorem.total)
        assert str(found) == str(theorem)
        assert found == theorem
        cases += 1
    assert cases == 336


def test_wide_shallow_networks():
    """Neurons are independent, so the limit is one of each."""
    rng = np.random.default_rng(6)
    net = Network.mlp([3, 40, 2], hidden_bias=True)
    weights = rng.standard_normal(net.size)
    positive = int((net.balances(weights) > 0).sum())
    theorem = topology.poincare_polynomial(3, positive, 40 - positive, 2, True)
    assert net.betti_numbers(weights) == theorem.dense()
    assert net.poincare_polynomial(weights) == theorem


# --- deep networks by hand ---------------------------------------------------------------------


def test_a_torus_with_four_holes():
    """c(g) < 0, c(h) > 0, c(g, h) < 0: of four edges three can vanish next to each other."""
    weights = [1, 1, 2, 1, 2, 1]
    assert TORUS.balances(weights).tolist() == [-6, 4]
    found = TORUS.poincare_polynomial(weights)
    assert str(found) == "(1 + 5 t)"
    assert found(-1) == -4  # 2 - 2 * 1 - 4
    assert betti_by_cells(TORUS, [-6, 4]) == [1, 5]


@pytest.mark.parametrize("depth", [1, 2, 5, 11])
def test_one_chain(depth):
    """One way through: all squares differ by constants, and only the smallest can vanish."""
    rng = np.random.default_rng(depth)
    net = Network.mlp([1] * (depth + 2))
    assert net.betti_numbers(rng.standard_normal(depth + 1)) == [2**depth]
    # if the two smallest are equal, they vanish together: two lines cross
    assert net.betti_numbers([*range(2, depth + 2), 2]) == [2 ** (depth - 1)]


def test_a_network_of_two_parts_is_a_product():
    rng = np.random.default_rng(7)
    for _ in range(10):
        one, two = small_network(rng, 5, 10), small_network(rng, 5, 10)

        def renamed(net, mark):
            return [(f"{mark}{a}" if a != "bias" else a, f"{mark}{b}") for a, b in net.edges]

        both = Network.from_edges(
            [*renamed(one, "1"), *renamed(two, "2")],
            inputs=[f"{m}{x}" for m, net in (("1", one), ("2", two)) for x in net.inputs],
            outputs=[f"{m}{y}" for m, net in (("1", one), ("2", two)) for y in net.outputs],
        )
        first, second = rng.standard_normal(one.size), rng.standard_normal(two.size)
        expected = np.convolve(one.betti_numbers(first), two.betti_numbers(second))
        assert both.betti_numbers([*first, *second]) == expected.tolist()


def test_sums_within_the_tolerance_count_as_zero():
    net = Network.mlp([2, 1, 1])
    nearly = [1.0, 0.0, 1.0 + 1e-12]
    assert net.betti_numbers(nearly) == net.betti_numbers([1, 0, 1]) == [1]
    assert net.betti_numbers(nearly, rtol=0) == [2]
    assert net.betti_numbers([10**9, 0, 10**9 + 1]) == [2]  # exact


def test_polynomials():
    found = Network.mlp([2, 4, 1]).poincare_polynomial([1, 1] * 3 + [1, 0] + [1] * 3 + [2])
    assert str(found) == "2 (1 + t)^3"
    assert found.factors == ((((0, 2),), 1), (((0, 1), (1, 1)), 3))
    assert found.dense() == [2, 6, 6, 2]
    assert [found.betti(k) for k in range(5)] == [2, 6, 6, 2, 0]
    assert found == topology.poincare_polynomial(2, 3, 1)
    assert (found.degree, found.total, found(2)) == (3, 16, 54)
    nothing = Network.from_edges([("x", "y")], inputs=["x"], outputs=["y"])
    assert str(nothing.poincare_polynomial([1.0])) == "1"
    assert nothing.betti_numbers([0.0]) == [1]
    assert str(Network.mlp([3, 1, 3]).poincare_polynomial([1] * 6)) == "1"
    assert str(Network.mlp([3, 1, 3]).poincare_polynomial([2] * 4 + [1] * 2)) == "(1 + t^2)"


def test_refusals():
    net = Network.mlp([8, 16, 4, 1], hidden_bias=True)
    with pytest.raises(
        ValueError,
        match=r"^graph: the hidden nodes h1.0, h1.1, .* have 216 edges together; Betti numbers are "
        r"computed for at most 20$",
    ):
        net.betti_numbers(np.ones(net.size))
    with pytest.raises(ValueError, match="rtol = 2"):
        TORUS.betti_numbers([1, 1, 2, 1, 2, 1], rtol=2)
    with pytest.raises(ValueError, match="between 1e-150 and 1e150"):
        TORUS.poincare_polynomial([1e200] * 6)
