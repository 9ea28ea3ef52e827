"""Repeat figure 4 at one width with other balances, steps and learning rates.

    python scripts/breast_cancer_balances.py [--out figures] [--quick]

Writes ``breast_cancer_balances.md``: the mean losses at l = 8, the drift of the balances, and the
number of free output weights that changed their sign. It takes a minute or two.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import breast_cancer
import numpy as np

SEED = 0
FILES = ("breast_cancer_balances.md",)
L = 8
BASE = breast_cancer.Settings(widths=(L,), initialisations=40, seed=SEED)
SETTINGS = (
    BASE,
    replace(BASE, learning_rate=0.02, steps=2500),
    replace(BASE, steps=2000),
    replace(BASE, balance=0.1, learning_rate=0.02, steps=2500),
    replace(BASE, balance=4.0),
)
SHOWN = (0, 1, 2, 4, 8)
"""Numbers of free neurons in the table."""


def report(chosen: Sequence[breast_cancer.Settings]) -> str:
    """Train all settings and return their numbers as Markdown."""
    data = breast_cancer.load_data(SEED)
    head = " | ".join(f"l+ = {free}" for free in SHOWN)
    lines = [
        f"# Figure 4 at l = {L} with other settings",
        "",
        f"Written by `python scripts/breast_cancer_balances.py` (seed {SEED}): "
        f"{chosen[0].initialisations} initial functions for each kind of signs, mean losses.",
        "",
        "| signs | balances | learning rate, steps | loss | "
        f"{head} | drift, median | drift, largest | free weights that changed sign |",
        "|---" * (7 + len(SHOWN)) + "|",
    ]
    for settings in chosen:
        width = breast_cancer.train_width(L, data, settings)
        free = settings.initialisations * sum(range(1, L + 1))
        for s, signs in enumerate(breast_cancer.SIGNS):
            for name, losses in (("test", width.test_loss), ("training", width.train_loss)):
                means = losses[s].mean(axis=0)
                values = " | ".join(f"{means[k]:.4f}" for k in SHOWN)
                lines.append(
                    f"| {signs} | ±{settings.balance:g} | {settings.learning_rate:g}, "
                    f"{settings.steps} | {name} | {values} | {np.median(width.drift[s]):.2%} | "
                    f"{width.drift[s].max():.1%} | {width.freed[s].sum() / free:.1%} |"
                )
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("figures"))
    parser.add_argument("--quick", action="store_true", help="one setting, 5 initial functions")
    options = parser.parse_args(argv)
    chosen = (replace(BASE, initialisations=5),) if options.quick else SETTINGS
    (options.out / FILES[0]).write_text(report(chosen), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
