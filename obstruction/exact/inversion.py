"""The probability that a neuron is pathological, for every combination of independent laws.

A neuron is pathological iff ``a V^2 > W_1^2 + ... + W_d^2 + beta B^2``. Here ``V``, ``W`` and ``B``
are independent with mean square 1 and the laws of the output weights, the hidden weights and the
biases. The laws determine the method:

========================  ===============================  ==========================
output law                hidden law, bias                 method
========================  ===============================  ==========================
normal                    normal (bias alike or none)      F distribution, `normal`
normal                    anything else                    Craig's integral, `craig`
bounded                   not constant, many weights       contour integral, `contour`
bounded                   few weights, or constant ones    real integrals, `few`
========================  ===============================  ==========================

Few weights are up to 16 without and 7 with random biases. Tests of the accuracy of log p: `few` and
`contour` differ by less than 2e-12 where both apply; `craig` differs from the F distribution by
less than 3e-13; `few` and `contour` differ from the small-ball formula up to d = 1e5 by less than
1e-12, or 1e-13 of log p; and all methods differ from mpmath by at most 2e-13.

A bias with the law and variance of the hidden weights counts as one more hidden weight, and a
constant bias moves the threshold. If the biases vary far more than the sum of the hidden weights,
the contour integral for a given bias is averaged over the biases. If all laws are bounded, p can be
exactly 0 or 1. A neuron with ``a V^2`` equal to the sum is not pathological.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from obstruction.exact import contour_integral as contour
from obstruction.exact import craig_integral as craig
from obstruction.exact import f_distribution as normal
from obstruction.exact import few_inputs as few
from obstruction.exact.checks import FloatArray
from obstruction.exact.f_distribution import gauss_legendre
from obstruction.exact.transforms import MEAN, SQUARE, VARIANCE
from obstruction.schemes.laws import CONSTANT, NORMAL, Law

Factors = tuple[FloatArray, FloatArray]

_ALIKE: Final = 4e-15
"""A ratio of variances that differs from 1 by at most this much counts as 1."""
_APART: Final = 30.0
"""If alpha and beta exceed this many deviations of the hidden sum, the outer integral is over B."""
_CHUNK: Final = 1024
"""The number of cells for which Craig's integral is evaluated together."""
_BATCH: Final = 2**15
"""The number of cells that are sorted by method together."""


def factors(
    output: Law, hidden: Law, bias: Law | None, d: FloatArray, a: FloatArray, beta: FloatArray
) -> Factors:
    """Return (exponent, factor) with ``p = exp(exponent) * factor``.

    The arrays have one shape: the number `d` of hidden weights of a neuron, ``a`` in [0, inf] and
    ``beta`` in [0, inf).
    """
    if output == hidden == NORMAL and bias is None:
        return normal.factors(d, a)
    exponent, factor = np.empty(a.shape), np.empty(a.shape)
    parts = [x.ravel() for x in np.broadcast_arrays(d, a, beta)]
    for start in range(0, a.size, _BATCH):
        part = slice(start, start + _BATCH)
        cells = (x[part] for x in parts)
        exponent.flat[part], factor.flat[part] = _batch(output, hidden, bias, *cells)
    return exponent, factor


def _batch(
    output: Law, hidden: Law, bias: Law | None, d: FloatArray, a: FloatArray, beta: FloatArray
) -> Factors:
    """Return the factors for vectors of cells."""
    if bias is None:
        beta = np.zeros_like(beta)
    elif bias == hidden:
        alike = np.abs(beta - 1.0) <= _ALIKE
        d, beta = d + alike, np.where(alike, 0.0, beta)
    exponent, factor = np.zeros_like(a), (a > 0.0).astype(np.float64)
    proper = (a > 0.0) & (a < np.inf)
    for biased in (False, True):
        cells = np.flatnonzero(proper & ((beta > 0.0) == biased))
        if cells.size:
            law = bias if biased and bias is not None else CONSTANT
            own = d[cells], a[cells], beta[cells]
            exponent[cells], factor[cells] = _proper(output, hidden, law, *own)
    return exponent, factor


def _proper(
    output: Law, hidden: Law, bias: Law, d: FloatArray, a: FloatArray, beta: FloatArray
) -> Factors:
    """Return the factors for 0 < a < inf; ``beta`` is all zero or all positive."""
    if output == hidden == NORMAL and not beta.any():
        return normal.factors(d, a)
    c = np.zeros_like(a)
    if bias == CONSTANT:
        c, beta = beta / SQUARE[hidden], np.zeros_like(beta)
    else:
        beta = beta * (SQUARE[bias] / SQUARE[hidden])
    if output == NORMAL:
        return _normal_output(hidden, bias, d, a / SQUARE[hidden], beta, c)
    alpha = a * (SQUARE[output] / SQUARE[hidden])
    if hidden == CONSTANT:
        d, c = np.zeros_like(d), c + d
    exponent, factor = np.zeros_like(a), np.zeros_like(a)
    with np.errstate(over="ignore", invalid="ignore"):
        possible = alpha > c
        certain = np.zeros_like(possible)
        if output == CONSTANT and NORMAL not in (hidden, bias if beta.any() else hidden):
            largest = d + beta
            # A constant sum must be smaller than alpha. A continuous one reaches its bound with
            # probability 0.
            certain = np.where(largest > 0.0, alpha >= c + largest, possible)
    factor[certain] = 1.0
    open_ = possible & ~certain
    apart = np.minimum(alpha, beta) > _APART * np.sqrt(d)
    if bias != NORMAL:
        apart &= alpha < d + beta
    limit = np.where(apart | (beta == 0.0), few.FEW, few.FEW_BIASED)
    for size in np.unique(d[open_ & (d <= limit)]):
        cells = np.flatnonzero(open_ & (d <= limit) & (d == size))
        own = alpha[cells], beta[cells], c[cells]
        exponent[cells], factor[cells] = few.solve(output, hidden, bias, int(size), *own)
    many = open_ & (d > limit)
    cells = np.flatnonzero(many & ~apart)
    sums = contour.Cells(hidden, bias, d[cells], alpha[cells], beta[cells], c[cells])
    exponent[cells], factor[cells] = contour.solve(output, sums)
    for cell in np.flatnonzero(many & apart):
        factor[cell] = _over_biases(output, hidden, bias, d[cell], alpha[cell], beta[cell])
    return exponent, factor


def _normal_output(
    hidden: Law, bias: Law, d: FloatArray, a: FloatArray, beta: FloatArray, c: FloatArray
) -> Factors:
    exponent, factor = np.empty_like(a), np.empty_like(a)
    for start in range(0, a.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        x = contour.Cells(hidden, bias, d[part], a[part], beta[part], c[part])
        exponent[part], factor[part] = craig.solve(x.alpha, x.c, x.log_transform, x.slope)
    return exponent, factor


def _over_biases(output: Law, hidden: Law, bias: Law, d: float, alpha: float, beta: float) -> float:
    """Return p for one cell as the mean over the biases of p for a given bias.

    The mesh is graded, since the integrand varies where ``beta b^2`` is as large as the spread of
    the hidden sum. It is finer where ``beta b^2`` is about ``alpha`` minus the hidden sum, since
    the integrand falls to 0 there.
    """
    mean = d * MEAN[hidden]
    spread = 12.0 * np.sqrt(d * VARIANCE[hidden])
    bound = 9.6 if bias == NORMAL else 1.0
    ends = np.array([min(max(x, 0.0), beta * bound**2) for x in (alpha - mean - spread, alpha)])
    edges = [np.array([0.0])]
    first = min(1.0, alpha) / np.sqrt(d + 10.0)
    if ends[0] > 0.0:
        count = 1 + max(1, int(np.ceil(np.log(ends[0] / first) / np.log(3.0))))
        edges.append(np.geomspace(first, ends[0], count))
    turn = np.linspace(ends[0], ends[1], 9)[1:]
    root = np.sqrt(np.unique(np.concatenate([*edges, turn])) / beta)
    nodes, weights = gauss_legendre(20)
    wide = np.diff(root)[:, None]
    b = (root[:-1, None] + wide * nodes).ravel()
    c = beta * b * b
    inside = alpha > c
    b, c, mass = b[inside], c[inside], (wide * weights).ravel()[inside]
    none = np.zeros_like(c)
    sums = contour.Cells(hidden, CONSTANT, none + d, none + alpha, none, c)
    exponent, factor = contour.solve(output, sums)
    return float(np.sum(mass * few.density(bias, b) * np.exp(exponent) * factor))
