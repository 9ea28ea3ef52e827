"""Logarithms of Laplace transforms of squared weights, for real and complex arguments.

``U`` is the size of a weight, in units of the bound for a bounded law and of the standard deviation
for the normal law. Let ``g(z) = int_0^1 exp(-z u^2) du = sqrt(pi/z)/2 erf(sqrt z)``. The transform
``E exp(-z U^2)`` is ``g(z)`` for the uniform law and ``(1 + 2 z)^(-1/2)`` for the normal law. The
normal law cut at two standard deviations has density ``exp(-2 u^2) / g(2)`` on [0, 1] and transform
``g(z + 2) / g(2)``. The triangular law, which only output weights have, has density ``2 (1 - u)``
and transform ``2 g(z) - (1 - exp(-z)) / z``. Near ``z = 0`` a series in the moments is used, so
that multiples of the logarithm keep their relative accuracy. Left of 0 Dawson's integral is used,
which cannot overflow.
"""

from __future__ import annotations

import math
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from obstruction.exact.checks import FloatArray
from obstruction.schemes.laws import (
    CONSTANT,
    CUT,
    CUT_STD,
    NORMAL,
    TRIANGULAR,
    TRUNCATED,
    UNIFORM,
    Law,
)

AnyArray: TypeAlias = NDArray[Any]

SHIFT: Final = CUT * CUT / 2.0
"""The density of the cut normal law is exp(-SHIFT u^2) / NORM, in units of its bound."""
NORM: Final = math.sqrt(math.pi / SHIFT) / 2.0 * math.erf(math.sqrt(SHIFT))
"""The constant of this density: g(SHIFT)."""
INSIDE: Final = math.erf(CUT / math.sqrt(2.0))
"""The probability that a normal variable survives the cut."""
SQUARE: Final = {
    NORMAL: 1.0,
    UNIFORM: 3.0,
    TRUNCATED: (CUT / CUT_STD) ** 2,
    TRIANGULAR: 6.0,
    CONSTANT: 1.0,
}
"""The square of the unit of U, for a weight of variance 1."""

_TERMS: Final = 20
_HALF_ROOT_PI: Final = math.sqrt(math.pi) / 2.0


def _moments(law: Law) -> list[float]:
    """Return E U^(2n) for n = 0 .. _TERMS of a bounded law, by a downward recursion.

    Integration by parts gives ``(2n + 1) m_n = edge + 2 SHIFT m_{n+1}``.
    """
    if law == UNIFORM:
        return [1.0 / (2 * n + 1) for n in range(_TERMS + 1)]
    if law == TRIANGULAR:
        return [1.0 / ((2 * n + 1) * (n + 1)) for n in range(_TERMS + 1)]
    edge, moment = math.exp(-SHIFT) / NORM, 0.0
    values = []
    for n in range(_TERMS + 40, -1, -1):
        moment = (edge + 2.0 * SHIFT * moment) / (2 * n + 1)
        values.append(moment)
    return values[::-1][: _TERMS + 1]


MOMENTS: Final = {law: _moments(law) for law in (UNIFORM, TRUNCATED, TRIANGULAR)}
"""Even moments of the bounded laws, in units of the bound."""
MEAN: Final = {NORMAL: 1.0, CONSTANT: 1.0} | {law: m[1] for law, m in MOMENTS.items()}
"""E U^2."""
VARIANCE: Final = {NORMAL: 2.0, CONSTANT: 0.0} | {
    law: m[2] - m[1] ** 2 for law, m in MOMENTS.items()
}
"""Var U^2."""


def log_transform(law: Law, z: AnyArray) -> AnyArray:
    """Return log E exp(-z U^2), for any sign of the real part of z, of laws of hidden weights."""
    if law == CONSTANT:
        return -z
    if law == NORMAL:
        return np.asarray(-0.5 * special.log1p(2.0 * z))
    small = np.abs(z) < 1.0
    if small.all():
        return _near_zero(law, z)
    result = _log_g(z + SHIFT) - math.log(NORM) if law == TRUNCATED else _log_g(z)
    if small.any():
        result[small] = _near_zero(law, z[small])
    return result


def log_top(law: Law, w: AnyArray) -> AnyArray:
    """Return log E exp(w (U^2 - 1)) of a bounded law for Re w >= 0."""
    if law == CONSTANT:
        return np.zeros_like(w)
    if law == UNIFORM:
        return _log_dawson(w)
    if law == TRIANGULAR:
        return _log_top_triangular(w)
    beyond = w.real > SHIFT
    if beyond.all():
        return _log_dawson(w - SHIFT) - (SHIFT + math.log(NORM))
    return np.where(
        beyond,
        _log_dawson(np.where(beyond, w - SHIFT, 1.0)) - (SHIFT + math.log(NORM)),
        log_transform(law, np.where(beyond, -1.0, -w)) - w,
    )


def log_beyond(law: Law, w: AnyArray) -> AnyArray:
    """Return log int_1^inf |density(u)| exp(w (1 - u^2)) du for Re w > 0.

    The formula of the density is continued beyond its bound, where that of the triangular law is
    negative.
    """
    if law == CONSTANT:
        return np.zeros_like(w)
    if law == TRIANGULAR:
        return _log_beyond_triangular(w)
    shift, front = (0.0, 0.0) if law == UNIFORM else (SHIFT, -SHIFT - math.log(NORM))
    root = np.sqrt(w + shift)
    values = special.wofz(1j * root) if np.iscomplexobj(w) else special.erfcx(root)
    return np.asarray(np.log(_HALF_ROOT_PI * values / root) + front)


def slope(law: Law, x: FloatArray) -> FloatArray:
    """Return -d/dx log E exp(-x U^2) to some digits, which are enough for a saddle point."""
    if law == CONSTANT:
        return np.ones_like(x)
    if law == NORMAL:
        return 1.0 / (1.0 + 2.0 * x)
    if law == TRIANGULAR:  # only output weights have it, for which x < 0
        step = _log_top_triangular(-x * (1.0 + 1e-5)) - _log_top_triangular(-x * (1.0 - 1e-5))
        return np.asarray(1.0 + step / (-2e-5 * x))
    if law == TRUNCATED:
        x = x + SHIFT
    tiny = np.abs(x) < 1e-4
    x = np.where(tiny, 1e-4, x)
    root = np.sqrt(np.abs(x))
    right = np.exp(-np.maximum(x, 0.0)) * root / (_HALF_ROOT_PI * special.erf(root))
    left = root / special.dawsn(root)
    return np.where(tiny, 1.0 / 3.0, (1.0 - np.where(x > 0.0, right, left)) / (2.0 * x))


def _near_zero(law: Law, z: AnyArray) -> AnyArray:
    """Return log E exp(-z U^2) of a bounded law for |z| < 1 by its power series."""
    moments = MOMENTS[law]
    total = np.zeros_like(z)
    for n in range(_TERMS, 0, -1):
        total = (total + moments[n]) * (z / -n)
    return np.asarray(special.log1p(total))


def _log_top_triangular(w: AnyArray) -> AnyArray:
    """Return log E exp(w (U^2 - 1)) = log(2 dawsn(sqrt w) / sqrt w - (1 - exp(-w)) / w)."""
    size = np.abs(w)
    near, far = size < 1.0, size > _FAR
    middle = ~(near | far)
    values = np.empty_like(w)
    values[near] = _near_zero(TRIANGULAR, -w[near]) - w[near]
    x = w[middle]
    values[middle] = np.log(2.0 * np.exp(_log_dawson(x)) + np.expm1(-x) / x)
    x = w[far]
    rest = _asymptotic_rest(x)
    if np.iscomplexobj(x):
        side = 2j * np.copysign(_HALF_ROOT_PI, x.imag)
        rest = rest + np.exp(-x) * (1.0 + side * np.sqrt(x))
    values[far] = np.log(rest) - np.log(x)
    return values


def _log_beyond_triangular(w: AnyArray) -> AnyArray:
    """Return log int_1^inf 2 (u - 1) exp(w (1 - u^2)) du."""
    far = np.abs(w) > _FAR
    x = np.where(far, 1.0, w)
    root = np.sqrt(x)
    tail = special.wofz(1j * root) if np.iscomplexobj(w) else special.erfcx(root)
    rest = 1.0 - 2.0 * _HALF_ROOT_PI * root * tail
    rest = np.where(far, -_asymptotic_rest(np.where(far, -w, 1.0)), rest)
    return np.asarray(np.log(rest) - np.log(w))


def _log_g(z: AnyArray) -> AnyArray:
    """Return log g(z) away from z = 0."""
    left = z.real < 0.0
    if not left.any():
        return _log_erf(z)
    result = np.empty_like(z)
    result[~left] = _log_erf(z[~left])
    w = -z[left]
    result[left] = w + _log_dawson(w)
    return result


def _log_erf(z: AnyArray) -> AnyArray:
    """Return log(sqrt(pi/z)/2 erf(sqrt z)) for Re z >= 0."""
    root = np.sqrt(z)
    if not np.iscomplexobj(z):
        return np.asarray(np.log(_HALF_ROOT_PI * special.erf(root) / root))
    far = np.abs(z) > _FAR
    near = ~far
    values = np.empty_like(z)
    values[near] = special.erf(root[near])
    z_, root_ = z[far], root[far]
    values[far] = 1.0 - np.exp(-z_) / (2.0 * _HALF_ROOT_PI * root_) * _asymptotic(-z_)
    return np.asarray(np.log(_HALF_ROOT_PI * values / root))


def _log_dawson(w: AnyArray) -> AnyArray:
    """Return log(dawsn(sqrt w) / sqrt w) for Re w >= 0, w not zero."""
    root = np.sqrt(w)
    if not np.iscomplexobj(w):
        far = w > 1e16  # 1 / (2 w), before squares overflow
        ratio = special.dawsn(np.where(far, 1.0, root)) / root
        return np.asarray(np.log(np.where(far, 0.5 / np.where(far, w, 1.0), ratio)))
    far = np.abs(w) > _FAR
    near = ~far
    values = np.empty_like(w)
    values[near] = special.dawsn(root[near]) / root[near]
    w_, root_ = w[far], root[far]
    side = np.copysign(_HALF_ROOT_PI, w_.imag)
    values[far] = _asymptotic(w_) / (2.0 * w_) + 1j * side * np.exp(-w_) / root_
    return np.asarray(np.log(values))


_FAR: Final = 60.0
"""Beyond this size, twelve terms of the asymptotic series give error functions to all digits."""
_SERIES: Final = [math.prod(range(1, 2 * k, 2)) / 2.0**k for k in range(13)]


def _asymptotic(z: AnyArray) -> AnyArray:
    """Return the asymptotic sum of (2k - 1)!! / (2 z)^k."""
    inverse = 1.0 / z
    total = np.full_like(z, _SERIES[-1])
    for coefficient in _SERIES[-2::-1]:
        total *= inverse
        total += coefficient
    return total


def _asymptotic_rest(z: AnyArray) -> AnyArray:
    """Return the sum of `_asymptotic` without its first term, 1."""
    inverse = 1.0 / z
    total = np.full_like(z, _SERIES[-1])
    for coefficient in _SERIES[-2:0:-1]:
        total = total * inverse + coefficient
    return total * inverse
