"""Initialisation schemes: the law and the scale of every weight, from the sizes of the network.

A two-layer network with ``d`` inputs, ``l`` hidden neurons and ``e`` outputs has hidden weights
``W1`` of shape ``(l, d)`` (fan-in ``d``, fan-out ``l``), hidden biases ``b1`` of shape ``(l,)`` if
it has any, and output weights ``W2`` of shape ``(e, l)`` (fan-in ``l``, fan-out ``e``). A scheme
gives each of these a law and a variance. Only two ratios decide which neurons are pathological:
``a = Var W2 / Var W1`` and, with biases, ``beta = Var b1 / Var W1``. (By "variance" we mean the
mean square throughout; all laws but the constant one have mean 0.)
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obstruction.laws import CONSTANT, CUT_STD, LAWS, NORMAL, ORTHOGONAL, TRUNCATED, UNIFORM, Law

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
    """How the weights of one layer are drawn: ``variance = scale / fan ** power``.

    Parameters
    ----------
    law : Law
        The shape of the distribution.
    scale : float
        The numerator of the variance, >= 0.
    fan : {"fan_in", "fan_out", "fan_avg", "fan_max", "none"}
        The denominator: a size of the layer, their mean, the larger one, or 1.
    power : int
        The power of the denominator.
    """

    law: Law
    scale: float
    fan: str
    power: int = 1

    def denominator(self, fan_in: FloatArray, fan_out: FloatArray) -> FloatArray:
        """Return what divides the scale."""
        return _FANS[self.fan](fan_in, fan_out) ** self.power

    def variance(self, fan_in: FloatArray, fan_out: FloatArray) -> FloatArray:
        """Return the variance of one weight."""
        return self.scale / self.denominator(fan_in, fan_out)

    def numerator(self) -> float:
        """Return the scale for printing, where the sum of the fans stands for their mean."""
        return self.scale * (2.0**self.power if self.fan == "fan_avg" else 1.0)


ZERO: Final = LayerRule(CONSTANT, 0.0, "none")
"""A layer of zeros."""


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
    bias : LayerRule or None
        The rule of ``b1``, with the fans of ``W1``; None if there are no hidden biases. Biases
        that start at zero (`ZERO`) change no balance, but they are there to be trained.

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
        """The scheme as one word, ``name:option=value,...``; `scheme` reads it back."""
        if not self.options:
            return self.name
        return self.name + ":" + ",".join(f"{k}={_format_option(v)}" for k, v in self.options)

    @property
    def laws(self) -> tuple[Law, Law]:
        """The laws of the hidden and of the output weights."""
        return self.hidden.law, self.output.law

    @property
    def bias_law(self) -> Law | None:
        """The law of the hidden biases, None if there are none or they start at zero."""
        return None if self.bias is None or self.bias.scale == 0.0 else self.bias.law

    @property
    def has_bias(self) -> bool:
        """Whether the hidden neurons have biases, be it that they start at zero."""
        return self.bias is not None

    @property
    def independent(self) -> bool:
        """Whether all weights are independent of each other."""
        return all(law.independent for law in self.laws)

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

    def bias_variance(self, d: ArrayLike, l: ArrayLike) -> FloatArray:
        """Return the mean square of b1, zero without hidden biases, in the broadcast shape.

        Raises
        ------
        ValueError
            If a size is not a whole number of at least 1.
        """
        d, l = _sizes(d, l)
        return np.zeros_like(d) if self.bias is None else self.bias.variance(d, l)

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

    def bias_ratio(self, d: ArrayLike, l: ArrayLike) -> FloatArray:
        """Return ``beta = Var b1 / Var W1`` in the broadcast shape of the sizes; 0 without biases.

        Raises
        ------
        ValueError
            If a size is not a whole number of at least 1.
        """
        d, l = _sizes(d, l)
        if self.bias is None or self.bias.scale == 0.0:
            return np.zeros_like(d)
        fans = self.hidden.denominator(d, l) / self.bias.denominator(d, l)
        return (self.bias.scale / self.hidden.scale) * fans

    def formulas(self) -> tuple[str, str, str]:
        """Return Var W1, Var W2 and their ratio ``a`` as text in ``d`` and ``l``.

        Examples
        --------
        >>> scheme("xavier_normal").formulas()
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
        """Return Var b1 as text in ``d`` and ``l``: "none" without hidden biases.

        Examples
        --------
        >>> scheme("torch_linear").bias_formula()
        '1/(3d)'
        """
        if self.bias is None:
            return "none"
        return _fraction(self.bias.numerator(), "", _denominator(self.bias, "d", "l"))

    def __str__(self) -> str:
        return self.label


def _denominator(rule: LayerRule, fan_in: str, fan_out: str) -> str:
    """Write what divides a variance, "1" for nothing."""
    words = {
        "fan_in": fan_in,
        "fan_out": fan_out,
        "fan_avg": f"({fan_in}+{fan_out})",
        "fan_max": fan_in if fan_out == "1" else f"max({fan_in},{fan_out})",
    }
    word = words.get(rule.fan, "1")
    return word if rule.power == 1 or word == "1" else f"{word}{_POWERS[rule.power]}"


_POWERS: Final = {2: "²"}


def _fraction(factor: float, above: str, below: str) -> str:
    """Write ``factor * above / below``, as a fraction of small numbers where it is one."""
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


def _width(name: str, value: Any) -> float:
    number = _number(name, value)
    if not (1.0 <= number <= 1e9 and number == int(number)):
        raise ValueError(f"{name} = {value!r}: must be a whole number from 1 to 1e9")
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
_BIAS: Final = {
    "bias": _OptionSpec(
        "default",
        _choice("default", "zero", "none"),
        "hidden biases: the framework's own (default), zero, or none",
    ),
}
_TRUNCATION: Final = {
    "truncation": _OptionSpec(
        "corrected",
        _choice("corrected", "uncorrected"),
        "the variance holds after the cut (corrected) or before it (uncorrected)",
    ),
}
_CUSTOM: Final = {
    "law": _OptionSpec("normal", _choice(*LAWS), "one of " + ", ".join(LAWS)),
    "hidden_law": _OptionSpec("", _choice(*LAWS), "law of the hidden weights alone"),
    "output_law": _OptionSpec("", _choice(*LAWS), "law of the output weights alone"),
    "bias_law": _OptionSpec(
        "", _choice(*LAWS), "law of the hidden biases; if not given there are none"
    ),
    "hidden_std": _OptionSpec(1.0, _scale, "root mean square of the hidden weights"),
    "output_std": _OptionSpec(1.0, _scale, "root mean square of the output weights"),
    "bias_std": _OptionSpec(1.0, _scale, "root mean square of the hidden biases"),
    **_TRUNCATION,
}
_PARAMETRIZATION: Final = {
    "parametrization": _OptionSpec(
        "stored",
        _choice("stored", "effective"),
        "weights as stored and trained, or times the factors of the forward pass",
    ),
}


@dataclass(frozen=True)
class Rules:
    """The rules that the options of a scheme make."""

    hidden: LayerRule
    output: LayerRule
    bias: LayerRule | None = None


Build: TypeAlias = Callable[[Mapping[str, Any]], Rules]

_TORCH_BIAS: Final = LayerRule(UNIFORM, 1.0 / 3.0, "fan_in")
"""The bound 1/sqrt(fan_in) that ``nn.Linear`` gives its biases, whatever its weights become."""


def _same(law: Law, scale: float, fan: str, bias: LayerRule | None = None) -> Rules:
    return Rules(LayerRule(law, scale, fan), LayerRule(law, scale, fan), bias)


def _xavier(law: Law) -> Build:
    return lambda options: _same(law, 1.0, "fan_avg")


def _lecun(law: Law) -> Build:
    return lambda options: _same(law, 1.0, "fan_in")


def _kaiming(law: Law) -> Build:
    return lambda options: _same(law, 2.0 / (1.0 + options["negative_slope"] ** 2), options["mode"])


def _biased(build: Build, bias: LayerRule) -> Build:
    """Return the rules of ``build`` with hidden biases, as the option ``bias`` has them."""

    def with_bias(options: Mapping[str, Any]) -> Rules:
        chosen = {"default": bias, "zero": ZERO, "none": None}[options["bias"]]
        return replace(build(options), bias=chosen)

    return with_bias


def _truncated(scale: float, fan: str) -> Build:
    return lambda options: _same(TRUNCATED, scale * _left_by_cut(options), fan)


def _left_by_cut(options: Mapping[str, Any]) -> float:
    """Return the factor on the variance that a cut without correction leaves."""
    return CUT_STD**2 if options["truncation"] == "uncorrected" else 1.0


def _sklearn(options: Mapping[str, Any]) -> Rules:
    scale = 1.0 / 3.0 if options["activation"] == "logistic" else 1.0
    return _same(UNIFORM, scale, "fan_avg", LayerRule(UNIFORM, scale, "fan_avg"))


def _mup(options: Mapping[str, Any]) -> Rules:
    base = options["base_width"]
    if options["parametrization"] == "stored":
        output = LayerRule(UNIFORM, 1.0 / (3.0 * base), "none")
    else:
        output = LayerRule(UNIFORM, options["output_mult"] ** 2 * base / 3.0, "fan_in", 2)
    return Rules(LayerRule(UNIFORM, 1.0 / 3.0, "fan_in"), output)


def _ntk(options: Mapping[str, Any]) -> Rules:
    stored = options["parametrization"] == "stored"
    fan = "none" if stored else "fan_in"
    bias = LayerRule(NORMAL, options["bias_std"] ** 2, "none") if options["bias_std"] else None
    if stored and bias is not None:
        bias = LayerRule(NORMAL, 1.0, "none")
    return _same(NORMAL, 1.0, fan, bias)


def _mean_field(options: Mapping[str, Any]) -> Rules:
    hidden = LayerRule(NORMAL, 1.0, "fan_in")
    if options["parametrization"] == "stored":
        return Rules(hidden, LayerRule(NORMAL, 1.0, "none"))
    return Rules(hidden, LayerRule(NORMAL, 1.0, "fan_in", 2))


def _zero_output(options: Mapping[str, Any]) -> Rules:
    return Rules(LayerRule(UNIFORM, 1.0 / 3.0, "fan_in"), ZERO)


def _custom(options: Mapping[str, Any]) -> Rules:
    def rule(layer: str) -> LayerRule:
        law = LAWS[options[f"{layer}_law"] or options["law"]]
        scale = options[f"{layer}_std"] ** 2
        return LayerRule(law, scale * (_left_by_cut(options) if law == TRUNCATED else 1.0), "none")

    if not options["bias_law"] and options["bias_std"] != _CUSTOM["bias_std"].default:
        raise ValueError(
            f"bias_std = {options['bias_std']:g}: there are no biases without a bias_law"
        )
    return Rules(rule("hidden"), rule("output"), rule("bias") if options["bias_law"] else None)


@dataclass(frozen=True)
class _Entry:
    """A line of the registry: the options a scheme takes, the rules they make, where it is from."""

    options: Mapping[str, _OptionSpec]
    build: Build
    about: str
    framework: str = "textbook"
    api: str = ""


def _torch(build: Build, options: Mapping[str, _OptionSpec], api: str, about: str) -> _Entry:
    return _Entry(
        {**options, **_BIAS, **_GAINS}, _biased(build, _TORCH_BIAS), about, "PyTorch", api
    )


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
    "torch_linear": _torch(
        lambda options: _same(UNIFORM, 1.0 / 3.0, "fan_in"),
        {},
        "nn.Linear",
        "PyTorch's default layer, weights and biases within 1/sqrt(fan_in)",
    ),
    "torch_xavier_normal": _torch(
        _xavier(NORMAL),
        {},
        "nn.init.xavier_normal_",
        "Xavier weights in nn.Linear, whose biases stay as they were",
    ),
    "torch_xavier_uniform": _torch(
        _xavier(UNIFORM),
        {},
        "nn.init.xavier_uniform_",
        "Xavier weights in nn.Linear, whose biases stay as they were",
    ),
    "torch_kaiming_normal": _torch(
        _kaiming(NORMAL),
        _KAIMING,
        "nn.init.kaiming_normal_",
        "Kaiming weights in nn.Linear, whose biases stay as they were",
    ),
    "torch_kaiming_uniform": _torch(
        _kaiming(UNIFORM),
        _KAIMING,
        "nn.init.kaiming_uniform_",
        "Kaiming weights in nn.Linear, whose biases stay as they were",
    ),
    "keras_dense": _Entry(
        {**_BIAS, **_GAINS},
        _biased(_xavier(UNIFORM), ZERO),
        "Keras' default layer: GlorotUniform, biases zero",
        "Keras",
        "layers.Dense",
    ),
    "keras_he_normal": _Entry(
        {**_TRUNCATION, **_BIAS, **_GAINS},
        _biased(_truncated(2.0, "fan_in"), ZERO),
        "HeNormal, cut at two standard deviations, biases zero",
        "Keras",
        "initializers.HeNormal",
    ),
    "keras_glorot_normal": _Entry(
        {**_TRUNCATION, **_BIAS, **_GAINS},
        _biased(_truncated(1.0, "fan_avg"), ZERO),
        "GlorotNormal, cut at two standard deviations, biases zero",
        "Keras",
        "initializers.GlorotNormal",
    ),
    "flax_dense": _Entry(
        {**_BIAS, **_GAINS},
        _biased(lambda options: _same(TRUNCATED, 1.0, "fan_in"), ZERO),
        "Flax' default layer: lecun_normal, cut at two standard deviations, biases zero",
        "Flax",
        "linen.Dense, nnx.Linear",
    ),
    "haiku_linear": _Entry(
        {**_BIAS, **_GAINS},
        _biased(lambda options: _same(TRUNCATED, CUT_STD**2, "fan_in"), ZERO),
        "Haiku's default layer: cut at two standard deviations without correction, biases zero",
        "Haiku",
        "hk.Linear",
    ),
    "sklearn_mlp": _Entry(
        {
            "activation": _OptionSpec(
                "relu", _choice("relu", "logistic"), "activation of the hidden layer"
            ),
            **_GAINS,
        },
        _sklearn,
        "weights and biases within sqrt(6/(fan_in+fan_out)), sqrt(2/...) for logistic",
        "scikit-learn",
        "MLPClassifier, -Regressor",
    ),
    "normal_002": _Entry(
        {**_BIAS, **_GAINS},
        _biased(lambda options: _same(NORMAL, 0.02**2, "none"), ZERO),
        "standard deviation 0.02 in both layers, biases zero (BERT, ViT)",
        "Transformers",
        "initializer_range=0.02",
    ),
    "mup": _Entry(
        {
            "base_width": _OptionSpec(64.0, _width, "width at which muP and nn.Linear agree"),
            "output_mult": _OptionSpec(1.0, _scale, "factor of MuReadout's forward pass"),
            **_PARAMETRIZATION,
            **_BIAS,
            **_GAINS,
        },
        _biased(_mup, _TORCH_BIAS),
        "maximal update parametrisation: nn.Linear and MuReadout",
        "mup",
        "MuReadout",
    ),
    "ntk": _Entry(
        {
            "bias_std": _OptionSpec(0.0, _scale, "b_std: factor of the biases, 0 for none"),
            **_PARAMETRIZATION,
            **_GAINS,
        },
        _ntk,
        "neural tangent parametrisation: N(0, 1), divided by sqrt(fan_in) in the forward pass",
        "neural-tangents",
        "stax.Dense",
    ),
    "mean_field": _Entry(
        {**_PARAMETRIZATION, **_GAINS},
        _mean_field,
        "hidden N(0, 1/d), output N(0, 1), divided by l in the forward pass",
    ),
    "orthogonal": _Entry(
        _GAINS,
        lambda options: _same(ORTHOGONAL, 1.0, "fan_max"),
        "rows or columns orthonormal (Saxe), no biases",
        "PyTorch",
        "nn.init.orthogonal_",
    ),
    "zero_output": _Entry(
        {**_BIAS, "hidden_gain": _GAINS["hidden_gain"]},
        _biased(_zero_output, _TORCH_BIAS),
        "nn.Linear with its output weights set to zero",
        "PyTorch",
        "nn.init.zeros_",
    ),
    "custom": _Entry({**_CUSTOM, **_GAINS}, _custom, "own laws and standard deviations"),
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


def scheme_origin(name: str) -> tuple[str, str]:
    """Return the framework that a scheme is of, "textbook" for none, and its name there."""
    entry = _entry(name)
    return entry.framework, entry.api


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
        What the scheme takes, see `scheme_options`. Most take ``hidden_gain`` and ``output_gain``
        (>= 0: factors on the standard deviations of the weights, never of the biases);
        ``kaiming_*`` take ``mode`` (``"fan_in"`` or ``"fan_out"``) and ``negative_slope``;
        schemes of frameworks take ``bias`` (``"default"``, ``"zero"`` or ``"none"``); truncated
        normal ones may take ``truncation`` (``"corrected"`` or ``"uncorrected"``); ``mup``,
        ``ntk`` and ``mean_field`` take ``parametrization`` (``"stored"`` or ``"effective"``).

    Returns
    -------
    InitScheme

    Raises
    ------
    ValueError
        If the name or an option is unknown (the message suggests the nearest), if a value is out
        of its range, if both layers would be all zeros, or if the hidden weights would be all
        zeros beside biases that are not.

    Notes
    -----
    Textbook names follow PyTorch's formulas: `xavier_*` has variance ``2 / (fan_in + fan_out)``,
    `kaiming_*` has ``2 / ((1 + negative_slope²) · fan)``, `lecun_*` has ``1 / fan_in``, all
    without biases.

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
    rules = entry.build(values)
    hidden, output = _gained(rules.hidden, values, "hidden_gain"), rules.output
    output = _gained(output, values, "output_gain")
    if hidden.scale == 0.0 and output.scale == 0.0:
        raise ValueError(
            f"scheme {name!r}: hidden and output weights would both be all zeros; "
            "one of the two scales must be positive"
        )
    if hidden.scale == 0.0 and rules.bias is not None and rules.bias.scale > 0.0:
        raise ValueError(
            f"scheme {name!r}: hidden weights would be all zeros beside biases that are not; "
            "give them a positive scale or set the biases to zero"
        )
    changed = tuple((k, v) for k, v in values.items() if v != entry.options[k].default)
    return InitScheme(name, changed, hidden, output, rules.bias)


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


def _gained(rule: LayerRule, values: Mapping[str, Option], option: str) -> LayerRule:
    return replace(rule, scale=rule.scale * float(values.get(option, 1.0)) ** 2)


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
