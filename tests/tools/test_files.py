"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
from pathlib import Path

import pytest

from obstruction.tools.files import replacing, unfinished, whole_file, writing_to


def put(path, data=b"new"):
    with whole_file(path) as stream:
        stream.write(data)


def test_a_file_is_made_or_replaced(tmp_path):
    path = tmp_path / "a"
    for name in (path, str(path)):
        put(name, b"one")
        assert path.read_bytes() == b"one"
        put(name, b"another")
        assert path.read_bytes() == b"another"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_can_be_read_meanwhile(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with whole_file(path) as stream:
        stream.write(b"new and " + path.read_bytes())
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new and old"


def test_a_block_that_fails_leaves_the_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    for writer in (whole_file, replacing):
        with pytest.raises(TypeError), writer(path) as stream:
            stream.write(b"new" + stream)
        with pytest.raises(TypeError), writer(path) as stream:
            stream.writelines([b"new", None])
        with pytest.raises(KeyboardInterrupt), writer(path) as stream:
            raise KeyboardInterrupt
        with pytest.raises(TypeError), writer(tmp_path / "b"):
            raise TypeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_data_is_flushed_before_it_takes_its_place(tmp_path, monkeypatch):
    """Otherwise a power cut could leave an empty file under the name of the old one."""
    path, steps = tmp_path / "a", []
    path.write_bytes(b"old")
    flush, replace = os.fsync, Path.replace

    def watched(descriptor):
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        steps.append(("folder" if folder else "data", path.read_bytes()))
        flush(descriptor)

    def placed(self, target):
        steps.append(("rename", path.read_bytes()))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", watched)
    monkeypatch.setattr(Path, "replace", placed)
    put(path)
    assert steps == [("data", b"old"), ("rename", b"old"), ("folder", b"new")]


@pytest.mark.parametrize("fault", ["fsync", "replace", "chmod", "open"])
def test_a_step_that_fails_leaves_the_file(fault, tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def refuse(*words, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os if fault == "fsync" else Path, fault, refuse)
    with pytest.raises(OSError, match="No space left on device"):
        put(path)
    with (
        pytest.raises(ValueError, match=r"^out = .*a: cannot be written \(No space left on dev"),
        replacing(path) as stream,
    ):
        stream.write(b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_kill_leaves_can_be_found(tmp_path, monkeypatch):
    class Killed(BaseException):
        """Stands for a kill: nothing can be done after it."""

    def kill(*words, **options):
        raise Killed

    path, other = tmp_path / "a [1].npz", tmp_path / "a 1.npz"
    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, kill)
    for one in (path, other):
        with pytest.raises(Killed):
            put(one)
    monkeypatch.undo()
    (left,) = unfinished(path)
    assert left.read_bytes() == b"new"
    assert left not in unfinished(other)
    put(path)
    assert unfinished(path) == [left]


def test_writers_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "a"
    with whole_file(path) as first, whole_file(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_permissions_stay(mode, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(mode)
    put(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_bytes(b"")
    put(tmp_path / "a")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_keeps_pointing_where_it_does(exists, tmp_path):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "file", tmp_path / "link"
    if exists:
        target.write_bytes(b"old")
    link.symlink_to(target)
    put(link)
    assert link.readlink() == target
    assert target.read_bytes() == b"new"
    assert {path.name for path in tmp_path.rglob("*")} == {"far", "file", "link"}


def test_a_pipe_is_written_to_and_stays(tmp_path):
    """As is ``/dev/null``, which a rename by the superuser would replace for all programs."""
    path, got = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    put(path)
    reader.join()
    assert got == [b"new"]
    assert path.is_fifo()
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written(tmp_path):
    for path, error in (
        (tmp_path, IsADirectoryError),
        (tmp_path / "none" / "a", FileNotFoundError),
        (tmp_path / ("x" * 300), OSError),
    ):
        with pytest.raises(error):
            put(path)
        with pytest.raises(ValueError, match=r"^out = .*: cannot be written \("), replacing(path):
            pass
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_system_name_the_argument():
    with (
        pytest.raises(ValueError, match=r"^out = a: cannot be written \(No luck\)$"),
        writing_to("a"),
    ):
        raise OSError("No luck")
    with pytest.raises(ValueError, match=r"^mine$"), writing_to("a"):
        raise ValueError("mine")


def test_folders_that_cannot_be_flushed_are_written_all_the_same(tmp_path, monkeypatch):
    flush = os.fsync

    def refuse(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    before = set(os.listdir("/proc/self/fd"))
    for _ in itertools.repeat(None, 3):
        put(tmp_path / "a")
    assert set(os.listdir("/proc/self/fd")) == before
    assert (tmp_path / "a").read_bytes() == b"new"
