"""The sampler that counts obstructed networks and pathological neurons in every cell of a grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from obstruction.sampling import orthogonal, streams
from obstruction.sampling.config import StudyConfig
from obstruction.sampling.counts import Counts
from obstruction.sampling.grid_parts import GridPart, grid_parts
from obstruction.sampling.interface import Sampler
from obstruction.sampling.kernels import networks as kernels
from obstruction.tools.workers import check_room

_ROWS_IN_FLIGHT: Final = 32_768
"""The number of neurons that a kernel works on at a time. It affects only the speed."""

_LARGEST_STEP: Final = 2**31 - 1
"""The largest entry of the kernel's difference arrays, which bounds the neurons per tally."""

_TABLE_BYTES: Final = 550
"""The bytes per cell of the finished table, its statistics and the text of its file."""


@dataclass
class GridTally:
    """The counts of a worker, and its working memory.

    Attributes
    ----------
    steps : list of ndarray of int32, shape (2, schemes, nd, nl + 1)
        The numbers of obstructed networks and of pathological neurons in each part of the grid, as
        differences along ``l``.
    room : Room
        The kernel's working memory.
    networks : int
        The number of networks counted.
    """

    steps: list[NDArray[np.int32]]
    room: kernels.Room
    networks: int = 0


@dataclass(frozen=True)
class GridSampler(Sampler[GridTally, Counts]):
    """A sampler of networks of two layers, each counted in all cells of a grid."""

    config: StudyConfig

    @cached_property
    def _parts(self) -> list[GridPart]:
        return grid_parts(self.config)

    @property
    def least(self) -> int:
        """The number of networks that fill a vector of the kernel."""
        return max(1, kernels.CHUNK // self.config.l[-1])

    @property
    def most(self) -> int:
        """The number of networks that have fewer than 2^31 neurons together."""
        return max(1, _LARGEST_STEP // self.config.l[-1])

    def tally(self) -> GridTally:
        """Return an empty tally."""
        steps = [np.zeros((2, *part.grid.thresholds.shape), np.int32) for part in self._parts]
        most = max(_ROWS_IN_FLIGHT, self.config.l[-1])
        return GridTally(steps, kernels.Room.of(most, _ROWS_IN_FLIGHT))

    def count(self, tally: GridTally, start: int, stop: int, flag: NDArray[np.uint8]) -> bool:
        """Count networks in all parts of the grid."""
        for part, steps in zip(self._parts, tally.steps, strict=True):
            for block, first, count in streams.pieces(start, stop):
                key = streams.block_key(self.config.seed, part.path, block)
                if part.independent:
                    batch = max(1, _ROWS_IN_FLIGHT // part.grid.row_cell.size)
                    finished = kernels.count_nested(
                        key, part.codes, first, count, part.grid, batch, tally.room, flag, *steps
                    )
                else:
                    finished = orthogonal.count(key, first, count, part.grid, flag, *steps)
                if not finished:
                    return False
        tally.networks += stop - start
        return True

    def result(self, tally: GridTally) -> Counts:
        """Return the counts, which are cumulative sums of the differences."""
        counts = Counts.zero(self.config.shape)
        for part, steps in zip(self._parts, tally.steps, strict=True):
            for table, step in zip((counts.obstructed, counts.pathological), steps, strict=True):
                table[part.where] = np.cumsum(step[..., :-1], axis=-1, dtype=np.int64)
        return Counts(tally.networks, counts.obstructed, counts.pathological)

    def required_memory(self, threads: int) -> int:
        """Return roughly how many bytes a study needs, its table included."""
        config = self.config
        schemes, nd, nl = config.shape
        cells = schemes * nd * nl
        counts = 2 * 8 * cells
        in_flight = 48 * (max(config.l[-1], _ROWS_IN_FLIGHT) + _ROWS_IN_FLIGHT)
        if config.plan == "nested":
            shared, per_thread = 2 * counts + 3 * 8 * cells, 4 * 8 * cells + in_flight
        else:
            shared, per_thread = counts + 3000 * cells, in_flight
        if not all(scheme.independent for scheme in config.schemes):
            per_thread += orthogonal.required_memory(config.d[-1], config.l[-1])
        return shared + threads * per_thread + _TABLE_BYTES * cells

    def check_memory(self, threads: int) -> None:
        """Raise a `ValueError` if the study does not fit into the free memory."""
        schemes, nd, nl = self.config.shape
        check_room(
            f"d, l: {schemes} x {nd:,} x {nl:,} cells with up to {self.config.l[-1]:,} neurons",
            self.required_memory(threads),
        )


@cache
def compile_kernels() -> None:
    """Compile the kernels or read them from the disk, which should not count as sampling time."""
    small = GridSampler(StudyConfig.of("xavier_normal", d=1, l=1))
    small.count(small.tally(), 0, 1, np.zeros(1, np.uint8))
