"""Construction of graphs of operations, which are sorted, checked and completed with barriers.

A reader says what each operation does, whether it may change a shape, and which layers have weights
that the model also uses elsewhere. Which neurons can be followed depends on the whole graph, so it
is decided here for all formats.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from obstruction.models.contents import Barrier, Dense, Join, Operation, OperationGraph, Step

ELSEWHERE: Final = "its weights are also used elsewhere in forward"
_PART: Final = "only a part or a combination of its outputs is used"
_REGROUPED: Final = "what was reshaped is joined, so its neurons may be regrouped"


def operation_graph(
    operations: Sequence[Operation],
    results: Collection[Hashable],
    is_used_elsewhere: Callable[[Dense], bool] | None = None,
) -> OperationGraph:
    """Return the graph that operations form.

    Parameters
    ----------
    operations : sequence of Operation
        In any order. Those on which no result depends are left out.
    results : collection of hashable
        The values that the model returns.
    is_used_elsewhere : callable, optional
        Returns whether the model uses the weights of a layer elsewhere too. A barrier is put
        before and behind such a layer.

    Raises
    ------
    ValueError
        If two operations make the same value, or a value depends on itself.
    """
    found = _without_partial(_regrouped(_sorted(operations, results)))
    if is_used_elsewhere is not None:
        found = [replace(one, steps=tuple(_fenced(one.steps, is_used_elsewhere))) for one in found]
    return OperationGraph(tuple(found), tuple(results))


def operation_chain(steps: Iterable[Step]) -> OperationGraph:
    """Return the graph of a model that applies one step after the other to its only input."""
    operations: list[Operation] = []
    value: Hashable = "input"
    for i, step in enumerate(steps):
        operations.append(Operation((value,), (i,), (step,)))
        value = i
    return OperationGraph(tuple(operations), (value,))


def _fenced(steps: Iterable[Step], is_used_elsewhere: Callable[[Dense], bool]) -> Iterator[Step]:
    """Yield steps with a barrier on both sides of layers whose weights are used elsewhere."""
    for step in steps:
        around = isinstance(step, Dense) and is_used_elsewhere(step)
        if around:
            yield Barrier(step.name, ELSEWHERE)
        yield step
        if around:
            yield Barrier(step.name, ELSEWHERE)


def _sorted(operations: Sequence[Operation], results: Iterable[Hashable]) -> list[Operation]:
    """Return the operations on which results depend, each after those that make its inputs."""
    maker: dict[Hashable, int] = {}
    for i, operation in enumerate(operations):
        for value in operation.outputs:
            if value in maker:
                raise ValueError(f"the graph makes the value {value!r} twice")
            maker[value] = i
    order: list[Operation] = []
    entered: set[int] = set()
    left: set[int] = set()
    todo = [(maker[value], False) for value in reversed(list(results)) if value in maker]
    while todo:
        i, done = todo.pop()
        if done:
            left.add(i)
            order.append(operations[i])
        elif i not in entered:
            entered.add(i)
            todo.append((i, True))
            for value in reversed(operations[i].inputs):
                if value in maker and maker[value] not in left:
                    if maker[value] in entered:
                        raise ValueError(f"the value {value!r} depends on itself")
                    todo.append((maker[value], False))
    return order


def _without_partial(operations: Sequence[Operation]) -> list[Operation]:
    """Return operations with a barrier before each layer of whose outputs only a part may be seen.

    The weights of the others stay as they are. Nothing then tells how many outgoing weights of a
    neuron before the layer take part in training, and whether a single one does.
    """
    found = list(operations)
    maker = {value: i for i, one in enumerate(found) for value in one.outputs}
    for operation in operations:
        for value in operation.inputs if operation.partial else ():
            while (i := maker.get(value)) is not None:
                one = found[i]
                if any(isinstance(step, Barrier) for step in one.steps):
                    break
                layers = [step for step in one.steps if isinstance(step, Dense)]
                if layers:
                    steps = Barrier(layers[-1].name, _PART), *one.steps
                    found[i] = replace(one, steps=steps)
                    break
                if len(one.inputs) != 1:
                    break
                (value,) = one.inputs
    return found


def _regrouped(operations: Iterable[Operation]) -> list[Operation]:
    """Return sorted operations with barriers in place of those that may regroup neurons.

    Graphs do not hold shapes. A layer behind a reshape reads the neurons of the layer before it if
    their numbers agree, which is checked when layers are resolved. If values are added or
    concatenated, there is no number to compare, so a reshaped value ends the analysis there. The
    same holds for a reshape of a value that was concatenated along the second axis. Only values
    with outputs of a layer count, with no barrier in between.
    """
    neurons: set[Hashable] = set()  # values that hold the outputs of layers
    reshaped: set[Hashable] = set()  # those of them that may have another shape than a layer made
    second: set[Hashable] = set()  # those of them that were concatenated along the second axis
    found = []
    for operation in operations:
        given = neurons.intersection(operation.inputs)
        was_reshaped, was_second = bool(given & reshaped), bool(given & second)
        joins = [step for step in operation.steps if isinstance(step, Join)]
        if joins and was_reshaped:
            operation = replace(operation, steps=(Barrier(joins[0].name, _REGROUPED),))
        elif operation.reshapes and was_second:
            operation = replace(operation, steps=(Barrier("reshape", _REGROUPED),))
        found.append(operation)
        kept = [step for step in operation.steps if isinstance(step, (Dense, Barrier))]
        if kept and isinstance(kept[-1], Dense):
            neurons.update(operation.outputs)
        elif given and all(isinstance(step, Join) for step in kept):
            neurons.update(operation.outputs)
            if was_reshaped or operation.reshapes:
                reshaped.update(operation.outputs)
            if was_second or any(join.second_axis for join in joins):
                second.update(operation.outputs)
    return found
