"""How numbers are rounded for a table: exact values by digits, estimates by their interval.

Numbers come as a value and its common logarithm, which holds where the value underflows; from there
on they are decimal fractions with exponents of any size, and are rounded once.
"""

from __future__ import annotations

import decimal
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

_CONTEXT: Final = decimal.Context(prec=50, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)
"""Far more digits than are shown, and no exponent overflows."""

_LEAST: Final = 1e-290
"""Smaller values are taken from their logarithm: they are about to underflow."""

_PLAIN: Final = -3
"""Numbers from 10 to this power are written out; smaller ones get a power of ten."""

_MOST: Final = 15
"""Significant digits of an estimate, however narrow its interval is: those of a double."""


@dataclass(frozen=True)
class Shown:
    """A rounded number as it stands in a table: ``relation mantissa * 10**exponent``.

    Attributes
    ----------
    mantissa : str
        A decimal fraction with all digits that are to be shown, trailing zeros included.
    exponent : int
        0 if there is no power of ten.
    relation : {"", "<", ">"}
        Whether the number is a bound.
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
    """Return a probability as a decimal number, from its logarithm where it underflows.

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
    """Round a number >= 0 to so many significant digits.

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

    The estimate is rounded to the nearest, the ends outwards, so that the interval that is shown
    holds the one that is meant. An estimate of 0 becomes the upper end as a bound, one of 1 the
    lower end; both have no further interval. If the interval is a point, `_MOST` digits are shown.

    Parameters
    ----------
    x, low, high : Decimal
        With ``0 <= low <= x <= high <= 1``.

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
    ends = (
        _quantized(low, place, decimal.ROUND_FLOOR),
        _quantized(high, place, decimal.ROUND_CEILING),
    )
    exponent = _exponent(middle if middle else ends[1])
    return (
        _written(middle, exponent),
        Interval(
            _written(ends[0], exponent).mantissa, _written(ends[1], exponent).mantissa, exponent
        ),
    )


def _quantized(x: Decimal, place: int, rounding: str) -> Decimal:
    """Round to a multiple of ``10**place``, keeping zeros down to that place."""
    return x.quantize(Decimal((0, (1,), place)), rounding, _CONTEXT)


def _significant(x: Decimal, digits: int, rounding: str) -> Decimal:
    """Round a number > 0 to so many significant digits."""
    place = x.adjusted() - digits + 1
    rounded = _quantized(x, place, rounding)
    if rounded.adjusted() > x.adjusted():  # 0.9996 became 1.0000: one digit too many
        rounded = _quantized(rounded, place + 1, rounding)
    return rounded


def _exponent(x: Decimal) -> int:
    return x.adjusted() if x.adjusted() < _PLAIN else 0


def _written(x: Decimal, exponent: int | None = None) -> Shown:
    """Write a rounded number, with the power of ten that its size asks for or with a given one."""
    power = _exponent(x) if exponent is None else exponent
    return Shown(format(x.scaleb(-power, _CONTEXT), "f"), power)
