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
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

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
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from obstruction.tools.checks import check_count, check_probability
from obstruction.tools.files import whole_file

VALUES: Final = ("empirical", "exact", "zscore", "log10")
SCALES: Final = ("linear", "log10")
CONTOURS: Final = (0.01, 0.05, 0.5)

_COLUMNS: Final = ("scheme", "d", "l", "networks", "empirical", "ci_high", "exact", "z")
_FURTHER: Final = ("log10_exact", "log10_empirical", "samples")
_GREY: Final = "0.78"
_VECTOR_CELLS: Final = 1000  # a larger mesh becomes an image inside the PDF
_STYLE: Final[Any] = {
    **{"font.size": 7.0, "axes.titlesize": 7.5, "legend.fontsize": 6.5, "pdf.fonttype": 42},
    **{"axes.labelpad": 2.0, "axes.linewidth": 0.6},
    **{f"{x}tick.major.{name}": 2.0 for x in "xy" for name in ("size", "pad")},
    **{f"{x}tick.labelsize": 6.5 for x in "xy"},
    **{f"{x}tick.minor.size": 1.0 for x in "xy"},
}


@dataclass(frozen=True)
class _Panel:
    """One quantity of one scheme and its colours; `wide` has a row for each l, a column a d."""

    scheme: str
    wide: dict[str, pd.DataFrame]
    source: str
    norm: Normalize

    def column(self, name: str) -> NDArray[np.float64]:
        """Return a column of the table, shape ``(len(l), len(d))``; NaN where it has no cell."""
        return np.asarray(self.wide[name].to_numpy(np.float64))

    @property
    def log(self) -> bool:
        return self.source.startswith("log10")

    @property
    def cmap(self) -> Colormap:
        name = "vlag" if self.source == "z" else "viridis"
        cmap: Colormap = sns.color_palette(name, as_cmap=True)
        return cmap.with_extremes(bad=_GREY)

    @property
    def data(self) -> Any:
        """What the colours show; cells without a value are masked, infinite ones off the scale."""
        return np.ma.masked_invalid(np.clip(self.column(self.source), -1e9, 1e9))

    @property
    def title(self) -> str:
        networks = self.column("networks")
        if "empirical" not in self.source or not np.any(networks > 0):
            return "z-score" if self.source == "z" else self.source.removeprefix("log10_")
        if "samples" in self.wide and (self.column("samples") > 0).any():
            return "empirical, counted or weighted"
        most = np.nanmax(networks)
        return f"empirical, {'up to ' * bool(np.nanmin(networks) < most)}{most:,.0f} networks"

    @property
    def words(self) -> str:
        """Why the panel is empty, if it is."""
        empty = {name: bool(self.wide[name].isna().to_numpy().all()) for name in _COLUMNS[3:]}
        if not empty[self.source.removeprefix("log10_")]:
            return ""
        if empty["exact"] and "empirical" not in self.source:
            return "no exact value"
        return "not sampled" if empty["empirical"] else "undefined"


def heatmap(
    table: pd.DataFrame,
    value: str = "empirical",
    *,
    scheme: object = None,
    ax: Axes | None = None,
    scale: str = "linear",
    levels: Sequence[float] = CONTOURS,
    colorbar: bool = True,
) -> Axes | NDArray[np.object_]:
    """Draw one quantity over ``(d, l)``: ``d`` to the right, ``l`` upwards.

    Parameters
    ----------
    table : DataFrame
        One row a cell, in any order, with columns ``scheme``, ``d``, ``l``, ``networks``,
        ``empirical``, ``ci_high``, ``exact`` and ``z``, the last two NaN without an exact value.
    value : {"empirical", "exact", "zscore", "log10"}
        The quantity; ``"log10"`` is the exact probability, or the empirical one of a scheme
        without exact ones, on the logarithmic scale.
    scheme : str or InitScheme, optional
        The scheme to draw; by default all, side by side. Required if there are several and an `ax`.
    ax : Axes, optional
        Where to draw, in the caller's style; by default a new figure in the style of `figure`.
    scale : {"linear", "log10"}
        Colours for the probability from 0 to 1, or for its logarithm. A cell in which no network
        was obstructed has no logarithm: it is grey, and a legend gives its upper bound.
    levels : sequence of float
        Contour lines, in (0, 1), of the exact probability or, where that is NaN, the empirical.
    colorbar : bool
        Whether to draw a colour bar.

    Returns
    -------
    Axes or ndarray of Axes
        The Axes, or one for each of several schemes. A new figure is their ``figure``.

    Raises
    ------
    ValueError
        If `value`, `scheme`, `scale` or one of `levels` is not among those allowed, if the table
        lacks a column or rows, or if a cell occurs twice.
    """
    panels = [row[0] for row in _panels(table, scheme, (value,), scale, levels)]
    if ax is None:
        width = 3.4 if len(panels) == 1 else min(7.0, 2.6 * len(panels))
        fig = _canvas([panels], levels, width, rows=False, bars=colorbar)
        axes = np.array(fig.axes[: len(panels)], dtype=object)
        return axes if len(panels) > 1 else fig.axes[0]
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
) -> Figure:
    """Draw the whole table: one row a scheme; columns empirical, exact and z-score.

    Parameters
    ----------
    table, scale, levels
        As in `heatmap`. The logarithmic scale ends at the power of ten below all positive values
        of the first column; less, in the second, has the colour of the end.
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
    width = (7.0 if value is None else 3.4) if width is None else width
    if not 2.0 <= width <= 100.0:
        raise ValueError(f"width = {width!r}: must be between 2 and 100 inches")
    values = ("empirical", "exact", "zscore") if value is None else (value,)
    panels = _panels(table, None, values, scale, levels)
    return _canvas(panels, levels, width, rows=True, bars=True)


def write(fig: Figure, stream: IO[bytes], *, kind: str = "png", dpi: int = 200) -> None:
    """Write a figure to a binary stream; the same figure always gives the same bytes.

    Parameters
    ----------
    fig : Figure
    stream : binary file
    kind : {"png", "pdf"}
        In a PDF a large mesh is an image of at least 600 dots per inch, all else vectors.
    dpi : int
        Dots per inch, >= 1.

    Raises
    ------
    ValueError
        If `kind` is unknown or `dpi` is not positive.
    """
    _check("kind", kind, ("png", "pdf"))
    dots = max(check_count("dpi", dpi), 600 if kind == "pdf" else 1)
    with _style():
        dateless = {"Software": None} if kind == "png" else {"CreationDate": None}
        fig.savefig(stream, format=kind, dpi=dots, metadata=dateless)


def save(fig: Figure, stem: str | os.PathLike[str], *, dpi: int = 200) -> tuple[Path, Path]:
    """Write ``stem.png`` and ``stem.pdf`` as `write` does, and return their paths.

    The folder is made if need be. Each file appears whole or not at all.
    """
    paths = Path(f"{os.fspath(stem)}.png"), Path(f"{os.fspath(stem)}.pdf")
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for path in paths:
        with whole_file(path) as stream:
            write(fig, stream, kind=path.suffix[1:], dpi=dpi)
    return paths


def _panels(
    table: pd.DataFrame, scheme: object, values: Sequence[str], scale: str, levels: Sequence[float]
) -> list[list[_Panel]]:
    """Make a row of panels for every scheme; all probabilities share their colour limits."""
    for value in values:
        _check("value", value, VALUES)
    _check("scale", scale, SCALES if values[0] != "zscore" else SCALES[:1])
    for level in levels:
        check_probability("levels", level)
    log = scale == "log10" or "log10" in values
    rows, least = [], -1.0
    for name, wide in _wide(table, scheme).items():
        known = "exact" if wide["exact"].notna().to_numpy().any() else "empirical"
        sources = [{"zscore": "z", "log10": known}.get(value, value) for value in values]
        if log:
            sources = [source if source == "z" else f"log10_{source}" for source in sources]
            first = wide[sources[0]].to_numpy(np.float64)
            least = np.min(first, where=np.isfinite(first), initial=least)
        rows.append((name, wide, sources))
    chance = Normalize(math.floor(least), 0) if log else Normalize(0, 1)
    norms = {"z": Normalize(-4, 4)}
    return [
        [_Panel(name, wide, source, norms.get(source, chance)) for source in sources]
        for name, wide, sources in rows
    ]


def _check(name: str, word: object, allowed: Collection[str]) -> None:
    if word not in allowed:
        near = difflib.get_close_matches(str(word), allowed, n=1, cutoff=0.5)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"{name} = {word!r}{hint}: must be one of {', '.join(allowed)}")


def _wide(table: pd.DataFrame, scheme: object) -> dict[str, dict[str, pd.DataFrame]]:
    """Spread the columns of a scheme, or of all in the order of their categories or rows."""
    for column in _COLUMNS:
        if column not in table.columns:
            raise ValueError(f"table has no column {column!r}: needs {', '.join(_COLUMNS)}")
    kept = [name for name in (*_COLUMNS, *_FURTHER) if name in table.columns]
    table = table[kept]
    ordered = isinstance(table["scheme"].dtype, pd.CategoricalDtype)
    groups = {str(k): v for k, v in table.groupby("scheme", observed=True, sort=ordered)}
    if not groups:
        raise ValueError("table has no rows: needs one for each cell")
    twice = table.loc[table.duplicated(["scheme", "d", "l"]), ["scheme", "d", "l"]]
    for cell in twice.to_dict("records"):
        raise ValueError(f"table has more than one row for the cell {cell}")
    if scheme is not None:
        _check("scheme", str(scheme), groups)
        groups = {str(scheme): groups[str(scheme)]}
    return {name: _spread(rows) for name, rows in groups.items()}


def _spread(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Spread the columns of one scheme over ``(l, d)``, and their logarithms."""
    columns = [name for name in (*_COLUMNS[3:], *_FURTHER) if name in rows.columns]
    wide = {name: rows.pivot(index="l", columns="d", values=name) for name in columns}
    with np.errstate(divide="ignore"):  # an exact 0 is below all floats, a rate of 0 is not known
        wide.setdefault("log10_exact", wide["exact"].transform(np.log10))
        wide.setdefault("log10_empirical", wide["empirical"].transform(np.log10))
        wide["log10_empirical"] = wide["log10_empirical"].replace(-np.inf, np.nan)
    return wide


@contextmanager
def _style() -> Iterator[None]:
    """Matplotlib's defaults with our sizes, whatever the caller's settings, which come back."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def _canvas(
    panels: list[list[_Panel]], levels: Sequence[float], width: float, *, rows: bool, bars: bool
) -> Figure:
    """Lay the panels out as squares, all sizes in inches, with a colour bar a kind below them."""
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


def _draw(ax: Axes, panel: _Panel, levels: Sequence[float]) -> None:
    """Draw the cells, the ticks, the contour lines and the legend of one panel."""
    d, l = panel.wide["exact"].columns.to_numpy(), panel.wide["exact"].index.to_numpy()
    x, y, data = _edges(d), _edges(l), panel.data
    ax.set(xscale=_spacing(d), yscale=_spacing(l), xlim=x[[0, -1]], ylim=y[[0, -1]])
    ax.set(xlabel="inputs $d$", ylabel="hidden neurons $l$")
    many = data.size > _VECTOR_CELLS
    ax.pcolormesh(x, y, data, cmap=panel.cmap, norm=panel.norm, rasterized=many)
    ax.grid(False)
    _set_ticks(ax.xaxis, d)
    _set_ticks(ax.yaxis, l)
    unseen = (panel.column("empirical") == 0.0) & np.isnan(panel.column("log10_empirical"))
    if panel.words:
        ax.text(0.5, 0.5, panel.words, transform=ax.transAxes, ha="center", va="center")
    elif panel.source != "z":
        _draw_contours(ax, d, l, panel, levels)
    if panel.source == "log10_empirical" and unseen.any():
        bound = np.max(panel.column("ci_high"), where=unseen, initial=0.0)
        text = f"no event seen:\n$P$ below {bound:.2g}".replace("e-0", "e-")
        small: Any = {"borderpad": 0.3, "borderaxespad": 0.3, "handlelength": 1.0}
        patch = Patch(facecolor=_GREY, edgecolor="0.4", linewidth=0.5, label=text)
        ax.legend(handles=[patch], loc="upper right", framealpha=0.9, **small)


def _points(ax: Axes) -> float:
    """Return the width of the Axes in points."""
    return ax.bbox.width * 72 / ax.figure.dpi


def _wrap(label: str, points: float) -> str:
    """Break the label of a scheme after colon or commas into lines of that length."""
    letters = max(24, int(points / 5))
    return "\n".join(re.findall(rf".{{1,{letters}}}(?:(?<=[:,])|$)|[^:,]+[:,]?", label))


def _spacing(values: NDArray[np.int64]) -> str:
    equal = len(set(np.diff(values).tolist())) <= 1
    return "linear" if equal and values[-1] <= max(300, 10 * values[0]) else "log"


def _edges(values: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the ends of the cells, half way between values on the axis."""
    log = _spacing(values) == "log"
    at = np.log(values) if log else values.astype(np.float64)
    half = np.diff(at) / 2 if len(at) > 1 else np.array([0.5])
    edges = np.concatenate([at[:1] - half[0], at[:-1] + half[: len(at) - 1], at[-1:] + half[-1]])
    return np.exp(edges) if log else edges


def _set_ticks(axis: Axis, values: NDArray[np.int64]) -> None:
    """Label the values, as many as there is room for; of many values, round ones."""
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


def _log_minus_log(chance: Any, floor: float = 0.0) -> Any:
    """Return ``log(-log(1 - P))``, far smoother between cells than P: about log(l) + log(p)."""
    return np.log(-np.log1p(-np.clip(chance, floor, 1.0 - 1e-15)))


def _draw_contours(ax: Axes, d: Any, l: Any, panel: _Panel, levels: Sequence[float]) -> None:
    """Draw the contour lines that the data have, labelled on the line or, cramped, beside it."""
    exact, empirical = panel.column("exact"), panel.column("empirical")
    chance = np.ma.masked_invalid(np.where(np.isfinite(exact), exact, empirical))
    inside = sorted({level for level in levels if chance.min() < level < chance.max()})
    if min(chance.shape) < 2 or not inside:
        return
    texts = {float(_log_minus_log(level)): f"{level:g}" for level in inside}
    at = panel.norm(np.log10(inside) if panel.log else np.array(inside))
    look: Any = {"colors": np.where(at > 0.65, "black", "white"), "linestyles": "solid"}
    heights = _log_minus_log(chance, 1e-6 * inside[0])
    lines = ax.contour(d, l, heights, levels=list(texts), linewidths=0.8, **look)
    look = {"fontsize": 0.85 * float(ax.xaxis.label.get_fontsize())}
    arrow = {"arrowstyle": "-", "color": "white", "linewidth": 0.5, "shrinkB": 0}
    beside = {"textcoords": "offset points", "color": "white", "arrowprops": arrow, **look}
    for i, spot, cramped in _label_spots(ax, lines):
        text: Text
        if cramped:
            text = ax.annotate(f"{inside[i]:g}", spot, (14, 5), **beside)
        else:
            look |= {"manual": [spot], "inline_spacing": 2}
            text = lines.clabel(list(texts)[i : i + 1], fmt=texts, **look)[-1]
        halo = "black" if cramped else panel.cmap(at[i])
        text.set_path_effects([withStroke(linewidth=1.2, foreground=halo)])


def _label_spots(ax: Axes, lines: ContourSet) -> Iterator[tuple[int, Any, bool]]:
    """Find on each line the point farthest from frame, other lines and labels, or none is far."""
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
            labels = np.where(gaps < 0.16, 0.1, 0.4)  # keep far from them, and never near
            clear = np.minimum(clear, gaps * (labels if other is taken else 1.0))
        cramped = bool(clear.max() <= enough)
        aside = np.abs(places[i] - [0.0, 0.6 + 0.12 * i]).sum(axis=1)
        best = aside.argmin() if cramped else clear.argmax()
        taken = np.append(taken, places[i][[best]], axis=0)
        yield i, paths[i][best], cramped


def _draw_bar(panels: Sequence[_Panel], fig: Figure | SubFigure, **place: Any) -> None:
    """Draw the colour bar of panels that share their colours."""
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
