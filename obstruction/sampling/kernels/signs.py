"""Compiled kernel that counts frozen output weights by sign, network by network.

It draws all weights of every network and decides every cell separately. It is therefore slower than
`obstruction.sampling.kernels.networks`, which draws the weights, and checks it independently.
Numba's cache on disk does not notice a change in that file: touch this one as well.
"""

from __future__ import annotations

import numpy as np

from obstruction.sampling.kernels.networks import _jit, draw_network
from obstruction.sampling.thresholds import NO_BIAS


@_jit
def count_unreachable(
    key, laws, first, count, grid, sizes, positive, negative, stop, unreachable, frozen
):
    """Count the networks whose frozen output weights have too many equal signs for a target.

    Parameters
    ----------
    key, laws, first, count, grid, stop
        As for `obstruction.sampling.kernels.networks.count_nested`.
    sizes : int64[nl]
        The ``l`` of the grid.
    positive, negative : int64[nl]
        The least number of output weights of either sign that the target needs.
    unreachable : int64[schemes, nd, nl]
        Increased by the number of networks with more than ``l - negative`` weights frozen positive
        or more than ``l - positive`` frozen negative.
    frozen : int64[2, schemes, nd, nl]
        Increased by the numbers of weights frozen positive and frozen negative.

    Returns
    -------
    bool
        True if all networks were counted, False if the kernel was stopped.
    """
    width = grid.row_cell.shape[0]
    nd = grid.columns.shape[0]
    nl = sizes.shape[0]
    last = grid.columns[nd - 1]
    square = np.empty((width, 4 * (last // 4 + 1)))
    sign = np.empty_like(square)
    bias = np.zeros(width)
    total = np.empty(width)
    found = np.empty((2, nl), np.int64)
    for network in range(first, first + count):
        if stop[0] != 0:
            return False
        draw_network(key, laws, network, square, sign, bias)
        total[:] = 0.0
        done = 0
        for i in range(nd):
            for row in range(width):
                for column in range(done + 1, grid.columns[i] + 1):
                    total[row] += square[row, column]
            done = grid.columns[i]
            for k in range(grid.trend.shape[0]):
                found[:] = 0
                for row in range(width):
                    at = np.int64(grid.row_cell[row])
                    if total[row] < square[row, 0] * grid.peak[i, at]:
                        side = 0 if sign[row, 0] > 0.0 else 1
                        inward = total[row]
                        for j in range(at, nl):
                            if laws[2] != NO_BIAS:
                                inward = total[row] + grid.shift[k, i, j] * bias[row] ** 2
                            if inward < square[row, 0] * grid.thresholds[k, i, j]:
                                found[side, j] += 1
                for j in range(nl):
                    frozen[0, k, i, j] += found[0, j]
                    frozen[1, k, i, j] += found[1, j]
                    if found[0, j] > sizes[j] - negative[j] or found[1, j] > sizes[j] - positive[j]:
                        unreachable[k, i, j] += 1
    return True
