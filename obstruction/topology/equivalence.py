"""Compare two networks up to rescaling and permutation of neurons."""

from __future__ import annotations

import numpy as np

from obstruction.tools.checks import check_rtol
from obstruction.topology.parameters import FloatArray, Parameters, ThetaLike, check_pair, norms


def observationally_equivalent(theta: ThetaLike, theta2: ThetaLike, rtol: float = 1e-9) -> bool:
    """Return whether two parameters are equal up to rescaling and permutation of hidden neurons.

    Such parameters encode the same function. The converse does not hold: the input weights of a
    neuron without output weights do not change the function, but no rescaling changes their
    direction.

    Parameters
    ----------
    theta, theta2 : (W1, W2) or (W1, W2, b1)
        The parameters, of the same shapes.
    rtol : float
        The allowed difference of two neurons, relative to their norm after both are rescaled to
        balance zero; in [0, 1).

    Returns
    -------
    bool
        True if each neuron of one network can be paired with an equal neuron of the other. Neurons
        without input weights, or without output weights, are equal if their other weights are
        positive multiples of each other. All neurons without any weight are equal.

    Raises
    ------
    ValueError
        If shapes differ, or an argument is invalid.

    Notes
    -----
    Nurisso et al. 2024, Section 3.2 and Lemma 3. The search for pairs is greedy. It can miss a
    pairing only if several different neurons of a network are within `rtol` of each other.

    Examples
    --------
    >>> theta = [[1.0, 2.0], [3.0, 4.0]], [[5.0, -6.0]]
    >>> observationally_equivalent(theta, ([[6.0, 8.0], [1.0, 2.0]], [[-3.0, 5.0]]))
    True
    >>> observationally_equivalent(theta, ([[6.0, 8.0], [1.0, 2.0]], [[3.0, 5.0]]))
    False
    """
    one, two = check_pair(theta, theta2)
    return _match(_balanced(one), _balanced(two), check_rtol(rtol))


def _balanced(theta: Parameters) -> FloatArray:
    """Return one row for each neuron that no rescaling changes: its weights at balance zero.

    If a neuron has only incoming or only outgoing weights, they are scaled to norm 1.
    """
    incoming, outgoing = theta.incoming, theta.outgoing
    inward, outward = norms(incoming), norms(outgoing)
    scale = np.sqrt(inward) * np.sqrt(outward)
    scale[(inward == 0.0) | (outward == 0.0)] = 1.0
    sides = [
        rows / np.where(size > 0.0, size, 1.0)[:, None] * scale[:, None]
        for rows, size in ((incoming, inward), (outgoing, outward))
    ]
    return np.column_stack(sides)


def _match(rows: FloatArray, others: FloatArray, rtol: float) -> bool:
    """Return whether each row can be paired with one of the others, within the tolerance."""
    direction = np.random.default_rng(0).standard_normal((rows.shape[1],))
    direction /= norms(direction[None])
    # Close rows have close projections. With rows sorted by projection, few must be compared.
    place, other_place = rows @ direction, others @ direction
    order, other_order = np.argsort(place), np.argsort(other_place)
    rows, others = rows[order], others[other_order]
    place, other_place = place[order], other_place[other_order]
    limit = rtol * norms(rows)
    slack = limit + 1e-14 * norms(rows)  # for rounding errors of the projections
    first = np.searchsorted(other_place, place - slack, side="left")
    last = np.searchsorted(other_place, place + slack, side="right")
    free = np.ones(len(others), dtype=bool)
    for k, row in enumerate(rows):
        window = int(first[k]) + np.flatnonzero(free[first[k] : last[k]])
        close = window[norms(others[window] - row) <= limit[k]]
        if not close.size:
            return False
        free[close[0]] = False
    return True
