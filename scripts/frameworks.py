"""Draw the probability of obstruction of eight framework defaults side by side.

    python scripts/frameworks.py [--networks 1e5] [--out figures]

Writes ``frameworks.png`` and ``frameworks.pdf``: the exact log10 P over d, l = 1 ... 1000. Every
cell is also estimated from sampled weights (seed 0). The script prints the verdict on all cells and
exits with 1 if they disagree.
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
from obstruction.tools.parsing import parse_axis

SEED = 0
AXIS = parse_axis("d", "geom:1:1000:40")
PANELS = {
    "torch_linear": "PyTorch nn.Linear",
    "torch_kaiming_normal": "PyTorch kaiming_normal_",
    "keras_dense": "Keras Dense",
    "keras_he_normal": "Keras HeNormal",
    "flax_dense": "Flax Dense, nnx.Linear",
    "haiku_linear": "Haiku Linear",
    "sklearn_mlp": "scikit-learn MLP",
    "normal_002": "normal 0.02 (BERT, ViT)",
}
LEAST = -30.0
CONTOURS = (-20, -10, -6, -2)


def draw(table: object) -> Figure:
    """Draw one panel for each scheme, all with the same colours."""
    figure = Figure(figsize=(7.2, 4.3), layout="constrained")
    panels = figure.subplots(2, 4, sharex=True, sharey=True)
    palette = sns.color_palette("viridis", as_cmap=True)
    for ax, (scheme, title) in zip(panels.flat, PANELS.items(), strict=True):
        rows = table[table.scheme == scheme]
        wide = rows.pivot(index="l", columns="d", values="log10_exact")
        d, l = wide.columns.to_numpy(), wide.index.to_numpy()
        mesh = ax.pcolormesh(d, l, wide, cmap=palette, vmin=LEAST, vmax=0, rasterized=True)
        lines = ax.contour(
            d, l, wide, levels=CONTOURS, colors="white", linewidths=0.7, linestyles="solid"
        )
        ax.clabel(lines, fmt=lambda level: f"$10^{{{level:.0f}}}$", fontsize=6)
        ax.set(xscale="log", yscale="log", xlim=(1, d[-1]), ylim=(1, l[-1]))
        ax.set_title(title, fontsize=8)
        ax.tick_params(labelsize=7)
    for ax in panels[-1]:
        ax.set_xlabel("inputs d", fontsize=8)
    for ax in panels[:, 0]:
        ax.set_ylabel("hidden neurons l", fontsize=8)
    bar = figure.colorbar(mesh, ax=panels, location="bottom", shrink=0.6, aspect=40, extend="min")
    bar.set_label("probability of obstruction, $\\log_{10} P$", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=float, default=1e5, help="per cell")
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()
    study = ob.sample(
        list(PANELS),
        d=AXIS,
        l=AXIS,
        networks=options.networks,
        seed=SEED,
        estimator="auto",
        progress=True,
    )
    print(study.describe())
    agreement = study.agreement()
    print(agreement)
    table = study.table()
    print(f"smallest P: 10^{np.min(table.log10_exact):.1f}")
    heatmaps.save(draw(table), options.out / "frameworks")
    return 0 if agreement.agrees else 1


if __name__ == "__main__":
    sys.exit(main())
