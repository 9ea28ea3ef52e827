"""Laws: the shapes of a weight's distribution, each standardised to mean 0 and variance 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Law:
    """A symmetric distribution of mean 0 and variance 1; a scheme scales it.

    Parameters
    ----------
    name : str
        The name used in options and tables.
    code : int
        The number by which the kernels and the random streams know the law. It is part of the
        definition of every seeded result and never changes.
    """

    name: str
    code: int

    def __str__(self) -> str:
        return self.name


NORMAL: Final = Law("normal", 0)
"""The normal law N(0, 1)."""

UNIFORM: Final = Law("uniform", 1)
"""The uniform law on [-sqrt(3), sqrt(3)]."""

LAWS: Final[dict[str, Law]] = {law.name: law for law in (NORMAL, UNIFORM)}
"""Every law by its name."""
