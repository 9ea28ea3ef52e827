"""The folder of a study: ``cells.csv``, ``run.json`` and pictures, written whole or not at all.

A finished study is put in place in one step. All files are first written to a folder beside them
and flushed to the disk; then a marker appears; then the files are moved. Whoever reads while the
marker is there looks at the new files first, so a kill at any moment leaves either the old study
or the new one. While a run is going on, ``checkpoint.npz`` holds what has been counted so far.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
import platform
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

import obstruction
from obstruction.counts import Counts
from obstruction.plan import StudyConfig
from obstruction.streams import BLOCK
from obstruction.study import Study
from obstruction.validation import check_count

if TYPE_CHECKING:
    from obstruction.agreement import Agreement

CELLS: Final = "cells.csv"
RUN: Final = "run.json"
CHECKPOINT: Final = "checkpoint.npz"
PICTURES: Final = ("heatmap.png", "heatmap.pdf")
FORMAT: Final = 1

_STAGE: Final = ".obstruction-new"
_MARKER: Final = ".obstruction-commit"

Writer = Callable[[IO[bytes]], None]


def prepare(path: str | os.PathLike[str]) -> Path:
    """Make sure that a folder is there and can be written to.

    Raises
    ------
    ValueError
        If it is a file, or cannot be made or written.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out = {path}: exists and is not a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"out = {path}: cannot be written ({error.strerror})") from None
    return folder


def holds_study(path: str | os.PathLike[str]) -> bool:
    """Return whether a folder holds a study, finished or not."""
    return any((Path(path) / name).exists() for name in (RUN, CELLS, CHECKPOINT, _MARKER))


# --- writing -------------------------------------------------------------------------------


def save(
    study: Study,
    path: str | os.PathLike[str],
    pictures: Mapping[str, Writer] | None = None,
    agreement: Agreement | None = None,
) -> list[Path]:
    """Write a study and its pictures, replacing the one that is there.

    Parameters
    ----------
    study : Study
    path : path-like
        The folder; made if missing.
    pictures : mapping of str to callable, optional
        File names, and what writes each to a binary stream.
    agreement : Agreement, optional
        The verdict to note in ``run.json``.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ValueError
        If the folder cannot be written.
    """
    from obstruction import table

    def cells(stream: IO[bytes]) -> None:
        text = io.TextIOWrapper(stream, "utf-8", newline="\n")
        table.write_csv(study.table(), text)
        text.detach()

    def run(stream: IO[bytes]) -> None:
        stream.write(_to_json(_describe(study, agreement)))

    folder = prepare(path)
    writers: dict[str, Writer] = {CELLS: cells, **(pictures or {}), RUN: run}
    try:
        _commit(folder, writers)
    except OSError as error:
        raise ValueError(f"out = {path}: cannot be written ({error.strerror})") from None
    return [folder / name for name in writers]


def save_checkpoint(study: Study, path: str | os.PathLike[str], *, replace: bool = False) -> None:
    """Write what has been counted so far, in one step.

    With ``replace``, a study of another configuration that the folder holds goes away.
    """
    folder = Path(path)

    def write(stream: IO[bytes]) -> None:
        about = np.frombuffer(_to_json(_describe(study, None)), np.uint8)
        np.savez(
            stream,
            about=about,
            obstructed=study.counts.obstructed,
            pathological=study.counts.pathological,
        )

    if replace:
        for name in (RUN, CELLS, *PICTURES, CHECKPOINT):
            (folder / name).unlink(missing_ok=True)
    temporary = folder / (CHECKPOINT + ".new")
    _write(temporary, write)
    temporary.replace(folder / CHECKPOINT)
    _flush_folder(folder)


def _commit(folder: Path, writers: Mapping[str, Writer]) -> None:
    _finish(folder)
    stage = folder / _STAGE
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    for name, writer in writers.items():
        _write(stage / name, writer)
    _flush_folder(stage)
    _write(stage / _MARKER, lambda stream: None)
    (stage / _MARKER).replace(folder / _MARKER)
    _flush_folder(folder)
    _finish(folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _finish(folder: Path) -> None:
    """Complete a commit whose marker is there."""
    if not (folder / _MARKER).exists():
        return
    stage = folder / _STAGE
    for file in sorted(stage.iterdir()) if stage.exists() else []:
        file.replace(folder / file.name)
    _flush_folder(folder)
    shutil.rmtree(stage, ignore_errors=True)
    (folder / _MARKER).unlink()


def _write(path: Path, writer: Writer) -> None:
    with path.open("wb") as stream:
        writer(stream)
        stream.flush()
        os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every system can
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _to_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _describe(study: Study, agreement: Agreement | None) -> dict[str, Any]:
    config = study.config
    rate = study.networks / study.seconds if study.seconds > 0.0 else None
    return {
        "format": FORMAT,
        "version": obstruction.__version__,
        "schemes": [
            {"label": scheme.label, "name": scheme.name, "options": dict(scheme.options)}
            for scheme in config.schemes
        ],
        "d": list(config.d),
        "l": list(config.l),
        "seed": config.seed,
        "plan": config.plan,
        "block": BLOCK,
        "networks": study.networks,
        "networks_wanted": study.target,
        "done": [list(piece) for piece in study.done],
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(study.seconds, 3),
        "networks_per_second": None if rate is None else round(rate, 1),
        "threads": study.threads,
        "machine": {
            "processor": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
            **{name: _installed(name) for name in ("numpy", "scipy", "numba")},
        },
        "agreement": None if agreement is None else agreement.to_dict(),
    }


def _installed(name: str) -> str:
    import importlib.metadata

    return importlib.metadata.version(name)


# --- reading -------------------------------------------------------------------------------


def load(path: str | os.PathLike[str]) -> Study:
    """Read the study in a folder.

    Parameters
    ----------
    path : path-like
        A folder that `obstruction run` wrote. If its run was interrupted, the study holds what had
        been counted (`Study.complete` is False).

    Returns
    -------
    Study
        Everything in it follows from the saved counts.

    Raises
    ------
    ValueError
        If the folder holds no study or a damaged one; names the file, and the line where it can.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ValueError(f"{path}: no such folder")
    if not holds_study(folder):
        raise ValueError(f"{path}: holds no study (neither {RUN} nor {CHECKPOINT})")
    finished = _load_finished(folder) if _place(folder, RUN).exists() else None
    started = _load_checkpoint(folder) if (folder / CHECKPOINT).exists() else None
    studies = [study for study in (finished, started) if study is not None]
    if not studies:
        raise ValueError(f"{folder / RUN}: is missing")
    return max(studies, key=lambda study: study.networks)


def _place(folder: Path, name: str) -> Path:
    """Return where a file of the current study is: staged, if a commit was cut short."""
    staged = folder / _STAGE / name
    return staged if (folder / _MARKER).exists() and staged.exists() else folder / name


def _load_finished(folder: Path) -> Study:
    from obstruction import table

    path = _place(folder, RUN)
    try:
        about = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: {error.msg}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8 text") from None
    config, study = _understand(path, about)
    cells = _place(folder, CELLS)
    return study(table.read_counts(cells, config, _networks(path, about)))


def _load_checkpoint(folder: Path) -> Study:
    path = folder / CHECKPOINT
    try:
        with np.load(path, allow_pickle=False) as data:
            about = json.loads(data["about"].tobytes())
            obstructed = data["obstructed"].astype(np.int64, casting="safe")
            pathological = data["pathological"].astype(np.int64, casting="safe")
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: damaged ({error})") from None
    config, study = _understand(path, about)
    if not obstructed.shape == pathological.shape == config.shape:
        raise ValueError(f"{path}: damaged (counts of shape {obstructed.shape})")
    return study(Counts(_networks(path, about), obstructed, pathological))


def _understand(path: Path, about: Any) -> tuple[StudyConfig, Callable[[Counts], Study]]:
    """Read a description written by `_describe`."""
    try:
        if about["format"] != FORMAT or about["block"] != BLOCK:
            raise ValueError(f"format {about['format']}, written by version {about['version']}")
        schemes = [_scheme(entry) for entry in about["schemes"]]
        config = StudyConfig.of(
            schemes, d=about["d"], l=about["l"], seed=about["seed"], plan=about["plan"]
        )
        done = tuple((int(start), int(stop)) for start, stop in about["done"])
        if sum(stop - start for start, stop in done) != about["networks"] or any(
            not 0 <= start < stop for start, stop in done
        ):
            raise ValueError(f"done = {about['done']} are not {about['networks']} networks")
        target = check_count("networks_wanted", about["networks_wanted"])
        seconds, threads = float(about["seconds"]), int(about["threads"])
    except KeyError as error:
        raise ValueError(f"{path}: damaged ({error} is missing)") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None
    return config, lambda counts: Study(config, counts, done, target, seconds, threads)


def _scheme(entry: Any) -> Any:
    from obstruction.schemes import scheme

    made = scheme(entry["name"], **entry["options"])
    if made.label != entry["label"]:
        raise ValueError(f"scheme {entry['label']!r} does not fit its options")
    return made


def _networks(path: Path, about: Any) -> int:
    try:
        return check_count("networks", about["networks"])
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error})") from None
