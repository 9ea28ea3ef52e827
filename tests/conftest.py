"""Fixtures that several test files share."""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import numpy as np
import pytest
from compiled_parts import import_without_compiled_parts

from obstruction.cli import main
from obstruction.models.readers.keras import datasets as hdf5
from obstruction.sampling import streams
from obstruction.sampling.counts import Counts
from obstruction.sampling.kernels import networks as kernels
from obstruction.sampling.thresholds import law_codes

# The zoo and the independent search need PyTorch, and have no doctests to collect.
collect_ignore_glob = [
    "conservation/zoo/*",
    *(
        f"conservation/{name}.py"
        for name in (
            "covering",
            "independent_search",
            "judging",
            "plain_model",
            "relations",
            "rescaling",
            "second_look",
            "slices",
        )
    ),
]

# Each worker computes on one core: PyTorch's threads in several workers wait for each other, which
# makes tests of models five times slower. It is imported later than this file.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Shells start jobs in the background with Ctrl-C ignored, and tests of Ctrl-C would wait for ever.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Under nohup, SIGHUP is ignored, and tests of a closed terminal would fail.
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def framework(name: str) -> Any:
    """Import a framework, or skip the test.

    ``REQUIRED_FRAMEWORKS="torch sklearn"`` in the environment makes the tests of those fail, not
    be skipped, if they are missing.
    """
    if name.partition(".")[0] in ("torchvision", "lightning") and find_spec("torch"):
        import_without_compiled_parts()
    if name.partition(".")[0] in os.environ.get("REQUIRED_FRAMEWORKS", "").split():
        return importlib.import_module(name)
    return pytest.importorskip(name)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A disk that is full below a folder while ``disk.full`` holds."""
    state = SimpleNamespace(full=False, path=tmp_path / "a")
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        file = Path(f"/proc/self/fd/{descriptor}").readlink()
        if state.full and file.is_relative_to(state.path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return state


@pytest.fixture(scope="module")
def one_hdf5_process() -> Iterator[None]:
    """Survey all HDF5 files of a test file in one process, restarted only after a crash.

    The package starts a process for each file, which would take most of the time of tests that
    read hundreds of small files.
    """
    running: list[subprocess.Popen[str]] = []

    def ask(request: Mapping[str, Any]) -> dict[str, Any]:
        if not running or running[-1].poll() is not None:
            running.append(
                subprocess.Popen(
                    [sys.executable, "-P", hdf5.__file__.replace("datasets", "hdf5_child")],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, **hdf5.ENVIRONMENT},
                    text=True,
                )
            )
        process = running[-1]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line.endswith("\n"):
            process.wait()
            raise ValueError("the HDF5 library crashed on it")
        answer: dict[str, Any] = json.loads(line)
        if "refused" in answer:
            raise ValueError(answer["refused"])
        return answer

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(hdf5, "ask", ask)
        yield
    for process in running:
        process.communicate()


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command line in this process: ``command("run", "--out", path)``."""

    def call(*words: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as finished:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(int(finished.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def refused(command: Callable[..., Outcome]) -> Callable[..., str]:
    """Run a command line that must fail with one plain line; return that line."""

    def call(*words: object) -> str:
        outcome = command(*words)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith("obstruction: ")
        assert outcome.err.endswith("\n")
        assert len(outcome.err.splitlines()) == 1
        return outcome.err

    return call


# --- a count that is slow, plain and easily seen to be right --------------------------------


def squares_of(seed, path, scheme, network, l, d):
    """The squared weights of one network: ``v`` and ``b`` ``(l,)``, sums of ``w`` ``(l, d)``."""
    block, index = divmod(network, streams.BLOCK)
    square = np.empty((l, 4 * (d // 4 + 1)))
    bias = np.zeros(l)
    key = streams.block_key(seed, path, block)
    kernels.draw_network(key, law_codes(scheme), index, square, np.empty_like(square), bias)
    return square[:, 0], bias**2, np.cumsum(square[:, 1 : d + 1], axis=1)


def count_slowly(config, networks):
    """Count over the given networks cell by cell, from the definition."""
    found = Counts.zero(config.shape)
    ratio = config.ratio()
    for k, scheme in enumerate(config.schemes):
        for network in networks:
            if config.plan == "nested":
                path = streams.nested_path(scheme)
                size = config.l[-1], config.d[-1]
                v, b, s = squares_of(config.seed, path, scheme, network, *size)
            for i, d in enumerate(config.d):
                for j, l in enumerate(config.l):
                    if config.plan != "nested":
                        path = streams.independent_path(scheme, d, l)
                        v, b, s = squares_of(config.seed, path, scheme, network, l, d)
                    inward = s[:l, d - 1] + scheme.bias_ratio(d, l) * b[:l]
                    bad = np.count_nonzero(inward < v[:l] * ratio[k, i, j])
                    found.pathological[k, i, j] += bad
                    found.obstructed[k, i, j] += bad > 0
    return Counts(len(networks), found.obstructed, found.pathological)


@pytest.fixture(scope="session")
def slowly():
    """``slowly(config, networks)``: the counts of some networks in plain NumPy."""
    return count_slowly
