"""The laws of a model as text, a law a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from obstruction.conservation.law import Law
from obstruction.tools.words import columns, counted

_NAMED: Final = 3
"""The number of parameters that are named on each side of a law."""

_VERBS: Final = {"balance": "writes", "matrix": "writes"}

_AMOUNTS: Final = {"scale": "drift by eps"}
"""What the number at the end of a line is, if it is no violation but what ``eps`` causes."""


def laws_text(title: str, laws: Sequence[Law], *, loss: str | None) -> str:
    """Return laws as text: the number of conserved numbers, then a law a line."""
    total = sum(law.size for law in laws)
    head = f"{title}: {counted(total, 'conserved number')} in {counted(len(laws), 'law')}"
    head += f" under {loss}" if loss else ""
    rows = [_row(law) for law in laws]
    return "\n".join([head, *columns(rows, indent=2)])


def _row(law: Law) -> Sequence[str]:
    written = _names(law, 1)
    read = _names(law, -1)
    most = max(float(law.violation.max()), law.change)
    return (
        law.kind,
        f"{law.size:,}",
        f"{_VERBS.get(law.kind, 'of')} {written}",
        f"reads {read}" if read else "",
        f"drift by eps {most:.2g}" if law.kind == "scale" else f"violation {_power(most)}",
    )


def _names(law: Law, sign: int) -> str:
    names = list(dict.fromkeys(t.tensor for t in law.terms if t.coefficient * sign > 0))
    shown = ", ".join(names[:_NAMED])
    more = len(names) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _power(value: float) -> str:
    """Return a positive number rounded up to a power of ten."""
    return "0" if value == 0.0 else f"1e{math.ceil(math.log10(value)):+03d}"
