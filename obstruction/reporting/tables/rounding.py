"""Rounding of the numbers of a table: exact values to some digits, estimates by their interval.

A number is given by its value and by its common logarithm, which does not underflow. It becomes a
decimal fraction with an exponent of any size, which is rounded only once.
"""

from __future__ import annotations

import decimal
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

_CONTEXT: Final = decimal.Context(prec=50, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)
"""A context with far more digits than are shown, in which no exponent overflows."""

_LEAST: Final = 1e-290
"""The smallest value that is used. Smaller ones may underflow and are taken from the logarithm."""

_PLAIN: Final = -3
"""Numbers smaller than 10 to this power are written with a power of ten."""

_MOST: Final = 15
"""The largest number of significant digits of an estimate, which is that of a double."""


@dataclass(frozen=True)
class Shown:
    """A rounded number as it stands in a table: ``relation mantissa * 10**exponent``.

    Attributes
    ----------
    mantissa : str
        A decimal fraction with all digits to show, including trailing zeros.
    exponent : int
        The exponent, or 0 if no power of ten is written.
    relation : {"", "<", ">"}
        The sign before the number if it is a bound.
    """

    mantissa: str
    exponent: int = 0
    relation: str = ""

    @property
    def value(self) -> Decimal:
        """The number itself."""
        return Decimal(self.mantissa).scaleb(self.exponent, _CONTEXT)


@dataclass(frozen=True)
class Interval:
    """The ends of an interval, ``[low, high] * 10**exponent``; see `Shown`."""

    low: str
    high: str
    exponent: int = 0


def precise(value: float, log10: float) -> Decimal:
    """Return a probability as a decimal number, from its logarithm if it underflows.

    Examples
    --------
    >>> precise(0.0, -1188.0)
    Decimal('1E-1188')
    """
    if value >= _LEAST:
        return Decimal(value)
    if log10 == -math.inf:
        return Decimal(0)
    whole = math.floor(log10)
    return Decimal(10.0 ** (log10 - whole)).scaleb(whole, _CONTEXT)


def by_digits(x: Decimal, digits: int) -> Shown:
    """Round a number >= 0 to some significant digits.

    Examples
    --------
    >>> by_digits(Decimal("0.99996"), 4), by_digits(Decimal("1.2345e-7"), 2)
    (Shown(mantissa='1.000', exponent=0, relation=''),
     Shown(mantissa='1.2', exponent=-7, relation=''))
    """
    if x == 0:
        return Shown("0")
    return _written(_significant(x, digits, decimal.ROUND_HALF_EVEN))


def by_interval(x: Decimal, low: Decimal, high: Decimal) -> tuple[Shown, Interval | None]:
    """Round an estimate and its interval to two significant digits of half the width.

    The arguments are such that ``0 <= low <= x <= high <= 1``. The estimate ``x`` is rounded to the
    nearest number and the ends outwards, so the interval that is shown contains the exact one. An
    estimate of 0 is replaced by the upper end as a bound, an estimate of 1 by the lower end, and no
    interval is shown. If the interval is a point, the estimate has `_MOST` digits.

    Examples
    --------
    >>> by_interval(Decimal("0.589"), Decimal("0.5578"), Decimal("0.6197"))
    (Shown(mantissa='0.589', exponent=0, relation=''),
     Interval(low='0.557', high='0.620', exponent=0))
    >>> by_interval(Decimal(0), Decimal(0), Decimal("3.6888e-6"))[0]
    Shown(mantissa='3.7', exponent=-6, relation='<')
    """
    half = _CONTEXT.divide(_CONTEXT.subtract(high, low), Decimal(2))
    if half == 0:
        return (Shown(str(int(x))) if x in (0, 1) else by_digits(x, _MOST)), None
    if x == 0:
        bound = _written(_significant(high, 2, decimal.ROUND_CEILING))
        return Shown(bound.mantissa, bound.exponent, "<"), None
    if x == 1:
        gap = _significant(_CONTEXT.subtract(Decimal(1), low), 2, decimal.ROUND_CEILING)
        bound = _written(_CONTEXT.subtract(Decimal(1), gap))
        return Shown(bound.mantissa, bound.exponent, ">"), None
    place = max(half.adjusted() - 1, x.adjusted() - _MOST + 1)
    middle = _quantized(x, place, decimal.ROUND_HALF_EVEN)
    low = _quantized(low, place, decimal.ROUND_FLOOR)
    high = _quantized(high, place, decimal.ROUND_CEILING)
    exponent = _exponent(middle if middle else high)
    left, right = (_written(end, exponent).mantissa for end in (low, high))
    return _written(middle, exponent), Interval(left, right, exponent)


def _quantized(x: Decimal, place: int, rounding: str) -> Decimal:
    """Round to a multiple of ``10**place``, with trailing zeros down to that place."""
    return x.quantize(Decimal((0, (1,), place)), rounding, _CONTEXT)


def _significant(x: Decimal, digits: int, rounding: str) -> Decimal:
    """Round a number > 0 to some significant digits."""
    place = x.adjusted() - digits + 1
    rounded = _quantized(x, place, rounding)
    if rounded.adjusted() > x.adjusted():  # 0.9996 became 1.0000, which has a digit too many
        rounded = _quantized(rounded, place + 1, rounding)
    return rounded


def _exponent(x: Decimal) -> int:
    return x.adjusted() if x.adjusted() < _PLAIN else 0


def _written(x: Decimal, exponent: int | None = None) -> Shown:
    """Write a rounded number with a given power of ten, or with the one that fits its size."""
    power = _exponent(x) if exponent is None else exponent
    return Shown(format(x.scaleb(-power, _CONTEXT), "f"), power)
