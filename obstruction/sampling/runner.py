"""The runner of samplers divides the work into ranges and counts them on threads."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, Generic, TypeAlias

from obstruction.sampling.interface import Result, Sampler
from obstruction.tools.workers import Stop, run_on_threads

Range: TypeAlias = tuple[int, int]

_UNIT_SECONDS: Final = 0.2
"""The time that a worker should need for one range of draws."""

_MERGE_SECONDS: Final = 2.0
"""The longest time after which a worker hands over its counts."""

_MERGE_SHARE: Final = 0.01
"""The share of its time that a worker may spend on this. If it takes little, it is done often, and
little is lost when a run is interrupted."""

_GRACE_SECONDS: Final = 0.5
"""The time that workers have to finish their ranges if a run is interrupted."""


class Runner(Generic[Result]):
    """A sampler at work, with the counts of the draws that are done.

    Parameters
    ----------
    sampler : Sampler
    done : iterable of (int, int)
        Ranges ``start ... stop - 1`` of draws that were counted before. They must not overlap.
    counts
        The counts of these draws, which are required if there are any.
    """

    def __init__(
        self,
        sampler: Sampler[Any, Result],
        done: Iterable[Range] = (),
        counts: Result | None = None,
    ) -> None:
        self._sampler = sampler
        self._done = _merged(done)
        if self._done and counts is None:
            raise ValueError(f"counts = None: must be the counts of the draws {self._done}")
        self._counts = counts
        self._target: Range = (0, 0)
        self._early: list[tuple[list[Range], Result]] = []
        self._lock = threading.Lock()

    def snapshot(self) -> tuple[tuple[Range, ...], Result]:
        """Return the ranges of draws that are done, and a copy of their counts.

        The ranges and the counts always belong together, also while `run` is at work.
        """
        nothing = self._sampler.result(self._sampler.tally())
        with self._lock:
            done, counts = tuple(self._done), self._counts
        return done, nothing if counts is None else nothing + counts

    @property
    def counted(self) -> int:
        """The number of draws that are done."""
        return _length(self._done)

    def run(
        self,
        stop: int,
        *,
        start: int = 0,
        threads: int,
        watch: Callable[[int], None] = lambda counted: None,
        watch_seconds: float = 0.1,
    ) -> None:
        """Count until the draws ``start ... stop - 1`` are all done.

        Parameters
        ----------
        start, stop : int
            The range to complete. Draws that were counted before are not counted again.
        threads : int
            The number of workers, >= 1.
        watch : callable, optional
            A function that is called from the caller's thread every ``watch_seconds`` with the
            number of draws counted so far. An exception in it, or a `KeyboardInterrupt`, stops the
            workers within a fraction of a second and is raised again. The counts are kept.

        Raises
        ------
        ValueError
            If sums must be added in order, but a draw after the missing ones was counted before.
        RuntimeError
            If a sampler left draws out although nothing stopped it.
        """
        missing = _missing(self._done, start, stop)
        self._target = start, stop
        if self._sampler.in_order and missing and self._done and missing[0] < self._done[-1]:
            raise ValueError(
                f"start = {start}, stop = {stop}: draws up to {self._done[-1][1] - 1} were counted "
                "before, and sums of floats can only be continued with later draws"
            )
        todo = _Dispenser(missing, threads, self._sampler.least)
        halt = Stop()
        before = self.counted
        try:
            run_on_threads(
                partial(self._work, todo, halt),
                [self._sampler.tally() for _ in range(threads)],
                threads=threads,
                stop=halt,
                watch=lambda: watch(before + todo.counted),
                watch_seconds=watch_seconds,
                grace_seconds=_GRACE_SECONDS,
            )
        finally:
            self._early = []
        if missing := _missing(self._done, start, stop):
            raise RuntimeError(f"draws {missing} were not counted though nothing stopped it")

    def _work(self, todo: _Dispenser, halt: Stop, tally: Any) -> None:
        """Count ranges until none are left, and hand the counts over from time to time."""
        sampler = self._sampler
        most = 1 if sampler.in_order else sampler.most
        pieces: list[Range] = []
        room, cleared, wait = most, time.perf_counter(), 0.0
        while not halt.asked and (piece := todo.take(room)) is not None:
            begun = time.perf_counter()
            if not sampler.count(tally, *piece, halt.flag):
                return
            now = time.perf_counter()
            todo.learn(piece, now - begun)
            pieces.append(piece)
            room -= piece[1] - piece[0]
            if room == 0 or now - cleared > min(wait, _MERGE_SECONDS):
                self._add(pieces, sampler.result(tally))
                tally, pieces, room, cleared = sampler.tally(), [], most, time.perf_counter()
                wait = (cleared - now) / _MERGE_SHARE
        if pieces:
            self._add(pieces, sampler.result(tally))

    def _add(self, pieces: list[Range], counts: Result) -> None:
        """Add the counts of ranges. If the order matters, wait for those of earlier ranges."""
        with self._lock:
            heapq.heappush(self._early, (pieces, counts))
            while self._early and self._is_next(self._early[0][0][0]):
                pieces, counts = heapq.heappop(self._early)
                self._done = _merged([*self._done, *pieces])
                self._counts = counts if self._counts is None else self._counts + counts

    def _is_next(self, piece: Range) -> bool:
        if not self._sampler.in_order:
            return True
        return piece[0] == _missing(self._done, *self._target)[0][0]


class _Dispenser:
    """A source of ranges, whose sizes follow the speed of the machine and are smaller at the end.

    The sizes have no influence on counts.
    """

    def __init__(self, ranges: list[Range], workers: int, least: int) -> None:
        self._ranges = ranges[::-1]
        self._left = _length(ranges)
        self._workers = workers
        self._least = self._size = least
        self._lock = threading.Lock()
        self.counted = 0

    def take(self, most: int) -> Range | None:
        """Return the next range, which has at most ``most`` draws, or None if none is left."""
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
        """Adapt the size of the next ranges to the time that the counting of a range took."""
        draws = piece[1] - piece[0]
        with self._lock:
            self.counted += draws
            wanted = max(self._least, int(draws * _UNIT_SECONDS / max(seconds, 1e-6)))
            self._size = min(wanted, 8 * self._size)


def _length(ranges: Iterable[Range]) -> int:
    return sum(stop - start for start, stop in ranges)


def _merged(ranges: Iterable[Range]) -> list[Range]:
    """Return ranges in ascending order, where those that touch are joined."""
    joined: list[Range] = []
    for start, stop in sorted(ranges):
        if joined and start < joined[-1][1]:
            raise ValueError(f"done: draw {start} lies in two ranges")
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined


def _missing(done: list[Range], start: int, stop: int) -> list[Range]:
    """Return the ranges of ``start ... stop - 1`` that are not done."""
    missing = []
    for begin, end in done:
        if start < min(begin, stop):
            missing.append((start, min(begin, stop)))
        start = max(start, end)
    if start < stop:
        missing.append((start, stop))
    return missing
