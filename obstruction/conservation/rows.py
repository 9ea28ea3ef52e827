"""The scalars of one parameter in a law, as a matrix with a row for each channel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.law import FloatArray, Law, Term, slices
from obstruction.conservation.laws import Laws

Positions: TypeAlias = NDArray[np.int64]

KINDS = ("balance", "matrix")
"""The kinds of laws that have channels, which are written and read."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The scalars of a parameter that enter a law, one row for each label.

    Attributes
    ----------
    law : int
        The number of the law.
    term : Term
    places : ndarray of int64, shape (labels, scalars)
        The index of each scalar in the flattened parameter.
    """

    law: int
    term: Term
    places: Positions

    @property
    def tensor(self) -> str:
        """The name of the parameter."""
        return self.term.tensor

    def of(self, values: FloatArray) -> FloatArray:
        """Return the entries of an array that has the shape of the parameter."""
        flat: FloatArray = values.reshape(-1)[self.places]
        return flat


def channels(laws: Laws) -> Iterator[tuple[int, Law]]:
    """Yield the laws that have channels, with their numbers."""
    for number, law in enumerate(laws):
        if law.kind in KINDS:
            yield number, law


def rows_of(laws: Laws, number: int, term: Term) -> Rows | None:
    """Return the rows of a term, None if a label stands at several places or at none."""
    law = laws[number]
    shape = laws.shapes[term.tensor]
    flat = term.labels.reshape(-1)
    if flat.size != law.labels or not np.array_equal(np.sort(flat), np.arange(law.labels)):
        return None
    numbers = np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.int64).reshape(shape)
    (places,) = slices(numbers, term.labels, law.labels)
    return Rows(number, term, places.astype(np.int64))


def labels_of_rows(rows: Rows, labels: Positions, shape: tuple[int, ...]) -> Positions | None:
    """Return the label that each row has in another term; None if the scalars of a row differ."""
    other = np.broadcast_to(labels, shape).reshape(-1)[rows.places]
    first: Positions = other[:, 0]
    return first if (other == first[:, None]).all() else None
