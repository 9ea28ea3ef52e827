"""Train MNASNet from the head it ships, of which about 42 % is frozen, and from repaired ones.

    python scripts/mnasnet_head.py [--quick] [--kept FOLDER] [--out figures]

Writes ``mnasnet_head.csv``, ``.md``, ``.png`` and ``.pdf``. The network is torchvision's
``mnasnet0_5(num_classes=1, dropout=0.0)``, which learns to tell the threes and eights of
scikit-learn's digits apart (``pip install torchvision scikit-learn``). It is trained with the
logistic loss by full-batch gradient descent and by Adam, from 20 seeds. With ``--kept`` every
finished training is kept in a folder, and an interrupted run is continued.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import mnasnet_head_report as reporting
import numpy as np
import torch
from mnasnet_head_report import Record
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

import obstruction as ob
from obstruction.auditing.repair.laws import repair_laws
from obstruction.reporting import heatmaps
from obstruction.tools.files import whole_file

NAME = "mnasnet_head"
FILES = tuple(f"{NAME}.{ending}" for ending in ("csv", "md", "pdf", "png"))
SEED, RATE_SEED = 0, 1000
"""The first of the seeds that are compared, and of those that choose the learning rates."""

THREADS = 1
HEAD = "classifier.1.weight"
BOUND = math.sqrt(3.0)
"""The head of one output is drawn from U(-BOUND, BOUND), behind gains of 1 and offsets of 0."""

FACTOR = 1.0 / BOUND
"""The largest factor of the head after which no weight can exceed its gain."""

SIZE, CLASSES, LOOKED_AT = 32, (3, 8), 8


@dataclass(frozen=True)
class Settings:
    """How much is trained.

    Attributes
    ----------
    alpha : float
        The width of the network; the head has 1280 weights for each.
    images, steps : int
        The numbers of images for training, and of steps.
    seeds, rate_seeds : int
        How many seeds are compared, and how many others choose the learning rates.
    """

    alpha: float = 0.5
    images: int = 48
    steps: int = 40
    seeds: int = 20
    rate_seeds: int = 2


QUICK = Settings(alpha=0.1, images=12, steps=3, seeds=2, rate_seeds=1)

OPTIMISERS: dict[str, Callable[[Any, float], torch.optim.Optimizer]] = {
    "gradient descent": lambda parameters, rate: torch.optim.SGD(parameters, lr=rate),
    "Adam": lambda parameters, rate: torch.optim.Adam(parameters, lr=rate),
}
RATES = {"gradient descent": (0.003, 0.001, 0.0003), "Adam": (0.003, 0.001, 0.0003)}


class Data(NamedTuple):
    """Images for training and all others, and whether they show an eight."""

    x: torch.Tensor
    y: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor


def digits(seed: int, count: int) -> Data:
    """Return `count` images for training, chosen by a seed, and all others of the two classes."""
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    chosen = np.isin(classes, CLASSES)
    order = np.random.default_rng(seed).permutation(np.count_nonzero(chosen))
    x = torch.tensor(pixels[chosen][order].reshape(-1, 1, 8, 8), dtype=torch.float32)
    x = (x - x[:count].mean()) / x[:count].std()
    x = interpolate(x, size=(SIZE, SIZE), mode="bilinear").repeat(1, 3, 1, 1)
    x = x.to(memory_format=torch.channels_last)
    y = torch.tensor(classes[chosen][order] == CLASSES[1], dtype=torch.float32)[:, None]
    return Data(x[:count], y[:count], x[count:], y[count:])


def network(seed: int, alpha: float) -> nn.Module:
    """Return the network as torchvision draws it."""
    from torchvision.models import MNASNet

    torch.manual_seed(seed)
    return MNASNet(alpha, num_classes=1, dropout=0.0)


def head_laws(alpha: float) -> ob.Laws:
    """Return the balances of the head: squares of gain and offset less that of the weight."""
    model = network(SEED, alpha)
    x = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(SEED))
    laws = ob.conservation_laws(model, inputs=x)
    return replace(
        laws,
        laws=tuple(
            law
            for law in laws
            if law.kind == "balance" and any(term.tensor == HEAD for term in law.terms)
        ),
    )


def present(model: nn.Module, laws: ob.Laws) -> ob.Laws:
    """Return laws with the parameters that a model has now."""
    named = dict(model.named_parameters())
    values = {name: named[name].detach().double().numpy() for name in laws.parameters}
    return replace(laws, parameters=values)


def shipped(model: nn.Module, laws: ob.Laws, data: Data) -> nn.Module:
    """Return the network as it is."""
    return model


def repaired(model: nn.Module, laws: ob.Laws, data: Data) -> nn.Module:
    """Scale the head so far that no weight exceeds its gain."""
    with torch.no_grad():
        model.get_parameter(HEAD).mul_(FACTOR)
    return model


def rebalanced(model: nn.Module, laws: ob.Laws, data: Data) -> nn.Module:
    """Return a network of the same outputs in which no weight of the head is frozen."""
    changed: nn.Module = repair_laws(model, present(model, laws), inputs=data.x[:LOOKED_AT])
    return changed


STARTS = {"shipped": shipped, "repaired": repaired, "rebalanced": rebalanced}


def train(
    model: nn.Module, laws: ob.Laws, data: Data, update: torch.optim.Optimizer, steps: int
) -> dict[str, Any]:
    """Train a network and return what a `Record` says about the training.

    The losses and the accuracy on the images for training are those in training mode. For the other
    images the normalisations use the statistics of the images for training.
    """
    head = model.get_parameter(HEAD)
    first = head.detach().clone()
    monitor = ob.Monitor(model, laws=laws)
    assert monitor.laws is not None
    frozen = sum(one.tensor == HEAD for one in monitor.laws.frozen_scalars.frozen)
    monitor.step(0)
    losses = []
    model.train()
    for step in range(1, steps + 1):
        loss = binary_cross_entropy_with_logits(model(data.x), data.y)
        losses.append(loss.item())
        update.zero_grad()
        loss.backward()
        update.step()
        monitor.step(step)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        output = model(data.x)
        losses.append(binary_cross_entropy_with_logits(output, data.y).item())
        model.eval()
        other = model(data.x_test)
        test_loss = binary_cross_entropy_with_logits(other, data.y_test).item()
    crossed = monitor.sign_changes.drop_duplicates(["tensor", "position"])
    crossed = crossed[crossed["tensor"] == HEAD]
    return {
        "losses": losses,
        "train_accuracy": _accuracy(output, data.y),
        "test_loss": test_loss,
        "test_accuracy": _accuracy(other, data.y_test),
        "frozen": int(frozen),
        "free": head.numel() - int(frozen),
        "frozen_crossed": int(crossed["frozen_at_start"].sum()),
        "free_crossed": int((~crossed["frozen_at_start"].astype(bool)).sum()),
        "moved": float((head.detach() - first).abs().max()),
        "drift": float(monitor.drift["largest"].max()),
    }


def _accuracy(output: torch.Tensor, y: torch.Tensor) -> float:
    return float(((output > 0.0) == (y > 0.5)).double().mean())


class Kept:
    """Finished trainings, in a file if there is a folder.

    Raises
    ------
    ValueError
        If the folder holds trainings of other settings or versions.
    """

    def __init__(self, folder: Path | None, settings: Settings) -> None:
        self.path = None if folder is None else folder / "trainings.jsonl"
        self.head = {"format": 1, **asdict(settings), "rates": {k: [*v] for k, v in RATES.items()}}
        self.head |= {name: version(name) for name in ("torch", "torchvision", "scikit-learn")}
        self.records: dict[tuple[str, str, float, int], Record] = {}
        if self.path is not None and self.path.exists():
            head, *lines = map(json.loads, self.path.read_text(encoding="utf-8").splitlines())
            if head != self.head:
                raise ValueError(
                    f"kept = {folder}: holds trainings of other settings or versions, {head}: must "
                    f"be an empty folder or hold trainings of {self.head}"
                )
            for line in lines:
                self._enter(Record(**line))

    def add(self, record: Record) -> None:
        """Add a training and write all of them."""
        self._enter(record)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lines = [self.head, *map(asdict, self.records.values())]
            with whole_file(self.path) as stream:
                stream.write("".join(json.dumps(line) + "\n" for line in lines).encode())

    def _enter(self, record: Record) -> None:
        self.records[record.optimiser, record.start, record.rate, record.seed] = record


class Experiment:
    """All trainings of some settings; those that are kept are not run again."""

    def __init__(self, settings: Settings, kept: Kept) -> None:
        self.settings, self.kept = settings, kept
        self._laws: ob.Laws | None = None

    def record(self, optimiser: str, start: str, rate: float, seed: int) -> Record:
        """Return one training, run if it is not kept."""
        key = optimiser, start, rate, seed
        if key not in self.kept.records:
            if self._laws is None:
                self._laws = head_laws(self.settings.alpha)
            begun = time.process_time()
            data = digits(seed, self.settings.images)
            model = STARTS[start](network(seed, self.settings.alpha), self._laws, data)
            model = model.to(memory_format=torch.channels_last)
            update = OPTIMISERS[optimiser](model.parameters(), rate)
            told = train(model, self._laws, data, update, self.settings.steps)
            self.kept.add(Record(*key, **told))
            seconds = time.process_time() - begun
            name = f"{optimiser}, {start}, rate {rate:g}, seed {seed}"
            print(f"{name}: loss {told['losses'][-1]:.3g}, {seconds:.1f} s", flush=True)
        return self.kept.records[key]

    def rates(self) -> tuple[dict[str, float], dict[tuple[str, float], float]]:
        """Return the rate of each optimiser, and the mean loss for each rate that was tried.

        The rate is the one with the least training loss, averaged over all steps, over seeds that
        are not compared, and over the shipped and the repaired start.
        """
        seeds = range(RATE_SEED, RATE_SEED + self.settings.rate_seeds)
        tried = {
            (optimiser, rate): float(
                np.mean(
                    [
                        self.record(optimiser, start, rate, seed).mean_loss
                        for start in ("shipped", "repaired")
                        for seed in seeds
                    ]
                )
            )
            for optimiser in OPTIMISERS
            for rate in RATES[optimiser]
        }
        finite = {key: loss if math.isfinite(loss) else math.inf for key, loss in tried.items()}
        chosen = {
            optimiser: min(RATES[optimiser], key=lambda rate, o=optimiser: finite[o, rate])
            for optimiser in OPTIMISERS
        }
        return chosen, tried

    def compared(self, rates: dict[str, float]) -> Iterator[Record]:
        """Yield the trainings of the seeds that are compared."""
        for start in STARTS:
            for seed in range(SEED, SEED + self.settings.seeds):
                for optimiser, rate in rates.items():
                    yield self.record(optimiser, start, rate, seed)


def facts(settings: Settings) -> dict[str, Any]:
    """Return the numbers about the network, the data and the head that the page tells."""
    model, data = network(SEED, settings.alpha), digits(SEED, settings.images)
    weights = model.get_parameter(HEAD).numel()
    return {
        **asdict(settings),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "scikit-learn": version("scikit-learn"),
        "scalars": sum(parameter.numel() for parameter in model.parameters()),
        "weights": weights,
        "others": len(data.x_test),
        "factor": FACTOR,
        "allowed": (1.0 - 1e-3) ** (-1.0 / weights) / BOUND,
        "share": 1.0 - 1.0 / BOUND,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trainings that are not kept, and write the figure, the table and the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a narrow network and two seeds")
    parser.add_argument("--kept", type=Path, help="folder in which trainings are kept")
    parser.add_argument("--out", type=Path, default=Path("figures"))
    given = parser.parse_args(arguments)
    torch.set_num_threads(THREADS)
    settings = QUICK if given.quick else Settings()
    try:
        kept = Kept(given.kept, settings)
    except ValueError as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return 2
    experiment = Experiment(settings, kept)
    rates, tried = experiment.rates()
    records = list(experiment.compared(rates))
    page = reporting.page(records, rates, tried, facts(settings), quick=given.quick)
    table = reporting.table(records)
    given.out.mkdir(parents=True, exist_ok=True)
    rows = table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    for ending, content in (("csv", rows), ("md", page)):
        with whole_file(given.out / f"{NAME}.{ending}") as stream:
            stream.write(content.encode())
    heatmaps.save(reporting.picture(records), given.out / NAME)
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
