"""Craig's integral, for normal output weights and hidden weights and biases of any law.

For ``V`` standard normal and any ``S >= 0``, Craig's form of the normal tail gives

    p = P(a V^2 > S) = (2/pi) int_0^inf E exp(-x S) dt / cosh t,   x = cosh(t)^2 / (2 a).

The contour integral gives the same if its line is wrapped around the branch cut of
``E exp(z a V^2) = (1 - 2 a z)^(-1/2)``. Every term is positive, so the relative error does not
depend on p. Only the term at ``t = 0`` can underflow, and its logarithm is returned separately.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from obstruction.exact.checks import FloatArray

_MOST: Final = 4000


def solve(
    a: FloatArray,
    c: FloatArray,
    log_transform: Callable[[FloatArray], FloatArray],
    slope: Callable[[FloatArray], FloatArray],
) -> tuple[FloatArray, FloatArray]:
    """Return (exponent, factor) of p for 0 < a < inf.

    ``log_transform(x)`` is ``log E exp(-x (S - c))``, and ``slope(x)`` is minus its derivative, for
    arrays of the shape of `a`.
    """
    x0 = 0.5 / a
    first = log_transform(x0) - c * x0
    decay = x0 * (c + slope(x0))  # the terms are about exp(-decay t^2) for small t
    h = np.minimum(0.14, 0.42 / np.sqrt(decay + 0.5))
    total = np.full_like(a, 0.5)
    for k in range(1, _MOST):
        t = h * k
        x = x0 * np.cosh(t) ** 2
        with np.errstate(under="ignore"):
            term = np.exp(log_transform(x) - c * x - first) / np.cosh(t)
        total += term
        if not (term > 1e-17 * total).any():
            break
    return first, 2.0 / np.pi * h * total
