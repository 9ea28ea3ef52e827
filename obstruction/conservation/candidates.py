"""Candidates for laws: sums of sides of parameters, and the evidence that gradients give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.law import FloatArray, Term
from obstruction.conservation.live.names import owner
from obstruction.conservation.sides import Side, grouped
from obstruction.conservation.signatures import Signatures

TOLERANCE: Final = 1e-9
"""A law holds if its sum is below this share of the sum of absolute values of its terms."""

FAINT: Final = 1e-10
"""What flows through a channel is rounding below this share of the most that flows in its law."""

_WEAK: Final = 1e-4
_UNUSUAL: Final = 1e-3

_ROUNDING: Final = 1e-12
_SEEN: Final = 1e-11


@dataclass(frozen=True, eq=False)
class Candidate:
    """An integer combination of sides of equal width.

    Attributes
    ----------
    parts : tuple of (Side, int)
        Sides with their coefficients.
    """

    parts: tuple[tuple[Side, int], ...]

    @property
    def width(self) -> int:
        """The number of labels."""
        return self.parts[0][0].width

    @property
    def terms(self) -> tuple[Term, ...]:
        """The parts as terms of a law."""
        return tuple(Term(side.tensor, side.labels, factor) for side, factor in self.parts)

    @property
    def trivial(self) -> bool:
        """Whether the combination vanishes for every gradient, as it adds up to zero."""
        total: dict[str, NDArray[np.int64]] = {}
        for side, _ in self.parts:
            if sum(other.tensor == side.tensor for other, _ in self.parts) == 1:
                return False
        for side, factor in self.parts:
            for label in range(min(self.width, 2)):
                mine = factor * (side.labels == label)
                key = f"{side.tensor} {label}"
                total[key] = total.get(key, np.zeros((1,) * mine.ndim, np.int64)) + mine
        return not any(part.any() for part in total.values())

    def overlaps(self, other: Candidate) -> bool:
        """Return whether two candidates have slices of a parameter along the same axes."""
        mine = {(side.tensor, side.axes) for side, _ in self.parts}
        return any((side.tensor, side.axes) in mine for side, _ in other.parts)

    def relabelled(self, index: NDArray[np.int64], width: int) -> Candidate:
        """Return the candidate with other labels, see `Side.relabelled`."""
        return Candidate(tuple((s.relabelled(index, width), n) for s, n in self.parts))

    def __neg__(self) -> Candidate:
        return Candidate(tuple((side, -factor) for side, factor in self.parts))

    def __add__(self, other: Candidate) -> Candidate:
        return Candidate(self.parts + other.parts)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the gradients at all probes say about a candidate, for each of its labels.

    Attributes
    ----------
    violation : ndarray of float64
        The largest absolute value of the sum of all terms, relative to the sum of the absolute
        values of all scalars in them, or to the least that is told from rounding, see
        `Evaluation.weak`.
    holds : ndarray of bool
        Whether the sum vanishes within rounding at every probe.
    seen : ndarray of bool
        Whether a part of the sum was far above rounding at some probe. Otherwise nothing flows,
        which is no conservation.
    """

    violation: FloatArray
    holds: NDArray[np.bool_]
    seen: NDArray[np.bool_]

    @cached_property
    def convincing(self) -> bool:
        """Whether every label that was seen holds, and at least half of the labels were seen."""
        return bool(self.holds.all()) and 2 * int(self.seen.sum()) >= self.seen.size


class Evaluation:
    """Sums and sizes of sides and of their relabelled copies, at all probes.

    Parameters
    ----------
    signatures : Signatures
        Those of the sides of which all candidates are made.
    more : Signatures, optional
        Those at further probes, where relations are sought; all probes decide whether they hold.
    """

    def __init__(self, signatures: Signatures, more: Signatures | None = None) -> None:
        self.sides = tuple(signatures.sums)
        self._known = {side.key: signatures.stacked(side) for side in self.sides}
        self._recent: dict[tuple[str, tuple[int, ...], bytes], tuple[FloatArray, FloatArray]] = {}
        self.first = 0
        if more is not None:
            self.first = signatures.probes
            for side in more.sums:
                pairs = zip(self._known[side.key], more.stacked(side), strict=True)
                one, other = (np.concatenate(pair) for pair in pairs)
                self._known[side.key] = one, other

    def of(self, side: Side) -> tuple[FloatArray, FloatArray]:
        """Return sums and sizes, shape ``(probes, width)``."""
        if side.base is None or side.place is None:
            return self._known[side.key]
        if side.key not in self._recent:
            sums, sizes = self._known[side.base.key]
            pair = grouped(sums, side.place, side.width), grouped(sizes, side.place, side.width)
            self._recent[side.key] = pair
        return self._recent[side.key]

    def forget(self) -> None:
        """Forget the sums of relabelled sides, which may be many."""
        self._recent.clear()

    def dead(self, side: Side) -> NDArray[np.bool_]:
        """Return the labels of a side through which nothing flows at any probe."""
        _, sizes = self.of(side)
        dead: NDArray[np.bool_] = (sizes <= FAINT * sizes.max(axis=1, keepdims=True)).all(axis=0)
        return dead

    def weak(self, sizes: FloatArray) -> FloatArray:
        """Return for every probe the least size that is told from rounding, shape ``(probes,)``.

        All channels of a layer have about the same rounding errors, those of a saturated softmax as
        well. So a channel that carries a small share of the most at this probe, or of what is usual
        at probes of its kind, counts as if it carried this share.
        """
        largest = sizes.max(axis=1)
        usual = np.empty_like(largest)
        for kind in (slice(self.first), slice(self.first, None)):
            if largest[kind].size:
                usual[kind] = np.median(largest[kind])
        least: FloatArray = np.maximum(_WEAK * largest, _UNUSUAL * usual)
        return least

    def total(self, candidate: Candidate) -> tuple[FloatArray, FloatArray]:
        """Return the sums and sizes of a whole candidate, shape ``(probes, width)``."""
        parts = [(self.of(side), factor) for side, factor in candidate.parts]
        sums: FloatArray = np.sum([factor * pair[0] for pair, factor in parts], axis=0)
        sizes: FloatArray = np.sum([abs(factor) * pair[1] for pair, factor in parts], axis=0)
        return sums, sizes

    def evidence(self, candidate: Candidate) -> Evidence:
        """Return what the gradients say about a candidate for a balance."""
        positive = [self.of(s)[0] * n for s, n in candidate.parts if n > 0]
        negative = [self.of(s)[0] * n for s, n in candidate.parts if n < 0]
        sums, sizes = self.total(candidate)
        flow = np.minimum(np.abs(sum(positive)), np.abs(sum(negative)))
        largest = sizes.max(axis=1, keepdims=True)
        some = sizes > np.maximum(FAINT * largest, 1e-250)
        some &= sizes > FAINT * sizes.max(axis=0)  # what is saturated leaves rounding
        least = self.weak(sizes)[:, None]
        unit = np.where(some, np.maximum(sizes, least), 1.0)
        relative = np.where(some, np.abs(sums) / unit, 0.0)
        limit = np.maximum(np.minimum(1e-4 * flow / unit, TOLERANCE), _ROUNDING)
        small = relative <= np.where(sizes < least, TOLERANCE, limit)
        return Evidence(
            relative.max(axis=0),
            (small | ~some).all(axis=0),
            (some & (flow > _SEEN * sizes)).any(axis=0),
        )


def oriented(candidate: Candidate, output_axes: Mapping[str, int]) -> Candidate:
    """Return the candidate with the sign for which the parts that write are positive."""
    vectors = {owner(s.tensor): s.width for s, _ in candidate.parts if len(s.shape) == 1}
    score = 0
    for side, factor in candidate.parts:
        sign = 1 if factor > 0 else -1
        if len(side.shape) == 1:
            score += 2 * sign
        elif side.tensor in output_axes:
            output = output_axes[side.tensor] % len(side.shape)
            score += sign if side.axes == (output,) else -sign
        elif owner(side.tensor) in vectors:
            score += sign
    return candidate if score > 0 or (score == 0 and candidate.parts[0][1] > 0) else -candidate
