"""Whether two networks are the same up to rescaling and permutation of neurons."""

from __future__ import annotations

import numpy as np

from obstruction.tools.checks import check_rtol
from obstruction.topology.parameters import FloatArray, Parameters, ThetaLike, check_pair, norms


def observationally_equivalent(theta: ThetaLike, theta2: ThetaLike, rtol: float = 1e-9) -> bool:
    """Return whether two parameters are equal up to rescaling and permutation of hidden neurons.

    Such parameters encode the same function. The reverse does not hold: a neuron without output
    weights adds nothing to the function, whatever its input weights are, but no rescaling takes it
    to one with other input weights.

    Parameters
    ----------
    theta, theta2 : (W1, W2) or (W1, W2, b1)
        The parameters, of the same shapes.
    rtol : float
        How far two neurons may differ, in parts of their norm after both are rescaled to balance
        zero.

    Returns
    -------
    bool
        True if the neurons of one match those of the other one by one. Neurons without input or
        without output weights match if their other weights are multiples of each other by a
        positive factor; a neuron without any weight matches its like.

    Raises
    ------
    ValueError
        If shapes differ, or parameters or tolerance are not what they must be.

    Notes
    -----
    Nurisso et al. 2024, Section 3.2 and Lemma 3. A matching is searched greedily. It might miss one
    only if several different neurons of a network are within `rtol` of each other.

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
    """Return a row a neuron that no rescaling changes: its weights at balance zero.

    A side that is alone is scaled to norm 1, for it can have any.
    """
    incoming, outgoing = theta.incoming, theta.outgoing
    inward, outward = norms(incoming), norms(outgoing)
    scale = np.sqrt(inward) * np.sqrt(outward)
    scale[(inward == 0.0) | (outward == 0.0)] = 1.0
    sides = []
    for rows, size in ((incoming, inward), (outgoing, outward)):
        unit = rows / np.where(size > 0.0, size, 1.0)[:, None]
        sides.append(unit * scale[:, None])
    return np.column_stack(sides)


def _match(rows: FloatArray, others: FloatArray, rtol: float) -> bool:
    """Return whether each row can be given one of the others, within the tolerance."""
    direction = np.random.default_rng(0).standard_normal((rows.shape[1],))
    direction /= norms(direction[None])
    # Rows that are close have close projections: in their order, only few need to be compared.
    place, other_place = rows @ direction, others @ direction
    order, other_order = np.argsort(place), np.argsort(other_place)
    rows, others = rows[order], others[other_order]
    place, other_place = place[order], other_place[other_order]
    limit = rtol * norms(rows)
    slack = limit + 1e-14 * norms(rows)  # the projections are rounded
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
