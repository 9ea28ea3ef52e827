"""Limits of the machine: how many threads may run and how much memory is free."""

from __future__ import annotations

import os
from typing import Any

import psutil

from obstruction.tools.checks import check_count


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
