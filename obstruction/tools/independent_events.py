"""The probability that some of several independent and equally likely events happens."""

from __future__ import annotations

import math
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]

_TINY_LOG: Final = -660.0
"""Below exp(-660), ``n p`` equals ``1 - (1 - p)**n`` to the last digit for every ``n``."""


def log_some(
    n: FloatArray, p: FloatArray, log_p: FloatArray, *, switch: float = -math.log(2.0)
) -> FloatArray:
    """Return ``log(1 - (1 - p)**n)`` without cancellation, underflow or overflow.

    Each of the ``n`` events has probability ``p`` in [0, 1]. Its natural logarithm ``log_p`` may be
    exact where ``p`` underflows. The result is ``-inf`` where ``p`` is 0.

    Where ``log((1 - p)**n)`` is above ``switch``, the result is computed by ``expm1``, elsewhere by
    ``log1p``. Near ``-log 2`` both give all digits (Maechler 2012), so the switch affects only the
    last bit.
    """
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        none = n * np.log1p(-p)
        moderate = np.where(none > switch, np.log(-np.expm1(none)), np.log1p(-np.exp(none)))
        return np.where(log_p < _TINY_LOG, np.log(n) + log_p, moderate)
