"""A progress bar on standard error, which is shown on a terminal only."""

from __future__ import annotations

import contextlib
import sys

from tqdm import tqdm


class Bar:
    """A bar that shows how much of ``total`` is done, at what rate, and how much time is left.

    Without a total it shows the number and the rate.
    """

    def __init__(self, total: int | None, start: int = 0, unit: str = " networks") -> None:
        self._bar = tqdm(
            total=total,
            initial=start,
            unit=unit,
            unit_scale=True,
            dynamic_ncols=True,
            leave=False,
            file=sys.stderr,
            disable=sys.stderr is None or not sys.stderr.isatty(),
        )

    def __call__(self, number: int) -> None:
        """Move the bar to a number that was reached."""
        self._bar.update(number - self._bar.n)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()


def tell(line: str) -> None:
    """Print a line on standard error, above a bar if there is one; nothing if that is closed."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        tqdm.write(line, file=sys.stderr)
