"""The tidy table: one row a cell, its columns, and the file it is kept in."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obstruction import binomial, exact
from obstruction.counts import Counts
from obstruction.plan import StudyConfig

COLUMNS: Final = (
    "scheme",
    "d",
    "l",
    "networks",
    "obstructed",
    "pathological",
    "empirical",
    "ci_low",
    "ci_high",
    "exact",
    "z",
    "p_value",
    "a",
    "log10_exact",
    "empirical_neuron",
    "exact_neuron",
    "z_neuron",
    "p_value_neuron",
)
"""The columns of a table and of ``cells.csv``, in order.

``scheme, d, l`` name the cell; ``networks, obstructed, pathological`` are counts;
``empirical, ci_low, ci_high`` are the rate of obstructed networks and its 95 % Clopper-Pearson
interval; ``exact, z, p_value`` are the closed form of that probability, the distance in standard
deviations and the exact two-sided binomial p-value (empty where there is no closed form);
``a`` is the ratio of the variances, ``log10_exact`` the common logarithm of ``exact``, which does
not underflow; ``*_neuron`` are the same for the probability that a single neuron is pathological.
"""

COUNT_COLUMNS: Final = COLUMNS[:6]
INTERVAL_LEVEL: Final = 0.95
_ROWS_AT_A_TIME: Final = 100_000


def build(config: StudyConfig, counts: Counts) -> pd.DataFrame:
    """Return the table of some counts: schemes in their order, then ``d``, then ``l``.

    Parameters
    ----------
    config : StudyConfig
    counts : Counts

    Returns
    -------
    pandas.DataFrame
        With the columns `COLUMNS`.
    """
    schemes, nd, nl = config.shape
    labels = [scheme.label for scheme in config.schemes]
    d = np.broadcast_to(np.array(config.d, np.int64)[None, :, None], config.shape).ravel()
    l = np.broadcast_to(np.array(config.l, np.int64)[None, None, :], config.shape).ravel()
    p, whole, log_whole = (part.ravel() for part in _closed_forms(config))
    n = counts.networks
    obstructed, pathological = counts.obstructed.ravel(), counts.pathological.ravel()
    neurons = n * l
    low, high = binomial.interval(obstructed, n, level=INTERVAL_LEVEL)
    network_p, neuron_p = _in_parallel(
        lambda rows: binomial.p_value(obstructed[rows], n, whole[rows]),
        lambda rows: binomial.p_value(pathological[rows], neurons[rows], p[rows]),
        obstructed.size,
    )
    columns: dict[str, Any] = {
        "scheme": pd.Categorical.from_codes(
            np.repeat(np.arange(schemes, dtype=np.int64), nd * nl), pd.Index(labels)
        ),
        "d": d,
        "l": l,
        "networks": np.full(obstructed.size, n, np.int64),
        "obstructed": obstructed,
        "pathological": pathological,
        "empirical": obstructed / n,
        "ci_low": low,
        "ci_high": high,
        "exact": whole,
        "z": binomial.z_score(obstructed, n, whole),
        "p_value": network_p,
        "a": config.ratio().ravel(),
        "log10_exact": log_whole / np.log(10.0),
        "empirical_neuron": pathological / neurons,
        "exact_neuron": p,
        "z_neuron": binomial.z_score(pathological, neurons, p),
        "p_value_neuron": neuron_p,
    }
    return pd.DataFrame(columns, columns=list(COLUMNS))


def _closed_forms(config: StudyConfig) -> tuple[NDArray[np.float64], ...]:
    """Return p, P and log P of every cell, NaN where there is no closed form."""
    d, l = np.array(config.d)[:, None], np.array(config.l)[None, :]
    forms = tuple(np.full(config.shape, np.nan) for _ in range(3))
    for k, scheme in enumerate(config.schemes):
        if exact.has_closed_form(scheme):
            forms[0][k] = exact.pathological_probability(scheme, d, l)
            forms[1][k] = exact.obstruction_probability(scheme, d, l)
            forms[2][k] = exact.log_obstruction_probability(scheme, d, l)
    return forms


Rows = slice
Part = Callable[[Rows], NDArray[np.float64]]


def _in_parallel(first: Part, second: Part, size: int) -> tuple[NDArray[np.float64], ...]:
    """Evaluate two functions of the rows in chunks on two threads (scipy frees the lock)."""
    chunks = [slice(i, i + _ROWS_AT_A_TIME) for i in range(0, size, _ROWS_AT_A_TIME)]
    with ThreadPoolExecutor(2) as pool:
        results = [pool.map(part, chunks) for part in (first, second)]
        return tuple(np.concatenate(list(result)) for result in results)


# --- cells.csv -----------------------------------------------------------------------------


def write_csv(table: pd.DataFrame, stream: io.TextIOBase) -> None:
    """Write a table as CSV: floats in the fewest digits that read back to the same value."""
    stream.write(",".join(COLUMNS) + "\n")
    for start in range(0, len(table), _ROWS_AT_A_TIME):
        rows = table.iloc[start : start + _ROWS_AT_A_TIME]
        texts = [_texts(rows[name]) for name in COLUMNS]
        stream.write("\n".join(map(",".join, zip(*texts, strict=True))) + "\n")


def _texts(column: pd.Series[Any]) -> list[str]:
    """Write the distinct values of a column once each; NaN is empty."""
    codes, distinct = pd.factorize(column)
    if isinstance(column.dtype, pd.CategoricalDtype):
        words = [_quoted(str(name)) for name in distinct]
    else:
        words = [repr(value) for value in np.asarray(distinct).tolist()]
    words.append("")  # for the code -1 of NaN
    return [words[code] for code in codes.tolist()]


def _quoted(text: str) -> str:
    return f'"{text}"' if "," in text else text


def read_counts(path: str | os.PathLike[str], config: StudyConfig, networks: int) -> Counts:
    """Return the counts in a ``cells.csv``.

    Parameters
    ----------
    path : path-like
    config : StudyConfig
        Of the study that wrote the file: says which cells it must hold, in which order.
    networks : int
        How many networks it drew.

    Raises
    ------
    ValueError
        If the file is missing, damaged or of another study; names the file and the line.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        columns = _parse(data)
        _check(columns, config, networks)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(_complaint(path, data, config, networks)) from None
    return Counts(
        networks,
        columns["obstructed"].reshape(config.shape),
        columns["pathological"].reshape(config.shape),
    )


def _parse(data: bytes) -> dict[str, Any]:
    if not data.endswith(b"\n"):
        raise ValueError("torn")
    types = dict.fromkeys(COLUMNS, "float64") | dict.fromkeys(COUNT_COLUMNS, "int64")
    frame = pd.read_csv(io.BytesIO(data), dtype=types | {"scheme": "str"}, encoding="utf-8")
    if tuple(frame.columns) != COLUMNS:
        raise ValueError("columns")
    return {name: frame[name].to_numpy() for name in COLUMNS}


def _check(columns: dict[str, Any], config: StudyConfig, networks: int) -> None:
    schemes, nd, nl = config.shape
    labels = np.repeat([scheme.label for scheme in config.schemes], nd * nl)
    right = (
        np.array_equal(columns["scheme"], labels)
        and np.array_equal(columns["d"], np.tile(np.repeat(config.d, nl), schemes))
        and np.array_equal(columns["l"], np.tile(config.l, schemes * nd))
        and bool((columns["networks"] == networks).all())
        and bool((columns["obstructed"] >= 0).all())
        and bool((columns["obstructed"] <= networks).all())
        and bool((columns["obstructed"] <= columns["pathological"]).all())
        and bool((columns["pathological"] <= columns["obstructed"] * columns["l"]).all())
        and _fits(columns["empirical"], columns["obstructed"], networks)
        and _fits(columns["empirical_neuron"], columns["pathological"], networks * columns["l"])
    )
    if not right:
        raise ValueError("values")


def _fits(rates: Any, counts: Any, trials: Any) -> bool:
    return bool(np.isclose(rates, counts / trials, rtol=1e-12, atol=0.0).all())


def _complaint(
    path: str | os.PathLike[str], data: bytes, config: StudyConfig, networks: int
) -> str:
    """Find the first bad line of a file that is known to be damaged."""
    lines = data.decode("utf-8", "replace").split("\n")
    for number, why in _faults(lines, config, networks):
        return f"{path}, line {number}: {why}"
    return f"{path}: damaged"


def _faults(lines: list[str], config: StudyConfig, networks: int) -> Iterator[tuple[int, str]]:
    if lines[0].rstrip("\r") != ",".join(COLUMNS):
        yield 1, f"the header must read {','.join(COLUMNS[:4])},..."
    wanted = ((s.label, d, l) for s in config.schemes for d in config.d for l in config.l)
    number = 1
    for number, cell in enumerate(wanted, start=2):
        if number > len(lines) or (number == len(lines) and not lines[-1]):
            yield number - 1, f"the file ends here; the cell {_named(cell)} is missing"
            return
        yield from _line_faults(number, lines[number - 1], cell, networks)
        if number == len(lines):
            yield number, "the line is torn: it does not end"
    if len(lines) > number + 1 or lines[-1]:
        yield number + 1, "one line too many"


def _line_faults(
    number: int, line: str, cell: tuple[str, int, int], networks: int
) -> Iterator[tuple[int, str]]:
    try:
        fields = next(csv.reader([line]), [])
    except csv.Error as error:
        yield number, f"is not CSV ({error})"
        return
    if len(fields) != len(COLUMNS):
        yield number, f"has {len(fields)} fields, not {len(COLUMNS)}"
        return
    if (fields[0], *fields[1:3]) != (cell[0], str(cell[1]), str(cell[2])):
        yield number, f"is the cell {_named(tuple(fields[:3]))}, not {_named(cell)}"
    for name, field in zip(COUNT_COLUMNS[3:], fields[3:6], strict=True):
        if not (field.isascii() and field.isdigit() and len(field) < 19):
            yield number, f"{name} = {field!r:.40} is not a count"
            return
    for name, field in zip(COLUMNS[6:], fields[6:], strict=True):
        try:
            float(field.replace("_", "?") or "nan")
        except ValueError:
            yield number, f"{name} = {field!r:.40} is not a number"
            return
    drawn, obstructed, pathological = map(int, fields[3:6])
    if drawn != networks:
        yield number, f"networks = {drawn}, but the study drew {networks}"
    if not obstructed <= min(networks, pathological) <= pathological <= obstructed * cell[2]:
        yield (
            number,
            f"obstructed = {obstructed} and pathological = {pathological} are impossible "
            f"for {networks} networks of {cell[2]} neurons",
        )
    for name, count, trials, rate in (
        ("obstructed", obstructed, networks, "empirical"),
        ("pathological", pathological, networks * cell[2], "empirical_neuron"),
    ):
        written = fields[COLUMNS.index(rate)]
        if not _fits(float(written or "nan"), count, trials):
            yield number, f"{name} = {count} does not fit {rate} = {written or 'nothing'}"


def _named(cell: tuple[Any, ...]) -> str:
    return f"{cell[0]}, d = {cell[1]}, l = {cell[2]}"
