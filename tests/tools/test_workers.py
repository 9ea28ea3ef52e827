"""Worker threads: tasks are done once each, and whatever goes wrong ends the work soon."""

from __future__ import annotations

import threading
import time

import pytest

from obstruction.tools.workers import Stop, run_on_threads


class Enough(Exception):
    pass


def workers():
    return [t for t in threading.enumerate() if t.name.startswith("obstruction")]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_task_is_done_once_and_watched_to_the_end(threads):
    done, seen, stop = [], [], Stop()
    run_on_threads(
        done.append, range(20), threads=threads, stop=stop, watch=lambda: seen.append(len(done))
    )
    assert sorted(done) == list(range(20))
    assert done == sorted(done) or threads > 1
    assert seen == sorted(seen)
    assert seen[-1] == 20
    assert not workers()


def test_no_task_is_no_work():
    run_on_threads(pytest.fail, [], threads=2, watch=pytest.fail)


def test_as_many_tasks_at_once_as_there_are_threads():
    meeting = threading.Barrier(3, timeout=20.0)
    run_on_threads(lambda task: meeting.wait(), range(3), threads=3)


def test_the_first_error_ends_the_work():
    begun, stop = [], Stop()

    def work(task):
        begun.append(task)
        if task == 3:
            raise Enough
        while task > 3 and not stop.flag[0]:
            time.sleep(0.001)

    with pytest.raises(Enough):
        run_on_threads(work, range(1000), threads=2, stop=stop)
    assert {0, 1, 2, 3} <= set(begun)
    assert len(begun) <= 6
    assert not workers()


@pytest.mark.parametrize("error", [Enough, KeyboardInterrupt])
def test_an_error_in_the_watcher_ends_the_work(error):
    stop, ended = Stop(), []

    def work(task):
        while not stop.flag[0]:
            time.sleep(0.001)
        ended.append(task)

    def watch():
        raise error

    with pytest.raises(error):
        run_on_threads(work, range(9), threads=2, stop=stop, watch=watch, watch_seconds=0.01)
    assert ended == [0, 1] or ended == [1, 0]  # which were begun
    assert not workers()


def test_workers_have_some_grace_before_they_are_told_to_break_off():
    stop, flags = Stop(), []

    def work(task):
        while not stop.asked:
            time.sleep(0.001)
        flags.append(int(stop.flag[0]))
        while task == 1 and not stop.flag[0]:
            time.sleep(0.001)

    def watch():
        raise Enough

    begun = time.perf_counter()
    with pytest.raises(Enough):
        run_on_threads(
            work, range(2), threads=2, stop=stop, watch=watch, watch_seconds=0.01, grace_seconds=0.5
        )
    assert flags == [0, 0]
    assert 0.5 <= time.perf_counter() - begun < 5.0


def test_grace_is_not_waited_for_longer_than_the_workers_need():
    def work(task):
        if task == 0:
            raise Enough

    begun = time.perf_counter()
    with pytest.raises(Enough):
        run_on_threads(work, range(10**5), threads=1, grace_seconds=30.0)
    assert time.perf_counter() - begun < 20.0


def test_nothing_is_told_to_stop_before_the_end():
    stop, seen = Stop(), []
    run_on_threads(
        lambda task: seen.append((stop.asked, *stop.flag)), range(9), threads=2, stop=stop
    )
    assert seen == [(False, 0)] * 9
