"""Schemes as values: the rules of the layers, the ratios of their variances, and both as text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obstruction.schemes.laws import CONSTANT, Law
from obstruction.tools.words import superscript

Option: TypeAlias = str | float
FloatArray: TypeAlias = NDArray[np.float64]

_FANS: Final[dict[str, Callable[[FloatArray, FloatArray], FloatArray]]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2.0,
    "fan_max": lambda fan_in, fan_out: np.maximum(fan_in, fan_out),
    "none": lambda fan_in, fan_out: np.ones_like(fan_in),
}


@dataclass(frozen=True)
class LayerRule:
    """The law and the variance of the weights of one layer: ``variance = scale / fan ** power``.

    Parameters
    ----------
    law : Law
        The shape of the distribution.
    scale : float
        The numerator of the variance, >= 0.
    fan : {"fan_in", "fan_out", "fan_avg", "fan_max", "none"}
        The fan in the denominator; ``"fan_avg"`` is the mean of both, ``"fan_max"`` the larger one,
        and ``"none"`` is 1.
    power : int
        The power of the fan in the denominator.
    """

    law: Law
    scale: float
    fan: str
    power: int = 1

    def denominator(self, fan_in: FloatArray, fan_out: FloatArray) -> FloatArray:
        """Return the divisor of the scale."""
        return _FANS[self.fan](fan_in, fan_out) ** self.power

    def variance(self, fan_in: FloatArray, fan_out: FloatArray) -> FloatArray:
        """Return the variance of one weight."""
        return self.scale / self.denominator(fan_in, fan_out)

    def numerator(self) -> float:
        """Return the scale to print above the denominator, which shows ``fan_avg`` as a sum."""
        return self.scale * (2.0**self.power if self.fan == "fan_avg" else 1.0)


ZERO: Final = LayerRule(CONSTANT, 0.0, "none")
"""A layer of zeros."""


@dataclass(frozen=True)
class InitScheme:
    """A named rule that gives every weight its law and its scale, made by `scheme`.

    Methods of sizes take the numbers of inputs ``d``, hidden neurons ``l`` and outputs ``e``, which
    broadcast. They raise ValueError if one of these is not a whole number of at least 1.

    Attributes
    ----------
    name : str
        The name in the registry.
    options : tuple of (str, str or float)
        The options that differ from their defaults, in the order of the registry.
    hidden, output : LayerRule
        The rules of ``W1`` and ``W2``.
    bias : LayerRule or None
        The rule of ``b1``, with the fans of ``W1``; None if there are no hidden biases. Biases
        that start at zero (`ZERO`) change no balance, but they exist and are trained.

    Examples
    --------
    >>> import obstruction as ob
    >>> kaiming = ob.scheme("kaiming_normal", mode="fan_out")
    >>> kaiming.label
    'kaiming_normal:mode=fan_out'
    >>> float(kaiming.ratio(10, 64))
    64.0
    """

    name: str
    options: tuple[tuple[str, Option], ...]
    hidden: LayerRule
    output: LayerRule
    bias: LayerRule | None = None

    @property
    def label(self) -> str:
        """The scheme as one word, ``name:option=value,...``, which `scheme` accepts."""
        if not self.options:
            return self.name
        return self.name + ":" + ",".join(f"{k}={format_option(v)}" for k, v in self.options)

    @property
    def laws(self) -> tuple[Law, Law]:
        """The laws of the hidden and of the output weights."""
        return self.hidden.law, self.output.law

    @property
    def bias_law(self) -> Law | None:
        """The law of the hidden biases; None if there are no biases or they start at zero."""
        return None if self.bias is None or self.bias.scale == 0.0 else self.bias.law

    @property
    def has_bias(self) -> bool:
        """Whether the hidden neurons have biases, which may start at zero."""
        return self.bias is not None

    @property
    def independent(self) -> bool:
        """Whether all weights are independent of each other."""
        return all(law.independent for law in self.laws)

    def hidden_variance(self, d: ArrayLike, l: ArrayLike) -> FloatArray:
        """Return Var W1 in the broadcast shape of the sizes."""
        d, l = _sizes(d, l)
        return self.hidden.variance(d, l)

    def output_variance(self, d: ArrayLike, l: ArrayLike, e: ArrayLike = 1) -> FloatArray:
        """Return Var W2 in the broadcast shape of the sizes."""
        _, l, e = _sizes(d, l, e)
        return self.output.variance(l, e)

    def bias_variance(self, d: ArrayLike, l: ArrayLike) -> FloatArray:
        """Return Var b1 in the broadcast shape of the sizes, 0 without hidden biases."""
        d, l = _sizes(d, l)
        return np.zeros_like(d) if self.bias is None else self.bias.variance(d, l)

    def ratio(self, d: ArrayLike, l: ArrayLike, e: ArrayLike = 1) -> FloatArray:
        """Return ``a = Var W2 / Var W1`` in the broadcast shape; inf if Var W1 is 0."""
        d, l, e = _sizes(d, l, e)
        fans = self.hidden.denominator(d, l) / self.output.denominator(l, e)
        if self.hidden.scale == 0.0:
            return np.full_like(fans, np.inf)
        return (self.output.scale / self.hidden.scale) * fans

    def bias_ratio(self, d: ArrayLike, l: ArrayLike) -> FloatArray:
        """Return ``beta = Var b1 / Var W1`` in the broadcast shape; 0 without hidden biases."""
        d, l = _sizes(d, l)
        if self.bias is None or self.bias.scale == 0.0:
            return np.zeros_like(d)
        fans = self.hidden.denominator(d, l) / self.bias.denominator(d, l)
        return (self.bias.scale / self.hidden.scale) * fans

    def formulas(self) -> tuple[str, str, str]:
        """Return Var W1, Var W2 and their ratio ``a`` as text in ``d`` and ``l``.

        Examples
        --------
        >>> import obstruction as ob
        >>> ob.scheme("xavier_normal").formulas()
        ('2/(d+l)', '2/(l+1)', '(d+l)/(l+1)')
        """
        hidden = _denominator(self.hidden, "d", "l")
        output = _denominator(self.output, "l", "1")
        scales = self.hidden.numerator(), self.output.numerator()
        if self.hidden.scale == 0.0:
            ratio = "inf"
        elif hidden == output:
            ratio = _fraction(scales[1] / scales[0], "", "1")
        else:
            ratio = _fraction(scales[1] / scales[0], hidden, output)
        return _fraction(scales[0], "", hidden), _fraction(scales[1], "", output), ratio

    def bias_formula(self) -> str:
        """Return Var b1 as text in ``d`` and ``l``, or "none" without hidden biases.

        Examples
        --------
        >>> import obstruction as ob
        >>> ob.scheme("torch_linear").bias_formula()
        '1/(3d)'
        """
        if self.bias is None:
            return "none"
        return _fraction(self.bias.numerator(), "", _denominator(self.bias, "d", "l"))

    def __str__(self) -> str:
        return self.label


def _denominator(rule: LayerRule, fan_in: str, fan_out: str) -> str:
    """Return the denominator of a variance as text, "1" if there is none."""
    words = {
        "fan_in": fan_in,
        "fan_out": fan_out,
        "fan_avg": f"({fan_in}+{fan_out})",
        "fan_max": fan_in if fan_out == "1" else f"max({fan_in},{fan_out})",
    }
    word = words.get(rule.fan, "1")
    return word if rule.power == 1 or word == "1" else f"{word}{superscript(rule.power)}"


def _fraction(factor: float, above: str, below: str) -> str:
    """Return ``factor * above / below`` as text, with a fraction of small integers if possible."""
    if factor == 0.0:
        return "0"
    exact = Fraction(factor).limit_denominator(1000)
    if exact > 0 and abs(exact / Fraction(factor) - 1) < 1e-12 and exact.numerator < 1000:
        top, bottom = str(exact.numerator), str(exact.denominator)
    else:
        top, bottom = f"{factor:.6g}", "1"
    if above not in ("", "1"):
        top = above if top == "1" else f"{top}·{above}"
    if below not in ("", "1"):
        bottom = below if bottom == "1" else f"({bottom}{below})"
    return top if bottom == "1" else f"{top}/{bottom}"


def _sizes(*sizes: ArrayLike) -> tuple[FloatArray, ...]:
    """Return d, l and e as float64 arrays of one shape; raise ValueError if one is not a size."""
    arrays = []
    for name, size in zip("dle", sizes, strict=False):
        array = np.asarray(size)
        if array.size and array.dtype.kind not in "iuf":
            raise ValueError(f"{name} = {size!r}: must be a whole number of at least 1")
        array = array.astype(np.float64)
        wrong = array[~((array >= 1.0) & (array == np.floor(array)) & (array < np.inf))]
        if wrong.size:
            raise ValueError(f"{name} = {wrong[0]:g}: must be a whole number of at least 1")
        arrays.append(array)
    return tuple(np.broadcast_arrays(*arrays))


def format_option(value: Option) -> str:
    """Return the value of an option as text that `scheme` accepts."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else value
