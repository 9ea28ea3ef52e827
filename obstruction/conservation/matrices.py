"""Matrix laws: balances whose channels may be mixed by any invertible matrix, in blocks.

If ``f`` does not change when the rows ``X`` that write channels become ``A X`` and the rows ``Y``
that read them become ``A⁻ᵀ Y``, then ``G_X Xᵀ = Y G_Yᵀ`` for the gradients ``G``, and gradient flow
keeps all entries of ``X Xᵀ - Y Yᵀ``. The diagonal entries are the balances of the channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from obstruction.conservation.candidates import Candidate
from obstruction.conservation.law import FloatArray, slices
from obstruction.conservation.live.names import owner

MIXED: Final = 1e-9
"""The largest relative difference of the two products."""


def largest_block(
    candidate: Candidate,
    values: Mapping[str, FloatArray],
    gradients: Mapping[str, FloatArray | None],
) -> tuple[int, float]:
    """Return the side of the largest blocks whose channels mix, and the violation; 1 if none do."""
    width = candidate.width
    divisors = [b for b in range(2, width + 1) if width % b == 0]
    plain = all(abs(factor) == 1 for _, factor in candidate.parts)
    if not plain or not may_mix(candidate) or not _regular(candidate):
        return 1, 0.0
    parts = [
        (factor, pair)
        for side, factor in candidate.parts
        for pair in zip(
            slices(values[side.tensor], side.labels, width),
            slices(_of(gradients[side.tensor], values[side.tensor]), side.labels, width),
            strict=True,
        )
    ]
    best, violation = 1, 0.0
    tried: list[int] = []
    mixing: set[int] = set()
    for block in divisors:
        if any(block % part == 0 and part not in mixing for part in tried):
            continue  # blocks that mix contain blocks of every side that divides theirs
        tried.append(block)
        found = max(_violation(parts, width, block, draw) for draw in range(2))
        if found <= MIXED:
            best, violation = block, found
            mixing.add(block)
    return best, violation


def may_mix(candidate: Candidate) -> bool:
    """Return whether channels could be mixed: the gains of a normalisation never are."""
    matrices = {owner(side.tensor) for side, _ in candidate.parts if len(side.shape) > 1}
    return candidate.width > 1 and all(
        len(side.shape) > 1 or owner(side.tensor) in matrices for side, _ in candidate.parts
    )


def _of(gradient: FloatArray | None, like: FloatArray) -> FloatArray:
    return np.zeros_like(like) if gradient is None else gradient


def _regular(candidate: Candidate) -> bool:
    """Return whether every label of a side stands at as many places."""
    for side, _ in candidate.parts:
        counts = np.bincount(side.flat[side.flat >= 0], minlength=candidate.width)
        if (counts != counts[0]).any():
            return False
    return True


def _violation(
    parts: list[tuple[int, tuple[FloatArray, FloatArray]]], width: int, block: int, draw: int
) -> float:
    """Return the relative difference of the two products, applied to a random vector."""
    vector = np.random.default_rng([draw, block]).standard_normal((width // block, block, 1))
    total = np.zeros_like(vector)
    size = 0.0
    for factor, (rows, gradient) in parts:
        x = rows.reshape(width // block, block, -1)
        g = gradient.reshape(width // block, block, -1)
        first, second = (g, x) if factor > 0 else (x, g)
        product = first @ (second.transpose(0, 2, 1) @ vector)
        total += factor * product
        size = np.maximum(size, np.linalg.norm(product, axis=1))
    largest = float(np.max(size))
    if largest == 0.0:
        return np.inf
    return float((np.linalg.norm(total, axis=1) / np.maximum(size, 1e-6 * largest)).max())
