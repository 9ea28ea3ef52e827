"""Draw how the probability of obstruction behaves at the edges of the grid.

    python scripts/limits.py [--networks 4e5] [--out figures]

Writes ``limits.png`` and ``limits.pdf``. The upper panels show P against the number of hidden
neurons for few inputs, the lower panels P against the number of inputs for few neurons, with
Kaiming left and Xavier right. Lines are exact, points are sampled with their 95 % intervals (seed
0), and dashed lines are the limits of docs/limits.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from scipy import stats

import obstruction as ob
from obstruction.reporting import heatmaps

SEED = 0
SCHEMES = {"kaiming_normal": "Kaiming normal", "xavier_normal": "Xavier normal"}
INPUTS = (1, 2, 3, 5)
WIDTHS = (1, 2, 5, 10)
LARGEST = 4096


def limit_of_wide(scheme: str, d: int) -> float:
    """Return the limit of P for ``l`` to infinity."""
    if scheme == "xavier_normal" or d == 1:
        return 1.0
    return 1.0 - np.exp(-1.0) if d == 2 else 0.0


def limit_of_many_inputs(scheme: str, l: int) -> float:
    """Return the limit of P for ``d`` to infinity."""
    threshold = l if scheme == "kaiming_normal" else l + 1
    return float(-np.expm1(l * np.log1p(-stats.chi2.sf(threshold, 1))))


def draw(ax: Any, scheme: str, axis: str, networks: float, names: bool) -> None:
    """Draw one panel: P against ``axis`` ("l" or "d")."""
    sizes = np.unique(np.geomspace(1, LARGEST, 200).round().astype(int))
    marked = [2**k for k in range(13)]
    fixed = INPUTS if axis == "l" else WIDTHS
    other = "d" if axis == "l" else "l"
    for colour, value in zip(sns.color_palette("colorblind"), fixed, strict=False):
        exact = ob.exact.obstruction_probability(scheme, **{axis: sizes, other: value})
        ax.plot(sizes, exact, color=colour, label=f"{other} = {value}")
        table = ob.sample(
            scheme, **{axis: marked, other: value}, networks=networks, seed=SEED
        ).table()
        bars = [table.empirical - table.ci_low, table.ci_high - table.empirical]
        ax.errorbar(table[axis], table.empirical, bars, fmt="o", ms=3, color=colour, lw=1)
        limit = (limit_of_wide if axis == "l" else limit_of_many_inputs)(scheme, value)
        ax.axhline(limit, color=colour, ls="--", lw=0.8)
    ax.set_xscale("log")
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlabel("hidden neurons l" if axis == "l" else "inputs d")
    if names:
        ax.set_ylabel("P(obstruction)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=float, default=4e5, help="per point")
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()
    figure = Figure(figsize=(7.0, 5.2), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True)
    for row, axis in zip(panels, ("l", "d"), strict=True):
        for i, (ax, (scheme, title)) in enumerate(zip(row, SCHEMES.items(), strict=True)):
            draw(ax, scheme, axis, options.networks, names=i == 0)
            if axis == "l":
                ax.set_title(title)
        row[1].legend(frameon=False, fontsize="small", loc="center right")
    heatmaps.save(figure, options.out / "limits")


if __name__ == "__main__":
    main()
