"""Check the parameters of a two-layer network, and arrange them by neuron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obstruction.tools.checks import check_count, check_flag

FloatArray: TypeAlias = NDArray[np.float64]

ThetaLike: TypeAlias = Sequence[Any]
"""``(W1, W2)`` or ``(W1, W2, b1)``, where ``b1`` may be None."""


class Parameters(NamedTuple):
    """The parameters of a two-layer network.

    Attributes
    ----------
    W1 : ndarray of float64, shape (l, d)
        Hidden weights.
    W2 : ndarray of float64, shape (e, l)
        Output weights.
    b1 : ndarray of float64, shape (l,), or None
        Hidden biases, None if the network has none.
    """

    W1: FloatArray
    W2: FloatArray
    b1: FloatArray | None = None

    @property
    def incoming(self) -> FloatArray:
        """The weights into each neuron, with its bias in the last column: shape ``(l, d')``."""
        return self.W1 if self.b1 is None else np.column_stack([self.W1, self.b1])

    @property
    def outgoing(self) -> FloatArray:
        """The weights out of each neuron: shape ``(l, e)``."""
        return np.ascontiguousarray(self.W2.T)


def check_array(
    name: str, value: Any, dimensions: int, words: str, length: int | None = None
) -> FloatArray:
    """Return a non-empty array of finite numbers as float64.

    `words` describe its shape in errors, and `length` is the required size of its last axis.
    """
    try:
        array = np.asarray(value)
    except ValueError:  # nested lists of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name}: must be an array of real numbers, not {type(value).__name__}")
    fits = length is None or array.shape[-1:] == (length,)
    if array.ndim != dimensions or not array.size or not fits:
        raise ValueError(f"{name} has shape {array.shape}: must be {words}")
    array = array.astype(np.float64)
    finite = np.isfinite(array)
    if not finite.all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        at = f"[{', '.join(map(str, place))}]" if place else ""
        raise ValueError(f"{name}{at} = {array[place]}: must be finite")
    return array


def check_per_neuron(name: str, value: Any, l: int, *, least: float = -np.inf) -> FloatArray:
    """Return an array of shape ``(l,)`` of finite numbers >= `least`; one number is repeated."""
    array = np.asarray(value)
    words = f"a number or an array of shape ({l},)"
    array = check_array(name, array, min(array.ndim, 1), words, l if array.ndim else None)
    low = np.flatnonzero(array < least)
    if low.size:
        raise ValueError(f"{name} = {array.flat[low[0]]}: must be at least {least:g}")
    return np.broadcast_to(array, (l,))


def check_parameters(W1: ArrayLike, W2: ArrayLike, b1: Any = None, *, of: str = "") -> Parameters:
    """Return the parameters as float64 arrays whose shapes fit.

    Errors append `of` to the names of the arrays, as in ``"W1 of theta2"``.
    """
    hidden = check_array("W1" + of, W1, 2, "(l, d), hidden neurons by inputs, neither 0")
    l = hidden.shape[0]
    why = f"for W1 has shape {hidden.shape}"
    output = check_array("W2" + of, W2, 2, f"(e, {l}), {why}", l)
    bias = None if b1 is None else check_array("b1" + of, b1, 1, f"({l},), {why}", l)
    return Parameters(hidden, output, bias)


def check_theta(name: str, theta: ThetaLike) -> Parameters:
    """Return the parameters of a tuple or list ``(W1, W2)`` or ``(W1, W2, b1)``."""
    if not isinstance(theta, (tuple, list)) or len(theta) not in (2, 3):
        raise ValueError(f"{name}: must be (W1, W2) or (W1, W2, b1), not {type(theta).__name__}")
    return check_parameters(*theta, of=f" of {name}")


def check_pair(theta: ThetaLike, theta2: ThetaLike) -> tuple[Parameters, Parameters]:
    """Return the parameters of two networks whose shapes must be equal."""
    one, two = check_theta("theta", theta), check_theta("theta2", theta2)
    for name, first, second in zip(Parameters._fields, one, two, strict=True):
        shape, shape2 = (None if x is None else x.shape for x in (first, second))
        if shape != shape2:
            raise ValueError(f"{name} of theta2 has shape {shape2}: must be {shape}, as of theta")
    return one, two


def squares(rows: FloatArray) -> FloatArray:
    """Return the sum of squares of each row, or inf if it overflows."""
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray((rows * rows).sum(axis=1))


def norms(rows: FloatArray) -> FloatArray:
    """Return the norm of each row, correct even if squares overflow or underflow."""
    total = squares(rows)
    found = np.sqrt(total)
    odd = np.flatnonzero((total < 1e-280) | (total > 1e300))
    if odd.size:
        largest = np.abs(rows[odd]).max(axis=1)
        scale = np.where(largest > 0.0, largest, 1.0)
        with np.errstate(under="ignore"):
            found[odd] = scale * np.sqrt(squares(rows[odd] / scale[:, None]))
    return found


def neurons(W1: ArrayLike, W2: ArrayLike, b1: ArrayLike | None = None) -> FloatArray:
    """Return the parameters of each hidden neuron as a row.

    The rows hold all parameters, since the space of parameters is the direct sum of the neurons'
    spaces. `from_neurons` is the inverse.

    Parameters
    ----------
    W1, W2, b1 : array_like, shapes (l, d), (e, l) and (l,)
        Hidden weights, output weights and, if there are any, hidden biases.

    Returns
    -------
    ndarray of float64, shape (l, d' + e)
        For each neuron its incoming weights, its bias if there is one, and its outgoing weights.
        ``d'`` is ``d + 1`` with biases and ``d`` without.

    Raises
    ------
    ValueError
        If an array is not of finite numbers, or shapes do not fit.

    Notes
    -----
    Nurisso et al. 2024, Prop. 1; with biases App. E.

    Examples
    --------
    >>> neurons([[1, 2], [3, 4]], [[5, 6]], [7, 8]).tolist()
    [[1.0, 2.0, 7.0, 5.0], [3.0, 4.0, 8.0, 6.0]]
    """
    theta = check_parameters(W1, W2, b1)
    return np.column_stack([theta.incoming, theta.outgoing])


def from_neurons(rows: ArrayLike, d: int, e: int = 1, hidden_bias: bool = False) -> Parameters:
    """Return the parameters with the given neurons: the inverse of `neurons`.

    Parameters
    ----------
    rows : array_like, shape (l, d' + e)
        For each neuron its weights and its bias, as `neurons` returns them.
    d, e : int
        Inputs and outputs, >= 1.
    hidden_bias : bool
        Whether the hidden neurons have biases.

    Raises
    ------
    ValueError
        If the width of the rows is not ``d + e``, or ``d + 1 + e`` with biases.

    Examples
    --------
    >>> from_neurons([[1, 2, 7, 5], [3, 4, 8, 6]], d=2, hidden_bias=True).W2.tolist()
    [[5.0, 6.0]]
    """
    d, e = check_count("d", d), check_count("e", e)
    width = d + check_flag("hidden_bias", hidden_bias)
    words = f"(l, {width + e}), for d = {d}, e = {e}, hidden_bias = {hidden_bias}"
    array = check_array("rows", rows, 2, words, width + e)
    bias = array[:, d].copy() if hidden_bias else None
    return Parameters(array[:, :d].copy(), np.ascontiguousarray(array[:, width:].T), bias)
