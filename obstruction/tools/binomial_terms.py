"""The two terms of Loader's formula for binomial probabilities, which is accurate for any counts.

The formula (C. Loader, "Fast and accurate computation of binomial probabilities", 2000) is

    log P(K = k) = e(n) - e(k) - e(n - k) - D(k, n p) - D(n - k, n (1 - p))
                   - log(2 pi k (n - k) / n) / 2,

where e is `stirling_error` and D is `deviance`. The difference ``k - n p`` is an argument of
`deviance`, because callers can often compute it without cancellation.
"""

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


def stirling_error(x: FloatArray) -> FloatArray:
    """Return the error of Stirling's formula for ``log x!``, for integers ``x >= 1``."""
    y = 1.0 / np.maximum(x, 16.0)
    y2 = y * y
    series = y * (1 / 12 - y2 * (1 / 360 - y2 * (1 / 1260 - y2 * (1 / 1680 - y2 / 1188))))
    return np.where(x < 16.0, _SMALL[np.minimum(x, 15.0).astype(np.int64)], series)


def deviance(x: FloatArray, mean: FloatArray, off: FloatArray) -> FloatArray:
    """Return ``x log(x / mean) - off`` for ``off = x - mean``, without cancellation."""
    v = off / (x + mean)
    series = np.polyval(_ODD, v * v)  # artanh(v) / v - 1
    direct = x * (np.log(x) - np.log(mean)) - off
    return np.where(np.abs(v) < 0.1, v * (off + 2.0 * x * series), direct)
