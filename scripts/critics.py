"""How often critics of stable-baselines3 start with a frozen sign, over a grid of sizes.

    python scripts/critics.py [--networks 1000] [--kept FOLDER] [--out figures]

Writes ``critics.csv``, ``.md``, ``.png`` and ``.pdf``. The critics are those of SAC, TD3 and DDPG:
two networks with one hidden layer each, which see the observations and one action, made by the code
of stable-baselines3 (``pip install stable-baselines3``). Counts are held against the exact value
of `torch_linear`, the initialisation of ``nn.Linear``. With ``--kept`` an interrupted run is
continued.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import obstruction as ob
from obstruction.reporting import heatmaps
from obstruction.tools.files import whole_file

NAME = "critics"
WIDTHS = (4, 8, 16, 32, 64)
OBSERVATIONS = (1, 2, 3, 5, 8)
CRITICS = 2


def critic(width: int, observations: int) -> Any:
    """Return two critics of one hidden layer, by the code of the library."""
    from gymnasium import spaces
    from stable_baselines3.common.policies import ContinuousCritic
    from stable_baselines3.common.torch_layers import FlattenExtractor

    seen = spaces.Box(-1, 1, (observations,), np.float32)
    acted = spaces.Box(-1, 1, (1,), np.float32)
    extractor = FlattenExtractor(seen)
    return ContinuousCritic(seen, acted, [width], extractor, observations, n_critics=CRITICS)


def inputs(width: int, observations: int) -> Any:
    """Return example observations and actions."""
    generator = torch.Generator().manual_seed(0)
    sizes = (8, observations), (8, 1)
    return tuple(torch.randn(*size, generator=generator) for size in sizes)


def exact(width: int, observations: int) -> float:
    """Return the probability that some output weight of one of the critics is frozen."""
    p = float(ob.exact.obstruction_probability("torch_linear", observations + 1, width))
    return float(-np.expm1(CRITICS * np.log1p(-p)))


def text(study: Any) -> str:
    """Return the page about a study."""
    table, verdict = study.table(), study.agreement()
    lines = [
        "# Critics by their own initialisation",
        "",
        f"From `python scripts/critics.py`: {study.networks:,} draws of each pair of critics of "
        f"stable-baselines3 {version('stable-baselines3')} with one hidden layer, made by its own "
        f"code, seed {study.seed}. `P` is the share of draws in which an output weight of one of "
        "the two can never change its sign, with a 95 % interval, beside the exact value for "
        "`nn.Linear`. The largest ratio is that of the square of an output weight to the sum of "
        "squares on the other side; above 1 the weight is frozen.",
        "",
        f"The verdict is **{verdict.verdict}**: {verdict.tests} tests, smallest adjusted p-value "
        f"{verdict.smallest:.2g}, false alarms at most {verdict.level:g}.",
        "",
        "![Empirical and exact probabilities, and their difference](critics.png)",
        "",
        "| width | observations | P | 95 % | exact | frozen share | largest ratio |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in table.to_dict("records"):
        lines.append(
            f"| {row['width']} | {row['observations']} | {row['empirical']:.3g} | "
            f"{row['ci_low']:.2g} to {row['ci_high']:.2g} | {row['exact']:.3g} | "
            f"{100 * row['share']:.2g} % | {row['largest']:.3g} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study, write the figure and the table, and return 1 if the counts disagree."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", type=int, default=1000)
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    given = parser.parse_args(arguments)
    study = ob.sample_model(
        critic,
        inputs=inputs,
        networks=given.networks,
        grid={"width": WIDTHS, "observations": OBSERVATIONS},
        exact=exact,
        out=given.kept,
        progress=True,
    )
    given.out.mkdir(parents=True, exist_ok=True)
    table = study.table().drop(columns=["same_start", "beyond"])
    for ending, content in (("csv", table.to_csv(index=False)), ("md", text(study))):
        with whole_file(given.out / f"{NAME}.{ending}") as stream:
            stream.write(content.encode())
    fig = heatmaps.figure(table, scale="log10", axes=("observations", "width"))
    heatmaps.save(fig, given.out / NAME)
    print(study.agreement())
    return 0 if study.agreement().agrees else 1


if __name__ == "__main__":
    sys.exit(main())
