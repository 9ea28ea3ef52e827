"""The results folder of a study: ``cells.csv``, ``run.json`` and the pictures.

A study replaces an older one in a single step. Its files are first written to a hidden folder
within the results folder. Then an empty file, the marker, is made, and only after that are the new
files moved to their places. As long as the marker exists, the files of the hidden folder are read
in place of the older ones. A kill at any moment therefore leaves the whole old study or the whole
new one.

During a run, ``checkpoint.npz`` holds the counts so far. If the folder also holds a finished study,
the checkpoint either continues that study or belongs to a run that will replace it.

Whatever writes to the folder holds its lock (`obstruction.tools.folder_lock`), and a run holds it
from the beginning to the end. Unfinished files that the next holder finds are those of a killed
process, and it removes them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from obstruction.sampling.config import StudyConfig
from obstruction.sampling.counts import Counts
from obstruction.studies.run_file import Damage, describe, described_study, read_run
from obstruction.studies.study import Study
from obstruction.tools.files import flush_folder, unfinished, whole_file, writing_to
from obstruction.tools.folder_lock import FolderLock, only_writer

if TYPE_CHECKING:
    from obstruction.studies.verdict import Agreement

CELLS: Final = "cells.csv"
RUN: Final = "run.json"
CHECKPOINT: Final = "checkpoint.npz"
PICTURES: Final = ("heatmap.png", "heatmap.pdf")

_OTHERS: Final = ("laws.csv",)
"""Files of a study of models, which have no meaning beside a study of (d, l)."""

_READINGS: Final = 5
"""How often a study is read again that a run replaced meanwhile."""

_STAGE: Final = ".obstruction-new"
_MARKER: Final = ".obstruction-commit"


def prepare(path: str | os.PathLike[str]) -> Path:
    """Make sure that a folder can be written to, and clear up what a killed process left there.

    A commit that it began is completed, and unfinished files are removed. Who needs the folder to
    exist afterwards holds its lock.
    """
    folder = _folder(path)
    with only_writer(path), writing_to(path):
        with tempfile.TemporaryFile(dir=folder):
            pass
        _finish(folder)
        _clear(folder)
    return folder


def _clear(folder: Path) -> None:
    """Remove the unfinished files of a process that was killed."""
    for name in (RUN, CELLS, CHECKPOINT, *PICTURES, *_OTHERS):
        for file in unfinished(folder / name):
            file.unlink(missing_ok=True)
    if (folder / _STAGE).exists():
        shutil.rmtree(folder / _STAGE)


def holds_study(path: str | os.PathLike[str]) -> bool:
    """Return whether a folder, which must be readable, holds a study, finished or not."""
    folder = _folder(path)
    try:
        return any((folder / name).exists() for name in (RUN, CELLS, CHECKPOINT, _MARKER))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None


def in_the_way(path: str | os.PathLike[str]) -> list[str]:
    """Return the names of the files in a folder that saving a study would replace."""
    return [name for name in (RUN, CELLS, *PICTURES) if (_folder(path) / name).exists()]


def _folder(path: str | os.PathLike[str]) -> Path:
    if not os.fspath(path):
        raise ValueError("the name of the folder is empty")
    return Path(path)


# --- writing -------------------------------------------------------------------------------


def save(
    study: Study,
    path: str | os.PathLike[str],
    pictures: Mapping[str, bytes] | None = None,
    agreement: Agreement | None = None,
) -> list[Path]:
    """Write a study to a folder, in place of the study that it holds, and return the files written.

    The ``pictures`` are the names of further files and their contents. The verdict is recorded in
    ``run.json``. The folder is made if it does not exist.
    """
    from obstruction.studies.cells_file import write_cells

    folder, pictures = _folder(path), pictures or {}
    with only_writer(path), writing_to(path):
        prepare(path)
        with _commit(folder) as stage:
            with whole_file(stage / CELLS) as stream:
                write_cells(study.table(), stream)
            for name, data in (*pictures.items(), (RUN, describe(study, agreement))):
                with whole_file(stage / name) as stream:
                    stream.write(data)
    return [folder / name for name in (CELLS, *pictures, RUN)]


def save_checkpoint(study: Study, path: str | os.PathLike[str], *, replace: bool = False) -> None:
    """Write the counts of an unfinished study, but no estimates, to a folder.

    With ``replace``, the finished study that the folder holds is deleted.
    """
    folder, counted = Path(path), dataclasses.replace(study, rare=None)
    with only_writer(path), writing_to(path):
        with whole_file(folder / CHECKPOINT) as stream:
            np.savez(
                stream,
                about=np.frombuffer(describe(counted), np.uint8),
                obstructed=study.counts.obstructed,
                pathological=study.counts.pathological,
            )
        for name in (RUN, CELLS, *PICTURES, *_OTHERS) if replace else ():
            (folder / name).unlink(missing_ok=True)


class OwnFolder:
    """The folder of a run, which is made again if it was removed while the run goes on.

    Parameters
    ----------
    out : path-like
        The folder, as the user names it.
    lock : FolderLock
        The lock that this thread holds on it.
    tell : callable
        A function that is called with a line if the folder is made again.
    """

    def __init__(
        self, out: str | os.PathLike[str], lock: FolderLock, tell: Callable[[str], object]
    ) -> None:
        self._out, self._lock, self._tell = out, lock, tell
        self._lost = ""

    def ensure(self) -> bool:
        """Make the folder again if it is gone, and return whether it was.

        Raises
        ------
        ValueError
            If it cannot be made, or another study has been put in its place.
        """
        with writing_to(self._out):
            made_again = self._lock.renew()
        if made_again:
            if holds_study(self._out) or in_the_way(self._out):
                self._lost = f"out = {self._out}: was removed, and another study is there now"
            else:
                self._tell(f"out = {self._out}: was removed; it is made again")
        if self._lost:
            raise ValueError(self._lost)
        return made_again


Written = TypeVar("Written")


def rescued(
    out: str | os.PathLike[str], write: Callable[[Path], Written]
) -> tuple[Path, Written] | None:
    """Write what cannot be written to the folder ``out`` to a new folder elsewhere.

    That is made beside it or else in the folder for temporary files, the current one or the user's.

    Returns
    -------
    tuple or None
        The new folder and what ``write`` returned for it. None if nothing can be written anywhere.
    """
    name = Path(os.path.realpath(out)).name or "study"
    for parent in (os.path.dirname(os.path.realpath(out)), *_elsewhere()):
        try:
            place = Path(tempfile.mkdtemp(prefix=f"{name}-rescued-", dir=parent))
        except OSError:
            continue
        try:
            return place, write(place)
        except (ValueError, OSError):
            shutil.rmtree(place, ignore_errors=True)
    return None


def _elsewhere() -> Iterator[str]:
    for find in (tempfile.gettempdir, os.getcwd, lambda: os.path.expanduser("~")):
        with contextlib.suppress(OSError):
            yield find()


@contextlib.contextmanager
def _commit(folder: Path) -> Iterator[Path]:
    """Yield an empty hidden folder; after the block, put its files in their places in one step."""
    stage = folder / _STAGE
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    try:
        yield stage
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    (folder / _MARKER).touch()
    flush_folder(folder)
    _finish(folder)


def _finish(folder: Path) -> None:
    """Complete a commit if its marker exists."""
    if not (folder / _MARKER).exists():
        return
    stage = folder / _STAGE
    for file in sorted(stage.iterdir()) if stage.exists() else []:
        file.replace(folder / file.name)
    others = (folder / name for name in _OTHERS)
    for file in (folder / CHECKPOINT, *unfinished(folder / CHECKPOINT), *others):
        file.unlink(missing_ok=True)
    flush_folder(folder)
    shutil.rmtree(stage, ignore_errors=True)
    (folder / _MARKER).unlink()


# --- reading -------------------------------------------------------------------------------


def load(path: str | os.PathLike[str]) -> Study:
    """Read the study in a folder.

    Parameters
    ----------
    path : path-like
        A folder that ``obstruction run`` wrote. If its run was interrupted, the study holds what
        had been counted until then, and `Study.complete` is False.

    Returns
    -------
    Study
        The study with the saved counts and estimates, from which everything else follows.

    Raises
    ------
    ValueError
        If the folder holds no study or a damaged one. The message names the file and, where
        possible, the line.
    """
    for _ in range(_READINGS):
        before = _state(path)
        try:
            return _loaded(path)
        except ValueError:
            if _state(path) == before:
                raise
    return _loaded(path)


def _state(path: str | os.PathLike[str]) -> list[tuple[int, ...] | None]:
    """Return what changes when a run replaces the files of a study, which may be in between."""
    found: list[tuple[int, ...] | None] = []
    for name in (RUN, CELLS, CHECKPOINT, _MARKER, _STAGE):
        try:
            status = os.stat(Path(path) / name)
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        except (OSError, ValueError):
            found.append(None)
    return found


def _loaded(path: str | os.PathLike[str]) -> Study:
    found = holds_study(path)
    folder = Path(path)
    if not folder.is_dir():
        raise ValueError(f"{path}: {'is not a' if folder.exists() else 'no such'} folder")
    if not found:
        raise ValueError(f"{path}: holds no study (neither {RUN} nor {CHECKPOINT})")
    superseded = (folder / _MARKER).exists() or not (folder / CHECKPOINT).exists()
    started = None if superseded else _load_checkpoint(folder)
    finished = _load_finished(folder) if _place(folder, RUN).exists() else None
    studies = [study for study in (finished, started) if study is not None]
    if not studies:
        raise ValueError(f"{folder / RUN}: is missing")
    if finished and started and finished.config != started.config:
        return started
    return max(studies, key=lambda study: study.networks)


def _place(folder: Path, name: str) -> Path:
    """Return the path of a file of the current study; a commit may not have moved it yet."""
    staged = folder / _STAGE / name
    return staged if (folder / _MARKER).exists() and staged.exists() else folder / name


def _load_finished(folder: Path) -> Study:
    from obstruction.studies.cells_file import read_cells

    path = _place(folder, RUN)
    entries, text = read_run(path)
    if isinstance(entries, dict) and entries.get("kind", "") == "models":
        raise ValueError(f"{path}: is a study of models, and not of (d, l)")
    try:
        return described_study(entries, partial(read_cells, _place(folder, CELLS)))
    except Damage as damage:
        raise ValueError(f"{path}{damage.line(text)}: damaged ({damage})") from None


def _member(archive: Mapping[str, Any], name: str) -> NDArray[Any]:
    """Return an array of an archive, in which NumPy returns the bytes of what is none."""
    member = archive[name]
    if not isinstance(member, np.ndarray):
        raise ValueError(f"{name} is no array")
    return member


def _load_checkpoint(folder: Path) -> Study:
    path = folder / CHECKPOINT
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            entries = json.loads(_member(data, "about").tobytes())
            obstructed, pathological = (
                _member(data, name).astype(np.int64, casting="safe")
                for name in ("obstructed", "pathological")
            )
    except Exception as error:  # there are many ways in which NumPy fails to read a damaged file
        said = str(error).partition(". If you trust")[0].partition(": <ast.")[0]
        why = " ".join(said.split()) or type(error).__name__
        raise ValueError(f"{path}: damaged ({why})") from None

    def counts(config: StudyConfig, networks: int) -> tuple[Counts, None]:
        if not obstructed.shape == pathological.shape == config.shape:
            raise Damage("", f"counts of shape {obstructed.shape}")
        return Counts(networks, obstructed, pathological), None

    try:
        return described_study(entries, counts)
    except Damage as damage:
        raise ValueError(f"{path}: damaged ({damage})") from None
