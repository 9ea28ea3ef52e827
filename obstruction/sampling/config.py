"""What is to be sampled: the configuration of a study and the parts it falls into."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.sampling import streams
from obstruction.sampling.thresholds import Grid, law_codes
from obstruction.schemes import InitScheme, as_schemes
from obstruction.tools.checks import check_axis, check_choice, check_seed

PLANS: Final = ("nested", "independent")
"""How networks are shared between cells: one serves all cells, or each cell has its own."""


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
        """Return the validated configuration of anything that describes one.

        Raises
        ------
        ValueError
            If an argument is out of its range.
        """
        return cls(
            as_schemes(schemes),
            check_axis("d", d),
            check_axis("l", l),
            check_seed(seed),
            check_choice("plan", plan, PLANS),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape ``(schemes, nd, nl)`` of the counts."""
        return len(self.schemes), len(self.d), len(self.l)

    def ratio(self) -> NDArray[np.float64]:
        """Return the ratio ``a`` of every cell, shape ``(schemes, nd, nl)``."""
        d, l = np.array(self.d)[:, None], np.array(self.l)[None, :]
        return np.stack([scheme.ratio(d, l) for scheme in self.schemes])

    def difference(self, other: StudyConfig) -> str:
        """Return in words what differs between two configurations, or nothing."""
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


@dataclass(frozen=True, eq=False)
class Sheet:
    """A part of the grid that one stream of networks serves.

    Attributes
    ----------
    path : tuple of int
        The stream, see `obstruction.sampling.streams`.
    codes : (int, int, int)
        Of the laws of the hidden weights, the output weights and the hidden biases.
    independent : bool
        Whether weights are independent, so that the kernel can draw them one by one.
    where : tuple
        The part of the counts ``(schemes, nd, nl)`` that the sheet fills.
    grid : Grid
    """

    path: tuple[int, ...]
    codes: tuple[int, int, int]
    independent: bool
    where: tuple[list[int] | slice, slice, slice]
    grid: Grid


def _slice(indices: list[int]) -> list[int] | slice:
    """Return consecutive indices as a slice, which views where a list copies."""
    consecutive = indices == list(range(indices[0], indices[-1] + 1))
    return slice(indices[0], indices[-1] + 1) if consecutive else indices


def sheets(config: StudyConfig) -> list[Sheet]:
    """Return the parts into which a study falls: one per choice of laws, or one per cell."""
    everything = slice(None)
    if config.plan == "nested":
        row_cell = np.searchsorted(config.l, np.arange(1, config.l[-1] + 1)).astype(np.uint32)
        paths = [streams.nested_path(scheme) for scheme in config.schemes]
        order = sorted(range(len(paths)), key=lambda k: paths[k])
        groups = [(path, list(ks)) for path, ks in groupby(order, key=lambda k: paths[k])]
        return [
            Sheet(
                path,
                law_codes(config.schemes[ks[0]]),
                config.schemes[ks[0]].independent,
                (_slice(ks), everything, everything),
                Grid.of(tuple(config.schemes[k] for k in ks), config.d, config.l, row_cell),
            )
            for path, ks in groups
        ]
    zeros = np.zeros(config.l[-1], np.uint32)
    return [
        Sheet(
            streams.independent_path(scheme, d, l),
            law_codes(scheme),
            scheme.independent,
            (slice(k, k + 1), slice(i, i + 1), slice(j, j + 1)),
            Grid.of((scheme,), (d,), (l,), zeros[:l]),
        )
        for k, scheme in enumerate(config.schemes)
        for i, d in enumerate(config.d)
        for j, l in enumerate(config.l)
    ]
