"""The numbers of a table: the chosen cells of a study, or exact values without a study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from obstruction import exact
from obstruction.reporting.tables.axes import Arrangement
from obstruction.schemes import InitScheme

if TYPE_CHECKING:
    from obstruction.studies.study import Study

VALUES: Final = ("exact", "empirical")

MOST_CELLS: Final = 10_000
"""The largest number of cells of a table. `Study.table` has no such limit."""

MOST_DIGITS: Final = 11
"""The number of significant digits of the most accurate method."""

RECORDED: Final = "laws of recorded draws"
"""The method of exact values of models, of which scales in single precision are known."""

_EXACT: Final = ("exact", "log10_exact", "method")
_EMPIRICAL: Final = (
    *("networks", "obstructed", "empirical", "ci_low", "ci_high"),
    *("log10_empirical", "log10_ci_low", "log10_ci_high", "estimator", "samples"),
)


def study_cells(study: Study, arrangement: Arrangement, values: tuple[str, ...]) -> pd.DataFrame:
    """Return the chosen cells of a study's table as `printed_columns` gives them."""
    keys = (arrangement.keys(name) for name in ("scheme", "d", "l"))
    return printed_columns(table_rows(study, *keys), values)


def table_rows(
    study: Study, schemes: Sequence[InitScheme], d: Sequence[int], l: Sequence[int]
) -> pd.DataFrame:
    """Return the rows of a study's table for some of its schemes and sizes, in the order given."""
    config = study.config
    labels = [scheme.label for scheme in config.schemes]
    places: Any = np.ix_(
        np.array([labels.index(scheme.label) for scheme in schemes]),
        np.searchsorted(config.d, d),
        np.searchsorted(config.l, l),
    )
    rows = np.ravel_multi_index(places, config.shape).ravel()
    return study.table().iloc[rows].reset_index(drop=True)


def printed_columns(rows: pd.DataFrame, values: tuple[str, ...]) -> pd.DataFrame:
    """Return the columns of a study's table that are needed to print some of `VALUES`.

    For estimates, the confidence level of the intervals is added as ``interval_level``.
    """
    from obstruction.studies.table import INTERVAL_LEVEL

    columns = ["scheme", "d", "l"]
    columns += [*_EXACT] if "exact" in values else []
    columns += [*_EMPIRICAL] if "empirical" in values else []
    frame = rows[columns].copy()
    for name in frame.columns[[dtype == "category" for dtype in frame.dtypes]]:
        frame[name] = frame[name].astype("str")
    if "empirical" in values:
        frame["interval_level"] = INTERVAL_LEVEL
    return frame


def exact_cells(arrangement: Arrangement) -> pd.DataFrame:
    """Return the exact values of all cells, with NaN for schemes that have none.

    If no scheme has exact values, `NoExactValue` is raised.
    """
    schemes = arrangement.keys("scheme")
    d = np.array(arrangement.keys("d"))[:, None]
    l = np.array(arrangement.keys("l"))[None, :]
    if not any(map(exact.has_exact, schemes)):
        exact.obstruction_probability(schemes[0], 1, 1)  # raises the error
    parts = []
    for scheme in schemes:
        method = exact.method(scheme)
        whole, log = np.full((2, d.size, l.size), np.nan)
        if method != "none":
            whole = np.asarray(exact.obstruction_probability(scheme, d, l))
            log = np.asarray(exact.log_obstruction_probability(scheme, d, l)) / np.log(10.0)
        columns = {
            "scheme": scheme.label,
            "d": np.repeat(d, l.size),
            "l": np.tile(l.ravel(), d.size),
            "exact": whole.ravel(),
            "log10_exact": log.ravel(),
            "method": "none: weights depend on each other" if method == "none" else method,
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def accurate_digits(method: str, log10: float) -> int:
    """Return how many significant digits of an exact probability are right, at most `MOST_DIGITS`.

    The number follows from the relative errors of the value and of its logarithm, which
    `obstruction.exact` states. For very small values, that of the logarithm decides.

    Examples
    --------
    >>> accurate_digits("F distribution", -1.0), accurate_digits("contour integral", -1.0)
    (11, 9)
    >>> accurate_digits("F distribution", -1.5e6)
    7
    """
    if method == "certain" or log10 == -math.inf:
        return MOST_DIGITS
    error, share = (1e-12, 1e-14) if method == "F distribution" else (1e-10, 1e-13)
    if method == RECORDED:
        error = 1e-6
    error = max(error, share * -log10 * math.log(10.0))
    return max(1, min(MOST_DIGITS, math.floor(math.log10(0.5 / error))))


def methods(frame: pd.DataFrame) -> dict[str, str]:
    """Return the method of the exact values by the label of the scheme."""
    pairs: Any = frame[["scheme", "method"]].drop_duplicates().itertuples(index=False)
    return {str(scheme): str(method) for scheme, method in pairs}
