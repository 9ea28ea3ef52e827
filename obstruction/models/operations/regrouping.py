"""Barriers where reshaped or concatenated values may have their neurons on another axis.

Graphs do not hold shapes. A layer behind a reshape reads the neurons of the layer before it if
their numbers agree, which is checked when layers are resolved. If values are added or concatenated,
there is no number to compare. A reshaped value therefore ends the analysis there.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace
from typing import Final

from obstruction.models.contents import Barrier, Dense, Join, Operation

_REGROUPED: Final = "what was reshaped is joined, so its neurons may be regrouped"


def regrouped(operations: Iterable[Operation]) -> list[Operation]:
    """Return operations with barriers in place of those that may regroup neurons.

    Such an operation adds or concatenates values of which one was reshaped, or reshapes a value
    that was concatenated along the second axis. Only values with outputs of a layer count, with no
    barrier in between. Each operation must come after those that make its inputs.
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
