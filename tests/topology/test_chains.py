"""Frozen weights of chains: every set of neurons, linear programming, and two layers by formula."""

import itertools
import math
import time

import numpy as np
import pytest
from scipy.optimize import linprog

from obstruction import topology
from obstruction.topology.chains import frozen_weights


class Chain:
    """A random chain as a graph: its edges, squared weights and balances, made independently."""

    def __init__(self, rng, widths, biases):
        self.widths, self.biases = widths, biases
        self.hidden = [(i, k) for i, n in enumerate(widths[1:-1], 1) for k in range(n)]
        self.edges = [
            ((i, j), (i + 1, k))
            for i in range(len(widths) - 1)
            for j in range(widths[i])
            for k in range(widths[i + 1])
        ]
        self.edges += [("bias", node) for node in self.hidden if biases[node[0] - 1]]
        self.x = rng.standard_normal(len(self.edges)) ** 2 * 10.0 ** rng.uniform(-1, 1)
        self.c = {
            v: sum(x for (_, b), x in zip(self.edges, self.x, strict=True) if b == v)
            - sum(x for (a, _), x in zip(self.edges, self.x, strict=True) if a == v)
            for v in self.hidden
        }

    @property
    def balances(self):
        return [
            np.array([self.c[i, k] for k in range(n)]) for i, n in enumerate(self.widths[1:-1], 1)
        ]

    def found(self, **options):
        return frozen_weights(
            self.balances, self.widths[0], self.widths[-1], self.biases, **options
        )

    def frozen_edges(self, found):
        """Map what was found to edges: the least squared weight of each, as far as told."""
        told = {}
        for i, layer in enumerate(found.layers, 1):
            for k in range(self.widths[i]):
                if self.widths[i + 1] == 1:
                    edge = ((i, k), (i + 1, 0))
                    told.setdefault(edge, []).append(
                        (layer.out_frozen[k], -layer.out_bottleneck[k])
                    )
                else:
                    assert not layer.out_frozen[k]
                    assert math.isnan(layer.out_bottleneck[k])
                if self.widths[i - 1] == 1:
                    edge = ((i - 1, 0), (i, k))
                    told.setdefault(edge, []).append((layer.in_frozen[k], layer.in_bottleneck[k]))
                else:
                    assert not layer.in_frozen[k]
                    assert math.isnan(layer.in_bottleneck[k])
        least = {}
        for edge, answers in told.items():
            assert len({bool(frozen) for frozen, _ in answers}) == 1, "both sides say the same"
            least[edge] = max(0.0, *(b for _, b in answers if not math.isnan(b)), 0.0)
            assert answers[0][0] == (least[edge] > 0.0)
        return least

    def by_all_sets(self):
        """The largest bound on each edge over all sets of hidden neurons, from the definition."""
        n = len(self.hidden)
        place = {v: i for i, v in enumerate(self.hidden)}
        inside = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        total = inside @ np.array([self.c[v] for v in self.hidden])
        tails = np.array([inside[:, place[a]] if a in place else 0 * total for a, _ in self.edges])
        heads = np.array([inside[:, place[b]] if b in place else 0 * total for _, b in self.edges])
        out, into = (tails == 1) & (heads == 0), (heads == 1) & (tails == 0)
        only_out, only_in = out.sum(axis=0) == 1, into.sum(axis=0) == 1
        return {
            edge: max(
                0.0,
                np.max(-total[only_out & out[i]], initial=0.0),
                np.max(total[only_in & into[i]], initial=0.0),
            )
            for i, edge in enumerate(self.edges)
        }

    def by_linear_programming(self):
        """The smallest squared weight of each edge over all of the invariant set."""
        B = np.zeros((len(self.hidden), len(self.edges)))
        for j, (a, b) in enumerate(self.edges):
            if a in self.c:
                B[self.hidden.index(a), j] = -1.0
            if b in self.c:
                B[self.hidden.index(b), j] = 1.0
        c = [self.c[v] for v in self.hidden]
        found = {}
        for j, edge in enumerate(self.edges):
            solved = linprog(np.eye(len(self.edges))[j], A_eq=B, b_eq=c, method="highs")
            assert solved.status == 0
            found[edge] = solved.fun
        return found


def random_chain(rng, most=10):
    while True:
        depth = rng.integers(1, 6)
        widths = np.where(rng.random(depth + 2) < 0.5, 1, rng.integers(2, 5, depth + 2))
        if widths[1:-1].sum() <= most:
            biases = (rng.random(depth) < rng.choice([0.0, 0.5])).tolist()
            return Chain(rng, widths.tolist(), biases)


def check(chain, reference, atol):
    found = chain.found()
    told = chain.frozen_edges(found)
    scale = max(chain.x)
    for edge, least in reference.items():
        assert told.get(edge, 0.0) == pytest.approx(least, rel=1e-9, abs=atol * scale), edge
    assert found.frozen == sum(least > atol * scale for least in reference.values())
    assert found.components == 2**found.frozen
    return found


def test_agrees_with_all_sets_of_neurons():
    rng = np.random.default_rng(1)
    frozen, deep, twice, most = 0, 0, 0, 0
    for _ in range(250):
        chain = random_chain(rng)
        found = check(chain, chain.by_all_sets(), 1e-12)
        frozen += found.frozen
        most = max(most, found.frozen)
        for i, layer in enumerate(found.layers):
            # decided by more than the neuron's own balance
            deep += np.count_nonzero(layer.out_frozen & (chain.balances[i] > 0.0))
            deep += np.count_nonzero(layer.in_frozen & (chain.balances[i] < 0.0))
            twice += i > 0 and bool(layer.in_frozen[0]) and chain.widths[i : i + 2] == [1, 1]
    assert frozen > 250
    assert deep > 40
    assert twice > 40
    assert most > 4


def test_agrees_with_linear_programming():
    rng = np.random.default_rng(2)
    frozen = 0
    for _ in range(20):
        chain = random_chain(rng, most=12)
        frozen += check(chain, chain.by_linear_programming(), 1e-8).frozen
    assert frozen > 20


@pytest.mark.slow
def test_agrees_with_linear_programming_on_many_chains():
    rng = np.random.default_rng(3)
    for _ in range(300):
        chain = random_chain(rng, most=14)
        check(chain, chain.by_linear_programming(), 1e-8)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("e", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_two_layers_are_the_formula(d, e, bias):
    rng = np.random.default_rng(4)
    for l in (1, 2, 7):
        c = rng.standard_normal(l)
        counts = topology.sign_counts(c)
        found = frozen_weights([c], d, e, [bias])
        sizes = {"d": d, "e": e, "hidden_bias": bias, "l_pos": counts.l_pos, "l_neg": counts.l_neg}
        assert found.components == topology.components(**sizes)
        assert found.effective_components == topology.effective_components(**sizes)


def test_deep_and_wide_only_the_last_layer():
    """All widths at least 2, one output: the paper's Cor. 2 for the last hidden layer."""
    rng = np.random.default_rng(5)
    c = [rng.standard_normal(n) for n in (6, 5, 9)]
    found = frozen_weights(c, 4, 1, [False] * 3)
    negative = np.count_nonzero(c[-1] < 0)
    assert found.frozen == negative
    assert found.effective_components == negative + 1
    np.testing.assert_array_equal(found.layers[-1].out_frozen, c[-1] < 0)
    np.testing.assert_array_equal(found.layers[-1].out_bottleneck, c[-1])
    assert frozen_weights(c, 4, 2, [False] * 3).components == 1


# --- pieces up to rescaling and permutation -------------------------------------------------


def by_permutations(widths, found):
    """Count sign patterns of frozen weights up to permutations within hidden layers."""
    edges = set()
    for i, layer in enumerate(found.layers, 1):
        edges |= {((i, k), (i + 1, 0)) for k in np.flatnonzero(layer.out_frozen).tolist()}
        edges |= {((i - 1, 0), (i, k)) for k in np.flatnonzero(layer.in_frozen).tolist()}
    edges = sorted(edges)
    assert len(edges) == found.frozen
    orders = list(itertools.product(*(itertools.permutations(range(n)) for n in widths[1:-1])))

    def moved(node, order):
        i, k = node
        return (i, order[i - 1][k]) if 0 < i < len(widths) - 1 else node

    seen, pieces = set(), 0
    for signs in itertools.product((-1, 1), repeat=len(edges)):
        if signs in seen:
            continue
        pieces += 1
        pattern = dict(zip(edges, signs, strict=True))
        for order in orders:
            image = {(moved(a, order), moved(b, order)): s for (a, b), s in pattern.items()}
            if set(image) == set(edges):  # frozen to frozen, and nothing else
                seen.add(tuple(image[edge] for edge in edges))
    return pieces


def test_effective_components_are_orbits_of_sign_patterns():
    rng = np.random.default_rng(6)
    sizes = []
    while len(sizes) < 60:
        chain = random_chain(rng, most=8)
        found = chain.found()
        if max(chain.widths[1:-1]) <= 4 and found.frozen <= 7:
            sizes.append(found.effective_components)
            assert sizes[-1] == by_permutations(chain.widths, found)
    assert max(sizes) >= 12
    assert sum(size < 2 for size in sizes) < 30


def test_effective_components_by_hand():
    """A layer between two of width 1, two negative and three positive balances: 3 times 4."""
    middle = [-1.0, -2.0, 1.0, 2.0, 3.0]
    found = frozen_weights([[50.0], middle, [50.0]], 2, 2, [True, False, False])
    assert (found.frozen, found.effective_components) == (5, 12)
    # into the neuron before them lead two weights, out of the one behind two: neither is frozen
    assert not found.layers[0].out_frozen.any()
    assert not found.layers[2].in_frozen.any()
    # with a bias their input weights are free
    found = frozen_weights([[50.0], middle, [50.0]], 2, 2, [True, True, False])
    assert (found.frozen, found.effective_components) == (2, 3)
    # one weight between two layers of width 1 gives a factor 2, whichever side freezes it
    for c in ([[-1.0], [-9.0]], [[1.0], [2.0]], [[-1.0], [2.0]]):
        found = frozen_weights(c, 3, 3, [False, False])
        assert found.frozen == found.layers[0].out_frozen.sum() == found.layers[1].in_frozen.sum()
        assert found.components == found.effective_components == 2


# --- tolerances ------------------------------------------------------------------------------


def test_boundary():
    c, t = [np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0])], [np.full(6, 1.0)]
    layer = frozen_weights(c, 3, 1, [True], t).layers[0]
    assert layer.out_frozen.tolist() == [True, False, False, False, False, False]
    assert layer.out_boundary.tolist() == [False, True, True, True, True, False]
    layer = frozen_weights(c, 1, 3, [False], t).layers[0]
    assert layer.in_frozen.tolist() == [False, False, False, False, False, True]
    assert layer.in_boundary.tolist() == [False, True, True, True, True, False]
    assert frozen_weights(c, 3, 1, [True]).boundary == 1  # the zero is on the boundary itself
    assert frozen_weights(c, 3, 1, [True], t).boundary == 4


def test_tolerances_add_up_over_a_set():
    c = [[-1.0, -1.0, 5.0], [1.7]]
    assert frozen_weights(c, 2, 1, [True, True]).layers[1].out_frozen[0]
    for t, frozen in ((0.09, True), (0.11, False)):  # -2 + 1.7 + 3 t against 0
        found = frozen_weights(c, 2, 1, [True, True], [[t] * 3, [t]])
        assert bool(found.layers[1].out_frozen[0]) is frozen
        assert bool(found.layers[1].out_boundary[0]) is not frozen


def test_frozen_means_frozen_for_all_balances_within_the_tolerances():
    """Balances drawn within the tolerances never contradict what is said of them."""
    rng = np.random.default_rng(7)
    decided = undecided = 0
    for _ in range(100):
        chain = random_chain(rng)
        t = [rng.random(c.size) * 0.5 * np.abs(c).mean() for c in chain.balances]
        told = chain.found(tolerances=t)
        for corner in (-1.0, 1.0, None):
            moved = [
                c + o * (corner if corner else rng.uniform(-1, 1, c.size))
                for c, o in zip(chain.balances, t, strict=True)
            ]
            real = frozen_weights(moved, chain.widths[0], chain.widths[-1], chain.biases)
            for one, two in zip(told.layers, real.layers, strict=True):
                for side in ("out", "in"):
                    frozen = getattr(one, f"{side}_frozen")
                    boundary = getattr(one, f"{side}_boundary")
                    assert not (frozen & boundary).any()
                    decided += frozen.sum()
                    undecided += boundary.sum()
                    assert (getattr(two, f"{side}_frozen") | ~frozen).all()
                    assert (~getattr(two, f"{side}_frozen") | frozen | boundary).all()
    assert decided > 100
    assert undecided > 100


# --- size, speed and errors --------------------------------------------------------------------


def test_large_networks_are_quick_and_exact():
    rng = np.random.default_rng(8)
    c = rng.standard_normal(10**6)
    frozen_weights([c], 10, 1, [True])
    start = time.process_time()
    found = frozen_weights([c], 10, 1, [True])
    assert time.process_time() - start < 1.0  # 0.03 s when nothing else runs
    negative = int(np.count_nonzero(c < 0))
    assert found.components == 2**negative
    assert type(found.components) is type(found.effective_components) is int
    assert found.effective_components == negative + 1
    deep = [rng.standard_normal(4096) for _ in range(10)]
    start = time.process_time()
    frozen_weights(deep, 4096, 1, [True] * 10)
    assert time.process_time() - start < 0.5  # 0.002 s


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 1, 1, []), r"^balances = \[\]: must hold at least one hidden layer$"),
        ((3.0, 1, 1, []), r"^balances = 3.0: must be a sequence"),
        (([3.0], 1, 1, [True]), r"^balances\[0\] has shape \(\): must be \(n,\), one number for "),
        (([[]], 1, 1, [True]), r"^balances\[0\] has shape \(0,\): must be \(n,\), one number"),
        (([["a"]], 1, 1, [True]), r"^balances\[0\]: must be an array of real numbers"),
        (
            ([[1.0], [1.0, np.nan]], 1, 1, [True, True]),
            r"^balances\[1\]\[1\] = nan: must be finite$",
        ),
        (([[1.0]], 0, 1, [True]), r"^inputs = 0: must be a whole number of at least 1$"),
        (([[1.0]], 1, 1.5, [True]), r"^outputs = 1.5: must be a whole number of at least 1$"),
        (([[1.0]], 1, 1, []), r"^biases = \[\]: must be True or False for each of 1 layers$"),
        (([[1.0]], 1, 1, [1]), r"^biases = \[1\]: must be True or False"),
        (([[1.0]], 1, 1, [True], []), r"^tolerances has 0 layers: must have 1, as balances$"),
        (([[1.0]], 1, 1, [True], [[-1.0]]), r"^tolerances\[0\]: must be 1 numbers >= 0"),
        (([[1.0]], 1, 1, [True], [[1.0, 2.0]]), r"^tolerances\[0\]: must be 1 numbers >= 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        frozen_weights(*arguments)
