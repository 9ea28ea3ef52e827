"""The cells of a grid as tables for the kernels: thresholds, and how they change along ``l``."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.schemes import InitScheme

NO_BIAS: Final = -1
"""The code of the law of biases if there are no biases or all of them are zero."""

FALLING: Final = 0
RISING: Final = 1
FALLING_WITH_BIAS: Final = 2
ANY: Final = 3

_LARGEST_RATIO: Final = 1e300

_SLICE: Final = 2**18
"""Cells that are processed together, which keeps temporary arrays small."""

_Array: TypeAlias = NDArray[Any]
_Floats: TypeAlias = NDArray[np.float64]


def law_codes(scheme: InitScheme) -> tuple[int, int, int]:
    """Return the codes of the laws of hidden weights, output weights and biases."""
    hidden, output = scheme.laws
    return hidden.code, output.code, NO_BIAS if scheme.bias_law is None else scheme.bias_law.code


class Grid(NamedTuple):
    """The cells of a grid, for schemes of the same laws.

    Let ``v`` be a neuron's squared output weight, ``s`` the sum of its squared hidden weights and
    ``b`` its squared bias, all of them standardised. The neuron is pathological in a cell iff
    ``s + shift · b < v · threshold``. See `obstruction.sampling.kernels.networks` for the terms
    row, column and group.

    Attributes
    ----------
    columns : int64[nd]
        The ``d`` of the grid, ascending.
    row_cell : uint32[l_max]
        For each row the index of the smallest ``l`` of the grid whose networks contain the row.
    thresholds : float64[schemes, nd, nl + 1]
        The ratio ``a`` of every cell, followed by -1.
    shift : float64[schemes, nd, nl + 1]
        The ratio ``beta`` of every cell, followed by 0; ``[schemes, 0, 0]`` without biases.
    trend : uint8[schemes]
        How the condition changes along ``l``: `FALLING` or `RISING` thresholds with a constant
        shift, `FALLING_WITH_BIAS` (falling thresholds and rising shifts), or `ANY`.
    curve : float64[schemes, nd, 4]
        Coefficients ``(p, q, s, t)`` of the curve ``(p + q r) / (s + t r)``, which estimates the
        index along ``l`` at which a falling threshold equals ``r``.
    fits : bool[schemes, nd]
        Whether the curve is within 1e-7 of every index and neighbouring thresholds differ by far
        more than rounding errors. Also True if all thresholds are equal.
    peak : float64[nd, nl]
        The largest threshold of any scheme in this cell, at larger ``l``, and in later columns of
        the same group.
    bound : float64[nl]
        The largest threshold of any scheme at this and larger ``l``, over all columns.
    """

    columns: _Array
    row_cell: _Array
    thresholds: _Array
    shift: _Array
    trend: _Array
    curve: _Array
    fits: _Array
    peak: _Array
    bound: _Array

    @classmethod
    def of(
        cls,
        schemes: tuple[InitScheme, ...],
        d: tuple[int, ...],
        l: tuple[int, ...],
        row_cell: NDArray[np.uint32],
    ) -> Grid:
        """Tabulate the ratios of schemes of the same laws over ``d`` and ``l``."""
        columns, widths = np.array(d, np.int64), np.array(l, np.int64)
        sizes = columns[:, None], widths[None, :]
        ratio = np.stack([scheme.ratio(*sizes) for scheme in schemes])
        ratio = np.minimum(ratio, _LARGEST_RATIO)
        if schemes[0].bias_law is None:
            shift = np.zeros((len(schemes), 0, 0))
            trend = _trends(ratio, np.zeros_like(ratio))
            if (trend == ANY).any():
                label = schemes[int(np.argmax(trend == ANY))].label
                raise ValueError(
                    f"scheme = {label!r}: the ratio a(d, l) of a scheme must be monotone in l"
                )
        else:
            bias = np.stack([scheme.bias_ratio(*sizes) for scheme in schemes])
            shift = _followed_by(0.0, np.minimum(bias, _LARGEST_RATIO))
            trend = _trends(ratio, shift[..., :-1])
        # The largest threshold at this or a larger l.
        easiest = np.maximum.accumulate(ratio[..., ::-1], axis=2)[..., ::-1]
        highest = easiest.max(axis=0)
        peak = highest.copy()
        for j in range(len(d) - 2, -1, -1):
            if columns[j] // 4 == columns[j + 1] // 4:
                np.maximum(peak[j], peak[j + 1], out=peak[j])
        curve = _curve(ratio)
        return cls(
            columns,
            row_cell,
            _followed_by(-1.0, ratio),
            shift,
            trend,
            curve,
            _fits(curve, ratio),
            peak,
            highest.max(axis=0),
        )


def _followed_by(last: float, table: _Floats) -> _Floats:
    """Append a value to a table along its last axis."""
    return np.concatenate([table, np.full((*table.shape[:2], 1), last)], axis=2)


def _trends(ratio: _Floats, shift: _Floats) -> NDArray[np.uint8]:
    """Return how the condition of every scheme changes along ``l``."""
    ups = [(np.diff(table, axis=2) > 0.0).any(axis=(1, 2)) for table in (ratio, shift)]
    downs = [(np.diff(table, axis=2) < 0.0).any(axis=(1, 2)) for table in (ratio, shift)]
    level = ~(ups[1] | downs[1])
    return np.select(
        [level & ~ups[0], level & ~downs[0], ~ups[0] & ~downs[1]],
        [FALLING, RISING, FALLING_WITH_BIAS],
        ANY,
    ).astype(np.uint8)


def _curve(ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit ``(p + q r) / (s + t r)`` to the index along ``l``, per scheme and column.

    The fit is exact if the ratio is a quotient of linear functions of the index, as it is for all
    schemes of the registry on a regular axis. Otherwise it is rough, and the kernel corrects it.
    """
    schemes, nd, nl = ratio.shape
    curve = np.zeros((schemes, nd, 4))
    if nl < 3:
        curve[..., 2] = 1.0
        return curve
    x = np.array([0, nl // 2, nl - 1], dtype=np.float64)
    r = ratio[:, :, [0, nl // 2, nl - 1]]
    equations = np.stack([np.ones_like(r), r, np.broadcast_to(-x, r.shape), -x * r], axis=-1)
    scale = np.abs(equations).max(axis=-2, keepdims=True)
    scale = np.where(scale > 0.0, scale, 1.0)
    null = np.linalg.svd(equations / scale)[2][..., -1, :]
    return np.asarray(null / scale[..., 0, :])


def _fits(curve: _Floats, ratio: _Floats) -> NDArray[np.bool_]:
    """Return, per scheme and column, whether the curve locates a ratio between the thresholds.

    It does if its value at every threshold is the index of the threshold to 1e-7 and neighbouring
    thresholds differ by far more than rounding errors. Equal thresholds need no curve. A curve that
    passes this test has no pole between two thresholds: it is monotone on both sides of a pole, so
    some of its values would be in the wrong order.
    """
    schemes, nd, nl = ratio.shape
    fits = np.ones((schemes, nd), bool)
    if nl == 1:
        return fits
    index = np.arange(nl)
    some = max(1, _SLICE // nl)
    for k in range(schemes):
        for start in range(0, nd, some):
            columns = slice(start, start + some)
            r = ratio[k, columns]
            p, q, s, t = (curve[k, columns, i, None] for i in range(4))
            steps = r[:, :-1] - r[:, 1:]
            with np.errstate(all="ignore"):
                off = np.abs((p + q * r) / (s + t * r) - index)
            right = (off <= 1e-7).all(axis=1) & (steps >= 1e-8 * r[:, :-1]).all(axis=1)
            fits[k, columns] = right | ~steps.any(axis=1)
    return fits
