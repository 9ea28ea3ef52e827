"""What balances freeze, where some parameters are replaced by the combinations that can move.

The balances hold with coordinates in place of the scalars (`obstruction.conservation.coordinates`),
and the theorem about cuts judges the coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.coordinates import Replacement, memberships
from obstruction.conservation.law import FloatArray
from obstruction.conservation.laws import Laws
from obstruction.conservation.rows import channels
from obstruction.topology.systems import (
    FrozenScalar,
    FrozenScalars,
    Membership,
    System,
    Tensor,
    frozen_scalars,
)

NONE = FrozenScalars((), (), {})


def _constant(laws: Laws) -> dict[str, NDArray[np.bool_]]:
    """Return for parameters with constant entries which they are."""
    found: dict[str, NDArray[np.bool_]] = {}
    for law in laws:
        for term in law.terms if law.kind == "constant" else ():
            mask = np.broadcast_to(term.labels >= 0, laws.shapes[term.tensor])
            found[term.tensor] = found.get(term.tensor, np.zeros((), np.bool_)) | mask
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
        constant = _constant(laws)
        members: dict[str, list[Membership]] = {}
        for number, first in self._first.items():
            for term in laws[number].terms:
                if term.tensor not in self._replaced:
                    labels = term.labels
                    if term.tensor in constant:  # what never moves leaves the balance
                        labels = np.where(constant[term.tensor], -1, labels)
                    one = Membership(first, labels, term.coefficient)
                    members.setdefault(term.tensor, []).append(one)
        tensors = [Tensor(name, laws.shapes[name], tuple(all_)) for name, all_ in members.items()]
        values = dict(laws.parameters)
        for replacement in replacements:
            coordinates = replacement.coordinates(laws.parameters)
            entries = [
                Membership(self._first[number], labels[:, None], coefficient)
                for number, labels, coefficient in memberships(laws, replacement.rows[0]) or []
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
