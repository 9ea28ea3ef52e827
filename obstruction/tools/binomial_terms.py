"""The logarithm of a binomial probability, to all its digits for any counts."""

from __future__ import annotations

import math
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

FloatArray: TypeAlias = NDArray[np.float64]

_X: Final = np.arange(1.0, 16.0)
_SMALL: Final = np.append(0.0, special.gammaln(_X + 1) - (_X + 0.5) * np.log(_X) + _X)
_SMALL[1:] -= 0.5 * math.log(2.0 * math.pi)
_ODD: Final = np.append(1.0 / np.arange(17, 1, -2), 0.0)


def log_binomial_term(
    k: FloatArray, n: FloatArray, p: FloatArray, log_p: FloatArray, off: FloatArray
) -> FloatArray:
    """Return ``log P(K = k)`` of a binomial law by Loader's formula.

    The counts ``0 <= k <= n`` are whole numbers, and ``0 < p < 1``. The logarithm ``log_p`` may be
    exact where ``p`` underflows. The difference ``off`` is ``k - n p``, because only the caller can
    compute it without cancellation.

    Let ``e(x)`` be ``log x!`` minus Stirling's formula for it, and ``D(x, m)`` the deviance
    ``x log(x / m) - (x - m)``. Then (C. Loader, "Fast and accurate computation of binomial
    probabilities", 2000)

        log P(K = k) = e(n) - e(k) - e(n - k) - D(k, n p) - D(n - k, n (1 - p))
                       - log(2 pi k (n - k) / n) / 2.
    """
    rest = n - k
    with np.errstate(all="ignore"):
        tiny = p < 1e-290
        above = np.where(tiny, k * (np.log(k / n) - log_p) - off, _deviance(k, n * p, off))
        below = _deviance(rest, n * (1.0 - p), -off)
        inner = _stirling_error(n) - _stirling_error(k) - _stirling_error(rest) - above - below
        inner -= 0.5 * np.log(2.0 * np.pi * k * (rest / n))
        edge = np.where(k == 0.0, n * np.log1p(-p), n * log_p)
    return np.where((k > 0.0) & (k < n), inner, edge)


def _stirling_error(x: FloatArray) -> FloatArray:
    """Return ``log x!`` minus Stirling's formula for it, for integers ``x >= 1``."""
    y = 1.0 / np.maximum(x, 16.0)
    y2 = y * y
    series = y * (1 / 12 - y2 * (1 / 360 - y2 * (1 / 1260 - y2 * (1 / 1680 - y2 / 1188))))
    return np.where(x < 16.0, _SMALL[np.minimum(x, 15.0).astype(np.int64)], series)


def _deviance(x: FloatArray, mean: FloatArray, off: FloatArray) -> FloatArray:
    """Return ``x log(x / mean) - off`` for ``off = x - mean``, without cancellation."""
    v = off / (x + mean)
    series = np.polyval(_ODD, v * v)  # artanh(v) / v - 1
    direct = x * (np.log(x) - np.log(mean)) - off
    return np.where(np.abs(v) < 0.1, v * (off + 2.0 * x * series), direct)
