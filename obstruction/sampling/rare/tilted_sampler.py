"""The sampler of rare events, which computes moments of weighted samples from tilted laws."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.sampling.interface import Sampler
from obstruction.sampling.kernels import tilted as kernels
from obstruction.sampling.rare.tilts import Cells, FloatArray, Tilt, edge_and_scale, grouped
from obstruction.sampling.streams import block_key, tilted_path

_PIECE: Final = 16 * kernels.BLOCK
"""The number of samples in a piece. Rounded sums depend on it, so it must never change."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over weighted samples. Those of disjoint sets of samples add up, except for rounding.

    Attributes
    ----------
    sums : dict of int to ndarray of float64, shape (cells, 5)
        The first four power sums of the scaled weights in each cell of a tilt, and the largest of
        these weights. The key is the index of the tilt in `TiltedSampler.tilts`. Tilts without
        samples are left out.
    """

    sums: dict[int, FloatArray]

    def __add__(self, other: Moments) -> Moments:
        joined = self.sums | other.sums
        for place in self.sums.keys() & other.sums.keys():
            mine, theirs = self.sums[place], other.sums[place]
            joined[place] = mine + theirs
            joined[place][:, -1] = np.maximum(mine[:, -1], theirs[:, -1])
        return Moments(joined)


@dataclass(frozen=True, eq=False)
class TiltedSampler(Sampler[list[Moments], Moments]):
    """A sampler of weighted neurons, whose samples under one tilt serve all cells of the tilt.

    A draw is a piece of up to 16,384 samples under one tilt. The pieces are numbered tilt by tilt.
    """

    in_order: ClassVar[bool] = True

    cells: Cells
    samples: int
    seed: int

    @cached_property
    def tilts(self) -> list[Tilt]:
        """The tilts with their cells. Cells with a probability of 0 or 1 have no tilt."""
        return list(grouped(self.cells))

    @property
    def efforts(self) -> FloatArray:
        """The approximate costs of the pieces."""
        return np.repeat([float(tilt.effort) for tilt in self.tilts], self._pieces)

    @property
    def _pieces(self) -> int:
        """The number of pieces under each tilt."""
        return -(-self.samples // _PIECE)

    def tally(self) -> list[Moments]:
        """Return an empty tally."""
        return []

    def count(self, tally: list[Moments], start: int, stop: int, flag: NDArray[np.uint8]) -> bool:
        """Draw pieces and append their moments to the tally."""
        for number in range(start, stop):
            place, piece = divmod(number, self._pieces)
            tilt, first = self.tilts[place], piece * _PIECE // kernels.BLOCK
            samples = min(_PIECE, self.samples - piece * _PIECE)
            blocks = range(first, first + -(-samples // kernels.BLOCK))
            path = tilted_path(self.cells.hidden, tilt.number)
            edge, scale = edge_and_scale(self.cells.hidden, np.asarray(tilt.kappa))
            found = np.zeros((len(tilt.rows), kernels.SUMS))
            if not kernels.sample(
                np.stack([block_key(self.seed, path, block) for block in blocks]),
                samples,
                self.cells.hidden.code,
                self.cells.output.code,
                self.cells.bias.code,
                tilt.kappa,
                float(edge),
                float(scale),
                tilt.columns,
                tilt.first,
                tilt.cells,
                flag,
                found,
            ):
                return False
            tally.append(Moments({place: found}))
        return True

    def result(self, tally: list[Moments]) -> Moments:
        """Return the sum of the moments of the pieces."""
        return reduce(operator.add, tally, Moments({}))
