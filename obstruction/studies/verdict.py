"""The verdict on estimates against exact values, and the errors that a run would have exposed.

Every cell that is counted is tested twice, exactly: the obstructed networks are
``Binomial(networks, P)`` and the pathological neurons ``Binomial(networks · l, p)`` if the exact
values ``P`` and ``p`` are right. There is no test of cells in which neurons depend on each other
and only ``p`` is known. A cell that is estimated from weighted samples has one test, of
``p`` (`obstruction.sampling.inference.weighted`). Cells share random numbers, so all tests form one
family under Holm's method, which holds however they depend on each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from obstruction.sampling.inference.binomial import FloatArray, detectable, p_value, z_score
from obstruction.sampling.inference.verdict import Verdict
from obstruction.tools.json_values import json_object, json_value
from obstruction.tools.words import counted, listed

_CELL: Final = ("scheme", "d", "l", "networks")
_REQUIRED: Final = (*_CELL, "obstructed", "pathological", "exact", "exact_neuron")
_TILTED: Final = ("estimator", "empirical_neuron", "z_neuron", "relative_error_neuron")
_ENDINGS: Final = {"network": "", "neuron": "_neuron"}  # of the columns of each kind of test
_P_VALUES: Final = tuple(f"p_value{ending}" for ending in _ENDINGS.values())
_WORST: Final = 10


class Sensitivity(NamedTuple):
    """The relative errors of the exact values that a run would have exposed in one kind of test.

    Attributes
    ----------
    smallest : float
        The smallest error that any cell would have exposed. Cells with a probability above 1/2 are
        considered only if there are no others.
    scheme, d, l
        The cell that would have exposed it.
    median : float
        The median of the smallest errors of the cells that would have exposed any. It means little
        for a grid of mostly rare events.
    within_tenth, seeing, cells : int
        The numbers of cells that would have exposed an error of 10 %, of cells that would have
        exposed an error of any size, and of all tested cells.
    """

    smallest: float
    scheme: str
    d: int
    l: int
    median: float
    within_tenth: int
    seeing: int
    cells: int


@dataclass(frozen=True, eq=False, repr=False)
class Agreement(Verdict):
    """The verdict on the exact values, as `agreement` returns it.

    The subjects of the `obstruction.sampling.inference.verdict.Verdict` are the cells, so
    ``rejected`` is the number of cells in which at least one test rejects.

    Attributes
    ----------
    power : float
        The probability with which a run exposes an error that is called detectable.
    """

    power: float
    _table: pd.DataFrame

    _shown = ("level", "power", "tests", "cells", "untested", "tilted", "rejected", "smallest")

    @property
    def cells(self) -> int:
        """The number of cells in the table."""
        return len(self._table)

    @property
    def untested(self) -> int:
        """The number of cells without any test, as they have no exact value or no network."""
        return int(np.count_nonzero(np.isnan(self.smallest_of_each)))

    @property
    def tilted(self) -> int:
        """The number of cells that are tested by weighted samples."""
        tilted = next(_tests(self._table)).tilted
        return int(np.count_nonzero(tilted & ~np.isnan(self.smallest_of_each)))

    @cached_property
    def adjusted(self) -> pd.DataFrame:
        """The columns ``p_adjusted`` and ``p_adjusted_neuron`` on the index of the table.

        They hold Holm's adjusted p-values of every cell, or NaN if a cell has no test.
        """
        columns = [f"p_adjusted{ending}" for ending in _ENDINGS.values()]
        return pd.DataFrame(self.p_adjusted.T, self._table.index, columns)

    @cached_property
    def worst(self) -> pd.DataFrame:
        """The ten tests with the smallest p-values and, among equal ones, the largest ``|z|``.

        The columns are ``scheme, d, l, networks, test`` ("network" or "neuron"), ``estimator,
        observed, exact, z, p_value, p_adjusted``.
        """
        tests = list(_tests(self._table))
        whole = _Test("", *(np.concatenate(parts) for parts in list(zip(*tests, strict=True))[1:]))
        flat = self.p_values.ravel()
        rows = np.flatnonzero(~np.isnan(flat))
        if rows.size > _WORST:
            rows = rows[flat[rows] <= np.partition(flat[rows], _WORST - 1)[_WORST - 1]]
        tilted = whole.tilted[rows]
        direct = z_score(whole.events[rows], whole.trials[rows], whole.exact[rows])
        z = np.where(tilted, whole.z[rows], direct)
        order = np.lexsort((-np.abs(z), flat[rows]))[:_WORST]
        rows, z, tilted = rows[order], z[order], tilted[order]
        worst = self._table.iloc[rows % self.cells][list(_CELL)].reset_index(drop=True)
        rate = whole.events[rows] / whole.trials[rows]
        return worst.assign(
            test=np.array(list(_ENDINGS), dtype=object)[rows // self.cells],
            estimator=np.where(tilted, "tilted", "direct"),
            observed=np.where(tilted, whole.estimate[rows], rate),
            exact=whole.exact[rows],
            z=z,
            p_value=flat[rows],
            p_adjusted=self.p_adjusted.ravel()[rows],
        )

    @cached_property
    def detectable(self) -> pd.DataFrame:
        """The smallest relative errors of ``P`` and ``p`` that each cell would have exposed.

        The columns are ``detectable`` and ``detectable_neuron``, on the index of the table. If an
        exact value is too low or too high by this fraction of itself, this cell alone leads to the
        verdict "disagrees" with probability `power` or more. The fraction is infinite if no error
        does so, and NaN if there is no test.
        """
        alpha = self.level / max(self.tests, 1)
        tests = list(_tests(self._table))
        errors = {f"detectable{test.ending}": test.detectable(alpha, self.power) for test in tests}
        return pd.DataFrame(errors, index=self._table.index)

    @cached_property
    def sensitivity(self) -> dict[str, Sensitivity]:
        """The summary of `detectable` for each kind of test that would have exposed any error."""
        found = {}
        for test, ending in _ENDINGS.items():
            errors = self.detectable[f"detectable{ending}"].to_numpy()
            seen = np.isfinite(errors)
            if seen.any():
                # A cell with P near 1 is a poor example, as hardly any error of p changes P.
                # Cells of which 1/2 is the exact value are on one side whatever the rounding.
                likely = self._table[f"exact{ending}"].to_numpy() > 0.5 + 1e-9
                fair = seen & ~likely if (seen & ~likely).any() else seen
                best = int(np.argmin(np.where(fair, errors, np.inf)))
                cell = self._table.iloc[best]
                found[test] = Sensitivity(
                    float(errors[best]),
                    str(cell["scheme"]),
                    int(cell["d"]),
                    int(cell["l"]),
                    float(np.median(errors[seen])),
                    int(np.count_nonzero(errors <= 0.1)),
                    int(np.count_nonzero(seen)),
                    int(np.count_nonzero(~np.isnan(errors))),
                )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict and the reasons for it as values that JSON can hold."""
        worst = self.worst.iloc[0].to_dict() if len(self.worst) else None
        return {
            "verdict": self.verdict,
            "level": self.level,
            "power": self.power,
            "tests": self.tests,
            "cells": self.cells,
            "untested_cells": self.untested,
            "tilted_cells": self.tilted,
            "disagreeing_cells": self.rejected,
            "smallest_adjusted_p": json_value(self.smallest),
            "worst": worst and json_object(worst),
            "detectable": {
                test: json_object(seen._asdict()) for test, seen in self.sensitivity.items()
            },
        }

    def __str__(self) -> str:
        if not self.tests:
            return (
                f"UNTESTED: none of the {self.cells:,} cells has both an exact value and a\n"
                "sampled network, so there is nothing to hold the counts against."
            )
        return "\n".join(self._lines())

    def _means(self) -> str:
        """Say what the exact values were held against."""
        direct = self.cells - self.untested - self.tilted
        kinds = (("counts", direct), ("weighted samples", self.tilted))
        return listed(f"the {kind} of {counted(n, 'cell')}" for kind, n in kinds if n)

    def _lines(self) -> Iterator[str]:
        tested = self.cells - self.untested
        if self.rejected:
            yield f"DISAGREES: {self.rejected:,} of {tested:,} cells contradict the exact value."
            chance = max(self.smallest, 1e-300)
            yield f"  Were it right, counts so far off would have probability at most {chance:.2g}."
        else:
            yield f"AGREES: {self._means()} bear out the exact values."
        yield "  If the formula is right, a verdict of disagreement has probability at most"
        yield (
            f"  {self.level:g}, whatever the dependence between cells ({self.tests:,} tests, Holm)."
        )
        if self.untested:
            yield f"  {self.untested:,} cells are untested: no exact value, or no network sampled."
        worst = self.worst.iloc[0]
        what = "obstructed networks" if worst["test"] == "network" else "pathological neurons"
        if worst["estimator"] == "tilted":
            what = "weighted samples"
        yield f"  Worst: {what} at {worst['scheme']} d={worst['d']} l={worst['l']}:"
        yield (
            f"  rate {_rate(worst, 'observed')}, exact {_rate(worst, 'exact')}, "
            f"z {worst['z']:+.3g}, "
            f"p-value {_small(worst['p_value'])}, adjusted {_small(worst['p_adjusted'])}."
        )
        for test, seen in self.sensitivity.items():
            yield (
                f"  Would have caught ({self.power:.0%} power) 10 % of "
                f"{'P' if test == 'network' else 'p'} in {seen.within_tenth:,} cells, "
                f"{_error_in_words(seen.smallest)} at {seen.scheme} d={seen.d} l={seen.l}."
            )


def agreement(table: pd.DataFrame, *, level: float = 1e-3, power: float = 0.9) -> Agreement:
    """Judge whether the counts in a table agree with its exact values.

    Parameters
    ----------
    table : DataFrame
        One row for each cell, with the columns ``scheme, d, l``, the counts ``networks, obstructed,
        pathological`` and the exact values ``exact, exact_neuron``, which may be NaN. The columns
        ``p_value`` and ``p_value_neuron`` are optional. Without them, p-values are computed. If
        there is a column ``estimator``, its rows "tilted" are judged by ``empirical_neuron,
        z_neuron, relative_error_neuron`` and ``p_value_neuron`` instead of their counts.
    level : float
        The largest probability of the verdict "disagrees" if every exact value is right, strictly
        between 0 and 1.
    power : float
        The probability that defines a detectable error, strictly between ``level`` and 1.

    Returns
    -------
    Agreement

    Raises
    ------
    ValueError
        If a column is missing, a count or a probability is impossible, a p-value is missing in a
        row with an exact value, or ``level`` or ``power`` is out of range.

    Examples
    --------
    >>> table = pd.DataFrame({"scheme": "kaiming_normal", "d": [10], "l": [10], "networks": [1000],
    ...                       "obstructed": [97], "pathological": [101],
    ...                       "exact": [0.0967095], "exact_neuron": [0.0101196]})
    >>> agreement(table).verdict
    'agrees'
    """
    wanted = (*_REQUIRED, *(_TILTED if "estimator" in table.columns else ()))
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        raise ValueError(f"table: lacks the column {', '.join(missing)}")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level = {level!r}: must be strictly between 0 and 1")
    if not level < power < 1.0:
        raise ValueError(
            f"level = {level!r}, power = {power!r}: power must be strictly between level and 1"
        )
    names = [name for name in table.columns if name in (*_REQUIRED, *_P_VALUES, *_TILTED)]
    table = table[names]  # a copy
    p_values = np.stack([_p_values(table, test) for test in _tests(table)])
    return Agreement(level, p_values, power, table)


class _Test(NamedTuple):
    """One kind of test in all cells, where ``exact`` is NaN in cells without a test.

    In most cells, ``events`` of ``trials`` are counted. Cells that are ``tilted`` have instead an
    ``estimate``, its z-score ``z`` under the exact value, and its relative standard ``error``.
    """

    ending: str
    events: NDArray[np.int64]
    trials: NDArray[np.int64]
    exact: FloatArray
    tilted: NDArray[np.bool_]
    estimate: FloatArray
    z: FloatArray
    error: FloatArray

    def detectable(self, alpha: float, power: float) -> FloatArray:
        """Return the smallest relative errors of the exact values that are found so often."""
        direct = np.where(self.tilted, np.nan, self.exact)
        found = detectable(self.trials, direct, alpha=alpha, power=power).either
        sure = special.ndtri(1.0 - alpha / 2.0) + special.ndtri(power)
        tested = self.tilted & ~np.isnan(self.exact)
        seen = np.where(self.error > 0.0, sure * self.error, np.inf)  # 0: certain
        return np.where(tested, seen, found)


def _tests(table: pd.DataFrame) -> Iterator[_Test]:
    networks = table["networks"].to_numpy()
    tilted = np.zeros(len(table), np.bool_)
    empty = np.full(len(table), np.nan)
    dependent = np.zeros(len(table), np.bool_)
    if "p_value_neuron" in table.columns:  # a study gives no test of such neurons
        dependent = (table["exact"].isna() & table["p_value_neuron"].isna()).to_numpy()
    if "estimator" in table.columns:
        tilted = (table["estimator"] == "tilted").to_numpy()
    columns = {"": ("obstructed", networks), "_neuron": ("pathological", networks * table["l"])}
    for ending, (events, trials) in columns.items():
        exact = table[f"exact{ending}"].to_numpy(dtype=np.float64)
        exact = np.where(dependent, np.nan, exact)  # neurons whose number is not binomial
        # From weighted samples, a test of p is also a test of P, so only p is tested.
        exact = np.where((networks > 0) & ~(tilted & (ending == "")), exact, np.nan)
        weighted = [empty] * 3
        if tilted.any() and ending:
            weighted = [table[name].to_numpy(dtype=np.float64) for name in _TILTED[1:]]
        yield _Test(ending, table[events].to_numpy(), np.asarray(trials), exact, tilted, *weighted)


def _p_values(table: pd.DataFrame, test: _Test) -> FloatArray:
    name = f"p_value{test.ending}"
    if name not in table.columns:
        return p_value(test.events, test.trials, test.exact)
    given = np.where(np.isnan(test.exact), np.nan, table[name].to_numpy(dtype=np.float64))
    lacking = np.count_nonzero(np.isnan(given) & ~np.isnan(test.exact))
    if lacking:
        raise ValueError(f"{name}: is NaN in {lacking} cells that have an exact value")
    return given


def _error_in_words(error: float) -> str:
    return f"{100.0 * error:.2g} %" if error < 1.0 else f"a factor of {1.0 + error:.3g}"


def _rate(row: pd.Series[Any], name: str) -> str:
    """Return a rate as text. A weighted rate of 0 has underflowed."""
    tiny = row["estimator"] == "tilted" and row[name] == 0.0
    return "< 1e-308" if tiny else f"{row[name]:.6g}"


def _small(p: float) -> str:
    return f"{p:.2g}" if p >= 1e-300 else "< 1e-300"
