"""Pictures of audited networks: report in, Axes out. No display is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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
"""More points than this become an image inside a PDF."""


def plot_report(report: Findings, ax: Axes | None = None) -> Axes:
    """Draw every audited neuron's outgoing against its incoming norm, and the frontier.

    Neurons with a single outgoing weight are filled by status; those with several, which cannot be
    pathological, are pale. Norms that are zero are drawn at the edge.

    Parameters
    ----------
    report : Findings
        What `obstruction.audit` returned.
    ax : matplotlib Axes, optional
        Where to draw; a new figure if not given.
    """
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
    several = ~single
    if several.any():
        ax.scatter(
            x[several],
            y[several],
            s=9,
            color="0.75",
            lw=0,
            rasterized=image,
            label=f"several outgoing weights ({np.count_nonzero(several):,})",
        )
    status = table["status"].to_numpy()
    for name in STATUSES:
        chosen = single & (status == name)
        if chosen.any():
            ax.scatter(
                x[chosen],
                y[chosen],
                s=14 if name == "free" else 30,
                marker=_MARKERS[name],
                color=_COLOURS[name],
                lw=0,
                rasterized=image,
                label=f"{name} ({np.count_nonzero(chosen):,})",
            )
    ax.set(xscale="log", yscale="log", xlim=(left, right), ylim=(bottom, top))
    ax.set(xlabel="norm of incoming weights and bias", ylabel="norm of outgoing weights")
    ax.set_title(report.source, fontsize="medium")
    ax.annotate(
        "balance < 0",
        (0.03, 0.97),
        xycoords="axes fraction",
        va="top",
        fontsize="small",
        color="0.3",
    )
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize="small")
    return ax


def _limits(norms: NDArray[np.float64]) -> tuple[float, float]:
    """Return limits that leave some room around all norms above zero, and an edge for zeros."""
    positive = norms[norms > 0.0]
    low, high = (positive.min(), positive.max()) if positive.size else (0.5, 2.0)
    room = (high / low) ** 0.06 * 1.15
    return float(low / room), float(high * room)
