"""The panels of a figure of heatmaps: the values, colours and title of each.

The panels are computed from a table here and drawn by `obstruction.reporting.heatmaps`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import Colormap, Normalize
from numpy.typing import NDArray

from obstruction.reporting.sources import AXES
from obstruction.tools.checks import check_choice, check_probability

VALUES: Final = ("empirical", "exact", "zscore", "log10")
SCALES: Final = ("linear", "log10")
GREY: Final = "0.78"
"""The colour of cells without a value."""

_LABELS: Final = {"d": "inputs $d$", "l": "hidden neurons $l$"}
_VALUES: Final = ("networks", "empirical", "ci_high", "exact", "z")
_OPTIONAL: Final = ("log10_exact", "log10_empirical", "samples")


@dataclass(frozen=True)
class Panel:
    """One quantity of one scheme: the column ``source`` of its table, in the colours of ``norm``.

    Each of the ``columns`` has a row for every ``l`` and a column for every ``d``, or for the
    values on other ``axes``.
    """

    scheme: str
    columns: dict[str, pd.DataFrame]
    source: str
    norm: Normalize
    axes: tuple[str, str] = AXES

    @property
    def labels(self) -> tuple[str, str]:
        """The labels of both axes."""
        x, y = (_LABELS.get(name, name) for name in self.axes)
        return x, y

    def column(self, name: str) -> NDArray[np.float64]:
        """Return a column as an array of shape ``(len(l), len(d))``, NaN for missing cells."""
        return np.asarray(self.columns[name].to_numpy(np.float64))

    @property
    def log(self) -> bool:
        """Whether the values are logarithms."""
        return self.source.startswith("log10")

    @property
    def cmap(self) -> Colormap:
        """The colours, which diverge from white for z-scores."""
        name = "vlag" if self.source == "z" else "viridis"
        cmap: Colormap = sns.color_palette(name, as_cmap=True)
        return cmap.with_extremes(bad=GREY)

    @property
    def data(self) -> Any:
        """The values to draw, masked where there is none; infinite ones lie beyond the scale."""
        return np.ma.masked_invalid(np.clip(self.column(self.source), -1e9, 1e9))

    @property
    def title(self) -> str:
        """The quantity in words, with the number of networks that an estimate is based on."""
        networks = self.column("networks")
        if "empirical" not in self.source or not np.any(networks > 0):
            return "z-score" if self.source == "z" else self.source.removeprefix("log10_")
        if "samples" in self.columns and (self.column("samples") > 0).any():
            return "empirical, counted or weighted"
        most = np.nanmax(networks)
        return f"empirical, {'up to ' * bool(np.nanmin(networks) < most)}{most:,.0f} networks"

    @property
    def reason_empty(self) -> str:
        """The reason why no cell has a value, or "" if one has."""
        empty = {name: bool(self.columns[name].isna().to_numpy().all()) for name in _VALUES}
        if not empty[self.source.removeprefix("log10_")]:
            return ""
        if empty["exact"] and "empirical" not in self.source:
            return "no exact value"
        return "not sampled" if empty["empirical"] else "undefined"


def panels_of(
    table: pd.DataFrame,
    scheme: object,
    values: Sequence[str],
    scale: str,
    levels: Sequence[float],
    axes: Sequence[str] = AXES,
) -> list[list[Panel]]:
    """Return the panels of a table: a row for every scheme, with a panel for every value.

    All probabilities have the same colour scale. Arguments and errors are those of
    `obstruction.reporting.heatmaps.heatmap`.
    """
    for value in values:
        check_choice("value", value, VALUES)
    check_choice("scale", scale, SCALES if values[0] != "zscore" else SCALES[:1])
    for level in levels:
        check_probability("levels", level)
    x, y = _checked_axes(axes)
    log = scale == "log10" or "log10" in values
    rows, least = [], -1.0
    for name, columns in _columns_by_scheme(table, scheme, x, y).items():
        known = "exact" if columns["exact"].notna().to_numpy().any() else "empirical"
        sources = [{"zscore": "z", "log10": known}.get(value, value) for value in values]
        if log:
            sources = [source if source == "z" else f"log10_{source}" for source in sources]
            first = columns[sources[0]].to_numpy(np.float64)
            least = np.min(first, where=np.isfinite(first), initial=least)
        rows.append((name, columns, sources))
    probability = Normalize(math.floor(least), 0) if log else Normalize(0, 1)
    norms = {"z": Normalize(-4, 4)}
    return [
        [Panel(name, columns, source, norms.get(source, probability), (x, y)) for source in sources]
        for name, columns, sources in rows
    ]


def _checked_axes(axes: Any) -> tuple[str, str]:
    """Return the names of two different columns."""
    names = [axes] if isinstance(axes, str) else list(axes)
    if len(names) != 2 or names[0] == names[1]:
        raise ValueError(f"axes = {axes!r}: must be the names of two different columns")
    return str(names[0]), str(names[1])


def _columns_by_scheme(
    table: pd.DataFrame, scheme: object, x: str, y: str
) -> dict[str, dict[str, pd.DataFrame]]:
    """Return the columns of one scheme, or of all in the order of their categories or rows.

    Models that a factory makes take the place of schemes.
    """
    if "scheme" not in table.columns and "model" in table.columns:
        table = table.rename(columns={"model": "scheme"})
    required = ("scheme", x, y, *_VALUES)
    for column in required:
        if column not in table.columns:
            raise ValueError(f"table has no column {column!r}: needs {', '.join(required)}")
    kept = [name for name in (*required, *_OPTIONAL) if name in table.columns]
    table = table[kept]
    for name in (x, y):
        sizes = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64)
        wrong = np.flatnonzero(~((sizes >= 1.0) & (sizes == np.floor(sizes))))
        if wrong.size:
            value = table[name].iloc[wrong[0]]
            raise ValueError(f"axes: {name} = {value}: must hold whole numbers of at least 1")
    ordered = isinstance(table["scheme"].dtype, pd.CategoricalDtype)
    groups = {str(k): v for k, v in table.groupby("scheme", observed=True, sort=ordered)}
    if not groups:
        raise ValueError("table has no rows: needs one for each cell")
    twice = table.loc[table.duplicated(["scheme", x, y]), ["scheme", x, y]]
    for cell in twice.to_dict("records"):
        raise ValueError(f"table has more than one row for the cell {cell}")
    if scheme is not None:
        check_choice("scheme", str(scheme), groups)
        groups = {str(scheme): groups[str(scheme)]}
    return {name: _pivoted(rows, x, y) for name, rows in groups.items()}


def _pivoted(rows: pd.DataFrame, x: str, y: str) -> dict[str, pd.DataFrame]:
    """Return the columns of one scheme over both axes, and the logarithms if they are missing.

    The logarithm of an exact value of 0 is minus infinity, as the value has underflowed. A rate of
    0 does not tell how small the probability is, so its logarithm is NaN.
    """
    columns = [name for name in (*_VALUES, *_OPTIONAL) if name in rows.columns]
    pivoted = {name: rows.pivot(index=y, columns=x, values=name) for name in columns}
    with np.errstate(divide="ignore"):
        for name in ("exact", "empirical"):
            pivoted.setdefault(f"log10_{name}", pivoted[name].transform(np.log10))
    pivoted["log10_empirical"] = pivoted["log10_empirical"].replace(-np.inf, np.nan)
    return pivoted
