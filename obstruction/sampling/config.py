"""The configuration of a study, which says what is to be sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.schemes import InitScheme, as_schemes
from obstruction.tools.checks import check_axis, check_choice, check_seed

PLANS: Final = ("nested", "independent")
"""The sampling plans: each network serves all cells, or each cell has networks of its own."""


@dataclass(frozen=True)
class StudyConfig:
    """Everything that determines the counts of a study, except how many networks are drawn.

    Attributes
    ----------
    schemes : tuple of InitScheme
    d, l : tuple of int
        The axes of the grid, ascending.
    seed : int
    plan : {"nested", "independent"}
    """

    schemes: tuple[InitScheme, ...]
    d: tuple[int, ...]
    l: tuple[int, ...]
    seed: int
    plan: str = "nested"

    @classmethod
    def of(
        cls, schemes: Any, *, d: Any, l: Any, seed: Any = 0, plan: str = "nested"
    ) -> StudyConfig:
        """Return a configuration with checked arguments, whose schemes may be given by name."""
        axes = check_axis("d", d), check_axis("l", l)
        return cls(as_schemes(schemes), *axes, check_seed(seed), check_choice("plan", plan, PLANS))

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape ``(schemes, nd, nl)`` of the counts."""
        return len(self.schemes), len(self.d), len(self.l)

    def ratio(self) -> NDArray[np.float64]:
        """Return the ratio ``a`` of every cell, shape ``(schemes, nd, nl)``."""
        d, l = np.array(self.d)[:, None], np.array(self.l)[None, :]
        return np.stack([scheme.ratio(d, l) for scheme in self.schemes])

    def difference(self, other: StudyConfig) -> str:
        """Return in words what differs between two configurations, or "" if they are equal."""
        return "; ".join(
            f"{name} is {_shown(mine)} here and {_shown(theirs)} there"
            for name in ("schemes", "d", "l", "seed", "plan")
            if (mine := getattr(self, name)) != (theirs := getattr(other, name))
        )


def _shown(value: Any) -> str:
    if not isinstance(value, tuple):
        return str(value)
    words = [str(one) for one in value]
    if len(words) > 6:
        words = [*words[:3], "...", *words[-2:], f"({len(value)} values)"]
    return " ".join(words)
