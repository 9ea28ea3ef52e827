"""Heatmaps of the probability of obstruction over ``(d, l)``: table in, Axes or Figure out.

No display is needed and no global state is touched: figures are made without pyplot, and
matplotlib's settings are the same before and after. An axis of equal steps keeps its true
coordinates; any other, such as 2, 4, 8, ..., gives every value a cell of the same width and
counts the cells from 0. Cells without a value are grey.
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
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
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
_GREY: Final = "0.82"
_VECTOR_CELLS: Final = 2500  # a larger mesh becomes an image inside the PDF
_STYLE: Final = {
    "font.size": 7.0,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.0,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.pad": 2.0,
    "ytick.major.pad": 2.0,
    "axes.labelpad": 2.0,
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
class _Look:
    """How one quantity is drawn."""

    source: str
    log: bool
    norm: Normalize

    @property
    def cmap(self) -> Colormap:
        name = "vlag" if self.source == "z" else "viridis"
        return sns.color_palette(name, as_cmap=True).with_extremes(bad=_GREY)  # type: ignore[no-any-return]

    @property
    def bar_label(self) -> str:
        if self.source == "z":
            return r"$z$-score of the empirical rate"
        return r"$\log_{10}$ of " * self.log + "probability of obstruction $P$"

    def title(self, grid: _Grid) -> str:
        """Name the quantity, and what it rests on."""
        if self.source == "z":
            return "z-score"
        if self.source == "exact":
            return "exact"
        return "empirical" + _networks(grid.columns["networks"])

    def data(self, grid: _Grid) -> np.ma.MaskedArray[Any, Any]:
        """Return what the colours show; cells without a value, or a logarithm, are masked."""
        values = grid.columns[self.source]
        if not self.log:
            return np.ma.masked_invalid(values)
        if self.source == "exact":  # underflow is no zero: it is off the scale
            values = np.where(values == 0.0, np.finfo(np.float64).tiny, values)
        return np.ma.log10(np.ma.masked_less_equal(np.ma.masked_invalid(values), 0.0))

    def words(self, grid: _Grid) -> str:
        """Say why the panel is empty, if it is."""
        if np.isfinite(grid.columns[self.source]).any():
            return ""
        if not np.isfinite(grid.columns["empirical"]).any() and self.source != "exact":
            return "not sampled"
        return "undefined" if np.isfinite(grid.columns["exact"]).any() else "no closed form"


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
        ``empirical``, ``ci_high``, ``exact`` and ``z``; others are ignored. ``exact`` and ``z``
        may be NaN.
    value : {"empirical", "exact", "zscore", "log10"}
        The quantity; ``"log10"`` is the exact probability, or the empirical one of a table
        without any exact one, on the logarithmic scale.
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
        The Axes if one scheme was drawn, otherwise one for each scheme, shape ``(schemes,)``.
        The new figure is their ``figure``.

    Raises
    ------
    ValueError
        If `value`, `scheme` or `scale` is unknown, `levels` leaves (0, 1), `scheme` is needed and
        missing, a column is missing, the table has no rows, or a cell occurs twice.

    Examples
    --------
    >>> import pandas as pd
    >>> cells = [("kaiming_normal", d, l, 100, 0.5, 0.6, 0.5, 0.0) for d in (1, 2) for l in (1, 2)]
    >>> columns = ["scheme", "d", "l", "networks", "empirical", "ci_high", "exact", "z"]
    >>> ax = heatmap(pd.DataFrame(cells, columns=columns))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('inputs $d$', 'hidden neurons $l$')
    """
    _check(value=value, scale=scale, levels=levels)
    grids = _grids(table, scheme)
    looks = _looks(grids, (value,), scale)
    if ax is not None:
        if len(grids) > 1:
            names = ", ".join(grid.scheme for grid in grids)
            raise ValueError(f"scheme = None: must be one of {names} to draw on one ax")
        _draw(ax, grids[0], looks[0], levels)
        _set_title(ax, grids[0].scheme, looks[0].title(grids[0]))
        if colorbar:
            _draw_bar(looks[0], grids, ax.figure, ax=ax)
        return ax
    with _style():
        width = 3.4 if len(grids) == 1 else min(7.0, 2.6 * len(grids))
        panels = [[(grid, looks[0]) for grid in grids]]
        fig = _canvas(panels, levels, width=width, named_rows=False, colorbar=colorbar)
    axes = np.array(fig.axes[: len(grids)], dtype=object)
    return axes if len(grids) > 1 else fig.axes[0]


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
    table : DataFrame
        As in `heatmap`.
    value : {"empirical", "exact", "zscore", "log10"}, optional
        Draw this column alone.
    scale : {"linear", "log10"}
        As in `heatmap`. The logarithmic scale of the three columns ends at one network in all
        those drawn: an exact probability below it has the colour of the end.
    width : float, optional
        Width of the figure in inches, >= 2; by default 7, and 3.4 for a single column.
    levels : sequence of float
        As in `heatmap`.

    Returns
    -------
    Figure
        The panels come first in its ``axes``, row by row, then the colour bars.

    Raises
    ------
    ValueError
        As in `heatmap`, or if `width` is too small.
    """
    _check(value=value, scale=scale, levels=levels)
    values = ("empirical", "exact", "zscore") if value is None else (value,)
    width = (7.0 if value is None else 3.4) if width is None else width
    if not 2.0 <= width <= 100.0:
        raise ValueError(f"width = {width!r}: must be between 2 and 100 inches")
    grids = _grids(table, None)
    looks = _looks(grids, values, scale)
    with _style():
        panels = [[(grid, look) for look in looks] for grid in grids]
        return _canvas(panels, levels, width=width, named_rows=True)


def save(fig: Figure, stem: str | os.PathLike[str], *, dpi: int = 200) -> tuple[Path, Path]:
    """Write a figure as ``stem.png`` and ``stem.pdf``, each whole or not at all.

    The same figure gives the same bytes: neither file holds a date. Text and lines of the PDF
    are vectors; so are the cells of a small mesh, and a large one is an image of at least 600
    dots per inch.

    Parameters
    ----------
    fig : Figure
        The figure.
    stem : path
        The files' path without suffix; the folder must exist.
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
    kinds = (("png", dpi, "Software"), ("pdf", max(dpi, 600), "CreationDate"))
    paths = []
    with _style():
        for kind, dots, unwanted in kinds:
            buffer = BytesIO()
            fig.savefig(buffer, format=kind, dpi=dots, metadata={unwanted: None})
            paths.append(_write(Path(f"{os.fspath(stem)}.{kind}"), buffer.getvalue()))
    return paths[0], paths[1]


def save_heatmap(
    table: pd.DataFrame,
    folder: str | os.PathLike[str],
    *,
    stem: str = "heatmap",
    value: str | None = None,
    scale: str = "linear",
    width: float | None = None,
    levels: Sequence[float] = CONTOURS,
    dpi: int = 200,
) -> tuple[Path, Path]:
    """Draw the table as `figure` does and `save` it in a folder, which is made if need be.

    Returns
    -------
    (png, pdf) : tuple of Path
        ``folder/heatmap.png`` and ``folder/heatmap.pdf``.

    Raises
    ------
    ValueError
        As in `figure` and `save`.
    """
    fig = figure(table, value=value, scale=scale, width=width, levels=levels)
    Path(folder).mkdir(parents=True, exist_ok=True)
    return save(fig, Path(folder) / stem, dpi=dpi)


# --- reading the arguments -----------------------------------------------------------------


def _check(*, value: str | None, scale: str, levels: Sequence[float]) -> None:
    for name, word, allowed in (("value", value, VALUES), ("scale", scale, SCALES)):
        if word is not None and word not in allowed:
            raise ValueError(
                f"{name} = {word!r}{_nearest(word, allowed)}: must be one of {', '.join(allowed)}"
            )
    if value == "zscore" and scale == "log10":
        raise ValueError("scale = 'log10': must be 'linear' for a zscore, which has a sign")
    if not all(0.0 < level < 1.0 for level in levels):
        raise ValueError(f"levels = {levels!r}: must be probabilities between 0 and 1")


def _nearest(word: object, words: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(word), words, n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _grids(table: pd.DataFrame, scheme: object) -> list[_Grid]:
    """Spread the scheme asked for, or all, over their axes.

    All are in the order of the categories of column ``scheme``, or of first appearance.
    """
    for column in _COLUMNS:
        if column not in table.columns:
            raise ValueError(f"table has no column {column!r}: needs {', '.join(_COLUMNS)}")
    categorical = isinstance(table["scheme"].dtype, pd.CategoricalDtype)
    groups = {
        str(name): rows for name, rows in table.groupby("scheme", observed=True, sort=categorical)
    }
    if not groups:
        raise ValueError("table has no rows: needs one for each cell")
    if scheme is None:
        return [_grid(name, rows) for name, rows in groups.items()]
    if str(scheme) not in groups:
        raise ValueError(
            f"scheme = {str(scheme)!r}{_nearest(scheme, list(groups))}: "
            f"must be one of {', '.join(groups)}"
        )
    return [_grid(str(scheme), groups[str(scheme)])]


def _grid(scheme: str, rows: pd.DataFrame) -> _Grid:
    d, column = np.unique(rows["d"].to_numpy(np.int64), return_inverse=True)
    l, row = np.unique(rows["l"].to_numpy(np.int64), return_inverse=True)
    cells = row * len(d) + column
    times = np.bincount(cells, minlength=len(d) * len(l))
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


def _looks(grids: Sequence[_Grid], values: Sequence[str], scale: str) -> list[_Look]:
    """Choose the columns, and the colour limits that the probabilities share."""
    any_exact = any(np.isfinite(grid.columns["exact"]).any() for grid in grids)
    sources = [
        {"zscore": "z", "log10": "exact" if any_exact else "empirical"}.get(value, value)
        for value in values
    ]
    log = scale == "log10" or "log10" in values
    chance = Normalize(_log_floor(grids, sources), 0.0) if log else Normalize(0.0, 1.0)
    z = Normalize(-_Z_LIMIT, _Z_LIMIT)
    return [
        _Look(source, log and source != "z", z if source == "z" else chance) for source in sources
    ]


def _log_floor(grids: Sequence[_Grid], sources: Sequence[str]) -> float:
    """Return the lower end of the logarithmic scale: what counting can see, or the least P."""
    column = "networks" if "empirical" in sources else "exact"
    ends = np.concatenate([grid.columns[column].ravel() for grid in grids])
    ends = np.abs(np.log10(ends[np.isfinite(ends) & (ends > 0.0)]))
    return -float(max(1.0, np.ceil(ends.max(initial=1.0) - 1e-9)))


# --- drawing -------------------------------------------------------------------------------


@contextmanager
def _style() -> Iterator[None]:
    """Matplotlib's defaults with our sizes, whatever the caller's settings; restored after."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def _canvas(
    panels: Sequence[Sequence[tuple[_Grid, _Look]]],
    levels: Sequence[float],
    *,
    width: float,
    named_rows: bool,
    colorbar: bool = True,
) -> Figure:
    """Lay the panels out in square boxes, in inches, with one colour bar a kind below them."""
    rows, columns = len(panels), len(panels[0])
    left, right, gap = 0.47, 0.14, (0.13 if named_rows else 0.47)
    side = (width - left - right - gap * (columns - 1)) / columns
    title, ticks, bar = 0.38, 0.24, (0.62 if colorbar else 0.12)
    height = rows * (title + side + ticks) + bar
    fig = Figure(figsize=(width, height))
    FigureCanvasAgg(fig)
    for i, row in enumerate(panels):
        for j, (grid, look) in enumerate(row):
            bottom = bar + (rows - 1 - i) * (title + side + ticks) + ticks
            box = (left + j * (side + gap), bottom, side, side)
            ax = fig.add_axes(_fraction(box, width, height))
            _draw(ax, grid, look, levels)
            if not named_rows:
                _set_title(ax, grid.scheme, look.title(grid))
                continue
            ax.set_title(look.title(grid))
            if j == 0:
                ax.set_title(grid.scheme + "\n", loc="left", fontweight="bold")
            else:
                ax.set_ylabel("")
                ax.tick_params(labelleft=False)
            if i < rows - 1:
                ax.set_xlabel("")
    if colorbar:
        grids = [grid for row in panels for grid, _ in row]
        looks = [look for _, look in panels[0]]
        for norm in dict.fromkeys(look.norm for look in looks):
            span = [j for j, look in enumerate(looks) if look.norm is norm]
            start, end = left + span[0] * (side + gap), left + span[-1] * (side + gap) + side
            inset = 0.15 * (end - start) if len(span) > 1 else 0.0
            box = (start + inset, 0.36, end - start - 2 * inset, 0.09)
            cax = fig.add_axes(_fraction(box, width, height))
            _draw_bar(looks[span[-1]], grids, fig, cax=cax, orientation="horizontal")
    return fig


def _fraction(
    box: tuple[float, float, float, float], width: float, height: float
) -> tuple[float, float, float, float]:
    return box[0] / width, box[1] / height, box[2] / width, box[3] / height


def _draw(ax: Axes, grid: _Grid, look: _Look, levels: Sequence[float]) -> None:
    """Draw the cells, the ticks, the contour lines and the legend of one panel."""
    x, y = _centres(grid.d), _centres(grid.l)
    data = look.data(grid)
    ax.pcolormesh(
        _edges(x),
        _edges(y),
        data,
        cmap=look.cmap,
        norm=look.norm,
        rasterized=data.size > _VECTOR_CELLS,
    )
    ax.grid(False)
    ax.set(xlabel="inputs $d$", ylabel="hidden neurons $l$")
    ax.set(xlim=_edges(x)[[0, -1]], ylim=_edges(y)[[0, -1]])
    ax.set_xticks(*_ticks(grid.d, x, ax.bbox.width * 72 / ax.figure.dpi, ax.xaxis))
    ax.set_yticks(*_ticks(grid.l, y, ax.bbox.height * 72 / ax.figure.dpi, ax.yaxis))
    words = look.words(grid)
    if words:
        ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center", color="0.2")
        return
    if look.source != "z":
        _draw_contours(ax, grid, look, levels)
    unseen = grid.columns["empirical"] == 0.0
    if look.log and look.source == "empirical" and unseen.any():
        bound = np.max(grid.columns["ci_high"], where=unseen, initial=0.0)
        text = f"no event seen:\n$P$ below {_power(bound)}"
        ax.legend(
            handles=[Patch(facecolor=_GREY, edgecolor="0.4", linewidth=0.5, label=text)],
            loc="upper right",
            framealpha=1.0,
            handlelength=1.2,
        )


def _centres(values: IntArray) -> FloatArray:
    """Return where the cells lie: at their values if these are equally spaced, or 0, 1, 2, ..."""
    equal = len(set(np.diff(values).tolist())) <= 1
    return (values if equal else np.arange(len(values))).astype(np.float64)


def _edges(centres: FloatArray) -> FloatArray:
    half = (centres[1] - centres[0]) / 2.0 if len(centres) > 1 else 0.5
    return np.append(centres - half, centres[-1] + half)


def _ticks(
    values: IntArray, centres: FloatArray, points: float, axis: Axis
) -> tuple[FloatArray, list[str]]:
    """Return the places and the labels of as many ticks as an axis of that length has room for."""
    digits = len(str(values[-1]))
    letters = points / (0.64 * axis.get_ticklabels()[0].get_size())
    step = max(1, math.ceil(len(values) * (digits + 0.6) / letters))
    if step == 1 or values[0] != centres[0]:
        return centres[::step], [str(value) for value in values[::step]]
    most = int(np.clip(letters / (digits + 2), 1, 5))
    ticks = MaxNLocator(most, integer=True, steps=[1, 2, 5, 10]).tick_values(values[0], values[-1])
    ticks = ticks[(ticks >= values[0]) & (ticks <= values[-1])]
    if ticks[0] - values[0] > 0.6 * (ticks[1] - ticks[0]):
        ticks = np.append(values[0], ticks)
    return ticks, [f"{tick:.0f}" for tick in ticks]


def _draw_contours(ax: Axes, grid: _Grid, look: _Look, levels: Sequence[float]) -> None:
    exact, empirical = grid.columns["exact"], grid.columns["empirical"]
    chance = np.ma.masked_invalid(np.where(np.isfinite(exact), exact, empirical))
    inside = sorted(level for level in levels if chance.min() < level < chance.max())
    if min(chance.shape) < 2 or not inside:
        return
    colours = []
    for level in inside:
        red, green, blue, _ = look.cmap(look.norm(math.log10(level) if look.log else level))
        colours.append("black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.55 else "white")
    lines = ax.contour(
        _centres(grid.d), _centres(grid.l), chance, levels=inside, colors=colours, linewidths=0.8
    )
    texts = {level: f"{level:g}" for level in inside}
    size = 0.9 * ax.xaxis.get_ticklabels()[0].get_size()
    ax.clabel(lines, fmt=texts, fontsize=size, inline_spacing=2, manual=_label_spots(ax, lines))


def _label_spots(ax: Axes, lines: ContourSet) -> list[tuple[float, float]]:
    """Choose a point of every line, far from the frame, the other lines and the other labels."""
    paths = [np.concatenate(segments) for segments in lines.allsegs]
    pixels = [ax.transAxes.inverted().transform(ax.transData.transform(path)) for path in paths]
    spots: list[tuple[float, float]] = []
    taken = np.empty((0, 2))
    for i, (path, points) in enumerate(zip(paths, pixels, strict=True)):
        clear = np.minimum(points, 1.0 - points).min(axis=1)
        others = [other[:: max(1, len(other) // 200)] for j, other in enumerate(pixels) if j != i]
        for obstacle, weight in [(other, 1.0) for other in others] + [(taken, 0.4)]:
            if len(obstacle):
                gaps = np.hypot(*(points[:, None] - obstacle[None]).transpose(2, 0, 1)).min(axis=1)
                clear = np.minimum(clear, weight * gaps)
        best = int(clear.argmax())
        spots.append((float(path[best, 0]), float(path[best, 1])))
        taken = np.append(taken, points[[best]], axis=0)
    return spots


def _set_title(ax: Axes, scheme: str, quantity: str) -> None:
    """Put the scheme over the quantity, on as many lines as its label needs."""
    letters = ax.bbox.width * 72 / ax.figure.dpi / (0.62 * ax.title.get_size())
    lines = [""]
    for part in re.findall(r"[^:,]+[:,]?", scheme):
        if lines[-1] and len(lines[-1]) + len(part) > letters:
            lines.append("")
        lines[-1] += part
    ax.set_title("\n".join([*lines, quantity]))


def _draw_bar(look: _Look, grids: Sequence[_Grid], fig: Figure | SubFigure, **place: Any) -> None:
    low, high = False, False
    for grid in grids:
        data = look.data(grid)
        low |= bool(data.count() and data.min() < look.norm.vmin)
        high |= bool(data.count() and data.max() > look.norm.vmax)
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[low, high]
    mappable = ScalarMappable(look.norm, look.cmap)
    bar = fig.colorbar(mappable, label=look.bar_label, extend=extend, **place)
    bar.outline.set_linewidth(0.5)


def _networks(networks: FloatArray) -> str:
    """Return how many networks a cell counted, in words."""
    counted = networks[networks > 0]
    if not len(counted):
        return ""
    least, most = counted.min(), counted.max()
    return f", {_power(least)}{'' if least == most else ' to ' + _power(most)} networks"


def _power(number: float) -> str:
    """Write a number short, as a power of ten if it is far from 1."""
    if 0.01 <= number < 10_000:
        return f"{number:.2g}" if number < 1 else f"{number:.0f}"
    mantissa, _, exponent = f"{number:.1e}".partition("e")
    factor = "" if mantissa == "1.0" else mantissa.removesuffix(".0") + r"\times"
    return f"${factor}10^{{{int(exponent)}}}$"


def _write(path: Path, content: bytes) -> Path:
    """Write beside, then rename: the file appears whole or not at all."""
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    return path
