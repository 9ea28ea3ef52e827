"""Inference from weighted samples: intervals and tests for the mean of skewed weights.

Importance sampling estimates a probability ``p`` by the mean of independent weights. Their sum is
not a binomial count, so intervals and tests rest on the central limit theorem with two corrections.
Hall's transformation of Student's statistic corrects for skewed weights (Hall, "On the removal of
skewness by transformation", JRSS B 54, 1992). Student's law, with one degree of freedom less than
there are effective samples, corrects for few of them. The more cautious of the tests with and
without the transformation decides. Coverage is not proven; ``scripts/tilted_coverage.py`` measures
it. Probabilities are given by their logarithms, because they may be smaller than any float.
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
    """Estimated probabilities, one per cell, each from a mean of weights.

    Attributes
    ----------
    samples : int
        The number of weights per cell.
    log_p : ndarray
        Natural logarithm of the mean weight, or ``-inf`` if all weights are 0. ``exp(log_p)`` is
        unbiased and may slightly exceed 1 if the probability is close to 1.
    relative_error : ndarray
        Standard error divided by mean, including the rounding of the draws. It is 0 if the
        probability is certain, and ``inf`` if all weights are 0.
    skewness : ndarray
        Sample skewness of the weights.
    largest_share : ndarray
        The largest weight divided by the sum of all. It is close to ``1 / samples`` if the proposal
        fits; a value of 0.1 or more is a warning.
    log_bound : ndarray
        Logarithm of an upper bound of the weights, or ``inf`` if none is known.
    """

    samples: int
    log_p: FloatArray
    relative_error: FloatArray
    skewness: FloatArray
    largest_share: FloatArray
    log_bound: FloatArray

    @property
    def effective_samples(self) -> FloatArray:
        """The number of equal weights that would be as precise: ``(sum w)^2 / sum w^2``."""
        with np.errstate(invalid="ignore"):
            return self.samples / (1.0 + self.samples * self.relative_error**2)


def interval(estimate: Estimate, *, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Return the logarithms of the ends of a confidence interval of each probability.

    The interval holds the values that `p_value` does not reject: it is the union of Student's and
    Hall's interval. If all weights are 0, its upper end is the exact binomial limit of
    ``P(weight > 0)`` times the bound on the weights.

    Parameters
    ----------
    estimate : Estimate
    level : float
        Confidence level, in (0, 1).

    Returns
    -------
    low, high : ndarray
        Values of ``log p``, at most 0. ``low`` is ``-inf`` if the weights do not exclude 0.
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
    """Return the differences between estimates and stated probabilities, in standard errors.

    Parameters
    ----------
    estimate : Estimate
    log_p : array_like
        Logarithms of the stated probabilities, which are broadcast against the cells.

    Returns
    -------
    ndarray
        Positive if the estimate is higher, and 0 or infinite if the estimate is certain.
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        off = -np.expm1(np.asarray(log_p, np.float64) - estimate.log_p)
        same = np.equal(log_p, estimate.log_p)
        score = np.where(same, 0.0, off / estimate.relative_error)
        empty = np.isinf(estimate.relative_error) & ~np.isnan(log_p)
        return np.where(empty, 0.0, score)


def p_value(estimate: Estimate, log_p: ArrayLike) -> FloatArray:
    """Return two-sided p-values of the estimates under the stated probabilities.

    A p-value is the larger one of Student's and Hall's test. If all weights are 0, it is
    ``(1 - p / bound) ** samples``, an upper bound of the probability that this happens. The
    parameters are those of `z_score`.

    Returns
    -------
    ndarray
        The p-values in [0, 1], or NaN if ``log_p`` is NaN.
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
    """Return ``log(1 - (1 - p)**l)``: the probability of at least one of ``l`` independent events.

    The function increases with ``p``. It therefore maps the ends of an interval for ``p`` to those
    of an interval for the network, and a test of ``p`` is a test of the network's probability.

    Parameters
    ----------
    log_p : array_like
        Logarithm of the probability p that a neuron is pathological. Values above 0 count as 0.
    l : array_like
        The number of hidden neurons.

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
    """Return the relative standard error of the probability in `log_network` (delta method)."""
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
    """Return the t for which Hall's transformation ``((1 + c t/3)^3 - 1)/c + c/6`` equals x."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = 3.0 / c * (np.cbrt(1.0 + c * (x - c / 6.0)) - 1.0)
    result: FloatArray = np.where(c == 0.0, x, t)
    return result
