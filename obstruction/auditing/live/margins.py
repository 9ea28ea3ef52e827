"""How far the weights that could freeze are from it: ``‖others‖ / |w| - 1`` of their channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from obstruction.conservation.coordinates import Replacement
from obstruction.conservation.law import FloatArray, Law
from obstruction.conservation.laws import Laws
from obstruction.conservation.rows import Positions


class Margins(NamedTuple):
    """The margins of the channels of a law that have one scalar on a side.

    Attributes
    ----------
    law : int
    side : {"read", "written"}
        The side with one scalar.
    tensor : str
        The parameter on this side.
    places : ndarray of int64
        The channels.
    margin : ndarray of float64
        The norm of all scalars on the other side over that scalar, less 1. Infinite if the scalar
        is zero, nan if all are.
    """

    law: int
    side: str
    tensor: str
    places: Positions
    margin: FloatArray


def margins(laws: Laws, replacements: Mapping[str, Replacement]) -> list[Margins]:
    """Return the margins of all balances with channels that have one scalar on a side."""
    found = []
    for number, law in enumerate(laws):
        if law.kind != "balance":
            continue
        counts = {sign: _counts(laws, law, sign, replacements) for sign in (1, -1)}
        for sign, side in ((-1, "read"), (1, "written")):
            single = np.flatnonzero(counts[sign] == 1)
            if not single.size:
                continue
            one, other = (_norms(laws, law, s, replacements) for s in (sign, -sign))
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                margin = other[single] / one[single] - 1.0
            names = [term.tensor for term in law.terms if term.coefficient * sign > 0]
            found.append(Margins(number, side, names[0], single, margin))
    return found


def _counts(laws: Laws, law: Law, sign: int, replacements: Mapping[str, Replacement]) -> Positions:
    total = law.counts(laws.shapes, sign)
    for one in _inside(laws, law, sign, replacements):
        for rows in one.rows:
            total = total - rows.places.shape[1]
        total = total + one.basis.shape[1]
    return total


def _inside(
    laws: Laws, law: Law, sign: int, replacements: Mapping[str, Replacement]
) -> list[Replacement]:
    return [
        one
        for one in dict.fromkeys(replacements.values())
        if laws[one.rows[0].law] is law and one.rows[0].term.coefficient * sign > 0
    ]


def _norms(laws: Laws, law: Law, sign: int, replacements: Mapping[str, Replacement]) -> FloatArray:
    """Return the norm of all scalars on a side, at a scale of its own for each channel."""
    parts: list[tuple[Positions, FloatArray]] = []
    inside = _inside(laws, law, sign, replacements)
    gone = {name for one in inside for name in one.tensors}
    for one in inside:
        coordinates = one.coordinates(laws.parameters)
        labels = np.broadcast_to(np.arange(law.labels)[:, None], coordinates.shape)
        parts.append((labels, coordinates * abs(one.rows[0].term.coefficient) ** 0.5))
    for term in law.terms:
        if term.coefficient * sign > 0 and term.tensor not in gone:
            value = laws.parameters[term.tensor]
            labels = np.broadcast_to(term.labels, value.shape)
            parts.append((labels, value * abs(term.coefficient) ** 0.5))
    largest = np.zeros(law.labels)
    for labels, value in parts:
        used = labels >= 0
        np.maximum.at(largest, labels[used], np.abs(value[used]))
    unit = np.where(largest > 0.0, largest, 1.0)
    total = np.zeros(law.labels)
    for labels, value in parts:
        used = labels >= 0
        place = labels[used]
        total += np.bincount(place, (value[used] / unit[place]) ** 2, minlength=law.labels)
    norms: FloatArray = unit * np.sqrt(total)
    return norms
