"""What is to be sampled: the configuration of a study and the tables a kernel needs for it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction import streams
from obstruction.laws import Law
from obstruction.schemes import InitScheme, as_schemes
from obstruction.validation import check_axis, check_choice, check_seed

PLANS: Final = ("nested", "independent")
"""How networks are shared between cells: one serves all cells, or each cell has its own."""

_LARGEST_RATIO: Final = 1e300


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
    """A part of the grid that one stream of networks serves, as arrays for the kernel.

    The arrays are those of `obstruction.kernels.count_nested`, where they are explained.
    ``where`` says which part of the counts ``(schemes, nd, nl)`` the sheet fills.
    """

    path: tuple[int, ...]
    laws: tuple[Law, Law]
    where: tuple[list[int] | slice, slice, slice]
    columns: NDArray[np.int64]
    row_cell: NDArray[np.uint32]
    thresholds: NDArray[np.float64]
    rising: NDArray[np.bool_]
    curve: NDArray[np.float64]
    peak: NDArray[np.float64]
    bound: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        path: tuple[int, ...],
        where: tuple[list[int] | slice, slice, slice],
        schemes: tuple[InitScheme, ...],
        d: tuple[int, ...],
        l: tuple[int, ...],
        row_cell: NDArray[np.uint32],
    ) -> Sheet:
        """Tabulate the thresholds of some schemes of the same laws over ``d`` and ``l``."""
        columns, widths = np.array(d, np.int64), np.array(l, np.int64)
        ratio = np.stack([scheme.ratio(columns[:, None], widths[None, :]) for scheme in schemes])
        ratio = np.minimum(ratio, _LARGEST_RATIO)
        steps = np.diff(ratio, axis=2)
        rising = np.asarray((steps > 0).any(axis=(1, 2)))
        if (rising & (steps < 0).any(axis=(1, 2))).any():
            raise ValueError("the ratio a(d, l) of a scheme must be monotone in l")
        easiest = np.where(rising[:, None, None], ratio[:, :, -1:], ratio)
        highest = easiest.max(axis=0)
        peak = highest.copy()
        for j in range(len(d) - 2, -1, -1):
            if columns[j] // 4 == columns[j + 1] // 4:
                np.maximum(peak[j], peak[j + 1], out=peak[j])
        end = np.full((*ratio.shape[:2], 1), -1.0)
        return cls(
            path,
            schemes[0].laws,
            where,
            columns,
            row_cell,
            np.concatenate([ratio, end], axis=2),
            rising,
            _curve(ratio),
            peak,
            highest.max(axis=0),
        )


def _curve(ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit, per scheme and column, the index along ``l`` as ``(p + q r) / (s + t r)``.

    Exact where the ratio is a fraction of linear functions of the index, as for all schemes of
    the registry on a regular axis; elsewhere a rough guess, which the kernel corrects.
    """
    schemes, nd, nl = ratio.shape
    curve = np.zeros((schemes, nd, 4))
    if nl < 3:
        curve[..., 2] = 1.0
        return curve
    x = np.array([0, nl // 2, nl - 1], dtype=np.float64)
    r = ratio[:, :, [0, nl // 2, nl - 1]]
    equations = np.stack([np.ones_like(r), r, np.broadcast_to(-x, r.shape), -x * r], axis=-1)
    scale = np.abs(equations).max(axis=-2, keepdims=True)
    scale = np.where(scale > 0.0, scale, 1.0)
    null = np.linalg.svd(equations / scale)[2][..., -1, :]
    return np.asarray(null / scale[..., 0, :])


def _slice(indices: list[int]) -> list[int] | slice:
    """Return consecutive indices as a slice, which views where a list copies."""
    consecutive = indices == list(range(indices[0], indices[-1] + 1))
    return slice(indices[0], indices[-1] + 1) if consecutive else indices


def sheets(config: StudyConfig) -> list[Sheet]:
    """Return the parts into which a study falls: one per pair of laws, or one per cell."""
    everything = slice(None)
    if config.plan == "nested":
        row_cell = np.searchsorted(config.l, np.arange(1, config.l[-1] + 1)).astype(np.uint32)
        order = sorted(
            range(len(config.schemes)),
            key=lambda k: tuple(law.code for law in config.schemes[k].laws),
        )
        groups = [list(ks) for _, ks in groupby(order, key=lambda k: config.schemes[k].laws)]
        return [
            Sheet.of(
                streams.nested_path(config.schemes[ks[0]].laws),
                (_slice(ks), everything, everything),
                tuple(config.schemes[k] for k in ks),
                config.d,
                config.l,
                row_cell,
            )
            for ks in groups
        ]
    zeros = np.zeros(config.l[-1], np.uint32)
    return [
        Sheet.of(
            streams.independent_path(scheme, d, l),
            (slice(k, k + 1), slice(i, i + 1), slice(j, j + 1)),
            (scheme,),
            (d,),
            (l,),
            zeros[:l],
        )
        for k, scheme in enumerate(config.schemes)
        for i, d in enumerate(config.d)
        for j, l in enumerate(config.l)
    ]
