"""The balances of neurons, and the numbers of positive, negative and zero balances."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from obstruction.tools.checks import check_rtol
from obstruction.topology.parameters import (
    FloatArray,
    Parameters,
    ThetaLike,
    check_array,
    check_parameters,
    check_per_neuron,
    check_theta,
    squares,
)


class SignCounts(NamedTuple):
    """The number of balances of each sign.

    Attributes
    ----------
    l_pos, l_neg, l_zero : int
        The number of positive, negative and zero balances.
    """

    l_pos: int
    l_neg: int
    l_zero: int


def balances(W1: ArrayLike, W2: ArrayLike, b1: ArrayLike | None = None) -> FloatArray:
    """Return the balance of each hidden neuron, which gradient flow conserves.

    Parameters
    ----------
    W1, W2, b1 : array_like, shapes (l, d), (e, l) and (l,)
        Hidden weights, output weights and, if there are any, hidden biases.

    Returns
    -------
    ndarray of float64, shape (l,)
        ``|W1[k]|^2 + b1[k]^2 - |W2[:, k]|^2``, computed in float64 whatever the type of the
        weights. The rounding error is about 1e-16 times the sum of the two squared norms. The sign
        of a smaller balance has no meaning.

    Raises
    ------
    ValueError
        If an array is not of finite numbers, shapes do not fit, or a square overflows.

    Notes
    -----
    Nurisso et al. 2024, Eq. 11, and Eq. 28 with biases.

    Examples
    --------
    >>> balances([[3, 4], [0, 1]], [[1, 2]], [2, 0]).tolist()
    [28.0, -3.0]
    """
    return balances_and_sizes(check_parameters(W1, W2, b1))[0]


def balances_and_sizes(theta: Parameters) -> tuple[FloatArray, FloatArray]:
    """Return the balance of each neuron and the sum of all its squared weights."""
    inward, outward = squares(theta.incoming), squares(theta.outgoing)
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = inward + outward
    large = np.flatnonzero(~np.isfinite(sizes))
    if large.size:
        raise ValueError(
            f"neuron {large[0]} has weights so large that their squares overflow; "
            "norms must be below 1e154"
        )
    return inward - outward, sizes


def sign_counts(balances: ArrayLike, tolerance: ArrayLike = 0.0) -> SignCounts:
    """Return the numbers of positive, negative and zero balances.

    Parameters
    ----------
    balances : array_like, shape (l,)
        The balances.
    tolerance : float or array_like, shape (l,)
        Balances with at most this absolute value count as zero.

    Returns
    -------
    (l_pos, l_neg, l_zero) : SignCounts

    Raises
    ------
    ValueError
        If a number is not finite or a tolerance is negative.

    Examples
    --------
    >>> sign_counts([2.0, -1.0, -3.0, 1e-12], tolerance=1e-9)
    SignCounts(l_pos=1, l_neg=2, l_zero=1)
    """
    c = check_array("balances", balances, 1, "(l,), one number a hidden neuron")
    limit = check_per_neuron("tolerance", tolerance, c.size, least=0.0)
    positive, negative = np.count_nonzero(c > limit), np.count_nonzero(c < -limit)
    return SignCounts(int(positive), int(negative), int(c.size - positive - negative))


def in_invariant_set(theta: ThetaLike, c: ArrayLike, rtol: float = 1e-9) -> bool:
    """Return whether parameters lie on the invariant set ``H(c)``, that is, have balances ``c``.

    Parameters
    ----------
    theta : (W1, W2) or (W1, W2, b1)
        The parameters.
    c : float or array_like, shape (l,)
        The balances.
    rtol : float
        The allowed error of a balance, relative to the sum of all squared weights of its neuron;
        in [0, 1).

    Raises
    ------
    ValueError
        If an argument is invalid.

    Notes
    -----
    Nurisso et al. 2024, Def. 1. Each balance depends on one neuron only, so ``H(c)`` is the
    product of the neurons' hyperquadrics (Lemma 1).

    Examples
    --------
    >>> in_invariant_set(([[3.0, 4.0]], [[5.0]]), 0.0)
    True
    """
    found, sizes = balances_and_sizes(check_theta("theta", theta))
    wanted = check_per_neuron("c", c, found.size)
    return bool(np.all(np.abs(found - wanted) <= check_rtol(rtol) * sizes))
