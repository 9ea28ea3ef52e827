"""Laws that are no balances: constants, sums that a mean removes, and norms of blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.candidates import FAINT, Candidate, Evaluation, owner
from obstruction.conservation.law import Law, Term
from obstruction.conservation.probing import Prober, Signatures
from obstruction.conservation.sides import Side, grouped

CONSTANT: Final = 1e-10
"""A bias is constant if its part is below this share of that of the weights of its neuron."""

SCALE: Final = 1e-6
"""The norm of a block is conserved if its sum is below this share of the absolute values."""

_CLOSE: Final = 0.1
"""The same before the blocks are multiplied by 2**12: ``eps`` still has its influence.

Half of all blocks come as close at some probe.
"""

_GROWTH: Final = 12


def constant_entries(
    evaluation: Evaluation, signatures: Signatures, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, NDArray[np.bool_]]:
    """Return which entries of parameters the outputs do not depend on.

    A parameter that the outputs never use is constant as a whole. An entry of a vector, such as a
    bias, is constant if its gradient vanishes while the weights of the same neuron have one. What
    the inputs merely did not reach, such as the row of a word that did not occur, is not constant.
    """
    found = {}
    for name, shape in shapes.items():
        if not signatures.connected[name]:
            found[name] = np.ones(shape, dtype=bool)
        elif len(shape) == 1:
            entries = _vanishing(name, shape[0], evaluation, signatures)
            if entries.any():
                found[name] = entries
    return found


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
    if not mates:
        return np.zeros(width, dtype=bool)
    largest = np.max([evaluation.of(side)[1] for side in mates], axis=0)
    seen = largest > 1e-7 * largest.max(axis=1, keepdims=True)
    vanishes: NDArray[np.bool_] = (own <= CONSTANT * largest).all(axis=0)
    vanishes &= seen.any(axis=0)
    if all(len(side.shape) == 1 for side in mates):
        if vanishes.sum() < 0.9 * seen.any(axis=0).sum():
            return np.zeros(width, dtype=bool)  # saturated channels of a normalisation
    else:
        vanishes &= seen.mean(axis=0) >= 0.5
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


def scales(evaluation: Evaluation, prober: Prober, sides: Sequence[Side]) -> list[Candidate]:
    """Return the blocks of weights whose length a normalisation does not see."""
    chosen: dict[str, Candidate] = {}
    for side in sorted(sides, key=lambda side: -side.width):
        if len(side.shape) < 2 or len(side.axes) > 1 or side.tensor in chosen:
            continue
        block = _smallest_block(evaluation, side, sides)
        if block is not None:
            chosen[side.tensor] = block
    candidates = list(chosen.values())
    if not candidates:
        return []
    large = _violations(prober, candidates)
    return [one for one, violation in zip(candidates, large, strict=True) if violation <= SCALE]


def _smallest_block(evaluation: Evaluation, side: Side, sides: Sequence[Side]) -> Candidate | None:
    """Return the smallest contiguous blocks of slices whose sums vanish, with biases if needed."""
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
            if side.width % block:
                continue
            index = np.arange(side.width, dtype=np.int64) // block
            width = side.width // block
            if side.scalars * block < 2:
                continue
            total, size = grouped(sums, index, width), grouped(sizes, index, width)
            if not (size > 0.0).any(axis=0).all():
                continue
            share = np.abs(total) / np.where(size > 0.0, size, 1.0)
            if np.median(share, axis=1).min() <= _CLOSE:
                return whole.relabelled(index, width)
    return None


def _violations(prober: Prober, candidates: Sequence[Candidate]) -> list[float]:
    """Return the largest relative sum of each candidate when all blocks are large."""
    found = [0.0] * len(candidates)
    for number in range(1):
        probe = prober.probe(number)
        values = dict(probe.values)
        for candidate in candidates:
            for term in candidate.terms:
                factor = np.where(term.labels >= 0, 2.0**_GROWTH, 1.0)
                values[term.tensor] = values[term.tensor] * factor
        gradients = prober.live.gradients(
            values, probe.inputs, seed=probe.seed, cotangent=probe.cotangent
        )
        for i, candidate in enumerate(candidates):
            sums = sizes = 0.0
            for side, _ in candidate.parts:
                gradient = gradients[side.tensor]
                if gradient is not None:
                    product = values[side.tensor] * gradient
                    sums = sums + side_sums(side, product)
                    sizes = sizes + side_sums(side, np.abs(product))
            size = np.asarray(sizes)
            some = size > FAINT * size.max(initial=0.0)
            ratio = np.where(some, np.abs(sums), 0.0) / np.where(some, size, 1.0)
            found[i] = max(found[i], float(np.max(ratio)))
    return found


def side_sums(side: Side, values: np.ndarray) -> np.ndarray:
    """Return the sums of values over the groups of a side, as an array."""
    return np.asarray(side.sums(values))
