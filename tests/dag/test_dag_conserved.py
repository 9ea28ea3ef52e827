"""Neurons that are told to keep their balance do so: checked by the gradients of random models."""

import dataclasses

import numpy as np
import pytest
from test_dag_models import RELU, contents, dense, op

from obstruction import models
from obstruction.dag.from_models import assembling
from obstruction.dag.from_models import from_operations as operations
from obstruction.dag.from_models.from_operations import from_operations
from obstruction.models.contents import Activation, Barrier, Dense, Join, NothingAuditable
from obstruction.models.layers import resolving

SUM, CAT = Join("add", "meets", "sum"), Join("cat", "meets", "concat")
NORM = Barrier("norm", "normalises")


def values_of(told, arrays, x):
    """Return what a model makes of inputs, with other weights than it has."""
    known = {"x": x}
    for operation in told.graph.operations:
        value, *others = [known[name] for name in operation.inputs]
        for step in operation.steps:
            if isinstance(step, Dense):
                w = arrays[step.weight]
                if step.magnitude is not None:
                    w = w / np.linalg.norm(w, axis=1)[:, None] * arrays[step.magnitude][:, None]
                value = step.factor * value @ w.T
                if step.bias is not None:
                    value = value + step.bias_factor * arrays[step.bias]
            elif step == SUM:
                value = value + others[0]
            elif step == CAT:
                value = np.hstack([value, *others])
            elif step == NORM:
                value = value / np.sqrt(1.0 + (value**2).sum(axis=1, keepdims=True))
            else:
                value = np.maximum(value, 0.0) if step == RELU else np.tanh(value)
        known[operation.outputs[0]] = value
    return np.hstack([known[name] for name in told.graph.results])


def gradient(told, x, target, size=1e-5):
    """Return the slopes of half the squared error, by central differences."""
    arrays = {name: tensor.array.copy() for name, tensor in told.tensors.items()}
    slopes = {name: np.zeros_like(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        for i in np.ndindex(array.shape):
            found = []
            for step in (size, -size):
                array[i] += step
                found.append(((values_of(told, arrays, x) - target) ** 2).sum() / 2)
                array[i] -= step
            slopes[name][i] = (found[0] - found[1]) / (2 * size)
    return slopes


def moved(told, slopes, size):
    tensors = {
        name: dataclasses.replace(tensor, array=tensor.array + size * slopes[name])
        for name, tensor in told.tensors.items()
    }
    return dataclasses.replace(told, tensors=tensors)


def drifts(told, balances, rng):
    """Return how fast balances change under gradient flow, relative to how fast they could."""
    x = rng.standard_normal((4, 3))
    arrays = {name: tensor.array for name, tensor in told.tensors.items()}
    y = values_of(told, arrays, x)
    slopes = gradient(told, x, y + rng.standard_normal(y.shape))
    pull, size = (
        np.sqrt(sum((array**2).sum() for array in given.values())) for given in (slopes, arrays)
    )
    change = balances(moved(told, slopes, 1e-3)) - balances(moved(told, slopes, -1e-3))
    return np.abs(change) / 2e-3 / max(pull * size, 1e-3)


def made_up(rng):
    """Return a model of three to nine random operations on values of up to three neurons."""
    widths, nodes, shapes, layers = {"x": 3}, [], {}, []
    for k in range(rng.integers(3, 10)):
        name, known = f"v{k}", list(widths)
        here = known[-1] if rng.random() < 0.7 else str(rng.choice(known))
        kind = rng.choice(["layer", "relu", "sum", "cat", "norm"], p=[0.55, 0.05, 0.25, 0.1, 0.05])
        alike = [v for v in known if widths[v] == widths[here]]
        widths[name] = widths[here]
        if kind == "sum" and len(alike) > 1:
            nodes.append(op(f"{here} {rng.choice(alike)}", name, SUM))
        elif kind == "cat" and widths[here] < 4:
            there = str(rng.choice(known))
            nodes.append(op(f"{here} {there}", name, CAT))
            widths[name] += widths[there]
        elif kind == "norm":
            nodes.append(op(here, name, NORM))
        elif kind == "relu":
            nodes.append(op(here, name, RELU))
        else:
            old = [one for one in layers if shapes[one.weight][1] == widths[here]]
            if old and rng.random() < 0.1:
                layer = old[rng.integers(len(old))]
            else:
                bias = rng.random() < 0.5
                normalised = not bias and rng.random() < 0.1
                layer = dense(
                    f"l{k}",
                    bias=bias,
                    factor=float(rng.choice([1.0, 0.5, 0.0], p=[0.8, 0.15, 0.05])),
                    bias_factor=float(rng.choice([1.0, 2.0, 0.0], p=[0.8, 0.1, 0.1])),
                    magnitude=f"l{k}.b" if normalised else None,
                )
                shapes[layer.weight] = (int(rng.integers(1, 4)), widths[here])
                layers.append(layer)
            widths[name] = shapes[layer.weight][0]
            after = rng.choice([None, RELU, Activation("tanh")], p=[0.35, 0.6, 0.05])
            nodes.append(op(here, name, layer, *([] if after is None else [after])))
    results = [nodes[-1].outputs[0]]
    if rng.random() < 0.2:
        results.append(nodes[rng.integers(len(nodes))].outputs[0])
    return contents(nodes, dict.fromkeys(results), **shapes)


def of_nodes(told):
    """Return the balances of the hidden nodes of a model's network."""
    try:
        read = from_operations(told)
    except NothingAuditable:
        return np.zeros(0)
    return read.network.balances(read.weights)


def of_neurons(told):
    """Return the balances of the neurons that the audit judges."""
    model = models.resolve(told)
    found = [np.zeros(0)]
    for here, after, link in zip(model.layers, model.layers[1:], model.links, strict=False):
        if link.reason is None:
            bias = 0.0 if here.bias is None else here.bias**2
            found.append((here.weight**2).sum(axis=1) + bias - (after.weight**2).sum(axis=0))
    return np.concatenate(found)


def fastest(cases, balances):
    """Return the fastest drift, and the number of balances and of models that cannot be read."""
    rng = np.random.default_rng(5)
    most, number, refused = 0.0, 0, 0
    for _ in range(cases):
        told = made_up(rng)
        try:
            size = balances(told).size
        except ValueError:
            refused += 1
            continue
        if size:
            most = max(most, drifts(told, balances, rng).max())
            number += size
    return most, number, refused


@pytest.mark.parametrize("balances", [of_nodes, of_neurons])
def test_balances_are_conserved(balances):
    most, number, refused = fastest(300, balances)
    assert most < 1e-6
    assert number > 400
    assert refused == 0


class Everything:
    def issuperset(self, values):
        return True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "wrong", "balances"),
    [
        (operations._Builder, "hindrance", lambda self, layer: None, of_nodes),
        (
            operations._Builder,
            "find_uses",
            lambda self: setattr(self, "exclusive", Everything()),
            of_nodes,
        ),
        (
            assembling.Assembly,
            "end",
            lambda self, given: [self.nodes(one, "output") for one in given],
            of_nodes,
        ),
        (resolving, "_sharing", lambda contents, chain, i: [], of_neurons),
        (resolving, "why_not", lambda name: None, of_neurons),
    ],
)
def test_the_check_sees_what_is_not(owner, name, wrong, balances, monkeypatch):
    """Were shared weights, sums used twice, or values that leave not minded, it would show."""
    monkeypatch.setattr(owner, name, wrong)
    assert fastest(300, balances)[0] > 1e-3


def test_ties_are_among_what_is_made_up():
    rng = np.random.default_rng(5)
    tied = 0
    for _ in range(300):
        try:
            tied += any("fixed weight 1" in note for note in from_operations(made_up(rng)).notes)
        except ValueError:
            continue
    assert tied > 30
