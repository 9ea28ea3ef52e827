"""The order of layers, from their shapes or from their names."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final, TypeAlias

Width: TypeAlias = tuple[int, int]
"""The numbers of inputs and of outputs of a layer."""

_SEQUENTIAL: Final = re.compile(r"(?:layers_)?(\d+)")


def chains(widths: Sequence[Width]) -> bool:
    """Return whether each layer has as many outputs as the next one has inputs.

    Examples
    --------
    >>> chains([(5, 7), (7, 1)]), chains([(7, 1), (5, 7)])
    (True, False)
    """
    return all(here[1] == after[0] for here, after in itertools.pairwise(widths))


def shape_order(widths: Sequence[Width]) -> tuple[list[int], bool] | None:
    """Return the indices of layers in an order that forms a chain, and whether it is the only one.

    The result is None if the layers form no chain in any order.

    Notes
    -----
    Let every width be a node of a graph and every layer an edge. Layers then form a chain in the
    order of an Eulerian trail. The search takes an edge only if a trail through all remaining edges
    exists, so it never goes back, and its work grows with the square of the number of layers.

    Examples
    --------
    >>> shape_order([(7, 1), (5, 7)])
    ([1, 0], True)
    >>> shape_order([(7, 7), (5, 7), (7, 7)])
    ([1, 0, 2], False)
    >>> shape_order([(5, 7), (6, 1)])
    """
    remaining = set(range(len(widths)))
    starts = [n for n in dict.fromkeys(w[0] for w in widths) if _has_trail(widths, remaining, n)]
    if not starts:
        return ([], True) if not widths else None
    order: list[int] = []
    unique, node = len(starts) == 1, starts[0]
    while remaining:
        taken = None
        for edge in sorted(remaining):
            if widths[edge][0] != node or (taken is not None and not unique):
                continue
            if _has_trail(widths, remaining - {edge}, widths[edge][1]):
                unique = unique and taken is None
                taken = edge if taken is None else taken
        assert taken is not None, "a trail through all that remains exists"
        remaining.discard(taken)
        order.append(taken)
        node = widths[taken][1]
    return order, unique


def _has_trail(widths: Sequence[Width], edges: set[int], start: int) -> bool:
    """Return whether a trail from a node passes every edge once, by Euler's theorem."""
    if not edges:
        return True
    surplus: Counter[int] = Counter()
    neighbours: dict[int, set[int]] = defaultdict(set)
    for tail, head in (widths[edge] for edge in edges):
        surplus[tail] += 1
        surplus[head] -= 1
        neighbours[tail].add(head)
        neighbours[head].add(tail)
    if start not in neighbours:
        return False
    uneven = {node: excess for node, excess in surplus.items() if excess}
    if uneven and (sorted(uneven.values()) != [-1, 1] or uneven.get(start) != 1):
        return False
    seen, todo = {start}, [start]
    while todo:
        todo += (new := neighbours[todo.pop()] - seen)
        seen |= new
    return len(seen) == len(neighbours)


def positions(names: Sequence[str]) -> list[tuple[int, ...]] | None:
    """Return the positions of layers in an ``nn.Sequential``, or None if the names tell none.

    Other numbers in names, as in ``Dense_0``, ``linear_1`` or ``fc2``, are no positions: they
    follow the order in which the layers were made, which may differ from the forward pass.

    Examples
    --------
    >>> positions(["net.0", "net.2", "net.10"])
    [(0,), (2,), (10,)]
    >>> positions(["params/layers_0", "params/layers_2"])
    [(0,), (2,)]
    >>> positions(["fc1", "fc2"])
    """
    paths = [re.split(r"[./]", name) for name in names]
    while all(len(path) > 1 for path in paths) and len({path[0] for path in paths}) == 1:
        paths = [path[1:] for path in paths]
    while all(len(path) > 1 for path in paths) and len({path[-1] for path in paths}) == 1:
        paths = [path[:-1] for path in paths]
    places = []
    for path in paths:
        matched = [_SEQUENTIAL.fullmatch(part) for part in path]
        places.append(tuple(int(match[1]) for match in matched if match))
        if len(places[-1]) < len(path):
            return None
    distinct = len(names) > 1 and len(set(places)) == len(places)
    return places if distinct else None


def numbered(names: Sequence[str]) -> bool:
    """Return whether names differ in nothing but numbers.

    Examples
    --------
    >>> numbered(["fc1", "fc2"]), numbered(["up", "down"]), numbered(["net.0.w", "net.1.w"])
    (True, False, True)
    """
    shapes = {re.sub(r"\d+", "#", name) for name in names}
    return len(shapes) == 1 and "#" in shapes.pop()


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts names alphabetically and the numbers in them by value.

    Examples
    --------
    >>> sorted(["fc10", "fc2", "fc"], key=natural)
    ['fc', 'fc2', 'fc10']
    """
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
