"""Combinations of the scalars in a law, in place of these where only few combinations can move.

If the gradient of every row of a parameter lies in a space with the orthonormal basis ``U``, the
components of the row across this space are constant. So the balances hold with the coordinates
``row @ U`` in place of the scalars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from obstruction.conservation.law import FloatArray
from obstruction.conservation.laws import Laws
from obstruction.conservation.rows import Positions, Rows, channels, labels_of_rows


@dataclass(frozen=True, eq=False)
class Replacement:
    """Coordinates in place of the scalars of one or several parameters.

    Attributes
    ----------
    rows : tuple of Rows
        The rows of the parameters, which are placed side by side; all are of one law.
    basis : ndarray of float64, shape (scalars, dimensions)
        Orthonormal columns.
    cause : {"outputs", "data"}
        Why the rows move in a space only.
    """

    rows: tuple[Rows, ...]
    basis: FloatArray
    cause: str

    @property
    def name(self) -> str:
        """The name that the coordinates have in the system."""
        return self.rows[0].tensor

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of the parameters that are replaced."""
        return tuple(one.tensor for one in self.rows)

    def coordinates(self, parameters: Mapping[str, FloatArray]) -> FloatArray:
        """Return the coordinates of all rows, shape ``(labels, dimensions)``."""
        whole = np.concatenate([one.of(parameters[one.tensor]) for one in self.rows], axis=1)
        unit = float(np.abs(whole).max()) or 1.0
        product: FloatArray = ((whole / unit) @ self.basis) * unit
        return product


def fits(laws: Laws, replacement: Replacement) -> bool:
    """Return whether the other laws of the parameters treat all scalars of a row alike."""
    return all(
        memberships(laws, one) is not None
        and one.term.coefficient == replacement.rows[0].term.coefficient
        for one in replacement.rows
    )


def memberships(laws: Laws, rows: Rows) -> list[tuple[int, Positions, int]] | None:
    """Return for each balance of a parameter the labels of its rows, and the coefficient."""
    found = []
    for number, law in channels(laws):
        for term in law.terms:
            if term.tensor != rows.tensor:
                continue
            labels = labels_of_rows(rows, term.labels, laws.shapes[rows.tensor])
            if labels is None:
                return None
            if law.kind == "balance":
                found.append((number, labels, term.coefficient))
    return found
