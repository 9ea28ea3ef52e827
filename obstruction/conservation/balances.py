"""The search for balances: integer relations of sides, aligned, in blocks, or slice by slice."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np

from obstruction.conservation.candidates import FAINT, Candidate, Evaluation, oriented
from obstruction.conservation.live.names import owner
from obstruction.conservation.matching import matched
from obstruction.conservation.relations import relations
from obstruction.conservation.sides import Side, blocks
from obstruction.conservation.spanning import Places, outside, overlaps, spanned, used_places
from obstruction.conservation.wholes import independent, whole, without_sums

_CLEAR: Final = 1e-5
"""Relations are sought, if there are enough, in rows above this share of the largest of a probe."""

SideKey: TypeAlias = tuple[str, tuple[int, ...], bytes]

_MOST_ROWS: Final = 20_000
"""Relations are sought in at most about this many rows; all rows decide whether they hold."""


def find_balances(
    evaluation: Evaluation,
    sides: Sequence[Side],
    output_axes: Mapping[str, int],
) -> list[Candidate]:
    """Return the balances that hold at all probes, as candidates with writers first.

    Parameters
    ----------
    evaluation : Evaluation
    sides : sequence of Side
        The sides of parameters, without those that are known to be constant.
    output_axes : dict of str to int
        See `obstruction.conservation.live.base.LiveModel`.
    """
    useful = [side for side in sides if _flows(evaluation, side)]
    found = _aligned(evaluation, [side for side in useful if len(side.axes) > 1])
    single = [side for side in useful if len(side.axes) == 1 or side.index is None]
    left = rest(found, single)
    known = {side.key for side in single} - {side.key for side in left}
    found += _new(found, _aligned(evaluation, [*single, *_pieces(left)]), known)
    useful = [side for side in useful if len(side.axes) < max(len(side.shape), 2)]
    found += _sliced(evaluation, rest(found, useful))
    left = rest(found, useful)
    taken = used_places(found)
    open_ = [side for side in useful if side in left or _open(side, taken)]
    parts = _convincing(evaluation, matched(evaluation, list(_bundles(open_)), partial=True))
    parts = [one for one in parts if not overlaps(one, taken)]
    taken = used_places(parts)  # as by the places of a head that are not rotated
    joined = (outside(one, taken) for one in _in_blocks(evaluation, left))
    found += [*parts, *(one for one in joined if one is not None)]
    found += spanned(evaluation, found, rest(found, useful), list(_bundles(useful)))
    found += whole(evaluation, sides, found)
    return [oriented(one, output_axes) for one in without_sums(found)]


def completed(
    evaluation: Evaluation, candidates: Iterable[Candidate], sides: Iterable[Side]
) -> list[Candidate]:
    """Return candidates with all vectors of the layers that write, where some were left out.

    The gradients of a straight-through estimator before a normalisation tell that offsets are
    constant, and those of what is constant enter a balance unseen.
    """
    vectors = [side for side in sides if len(side.shape) == 1 and side.index is None]
    found = []
    for one in candidates:
        parts = list(one.parts)
        for side, factor in one.parts:
            for vector in vectors:
                whole = side.base or side
                mate = owner(vector.tensor) == owner(side.tensor) and vector.width == whole.width
                if factor < 0 or not mate or any(vector.tensor == s.tensor for s, _ in parts):
                    continue
                if side.place is not None:
                    vector = vector.relabelled(side.place, side.width)
                parts.append((vector, factor))
        if len(parts) > len(one.parts):
            found.append(Candidate(tuple(parts)))
    return _convincing(evaluation, found)


def _flows(evaluation: Evaluation, side: Side) -> bool:
    """Return whether the sums of a side are above rounding: others carry no evidence."""
    sums, sizes = evaluation.of(side)
    return bool((np.abs(sums) > 1e-11 * sizes).any(axis=0).mean() >= 0.5)


def rest(found: Iterable[Candidate], sides: Iterable[Side]) -> list[Side]:
    """Return the sides that are in no candidate, and do not follow from finer ones."""
    explained: dict[str, list[set[int]]] = {}
    for one in found:
        for side, _ in one.parts:
            explained.setdefault(side.tensor, []).append(set(side.axes))
    return [
        side
        for side in sides
        if not any(axes >= set(side.axes) for axes in explained.get(side.tensor, ()))
    ]


def _new(
    finer: Sequence[Candidate], candidates: Iterable[Candidate], known: Collection[SideKey]
) -> list[Candidate]:
    """Return the candidates that do not follow from balances along several axes.

    Those imply others, of sums along all axes but one. `known` are the sides in them.
    """
    implied: list[Mapping[SideKey, int]] = [_counted(one) for one in finer]
    implied += [
        {(side.tensor, (side.axes[place],), b""): factor for side, factor in one.parts}
        for one in finer
        for place in range(len(one.parts[0][0].axes))
        if len({side.kept for side, _ in one.parts}) == 1
    ]
    new = []
    for one in candidates:
        mine = _counted(one)
        if all(key in known for key in mine) and not independent(mine, implied):
            continue
        implied.append(mine)
        new.append(one)
    return new


def _counted(candidate: Candidate) -> dict[SideKey, int]:
    """Return the coefficients of sides; one without its dead labels counts as the whole side."""
    found: dict[SideKey, int] = {}
    for side, factor in candidate.parts:
        whole = side.base is not None and 2 * side.width > side.base.width
        key = side.base.key if side.base is not None and whole else side.key
        found[key] = found.get(key, 0) + factor
    return found


def _open(side: Side, used: Places) -> bool:
    """Return whether balances use a part of the places of a side, and leave another part."""
    places = used.get((side.tensor, side.axes))
    return places is not None and not bool(places[side.flat >= 0].all())


def _pieces(sides: Sequence[Side]) -> Iterable[Side]:
    """Yield the equal parts of vectors that are several times as long as matrices of their layer.

    The biases of queries, keys and values often lie in one vector.
    """
    for vector in sides:
        if len(vector.shape) != 1:
            continue
        layer = {
            side.width
            for side in sides
            if len(side.shape) > 1 and owner(side.tensor) == owner(vector.tensor)
        }
        for width in sorted(layer):
            parts, left = divmod(vector.width, width)
            if left == 0 and 1 < parts <= _MOST_PIECES:
                places = np.arange(vector.width)
                for part in range(parts):
                    yield vector.relabelled(
                        np.where(places // width == part, places % width, -1), width
                    )


def _aligned(evaluation: Evaluation, sides: Iterable[Side]) -> list[Candidate]:
    """Return the relations of sides of equal width that hold for every label."""
    by_width: dict[int, list[Side]] = {}
    for side in sides:
        by_width.setdefault(side.width, []).append(side)
    return [one for together in by_width.values() for one in _related(evaluation, together)]


def _in_blocks(evaluation: Evaluation, sides: Sequence[Side]) -> list[Candidate]:
    """Return balances in which labels of wide sides are joined, those of most labels first.

    They are joined to the labels of a narrow side, or in pairs that a rotation mixes.
    """
    halves = {side.width // 2 for side in sides if _halved(side)}
    found: list[Candidate] = []
    for width in sorted({side.width for side in sides} | halves, reverse=True):
        left = list(_bundles(rest(found, sides)))
        narrow = [one for one in left if one.width == width]
        if width == 1:
            continue  # see `whole`
        joined = [*narrow, *_totals(narrow), *(_joined(left, width) if narrow else ())]
        if width in halves:
            joined += _paired(left, width)
        found += _convincing(evaluation, matched(evaluation, joined))
        evaluation.forget()
    return found


def _joined(bundles: Iterable[Candidate], width: int) -> Iterable[Candidate]:
    """Yield wide bundles and their sums with labels joined to so many, in every regular way."""
    wide = [
        one
        for one in bundles
        if one.width > width
        and one.width % width == 0
        and any(len(side.shape) in (2, 3) for side, _ in one.parts)
    ]
    for one in [*wide, *_totals(wide)]:
        for index in blocks(one.width, width).values():
            yield one.relabelled(index, width)


def _paired(bundles: Iterable[Candidate], width: int) -> list[Candidate]:
    """Return bundles with labels joined to pairs, such as rotary positions, of so many labels.

    Several heads of queries may share one of keys, so pairs are joined further.
    """
    pairs = [
        one.relabelled(index, one.width // 2)
        for one in bundles
        if _halved(one.parts[0][0]) and one.width // 2 % width == 0
        for index in blocks(one.width, one.width // 2).values()
    ]
    grouped = [
        one.relabelled(index, width)
        for one in pairs
        if one.width > width
        for index in blocks(one.width, width).values()
    ]
    found = [one for one in pairs if one.width == width]
    return found + grouped if len(grouped) <= _MOST_GROUPED else found


def _halved(side: Side) -> bool:
    return side.width % 2 == 0 and side.width > 2 and len(side.shape) <= 3


def _related(evaluation: Evaluation, sides: Sequence[Side]) -> list[Candidate]:
    if len(sides) < 2:
        return []
    columns = [evaluation.of(side)[0][evaluation.first :] for side in sides]
    if columns[0].size < len(sides) + 2:
        return []
    stacked = np.stack(columns, axis=2)  # probes, labels, sides
    largest = np.abs(stacked).max(axis=2)
    strongest = largest.max(axis=1, keepdims=True)
    rows = stacked[largest > _CLEAR * strongest]
    if len(rows) < 2 * len(sides) + 4:
        rows = stacked[largest > FAINT * strongest]
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


def _sliced(evaluation: Evaluation, sides: Sequence[Side]) -> list[Candidate]:
    """Return balances whose channels lie in another order, or in a part, of a side."""
    bundles = list(_bundles(sides))
    return _convincing(
        evaluation, matched(evaluation, [*bundles, *_totals(bundles), *_differences(bundles)])
    )


def _convincing(evaluation: Evaluation, candidates: Iterable[Candidate]) -> list[Candidate]:
    found = []
    for candidate in candidates:
        evidence = evaluation.evidence(candidate)
        if evidence.convincing and not candidate.trivial:
            found.append(_seen(candidate, evidence.seen))
    return found


def _bundles(sides: Iterable[Side]) -> Iterable[Candidate]:
    """Yield the sides of each layer, alone and with the vectors of the layer."""
    layers: dict[tuple[str, int], list[Side]] = {}
    for side in sides:
        layers.setdefault((owner(side.tensor), side.width), []).append(side)
    for together in layers.values():
        vectors = [(side, 1) for side in together if len(side.shape) == 1]
        matrices = [(side, 1) for side in together if len(side.shape) > 1]
        for part in matrices:
            yield Candidate((part,))
            if vectors:
                yield Candidate((part, *vectors))
        if not matrices:
            for part in vectors:
                yield Candidate((part,))
            if len(vectors) > 1:
                yield Candidate(tuple(vectors))


_MOST_PIECES: Final = 4
"""Vectors are divided into at most so many parts."""

_MOST_GROUPED: Final = 5_000
"""Pairs of channels are sought in groups of heads if there are at most so many ways."""

_WINDOW: Final = 6
"""At most so many readers, one after the other in the model, are added up."""

_NEAR: Final = 12
"""Differences are taken of sides that are at most so far from each other."""


def _by_width(bundles: Iterable[Candidate]) -> Iterable[list[Candidate]]:
    by_width: dict[int, list[Candidate]] = {}
    for one in bundles:
        by_width.setdefault(one.width, []).append(one)
    return by_width.values()


def _totals(bundles: Iterable[Candidate]) -> Iterable[Candidate]:
    """Yield sums of neighbouring sides of equal width."""
    for near in _by_width(bundles):
        single = [one for one in near if len(one.parts) == 1]
        for start, total in enumerate(single):
            for other in single[start + 1 : start + _WINDOW]:
                total = total + other
                yield total


def _differences(bundles: Iterable[Candidate]) -> Iterable[Candidate]:
    """Yield what is written less what one reader reads, for layers near to each other."""
    for near in _by_width(bundles):
        vectors = [any(len(side.shape) == 1 for side, _ in one.parts) for one in near]
        for i, one in enumerate(near):
            for j in range(i + 1, min(i + 1 + _NEAR, len(near))):
                if vectors[i] != vectors[j] and not one.overlaps(near[j]):
                    yield one + (-near[j])
