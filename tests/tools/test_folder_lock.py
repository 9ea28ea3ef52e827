"""One writer a folder: who holds the lock, what a kill leaves, and folders that go away."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from obstruction.tools import folder_lock
from obstruction.tools.folder_lock import LOCK, MARKER, FolderInUse, only_writer

HOLDER = """
import sys, time
from obstruction.tools import folder_lock
if sys.argv[2:] == ["without"]:
    def no_locks(*words, **options):
        raise OSError(38, "Function not implemented")
    folder_lock.lock_descriptor = no_locks
with folder_lock.only_writer(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds the lock of a folder."""
    processes = []

    def start(path, *words):
        line = [sys.executable, "-c", HOLDER, str(path), *words]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_folder_is_made_and_left_as_it_was(tmp_path):
    path = tmp_path / "a" / "b"
    with only_writer(path) as lock:
        assert os.listdir(path) == [LOCK]
        assert lock.left_by is None
        entries = json.loads((path / LOCK).read_text())
        assert entries["pid"] == os.getpid()
        assert entries["command"]
    assert not path.exists()
    with only_writer(path):
        (path / "mine").touch()
    assert os.listdir(path) == ["mine"]
    (path / "mine").unlink()
    with only_writer(path):
        pass
    assert os.listdir(path) == []  # it was not made for the block


@pytest.mark.parametrize("words", [(), ("without",)])
def test_another_process_is_refused_and_told_who_holds_it(words, holder, tmp_path, monkeypatch):
    if words:
        monkeypatch.setattr(folder_lock, "lock_descriptor", no_locks)
    folder, link = tmp_path / "a", tmp_path / "link"
    first = holder(folder, *words)
    link.symlink_to(folder)
    for path in (folder, link):
        with pytest.raises(FolderInUse, match=f"in use by process {first.pid} on ") as caught:
            only_writer(path).__enter__()
        assert str(caught.value).startswith(f"out = {path}: ")
        assert " since 2" in str(caught.value)
        assert "\n" not in str(caught.value)
    first.kill()
    first.wait()
    with only_writer(folder) as lock:
        assert lock.left_by.pid == first.pid
        assert lock.left_by.is_gone
        assert json.loads((folder / LOCK).read_text())["pid"] == os.getpid()
    assert os.listdir(folder) == []


def no_locks(*words, **options):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def test_without_locks_a_marker_takes_their_place(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, "lock_descriptor", no_locks)
    with only_writer(tmp_path):
        assert set(os.listdir(tmp_path)) == {LOCK, MARKER}
    assert os.listdir(tmp_path) == []


def test_other_errors_of_the_lock_are_told(tmp_path, monkeypatch):
    def fails(*words, **options):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(folder_lock, "lock_descriptor", fails)
    with pytest.raises(ValueError, match=r"^out = .*: cannot be written \(Input/output error\)"):
        only_writer(tmp_path).__enter__()


@pytest.mark.parametrize("text", ["", "torn", "[]", '{"pid": 1}', " {\n", "\0\0", '{"pid": []}'])
def test_a_file_that_names_nobody_locks_nothing(text, tmp_path):
    (tmp_path / LOCK).write_text(text)
    with only_writer(tmp_path) as lock:
        assert lock.left_by is None
    assert os.listdir(tmp_path) == []


def test_blocks_within_blocks_and_threads(tmp_path):
    refused = []

    def other():
        try:
            with only_writer(tmp_path):
                pass
        except FolderInUse as error:
            refused.append(str(error))

    with only_writer(tmp_path) as outer:
        with only_writer(str(tmp_path)) as inner:
            assert inner is outer
        assert outer.is_there
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert f"process {os.getpid()} " in refused[0]
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert len(refused) == 1


def test_a_folder_that_was_removed_is_made_and_locked_again(tmp_path, holder):
    path = tmp_path / "a"
    with only_writer(path) as lock:
        shutil.rmtree(path)
        with only_writer(path) as inner:
            assert inner is lock
            assert os.listdir(path) == [LOCK]
        assert not lock.renew()
        shutil.rmtree(path)
        other = holder(path)
        with pytest.raises(FolderInUse, match=f"process {other.pid} "):
            lock.renew()
        assert (path / LOCK).exists()
    assert (path / LOCK).exists()  # it belongs to the other process


def test_a_signal_gives_the_lock_back(tmp_path, holder):
    first = holder(tmp_path / "a")
    first.send_signal(signal.SIGINT)
    first.wait(timeout=60)
    assert not (tmp_path / "a").exists()


def test_a_child_does_not_hold_the_lock_of_its_parent(tmp_path):
    code = """
import os, sys
from obstruction.tools.folder_lock import only_writer
with only_writer(sys.argv[1]):
    child = os.fork()
    if child == 0:
        try:
            with only_writer(sys.argv[1]):
                os._exit(1)
        except ValueError:
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert os.path.exists(sys.argv[1] + "/.obstruction-lock")
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
