"""Laws that are no balances: constants, sums that a mean removes, and norms of blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.candidates import FAINT, Candidate, Evaluation, owner
from obstruction.conservation.law import FloatArray, Law, Term
from obstruction.conservation.probing import Prober, Signatures
from obstruction.conservation.sides import Side, grouped

CONSTANT: Final = 1e-10
"""A bias is constant if its part is below this share of that of the weights of its neuron."""

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


def constant_entries(
    evaluation: Evaluation,
    signatures: Signatures,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    lookups: bool,
) -> dict[str, NDArray[np.bool_]]:
    """Return which entries of parameters the outputs do not depend on.

    A parameter that the outputs never use is constant as a whole. An entry of a vector, such as a
    bias, is constant if its gradient vanishes while the weights of the same neuron have one. What
    the inputs merely did not reach, such as the row of a word that did not occur, is not constant:
    if the model may look up rows (`lookups`), slices without a gradient say nothing.
    """
    found = {}
    for name, shape in shapes.items():
        if not signatures.connected[name]:
            found[name] = np.ones(shape, dtype=bool)
            continue
        entries = np.zeros(shape, dtype=bool)
        if len(shape) == 1:
            entries |= _vanishing(name, shape[0], evaluation, signatures)
        if not lookups:
            entries |= _unreached(name, shape, signatures)
        if entries.any():
            found[name] = entries
    return found


def _unreached(name: str, shape: tuple[int, ...], signatures: Signatures) -> NDArray[np.bool_]:
    """Return the slices of a parameter whose gradient is exactly zero at all probes.

    Nearly all others must have a gradient at every probe.
    """
    if not signatures.reached[name]:
        return np.ones(shape, dtype=bool)
    entries = np.zeros(shape, dtype=bool)
    for side, sizes in signatures.sizes.items():
        if side.tensor == name and len(side.axes) == 1:
            zero = ~np.any(sizes, axis=0)
            if np.mean(np.stack(sizes)[:, ~zero] > 0.0) < 0.9:
                continue  # dead or saturated neurons are not unseen for ever
            entries |= zero.reshape(
                [side.width if a in side.axes else 1 for a in range(len(shape))]
            )
    return entries


def _vanishing(
    name: str, width: int, evaluation: Evaluation, signatures: Signatures
) -> NDArray[np.bool_]:
    mine = next(s for s in signatures.sums if s.tensor == name)
    _, own = evaluation.of(mine)
    mates = [
        side
        for side in signatures.sums
        if side.tensor != name and side.width == width and owner(side.tensor) == owner(name)
    ]
    if mates:
        largest = np.max([evaluation.of(side)[1] for side in mates], axis=0)
    else:
        largest = np.broadcast_to(own.max(axis=1, keepdims=True), own.shape)
    seen = largest > 1e-7 * largest.max(axis=1, keepdims=True)
    seen &= largest > 1e-8 * largest.max(axis=0)  # unless a softmax is saturated
    vanishes: NDArray[np.bool_] = ((own <= CONSTANT * largest) | ~seen).all(axis=0)
    vanishes &= seen.sum(axis=0) >= 2
    against = seen & (own > CONSTANT * largest)
    if 4 * vanishes.sum() >= 3 * width and not against.any():
        return np.ones(width, dtype=bool)
    vectors = mates and all(len(side.shape) == 1 for side in mates)
    if vectors and vanishes.sum() < 0.9 * seen.any(axis=0).sum():
        return np.zeros(width, dtype=bool)  # saturated channels of a normalisation
    return vanishes


def constants(entries: Mapping[str, NDArray[np.bool_]]) -> list[Law]:
    """Return the laws of constant entries, one for each parameter."""
    laws = []
    for name, mask in entries.items():
        count = int(mask.sum())
        labels = np.where(mask, np.cumsum(mask).reshape(mask.shape) - 1, -1)
        term = Term(name, labels.astype(np.int64), 1)
        laws.append(Law("constant", (term,), count, np.zeros(count), 0.0))
    return laws


def shifts(
    signatures: Signatures,
    shapes: Mapping[str, tuple[int, ...]],
    constant: Mapping[str, NDArray[np.bool_]],
) -> list[Law]:
    """Return the laws of sums along an axis, along which gradients add up to zero."""
    laws = []
    for (name, axis), violation in signatures.unshifted.items():
        if name in constant:
            continue
        shape = list(shapes[name])
        shape[axis] = 1
        count = int(np.prod(shape, dtype=np.int64))
        term = Term(name, np.arange(count, dtype=np.int64).reshape(shape), 1)
        laws.append(Law("shift", (term,), count, np.full(count, violation), 0.0))
    return laws


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
    if not candidates:
        return []
    shares = [_shares(prober, candidates, number) for number in probes]
    found = []
    for together in chosen.values():
        for candidate in sorted(together, key=lambda one: (-one.width, len(one.parts))):
            if all(_conserved(*share[id(candidate)]) for share in shares):
                found.append(candidate)
                break
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
    if not candidates:
        return []
    shares = [_shares(prober, candidates, number) for number in probes]
    return [one for one in candidates if all(_conserved(*share[id(one)]) for share in shares)]


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


def _shares(
    prober: Prober, candidates: Sequence[Candidate], number: int
) -> dict[int, list[FloatArray]]:
    """Return the relative sums of each candidate at a probe, with blocks of three sizes."""
    found: dict[int, list[FloatArray]] = {id(candidate): [] for candidate in candidates}
    tensors = {side.tensor for candidate in candidates for side, _ in candidate.parts}
    for growth in (0, *_GROWTH):
        probe = prober.probe(number)
        values = dict(probe.values)
        for name in tensors:
            values[name] = values[name] * 2.0**growth
        gradients = prober.live.gradients(
            values, probe.inputs, seed=probe.seed, cotangent=probe.cotangent
        )
        known: dict[bytes | str, tuple[FloatArray, FloatArray]] = {}
        for candidate in candidates:
            sums, sizes = np.zeros((2, candidate.width))
            for side, _ in candidate.parts:
                base = side.base or side
                key = f"{base.tensor} {base.axes}"
                if key not in known:
                    gradient = gradients[base.tensor]
                    product = values[base.tensor] * (0.0 if gradient is None else gradient)
                    known[key] = base.sums(product), base.sums(np.abs(product))
                part, size = known[key]
                place = side.flat if side.place is None else side.place
                sums += grouped(part, place, side.width)
                sizes += grouped(size, place, side.width)
            some = sizes > FAINT * sizes.max(initial=0.0)
            share = np.where(some, np.abs(sums), 0.0) / np.where(some, sizes, 1.0)
            if 2 * np.count_nonzero(some) < some.size:
                share = np.ones_like(share)  # nothing flows, which is no conservation
            found[id(candidate)].append(share)
    return found
