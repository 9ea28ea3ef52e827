"""Pictures of networks that show the frozen weights and the bottlenecks that freeze them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from obstruction.dag.graph.graph import FloatArray, Graph, WeightsLike
from obstruction.dag.reachable.frozen import FrozenEdge, frozen_edges
from obstruction.tools.words import counted
from obstruction.topology.regions import Indices, Mask

LARGEST_DRAWN: Final = 400
"""The largest number of nodes with which a network is drawn."""

LARGEST_NAMED: Final = 60
"""The largest number of nodes with which their names are drawn as well."""

_SWEEPS: Final = 12
_COLOURBLIND: Final = sns.color_palette("colorblind")
_HALO: Final = (0.98, 0.89, 0.55)
_STYLES: Final[dict[str, dict[str, Any]]] = {
    "free": {"color": "0.7", "linewidth": 0.7},
    "boundary": {"color": "0.25", "linewidth": 1.6, "linestyle": (0, (1, 1.5))},
    "frozen, positive": {"color": _COLOURBLIND[0], "linewidth": 2.4},
    "frozen, negative": {"color": _COLOURBLIND[3], "linewidth": 2.4, "linestyle": (0, (4, 1.5))},
}


def plot(
    graph: Graph, weights: WeightsLike, ax: Axes | None = None, rtol: float | None = None
) -> Axes:
    """Draw a network from left to right with its frozen weights and their bottlenecks.

    Frozen weights are thick: blue and solid if they are positive, red and dashed if negative.
    Weights at the boundary are dotted, and all others are thin and grey. A halo marks the hidden
    nodes of bottlenecks that freeze a weight.

    Parameters
    ----------
    graph : Graph
        A network with at most 400 nodes; with at most 60 nodes their names are drawn.
    weights : array_like or mapping
        As for `Graph.vector`.
    ax : matplotlib Axes, optional
        The axes to draw in; by default those of a new figure.
    rtol : float, optional
        As for `frozen_edges`.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there are too many nodes, or an argument is out of its range.
    """
    drawn = _drawn(graph)
    if drawn.sum() > LARGEST_DRAWN:
        raise ValueError(
            f"graph: must have at most {LARGEST_DRAWN} nodes to be drawn, not {drawn.sum():,}"
        )
    found = frozen_edges(graph, weights, rtol)
    at = positions(graph)
    if ax is None:
        wide, high = np.ptp(at[drawn], axis=0) + 1.0
        if graph.size:
            span = float((at[graph.heads, 0] - at[graph.tails, 0]).max())
            high = max(high, 2.0 * _arch(span)) if span > 1.0 else high
        size = min(1.6 + 1.2 * wide, 14.0), min(1.6 + 0.42 * high, 10.0)
        ax = Figure(figsize=size, dpi=150, layout="constrained").subplots()
    _draw_bottlenecks(ax, graph, found.frozen, at)
    counts = _draw_edges(ax, graph, at, found.frozen, found.boundary)
    _draw_nodes(ax, graph, at, drawn)
    _draw_legend(ax, counts, bool(found.frozen))
    frozen = len(found)
    pieces = f"2^{frozen} components" if frozen > 20 else counted(found.components, "component")
    ax.set_title(f"{frozen:,} of {graph.size:,} weights frozen: {pieces}", fontsize="medium")
    ax.margins(x=0.1, y=0.08)
    ax.axis("off")
    return ax


def positions(graph: Graph) -> FloatArray:
    """Return the positions at which nodes are drawn.

    Returns
    -------
    ndarray, shape (nodes, 2)
        Positions x, y in the order of places of nodes, see `Graph.tails`. The x of a node is the
        number of edges on the longest path to it; outputs have the largest x. The nodes with the
        same x form a centred column. Sweeps to and fro order each column by the mean height of the
        nodes' neighbours, so that few edges cross.
    """
    column = graph.depths
    column[graph.last :] = column.max()
    drawn = _drawn(graph)
    layers = [np.flatnonzero(drawn & (column == x)) for x in range(int(column.max()) + 1)]
    height = np.zeros(graph.nodes)
    for layer in layers:
        height[layer] = _spread(layer.size)
    best, fewest = height.copy(), _crossings(graph, column, height)
    for sweep in range(_SWEEPS):
        ends = (graph.tails, graph.heads) if sweep % 2 == 0 else (graph.heads, graph.tails)
        for layer in layers[1:] if sweep % 2 == 0 else layers[-2::-1]:
            mean = _mean_height(graph, *ends, height)
            aim = np.where(np.isnan(mean), height, mean)[layer]
            order = np.lexsort((-height[layer], -aim))  # from top to bottom
            height[layer[order]] = _spread(layer.size)
        if (crossings := _crossings(graph, column, height)) < fewest:
            best, fewest = height.copy(), crossings
    return np.column_stack([column.astype(np.float64), best])


def _mean_height(graph: Graph, ends: Indices, others: Indices, height: FloatArray) -> FloatArray:
    """Return the mean height of each node's neighbours on one side, NaN if there are none."""
    count = np.bincount(others, minlength=graph.nodes)
    total = np.bincount(others, height[ends], minlength=graph.nodes)
    mean: FloatArray = np.full(graph.nodes, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def _spread(count: int) -> FloatArray:
    """Return the heights of the nodes of a column, from top to bottom."""
    return (count - 1) / 2.0 - np.arange(count, dtype=np.float64)


def _crossings(graph: Graph, column: Indices, height: FloatArray) -> int:
    """Return the number of crossings between edges that join the same two columns."""
    start, end = height[graph.tails], height[graph.heads]
    spans = column[graph.tails] * graph.nodes + column[graph.heads]
    total = 0
    for span in np.unique(spans):
        a, b = (values[spans == span] for values in (start, end))
        if a.size <= 2000:
            total += int(np.count_nonzero(np.subtract.outer(a, a) * np.subtract.outer(b, b) < 0))
    return total // 2


def _drawn(graph: Graph) -> Mask:
    """Return which nodes are drawn: all but the bias, which is drawn only if it has edges."""
    mask = np.ones(graph.nodes, dtype=bool)
    mask[graph.first - 1] = bool((graph.tails == graph.first - 1).any())
    return mask


def _arch(span: float) -> float:
    """Return the height of the arch of an edge that spans a number of columns."""
    return min(0.45 * span, 0.8 + 0.12 * span)


def _ways(graph: Graph, at: FloatArray, edges: Iterable[int]) -> list[FloatArray]:
    """Return the lines of edges: straight to the next column, arches past several columns."""
    share = np.linspace(0.0, 1.0, 21)[:, None]
    lines = []
    for e in edges:
        start, end = at[graph.tails[e]], at[graph.heads[e]]
        line = (1.0 - share) * start + share * end
        span = end[0] - start[0]
        if span > 1.0:
            up = 1.0 if start[1] + end[1] >= 0.0 else -1.0
            line[:, 1] += up * _arch(span) * 4.0 * share[:, 0] * (1.0 - share[:, 0])
        lines.append(line)
    return lines


def _draw_bottlenecks(ax: Axes, graph: Graph, frozen: Iterable[FrozenEdge], at: FloatArray) -> None:
    """Draw halos around the nodes of bottlenecks and along the edges between them."""
    place = {node: graph.first + v for v, node in enumerate(graph.hidden)}
    nodes: set[int] = set()
    links: set[int] = set()
    for one in frozen:
        inside = [place[node] for node in one.bottleneck]
        nodes.update(inside)
        if len(inside) > 1:
            within = np.isin(graph.tails, inside) & np.isin(graph.heads, inside)
            links.update(np.flatnonzero(within).tolist())
    if nodes:
        halo: Any = {"color": [_HALO], "zorder": 0.5}
        ax.add_collection(
            LineCollection(
                _ways(graph, at, sorted(links)), linewidth=9, capstyle="round", label="", **halo
            )
        )
        x, y = at[sorted(nodes)].T
        ax.scatter(x, y, s=230, linewidth=0, gid="bottlenecks", **halo)


def _draw_edges(
    ax: Axes,
    graph: Graph,
    at: FloatArray,
    frozen: Iterable[FrozenEdge],
    boundary: Iterable[FrozenEdge],
) -> dict[str, int]:
    """Draw the edges with one collection for each kind; return the number of each kind."""
    kinds = dict.fromkeys(graph.edges, "free")
    kinds |= {one.edge: "boundary" for one in boundary}
    kinds |= {
        one.edge: "frozen, positive" if one.sign > 0 else "frozen, negative" for one in frozen
    }
    counts = {}
    for order, (kind, style) in enumerate(_STYLES.items()):
        edges = [e for e, edge in enumerate(graph.edges) if kinds[edge] == kind]
        if edges:
            counts[kind] = len(edges)
            lines = LineCollection(
                _ways(graph, at, edges), gid=kind, zorder=1 + order / 10, **style
            )
            if kind == "free":  # many edges are drawn with thinner lines
                lines.set_linewidth(style["linewidth"] * min(1.0, (150 / len(edges)) ** 0.5))
            ax.add_collection(lines)
    ax.autoscale_view()
    return counts


def _draw_nodes(ax: Axes, graph: Graph, at: FloatArray, drawn: Mask) -> None:
    """Draw the nodes and, if there are at most `LARGEST_NAMED`, their names."""
    names = (*graph.inputs, "bias", *graph.hidden, *graph.outputs)
    kinds = (
        ("inputs", slice(0, graph.first - 1), "s", "0.55"),
        ("bias", slice(graph.first - 1, graph.first), "D", "0.55"),
        ("hidden nodes", slice(graph.first, graph.last), "o", "white"),
        ("outputs", slice(graph.last, graph.nodes), "s", "0.2"),
    )
    named = drawn.sum() <= LARGEST_NAMED
    size = 42 if named else 14
    for kind, places, marker, colour in kinds:
        nodes = np.arange(graph.nodes)[places]
        nodes = nodes[drawn[nodes]]
        if not nodes.size:
            continue
        x, y = at[nodes].T
        look: Any = {"marker": marker, "color": colour, "edgecolor": "0.2", "linewidth": 0.8}
        ax.scatter(x, y, s=size, zorder=3, gid=kind, **look)
        for v in nodes if named else ():
            left, right = kind in ("inputs", "bias"), kind == "outputs"
            ax.annotate(
                str(names[v]),
                at[v],
                (-7, 0) if left else (7, 0) if right else (0, 6),
                textcoords="offset points",
                ha="right" if left else "left" if right else "center",
                va="center" if left or right else "bottom",
                fontsize=7,
                zorder=4,
                path_effects=[withStroke(linewidth=1.8, foreground="white")],
            )


def _draw_legend(ax: Axes, counts: dict[str, int], halos: bool) -> None:
    """Draw a legend of the kinds of edges that occur and of the halos."""
    handles = [
        Line2D([], [], label=f"{kind} ({counts[kind]:,})", **style)
        for kind, style in _STYLES.items()
        if kind in counts
    ]
    if halos:
        look: Any = {"marker": "o", "markersize": 9, "linewidth": 0, "markeredgewidth": 0}
        handles.append(Line2D([], [], color=_HALO, label="in a bottleneck", **look))
    ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.01),
        ncols=2,
        fontsize=7,
        frameon=False,
        handlelength=2.6,
        columnspacing=1.4,
    )
