"""Worker threads: how many there may be, and what they may hold in memory."""

from __future__ import annotations

import os
from typing import Any

import psutil

from obstruction.tools.checks import check_count


def available_threads() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_threads(threads: Any) -> int:
    """Return the number of workers: all cores by default, and never more than those.

    Raises
    ------
    ValueError
        If it is not a whole number >= 1.
    """
    present = available_threads()
    return present if threads is None else min(check_count("threads", threads), present)


def check_room(what: str, need: int) -> None:
    """Refuse what this machine could not hold.

    Parameters
    ----------
    what : str
        The arguments that ask for it and what they ask for: the subject of the message.
    need : int
        Bytes.

    Raises
    ------
    ValueError
        If that is more than is available; the message says how much.
    """
    have = psutil.virtual_memory().available
    if need > have:
        raise ValueError(
            f"{what} would need about {need / 2**30:,.1f} GiB of memory; "
            f"{have / 2**30:,.1f} GiB are free"
        )
