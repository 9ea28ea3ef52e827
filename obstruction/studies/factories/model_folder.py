"""The folder of a study of models: ``run.json`` with all counts, and two tables to read.

``run.json`` is written last and from time to time during a run. Each file appears whole or not at
all, and everything is read from ``run.json`` alone.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from obstruction.conservation.data_span import Span
from obstruction.studies.factories.counting import ModelCounts
from obstruction.studies.factories.data_sides import DataFacts
from obstruction.studies.factories.model_cell import ModelCell, SideRow
from obstruction.studies.factories.model_study import ModelStudy
from obstruction.tools.files import whole_file, writing_to
from obstruction.tools.folder_lock import only_writer
from obstruction.tools.version import __version__

RUN: Final = "run.json"
CELLS: Final = "cells.csv"
LAWS: Final = "laws.csv"

KIND: Final = "models"
"""What tells the file of such a study from others of the same name."""

FORMAT: Final = 2
"""The version of the file's format."""


def save(study: ModelStudy, path: str | os.PathLike[str]) -> None:
    """Write a study to a folder, which is made if it does not exist, with its two tables.

    ``run.json`` holds everything that `load_models` needs. ``cells.csv`` is `ModelStudy.table`, and
    ``laws.csv`` is `ModelStudy.by_law`.

    Raises
    ------
    ValueError
        If the folder cannot be written, or a value on an axis is no text, number or bool.
    """
    check_axes(study.axes)
    folder = Path(path)
    with only_writer(path), writing_to(path):
        for name, table in ((CELLS, study.table()), (LAWS, study.by_law())):
            with whole_file(folder / name) as stream:
                stream.write(table.to_csv(index=False).encode())
        save_run(study, path)


def save_run(study: ModelStudy, path: str | os.PathLike[str]) -> None:
    """Write ``run.json`` alone."""
    entries = _entries(study)
    entries["digest"] = _digest(entries)
    text = json.dumps(entries, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with only_writer(path), writing_to(path), whole_file(Path(path) / RUN) as stream:
        stream.write(text.encode())


def holds_study(path: str | os.PathLike[str]) -> bool:
    """Return whether a folder holds a study of models or of another kind."""
    return (Path(path) / RUN).exists()


def holds_models(path: str | os.PathLike[str]) -> bool:
    """Return whether a folder holds a study of models, as far as its ``run.json`` can be read."""
    try:
        entries = json.loads((Path(path) / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(entries, dict) and entries.get("kind") == KIND


def load_models(path: str | os.PathLike[str]) -> ModelStudy:
    """Read the study in a folder that `sample_model` wrote.

    Parameters
    ----------
    path : path-like
        The folder. If the run was interrupted, the study holds what had been counted until then,
        and `ModelStudy.complete` is False.

    Raises
    ------
    ValueError
        If the folder holds no such study, or a damaged one.
    """
    file = Path(path) / RUN
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: damaged ({error})") from None
    if not isinstance(entries, dict) or entries.get("kind") != KIND:
        raise ValueError(f"{file}: is of another kind of study; obstruction.load reads those")
    if entries.get("format") != FORMAT:
        raise ValueError(f"{file}: format = {entries.get('format')!r}: must be {FORMAT}")
    try:
        study = _study(entries)
        unknown = set(entries) - set(_entries(study)) - {"digest"}
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: damaged ({type(error).__name__}: {error})") from None
    if unknown:
        raise ValueError(f"{file}: damaged (what is {min(unknown)!r:.40}?)")
    if "digest" in entries and entries["digest"] != _digest(entries):  # older ones have none
        raise ValueError(f"{file}: damaged (its checksum does not fit: something was changed)")
    return study


def _digest(entries: Mapping[str, Any]) -> str:
    """Return a checksum of all other entries."""
    rest = {name: value for name, value in entries.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def check_axes(axes: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise a ValueError if a value on an axis cannot be written and read back."""
    for name, values in axes.items():
        for value in values:
            finite = not isinstance(value, float) or math.isfinite(value)
            if not (isinstance(value, str | int | float) and finite):
                raise ValueError(
                    f"grid: {name} = {value!r}: must be a text, a finite number, True or False to "
                    "be written"
                )


def _entries(study: ModelStudy) -> dict[str, Any]:
    return {
        "kind": KIND,
        "format": FORMAT,
        "version": __version__,
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "networks_wanted": study.networks,
        "seed": study.seed,
        "loss": study.loss,
        "origin": None if study.origin is None else dict(study.origin),
        "axes": {name: list(values) for name, values in study.axes.items()},
        "cells": [_cell_entries(cell) for cell in study.cells],
    }


def _cell_entries(cell: ModelCell) -> dict[str, Any]:
    counts = cell.counts
    return {
        "arguments": dict(cell.arguments),
        "source": cell.source,
        "framework": cell.framework,
        "weights": cell.weights,
        "exact": _number(cell.exact),
        "called": cell.called,
        "beyond": cell.beyond,
        "undecided": cell.undecided,
        "start": cell.start,
        "repeatable": cell.repeatable,
        "seconds": round(cell.seconds, 3),
        "data": None if cell.data is None else _data_entries(cell.data),
        "done": [list(piece) for piece in cell.done],
        "networks": counts.networks,
        "obstructed": counts.obstructed,
        "frozen": counts.frozen,
        "starts": sorted(counts.starts),
        "sides": [
            {
                **side._asdict(),
                "obstructed": int(counts.some[k]),
                "frozen": int(counts.weights[k]),
                "exact": _number(cell.shares[k]),
                "independent": cell.independent[k],
                "largest": repr(float(counts.largest[k])),  # infinity is no number in JSON
            }
            for k, side in enumerate(cell.sides)
        ],
    }


def _data_entries(data: DataFacts) -> dict[str, Any]:
    return {
        "digest": data.digest,
        "rank": data.rank,
        "spans": [{**vars(span), "layers": list(span.layers)} for span in data.spans],
        "reason": data.reason,
    }


def _data(entries: Mapping[str, Any] | None) -> DataFacts | None:
    if entries is None:
        return None
    spans = (Span(**{**one, "layers": tuple(one["layers"])}) for one in entries["spans"])
    return DataFacts(entries["digest"], tuple(spans), entries["reason"])


def _study(entries: Mapping[str, Any]) -> ModelStudy:
    axes = {name: tuple(values) for name, values in entries["axes"].items()}
    cells = tuple(_cell(one) for one in entries["cells"])
    wanted, origin = entries["networks_wanted"], entries.get("origin")
    return ModelStudy(cells, axes, wanted, entries["seed"], entries["loss"], origin)


def _cell(entries: Mapping[str, Any]) -> ModelCell:
    sides = entries["sides"]
    counts = ModelCounts(
        entries["networks"],
        entries["obstructed"],
        entries["frozen"],
        np.array([one["obstructed"] for one in sides], np.int64),
        np.array([one["frozen"] for one in sides], np.int64),
        np.array([float(one["largest"]) for one in sides], np.float64),
        frozenset(entries["starts"]),
    )
    done = tuple((int(start), int(stop)) for start, stop in entries["done"])
    if sides and sum(stop - start for start, stop in done) != counts.networks:
        raise ValueError(f"networks = {counts.networks} does not fit done = {done}")
    if not 0 <= counts.obstructed <= counts.networks:
        raise ValueError(f"obstructed = {counts.obstructed} of {counts.networks} networks")
    return ModelCell(
        entries["arguments"],
        entries["source"],
        entries["framework"],
        tuple(SideRow(*(one[name] for name in SideRow._fields)) for one in sides),
        entries["weights"],
        counts,
        done,
        _value(entries["exact"]),
        tuple(_value(one["exact"]) for one in sides),
        tuple(bool(one["independent"]) for one in sides),
        entries["called"],
        entries["beyond"],
        entries["undecided"],
        entries["start"],
        entries["repeatable"],
        entries["seconds"],
        _data(entries.get("data")),
    )


def _number(value: float) -> float | None:
    """Return a number for JSON, which has no NaN."""
    return None if math.isnan(value) else value


def _value(entry: float | None) -> float:
    return math.nan if entry is None else float(entry)
