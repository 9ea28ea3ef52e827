"""Draw the paper's figure 5 from a Monte Carlo run of our own.

    python scripts/figure5.py [--networks 1e6] [--out figures]

Writes ``figure5.png``, ``figure5.pdf`` and ``figure5.csv``: the probability that a network is
obstructed, for d, l = 1 ... 100, Xavier and Kaiming normal, seed 0; sampled, exact, and the
difference in standard deviations.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import obstruction as ob
from obstruction import heatmaps, table

SEED = 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=float, default=1e6, help="per cell")
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()
    study = ob.sample(
        ["xavier_normal", "kaiming_normal"],
        d=range(1, 101),
        l=range(1, 101),
        networks=options.networks,
        seed=SEED,
        progress=True,
    )
    print(study.describe())
    agreement = study.agreement()
    print(agreement)
    heatmaps.save(heatmaps.figure(study.table()), options.out / "figure5")
    with (options.out / "figure5.csv").open("w", encoding="utf-8", newline="\n") as stream:
        table.write_csv(study.table(), stream)
    return 0 if agreement.agrees else 1


if __name__ == "__main__":
    sys.exit(main())
