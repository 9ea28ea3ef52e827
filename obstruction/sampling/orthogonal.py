"""Sampling of networks with orthogonal initialisation, whose neurons depend on each other.

The matrix of hidden weights is Haar distributed (uniform) among semi-orthogonal matrices: its
columns are orthonormal if there are more neurons than inputs, otherwise its rows. The output
weights are uniform on a sphere (Saxe, McClelland, Ganguli 2014, with scalar output). Both are made
from the normal weights of a network. The hidden weights come from the QR decomposition whose R has
a positive diagonal, and the output weights are normalised. The i-th network of a cell is therefore
the same in every grid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obstruction.sampling.kernels import networks as kernels
from obstruction.sampling.thresholds import NO_BIAS, Grid
from obstruction.schemes.laws import NORMAL

_FLOATS = 1_000_000
"""The number of hidden weights that are in memory at a time."""

_Floats = NDArray[np.float64]


def required_memory(d: int, l: int) -> int:
    """Return roughly how many bytes `count` needs for networks of at most this size."""
    return 64 * max(_FLOATS, l * min(d, l))


def draw(key: NDArray[np.uint32], network: int, d: int, l: int) -> tuple[_Floats, _Floats]:
    """Draw one network of a block with standardised weights, whose mean square is 1.

    The hidden weights have shape ``(l, d)``, and their rows (``l <= d``) or columns (``l > d``) are
    orthogonal. The output weights are a vector of length ``l`` and norm ``sqrt(l)``.
    """
    hidden, output = _normal(key, network, d, l)
    q, r = np.linalg.qr(hidden if l > d else hidden.T)
    q *= np.where(np.diagonal(r) < 0.0, -1.0, 1.0)
    size = np.sqrt(max(d, l))
    return size * (q if l > d else q.T), output * np.sqrt(l / (output @ output))


def count(
    key: NDArray[np.uint32],
    first: int,
    count: int,
    grid: Grid,
    stop: NDArray[np.uint8],
    obstructed: NDArray[np.int32],
    pathological: NDArray[np.int32],
) -> bool:
    """Count like `obstruction.sampling.kernels.networks.count_nested`, for orthogonal weights."""
    widths = np.cumsum(np.bincount(grid.row_cell, minlength=grid.thresholds.shape[2] - 1))
    l_max, d_max = int(widths[-1]), int(grid.columns[-1])
    size = max(1, min(count, _FLOATS // (l_max * d_max)))
    for start in range(first, first + count, size):
        stack = [
            _normal(key, network, min(d_max, l_max), l_max)
            for network in range(start, min(start + size, first + count))
        ]
        hidden = np.stack([one for one, _ in stack])
        output = np.stack([other for _, other in stack]) ** 2
        for j, l in enumerate(widths):
            if stop[0]:
                return False
            v = output[:, :l] / output[:, :l].sum(axis=1, keepdims=True) * float(l)
            s = _row_sums(hidden[:, :l], grid.columns)
            frozen = s < v[:, :, None] * grid.thresholds[:, None, None, :, j]
            for array, steps in (
                (obstructed, frozen.any(axis=2).sum(axis=1)),
                (pathological, frozen.sum(axis=(1, 2))),
            ):
                array[:, :, j] += steps
                array[:, :, j + 1] -= steps
    return True


def _row_sums(hidden: _Floats, columns: NDArray[np.int64]) -> _Floats:
    """Return each neuron's sum of squared standardised weights for every ``d`` in ``columns``."""
    networks, l, _ = hidden.shape
    few = columns[columns < l]
    sums = np.empty((networks, l, columns.size))
    sums[:, :, few.size :] = columns[few.size :]
    if few.size:
        q = np.linalg.qr(hidden[:, :, : few[-1]]).Q
        sums[:, :, : few.size] = l * np.cumsum(q * q, axis=2)[:, :, few - 1]
    return sums


def _normal(key: NDArray[np.uint32], network: int, d: int, l: int) -> tuple[_Floats, _Floats]:
    """Return the normal hidden and output weights from which a network is made, l by d and l."""
    square = np.empty((l, 4 * (d // 4 + 1)))
    sign = np.empty_like(square)
    laws = NORMAL.code, NORMAL.code, NO_BIAS
    kernels.draw_network(key, laws, network, square, sign, np.empty(0))
    weights = sign * np.sqrt(square)
    return weights[:, 1 : d + 1], weights[:, 0]
