"""Frozen scalars of any balances: linear programs, chains, directed acyclic graphs, by hand."""

import numpy as np
import pytest
from balance_systems import (
    chain_tensors,
    check_certificate,
    columns,
    least_squares,
    random_tensors,
    random_weights,
    squares,
)

from obstruction.topology.systems import Membership, System, Tensor, blocks, frozen_scalars

KINDS = {
    "networks": {"tensors": 4},
    "small": {"tensors": 2, "size": 3},
    "large": {"tensors": 7, "size": 5},
    "double": {"coefficients": (1, -1, 2), "most": 3},
    "same sign": {"coefficients": (1, -1, -1), "most": 3},
    "strange": {"coefficients": (2, -1, -3, 1), "most": 4},
}


def agree_with_programming(rng, kind, number):
    """Compare with one linear program for each scalar; return what was found."""
    found = []
    for _ in range(number):
        nodes = int(rng.integers(1, 8))
        tensors = random_tensors(rng, nodes, **KINDS[kind])
        weights = random_weights(rng, tensors)
        A, names = columns(nodes, tensors)
        x = squares(tensors, weights)
        into, out = np.maximum(A, 0) @ x, np.maximum(-A, 0) @ x
        known = System.from_weights(nodes, tensors, weights)
        scale = max(1e-9, x.max())
        assert known.balances.at(0) == pytest.approx(A @ x, rel=1e-12, abs=1e-13 * scale)
        # Scalars that enter a node twice may count on both sides, even if they cancel.
        tolerances = 1e-9 * np.maximum(into, out)
        gross = 1e-9 * columns(nodes, tensors, size=abs)[0] @ x
        assert np.all(known.tolerances.at(0) >= 0.999999 * tolerances)
        assert np.all(known.tolerances.at(0) <= 1.000001 * gross)
        given = System.from_balances(nodes, tensors, A @ x, tolerances=1e-9 * np.maximum(into, out))
        reference = dict(zip(names, least_squares(A, A @ x), strict=True))
        for system in (known, given):
            result = frozen_scalars(system)
            # Programs answer to 1e-6 of the largest balance; smaller ones may be undecided.
            near = (A @ x != 0.0) & (abs(A @ x) < 1e-6 * abs(A @ x).max())
            assert not result.undecided or near.any()
            told = {(one.tensor, one.position): one for one in (*result.frozen, *result.boundary)}
            for name, least in reference.items():
                square = max(0.0, float(told[name].square)) if name in told else 0.0
                assert square == pytest.approx(least, abs=1e-6 * scale), name
                assert name not in told or told[name].status == "frozen" or least < 1e-6 * scale
            for one in result.frozen:
                check_certificate(A, names, A @ x, one)
            assert result.components == 2 ** len(result.frozen) == 2**result.log2_components
        found += result.frozen
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_linear_programming(kind):
    found = agree_with_programming(np.random.default_rng(len(kind)), kind, 30)
    assert len(found) > 5
    assert sum(len(one.nodes) > 1 for one in found) > 1
    by_program = any(abs(a) != 1 for one in found for a in one.coefficients)
    assert by_program == (kind not in ("networks", "small", "large"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_linear_programming_on_many_systems(kind, seed):
    agree_with_programming(np.random.default_rng([seed, len(kind)]), kind, 150)


def test_products_in_lists_change_nothing(monkeypatch):
    """Lists are turned into products from the first part on."""
    monkeypatch.setattr(blocks, "_SPLIT_FROM", 0)
    rng = np.random.default_rng(3)
    for kind in KINDS:
        agree_with_programming(rng, kind, 8)


def test_normalised_layers_agree_with_linear_programming():
    """Layers of single scalars, each in the law of a channel and in that of its row's norm.

    Weights are of very different sizes, since only scalars that exceed all others freeze.
    """
    rng = np.random.default_rng(8)
    cells = several = 0
    for _ in range(40):
        layers, net = int(rng.integers(1, 3)), Net(0)
        for i in range(layers):
            rows, width = rng.integers(1, 5, 2).tolist()
            channels, norms = net.nodes, net.nodes + width
            net.nodes += width + rows
            sizes = 10.0 ** rng.normal(0.0, 1.0, (rows, width))
            net.add(f"W{i}", sizes, (1, channels, -1), (0, norms, 1))
            net.add(f"gain{i}", 10.0 ** rng.normal(-0.5, 0.5, width), (0, channels, 1))
            if i and rng.random() < 0.7:  # a second reader of an earlier channel
                net.add(
                    f"also{i}", 10.0 ** rng.normal(0.0, 1.0, (rows, 1)), ([0], 0, -1), (0, norms, 1)
                )
        A, names = columns(net.nodes, net.tensors)
        x = squares(net.tensors, net.weights)
        result = net.found()
        told = {(one.tensor, one.position): float(one.square) for one in result}
        for name, least in zip(names, least_squares(A, A @ x), strict=True):
            assert told.get(name, 0.0) == pytest.approx(least, abs=1e-6 * x.max()), name
        for one in result:
            check_certificate(A, names, A @ x, one)
        cells += sum(one.tensor[0] == "W" for one in result)
        several += sum(len(one.nodes) > 2 for one in result)
    assert cells > 15
    assert several > 8


# --- by hand -------------------------------------------------------------------------------------


class Net:
    """Tensors and weights, added one by one."""

    def __init__(self, nodes):
        self.nodes, self.tensors, self.weights = nodes, [], {}

    def add(self, name, weights, *memberships):
        """Add a tensor; a membership is (axis or labels, first node, coefficient)."""
        w = np.array(weights, dtype=float)
        made = []
        for axis, first, coefficient in memberships:
            labels = axis
            if isinstance(axis, int):
                dims = [n if a == axis else 1 for a, n in enumerate(w.shape)]
                labels = np.arange(w.shape[axis]).reshape(dims)
            made.append(Membership(first, np.asarray(labels), coefficient))
        self.tensors.append(Tensor(name, w.shape, made))
        self.weights[name] = w
        return self

    def found(self, **options):
        system = System.from_weights(self.nodes, self.tensors, self.weights)
        return frozen_scalars(system, **options)

    def frozen(self):
        result = self.found()
        assert not result.undecided
        return {
            (one.tensor, one.position): (round(float(one.square), 9), one.nodes) for one in result
        }


def test_gains_alone():
    """A gain without an offset is the only scalar that writes to its channel."""
    net = Net(3).add("gain", [1.0, 1.0, 1.0], (0, 0, 1))
    net.add("W", [[0.5, 1.0, 0.0], [0.5, 1.0, 0.0]], (1, 0, -1))
    assert net.frozen() == {("gain", (0,)): (0.5, (0,)), ("gain", (2,)): (1.0, (2,))}
    net.add("offset", [0.0, 0.0, 0.0], (0, 0, 1))
    assert net.frozen() == {}


@pytest.mark.parametrize(("gain", "score"), [(2.0, 1.0), (1.0, 2.0)])
def test_one_of_two_single_scalars(gain, score):
    net = Net(1).add("gain", [gain], (0, 0, 1)).add("score", [[score]], (1, 0, -1))
    larger = ("gain", (0,)) if gain > score else ("score", (0, 0))
    assert net.frozen() == {larger: (3.0, (0,))}
    result = Net(1).add("gain", [1.0], (0, 0, 1)).add("score", [[1.0]], (1, 0, -1)).found()
    assert result.components == 1
    assert [(one.tensor, one.least) for one in result.boundary] == [("gain", 0.0), ("score", 0.0)]


def test_residual_stream():
    """Two stream channels, read and written by a hidden layer of two, and one output each.

    Every way from a hidden neuron leads back to the stream, which only the two output weights
    leave. Both leave it, so neither is alone, until the output reads one channel only.
    """

    def stream(output):
        net = Net(4).add("embed", [[1.0, 0.0], [0.0, 1.0]], (0, 0, 1))
        net.add("up", [[0.1, 0.2], [0.3, 0.4]], (1, 0, -1), (0, 2, 1))
        net.add("down", [[0.2, 0.1], [0.1, 0.2]], (1, 2, -1), (0, 0, 1))
        return net.add("output", [output], ([[0, 1] if len(output) == 2 else [0]], 0, -1))

    assert stream([5.0, 5.0]).frozen() == {}
    # All four nodes: what comes in is 2, what goes out is 25.
    assert stream([5.0]).frozen() == {("output", (0, 0)): (23.0, (0, 1, 2, 3))}
    assert stream([1.0]).frozen() == {}


def test_recurrent_network():
    """The scalars of a neuron to itself cancel, and cycles keep nothing from freezing.

    Neuron 1 is written by neuron 0 only, and by itself, and leads back to it.
    """
    hidden = [[0.7, 1.0], [3.0, 0.9]]
    net = Net(2).add("hidden", hidden, (1, 0, -1), (0, 0, 1))
    net.add("input", [[0.5]], ([[0]], 0, 1)).add("output", [[0.5]], ([[0]], 0, -1))
    # Node 1 alone: 9 - 1 in favour of what is written, by one scalar only.
    assert net.frozen() == {("hidden", (1, 0)): (8.0, (1,))}
    net.add("second", [[0.1]], ([[1]], 0, -1))
    assert net.frozen() == {("hidden", (1, 0)): (7.99, (1,))}
    net.add("third", [[0.1]], ([[1]], 0, 1))
    assert net.frozen() == {}


def test_columns_of_products_enter_two_laws_with_the_same_sign():
    """ReGLU with one unit: up² - column² and gate² - column², and two scalars to the output.

    The up row is alone, and the squares of the column add up to at least 0, so up² >= the balance.
    If gate² - column² is negative, column² is at least its absolute value: then so is up² less its
    balance, and the certificate is the difference of both laws.
    """
    net = Net(2).add("up", [[3.0]], (0, 0, 1)).add("gate", [[1.0]], (0, 1, 1))
    net.add("down", [[1.0], [1.0]], (1, 0, -1), (1, 1, -1))
    assert net.frozen() == {("up", (0, 0)): (8.0, (0, 1))}
    (one,) = net.found()
    assert one.coefficients == (1, -1)
    net = Net(2).add("up", [[3.0]], (0, 0, 1)).add("gate", [[2.0]], (0, 1, 1))
    net.add("down", [[1.0], [0.0]], (1, 0, -1), (1, 1, -1))
    assert net.frozen() == {
        ("up", (0, 0)): (8.0, (0,)),
        ("gate", (0, 0)): (3.0, (1,)),
    }
    net.add("bias", [1.0], (0, 0, 1)).add("gate_bias", [1.0], (0, 1, 1))
    assert net.frozen() == {}


def test_three_laws_in_a_triangle_need_a_half():
    """Scalars that enter two of three laws each: their squares are solved for, with halves."""
    net = Net(3).add("a", [2.0], ([0], 0, 1), ([0], 1, 1))
    net.add("b", [1.0], ([0], 1, 1), ([0], 2, 1)).add("c", [1.0], ([0], 0, 1), ([0], 2, 1))
    assert net.frozen() == {
        ("a", (0,)): (4.0, (0, 1, 2)),
        ("b", (0,)): (1.0, (0, 1, 2)),
        ("c", (0,)): (1.0, (0, 1, 2)),
    }
    assert {abs(a) for one in net.found() for a in one.coefficients} == {0.5}
    undecided = net.found(most_programs=2)
    assert (len(undecided), undecided.undecided) == (2, {"c": 1})
    undecided = net.found(most_variables=2)
    assert (len(undecided), undecided.undecided) == (0, {"a": 1, "b": 1, "c": 1})


def test_norms_of_blocks():
    """Norms before a normalisation are kept. A block of one scalar cannot change at all."""
    net = Net(2).add("W", [[3.0, 4.0, 2.0]], ([[0, 0, 1]], 0, 1))
    assert net.frozen() == {("W", (0, 2)): (4.0, (1,))}
    result = Net(1).add("W", [0.0], (0, 0, 1)).found()
    assert [(one.status, one.least) for one in result.boundary] == [("boundary", 0.0)]
    assert len(result) == 0


def test_rows_of_kept_norm_hold_only_so_much():
    """Two rows of kept norm, read from two channels.

    The first channel writes 1, and its column has 10 and 0.1. The second row has the norm 0.2, so
    the column's second entry cannot take over: 10 - (1 - 10.1) - ... leaves at least 9.1 - 0.2.
    """
    net = Net(4).add("gain", [1.0, 1.0], (0, 0, 1)).add("offset", [0.0, 0.0], (0, 0, 1))
    W = np.sqrt([[10.0, 0.3], [0.1, 0.1]])
    net.add("W", W, (1, 0, -1), (0, 2, 1))
    # c = 1 - 10.1 for channel 0, and 0.2 for row 1, which must belong to the set as well.
    assert net.frozen() == {("W", (0, 0)): (8.9, (0, 3))}


def test_signs_of_balances_do_not_matter():
    """A law with all signs changed says the same."""
    rng = np.random.default_rng(6)
    for _ in range(50):
        nodes, tensors = chain_tensors([1, 3, 1, 2, 1], [False, True, False])
        weights = random_weights(rng, tensors)
        flipped = rng.random(nodes) < 0.5
        turned = [
            Tensor(
                tensor.name,
                tensor.shape,
                [
                    Membership(
                        0,
                        np.where(mask, one.first + one.labels, -1),
                        -one.coefficient if turn else one.coefficient,
                    )
                    for one in tensor.memberships
                    for turn in (False, True)
                    for mask in [flipped[one.first + one.labels] == turn]
                ],
            )
            for tensor in tensors
        ]
        results = [
            frozen_scalars(System.from_weights(nodes, ts, weights)) for ts in (tensors, turned)
        ]
        first, second = [
            [(one.tensor, one.position, one.status, one.nodes) for one in result.frozen]
            for result in results
        ]
        assert first == second


def test_tolerances():
    net = Net(1).add("a", [[1.0, 0.0]], ([[0, 0]], 0, 1)).add("v", [[1.2]], (1, 0, -1))
    for rtol, status in ((1e-9, "frozen"), (0.29, "frozen"), (0.32, "boundary")):
        system = System.from_weights(1, net.tensors, net.weights, rtol=rtol)
        result = frozen_scalars(system)
        (one,) = (*result.frozen, *result.boundary)
        assert (one.tensor, one.status) == ("v", status)
        assert one.least == pytest.approx(0.44**0.5)
    # A linear program: v² = 2 ± 4t by the second law, and v² >= 1 - t by the first alone.
    tensors = [
        Tensor("a", (1,), [Membership(0, np.array([0]), 2)]),
        Tensor("v", (1,), [Membership(0, np.array([0]), -1), Membership(1, np.array([0]), 2)]),
    ]
    for t, status in ((0.0, "frozen"), (0.6, "frozen"), (1.1, "boundary")):
        result = frozen_scalars(
            System.from_balances(2, tensors, [-1.0, 4.0], tolerances=[t, 8 * t])
        )
        assert {one.tensor: one.status for one in (*result.frozen, *result.boundary)}["v"] == status
