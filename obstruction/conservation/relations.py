"""Integer relations between columns of numbers, found from their null space."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.law import FloatArray

Relation = dict[int, int]
"""The coefficients, none of them zero, by the numbers of columns."""

INTEGER: Final = 1e-5
"""Coefficients are rounded to integers within this distance; candidates are verified later."""

_LARGEST: Final = 4
_RANK: Final = 1e-9
_FAINT: Final = 1e-9


def relations(columns: FloatArray) -> list[Relation]:
    """Return independent integer vectors ``v`` with ``columns @ v = 0``, simple ones if possible.

    Parameters
    ----------
    columns : ndarray of float64, shape (rows, columns)
        Rows may have any scale. A column that is rounding in all rows is left out.

    Examples
    --------
    >>> a, b = np.random.default_rng(0).standard_normal((2, 9))
    >>> relations(np.stack([a, b, a + b], axis=1))
    [{0: 1, 1: 1, 2: -1}]
    """
    rows = np.abs(columns).max(axis=1, initial=0.0)
    scaled = columns[rows > 0.0] / rows[rows > 0.0, None]
    norms = np.linalg.norm(scaled, axis=0)
    used = np.flatnonzero(norms > _FAINT)
    if scaled.shape[0] < len(used) + 2 or len(used) < 2:
        return []
    norms = norms[used]
    scaled = scaled[:, used] / norms
    if scaled.shape[0] > scaled.shape[1]:
        scaled = np.linalg.qr(scaled, mode="r")
    _, strengths, right = np.linalg.svd(scaled, full_matrices=True)
    rank = int((strengths > _RANK * strengths[0]).sum())
    space = right[rank:] / norms
    found = [v for row in _reduced(space) if (v := _integer(row)) is not None]
    return [{int(used[j]): int(v[j]) for j in np.flatnonzero(v)} for v in simplified(found)]


def _reduced(space: FloatArray) -> FloatArray:
    """Return the reduced row echelon form of a matrix of independent rows."""
    space = space / np.abs(space).max(axis=1, keepdims=True, initial=1e-300)
    row = 0
    for column in range(space.shape[1]):
        if row >= len(space):
            break
        pivot = row + int(np.argmax(np.abs(space[row:, column])))
        if abs(space[pivot, column]) < 1e-6:
            continue
        space[[row, pivot]] = space[[pivot, row]]
        space[row] /= space[row, column]
        others = np.arange(len(space)) != row
        space[others] -= np.outer(space[others, column], space[row])
        row += 1
    return space[:row]


def _integer(vector: FloatArray) -> NDArray[np.int64] | None:
    """Return the smallest multiple of a vector with integer entries, if it is small."""
    for factor in range(1, _LARGEST + 1):
        scaled = factor * vector
        whole = np.rint(scaled)
        if np.abs(scaled - whole).max() < INTEGER * factor and np.abs(whole).max() <= _LARGEST:
            return whole.astype(np.int64)
    return None


def simplified(vectors: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """Return a basis of the same lattice in which few entries of a column have the same sign.

    A scalar that is written in one law and read in another is an edge between two channels. So
    a basis is better if the columns have at most one positive and one negative entry, and among
    those, if its entries are smaller. Sums and differences of pairs of vectors are tried.
    """
    found = [v.copy() for v in vectors]
    improved = len(found) > 1
    while improved:
        improved = False
        cost = _cost(np.array(found))
        for i in range(len(found)):
            for j in range(len(found)):
                if i == j or not (found[i] * found[j]).any():
                    continue
                for sign in (-1, 1):
                    vector = found[i] + sign * found[j]
                    vector = vector // np.gcd.reduce(vector)
                    trial = [*found[:i], vector, *found[i + 1 :]]
                    if (now := _cost(np.array(trial))) < cost:
                        found, cost, improved = trial, now, True
    return found


def _cost(vectors: NDArray[np.int64]) -> tuple[int, int]:
    shared = np.maximum((vectors > 0).sum(0) - 1, 0) + np.maximum((vectors < 0).sum(0) - 1, 0)
    return int(shared.sum()), int(np.abs(vectors).sum())
