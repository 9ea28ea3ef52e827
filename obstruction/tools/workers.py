"""Worker threads: how many there may be, what they may hold in memory, how they are run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import numpy as np
import psutil

from obstruction.tools.checks import check_count

Task = TypeVar("Task")


def available_threads() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_threads(threads: Any) -> int:
    """Return the number of worker threads: by default all cores, and never more than those.

    Raises
    ------
    ValueError
        If it is not a whole number >= 1.
    """
    present = available_threads()
    return present if threads is None else min(check_count("threads", threads), present)


def check_room(what: str, need: int) -> None:
    """Check that the free memory suffices.

    Parameters
    ----------
    what : str
        The subject of the error: the arguments and what they would make.
    need : int
        The number of bytes needed.

    Raises
    ------
    ValueError
        If less memory is free. The message states both amounts.
    """
    have = psutil.virtual_memory().available
    if need > have:
        raise ValueError(
            f"{what} would need about {need / 2**30:,.1f} GiB of memory; "
            f"{have / 2**30:,.1f} GiB are free"
        )


class Stop:
    """How workers are asked to end before their work is done.

    Attributes
    ----------
    asked : bool
        Whether workers should finish what they are doing and begin nothing else.
    flag : ndarray of uint8, shape (1,)
        1 if they should break off at once. Compiled kernels look at it while they work.
    """

    def __init__(self) -> None:
        self.asked = False
        self.flag = np.zeros(1, np.uint8)


def run_on_threads(
    work: Callable[[Task], None],
    tasks: Iterable[Task],
    *,
    threads: int,
    stop: Stop | None = None,
    watch: Callable[[], None] = lambda: None,
    watch_seconds: float = 0.1,
    grace_seconds: float = 0.0,
) -> None:
    """Do every task on one of several threads, and return when all are done.

    Parameters
    ----------
    work : callable
        Called with each task.
    tasks : iterable
        They are begun in this order.
    threads : int
        Workers, >= 1.
    stop : Stop, optional
        Given to the workers by the caller, and set here when they should end.
    watch : callable, optional
        Called from this thread now and then, and once when all tasks are done.
    watch_seconds : float
        How often, in seconds.
    grace_seconds : float
        How long workers that were asked to end may go on before they are told to break off.

    Notes
    -----
    The first exception in a worker or in ``watch``, and a `KeyboardInterrupt`, end the work: no
    further task is begun, ``stop.asked`` is set, and ``stop.flag`` after the grace. When all
    workers have returned, the exception is raised again.
    """
    stop = Stop() if stop is None else stop
    pool = ThreadPoolExecutor(threads, thread_name_prefix="obstruction")
    workers: list[Future[None]] = []
    try:
        for task in tasks:
            workers.append(pool.submit(work, task))
        pending = set(workers)
        while pending:
            finished, pending = wait(pending, watch_seconds, FIRST_EXCEPTION)
            for worker in finished:
                worker.result()
            watch()
    finally:
        stop.asked = True
        try:
            pool.shutdown(wait=False, cancel_futures=True)
            wait([worker for worker in workers if not worker.cancelled()], grace_seconds)
        finally:  # also if Ctrl-C is pressed again
            stop.flag[0] = 1
            pool.shutdown(wait=True)
