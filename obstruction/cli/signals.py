"""Signals that end a command: Ctrl-C, SIGTERM, and SIGHUP, which a closed terminal sends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final

_ENDING: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""The signals that end a command; not every system has all of them."""


@contextlib.contextmanager
def signals(*, once: bool = True) -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl-C does, with 128 + the number.

    With ``once``, all later signals of the three are ignored until the block ends, so that it can
    save its work. SIGHUP stays ignored if it is, as under ``nohup``. In threads other than the main
    one, which get no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        for one in before if once else ():
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt(128 + number)

    before = {number: signal.getsignal(number) for number in _ENDING}
    if "SIGHUP" in signal.Signals.__members__ and before[signal.SIGHUP] == signal.SIG_IGN:
        del before[signal.SIGHUP]
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def code_of(interruption: BaseException) -> int:
    """Return the exit code after an interruption: 128 and the number of the signal."""
    first = interruption.args[0] if interruption.args else None
    return first if isinstance(first, int) else 128 + signal.SIGINT
