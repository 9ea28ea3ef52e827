"""Numbers and lists in words, powers, durations, and columns of aligned text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

_SUPERSCRIPTS: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def plural(number: float, noun: str) -> str:
    """Return a noun with an s, or without one if the number is 1."""
    return noun if number == 1 else f"{noun}s"


def counted(number: int, noun: str) -> str:
    """Return a number and the noun that it counts.

    Examples
    --------
    >>> counted(1, "neuron"), counted(2000, "neuron")
    ('1 neuron', '2,000 neurons')
    """
    return f"{number:,} {plural(number, noun)}"


def listed(words: Iterable[object]) -> str:
    """Return one word or several as a list in a sentence.

    Examples
    --------
    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    *others, last = map(str, words)
    return f"{', '.join(others)} and {last}" if others else last


def superscript(number: int) -> str:
    """Return a whole number in raised digits.

    Examples
    --------
    >>> superscript(-12)
    '⁻¹²'
    """
    return str(number).translate(_SUPERSCRIPTS)


def power_of_two(exponent: int, *, below: int) -> str:
    """Return a power of two, and what it is if the exponent is below a limit.

    Examples
    --------
    >>> power_of_two(10, below=40), power_of_two(40, below=40)
    ('2^10 = 1,024', '2^40')
    """
    return f"2^{exponent}" + (f" = {2**exponent:,}" if exponent < below else "")


def duration(seconds: float) -> str:
    """Return a time in seconds, or in minutes and seconds.

    Examples
    --------
    >>> duration(1.25), duration(200.0)
    ('1.2 s', '3 min 20 s')
    """
    if seconds < 60.0:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def aligned(cells: Sequence[str], widths: Sequence[int], *, left: int, gap: int = 2) -> str:
    """Return a row of a table whose columns have given widths and ``gap`` spaces between them.

    The first ``left`` columns are aligned to the left, the others to the right. Cells that are
    longer than their column is wide are not cut.
    """
    return (" " * gap).join(
        cell.ljust(width) if place < left else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )


def columns(
    rows: Sequence[Sequence[str]], *, left: int | None = None, indent: int = 0
) -> Iterator[str]:
    r"""Yield the rows of a table, indented, with each column as wide as its longest cell.

    The first ``left`` columns, by default all, are aligned to the left, the others to the right.

    Examples
    --------
    >>> print("\n".join(columns([("layer", "neurons"), ("first", "20")], left=1)))
    layer  neurons
    first       20
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = aligned(row, widths, left=len(row) if left is None else left)
        yield (" " * indent + line).rstrip()
