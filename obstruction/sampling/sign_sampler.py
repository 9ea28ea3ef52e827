"""The sampler that counts networks whose frozen output weights put a target out of reach.

Let a target function need at least ``m+`` positive and ``m-`` negative output weights. Gradient
flow cannot learn it from a network in which more than ``l - m-`` output weights are frozen positive
or more than ``l - m+`` are frozen negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.sampling import streams
from obstruction.sampling.config import StudyConfig
from obstruction.sampling.grid_parts import GridPart, grid_parts
from obstruction.sampling.grid_sampler import GridSampler
from obstruction.sampling.interface import Sampler
from obstruction.sampling.kernels import signs as kernels
from obstruction.tools.workers import check_room

SignCounts: TypeAlias = NDArray[np.int64]
"""Counts of shape ``(3, schemes, nd, nl)``.

They are the numbers of networks that cannot reach the target, of frozen positive and of frozen
negative output weights.
"""


@dataclass(frozen=True)
class SignSampler(Sampler[SignCounts, SignCounts]):
    """A sampler of networks that are judged by the signs of their frozen output weights.

    Parameters
    ----------
    config : StudyConfig
        Its schemes must have independent weights.
    positive, negative : tuple of int
        The least numbers of positive and of negative output weights that the target needs for each
        ``l`` of the grid. Their sum is at most ``l``.
    """

    config: StudyConfig
    positive: tuple[int, ...]
    negative: tuple[int, ...]

    @cached_property
    def _parts(self) -> list[GridPart]:
        return grid_parts(self.config)

    def tally(self) -> SignCounts:
        """Return zero counts."""
        return np.zeros((3, *self.config.shape), np.int64)

    def count(self, tally: SignCounts, start: int, stop: int, flag: NDArray[np.uint8]) -> bool:
        """Count networks in all parts of the grid."""
        needs = np.array([self.config.l, self.positive, self.negative], np.int64)
        for part in self._parts:
            found = np.zeros((3, *part.grid.thresholds[..., :-1].shape), np.int64)
            for block, first, count in streams.pieces(start, stop):
                if not kernels.count_unreachable(
                    streams.block_key(self.config.seed, part.path, block),
                    part.codes,
                    first,
                    count,
                    part.grid,
                    *needs[:, part.where[2]],
                    flag,
                    found[0],
                    found[1:],
                ):
                    return False
            tally[:, *part.where] += found
        return True

    def check_memory(self, threads: int) -> None:
        """Raise a `ValueError` if the networks or the grid do not fit into the free memory."""
        d, l = self.config.d[-1], self.config.l[-1]
        check_room(
            f"d, l: {threads} networks of {l:,} neurons with {d:,} inputs each",
            threads * 16 * l * (d + 4),
        )
        GridSampler(self.config).check_memory(threads)
