"""The chains of layers in a graph of operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Final

from obstruction.models.contents import Barrier, Dense, OperationGraph, Step
from obstruction.models.operations.graphs import ELSEWHERE

BRANCHES: Final = "the outputs are used in more than one place, so the layers are no chain"
JOINS: Final = "what comes next does not follow from this alone, so the layers are no chain"


def steps_of(graph: OperationGraph) -> tuple[Step, ...]:
    """Return the steps of all operations, so that chains of layers stand in forward order.

    A chain goes on as long as each operation takes one value that nothing else uses. The chains
    stand one after the other with a `Barrier` between them. Incidental barriers behind the last
    layer are left out.
    """
    uses = Counter(graph.results)
    maker: dict[Hashable, int] = {}
    for i, operation in enumerate(graph.operations):
        uses.update(operation.inputs)
        maker.update(dict.fromkeys(operation.outputs, i))
    used = [sum(uses[value] for value in one.outputs) for one in graph.operations]
    follower: dict[int, int] = {}
    heads: list[int] = []
    for i, operation in enumerate(graph.operations):
        before = maker.get(operation.inputs[0]) if len(operation.inputs) == 1 else None
        if before is not None and used[before] == 1:
            follower[before] = i
        else:
            heads.append(i)

    steps: list[Step] = []
    branches = False  # whether the chain before is used in more than one place
    for head in heads:
        last, chain = head, [head]
        while last in follower:
            last = follower[last]
            chain.append(last)
        part = [step for i in chain for step in graph.operations[i].steps]
        if not part:
            continue
        if branches:
            steps.append(Barrier("graph", BRANCHES, incidental=True))
        elif steps and not any(map(_separates, (steps[-1], part[0]))):
            steps.append(Barrier("graph", JOINS, incidental=True))
        steps += part
        branches = used[last] > 1
    if any(isinstance(step, Dense) for step in steps):
        while isinstance(steps[-1], Barrier) and steps[-1].incidental:
            steps.pop()
    return tuple(steps)


def _separates(step: Step) -> bool:
    """Return whether a step is a barrier that says by itself why a chain ends."""
    return isinstance(step, Barrier) and step.reason != ELSEWHERE
