"""Probabilities for one neuron and for l independent neurons, from ``p = exp(exponent) * factor``.

The exponent represents values of ``p`` that are too small for a float.
"""

from __future__ import annotations

import numpy as np

from obstruction.exact.checks import FloatArray
from obstruction.tools import independent_events


def value(exponent: FloatArray, factor: FloatArray) -> FloatArray:
    """Return p."""
    with np.errstate(under="ignore"):
        return np.minimum(np.exp(exponent) * factor, 1.0)


def log_value(exponent: FloatArray, factor: FloatArray) -> FloatArray:
    """Return log p."""
    with np.errstate(divide="ignore"):
        return np.minimum(exponent + np.log(factor), 0.0)


def some(width: FloatArray, exponent: FloatArray, factor: FloatArray) -> FloatArray:
    """Return 1 - (1 - p)^l."""
    with np.errstate(divide="ignore", under="ignore"):
        return -np.expm1(width * np.log1p(-value(exponent, factor)))


def log_some(width: FloatArray, exponent: FloatArray, factor: FloatArray) -> FloatArray:
    """Return log(1 - (1 - p)^l)."""
    return independent_events.log_some(width, value(exponent, factor), log_value(exponent, factor))
