"""Laws: the shapes of a weight's distribution, each standardised to mean square 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Law:
    """A distribution of mean square 1; a scheme scales it.

    Parameters
    ----------
    name : str
        The name used in options and tables.
    code : int
        The number by which the kernels and the random streams know the law. It is part of the
        definition of every seeded result and never changes.
    bound : float
        The largest size a standardised weight can have, ``math.inf`` if there is none.
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
"""Where the truncated normal is cut, in standard deviations of the normal before the cut."""

CUT_STD: Final = 0.8796256610342398
"""The standard deviation of N(0, 1) cut at plus and minus 2."""

NORMAL: Final = Law("normal", 0, math.inf, 3.0)
"""The normal law N(0, 1)."""

UNIFORM: Final = Law("uniform", 1, math.sqrt(3.0), 1.8)
"""The uniform law on [-sqrt(3), sqrt(3)]."""

TRUNCATED: Final = Law("truncated_normal", 2, CUT / CUT_STD, 2.3655366)
"""The normal law cut at plus and minus 2, then divided by the standard deviation 0.8796 it has."""

CONSTANT: Final = Law("constant", 3, 1.0, 1.0)
"""Always 1. With scale 0 this is a layer of zeros."""

ORTHOGONAL: Final = Law("orthogonal", 4, math.inf, math.nan, independent=False)
"""Entries of a Haar-distributed semi-orthogonal matrix: neither independent nor of one shape."""

LAWS: Final[dict[str, Law]] = {law.name: law for law in (NORMAL, UNIFORM, TRUNCATED, CONSTANT)}
"""Every law of independent weights by its name."""
