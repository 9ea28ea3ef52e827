"""Integer relations among sides, for an independent search for balances."""

from __future__ import annotations

import numpy as np
from slices import FAINT, Floats, Indices, Side

EXACT = 1e-8
RANK = 1e-8
LARGEST = 12
"""The largest coefficient that is believed."""


def divisors(n: int) -> list[int]:
    """Return the divisors of a positive integer."""
    return [a for a in range(1, n + 1) if n % a == 0]


def summed(a: int, r: int, c: int) -> Indices:
    """Return the map of indices that sums the middle axis of an index of shape (a, r, c)."""
    return np.broadcast_to(np.arange(a * c).reshape(a, 1, c), (a, r, c)).reshape(-1)


def _stacked(sides: list[Side]) -> tuple[Floats, Floats]:
    """Return sums and sizes, one column a side, one row an index and probe."""
    sums = np.stack([s.sums.ravel() for s in sides], 1)
    return sums, np.stack([s.sizes.ravel() for s in sides], 1)


def null_vectors(sides: list[Side]) -> list[tuple[Floats, int]]:
    """Return integer vectors that annihilate the sums at every index, each with its pivot.

    The pivot is a side that occurs in no other of the vectors.
    """
    m = len(sides)
    if m < 2 or sides[0].sums.size < m + 4:
        return []
    sums, sizes = _stacked(sides)
    largest = np.abs(sums).max(1)
    live = largest > 0
    if live.sum() < m + 4:
        return []
    rows = sums[live] / np.maximum(largest[live], FAINT * largest.max())[:, None]
    lengths = np.linalg.norm(rows, axis=0)
    if (lengths == 0).any():
        return []
    _, values, basis = np.linalg.svd(np.linalg.qr(rows / lengths, mode="r"))
    null = basis[values <= RANK * values[0]] / lengths
    found = []
    for vector, pivot in _reduced(null / np.abs(null).max(1, keepdims=True, initial=1e-300)):
        whole = _integers(vector)
        if whole is not None and np.count_nonzero(whole) > 1:
            wrong = np.abs(sums @ whole) > EXACT * (sizes @ np.abs(whole))
            if not wrong.any():
                found.append((whole, pivot))
    return found


def _reduced(rows: Floats) -> list[tuple[Floats, int]]:
    """Return the reduced echelon form of independent rows, each row with its pivot."""
    rows = rows.copy()
    pivots: list[int] = []
    for column in range(rows.shape[1]):
        row = len(pivots)
        if row == len(rows):
            break
        best = row + int(np.argmax(np.abs(rows[row:, column])))
        if abs(rows[best, column]) < 1e-6:
            continue
        rows[[row, best]] = rows[[best, row]]
        rows[row] /= rows[row, column]
        others = np.arange(len(rows)) != row
        rows[others] -= np.outer(rows[others, column], rows[row])
        pivots.append(column)
    return list(zip(rows, pivots, strict=False))


def _integers(v: Floats) -> Floats | None:
    """Return the smallest integer multiple of a vector, if there is one with small integers."""
    for k in range(1, 7):
        near = np.rint(k * v)
        if np.abs(k * v - near).max() < 1e-6 * k:
            return near if np.abs(near).max() <= LARGEST else None
    return None


def _same(one: Side, other: Side) -> bool:
    """Tell whether two sides sum the same scalars of a tensor."""
    if one.name.partition("@")[0] != other.name.partition("@")[0]:
        return False
    return bool((np.abs(one.sums - other.sums) <= 1e-13 * (one.sizes + other.sizes)).all())


def spanned(basis: list[Side], made: list[Side]) -> list[Side]:
    """Return those of the made sides whose sums are combinations of the basis.

    Sides of the same scalars as another one are left out.
    """
    if not made or not basis or basis[0].sums.size < len(basis) + 4:
        return []
    b, d = _stacked(basis)[0], _stacked(made)[0]
    largest = np.abs(b).max(1)
    weight = (1 / np.maximum(largest, FAINT * largest.max()))[:, None]
    b, d = b * weight, d * weight
    b = b / np.maximum(np.linalg.norm(b, axis=0), 1e-300)
    u, values, _ = np.linalg.svd(b, full_matrices=False)
    u = u[:, values > RANK * values[0]]
    rest = np.linalg.norm(d - u @ (u.T @ d), axis=0)
    lengths = np.linalg.norm(d, axis=0)
    kept: list[Side] = []
    for s, ok in zip(made, (rest <= 1e-8 * lengths) & (lengths > 0), strict=True):
        if ok and not any(_same(s, t) for t in (*basis, *kept)):
            kept.append(s)
    return kept
