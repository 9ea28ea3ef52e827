"""Match channels slice by slice: concatenations, parts, shuffles and other orders of channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.candidates import FAINT, Candidate, Evaluation
from obstruction.conservation.law import FloatArray, Labels

EQUAL: Final = 1e-9
"""Slices match if their sums differ by at most this share of their units, at every probe.

The unit is the sum of absolute values, or the least that is told from rounding.
"""

_MANY: Final = 10_000
"""Of so many slices, or up to twice as many, the usual size is known well enough."""

_NEIGHBOURS: Final = 4
_LEAST_RUNS: Final = 2


def matched(
    evaluation: Evaluation, bundles: Sequence[Candidate], *, partial: bool = False
) -> list[Candidate]:
    """Return balances between slices of bundles whose signatures are equal.

    A match of single slices counts only if all slices of one of the two bundles are matched: a
    function that is homogeneous on a part of its domain gives single matches by chance. If
    `partial`, the same part of each head is enough.
    """
    if not bundles:
        return []
    parts = [evaluation.total(one) for one in bundles]
    sums = np.concatenate([sums for sums, _ in parts], axis=1)
    sizes = np.concatenate([sizes for _, sizes in parts], axis=1)
    widths = [one.width for one in bundles]
    place = np.repeat(np.arange(len(bundles)), widths)
    number = np.concatenate([np.arange(width) for width in widths])
    least = np.stack([evaluation.weak(sizes) for _, sizes in parts], axis=1)
    one, other = _equal(sums, sizes, np.repeat(least, widths, axis=1))
    if not len(one):
        return []
    keys = np.stack([place[one], place[other]], axis=1)
    different_keys, which = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(which, kind="stable")
    ends = np.cumsum(np.bincount(which, minlength=len(different_keys)))[:-1]
    by_bundles = {
        (int(a), int(b)): (number[one[rows]], number[other[rows]])
        for (a, b), rows in zip(different_keys, np.split(order, ends), strict=True)
    }
    different = {
        (a, b): slices
        for (a, b), slices in by_bundles.items()
        if not (bundles[a].overlaps(bundles[b]) and np.any(slices[0] == slices[1]))
    }
    return _laws(bundles, different, partial)


def _equal(sums: FloatArray, sizes: FloatArray, least: FloatArray) -> tuple[Labels, Labels]:
    """Return the pairs of columns that are equal within rounding of their units, and not zero.

    There is a row for every probe. The units are the sizes, or the least if that is more.
    """
    usual = np.median(sizes[:, :: 1 + sizes.shape[1] // _MANY], axis=1)
    weights = np.random.default_rng(0).uniform(1.0, 2.0, len(sums))
    weights /= np.where(usual > 0.0, usual, 1.0)
    units = np.maximum(sizes, least)
    keys, spreads = weights @ sums, 2.0 * EQUAL * (weights @ units)
    flows = np.zeros(len(keys), dtype=bool)
    for total, size in zip(sums, sizes, strict=True):
        flows |= np.abs(total) > np.maximum(1e-8 * size, FAINT * size.max())
    order = np.flatnonzero(flows)[np.argsort(keys[flows], kind="stable")]
    keys, spreads = keys[order], spreads[order]
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    for step in range(1, _NEIGHBOURS + 1):
        near = np.flatnonzero(keys[step:] - keys[:-step] <= spreads[:-step])
        one, other = order[near], order[near + step]
        allowed = EQUAL * np.minimum(units[:, one], units[:, other])
        close = (np.abs(sums[:, one] - sums[:, other]) <= allowed).all(axis=0)
        pairs.append(np.sort(np.stack([one, other], axis=1)[close], axis=1))
    found = np.concatenate(pairs)
    return found[:, 0], found[:, 1]


def _laws(
    bundles: Sequence[Candidate],
    pairs: dict[tuple[int, int], tuple[Labels, Labels]],
    partial: bool,
) -> list[Candidate]:
    covered: dict[int, set[int]] = {}
    for (a, b), slices in pairs.items():
        covered.setdefault(a, set()).update(slices[0].tolist())
        covered.setdefault(b, set()).update(slices[1].tolist())
    whole = {a for a, places in covered.items() if len(places) == bundles[a].width}
    found: list[Candidate] = []
    used: dict[tuple[str, tuple[int, ...]], NDArray[np.bool_]] = {}

    def rank(one: tuple[tuple[int, int], tuple[Labels, Labels]]) -> tuple[int, int]:
        return -len(one[1][0]), sum(len(bundles[i].parts) for i in one[0])

    for (a, b), slices in sorted(pairs.items(), key=rank):
        if a not in whole and b not in whole and not (partial and all(map(_regular, slices))):
            continue
        candidates = [_between(bundles[a], bundles[b], *one) for one in _injective(*slices)]
        masks: dict[tuple[str, tuple[int, ...]], NDArray[np.bool_]] = {}
        for side, _ in (part for candidate in candidates for part in candidate.parts):
            key = side.tensor, side.axes
            masks[key] = masks.get(key, False) | (side.flat >= 0)
        if not any((used.get(key, False) & mask).any() for key, mask in masks.items()):
            for key, mask in masks.items():
                used[key] = used.get(key, False) | mask
            found += candidates
    return found


def _regular(places: Labels) -> bool:
    """Return whether places are runs of equal length, at least two, at equal distances."""
    order = np.unique(places)
    starts = order[np.diff(order, prepend=-2) > 1]
    lengths = np.diff(np.append(np.searchsorted(order, starts), len(order)))
    distances = np.diff(starts)
    return bool(
        len(order) == len(places)
        and len(starts) >= _LEAST_RUNS
        and lengths[0] > 1
        and (lengths == lengths[0]).all()
        and (distances == distances[0]).all()
    )


def _injective(first: Labels, second: Labels) -> list[tuple[Labels, Labels]]:
    """Return matches in parts in which no slice occurs twice, none if there is no regular way.

    Two halves of a layer may both be read by the same columns, as in gated units.
    """
    parts = []
    turned = len(np.unique(first)) < len(first)
    if turned:
        first, second = second, first
    order = np.argsort(first, kind="stable")
    first, second = first[order], second[order]
    turns = _occurrences(second)
    for turn in range(int(turns.max()) + 1):
        one, other = first[turns == turn], second[turns == turn]
        if len(np.unique(one)) < len(one):
            return []
        parts.append((other, one) if turned else (one, other))
    return parts


def _occurrences(values: Labels) -> Labels:
    """Return how often each value has occurred before."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=values[order][0] - 1))
    found = np.empty(len(values), dtype=np.int64)
    lengths = np.diff(np.append(starts, len(values)))
    found[order] = np.arange(len(values)) - np.repeat(starts, lengths)
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
