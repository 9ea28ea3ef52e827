"""Exact binomial statistics for millions of cells: intervals, tests, and their sensitivity.

Tail probabilities are regularised incomplete beta functions and never normal approximations, so
they are equally accurate for a rate of 1e-150 and for 10¹³ trials.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from obstruction.tools.binomial_terms import log_binomial_term

FloatArray: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = NDArray[np.int64]

_TIE: Final = math.log1p(1e-7)  # outcomes whose log-probabilities differ by less are equally likely


class Detectable(NamedTuple):
    """The smallest relative errors of a stated rate that a test exposes, see `detectable`."""

    upward: FloatArray
    downward: FloatArray
    either: FloatArray


def interval(k: ArrayLike, n: ArrayLike, *, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Return the Clopper–Pearson interval of a rate.

    Parameters
    ----------
    k, n : array_like of int
        The numbers of events and of trials, ``0 <= k <= n``, which are broadcast.
    level : float
        The least probability, in (0, 1), that the interval contains the true rate.

    Returns
    -------
    low, high : ndarray
        The ends, of the broadcast shape. ``low`` is 0 if ``k = 0``, and ``high`` is 1 if ``k = n``.

    Examples
    --------
    >>> low, high = interval([0, 5, 10], 10)
    >>> low.round(4).tolist(), high.round(4).tolist()
    ([0.0, 0.1871, 0.6915], [0.3085, 0.8129, 1.0])
    """
    _check_level("level", level)
    k, n, _ = _read(k, n)
    shape = k.shape
    k, n, cells = _pairs(k.ravel(), n.ravel())
    low, high = np.zeros(k.size), np.ones(k.size)
    for end, upper, rows in ((low, True, k > 0), (high, False, k < n)):
        end[rows] = _rate_at(k[rows], n[rows], (1.0 - level) / 2, upper=upper)
    return low[cells].reshape(shape), high[cells].reshape(shape)


def p_value(k: ArrayLike, n: ArrayLike, p: ArrayLike) -> FloatArray:
    """Return the exact two-sided p-value of ``k`` events in ``n`` trials of probability ``p``.

    It is the probability of all outcomes, in both tails, that are at most as likely as the observed
    one, up to a relative difference of 1e-7, as in ``scipy.stats.binomtest``.

    Parameters
    ----------
    k, n : array_like of int
        The numbers of events and of trials, ``0 <= k <= n``.
    p : array_like of float
        The probability to test, in [0, 1] or NaN. All three arguments are broadcast.

    Returns
    -------
    ndarray
        The p-values, of the broadcast shape, or NaN if ``p`` is NaN. Values down to 1e-250 have a
        small relative error.

    Examples
    --------
    >>> p_value([5, 9, 10], 10, 0.5).tolist()
    [1.0, 0.021484375, 0.001953125]
    """
    k, n, p = _read(k, n, p)
    shape = k.shape
    k, n, p = k.ravel(), n.ravel(), p.ravel()
    mirror = p > 0.5  # for these p, 1 - p is exact and n (1 - p) has more digits than n p
    k, p = np.where(mirror, n - k, k), np.where(mirror, 1.0 - p, p)
    result = np.where(np.isnan(p), np.nan, 1.0)
    # The p-value of the likeliest count is 1. In most cells of a large grid that count is 0.
    rows = np.flatnonzero((k != np.floor((n + 1.0) * p)) & ~np.isnan(p))
    result[rows] = 0.0
    rows = rows[p[rows] > 0.0]
    result[rows] = _two_sided(k[rows], n[rows], p[rows])
    return result.reshape(shape)


def z_score(k: ArrayLike, n: ArrayLike, p: ArrayLike) -> FloatArray:
    """Return ``(k - n p) / sqrt(n p (1 - p))``, the distance from the mean in standard deviations.

    Parameters, shapes and errors are those of `p_value`. The score is NaN where ``p`` is NaN. Where
    the variance is 0, the score is 0 if ``k = n p`` and infinite otherwise.

    Examples
    --------
    >>> z_score([60, 0, 1], 100, [0.5, 0.0, 0.0]).tolist()
    [2.0, 0.0, inf]
    """
    k, n, p = _read(k, n, p)
    off = _offset(k, n, p)
    with np.errstate(divide="ignore", invalid="ignore"):
        score = off / np.sqrt(n * p * (1.0 - p))
    return np.where(off == 0.0, 0.0, score)


def detectable(n: ArrayLike, p: ArrayLike, *, alpha: float, power: float = 0.9) -> Detectable:
    """Return the smallest relative errors of ``p`` that ``n`` trials would expose.

    The test rejects ``p`` if the count is in one of the tails ``K >= k_hi`` and ``K <= k_lo``.
    These are the largest tails that have probability at most ``alpha / 2`` under ``p`` and in which
    `p_value` is at most ``alpha``. An error is exposed if the count falls into the tail on its side
    with probability at least ``power``.

    Parameters
    ----------
    n, p : array_like
        The number of trials, >= 0, and the probability to test, in [0, 1] or NaN. They are
        broadcast.
    alpha, power : float
        The false-alarm rate of the test and the probability with which it must detect an error,
        ``0 < alpha < power < 1``.

    Returns
    -------
    Detectable
        `upward` is the smallest ``delta > 0`` such that a true rate ``p(1 + delta)`` is exposed,
        `downward` the smallest for ``p(1 - delta)``, and `either` the smaller of the two. They are
        NaN where ``p`` is NaN. They are infinite if no error is exposed, and for ``p = 0``, which a
        single event rejects.

    Examples
    --------
    >>> seen = detectable(10_000, [0.5, 1e-9], alpha=0.01)
    >>> seen.upward.round(4).tolist(), seen.downward.round(4).tolist()
    ([0.0387, 230231.0018], [0.0387, inf])
    """
    _check_level("alpha", alpha)
    _check_level("power", power, above=alpha)
    zero, n, p = _read(0, n, p)
    n, p = n.ravel(), p.ravel()
    errors = []
    for upper in (True, False):
        with np.errstate(divide="ignore", invalid="ignore"):
            extreme = n * (np.log(p) if upper else np.log1p(-p))  # log P(K = n) or log P(K = 0)
        error = np.where(np.isnan(p), np.nan, np.inf)
        rows = np.flatnonzero((extreme <= math.log(alpha / 2)) & (p > 0.0))
        error[rows] = _error_exposed(n[rows], p[rows], alpha, power, upper=upper)
        errors.append(error.reshape(zero.shape))
    return Detectable(errors[0], errors[1], np.minimum(errors[0], errors[1]))


def holm(p_values: ArrayLike) -> FloatArray:
    """Return Holm's adjusted p-values of one family of tests.

    If every hypothesis is rejected whose adjusted p-value is at most ``level``, the probability
    that any true one is rejected is at most ``level``, however the tests depend on each other
    (Holm 1979).

    Parameters
    ----------
    p_values : array_like of float
        The p-values, in [0, 1]. A value of NaN means that there is no test, and remains NaN.

    Returns
    -------
    ndarray
        The adjusted p-values, in the shape and the order of the p-values.

    Examples
    --------
    >>> holm([0.01, 0.04, float("nan"), 0.03]).tolist()
    [0.03, 0.06, nan, 0.06]
    """
    p = _fractions("p_values", p_values)
    flat = p.ravel()
    adjusted = flat.copy()  # NaN stays NaN, and 1 stays 1
    rows = np.flatnonzero(flat < 1.0)
    rows = rows[np.argsort(flat[rows], kind="stable")]
    steps = flat[rows] * (np.count_nonzero(~np.isnan(flat)) - np.arange(rows.size))
    adjusted[rows] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted.reshape(p.shape)


def _check_level(name: str, value: float, above: float = 0.0) -> None:
    if not above < value < 1.0:
        raise ValueError(f"{name} = {value!r}: must be strictly between {above:g} and 1")


def _integers(name: str, values: ArrayLike) -> FloatArray:
    number = np.asarray(values, dtype=np.float64)  # exact up to 2**53
    bad = ~((number >= 0.0) & (number <= 2.0**53) & (np.floor(number) == number))
    if bad.any():
        raise ValueError(f"{name} = {number[bad].flat[0]}: must be an integer from 0 to 2**53")
    return number


def _fractions(name: str, values: ArrayLike) -> FloatArray:
    number = np.asarray(values, dtype=np.float64)
    bad = (number < 0.0) | (number > 1.0)
    if bad.any():
        raise ValueError(f"{name} = {number[bad].flat[0]}: must be between 0 and 1, or NaN")
    return number


def _read(
    k: ArrayLike, n: ArrayLike, p: ArrayLike = 0.5
) -> tuple[FloatArray, FloatArray, FloatArray]:
    k, n, p = np.broadcast_arrays(_integers("k", k), _integers("n", n), _fractions("p", p))
    bad = k > n
    if bad.any():
        raise ValueError(f"k = {k[bad].flat[0]:.0f}: must be at most n = {n[bad].flat[0]:.0f}")
    return k, n, p


def _pairs(k: FloatArray, n: FloatArray) -> tuple[FloatArray, FloatArray, Rows]:
    """Return the distinct pairs ``(k, n)`` and the place of each cell's pair among them."""
    pairs, inverse = np.unique(k + 1j * n, return_inverse=True)
    return pairs.real, pairs.imag, inverse


def _tail(k: FloatArray, n: FloatArray, p: FloatArray, *, upper: bool) -> FloatArray:
    """Return ``P(K >= k)`` for ``1 <= k <= n``, or ``P(K <= k)`` for ``0 <= k < n``."""
    tail = special.betainc(k, n - k + 1.0, p) if upper else special.betaincc(k + 1.0, n - k, p)
    return np.asarray(tail)


def _rate_at(k: FloatArray, n: FloatArray, tail: float, *, upper: bool) -> FloatArray:
    """Return the rate at which `_tail` has the value ``tail``."""
    a, b = (k, n - k + 1.0) if upper else (k + 1.0, n - k)
    rate = np.asarray((special.betaincinv if upper else special.betainccinv)(a, b, tail))
    # The inverse loses digits if there are many trials; one Newton step restores them.
    rows = np.flatnonzero(n > 1e8)
    k, n, p = k[rows], n[rows], rate[rows]
    slope = np.exp(_log_pmf(k, n, p)) * (k / p if upper else -(n - k) / (1.0 - p))
    rate[rows] = p - (_tail(k, n, p, upper=upper) - tail) / slope
    return rate


def _offset(k: FloatArray, n: FloatArray, p: FloatArray) -> FloatArray:
    """Return ``k - n p`` without cancellation for ``p`` near 1."""
    return np.where(p > 0.5, n * (1.0 - p) - (n - k), k - n * p)


def _log_pmf(k: FloatArray, n: FloatArray, p: FloatArray) -> FloatArray:
    """Return ``log P(K = k)`` for ``0 < p < 1``."""
    with np.errstate(divide="ignore"):
        return log_binomial_term(k, n, p, np.log(p), _offset(k, n, p))


def _first_at_most(
    evaluate: Callable[[FloatArray, Rows], tuple[FloatArray, FloatArray]],
    target: FloatArray,
    guess: FloatArray,
    limit: FloatArray,
) -> FloatArray:
    """Return the smallest integers ``m`` from 0 to ``limit`` with ``f(m) <= target``.

    The result is ``limit + 1`` if there is none. ``evaluate(m, rows)`` returns ``f(m)`` and
    ``f(m - 1)`` of the given rows. ``f`` is decreasing and concave, so Newton steps converge fast;
    bisection takes over if they do not.
    """
    low, high = np.full(limit.shape, -1.0), limit + 1.0  # f(low) > target >= f(high)
    m = np.clip(np.ceil(guess), 0.0, np.maximum(limit, 0.0))
    rows = np.flatnonzero(limit >= 0.0)
    steps = 0
    while rows.size:
        at, goal = m[rows], target[rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            value, before = evaluate(at, rows)
            newton = at + np.ceil((goal - value) / (value - before))
        below, settled = value <= goal, (before > goal) | (at == 0.0)
        left = np.where(below, np.where(settled, at - 1.0, low[rows]), at)
        right = np.where(below, np.where(settled, at, at - 1.0), high[rows])
        following = np.clip(newton, left + 1.0, np.minimum(right, limit[rows]))
        bisect = ~np.isfinite(newton) | (steps > 7)
        m[rows] = np.where(bisect, np.floor((left + right) / 2.0), following)
        low[rows], high[rows] = left, right
        rows = rows[right - left > 1.0]
        steps += 1
    return high


def _two_sided(k: FloatArray, n: FloatArray, p: FloatArray) -> FloatArray:
    """Return the two-sided p-values for ``0 < p <= 1/2`` if ``k`` is not the likeliest count."""
    mean, odds, skew = n * p, p / (1.0 - p), 1.0 - 2.0 * p
    below = k < mean
    side = np.where(below, 1.0, -1.0)  # the direction of the other tail
    base = np.where(below, np.ceil(mean), np.floor(mean))

    def evaluate(m: FloatArray, rows: Rows) -> tuple[FloatArray, FloatArray]:
        j, n_, odds_ = base[rows] + side[rows] * m, n[rows], odds[rows]
        value = _log_pmf(j, n_, p[rows])
        inward = np.where(below[rows], j / ((n_ - j + 1.0) * odds_), (n_ - j) * odds_ / (j + 1.0))
        return value, value + np.log(inward)

    # First guess: k mirrored in the mode, corrected for the skewness.
    off = k - (mean - skew / 2.0)
    guess = k - 2.0 * off + off * off * skew / (3.0 * mean * (1.0 - p))
    limit = np.where(below, n - base, base)
    target = _log_pmf(k, n, p) + _TIE
    other = base + side * _first_at_most(evaluate, target, side * (guess - base), limit)

    total = np.zeros_like(k)
    for upper in (False, True):
        edge = np.where(below != upper, k, other)
        rows = np.flatnonzero((edge >= 0.0) & (edge <= n))
        total[rows] += _tail(edge[rows], n[rows], p[rows], upper=upper)
    return np.minimum(total, 1.0)


def _error_exposed(
    n: FloatArray, p: FloatArray, alpha: float, power: float, *, upper: bool
) -> FloatArray:
    """Return the smallest relative error of ``p`` on one side that is exposed, or infinity."""
    side = 1.0 if upper else -1.0
    k = np.ones(n.shape)  # one event rejects p if n p <= alpha / 2, because P(K >= 1) <= n p
    rows = np.flatnonzero(n * p > alpha / 2) if upper else np.arange(n.size)
    k[rows] = _critical(n[rows], p[rows], alpha / 2, upper=upper)
    # `p_value` does not give both tails the same share, so the tail may have to start further out.
    while rows.size:
        rows = rows[p_value(k[rows], n[rows], p[rows]) > alpha]
        k[rows] += side
        rows = rows[(k[rows] >= 0.0) & (k[rows] <= n[rows])]
    error = np.full(n.shape, np.inf)
    rows = np.flatnonzero((k >= 0.0) & (k <= n))
    k, n, cells = _pairs(k[rows], n[rows])
    with np.errstate(over="ignore"):
        error[rows] = side * (_rate_at(k, n, power, upper=upper)[cells] / p[rows] - 1.0)
    return error


def _critical(n: FloatArray, p: FloatArray, size: float, *, upper: bool) -> FloatArray:
    """Return the count nearest to the mean whose `_tail` is at most ``size``, which must exist."""
    side, mean = (1.0, n * p) if upper else (-1.0, n * p)
    base = np.minimum(np.floor(mean) + 1.0, n) if upper else np.maximum(np.ceil(mean) - 1.0, 0.0)

    def evaluate(m: FloatArray, rows: Rows) -> tuple[FloatArray, FloatArray]:
        k, n_, p_ = base[rows] + side * m, n[rows], p[rows]
        tail = _tail(k, n_, p_, upper=upper)
        return np.log(tail), np.log(tail + np.exp(_log_pmf(k - side, n_, p_)))

    # First guess: the Cornish–Fisher expansion of the quantile, half a count further out.
    z, skew = -side * float(special.ndtri(size)), 1.0 - 2.0 * p
    guess = mean + z * np.sqrt(mean * (1.0 - p)) + skew * (z * z - 1.0) / 6.0 + side * 0.5
    target, limit = np.full(n.shape, math.log(size)), n - base if upper else base
    return base + side * _first_at_most(evaluate, target, side * (guess - base), limit)
