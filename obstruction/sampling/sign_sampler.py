"""The sampler of signs: count networks whose frozen output weights put a target out of reach.

A function that needs at least ``m+`` positive and ``m-`` negative output weights cannot be
learned by gradient flow from a network of which more than ``l - m-`` output weights are frozen
positive, or more than ``l - m+`` frozen negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from obstruction.sampling import streams
from obstruction.sampling.config import StudyConfig
from obstruction.sampling.grid_parts import GridPart, grid_parts
from obstruction.sampling.grid_sampler import GridSampler
from obstruction.sampling.interface import Sampler
from obstruction.sampling.kernels import signs as kernels
from obstruction.tools.workers import check_room


@dataclass(frozen=True, eq=False)
class SignCounts:
    """Integer counts over a grid. Those of disjoint sets of networks add up.

    Attributes
    ----------
    unreachable : ndarray of int64, shape (schemes, nd, nl)
        Networks that cannot reach the target.
    frozen : ndarray of int64, shape (2, schemes, nd, nl)
        Frozen positive and frozen negative output weights, summed over the networks.
    """

    unreachable: NDArray[np.int64]
    frozen: NDArray[np.int64]

    @classmethod
    def zero(cls, shape: tuple[int, int, int]) -> SignCounts:
        """Return the counts of no network at all."""
        return cls(np.zeros(shape, np.int64), np.zeros((2, *shape), np.int64))

    def __add__(self, other: SignCounts) -> SignCounts:
        return SignCounts(self.unreachable + other.unreachable, self.frozen + other.frozen)


@dataclass(frozen=True)
class SignSampler(Sampler[SignCounts, SignCounts]):
    """The networks of a grid, judged by the signs of their frozen output weights.

    Parameters
    ----------
    config : StudyConfig
        Its schemes must have independent weights.
    positive, negative : tuple of int
        For each ``l`` of the grid, how many output weights of either sign the target needs at
        least; together at most ``l``.
    """

    config: StudyConfig
    positive: tuple[int, ...]
    negative: tuple[int, ...]

    @cached_property
    def _parts(self) -> list[GridPart]:
        return grid_parts(self.config)

    def tally(self) -> SignCounts:
        """Return counts of no network."""
        return SignCounts.zero(self.config.shape)

    def count(self, tally: SignCounts, start: int, stop: int, flag: NDArray[np.uint8]) -> bool:
        """Count networks in all parts of the grid."""
        needs = np.array([self.config.l, self.positive, self.negative], np.int64)
        for part in self._parts:
            found = SignCounts.zero(part.grid.thresholds[..., :-1].shape)
            for block, first, count in streams.pieces(start, stop):
                if not kernels.count_unreachable(
                    streams.block_key(self.config.seed, part.path, block),
                    part.codes,
                    first,
                    count,
                    part.grid,
                    *needs[:, part.where[2]],
                    flag,
                    found.unreachable,
                    found.frozen,
                ):
                    return False
            tally.unreachable[part.where] += found.unreachable
            tally.frozen[:, *part.where] += found.frozen
        return True

    def check_memory(self, threads: int) -> None:
        """Refuse networks or a grid that this machine could not hold, with a `ValueError`."""
        d, l = self.config.d[-1], self.config.l[-1]
        check_room(
            f"d, l: {threads} networks of {l:,} neurons with {d:,} inputs each",
            threads * 16 * l * (d + 4),
        )
        GridSampler(self.config).check_memory(threads)
