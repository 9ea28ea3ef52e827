"""The tidy table: one row a cell, its columns, and the file it is kept in."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obstruction import exact
from obstruction.sampling.config import StudyConfig
from obstruction.sampling.counts import Counts
from obstruction.sampling.inference import binomial, weighted
from obstruction.sampling.inference.weighted import Estimate
from obstruction.schemes import InitScheme
from obstruction.studies.exact_values import exact_values
from obstruction.studies.rare_cells import Rare
from obstruction.tools.workers import run_on_threads

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
    "method",
    "estimator",
    "samples",
    "log10_empirical",
    "log10_ci_low",
    "log10_ci_high",
    "relative_error",
    "relative_error_neuron",
    "log_mean_weight",
    "skewness",
    "largest_share",
    "log_bound",
)
"""The columns of a table and of ``cells.csv``, in order.

``scheme, d, l`` name the cell; ``networks, obstructed, pathological`` are counts;
``empirical, ci_low, ci_high`` are the estimated probability that a network is obstructed and its
95 % confidence interval; ``exact, z, p_value`` are the exact value of that probability, the
distance in standard errors and the two-sided p-value (empty where there is no exact value); ``a``
is the ratio of the variances, ``log10_exact`` the common logarithm of ``exact``, which does not
underflow; ``*_neuron`` are the same for the probability that a single neuron is pathological.
``method`` is the way to the exact value, or why there is none. ``estimator`` is "direct" where the
estimate is the rate of obstructed networks (its interval is Clopper and Pearson's, its test the
exact binomial one) and "tilted" where it comes from ``samples`` weighted samples
(`obstruction.sampling.rare.estimate`);
``log10_empirical, log10_ci_low, log10_ci_high`` do not underflow; ``relative_error`` is standard
error over estimate. The last four describe the weights: the natural logarithm of their mean, which
estimates the probability of a pathological neuron, their skewness, the largest one's share of the
sum, and the logarithm of a bound on each.
"""

COUNT_COLUMNS: Final = COLUMNS[:6]
INTERVAL_LEVEL: Final = 0.95
_ROWS_AT_A_TIME: Final = 100_000


ESTIMATED: Final = ("direct", "tilted")
"""What stands in the column ``estimator``."""

_TEXTS: Final = ("scheme", "method", "estimator")
_WEIGHTED: Final = ("relative_error_neuron", *COLUMNS[-4:])  # read back to the same values
_WHOLE: Final = (*COUNT_COLUMNS[1:], "samples")


def build(config: StudyConfig, counts: Counts, rare: Rare | None = None) -> pd.DataFrame:
    """Return the table of some counts: schemes in their order, then ``d``, then ``l``.

    Parameters
    ----------
    config : StudyConfig
    counts : Counts
    rare : Rare, optional
        Estimates that stand in for the counts in some cells.

    Returns
    -------
    pandas.DataFrame
        With the columns `COLUMNS`.
    """
    schemes, nd, nl = config.shape
    labels = [scheme.label for scheme in config.schemes]
    d = np.broadcast_to(np.array(config.d, np.int64)[None, :, None], config.shape).ravel()
    l = np.broadcast_to(np.array(config.l, np.int64)[None, None, :], config.shape).ravel()
    p, log_p, whole, log_whole = (part.ravel() for part in exact_values(config))
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
        "method": _categories([_method(scheme) for scheme in config.schemes], nd * nl),
        "estimator": np.zeros(obstructed.size, np.int8),
        "samples": np.zeros(obstructed.size, np.int64),
        "relative_error": _relative_error(obstructed, n),
        "relative_error_neuron": _relative_error(pathological, neurons),
        **{name: np.full(obstructed.size, np.nan) for name in COLUMNS[-4:]},
    }
    for name in ("empirical", "ci_low", "ci_high"):
        columns[f"log10_{name}"] = _log10(columns[name])
    if rare is not None:
        _insert(columns, rare, l, log_p)
    columns["estimator"] = pd.Categorical.from_codes(
        columns["estimator"], pd.Index(list(ESTIMATED))
    )
    return pd.DataFrame(columns, columns=list(COLUMNS))


def _insert(columns: dict[str, Any], rare: Rare, l: Any, log_p: Any) -> None:
    """Put estimates from weighted samples in place of counts, in the rows that have them."""
    rows = np.flatnonzero(rare.where)
    widths, estimate = l[rows], rare.estimate
    chance = weighted.p_value(estimate, log_p[rows])
    z = weighted.z_score(estimate, log_p[rows])
    logs = {"empirical": weighted.log_network(estimate.log_p, widths)}
    for name, log in zip(("ci_low", "ci_high"), weighted.interval(estimate), strict=True):
        logs[name] = weighted.log_network(log, widths)
    for name, log in logs.items():
        columns[f"log10_{name}"][rows] = log / np.log(10.0)
        columns[name][rows] = np.exp(log)
    for name, values in {
        "empirical_neuron": np.exp(estimate.log_p),
        "p_value": chance,
        "p_value_neuron": chance,
        "z": z,
        "z_neuron": z,
        "estimator": 1,
        "samples": estimate.samples,
        "relative_error": weighted.network_error(estimate, widths),
        "relative_error_neuron": estimate.relative_error,
        "log_mean_weight": estimate.log_p,
        "skewness": estimate.skewness,
        "largest_share": estimate.largest_share,
        "log_bound": estimate.log_bound,
    }.items():
        columns[name][rows] = values


def _method(scheme: InitScheme) -> str:
    """Return the way to the exact value, or why there is none."""
    found = exact.method(scheme)
    return "none: weights depend on each other" if found == "none" else found


def _relative_error(events: NDArray[np.int64], trials: Any) -> NDArray[np.float64]:
    """Return standard error over rate; infinite without an event."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.sqrt((1.0 - events / trials) / events))


def _log10(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.log10(values)


def _categories(names: list[str], repeat: int) -> pd.Categorical:
    """Return every name so many times."""
    codes, distinct = pd.factorize(np.array(names, dtype=object))
    return pd.Categorical.from_codes(np.repeat(codes, repeat), pd.Index(distinct))


Rows = slice
Part = Callable[[Rows], NDArray[np.float64]]


def _in_parallel(first: Part, second: Part, size: int) -> NDArray[np.float64]:
    """Evaluate two functions of the rows in chunks on two threads (scipy frees the lock)."""
    results = np.empty((2, size))

    def evaluate(task: tuple[Part, NDArray[np.float64], Rows]) -> None:
        part, result, rows = task
        result[rows] = part(rows)

    tasks = [
        (part, result, slice(i, i + _ROWS_AT_A_TIME))
        for part, result in zip((first, second), results, strict=True)
        for i in range(0, size, _ROWS_AT_A_TIME)
    ]
    run_on_threads(evaluate, tasks, threads=2)
    return results


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


def read_cells(
    path: str | os.PathLike[str], config: StudyConfig, networks: int
) -> tuple[Counts, Rare | None]:
    """Return what a ``cells.csv`` holds: the counts, and estimates from weighted samples if any.

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
    counts = Counts(
        networks,
        columns["obstructed"].reshape(config.shape),
        columns["pathological"].reshape(config.shape),
    )
    return counts, _rare(columns, config)


def _rare(columns: dict[str, Any], config: StudyConfig) -> Rare | None:
    where = columns["estimator"] == "tilted"
    if not where.any():
        return None
    samples = columns["samples"][where]
    return Rare(
        where.reshape(config.shape),
        Estimate(
            int(samples[0]),
            columns["log_mean_weight"][where],
            columns["relative_error_neuron"][where],
            columns["skewness"][where],
            columns["largest_share"][where],
            columns["log_bound"][where],
        ),
    )


def _parse(data: bytes) -> dict[str, Any]:
    if not data.endswith(b"\n"):
        raise ValueError("torn")
    types = dict.fromkeys(COLUMNS, "float64") | dict.fromkeys(_WHOLE, "int64")
    types |= dict.fromkeys(_TEXTS, "str")
    for name in _WEIGHTED:
        del types[name]
    exactly = dict.fromkeys(_WEIGHTED, _number)  # pandas 3.0 misses the last digit now and then
    frame = pd.read_csv(io.BytesIO(data), dtype=types, converters=exactly, encoding="utf-8")
    if tuple(frame.columns) != COLUMNS:
        raise ValueError("columns")
    return {name: frame[name].to_numpy() for name in COLUMNS}


def _number(text: str) -> float:
    """Read a field of floating point, which is empty for NaN."""
    return float(text or "nan")


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
        and bool(np.isin(columns["estimator"], ESTIMATED).all())
        and _fits(columns["empirical"], _rates(columns, networks)[0])
        and _fits(columns["empirical_neuron"], _rates(columns, networks)[1])
        and np.unique(columns["samples"][columns["estimator"] == "tilted"]).size <= 1
        and bool(((columns["samples"] >= 2) == (columns["estimator"] == "tilted")).all())
    )
    if not right:
        raise ValueError("values")


def _rates(columns: dict[str, Any], networks: int) -> tuple[Any, Any]:
    """Return the rates that the counts, or the logarithms of weighted means, stand for."""
    tilted = columns["estimator"] == "tilted"
    log = columns["log_mean_weight"]
    neuron = np.where(tilted, np.exp(log), columns["pathological"] / (networks * columns["l"]))
    whole = np.exp(weighted.log_network(log, columns["l"]))
    return np.where(tilted, whole, columns["obstructed"] / networks), neuron


def _fits(written: Any, rates: Any) -> bool:
    return bool(np.isclose(written, rates, rtol=1e-9, atol=1e-300).all())


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
    number, samples = 1, ""
    for number, cell in enumerate(wanted, start=2):
        if number > len(lines) or (number == len(lines) and not lines[-1]):
            yield number - 1, f"the file ends here; the cell {_named(cell)} is missing"
            return
        yield from _line_faults(number, lines[number - 1], cell, networks)
        if number == len(lines):
            yield number, "the line is torn: it does not end"
        row = _row(lines[number - 1])
        if row["estimator"] == "tilted":
            samples = samples or row["samples"]
            if row["samples"] != samples:
                yield number, f"samples = {row['samples']}, but {samples} in the lines above"
    if len(lines) > number + 1 or lines[-1]:
        yield number + 1, "one line too many"


def _row(line: str) -> dict[str, str]:
    """Return the fields of a line by the names of their columns."""
    return dict(zip(COLUMNS, next(csv.reader([line]), []), strict=True))


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
        if not _is_count(field):
            yield number, f"{name} = {field!r:.40} is not a count"
            return
    row = dict(zip(COLUMNS, fields, strict=True))
    for name in COLUMNS[6:]:
        if name in _TEXTS:
            continue
        try:
            _number(row[name].replace("_", "?"))
        except ValueError:
            yield number, f"{name} = {row[name]!r:.40} is not a number"
            return
    if row["estimator"] not in ESTIMATED:
        yield number, f"estimator = {row['estimator']!r:.40} is none of {', '.join(ESTIMATED)}"
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
    sizes = {"l": np.float64(cell[2]), "estimator": np.array(row["estimator"])}
    counts = {"obstructed": obstructed, "pathological": pathological}
    log = {"log_mean_weight": np.float64(_number(row["log_mean_weight"]))}
    rates = _rates(sizes | counts | log, networks)
    sources = ("obstructed", "pathological")
    if row["estimator"] == "tilted":
        sources = ("log_mean_weight",) * 2
    for name, source, rate in zip(("empirical", "empirical_neuron"), sources, rates, strict=True):
        if not _fits(_number(row[name]), rate):
            yield number, f"{source} = {row[source]} does not fit {name} = {row[name] or 'nothing'}"
    samples, tilted = row["samples"], row["estimator"] == "tilted"
    if not _is_count(samples) or (int(samples) >= 2) != tilted:
        yield number, f"samples = {samples!r:.40} does not fit estimator {row['estimator']}"


def _is_count(field: str) -> bool:
    return field.isascii() and field.isdigit() and len(field) < 19


def _named(cell: tuple[Any, ...]) -> str:
    return f"{cell[0]}, d = {cell[1]}, l = {cell[2]}"
