"""Initialisation schemes: the law and the scale of every weight, from the sizes of the network.

A two-layer network with ``d`` inputs, ``l`` hidden neurons and ``e`` outputs has hidden weights
``W1`` of shape ``(l, d)`` (fan-in ``d``, fan-out ``l``) and output weights ``W2`` of shape
``(e, l)`` (fan-in ``l``, fan-out ``e``). A scheme draws all entries independently, with mean 0
and one variance per layer. Only the ratio ``a = Var W2 / Var W1`` decides which neurons are
pathological.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obstruction.laws import LAWS, NORMAL, UNIFORM, Law

Option: TypeAlias = str | float
FloatArray: TypeAlias = NDArray[np.float64]

_FANS: Final[dict[str, Callable[[FloatArray, FloatArray], FloatArray]]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2.0,
    "none": lambda fan_in, fan_out: np.ones_like(fan_in),
}


@dataclass(frozen=True)
class LayerRule:
    """How the weights of one layer are drawn: ``variance = scale / fan``.

    Parameters
    ----------
    law : Law
        The shape of the distribution.
    scale : float
        The numerator of the variance, >= 0.
    fan : {"fan_in", "fan_out", "fan_avg", "none"}
        The denominator: a size of the layer, their mean, or 1.
    """

    law: Law
    scale: float
    fan: str

    def denominator(self, fan_in: FloatArray, fan_out: FloatArray) -> FloatArray:
        """Return the size that divides the scale."""
        return _FANS[self.fan](fan_in, fan_out)

    def variance(self, fan_in: FloatArray, fan_out: FloatArray) -> FloatArray:
        """Return the variance of one weight."""
        return self.scale / self.denominator(fan_in, fan_out)


@dataclass(frozen=True)
class InitScheme:
    """A named rule that gives every weight its law and its scale. Make one with `scheme`.

    Attributes
    ----------
    name : str
        The name in the registry.
    options : tuple of (str, str or float)
        The options that differ from their defaults, in the registry's order.
    hidden, output : LayerRule
        The rules of ``W1`` and ``W2``.

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

    @property
    def label(self) -> str:
        """The scheme as one word, ``name:option=value,...``; `scheme` reads it back."""
        if not self.options:
            return self.name
        return self.name + ":" + ",".join(f"{k}={_format_option(v)}" for k, v in self.options)

    @property
    def laws(self) -> tuple[Law, Law]:
        """The laws of the hidden and of the output weights."""
        return self.hidden.law, self.output.law

    def hidden_variance(self, d: ArrayLike, l: ArrayLike) -> FloatArray:
        """Return Var W1 for ``d`` inputs and ``l`` hidden neurons, in their broadcast shape.

        Raises
        ------
        ValueError
            If a size is not a whole number of at least 1.
        """
        d, l = _sizes(d, l)
        return self.hidden.variance(d, l)

    def output_variance(self, d: ArrayLike, l: ArrayLike, e: ArrayLike = 1) -> FloatArray:
        """Return Var W2 for ``d`` inputs, ``l`` hidden neurons, ``e`` outputs, in their shape.

        Raises
        ------
        ValueError
            If a size is not a whole number of at least 1.
        """
        _, l, e = _sizes(d, l, e)
        return self.output.variance(l, e)

    def ratio(self, d: ArrayLike, l: ArrayLike, e: ArrayLike = 1) -> FloatArray:
        """Return ``a = Var W2 / Var W1`` in the broadcast shape of the sizes.

        It is infinite if the hidden scale is zero.

        Raises
        ------
        ValueError
            If a size is not a whole number of at least 1.
        """
        d, l, e = _sizes(d, l, e)
        fans = self.hidden.denominator(d, l) / self.output.denominator(l, e)
        if self.hidden.scale == 0.0:
            return np.full_like(fans, np.inf)
        return (self.output.scale / self.hidden.scale) * fans

    def formulas(self) -> tuple[str, str, str]:
        """Return Var W1, Var W2 and their ratio ``a`` as text in ``d`` and ``l``.

        Examples
        --------
        >>> scheme("xavier_normal").formulas()
        ('2/(d+l)', '2/(l+1)', '(d+l)/(l+1)')
        """
        names = {"fan_in": ("d", "l"), "fan_out": ("l", "1"), "fan_avg": ("(d+l)", "(l+1)")}
        hidden = names.get(self.hidden.fan, ("1", "1"))
        output = names.get(self.output.fan, ("1", "1"))
        doubled = 2.0 if self.hidden.fan == "fan_avg" else 1.0
        scales = self.hidden.scale * doubled, self.output.scale * doubled
        if self.hidden.scale == 0.0:
            ratio = "inf"
        else:
            ratio = _fraction(self.output.scale / self.hidden.scale, hidden[0], output[1])
        return (
            _fraction(scales[0], "", hidden[0]),
            _fraction(scales[1], "", output[1]),
            ratio,
        )

    def __str__(self) -> str:
        return self.label


def _fraction(factor: float, above: str, below: str) -> str:
    """Write ``factor * above / below``, leaving ones out."""
    top = above if factor == 1.0 and above not in ("", "1") else f"{factor:g}"
    if factor != 1.0 and above not in ("", "1"):
        top += "·" + above
    return top if below in ("", "1") else f"{top}/{below}"


SchemeLike: TypeAlias = str | InitScheme


def _sizes(*sizes: ArrayLike) -> tuple[FloatArray, ...]:
    """Return d, l and e as float64 arrays of one shape, or say which is no size."""
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


# --- options -------------------------------------------------------------------------------


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"{name} = {value!r}: must be a finite number")
    return number


def _scale(name: str, value: Any) -> float:
    """Read a gain or a standard deviation, whose square must stay within floating point."""
    number = _number(name, value)
    if number < 0.0:
        raise ValueError(f"{name} = {value!r}: must be a number >= 0")
    if number > 0.0 and not 1e-30 <= number <= 1e30:
        raise ValueError(f"{name} = {value!r}: must be 0 or between 1e-30 and 1e30")
    return number


def _slope(name: str, value: Any) -> float:
    number = _number(name, value)
    if abs(number) > 1e30:
        raise ValueError(f"{name} = {value!r}: must be between -1e30 and 1e30")
    return number


def _choice(*allowed: str) -> Callable[[str, Any], str]:
    def read(name: str, value: Any) -> str:
        text = value.name if isinstance(value, Law) else value
        if text not in allowed:
            raise ValueError(f"{name} = {value!r}: must be one of {', '.join(allowed)}")
        return str(text)

    return read


@dataclass(frozen=True)
class _OptionSpec:
    default: Option
    read: Callable[[str, Any], Option]
    about: str


_GAINS: Final = {
    "hidden_gain": _OptionSpec(1.0, _scale, "factor on the hidden standard deviation"),
    "output_gain": _OptionSpec(1.0, _scale, "factor on the output standard deviation"),
}
_KAIMING: Final = {
    "mode": _OptionSpec(
        "fan_in", _choice("fan_in", "fan_out"), "size that divides: fan_in or fan_out"
    ),
    "negative_slope": _OptionSpec(0.0, _slope, "slope of the leaky ReLU at negative inputs"),
}
_CUSTOM: Final = {
    "law": _OptionSpec("normal", _choice(*LAWS), " or ".join(LAWS)),
    "hidden_law": _OptionSpec("", _choice(*LAWS), "law of the hidden weights alone"),
    "output_law": _OptionSpec("", _choice(*LAWS), "law of the output weights alone"),
    "hidden_std": _OptionSpec(1.0, _scale, "standard deviation of the hidden weights"),
    "output_std": _OptionSpec(1.0, _scale, "standard deviation of the output weights"),
}

Rules: TypeAlias = tuple[LayerRule, LayerRule]


def _same(law: Law, scale: float, fan: str) -> Rules:
    return LayerRule(law, scale, fan), LayerRule(law, scale, fan)


def _xavier(law: Law) -> Callable[[Mapping[str, Any]], Rules]:
    return lambda options: _same(law, 1.0, "fan_avg")


def _lecun(law: Law) -> Callable[[Mapping[str, Any]], Rules]:
    return lambda options: _same(law, 1.0, "fan_in")


def _kaiming(law: Law) -> Callable[[Mapping[str, Any]], Rules]:
    return lambda options: _same(law, 2.0 / (1.0 + options["negative_slope"] ** 2), options["mode"])


def _custom(options: Mapping[str, Any]) -> Rules:
    hidden = LAWS[options["hidden_law"] or options["law"]]
    output = LAWS[options["output_law"] or options["law"]]
    return (
        LayerRule(hidden, options["hidden_std"] ** 2, "none"),
        LayerRule(output, options["output_std"] ** 2, "none"),
    )


@dataclass(frozen=True)
class _Entry:
    """A line of the registry: the options a scheme takes and the rules they make."""

    options: Mapping[str, _OptionSpec]
    build: Callable[[Mapping[str, Any]], Rules]
    about: str


_REGISTRY: Final[dict[str, _Entry]] = {
    "xavier_normal": _Entry(_GAINS, _xavier(NORMAL), "Xavier/Glorot, variance 2/(fan_in+fan_out)"),
    "xavier_uniform": _Entry(
        _GAINS, _xavier(UNIFORM), "Xavier/Glorot, variance 2/(fan_in+fan_out)"
    ),
    "kaiming_normal": _Entry(
        {**_KAIMING, **_GAINS}, _kaiming(NORMAL), "Kaiming/He, variance 2/((1+slope²)·fan)"
    ),
    "kaiming_uniform": _Entry(
        {**_KAIMING, **_GAINS}, _kaiming(UNIFORM), "Kaiming/He, variance 2/((1+slope²)·fan)"
    ),
    "lecun_normal": _Entry(_GAINS, _lecun(NORMAL), "LeCun, variance 1/fan_in"),
    "lecun_uniform": _Entry(_GAINS, _lecun(UNIFORM), "LeCun, variance 1/fan_in"),
    "custom": _Entry({**_CUSTOM, **_GAINS}, _custom, "own law and standard deviations"),
}


def scheme_names() -> tuple[str, ...]:
    """Return the names in the registry.

    Examples
    --------
    >>> "kaiming_normal" in scheme_names()
    True
    """
    return tuple(_REGISTRY)


def scheme_options(name: str) -> dict[str, Option]:
    """Return the options of a scheme with their defaults.

    Raises
    ------
    ValueError
        If no scheme has that name.

    Examples
    --------
    >>> scheme_options("xavier_normal")
    {'hidden_gain': 1.0, 'output_gain': 1.0}
    """
    return {option: spec.default for option, spec in _entry(name).options.items()}


def scheme_about(name: str) -> str:
    """Return one line that says what a scheme does."""
    return _entry(name).about


def option_about(name: str, option: str) -> str:
    """Return a few words that say what an option of a scheme does."""
    return _entry(name).options[option].about


def scheme(name: str, **options: Any) -> InitScheme:
    """Return the initialisation scheme of that name.

    Parameters
    ----------
    name : str
        A name from `scheme_names`, or the label of a scheme with its options attached,
        ``"kaiming_normal:mode=fan_out,output_gain=0.5"``.
    **options
        ``hidden_gain``, ``output_gain`` (>= 0, all schemes: factors on the standard deviation of
        the hidden and of the output weights); ``mode`` (``"fan_in"`` or ``"fan_out"``) and
        ``negative_slope`` (Kaiming); ``law``, ``hidden_law``, ``output_law`` (``"normal"`` or
        ``"uniform"``), ``hidden_std`` and ``output_std`` (>= 0) for ``custom``.

    Returns
    -------
    InitScheme

    Raises
    ------
    ValueError
        If the name or an option is unknown (the message suggests the nearest), if a value is out
        of its range, or if both layers would be all zeros.

    Notes
    -----
    Conventions are PyTorch's: `xavier_*` has variance ``2 / (fan_in + fan_out)``, `kaiming_*` has
    ``2 / ((1 + negative_slope²) · fan)``, `lecun_*` has ``1 / fan_in``.

    Examples
    --------
    >>> scheme("kaiming_normal:mode=fan_out") == scheme("kaiming_normal", mode="fan_out")
    True
    """
    if not isinstance(name, str):
        raise ValueError(f"scheme = {name!r}: must be a name such as 'kaiming_normal'")
    name, _, attached = name.partition(":")
    given = {**_parse_options(name, attached), **options}
    entry = _entry(name)
    for option in given:
        if option not in entry.options:
            raise ValueError(
                f"scheme {name!r} has no option {option!r}{_nearest(option, entry.options)}; "
                f"it takes {', '.join(entry.options)}"
            )
    values: dict[str, Option] = {
        option: spec.read(option, given[option]) if option in given else spec.default
        for option, spec in entry.options.items()
    }
    hidden, output = entry.build(values)
    hidden = LayerRule(hidden.law, hidden.scale * _squared(values, "hidden_gain"), hidden.fan)
    output = LayerRule(output.law, output.scale * _squared(values, "output_gain"), output.fan)
    if hidden.scale == 0.0 and output.scale == 0.0:
        raise ValueError(
            f"scheme {name!r}: hidden and output weights would both be all zeros; "
            "one of the two scales must be positive"
        )
    changed = tuple((k, v) for k, v in values.items() if v != entry.options[k].default)
    return InitScheme(name, changed, hidden, output)


def as_scheme(value: SchemeLike) -> InitScheme:
    """Return ``value`` itself if it is a scheme, or the scheme of that name or label."""
    return value if isinstance(value, InitScheme) else scheme(value)


def as_schemes(values: SchemeLike | Iterable[SchemeLike]) -> tuple[InitScheme, ...]:
    """Return one or several schemes as a tuple without repetition.

    Raises
    ------
    ValueError
        If there is none, or one is unknown or given twice.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        values = (values,)
    schemes = tuple(as_scheme(value) for value in values)
    if not schemes:
        raise ValueError("schemes = []: must name at least one scheme")
    labels = [one.label for one in schemes]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(f"schemes: {', '.join(twice)} given more than once")
    return schemes


def _squared(values: Mapping[str, Option], option: str) -> float:
    return float(values[option]) ** 2


def _entry(name: str) -> _Entry:
    try:
        return _REGISTRY[name]
    except KeyError:
        raise ValueError(
            f"unknown scheme {name!r}{_nearest(name, _REGISTRY)}; available: {', '.join(_REGISTRY)}"
        ) from None


def _nearest(word: str, words: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _parse_options(name: str, text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in text.split(",") if text else []:
        option, equals, value = part.partition("=")
        if not option or not equals or not value:
            raise ValueError(f"scheme {name + ':' + text!r}: options read name=value, not {part!r}")
        if option in options:
            raise ValueError(f"scheme {name + ':' + text!r}: option {option!r} is given twice")
        options[option] = value
    return options


def _format_option(value: Option) -> str:
    return repr(value).removesuffix(".0") if isinstance(value, float) else value
