"""Sampling: the same integers from one seed, however the work is cut, shared out or interrupted."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import obstruction as ob
from obstruction import schemes
from obstruction.sampling import grid_sampler
from obstruction.sampling import runner as running
from obstruction.sampling.config import PLANS, StudyConfig
from obstruction.sampling.counts import Counts
from obstruction.sampling.grid_sampler import GridSampler
from obstruction.sampling.kernels import networks as kernels
from obstruction.sampling.runner import Runner
from obstruction.studies.run import StudyRun
from obstruction.tools.workers import available_threads, resolve_threads

BOTH = ["xavier_normal", "kaiming_normal"]
ALL_LAWS = [*BOTH, "kaiming_uniform:mode=fan_out", "custom:hidden_law=uniform,output_std=1.5"]
SMALL = {"d": (1, 2, 5), "l": (1, 3, 8)}


def finished(config, networks, *, threads=1, sampler=GridSampler, **done):
    """The counts of a run, through a sampler."""
    runner = Runner(sampler(config), **done)
    runner.run(networks, threads=threads)
    ranges, counts = runner.snapshot()
    assert ranges == ((0, networks),)
    assert counts.networks == runner.counted == networks
    return counts


# --- golden counts -------------------------------------------------------------------------

# One table a plan: (obstructed, pathological) of d = 2, 9 (rows) by l = 1, 6, 40 (columns).
GOLDEN = {
    "nested": {
        "xavier_normal": (
            [[1819, 4494, 5000], [1072, 1780, 2975]],
            [[1819, 9496, 59395], [1072, 2091, 4493]],
        ),
        "kaiming_normal:mode=fan_out": (
            [[1438, 4984, 5000], [68, 4114, 5000]],
            [[1438, 18620, 168740], [68, 7479, 129505]],
        ),
        "kaiming_uniform:output_gain=1.5": (
            [[3199, 3623, 3505], [3118, 2220, 11]],
            [[3199, 5781, 5858], [3118, 2808, 11]],
        ),
    },
    "independent": {
        "xavier_normal": (
            [[1851, 4494, 5000], [1065, 1840, 3020]],
            [[1851, 9435, 59334], [1065, 2200, 4529]],
        ),
        "kaiming_normal:mode=fan_out": (
            [[1494, 4980, 5000], [76, 4169, 5000]],
            [[1494, 18551, 168755], [76, 7558, 128966]],
        ),
        "kaiming_uniform:output_gain=1.5": (
            [[3161, 3621, 3475], [3104, 2293, 1]],
            [[3161, 5827, 5782], [3104, 2932, 1]],
        ),
    },
}


@pytest.mark.parametrize("plan", PLANS)
def test_golden_counts(plan):
    """5000 networks, seed 0. These integers are a promise: no release and no machine changes them.

    They may change only together with the definition of a seeded result, in a release that says
    so; rounding of any kind (another compiler, contraction, a library's log) must not reach them.
    """
    labels = ["xavier_normal", "kaiming_normal:mode=fan_out", "kaiming_uniform:output_gain=1.5"]
    study = ob.sample(labels, d=[2, 9], l=[1, 6, 40], networks=5000, seed=0, plan=plan)
    found = {
        label: (study.counts.obstructed[k].tolist(), study.counts.pathological[k].tolist())
        for k, label in enumerate(labels)
    }
    assert found == GOLDEN[plan]


# Sums over d, l = 1..30, and a digest of all counts: (obstructed, pathological, digest).
GOLDEN_GRID = {
    "nested": (
        1_236_391,
        2_864_806,
        "ffa29ade1ef75980333a9f9779947f845fbee19ac4eec5caae1c5589db79fce1",
    ),
    "independent": (
        1_238_949,
        2_884_554,
        "da2b5d15ce6c5c0e4bceac08443a0a34a5d44aff2c24e2656cb8b0dff2cb2a65",
    ),
}


@pytest.mark.parametrize("plan", PLANS)
def test_golden_counts_of_a_regular_grid(plan):
    """3000 networks, seed 0, on axes where a curve tells the kernel where thresholds lie."""
    axis = range(1, 31)
    study = ob.sample(
        ["xavier_normal", "kaiming_normal"], d=axis, l=axis, networks=3000, seed=0, plan=plan
    )
    counts = [table.astype("<i8") for table in (study.counts.obstructed, study.counts.pathological)]
    digest = hashlib.sha256(b"".join(table.tobytes() for table in counts)).hexdigest()
    assert (*(int(table.sum()) for table in counts), digest) == GOLDEN_GRID[plan]


# --- nothing but the seed decides ----------------------------------------------------------


@pytest.mark.parametrize("plan", PLANS)
def test_threads_and_repetition_have_no_influence(plan):
    config = StudyConfig.of(ALL_LAWS, **SMALL, seed=2, plan=plan)
    expected = finished(config, 5000)
    assert 0 < expected.obstructed.sum() < expected.pathological.sum()
    for threads in (1, 2, 3):
        assert finished(config, 5000, threads=threads) == expected


def test_study_and_sampler_count_the_same_and_threads_beyond_the_cores_are_clamped():
    study = ob.sample(ALL_LAWS, **SMALL, networks=3000, seed=2, threads=1)
    assert study.counts == finished(study.config, 3000, threads=2)
    assert (study.networks, study.target, study.complete) == (3000, 3000, True)
    assert study.done == ((0, 3000),)
    assert study.threads == 1
    assert resolve_threads(None) == available_threads() >= 1
    assert resolve_threads(10**6) == available_threads()
    assert resolve_threads(1) == 1


@pytest.mark.parametrize("size", [1, 7, 1000, 10**9])
def test_the_size_of_the_ranges_has_no_influence(size):
    config = StudyConfig.of(ALL_LAWS, **SMALL, seed=2)
    pieces = []

    class Cut(GridSampler):
        least = most = size

        def count(self, tally, start, stop, flag):
            pieces.append(stop - start)
            return super().count(tally, start, stop, flag)

    assert finished(config, 2500, threads=2, sampler=Cut) == finished(config, 2500)
    assert max(pieces) == min(size, 2500)
    assert sum(pieces) == 2500


@pytest.mark.parametrize("rows", [1, 50, 10**6])
def test_the_batch_size_has_no_influence(rows, monkeypatch):
    config = StudyConfig.of(ALL_LAWS, **SMALL, seed=2)
    expected = finished(config, 1500)
    monkeypatch.setattr(grid_sampler, "_ROWS_IN_FLIGHT", rows)
    assert finished(config, 1500) == expected


def test_a_cell_of_a_nested_study_does_not_depend_on_the_grid():
    large = ob.sample(ALL_LAWS, d=range(1, 11), l=range(1, 11), networks=1500, seed=3)
    for k, label in enumerate(ALL_LAWS):
        for d, l in ((1, 1), (1, 10), (3, 7), (4, 4), (10, 1), (8, 9)):
            small = ob.sample(label, d=d, l=l, networks=1500, seed=3).counts
            assert small.obstructed[0, 0, 0] == large.counts.obstructed[k, d - 1, l - 1]
            assert small.pathological[0, 0, 0] == large.counts.pathological[k, d - 1, l - 1]


def test_a_cell_of_an_independent_study_does_not_depend_on_the_grid_either():
    large = ob.sample(BOTH, **SMALL, networks=1500, seed=3, plan="independent").counts
    for k, label in enumerate(BOTH):
        small = ob.sample(label, d=5, l=8, networks=1500, seed=3, plan="independent").counts
        assert small.obstructed[0, 0, 0] == large.obstructed[k, 2, 2]
        assert small.pathological[0, 0, 0] == large.pathological[k, 2, 2]


@pytest.mark.parametrize("plan", PLANS)
def test_other_schemes_have_no_influence_on_a_scheme(plan):
    alone = ob.sample("xavier_normal", **SMALL, networks=1500, seed=3, plan=plan).counts
    for others in (
        ["kaiming_normal"],  # of the same law
        ["kaiming_normal:mode=fan_out", "custom:output_std=1e6"],  # that keep every row alive
        ["xavier_uniform", "custom:hidden_law=uniform"],  # of other laws
    ):
        several = ob.sample([*others, "xavier_normal"], **SMALL, networks=1500, seed=3, plan=plan)
        np.testing.assert_array_equal(several.counts.obstructed[-1], alone.obstructed[0])
        np.testing.assert_array_equal(several.counts.pathological[-1], alone.pathological[0])


def test_schemes_of_the_same_ratio_share_nested_networks_but_not_independent_ones():
    same = ["kaiming_normal", "lecun_normal"]  # a = d/l for both
    nested = ob.sample(same, **SMALL, networks=1500, seed=3).counts
    np.testing.assert_array_equal(nested.obstructed[0], nested.obstructed[1])
    independent = ob.sample(same, **SMALL, networks=1500, seed=3, plan="independent").counts
    assert (independent.pathological[0] != independent.pathological[1]).any()


def test_seeds_and_plans_draw_different_networks():
    counts = [
        ob.sample("xavier_normal", **SMALL, networks=5000, seed=seed, plan=plan).counts
        for seed in (0, 1, 2**64)
        for plan in PLANS
    ]
    for i, one in enumerate(counts):
        for other in counts[:i]:
            assert (one.pathological != other.pathological).mean() > 0.5


@st.composite
def configs(draw):
    sizes = st.lists(st.integers(1, 20), min_size=1, max_size=5)
    return StudyConfig.of(
        draw(st.lists(st.sampled_from(ALL_LAWS), min_size=1, max_size=3, unique=True)),
        d=draw(sizes),
        l=draw(sizes),
        seed=draw(st.integers(0, 2**70)),
        plan=draw(st.sampled_from(PLANS)),
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(config=configs(), threads=st.integers(1, 3))
def test_any_grid_is_counted_as_the_definition_says(slowly, config, threads):
    assert finished(config, 4, threads=threads) == slowly(config, range(4))


# --- continuing ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config():
    return StudyConfig.of(ALL_LAWS, **SMALL, seed=6)


@pytest.mark.parametrize("plan", PLANS)
def test_a_resumed_run_equals_one_at_once(plan, config):
    config = StudyConfig(config.schemes, config.d, config.l, config.seed, plan)
    runner = Runner(GridSampler(config))
    runner.run(2000, threads=1)
    done, counts = runner.snapshot()
    assert (done, counts.networks) == (((0, 2000),), 2000)
    expected = finished(config, 5000)
    assert finished(config, 5000, done=done, counts=counts) == expected
    runner.run(5000, threads=2)  # and in the same sampler
    assert runner.snapshot() == (((0, 5000),), expected)


def range_counts(config, ranges, slowly):
    """The counts of some ranges, and the ranges as `Runner` takes them."""
    networks = [i for start, stop in ranges for i in range(start, stop)]
    return {"done": ranges, "counts": slowly(config, networks)}


@pytest.mark.parametrize(
    "ranges",
    [
        [(0, 30)],
        [(10, 30)],
        [(5, 10), (20, 21), (40, 60)],
        [(40, 60), (5, 10), (20, 21), (10, 12)],  # in any order, touching
    ],
)
def test_holes_are_filled_and_nothing_is_counted_twice(ranges, config, slowly):
    expected = finished(config, 60)
    assert expected == slowly(config, range(60))
    assert finished(config, 60, threads=2, **range_counts(config, ranges, slowly)) == expected


def test_networks_beyond_the_target_stay(config, slowly):
    runner = Runner(GridSampler(config), **range_counts(config, [(0, 10), (30, 40)], slowly))
    runner.run(20, threads=1)
    done, counts = runner.snapshot()
    assert done == ((0, 20), (30, 40))
    assert counts == slowly(config, [*range(20), *range(30, 40)])


def test_a_finished_run_draws_nothing(config, monkeypatch):
    runner = Runner(GridSampler(config))
    runner.run(50, threads=1)
    before = runner.snapshot()
    monkeypatch.setattr(kernels, "count_nested", None)
    runner.run(50, threads=2)
    runner.run(20, threads=2)
    assert runner.snapshot() == before


def test_the_block_boundary_leaves_no_gap(config, slowly):
    """Network 1023 is the last of a block and 1024 the first of the next."""
    totals = {n: finished(config, n) for n in (1022, 1023, 1024, 1025)}
    for network in (1022, 1023, 1024):
        one = slowly(config, [network])
        assert totals[network] + one == totals[network + 1]
        assert one.pathological.any()


def test_a_snapshot_is_a_copy(config):
    runner = Runner(GridSampler(config))
    runner.run(20, threads=1)
    done, counts = runner.snapshot()
    counts.obstructed[...] = -1
    assert runner.snapshot()[1].obstructed.min() >= 0
    given = Counts.zero(config.shape)
    Runner(GridSampler(config), (), given).run(20, threads=1)
    assert given == Counts.zero(config.shape)
    assert done == ((0, 20),)


# --- interruption --------------------------------------------------------------------------


class Enough(Exception):
    pass


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, Enough])
@pytest.mark.parametrize(
    ("seconds", "merging", "grace"), [(0.0, 2.0, 0.5), (0.4, 0.0, 0.5), (0.4, 0.1, 0.0)]
)
def test_an_interrupted_run_keeps_what_it_has_and_can_be_finished(
    interruption, seconds, merging, grace, config, monkeypatch
):
    monkeypatch.setattr(running, "_MERGE_SECONDS", merging)
    monkeypatch.setattr(running, "_GRACE_SECONDS", grace)
    begun, seen = time.perf_counter(), []

    def watch(networks):
        seen.append(networks)
        if time.perf_counter() - begun > seconds and networks > 0:
            raise interruption

    runner = Runner(GridSampler(config))
    with pytest.raises(interruption):
        runner.run(10**12, threads=2, watch=watch, watch_seconds=0.01)
    assert time.perf_counter() - begun < seconds + 10.0  # a loaded machine; usually at once
    assert not [t for t in threading.enumerate() if t.name.startswith("obstruction")]
    assert seen == sorted(seen)
    done, counts = runner.snapshot()
    assert sum(stop - start for start, stop in done) == counts.networks == runner.counted
    assert seen[-1] > 0
    assert all(stop < start for (_, stop), (start, _) in pairwise(done))
    target = max((stop for _, stop in done), default=0) + 100
    runner.run(target, threads=2)
    assert runner.snapshot()[0] == ((0, target),)
    assert runner.snapshot()[1] == finished(config, target, threads=2)


def test_a_watcher_sees_the_networks_grow_to_the_target(config):
    seen = []
    Runner(GridSampler(config)).run(20_000, threads=2, watch=seen.append, watch_seconds=0.001)
    assert seen == sorted(seen)
    assert seen[-1] == 20_000


def test_counts_are_consistent_at_any_moment(config, slowly, monkeypatch):
    original, found = kernels.count_nested, []

    def looking(*arguments):
        found.append(runner.snapshot())
        return original(*arguments)

    monkeypatch.setattr(kernels, "count_nested", looking)
    monkeypatch.setattr(running, "_MERGE_SECONDS", 0.0)
    runner = Runner(GridSampler(config))
    runner.run(4000, threads=2)
    for done, counts in found:
        assert sum(stop - start for start, stop in done) == counts.networks
    done, counts = next(pair for pair in found if pair[1].networks > 5)
    networks = [i for start, stop in done for i in range(start, stop)]
    assert len(networks) < 4000
    assert counts == slowly(config, networks)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_worker_reaches_the_caller(threads, config, monkeypatch):
    original, calls = kernels.count_nested, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) > 5:
            raise MemoryError("no room")
        return original(*arguments)

    monkeypatch.setattr(kernels, "count_nested", failing)
    runner = Runner(GridSampler(config))
    with pytest.raises(MemoryError, match="no room"):
        runner.run(10**6, threads=threads)
    assert not [t for t in threading.enumerate() if t.name.startswith("obstruction")]
    done, counts = runner.snapshot()
    assert sum(stop - start for start, stop in done) == counts.networks < 10**6
    monkeypatch.undo()
    target = max([stop for _, stop in done], default=0) + 10
    runner.run(target, threads=1)
    assert runner.snapshot()[1] == finished(config, target)


def test_a_stopped_range_counts_for_nothing(config, monkeypatch):
    """A kernel that gives up leaves half-filled arrays, which must not be added."""

    def giving_up(*arguments):
        arguments[-1][...] = 7
        arguments[-2][...] = 7
        return False

    monkeypatch.setattr(kernels, "count_nested", giving_up)
    runner = Runner(GridSampler(config))
    with pytest.raises(RuntimeError, match=r"^draws \[\(0, 10\)\] were not counted though"):
        runner.run(10, threads=1)
    assert runner.snapshot() == ((), Counts.zero(config.shape))


# --- arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize("networks", [1e3, 1000, np.int32(1000), np.float64(1000), np.uint64(1000)])
def test_whole_numbers_of_any_type_count_networks(networks):
    study = ob.sample("xavier_normal", d=2, l=3, networks=networks)
    assert type(study.networks) is int
    assert study.networks == study.counts.networks == 1000
    assert study.counts == ob.sample("xavier_normal", d=2, l=3, networks=1000).counts


@pytest.mark.parametrize("threads", [1.0, np.int8(1)])
def test_whole_numbers_of_any_type_count_threads(threads):
    assert ob.sample("xavier_normal", d=2, l=3, networks=10, threads=threads).threads == 1


NOT_COUNTS = [0, -1, 0.5, 1e3 + 0.5, float("nan"), float("inf"), "many", "100", None, True, [5]]


@pytest.mark.parametrize("value", NOT_COUNTS)
@pytest.mark.parametrize("name", ["networks", "threads"])
def test_what_is_no_count_is_refused(name, value):
    if name == "threads" and value is None:
        assert ob.sample("xavier_normal", d=2, l=3, networks=9, threads=value).networks == 9
        return
    message = re.escape(f"{name} = {value!r}: must be a whole number of at least 1")
    with pytest.raises(ValueError, match=message):
        ob.sample("xavier_normal", d=2, l=3, **{"networks": 9, name: value})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"networks": 1e16}, "networks = 1e[+]16: must be .* at most 1,000,000,000,000,000"),
        ({"d": 0}, "d = 0: must be a whole number of at least 1"),
        ({"d": [4, -3]}, "d = -3: must be a whole number of at least 1"),
        ({"l": [2.5]}, "l = 2.5: must be a whole number of at least 1"),
        ({"l": float("nan")}, "l = nan: must be a whole number"),
        ({"l": []}, r"l = \[\]: must hold at least one size"),
        ({"d": "1:9"}, "d = '1:9': must be a size or a sequence of sizes"),
        ({"d": None}, "d = None: must be a whole number"),
        ({"seed": -1}, "seed = -1: must be a whole number of at least 0"),
        ({"seed": "zero"}, "seed = 'zero': must be a whole number"),
        ({"plan": "paired"}, "plan = 'paired': must be one of nested, independent"),
        ({"schemes": "xavier_norma"}, "unknown scheme 'xavier_norma' .did you mean 'xavier_nor"),
        ({"schemes": []}, r"schemes = \[\]: must name at least one scheme"),
        ({"schemes": BOTH + BOTH[:1]}, "schemes: xavier_normal given more than once"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    good = {"schemes": BOTH, "d": 2, "l": 3, "networks": 10}
    with pytest.raises(ValueError, match=message):
        ob.sample(**{**good, **arguments})


@pytest.mark.parametrize("axis", ["d", "l"])
def test_axes_beyond_all_bounds_say_how_much_they_would_need(axis):
    with pytest.raises(ValueError, match=rf"^{axis}: 999,999,999 sizes would need .*GiB"):
        ob.sample("xavier_normal", **{"d": 1, "l": 1, axis: range(1, 10**9)})


def test_a_grid_beyond_the_memory_says_how_much_it_would_need():
    sizes = range(1, 200_001)
    with pytest.raises(
        ValueError, match=r"200,000 x 200,000 cells .* about [0-9,.]+ GiB of memory"
    ):
        ob.sample("xavier_normal", d=sizes, l=sizes)


def test_a_network_beyond_the_memory_says_how_much_it_would_need(monkeypatch):
    memory = SimpleNamespace(available=2**33)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    with pytest.raises(ValueError, match=r"up to 1,000,000,000 neurons .* GiB .* 8.0 GiB are free"):
        ob.sample("xavier_normal", d=1, l=10**9, threads=1)


@pytest.mark.parametrize("plan", PLANS)
def test_memory_is_refused_before_anything_is_drawn(plan, monkeypatch):
    config = StudyConfig.of(BOTH, **SMALL, plan=plan)
    sampler = GridSampler(config)
    need = sampler.required_memory(2)
    assert need > sampler.required_memory(1) > 0
    memory = SimpleNamespace(available=need)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    sampler.check_memory(2)
    memory.available = need - 1
    with pytest.raises(ValueError, match=r"2 x 3 x 3 cells with up to 8 neurons .* GiB are free"):
        sampler.check_memory(2)
    memory.available = 10_000
    monkeypatch.setattr(kernels, "count_nested", None)
    with pytest.raises(ValueError, match=r"GiB of memory; 0\.0 GiB are free"):
        ob.sample(BOTH, **SMALL, plan=plan)


def test_an_entry_of_a_difference_array_cannot_overflow(config, monkeypatch):
    """A worker hands its counts over before its neurons could exceed what 32 bits hold."""
    assert np.iinfo(np.int32).max == grid_sampler._LARGEST_STEP
    expected = finished(config, 3000)
    monkeypatch.setattr(grid_sampler, "_LARGEST_STEP", 1000)
    merged = []

    class Noted(GridSampler):
        def result(self, tally):
            merged.append(tally.networks)
            return super().result(tally)

    assert finished(config, 3000, threads=2, sampler=Noted) == expected
    assert max(merged) == 1000 // 8  # l = 8 at most


def test_ranges_fit_into_32_bits_however_fast_they_go():
    """Tallies have no room for more neurons than 32 bits hold, whatever the measured rate."""
    sampler = GridSampler(StudyConfig.of("custom:output_std=0", d=1, l=1000))
    todo = running._Dispenser([(0, 10**15)], 1, 1)
    largest = 0
    for _ in range(30):
        piece = todo.take(sampler.most)
        largest = max(largest, piece[1] - piece[0])
        todo.learn(piece, 1e-9)
    assert largest == sampler.most
    assert 2**31 / 2 < largest * 1000 < 2**31


# --- the study that comes back -------------------------------------------------------------


def test_schemes_are_taken_as_names_labels_or_objects():
    rule = schemes.scheme("kaiming_normal", output_gain=0.5)
    one = ob.sample(rule, **SMALL, networks=500).counts
    assert ob.sample("kaiming_normal:output_gain=0.5", **SMALL, networks=500).counts == one
    assert ob.sample([rule], **SMALL, networks=500).counts == one
    assert ob.sample("kaiming_normal", **SMALL, networks=500).counts != one


def test_axes_are_sorted_and_freed_of_repetition():
    study = ob.sample("xavier_normal", d=[5, 1, 2, 5], l=[8, 3, 1], networks=500, seed=1)
    assert (study.config.d, study.config.l) == (SMALL["d"], SMALL["l"])
    assert study.counts == ob.sample("xavier_normal", **SMALL, networks=500, seed=1).counts


def test_a_table_does_not_change_the_study():
    study = ob.sample("xavier_normal", **SMALL, networks=500)
    table = study.table()
    table.loc[:, "obstructed"] = 0
    table.loc[0, "exact"] = 0.123
    table["more"] = 1
    assert study.table()["obstructed"].tolist() == study.counts.obstructed.ravel().tolist()
    assert "more" not in study.table()
    assert study.agreement().agrees


def test_a_study_without_networks_has_no_table():
    run = StudyRun(StudyConfig.of("xavier_normal", d=2, l=3), networks=10)
    run.count()
    study = run.study()
    assert study.complete
    empty = type(study)(study.config, Counts.zero((1, 1, 1)), (), 10)
    assert not empty.complete
    with pytest.raises(ValueError, match="networks = 0: nothing was drawn yet"):
        empty.table()


def test_studies_describe_themselves():
    study = ob.sample(BOTH, d=[2, 10], l=5, networks=1500, seed=9)
    assert repr(study) == (
        "<Study of xavier_normal, kaiming_normal: 2 x 1 cells (d, l), 1,500 networks each, "
        "nested, seed 9>"
    )
    text = study.describe()
    for words in ("xavier_normal, kaiming_normal", "d 2 to 10, l 5", "1,500 networks", "seed 9"):
        assert words in text
    assert "interrupted" not in text
    half = type(study)(study.config, study.counts, study.done, 4000)
    assert "1,500 of 4,000 (interrupted)" in half.describe()


# --- the two plans -------------------------------------------------------------------------


def correlation_p_values(plan, seeds):
    """Test all pairs of cells for correlation of their counts over seeds."""
    counts = np.array(
        [
            ob.sample(
                ["xavier_normal", "lecun_normal"],
                d=[2, 3],
                l=[3, 4],
                networks=200,
                seed=seed,
                plan=plan,
                threads=1,
            ).counts.pathological.ravel()
            for seed in seeds
        ]
    )
    cells = counts.shape[1]
    return [
        stats.pearsonr(counts[:, i], counts[:, j]).pvalue for i in range(cells) for j in range(i)
    ]


def test_cells_of_the_independent_plan_are_uncorrelated():
    """28 pairs of cells over 400 seeds; Bonferroni: one false alarm in 10⁴ runs."""
    assert min(correlation_p_values("independent", range(400))) > 1e-4 / 28


def test_cells_of_the_nested_plan_are_seen_to_be_correlated():
    assert max(correlation_p_values("nested", range(400))) < 1e-6


def test_more_threads_than_cores_are_clamped_with_a_warning():
    cores = available_threads()
    with pytest.warns(UserWarning, match=f"threads = {cores + 7}: this process may use {cores} "):
        study = ob.sample("xavier_normal", d=2, l=3, networks=10, threads=cores + 7)
    assert study.threads == cores
    assert study.counts == ob.sample("xavier_normal", d=2, l=3, networks=10, threads=1).counts
