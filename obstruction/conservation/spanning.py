"""Balances between one wide side, in slices or with labels joined, and several narrow ones.

Such are the branches of a layer that are added up before other layers read them, and the values of
a fused projection whose biases are a parameter of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.candidates import FAINT, Candidate, Evaluation
from obstruction.conservation.law import FloatArray
from obstruction.conservation.relations import relations
from obstruction.conservation.sides import Side, blocks

_NEAR: Final = 1e-6
"""A side is a combination of others if it is as near as this to their span."""

_CLEAR: Final = 1e-5
_MOST_ROWS: Final = 2_000
_TIMES: Final = 4
"""Whether a side is in the span of others is asked of so many times as many rows as sides."""

_MOST_SLICES: Final = 32
_MOST_NARROW: Final = 200

Places = dict[tuple[str, tuple[int, ...]], NDArray[np.bool_]]


def spanned(
    evaluation: Evaluation,
    found: Sequence[Candidate],
    narrow: Sequence[Side],
    wide: Sequence[Candidate],
) -> list[Candidate]:
    """Return balances of which one part is a slice, or a sum of slices, of something wide.

    Parameters
    ----------
    evaluation : Evaluation
    found : sequence of Candidate
        Balances that are known. What they contain of wide sides is not used again.
    narrow : sequence of Side
        The sides that no balance explains.
    wide : sequence of Candidate
        Sides that are cut, or whose labels are joined, alone and with the vectors of their layer.
    """
    by_width: dict[int, list[Side]] = {}
    for side in narrow:
        by_width.setdefault(side.width, []).append(side)
    used = used_places(found)
    new: list[Candidate] = []
    for width, basis in sorted(by_width.items(), reverse=True):
        if width == 1 or len(basis) > _MOST_NARROW:
            continue
        left = basis
        for made in _made(wide, width):
            left = [side for side in left if (side.tensor, side.axes) not in used]
            if not left:
                break
            if overlaps(made, used):
                continue
            one = _combination(evaluation, made, left)
            if one is not None:
                new.append(one)
                used = used_places([one], used)
        evaluation.forget()
    return new


def used_places(found: Iterable[Candidate], known: Places | None = None) -> Places:
    """Return which places along axes of parameters are in balances, besides known ones."""
    used = dict(known or {})
    for one in found:
        for side, _ in one.parts:
            key = side.tensor, side.axes
            places = side.flat >= 0
            used[key] = used[key] | places if key in used else places
    return used


def outside(candidate: Candidate, used: Places) -> Candidate | None:
    """Return a candidate without the labels that have places among those that are used."""
    free = np.ones(candidate.width, dtype=bool)
    for side, _ in candidate.parts:
        taken = used.get((side.tensor, side.axes))
        if taken is not None:
            free[side.flat[taken & (side.flat >= 0)]] = False
    if free.all() or not free.any():
        return candidate if free.all() else None
    return candidate.relabelled(np.where(free, np.cumsum(free) - 1, -1), int(free.sum()))


def overlaps(candidate: Candidate, used: Places) -> bool:
    """Return whether a candidate has places among those that are used."""
    for side, _ in candidate.parts:
        for (tensor, axes), places in used.items():
            if tensor != side.tensor or not set(axes) <= set(side.axes):
                continue
            if axes != side.axes or bool((places & (side.flat >= 0)).any()):
                return True
    return False


def _made(wide: Iterable[Candidate], width: int) -> Iterator[Candidate]:
    """Yield wide bundles with labels joined to so many, and their slices of so many labels."""
    for one in wide:
        parts, rest = divmod(one.width, width)
        if rest or parts < 2:
            continue
        for index in blocks(one.width, width).values():
            yield one.relabelled(index, width)
        if parts <= _MOST_SLICES:
            places = np.arange(one.width)
            for part in range(parts):
                yield one.relabelled(np.where(places // width == part, places % width, -1), width)


def _combination(
    evaluation: Evaluation, made: Candidate, basis: Sequence[Side]
) -> Candidate | None:
    """Return the balance of what was made with sides of the basis, if there is one."""
    basis = [side for side in basis if all(side.tensor != s.tensor for s, _ in made.parts)]
    mine = evaluation.total(made)[0][evaluation.first :]
    columns = [mine, *(evaluation.of(side)[0][evaluation.first :] for side in basis)]
    rows = _rows(np.stack(columns, axis=2))
    if len(basis) == 0 or len(rows) < 2 * len(columns) + 4:
        return None
    few = rows[:: max(1, len(rows) // (_TIMES * len(columns)))]  # enough to tell that there is none
    lengths = np.linalg.norm(few, axis=0)
    scaled = few / np.where(lengths > 0.0, lengths, 1.0)
    nearest, *_ = np.linalg.lstsq(scaled[:, 1:], scaled[:, 0])
    if np.linalg.norm(scaled[:, 0] - scaled[:, 1:] @ nearest) > _NEAR:
        return None
    for relation in relations(rows):
        if abs(relation.get(0, 0)) != 1:
            continue
        sign = relation.pop(0)
        others = tuple((basis[j - 1], sign * n) for j, n in relation.items())
        candidate = Candidate((*made.parts, *others))
        evidence = evaluation.evidence(candidate)
        if evidence.convincing and not candidate.trivial:
            return candidate
    return None


def _rows(stacked: FloatArray) -> FloatArray:
    """Return some rows, one a probe and label, divided by their largest entries."""
    largest = np.abs(stacked).max(axis=2)
    strongest = largest.max(axis=1, keepdims=True)
    chosen = largest > _CLEAR * strongest
    if np.count_nonzero(chosen) < 2 * stacked.shape[2] + 4:
        chosen = largest > FAINT * strongest
    rows: FloatArray = stacked[chosen] / largest[chosen][:, None]
    return rows[:: max(1, len(rows) // _MOST_ROWS)]
