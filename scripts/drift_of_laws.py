"""Train a ResNet-18 and a transformer by four optimisers, and record how well their laws hold.

    python scripts/drift_of_laws.py [--out figures] [--quick]

Writes ``drift_of_laws.md``, ``drift_of_laws.csv``, ``drift_of_laws.png`` and ``drift_of_laws.pdf``.
To take a few minutes on two cores, the ResNet-18 has 8 channels in place of 64 after its first
convolution and sees images of 32 x 32 pixels. Both networks have one output and learn to tell two
classes of synthetic data apart, in mini-batches. Every run of a network starts at the same weights
and sees the same batches. The optimisers are SGD, SGD with momentum, Adam, and SGD with momentum
and weight decay.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from torch import nn
from torch_networks import Transformer, resnet18

import obstruction as ob
from obstruction.reporting import heatmaps
from obstruction.tools.files import whole_file

SEED = 0
NAME = "drift_of_laws"
FILES = tuple(f"{NAME}.{ending}" for ending in ("csv", "md", "pdf", "png"))
STEPS, EVERY, BATCH, SAMPLES = 300, 10, 32, 512
THREADS = 1

Parameters = Iterable[nn.Parameter]
OPTIMISERS: dict[str, Callable[[Parameters], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.01),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "weight decay": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=5e-3),
}


class Run(NamedTuple):
    """A training run with the tables of its monitor."""

    network: str
    optimiser: str
    losses: tuple[float, float]
    laws: ob.Laws
    drift: pd.DataFrame
    changes: pd.DataFrame


def images(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noise in which one of two patterns is hidden, and which one it is."""
    patterns = torch.randn(2, 3, 8, 8, generator=generator).repeat_interleave(4, 2)
    patterns = patterns.repeat_interleave(4, 3)
    targets = torch.randint(2, (SAMPLES,), generator=generator)
    noise = torch.randn(SAMPLES, 3, 32, 32, generator=generator)
    return 0.5 * patterns[targets] + noise, targets


def sequences(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random sequences, and whether their largest first entry comes before the middle."""
    x = torch.randn(SAMPLES, 12, 6, generator=generator)
    return x, (x[:, :, 0].argmax(1) < 6).long()


NETWORKS = {
    "ResNet-18": (lambda: resnet18(1, width=8), images),
    "transformer": (lambda: Transformer(6, 12, 1, width=32, heads=4, layers=2), sequences),
}


def laws_of(network: str) -> ob.Laws:
    make, data = NETWORKS[network]
    x, _ = data(torch.Generator().manual_seed(SEED))
    torch.manual_seed(SEED)
    return ob.conservation_laws(make(), inputs=x[:4])


def train(network: str, optimiser: str, steps: int, laws: ob.Laws) -> Run:
    make, data = NETWORKS[network]
    x, y = data(torch.Generator().manual_seed(SEED))
    torch.manual_seed(SEED)
    model = make()
    update = OPTIMISERS[optimiser](model.parameters())
    monitor = ob.Monitor(model, laws=laws, every=EVERY)
    order = torch.Generator().manual_seed(SEED + 1)
    losses = []
    monitor.step(0)
    for step in range(1, steps + 1):
        chosen = torch.randint(SAMPLES, (BATCH,), generator=order)
        update.zero_grad()
        output = model(x[chosen]).squeeze(1)
        loss = nn.functional.binary_cross_entropy_with_logits(output, y[chosen].float())
        loss.backward()
        update.step()
        losses.append(loss.item())
        monitor.step(step)
    ends = (sum(losses[:10]) / 10, sum(losses[-10:]) / 10)
    return Run(network, optimiser, ends, laws, monitor.drift, monitor.sign_changes)


def table(runs: Sequence[Run]) -> pd.DataFrame:
    """Return a row for every run and kind of law, with the drift at the last step."""
    rows = []
    for run in runs:
        last = run.drift[run.drift["step"] == run.drift["step"].max()]
        for kind, of_kind in last.groupby("kind", observed=True, sort=False):
            sizes = [run.laws[i].size for i in of_kind["law"]]
            mean = sum(m * n for m, n in zip(of_kind["mean"], sizes, strict=True)) / sum(sizes)
            rows.append(
                {
                    "network": run.network,
                    "optimiser": run.optimiser,
                    "kind": kind,
                    "laws": len(sizes),
                    "numbers": sum(sizes),
                    "mean": mean,
                    "largest": of_kind["largest"].max(),
                }
            )
    return pd.DataFrame(rows)


def signs(runs: Sequence[Run]) -> pd.DataFrame:
    """Return a row for every run, with the numbers of weights whose sign crossed zero."""
    rows = []
    for run in runs:
        crossed = run.changes.drop_duplicates(["tensor", "position"])
        frozen = int(crossed["frozen_at_start"].sum())
        tensors = run.laws.frozen()
        rows.append(
            {
                "network": run.network,
                "optimiser": run.optimiser,
                "loss, first 10 steps": round(run.losses[0], 3),
                "loss, last 10 steps": round(run.losses[1], 3),
                "frozen weights": int((tensors["status"] == "frozen").sum()),
                "of these crossed": frozen,
                "other watched weights that crossed": len(crossed) - frozen,
            }
        )
    return pd.DataFrame(rows)


def markdown(frame: pd.DataFrame) -> list[str]:
    """Return a table as lines of Markdown."""
    cells = [[_shown(x) for x in row] for row in frame.astype(object).to_numpy().tolist()]
    head = [str(name) for name in frame.columns]
    return [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *cells]]


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def text(runs: Sequence[Run], steps: int) -> str:
    return "\n".join(
        [
            "# Which conservation laws hold during training",
            "",
            f"A ResNet-18 with 8 channels after its first convolution and a transformer of two "
            f"layers, {steps} steps in mini-batches of {BATCH} (`scripts/drift_of_laws.py`, seed "
            f"{SEED}). The drift of a number is its change from the start to the last step, "
            "relative to the sum of the absolute values of its terms at the start. *Mean* is taken "
            "over all numbers of a kind, *largest* over all of them.",
            "",
            *markdown(table(runs)),
            "",
            "Frozen weights are those that gradient flow cannot carry through zero. Watched are "
            "these and all weights that are alone on their side of a balance.",
            "",
            *markdown(signs(runs)),
            "",
        ]
    )


def picture(runs: Sequence[Run]) -> Figure:
    """Draw the mean drift of each kind of law over the steps, a panel for each run."""
    figure = Figure(figsize=(11.0, 5.0), layout="constrained")
    panels = figure.subplots(2, len(OPTIMISERS), sharex=True, sharey=True, squeeze=False)
    colours = sns.color_palette("colorblind")
    for run in runs:
        row, column = list(NETWORKS).index(run.network), list(OPTIMISERS).index(run.optimiser)
        ax = panels[row][column]
        for i, kind in enumerate(("balance", "scale", "matrix", "constant")):
            rows = run.drift[(run.drift["kind"] == kind) & (run.drift["largest"] > 0.0)]
            first = True
            for _, law in rows.groupby("law"):
                label = kind if first else "_"
                ax.plot(law["step"], law["largest"], color=colours[i], lw=0.7, label=label)
                first = False
        ax.set(yscale="log", title=f"{run.network}, {run.optimiser}")
        ax.grid(axis="y", color="0.9", lw=0.6)
        if column == 0:
            ax.set_ylabel("largest relative drift")
        if row == 1:
            ax.set_xlabel("step")
        if ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False, fontsize="small", loc="lower right")
    return figure


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("figures"))
    parser.add_argument("--quick", action="store_true", help="30 steps")
    options = parser.parse_args(argv)
    torch.set_num_threads(THREADS)
    steps = 30 if options.quick else STEPS
    runs = []
    for network in NETWORKS:
        laws = laws_of(network)
        print(laws, flush=True)
        for optimiser in OPTIMISERS:
            begun = time.perf_counter()
            runs.append(train(network, optimiser, steps, laws))
            seconds = time.perf_counter() - begun
            print(f"{network}, {optimiser}: {seconds:.1f} s", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    with whole_file(options.out / f"{NAME}.md") as stream:
        stream.write(text(runs, steps).encode())
    with whole_file(options.out / f"{NAME}.csv") as stream:
        stream.write(table(runs).to_csv(index=False, lineterminator="\n").encode())
    heatmaps.save(picture(runs), options.out / NAME)
    print(text(runs, steps))
    return 0


if __name__ == "__main__":
    sys.exit(main())
