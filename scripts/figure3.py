"""Draw the paper's figure 3: toy networks, of which frozen signs keep some from learning.

    python scripts/figure3.py [--quick] [--out figures]

Writes ``figure3.png/.pdf`` (one initial function, rescaled in two ways: trajectories on the
hyperboloids, losses, drift), ``figure3_seeds.png/.pdf`` (final losses of 200 networks in each of
four conditions against what was predicted from their initial weights), ``figure3_escape.png/.pdf``
(how often finite steps carry a frozen weight over zero, by optimizer), ``figure3.csv`` (one row for
each network), ``figure3_escape.csv`` and ``figure3.md`` (the numbers). The experiment is in
``toy.py``. The script takes about thirteen minutes on one core. It exits with 1 if a network was
predicted to be stuck and was not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hyperboloids
import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
import toy
from hyperboloids import Stage
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator
from mpl_toolkits.mplot3d import Axes3D
from toy_report import report

from obstruction import training
from obstruction.reporting import heatmaps
from obstruction.sampling.inference import binomial
from obstruction.training import Trained

FILES = (
    "figure3.png",
    "figure3.pdf",
    "figure3_seeds.png",
    "figure3_seeds.pdf",
    "figure3_escape.png",
    "figure3_escape.pdf",
    "figure3.csv",
    "figure3_escape.csv",
    "figure3.md",
)
SEED = toy.SEED
SHOWN = 0
"""The seed of the network whose trajectories are drawn."""
SEEDS, QUICK_SEEDS = 200, 20
ESCAPE_SEEDS, QUICK_ESCAPE_SEEDS = 100, 20
QUICK_POINTS = 2000
SIZES, QUICK_SIZES = (1.0, 0.1), (1.0,)
QUICK_EVERY = 3
"""The quick version tries every third learning rate."""
PAIR = ("both frozen positive", "one free")

STYLE: Any = {"font.size": 7.5, "axes.titlesize": 8.5, "axes.linewidth": 0.6}
STAGE = Stage(elev=16.0, azim=40.0, highest=1.8)
PALETTE = sns.color_palette("colorblind")
COLOURS = {"stuck": PALETTE[3], "not stuck": PALETTE[2]}
FLOOR = 1e-8
"""Smaller losses are drawn at this value."""


# --- one network, rescaled in two ways ---------------------------------------------------------


def draw_trajectory(ax: Axes3D, run: Trained, neuron: int, stage: Stage) -> None:
    """Draw the path of a neuron's weights on its hyperboloid, with its start and its end."""
    c = run.balances[0, 0, neuron]
    stage.draw(ax, c)
    points = np.column_stack([run.W1_path[0, :, neuron], run.W2_path[0, :, neuron]])
    stage.draw_path(ax, points, color=hyperboloids.PATH, lw=1.6)
    for point, fill in zip(points[[0, -1]], ("white", hyperboloids.PATH), strict=True):
        ax.plot(*point[:, None], "o", mec=hyperboloids.PATH, mfc=fill, ms=4.5, mew=1.1, zorder=7)
    words = "frozen" if c < 0.0 else "free"
    ax.set_title(f"neuron {neuron + 1}, {words}: $c_{neuron + 1} = {c:.0f}$", y=0.97)


def draw_functions(figure: Figure, runs: Sequence[Trained], y: float) -> None:
    """Draw the target and the functions that the two networks learned, over a square of inputs."""
    side = np.linspace(-2.0, 2.0, 81)
    X = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    shown = {"target": toy.target(X)}
    for letter, run in zip("ab", runs, strict=True):
        shown[f"end of {letter}"] = training.outputs(run.W1, run.W2, X)[0]
    for i, (name, values) in enumerate(shown.items()):
        ax = figure.add_axes((0.7 + 0.1 * i, y, 0.085, 0.085 * 7.0 / 5.2))
        ax.imshow(
            values.reshape(81, 81), cmap="vlag", vmin=-2, vmax=2, origin="lower",
            extent=(-2, 2, -2, 2), interpolation="bilinear",
        )  # fmt: skip
        ax.set_title(name, pad=3)
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel("$x_1$", labelpad=1)
        if i == 0:
            ax.set_ylabel("$x_2$", labelpad=1)


def draw_pair(
    runs: Sequence[Trained], bound: float, stage: Stage, rate: float, note: str
) -> Figure:
    """Draw one initial function under two rescalings: trajectories, functions, losses, drift."""
    figure = Figure(figsize=(7.0, 5.2))
    titles = {"stuck": "both output weights frozen positive", "not stuck": "one output weight free"}
    for row, (run, (name, title)) in enumerate(zip(runs, titles.items(), strict=True)):
        y = 0.5 * (1 - row)
        figure.text(0.01, y + 0.46, "ab"[row], fontweight="bold", fontsize=10)
        figure.text(0.035, y + 0.46, title, fontsize=8.5, color=COLOURS[name])
        figure.text(0.58, y + 0.46, "○ start   ● end", ha="right", fontsize=7, color="0.3")
        for neuron in range(2):
            place = (0.028 + 0.295 * neuron, y + 0.01, 0.295, 0.41)
            ax = figure.add_axes(place, projection="3d")
            draw_trajectory(ax, run, neuron, stage)
    draw_functions(figure, runs, 0.81)
    loss = figure.add_axes((0.7, 0.445, 0.285, 0.265))
    drift = figure.add_axes((0.7, 0.085, 0.285, 0.225))
    for name, run in zip(titles, runs, strict=True):
        time = run.steps * rate
        loss.plot(time, run.losses[0], color=COLOURS[name], lw=1.4)
        change = np.abs(run.balances[0] - run.balances[0, 0]).max(axis=1)
        drift.plot(time, 100.0 * change / toy.BALANCE, color=COLOURS[name], lw=1.4)
    loss.axhline(bound, color="0.3", lw=0.8, ls="--")
    words = "least loss without a\nnegative output weight"
    look: Any = {"ha": "right", "va": "top", "color": "0.3", "fontsize": 6.5}
    loss.text(0.97, bound / 2, words, transform=loss.get_yaxis_transform(), **look)
    loss.set(yscale="log", title="loss (mean squared error)")
    drift.set(ylabel="% of $|c|$", title="drift of the balances")
    drift.set_ylim(0.0, max(1.0, drift.get_ylim()[1]))
    for ax, letter, y in ((loss, "d", 0.73), (drift, "e", 0.33)):
        ax.set_xlim(0.0, None)
        figure.text(0.63, y, letter, fontweight="bold", fontsize=10)
    drift.set_xlabel("time (step size × steps)")
    figure.text(0.63, 0.96, "c", fontweight="bold", fontsize=10)
    figure.text(0.99, 0.995, note, ha="right", va="top", fontsize=7, color="firebrick")
    return figure


# --- all seeds ---------------------------------------------------------------------------------


def draw_losses(ax: Axes, table: pd.DataFrame, bound: float) -> None:
    """Draw every final loss, by condition and prediction."""
    rng = np.random.default_rng(SEED)
    looks: dict[str, Any] = {
        "stuck": {"marker": "x", "lw": 0.7, "label": "stuck"},
        "not stuck": {
            "marker": "o",
            "lw": 0.7,
            "facecolor": "none",
            "label": "not stuck",
        },
    }
    for verdict, look in looks.items():
        rows = table[table["predicted"] == verdict]
        place = rows["condition"].map(list(toy.CONDITIONS).index).to_numpy(np.float64)
        place += rng.uniform(-0.17, 0.17, len(rows)) + (0.2 if verdict == "stuck" else -0.2)
        colour = {"color": COLOURS[verdict]} if verdict == "stuck" else {"ec": COLOURS[verdict]}
        losses = np.maximum(rows["final_loss"], FLOOR)
        ax.scatter(place, losses, s=9, alpha=0.8, **look, **colour)
    ax.axhline(bound, color="0.3", lw=0.8, ls="--")
    ax.text(3.47, bound / 1.3, "bound", ha="right", va="top", color="0.3", fontsize=6.5)
    ax.set(yscale="log", ylim=(FLOOR / 3, 4.0), xlim=(-0.5, 3.5))
    ax.set_ylabel("final loss (smaller ones at the bottom)")
    names = ("both frozen\npositive", "one free", "frozen,\nsigns as drawn", "all as\ndrawn")
    ax.set_xticks(range(4), names)
    ax.legend(title="predicted", loc="center left", handletextpad=0.1, frameon=False)
    ax.set_title(f"final losses, {len(table) // len(toy.CONDITIONS)} networks in each column")


def draw_confusion(ax: Axes, table: pd.DataFrame) -> None:
    """Draw the number of networks for each prediction and outcome; the theory says which are 0."""
    counts = toy.confusion(table)
    for (row, column), count in np.ndenumerate(counts.to_numpy()):
        verdict = counts.index[row]
        never = verdict == "stuck" and column < 2
        fill = "0.93" if never else (*COLOURS[verdict], 0.25)
        ax.add_patch(Rectangle((column, row), 1, 1, facecolor=fill, edgecolor="white", lw=2))
        ax.text(column + 0.5, row + 0.45, str(count), ha="center", va="center", fontsize=12)
        if never:
            ax.text(column + 0.5, row + 0.8, "theory: none", ha="center", va="center", color="0.35")
    ax.set(xlim=(0, 3), ylim=(2, 0))
    ax.set_xticks(np.arange(3) + 0.5, ["learned", "below\nthe bound", "at or above\nthe bound"])
    ax.set_yticks(np.arange(2) + 0.5, counts.index, rotation=90, va="center")
    ax.set_ylabel("predicted")
    ax.set_title("prediction and outcome")
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)


def draw_causes(ax: Axes, table: pd.DataFrame) -> None:
    """Draw the reasons why networks that could learn did not."""
    rows = table[(table["predicted"] == "not stuck") & (table["outcome"] != "learned")]
    counts = rows["cause"].value_counts().reindex(toy.CAUSES, fill_value=0)
    bars = ax.barh(range(len(counts)), counts, color=COLOURS["not stuck"], alpha=0.6)
    ax.bar_label(bars, padding=2)
    ax.set_yticks(range(len(counts)), counts.index)
    ax.invert_yaxis()
    ax.set(xticks=[])
    ax.set_title("why those not stuck have not learned", x=0.1)
    ax.set_xlim(0, 1.15 * max(1, counts.max()))
    ax.tick_params(length=0)
    ax.spines[["top", "right", "bottom"]].set_visible(False)


def draw_seeds(table: pd.DataFrame, bound: float, note: str) -> Figure:
    """Draw final losses, predictions against outcomes, and the causes of failure."""
    figure = Figure(figsize=(7.0, 3.6))
    losses = figure.add_axes((0.09, 0.125, 0.44, 0.775))
    confusion = figure.add_axes((0.635, 0.5, 0.355, 0.4))
    causes = figure.add_axes((0.765, 0.06, 0.225, 0.265))
    draw_losses(losses, table, bound)
    draw_confusion(confusion, table)
    draw_causes(causes, table)
    for letter, x, y in (("a", 0.01, 0.94), ("b", 0.57, 0.94), ("c", 0.57, 0.36)):
        figure.text(x, y, letter, fontweight="bold", fontsize=10)
    figure.text(0.01, 0.995, note, va="top", fontsize=7, color="firebrick")
    return figure


# --- finite steps ------------------------------------------------------------------------------

LINES = {
    "diverged": ("0.55", ":", "diverged"),
    "crossed": (PALETTE[0], "-", "an output weight has changed sign"),
    "learned": (PALETTE[2], "-", "learned"),
}


def draw_escapes(table: pd.DataFrame, note: str) -> Figure:
    """Draw how often frozen weights cross zero, and by how much the balances drift."""
    sizes = list(dict.fromkeys(table["c"]))
    figure = Figure(figsize=(7.0, 1.35 + 1.35 * len(sizes) + 0.35), layout="constrained")
    names = list(dict.fromkeys(table["optimizer"]))
    panels = figure.subplots(len(sizes) + 1, len(names), sharex="col", sharey="row", squeeze=False)
    for name, column in zip(names, panels.T, strict=True):
        for c, style, ax in zip(sizes, ("-", "--"), column[:-1], strict=False):
            rows = table[(table["optimizer"] == name) & (table["c"] == c)]
            for key, (colour, line, label) in LINES.items():
                rate = rows[key] / rows["networks"]
                low, high = binomial.interval(rows[key], rows["networks"])
                ax.plot(rows["learning_rate"], rate, line, color=colour, lw=1.2, label=label)
                if key != "diverged":
                    ax.fill_between(
                        rows["learning_rate"], low, high, color=colour, alpha=0.18, lw=0
                    )
            ax.set(ylim=(-0.03, 1.03))
            drift = column[-1]
            drift.plot(
                rows["learning_rate"], rows["drift_50"], style, color="0.15", lw=1.1,
                label=f"$c = {c:g}$",
            )  # fmt: skip
            drift.fill_between(
                rows["learning_rate"], rows["drift_10"], rows["drift_90"], color="0.5", alpha=0.2,
                lw=0,
            )  # fmt: skip
        column[-1].axhline(1.0, color=PALETTE[3], lw=0.8, ls=":")
        column[-1].set(xscale="log", yscale="log")
        column[-1].xaxis.set_major_locator(LogLocator(numticks=9))
        column[0].set_title(name, fontsize=7.5)
    for c, ax in zip(sizes, panels[:-1, 0], strict=True):
        ax.set_ylabel(f"share of networks\n$c_1 = c_2 = {c:g}$")
    panels[-1, 0].set_ylabel("drift, in parts of $|c|$")
    panels[-1, 0].legend(frameon=False, loc="upper left", handlelength=1.8, borderpad=0.1)
    figure.supxlabel("learning rate", fontsize=7.5)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    figure.text(0.01, 0.995, note, va="top", fontsize=7, color="firebrick")
    return figure


# --- all of it ---------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer points, networks and rates")
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args(argv)
    quick = options.quick
    note = "quick version" if quick else ""
    plan = toy.QUICK if quick else toy.PLAN

    X, y = toy.data(QUICK_POINTS if quick else toy.POINTS)
    bounds = {sign: toy.least_loss(X, y, sign) for sign in (1, -1)}
    bound = min(one.low for one in bounds.values())
    drawn = toy.draw([SHOWN])
    shown = [
        toy.train(*toy.start(*drawn, name), X, y, plan, records=1000, record_weights=True)
        for name in PAIR
    ]
    table = toy.experiment(range(QUICK_SEEDS if quick else SEEDS), X, y, plan, bound)
    found = toy.escapes(
        range(QUICK_ESCAPE_SEEDS if quick else ESCAPE_SEEDS),
        X,
        y,
        bounds[1].low,
        QUICK_SIZES if quick else SIZES,
        QUICK_EVERY if quick else 1,
    )

    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / "figure3.csv", index=False, lineterminator="\n")
    found.to_csv(options.out / "figure3_escape.csv", index=False, lineterminator="\n")
    text = report(table, found, bounds, plan, len(X), note)
    (options.out / "figure3.md").write_text(text, encoding="utf-8", newline="\n")
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        heatmaps.save(
            draw_pair(shown, bounds[1].low, STAGE, plan.rate, note), options.out / "figure3"
        )
        heatmaps.save(draw_seeds(table, bound, note), options.out / "figure3_seeds")
        heatmaps.save(draw_escapes(found, note), options.out / "figure3_escape")
    counts = toy.confusion(table)
    print(counts)
    return int(counts.loc["stuck", ["learned", "below the bound"]].sum() > 0)


if __name__ == "__main__":
    sys.exit(main())
