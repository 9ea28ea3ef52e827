"""The markup inside words of a table: names in backticks, formulas in ``$...$``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from obstruction.tools.words import superscript

_PIECES = re.compile(r"(`[^`]*`|\$[^$]*\$)")


@dataclass(frozen=True)
class Markup:
    """How a format writes what stands in a table.

    Attributes
    ----------
    plain, name, formula : callable
        Each takes a piece of text, without the marks around it, and returns it in the format.
    power : callable
        Takes an exponent other than 0 and returns the power of ten that multiplies a number.
    """

    plain: Callable[[str], str]
    name: Callable[[str], str]
    formula: Callable[[str], str]
    power: Callable[[int], str]

    def words(self, text: str) -> str:
        """Return words with each piece translated."""
        marked = {"`": self.name, "$": self.formula}
        return "".join(
            marked[piece[0]](piece[1:-1]) if piece[:1] in marked else self.plain(piece)
            for piece in _PIECES.split(text)
        )

    def scaled(self, number: str, exponent: int) -> str:
        """Return a number times a power of ten, which is left out if its exponent is 0."""
        return number + self.power(exponent) if exponent else number


UNICODE: Final = Markup(str, str, str, lambda exponent: f" × 10{superscript(exponent)}")
"""Plain text, in which exponents are raised digits."""
