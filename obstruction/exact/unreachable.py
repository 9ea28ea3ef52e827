"""The probability that frozen signs of output weights make a target unreachable.

The output weight of a pathological neuron never changes its sign (Nurisso et al. 2024, Prop. 3).
The sign is positive or negative with equal probability, independently of the sizes. So each neuron
is frozen at a positive sign with probability p/2, frozen at a negative sign with probability p/2,
and free with probability 1 - p, independently of the others. A target that needs at least ``m``
positive and ``n`` negative output weights, ``m + n <= l``, is unreachable iff more than ``l - n``
neurons are frozen positive or more than ``l - m`` are frozen negative. Both together would need
more than ``2 l - m - n >= l`` neurons. So the two events exclude each other, and the probability is
a sum of two binomial tails:

    P(unreachable) = P(Bin(l, p/2) > l - n) + P(Bin(l, p/2) > l - m).

Each tail is its first term, in Loader's (2000) form, times a sum of positive ratios. Below the
mean, the other tail is summed. The relative error is at most 1e-12 plus about 1e-16 times the
number of frozen neurons, which is the effect of the last digit of p.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obstruction.exact.checks import FloatArray, Result, arguments, plain
from obstruction.exact.neurons import pathological_factors
from obstruction.exact.neurons_to_network import log_value, value
from obstruction.schemes import SchemeLike, as_scheme
from obstruction.schemes.laws import CONSTANT
from obstruction.tools.binomial_terms import log_binomial_term

_BLOCK: Final = 64


def unreachable_probability(
    scheme: SchemeLike, d: ArrayLike, l: ArrayLike, *, positive: ArrayLike, negative: ArrayLike
) -> Result:
    """Return the probability that frozen signs keep a fresh network from reaching a target.

    Parameters
    ----------
    scheme : str or InitScheme
        The initialisation scheme, of independent weights. Constant output weights are all
        positive. Those of all other schemes have random signs.
    d, l : array_like of int
        Inputs and hidden neurons, >= 1; the network has one output.
    positive, negative : array_like of int
        The numbers of positive and negative output weights that the target needs at least. They
        are >= 0, their sum is at most `l`, and arrays broadcast with `d` and `l`.

    Returns
    -------
    float or ndarray
        The probability that more than ``l - negative`` output weights are frozen positive or more
        than ``l - positive`` negative.

    Raises
    ------
    NoExactValue, ValueError
        If weights depend on each other; if an argument is out of its range, or a cell has fewer
        neurons than the target needs.

    Notes
    -----
    An output weight of a pathological neuron never changes its sign (Nurisso et al. 2024, Prop. 3).

    Examples
    --------
    One neuron with one input is frozen with probability 1/2, and at the wrong sign with 1/4.

    >>> unreachable_probability("xavier_normal", 1, 1, positive=0, negative=1)
    0.25
    >>> unreachable_probability("kaiming_normal", 2, 10, positive=[0, 5], negative=5).round(9)
    array([1.233e-06, 2.466e-06])
    """
    return plain(np.exp(_log_unreachable(scheme, d, l, positive, negative)))


def log_unreachable_probability(
    scheme: SchemeLike, d: ArrayLike, l: ArrayLike, *, positive: ArrayLike, negative: ArrayLike
) -> Result:
    """Return the natural logarithm of `unreachable_probability`.

    Examples
    --------
    >>> round(log_unreachable_probability("kaiming_normal", 50, 100, positive=20, negative=20), 6)
    -2395.281102
    """
    return plain(_log_unreachable(scheme, d, l, positive, negative))


def _log_unreachable(
    scheme: SchemeLike, d: ArrayLike, l: ArrayLike, positive: ArrayLike, negative: ArrayLike
) -> FloatArray:
    rule = as_scheme(scheme)
    d, l, positive, negative = arguments(d=d, l=l, positive=positive, negative=negative)
    many = positive + negative > l
    if many.any():
        cell = tuple(np.argwhere(many)[0])
        where = f" (in cell {tuple(map(int, cell))} of the broadcast arrays)" if cell else ""
        raise ValueError(
            f"positive = {positive[cell]:.0f} and negative = {negative[cell]:.0f}: "
            f"together at most l = {l[cell]:.0f}{where}"
        )
    _, exponent, factor = pathological_factors(rule, d, l)
    p, log_p = value(exponent, factor), log_value(exponent, factor)
    if rule.output.law == CONSTANT:  # all signs are positive
        return _log_tail(l - negative + 1.0, l, p, log_p)
    half, log_half = p / 2.0, log_p - math.log(2.0)
    tails = [_log_tail(l - needed + 1.0, l, half, log_half) for needed in (negative, positive)]
    return np.logaddexp(*tails)


def _log_tail(k: FloatArray, n: FloatArray, q: FloatArray, log_q: FloatArray) -> FloatArray:
    """Return log P(Bin(n, q) >= k) for 1 <= k <= n + 1."""
    result = np.where((k <= n) & (log_q > -np.inf), 0.0, -np.inf)
    proper = np.flatnonzero((result == 0.0) & (log_q < 0.0))
    k, n, q, log_q = (x.flat[proper] for x in (k, n, q, log_q))
    upper = k > n * q
    with np.errstate(under="ignore"):
        first = np.where(upper, k, k - 1.0)
        start = log_binomial_term(first, n, q, log_q, first - n * q)
        odds = np.exp(log_q) / (1.0 - q)
        tails = start + np.log(_ratios(k, n, odds, upper))
        tails[~upper] = np.log1p(-np.exp(tails[~upper]))
    result.flat[proper] = tails
    return result


def _ratios(k: FloatArray, n: FloatArray, odds: FloatArray, upper: NDArray[np.bool_]) -> FloatArray:
    """Return the sum of the terms k, k + 1, ... (upper) or k - 1, k - 2, ... over the first one."""
    total, term = np.ones_like(k), np.ones_like(k)
    active, step = np.arange(k.size), 0
    while active.size:
        index = step + np.arange(_BLOCK)
        up = upper[active, None]
        k_, n_, odds_ = k[active, None], n[active, None], odds[active, None]
        j = np.where(up, k_ + index, k_ - 1.0 - index)
        with np.errstate(all="ignore"):
            ratio = np.where(
                up, (n_ - j) / (j + 1.0) * odds_, np.maximum(j, 0.0) / (n_ - j + 1.0) / odds_
            )
            ratio = np.where(up & (j >= n_), 0.0, ratio)
            terms = term[active, None] * np.cumprod(ratio, axis=1)
        total[active] += terms.sum(axis=1)
        term[active] = terms[:, -1]
        active = active[term[active] > 1e-18 * total[active]]
        step += _BLOCK
    return total
