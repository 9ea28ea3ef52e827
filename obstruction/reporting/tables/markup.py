"""The markup inside words of a table: names in backticks, formulas in ``$...$``."""

from __future__ import annotations

import re
from collections.abc import Callable

Translate = Callable[[str], str]

_PIECES = re.compile(r"(`[^`]*`|\$[^$]*\$)")


def translated(text: str, *, plain: Translate, name: Translate, formula: Translate) -> str:
    """Return words with each piece translated, without the marks around it."""
    pieces = []
    for piece in _PIECES.split(text):
        if piece.startswith("`"):
            pieces.append(name(piece[1:-1]))
        elif piece.startswith("$"):
            pieces.append(formula(piece[1:-1]))
        else:
            pieces.append(plain(piece))
    return "".join(pieces)
