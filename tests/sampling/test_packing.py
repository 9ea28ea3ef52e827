"""Moving marked entries to the front: every way of doing it against NumPy, on every processor."""

from __future__ import annotations

import os
import subprocess
import sys

import llvmlite.binding as llvm
import numpy as np
import pytest
from numba import njit

from obstruction.sampling.kernels import packing as lanes

SIZES = [0, 1, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 500]
TYPES = [np.uint32, np.int32, np.float32, np.uint64, np.float64]


@njit
def compiled(marks, n, source, out, to):
    return lanes.pack(marks, n, source, out, to)


def example(n, share, dtype, seed=0):
    """Marks with the zeros they must end in, and a source with room behind."""
    rng = np.random.default_rng([n, int(100 * share), seed])
    marks = np.zeros(n + 2 * lanes.LANES, np.uint8)
    marks[:n] = rng.random(n) < share
    return marks, rng.integers(1, 2**31, n + 2 * lanes.LANES).astype(dtype)


@pytest.mark.parametrize("pack", [compiled, lanes.pack], ids=["compiled", "interpreted"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", SIZES)
def test_marked_entries_are_moved_in_order(n, dtype, pack):
    for share in (0.0, 0.1, 0.6, 1.0):
        marks, source = example(n, share, dtype)
        chosen = source[:n][marks[:n] == 1]
        for to in (0, 5):
            out = np.full(n + 3 * lanes.LANES, 7, dtype)
            assert pack(marks, n, source, out, to) == chosen.size
            np.testing.assert_array_equal(out[to : to + chosen.size], chosen)
            assert (out[:to] == 7).all()


@pytest.mark.parametrize("pack", [compiled, lanes.pack], ids=["compiled", "interpreted"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("gap", [0, 1, 9, 40])
def test_an_array_may_be_packed_into_itself(gap, dtype, pack):
    for n in SIZES:
        marks, source = example(n, 0.7, dtype, seed=1)
        whole = np.concatenate([np.zeros(gap, dtype), source])
        chosen = source[:n][marks[:n] == 1]
        assert pack(marks, n, whole[gap:], whole, 0) == chosen.size
        np.testing.assert_array_equal(whole[: chosen.size], chosen)


def without(*prefixes):
    """This processor's features as LLVM writes them, but for some."""
    features = llvm.get_host_cpu_features().items()
    return ",".join(
        f"{'+' if there and not name.startswith(prefixes) else '-'}{name}"
        for name, there in features
    )


ELSEWHERE = """
import sys, test_packing, test_sampling
from obstruction.sampling.kernels import packing as lanes
assert [lanes.may_use("avx2"), lanes.may_use("avx512f")] == [sys.argv[1] == "avx2", False]
for dtype in test_packing.TYPES:
    for n in test_packing.SIZES:
        test_packing.test_marked_entries_are_moved_in_order(n, dtype, test_packing.compiled)
    for gap in (0, 1, 9, 40):
        test_packing.test_an_array_may_be_packed_into_itself(gap, dtype, test_packing.compiled)
for plan in test_sampling.GOLDEN:
    test_sampling.test_golden_counts(plan)
    test_sampling.test_golden_counts_of_a_regular_grid(plan)
print("the same")
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["avx2", "plain"])
def test_other_processors_move_and_count_the_same(kind):
    """The golden counts again, from code compiled as for a processor that lacks features."""
    if kind == "avx2" and not lanes.may_use("avx2"):
        pytest.skip("this processor has no AVX2")
    newest = ("avx512", "avx10", "evex512")
    features = without(*newest) if kind == "avx2" else without(*newest, "avx", "fma", "f16c")
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, kind],
        env={**os.environ, "NUMBA_CPU_FEATURES": features, "PYTHONPATH": os.path.dirname(__file__)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "the same", done.stderr
