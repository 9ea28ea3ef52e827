"""The picture of an audited network. It needs no display."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from obstruction.auditing.hidden_layers import STATUSES

if TYPE_CHECKING:
    from obstruction.auditing.findings import Findings

_PALETTE: Final = sns.color_palette("colorblind")
_COLOURS: Final = dict(
    zip(STATUSES, (_PALETTE[0], _PALETTE[3], _PALETTE[1], (0.45, 0.45, 0.45)), strict=True)
)
_MARKERS: Final = dict(zip(STATUSES, ("o", "X", "D", "v"), strict=True))

_VECTOR_POINTS: Final = 2000
"""If there are more points than this, they are stored in a PDF as an image."""


def plot_report(report: Findings, ax: Axes | None = None) -> Axes:
    """Draw a report as `obstruction.auditing.report.Report.plot` describes."""
    if ax is None:
        ax = Figure(figsize=(5.0, 4.6), dpi=150, layout="constrained").subplots()
    table = report.neurons
    single = np.concatenate([np.full(l.neurons, l.outputs == 1) for l in report.audited])
    x, y = (table[name].to_numpy() for name in ("in_norm", "out_norm"))
    (left, right), (bottom, top) = _limits(x), _limits(y)
    x, y = np.maximum(x, left), np.maximum(y, bottom)
    edges = np.array([min(left, bottom), max(right, top)])
    ax.fill_between(edges, edges, edges[1], color=_COLOURS["pathological"], alpha=0.08, lw=0)
    ax.plot(edges, edges, color="0.3", lw=0.8)
    image = len(table) > _VECTOR_POINTS
    looks = [(~single, "several outgoing weights", 9, "o", "0.75")]
    for name in STATUSES:
        chosen = single & (table["status"].to_numpy() == name)
        size = 14 if name == "free" else 30
        looks.append((chosen, name, size, _MARKERS[name], _COLOURS[name]))
    for chosen, name, size, marker, colour in looks:
        if chosen.any():
            ax.scatter(
                x[chosen],
                y[chosen],
                s=size,
                marker=marker,
                color=colour,
                lw=0,
                rasterized=image,
                label=f"{name} ({np.count_nonzero(chosen):,})",
            )
    ax.set(xscale="log", yscale="log", xlim=(left, right), ylim=(bottom, top))
    ax.set(xlabel="norm of incoming weights and bias", ylabel="norm of outgoing weights")
    ax.set_title(report.source, fontsize="medium")
    look: dict[str, Any] = {"xycoords": "axes fraction", "va": "top", "fontsize": "small"}
    ax.annotate("balance < 0", (0.03, 0.97), color="0.3", **look)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize="small")
    return ax


def _limits(norms: NDArray[np.float64]) -> tuple[float, float]:
    """Return limits with some room around the norms above zero, and an edge for zeros."""
    positive = norms[norms > 0.0]
    low, high = (positive.min(), positive.max()) if positive.size else (0.5, 2.0)
    room = (high / low) ** 0.06 * 1.15
    return float(low / room), float(high * room)
