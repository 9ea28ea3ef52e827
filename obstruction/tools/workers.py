"""Worker threads: how many of them and how much memory may be used, and how they are run."""

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
    """Return the number of worker threads: by default all cores, and never more than those."""
    present = available_threads()
    return present if threads is None else min(check_count("threads", threads), present)


def check_room(what: str, need: int) -> None:
    """Raise a `ValueError` about ``what`` if less than ``need`` bytes of memory are free."""
    have = psutil.virtual_memory().available
    if need > have:
        raise ValueError(
            f"{what} would need about {need / 2**30:,.1f} GiB of memory; "
            f"{have / 2**30:,.1f} GiB are free"
        )


class Stop:
    """A request that workers end before their work is done.

    If ``asked`` is True, workers should finish their current task and begin no other. If ``flag``,
    a uint8 array of shape (1,), holds 1, they should break off at once. Compiled kernels look at
    the flag while they work.
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
    """Do every task, in this order, on one of several threads, and return when all are done.

    The function ``watch`` is called from the caller's thread every ``watch_seconds`` and once when
    all tasks are done.

    If the system does not let the process start a thread, a `ValueError` says so.

    An exception in a worker or in ``watch``, or a `KeyboardInterrupt`, ends the work: no further
    task is begun, ``stop.asked`` is set, and ``stop.flag`` is set ``grace_seconds`` later. When all
    workers have returned, the exception is raised again.
    """
    stop = Stop() if stop is None else stop
    pool = ThreadPoolExecutor(threads, thread_name_prefix="obstruction")
    workers: list[Future[None]] = []
    try:
        for task in tasks:
            try:
                workers.append(pool.submit(work, task))
            except RuntimeError as error:
                raise ValueError(
                    f"threads = {threads}: the system let this process start only {len(workers)} "
                    f"({error})"
                ) from error
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
