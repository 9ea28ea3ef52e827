"""The picture of how balances drift during training, drawn from tables. It needs no display."""

from __future__ import annotations

from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_STYLES = ("-", "--", "-.", ":")


def plot_drift(drift: pd.DataFrame, changes: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the largest drift of each layer over the steps and mark where signs changed.

    ``drift`` and ``changes`` are the tables `Monitor.drift` and `Monitor.sign_changes`. The axis
    of the drift is logarithmic, and points where the drift is 0 or NaN are left out.
    """
    if ax is None:
        ax = Figure(figsize=(4.8, 3.2), dpi=150, layout="constrained").subplots()
    palette = sns.color_palette("colorblind")
    palette = [palette[i] for i in (0, 2, 4, 5, 8, 9)]  # without the colours of the marks
    shown = False
    for i, (layer, rows) in enumerate(drift.groupby("layer", observed=True, sort=False)):
        kept = rows[rows["largest"] > 0.0]
        shown |= len(kept) > 0
        look: dict[str, Any] = {"color": palette[i % len(palette)], "ls": _STYLES[i // 6 % 4]}
        look |= {"lw": 1.4, "marker": "o" if len(kept) < 3 else None, "ms": 3}
        ax.plot(kept["step"], kept["largest"], label=f"{layer}: largest drift", **look)
    freed = changes["pathological_at_start"].to_numpy(bool)
    marks: list[tuple[Any, dict[str, Any]]] = [
        (~freed, {"marker": "o", "facecolors": "none", "edgecolors": "0.35", "label": "free"}),
        (freed, {"marker": "X", "color": sns.color_palette("colorblind")[3], "label": "frozen"}),
    ]
    for chosen, look in marks:
        steps = changes.loc[chosen, "step_after"].to_numpy()
        if len(steps):
            look["label"] = f"sign change of a {look['label']} neuron ({len(steps):,})"
            high = [0.03] * len(steps)
            ax.scatter(steps, high, transform=ax.get_xaxis_transform(), s=28, lw=0.9, **look)
    if shown:
        ax.set_yscale("log")
    else:
        ax.set_ylim(0.0, 1.0)
        ax.text(0.5, 0.5, "no drift yet", transform=ax.transAxes, ha="center", color="0.35")
    ax.set(xlabel="step", ylabel="|change of balance| / (in² + out²) at start")
    ax.grid(axis="y", color="0.9", lw=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize="small")
    return ax
