"""Measure the sampler's speed as ratios against named peers, all in one process.

    python scripts/benchmark.py [--full] [--out figures]

Prints a report and writes it to ``benchmark.md``; draws ``scaling.png``. Kernels are compiled
before the measurement. Programs that are compared run in turn, for about the same time each and in
several rounds, and a ratio is the median of the rounds' ratios. If the speed of the machine drifts,
both sides of a ratio change alike. ``--full`` adds 10⁶ networks on 1000 x 1000 cells with two
schemes, which takes a minute.

There are two peers, both in NumPy and float32:

- *nested* has the sampler's own idea, one matrix per trial for all cells, in vectorised NumPy
  (``standard_normal``, ``cumsum``, ``minimum.accumulate``), at its best batch size;
- *literal* draws ``(networks, l, d)`` weights for every cell anew; it is timed by itself, and its
  best time counts.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from matplotlib.figure import Figure

import obstruction as ob
from obstruction.sampling import streams
from obstruction.sampling.config import StudyConfig
from obstruction.sampling.grid_sampler import GridSampler
from obstruction.sampling.kernels import networks as kernels
from obstruction.sampling.rare import estimate as tilting
from obstruction.sampling.runner import Runner

KAIMING, XAVIER = "kaiming_normal", "xavier_normal"
SEED = 0

report: list[str] = []


def say(line: str = "") -> None:
    print(line, flush=True)
    report.append(line)


def best(function: Callable[[], object], seconds: float = 2.0) -> float:
    """Return the shortest time of a call, over at least 3 calls and this number of seconds."""
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        begun = time.perf_counter()
        function()
        times.append(time.perf_counter() - begun)
    return min(times)


def in_turn(functions: list[Callable[[], object]], rounds: int) -> np.ndarray:
    """Return the times of several functions called in turn, one row for each round."""
    return np.array([[once(f) for f in functions] for _ in range(rounds)])


def relative(times: np.ndarray, to: int = 0) -> list[float]:
    """Return the median over the rounds of every function's time relative to one of them."""
    return [float(ratio) for ratio in np.median(times / times[:, [to]], axis=0)]


def for_a_while(function: Callable[[], object], seconds: float = 0.4) -> tuple[Callable, int]:
    """Return a function that repeats another for about this time, and the number of repeats."""
    function()
    often = max(1, round(seconds / max(once(function), 1e-9)))
    return lambda: [function() for _ in range(often)], often


def once(function: Callable[[], object]) -> float:
    """Return the time of one call."""
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


# --- the peers -----------------------------------------------------------------------------


def nested_numpy(rng: np.random.Generator, n: int, batch: int) -> np.ndarray:
    """Count obstructed networks of every cell of an n x n Kaiming grid, in one batch."""
    squares = rng.standard_normal((batch, n, n), dtype=np.float32)
    output = rng.standard_normal((batch, n, 1), dtype=np.float32)
    np.multiply(squares, squares, out=squares)
    ratio = np.cumsum(squares, axis=2, out=squares)
    with np.errstate(divide="ignore"):
        ratio /= output * output
    smallest = np.minimum.accumulate(ratio, axis=1, out=ratio)
    size = np.arange(1, n + 1, dtype=np.float32)
    return (smallest < size[None, :] / size[:, None]).sum(axis=0)


def literal_numpy(rng: np.random.Generator, d: int, l: int, networks: int) -> int:
    """Count obstructed networks of one Kaiming cell that draws its own weights."""
    hidden = rng.standard_normal((networks, l, d), dtype=np.float32)
    output = rng.standard_normal((networks, l), dtype=np.float32)
    ratio = (hidden * hidden).sum(axis=2) / (output * output)
    return int((ratio < d / l).any(axis=1).sum())


def literal_numpy_cells(rng: np.random.Generator, n: int, networks: int) -> int:
    """Count in cells spread evenly over an n x n grid; return the number of networks drawn."""
    sizes = np.linspace(1, n, 12).round().astype(int)
    for d in sizes:
        for l in sizes:
            literal_numpy(rng, d, l, networks)
    return networks * sizes.size**2


# --- the sampler ---------------------------------------------------------------------------


def sampling(schemes: list[str], n: int, networks: int, threads: int = 1) -> Callable[[], object]:
    """Return a function that samples this number of networks per cell on an n x n grid."""
    config = StudyConfig.of(schemes, d=range(1, n + 1), l=range(1, n + 1), seed=SEED)
    return lambda: Runner(GridSampler(config)).run(networks, threads=threads)


def groups_drawn(n: int, networks: int = 40) -> float:
    """Return how many groups of four weights a Kaiming network draws on an n x n grid."""
    total = 0
    for i in range(networks):
        hidden, output, _ = ob.replay(SEED, network=i, d=n, l=n, scheme="custom")
        ratio = np.cumsum(hidden**2, axis=1) / output.T**2
        limit = n / np.arange(1, n + 1)[:, None]
        alive = np.concatenate([np.ones((n, 1), bool), (ratio < limit)[:, 2::4]], axis=1)
        total += int(alive.sum())
        if n % 4 == 3:  # the last group ends at the last column
            total -= int(alive[:, -1].sum())
    return total / networks


def stage_seconds() -> dict[str, float]:
    """Return the time of each stage of drawing one group of four weights."""
    n, repeats = kernels.CHUNK, 2000
    key = streams.block_key(SEED, (0, 0, 0), 0)
    row, network = np.arange(n, dtype=np.uint32), np.zeros(n, np.uint32)
    words, scratch = np.empty((4, n), np.uint32), np.empty((2, n), np.float32)
    sums, column = np.empty((4, n)), np.zeros(n)

    def bits() -> None:
        for _ in range(repeats):
            kernels.threefry(key, 1, row, network, np.uint32(0), n, words)

    def squares() -> None:
        for _ in range(repeats):
            kernels.squares(kernels.NORMAL_CODE, words, n, scratch, sums)

    def add_up() -> None:
        for _ in range(repeats):
            kernels.accumulate(1, n, sums, column, column)

    def call() -> None:
        for _ in range(repeats):
            kernels.accumulate(1, 0, sums, column, column)

    overhead = best(call, 0.5)
    stages = {"random bits": bits, "log and cos": squares, "sums": add_up}
    for stage in stages.values():
        stage()
    return {name: (best(stage, 0.5) - overhead) / (repeats * n) for name, stage in stages.items()}


def report_shares(n: int, seconds_per_network: float) -> None:
    stages, groups = stage_seconds(), groups_drawn(n)
    shares = {name: groups * each / seconds_per_network for name, each in stages.items()}
    rest = 1.0 - sum(shares.values())
    say(
        f"- {n} x {n}, Kaiming: "
        + ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        + f", choosing rows and entering events {rest:.0%} "
        f"({groups:,.0f} groups of 4 weights a network); "
        f"the kernel consumes {4 * groups / seconds_per_network:.3g} words/s, "
        f"{shares['random bits']:.0%} of the bare generator's {4 / stages['random bits']:.3g}"
    )


# --- other laws, exact values, weighted samples --------------------------------------------


def report_laws() -> None:
    others = ["kaiming_uniform", "keras_he_normal", "torch_linear", "torch_kaiming_normal"]
    pairs = [("kaiming_normal", others), ("xavier_normal", ["torch_xavier_normal"])]
    for n, networks in ((100, 50_000), (1000, 5_000)):
        for base, schemes in pairs:
            times = in_turn([sampling([s], n, networks) for s in (base, *schemes)], 9)
            shown = ", ".join(
                f"{scheme} {ratio:.2f}"
                for scheme, ratio in zip(schemes, relative(times)[1:], strict=True)
            )
            say(f"- {n} x {n}, times {base}: {shown}")


def report_exact() -> None:
    sizes = np.arange(1, 101)
    schemes = [KAIMING, "kaiming_uniform", "flax_dense", "torch_xavier_normal", "torch_linear"]
    schemes += ["torch_xavier_uniform", "torch_kaiming_uniform:mode=fan_out"]
    every = [
        lambda s=scheme: ob.exact.pathological_probability(s, sizes[:, None], sizes)
        for scheme in schemes
    ]
    times = np.median(in_turn(every, 3), axis=0)
    shown = ", ".join(f"{s} {time:.2g} s" for s, time in zip(schemes, times, strict=True))
    say(f"- exact values of 100 x 100 cells: {shown}")


def report_tilted() -> None:
    sizes, samples = np.arange(1, 101), 20_000
    for scheme in (KAIMING, "kaiming_uniform", "flax_dense"):
        tilting.estimate(scheme, 3, 3, 100)
        begun = time.perf_counter()
        found = tilting.estimate(scheme, sizes[:, None], sizes, samples, seed=SEED)
        seconds = time.perf_counter() - begun
        errors = found.relative_error
        say(
            f"- {samples:,} weighted samples in each of 100 x 100 cells, {scheme}: "
            f"{seconds:.1f} s; relative standard error {np.median(errors):.2%} in the median cell, "
            f"{errors.max():.2%} in the worst"
        )


# --- the whole program ---------------------------------------------------------------------


def report_imports() -> None:
    def wall(code: str) -> float:
        command = [sys.executable, "-c", code]
        return best(lambda: subprocess.run(command, check=True), 3.0)

    base = wall("import numpy, scipy, numba")
    ours = wall("import obstruction")
    used = wall("import obstruction as ob; ob.sample")
    say(
        f"- `import obstruction` takes {ours:.2f} s, {ours / base:.2f} times the import of numpy, "
        f"scipy and numba ({base:.2f} s); with `ob.sample` looked up {used:.2f} s"
    )
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        code = "import obstruction as ob; ob.sample('kaiming_normal', d=3, l=3, networks=10)"
        command = [sys.executable, "-c", code]
        times = []
        for _ in range(2):
            begun = time.perf_counter()
            subprocess.run(command, check=True, env=environment)
            times.append(time.perf_counter() - begun)
    say(
        f"- a first study after installing takes {times[0]:.1f} s, most of it compiling; "
        f"the next one, with kernels from the disk, {times[1]:.1f} s"
    )


def report_full() -> None:
    code = (
        "import obstruction as ob, time; t = time.perf_counter();"
        f"ob.sample(['{XAVIER}', '{KAIMING}'], d=range(1, 1001), l=range(1, 1001), networks=1e6);"
        "print(time.perf_counter() - t)"
    )
    seconds = float(subprocess.check_output([sys.executable, "-c", code]))
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    say(
        f"- 10⁶ networks in each of 1000 x 1000 cells, both schemes, "
        f"{len(os.sched_getaffinity(0))} threads: {seconds:.0f} s, {memory:.2f} GiB at most"
    )


def report_growth(folder: Path) -> None:
    sizes = [50, 100, 200, 500, 1000, 2000]
    networks = 10_000
    say(f"| n x n | seconds for {networks:,} networks a cell | cell-networks/s | growth |")
    say("|---|---|---|---|")
    times: list[float] = []
    for n in sizes:
        config = StudyConfig.of(KAIMING, d=range(1, n + 1), l=range(1, n + 1), seed=SEED)
        times.append(best(lambda c=config: Runner(GridSampler(c)).run(networks, threads=1), 0.0))
        growth = ""
        if len(times) > 1:
            step = np.log(n / sizes[len(times) - 2])
            growth = f"n^{np.log(times[-1] / times[-2]) / step:.2f}"
        say(f"| {n} | {times[-1]:.3g} | {networks * n * n / times[-1]:.3g} | {growth} |")
    figure = Figure(figsize=(3.5, 2.8), layout="constrained")
    ax = figure.subplots()
    ax.loglog(sizes, times, "o-", color="#0072B2", label="measured, one thread")
    reference = times[1] * np.array(sizes) / sizes[1]
    ax.loglog(sizes, reference, ":", color="0.4", label="$\\propto n$")
    square = reference * np.array(sizes) / sizes[1]
    ax.loglog(sizes, square, "--", color="0.4", label="$\\propto n^2$")
    ax.set_xlabel("grid size n (n x n cells)")
    ax.set_ylabel("seconds for $10^4$ networks a cell")
    ax.legend(frameon=False)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "scaling.png", dpi=200, metadata={"Software": None})


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.name == "posix" else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="also the 1000 x 1000 study of 10⁶")
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()
    Runner(GridSampler(StudyConfig.of(KAIMING, d=3, l=3))).run(10, threads=1)  # compile

    say("# Benchmark of the sampler")
    say()
    say(
        f"{processor()}, {psutil.cpu_count()} cores; Python {platform.python_version()}, "
        f"NumPy {np.__version__}. Rates are cell-networks per second: cells times networks. "
        "The sampler counts obstructed networks and pathological neurons, the peers obstructed "
        "networks only."
    )
    say()
    say("## Against NumPy (one thread, Kaiming normal, nested plan)")
    say()
    say("| grid | sampler | nested NumPy | ratio | literal NumPy | ratio |")
    say("|---|---|---|---|---|---|")
    per_network = {}
    rng = np.random.default_rng(SEED)
    for n, networks, batches in ((100, 100_000, (4, 16, 64, 256)), (1000, 20_000, (1, 2, 4))):
        peers = [for_a_while(lambda b=b, n=n: nested_numpy(rng, n, b)) for b in batches]
        times = in_turn([sampling([KAIMING], n, networks), *(peer for peer, _ in peers)], 9)
        times /= [networks, *(often * b for (_, often), b in zip(peers, batches, strict=True))]
        per_network[n] = float(np.median(times[:, 0]))
        mine = n * n / per_network[n]
        fastest = 1 + int(np.median(times[:, 1:], axis=0).argmin())
        rate, batch = n * n / np.median(times[:, fastest]), batches[fastest - 1]
        ratio = relative(times)[fastest]
        line = f"| {n} x {n} | {mine:.3g} | {rate:.3g} (batch {batch}) | **{ratio:.0f}** |"
        if n == 100:
            seconds = best(lambda: literal_numpy_cells(rng, 100, 50))
            literal = literal_numpy_cells(rng, 100, 50) / seconds
            say(f"{line} {literal:.3g} | **{mine / literal:,.0f}** |")
        else:
            say(f"{line} - | - |")
    say()
    say("## Schemes and threads")
    say()
    for n, networks in ((100, 200_000), (1000, 60_000)):
        times = in_turn(
            [
                sampling([KAIMING], n, networks),
                sampling([XAVIER], n, networks),
                sampling([XAVIER, KAIMING], n, networks),
                sampling([XAVIER, KAIMING], n, networks, threads=2),
            ],
            7,
        )
        say(
            f"- {n} x {n}: both schemes in one pass cost {relative(times)[2]:.2f} times Kaiming "
            f"alone, {relative(times, 1)[2]:.2f} times Xavier alone; two threads "
            f"{relative(times, 3)[2]:.2f} times one"
        )
    say()
    say("## Other laws, exact values, weighted samples (one thread)")
    say()
    report_laws()
    report_exact()
    report_tilted()
    say()
    say("## Where the time goes (one thread)")
    say()
    for n, seconds in per_network.items():
        report_shares(n, seconds)
    say()
    say("## Growth with the grid (one thread, Kaiming normal, once each)")
    say()
    report_growth(options.out)
    say()
    say("## The whole program")
    say()
    report_imports()
    if options.full:
        report_full()
    (options.out / "benchmark.md").write_text("\n".join(report) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
