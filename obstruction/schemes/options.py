"""The options of schemes: their defaults, checks and descriptions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from obstruction.schemes.laws import LAWS, Law
from obstruction.schemes.rules import Option
from obstruction.tools.checks import check_choice


def read_number(name: str, value: Any) -> float:
    """Return a finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"{name} = {value!r}: must be a finite number")
    return number


def read_scale(name: str, value: Any) -> float:
    """Return a gain or a standard deviation, whose square must not overflow or underflow."""
    number = read_number(name, value)
    if number < 0.0:
        raise ValueError(f"{name} = {value!r}: must be a number >= 0")
    if number > 0.0 and not 1e-30 <= number <= 1e30:
        raise ValueError(f"{name} = {value!r}: must be 0 or between 1e-30 and 1e30")
    return number


def read_slope(name: str, value: Any) -> float:
    """Return the slope of a leaky ReLU, whose square must not overflow."""
    number = read_number(name, value)
    if abs(number) > 1e30:
        raise ValueError(f"{name} = {value!r}: must be between -1e30 and 1e30")
    return number


def read_width(name: str, value: Any) -> float:
    """Return a number of neurons."""
    number = read_number(name, value)
    if not (1.0 <= number <= 1e9 and number == int(number)):
        raise ValueError(f"{name} = {value!r}: must be a whole number from 1 to 1e9")
    return number


def read_choice(*allowed: str) -> Callable[[str, Any], str]:
    """Return a function that returns one of the allowed words, or the name of an allowed law."""

    def read(name: str, value: Any) -> str:
        return check_choice(name, value.name if isinstance(value, Law) else value, allowed)

    return read


@dataclass(frozen=True)
class OptionSpec:
    """An option: its default, the function that checks a value, and a description."""

    default: Option
    read: Callable[[str, Any], Option]
    about: str


GAINS: Final = {
    "hidden_gain": OptionSpec(1.0, read_scale, "factor on the hidden standard deviation"),
    "output_gain": OptionSpec(1.0, read_scale, "factor on the output standard deviation"),
}
KAIMING: Final = {
    "mode": OptionSpec(
        "fan_in", read_choice("fan_in", "fan_out"), "size that divides: fan_in or fan_out"
    ),
    "negative_slope": OptionSpec(0.0, read_slope, "slope of the leaky ReLU at negative inputs"),
}
BIAS: Final = {
    "bias": OptionSpec(
        "default",
        read_choice("default", "zero", "none"),
        "hidden biases: the framework's own (default), zero, or none",
    ),
}
TRUNCATION: Final = {
    "truncation": OptionSpec(
        "corrected",
        read_choice("corrected", "uncorrected"),
        "the variance holds after the cut (corrected) or before it (uncorrected)",
    ),
}
CUSTOM: Final = {
    "law": OptionSpec("normal", read_choice(*LAWS), "one of " + ", ".join(LAWS)),
    "hidden_law": OptionSpec("", read_choice(*LAWS), "law of the hidden weights alone"),
    "output_law": OptionSpec("", read_choice(*LAWS), "law of the output weights alone"),
    "bias_law": OptionSpec(
        "", read_choice(*LAWS), "law of the hidden biases; if not given there are none"
    ),
    "hidden_std": OptionSpec(1.0, read_scale, "root mean square of the hidden weights"),
    "output_std": OptionSpec(1.0, read_scale, "root mean square of the output weights"),
    "bias_std": OptionSpec(1.0, read_scale, "root mean square of the hidden biases"),
    **TRUNCATION,
}
PARAMETRIZATION: Final = {
    "parametrization": OptionSpec(
        "stored",
        read_choice("stored", "effective"),
        "weights as stored and trained, or times the factors of the forward pass",
    ),
}
