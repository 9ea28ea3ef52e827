"""Inference from weighted samples: intervals and tests for a mean of skewed weights, in log form.

Importance sampling estimates a probability ``p`` by the mean of independent weights. Their sum is
no binomial count, so what follows rests on the central limit theorem, corrected twice: for skewed
weights by Hall's transformation of Student's statistic (Hall, "On the removal of skewness by
transformation", JRSS B 54, 1992), and for few effective samples by Student's law with as many
degrees of freedom. Of the tests with and without the transformation the more cautious one counts.
This is no proof of coverage; ``scripts/tilted_coverage.py`` measures it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from obstruction.tools.checks import check_probability
from obstruction.tools.independent_events import log_some

FloatArray: TypeAlias = NDArray[np.float64]

_SWITCH: Final = -0.7
"""The switch of `log_some` with which existing tables of results were computed."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """Estimated probabilities, one per cell, from a mean of weights each.

    Attributes
    ----------
    samples : int
        Weights per cell.
    log_p : ndarray
        Natural logarithm of the mean weight; ``-inf`` if all weights are 0. ``exp(log_p)`` is
        unbiased, and may exceed 1 a little where the probability is close to 1.
    relative_error : ndarray
        Standard error over mean, including the rounding of the draws; 0 if the probability is
        certain, ``inf`` if all weights are 0.
    skewness : ndarray
        Of the weights, as sampled.
    largest_share : ndarray
        The largest weight over the sum of all: close to ``1 / samples`` if the proposal fits, and
        a warning if it is 0.1 or more.
    log_bound : ndarray
        Logarithm of a bound on every weight; ``inf`` if none is known.
    """

    samples: int
    log_p: FloatArray
    relative_error: FloatArray
    skewness: FloatArray
    largest_share: FloatArray
    log_bound: FloatArray

    @property
    def effective_samples(self) -> FloatArray:
        """How many equal weights would be as good: ``(sum w)^2 / sum w^2``."""
        with np.errstate(invalid="ignore"):
            return self.samples / (1.0 + self.samples * self.relative_error**2)


def interval(estimate: Estimate, *, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Return the logarithms of the ends of a confidence interval of each probability.

    It holds the values that `p_value` does not reject: the union of Student's interval and Hall's.
    If all weights are 0 the upper end is that of ``P(weight > 0)``, which is exact, times the
    largest weight.

    Parameters
    ----------
    estimate : Estimate
    level : float
        Confidence, strictly between 0 and 1.

    Returns
    -------
    low, high : ndarray
        ``log p``; ``low`` is ``-inf`` where the weights do not exclude 0, ``high`` is at most 0.
    """
    check_probability("level", level)
    error, c = estimate.relative_error, _asymmetry(estimate)
    x = special.stdtrit(_freedom(estimate), 0.5 + level / 2.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        lower = np.maximum(x, _hall_inverse(x, c)) * error
        upper = np.minimum(-x, _hall_inverse(-x, c)) * error
        low = estimate.log_p + np.log1p(-np.minimum(lower, 1.0))
        high = estimate.log_p + np.log1p(-upper)
        never = estimate.log_bound + np.log(-np.expm1(np.log1p(-level) / estimate.samples))
    certain, empty = error == 0.0, np.isinf(error)
    low = np.select([certain, empty], [estimate.log_p, -np.inf], low)
    high = np.select([certain, empty], [estimate.log_p, never], high)
    return np.minimum(low, 0.0), np.minimum(high, 0.0)


def z_score(estimate: Estimate, log_p: ArrayLike) -> FloatArray:
    """Return how far the estimates are from stated probabilities, in standard errors.

    Parameters
    ----------
    estimate : Estimate
    log_p : array_like
        Logarithms of the stated probabilities; they broadcast against the cells.

    Returns
    -------
    ndarray
        Positive where the estimate is higher; 0 or infinite where the estimate is certain.
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        off = -np.expm1(np.asarray(log_p, np.float64) - estimate.log_p)
        same = np.equal(log_p, estimate.log_p)
        score = np.where(same, 0.0, off / estimate.relative_error)
        empty = np.isinf(estimate.relative_error) & ~np.isnan(log_p)
        return np.where(empty, 0.0, score)


def p_value(estimate: Estimate, log_p: ArrayLike) -> FloatArray:
    """Return two-sided p-values of the estimates if the stated probabilities are right.

    The larger one of Student's and of Hall's test. If all weights are 0, the probability of that
    is at most ``(1 - p / bound) ** samples``, and that bound is the p-value.

    Parameters
    ----------
    estimate : Estimate
    log_p : array_like
        Logarithms of the stated probabilities; they broadcast against the cells.

    Returns
    -------
    ndarray
        In [0, 1]; NaN where ``log_p`` is.
    """
    t = z_score(estimate, log_p)
    c, freedom = _asymmetry(estimate), _freedom(estimate)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        hall = ((1.0 + c * t / 3.0) ** 3 - 1.0) / c + c / 6.0
        hall = np.where(np.isfinite(t) & (c != 0.0), hall, t)
        score = np.where(np.sign(hall) == np.sign(t), np.minimum(np.abs(hall), np.abs(t)), 0.0)
        p = 2.0 * special.stdtr(freedom, -score)
        share = np.exp(np.minimum(np.asarray(log_p) - estimate.log_bound, 0.0))
        never = np.exp(estimate.samples * np.log1p(-share))
    p = np.where(np.isinf(estimate.relative_error), never, np.minimum(p, 1.0))
    return np.where(np.isnan(log_p), np.nan, p)


def log_network(log_p: ArrayLike, l: ArrayLike) -> FloatArray:
    """Return ``log(1 - (1 - p)**l)``: from a neuron's probability to a network's.

    It grows with ``p``, so it takes estimates to estimates and ends of intervals to ends, and a
    test of ``p`` is one of the network's probability.

    Parameters
    ----------
    log_p : array_like
        Logarithms; above 0 they count as 0.
    l : array_like
        Hidden neurons.

    Examples
    --------
    >>> log_network([-800.0, np.log(0.5), 0.0], 2).round(3).tolist()
    [-799.307, -0.288, 0.0]
    """
    log_p = np.minimum(np.asarray(log_p, np.float64), 0.0)
    l = np.asarray(l, np.float64)
    with np.errstate(under="ignore"):
        found = log_some(l, np.exp(log_p), log_p, switch=_SWITCH)
    return found + 0.0  # no negative zeros


def network_error(estimate: Estimate, l: ArrayLike) -> FloatArray:
    """Return the relative standard error of the network's probability, by the delta method.

    Parameters
    ----------
    estimate : Estimate
    l : array_like
        Hidden neurons.
    """
    l = np.asarray(l, np.float64)
    log_p = np.minimum(estimate.log_p, 0.0)
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        others = np.where(l == 1.0, 0.0, (l - 1.0) * np.log1p(-np.exp(log_p)))
        slope = np.exp(np.log(l) + log_p + others - log_network(log_p, l))
        error = np.where(slope == 0.0, 0.0, estimate.relative_error * slope)
    result: FloatArray = np.where(np.isfinite(estimate.relative_error), error, np.inf)
    return result


def _freedom(estimate: Estimate) -> FloatArray:
    return np.maximum(estimate.effective_samples - 1.0, 1.0)


def _asymmetry(estimate: Estimate) -> FloatArray:
    return estimate.skewness / math.sqrt(estimate.samples)


def _hall_inverse(x: FloatArray, c: FloatArray) -> FloatArray:
    """Return the t at which Hall's transformed statistic ``((1 + c t/3)^3 - 1)/c + c/6`` is x."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = 3.0 / c * (np.cbrt(1.0 + c * (x - c / 6.0)) - 1.0)
    result: FloatArray = np.where(c == 0.0, x, t)
    return result
