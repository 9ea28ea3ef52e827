"""Draw the paper's figure 5 from a Monte Carlo run, and judge the paper's statements about it.

    python scripts/figure5.py [--quick] [--networks 1e6] [--out figures]

Writes ``figure5.png`` and ``figure5.pdf``. They show the probability that a network is obstructed,
for d, l = 1 ... 100, Xavier and Kaiming normal and seed 0: estimates, exact values, and the
difference in standard errors. Cells in which obstruction is too rare to be counted are estimated
from weighted samples, so that every cell is compared with its exact value. The script exits with 1
if a cell disagrees. ``figure5.csv`` has one row for each cell, and ``figure5_statements.md`` has
the paper's sentences, each judged by a number.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import figure5_statements as statements
import pandas as pd
from matplotlib.figure import Figure

import obstruction as ob
from obstruction.reporting import heatmaps

FILES = ("figure5.png", "figure5.pdf", "figure5.csv", "figure5_statements.md")
SEED = 0
SCHEMES = ["xavier_normal", "kaiming_normal"]
SIZES = range(1, 101)
NETWORKS, QUICK_NETWORKS = 10**6, 10**4
COLUMNS = [
    *("scheme", "d", "l", "estimator", "networks", "obstructed", "pathological", "samples"),
    *("empirical", "ci_low", "ci_high", "exact", "z", "p_value"),
]
"""The columns of ``figure5.csv``, explained by `obstruction.studies.table.COLUMNS`."""


def draw(table: pd.DataFrame, note: str = "") -> Figure:
    """Draw the heatmaps, and a line where weighted samples replace counts."""
    figure = heatmaps.figure(table)
    for row, scheme in enumerate(SCHEMES):
        ax = figure.axes[3 * row + 2]
        weighted = table[table.scheme == scheme].pivot(index="l", columns="d", values="estimator")
        d, l, inside = weighted.columns, weighted.index, weighted.to_numpy() == "tilted"
        if inside.any():
            ax.title.set_text("z-score, weighted beyond the line")
            ax.contour(d, l, inside.astype(float), levels=[0.5], colors="0.35", linewidths=0.7)
    if note:
        figure.text(0.99, 0.995, note, ha="right", va="top", fontsize=7, color="firebrick")
    return figure


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write the table, with exact values in full and sampled values to nine digits."""
    rows = table[COLUMNS].copy()
    rows["exact"] = rows["exact"].map(repr)
    rows.to_csv(path, index=False, float_format="%.9g", lineterminator="\n")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=float, help=f"per cell ({NETWORKS:,})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_NETWORKS:,} networks")
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args(argv)
    networks = options.networks or (QUICK_NETWORKS if options.quick else NETWORKS)
    study = ob.sample(
        SCHEMES,
        d=SIZES,
        l=SIZES,
        networks=networks,
        seed=SEED,
        estimator="auto",
        progress=True,
    )
    table, agreement = study.table(), study.agreement()
    print(study.describe())
    print(agreement)
    note = f"quick version: {study.networks:,} networks per cell" if options.quick else ""
    options.out.mkdir(parents=True, exist_ok=True)
    heatmaps.save(draw(table, note), options.out / "figure5")
    write_csv(table, options.out / "figure5.csv")
    text = statements.report(study, agreement, note)
    (options.out / "figure5_statements.md").write_text(text, encoding="utf-8", newline="\n")
    confirmed = agreement.agrees and not agreement.untested
    return 0 if confirmed else 1


if __name__ == "__main__":
    sys.exit(main())
