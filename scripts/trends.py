"""Tests of whether the loss falls with the number of free neurons, and not with their share.

The losses of one width l are an array ``(initialisations, l + 1)``. Row i belongs to one initial
function, whose first 0, 1, ..., l neurons are free, so a row is a block of paired values.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import isotonic_regression

from obstruction.sampling.inference import binomial

FloatArray = NDArray[np.float64]
Losses = Mapping[int, FloatArray]
"""The losses of several widths."""


class TrendTest(NamedTuple):
    """A test of one width; the p-values are adjusted for all widths and both directions (Holm).

    Attributes
    ----------
    size : how the loss changes with l+
    falls, rises : p-values that are small if the loss falls, or rises, with l+
    """

    size: float
    falls: float
    rises: float


def page_tests(losses: Losses) -> dict[int, TrendTest]:
    """Test for every width from 2 on whether the ranks of the loss fall, or rise, with l+.

    Every initial function counts alike, however little its loss changes. The null hypothesis is
    that l+ makes no difference, so that the values of a row can be exchanged. If it holds at all
    widths, the probability that any p-value is at most ``level`` is at most ``level``. The `size`
    is the mean over the rows of Spearman's correlation of loss and l+, which is -1 if every row
    falls. (Page 1963, normal approximation.)
    """
    found = {}
    for l, values in losses.items():
        if l < 2:  # Page's test needs three columns
            continue
        ranks = stats.rankdata(values, axis=1)
        up, down = np.arange(1, l + 2), np.arange(l + 1, 0, -1)
        rises, falls = (
            stats.page_trend_test(ranks, ranked=True, predicted_ranks=order, method="asymptotic")
            for order in (up, down)
        )
        found[l] = TrendTest(
            float(_spearman(up, ranks).mean()), float(falls.pvalue), float(rises.pvalue)
        )
    return _adjusted(found)


def mean_tests(losses: Losses, *, flips: int = 100_000, seed: int = 0) -> dict[int, TrendTest]:
    """Test for every width whether the mean loss falls, or rises, with l+.

    The statistic is the mean over the rows of the slope of the least-squares line. `size` is this
    slope times l, which is the change from no free neuron to all. If l+ makes no difference,
    reversing a row changes nothing, so the slopes' signs are fair coins. The p-values come from
    ``flips`` random flips of these signs and are at least ``1 / (flips + 1)``. A few rows that
    change much can decide.
    """
    rng = np.random.default_rng(seed)
    rows = max((len(values) for values in losses.values()), default=0)
    coins = np.where(rng.random((flips, rows)) < 0.5, -1.0, 1.0)
    found = {}
    for l, values in losses.items():
        x = np.arange(l + 1) - l / 2
        slopes = values @ x / (x @ x)
        flipped = coins[:, : len(slopes)] @ slopes
        total = slopes.sum()
        slack = 1e-9 * np.abs(slopes).sum()  # sums that are equal up to rounding count as equal
        falls, rises = (flipped <= total + slack).sum(), (flipped >= total - slack).sum()
        chances = (1 + falls) / (1 + flips), (1 + rises) / (1 + flips)
        found[l] = TrendTest(float(l * slopes.mean()), *map(float, chances))
    return _adjusted(found)


def _adjusted(tests: dict[int, TrendTest]) -> dict[int, TrendTest]:
    """Return the tests with p-values adjusted as one family."""
    pairs = np.array([(test.falls, test.rises) for test in tests.values()]).reshape(-1, 2)
    adjusted = binomial.holm(pairs) if pairs.size else pairs
    return {
        l: TrendTest(test.size, *map(float, pair))
        for (l, test), pair in zip(tests.items(), adjusted, strict=True)
    }


class Interval(NamedTuple):
    """A statistic of all losses and its interval from resampled initialisations."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


class Trends(NamedTuple):
    """How the mean loss of a cell (l, l+) depends on l, l+ and the share l+/l.

    The first three attributes are Spearman correlations within strata, averaged with the strata's
    numbers of cells as weights. If the number alone matters, the second is 0 and the third is
    negative. If the share alone matters, the third is 0 and the second is not.

    Attributes
    ----------
    number_at_width : correlation of loss and l+ among cells of the same l
    width_at_number : correlation of loss and l among cells of the same l+
    width_at_share : correlation of loss and l among cells of the same l+/l, where there are at
        least three cells, without share 0
    explained_by_number, explained_by_share : share of the variance of the cells' means that the
        best decreasing function of l+, or of l+/l, explains
    difference : the first of these two shares less the second
    """

    number_at_width: Interval
    width_at_number: Interval
    width_at_share: Interval
    explained_by_number: Interval
    explained_by_share: Interval
    difference: Interval


def trends(losses: Losses, *, resamples: int = 1000, seed: int = 0, level: float = 0.95) -> Trends:
    """Return the trends with intervals from resampling the rows of every width.

    An interval reaches to either side of the value by the standard error of the resampled values
    times a normal quantile, and is cut to [-1, 1]. Percentiles would be wrong: resampling adds
    noise, which brings shares of variance and rank correlations nearer to zero than the value.
    """
    cells = [(l, plus) for l, values in losses.items() for plus in range(values.shape[1])]
    l, plus = np.array(cells, dtype=np.int64).T
    share = np.array([float(Fraction(p, w)) for w, p in cells])
    at_width, at_number = _strata(l), _strata(plus)
    at_share = _strata(np.where(plus > 0, share, np.nan))

    def statistics(mean: FloatArray) -> FloatArray:
        number, proportion = _explained(plus, mean), _explained(share, mean)
        return np.array(
            [
                _within(at_width, plus, mean),
                _within(at_number, l, mean),
                _within(at_share, l, mean),
                number,
                proportion,
                number - proportion,
            ]
        )

    values = statistics(np.concatenate([rows.mean(axis=0) for rows in losses.values()])[None])
    rng = np.random.default_rng(seed)
    drawn = statistics(np.hstack([_resampled(rows, resamples, rng) for rows in losses.values()]))
    found = values[:, 0]
    width = stats.norm.ppf(0.5 + 0.5 * level) * drawn.std(axis=1, ddof=1)
    low, high = np.clip(found - width, -1.0, 1.0), np.clip(found + width, -1.0, 1.0)
    return Trends._make(map(Interval, found.tolist(), low.tolist(), high.tolist()))


def _resampled(rows: FloatArray, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Return means of columns over rows drawn with replacement, ``(resamples, columns)``."""
    n = len(rows)
    return rng.multinomial(n, np.full(n, 1.0 / n), size=resamples) @ rows / n


def _strata(values: FloatArray | NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """Return the cells of every value that at least three cells have; NaN is no value."""
    groups = [np.flatnonzero(values == value) for value in np.unique(values)]
    return [group for group in groups if len(group) >= 3]


def _within(strata: list[NDArray[np.intp]], x: NDArray[np.int64], y: FloatArray) -> FloatArray:
    """Return the correlation of x and each row of y within strata, weighted by their sizes.

    NaN if there is no stratum.
    """
    total = np.zeros(len(y))
    for group in strata:
        total += len(group) * _spearman(x[group], y[:, group])
    return total / sum(map(len, strata)) if strata else np.full(len(y), np.nan)


def _spearman(x: NDArray[np.int64], y: FloatArray) -> FloatArray:
    """Return Spearman's correlation of x and each row of y, or 0 if the row is constant."""
    a, b = stats.rankdata(x), stats.rankdata(y, axis=1)
    a, b = a - a.mean(), b - b.mean(axis=1, keepdims=True)
    size = np.sqrt((a @ a) * (b * b).sum(axis=1))
    return np.divide(b @ a, size, out=np.zeros(len(y)), where=size > 0.0)


def _explained(x: NDArray[Any], y: FloatArray) -> FloatArray:
    """Return the share of each row's variance that the best decreasing function of x explains."""
    _, group, counts = np.unique(x, return_inverse=True, return_counts=True)
    off = y - y.mean(axis=1, keepdims=True)
    found = np.zeros(len(y))
    for i, row in enumerate(off):
        mean = np.bincount(group, row) / counts
        fit = isotonic_regression(mean, weights=counts, increasing=False).x[group]
        whole = row @ row
        found[i] = 1.0 - ((row - fit) ** 2).sum() / whole if whole > 0.0 else 0.0
    return found
