"""From one neuron to l independent ones, with p given as ``exp(exponent) * factor``."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from obstruction.exact.checks import FloatArray

_TINY_LOG: Final = -660.0
"""Below exp(-660), l p equals 1 - (1 - p)^l to the last digit for every l."""


def value(exponent: FloatArray, factor: FloatArray) -> FloatArray:
    """Return p."""
    with np.errstate(under="ignore"):
        return np.minimum(np.exp(exponent) * factor, 1.0)


def log_value(exponent: FloatArray, factor: FloatArray) -> FloatArray:
    """Return log p."""
    with np.errstate(divide="ignore"):
        return np.minimum(exponent + np.log(factor), 0.0)


def _log_none(width: FloatArray, exponent: FloatArray, factor: FloatArray) -> FloatArray:
    """Return log((1 - p)^l)."""
    with np.errstate(divide="ignore", under="ignore"):
        return width * np.log1p(-value(exponent, factor))


def some(width: FloatArray, exponent: FloatArray, factor: FloatArray) -> FloatArray:
    """Return 1 - (1 - p)^l."""
    with np.errstate(under="ignore"):
        return -np.expm1(_log_none(width, exponent, factor))


def log_some(width: FloatArray, exponent: FloatArray, factor: FloatArray) -> FloatArray:
    """Return log(1 - (1 - p)^l)."""
    log_p = log_value(exponent, factor)
    none = _log_none(width, exponent, factor)
    with np.errstate(divide="ignore", under="ignore"):
        moderate = np.where(none > -math.log(2.0), np.log(-np.expm1(none)), np.log1p(-np.exp(none)))
    return np.where(log_p < _TINY_LOG, np.log(width) + log_p, moderate)
