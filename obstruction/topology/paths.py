"""Build a path between two points of one component."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from obstruction.tools.checks import check_rtol, check_share
from obstruction.topology.balances import balances_and_sizes
from obstruction.topology.labels import compare, same_component
from obstruction.topology.parameters import (
    FloatArray,
    Parameters,
    ThetaLike,
    check_pair,
    from_neurons,
    norms,
    squares,
)


def path(theta: ThetaLike, theta2: ThetaLike, rtol: float = 1e-9) -> Callable[[float], Parameters]:
    """Return a continuous path from one point of a component of the invariant set to another.

    Parameters
    ----------
    theta, theta2 : (W1, W2) or (W1, W2, b1)
        The ends, which have the same shapes and lie in the same component.
    rtol : float
        As in `obstruction.topology.same_component`.

    Returns
    -------
    callable
        A function ``point(s)`` for ``0 <= s <= 1``. It returns the parameters at ``s``, which are
        `theta` at 0 and `theta2` at 1. All of them have the same balances.

    Raises
    ------
    ValueError
        If the ends do not lie in the same component, or an argument is invalid.

    Notes
    -----
    The path is that of Nurisso et al. 2024, proofs of Prop. 2 and 3 and of Lemma 2. If the balance
    of a neuron is negative, its incoming weights move on a straight line. Its outgoing weights turn
    on a sphere, with the norm that the balance requires. If the balance is positive, incoming and
    outgoing weights are exchanged. If the balance is zero, all weights go straight to zero and from
    there straight to the other end.

    `obstruction.dag.path` finds paths for networks on any graph by linear programming. For two
    layers this closed form needs no solver and no tolerance of its own, and takes time
    proportional to the number of weights.

    Examples
    --------
    >>> point = path(([[1.0, 0.0]], [[0.5]]), ([[0.0, 1.0]], [[-0.5]]))  # through output 0
    >>> point(0.5).W2.tolist()
    [[0.0]]
    """
    one, two = check_pair(theta, theta2)
    if not same_component(one, two, rtol):
        raise ValueError("theta2: must lie in the same component of the invariant set as theta")
    masks = compare(one, two, check_rtol(rtol))
    assert masks is not None  # the ends lie in one component
    negative, positive = masks
    ends = [np.column_stack([p.incoming, p.outgoing]) for p in (one, two)]
    c, c2 = balances_and_sizes(one)[0], balances_and_sizes(two)[0]
    width, d = one.incoming.shape[1], one.W1.shape[1]
    into, out = slice(None, width), slice(width, None)

    def point(s: float) -> Parameters:
        s = check_share("s", s)
        start, end = max(1.0 - 2.0 * s, 0.0), max(2.0 * s - 1.0, 0.0)
        rows = start * ends[0] + end * ends[1]  # the path for balance zero
        balance = (1.0 - s) * c + s * c2
        for which, straight, turning, sign in (
            (negative, into, out, -1.0),
            (positive, out, into, 1.0),
        ):
            a, b = ends[0][which], ends[1][which]
            line = (1.0 - s) * a[:, straight] + s * b[:, straight]
            size = np.sqrt(squares(line) + sign * balance[which])
            rows[which, straight] = line
            rows[which, turning] = size[:, None] * _turn(
                _unit(a[:, turning]), _unit(b[:, turning]), s
            )
        return from_neurons(rows, d, rows.shape[1] - width, one.b1 is not None)

    return point


def _unit(rows: FloatArray) -> FloatArray:
    return rows / norms(rows)[:, None]


def _turn(a: FloatArray, b: FloatArray, s: float) -> FloatArray:
    """Return unit vectors between ``a`` and ``b``, with a detour if they are almost opposite."""
    if not a.size:
        return a
    middle = a + b
    opposite = norms(middle) < 0.2
    axis = np.zeros_like(a)
    axis[np.arange(len(a)), np.abs(a).argmin(axis=1)] = 1.0
    aside = axis - (axis * a).sum(axis=1, keepdims=True) * a
    middle[opposite] = aside[opposite]
    middle = _unit(middle)
    if s <= 0.5:
        return _unit((1.0 - 2.0 * s) * a + 2.0 * s * middle)
    return _unit((2.0 - 2.0 * s) * middle + (2.0 * s - 1.0) * b)
