"""What balances freeze, where some parameters are replaced by the combinations that can move.

If the gradient of every row of a parameter lies in a space with the orthonormal basis ``U``, the
components of the row across this space are constant. So the balances hold with the coordinates
``row @ U`` in place of the scalars, and the theorem about cuts judges the coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from obstruction.auditing.live.rows import Positions, Rows, channels, labels_of_rows
from obstruction.conservation.law import FloatArray
from obstruction.conservation.laws import Laws
from obstruction.topology.systems import (
    FrozenScalar,
    FrozenScalars,
    Membership,
    System,
    Tensor,
    frozen_scalars,
)

NONE = FrozenScalars((), (), {})


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
        _memberships(laws, one) is not None
        and one.term.coefficient == replacement.rows[0].term.coefficient
        for one in replacement.rows
    )


def _memberships(laws: Laws, rows: Rows) -> list[tuple[int, Positions, int]] | None:
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


class Balances:
    """The balances of a model, one node for each, law after law.

    Parameters
    ----------
    laws : Laws
    replacements : sequence of Replacement
        Those for which `fits` is true, of different parameters.
    rtol : float
        The relative tolerance within which a balance counts as zero.
    """

    def __init__(self, laws: Laws, replacements: Sequence[Replacement], *, rtol: float) -> None:
        self._laws = laws
        self._numbers = [number for number, law in channels(laws) if law.kind == "balance"]
        sizes = [laws[number].labels for number in self._numbers]
        self._firsts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._replaced = {name: one for one in replacements for name in one.tensors}
        self._first = dict(zip(self._numbers, self._firsts.tolist(), strict=False))
        self.found = NONE
        if self._numbers:
            tensors, values = self._tensors(replacements)
            nodes = int(self._firsts[-1])
            self.found = frozen_scalars(System.from_weights(nodes, tensors, values, rtol=rtol))

    def _tensors(
        self, replacements: Sequence[Replacement]
    ) -> tuple[list[Tensor], dict[str, FloatArray]]:
        laws = self._laws
        members: dict[str, list[Membership]] = {}
        for number, first in self._first.items():
            for term in laws[number].terms:
                if term.tensor not in self._replaced:
                    one = Membership(first, term.labels, term.coefficient)
                    members.setdefault(term.tensor, []).append(one)
        tensors = [Tensor(name, laws.shapes[name], tuple(all_)) for name, all_ in members.items()]
        values = dict(laws.parameters)
        for replacement in replacements:
            coordinates = replacement.coordinates(laws.parameters)
            entries = [
                Membership(self._first[number], labels[:, None], coefficient)
                for number, labels, coefficient in _memberships(laws, replacement.rows[0]) or []
            ]
            if entries:
                tensors.append(Tensor(replacement.name, coordinates.shape, tuple(entries)))
                values[replacement.name] = coordinates
        return tensors, values

    def replaced(self, one: FrozenScalar) -> Replacement | None:
        """Return what stands in place of the parameter of a scalar."""
        return self._replaced.get(one.tensor)

    def named(self, nodes: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Return the number of the law and the index in it for each node."""
        places = np.searchsorted(self._firsts, nodes, side="right") - 1
        return tuple(
            (self._numbers[place], int(node - self._firsts[place]))
            for place, node in zip(places, nodes, strict=True)
        )
