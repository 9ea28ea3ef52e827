"""The result of counting: integer numbers of networks and neurons, which add up exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Counts:
    """Integer counts over a grid; the counts of disjoint sets of networks can be added.

    Attributes
    ----------
    networks : int
        Networks drawn in every cell.
    obstructed : ndarray of int64, shape (schemes, nd, nl)
        Networks with at least one pathological neuron.
    pathological : ndarray of int64, shape (schemes, nd, nl)
        Pathological neurons, summed over the networks.

    Examples
    --------
    >>> one = Counts(10, np.full((1, 1, 1), 3), np.full((1, 1, 1), 4))
    >>> both = one + one
    >>> both.networks, int(both.obstructed[0, 0, 0]), int(both.pathological[0, 0, 0])
    (20, 6, 8)
    """

    networks: int
    obstructed: IntArray
    pathological: IntArray

    @classmethod
    def zero(cls, shape: tuple[int, int, int]) -> Counts:
        """Return the counts of zero networks."""
        return cls(0, np.zeros(shape, np.int64), np.zeros(shape, np.int64))

    def __post_init__(self) -> None:
        if self.obstructed.shape != self.pathological.shape:
            raise ValueError(
                f"obstructed has shape {self.obstructed.shape}, "
                f"pathological {self.pathological.shape}: the shapes must be equal"
            )

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.networks + other.networks,
            self.obstructed + other.obstructed,
            self.pathological + other.pathological,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Counts):
            return NotImplemented
        return (
            self.networks == other.networks
            and np.array_equal(self.obstructed, other.obstructed)
            and np.array_equal(self.pathological, other.pathological)
        )
