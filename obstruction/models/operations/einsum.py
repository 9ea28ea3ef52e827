"""Sums of products that are fully connected layers, in the notation of ``einsum``."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from obstruction.models.contents import Orientation

_TERM: Final = re.compile(r"(?:\.\.\.)?[A-Za-z]*")


def matrix_layout(equation: str, place: int) -> Orientation | None:
    """Return how a sum of products stores the weights of the fully connected layer that it is.

    Parameters
    ----------
    equation : str
        The equation of two operands, such as ``"bi,oi->bo"``.
    place : int
        The place of the weights among the operands, 0 or 1.

    Returns
    -------
    {"out_in", "in_out"} or None
        None if the sum is no fully connected layer along the last axis of the other operand.

    Examples
    --------
    >>> matrix_layout("bi,oi->bo", 1), matrix_layout("ij, ...i -> ...j", 0)
    ('out_in', 'in_out')
    >>> matrix_layout("bi,oi->ob", 1)
    """
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != 2 or not all(_TERM.fullmatch(term) for term in (*terms, result)):
        return None
    weights, values = terms[place], terms[1 - place]
    if not arrow:
        counts = Counter(weights + values)
        result = "".join(sorted(one for one, count in counts.items() if count == 1))
    if any(max(Counter(term.replace(".", "") or "x").values()) > 1 for term in (*terms, result)):
        return None
    if len(weights) != 2 or not weights.isalpha() or not values or not result:
        return None
    inputs, outputs = values[-1], result[-1]
    if outputs in values or values[:-1] != result[:-1]:
        return None
    return {outputs + inputs: "out_in", inputs + outputs: "in_out"}.get(weights)  # type: ignore[return-value]
