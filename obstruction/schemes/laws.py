"""Laws: distributions of a weight, each standardised to mean square 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Law:
    """A distribution of mean square 1, which a scheme scales.

    Parameters
    ----------
    name : str
        The name of the law in options and tables.
    code : int
        The number of the law in the kernels and the random streams. Every seeded result depends on
        it, so it must never change.
    bound : float
        The largest absolute value of a standardised weight, ``math.inf`` if there is none.
    fourth_moment : float
        The mean fourth power of a standardised weight.
    independent : bool
        Whether the weights of a layer are independent of each other.
    """

    name: str
    code: int
    bound: float
    fourth_moment: float
    independent: bool = True

    def __str__(self) -> str:
        return self.name.replace("_", " ")


CUT: Final = 2.0
"""The cut of the truncated normal, in standard deviations of the normal before the cut."""

CUT_STD: Final = 0.8796256610342398
"""The standard deviation of N(0, 1) cut at plus and minus 2."""

NORMAL: Final = Law("normal", 0, math.inf, 3.0)
"""The normal law N(0, 1)."""

UNIFORM: Final = Law("uniform", 1, math.sqrt(3.0), 1.8)
"""The uniform law on [-sqrt(3), sqrt(3)]."""

TRUNCATED: Final = Law("truncated_normal", 2, CUT / CUT_STD, 2.3655366)
"""The normal law cut at plus and minus 2 and divided by its standard deviation 0.8796."""

CONSTANT: Final = Law("constant", 3, 1.0, 1.0)
"""The constant 1. With scale 0 it gives a layer of zeros."""

ORTHOGONAL: Final = Law("orthogonal", 4, math.inf, math.nan, independent=False)
"""Entries of a Haar-distributed semi-orthogonal matrix, which depend on each other."""

TRIANGULAR: Final = Law("triangular", 5, math.sqrt(6.0), 2.4)
"""The law of ``(U - V) / sqrt(2)`` for uniform U and V, of no scheme: two logits have it."""

LAWS: Final[dict[str, Law]] = {law.name: law for law in (NORMAL, UNIFORM, TRUNCATED, CONSTANT)}
"""Every law of independent weights by its name."""
