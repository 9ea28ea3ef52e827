"""Networks with two logits that are trained under cross-entropy, as networks with one output.

Softmax with cross-entropy does not see a common shift of the logits. It sees the logits of a neuron
with output weights ``v_1, ..., v_e`` through their differences only, so the mean of these weights
keeps its value, and ``|in|^2 - |v - mean(v)|^2`` is conserved. With two logits ``v - mean(v)`` has
one coordinate, ``u = (v_1 - v_2) / sqrt(2)``. The sign of ``v_1 - v_2`` is therefore frozen iff
``|in|^2 < (v_1 - v_2)^2 / 2 = u^2``, which is the condition for one output with the weight ``u``.
For independent output weights of mean 0 and variance ``s``, the variance of ``u`` is ``s``. The law
of ``u`` is normal for normal weights and triangular for uniform ones. Equal constants differ by 0.
With three logits or more the centred weights of a neuron can turn around 0, and no sign is frozen.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from obstruction.exact.checks import FloatArray, arguments
from obstruction.exact.methods import NoExactValue
from obstruction.schemes import InitScheme
from obstruction.schemes.laws import CONSTANT, NORMAL, TRIANGULAR, UNIFORM, Law
from obstruction.tools.checks import check_choice

LOSSES: Final = ("cross_entropy",)
"""The losses with formulas of their own. None is any loss that sees all outputs."""

_DIFFERENCES: Final = {NORMAL: NORMAL, UNIFORM: TRIANGULAR, CONSTANT: CONSTANT}
"""The law of ``(V_1 - V_2) / sqrt(2)``, by the law of the output weights."""


def logits(d: ArrayLike, l: ArrayLike, e: ArrayLike, loss: str | None) -> tuple[FloatArray, ...]:
    """Return the sizes in one shape, or raise ValueError if the outputs do not fit the loss."""
    if loss is not None:
        check_choice("loss", loss, LOSSES)
    d, l, e = arguments(d=d, l=l, e=e)
    if loss is None and (e > 1.0).any():
        raise ValueError(
            f"e = {e.max():.0f}: must be 1 unless loss='cross_entropy' is given; without it no "
            "sign is frozen with two outputs or more"
        )
    if loss is not None and (e < 2.0).any():
        raise ValueError(
            f"e = {e.min():.0f}: must be at least 2 with loss = {loss!r}, which needs two logits; "
            "one logit with binary cross-entropy has e = 1 and no loss"
        )
    return d, l, e


def one_output(
    scheme: InitScheme, d: ArrayLike, l: ArrayLike, e: ArrayLike, loss: str | None
) -> tuple[Law, FloatArray, FloatArray, FloatArray]:
    """Return the law of the output weight that a neuron with one output would have, and its ratio.

    Parameters
    ----------
    scheme : InitScheme
        A scheme of independent weights.
    d, l, e : array_like of int
        Inputs, hidden neurons and outputs, >= 1.
    loss : {None, "cross_entropy"}
        The loss. Without one there must be one output, and with cross-entropy two or more.

    Returns
    -------
    law : Law
        The law of the output weight.
    a : ndarray
        Its variance over that of the hidden weights, in the broadcast shape. It is 0 in cells in
        which no sign can be frozen.
    d, l : ndarray
        The sizes in this shape.

    Raises
    ------
    NoExactValue, ValueError
        If the difference of two output weights has no formula; if an argument is out of its range.
    """
    d, l, e = logits(d, l, e, loss)
    a = scheme.ratio(d, l, e)
    law = scheme.output.law
    if loss is None:
        return law, a, d, l
    if law not in _DIFFERENCES:
        raise NoExactValue(
            f"scheme {scheme.label!r} has no exact value with loss = {loss!r}: the difference of "
            f"two {law} output weights has no formula here, only that of normal, uniform or "
            "constant ones has"
        )
    possible = (e == 2.0) & (law != CONSTANT)
    return _DIFFERENCES[law], np.where(possible, a, 0.0), d, l
