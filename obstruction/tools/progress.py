"""The progress bar: one line on standard error, and only on a terminal."""

from __future__ import annotations

import sys
from types import TracebackType

from tqdm import tqdm


class Bar:
    """Shows how much of how much is done, the rate and the time left.

    Parameters
    ----------
    total : int
        The number to reach.
    start : int
        How many there were before.
    unit : str
        What is counted.
    """

    def __init__(self, total: int, start: int = 0, unit: str = " networks") -> None:
        self._bar = tqdm(
            total=total,
            initial=start,
            unit=unit,
            unit_scale=True,
            dynamic_ncols=True,
            leave=False,
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
        )

    def __call__(self, number: int) -> None:
        """Move the bar to a number."""
        self._bar.update(number - self._bar.n)

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
