"""The tidy table of a study, which has one row for each cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obstruction import exact
from obstruction.sampling.config import StudyConfig
from obstruction.sampling.counts import Counts
from obstruction.sampling.inference import binomial, weighted
from obstruction.schemes import InitScheme
from obstruction.studies.exact_values import exact_values
from obstruction.studies.rare_cells import RareEstimates
from obstruction.tools.workers import run_on_threads

COLUMNS: Final = (
    *("scheme", "d", "l", "networks", "obstructed", "pathological"),
    *("empirical", "ci_low", "ci_high", "exact", "z", "p_value", "a", "log10_exact"),
    *("empirical_neuron", "exact_neuron", "z_neuron", "p_value_neuron"),
    *("method", "estimator", "samples", "log10_empirical", "log10_ci_low", "log10_ci_high"),
    *("relative_error", "relative_error_neuron"),
    *("log_mean_weight", "skewness", "largest_share", "log_bound"),
)
"""The columns of a table and of ``cells.csv``, in order.

``scheme``, ``d`` and ``l`` name the cell; ``networks``, ``obstructed`` and ``pathological`` are
its counts. ``empirical`` is the estimated probability that a network is obstructed, and ``ci_low``
and ``ci_high`` are the ends of its 95 % confidence interval. ``exact`` is the exact value of that
probability, ``z`` the distance of the estimate from it in standard errors, and ``p_value`` the
two-sided p-value; all three are empty where there is no exact value. ``a`` is the ratio of the
variances. ``log10_exact`` is the common logarithm of ``exact``, which does not underflow. The
columns ``*_neuron`` are the same for the probability that a single neuron is pathological. Where
neurons depend on each other, it has an exact value but no test.
``method`` names the method by which the exact value is computed, or says why there is none.

``estimator`` is "direct" where the estimate is the rate of obstructed networks. Its interval is
then that of Clopper and Pearson, and its test the exact binomial one. ``estimator`` is "tilted"
where the estimate comes from ``samples`` weighted samples (`obstruction.sampling.rare.estimate`).
``log10_empirical``, ``log10_ci_low`` and ``log10_ci_high`` are common logarithms that do not
underflow. ``relative_error`` is the standard error divided by the estimate. The last four columns
describe the weights: the natural logarithm of their mean, which estimates the probability that a
neuron is pathological, their skewness, the share of the largest weight in their sum, and the
logarithm of an upper bound of every weight.
"""

CELL_ESTIMATORS: Final = ("direct", "tilted")
"""The values of the column ``estimator``."""

INTERVAL_LEVEL: Final = 0.95
"""The confidence level of the intervals."""

ROWS_AT_A_TIME: Final = 100_000
"""The number of rows that are worked on together, which bounds the memory needed."""


def build(config: StudyConfig, counts: Counts, rare: RareEstimates | None = None) -> pd.DataFrame:
    """Return the table of counts and estimates, with `COLUMNS`.

    The rows are in the order of the schemes, then of ``d``, then of ``l``. The estimates from
    weighted samples replace those from the counts in some cells.
    """
    schemes, nd, nl = config.shape
    labels = [scheme.label for scheme in config.schemes]
    d = np.broadcast_to(np.array(config.d, np.int64)[None, :, None], config.shape).ravel()
    l = np.broadcast_to(np.array(config.l, np.int64)[None, None, :], config.shape).ravel()
    p_neuron, log_p_neuron, p_network, log_p_network = map(np.ravel, exact_values(config))
    tested = np.where(np.isnan(p_network), np.nan, p_neuron)  # neurons that are independent
    n = counts.networks
    obstructed, pathological = counts.obstructed.ravel(), counts.pathological.ravel()
    neurons = n * l
    low, high = binomial.interval(obstructed, n, level=INTERVAL_LEVEL)
    network_p_value, neuron_p_value = _in_parallel(
        lambda rows: binomial.p_value(obstructed[rows], n, p_network[rows]),
        lambda rows: binomial.p_value(pathological[rows], neurons[rows], tested[rows]),
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
        "exact": p_network,
        "z": binomial.z_score(obstructed, n, p_network),
        "p_value": network_p_value,
        "a": config.ratio().ravel(),
        "log10_exact": log_p_network / np.log(10.0),
        "empirical_neuron": pathological / neurons,
        "exact_neuron": p_neuron,
        "z_neuron": binomial.z_score(pathological, neurons, tested),
        "p_value_neuron": neuron_p_value,
        "method": _categories([_method(scheme) for scheme in config.schemes], nd * nl),
        "estimator": np.zeros(obstructed.size, np.int8),
        "samples": np.zeros(obstructed.size, np.int64),
        "relative_error": _relative_error(obstructed, n),
        "relative_error_neuron": _relative_error(pathological, neurons),
        **{name: np.full(obstructed.size, np.nan) for name in COLUMNS[-4:]},
    }
    with np.errstate(divide="ignore"):
        for name in ("empirical", "ci_low", "ci_high"):
            columns[f"log10_{name}"] = np.log10(columns[name])
    if rare is not None:
        _replace_estimates(columns, rare, l, log_p_neuron)
    estimators = pd.Index(list(CELL_ESTIMATORS))
    columns["estimator"] = pd.Categorical.from_codes(columns["estimator"], estimators)
    return pd.DataFrame(columns, columns=list(COLUMNS))


def _replace_estimates(
    columns: dict[str, Any], rare: RareEstimates, l: Any, log_p_neuron: Any
) -> None:
    """Replace the estimates from counts by those from weighted samples, in the rows of these."""
    rows = np.flatnonzero(rare.where)
    widths, estimate = l[rows], rare.estimate
    p_value = weighted.p_value(estimate, log_p_neuron[rows])
    z = weighted.z_score(estimate, log_p_neuron[rows])
    logs = {"empirical": weighted.log_network(estimate.log_p, widths)}
    for name, log in zip(("ci_low", "ci_high"), weighted.interval(estimate), strict=True):
        logs[name] = weighted.log_network(log, widths)
    for name, log in logs.items():
        columns[f"log10_{name}"][rows] = log / np.log(10.0)
        columns[name][rows] = np.exp(log)
    for name, values in {
        "empirical_neuron": np.exp(estimate.log_p),
        "p_value": p_value,
        "p_value_neuron": p_value,
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
    """Return the method by which the exact value is computed, or why there is none."""
    found = exact.method(scheme)
    return "none: weights depend on each other" if found == "none" else found


def _relative_error(events: NDArray[np.int64], trials: Any) -> NDArray[np.float64]:
    """Return the standard error of a rate divided by the rate; infinite if there is no event."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.sqrt((1.0 - events / trials) / events))


def _categories(names: list[str], repeat: int) -> pd.Categorical:
    """Return a categorical in which every name is repeated ``repeat`` times in a row."""
    codes, distinct = pd.factorize(np.array(names, dtype=object))
    return pd.Categorical.from_codes(np.repeat(codes, repeat), pd.Index(distinct))


OfRows = Callable[[slice], NDArray[np.float64]]


def _in_parallel(first: OfRows, second: OfRows, size: int) -> NDArray[np.float64]:
    """Evaluate two functions of the rows on two threads; SciPy releases the interpreter's lock."""
    results = np.empty((2, size))

    def evaluate(task: tuple[OfRows, NDArray[np.float64], slice]) -> None:
        function, result, rows = task
        result[rows] = function(rows)

    tasks = [
        (function, result, slice(i, i + ROWS_AT_A_TIME))
        for function, result in zip((first, second), results, strict=True)
        for i in range(0, size, ROWS_AT_A_TIME)
    ]
    run_on_threads(evaluate, tasks, threads=2)
    return results
