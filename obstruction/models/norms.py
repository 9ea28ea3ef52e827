"""Norms of the incoming and of the outgoing weights of hidden neurons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.models.model import Layer, Model

FloatArray = NDArray[np.float64]

_BLOCK: Final = 2**16
"""The number of weights that are squared at a time, so that they fit into a core's cache."""

_SAFE: Final = (1e-280, 1e300)
"""Between these bounds a sum of squares is accurate, as no overflow or underflow affects it."""


@dataclass(frozen=True, eq=False)
class NeuronNorms:
    """The norms of the neurons of one hidden layer.

    Attributes
    ----------
    incoming : ndarray of float64, shape (neurons,)
        The norm of each neuron's incoming weights and bias.
    outgoing : ndarray of float64, shape (neurons,)
        The norm of each neuron's outgoing weights.
    """

    incoming: FloatArray
    outgoing: FloatArray


def row_and_column_norms(weight: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Return the Euclidean norms of the rows and of the columns of a matrix.

    Parameters
    ----------
    weight : ndarray of floats, shape (rows, columns)
        A matrix of any floating type, in any order in memory. It is never copied as a whole.

    Returns
    -------
    rows, columns : ndarray of float64
        The norms, with a relative error of about 1e-15 even where squares of weights overflow or
        underflow. A norm is infinite only if it is above 1.8e308 itself.

    Examples
    --------
    >>> rows, columns = row_and_column_norms(np.array([[3.0, 4.0], [0.0, 5.0]]))
    >>> rows.tolist(), columns.tolist()
    ([5.0, 5.0], [3.0, 6.4031242374328485])
    """
    if weight.flags.f_contiguous and not weight.flags.c_contiguous:
        columns, rows = row_and_column_norms(weight.T)
        return rows, columns
    rows, columns = sums_of_squares(weight, np.ones(weight.shape[1]), np.ones(weight.shape[0]))
    for sums, axis in ((rows, 1), (columns, 0)):
        doubtful = ~((sums > _SAFE[0]) & (sums < _SAFE[1]))
        if doubtful.any():
            part = weight[doubtful] if axis == 1 else weight[:, doubtful]
            part = np.abs(part.astype(np.float64))
            largest = part.max(axis=axis, initial=0.0)
            with np.errstate(invalid="ignore", divide="ignore"):
                part /= np.expand_dims(np.where(largest > 0.0, largest, 1.0), axis)
            with np.errstate(over="ignore"):
                sums[doubtful] = np.sqrt((part * part).sum(axis=axis)) * largest
        sums[~doubtful] = np.sqrt(sums[~doubtful])
    return rows, columns


def sums_of_squares(
    weight: NDArray[Any], column_factors: FloatArray, row_factors: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return ``W² @ column_factors`` and ``row_factors @ W²``, with elementwise squares.

    The sums are infinite where a square overflows. The matrix, of any floating type and memory
    layout, is read once and never copied as a whole.
    """
    if weight.flags.f_contiguous and not weight.flags.c_contiguous:
        columns, rows = sums_of_squares(weight.T, row_factors, column_factors)
        return rows, columns
    height, width = weight.shape
    rows, columns = np.empty(height), np.zeros(width)
    step = max(1, _BLOCK // max(1, width))
    with np.errstate(over="ignore", under="ignore"):
        for start in range(0, height, step):
            block = weight[start : start + step].astype(np.float64)
            block *= block
            rows[start : start + step] = block @ column_factors
            columns += row_factors[start : start + step] @ block
    return rows, columns


def hidden_norms(model: Model) -> tuple[NeuronNorms | None, ...]:
    """Return the norms of the neurons of each link, or None where they are not audited."""
    return norms_of([link.reason is None for link in model.links], model.layers)


def norms_of(audited: list[bool], layers: tuple[Layer, ...]) -> tuple[NeuronNorms | None, ...]:
    """Return the norms of the neurons after each layer, or None where ``audited`` is False."""
    norms: dict[int, tuple[FloatArray, FloatArray]] = {}
    for i, layer in enumerate(layers):
        if any(audited[max(0, i - 1) : i + 1]):
            rows, columns = row_and_column_norms(layer.weight)
            if layer.bias is not None:
                with np.errstate(over="ignore"):
                    rows = np.hypot(rows, layer.bias.astype(np.float64))
            norms[i] = rows, columns
    return tuple(
        NeuronNorms(norms[i][0], norms[i + 1][1]) if wanted else None
        for i, wanted in enumerate(audited)
    )
