"""The registry of schemes: the options, the rules and the origin of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from obstruction.schemes.laws import CUT_STD, LAWS, NORMAL, ORTHOGONAL, TRUNCATED, UNIFORM, Law
from obstruction.schemes.options import (
    BIAS,
    CUSTOM,
    GAINS,
    KAIMING,
    PARAMETRIZATION,
    TRUNCATION,
    OptionSpec,
    read_choice,
    read_scale,
    read_width,
)
from obstruction.schemes.rules import ZERO, LayerRule


@dataclass(frozen=True)
class Rules:
    """The rules of all layers for one choice of options."""

    hidden: LayerRule
    output: LayerRule
    bias: LayerRule | None = None


Build: TypeAlias = Callable[[Mapping[str, Any]], Rules]

_TORCH_BIAS: Final = LayerRule(UNIFORM, 1.0 / 3.0, "fan_in")
"""Biases of ``nn.Linear``, uniform within 1/sqrt(fan_in) however the weights are initialised."""


def _same(law: Law, scale: float, fan: str, bias: LayerRule | None = None) -> Rules:
    return Rules(LayerRule(law, scale, fan), LayerRule(law, scale, fan), bias)


def _xavier(law: Law) -> Build:
    return lambda options: _same(law, 1.0, "fan_avg")


def _lecun(law: Law) -> Build:
    return lambda options: _same(law, 1.0, "fan_in")


def _kaiming(law: Law) -> Build:
    return lambda options: _same(law, 2.0 / (1.0 + options["negative_slope"] ** 2), options["mode"])


def _biased(build: Build, bias: LayerRule) -> Build:
    """Return ``build`` with hidden biases: ``bias``, zeros or none, as the option ``bias`` says."""

    def with_bias(options: Mapping[str, Any]) -> Rules:
        chosen = {"default": bias, "zero": ZERO, "none": None}[options["bias"]]
        return replace(build(options), bias=chosen)

    return with_bias


def _truncated(scale: float, fan: str) -> Build:
    return lambda options: _same(TRUNCATED, scale * _left_by_cut(options), fan)


def _left_by_cut(options: Mapping[str, Any]) -> float:
    """Return the factor that the cut applies to the variance, 1 if it is corrected."""
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

    if not options["bias_law"] and options["bias_std"] != CUSTOM["bias_std"].default:
        raise ValueError(f"bias_std = {options['bias_std']:g}: must not be given without bias_law")
    return Rules(rule("hidden"), rule("output"), rule("bias") if options["bias_law"] else None)


@dataclass(frozen=True)
class Entry:
    """A scheme in the registry: its options, the rules they lead to, a description, its origin."""

    options: Mapping[str, OptionSpec]
    build: Build
    about: str
    framework: str = "textbook"
    api: str = ""


def _torch(build: Build, options: Mapping[str, OptionSpec], api: str, about: str) -> Entry:
    return Entry({**options, **BIAS, **GAINS}, _biased(build, _TORCH_BIAS), about, "PyTorch", api)


def _torch_init(name: str, build: Build, options: Mapping[str, OptionSpec]) -> Entry:
    """Return the entry of ``nn.Linear`` whose weights are initialised by ``nn.init.name_``."""
    author = name.split("_")[0].capitalize()
    about = f"{author} weights in nn.Linear, whose biases stay as they were"
    return _torch(build, options, f"nn.init.{name}_", about)


REGISTRY: Final[dict[str, Entry]] = {
    "xavier_normal": Entry(GAINS, _xavier(NORMAL), "Xavier/Glorot, variance 2/(fan_in+fan_out)"),
    "xavier_uniform": Entry(GAINS, _xavier(UNIFORM), "Xavier/Glorot, variance 2/(fan_in+fan_out)"),
    "kaiming_normal": Entry(
        {**KAIMING, **GAINS}, _kaiming(NORMAL), "Kaiming/He, variance 2/((1+slope²)·fan)"
    ),
    "kaiming_uniform": Entry(
        {**KAIMING, **GAINS}, _kaiming(UNIFORM), "Kaiming/He, variance 2/((1+slope²)·fan)"
    ),
    "lecun_normal": Entry(GAINS, _lecun(NORMAL), "LeCun, variance 1/fan_in"),
    "lecun_uniform": Entry(GAINS, _lecun(UNIFORM), "LeCun, variance 1/fan_in"),
    "torch_linear": _torch(
        lambda options: _same(UNIFORM, 1.0 / 3.0, "fan_in"),
        {},
        "nn.Linear",
        "PyTorch's default layer, weights and biases within 1/sqrt(fan_in)",
    ),
    "torch_xavier_normal": _torch_init("xavier_normal", _xavier(NORMAL), {}),
    "torch_xavier_uniform": _torch_init("xavier_uniform", _xavier(UNIFORM), {}),
    "torch_kaiming_normal": _torch_init("kaiming_normal", _kaiming(NORMAL), KAIMING),
    "torch_kaiming_uniform": _torch_init("kaiming_uniform", _kaiming(UNIFORM), KAIMING),
    "keras_dense": Entry(
        {**BIAS, **GAINS},
        _biased(_xavier(UNIFORM), ZERO),
        "Keras' default layer: GlorotUniform, biases zero",
        "Keras",
        "layers.Dense",
    ),
    "keras_he_normal": Entry(
        {**TRUNCATION, **BIAS, **GAINS},
        _biased(_truncated(2.0, "fan_in"), ZERO),
        "HeNormal, cut at two standard deviations, biases zero",
        "Keras",
        "initializers.HeNormal",
    ),
    "keras_glorot_normal": Entry(
        {**TRUNCATION, **BIAS, **GAINS},
        _biased(_truncated(1.0, "fan_avg"), ZERO),
        "GlorotNormal, cut at two standard deviations, biases zero",
        "Keras",
        "initializers.GlorotNormal",
    ),
    "flax_dense": Entry(
        {**BIAS, **GAINS},
        _biased(lambda options: _same(TRUNCATED, 1.0, "fan_in"), ZERO),
        "Flax' default layer: lecun_normal, cut at two standard deviations, biases zero",
        "Flax",
        "linen.Dense, nnx.Linear",
    ),
    "haiku_linear": Entry(
        {**BIAS, **GAINS},
        _biased(lambda options: _same(TRUNCATED, CUT_STD**2, "fan_in"), ZERO),
        "Haiku's default layer: cut at two standard deviations without correction, biases zero",
        "Haiku",
        "hk.Linear",
    ),
    "sklearn_mlp": Entry(
        {
            "activation": OptionSpec(
                "relu", read_choice("relu", "logistic"), "activation of the hidden layer"
            ),
            **GAINS,
        },
        _sklearn,
        "weights and biases within sqrt(6/(fan_in+fan_out)), sqrt(2/...) for logistic",
        "scikit-learn",
        "MLPClassifier, -Regressor",
    ),
    "normal_002": Entry(
        {**BIAS, **GAINS},
        _biased(lambda options: _same(NORMAL, 0.02**2, "none"), ZERO),
        "standard deviation 0.02 in both layers, biases zero (BERT, ViT)",
        "Transformers",
        "initializer_range=0.02",
    ),
    "mup": Entry(
        {
            "base_width": OptionSpec(64.0, read_width, "width at which muP and nn.Linear agree"),
            "output_mult": OptionSpec(1.0, read_scale, "factor of MuReadout's forward pass"),
            **PARAMETRIZATION,
            **BIAS,
            **GAINS,
        },
        _biased(_mup, _TORCH_BIAS),
        "maximal update parametrisation: nn.Linear and MuReadout",
        "mup",
        "MuReadout",
    ),
    "ntk": Entry(
        {
            "bias_std": OptionSpec(0.0, read_scale, "b_std: factor of the biases, 0 for none"),
            **PARAMETRIZATION,
            **GAINS,
        },
        _ntk,
        "neural tangent parametrisation: N(0, 1), divided by sqrt(fan_in) in the forward pass",
        "neural-tangents",
        "stax.Dense",
    ),
    "mean_field": Entry(
        {**PARAMETRIZATION, **GAINS},
        _mean_field,
        "hidden N(0, 1/d), output N(0, 1), divided by l in the forward pass",
    ),
    "orthogonal": Entry(
        GAINS,
        lambda options: _same(ORTHOGONAL, 1.0, "fan_max"),
        "rows or columns orthonormal (Saxe), no biases",
        "PyTorch",
        "nn.init.orthogonal_",
    ),
    "zero_output": Entry(
        {**BIAS, "hidden_gain": GAINS["hidden_gain"]},
        _biased(_zero_output, _TORCH_BIAS),
        "nn.Linear with its output weights set to zero",
        "PyTorch",
        "nn.init.zeros_",
    ),
    "custom": Entry({**CUSTOM, **GAINS}, _custom, "own laws and standard deviations"),
}
