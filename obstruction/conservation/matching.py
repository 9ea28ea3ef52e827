"""Match channels slice by slice: concatenations, parts, shuffles and other orders of channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.candidates import FAINT, Candidate, Evaluation
from obstruction.conservation.law import FloatArray

EQUAL: Final = 1e-9
"""Slices match if their sums differ by at most this share of their sizes, at every probe."""

_NEIGHBOURS: Final = 4


def matched(evaluation: Evaluation, bundles: Sequence[Candidate]) -> list[Candidate]:
    """Return balances between slices of bundles whose signatures are equal.

    A match of single slices counts only if all slices of one of the two bundles are matched: a
    function that is homogeneous on a part of its domain gives single matches by chance.
    """
    if not bundles:
        return []
    parts = [evaluation.total(one) for one in bundles]
    sums = np.concatenate([sums.T for sums, _ in parts])
    sizes = np.concatenate([sizes.T for _, sizes in parts])
    place = np.repeat(np.arange(len(bundles)), [one.width for one in bundles])
    number = np.concatenate([np.arange(one.width) for one in bundles])
    by_bundles: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for a, b in _equal(sums, sizes):
        key = int(place[a]), int(place[b])
        by_bundles.setdefault(key, []).append((int(number[a]), int(number[b])))
    different = {
        (a, b): slices
        for (a, b), slices in by_bundles.items()
        if not (_share(bundles[a], bundles[b]) and any(i == j for i, j in slices))
    }
    return _laws(bundles, different)


def _equal(sums: FloatArray, sizes: FloatArray) -> Iterable[tuple[int, int]]:
    """Yield the pairs of rows that are equal within rounding, and not zero."""
    weights = np.random.default_rng(0).uniform(1.0, 2.0, sums.shape[1])
    unit = np.median(sizes, axis=0)
    weights = weights / np.where(unit > 0.0, unit, 1.0)
    keys = sums @ weights
    faint = FAINT * sizes.max(axis=0)
    flows = (np.abs(sums) > np.maximum(1e-8 * sizes, faint)).any(axis=1)
    order = np.flatnonzero(flows)[np.argsort(keys[flows], kind="stable")]
    for step in range(1, _NEIGHBOURS + 1):
        one, other = order[:-step], order[step:]
        allowed = EQUAL * np.minimum(sizes[one], sizes[other])
        close = (np.abs(sums[one] - sums[other]) <= allowed).all(axis=1)
        for a, b in zip(one[close], other[close], strict=True):
            yield (int(a), int(b)) if a < b else (int(b), int(a))


def _laws(
    bundles: Sequence[Candidate], pairs: dict[tuple[int, int], list[tuple[int, int]]]
) -> list[Candidate]:
    covered: dict[int, set[int]] = {}
    for (a, b), slices in pairs.items():
        covered.setdefault(a, set()).update(i for i, _ in slices)
        covered.setdefault(b, set()).update(j for _, j in slices)
    whole = {a for a, places in covered.items() if len(places) == bundles[a].width}
    found, used = [], set()
    ordered = sorted(pairs.items(), key=lambda one: sum(len(bundles[i].parts) for i in one[0]))
    for (a, b), slices in ordered:
        if a not in whole and b not in whole:
            continue
        slices = sorted(slices)
        first, second = (np.array(side) for side in zip(*slices, strict=True))
        if len(set(first)) < len(slices) or len(set(second)) < len(slices):
            continue
        candidate = _between(bundles[a], bundles[b], first, second)
        keys = {(side.tensor, side.axes, side.labels.tobytes()) for side, _ in candidate.parts}
        if not keys & used:
            used |= keys
            found.append(candidate)
    return found


def _between(
    one: Candidate, other: Candidate, first: NDArray[np.int64], second: NDArray[np.int64]
) -> Candidate:
    indices = []
    for bundle, places in ((one, first), (other, second)):
        index = np.full(bundle.width, -1, dtype=np.int64)
        index[places] = np.arange(len(places))
        indices.append(index)
    width = len(first)
    return one.relabelled(indices[0], width) + (-other.relabelled(indices[1], width))


def _share(one: Candidate, other: Candidate) -> bool:
    tensors = {(s.tensor, s.axes) for s, _ in one.parts}
    return any((s.tensor, s.axes) in tensors for s, _ in other.parts)
