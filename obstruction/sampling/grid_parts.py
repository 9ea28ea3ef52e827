"""The parts of a grid, each of which holds the cells that share a stream of networks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from obstruction.sampling import streams
from obstruction.sampling.config import StudyConfig
from obstruction.sampling.thresholds import Grid, law_codes


@dataclass(frozen=True, eq=False)
class GridPart:
    """Cells of a study that share their networks.

    Attributes
    ----------
    path : tuple of int
        The stream of the networks, as in `obstruction.sampling.streams`.
    codes : (int, int, int)
        The laws of the hidden weights, the output weights and the hidden biases.
    independent : bool
        Whether weights are independent, so that the kernel can draw them one by one.
    where : tuple
        The indices of the cells in counts of shape ``(schemes, nd, nl)``.
    grid : Grid
        The cells in the form that the kernels take.
    """

    path: tuple[int, ...]
    codes: tuple[int, int, int]
    independent: bool
    where: tuple[list[int] | slice, slice, slice]
    grid: Grid


def grid_parts(config: StudyConfig) -> list[GridPart]:
    """Return the parts of a grid: one for all schemes of the same laws, or one for each cell."""
    everything = slice(None)
    if config.plan == "nested":
        row_cell = np.searchsorted(config.l, np.arange(1, config.l[-1] + 1)).astype(np.uint32)
        paths = [streams.nested_path(scheme) for scheme in config.schemes]
        order = sorted(range(len(paths)), key=lambda k: paths[k])
        groups = [(path, list(ks)) for path, ks in groupby(order, key=lambda k: paths[k])]
        return [
            GridPart(
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
        GridPart(
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


def _slice(indices: list[int]) -> list[int] | slice:
    """Return consecutive indices as a slice, because indexing by a slice copies nothing."""
    consecutive = indices == list(range(indices[0], indices[-1] + 1))
    return slice(indices[0], indices[-1] + 1) if consecutive else indices
