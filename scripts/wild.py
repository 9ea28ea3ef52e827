"""How often real architectures start with a frozen sign, and what to do about it.

    python scripts/wild.py [--quick] [--networks 1000] [--kept FOLDER] [--out figures]

Writes ``wild.csv``, ``.md``, ``.png`` and ``.pdf``, as ``obstruction wild`` does for the same
study. It needs ``pip install '.[wild]'``. With ``--kept`` an interrupted run is continued.
``--quick`` takes six architectures and few draws.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from obstruction.reporting.wild.writing import write
from obstruction.studies.wild.study import chosen, study_wild

QUICK = (
    "stable-baselines3/sac_critic-one_layer",
    "stable-baselines3/ppo_value-one_layer_d=3",
    "torch-geometric/gcn",
    "deepxde/pfnn",
    "torchvision/mnasnet0_5",
    "deepctr-torch/dcn",
)
"""Architectures whose packages the extra ``zoo`` has too."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study, write its files, and return 1 if the counts disagree with exact values."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--networks", type=int)
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    given = parser.parse_args(arguments)
    study = study_wild(
        QUICK if given.quick else chosen("all"),
        networks=(100 if given.quick else 1000) if given.networks is None else given.networks,
        out=given.kept,
        remedies=True,
        tell=lambda line: print(line, flush=True),
    )
    write(study, given.out)
    verdict = study.agreement()
    print(verdict)
    return 0 if verdict.agrees else 1


if __name__ == "__main__":
    sys.exit(main())
