"""Show how a penalty on absolute weights leads to a singular point, where a network falls apart.

    python scripts/pruning.py [--out figures] [--quick]

Writes ``pruning.png``, ``pruning.pdf`` and ``pruning.md``. One network with skip connections is
trained twice from the same weights: on the squared error alone, and with a penalty on the absolute
weights (by proximal gradient descent, so that weights become exactly zero). The figure shows the
error, the distance to the nearest singular point, and the number of hidden nodes that are cut off.
At the end these nodes are pruned, and the outputs are compared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import obstruction as ob
from obstruction.reporting import heatmaps

SEED = 5
FILES = ("pruning.png", "pruning.pdf", "pruning.md")
INPUTS, WIDTH, POINTS = 3, 6, 400
STEP = 0.02
PENALTY = 3e-3
STEPS = 30_000
RECORDS = 200


class Run(NamedTuple):
    """The records of a training run, one entry for each, and the weights at its end."""

    name: str
    steps: np.ndarray
    error: np.ndarray
    distance: np.ndarray
    cut_off: np.ndarray
    drift: np.ndarray
    weights: np.ndarray


def network() -> ob.dag.Network:
    """Return two hidden layers with biases, and edges that skip either of them."""
    x = [f"x{i}" for i in range(INPUTS)]
    g, h = ([f"{name}{i}" for i in range(WIDTH)] for name in "gh")
    layers = [(x, g), (g, h), (h, ["y"]), (x, h), (g, ["y"])]
    edges = [(a, b) for tails, heads in layers for b in heads for a in tails]
    return ob.dag.Network.from_edges(edges, inputs=x, outputs=["y"], hidden_bias=True)


def teacher(X: np.ndarray) -> np.ndarray:
    """Return the target, for which two or three hidden nodes are enough."""
    return np.maximum(X[:, 0] + X[:, 1], 0.0) - np.abs(X[:, 2])


def train(
    name: str,
    net: ob.dag.Network,
    weights: np.ndarray,
    data: tuple[np.ndarray, np.ndarray],
    *,
    penalty: float,
    steps: int,
) -> Run:
    """Train by proximal gradient descent on the mean squared error and a penalty."""
    X, y = data
    start = net.balances(weights)
    rows = []
    for step in range(steps + 1):
        off = net.evaluate(weights, X) - y[:, None]
        if step % (steps // RECORDS) == 0:
            nearest = net.distance_to_singularity(weights).distance
            cut = sum(map(len, net.cut_off(weights)))
            drift = np.abs(net.balances(weights) - start).max()
            rows.append((step, np.mean(off**2), nearest, cut, drift))
        weights = weights - STEP * net.gradient(weights, X, 2.0 * off / len(X))
        weights = np.sign(weights) * np.maximum(np.abs(weights) - STEP * penalty, 0.0)
    return Run(name, *np.array(rows).T, weights)


def least_distance(balances: np.ndarray) -> float:
    """Return sqrt(min |c(S)|), a lower bound of the distance to a singular point."""
    sums = np.zeros(1)
    for balance in balances:
        sums = np.concatenate([sums, sums + balance])
    return float(np.sqrt(np.abs(sums[1:]).min()))


def draw(runs: Sequence[Run], bound: float) -> Figure:
    """Return a figure of the error, the distance to a singular point, and the nodes cut off."""
    figure, axes = plt.subplots(1, 3, figsize=(12.0, 3.8), layout="constrained")
    for run, color, dashes in zip(runs, ("#0072B2", "#D55E00"), ("-", "--"), strict=True):
        style = {"color": color, "linestyle": dashes, "label": run.name}
        axes[0].plot(run.steps, run.error, **style)
        shown = np.where(run.distance > 0.0, run.distance, np.nan)
        axes[1].plot(run.steps, shown, **style)
        axes[2].plot(run.steps, run.cut_off, **style)
        if (run.distance == 0.0).any():
            where = run.steps[np.argmax(run.distance == 0.0)]
            axes[1].axvline(where, color=color, linewidth=0.8)
            axes[1].annotate(
                f"singular\nfrom step {where:,.0f} on",
                (where, 0.04),
                xycoords=("data", "axes fraction"),
                xytext=(6, 0),
                textcoords="offset points",
                color=color,
            )
    axes[1].axhline(bound, color="0.4", linewidth=0.8, linestyle=":")
    axes[1].annotate(
        "least possible with the balances of the start",
        (0.98, bound),
        xycoords=("axes fraction", "data"),
        xytext=(0, -4),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize="small",
        color="0.3",
    )
    axes[0].set(title="Mean squared error", yscale="log")
    axes[1].set(title="Distance to the nearest singular point", yscale="log")
    axes[2].set(title="Hidden nodes cut off")
    for ax in axes:
        ax.set_xlabel("gradient steps")
        ax.xaxis.set_major_formatter("{x:,.0f}")
        ax.xaxis.set_major_locator(MaxNLocator(4))
    axes[0].legend(frameon=False)
    return figure


def report(runs: Sequence[Run], net: ob.dag.Network, data: tuple[np.ndarray, np.ndarray]) -> str:
    """Return the numbers as Markdown."""
    lines = [
        "# Training with a penalty leads to singular points",
        "",
        f"Written by `python scripts/pruning.py` (seed {SEED}): {net!r}; {runs[0].steps[-1]:,.0f} "
        f"steps of {STEP}, penalty {PENALTY} times the sum of absolute weights.",
        "",
        "| training | error | largest drift of a balance | distance to a singular point | "
        "nodes cut off | nodes, edges after pruning | largest change of an output |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        pruned = net.prune(run.weights)
        change = np.abs(
            net.evaluate(run.weights, data[0]) - pruned.network.evaluate(pruned.weights, data[0])
        ).max()
        lines.append(
            f"| {run.name} | {run.error[-1]:.2e} | {run.drift[-1]:.2g} | {run.distance[-1]:.3g} | "
            f"{run.cut_off[-1]:.0f} | {len(pruned.network.hidden)}, {pruned.network.size} | "
            f"{change:.1e} |"
        )
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("figures"))
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps")
    options = parser.parse_args(argv)
    rng = np.random.default_rng(SEED)
    net = network()
    X = rng.standard_normal((POINTS, INPUTS))
    data = X, teacher(X)
    fan_in = np.bincount(net.heads, minlength=net.nodes)[net.heads]
    weights = rng.standard_normal(net.size) / np.sqrt(fan_in)
    steps = STEPS // 10 if options.quick else STEPS
    runs = [
        train(name, net, weights, data, penalty=penalty, steps=steps)
        for name, penalty in (("error alone", 0.0), ("error + penalty", PENALTY))
    ]
    text = report(runs, net, data)
    (options.out / "pruning.md").write_text(text, encoding="utf-8", newline="\n")
    heatmaps.save(draw(runs, least_distance(net.balances(weights))), options.out / "pruning")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
