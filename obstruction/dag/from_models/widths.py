"""The number of neurons of each value in a graph of operations.

Only layers say how many neurons there are. From them the numbers spread forwards and backwards
through the operations that keep them, add them or concatenate them.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from obstruction.models.contents import Barrier, Dense, Join, Operation, Tensor, UnreadableModel


def widths_of(
    operations: Sequence[Operation], tensors: Mapping[str, Tensor]
) -> dict[Hashable, int]:
    """Return the number of neurons of every value for which it follows from the layers.

    Layers on both sides of a reshape may disagree. The number that is found first is kept then.

    Parameters
    ----------
    operations : sequence of Operation
        Each after those that make its inputs.
    tensors : mapping of str to Tensor
        Weights by name.

    Raises
    ------
    UnreadableModel
        If weights are no matrix.
    """
    widths: dict[Hashable, int] = {}
    users: defaultdict[Hashable, list[int]] = defaultdict(list)
    unknown: list[int] = []  # how many values of each operation have no width yet
    for i, operation in enumerate(operations):
        values = {*operation.inputs, *operation.outputs}
        unknown.append(len(values))
        for value in values:
            users[value].append(i)
    concatenates = [_join(operation) == "concat" for operation in operations]
    todo, waiting = deque(range(len(operations))), set(range(len(operations)))
    while todo:
        i = todo.popleft()
        waiting.remove(i)
        for value, width in list(_implied(operations[i], tensors, widths)):
            if value not in widths:
                widths[value] = width
                for k in users[value]:
                    unknown[k] -= 1
                    # a concatenation implies a width only if all others are known
                    if k not in waiting and (
                        unknown[k] == 1 or (unknown[k] and not concatenates[k])
                    ):
                        todo.append(k)
                        waiting.add(k)
    return widths


def matrix_of(layer: Dense, tensors: Mapping[str, Tensor]) -> NDArray[Any]:
    """Return the stored weights of a layer, shape (outputs, inputs).

    Raises
    ------
    UnreadableModel
        If they are no matrix.
    """
    stored = tensors[layer.weight].array
    if stored.ndim != 2:
        raise UnreadableModel(f"{layer.name}: the weights have the shape {stored.shape}")
    return stored if layer.layout == "out_in" else stored.T


def _join(operation: Operation) -> str | None:
    """Return how an operation combines its inputs, None if it does not."""
    joins = [step.operation for step in operation.steps if isinstance(step, Join)]
    return joins[0] if joins else None


def _implied(
    operation: Operation, tensors: Mapping[str, Tensor], widths: Mapping[Hashable, int]
) -> Iterator[tuple[Hashable, int]]:
    """Yield values of an operation with the widths that follow from its layers and other values."""
    join, steps = _join(operation), operation.steps
    layers = [step for step in steps if isinstance(step, Dense)]
    if join == "concat":
        (made,) = operation.outputs
        missing = Counter(value for value in operation.inputs if value not in widths)
        known = sum(widths[value] for value in operation.inputs if value in widths)
        if not missing:
            yield made, known
        elif made in widths and len(missing) == 1:
            ((value, times),) = missing.items()
            rest = widths[made] - known
            if rest > 0 and rest % times == 0:
                yield value, rest // times
        return
    if layers and len(operation.inputs) == 1 and steps[0] is layers[0]:
        yield operation.inputs[0], matrix_of(layers[0], tensors).shape[1]
    if layers and not isinstance(steps[-1], Barrier):
        for value in operation.outputs:
            yield value, matrix_of(layers[-1], tensors).shape[0]
    elif join == "sum" or (
        len(operation.inputs) == 1 and not any(isinstance(step, Barrier) for step in steps)
    ):
        values = (*operation.inputs, *operation.outputs)
        most = max((widths[value] for value in values if value in widths), default=0)
        if most:  # a value of one neuron may be added to several, so the largest width counts
            yield from ((value, most) for value in values)
