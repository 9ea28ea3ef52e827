"""Measure how long it takes to build networks on graphs and to find their frozen weights.

    python scripts/dag_speed.py [--out figures] [--quick]

Four families of networks grow up to a million edges. Weights are standard normal, and the best time
of some repeats in one process counts:

- ``mlp``: four hidden layers of equal width and one output;
- ``residual``: 16 hidden layers of equal width, of which every second also skips the next;
- ``funnel``: one wide hidden layer before two layers of width 1;
- ``narrow``: a chain of layers of width 1, which is the worst case.

Three steps are timed: building the network; `smallest_squares`, which decides which weights are
frozen; and `frozen_edges`, which decides three times, for the balances and for both ends of their
tolerance, and lists the bottlenecks. The time of `smallest_squares` includes the preparation of the
graph that both functions need. In ``narrow`` the bottlenecks of a thousand edges have hundreds of
thousands of nodes in all.

Writes ``dag_speed.png``, ``dag_speed.pdf`` and the table ``dag_speed.md``.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from obstruction.dag import Network
from obstruction.reporting import heatmaps

SEED = 0
FILES = ("dag_speed.png", "dag_speed.pdf", "dag_speed.md")
LARGEST = 10**6
SLOWEST = 20.0
"""A family stops growing if its next network would take longer than this, in seconds."""


def mlp(edges: int) -> Network:
    width = max(2, round((edges / 3) ** 0.5))
    return Network.mlp([width, width, width, width, 1])


def residual(edges: int) -> Network:
    """Return a chain of layers with further edges from the first to the third, and so on."""
    depth = 16
    width = max(2, round((edges / (depth * 1.5)) ** 0.5))
    layers = [[(i, k) for k in range(width)] for i in range(depth + 1)] + [["y"]]
    pairs = [*itertools.pairwise(layers), *((layers[i], layers[i + 2]) for i in range(1, depth, 2))]
    return Network.from_edges(
        (edge for a, b in pairs for edge in itertools.product(a, b)),
        inputs=layers[0],
        outputs=layers[-1],
    )


def funnel(edges: int) -> Network:
    return Network.mlp([2, max(1, edges // 3), 1, 1])


def narrow(edges: int) -> Network:
    return Network.mlp([1] * (edges + 1))


FAMILIES: dict[str, Callable[[int], Network]] = {
    "mlp": mlp,
    "residual": residual,
    "funnel": funnel,
    "narrow": narrow,
}


class Row(NamedTuple):
    """One measurement: edges, seconds of the three steps, and the size of the bottlenecks."""

    edges: int
    built: float
    decided: float
    searched: float
    frozen: int
    nodes: int


def measure(build: Callable[[int], Network], edges: int) -> Row:
    builds, decisions, searches = [], [], []
    while len(builds) < 3 and sum(builds) + sum(searches) < 5.0:
        start = time.perf_counter()
        net = build(edges)
        builds.append(time.perf_counter() - start)
        weights = np.random.default_rng(SEED).standard_normal(net.size)
        balances = net.balances(weights)
        start = time.perf_counter()
        net.smallest_squares(balances)
        decisions.append(time.perf_counter() - start)
        start = time.perf_counter()
        found = net.frozen_edges(weights)
        searches.append(time.perf_counter() - start)
    nodes = sum(len(one.bottleneck) for one in found)
    return Row(net.size, min(builds), min(decisions), min(searches), len(found), nodes)


def run(largest: int) -> dict[str, list[Row]]:
    sizes = [int(n) for n in np.geomspace(100, largest, 2 * round(np.log10(largest / 100)) + 1)]
    found: dict[str, list[Row]] = {}
    for name, build in FAMILIES.items():
        found[name] = []
        for edges in sizes:
            found[name].append(measure(build, edges))
            row = found[name][-1]
            print(
                f"{name:9s} {row.edges:>9,} edges {row.built:9.4f} s {row.decided:9.4f} s "
                f"{row.searched:9.4f} s  {row.frozen:,} frozen"
            )
            if (row.built + row.decided + row.searched) * 4.0 > SLOWEST:
                break
    return found


def draw(found: dict[str, list[Row]]) -> Figure:
    """Draw both times against the number of edges, with lines for two rates of growth."""
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    palette = sns.color_palette("colorblind")
    names = {
        "mlp": "four hidden layers",
        "residual": "16 layers with skips",
        "funnel": "wide layer before width 1",
        "narrow": "all layers of width 1",
    }
    for ax, column, title in zip(
        panels,
        (1, 2, 3),
        ("building the network", "deciding what is frozen", "... with all bottlenecks"),
        strict=True,
    ):
        for i, (name, rows) in enumerate(found.items()):
            edges = [row[0] for row in rows]
            ax.plot(
                edges,
                [row[column] for row in rows],
                marker="osD^"[i],
                markersize=3.5,
                linewidth=1.2,
                color=palette[i],
                label=names[name],
            )
        ends = np.array([1e2, 1e6])
        ax.plot(ends, ends * 1e-7, color="0.5", linewidth=0.8, linestyle=":", label="~ edges")
        ax.plot(
            ends[:1] * [1, 100],
            [1e-3, 10],
            color="0.5",
            linewidth=0.8,
            linestyle="--",
            label="~ edges²",
        )
        ax.set(xscale="log", yscale="log", xlabel="edges", title=title)
        ax.title.set_fontsize(9)
        ax.tick_params(labelsize=8)
    panels[0].set_ylabel("seconds")
    panels[0].legend(fontsize=7, frameon=False)
    return figure


def table(found: dict[str, list[Row]], quick: bool) -> str:
    words = "A quick version, with fewer sizes. " if quick else ""
    lines = [
        "# Speed of networks on graphs",
        "",
        f"{words}Written by `scripts/dag_speed.py`: Python {platform.python_version()}, NumPy "
        f"{np.__version__}, {platform.system()} {platform.machine()}, one process, other work on "
        "the machine at the same time. Best of up to three runs; read slopes, not seconds.",
        "",
        "| family | edges | build (s) | smallest_squares (s) | frozen_edges (s) | frozen "
        "| nodes in bottlenecks |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {name} | {row.edges:,} | {row.built:.4f} | {row.decided:.4f} | {row.searched:.4f} "
        f"| {row.frozen:,} | {row.nodes:,} |"
        for name, rows in found.items()
        for row in rows
    ]
    return "\n".join([*lines, ""])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("figures"))
    parser.add_argument("--quick", action="store_true", help="up to 10,000 edges")
    options = parser.parse_args(argv)
    found = run(10**4 if options.quick else LARGEST)
    figure = draw(found)
    if options.quick:
        figure.suptitle("quick version", fontsize=8)
    heatmaps.save(figure, options.out / "dag_speed")
    text = table(found, options.quick)
    (options.out / "dag_speed.md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
