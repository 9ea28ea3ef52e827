"""Measure how often the true scheme is excluded, how many others fit, and what training hides.

    python scripts/recognition.py [--networks 2000] [--searched 100] [--out figures]

Writes ``recognition.md``. For the first table, networks of each scheme and size are drawn, each
with a seed of its own. The share of them whose own scheme has a p-value below a level must be at
most that level. For the second table, all schemes are tried on fewer networks, and those that fit
are counted. The third table shows what is recognised after a few hundred steps of training. The
last part states the time that recognition takes.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import scipy.stats

import obstruction as ob
from obstruction import models
from obstruction.auditing.origin.recognition import misfit, recognise
from obstruction.models import Link, Model
from obstruction.models.options import ReadOptions
from obstruction.schemes.laws import NORMAL, TRUNCATED, UNIFORM

LABELS = (
    "torch_linear",
    "torch_xavier_normal",
    "torch_kaiming_uniform",
    "xavier_normal",
    "xavier_uniform",
    "kaiming_normal",
    "kaiming_normal:mode=fan_out",
    "keras_dense",
    "keras_he_normal",
    "flax_dense",
    "haiku_linear",
    "sklearn_mlp",
    "normal_002",
    "mup",
    "zero_output",
    "orthogonal",
)
SIZES = ((2, 3, 1), (10, 10, 1), (30, 64, 1), (784, 128, 1), (64, 128, 96, 1), (50, 40, 10))
LEVELS = (0.1, 0.01, 0.001)
STANDARD = {
    NORMAL: scipy.stats.norm(),
    UNIFORM: scipy.stats.uniform(-math.sqrt(3.0), 2.0 * math.sqrt(3.0)),
    TRUNCATED: scipy.stats.truncnorm(-2.0, 2.0, scale=1.0 / scipy.stats.truncnorm(-2, 2).std()),
}


def network(label: str, sizes: tuple[int, ...], seed: int) -> Model:
    """Return a fresh network drawn by SciPy's generators."""
    scheme = ob.scheme(label)
    rng = np.random.default_rng([seed, LABELS.index(label), SIZES.index(sizes)])

    def drawn(rule, fans, shape):
        variance = float(rule.variance(*(np.float64(fan) for fan in fans)))
        if variance == 0.0:
            return np.zeros(shape)
        if not rule.law.independent:
            rows, columns = shape
            q, r = np.linalg.qr(rng.normal(size=(max(shape), min(shape))))
            q *= np.sign(np.diagonal(r)) * math.sqrt(variance * max(shape))
            return q if rows >= columns else q.T
        return math.sqrt(variance) * STANDARD[rule.law].rvs(shape, random_state=rng)

    arrays = []
    for i, fans in enumerate(itertools.pairwise(sizes)):
        rule = scheme.output if i == len(sizes) - 2 else scheme.hidden
        arrays.append(drawn(rule, fans, fans[::-1]))
        if scheme.bias is not None:
            arrays.append(drawn(scheme.bias, fans, (fans[1],)))
    return models.read(arrays, ReadOptions("relu", layout="out_in"))


def p_values(label: str, sizes: tuple[int, ...], networks: int) -> np.ndarray:
    scheme = ob.scheme(label)
    return np.array([misfit(network(label, sizes, i), scheme).p_value for i in range(networks)])


def fits(label: str, sizes: tuple[int, ...], networks: int) -> tuple[int, int, int, int]:
    """Return in how many networks the scheme fits, is first, and is alone; and all fits."""
    found = first = only = count = 0
    for i in range(networks):
        groups = [fit.labels for fit in recognise(network(label, sizes, i))]
        found += any(label in group for group in groups)
        first += any(label in group for group in groups[:1])
        only += len(groups) == 1 and label in groups[0]
        count += len(groups)
    return found, first, only, count


def trained(label: str, steps: int, *, adam: bool) -> tuple[Model, float]:
    """Train 784-128-1 on a regression; return it and how far its hidden weights have moved."""
    rng = np.random.default_rng(5)
    w1, w2, b1 = ob.replay(2, network=0, d=784, l=128, scheme=label)
    weights = [w1, w2, np.zeros(128) if b1 is None else b1]
    mean, square = ([np.zeros_like(w) for w in weights] for _ in range(2))
    direction = rng.normal(size=(784, 3)) / 28.0
    inputs = rng.normal(size=(512, 784))
    targets = np.tanh(2.0 * inputs @ direction).sum(axis=1)
    for step in range(1, steps + 1):
        hidden, output, bias = weights
        batch = slice(32 * (step % 16), 32 * (step % 16) + 32)
        z = inputs[batch] @ hidden.T + bias
        h = np.maximum(z, 0.0)
        error = (h @ output[0] - targets[batch]) / 32
        back = error[:, None] * output * (z > 0)
        gradients = back.T @ inputs[batch], error[None] @ h, back.sum(axis=0)
        for k, g in enumerate(gradients):
            if adam:
                mean[k] = 0.9 * mean[k] + 0.1 * g
                square[k] = 0.999 * square[k] + 0.001 * g**2
                root = np.sqrt(square[k] / (1.0 - 0.999**step)) + 1e-8
                weights[k] = weights[k] - 1e-3 * mean[k] / (1.0 - 0.9**step) / root
            else:
                weights[k] = weights[k] - 0.02 * g
    hidden, output, bias = weights
    arrays = [hidden, output] if b1 is None else [hidden, bias, output, np.zeros(1)]
    moved = float(np.linalg.norm(hidden - w1) / np.linalg.norm(w1))
    return models.read(arrays, ReadOptions("relu", layout="out_in")), moved


def cost() -> Iterator[str]:
    rng = np.random.default_rng(0)
    square = rng.standard_normal((4096, 4096), dtype=np.float32) * np.float32(math.sqrt(2 / 4096))
    zeros = np.zeros(4096, np.float32)
    arrays = [square, zeros, square[:1].copy(), zeros[:1]]
    layers = models.read(arrays, ReadOptions("relu", layout="out_in")).layers
    model = Model((*[layers[0]] * 10, layers[1]), (Link("relu"),) * 10, (), "")
    times = []
    for _ in range(7):
        begun = time.perf_counter()
        recognise(model)
        times.append(time.perf_counter() - begun)
    yield f"A chain of ten layers of 4096 x 4096 in float32: {min(times):.2f} s (best of 7)."


def words(sizes: tuple[int, ...]) -> str:
    return "-".join(str(size) for size in sizes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=2_000)
    parser.add_argument("--searched", type=int, default=100, help="networks of the second table")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()
    report: list[str] = []

    def say(line: str = "") -> None:
        print(line, flush=True)
        report.append(line)

    jobs = list(itertools.product(LABELS, SIZES))
    labels, sizes = zip(*jobs, strict=True)
    n = options.networks
    say("# Recognition of initialisation schemes")
    say()
    say("From `python scripts/recognition.py`. Biases are drawn as the scheme says; all layers but")
    say("the last follow its hidden rule.")
    say()
    say("## The true scheme is excluded")
    say()
    say(f"Share of {n:,} fresh networks whose own scheme has a p-value below the level; it may be")
    say("at most the level (Bonferroni: usually less). The last column is the probability that")
    say("so many or more are below 0.001 if the rate is 0.001.")
    say()
    say("| scheme | network | " + " | ".join(f"{level:g}" for level in LEVELS) + " | chance |")
    say("|---|---|" + "---|" * (len(LEVELS) + 1))
    alarms = np.zeros(len(LEVELS), dtype=np.int64)
    with ProcessPoolExecutor(options.threads) as pool:
        for (label, size), p in zip(
            jobs, pool.map(p_values, labels, sizes, [n] * len(jobs)), strict=True
        ):
            below = np.array([int(np.count_nonzero(p < level)) for level in LEVELS])
            alarms += below
            shares = " | ".join(f"{100 * k / n:.2f} %" for k in below)
            chance = scipy.stats.binom.sf(below[-1] - 1, n, LEVELS[-1])
            say(f"| `{label}` | {words(size)} | {shares} | {chance:.2g} |")
        total = n * len(jobs)
        say()
        say(
            f"All {total:,} together: "
            + ", ".join(
                f"{100 * k / total:.3f} % at {level:g}"
                for k, level in zip(alarms, LEVELS, strict=True)
            )
            + "."
        )
        say()
        say("## What fits")
        say()
        m = options.searched
        say(f"At the level 0.001, in {m} fresh networks: in how many the true scheme fits, is the")
        say(
            "likeliest, and is the only one that fits; and how many schemes fit on average (of some"
        )
        say("60 that are tried; those that are the same for the network count once).")
        say()
        say("| scheme | network | fits | likeliest | only | schemes that fit |")
        say("|---|---|---|---|---|---|")
        for (label, size), (found, first, only, count) in zip(
            jobs, pool.map(fits, labels, sizes, [m] * len(jobs)), strict=True
        ):
            say(f"| `{label}` | {words(size)} | {found} | {first} | {only} | {count / m:.1f} |")
    say()
    say("## After training")
    say()
    say(
        "784-128-1, a regression of 512 points, batches of 32; SGD with rate 0.02 or Adam with rate"
    )
    say("0.001. *moved*: the change of the hidden weights over their size. *p*: that of the scheme")
    say("they were drawn from; *fits*: the likeliest scheme at the level 0.001, if any.")
    say()
    say("| drawn from | optimiser | steps | moved | p | fits |")
    say("|---|---|---|---|---|---|")
    for label in ("torch_linear", "keras_dense", "lecun_normal", "xavier_normal", "kaiming_normal"):
        for adam, steps in ((False, 20), (False, 200), (True, 20), (True, 200), (True, 600)):
            model, moved = trained(label, steps, adam=adam)
            recognised = recognise(model)
            name = f"`{recognised[0].labels[0]}`" if recognised else "none"
            p = misfit(model, label).p_value
            say(
                f"| `{label}` | {'Adam' if adam else 'SGD'} | {steps} | {100 * moved:.1f} % | "
                f"{p:.2g} | {name} |"
            )
    say()
    say("## Cost")
    say()
    for line in cost():
        say(line)
    (options.out / "recognition.md").write_text("\n".join(report) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
