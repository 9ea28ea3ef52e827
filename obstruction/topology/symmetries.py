"""Rescale and permute neurons, which changes the parameters but not the function."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from obstruction.topology.parameters import (
    FloatArray,
    Parameters,
    check_array,
    check_parameters,
    check_per_neuron,
    norms,
)


def rescale(
    W1: ArrayLike, W2: ArrayLike, alpha: ArrayLike, b1: ArrayLike | None = None
) -> Parameters:
    """Multiply each neuron's input weights by ``alpha`` and divide its output weights by it.

    Parameters
    ----------
    W1, W2, b1 : array_like, shapes (l, d), (e, l) and (l,)
        Hidden weights, output weights and, if there are any, hidden biases.
    alpha : float or array_like, shape (l,)
        The factors, > 0. They also multiply the hidden biases.

    Returns
    -------
    (W1, W2, b1) : Parameters
        New arrays of float64.

    Raises
    ------
    ValueError
        If arrays are not of finite numbers, shapes do not fit, a factor is not positive, or a
        result overflows.

    Notes
    -----
    Nurisso et al. 2024, Eq. 2 and 3, and Eq. 26 with biases.

    Examples
    --------
    >>> rescale([[1.0, 2.0]], [[6.0]], 2.0).W2.tolist()
    [[3.0]]
    """
    theta = check_parameters(W1, W2, b1)
    factors = check_per_neuron("alpha", alpha, theta.W1.shape[0])
    bad = np.flatnonzero(factors <= 0.0)
    if bad.size:
        raise ValueError(f"alpha = {factors[bad[0]]}: must be positive")
    return _scaled(theta, factors)


def _scaled(theta: Parameters, alpha: FloatArray) -> Parameters:
    with np.errstate(over="ignore", under="ignore"):
        bias = None if theta.b1 is None else theta.b1 * alpha
        new = Parameters(theta.W1 * alpha[:, None], theta.W2 / alpha, bias)
    finite = np.isfinite(np.column_stack([new.incoming, new.outgoing])).all(axis=1)
    if not finite.all():
        k = int(finite.argmin())
        raise ValueError(f"neuron {k}: its weights overflow when scaled by alpha = {alpha[k]}")
    return new


def permute(
    W1: ArrayLike, W2: ArrayLike, order: ArrayLike, b1: ArrayLike | None = None
) -> Parameters:
    """Return the parameters with the hidden neurons in another order.

    Parameters
    ----------
    W1, W2, b1 : array_like, shapes (l, d), (e, l) and (l,)
        Hidden weights, output weights and, if there are any, hidden biases.
    order : array_like of int, shape (l,)
        Neuron ``k`` of the result is neuron ``order[k]`` of the argument.

    Returns
    -------
    (W1, W2, b1) : Parameters
        New arrays of float64.

    Raises
    ------
    ValueError
        If arrays are not of finite numbers, shapes do not fit, or ``order`` does not name every
        neuron once.

    Notes
    -----
    Nurisso et al. 2024, Eq. 4.

    Examples
    --------
    >>> permute([[1.0], [2.0], [3.0]], [[4.0, 5.0, 6.0]], [2, 0, 1]).W2.tolist()
    [[6.0, 4.0, 5.0]]
    """
    theta = check_parameters(W1, W2, b1)
    l = theta.W1.shape[0]
    places = check_array("order", order, 1, f"({l},), every neuron once")
    if not np.array_equal(np.sort(places), np.arange(l)):
        raise ValueError(f"order: must name every neuron from 0 to {l - 1} once")
    index = places.astype(np.intp)
    bias = None if theta.b1 is None else theta.b1[index]
    return Parameters(theta.W1[index], theta.W2[:, index], bias)


def rescale_to_balance(
    W1: ArrayLike, W2: ArrayLike, c_target: ArrayLike, b1: ArrayLike | None = None
) -> Parameters:
    """Rescale each neuron to a given balance.

    The function of the network stays the same. The new balances differ from the targets by about
    1e-16 times the squared norms of the neuron's new weights.

    Parameters
    ----------
    W1, W2, b1 : array_like, shapes (l, d), (e, l) and (l,)
        Hidden weights, output weights and, if there are any, hidden biases.
    c_target : float or array_like, shape (l,)
        The balances to reach, of any sign.

    Returns
    -------
    (W1, W2, b1) : Parameters
        New arrays of float64.

    Raises
    ------
    ValueError
        If a neuron, which the message names, cannot reach its target. A neuron without output
        weights can reach only positive balances, one without input weights and bias only negative
        balances, and one without either only zero. Also if arrays are not of finite numbers or
        shapes do not fit.

    Notes
    -----
    Nurisso et al. 2024, Prop. 4 and Eq. 23; see `rescaling_factors`.

    Examples
    --------
    >>> theta = rescale_to_balance([[3.0, 4.0]], [[0.3]], -1.25)
    >>> (theta.W1**2).sum().round(12), (theta.W2**2).sum().round(12)
    (np.float64(1.0), np.float64(2.25))
    """
    theta = check_parameters(W1, W2, b1)
    target = check_per_neuron("c_target", c_target, theta.W1.shape[0])
    alpha = rescaling_factors(norms(theta.incoming), norms(theta.outgoing), target)
    return _scaled(theta, alpha)


def rescaling_factors(in_norms: ArrayLike, out_norms: ArrayLike, c_target: ArrayLike) -> FloatArray:
    """Return the factors that rescale neurons to given balances.

    Parameters
    ----------
    in_norms, out_norms : array_like, shape (l,)
        The norms of each neuron's incoming weights (with its bias) and outgoing weights, >= 0.
    c_target : float or array_like, shape (l,)
        The balances to reach.

    Returns
    -------
    ndarray of float64, shape (l,)
        The only ``alpha > 0`` with ``(alpha in)^2 - (out / alpha)^2 = c``, or 1 for a neuron with
        all weights zero, whose balance is zero for every factor.

    Raises
    ------
    ValueError
        If a norm is negative or not finite, or a neuron cannot reach its target (see
        `rescale_to_balance`).

    Notes
    -----
    This is Nurisso et al. 2024, Eq. 23, in a form without cancellation or overflow. With
    ``t = c / (2 in out)`` and ``q = |t| + sqrt(1 + t^2) >= 1``, ``alpha^2`` is ``(out / in) q`` for
    ``c >= 0`` and ``(out / in) / q`` for ``c < 0``.

    Examples
    --------
    >>> rescaling_factors([1.0, 2.0], [1.0, 0.0], [1.5, 1.0]).tolist()
    [1.4142135623730951, 0.5]
    """
    inward = check_array("in_norms", in_norms, 1, "(l,), one number a neuron")
    words = f"({inward.size},), as in_norms"
    outward = check_array("out_norms", out_norms, 1, words, inward.size)
    check_per_neuron("in_norms", inward, inward.size, least=0.0)
    check_per_neuron("out_norms", outward, inward.size, least=0.0)
    c = check_per_neuron("c_target", c_target, inward.size)
    _check_reachable(inward, outward, c)

    size = np.abs(c)
    with np.errstate(all="ignore"):
        mean = np.sqrt(inward) * np.sqrt(outward)  # in * out might underflow
        t = 0.5 * (size / mean) / mean
        root = mean * np.sqrt(t + np.hypot(t, 1.0))
        # `root` is the larger of the two new norms. If t overflows, the target is so much larger
        # than the weights that it determines this norm alone.
        root = np.where(np.isfinite(root), root, np.sqrt(size))
        alpha = np.where(c >= 0.0, root / inward, outward / root)
    alpha[(inward == 0.0) & (outward == 0.0)] = 1.0
    beyond = np.flatnonzero(~(np.isfinite(alpha) & (alpha > 0.0)))
    if beyond.size:
        k = int(beyond[0])
        raise ValueError(
            f"neuron {k}: the factor that takes it to c_target = {c[k]} is no float64; its norms "
            f"are {inward[k]} in and {outward[k]} out"
        )
    return alpha


def _check_reachable(inward: FloatArray, outward: FloatArray, c: FloatArray) -> None:
    """Raise an error for the first neuron with a target that Prop. 4 excludes."""
    for k in np.flatnonzero((inward == 0.0) | (outward == 0.0)):
        if inward[k] == outward[k]:
            reached, weights, only = c[k] == 0.0, "weights at all", "balance 0"
        elif inward[k] == 0.0:
            reached, weights, only = c[k] < 0.0, "input weights", "balances < 0"
        else:
            reached, weights, only = c[k] > 0.0, "output weights", "balances > 0"
        if not reached:
            raise ValueError(
                f"c_target = {c[k]}: neuron {k} has no {weights}, so only {only} can be reached"
            )
