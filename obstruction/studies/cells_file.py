"""``cells.csv``: the tidy table of a study as a text file, written and read back."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

import numpy as np
import pandas as pd

from obstruction.sampling.config import StudyConfig
from obstruction.sampling.counts import Counts
from obstruction.sampling.inference import weighted
from obstruction.sampling.inference.weighted import Estimate
from obstruction.studies.rare_cells import RareEstimates
from obstruction.studies.table import CELL_ESTIMATORS, COLUMNS, ROWS_AT_A_TIME

_COUNTS: Final = COLUMNS[3:6]
_TEXTS: Final = ("scheme", "method", "estimator")
_WHOLE: Final = ("d", "l", *_COUNTS, "samples")
_WEIGHTED: Final = ("relative_error_neuron", *COLUMNS[-4:])
"""The columns that hold estimates from weighted samples, which are read back exactly."""


def write_cells(table: pd.DataFrame, stream: IO[bytes]) -> None:
    """Write a table as CSV.

    Numbers have the fewest digits that read back to the same value. NaN is an empty field.
    """
    stream.write((",".join(COLUMNS) + "\n").encode())
    for start in range(0, len(table), ROWS_AT_A_TIME):
        rows = table.iloc[start : start + ROWS_AT_A_TIME]
        fields = [_fields(rows[name]) for name in COLUMNS]
        stream.write(("\n".join(map(",".join, zip(*fields, strict=True))) + "\n").encode())


def _fields(column: pd.Series[Any]) -> list[str]:
    """Return the values of a column as text. Each distinct value is converted only once."""
    codes, distinct = pd.factorize(column)
    if isinstance(column.dtype, pd.CategoricalDtype):
        texts = [f'"{name}"' if "," in str(name) else str(name) for name in distinct]
    else:
        texts = [repr(value) for value in np.asarray(distinct).tolist()]
    texts.append("")  # the code of NaN is -1
    return [texts[code] for code in codes.tolist()]


def read_cells(
    path: str | os.PathLike[str], config: StudyConfig, networks: int
) -> tuple[Counts, RareEstimates | None]:
    """Read the counts and the estimates from weighted samples in a ``cells.csv``.

    The configuration and the number of networks are those of the study that wrote the file. They
    determine which cells the file must hold, and in which order. If the file is missing, damaged or
    of another study, a `ValueError` names the file and the first line at fault.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    columns: dict[str, Any] = {}
    sound = 0
    with np.errstate(all="ignore"):  # damaged numbers may overflow
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            columns = _parse(data)
            sound = _sound_rows(columns, config, networks)
        if not columns or not columns["d"].size == sound == math.prod(config.shape):
            raise ValueError(f"{path}{_first_fault(data, config, networks, columns, sound)}")
    counts = Counts(
        networks,
        columns["obstructed"].reshape(config.shape),
        columns["pathological"].reshape(config.shape),
    )
    where = columns["estimator"] == "tilted"
    if not where.any():
        return counts, None
    estimate = Estimate(
        int(columns["samples"][where][0]),
        columns["log_mean_weight"][where],
        columns["relative_error_neuron"][where],
        columns["skewness"][where],
        columns["largest_share"][where],
        columns["log_bound"][where],
    )
    return counts, RareEstimates(where.reshape(config.shape), estimate)


def _parse(data: bytes) -> dict[str, Any]:
    if not data.endswith(b"\n"):
        raise ValueError("the last line is torn")
    types = {name: "float64" for name in COLUMNS if name not in _WEIGHTED}
    types |= dict.fromkeys(_WHOLE, "int64") | dict.fromkeys(_TEXTS, "str")
    exactly = dict.fromkeys(_WEIGHTED, _number)  # pandas 3.0 at times misreads the last digit
    frame = pd.read_csv(io.BytesIO(data), dtype=types, converters=exactly, encoding="utf-8")
    if tuple(frame.columns) != COLUMNS:
        raise ValueError("the columns are others")
    return {name: frame[name].to_numpy() for name in COLUMNS}


def _number(text: str) -> float:
    """Return the number in a field, which is empty for NaN."""
    return float(text or "nan")


def _sound_rows(columns: Mapping[str, Any], config: StudyConfig, networks: int) -> int:
    """Return the number of rows before the first one at fault."""
    schemes, nd, nl = config.shape
    rows = min(columns["d"].size, schemes * nd * nl)
    cells = {name: column[:rows] for name, column in columns.items()}
    sound = cells["scheme"] == np.repeat([s.label for s in config.schemes], nd * nl)[:rows]
    sound &= cells["d"] == np.tile(np.repeat(config.d, nl), schemes)[:rows]
    sound &= cells["l"] == np.tile(config.l, schemes * nd)[:rows]
    for met, _ in _conditions(cells, networks, _samples(cells)):
        sound &= met
    return rows if sound.all() else int(sound.argmin())


def _samples(columns: Mapping[str, Any]) -> int:
    """Return the number of weighted samples in the first cell that has any, or 0."""
    return int(columns["samples"][columns["estimator"] == "tilted"][:1].sum())


Condition: TypeAlias = tuple[Any, Callable[[Mapping[str, str]], str]]
"""Where a condition is met, and the complaint about the fields of a row in which it is not."""


def _conditions(cells: Mapping[str, Any], networks: int, samples: int) -> Iterator[Condition]:
    """Yield the conditions that the values of every column must meet, in many rows or in one.

    The numbers are those of the networks that the study drew, and of the weighted samples in the
    first cell that has any.
    """
    l, obstructed, pathological = (cells[name] for name in ("l", "obstructed", "pathological"))
    log_p, tilted = cells["log_mean_weight"], np.asarray(cells["estimator"]) == "tilted"
    yield (
        np.isin(cells["estimator"], CELL_ESTIMATORS),
        lambda row: f"estimator = {row['estimator']!r:.40} is none of {', '.join(CELL_ESTIMATORS)}",
    )
    yield (
        cells["networks"] == networks,
        lambda row: f"networks = {row['networks']}, but the study drew {networks}",
    )
    neurons_suffice = -(-pathological // l) <= obstructed  # as pathological <= obstructed * l
    yield (
        (obstructed >= 0) & (obstructed <= np.minimum(networks, pathological)) & neurons_suffice,
        lambda row: (
            f"obstructed = {row['obstructed']} and pathological = {row['pathological']} are "
            f"impossible for {networks} networks of {row['l']} neurons"
        ),
    )
    rate = np.where(tilted, np.exp(weighted.log_network(log_p, l)), obstructed / networks)
    yield _fits(cells, "empirical", rate, "obstructed")
    rate = np.where(tilted, np.exp(log_p), pathological / (networks * l))
    yield _fits(cells, "empirical_neuron", rate, "pathological")
    yield (
        (cells["samples"] >= 0) & ((cells["samples"] >= 2) == tilted),
        lambda row: f"samples = {row['samples']!r:.40} does not fit estimator {row['estimator']}",
    )
    yield (
        (cells["samples"] == samples) | ~tilted,
        lambda row: f"samples = {row['samples']}, but {samples} in the lines above",
    )


def _fits(cells: Mapping[str, Any], name: str, rate: Any, counted: str) -> Condition:
    """Return the condition that a column holds the rates that follow from the counts or weights."""

    def complain(row: Mapping[str, str]) -> str:
        source = "log_mean_weight" if row["estimator"] == "tilted" else counted
        return f"{source} = {row[source]} does not fit {name} = {row[name] or 'nothing'}"

    return np.isclose(cells[name], rate, rtol=1e-9, atol=1e-300), complain


def _first_fault(
    data: bytes, config: StudyConfig, networks: int, columns: Mapping[str, Any], sound: int
) -> str:
    """Return the number of the first line at fault in a damaged file, and what is wrong with it.

    It is not among the first ``sound`` rows of the ``columns``, which are empty if they could not
    be read.
    """
    lines = data.decode("utf-8", "replace").split("\n")
    if lines[0].rstrip("\r") != ",".join(COLUMNS):
        return f", line 1: the header must read {','.join(COLUMNS[:4])},..."
    wanted = ((s.label, d, l) for s in config.schemes for d in config.d for l in config.l)
    every_row_is_a_line = bool(columns) and len(lines) == columns["d"].size + 2
    start, samples = (sound, _samples(columns)) if every_row_is_a_line else (0, 0)
    number = start + 1
    for number, cell in enumerate(islice(wanted, start, None), start + 2):
        if number > len(lines) or (number == len(lines) and not lines[-1]):
            return f", line {number - 1}: the file ends here; the cell {_named(*cell)} is missing"
        try:
            row, values = _parse_line(lines[number - 1], cell)
            if values["estimator"] == "tilted":
                samples = samples or values["samples"]
            for met, complain in _conditions(values, networks, samples):
                if not met:
                    raise ValueError(complain(row))
        except ValueError as fault:
            return f", line {number}: {fault}"
        if number == len(lines):
            return f", line {number}: the line is torn: it does not end"
    if len(lines) > number + 1 or lines[-1]:
        return f", line {number + 1}: one line too many"
    return ": damaged"


def _parse_line(line: str, cell: tuple[str, int, int]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the fields of a line by the names of their columns, as text and as values.

    The line must be about the cell, and every field must have the form of its column.
    """
    try:
        fields = next(csv.reader([line]), [])
    except csv.Error as error:
        raise ValueError(f"is not CSV ({error})") from None
    if len(fields) != len(COLUMNS):
        raise ValueError(f"has {len(fields)} fields, not {len(COLUMNS)}")
    if fields[:3] != list(map(str, cell)):
        raise ValueError(f"is the cell {_named(*fields[:3])}, not {_named(*cell)}")
    row = dict(zip(COLUMNS, fields, strict=True))
    values: dict[str, Any] = dict(row)
    for name in _COUNTS:
        if not _is_count(row[name]):
            raise ValueError(f"{name} = {row[name]!r:.40} is not a count")
    for name in (one for one in COLUMNS if one not in _TEXTS):
        try:
            values[name] = np.float64(_number(row[name].replace("_", "?")))
        except ValueError:
            raise ValueError(f"{name} = {row[name]!r:.40} is not a number") from None
    for name in _WHOLE:
        values[name] = np.int64(row[name]) if _is_count(row[name]) else np.int64(-1)
    return row, values


def _is_count(field: str) -> bool:
    return field.isascii() and field.isdigit() and len(field) < 19


def _named(scheme: object, d: object, l: object) -> str:
    return f"{scheme}, d = {d}, l = {l}"
