"""Chains of layers and directed acyclic graphs as systems of balances."""

import numpy as np
import pytest
from balance_systems import chain_tensors, columns
from dag_networks import random_network

from obstruction.topology.chains import frozen_weights
from obstruction.topology.systems import Membership, System, Tensor, frozen_scalars


def test_chains_are_a_special_case():
    rng = np.random.default_rng(4)
    frozen = boundary = several = 0
    for _ in range(300):
        depth = int(rng.integers(1, 6))
        widths = np.where(rng.random(depth + 2) < 0.5, 1, rng.integers(1, 6, depth + 2)).tolist()
        biases = (rng.random(depth) < rng.choice([0.0, 0.5])).tolist()
        nodes, tensors = chain_tensors(widths, biases)
        A, _ = columns(nodes, tensors)
        c = A @ (rng.standard_normal(A.shape[1]) ** 2)
        t = rng.random(nodes) * rng.choice([0.0, 0.3])
        ends = np.cumsum(widths[1:-1])[:-1]
        chain = frozen_weights(
            np.split(c, ends), widths[0], widths[-1], biases, tolerances=np.split(t, ends)
        )
        expected = {}
        for i, layer in enumerate(chain.layers):
            for k in range(widths[i + 1]):
                out = [("W", i + 1, (0, k)), layer.out_frozen, layer.out_boundary]
                into = [("W", i, (k, 0)), layer.in_frozen, layer.in_boundary]
                for name, is_frozen, is_boundary in (out, into):
                    if is_frozen[k] or is_boundary[k]:
                        ends = {out[0]: -layer.out_bottleneck[k], into[0]: layer.in_bottleneck[k]}
                        square = np.fmax(ends[name], 0.0)  # it is NaN where it does not apply
                        status = "frozen" if is_frozen[k] else "boundary"
                        old = expected.get(name, ("", 0.0))[1]
                        expected[name] = (status, max(square, old))
        result = frozen_scalars(System.from_balances(nodes, tensors, c, tolerances=t))
        told = {
            ("W", int(one.tensor[1:]), one.position): (one.status, max(float(one.square), 0.0))
            for one in (*result.frozen, *result.boundary)
        }
        assert told.keys() == expected.keys()
        for name, (status, square) in told.items():
            assert (status, square) == (expected[name][0], pytest.approx(expected[name][1]))
        assert (len(result), len(result.boundary)) == (chain.frozen, chain.boundary)
        frozen += len(result)
        boundary += len(result.boundary)
        several += sum(len(one.nodes) > 1 for one in result)
    assert frozen > 200
    assert boundary > 50
    assert several > 50


@pytest.mark.parametrize("kind", ["any", "sparse", "dense", "deep", "narrow", "biased"])
def test_directed_acyclic_graphs_are_a_special_case(kind):
    """Whole numbers as weights: the same frozen and boundary edges with the same exact squares."""
    rng = np.random.default_rng(5)
    frozen = boundary = 0
    for trial in range(30):
        net = random_network(rng, int(rng.integers(1, 12)), kind)
        w = rng.integers(-3, 4, len(net.edges))
        place = {name: i for i, name in enumerate(net.hidden)}
        heads = np.array([place.get(b, -1) for _, b in net.edges])
        tails = np.array([place.get(a, -1) for a, _ in net.edges])
        tensor = Tensor("w", w.shape, [Membership(0, heads, 1), Membership(0, tails, -1)])
        system = System.from_weights(len(place), [tensor], {"w": w}, rtol=0.0)
        if trial % 2:
            system = System.from_balances(len(place), [tensor], system.balances)
        result, expected = frozen_scalars(system), net.frozen_edges(w.tolist())
        for ones, others in (
            (result.frozen, expected.frozen),
            (result.boundary, expected.boundary),
        ):
            told = {net.edges[one.position[0]]: abs(one.square) for one in ones}
            assert told == {one.edge: abs(one.balance) for one in others}
        frozen += len(result)
        boundary += len(result.boundary)
    assert frozen > 2
    assert boundary > 2 or kind == "dense"
