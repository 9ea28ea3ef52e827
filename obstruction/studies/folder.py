"""The folder of a study: ``cells.csv``, ``run.json`` and pictures, written whole or not at all.

A finished study is put in place in one step. All files are first written to a folder beside them
and flushed to the disk; then a marker appears; then the files are moved. Whoever reads while the
marker is there looks at the new files first, so a kill at any moment leaves either the old study
or the new one. While a run is going on, ``checkpoint.npz`` holds what has been counted so far; it
is of the study beside it, which it continues, or of one that is about to replace that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import io
import json
import math
import os
import platform
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from obstruction.sampling.config import PLANS, StudyConfig
from obstruction.sampling.counts import Counts
from obstruction.sampling.streams import BLOCK
from obstruction.schemes import InitScheme, as_schemes, scheme
from obstruction.studies.rare_cells import ESTIMATORS, Rare
from obstruction.studies.study import Study
from obstruction.tools.checks import check_axis, check_choice, check_count, check_seed
from obstruction.tools.version import __version__

if TYPE_CHECKING:
    from obstruction.studies.verdict import Agreement

CELLS: Final = "cells.csv"
RUN: Final = "run.json"
CHECKPOINT: Final = "checkpoint.npz"
PICTURES: Final = ("heatmap.png", "heatmap.pdf")
FORMAT: Final = 2

_STAGE: Final = ".obstruction-new"
_MARKER: Final = ".obstruction-commit"

Writer = Callable[[IO[bytes]], None]


def prepare(path: str | os.PathLike[str]) -> Path:
    """Make sure that a folder is there and can be written to; complete what a kill cut short.

    Raises
    ------
    ValueError
        If it is a file, or cannot be made or written.
    """
    folder = _named(path)
    try:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"out = {path}: exists and is not a folder")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        _finish(folder)
    except OSError as error:
        raise ValueError(f"out = {path}: cannot be written ({error.strerror})") from None
    return folder


def holds_study(path: str | os.PathLike[str]) -> bool:
    """Return whether a folder holds a study, finished or not.

    Raises
    ------
    ValueError
        If the system does not allow to look.
    """
    folder = _named(path)
    try:
        return any((folder / name).exists() for name in (RUN, CELLS, CHECKPOINT, _MARKER))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None


def in_the_way(path: str | os.PathLike[str]) -> list[str]:
    """Return the names of files in a folder that saving a study would replace."""
    return [name for name in (RUN, CELLS, *PICTURES) if (_named(path) / name).exists()]


def _named(path: str | os.PathLike[str]) -> Path:
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
    """Write a study and its pictures, replacing the one that is there.

    Parameters
    ----------
    study : Study
    path : path-like
        The folder; made if missing.
    pictures : mapping of str to bytes, optional
        Names of further files, and what they hold.
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
    from obstruction.studies import table

    def cells(stream: IO[bytes]) -> None:
        text = io.TextIOWrapper(stream, "utf-8", newline="\n")
        table.write_csv(study.table(), text)
        text.detach()

    def run(stream: IO[bytes]) -> None:
        stream.write(_to_json(_describe(study, agreement)))

    folder = prepare(path)
    drawn = {name: _content(data) for name, data in (pictures or {}).items()}
    writers: dict[str, Writer] = {CELLS: cells, **drawn, RUN: run}
    try:
        _commit(folder, writers)
    except OSError as error:
        raise ValueError(f"out = {path}: cannot be written ({error.strerror})") from None
    return [folder / name for name in writers]


def _content(data: bytes) -> Writer:
    def write(stream: IO[bytes]) -> None:
        stream.write(data)

    return write


def save_checkpoint(study: Study, path: str | os.PathLike[str], *, replace: bool = False) -> None:
    """Write what has been counted so far, in one step; without estimates of rare cells.

    With ``replace``, the finished study that the folder holds goes away.
    """
    folder, counted = Path(path), dataclasses.replace(study, rare=None)

    def write(stream: IO[bytes]) -> None:
        about = np.frombuffer(_to_json(_describe(counted, None)), np.uint8)
        np.savez(
            stream,
            about=about,
            obstructed=study.counts.obstructed,
            pathological=study.counts.pathological,
        )

    temporary = folder / (CHECKPOINT + ".new")
    _write(temporary, write)
    temporary.replace(folder / CHECKPOINT)
    _flush_folder(folder)
    if replace:
        for name in (RUN, CELLS, *PICTURES):
            (folder / name).unlink(missing_ok=True)


def _commit(folder: Path, writers: Mapping[str, Writer]) -> None:
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


def _finish(folder: Path) -> None:
    """Complete a commit whose marker is there."""
    if not (folder / _MARKER).exists():
        return
    stage = folder / _STAGE
    for file in sorted(stage.iterdir()) if stage.exists() else []:
        file.replace(folder / file.name)
    for name in (CHECKPOINT, CHECKPOINT + ".new"):
        (folder / name).unlink(missing_ok=True)
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
        "version": __version__,
        "schemes": [
            {"label": scheme.label, "name": scheme.name, "options": dict(scheme.options)}
            for scheme in config.schemes
        ],
        "d": list(config.d),
        "l": list(config.l),
        "seed": config.seed,
        "plan": config.plan,
        "block": BLOCK,
        "estimator": study.estimator,
        "samples": study.samples,
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
            **{name: import_module(name).__version__ for name in ("numpy", "scipy", "numba")},
        },
        "agreement": None if agreement is None else agreement.to_dict(),
        "digest": _digest(study),
    }


def _digest(study: Study) -> str:
    """Return a checksum of what was sampled and what was counted, so that they stay together."""
    config, counts, rare = study.config, study.counts, study.rare
    sampled = [
        [scheme.label for scheme in config.schemes],
        config.d,
        config.l,
        config.seed,
        config.plan,
        counts.networks,
        study.estimator,
        study.samples,
    ]
    digest = hashlib.sha256(json.dumps(sampled).encode())
    for array in (counts.obstructed, counts.pathological):
        digest.update(np.ascontiguousarray(array, "<i8").tobytes())
    if rare is not None:
        digest.update(np.packbits(rare.where).tobytes())
        for field in dataclasses.fields(rare.estimate):
            values = np.asarray(getattr(rare.estimate, field.name), "<f8") + 0.0  # no -0.0
            digest.update(np.where(np.isnan(values), np.nan, values).tobytes())
    return digest.hexdigest()


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
    """Return where a file of the current study is: staged, if a commit was cut short."""
    staged = folder / _STAGE / name
    return staged if (folder / _MARKER).exists() and staged.exists() else folder / name


def _load_finished(folder: Path) -> Study:
    from obstruction.studies import table

    path = _place(folder, RUN)
    try:
        text = path.read_bytes().decode()
        about = json.loads(text)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: damaged ({error.msg})") from None
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {number}: damaged (is not UTF-8 text)") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{path}: damaged (is not a JSON text)") from None
    try:
        config, networks, study = _understand(about)
        return study(*table.read_cells(_place(folder, CELLS), config, networks))
    except _Damage as damage:
        raise ValueError(f"{path}{damage.line(text)}: damaged ({damage})") from None


def _load_checkpoint(folder: Path) -> Study:
    path = folder / CHECKPOINT
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            about = json.loads(data["about"].tobytes())
            obstructed = data["obstructed"].astype(np.int64, casting="safe")
            pathological = data["pathological"].astype(np.int64, casting="safe")
    except _NOT_A_CHECKPOINT as error:
        why = str(error).partition(". If you trust")[0]
        raise ValueError(f"{path}: damaged ({why})") from None
    try:
        config, networks, study = _understand(about)
        if not obstructed.shape == pathological.shape == config.shape:
            raise _Damage("", f"counts of shape {obstructed.shape}")
        return study(Counts(networks, obstructed, pathological), None)
    except _Damage as damage:
        raise ValueError(f"{path}: damaged ({damage})") from None


_NOT_A_CHECKPOINT: Final = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    MemoryError,
    RecursionError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy raises when a file is not one that it wrote."""


class _Damage(ValueError):
    """A description that `_describe` did not write: the entry at fault and the reason."""

    def __init__(self, entry: str, why: str) -> None:
        super().__init__(why)
        self.entry = entry

    def line(self, text: str) -> str:
        """Return where in the text of the description the entry stands."""
        for number, line in enumerate(text.splitlines(), start=1):
            if line.lstrip(" {").startswith(f'"{self.entry}":'):
                return f", line {number}"
        return ""


def _understand(about: Any) -> tuple[StudyConfig, int, Callable[[Counts, Rare | None], Study]]:
    """Read a description written by `_describe`: configuration, networks, and the study to fill."""
    if not isinstance(about, dict):
        raise _Damage("", "is not a JSON object")

    def entry(name: str, read: Callable[[Any], Any]) -> Any:
        if name not in about:
            raise _Damage("", f"{name!r} is missing")
        try:
            return read(about[name])
        except KeyError as error:
            raise _Damage(name, f"{name}: {error} is missing") from None
        except (TypeError, ValueError, OverflowError) as error:
            why = str(error)
            raise _Damage(name, why if name in why else f"{name}: {why}") from None

    entry("format", _known_format)
    entry("block", _known_block)
    config = StudyConfig(
        entry("schemes", lambda entries: as_schemes([_scheme(one) for one in entries])),
        entry("d", lambda sizes: check_axis("d", sizes)),
        entry("l", lambda sizes: check_axis("l", sizes)),
        entry("seed", check_seed),
        entry("plan", lambda plan: check_choice("plan", plan, PLANS)),
    )
    networks = entry("networks", lambda count: check_count("networks", count))
    target = entry("networks_wanted", lambda count: check_count("networks_wanted", count))
    done = entry("done", lambda ranges: _ranges(ranges, networks))
    seconds = entry("seconds", _seconds)
    threads = entry("threads", lambda count: check_count("threads", count))
    estimator = entry("estimator", lambda name: check_choice("estimator", name, ESTIMATORS))
    samples = entry("samples", lambda count: check_count("samples", count, least=2))
    digest = entry("digest", str)

    def fill(counts: Counts, rare: Rare | None) -> Study:
        study = Study(config, counts, done, target, seconds, threads, estimator, samples, rare)
        if _digest(study) != digest:
            raise _Damage("digest", "its checksum does not fit: configuration or counts changed")
        return study

    return config, networks, fill


def _known_format(number: Any) -> None:
    if number != FORMAT:
        raise ValueError(f"format = {number!r}: this version of obstruction reads format {FORMAT}")


def _known_block(size: Any) -> None:
    if size != BLOCK:
        raise ValueError(f"block = {size!r}: this version of obstruction draws blocks of {BLOCK}")


def _scheme(entry: Any) -> InitScheme:
    made = scheme(entry["name"], **entry["options"])
    if made.label != entry["label"]:
        raise ValueError(f"scheme {entry['label']!r} does not fit its options")
    return made


def _ranges(entries: Any, networks: int) -> tuple[tuple[int, int], ...]:
    """Read ascending ranges of networks that do not overlap."""
    ranges = tuple(
        (check_count("done", start, least=0), check_count("done", stop)) for start, stop in entries
    )
    ends = [end for one in ranges for end in one]
    counted = sum(stop - start for start, stop in ranges)
    if ends != sorted(ends) or counted != networks:
        raise ValueError(f"done = {entries}: these are not {networks:,} networks")
    return ranges


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not 0.0 <= seconds < math.inf:
        raise ValueError(f"seconds = {value!r}: must be a finite number of at least 0")
    return seconds
