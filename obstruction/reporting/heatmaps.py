"""Heatmaps of the probability of obstruction over ``(d, l)``, drawn from a table.

Figures are made without pyplot, so that no display is needed, and the settings of matplotlib are
the same afterwards as before. An axis is linear if its values are evenly spaced and do not exceed
300, or ten times the first value if that is more. Otherwise, it is logarithmic. Cells without a
value are grey.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from obstruction.reporting.panels import GREY, Panel, panels_of
from obstruction.reporting.sources import AXES, table_and_axes
from obstruction.tools.checks import check_choice, check_count
from obstruction.tools.files import whole_file

if TYPE_CHECKING:
    from obstruction.reporting.sources import Drawable

CONTOURS: Final = (0.01, 0.05, 0.5)

_VECTOR_CELLS: Final = 1000
"""The largest number of cells that a PDF holds as vectors; more become an image in it."""

_STYLE: Final[Any] = {
    **{"font.size": 7.0, "axes.titlesize": 7.5, "legend.fontsize": 6.5, "pdf.fonttype": 42},
    **{"axes.labelpad": 2.0, "axes.linewidth": 0.6},
    **{f"{x}tick.major.{name}": 2.0 for x in "xy" for name in ("size", "pad")},
    **{f"{x}tick.labelsize": 6.5 for x in "xy"},
    **{f"{x}tick.minor.size": 1.0 for x in "xy"},
}


def heatmap(
    table: Drawable,
    value: str = "empirical",
    *,
    scheme: object = None,
    axes: Sequence[str] | None = None,
    ax: Axes | None = None,
    scale: str = "linear",
    levels: Sequence[float] = CONTOURS,
    colorbar: bool = True,
) -> Axes | NDArray[np.object_]:
    """Draw one quantity over ``(d, l)``, with ``d`` to the right and ``l`` upwards.

    The grid of a study of models has axes of its own, the first to the right.

    Parameters
    ----------
    table : DataFrame, Study, ModelStudy or path-like
        A study, the folder of a study, or a table with one row for each cell, in any order, with
        columns ``scheme``, ``d``, ``l``, ``networks``, ``empirical``, ``ci_high``, ``exact`` and
        ``z``. The last two are NaN if there is no exact value. The column ``model`` can take the
        place of ``scheme``.
    value : {"empirical", "exact", "zscore", "log10"}
        The quantity. ``"log10"`` draws the exact probability on the logarithmic scale, and the
        empirical one of schemes that have no exact values.
    scheme : str or InitScheme, optional
        The scheme to draw. By default, all schemes are drawn side by side. It is required if `ax`
        is given and the table has several schemes.
    axes : (str, str), optional
        The columns to the right and upwards, which hold whole numbers of at least 1. By default,
        they are ``d`` and ``l``, or the axes of a study of models.
    ax : Axes, optional
        The Axes to draw on, whose style is kept. By default, a new figure is made.
    scale : {"linear", "log10"}
        Whether colours show probabilities from 0 to 1 or their common logarithms. Cells in which no
        network was obstructed have no logarithm. They are grey, and a legend gives the upper bound
        of their probability.
    levels : sequence of float
        The probabilities, in (0, 1), at which contour lines are drawn. They are exact probabilities
        or, where there are none, empirical ones.
    colorbar : bool
        Whether to draw a colour bar.

    Returns
    -------
    Axes or ndarray of Axes
        The Axes, or an array with the Axes of each scheme. A new figure is their ``figure``.

    Raises
    ------
    ValueError
        If `value`, `scheme`, `axes`, `scale` or one of `levels` is not allowed, if the table lacks
        a column or rows, if a cell occurs twice, or if a study has no grid of two axes.
    """
    cells, axes = table_and_axes(table, axes)
    panels = [row[0] for row in panels_of(cells, scheme, (value,), scale, levels, axes)]
    if ax is None:
        width = 3.4 if len(panels) == 1 else min(7.0, 2.6 * len(panels))
        fig = _draw_figure([panels], levels, width, rows=False, bars=colorbar)
        drawn = np.array(fig.axes[: len(panels)], dtype=object)
        return drawn if len(panels) > 1 else fig.axes[0]
    if len(panels) > 1:
        names = ", ".join(panel.scheme for panel in panels)
        raise ValueError(f"scheme = None: must be one of {names} to draw on one ax")
    _draw(ax, panels[0], levels)
    ax.set_title(f"{_wrap(panels[0].scheme, _points(ax))}\n{panels[0].title}")
    if colorbar:
        _draw_bar(panels, ax.figure, ax=ax)
    return ax


def figure(
    table: pd.DataFrame,
    *,
    value: str | None = None,
    scale: str = "linear",
    width: float | None = None,
    levels: Sequence[float] = CONTOURS,
    axes: Sequence[str] = AXES,
) -> Figure:
    """Draw a table with a row for every scheme and the columns empirical, exact and z-score.

    Parameters
    ----------
    table, scale, levels, axes
        As in `heatmap`. The logarithmic scale ends at a power of ten below all positive values of
        the first column. Smaller values in the second column have the colour of that end.
    value : {"empirical", "exact", "zscore", "log10"}, optional
        The only column to draw.
    width : float, optional
        Width in inches, from 2 to 100. The default is 3.4 for a single column and otherwise 7.

    Returns
    -------
    Figure
        Its ``axes`` are the panels, row by row, followed by the colour bars.

    Raises
    ------
    ValueError
        As in `heatmap`, or if `width` is out of range.
    """
    width = (7.0 if value is None else 3.4) if width is None else width
    if not 2.0 <= width <= 100.0:
        raise ValueError(f"width = {width!r}: must be between 2 and 100 inches")
    values = ("empirical", "exact", "zscore") if value is None else (value,)
    panels = panels_of(table, None, values, scale, levels, axes)
    return _draw_figure(panels, levels, width, rows=True, bars=True)


def write(fig: Figure, stream: IO[bytes], *, kind: str = "png", dpi: int = 200) -> None:
    """Write a figure to a binary stream. The same figure always gives the same bytes.

    Parameters
    ----------
    fig : Figure
    stream : binary file
    kind : {"png", "pdf"}
        The format. In a PDF, a heatmap of many cells is an image of at least 600 dots per inch and
        everything else consists of vectors.
    dpi : int
        Dots per inch, >= 1.

    Raises
    ------
    ValueError
        If `kind` is unknown or `dpi` is not positive.
    """
    check_choice("kind", kind, ("png", "pdf"))
    dots = max(check_count("dpi", dpi), 600 if kind == "pdf" else 1)
    with _style():
        dateless = {"Software": None} if kind == "png" else {"CreationDate": None}
        fig.savefig(stream, format=kind, dpi=dots, metadata=dateless)


def save(fig: Figure, stem: str | os.PathLike[str], *, dpi: int = 200) -> tuple[Path, Path]:
    """Write ``stem.png`` and ``stem.pdf`` as `write` does, and return their paths.

    The folder is made if it does not exist. Each file appears whole or not at all.
    """
    paths = Path(f"{os.fspath(stem)}.png"), Path(f"{os.fspath(stem)}.pdf")
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for path in paths:
        with whole_file(path) as stream:
            write(fig, stream, kind=path.suffix[1:], dpi=dpi)
    return paths


@contextmanager
def _style() -> Iterator[None]:
    """Use the defaults of matplotlib with our sizes, and restore the caller's settings."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def _draw_figure(
    panels: list[list[Panel]], levels: Sequence[float], width: float, *, rows: bool, bars: bool
) -> Figure:
    """Draw square panels and, below them, a colour bar for each scale; lengths are in inches.

    With ``rows``, every row of panels belongs to one scheme, whose label stands above it.
    """
    left, right, gap = 0.47, 0.14, (0.2 if rows else 0.47)
    side = (width - left - right + gap) / len(panels[0]) - gap
    room = 72 * (width - left - right if rows else side)
    names = [[_wrap(panel.scheme, room) for panel in row] for row in panels]
    top = 0.26 + 0.125 * max(name.count("\n") + 1 for row in names for name in row)
    bottom, between = (0.87 if bars else 0.37), top + 0.25
    height = bottom + len(panels) * (side + between) - 0.25
    place = {"left": left / width, "right": 1.0 - right / width, "wspace": gap / side}
    place |= {"bottom": bottom / height, "top": 1.0 - top / height, "hspace": between / side}
    with _style():
        fig = Figure(figsize=(width, height))
        FigureCanvasAgg(fig)
        axes = fig.subplots(len(panels), len(panels[0]), squeeze=False, gridspec_kw=place)
        for (i, j), ax in np.ndenumerate(axes):
            _draw(ax, panels[i][j], levels)
            ax.set_title(("" if rows else names[i][j] + "\n") + panels[i][j].title)
            if rows and j == 0:
                ax.set_title(names[i][j] + "\n", loc="left", fontweight="bold")
            elif rows:
                ax.tick_params(labelleft=False)
                ax.set_ylabel("")
            if i < len(panels) - 1:
                ax.set_xlabel("")
        for norm in dict.fromkeys(panel.norm for panel in panels[0]) if bars else ():
            span = [j for j, panel in enumerate(panels[0]) if panel.norm is norm]
            x, end = axes[0, span[0]].get_position().x0, axes[0, span[-1]].get_position().x1
            inset = 0.12 * (end - x) * (len(span) > 1)
            cax = fig.add_axes((x + inset, 0.36 / height, end - x - 2 * inset, 0.09 / height))
            alike = [row[j] for row in panels for j in span]
            _draw_bar(alike, fig, cax=cax, orientation="horizontal")
    return fig


def _draw(ax: Axes, panel: Panel, levels: Sequence[float]) -> None:
    """Draw the cells, the ticks, the contour lines and the legend of one panel."""
    cells = panel.columns["exact"]
    d, l = cells.columns.to_numpy(), cells.index.to_numpy()
    x, y, data = _edges(d), _edges(l), panel.data
    ax.set(xscale=_spacing(d), yscale=_spacing(l), xlim=x[[0, -1]], ylim=y[[0, -1]])
    ax.set(xlabel=panel.labels[0], ylabel=panel.labels[1])
    many = data.size > _VECTOR_CELLS
    ax.pcolormesh(x, y, data, cmap=panel.cmap, norm=panel.norm, rasterized=many)
    ax.grid(False)
    _set_ticks(ax.xaxis, d)
    _set_ticks(ax.yaxis, l)
    unseen = (panel.column("empirical") == 0.0) & np.isnan(panel.column("log10_empirical"))
    if panel.reason_empty:
        ax.text(0.5, 0.5, panel.reason_empty, transform=ax.transAxes, ha="center", va="center")
    elif panel.source != "z":
        _draw_contours(ax, d, l, panel, levels)
    if panel.source == "log10_empirical" and unseen.any():
        bound = np.max(panel.column("ci_high"), where=unseen, initial=0.0)
        text = f"no event seen:\n$P$ below {bound:.2g}".replace("e-0", "e-")
        small: Any = {"borderpad": 0.3, "borderaxespad": 0.3, "handlelength": 1.0}
        patch = Patch(facecolor=GREY, edgecolor="0.4", linewidth=0.5, label=text)
        ax.legend(handles=[patch], loc="upper right", framealpha=0.9, **small)


def _points(ax: Axes) -> float:
    """Return the width of the Axes in points."""
    return ax.bbox.width * 72 / ax.figure.dpi


def _wrap(label: str, points: float) -> str:
    """Break the label of a scheme after its colon and commas into lines of at most that width."""
    letters = max(24, int(points / 5))
    return "\n".join(re.findall(rf".{{1,{letters}}}(?:(?<=[:,])|$)|[^:,]+[:,]?", label))


def _spacing(values: NDArray[np.int64]) -> str:
    equal = len(set(np.diff(values).tolist())) <= 1
    return "linear" if equal and values[-1] <= max(300, 10 * values[0]) else "log"


def _edges(values: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the edges of the cells, which lie half way between the values on the axis."""
    log = _spacing(values) == "log"
    at = np.log(values) if log else values.astype(np.float64)
    half = np.diff(at) / 2 if len(at) > 1 else np.array([0.5])
    edges = np.concatenate([at[:1] - half[0], at[:-1] + half[: len(at) - 1], at[-1:] + half[-1]])
    return np.exp(edges) if log else edges


def _set_ticks(axis: Axis, values: NDArray[np.int64]) -> None:
    """Label as many of up to 24 values as there is room for, and of more values round numbers."""
    log = _spacing(values) == "log"
    axis.set_minor_locator(NullLocator())
    if len(values) <= 24:
        at = axis.get_transform().transform(values.astype(np.float64))
        room = 0.14 * np.ptp(axis.get_transform().transform(_edges(values)))
        kept = [0]
        for i in range(1, len(values)):
            kept += [i] * bool(at[i] - at[kept[-1]] > room)
        ticks = values[kept]
    elif log:
        subs = (1.0,) if values[-1] >= 100 * values[0] else (1.0, 2.0, 5.0)
        ticks = np.asarray(LogLocator(subs=subs, numticks=99).tick_values(*values[[0, -1]]))
        axis.set_minor_locator(LogLocator(subs=range(2, 10), numticks=99))
        axis.set_minor_formatter(NullFormatter())
    else:
        ticks = np.asarray(MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(*values[[0, -1]]))
        ticks = np.append(values[:1], ticks[ticks > values[0] + 0.5 * (ticks[1] - ticks[0])])
    ticks = ticks[(ticks >= values[0]) & (ticks <= values[-1])]
    axis.set_ticks(ticks, labels=[f"{tick:.0f}" for tick in ticks])


def _log_minus_log(p: Any, floor: float = 0.0) -> Any:
    """Return ``log(-log(1 - p))``, which is far smoother between cells than ``p`` itself."""
    return np.log(-np.log1p(-np.clip(p, floor, 1.0 - 1e-15)))


def _draw_contours(ax: Axes, d: Any, l: Any, panel: Panel, levels: Sequence[float]) -> None:
    """Draw contour lines at the levels within the data, with labels on the lines or beside them."""
    exact, empirical = panel.column("exact"), panel.column("empirical")
    p = np.ma.masked_invalid(np.where(np.isfinite(exact), exact, empirical))
    inside = sorted({level for level in levels if p.min() < level < p.max()})
    if min(p.shape) < 2 or not inside:
        return
    texts = {float(_log_minus_log(level)): f"{level:g}" for level in inside}
    shades = panel.norm(np.log10(inside) if panel.log else np.array(inside))
    look: Any = {"colors": np.where(shades > 0.65, "black", "white"), "linestyles": "solid"}
    heights = _log_minus_log(p, 1e-6 * inside[0])
    lines = ax.contour(d, l, heights, levels=list(texts), linewidths=0.8, **look)
    font: Any = {"fontsize": 0.85 * float(ax.xaxis.label.get_fontsize())}
    arrow = {"arrowstyle": "-", "color": "white", "linewidth": 0.5, "shrinkB": 0}
    beside = {"textcoords": "offset points", "color": "white", "arrowprops": arrow, **font}
    for i, spot, cramped in _label_spots(ax, lines):
        text: Text
        if cramped:
            text = ax.annotate(f"{inside[i]:g}", spot, (14, 5), **beside)
        else:
            inline: Any = {"manual": [spot], "inline_spacing": 2, **font}
            text = lines.clabel(list(texts)[i : i + 1], fmt=texts, **inline)[-1]
        halo = "black" if cramped else panel.cmap(shades[i])
        text.set_path_effects([withStroke(linewidth=1.2, foreground=halo)])


def _label_spots(ax: Axes, lines: ContourSet) -> Iterator[tuple[int, Any, bool]]:
    """Yield the index of every contour line, the point for its label, and whether it is cramped.

    The point is the one farthest from the frame, the other lines and their labels. If even that is
    too near to them, the line is cramped, and the point is one near the left of the frame.
    """
    paths: list[Any] = [max(segments, key=len, default=[]) for segments in lines.allsegs]
    to_axes = ax.transData + ax.transAxes.inverted()
    places = [to_axes.transform(path) if len(path) else np.empty((0, 2)) for path in paths]
    enough = 0.7 * float(ax.xaxis.label.get_fontsize()) / _points(ax)
    taken = np.empty((0, 2))
    for i in (i for i, path in enumerate(paths) if len(path)):
        clear = np.minimum(places[i], 1.0 - places[i]).min(axis=1)
        others = [other[:: 1 + len(other) // 200] for j, other in enumerate(places) if j != i]
        for other in [*others, taken]:
            gaps = np.linalg.norm(places[i][:, None] - other, axis=2).min(axis=1, initial=9.0)
            weights = np.where(gaps < 0.16, 0.1, 0.4) if other is taken else 1.0
            clear = np.minimum(clear, gaps * weights)  # labels need more distance than lines
        cramped = bool(clear.max() <= enough)
        aside = np.abs(places[i] - [0.0, 0.6 + 0.12 * i]).sum(axis=1)
        best = aside.argmin() if cramped else clear.argmax()
        taken = np.append(taken, places[i][[best]], axis=0)
        yield i, paths[i][best], cramped


def _draw_bar(panels: Sequence[Panel], fig: Figure | SubFigure, **place: Any) -> None:
    """Draw the colour bar of panels that have the same colour scale."""
    log, norm, shown = panels[0].log, panels[0].norm, [panel.data for panel in panels]
    values = np.concatenate([data.compressed() for data in shown])
    ends = bool(np.any(values < norm.vmin)), bool(np.any(values > norm.vmax))
    extend = {(True, False): "min", (False, True): "max", (True, True): "both"}.get(ends, "neither")
    label = "probability of obstruction" + (r", $\log_{10}P$" if log else " $P$")
    if panels[0].source == "z":
        label = "$z$-score" + " (grey: undefined)" * any(np.ma.is_masked(data) for data in shown)
    bar = fig.colorbar(ScalarMappable(norm, panels[0].cmap), label=label, extend=extend, **place)
    bar.outline.set_linewidth(0.5)
    if log:
        bar.locator = MaxNLocator(8, integer=True)
