"""One writer a folder: a lock that a process holds while it works on an output folder.

The lock is one of the operating system (`filelock.lock_descriptor`) on a hidden file of the folder,
which names its owner and is removed at the end. The system releases it when the process ends in
whatever way, so a file that a killed process left behind locks nothing.

On network file systems the lock is as good as their ``flock``. NFS of Linux passes it on to the
server, unless the folder is mounted with ``nolock`` or ``local_lock``; then, and with Lustre's
``localflock``, processes of the same host alone see it. Where there is no ``flock`` at all, a
marker file takes its place (`filelock.SoftFileLock`). A process that was killed leaves it behind,
and only processes of the same host can tell that it is stale.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil
from filelock import SoftFileLock, Timeout, lock_descriptor

from obstruction.tools.files import writing_to

LOCK: Final = ".obstruction-lock"
"""The file that is locked, which names the owner."""

MARKER: Final = ".obstruction-lock-marker"
"""The file that takes the place of a lock where the file system has none."""

_NO_LOCKS: Final = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
_TRIES: Final = 100
_LONGEST: Final = 200


class FolderInUse(ValueError):
    """The error that another process or thread works on a folder."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lock, or held it when it was killed.

    Attributes
    ----------
    host : str
    pid : int
    started : str
        When the lock was taken, as ISO 8601.
    command : str
        The command line, shortened.
    """

    host: str
    pid: int
    started: str
    command: str

    @classmethod
    def present(cls) -> Owner:
        """Return this process."""
        name = Path(sys.argv[0]).name if sys.argv else ""
        words = " ".join(" ".join([name, *sys.argv[1:]]).split())
        short = words if len(words) <= _LONGEST else words[: _LONGEST - 3] + "..."
        now = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        return cls(platform.node(), os.getpid(), now, short)

    @property
    def is_gone(self) -> bool:
        """Whether the process is known to have ended, which only its own host can tell."""
        return self.host == platform.node() and not psutil.pid_exists(self.pid)

    def __str__(self) -> str:
        command = f" ({self.command})" if self.command else ""
        return f"process {self.pid} on {self.host or 'this host'} since {self.started}{command}"


class FolderLock:
    """A lock on a folder, which `only_writer` takes and releases.

    Attributes
    ----------
    path : Path
        The folder.
    left_by : Owner or None
        A process that held the lock and has ended without releasing it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left_by: Owner | None = None
        self._descriptor = -1
        self._marker: SoftFileLock | None = None
        self._made = False

    def acquire(self) -> None:
        """Take the lock, and make the folder if it does not exist.

        Raises
        ------
        FolderInUse
            If another one holds it.
        OSError
            If the folder cannot be written.
        """
        for _ in range(_TRIES):
            self._made |= not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                self._descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:  # the folder was removed since
                continue
            try:
                locked = self._locked()
                if locked and self.is_there:
                    self.left_by = _read(self._descriptor)
                    self._sign()
                    return
            except BaseException:
                self._close()
                raise
            self._close()
            if not locked:
                raise FolderInUse(f"is in use by {self._holder()}")
        raise OSError(errno.EBUSY, "others make and remove it all the time")

    def release(self) -> None:
        """Give the lock back, remove its file, and remove the folder if it was made for nothing."""
        if self.is_there:
            with contextlib.suppress(OSError):
                os.unlink(self.path / LOCK)  # before it is unlocked, so that it is nobody else's
        self._close()
        if self._made:
            with contextlib.suppress(OSError):  # it is not empty
                os.rmdir(self.path)

    def renew(self) -> bool:
        """Take the lock again if the folder was removed or replaced; return whether it was.

        The errors are those of `acquire`.
        """
        if self.is_there:
            return False
        self._close()
        self.acquire()
        return True

    def abandon(self) -> None:
        """Close the file in a child process, which does not hold the lock."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
        self._descriptor, self._marker = -1, None

    @property
    def is_there(self) -> bool:
        """Whether the open file is the one that the folder has now."""
        try:
            return os.path.samestat(os.stat(self.path / LOCK), os.fstat(self._descriptor))
        except OSError:
            return False

    def _locked(self) -> bool:
        try:
            return lock_descriptor(self._descriptor, blocking=False)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        marker = SoftFileLock(self.path / MARKER)
        try:
            marker.acquire(timeout=0)
        except Timeout:
            return False
        self._marker = marker
        return True

    def _sign(self) -> None:
        """Write who holds the lock, after a byte that Windows lets nobody else read."""
        text = " " + json.dumps(asdict(Owner.present())) + "\n"
        with contextlib.suppress(OSError):  # a full disk; the lock holds without it
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, text.encode())

    def _holder(self) -> str:
        """Return in words who holds the lock, which may be about to say so."""
        owner = None
        for _ in range(10):
            with contextlib.suppress(OSError):
                descriptor = os.open(self.path / LOCK, os.O_RDONLY)
                try:
                    owner = _read(descriptor)
                finally:
                    os.close(descriptor)
            if owner is not None and not owner.is_gone:
                return str(owner)
            time.sleep(0.02)
        return "another process" if owner is None else f"another process, started by {owner}"

    def _close(self) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)  # unlocks it
        if self._marker is not None:
            self._marker.release()
        self._descriptor, self._marker = -1, None


def _read(descriptor: int) -> Owner | None:
    """Return the owner that a lock file names, None if it names none."""
    try:
        os.lseek(descriptor, 1, os.SEEK_SET)
        entries = json.loads(os.read(descriptor, 10_000))
        return Owner(
            str(entries["host"]),
            int(entries["pid"]),
            str(entries["started"]),
            str(entries["command"]),
        )
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


_held: dict[tuple[str, int], FolderLock] = {}
"""The locks that threads of this process hold, by the real path and the thread."""


def _forget() -> None:
    for lock in _held.values():
        lock.abandon()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@contextlib.contextmanager
def only_writer(out: str | os.PathLike[str]) -> Iterator[FolderLock]:
    """Hold the lock of a folder in the block; the folder is made if it does not exist.

    A thread may enter several blocks about the same folder, one within another. If the folder was
    removed since, it is then made and locked again. A folder that was made for the block and is
    empty at its end is removed.

    Raises
    ------
    FolderInUse
        If another process or thread holds the lock. The message says which one, and since when.
    ValueError
        If the folder cannot be written.
    """
    key = os.path.realpath(out), threading.get_ident()
    outer = _held.get(key)
    lock = FolderLock(Path(key[0])) if outer is None else outer
    try:
        with writing_to(out):
            if lock.path.exists() and not lock.path.is_dir():
                raise ValueError(f"out = {out}: exists and is not a folder")
            lock.renew()
    except FolderInUse as error:
        advice = "wait until it has ended, or name another folder"
        raise FolderInUse(f"out = {out}: {error}; {advice}") from None
    if outer is not None:
        yield outer
        return
    _held[key] = lock
    try:
        yield lock
    finally:
        _held.pop(key, None)
        lock.release()
