"""Combinations of the weights of linear neurons that cannot vanish.

Between the rows ``W`` that write linear neurons and those that read them, ``M = W Wᵀ - Vᵀ V`` is
conserved. If every neuron is read by one scalar and ``M`` has an eigenvalue ``-s < 0`` with the
eigenvector ``q``, then ``(v · q)² = s + ‖Wᵀ q‖² >= s`` for ever. The same holds for neurons that
are written by one scalar, and positive eigenvalues.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np
import scipy

from obstruction.conservation.coordinates import Replacement
from obstruction.conservation.law import FloatArray, Law, slices
from obstruction.conservation.laws import Laws
from obstruction.conservation.rows import channels

LARGEST: Final = 3_000
"""Blocks with a larger side are not decided."""


class Combination(NamedTuple):
    """A combination of one scalar of each linear neuron, which cannot vanish.

    Attributes
    ----------
    law, block : int
        The number of the law, and of the block in it.
    tensor : str
        The parameter that holds the scalars.
    value, least : float
        The present value, and the smallest absolute value that it can take.
    """

    law: int
    block: int
    tensor: str
    value: float
    least: float


def combinations(
    laws: Laws, replacements: Mapping[str, Replacement], *, rtol: float
) -> tuple[list[Combination], int]:
    """Return the combinations that cannot vanish, and the number of blocks that are too large."""
    found: list[Combination] = []
    undecided = 0
    for number, law in channels(laws):
        if law.kind != "matrix":
            continue
        parts = {sign: list(_parts(laws, law, sign, replacements)) for sign in (1, -1)}
        for sign, mine in parts.items():
            if sum(rows.shape[1] for _, rows, _ in mine) != 1:
                continue
            if law.block > LARGEST:
                undecided += law.labels // law.block
                continue
            found += _combinations(number, law, mine[0], parts[-sign], rtol)
    return found, undecided


def _parts(
    laws: Laws, law: Law, sign: int, replacements: Mapping[str, Replacement]
) -> Iterator[tuple[str, FloatArray, int]]:
    """Yield the parameter, the rows and the factor of all terms on one side."""
    done: set[str] = set()
    for term in law.terms:
        if term.coefficient * sign <= 0 or term.tensor in done:
            continue
        replacement = replacements.get(term.tensor)
        factor = abs(term.coefficient)
        if replacement is not None and laws[replacement.rows[0].law] is law:
            done.update(replacement.tensors)
            yield replacement.name, replacement.coordinates(laws.parameters), factor
        else:
            for rows in slices(laws.parameters[term.tensor], term.labels, law.labels):
                yield term.tensor, rows, factor


def _combinations(
    number: int,
    law: Law,
    single: tuple[str, FloatArray, int],
    others: list[tuple[str, FloatArray, int]],
    rtol: float,
) -> Iterator[Combination]:
    tensor, column, factor = single
    side = law.block
    for block in range(law.labels // side):
        place = slice(block * side, (block + 1) * side)
        v = column[place, 0] * factor**0.5
        wide = np.concatenate([rows[place] * n**0.5 for _, rows, n in others], axis=1)
        unit = max(float(np.abs(v).max()), float(np.abs(wide).max()))
        if unit == 0.0:
            continue
        v, wide = v / unit, wide / unit
        matrix = wide @ wide.T - np.outer(v, v)
        value, vectors = scipy.linalg.eigh(matrix, subset_by_index=[0, 0])
        size = max(float(v @ v), float(np.square(wide).sum()))
        if value[0] < -max(rtol, 1e-12) * size:
            root = factor**0.5 / unit
            least = float(np.sqrt(-value[0])) / root
            yield Combination(number, block, tensor, float(v @ vectors[:, 0]) / root, least)
