"""Norms of blocks of weights that a normalisation does not see, but for its ``eps``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

import numpy as np

from obstruction.conservation.candidates import FAINT, Candidate, Evaluation, owner
from obstruction.conservation.law import FloatArray, Law
from obstruction.conservation.probing import Prober
from obstruction.conservation.sides import Side, grouped
from obstruction.conservation.signatures import signatures

_Shares: TypeAlias = list[FloatArray]

SCALE: Final = 1e-9
"""The norm of a block is conserved if its sum is below this share of the absolute values."""

_CLOSE: Final = 0.1
"""Where ``eps`` has an influence, half of all blocks come as close at some probe."""

_GROWTH: Final = (4, 8)
"""Blocks are multiplied by two to these powers, to see how the influence of ``eps`` shrinks."""

_AGREEING: Final = 0.8
"""The share of blocks that must agree; the check by transformations looks at every block."""

PROBES: Final = (0, 2)
"""The probes for that, whose scales are near the usual."""


def scales(
    evaluation: Evaluation,
    prober: Prober,
    sides: Sequence[Side],
    *,
    probes: Sequence[int] = PROBES,
) -> list[Candidate]:
    """Return the smallest blocks of weights whose length a normalisation does not see."""
    chosen: dict[str, list[Candidate]] = {}
    for side in sorted(sides, key=lambda side: -side.width):
        if len(side.shape) >= 2 and len(side.axes) == 1:
            chosen.setdefault(side.tensor, []).extend(_blocks_of(evaluation, side, sides))
    candidates = [one for together in chosen.values() for one in together]
    held = set(_kept(prober, candidates, probes))
    found = []
    for together in chosen.values():
        finest = sorted(together, key=lambda one: (-one.width, len(one.parts)))
        found += [one for one in finest if one in held][:1]
    return found


def streams(
    evaluation: Evaluation,
    prober: Prober,
    sides: Sequence[Side],
    *,
    probes: Sequence[int] = PROBES,
) -> list[Candidate]:
    """Return the blocks of everything that writes a residual stream which is normalised.

    The writers of a stream are the sides of its width that no balance explains: what reads the
    stream stands behind the gains of a normalisation, and keeps a balance with them.
    """
    by_width: dict[int, list[Side]] = {}
    for side in sides:
        if len(side.axes) == 1 and side.width > 1:
            by_width.setdefault(side.width, []).append(side)
    candidates = []
    for width, together in by_width.items():
        tensors = [side.tensor for side in together]
        if len(tensors) < 2 or len(set(tensors)) < len(tensors):
            continue
        index = np.zeros(width, dtype=np.int64)
        whole = Candidate(tuple((side.relabelled(index, 1), 1) for side in together))
        sums, sizes = evaluation.total(whole)
        if (np.abs(sums) <= _CLOSE * sizes).any():
            candidates.append(whole)
    return _kept(prober, candidates, probes)


def _blocks_of(evaluation: Evaluation, side: Side, sides: Sequence[Side]) -> Iterator[Candidate]:
    """Yield contiguous blocks of slices whose sums may vanish, with biases and without."""
    vectors = [
        (other, 1)
        for other in sides
        if len(other.shape) == 1
        and other.width == side.width
        and owner(other.tensor) == owner(side.tensor)
    ]
    alone = Candidate(((side, 1),))
    for whole in [alone, Candidate((*alone.parts, *vectors))] if vectors else [alone]:
        sums, sizes = evaluation.total(whole)
        for block in range(1, side.width + 1):
            if side.width % block or side.scalars * block < 2:
                continue
            index = np.arange(side.width, dtype=np.int64) // block
            width = side.width // block
            total, size = grouped(sums, index, width), grouped(sizes, index, width)
            share = np.abs(total) / np.where(size > 0.0, size, 1.0)
            if np.median(share, axis=1).min() <= _CLOSE:
                yield whole.relabelled(index, width)


def _kept(
    prober: Prober, candidates: Sequence[Candidate], probes: Sequence[int]
) -> list[Candidate]:
    """Return the candidates whose norms are conserved but for ``eps``, at all probes."""
    if not candidates:
        return []
    at_probes = zip(*(_shares(prober, candidates, number) for number in probes), strict=True)
    return [
        one
        for one, shares in zip(candidates, at_probes, strict=True)
        if all(_conserved(*share) for share in shares)
    ]


def _conserved(before: FloatArray, large: FloatArray, larger: FloatArray) -> bool:
    """Return whether sums vanish, or shrink as ``eps`` does when blocks grow.

    The sums are relative, at a probe, with blocks multiplied by ``2**4`` and by ``2**8``. What
    ``eps`` causes is divided by ``4**4`` from one to the next. A softmax or a bounded activation
    also hides the length of large weights, but not in this way.
    """
    rounding = 1e-12
    exact = (before <= SCALE) & (large <= SCALE) & (larger <= SCALE)
    expected = large / 4.0 ** _GROWTH[0]
    by_eps = (larger <= 2.0 * expected + rounding) & (larger >= 0.5 * expected - rounding)
    return bool((exact | (by_eps & (large <= 1e-2))).mean() >= _AGREEING)


def _shares(prober: Prober, candidates: Sequence[Candidate], number: int) -> list[_Shares]:
    """Return the relative sums of each candidate at a probe, with blocks of three sizes."""
    sides = _sides_of(candidates)
    probe = prober.probe(number)
    tensors = {side.tensor for side in sides}
    found: list[_Shares] = [[] for _ in candidates]
    for growth in (0, *_GROWTH):
        values = {
            name: value * 2.0**growth if name in tensors else value
            for name, value in probe.values.items()
        }
        at = signatures(prober.live, sides, [replace(probe, values=values)])
        evaluation = Evaluation(at)
        for shares, candidate in zip(found, candidates, strict=True):
            sums, sizes = (part[0] for part in evaluation.total(candidate))
            some = sizes > FAINT * sizes.max(initial=0.0)
            share = np.where(some, np.abs(sums), 0.0) / np.where(some, sizes, 1.0)
            if 2 * np.count_nonzero(some) < some.size:
                share = np.ones_like(share)  # nothing flows, which is no conservation
            shares.append(share)
    return found


def _sides_of(candidates: Sequence[Candidate]) -> list[Side]:
    """Return the sides of which candidates are made, before any relabelling."""
    bases = (side.base or side for one in candidates for side, _ in one.parts)
    return list({side.key: side for side in bases}.values())


def norm_laws(prober: Prober, candidates: Sequence[Candidate]) -> list[Law]:
    """Return the laws of norms of blocks, with their drift at the actual parameters."""
    if not candidates:
        return []
    at = signatures(prober.live, _sides_of(candidates), [prober.actual()])
    evaluation = Evaluation(at)
    laws = []
    for candidate in candidates:
        sums, sizes = (part[0] for part in evaluation.total(candidate))
        drift = np.abs(sums) / np.where(sizes > 0.0, sizes, 1.0)
        laws.append(Law("scale", candidate.terms, candidate.width, drift, 0.0))
    return laws
