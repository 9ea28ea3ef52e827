"""The picture of how balances drift during training, drawn from tables. It needs no display."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_STYLES = ("-", "--", "-.", ":")


class _Line(NamedTuple):
    rows: pd.DataFrame
    label: str
    look: dict[str, Any]


def plot_drift(drift: pd.DataFrame, changes: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the largest drift of each layer over the steps and mark where signs changed.

    ``drift`` and ``changes`` are the tables `Monitor.drift` and `Monitor.sign_changes`. The axis
    of the drift is logarithmic, and points where the drift is 0 or NaN are left out.
    """
    lines = []
    for i, (layer, rows) in enumerate(drift.groupby("layer", observed=True, sort=False)):
        look: dict[str, Any] = {"color": _colour(i), "ls": _STYLES[i // 6 % 4], "lw": 1.4}
        lines.append(_Line(rows, f"{layer}: largest drift", look))
    frozen = changes["pathological_at_start"].to_numpy(bool)
    return _drawn(lines, changes, frozen, ("neuron", "balance", "in² + out²"), ax)


def plot_law_drift(drift: pd.DataFrame, changes: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the largest drift of each law over the steps, with a colour for each kind.

    The tables are those of a monitor that records laws; see `plot_drift`.
    """
    lines = []
    for i, (kind, of_kind) in enumerate(drift.groupby("kind", observed=True, sort=False)):
        label = f"{kind}: largest drift of {of_kind['law'].nunique():,} laws"
        for _, rows in of_kind.groupby("law"):
            lines.append(_Line(rows, label, {"color": _colour(i), "lw": 0.9, "alpha": 0.8}))
            label = ""
    frozen = changes["frozen_at_start"].to_numpy(bool)
    return _drawn(lines, changes, frozen, ("weight", "number", "sum of |terms|"), ax)


def _colour(number: int) -> Any:
    """Return a colour that is not one of the marks."""
    palette = sns.color_palette("colorblind")
    return palette[(0, 2, 4, 5, 8, 9)[number % 6]]


def _drawn(
    lines: Iterable[_Line],
    changes: pd.DataFrame,
    frozen: np.ndarray[Any, np.dtype[np.bool_]],
    words: tuple[str, str, str],
    ax: Axes | None,
) -> Axes:
    if ax is None:
        ax = Figure(figsize=(4.8, 3.2), dpi=150, layout="constrained").subplots()
    shown = False
    for line in lines:
        kept = line.rows[line.rows["largest"] > 0.0]
        shown |= len(kept) > 0
        look = line.look | {"marker": "o" if len(kept) < 3 else None, "ms": 3}
        ax.plot(kept["step"], kept["largest"], label=line.label or "_", **look)
    what, number, unit = words
    marks: list[tuple[Any, dict[str, Any]]] = [
        (~frozen, {"marker": "o", "facecolors": "none", "edgecolors": "0.35", "label": "free"}),
        (frozen, {"marker": "X", "color": sns.color_palette("colorblind")[3], "label": "frozen"}),
    ]
    for chosen, look in marks:
        steps = changes.loc[chosen, "step_after"].to_numpy()
        if len(steps):
            look["label"] = f"sign change of a {look['label']} {what} ({len(steps):,})"
            high = [0.03] * len(steps)
            ax.scatter(steps, high, transform=ax.get_xaxis_transform(), s=28, lw=0.9, **look)
    if shown:
        ax.set_yscale("log")
    else:
        ax.set_ylim(0.0, 1.0)
        ax.text(0.5, 0.5, "no drift yet", transform=ax.transAxes, ha="center", color="0.35")
    ax.set(xlabel="step", ylabel=f"|change of {number}| / ({unit}) at start")
    ax.grid(axis="y", color="0.9", lw=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize="small")
    return ax
