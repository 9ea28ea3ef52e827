"""Exact probabilities of obstruction at initialisation, for normal weights, in closed form.

Let every weight be an independent normal variable of mean 0, let the network have ``d`` inputs,
``l`` hidden neurons and ``e`` outputs, and write ``a = Var W2 / Var W1``. With one output, a
neuron is *pathological* (its balance ``|in|^2 - |out|^2`` is negative) iff ``a V^2 > chi2_d``
with ``V`` standard normal, so (Nurisso et al. 2024, App. F)

    p(d, a) = P(F_{1,d} > d/a) = I_{a/(1+a)}(d/2, 1/2),

the regularised incomplete beta function, and the network is *obstructed* (some neuron is
pathological) with probability ``1 - (1 - p)^l``. Every function here rests on this ``p``.

How ``p`` is computed. With ``m = d/2``, ``lam = log(1 + 1/a)`` and ``x0 = sqrt(m lam)``, the
substitution ``t = exp(-(x0 + s)^2 / m)`` in the beta integral gives

    p = exp(-m lam) J(lam) / J(0),
    J(lam) = int_0^inf exp(-s (2 x0 + s)) sqrt(u / (1 - exp(-u))) ds,   u = lam + s (2 x0 + s) / m.

The integrand is positive and smooth for every ``d`` and ``a``, nothing cancels, and the one factor
that can underflow stands in front: one Gauss-Legendre rule serves everywhere. For
``1 <= d, l <= 1e7`` and ``1e-12 <= a <= 1e12`` the relative error of ``p`` and ``P`` is at most
1e-12 (some 1e-15 where they are not small), and that of a logarithm 1e-14 times its size or 1.

The functions take numbers or arrays, which broadcast; numbers give a ``float``, arrays a float64
array of the broadcast shape. Bad arguments raise ``ValueError``: sizes must be whole numbers from 1
to 2**53, shapes must broadcast, and the scheme must be known. A scheme whose weights are not all
normal raises `NoClosedForm`. Logarithms are natural.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obstruction.laws import NORMAL
from obstruction.schemes import InitScheme, SchemeLike, as_scheme

FloatArray: TypeAlias = NDArray[np.float64]
Result: TypeAlias = float | FloatArray

_CUT: Final = 37.0
"""The integral stops where exp(-s (2 x0 + s)) = exp(-37), below half a unit in the last place."""
_NODES: Final = 40
"""Gauss-Legendre nodes that give the integral to 3e-15, whatever d and a are."""
_FEWER: Final = 24
"""Nodes that do the same for d >= 4, where the integrand is smoother on the scale of its decay."""
_CHUNK: Final = 1024
"""Cells evaluated together: small enough for the processor's cache, so memory stays bounded."""
_TINY_LOG: Final = -660.0
"""Below exp(-660), l p equals 1 - (1 - p)^l to the last digit for every l."""


class NoClosedForm(ValueError):
    """The scheme's weights are not all normal, so the F distribution does not apply."""


def has_closed_form(scheme: SchemeLike) -> bool:
    """Return whether hidden and output weights are both normal, as this module needs.

    Examples
    --------
    >>> has_closed_form("kaiming_normal"), has_closed_form("kaiming_uniform")
    (True, False)
    """
    return all(law == NORMAL for law in as_scheme(scheme).laws)


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
        ``p`` in [0, 1] (Nurisso et al. 2024, App. F); 0 below 1e-308, where the log form serves.

    Raises
    ------
    ValueError
        If `d` is not a size, `a` is not in [0, inf], or the shapes do not broadcast.

    Examples
    --------
    >>> round(pathological_probability_from_ratio(2, 3.0), 12)  # 1 - (1 + a)^(-1/2)
    0.5
    """
    return _plain(_p(*_factors(*_arguments(d=d, a=a))))


def log_pathological_probability_from_ratio(d: ArrayLike, a: ArrayLike) -> Result:
    """Return the natural logarithm of `pathological_probability_from_ratio`.

    Examples
    --------
    >>> round(log_pathological_probability_from_ratio(10**7, 1.0), 3)
    -3465743.841
    """
    return _plain(_log_p(*_factors(*_arguments(d=d, a=a))))


def pathological_probability(scheme: SchemeLike, d: ArrayLike, l: ArrayLike) -> Result:
    """Return the probability that a given neuron of a fresh network is pathological.

    Parameters
    ----------
    scheme : str or InitScheme
        The initialisation scheme; its weights must be normal.
    d, l : array_like of int
        Inputs and hidden neurons, >= 1; the network has one output.

    Returns
    -------
    float or ndarray
        ``p`` in [0, 1] (Nurisso et al. 2024, App. F); 0 below 1e-308, where the log form serves.

    Raises
    ------
    NoClosedForm, ValueError
        If weights are not normal; if an argument is out of its range.

    Examples
    --------
    >>> round(pathological_probability("kaiming_normal", 10, 10), 13)
    0.0101195597354
    """
    _, *factors = _pathological(scheme, d, l)
    return _plain(_p(*factors))


def log_pathological_probability(scheme: SchemeLike, d: ArrayLike, l: ArrayLike) -> Result:
    """Return the natural logarithm of `pathological_probability`.

    Examples
    --------
    >>> round(log_pathological_probability("kaiming_normal", 10**4, 10**4), 6)
    -3470.220416
    """
    _, *factors = _pathological(scheme, d, l)
    return _plain(_log_p(*factors))


# --- the network ---------------------------------------------------------------------------


def obstruction_probability(scheme: SchemeLike, d: ArrayLike, l: ArrayLike) -> Result:
    """Return the probability that some neuron of a fresh network is pathological.

    Arguments and errors are those of `pathological_probability`; the value is
    ``P = 1 - (1 - p)^l`` in [0, 1] (Nurisso et al. 2024, App. F and Cor. 2). With one input and no
    hidden biases the invariant set is disconnected anyhow: see `disconnection_probability`.

    Examples
    --------
    >>> obstruction_probability("xavier_normal", [1, 10], 10).round(8)
    array([0.99902344, 0.34188275])
    """
    return _plain(_any(*_pathological(scheme, d, l)))


def log_obstruction_probability(scheme: SchemeLike, d: ArrayLike, l: ArrayLike) -> Result:
    """Return the natural logarithm of `obstruction_probability`.

    Examples
    --------
    >>> round(log_obstruction_probability("kaiming_normal", 10**4, 10**4), 6)
    -3461.010075
    """
    return _plain(_log_any(*_pathological(scheme, d, l)))


def pathological_count(scheme: SchemeLike, d: ArrayLike, l: ArrayLike) -> Any:
    """Return the law of the number of pathological neurons of a fresh network.

    Neurons are independent, so it is binomial; effective components are one more than pathological
    neurons (one output, two or more inputs; Nurisso et al. 2024, Cor. 3). Arguments and errors are
    those of `pathological_probability`.

    Returns
    -------
    frozen scipy.stats.binom
        ``.mean()`` is the expected number, ``.pmf(k)`` the probability of exactly ``k`` (of no
        obstruction for ``k = 0``), ``.ppf(q)`` the least ``k`` not exceeded with probability ``q``.

    Examples
    --------
    >>> count = pathological_count("xavier_normal", 10, 10)
    >>> round(float(count.mean()), 12), int(count.ppf(0.99))
    (0.409741184939, 2)
    """
    from scipy import stats

    width, *factors = _pathological(scheme, d, l)
    return stats.binom(width.astype(np.int64)[()], _p(*factors)[()])


# --- components ----------------------------------------------------------------------------


def expected_components(
    scheme: SchemeLike, d: ArrayLike, l: ArrayLike, *, e: ArrayLike = 1, hidden_bias: bool = False
) -> Result:
    """Return the expected number of connected components of a fresh network's invariant set.

    Parameters
    ----------
    scheme : str or InitScheme
        The initialisation scheme; its weights must be normal.
    d, l, e : array_like of int
        Inputs, hidden neurons and outputs, >= 1.
    hidden_bias : bool
        Whether the hidden neurons have biases *that start at zero*: they add a dimension, as one
        more input would, but change no balance at initialisation.

    Returns
    -------
    float or ndarray
        ``E[beta_0] >= 1``; inf beyond 1e308, where the log form serves.

    Raises
    ------
    NoClosedForm, ValueError
        If weights are not normal; if an argument is out of its range.

    Notes
    -----
    With ``d' = d`` inputs, or ``d + 1`` with hidden biases, every positive balance doubles
    ``beta_0`` if ``d' = 1`` and every negative one if ``e = 1`` (Nurisso et al. 2024, Cor. 1).
    Neurons are independent, so ``E[beta_0] = (1 + f)^l`` with ``f`` the probability that a
    neuron doubles: ``p`` for ``e = 1 < d'``; 1 for ``e = d' = 1``; ``1 - P(balance < 0)`` for
    ``d' = 1 < e``; 0 otherwise. The relative error is some 2e-15 times the logarithm.

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
    f = _p(*factors)
    with np.errstate(over="ignore"):
        powers = np.ldexp(1.0, np.minimum(width, 2000.0).astype(np.int32))
        return _plain(np.where(f == 1.0, powers, np.exp(width * np.log1p(f))))


def log_expected_components(
    scheme: SchemeLike, d: ArrayLike, l: ArrayLike, *, e: ArrayLike = 1, hidden_bias: bool = False
) -> Result:
    """Return the natural logarithm of `expected_components`.

    Examples
    --------
    >>> round(log_expected_components("xavier_normal", 1, 10**6) / 10**6, 12)  # log 2
    0.69314718056
    """
    width, *factors = _doubling(scheme, d, l, e, hidden_bias)
    return _plain(width * np.log1p(_p(*factors)))


def disconnection_probability(
    scheme: SchemeLike, d: ArrayLike, l: ArrayLike, *, e: ArrayLike = 1, hidden_bias: bool = False
) -> Result:
    """Return the probability that a fresh network's invariant set is disconnected.

    Arguments and errors are those of `expected_components`; `hidden_bias` means hidden biases that
    start at zero, which change the dimension but no balance.

    Returns
    -------
    float or ndarray
        ``P(beta_0 > 1)`` (Nurisso et al. 2024, Cor. 1 and 2). For one output it is
        `obstruction_probability`, except 1 for one input without hidden biases. For several
        outputs it is 0, except for one input without hidden biases: then it is the probability
        of some *positive* balance.

    Examples
    --------
    >>> disconnection_probability("xavier_normal", 1, 1)
    1.0
    >>> round(disconnection_probability("xavier_normal", 1, 1, hidden_bias=True), 12)
    0.5
    """
    return _plain(_any(*_doubling(scheme, d, l, e, hidden_bias)))


def log_disconnection_probability(
    scheme: SchemeLike, d: ArrayLike, l: ArrayLike, *, e: ArrayLike = 1, hidden_bias: bool = False
) -> Result:
    """Return the natural logarithm of `disconnection_probability`.

    Examples
    --------
    >>> log_disconnection_probability("kaiming_normal", 5, 5, e=3)
    -inf
    """
    return _plain(_log_any(*_doubling(scheme, d, l, e, hidden_bias)))


# --- from arguments to (d, a) --------------------------------------------------------------


def _pathological(scheme: SchemeLike, d: ArrayLike, l: ArrayLike) -> tuple[FloatArray, ...]:
    """Return the width and the two factors of the probability that a neuron is pathological."""
    rule = _normal_scheme(scheme)
    d, l = _arguments(d=d, l=l)
    return l, *_factors(d, rule.ratio(d, l))


def _doubling(
    scheme: SchemeLike, d: ArrayLike, l: ArrayLike, e: ArrayLike, hidden_bias: bool
) -> tuple[FloatArray, ...]:
    """Return the width and the two factors of the probability that a neuron doubles beta_0."""
    rule = _normal_scheme(scheme)
    if not isinstance(hidden_bias, bool | np.bool_):
        raise ValueError(f"hidden_bias = {hidden_bias!r}: must be True or False")
    d, l, e = _arguments(d=d, l=l, e=e)
    a = rule.ratio(d, l, e)
    one_input = (d == 1.0) & (not hidden_bias)
    one_output = e == 1.0
    # For d' = 1 < e the roles of the layers are swapped: Z^2 > a chi2_e, so p(e, 1/a).
    with np.errstate(divide="ignore"):
        swapped = np.divide(1.0, a)
    a = np.select(
        [one_input & one_output, one_input, one_output], [np.full_like(a, np.inf), swapped, a]
    )
    return l, *_factors(np.where(one_output, d, e), a)


def _normal_scheme(scheme: SchemeLike) -> InitScheme:
    rule = as_scheme(scheme)
    if not has_closed_form(rule):
        hidden, output = rule.laws
        raise NoClosedForm(
            f"scheme {rule.label!r} has no closed form: it needs normal hidden and output "
            f"weights, not {hidden} and {output} ones"
        )
    return rule


def _arguments(**values: ArrayLike) -> tuple[FloatArray, ...]:
    """Return sizes, and a ratio named "a", as float64 arrays of one shape, or say what is wrong."""
    arrays = {}
    for name, value in values.items():
        ratio = name == "a"
        allowed = "a number in [0, inf]" if ratio else "a whole number from 1 to 2**53"
        try:
            given = np.asarray(value)
        except ValueError:  # nested lists of different lengths
            given = np.asarray(None)
        if given.size and given.dtype.kind not in "iuf":  # bool, text, complex, object
            raise ValueError(f"{name} = {value!r}: must be {allowed}")
        array = given.astype(np.float64)
        whole = (array >= 1.0) & (array <= 2.0**53) & (array == np.floor(array))
        bad = array[~(array >= 0.0 if ratio else whole)]
        if bad.size:
            raise ValueError(f"{name} = {bad[0]}: must be {allowed}")
        arrays[name] = array
    try:
        return np.broadcast_arrays(*arrays.values())
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"shapes must broadcast together: {shapes}") from None


def _plain(array: FloatArray) -> Result:
    array = array + 0.0  # no negative zeros
    return array if array.ndim else float(array)


# --- from (d, a) to probabilities ----------------------------------------------------------


def _p(exponent: FloatArray, factor: FloatArray) -> FloatArray:
    with np.errstate(under="ignore"):
        return np.minimum(np.exp(exponent) * factor, 1.0)


def _log_p(exponent: FloatArray, factor: FloatArray) -> FloatArray:
    return np.minimum(exponent + np.log(factor), 0.0)


def _log_none(width: FloatArray, exponent: FloatArray, factor: FloatArray) -> FloatArray:
    """Return log((1 - p)^l)."""
    with np.errstate(divide="ignore", under="ignore"):
        return width * np.log1p(-_p(exponent, factor))


def _any(width: FloatArray, exponent: FloatArray, factor: FloatArray) -> FloatArray:
    """Return 1 - (1 - p)^l."""
    with np.errstate(under="ignore"):
        return -np.expm1(_log_none(width, exponent, factor))


def _log_any(width: FloatArray, exponent: FloatArray, factor: FloatArray) -> FloatArray:
    """Return log(1 - (1 - p)^l)."""
    log_p = _log_p(exponent, factor)
    none = _log_none(width, exponent, factor)
    with np.errstate(divide="ignore", under="ignore"):
        moderate = np.where(none > -math.log(2.0), np.log(-np.expm1(none)), np.log1p(-np.exp(none)))
    return np.where(log_p < _TINY_LOG, np.log(width) + log_p, moderate)


def _factors(d: FloatArray, a: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (exponent, factor) with p = exp(exponent) * factor."""
    with np.errstate(all="ignore"):  # each branch is evaluated where the other one serves, too
        lam = np.where(a < 1.0, np.log1p(a) - np.log(a), np.log1p(1.0 / a))
    proper = np.flatnonzero((lam > 0.0) & (lam < np.inf))  # elsewhere p is 1 or 0
    sizes, which = np.unique(d.flat[proper], return_inverse=True)
    whole = _integral(sizes, np.zeros_like(sizes))
    factor = np.ones(a.shape)
    factor.flat[proper] = _integral(sizes[which], lam.flat[proper]) / whole[which]
    exponent = np.array(-d / 2.0 * lam)
    for size, formula in ((1.0, _p_of_one), (2.0, _p_of_two)):  # to the last digit
        cells = proper[d.flat[proper] == size]
        exponent.flat[cells], factor.flat[cells] = 0.0, formula(a.flat[cells])
    return exponent, factor


def _p_of_one(a: FloatArray) -> FloatArray:
    return np.arctan(np.sqrt(a)) * 2.0 / np.pi


def _p_of_two(a: FloatArray) -> FloatArray:
    root = np.sqrt(1.0 + a)
    return a / root / (root + 1.0)


def _integral(d: FloatArray, lam: FloatArray) -> FloatArray:
    """Return the integral J of the module's docstring for two vectors, chunk by chunk."""
    result = np.empty_like(lam)
    for cells, count in ((np.flatnonzero(d < 4.0), _NODES), (np.flatnonzero(d >= 4.0), _FEWER)):
        nodes, weights = _gauss_legendre(count)
        for start in range(0, cells.size, _CHUNK):
            chunk = cells[start : start + _CHUNK]
            m, low = d[chunk, None] / 2.0, lam[chunk, None]
            x0 = np.sqrt(m * low)
            length = _CUT / (x0 + np.sqrt(x0 * x0 + _CUT))  # s (2 x0 + s) = _CUT there
            s = length * nodes
            exponent = s * (2.0 * x0 + s)
            u = low + exponent / m
            values = np.exp(-exponent) * np.sqrt(-u / np.expm1(-u))
            result[chunk] = length[:, 0] * np.sum(weights * values, axis=1)
    return result


@functools.cache
def _gauss_legendre(count: int) -> tuple[FloatArray, FloatArray]:
    """Return nodes and weights on [0, 1] for an even count, the nodes near 0 to full precision.

    numpy's `leggauss` gives nodes on [-1, 1], whose rounding costs two digits next to an end.
    Newton's method on ``P_n(cos theta)``, with the recurrence for the differences of ``P_k`` in
    ``1 - cos theta``, does not lose them.
    """
    theta = np.pi * (np.arange(1, count // 2 + 1) - 0.25) / (count + 0.5)
    for _ in range(5):  # the last round only settles the weights
        gap = 2.0 * np.sin(theta / 2.0) ** 2
        value, step = 1.0 - gap, -gap
        for k in range(1, count):
            before = value
            step = k / (k + 1) * step - (2 * k + 1) / (k + 1) * gap * value
            value = value + step
        weights = (np.sin(theta) / (count * before)) ** 2
        theta = theta + value * np.sin(theta) / (count * (before - (1.0 - gap) * value))
    nodes = np.sin(theta / 2.0) ** 2
    return np.concatenate([nodes, 1.0 - nodes[::-1]]), np.concatenate([weights, weights[::-1]])
