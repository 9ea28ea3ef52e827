"""Draw probabilities from 1 down to 1e-150: estimates from sampled weights beside exact values.

    python scripts/rare.py [--networks 1e5] [--out figures]

Writes ``rare.png`` and ``rare.pdf``. They show log10 P over d, l = 1 ... 1000 for Xavier and
Kaiming normal with seed 0: estimates from counts where there is enough to count and from weighted
samples elsewhere, the exact values, and the difference in standard errors. The script exits with 1
if estimates and exact values disagree.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import obstruction as ob
from obstruction.reporting import heatmaps
from obstruction.tools.parsing import parse_axis

SEED = 0
SCHEMES = ["xavier_normal", "kaiming_normal"]
CONTOURS = (0.5, 1e-5, 1e-50, 1e-100)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=float, default=1e5, help="per cell")
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()
    axis = parse_axis("d", "geom:1:1000:60")
    study = ob.sample(
        SCHEMES,
        d=axis,
        l=axis,
        networks=options.networks,
        seed=SEED,
        estimator="auto",
        progress=True,
    )
    print(study.describe())
    agreement = study.agreement()
    print(agreement)
    figure = heatmaps.figure(study.table(), scale="log10", levels=CONTOURS)
    heatmaps.save(figure, options.out / "rare")
    return 0 if agreement.agrees else 1


if __name__ == "__main__":
    sys.exit(main())
