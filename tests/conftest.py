"""Fixtures that several test files share."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis
import numpy as np
import pytest

from obstruction.cli import main
from obstruction.sampling import streams
from obstruction.sampling.counts import Counts
from obstruction.sampling.kernels import networks as kernels
from obstruction.sampling.thresholds import law_codes

hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def framework(name: str) -> Any:
    """Import a framework, or skip the test.

    ``REQUIRED_FRAMEWORKS="torch sklearn"`` in the environment makes the tests of those fail, not
    be skipped, if they are missing.
    """
    if name.partition(".")[0] in os.environ.get("REQUIRED_FRAMEWORKS", "").split():
        return importlib.import_module(name)
    return pytest.importorskip(name)


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
