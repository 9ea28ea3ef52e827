"""Train a frozen network by gradient descent, before and after its repair.

    python scripts/repair_demo.py [--steps 2500] [--starts 20] [--out figures]

Writes ``repair_demo.png``. A network of two inputs, four hidden ReLU neurons and no biases learns
``relu(u x) - relu(v x)``, which needs a negative output weight. It starts with positive output
weights, each larger than the norm of the weights into its neuron, so gradient flow can change none
of the signs. `ob.repair` rescales the neurons, which does not change the function, and then the
same training can change them. The figure shows one start. The script also prints how many of
several random starts end with a loss below 1e-3, because a repair removes this obstruction only:
local minima remain.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

import obstruction as ob
from obstruction.tools.files import whole_file

Weights = list[NDArray[np.float64]]

NEURONS, SAMPLES, RATE, SHOWN = 4, 1000, 0.02, 6
TARGET = np.array([[1.0, 0.5], [-0.4, 1.0]])
"""The input weights of the target's two neurons; its output weights are 1 and -1."""
READ: Any = {"activation": "relu", "layout": "out_in"}
STYLE: Any = {"font.size": 7.5, "axes.titlesize": 8.5, "axes.linewidth": 0.6}
COLOURS = {name: sns.color_palette("colorblind")[i] for name, i in (("frozen", 3), ("repaired", 0))}


def start(seed: int) -> Weights:
    """Return input weights of norm 0.5 to 0.8 and output weights of 0.9 to 1.2."""
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((NEURONS, 2))
    hidden *= rng.uniform(0.5, 0.8, (NEURONS, 1)) / np.linalg.norm(hidden, axis=1, keepdims=True)
    return [hidden, rng.uniform(0.9, 1.2, (1, NEURONS))]


def train(weights: Weights, steps: int) -> tuple[NDArray[np.float64], ob.Monitor]:
    """Train by full-batch gradient descent in place; return the losses and the monitor."""
    x = np.random.default_rng(0).standard_normal((SAMPLES, 2))
    y = np.maximum(x @ TARGET.T, 0.0) @ [1.0, -1.0]
    hidden, output = weights
    monitor, losses = ob.Monitor(weights, **READ, every=20), []
    for step in range(steps + 1):
        monitor.step(step)
        before = x @ hidden.T
        after = np.maximum(before, 0.0)
        error = (after @ output.T)[:, 0] - y
        losses.append(np.mean(error**2))
        back = 2.0 / SAMPLES * error[:, None]
        into = (back * output * (before > 0.0)).T @ x
        output -= RATE * (back.T @ after)
        hidden -= RATE * into
    return np.array(losses), monitor


def output_weights(monitor: ob.Monitor) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the recorded steps, and one row of output weights for each."""
    table = monitor.history
    weights = (table["out_norm"] * table["sign"].astype(float)).to_numpy()
    return table["step"].unique(), weights.reshape(-1, NEURONS)


def draw_losses(ax: Axes, runs: dict[str, tuple[NDArray[np.float64], ob.Monitor]]) -> None:
    for name, (losses, _) in runs.items():
        ax.plot(losses, color=COLOURS[name], lw=1.5)
    stuck, end = runs["frozen"][0][-1], len(runs["frozen"][0]) - 1
    at = int(np.argmax(runs["repaired"][0] < 1e-3))
    first = runs["frozen"][0][0]
    ax.plot(0, first, "o", color="0.25", ms=4, clip_on=False, zorder=5)
    beside: Any = {"textcoords": "offset points", "va": "center"}
    ax.annotate("the same function at the start", (0, first), (7, 0), color="0.25", **beside)
    words = f"frozen: stuck at {stuck:.2f}"
    ax.annotate(words, (end, stuck), (-2, -7), color=COLOURS["frozen"], ha="right", **beside)
    ax.annotate("repaired: learns", (at, 1e-3), (7, 0), color=COLOURS["repaired"], **beside)
    ax.set(yscale="log", ylim=(1e-6, 10.0), ylabel="mean squared error", title="loss")


def draw_weights(ax: Axes, runs: dict[str, tuple[NDArray[np.float64], ob.Monitor]]) -> None:
    low, high = -1.3, 1.35
    ax.axhspan(low, 0.0, color="0.955", lw=0, zorder=0)
    ax.axhline(0.0, color="0.25", lw=0.8, zorder=1)
    beside: Any = {"textcoords": "offset points", "va": "center"}
    for name, (_, monitor) in runs.items():
        steps, weights = output_weights(monitor)
        ax.plot(steps, weights, color=COLOURS[name], lw=1.5)
        ax.annotate(
            *(name, (steps[-1], weights[-1].max()), (-2, 6 if name == "frozen" else -10)),
            **{"color": COLOURS[name], "ha": "right", **beside},
        )
        for change in monitor.sign_changes.itertuples():
            spot, ring = (change.step_after, 0.0), {"mfc": "white", "mec": COLOURS[name]}
            ax.plot(*spot, "o", ms=5, mew=1.3, zorder=5, **ring)
            ax.annotate("changes its sign", spot, (8, 6), color=COLOURS[name], **beside)
    words = "the target needs a weight down here,\nwhere the frozen network cannot get"
    ax.text(0.97, 0.3, words, transform=ax.transAxes, color="0.25", ha="right", va="center")
    ax.set(ylim=(low, high), ylabel="weight", title="the four output weights")


def draw(runs: dict[str, tuple[NDArray[np.float64], ob.Monitor]]) -> Figure:
    """Draw the losses on the left, the output weights on the right."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.7), layout="constrained")
        panels = figure.subplots(1, 2)
        draw_losses(panels[0], runs)
        draw_weights(panels[1], runs)
        for ax in panels:
            ax.set(xlabel="step of gradient descent", xlim=(0, len(runs["frozen"][0]) - 1))
            ax.grid(color="0.9", lw=0.5)
            ax.minorticks_off()
            ax.set_axisbelow(True)
            for side in ("top", "right"):
                ax.spines[side].set_visible(False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--starts", type=int, default=20, help="random starts to count over")
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()

    fixed = ob.repair(start(SHOWN), **READ)
    runs = {
        name: train(weights, options.steps)
        for name, weights in (("frozen", start(SHOWN)), ("repaired", fixed))
    }
    for name, (losses, monitor) in runs.items():
        print(
            f"{name:8}  loss {losses[0]:.4f} to {losses[-1]:.2g}, "
            f"output weights that changed sign: {monitor.sign_changes['neuron'].nunique()}, "
            f"largest drift of a balance {monitor.drift['largest'].max():.2g}"
        )
    learnt = {"frozen": 0, "repaired": 0}
    for seed in range(options.starts):
        for name, weights in (
            ("frozen", start(seed)),
            ("repaired", ob.repair(start(seed), **READ)),
        ):
            learnt[name] += int(train(weights, options.steps)[0][-1] < 1e-3)
    print(
        f"of {options.starts} random starts the frozen network learnt {learnt['frozen']}, "
        f"the repaired one {learnt['repaired']}"
    )

    options.out.mkdir(parents=True, exist_ok=True)
    with whole_file(options.out / "repair_demo.png") as stream:
        draw(runs).savefig(stream, format="png", dpi=200, metadata={"Software": None})


if __name__ == "__main__":
    main()
