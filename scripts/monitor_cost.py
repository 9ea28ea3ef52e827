"""Measure what the monitor of conservation laws costs, relative to a training step of ResNet-18.

    python scripts/monitor_cost.py [--out figures] [--rounds 9]

Writes ``monitor_cost.md``. The model has the layers of torchvision's ResNet-18 with 10 classes. A
step is a forward and a backward pass of 32 images of 64 x 64 pixels in float32 and an update by SGD
with momentum, with 2 threads. Steps and records are timed in turn, and the ratio is the median of
the rounds' ratios, so that a change of the machine's speed changes both.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch_networks import resnet18

import obstruction as ob
from obstruction.tools.files import whole_file

FILES = ("monitor_cost.md",)
SEED = 0
EVERY = 100
THREADS = 2


def once(function: Callable[[], object]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def report(rounds: int) -> str:
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    model = resnet18(10)
    images, targets = torch.randn(32, 3, 64, 64), torch.randint(10, (32,))
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    begun = time.perf_counter()
    monitor = ob.Monitor(model, inputs=images[:4], every=1)
    found = time.perf_counter() - begun
    assert monitor.laws is not None

    def step() -> None:
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(images), targets).backward()
        optimiser.step()

    step()
    monitor.step(0)
    times = np.array(
        [[once(step), once(lambda i=i: monitor.step(i))] for i in range(1, rounds + 1)]
    )
    ratio = float(np.median(times[:, 1] / times[:, 0]))
    training, record = np.median(times, axis=0)
    count = sum(p.numel() for p in model.parameters())
    numbers = sum(law.size for law in monitor.laws)
    return "\n".join(
        [
            "# The cost of recording conservation laws",
            "",
            f"ResNet-18, {count:,} parameters, {numbers:,} conserved numbers in "
            f"{len(monitor.laws)} laws; 32 images of 64 x 64 pixels, float32, SGD with momentum, "
            f"{THREADS} threads of {platform.machine()}. Medians of {rounds} rounds:",
            "",
            f"- a training step takes {training:.3f} s, a record {record:.3f} s, "
            f"{ratio:.0%} of a step;",
            f"- with a record every {EVERY} steps, the monitor adds {ratio / EVERY:.2%} to the "
            "time of training;",
            f"- to find and verify the laws before training took {found:.1f} s.",
            "",
            "Where the machine does other work meanwhile, the seconds are too long; the ratios are "
            "not.",
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("figures"))
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(argv)
    text = report(options.rounds)
    print(text)
    with whole_file(options.out / FILES[0]) as stream:
        stream.write(text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
