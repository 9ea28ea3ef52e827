"""What to change so that obstruction becomes unlikely enough: the gain, the width or the inputs.

Each function answers with the scheme's other settings kept, for one output and with exact
probabilities (see `obstruction.exact`), so for schemes that have them.

The probability ``P`` rises with the output gain, so "the largest gain with ``P <= risk``" needs no
care. In the width it need not be monotone: more neurons are more chances, but most schemes make
each output weight smaller, too. With ``a = d/l`` (Kaiming) ``P`` rises with the width for
``d <= 2``, to 1 or to ``1 - 1/e``; for ``d`` from 3 to 8 it rises up to 3 or 4 neurons and falls
from there on; for larger ``d`` it falls. With ``a = (d+l)/(l+1)`` (Xavier) it rises to 1 in the
end, but for some 30 inputs and more it falls in between. In the number of inputs ``P`` falls
wherever we looked, but not with random biases: that of `torch_linear` with one neuron rises.
`min_width` and `min_inputs` therefore return *the smallest size at which* ``P <= risk``, and
`width_range` and `inputs_range` also up to where that lasts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from obstruction import exact
from obstruction.exact.checks import FloatArray
from obstruction.schemes import InitScheme, SchemeLike, as_scheme, scheme_options
from obstruction.schemes import scheme as make_scheme
from obstruction.schemes.laws import NORMAL
from obstruction.tools.checks import check_count, check_probability

__all__ = [
    "LIMIT",
    "inputs_range",
    "max_output_gain",
    "min_inputs",
    "min_width",
    "width_range",
    "with_output_gain",
]

IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class _Search:
    """A question for the smallest size, and how it is put in an error."""

    log_probability: Callable[[IntArray], FloatArray]
    risk: float
    limit: int
    where: str
    axis: str

    @property
    def enough(self) -> float:
        """What counts as a logarithm of P at most the risk."""
        log_risk = math.log(self.risk)
        return log_risk + _ROUNDING * max(1.0, -log_risk)

    def sizes(self) -> Iterator[IntArray]:
        """Yield ascending sizes, some at a time."""
        yield np.arange(1, 9)
        yield np.arange(9, _EVERY + 1)
        count = math.ceil(math.log(self.limit / _EVERY) / math.log(_STEP))
        further = np.rint(np.geomspace(_EVERY, self.limit, count + 1)).astype(np.int64)[1:]
        for start in range(0, further.size, 32):
            yield further[start : start + 32]


LIMIT: Final = 10**7
"""The largest width and number of inputs that are searched."""

_LIMIT_OF_INTEGRALS: Final = 10**5
"""The largest number of inputs that is searched where there is no closed form: see `exact`."""

_EVERY: Final = 64
"""Up to here every size is looked at, beyond in steps of `_STEP`."""
_STEP: Final = 1.05
_LARGEST_EXPONENT: Final = 150.0
"""Gains are sought between exp(-150) and exp(150) times the one that makes ``a = 1``."""
_CLOSE: Final = 1e-11
"""How far the logarithm of ``P`` at an answer may be off."""
_ROUNDING: Final = 1e-13
"""By how much of its logarithm ``P`` may be above the risk and count as equal."""


def max_output_gain(
    scheme: SchemeLike, d: ArrayLike, l: ArrayLike, risk: float = 1e-6
) -> float | FloatArray:
    """Return the largest ``output_gain`` at which obstruction is no likelier than a risk.

    Parameters
    ----------
    scheme : str or InitScheme
        The initialisation scheme; its own output gain is replaced.
    d, l : array_like of int
        Inputs and hidden neurons, >= 1.
    risk : float
        The probability of obstruction to allow, strictly between 0 and 1.

    Returns
    -------
    float or ndarray
        The gain, in the broadcast shape of `d` and `l`; inf if no gain obstructs, since the output
        weights are zero, and 0 if every gain does, since the hidden weights are.

    Raises
    ------
    ValueError
        If the scheme has no option ``output_gain`` or no exact probability, or if an argument is
        out of its range.

    Notes
    -----
    For normal weights without random biases ``p = 1 - (1 - risk)^(1/l)`` is solved for ``a`` by the
    inverse of the incomplete beta function. Otherwise, and where that is not accurate, the
    logarithm of ``P`` is solved for the logarithm of the gain. ``P`` at the answer is the risk to
    1e-9 of its size, or, where ``P`` is steeper than the digits of the gain can tell (bounded laws
    next to the gain where ``P`` becomes 0), just below it.

    Examples
    --------
    >>> from obstruction import exact
    >>> gain = max_output_gain("kaiming_normal", 10, 64, risk=0.01)
    >>> round(gain, 6)
    1.362565
    >>> round(exact.obstruction_probability(f"kaiming_normal:output_gain={gain!r}", 10, 64), 12)
    0.01
    """
    rule = _ungained(as_scheme(scheme))
    risk = check_probability("risk", risk)
    exact.log_obstruction_probability(rule, d, l)  # refuses what it cannot compute
    inputs, widths = np.broadcast_arrays(
        np.asarray(d, dtype=np.float64), np.asarray(l, dtype=np.float64)
    )
    ratio = np.asarray(rule.ratio(inputs, widths))
    with np.errstate(divide="ignore"):
        gains = np.asarray(1.0 / np.sqrt(ratio))  # 0 and inf are already the answers there
    open_cells = np.flatnonzero((ratio > 0.0) & (ratio < np.inf))
    if _all_normal(rule):
        sizes, neurons = inputs.flat[open_cells], widths.flat[open_cells]
        p = -np.expm1(math.log1p(-risk) / neurons)
        guess = special.betaincinv(sizes / 2.0, 0.5, p) / special.betainccinv(0.5, sizes / 2.0, p)
        gains.flat[open_cells] *= np.sqrt(guess)
        with np.errstate(divide="ignore"):
            found = np.asarray(exact.log_pathological_probability_from_ratio(sizes, guess))
            open_cells = open_cells[~(np.abs(found - np.log(p)) <= _CLOSE)]
    for cell in open_cells:
        size = int(inputs.flat[cell]), int(widths.flat[cell])
        centre = -0.5 * math.log(ratio.flat[cell])
        gains.flat[cell] = _largest_gain(rule, *size, math.log(risk), centre)
    return gains if gains.ndim else float(gains)


def min_width(scheme: SchemeLike, d: int, risk: float = 1e-6) -> int:
    """Return the smallest number of hidden neurons at which obstruction is no likelier than a risk.

    Larger widths need not do as well: `width_range` says how long it lasts.

    Parameters
    ----------
    scheme : str or InitScheme
        The initialisation scheme.
    d : int
        Inputs, >= 1.
    risk : float
        The probability of obstruction to allow, strictly between 0 and 1.

    Returns
    -------
    int
        The smallest ``l`` with ``P <= risk``. Beyond 64 it is sought in steps of 5 %, then between
        the last two: a shorter dip of ``P`` would be missed.

    Raises
    ------
    ValueError
        If there is none up to 10,000,000, if the scheme has no exact probability, or if an argument
        is out of its range.

    Examples
    --------
    >>> min_width("kaiming_normal", 30, risk=1e-6)
    58
    """
    return _smallest(_of_width(scheme, d, risk))


def width_range(scheme: SchemeLike, d: int, risk: float = 1e-6) -> tuple[int, int]:
    """Return `min_width` and the width up to which ``P`` stays at or below the risk.

    Arguments and errors are those of `min_width`. The second width is 10,000,000, where the search
    ends, if ``P`` does not rise above the risk before.

    Examples
    --------
    >>> width_range("kaiming_normal", 30)
    (58, 10000000)
    >>> width_range("xavier_normal", 30, risk=0.01)
    (37, 1421)
    """
    search = _of_width(scheme, d, risk)
    first = _smallest(search)
    return first, _lasts(search, first)


def min_inputs(scheme: SchemeLike, l: int, risk: float = 1e-6) -> int:
    """Return the smallest number of inputs at which obstruction is no likelier than a risk.

    Where ``a`` grows with ``d``, as with Kaiming and Xavier, ``P`` does not tend to 0: inputs
    cannot help a narrow network, and the error says so.

    Parameters
    ----------
    scheme : str or InitScheme
        The initialisation scheme.
    l : int
        Hidden neurons, >= 1.
    risk : float
        The probability of obstruction to allow, strictly between 0 and 1.

    Returns
    -------
    int
        The smallest ``d`` with ``P <= risk``, sought like `min_width`.

    Raises
    ------
    ValueError
        If there is none up to 10,000,000, or 100,000 without a closed form; if the scheme has no
        exact probability; or if an argument is out of its range.

    Examples
    --------
    >>> min_inputs("kaiming_normal", 64, risk=1e-6)
    27
    """
    return _smallest(_of_inputs(scheme, l, risk))


def inputs_range(scheme: SchemeLike, l: int, risk: float = 1e-6) -> tuple[int, int]:
    """Return `min_inputs` and the number of inputs up to which ``P`` stays at or below the risk.

    Arguments and errors are those of `min_inputs`. The second number is 10,000,000, or 100,000
    without a closed form, where the search ends, if ``P`` does not rise above the risk before.

    Examples
    --------
    >>> inputs_range("kaiming_normal", 64)
    (27, 10000000)
    """
    search = _of_inputs(scheme, l, risk)
    first = _smallest(search)
    return first, _lasts(search, first)


def _of_width(scheme: SchemeLike, d: int, risk: float) -> _Search:
    """Return what `_smallest` needs to search widths."""
    rule, risk = as_scheme(scheme), check_probability("risk", risk)
    d = check_count("d", d, most=LIMIT)

    def log_probability(l: IntArray) -> FloatArray:
        return np.asarray(exact.log_obstruction_probability(rule, d, l))

    return _Search(log_probability, risk, LIMIT, f"scheme {rule.label!r} with d = {d:,}", "l")


def _of_inputs(scheme: SchemeLike, l: int, risk: float) -> _Search:
    """Return what `_smallest` needs to search numbers of inputs."""
    rule, risk = as_scheme(scheme), check_probability("risk", risk)
    l = check_count("l", l, most=LIMIT)

    def log_probability(d: IntArray) -> FloatArray:
        return np.asarray(exact.log_obstruction_probability(rule, d, l))

    limit = LIMIT if _all_normal(rule) else _LIMIT_OF_INTEGRALS
    return _Search(log_probability, risk, limit, f"scheme {rule.label!r} with l = {l:,}", "d")


# --- gains ---------------------------------------------------------------------------------


def with_output_gain(scheme: SchemeLike, gain: float) -> InitScheme:
    """Return the scheme with another output gain, however small or large.

    Raises
    ------
    ValueError
        If the scheme has no option ``output_gain``.

    Examples
    --------
    >>> with_output_gain("xavier_normal:output_gain=3,hidden_gain=2", 0.5).label
    'xavier_normal:hidden_gain=2,output_gain=0.5'
    """
    rule = _ungained(as_scheme(scheme))
    if gain == 1.0:
        return rule
    values = {**dict(rule.options), "output_gain": float(gain)}
    options = tuple((name, values[name]) for name in scheme_options(rule.name) if name in values)
    output = replace(rule.output, scale=rule.output.scale * gain**2)
    return replace(rule, options=options, output=output)


def _ungained(rule: InitScheme) -> InitScheme:
    """Return the scheme with output gain 1."""
    if "output_gain" not in scheme_options(rule.name):
        raise ValueError(
            f"scheme {rule.name!r} has no option 'output_gain': its output weights are zero"
        )
    options = {name: value for name, value in rule.options if name != "output_gain"}
    return make_scheme(rule.name, **options)


def _all_normal(rule: InitScheme) -> bool:
    """Return whether the F distribution applies: the closed form."""
    return rule.laws == (NORMAL, NORMAL) and rule.bias_law is None


def _largest_gain(rule: InitScheme, d: int, l: int, log_risk: float, centre: float) -> float:
    """Return the largest gain at which the logarithm of P is at most ``log_risk``."""

    def gain(t: float) -> float:
        return math.exp(centre + t)

    def excess(t: float) -> float:
        value = exact.log_obstruction_probability(with_output_gain(rule, gain(t)), d, l)
        return float(value) - log_risk

    low, high, step = -1.0, 1.0, 1.0
    while excess(low) > 0.0:
        low, high, step = low - 2.0 * step, low, 2.0 * step
        if low < -_LARGEST_EXPONENT:
            raise ValueError(
                f"scheme {rule.label!r} with d = {d:,} and l = {l:,}: no output gain above "
                f"{gain(-_LARGEST_EXPONENT):.0e} brings the probability of obstruction to "
                f"{math.exp(log_risk):g}"
            )
    while excess(high) <= 0.0:
        low, high, step = high, high + 2.0 * step, 2.0 * step
        if high > _LARGEST_EXPONENT:
            raise ValueError(
                f"scheme {rule.label!r} with d = {d:,} and l = {l:,}: at every output gain up to "
                f"{gain(_LARGEST_EXPONENT):.0e} the probability of obstruction is at most "
                f"{math.exp(log_risk):g}"
            )
    if excess(low) == -math.inf:  # bounded laws: P is 0 up to some gain
        low, high = _halved(excess, low, high, until=lambda value: value > -math.inf)
    if -math.inf < excess(low) < 0.0:
        root = float(optimize.toms748(excess, low, high, xtol=1e-15, rtol=1e-15))
        if abs(excess(root)) <= _CLOSE:
            return gain(root)
        low, _ = _halved(excess, low, high)  # P jumps over the risk
    return gain(low)


def _halved(
    excess: Callable[[float], float],
    low: float,
    high: float,
    until: Callable[[float], bool] = lambda value: False,
) -> tuple[float, float]:
    """Halve an interval, ``excess(low) <= 0 < excess(high)``, until it holds or nothing is left."""
    while high - low > 2e-15 * max(1.0, abs(low)):
        middle = 0.5 * (low + high)
        value = excess(middle)
        if value > 0.0:
            high = middle
        else:
            low = middle
            if until(value):
                break
    return low, high


# --- sizes ---------------------------------------------------------------------------------


def _smallest(search: _Search) -> int:
    """Return the smallest size at which P is at most the risk."""
    before, least, at = 0, math.inf, 0
    for sizes in search.sizes():
        logs = search.log_probability(sizes)
        hits = np.flatnonzero(logs <= search.enough)
        if hits.size:
            first = int(hits[0])
            before = int(sizes[first - 1]) if first else before
            after = int(sizes[first])
            return _change(lambda n: search.log_probability(n) <= search.enough, before, after)
        before = int(sizes[-1])
        if logs.min() < least:
            least, at = float(logs.min()), int(sizes[np.argmin(logs)])
    raise ValueError(
        f"{search.where}: no {search.axis} up to {search.limit:,} brings the probability of "
        f"obstruction to {search.risk:g}; "
        f"the least found is {math.exp(least):.3g} at {search.axis} = {at:,}"
    )


def _lasts(search: _Search, first: int) -> int:
    """Return the last size of those from ``first`` on at which P is at most the risk."""
    last = first
    for sizes in search.sizes():
        sizes = sizes[sizes > first]
        if not sizes.size:
            continue
        above = np.flatnonzero(search.log_probability(sizes) > search.enough)
        if above.size:
            index = int(above[0])
            last = int(sizes[index - 1]) if index else last
            after = int(sizes[index])
            return _change(lambda n: search.log_probability(n) > search.enough, last, after) - 1
        last = int(sizes[-1])
    return last


def _change(holds: Callable[[IntArray], BoolArray], low: int, high: int) -> int:
    """Return where between ``low``, where it does not hold, and ``high`` it begins to hold."""
    while high - low > 1:
        middle = (low + high) // 2
        if holds(np.array([middle]))[0]:
            high = middle
        else:
            low = middle
    return high
