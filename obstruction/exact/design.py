"""Find an output gain, a width or a number of inputs at which obstruction is unlikely enough.

Each function changes one setting and keeps the others. The functions are for networks with one
output and for schemes with exact probabilities (see `obstruction.exact`).

The probability of obstruction ``P`` increases with the output gain, so there is one largest gain
with ``P <= risk``. ``P`` need not be monotone in the width: each further neuron can be
pathological, but with most schemes it also makes all output weights smaller. With ``a = d/l``
(Kaiming) ``P`` increases with the width for ``d <= 2``, to 1 or to ``1 - 1/e``. For ``d`` from 3 to
8 it increases up to 3 or 4 neurons and then decreases, and for larger ``d`` it decreases. With
``a = (d+l)/(l+1)`` (Xavier) it tends to 1, but for about 30 inputs and more it decreases in
between. In all our computations without random biases ``P`` decreased with the number of inputs.
With random biases it can increase, for example for `torch_linear` with one neuron. Therefore
`min_width` and `min_inputs` return *the smallest size at which* ``P <= risk``. `width_range` and
`inputs_range` also return the last size before ``P`` exceeds the risk again.
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


LIMIT: Final = 10**7
"""The largest width and number of inputs that are searched."""

_LIMIT_OF_INTEGRALS: Final = 10**5
"""The largest number of inputs that is searched for schemes without a closed form."""

_EVERY: Final = 64
"""Every size up to this one is tried. Beyond it, sizes grow by factors of `_STEP`."""
_STEP: Final = 1.05
_LARGEST_EXPONENT: Final = 150.0
"""Gains are searched between exp(-150) and exp(150) times the gain with ``a = 1``."""
_CLOSE: Final = 1e-11
"""The allowed error of the logarithm of ``P`` at the answer."""
_ROUNDING: Final = 1e-13
"""The relative error of a logarithm within which ``P`` counts as equal to the risk."""


def max_output_gain(
    scheme: SchemeLike, d: ArrayLike, l: ArrayLike, risk: float = 1e-6
) -> float | FloatArray:
    """Return the largest ``output_gain`` with a probability of obstruction of at most a risk.

    Parameters
    ----------
    scheme : str or InitScheme
        The initialisation scheme, whose own output gain is replaced.
    d, l : array_like of int
        Inputs and hidden neurons, >= 1.
    risk : float
        The probability of obstruction to allow, strictly between 0 and 1.

    Returns
    -------
    float or ndarray
        The gain, in the broadcast shape of `d` and `l`. It is inf if all output weights are zero,
        so that no gain obstructs, and 0 if all hidden weights are zero, so that every gain does.

    Raises
    ------
    ValueError
        If the scheme has no option ``output_gain`` or no exact probability, or if an argument is
        out of its range.

    Notes
    -----
    For normal weights without random biases, the inverse of the incomplete beta function solves
    ``p = 1 - (1 - risk)^(1/l)`` for ``a``. Otherwise, and where this is not accurate, a root finder
    solves for the logarithm of the gain. ``P`` at the answer equals the risk with a relative error
    of 1e-9. For bounded laws near the gain at which ``P`` becomes 0, ``P`` can be so steep that no
    float is that close; then it is just below the risk.

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
    exact.log_obstruction_probability(rule, d, l)  # checks the scheme and the sizes
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
    """Return the smallest number of hidden neurons with a probability of obstruction <= a risk.

    The probability can exceed the risk again at larger widths: see `width_range`.

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
        The smallest ``l`` with ``P <= risk``. Beyond 64 the search proceeds in steps of 5 % and
        then between the last two steps, so it can miss a shorter dip of ``P``.

    Raises
    ------
    ValueError
        If no width up to 10,000,000 suffices, if the scheme has no exact probability, or if an
        argument is out of its range.

    Examples
    --------
    >>> min_width("kaiming_normal", 30, risk=1e-6)
    58
    """
    return _search(scheme, risk, d=d).smallest()


def width_range(scheme: SchemeLike, d: int, risk: float = 1e-6) -> tuple[int, int]:
    """Return `min_width` and the largest width up to which ``P`` stays at or below the risk.

    Arguments and errors are those of `min_width`. If ``P`` does not exceed the risk again, the
    second width is 10,000,000, where the search ends.

    Examples
    --------
    >>> width_range("kaiming_normal", 30)
    (58, 10000000)
    >>> width_range("xavier_normal", 30, risk=0.01)
    (37, 1421)
    """
    return _search(scheme, risk, d=d).range()


def min_inputs(scheme: SchemeLike, l: int, risk: float = 1e-6) -> int:
    """Return the smallest number of inputs with a probability of obstruction <= a risk.

    If ``a`` grows with ``d``, as with Kaiming and Xavier, ``P`` does not tend to 0 as ``d`` grows.
    For a narrow network no number may suffice, and the function raises an error.

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
        The smallest ``d`` with ``P <= risk``. The search is that of `min_width`.

    Raises
    ------
    ValueError
        If no number up to 10,000,000 (100,000 without a closed form) suffices, if the scheme has no
        exact probability, or if an argument is out of its range.

    Examples
    --------
    >>> min_inputs("kaiming_normal", 64, risk=1e-6)
    27
    """
    return _search(scheme, risk, l=l).smallest()


def inputs_range(scheme: SchemeLike, l: int, risk: float = 1e-6) -> tuple[int, int]:
    """Return `min_inputs` and the largest number up to which ``P`` stays at or below the risk.

    Arguments and errors are those of `min_inputs`. If ``P`` does not exceed the risk again, the
    second number is 10,000,000 (100,000 without a closed form), where the search ends.

    Examples
    --------
    >>> inputs_range("kaiming_normal", 64)
    (27, 10000000)
    """
    return _search(scheme, risk, l=l).range()


# --- gains ---------------------------------------------------------------------------------


def with_output_gain(scheme: SchemeLike, gain: float) -> InitScheme:
    """Return the scheme with another output gain, of any size.

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
    """Return whether the closed form, the F distribution, applies."""
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
    if excess(low) == -math.inf:  # with bounded laws, P is 0 up to some gain
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
    """Halve an interval with ``excess(low) <= 0 < excess(high)`` until it is tiny.

    Stop before if `until` accepts the excess at its lower end.
    """
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


@dataclass
class _Search:
    """A search for sizes of one axis, ``d`` or ``l``, at which P is at most the risk."""

    log_probability: Callable[[IntArray], FloatArray]
    risk: float
    limit: int
    where: str
    axis: str
    least: tuple[float, int] = (math.inf, 0)
    """The smallest logarithm of P found so far, and its size."""

    def smallest(self) -> int:
        """Return the smallest size at which P is at most the risk."""
        found = self._first(fits=True)
        if found is None:
            log_least, at = self.least
            raise ValueError(
                f"{self.where}: no {self.axis} up to {self.limit:,} brings the probability of "
                f"obstruction to {self.risk:g}; "
                f"the least found is {math.exp(log_least):.3g} at {self.axis} = {at:,}"
            )
        return found

    def range(self) -> tuple[int, int]:
        """Return the smallest size, and the last before P exceeds the risk again."""
        first = self.smallest()
        after = self._first(fits=False, above=first)
        return first, self.limit if after is None else after - 1

    def _first(self, *, fits: bool, above: int = 0) -> int | None:
        """Return the first size > `above` at which "P is at most the risk" is `fits`, or None."""
        log_risk = math.log(self.risk)
        enough = log_risk + _ROUNDING * max(1.0, -log_risk)
        before = above
        for sizes in self._sizes():
            sizes = sizes[sizes > above]
            if not sizes.size:
                continue
            logs = self.log_probability(sizes)
            self.least = min(self.least, (float(logs.min()), int(sizes[logs.argmin()])))
            found = np.flatnonzero((logs <= enough) == fits)
            if found.size:
                places: list[int] = [before, *sizes.tolist()]
                low, high = places[found[0] : found[0] + 2]
                while high - low > 1:
                    middle = (low + high) // 2
                    if (self.log_probability(np.array([middle]))[0] <= enough) == fits:
                        high = middle
                    else:
                        low = middle
                return high
            before = int(sizes[-1])
        return None

    def _sizes(self) -> Iterator[IntArray]:
        """Yield blocks of ascending sizes."""
        yield np.arange(1, 9)
        yield np.arange(9, _EVERY + 1)
        count = math.ceil(math.log(self.limit / _EVERY) / math.log(_STEP))
        further = np.rint(np.geomspace(_EVERY, self.limit, count + 1)).astype(np.int64)[1:]
        for start in range(0, further.size, 32):
            yield further[start : start + 32]


def _search(scheme: SchemeLike, risk: float, **fixed: int) -> _Search:
    """Return the search for the sizes of one axis, where `fixed` gives the size of the other."""
    rule, risk = as_scheme(scheme), check_probability("risk", risk)
    ((name, value),) = fixed.items()
    size = check_count(name, value, most=LIMIT)

    def log_probability(sizes: IntArray) -> FloatArray:
        d, l = (size, sizes) if name == "d" else (sizes, size)
        return np.asarray(exact.log_obstruction_probability(rule, d, l))

    limit = LIMIT if name == "d" or _all_normal(rule) else _LIMIT_OF_INTEGRALS
    where = f"scheme {rule.label!r} with {name} = {size:,}"
    return _Search(log_probability, risk, limit, where, "l" if name == "d" else "d")
