"""The probabilities of pathological neurons and of obstructed networks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from obstruction.exact import f_distribution as normal
from obstruction.exact import inversion, orthogonal
from obstruction.exact.checks import FloatArray, Result, arguments, plain
from obstruction.exact.logits import logits, one_output
from obstruction.exact.methods import check_inputs, check_width, exact_scheme, has_neuron_exact
from obstruction.exact.neurons_to_network import log_some, log_value, some, value
from obstruction.schemes import InitScheme, SchemeLike, as_scheme

# --- one neuron ----------------------------------------------------------------------------


def pathological_probability_from_ratio(d: ArrayLike, a: ArrayLike) -> Result:
    """Return the probability that a neuron is pathological, from the ratio of the variances.

    Parameters
    ----------
    d : array_like of int
        Inputs, >= 1.
    a : array_like
        ``Var W2 / Var W1`` in [0, inf]; 0 gives probability 0 and inf gives 1.

    Returns
    -------
    float or ndarray
        ``p`` in [0, 1] (Nurisso et al. 2024, App. F), or 0 below 1e-308, where the logarithmic
        function is still accurate.

    Raises
    ------
    ValueError
        If `d` is not a size, `a` is not in [0, inf], or the shapes do not broadcast.

    Examples
    --------
    >>> round(pathological_probability_from_ratio(2, 3.0), 12)  # 1 - (1 + a)^(-1/2)
    0.5
    """
    return plain(value(*normal.factors(*arguments(d=d, a=a))))


def log_pathological_probability_from_ratio(d: ArrayLike, a: ArrayLike) -> Result:
    """Return the natural logarithm of `pathological_probability_from_ratio`.

    Examples
    --------
    >>> round(log_pathological_probability_from_ratio(10**7, 1.0), 3)
    -3465743.841
    """
    return plain(log_value(*normal.factors(*arguments(d=d, a=a))))


def pathological_probability(
    scheme: SchemeLike,
    d: ArrayLike,
    l: ArrayLike,
    *,
    e: ArrayLike = 1,
    loss: str | None = None,
) -> Result:
    """Return the probability that a given neuron of a fresh network is pathological.

    Parameters
    ----------
    scheme : str or InitScheme
        The initialisation scheme, of independent or of orthogonal weights.
    d, l : array_like of int
        Inputs and hidden neurons, >= 1.
    e : array_like of int
        Outputs: 1, or 2 and more with ``loss="cross_entropy"``.
    loss : {"cross_entropy"}, optional
        The loss, if it does not see all outputs. Softmax with cross-entropy does not see a common
        shift of the logits. With two logits, a neuron is then pathological if half the square of
        the difference of its output weights exceeds the sum of its squared input weights, and the
        sign of this difference is frozen. With three logits and more nothing is, and the value is
        0. By default the probability is that for one output and any loss.

    Returns
    -------
    float or ndarray
        ``p`` in [0, 1] (Nurisso et al. 2024, App. F), or 0 below 1e-308, where the logarithmic
        function is still accurate.

    Raises
    ------
    NoExactValue, ValueError
        If the scheme has truncated normal output weights and there is a loss; if an argument is
        out of its range.

    Notes
    -----
    For orthogonal weights the probability is ``P(R > (g/h)^2 S)`` with the gains ``g`` and ``h`` of
    the hidden and the output weights and ``R ~ Beta(1/2, (l - 1)/2)``. If there are more neurons
    than inputs, ``S ~ Beta(d/2, (l - d)/2)``, otherwise ``S = 1``. The neurons of a network depend
    on each other, so that the probability of a network has no formula.

    For two logits ``(v_1 - v_2) / sqrt(2)`` takes the place of the output weight. It has the
    variance of the output weights, which depends on `e` in some schemes. Its law is normal for
    normal weights and triangular for uniform ones.

    Examples
    --------
    >>> round(pathological_probability("kaiming_normal", 10, 10), 13)
    0.0101195597354
    >>> round(pathological_probability("kaiming_normal", 2, 200, e=2, loss="cross_entropy"), 6)
    0.004963

    The value function of stable-baselines3's PPO, with one hidden layer and three observations:

    >>> round(pathological_probability("orthogonal:hidden_gain=1.4142135623730951", 3, 64), 4)
    0.089
    """
    _, *factors = neuron_factors(scheme, d, l, e, loss)
    return plain(value(*factors))


def log_pathological_probability(
    scheme: SchemeLike,
    d: ArrayLike,
    l: ArrayLike,
    *,
    e: ArrayLike = 1,
    loss: str | None = None,
) -> Result:
    """Return the natural logarithm of `pathological_probability`.

    Examples
    --------
    >>> round(log_pathological_probability("kaiming_normal", 10**4, 10**4), 6)
    -3470.220416
    """
    _, *factors = neuron_factors(scheme, d, l, e, loss)
    return plain(log_value(*factors))


# --- the network ---------------------------------------------------------------------------


def obstruction_probability(
    scheme: SchemeLike,
    d: ArrayLike,
    l: ArrayLike,
    *,
    e: ArrayLike = 1,
    loss: str | None = None,
) -> Result:
    """Return the probability that some neuron of a fresh network is pathological.

    Arguments and errors are those of `pathological_probability`; besides, `NoExactValue` is raised
    for weights that depend on each other. The value is ``P = 1 - (1 - p)^l`` in [0, 1] (Nurisso et
    al. 2024, App. F and Cor. 2). With one input and no hidden biases the invariant set is always
    disconnected: see `disconnection_probability`.

    Examples
    --------
    Two logits under cross-entropy can be frozen as one output can:

    >>> round(obstruction_probability("kaiming_normal", 2, 200, e=2, loss="cross_entropy"), 4)
    0.6303

    One output:

    >>> obstruction_probability("xavier_normal", [1, 10], 10).round(8)
    array([0.99902344, 0.34188275])
    """
    return plain(some(*pathological_factors(scheme, d, l, e, loss)))


def log_obstruction_probability(
    scheme: SchemeLike,
    d: ArrayLike,
    l: ArrayLike,
    *,
    e: ArrayLike = 1,
    loss: str | None = None,
) -> Result:
    """Return the natural logarithm of `obstruction_probability`.

    Examples
    --------
    >>> round(log_obstruction_probability("kaiming_normal", 10**4, 10**4), 6)
    -3461.010075
    """
    return plain(log_some(*pathological_factors(scheme, d, l, e, loss)))


def pathological_count(
    scheme: SchemeLike,
    d: ArrayLike,
    l: ArrayLike,
    *,
    e: ArrayLike = 1,
    loss: str | None = None,
) -> Any:
    """Return the distribution of the number of pathological neurons of a fresh network.

    Neurons are independent, so it is binomial. For one output and two or more inputs, the number of
    effective components is larger by one (Nurisso et al. 2024, Cor. 3). Arguments and errors are
    those of `obstruction_probability`.

    Returns
    -------
    frozen scipy.stats.binom
        ``.mean()`` is the expected number, ``.pmf(k)`` the probability of exactly ``k``, and
        ``.ppf(q)`` the least ``k`` that is not exceeded with probability ``q``.

    Examples
    --------
    >>> count = pathological_count("xavier_normal", 10, 10)
    >>> round(float(count.mean()), 12), int(count.ppf(0.99))
    (0.409741184939, 2)
    """
    from scipy import stats

    width, *factors = pathological_factors(scheme, d, l, e, loss)
    return stats.binom(width.astype(np.int64)[()], value(*factors)[()])


def pathological_factors(
    scheme: SchemeLike,
    d: ArrayLike,
    l: ArrayLike,
    e: ArrayLike = 1,
    loss: str | None = None,
) -> tuple[FloatArray, ...]:
    """Return `l` and the exponent and factor of the probability that a neuron is pathological.

    The neurons must be independent, so that the probability of a network follows.
    """
    rule = exact_scheme(scheme)
    output, a, d, l = one_output(rule, d, l, e, loss)
    check_inputs(rule, d)
    beta = rule.bias_ratio(d, l)
    return l, *inversion.factors(output, rule.hidden.law, rule.bias_law, d, a, beta)


def neuron_factors(
    scheme: SchemeLike,
    d: ArrayLike,
    l: ArrayLike,
    e: ArrayLike = 1,
    loss: str | None = None,
) -> tuple[FloatArray, ...]:
    """Return the same for schemes whose neurons may depend on each other."""
    rule = as_scheme(scheme)
    if has_neuron_exact(rule) and not rule.independent:
        return orthogonal_factors(rule, d, l, e, loss)
    return pathological_factors(rule, d, l, e, loss)


def orthogonal_factors(
    rule: InitScheme, d: ArrayLike, l: ArrayLike, e: ArrayLike, loss: str | None
) -> tuple[FloatArray, ...]:
    """Return the same for orthogonal weights.

    Two logits that are orthogonal vectors of one length are one output, as their difference over
    the root of 2 is such a vector again. With one neuron they are a random unit vector of two
    coordinates, and so is their difference with their sum.
    """
    d, l, e = logits(d, l, e, loss)
    check_width(rule, d, l)
    with np.errstate(divide="ignore"):
        rho = float(np.divide(rule.hidden.scale, rule.output.scale))
    exponent, factor = orthogonal.factors(d, l, rho)
    lone = (l == 1.0) & (e == 2.0)
    twice = np.full(int(lone.sum()), 2.0)  # one of two coordinates, for rows of length 1
    exponent[lone], factor[lone] = orthogonal.factors(twice, twice, rho)
    factor[e > 2.0] = 0.0
    return l, exponent, factor
