"""The number of connected components of the invariant set of a fresh network."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from obstruction.exact import inversion
from obstruction.exact.checks import FloatArray, Result, arguments, plain
from obstruction.exact.methods import check_inputs, exact_scheme
from obstruction.exact.neurons_to_network import log_some, some, value
from obstruction.schemes import SchemeLike
from obstruction.schemes.laws import CONSTANT


def expected_components(
    scheme: SchemeLike,
    d: ArrayLike,
    l: ArrayLike,
    *,
    e: ArrayLike = 1,
    hidden_bias: bool | None = None,
) -> Result:
    """Return the expected number of connected components of a fresh network's invariant set.

    Parameters
    ----------
    scheme : str or InitScheme
        The initialisation scheme, of independent weights.
    d, l, e : array_like of int
        Inputs, hidden neurons and outputs, >= 1.
    hidden_bias : bool, optional
        Whether the hidden neurons have biases; by default, whether the scheme draws them. If it
        does not, True means biases that start at zero. They act as one more input but change no
        balance at initialisation. If the scheme draws biases, False is an error.

    Returns
    -------
    float or ndarray
        ``E[beta_0] >= 1``, or inf beyond 1e308. `log_expected_components` has no such limit.

    Raises
    ------
    NoExactValue, ValueError
        If weights depend on each other; if an argument is out of its range.

    Notes
    -----
    Let ``d'`` be ``d + 1`` with hidden biases and ``d`` without. Every positive balance doubles
    the number of components ``beta_0`` if ``d' = 1``, and every negative one doubles it if
    ``e = 1`` (Nurisso et al. 2024, Cor. 1). Neurons are independent, so ``E[beta_0] = (1 + f)^l``,
    where ``f`` is the probability that a neuron doubles ``beta_0``: ``p`` for ``e = 1 < d'``, 1 for
    ``e = d' = 1``, ``1 - P(balance < 0)`` for ``d' = 1 < e``, and 0 otherwise. The relative error
    is about 2e-15 times the logarithm.

    Examples
    --------
    >>> round(expected_components("kaiming_normal", 2, 1), 12)  # p = 1 - 3^(-1/2)
    1.42264973081
    >>> expected_components("kaiming_normal", 1, 10)
    1024.0
    >>> expected_components("kaiming_normal", 2, 10, e=2)
    1.0
    """
    width, *factors = _doubling(scheme, d, l, e, hidden_bias)
    f = value(*factors)
    with np.errstate(over="ignore"):
        powers = np.ldexp(1.0, np.minimum(width, 2000.0).astype(np.int32))
        return plain(np.where(f == 1.0, powers, np.exp(width * np.log1p(f))))


def log_expected_components(
    scheme: SchemeLike,
    d: ArrayLike,
    l: ArrayLike,
    *,
    e: ArrayLike = 1,
    hidden_bias: bool | None = None,
) -> Result:
    """Return the natural logarithm of `expected_components`.

    Examples
    --------
    >>> round(log_expected_components("xavier_normal", 1, 10**6) / 10**6, 12)  # log 2
    0.69314718056
    """
    width, *factors = _doubling(scheme, d, l, e, hidden_bias)
    return plain(width * np.log1p(value(*factors)))


def disconnection_probability(
    scheme: SchemeLike,
    d: ArrayLike,
    l: ArrayLike,
    *,
    e: ArrayLike = 1,
    hidden_bias: bool | None = None,
) -> Result:
    """Return the probability that a fresh network's invariant set is disconnected.

    Arguments and errors are those of `expected_components`.

    Returns
    -------
    float or ndarray
        ``P(beta_0 > 1)`` (Nurisso et al. 2024, Cor. 1 and 2). In general it is
        `obstruction_probability` for one output and 0 for several outputs. For one input without
        hidden biases it is 1 for one output, and for several outputs the probability that some
        balance is *positive*.

    Examples
    --------
    >>> disconnection_probability("xavier_normal", 1, 1)
    1.0
    >>> round(disconnection_probability("xavier_normal", 1, 1, hidden_bias=True), 12)
    0.5
    """
    return plain(some(*_doubling(scheme, d, l, e, hidden_bias)))


def log_disconnection_probability(
    scheme: SchemeLike,
    d: ArrayLike,
    l: ArrayLike,
    *,
    e: ArrayLike = 1,
    hidden_bias: bool | None = None,
) -> Result:
    """Return the natural logarithm of `disconnection_probability`.

    Examples
    --------
    >>> log_disconnection_probability("kaiming_normal", 5, 5, e=3)
    -inf
    """
    return plain(log_some(*_doubling(scheme, d, l, e, hidden_bias)))


def _doubling(
    scheme: SchemeLike, d: ArrayLike, l: ArrayLike, e: ArrayLike, hidden_bias: bool | None
) -> tuple[FloatArray, ...]:
    """Return `l` and the exponent and factor of the probability that a neuron doubles beta_0."""
    rule = exact_scheme(scheme)
    if not isinstance(hidden_bias, bool | np.bool_ | None):
        raise ValueError(f"hidden_bias = {hidden_bias!r}: must be True, False or None")
    biased = rule.has_bias if hidden_bias is None else bool(hidden_bias)
    if rule.has_bias and not biased:
        raise ValueError(f"hidden_bias = False: scheme {rule.label!r} has hidden biases")
    d, l, e = arguments(d=d, l=l, e=e)
    check_inputs(rule, d)
    check_inputs(rule, e, "e")
    a, beta = rule.ratio(d, l, e), rule.bias_ratio(d, l)
    hidden, output = rule.laws
    one_input = (d == 1.0) & (not biased)
    one_output = e == 1.0
    exponent, factor = np.zeros_like(a), np.zeros_like(a)
    both = one_input & one_output  # every balance other than 0 doubles beta_0
    factor[both] = 1.0
    if hidden == output == CONSTANT:
        factor[both & (a == 1.0)] = 0.0
    x = one_output & ~one_input  # the cells where negative balances double beta_0
    exponent[x], factor[x] = inversion.factors(output, hidden, rule.bias_law, d[x], a[x], beta[x])
    # For d' = 1 < e positive balances do. The layers are swapped: W^2 > a (V_1^2 + ... + V_e^2).
    x = one_input & ~one_output
    with np.errstate(divide="ignore"):
        swapped = np.divide(1.0, a[x])
    none = np.zeros_like(swapped)
    exponent[x], factor[x] = inversion.factors(hidden, output, None, e[x], swapped, none)
    return l, exponent, factor
