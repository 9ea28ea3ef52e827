"""The translation of the words and numbers of a table into a format."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from obstruction.reporting.tables.rounding import Interval, Shown
from obstruction.tools.words import superscript

_PIECES = re.compile(r"(`[^`]*`|\$[^$]*\$)")


@dataclass(frozen=True)
class Markup:
    """The functions that translate the parts of a table into a format.

    Attributes
    ----------
    plain, name, formula : callable
        Functions that translate plain text, a name in backticks and a formula in ``$...$``. The
        marks around names and formulas are not passed to them.
    power : callable
        A function that takes an exponent and returns the text of a factor ``10**exponent``.
    """

    plain: Callable[[str], str]
    name: Callable[[str], str]
    formula: Callable[[str], str]
    power: Callable[[int], str]

    def words(self, text: str) -> str:
        """Return a text with its names, its formulas and its plain parts translated."""
        marked = {"`": self.name, "$": self.formula}
        return "".join(
            marked[piece[0]](piece[1:-1]) if piece[:1] in marked else self.plain(piece)
            for piece in _PIECES.split(text)
        )

    def scaled(self, number: str, exponent: int) -> str:
        """Return a number times a power of ten, which is left out if its exponent is 0."""
        return number + self.power(exponent) if exponent else number

    def number(self, number: Shown) -> str:
        """Return a number with the sign < or > before it if it is a bound."""
        relation = f"{self.plain(number.relation)} " if number.relation else ""
        return relation + self.scaled(number.mantissa, number.exponent)

    def interval(self, interval: Interval) -> str:
        """Return an interval, whose ends share one power of ten."""
        return self.scaled(f"[{interval.low}, {interval.high}]", interval.exponent)


UNICODE: Final = Markup(str, str, str, lambda exponent: f" × 10{superscript(exponent)}")
"""Plain text, in which exponents are superscript digits of Unicode."""
