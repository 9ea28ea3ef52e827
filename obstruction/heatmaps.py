"""Heatmaps of the probability of obstruction over ``(d, l)``: table in, Axes or Figure out.

No display is needed and nothing global changes: figures are made without pyplot, and matplotlib's
settings are the same before and after. Axes are in true coordinates, linear if the values have
equal steps up to 300, otherwise logarithmic. Cells without a value are grey.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final, TypeAlias

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
AxesArray: TypeAlias = NDArray[np.object_]

VALUES: Final = ("empirical", "exact", "zscore", "log10")
"""What a heatmap can show."""

SCALES: Final = ("linear", "log10")
"""How a heatmap can show a probability."""

CONTOURS: Final = (0.01, 0.05, 0.5)
"""The probabilities whose contour lines are drawn."""

_COLUMNS: Final = ("scheme", "d", "l", "networks", "empirical", "ci_high", "exact", "z")
_Z_LIMIT: Final = 4.0
_GREY: Final = "0.78"
_VECTOR_CELLS: Final = 2500  # a larger mesh becomes an image inside the PDF
_MAJOR_TICKS: Final = {"width": 0.6, "size": 2.5, "pad": 2.0}
_MINOR_TICKS: Final = {"width": 0.4, "size": 1.5}
_STYLE: Final[dict[str, Any]] = {
    "font.size": 7.0,
    "axes.titlesize": 7.5,
    "axes.labelpad": 2.0,
    "legend.fontsize": 6.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "axes.linewidth": 0.6,
    **{f"{x}tick.major.{name}": size for x in "xy" for name, size in _MAJOR_TICKS.items()},
    **{f"{x}tick.minor.{name}": size for x in "xy" for name, size in _MINOR_TICKS.items()},
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class _Grid:
    """The cells of one scheme; every array in `columns` has shape ``(len(l), len(d))``."""

    scheme: str
    d: IntArray
    l: IntArray
    columns: dict[str, FloatArray]


@dataclass(frozen=True)
class _Panel:
    """One quantity of one scheme, and how it is coloured."""

    grid: _Grid
    source: str
    log: bool
    norm: Normalize

    @property
    def cmap(self) -> Colormap:
        name = "vlag" if self.source == "z" else "viridis"
        cmap: Colormap = sns.color_palette(name, as_cmap=True)
        return cmap.with_extremes(bad=_GREY)

    @property
    def data(self) -> Any:
        """What the colours show; cells without a value, or without a logarithm, are masked."""
        values = self.grid.columns[self.source]
        if self.log and self.source == "exact":  # an underflow is no zero: it is off the scale
            values = np.where(values == 0.0, np.finfo(np.float64).tiny, values)
        shown = np.ma.masked_invalid(values)
        return np.ma.log10(np.ma.masked_less_equal(shown, 0.0)) if self.log else shown

    @property
    def title(self) -> str:
        if self.source != "empirical":
            return {"z": "z-score", "exact": "exact"}[self.source]
        networks = self.grid.columns["networks"]
        counted = networks[networks > 0].astype(int)
        if not len(counted):
            return "empirical"
        ends = sorted({int(counted.min()), int(counted.max())})
        return f"empirical, {' to '.join(map(_integer, ends))} networks"

    @property
    def words(self) -> str:
        """Why the panel is empty, if it is."""
        shown, exact, empirical = (
            bool(np.isfinite(self.grid.columns[name]).any())
            for name in (self.source, "exact", "empirical")
        )
        if shown:
            return ""
        if self.source == "empirical" or (exact and not empirical):
            return "not sampled"
        return "undefined" if exact else "no closed form"


# --- the public functions ------------------------------------------------------------------


def heatmap(
    table: pd.DataFrame,
    value: str = "empirical",
    *,
    scheme: object = None,
    ax: Axes | None = None,
    scale: str = "linear",
    levels: Sequence[float] = CONTOURS,
    colorbar: bool = True,
) -> Axes | AxesArray:
    """Draw one quantity over ``(d, l)``: ``d`` to the right, ``l`` upwards.

    Parameters
    ----------
    table : DataFrame
        One row a cell, in any order, with columns ``scheme``, ``d``, ``l``, ``networks``,
        ``empirical``, ``ci_high``, ``exact`` and ``z``; others are ignored. Where there is no
        closed form ``exact`` and ``z`` are NaN.
    value : {"empirical", "exact", "zscore", "log10"}
        The quantity; ``"log10"`` is the exact probability, or the empirical one of a scheme
        without exact ones, on the logarithmic scale.
    scheme : str or InitScheme, optional
        The scheme to draw. By default every scheme of the table, side by side.
    ax : Axes, optional
        Where to draw, in the caller's own style; `scheme` is then required if the table has
        several. By default a new figure is made, in the style of `figure`.
    scale : {"linear", "log10"}
        Colours for the probability from 0 to 1, or for its logarithm. A cell in which no network
        was obstructed has no logarithm: it is grey, and a legend gives its upper bound.
    levels : sequence of float
        Contour lines, probabilities in (0, 1): of the exact probability, or of the empirical one
        where there is no exact one.
    colorbar : bool
        Whether to draw a colour bar.

    Returns
    -------
    Axes or ndarray of Axes
        The Axes if one scheme was drawn, otherwise one for each, shape ``(schemes,)``. A new
        figure is their ``figure``.

    Raises
    ------
    ValueError
        If `value`, `scheme`, `scale` or one of `levels` is not among those allowed, if the table
        lacks a column or rows, or if a cell occurs twice.

    Examples
    --------
    >>> cells = [("kaiming_normal", d, l, 100, 0.5, 0.6, 0.5, 0.0) for d in (1, 2) for l in (1, 2)]
    >>> columns = ["scheme", "d", "l", "networks", "empirical", "ci_high", "exact", "z"]
    >>> ax = heatmap(pd.DataFrame(cells, columns=columns))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('inputs $d$', 'hidden neurons $l$')
    """
    _check(value, scale, levels)
    panels = [row[0] for row in _panels(_grids(table, scheme), (value,), scale)]
    if ax is not None:
        if len(panels) > 1:
            names = ", ".join(panel.grid.scheme for panel in panels)
            raise ValueError(f"scheme = None: must be one of {names} to draw on one ax")
        _draw(ax, panels[0], levels)
        ax.set_title(f"{_wrap(panels[0].grid.scheme, *_room(ax))}\n{panels[0].title}")
        if colorbar:
            _draw_bar(panels, ax.figure, ax=ax)
        return ax
    width = 3.4 if len(panels) == 1 else min(7.0, 2.6 * len(panels))
    fig = _canvas([panels], levels, width=width, named_rows=False, colorbar=colorbar)
    return np.array(fig.axes[: len(panels)], dtype=object) if len(panels) > 1 else fig.axes[0]


def figure(
    table: pd.DataFrame,
    *,
    value: str | None = None,
    scale: str = "linear",
    width: float | None = None,
    levels: Sequence[float] = CONTOURS,
) -> Figure:
    """Draw the whole table: one row a scheme; columns empirical, exact and z-score.

    Parameters
    ----------
    table, scale, levels
        As in `heatmap`. The logarithmic scale ends at one network in all those drawn: an exact
        probability below that has the colour of the end.
    value : {"empirical", "exact", "zscore", "log10"}, optional
        Draw this column alone.
    width : float, optional
        Width in inches, from 2 to 100; by default 7, and 3.4 for a single column.

    Returns
    -------
    Figure
        Its ``axes`` are the panels, row by row, and then the colour bars.

    Raises
    ------
    ValueError
        As in `heatmap`, or if `width` is out of range.
    """
    _check(value, scale, levels)
    width = (7.0 if value is None else 3.4) if width is None else width
    if not 2.0 <= width <= 100.0:
        raise ValueError(f"width = {width!r}: must be between 2 and 100 inches")
    values = ("empirical", "exact", "zscore") if value is None else (value,)
    return _canvas(
        _panels(_grids(table, None), values, scale), levels, width=width, named_rows=True
    )


def save(fig: Figure, stem: str | os.PathLike[str], *, dpi: int = 200) -> tuple[Path, Path]:
    """Write a figure as ``stem.png`` and ``stem.pdf``, each whole or not at all.

    The same figure gives the same bytes: neither file holds a date. In the PDF text, lines and
    small meshes are vectors, and a large mesh is an image of at least 600 dots per inch.

    Parameters
    ----------
    fig : Figure
        The figure.
    stem : path
        The path of both files without suffix; the folder must exist.
    dpi : int
        Dots per inch of the PNG, >= 1.

    Returns
    -------
    (png, pdf) : tuple of Path

    Raises
    ------
    ValueError
        If `dpi` is not positive.
    """
    if dpi < 1:
        raise ValueError(f"dpi = {dpi!r}: must be >= 1")
    paths = []
    for kind, dots, unwanted in (("png", dpi, "Software"), ("pdf", max(dpi, 600), "CreationDate")):
        buffer, path = BytesIO(), Path(f"{os.fspath(stem)}.{kind}")
        with _style():
            fig.savefig(buffer, format=kind, dpi=dots, metadata={unwanted: None})
        beside = path.with_name(path.name + ".part")
        with beside.open("wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        paths.append(beside.replace(path))
    return paths[0], paths[1]


def save_heatmap(
    table: pd.DataFrame,
    folder: str | os.PathLike[str],
    *,
    stem: str = "heatmap",
    dpi: int = 200,
    **options: Any,
) -> tuple[Path, Path]:
    """Draw the table with `figure` and its `options`, and `save` it in a folder, made if need be.

    Returns
    -------
    (png, pdf) : tuple of Path
        ``folder/heatmap.png`` and ``folder/heatmap.pdf``, or with another stem.

    Raises
    ------
    ValueError
        As in `figure` and `save`.
    """
    fig = figure(table, **options)
    Path(folder).mkdir(parents=True, exist_ok=True)
    return save(fig, Path(folder) / stem, dpi=dpi)


# --- reading the arguments -----------------------------------------------------------------


def _check(value: str | None, scale: str, levels: Sequence[float]) -> None:
    for name, word, allowed in (("value", value, VALUES), ("scale", scale, SCALES)):
        if word is not None and word not in allowed:
            raise ValueError(f"{name} = {word!r}{_allowed(word, allowed)}")
    if value == "zscore" and scale == "log10":
        raise ValueError("scale = 'log10': must be 'linear' for a zscore, which has a sign")
    if not all(0.0 < level < 1.0 for level in levels):
        raise ValueError(f"levels = {levels!r}: must be probabilities between 0 and 1")


def _allowed(word: object, words: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(word), words, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{hint}: must be one of {', '.join(words)}"


def _grids(table: pd.DataFrame, scheme: object) -> list[_Grid]:
    """Spread the scheme asked for, or all, over their axes.

    All are in the order of the categories of column ``scheme``, or of first appearance.
    """
    for column in _COLUMNS:
        if column not in table.columns:
            raise ValueError(f"table has no column {column!r}: needs {', '.join(_COLUMNS)}")
    categories = isinstance(table["scheme"].dtype, pd.CategoricalDtype)
    groups = table.groupby("scheme", observed=True, sort=categories)
    rows = {str(name): group for name, group in groups}
    if not rows:
        raise ValueError("table has no rows: needs one for each cell")
    if scheme is not None and str(scheme) not in rows:
        raise ValueError(f"scheme = {str(scheme)!r}{_allowed(scheme, list(rows))}")
    names = rows if scheme is None else [str(scheme)]
    return [_grid(name, rows[name]) for name in names]


def _grid(scheme: str, rows: pd.DataFrame) -> _Grid:
    d, column = np.unique(rows["d"].to_numpy(np.int64), return_inverse=True)
    l, row = np.unique(rows["l"].to_numpy(np.int64), return_inverse=True)
    cells = row * len(d) + column
    times = np.bincount(cells)
    if times.max() > 1:
        i, j = divmod(int(times.argmax()), len(d))
        raise ValueError(
            f"table: cell (scheme = {scheme!r}, d = {d[j]}, l = {l[i]}) occurs {times.max()} times"
        )
    columns = {}
    for name in _COLUMNS[3:]:
        columns[name] = np.full((len(l), len(d)), np.nan)
        columns[name].flat[cells] = rows[name].to_numpy(np.float64)
    return _Grid(scheme, d, l, columns)


def _panels(grids: Sequence[_Grid], values: Sequence[str], scale: str) -> list[list[_Panel]]:
    """Make a row of panels for every scheme; all probabilities share their colour limits."""
    log = scale == "log10" or "log10" in values
    sources, ends = [], [10.0]
    for grid in grids:
        log10 = "exact" if np.isfinite(grid.columns["exact"]).any() else "empirical"
        sources.append([{"zscore": "z", "log10": log10}.get(value, value) for value in values])
        # The logarithmic scale ends at what counting can see or, without counts, at the least P.
        seen = "empirical" in sources[-1]
        end = grid.columns["networks"] if seen else 1.0 / np.maximum(grid.columns["exact"], 1e-300)
        ends.extend(end[np.isfinite(end)])
    chance = Normalize(-math.ceil(math.log10(max(ends)) - 1e-9), 0.0) if log else Normalize(0, 1)
    norms = {"z": Normalize(-_Z_LIMIT, _Z_LIMIT)}
    return [
        [_Panel(grid, source, log and source != "z", norms.get(source, chance)) for source in row]
        for grid, row in zip(grids, sources, strict=True)
    ]


# --- drawing -------------------------------------------------------------------------------


@contextmanager
def _style() -> Iterator[None]:
    """Matplotlib's defaults with our sizes, whatever the caller's settings, which come back."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def _canvas(
    panels: Sequence[Sequence[_Panel]],
    levels: Sequence[float],
    *,
    width: float,
    named_rows: bool,
    colorbar: bool = True,
) -> Figure:
    """Lay the panels out as squares, all sizes in inches, with a colour bar a kind below them."""
    rows, columns = len(panels), len(panels[0])
    left, right, gap = 0.47, 0.14, (0.2 if named_rows else 0.47)
    side = (width - left - right - gap * (columns - 1)) / columns
    room = (width - left) * 66 if named_rows else side * 72
    names = [[_wrap(panel.grid.scheme, room, 7.5) for panel in row] for row in panels]
    lines = 1 + max(name.count("\n") + 1 for row in names for name in row)
    title, ticks, bottom = 0.13 + 0.125 * lines, 0.25, (0.62 if colorbar else 0.12)
    height = rows * (title + side + ticks) + bottom
    unit = np.array([width, height, width, height])
    with _style():
        fig = Figure(figsize=(width, height))
        FigureCanvasAgg(fig)
        for i, row in enumerate(panels):
            for j, panel in enumerate(row):
                y = bottom + ticks + (rows - 1 - i) * (title + side + ticks)
                ax = fig.add_axes(tuple(np.array([left + j * (side + gap), y, side, side]) / unit))
                _draw(ax, panel, levels)
                ax.set_title(panel.title if named_rows else f"{names[i][j]}\n{panel.title}")
                if named_rows and j == 0:
                    ax.set_title(names[i][j] + "\n", loc="left", fontweight="bold")
                elif named_rows:
                    ax.tick_params(labelleft=False)
                    ax.set_ylabel("")
                if i < rows - 1:
                    ax.set_xlabel("")
        for norm in dict.fromkeys(panel.norm for panel in panels[0]) if colorbar else ():
            span = [j for j, panel in enumerate(panels[0]) if panel.norm is norm]
            length = (side + gap) * (len(span) - 1) + side
            inset = 0.15 * length * (len(span) > 1)
            x = left + span[0] * (side + gap) + inset
            cax = fig.add_axes(tuple(np.array([x, 0.36, length - 2 * inset, 0.09]) / unit))
            alike = [panel for row in panels for panel in row if panel.norm is norm]
            _draw_bar(alike, fig, cax=cax, orientation="horizontal")
    return fig


def _draw(ax: Axes, panel: _Panel, levels: Sequence[float]) -> None:
    """Draw the cells, the ticks, the contour lines and the legend of one panel."""
    grid, data = panel.grid, panel.data
    ax.set(xscale=_spacing(grid.d), yscale=_spacing(grid.l))
    x, y = _edges(grid.d), _edges(grid.l)
    many = data.size > _VECTOR_CELLS
    ax.pcolormesh(x, y, data, cmap=panel.cmap, norm=panel.norm, rasterized=many)
    ax.grid(False)
    ax.set(xlim=x[[0, -1]], ylim=y[[0, -1]], xlabel="inputs $d$", ylabel="hidden neurons $l$")
    _set_ticks(ax.xaxis, grid.d, *_room(ax))
    _set_ticks(ax.yaxis, grid.l, *_room(ax))
    if panel.words:
        middle: dict[str, Any] = {"transform": ax.transAxes, "ha": "center", "va": "center"}
        ax.text(0.5, 0.5, panel.words, color="0.15", **middle)
    elif panel.source != "z":
        _draw_contours(ax, panel, levels)
    unseen = grid.columns["empirical"] == 0.0
    if panel.log and panel.source == "empirical" and unseen.any():
        bound = np.max(grid.columns["ci_high"], where=unseen, initial=0.0)
        text = f"no event seen:\n$P$ below {_rounded(bound)}"
        patch = Patch(facecolor=_GREY, edgecolor="0.4", linewidth=0.5, label=text)
        ax.legend(handles=[patch], loc="upper right", framealpha=0.9, handlelength=1.2)


def _room(ax: Axes) -> tuple[float, float]:
    """Return the width of the Axes and the size of its tick labels, in points."""
    return ax.bbox.width * 72 / ax.figure.dpi, float(ax.get_xticklabels()[0].get_fontsize())


def _spacing(values: IntArray) -> str:
    equal = len(set(np.diff(values).tolist())) <= 1
    return "linear" if equal and values[-1] <= max(300, 10 * values[0]) else "log"


def _edges(values: IntArray) -> FloatArray:
    """Return the ends of the cells, half way between values on the axis."""
    log = _spacing(values) == "log"
    at = np.log(values) if log else values.astype(np.float64)
    steps = np.diff(at) if len(at) > 1 else np.ones(1)
    edges = np.append(at[0] - steps[0] / 2, at + np.append(steps, steps[-1])[: len(at)] / 2)
    return np.exp(edges) if log else edges


def _set_ticks(axis: Axis, values: IntArray, points: float, size: float) -> None:
    """Label all values, every second, ..., as there is room; of many values, round ones."""
    ends, log = _edges(values)[[0, -1]], _spacing(values) == "log"
    at, (low, high) = (np.log(values), np.log(ends)) if log else (values, ends)
    digits = len(str(values[-1])) + 0.7
    letters = points / (0.64 * size)
    axis.set_minor_locator(NullLocator())
    if len(values) > 24 and log:
        ticks = LogLocator(subs=(1.0,), numticks=99).tick_values(*values[[0, -1]])
        axis.set_minor_locator(LogLocator(subs=range(2, 10), numticks=99))
        axis.set_minor_formatter(NullFormatter())
    elif len(values) > 24:
        most = int(np.clip(letters / (digits + 1), 1, 5))
        ticks = MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(*values[[0, -1]])
        ticks = np.append(values[:1], ticks[ticks > values[0] + 0.5 * (ticks[1] - ticks[0])])
    else:
        step = 1
        while np.diff(at[::step]).min(initial=np.inf) * letters < digits * (high - low):
            step += 1
        ticks = values[::step]
    ticks = ticks[(ticks >= values[0]) & (ticks <= values[-1])]
    axis.set_ticks(ticks, labels=[f"{tick:.0f}" for tick in ticks])


def _log_minus_log(chance: Any) -> Any:
    """Return ``log(-log(1 - P))``, far smoother between cells than P: about log(l) + log(p)."""
    return np.log(-np.log1p(-np.clip(chance, 1e-15, 1.0 - 1e-15)))


def _draw_contours(ax: Axes, panel: _Panel, levels: Sequence[float]) -> None:
    exact, empirical = panel.grid.columns["exact"], panel.grid.columns["empirical"]
    chance = np.ma.masked_invalid(np.where(np.isfinite(exact), exact, empirical))
    inside = sorted({level for level in levels if chance.min() < level < chance.max()})
    if min(chance.shape) < 2 or not inside:
        return
    shades = []
    for level in inside:
        red, green, blue, _ = panel.cmap(panel.norm(math.log10(level) if panel.log else level))
        shades.append("black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.55 else "white")
    heights = _log_minus_log(np.array(inside))
    lines = ax.contour(
        panel.grid.d,
        panel.grid.l,
        _log_minus_log(chance),
        levels=heights,
        colors=shades,
        linewidths=0.8,
    )
    # Label every line where it is farthest from the frame, the other lines and their labels.
    points, size = _room(ax)
    paths = [max(segments, key=len, default=np.empty((0, 2))) for segments in lines.allsegs]
    to_axes = ax.transData + ax.transAxes.inverted()
    places = [to_axes.transform(path) if len(path) else path for path in paths]
    taken: list[FloatArray] = []
    spots = []
    for i, (level, path, place) in enumerate(zip(inside, paths, places, strict=True)):
        if not len(path):
            continue
        clear = np.minimum(place, 1.0 - place).min(axis=1)
        others = [other[:: 1 + len(other) // 200] for j, other in enumerate(places) if j != i]
        for other, weight in [(other, 1.0) for other in others] + [(one, 0.4) for one in taken]:
            gaps = np.linalg.norm(place[:, None] - other, axis=2).min(axis=1, initial=1.0)
            clear = np.minimum(clear, weight * gaps)
        best = int(clear.argmax())
        if clear[best] * points > 0.6 * size:
            spots.append(tuple(path[best]))
        else:  # no room on the line: write beside it
            best = int(np.abs(place - [0.0, 0.6 + 0.12 * i]).sum(axis=1).argmin())
            outline = withStroke(linewidth=1.2, foreground="black")
            ax.annotate(
                f"{level:g}",
                tuple(path[best]),
                xytext=(2.4 * size, 0.9 * size),
                textcoords="offset points",
                color="white",
                fontsize=0.9 * size,
                va="center",
                arrowprops={"arrowstyle": "-", "color": "white", "linewidth": 0.5, "shrinkB": 0},
                path_effects=[outline],
            )
        taken.append(place[[best]])
    if spots:
        texts = {height: f"{level:g}" for height, level in zip(heights, inside, strict=True)}
        lines.clabel(fmt=texts, fontsize=0.9 * size, inline_spacing=2, manual=spots)


def _draw_bar(panels: Sequence[_Panel], fig: Figure | SubFigure, **place: Any) -> None:
    """Draw the colour bar of panels that share their colours."""
    first = panels[0]
    shown = [panel.data for panel in panels]
    values = np.concatenate([data.compressed() for data in shown])
    below = bool(np.any(values < first.norm.vmin))
    above = bool(np.any(values > first.norm.vmax))
    extend = [["neither", "max"], ["min", "both"]][below][above]
    label = "probability of obstruction" + (r", $\log_{10}P$" if first.log else " $P$")
    if first.source == "z":
        label = "$z$-score" + " (grey: undefined)" * any(np.ma.is_masked(data) for data in shown)
    bar = fig.colorbar(ScalarMappable(first.norm, first.cmap), label=label, extend=extend, **place)
    bar.outline.set_linewidth(0.5)
    if first.log:
        bar.locator = MaxNLocator(8, integer=True)


# --- words ---------------------------------------------------------------------------------


def _wrap(label: str, points: float, size: float) -> str:
    """Break the label of a scheme after its colon and commas into lines of that length."""
    lines = [""]
    for part in re.findall(r"[^:,]+[:,]?", label):
        if lines[-1] and len(lines[-1] + part) * 0.65 * size > points:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _integer(number: int) -> str:
    power = len(str(number)) - 1
    return f"$10^{power}$" if power >= 4 and number == 10**power else f"{number:,}"


def _rounded(number: float) -> str:
    if 0.01 <= number:
        return f"{number:.2g}"
    digits, exponent = f"{number:.1e}".split("e")
    return rf"${digits}\times10^{{{int(exponent)}}}$"
