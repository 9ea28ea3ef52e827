"""Draw how likely frozen signs put a target out of reach.

    python scripts/unreachable.py [--networks 2e4] [--out figures]

Writes ``unreachable.png`` and ``unreachable.pdf``. They show log10 of the exact probability for d,
l up to 100, Kaiming and Xavier normal, for targets that need at least one negative output weight
and for targets that need half of all output weights negative. Before that, counts of sampled
networks (seed 0, d, l up to 30) are compared with the exact values. The script exits with 1 if they
disagree.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

import obstruction as ob
from obstruction.reporting import heatmaps
from obstruction.sampling.inference import binomial
from obstruction.studies.unreachable import sample_unreachable

SEED, LEVEL = 0, 1e-3
SCHEMES = {"xavier_normal": "Xavier normal", "kaiming_normal": "Kaiming normal"}
INPUTS = np.arange(1, 101)
WIDTHS = np.arange(2, 101, 2)
"""The widths are even, so that half of each is an integer."""
LEAST = -40.0
CONTOURS = (-20, -5, -2, -1)


def half(l: int) -> int:
    return l // 2


NEEDS = {"one negative weight needed": lambda l: 1, "l/2 negative weights needed": half}


def verdict(networks: float) -> bool:
    """Compare counts of sampled networks with the exact values; return whether they agree."""
    sizes = [1, 2, 3, 4, 6, 10, 20, 30]
    agrees = True
    for name, need in NEEDS.items():
        table = sample_unreachable(
            list(SCHEMES), d=sizes, l=sizes, negative=need, networks=networks, seed=SEED
        )
        smallest = np.nanmin(binomial.holm(table.p_value.to_numpy()))
        agrees &= bool(smallest > LEVEL)
        print(
            f"{name}: {len(table)} cells, {networks:,.0f} networks each, "
            f"{int(table.unreachable.sum()):,} out of reach, "
            f"smallest adjusted p-value {smallest:.2g}"
        )
    return agrees


def draw() -> Figure:
    """Draw one row for each scheme and one column for each target."""
    figure = Figure(figsize=(6.2, 5.6), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    palette = sns.color_palette("viridis", as_cmap=True)
    d, l = INPUTS[None, :], WIDTHS[:, None]
    for row, (scheme, title) in zip(panels, SCHEMES.items(), strict=True):
        for ax, (name, need) in zip(row, NEEDS.items(), strict=True):
            negative = np.vectorize(need)(l)
            log10 = ob.exact.log_unreachable_probability(
                scheme, d, l, positive=0, negative=negative
            ) / np.log(10.0)
            mesh = ax.pcolormesh(
                INPUTS, WIDTHS, log10, cmap=palette, vmin=LEAST, vmax=0, rasterized=True
            )
            lines = ax.contour(
                INPUTS,
                WIDTHS,
                np.maximum(log10, 2 * LEAST),
                levels=CONTOURS,
                colors="white",
                linewidths=0.7,
                linestyles="solid",
            )
            ax.set(xscale="log", yscale="log", xlim=INPUTS[[0, -1]], ylim=WIDTHS[[0, -1]])
            ax.set_title(f"{title}, {name}", fontsize=8)
    for ax in panels[-1]:
        ax.set_xlabel("inputs d")
    for ax in panels[:, 0]:
        ax.set_ylabel("hidden neurons l")
    bar = figure.colorbar(mesh, ax=panels, location="bottom", shrink=0.7, aspect=40, extend="min")
    bar.add_lines(lines)
    bar.set_label("probability that the target is out of reach, $\\log_{10}$")
    return figure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=float, default=2e4, help="per cell")
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()
    agrees = verdict(options.networks)
    heatmaps.save(draw(), options.out / "unreachable")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
