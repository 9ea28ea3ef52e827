"""The figure of the zoo: for each architecture the probability, and the share of frozen weights."""

from __future__ import annotations

from typing import Any, Final

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

LEAST: Final = 1e-9
"""Probabilities below are drawn at the left edge."""

_WIDTH: Final = 3.5
_ROW: Final = 0.098
_BLUE, _RED, _GREY = "#31688e", "#c0392b", "#8a8a8a"
_STYLE: Final[Any] = {
    "font.size": 5.5,
    "axes.linewidth": 0.5,
    "pdf.fonttype": 42,
    "xtick.major.width": 0.4,
    "xtick.major.size": 2.0,
    "ytick.major.size": 0.0,
    "ytick.major.pad": 1.5,
}


def figure(table: pd.DataFrame) -> Figure:
    """Return a dot plot with a row for each architecture, in the order of the table.

    Parameters
    ----------
    table : DataFrame
        As `WildStudy.table` returns it.

    Returns
    -------
    matplotlib.figure.Figure
        It is as wide as a column of text, with a logarithmic axis for the probabilities and a
        linear one for the shares.
    """
    rows = len(table)
    with mpl.rc_context(_STYLE):
        fig = Figure((_WIDTH, 0.85 + _ROW * rows))
        FigureCanvasAgg(fig)
        left, right = fig.subplots(1, 2, sharey=True, width_ratios=(2.1, 1.0))
        height = fig.get_size_inches()[1]
        fig.subplots_adjust(
            left=0.385, right=0.975, bottom=0.38 / height, top=1.0 - 0.38 / height, wspace=0.09
        )
        y = np.arange(rows)
        _probabilities(left, table, y)
        _shares(right, table, y)
        left.set_ylim(rows - 0.4, -0.6)
        left.set_yticks(y, _names(table))
        for ax in (left, right):
            ax.hlines(y, *ax.get_xlim(), color="#ececec", linewidth=0.4, zorder=0)
            ax.spines[["top", "right"]].set_visible(False)
        _legend(fig, height)
    return fig


def _names(table: pd.DataFrame) -> list[str]:
    packages = {
        "segmentation-models-pytorch": "smp",
        "rtdl-revisiting-models": "rtdl",
        "torch-geometric": "pyg",
        "stable-baselines3": "sb3",
    }
    found = []
    for name in table["architecture"]:
        package, rest = name.split("/", 1)
        found.append(f"{packages.get(package, package)}/{rest}")
    return found


def _probabilities(ax: Axes, table: pd.DataFrame, y: np.ndarray) -> None:
    ax.set_xscale("log")
    ax.set_xlim(LEAST / 3.0, 2.0)
    ax.set_xticks([1e-9, 1e-6, 1e-3, 1.0], ["≤ 10⁻⁹", "10⁻⁶", "10⁻³", "1"])
    ax.minorticks_off()
    ax.set_xlabel("P(some sign frozen)", labelpad=2.0)
    seen = table["obstructed"].to_numpy() > 0
    low, high = (table[name].to_numpy() for name in ("ci_low", "ci_high"))
    rate = table["empirical"].to_numpy()
    ax.hlines(y[seen], low[seen], high[seen], color=_BLUE, linewidth=1.0, zorder=2)
    ax.plot(rate[seen], y[seen], "o", color=_BLUE, markersize=2.4, zorder=3)
    possible = ~seen & (table["weights"].to_numpy() > 0)
    ax.plot(high[possible], y[possible], "<", color=_GREY, markersize=2.2, mew=0, zorder=2)
    exact = table["exact"].to_numpy(np.float64)
    known = ~np.isnan(exact)
    ax.plot(
        np.maximum(exact[known], LEAST),
        y[known],
        "|",
        color=_RED,
        markersize=4.6,
        markeredgewidth=0.9,
        zorder=4,
        clip_on=False,
    )


def _shares(ax: Axes, table: pd.DataFrame, y: np.ndarray) -> None:
    share = 100.0 * table["share"].to_numpy(np.float64)
    exact = 100.0 * table["exact_share"].to_numpy(np.float64)
    seen = share > 0.0
    ax.plot(share[seen], y[seen], "o", color=_BLUE, markersize=2.4, zorder=3)
    known = (exact >= 0.05) & ~np.isnan(exact)
    ax.plot(exact[known], y[known], "|", color=_RED, markersize=4.6, markeredgewidth=0.9, zorder=4)
    ax.set_xlim(0.0, 104.0)
    ax.set_xticks([0.0, 50.0, 100.0], ["0", "50", "100 %"])
    ax.set_xlabel("frozen share", labelpad=2.0)


def _legend(fig: Figure, height: float) -> None:
    handles = [
        Line2D([], [], color=_BLUE, marker="o", markersize=2.4, linewidth=1.0),
        Line2D([], [], color=_GREY, marker="<", markersize=2.6, linewidth=0.0, mew=0),
        Line2D([], [], color=_RED, marker="|", markersize=4.6, linewidth=0.0),
    ]
    fig.legend(
        handles,
        ["draws, 95 %", "none seen: 95 % below", "exact"],
        loc="upper center",
        bbox_to_anchor=(0.52, 1.0 - 0.06 / height),
        ncols=3,
        frameon=False,
        handletextpad=0.3,
        columnspacing=1.0,
        borderpad=0.0,
    )
