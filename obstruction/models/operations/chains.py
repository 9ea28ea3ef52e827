"""The chains in a graph: what a reader of graphs makes steps of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import Final

from obstruction.models.contents import Barrier, Dense, Node, Step

BRANCHES: Final = "the outputs are used in more than one place, so the layers are no chain"
ELSEWHERE: Final = "its weights are also used elsewhere in forward"
JOINS: Final = "what comes next does not follow from this alone, so the layers are no chain"


def chained(nodes: Sequence[Node], results: Collection[Hashable]) -> tuple[Step, ...]:
    """Return the steps of a graph: its chains one after the other, with barriers between them.

    Parameters
    ----------
    nodes : sequence of Node
        In any order.
    results : collection of hashable
        The values that the graph returns. What they do not depend on is left out.

    Raises
    ------
    ValueError
        If a value is made twice, or depends on itself.
    """
    maker = makers(nodes)
    order = ordered(nodes, maker, results)
    uses = Counter(results)
    for i in order:
        uses.update(nodes[i].inputs)

    follower: dict[int, int] = {}
    heads: list[int] = []
    for i in order:
        before = maker.get(nodes[i].inputs[0]) if len(nodes[i].inputs) == 1 else None
        if before is not None and sum(uses[value] for value in nodes[before].outputs) == 1:
            follower[before] = i
        else:
            heads.append(i)

    steps: list[Step] = []
    for head in heads:
        part: list[Step] = []
        at: int | None = head
        while at is not None:
            part += nodes[at].steps
            last = nodes[at]
            at = follower.get(at)
        if part and steps and not any(isinstance(step, Barrier) for step in (steps[-1], part[0])):
            steps.append(Barrier("graph", JOINS))
        steps += part
        if part and sum(uses[value] for value in last.outputs) > 1:
            steps.append(Barrier("graph", BRANCHES))
    return tuple(steps[:-1] if steps[-1:] == [Barrier("graph", BRANCHES)] else steps)


def fenced(steps: Iterable[Step], elsewhere: Callable[[Dense], bool]) -> tuple[Step, ...]:
    """Return steps with barriers around layers whose weights the model also reads elsewhere."""
    made: list[Step] = []
    for step in steps:
        around = (
            [Barrier(step.name, ELSEWHERE)] if isinstance(step, Dense) and elsewhere(step) else []
        )
        made += [*around, step, *around]
    return tuple(made)


def makers(nodes: Sequence[Node]) -> dict[Hashable, int]:
    """Return for each value the place of the node that makes it.

    Raises
    ------
    ValueError
        If two nodes make one value.
    """
    maker: dict[Hashable, int] = {}
    for i, node in enumerate(nodes):
        for value in node.outputs:
            if value in maker:
                raise ValueError(f"the graph makes the value {value!r} twice")
            maker[value] = i
    return maker


def ordered(
    nodes: Sequence[Node], maker: dict[Hashable, int], results: Collection[Hashable]
) -> list[int]:
    """Return the nodes that the results need, each after those whose values it takes.

    Raises
    ------
    ValueError
        If a value depends on itself.
    """
    order: list[int] = []
    entered: set[int] = set()
    left: set[int] = set()
    todo = [(maker[value], False) for value in reversed(list(results)) if value in maker]
    while todo:
        i, done = todo.pop()
        if done:
            left.add(i)
            order.append(i)
        elif i not in entered:
            entered.add(i)
            todo.append((i, True))
            for value in reversed(nodes[i].inputs):
                if value in maker and maker[value] not in left:
                    if maker[value] in entered:
                        raise ValueError(f"the value {value!r} depends on itself")
                    todo.append((maker[value], False))
    return order
