"""The search for balances: integer relations of sides, aligned, in blocks, or slice by slice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from obstruction.conservation.candidates import FAINT, Candidate, Evaluation, oriented, owner
from obstruction.conservation.matching import matched
from obstruction.conservation.relations import relations
from obstruction.conservation.sides import Side, blocks

_MOST_ROWS: Final = 20_000
"""Relations are sought in at most about this many rows; all rows decide whether they hold."""


def find_balances(
    evaluation: Evaluation,
    sides: Sequence[Side],
    output_axes: Mapping[str, int],
    *,
    normalised: Iterable[tuple[str, tuple[int, ...]]] = (),
) -> list[Candidate]:
    """Return the balances that hold at all probes, as candidates with writers first.

    Parameters
    ----------
    evaluation : Evaluation
    sides : sequence of Side
        The sides of parameters, without those that are known to be constant.
    output_axes : dict of str to int
        See `obstruction.conservation.live.base.LiveModel`.
    normalised : iterable of (str, tuple of int)
        Tensors and axes of sides whose norms are conserved. They are compared with sides of the
        same width only.
    """
    useful = [side for side in sides if _flows(evaluation, side)]
    found = _aligned(evaluation, useful)
    apart = set(normalised)
    useful = [side for side in useful if (side.tensor, side.axes) not in apart]
    found += _in_blocks(evaluation, _rest(useful, found))
    found += _sliced(evaluation, _rest(useful, found))
    found += _sliced(evaluation, _rest(useful, found), halves=True)
    return [oriented(one, output_axes) for one in found]


def _flows(evaluation: Evaluation, side: Side) -> bool:
    """Return whether the sums of a side are above rounding: others carry no evidence."""
    sums, sizes = evaluation.of(side)
    return bool((np.abs(sums) > 1e-11 * sizes).any(axis=0).mean() >= 0.5)


def _rest(sides: Iterable[Side], found: Iterable[Candidate]) -> list[Side]:
    explained = {(s.tensor, s.axes) for one in found for s, _ in one.parts}
    return [side for side in sides if (side.tensor, side.axes) not in explained]


def _aligned(evaluation: Evaluation, sides: Iterable[Side]) -> list[Candidate]:
    """Return the relations of sides of equal width that hold for every label."""
    by_width: dict[int, list[Side]] = {}
    for side in sides:
        by_width.setdefault(side.width, []).append(side)
    return [one for together in by_width.values() for one in _related(evaluation, together)]


def _in_blocks(evaluation: Evaluation, sides: Sequence[Side]) -> list[Candidate]:
    """Return relations in which the labels of wide sides are joined to those of narrow ones."""
    found: list[Candidate] = []
    for width in sorted({side.width for side in sides}, reverse=True):
        rest = _rest(sides, found)
        together = [side for side in rest if side.width == width]
        if width > 1 and together:
            joined = [
                side.relabelled(index, width)
                for side in rest
                if side.width > width and side.width % width == 0
                for index in blocks(side.width, width).values()
            ]
            found += _related(evaluation, together + joined)
    return found


def _related(evaluation: Evaluation, sides: Sequence[Side]) -> list[Candidate]:
    if len(sides) < 2:
        return []
    columns = [evaluation.of(side)[0] for side in sides]
    if columns[0].size < len(sides) + 2:
        return []
    stacked = np.stack(columns, axis=2)  # probes, labels, sides
    largest = np.abs(stacked).max(axis=2)
    rows = stacked[largest > FAINT * largest.max(axis=1, keepdims=True)]
    step = max(1, len(rows) // _MOST_ROWS)
    found = []
    for relation in relations(rows[::step]):
        candidate = Candidate(tuple((sides[j], n) for j, n in relation.items()))
        evidence = evaluation.evidence(candidate)
        if evidence.convincing and not candidate.trivial:
            found.append(_seen(candidate, evidence.seen))
    return found


def _seen(candidate: Candidate, seen: np.ndarray) -> Candidate:
    """Return the candidate without the labels through which nothing flowed."""
    if seen.all():
        return candidate
    index = np.where(seen, np.cumsum(seen) - 1, -1)
    return candidate.relabelled(index, int(seen.sum()))


def _sliced(
    evaluation: Evaluation, sides: Sequence[Side], *, halves: bool = False
) -> list[Candidate]:
    """Return balances whose channels lie in another order, or in a part, of a side."""
    bundles = list(_bundles(sides))
    if halves:
        bundles = [
            one.relabelled(index, one.width // 2)
            for one in bundles
            if one.width % 2 == 0 and one.width > 2
            for index in blocks(one.width, one.width // 2).values()
        ]
    found = []
    for candidate in matched(evaluation, bundles):
        evidence = evaluation.evidence(candidate)
        if evidence.convincing:
            found.append(_seen(candidate, evidence.seen))
    return found


def _bundles(sides: Sequence[Side]) -> Iterable[Candidate]:
    """Yield sums of sides that may write or read the same channels."""
    layers: dict[tuple[str, int], list[Side]] = {}
    for side in sides:
        layers.setdefault((owner(side.tensor), side.width), []).append(side)
    joint: dict[int, list[Candidate]] = {}
    for (_, width), together in layers.items():
        vectors = [(side, 1) for side in together if len(side.shape) == 1]
        here = [Candidate((part,)) for part in vectors]
        if len(vectors) > 1:
            here.append(Candidate(tuple(vectors)))
        for side in together:
            if len(side.shape) > 1:
                here.append(Candidate(((side, 1),)))
                if vectors:
                    here.append(Candidate(((side, 1), *vectors)))
        joint.setdefault(width, []).extend(here)
        yield from here
    for near in joint.values():
        yield from _sums(near)


_WINDOW: Final = 8


def _sums(bundles: Sequence[Candidate]) -> Iterable[Candidate]:
    """Yield sums of neighbours of equal width, and differences of pairs."""
    single = [one for one in bundles if len(one.parts) == 1]
    for start in range(len(single)):
        total = single[start]
        for other in single[start + 1 : start + _WINDOW]:
            total = total + other
            yield total
    for i, one in enumerate(bundles):
        for other in bundles[i + 1 : i + 1 + 2 * _WINDOW]:
            if not _share(one, other):
                yield one + (-other)


def _share(one: Candidate, other: Candidate) -> bool:
    tensors = {(s.tensor, s.axes) for s, _ in one.parts}
    return any((s.tensor, s.axes) in tensors for s, _ in other.parts)
