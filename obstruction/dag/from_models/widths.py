"""How many neurons the values of a model have, found from its layers outwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from obstruction.models.contents import Barrier, Dense, Join, Tensor, UnreadableModel
from obstruction.models.contents import Node as Operation


def widths_of(order: Sequence[Operation], tensors: Mapping[str, Tensor]) -> dict[Hashable, int]:
    """Return the number of neurons of all values that can be told.

    Parameters
    ----------
    order : sequence of Node
        Operations, each behind those that make its inputs.
    tensors : mapping of str to Tensor
        Weights by name.

    Where layers disagree, as around what changes shapes, it is the first that tells.

    Raises
    ------
    UnreadableModel
        If weights are no matrix.
    """
    widths: dict[Hashable, int] = {}
    known = -1
    while known < len(widths):
        known = len(widths)
        for node in order:
            _spread(node, tensors, widths)
    return widths


def matrix_of(layer: Dense, tensors: Mapping[str, Tensor]) -> NDArray[Any]:
    """Return the stored weights of a layer, one row an output.

    Raises
    ------
    UnreadableModel
        If they are no matrix.
    """
    stored = tensors[layer.weight].array
    if stored.ndim != 2:
        raise UnreadableModel(f"{layer.name}: the weights have the shape {stored.shape}")
    return stored if layer.layout == "out_in" else stored.T


def _spread(node: Operation, tensors: Mapping[str, Tensor], widths: dict[Hashable, int]) -> None:
    joins = [step for step in node.steps if isinstance(step, Join)]
    layers = [step for step in node.steps if isinstance(step, Dense)]
    same = (*node.inputs, *node.outputs)
    if joins and joins[0].operation == "concat":
        (made,) = node.outputs
        missing = Counter(value for value in node.inputs if value not in widths)
        if not missing:
            widths.setdefault(made, sum(widths[value] for value in node.inputs))
        elif made in widths and len(missing) == 1:
            rest = widths[made] - sum(widths[value] for value in node.inputs if value in widths)
            ((value, times),) = missing.items()
            if rest > 0 and rest % times == 0:
                widths[value] = rest // times
        return
    opaque = any(isinstance(step, Barrier) for step in node.steps)
    if layers and len(node.inputs) == 1 and node.steps[0] is layers[0]:
        widths.setdefault(node.inputs[0], matrix_of(layers[0], tensors).shape[1])
    if layers and not isinstance(node.steps[-1], Barrier):
        for value in node.outputs:
            widths.setdefault(value, matrix_of(layers[-1], tensors).shape[0])
    elif joins or (not opaque and len(node.inputs) == 1):
        most = max((widths[value] for value in same if value in widths), default=0)
        for value in same if most else ():
            widths.setdefault(value, most)  # a sum may repeat the fewer
