"""Sampling: cut the work into ranges of networks, count them on all cores, add the counts up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.sampling import orthogonal, streams
from obstruction.sampling.config import Sheet, StudyConfig, sheets
from obstruction.sampling.counts import Counts
from obstruction.sampling.kernels import networks as kernels
from obstruction.tools.workers import check_room

Range: TypeAlias = tuple[int, int]

_UNIT_SECONDS: Final = 0.2
"""How long a worker should be busy with one range of networks."""

_MERGE_SECONDS: Final = 2.0
"""How long a worker keeps its counts to itself."""

_GRACE_SECONDS: Final = 0.5
"""How long an interrupted run waits for workers to finish their ranges before it drops these."""

_ROWS_IN_FLIGHT: Final = 32_768
"""Neurons that a kernel works on at a time; chosen by measurement, without effect on counts."""

_LARGEST_STEP: Final = 2**31 - 1
"""What an entry of the kernel's difference arrays can hold: a bound on neurons per tally."""

_TABLE_BYTES: Final = 550
"""Memory per cell of the finished table, its statistics and the text of its file."""


def required_memory(config: StudyConfig, threads: int) -> int:
    """Return roughly how many bytes a study of this configuration needs."""
    schemes, nd, nl = config.shape
    cells = schemes * nd * nl
    counts = 2 * 8 * cells
    in_flight = 48 * (max(config.l[-1], _ROWS_IN_FLIGHT) + _ROWS_IN_FLIGHT)
    if config.plan == "nested":
        shared, per_thread = counts + 3 * 8 * cells, 3 * 8 * cells + in_flight
    else:
        shared, per_thread = counts + 3000 * cells, in_flight
    if not all(scheme.independent for scheme in config.schemes):
        per_thread += orthogonal.required_memory(config.d[-1], config.l[-1])
    return shared + threads * per_thread + _TABLE_BYTES * cells


def check_memory(config: StudyConfig, threads: int) -> None:
    """Refuse a study that this machine could not hold.

    Raises
    ------
    ValueError
        If it needs more memory than is available; the message says how much.
    """
    schemes, nd, nl = config.shape
    check_room(
        f"d, l: {schemes} x {nd:,} x {nl:,} cells with up to {config.l[-1]:,} neurons",
        required_memory(config, threads),
    )


def compile_kernels() -> None:
    """Have the kernels compiled or read from the disk, so that what follows is sampling alone."""
    config = StudyConfig.of("xavier_normal", d=1, l=1)
    _Tally(sheets(config), config).count((0, 1), np.zeros(1, np.uint8))


class Sampler:
    """The counts of a study as they grow.

    Parameters
    ----------
    config : StudyConfig
    done : iterable of (int, int)
        Ranges ``start ... stop - 1`` of networks counted before.
    counts : Counts, optional
        The counts of those.

    Attributes
    ----------
    config : StudyConfig
    """

    def __init__(
        self, config: StudyConfig, done: Iterable[Range] = (), counts: Counts | None = None
    ) -> None:
        self.config = config
        counts = Counts.zero(config.shape) if counts is None else counts
        self._done = _merged(done)
        self._networks = counts.networks
        self._obstructed = counts.obstructed.copy()
        self._pathological = counts.pathological.copy()
        self._lock = threading.Lock()

    def snapshot(self) -> tuple[tuple[Range, ...], Counts]:
        """Return the ranges of networks counted so far and their counts, consistently."""
        with self._lock:
            counts = Counts(self._networks, self._obstructed.copy(), self._pathological.copy())
            return tuple(self._done), counts

    @property
    def networks(self) -> int:
        """Networks counted so far."""
        return self._networks

    def run(
        self,
        networks: int,
        *,
        threads: int,
        watch: Callable[[int], None] = lambda networks: None,
        watch_seconds: float = 0.1,
    ) -> None:
        """Count until the networks ``0 ... networks - 1`` are all done.

        Parameters
        ----------
        networks : int
            The total to reach, what was counted before included.
        threads : int
            Workers, >= 1.
        watch : callable, optional
            Called from this thread now and then with the number of networks counted so far.
        watch_seconds : float
            How often.

        Notes
        -----
        An exception in ``watch``, or a `KeyboardInterrupt`, stops the workers within a fraction
        of a second and is raised again; what was counted by then stays in the sampler.
        """
        least = max(1, kernels.CHUNK // self.config.l[-1])  # fewer would leave vectors empty
        todo = _Dispenser(_missing(self._done, networks), threads, least)
        stop = np.zeros(1, np.uint8)
        parts = sheets(self.config)
        before = self.networks
        pool = ThreadPoolExecutor(threads, thread_name_prefix="obstruction")
        workers = [pool.submit(self._work, parts, todo, stop) for _ in range(threads)]
        try:
            pending = set(workers)
            while pending:
                finished, pending = wait(pending, watch_seconds, FIRST_EXCEPTION)
                for worker in finished:
                    worker.result()
                watch(before + todo.counted)
            if missing := _missing(self._done, networks):
                raise RuntimeError(f"networks {missing} were not counted though nothing stopped it")
        finally:
            todo.close()
            wait(workers, _GRACE_SECONDS)
            stop[0] = 1
            pool.shutdown(wait=True)

    def _work(self, parts: list[Sheet], todo: _Dispenser, stop: NDArray[np.uint8]) -> None:
        tally = _Tally(parts, self.config)
        while (piece := todo.take(tally.room_left)) is not None:
            begun = time.perf_counter()
            if not tally.count(piece, stop):
                return
            todo.learn(piece, time.perf_counter() - begun)
            if tally.room_left == 0 or time.perf_counter() - tally.cleared > _MERGE_SECONDS:
                self._merge(tally)
        self._merge(tally)

    def _merge(self, tally: _Tally) -> None:
        found = tally.clear()
        with self._lock:
            for where, (obstructed, pathological) in found.counts:
                self._obstructed[where] += obstructed
                self._pathological[where] += pathological
            self._networks += sum(end - start for start, end in found.pieces)
            self._done = _merged([*self._done, *found.pieces])


class _Found(NamedTuple):
    """Counts, per part of the grid, and the ranges of networks that they are of."""

    counts: list[tuple[Any, NDArray[np.int64]]]
    pieces: list[Range]


class _Tally:
    """What one worker has counted since it last handed it over, as difference arrays."""

    def __init__(self, parts: list[Sheet], config: StudyConfig) -> None:
        self._parts = parts
        self._seed = config.seed
        self._steps = [np.zeros((2, *sheet.grid.thresholds.shape), np.int32) for sheet in parts]
        self._room = kernels.Room.of(max(_ROWS_IN_FLIGHT, config.l[-1]), _ROWS_IN_FLIGHT)
        self._most = max(1, _LARGEST_STEP // config.l[-1])
        self._pieces: list[Range] = []
        self.room_left = self._most
        self.cleared = time.perf_counter()

    def count(self, piece: Range, stop: NDArray[np.uint8]) -> bool:
        """Count a range of networks; if that is stopped, the whole tally is worthless."""
        for sheet, steps in zip(self._parts, self._steps, strict=True):
            for block, first, count in streams.pieces(*piece):
                if not self._count(sheet, block, first, count, stop, *steps):
                    return False
        self._pieces.append(piece)
        self.room_left -= piece[1] - piece[0]
        return True

    def _count(
        self,
        sheet: Sheet,
        block: int,
        first: int,
        count: int,
        stop: NDArray[np.uint8],
        obstructed: NDArray[np.int32],
        pathological: NDArray[np.int32],
    ) -> bool:
        """Count networks of one block; return whether that was not stopped."""
        key = streams.block_key(self._seed, sheet.path, block)
        if not sheet.independent:
            return orthogonal.count(key, first, count, sheet.grid, stop, obstructed, pathological)
        batch = max(1, _ROWS_IN_FLIGHT // sheet.grid.row_cell.size)
        return bool(
            kernels.count_nested(
                key,
                sheet.codes,
                first,
                count,
                sheet.grid,
                batch,
                self._room,
                stop,
                obstructed,
                pathological,
            )
        )

    def clear(self) -> _Found:
        """Hand everything over and start again from zero."""
        counts = [
            (sheet.where, np.cumsum(steps[..., :-1], axis=-1, dtype=np.int64))
            for sheet, steps in zip(self._parts, self._steps, strict=True)
        ]
        for steps in self._steps:
            steps[...] = 0
        pieces, self._pieces = self._pieces, []
        self.room_left = self._most
        self.cleared = time.perf_counter()
        return _Found(counts, pieces)


class _Dispenser:
    """Hands out ranges of networks that keep a worker busy for a while, shorter near the end."""

    def __init__(self, ranges: list[Range], workers: int, least: int) -> None:
        self._ranges = ranges[::-1]
        self._left = sum(stop - start for start, stop in ranges)
        self._workers = workers
        self._least = self._size = least
        self._lock = threading.Lock()
        self.counted = 0

    def take(self, most: int) -> Range | None:
        """Return the next range, of at most so many networks, or None if there is no more."""
        with self._lock:
            if not self._ranges:
                return None
            start, stop = self._ranges.pop()
            share = max(self._least, self._left // (2 * self._workers))
            end = min(start + min(self._size, share, most), stop)
            self._left -= end - start
            if end < stop:
                self._ranges.append((end, stop))
            return start, end

    def learn(self, piece: Range, seconds: float) -> None:
        """Note that a range is counted, and adapt the size; that has no influence on counts."""
        networks = piece[1] - piece[0]
        with self._lock:
            self.counted += networks
            wanted = max(self._least, int(networks * _UNIT_SECONDS / max(seconds, 1e-6)))
            self._size = min(wanted, 8 * self._size)

    def close(self) -> None:
        """Hand out nothing any more."""
        with self._lock:
            self._ranges = []


def _merged(ranges: Iterable[Range]) -> list[Range]:
    """Join ranges that touch."""
    joined: list[Range] = []
    for start, stop in sorted(ranges):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined


def _missing(done: Iterable[Range], networks: int) -> list[Range]:
    """Return the ranges of ``0 ... networks - 1`` that are not done."""
    missing, start = [], 0
    for begin, end in _merged(done):
        if start < min(begin, networks):
            missing.append((start, min(begin, networks)))
        start = end
    if start < networks:
        missing.append((start, networks))
    return missing
