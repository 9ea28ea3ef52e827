"""Draw three small networks with their frozen weights and bottlenecks.

    python scripts/dag_example.py [--out figures]

Writes ``dag_example.png`` and ``dag_example.pdf``: a chain of layers, a chain with two layers of
width 1, and the second chain with skip connections. All weights are standard normal.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from obstruction.dag import Network
from obstruction.reporting import heatmaps

SEED = 0
FILES = ("dag_example.png", "dag_example.pdf")


def with_skips(widths: Sequence[int]) -> Network:
    """Return a chain of layers whose first hidden nodes also lead to the last layer."""
    chain = Network.mlp(widths)
    last = len(widths) - 2
    skips = [(f"h1.{k}", f"h{last}.{k}") for k in range(min(widths[1], widths[last]))]
    return Network.from_edges([*chain.edges, *skips], inputs=chain.inputs, outputs=chain.outputs)


def draw(seed: int = SEED) -> Figure:
    """Draw the networks side by side."""
    networks = {
        "a chain of layers": Network.mlp([2, 4, 3, 3, 4, 1]),
        "two layers of width 1": Network.mlp([2, 4, 1, 1, 4, 1]),
        "skip connections past them": with_skips([2, 4, 1, 1, 4, 1]),
    }
    figure = Figure(figsize=(9.6, 3.5), layout="constrained")
    for ax, (name, net) in zip(figure.subplots(1, 3), networks.items(), strict=True):
        weights = np.random.default_rng(seed).standard_normal(net.size)
        net.plot(weights, ax)
        ax.set_title(f"{name}\n{ax.get_title()}", fontsize=8.5)
    return figure


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args(argv)
    heatmaps.save(draw(), options.out / "dag_example")
    return 0


if __name__ == "__main__":
    sys.exit(main())
