"""The runner: every sampler counts the same on any threads, in any pieces, after any interruption.

`check_sampler` is the harness for all samplers; that it can fail is shown with broken ones.
"""

from __future__ import annotations

import _thread
import dataclasses
import pickle
import threading
import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from obstruction.dag import Network
from obstruction.dag.probability.sampling import DagSampler
from obstruction.sampling import runner as running
from obstruction.sampling import streams
from obstruction.sampling.config import StudyConfig
from obstruction.sampling.grid_sampler import GridSampler
from obstruction.sampling.interface import Sampler
from obstruction.sampling.rare.tilted_sampler import TiltedSampler
from obstruction.sampling.rare.tilts import Cells
from obstruction.sampling.runner import Runner
from obstruction.sampling.sign_sampler import SignSampler
from obstruction.schemes.laws import CONSTANT, NORMAL

NO_STOP = np.zeros(1, np.uint8)


@dataclass(frozen=True)
class Dice(Sampler):
    """Throws of a die, counted by their faces: all that a new sampler needs."""

    seed: int

    def tally(self):
        return np.zeros(6, np.int64)

    def count(self, tally, start, stop, flag):
        for block, first, count in streams.pieces(start, stop):
            if flag[0]:
                return False
            key = streams.block_key(self.seed, (9,), block)
            throws = np.random.default_rng(key).integers(6, size=streams.BLOCK)
            tally += np.bincount(throws[first : first + count], minlength=6)
        return True


# --- the harness -------------------------------------------------------------------------------


def plain(counts):
    """Counts as lists and bytes that can be compared."""
    if dataclasses.is_dataclass(counts):
        return {one.name: plain(getattr(counts, one.name)) for one in dataclasses.fields(counts)}
    if isinstance(counts, dict):
        return {key: plain(value) for key, value in counts.items()}
    return np.asarray(counts).tobytes()


def by_hand(sampler, *ranges):
    """The counts of ranges, each on a tally of its own, without the runner."""
    if sampler.in_order:
        ranges = [(draw, draw + 1) for one in ranges for draw in range(*one)]
    total = sampler.result(sampler.tally())
    for start, stop in ranges:
        tally = sampler.tally()
        assert sampler.count(tally, start, stop, NO_STOP.copy())
        total = total + sampler.result(tally)
    return plain(total)


def run(sampler, stop, threads, **options):
    runner = Runner(sampler, **options)
    runner.run(stop, threads=threads)
    done, counts = runner.snapshot()
    assert done == ((0, stop),)
    assert runner.counted == stop
    return plain(counts)


class Enough(Exception):
    pass


def interrupted(sampler, stop, error=Enough):
    """A runner that was stopped when something was counted."""

    def watch(counted):
        if counted > 0:
            raise error

    runner = Runner(sampler)
    with pytest.raises(error):
        runner.run(stop, threads=2, watch=watch, watch_seconds=0.001)
    assert runner.counted < stop
    return runner


def check_sampler(sampler, draws, many):
    """Check that only the numbers of draws decide; ``many`` draws take longer than a test."""
    whole = run(sampler, draws, 1)
    assert whole != plain(sampler.result(sampler.tally()))
    assert by_hand(sampler, (0, draws)) == whole
    cuts = [0, 1, draws // 3, draws - 1, draws]
    assert by_hand(sampler, *pairwise(cuts)) == whole
    for threads in (2, 3):
        assert run(sampler, draws, threads) == whole
    assert run(pickle.loads(pickle.dumps(sampler)), draws, 2) == whole

    tally = sampler.tally()
    assert not sampler.count(tally, 0, draws, np.ones(1, np.uint8))

    runner = Runner(sampler)
    runner.run(draws // 3, threads=2)
    done, counts = runner.snapshot()
    assert run(sampler, draws, 2, done=done, counts=counts) == whole
    runner.run(draws, threads=3)
    assert plain(runner.snapshot()[1]) == whole

    runner = interrupted(sampler, many)
    done, counts = runner.snapshot()
    assert plain(counts) == by_hand(sampler, *done)
    target = max((stop for _, stop in done), default=0) + 7
    resumed = Runner(sampler, done, counts)
    resumed.run(target, threads=3)
    assert resumed.snapshot()[0] == ((0, target),)
    assert plain(resumed.snapshot()[1]) == run(sampler, target, 1)


CONFIG = StudyConfig.of(
    ["xavier_normal", "kaiming_uniform", "orthogonal"], d=[1, 2, 5], l=[1, 3, 8], seed=4
)
WITHOUT_ORTHOGONAL = StudyConfig.of(
    ["xavier_normal", "torch_linear"], d=[1, 2, 5], l=[1, 3, 8], seed=4
)
INDEPENDENT = StudyConfig.of(["torch_linear"], d=[1, 3], l=[2, 5], seed=4, plan="independent")
CELLS = Cells(NORMAL, NORMAL, CONSTANT, *np.array([[9.0, 9.0, 60.0], [1.0, 2.0, 0.1], [0, 0, 0]]))
SAMPLERS = {
    "dice": (Dice(1), 3000, 10**9),
    "grid": (GridSampler(CONFIG), 1500, 10**9),
    "independent": (GridSampler(INDEPENDENT), 1500, 10**9),
    "signs": (SignSampler(WITHOUT_ORTHOGONAL, (0, 1, 4), (1, 1, 4)), 1500, 10**9),
    "signs, independent": (SignSampler(INDEPENDENT, (1, 2), (0, 2)), 1500, 10**9),
    "tilted": (TiltedSampler(CELLS, 10**9, 4), 12, 10**5),
    "DAG": (DagSampler.of(Network.mlp([8, 16, 4, 1]), "kaiming_normal", seed=4), 3000, 10**9),
}


@pytest.mark.parametrize("merging", [0.0, 2.0])
@pytest.mark.parametrize("name", SAMPLERS)
def test_only_the_numbers_of_draws_decide(name, merging, monkeypatch):
    monkeypatch.setattr(running, "_MERGE_SECONDS", merging)
    check_sampler(*SAMPLERS[name])


class ForgetsThePiece(Dice):
    """Counts the first draws, however the range lies."""

    def count(self, tally, start, stop, flag):
        return super().count(tally, 0, stop - start, flag)


class CountsTheEndsTwice(Dice):
    """Takes the end of a range for a part of it."""

    def count(self, tally, start, stop, flag):
        return super().count(tally, start, stop + 1, flag)


class KeepsTheTally(Dice):
    """Counts all ranges on the same tally, so that what was handed over comes again."""

    def tally(self):
        kept = self.__dict__.setdefault("kept", super().tally())
        return kept


class DrawsInTurn(Dice):
    """Takes what comes next from one generator, so that the order of the calls decides."""

    def count(self, tally, start, stop, flag):
        if flag[0]:
            return False
        generator = self.__dict__.setdefault("generator", np.random.default_rng(self.seed))
        tally += np.bincount(generator.integers(6, size=stop - start), minlength=6)
        return True


class SaysTooMuch(Dice):
    """Says that everything was counted although it was stopped."""

    def count(self, tally, start, stop, flag):
        super().count(tally, start, stop, flag)
        return True


@pytest.mark.parametrize(
    "broken", [ForgetsThePiece, CountsTheEndsTwice, KeepsTheTally, DrawsInTurn, SaysTooMuch]
)
def test_the_harness_notices_a_broken_sampler(broken):
    with pytest.raises(AssertionError):
        check_sampler(broken(1), 3000, 10**9)


# --- interruptions -----------------------------------------------------------------------------


class Stuck(Dice):
    """Works on the second block until it is told to break off."""

    def count(self, tally, start, stop, flag):
        if stop <= streams.BLOCK:
            return super().count(tally, start, stop, flag)
        while not flag[0]:
            time.sleep(0.001)
        return super().count(tally, start, stop, flag)


@pytest.mark.parametrize("error", [Enough, KeyboardInterrupt])
def test_a_range_that_was_broken_off_counts_for_nothing_and_is_resumed(error, monkeypatch):
    monkeypatch.setattr(running, "_MERGE_SECONDS", 0.0)
    monkeypatch.setattr(running, "_GRACE_SECONDS", 0.05)
    begun = time.perf_counter()
    done, counts = interrupted(Stuck(3), 5000, error).snapshot()
    assert time.perf_counter() - begun < 5.0
    assert not [t for t in threading.enumerate() if t.name.startswith("obstruction")]
    assert max(stop for _, stop in done) <= streams.BLOCK
    assert plain(counts) == by_hand(Dice(3), *done)
    assert run(Dice(3), 5000, 2, done=done, counts=counts) == by_hand(Dice(3), (0, 5000))


def test_control_c_stops_the_workers_soon():
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    runner, begun = Runner(Dice(3)), time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        runner.run(10**12, threads=2)
    assert time.perf_counter() - begun < 5.0
    timer.join()
    done, counts = runner.snapshot()
    assert plain(counts) == by_hand(Dice(3), *done)


def test_what_is_not_counted_is_not_called_complete():
    class GivesUp(Dice):
        def count(self, tally, start, stop, flag):
            return start != 0 and super().count(tally, start, stop, flag)

    runner = Runner(GivesUp(3))
    with pytest.raises(RuntimeError, match=r"^draws \[\(0, 1\)\] were not counted though nothing"):
        runner.run(2, threads=2)


def test_any_range_can_be_asked_for():
    runner = Runner(Dice(3))
    runner.run(2000, start=1500, threads=2)
    assert runner.snapshot()[0] == ((1500, 2000),)
    assert plain(runner.snapshot()[1]) == by_hand(Dice(3), (1500, 2000))
    runner.run(1700, start=1000, threads=1)
    assert runner.snapshot()[0] == ((1000, 2000),)
    assert plain(runner.snapshot()[1]) == by_hand(Dice(3), (1000, 2000))


# --- sums of floats ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Late(Sampler):
    """A large number that comes late, and small ones, which vanish if they are added to it."""

    order: bool

    @property
    def in_order(self):
        return self.order

    @property
    def most(self):
        return 1

    def tally(self):
        return np.zeros(1)

    def count(self, tally, start, stop, flag):
        for draw in range(start, stop):
            time.sleep(0.0 if draw else 0.2)
            tally += 1e-16 if draw else 1.0
        return not flag[0]


def test_floats_are_added_in_the_order_of_the_draws():
    def total(order, threads):
        runner = Runner(Late(order))
        runner.run(100, threads=threads)
        return float(runner.snapshot()[1][0])

    assert total(True, 1) == total(True, 3) == 1.0
    assert total(False, 3) > 1.0


def test_sums_that_came_too_early_are_dropped_with_an_interruption(monkeypatch):
    monkeypatch.setattr(running, "_GRACE_SECONDS", 0.0)
    runner = interrupted(Late(True), 10**6)
    assert runner.snapshot()[0] == ()  # the first draw was broken off, so that none is added
    runner.run(100, threads=2)
    assert runner.snapshot()[0] == ((0, 100),)
    assert float(runner.snapshot()[1][0]) == 1.0


def test_floats_cannot_be_added_in_front_of_later_ones():
    counts = np.ones(1)
    with pytest.raises(ValueError, match=r"^start = 0, stop = 20: draws up to 9 were counted bef"):
        Runner(Late(True), [(5, 10)], counts).run(20, threads=1)
    runner = Runner(Late(True), [(0, 10)], counts)
    runner.run(20, threads=2)
    assert runner.snapshot()[0] == ((0, 20),)
    runner.run(15, threads=2)


# --- arguments ---------------------------------------------------------------------------------


def test_ranges_that_overlap_and_ranges_without_counts_are_refused():
    for done in ([(0, 10), (5, 20)], [(5, 10), (0, 20)], [(0, 5), (0, 5)]):
        with pytest.raises(ValueError, match=r"^done: draw \d+ lies in two ranges"):
            Runner(Dice(3), done, np.zeros(6, np.int64))
    with pytest.raises(ValueError, match=r"^counts = None: must be the counts of .*\(0, 10\)"):
        Runner(Dice(3), [(0, 10)])
