"""Measure how often the tilted sampler's intervals hold the true value, and its tests reject it.

    python scripts/tilted_coverage.py [--repetitions 2000] [--alarms 100000] [--out figures]

Writes ``coverage.md``. For the first table, repetition ``r`` estimates one cell with seed ``r``,
and the table shows the share of intervals that hold the exact probability. For the second table,
samples have only 1024 weights, which is hard for the tests, and the table shows the share of
p-values below small levels. The true value comes from the F distribution for normal weights, from
the volume of a ball for uniform weights (a <= 1), and otherwise from the mean of all repetitions.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from scipy import special

from obstruction.sampling.inference import weighted
from obstruction.sampling.kernels import tilted as tilted_kernels
from obstruction.sampling.rare import estimate as tilting
from obstruction.sampling.rare.tilts import Cells, edge_and_scale, grouped
from obstruction.schemes.laws import CONSTANT, NORMAL, TRUNCATED, UNIFORM, Law

CELLS = (
    (NORMAL, NORMAL, 2, 1.4),
    (NORMAL, NORMAL, 10, 1.0),
    (NORMAL, NORMAL, 100, 1.0),
    (NORMAL, NORMAL, 990, 1.0),
    (NORMAL, NORMAL, 15, 0.02),
    (UNIFORM, UNIFORM, 2, 0.9),
    (UNIFORM, UNIFORM, 6, 1.0),
    (UNIFORM, UNIFORM, 31, 1.0),
    (UNIFORM, UNIFORM, 180, 1.0),
    (UNIFORM, UNIFORM, 316, 1.0),
    (TRUNCATED, TRUNCATED, 2, 1.4),
    (TRUNCATED, TRUNCATED, 40, 1.0),
    (TRUNCATED, TRUNCATED, 200, 1.0),
    (NORMAL, CONSTANT, 20, 1.0),
)
SAMPLES = (1_000, 10_000)
LEVELS = (0.9, 0.95, 0.99)
ALPHAS = (0.05, 0.01, 1e-3, 1e-4, 1e-5)
FIRST_SEED = 1_000_000  # the first seed of the second table


def truth(hidden: Law, output: Law, d: int, a: float) -> float:
    """Return log p, or NaN if there is no formula."""
    if hidden == output == NORMAL:
        return float(np.log(special.betainc(d / 2, 0.5, a / (1 + a))))
    if hidden == output == UNIFORM and a <= 1:
        ball = d / 2 * math.log(math.pi * a) - math.lgamma(d / 2 + 1)
        return ball - d * math.log(2) - math.log(d + 1)
    return math.nan


def joined(parts: list[weighted.Estimate]) -> weighted.Estimate:
    fields = ("log_p", "relative_error", "skewness", "largest_share", "log_bound")
    arrays = (np.array([getattr(part, field) for part in parts]) for field in fields)
    return weighted.Estimate(parts[0].samples, *arrays)


def log_mean(logs: np.ndarray) -> float:
    return float(np.logaddexp.reduce(logs) - np.log(len(logs)))


def repeated(
    laws: tuple[Law, Law], d: int, a: float, samples: int, repetitions: int, threads: int
) -> weighted.Estimate:
    def one(seed: int) -> weighted.Estimate:
        return tilting.estimate_ratios(laws, d, a, samples=samples, seed=seed)

    with ThreadPoolExecutor(threads) as pool:
        return joined(list(pool.map(one, range(repetitions))))


def blocks(
    laws: tuple[Law, Law], d: int, a: float, repetitions: int, threads: int
) -> weighted.Estimate:
    """Return one estimate per block; all of them share one choice of tilts."""
    one = np.ones(1)
    (tilt,) = grouped(Cells(*laws, CONSTANT, d * one, a * one, 0 * one))
    edge, scale = (float(x) for x in edge_and_scale(laws[0], np.asarray(tilt.kappa)))
    codes = laws[0].code, laws[1].code, CONSTANT.code
    sums = np.zeros((repetitions, tilted_kernels.SUMS))
    stop = np.zeros(1, np.uint8)

    def part(k: int) -> None:
        rows = range(k, repetitions, threads)
        keys = np.random.default_rng(FIRST_SEED + k).integers(
            0, 2**32, (len(rows), 1, 4), dtype=np.uint32
        )
        for r, key in zip(rows, keys, strict=True):
            tilted_kernels.sample(
                key,
                tilted_kernels.BLOCK,
                *codes,
                tilt.kappa,
                edge,
                scale,
                tilt.columns,
                tilt.first,
                tilt.cells,
                stop,
                sums[r : r + 1],
            )

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, range(threads)))
    scales = np.full(repetitions, tilt.log_scale[0])
    log_p, error, skewness, share = tilting._statistics(sums, tilted_kernels.BLOCK, scales)
    bounds = np.full(repetitions, tilt.log_bound[0])
    return weighted.Estimate(tilted_kernels.BLOCK, log_p, error, skewness, share, bounds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2_000)
    parser.add_argument("--alarms", type=int, default=100_000, help="blocks in the second table")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()
    begun = time.perf_counter()
    report: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        report.append(line)

    r = options.repetitions
    say("# Coverage of the tilted sampler's intervals")
    say("")
    say("From `python scripts/tilted_coverage.py`. Standard errors of the coverage at 90, 95 and")
    say(
        "99 %: " + ", ".join(f"{100 * math.sqrt(q * (1 - q) / r):.2f}" for q in LEVELS) + " points."
    )
    say(f"Seeds 0 to {r - 1}. *Bias* is the mean estimate over the truth, less one, in its own")
    say("standard errors; *error* is the median relative standard error.")
    say("")
    say("| hidden, output | d | a | log10 p | samples | error | bias | 90 % | 95 % | 99 % |")
    say("|---|---|---|---|---|---|---|---|---|---|")
    for hidden, output, d, a in CELLS:
        for samples in SAMPLES:
            found = repeated((hidden, output), d, a, samples, r, options.threads)
            mean = log_mean(found.log_p)
            exact = truth(hidden, output, d, a)
            bias = "-"
            if math.isnan(exact):
                exact = mean
            else:
                spread = float(np.std(np.exp(found.log_p - mean))) / math.sqrt(r)
                bias = f"{math.expm1(mean - exact) / spread:+.1f}"
            covers = []
            for level in LEVELS:
                low, high = weighted.interval(found, level=level)
                covers.append(f"{100 * np.mean((low <= exact) & (exact <= high)):.1f}")
            say(
                f"| {hidden}, {output} | {d} | {a:g} | {exact / math.log(10):.1f} | {samples:,} | "
                f"{100 * np.median(found.relative_error):.2f} % | {bias} | {' | '.join(covers)} |"
            )
    say("")
    say("## False alarms")
    say("")
    say(f"Share of p-values below a level, over that level; {tilted_kernels.BLOCK} samples each.")
    say("In brackets the same for the plain normal test, without correction. At 1e-5 a few")
    say(f"events decide. Generator seeds {FIRST_SEED} and following.")
    say("")
    say("| hidden, output | d | a | blocks | skewness | " + " | ".join(f"{q:g}" for q in ALPHAS))
    report[-1] += " |"
    say("|---|---|---|---|---|" + "---|" * len(ALPHAS))
    for hidden, output, d, a in CELLS:
        count = int(min(options.alarms, 4e6 * options.alarms / 1e5 // d))
        found = blocks((hidden, output), d, a, count, options.threads)
        exact = truth(hidden, output, d, a)
        exact = log_mean(found.log_p) if math.isnan(exact) else exact
        p = weighted.p_value(found, exact)
        plain = 2 * special.ndtr(-np.abs(weighted.z_score(found, exact)))
        shares = (f"{np.mean(p < q) / q:.2f} ({np.mean(plain < q) / q:.2f})" for q in ALPHAS)
        say(
            f"| {hidden}, {output} | {d} | {a:g} | {count:,} | "
            f"{np.median(found.skewness):.1f} | {' | '.join(shares)} |"
        )
    print(f"{time.perf_counter() - begun:.0f} s")
    (options.out / "coverage.md").write_text("\n".join(report) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
