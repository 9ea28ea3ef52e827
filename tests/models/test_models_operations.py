"""Graphs of operations: their order, the chains in them, and what reshaping hides."""

from __future__ import annotations

import time

import numpy as np
import pytest

from obstruction.dag.from_models.from_operations import from_operations, has_branches
from obstruction.models.contents import (
    Activation,
    Barrier,
    Contents,
    Dense,
    Join,
    Operation,
    OperationGraph,
    Tensor,
)
from obstruction.models.layers.resolving import resolve
from obstruction.models.operations.chains import BRANCHES, JOINS, steps_of
from obstruction.models.operations.graphs import ELSEWHERE, operation_chain, operation_graph

RELU = Activation("relu")
SUM, CAT = Join("add", "meets", "sum"), Join("cat", "meets", "concat")
NORM = Barrier("norm", "normalises")
A, B, C = (Dense(name, name) for name in "abc")


def op(inputs, output, *steps, **options):
    return Operation(tuple(inputs.split()), (output,), steps, **options)


def chained(operations, *results):
    return steps_of(operation_graph(operations, results))


def words(steps):
    return [one.reason if isinstance(one, Barrier) else one.name for one in steps]


LINE = [op("r", "y", B), op("x", "h", A), op("h", "r", RELU)]


def test_operations_come_in_forward_order_and_only_if_they_are_needed():
    graph = operation_graph([*LINE, op("r", "z", C)], ["y"])
    assert [operation.outputs for operation in graph.operations] == [("h",), ("r",), ("y",)]
    assert graph.results == ("y",)
    assert operation_graph([], ["x"]) == OperationGraph((), ("x",))
    for bad in ([op("y", "y")], [*LINE, op("x", "y")], [op("a", "b"), op("b", "a")]):
        with pytest.raises(ValueError, match=r"depends on itself|makes the value 'y' twice"):
            operation_graph(bad, ["y", "b"])


def test_chains_of_a_graph():
    assert chained(LINE, "y") == (A, RELU, B)
    branch = Barrier("graph", BRANCHES, incidental=True)
    assert chained([*LINE, op("r", "z", C)], "y") == (A, RELU, B)  # z is not used
    assert chained([*LINE, op("r", "z", C)], "y", "z")[:4] == (A, RELU, branch, B)
    assert chained(LINE, "y", "r") == (A, RELU, branch, B)
    assert words(chained([*LINE, op("x", "z", C)], "y", "z")) == ["a", "relu", "b", JOINS, "c"]
    joined = [op("x", "h", A), op("x", "g", B), op("h g", "s", SUM), op("s", "y", C)]
    assert words(chained(joined, "y")) == ["a", JOINS, "b", "meets", "c"]


def test_the_chain_of_steps_has_these_steps():
    steps = (NORM, A, RELU, B)
    graph = operation_chain(iter(steps))
    assert steps_of(graph) == steps
    assert not has_branches(Contents("test", {}, graph=graph))
    assert steps_of(operation_chain([])) == ()


def test_incidental_barriers_behind_the_last_layer_are_left_out():
    label = Barrier("argmax", "takes the largest", incidental=True)
    tail = [op("y", "p", Activation("softmax")), op("p", "l", label)]
    assert chained([*LINE, *tail], "l") == (A, RELU, B, Activation("softmax"))
    assert chained([*LINE, *tail], "l", "p") == (A, RELU, B, Activation("softmax"))
    assert chained([op("x", "l", label)], "l") == (label,)  # there is nothing else to tell of
    assert label in chained([op("x", "l", label), op("l", "y", A)], "y")


def test_layers_whose_weights_are_used_elsewhere_have_barriers_around_them():
    def steps(operations, *results):
        return words(steps_of(operation_graph(operations, results, lambda one: one.weight == "b")))

    assert steps(LINE, "y") == ["a", "relu", ELSEWHERE, "b", ELSEWHERE]
    # that one chain ends and another begins is told all the same
    heads = [*LINE, op("x", "z", C)]
    assert steps(heads, "y", "z") == ["a", "relu", ELSEWHERE, "b", ELSEWHERE, JOINS, "c"]
    assert steps(heads, "z", "y") == ["c", JOINS, "a", "relu", ELSEWHERE, "b", ELSEWHERE]


@pytest.mark.parametrize(
    ("operations", "regrouped"),
    [
        ([op("h", "f", reshapes=True), op("f g", "j", CAT)], True),
        ([op("h", "f", reshapes=True), op("f g", "j", SUM)], True),
        ([op("h", "f", reshapes=True), op("f", "e", RELU), op("e g", "j", SUM)], True),
        ([op("h", "f", reshapes=True), op("f", "e", C), op("e g", "j", SUM)], False),
        ([op("h", "f", reshapes=True), op("f", "e", NORM), op("e g", "j", SUM)], False),
        ([op("x", "f", reshapes=True), op("f g", "j", CAT)], False),
        ([op("h g", "j", CAT), op("j", "k", reshapes=True)], False),
        ([op("h g", "j", Join("cat", "meets", "concat", second_axis=True)),
          op("j", "k", reshapes=True)], True),
    ],
)  # fmt: skip
def test_what_was_reshaped_is_not_joined(operations, regrouped):
    """Its neurons may lie on another axis; what is no neuron of a layer does not matter."""
    told = "what was reshaped is joined, so its neurons may be regrouped"
    layers = [op("x", "h", A, RELU), op("x", "g", B)]
    last = operations[-1].outputs[0]
    for given in (layers + operations, operations[::-1] + layers):
        found = operation_graph(given, [last]).operations[-1].steps
        assert (words(found) == [told]) == regrouped


MANY = 20_000


def dense(k):
    return Dense(f"l{k}", f"l{k}", layout="out_in")


def line():
    pairs = ((op(f"v{k}", f"r{k}", dense(k)), op(f"r{k}", f"v{k + 1}", RELU)) for k in range(9_999))
    return [one for pair in pairs for one in pair], ["v9999"]


def backwards():
    """The width of the input follows from the last operation alone."""
    return [op(f"v{k}", f"v{k + 1}", RELU) for k in range(MANY)] + [
        op(f"v{MANY}", "y", dense(0))
    ], ["y"]


def wide(join):
    layers = [op("x", f"v{k}", dense(k), RELU) for k in range(MANY)]
    return [*layers, op(" ".join(f"v{k}" for k in range(MANY)), "y", join)], ["y"]


def doubled():
    return [op("x", "v0", dense(0)), *(op(f"v{k} v{k}", f"v{k + 1}", CAT) for k in range(MANY))], [
        f"v{MANY}"
    ]


def heads():
    return [op("x", f"v{k}", dense(k), NORM) for k in range(MANY)], [f"v{k}" for k in range(MANY)]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (line, None),
        (backwards, "no layer follows another"),
        pytest.param(
            lambda: wide(SUM),
            "values are added without weights of their own",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda: wide(CAT), "the model returns its values as they are", marks=pytest.mark.slow
        ),
        (doubled, "the concatenated values have more than 10,000,000 parts"),
        pytest.param(heads, "norm: normalises", marks=pytest.mark.slow),
    ],
)
def test_large_graphs_are_read_in_time_that_grows_with_their_size(make, told):
    """Each takes a few seconds at most; were it the square of the size, it would be hours."""
    operations, results = make()
    weights = np.random.default_rng(0).standard_normal((MANY, 2, 2))
    tensors = {f"l{k}": Tensor(f"l{k}", weights[k], "float64") for k in range(MANY)}
    start = time.perf_counter()
    contents = Contents("test", tensors, graph=operation_graph(operations[::-1], results))
    resolve(contents)
    has_branches(contents)
    if told is None:
        assert len(from_operations(contents).network.hidden) == 2 * 9_998
    else:
        with pytest.raises(ValueError, match=told):
            from_operations(contents)
    assert time.perf_counter() - start < 60
