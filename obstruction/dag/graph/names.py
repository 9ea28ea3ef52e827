"""The names of nodes and edges, and checks of names and of numbers at nodes and edges."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Hashable, Iterable, Sequence
from fractions import Fraction
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Node: TypeAlias = Hashable
Edge: TypeAlias = tuple[Node, Node]

BIAS: Final = "bias"
"""The node whose value is always 1. An edge from it is the bias of the node it leads to."""

SMALLEST: Final = 1e-150
LARGEST: Final = 1e150
"""Bounds of the absolute values of weights, whose sums of squares neither overflow nor vanish."""

_SHOWN: Final = 5
"""The most names that a message lists."""


def check_edge(place: int, edge: Any) -> Edge:
    """Return an edge as a pair of nodes."""
    try:
        if isinstance(edge, (str, bytes)):
            raise TypeError
        a, b = edge
        hash((a, b))
    except (TypeError, ValueError):
        raise ValueError(
            f"edges[{place}] = {edge!r}: must be a pair (tail, head) of nodes"
        ) from None
    return a, b


def check_nodes(name: str, nodes: Any) -> list[Node]:
    """Return inputs or outputs as a list."""
    given = list(check_iterable(name, nodes))
    try:
        distinct = dict.fromkeys(given)
    except TypeError:
        raise ValueError(f"{name}: nodes must be hashable") from None
    if not given:
        raise ValueError(f"{name} = []: must hold at least one node")
    if BIAS in distinct:
        raise ValueError(f"{name}: must not hold the node {BIAS!r}, which is the constant 1")
    if len(distinct) < len(given):
        raise ValueError(f"{name}: must not name a node twice")
    return given


def check_iterable(name: str, values: Any) -> Iterable[Any]:
    """Return an iterable in a definite order, which is not a text."""
    if isinstance(values, (str, bytes, set, frozenset)) or not isinstance(values, Iterable):
        raise ValueError(f"{name} = {values!r}: must be a sequence")
    return values


def as_objects(values: Any) -> NDArray[Any]:
    """Return numbers as an array of Python objects, which keeps integers and fractions."""
    return np.fromiter(values, dtype=object)


def check_numbers(name: str, values: NDArray[Any], place: Callable[[int], Any]) -> NDArray[Any]:
    """Return finite numbers as exact objects if all are integers or fractions, else as float64.

    ``place(i)`` is the name of the i-th number's place in messages.
    """
    if values.dtype.kind in "iu":
        return values.astype(object)
    if values.dtype.kind == "f":
        array = values.astype(np.float64)
        if not np.isfinite(array).all():
            i = int(np.flatnonzero(~np.isfinite(array))[0])
            raise ValueError(f"{name}: the value for {place(i)} must be finite, not {array[i]}")
        return array
    given = values.tolist() if values.ndim else []
    for i, value in enumerate(given):
        if not isinstance(value, numbers.Real):
            raise ValueError(f"{name}: the value for {place(i)} must be a number, not {value!r}")
    if all(isinstance(value, numbers.Rational) for value in given):
        exact = [int(v) if isinstance(v, numbers.Integral) else Fraction(v) for v in given]
        return as_objects(exact)
    return check_numbers(name, np.array([float(value) for value in given]), place)


def check_sizes(name: str, values: NDArray[Any], place: Callable[[int], Any]) -> NDArray[Any]:
    """Return numbers that are 0 or between `SMALLEST` and `LARGEST` in absolute value."""
    sizes = np.abs(values)
    if values.dtype == object:
        wrong = np.array([bool(size) and not SMALLEST <= size <= LARGEST for size in sizes])
    else:
        wrong = (sizes > 0.0) & ((sizes < SMALLEST) | (sizes > LARGEST))
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"{name}: the absolute value for {place(i)} must be 0, or between 1e-150 and 1e150"
        )
    return values


def shown(nodes: Sequence[Any]) -> str:
    """Return the names of nodes or edges for a message; only the first few of many are listed."""
    words = [
        f"{node[0]} -> {node[1]}" if isinstance(node, tuple) and len(node) == 2 else str(node)
        for node in nodes[:_SHOWN]
    ]
    more = len(nodes) - _SHOWN
    return ", ".join(words) + (f" and {more:,} more" if more > 0 else "")
