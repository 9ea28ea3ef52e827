"""How the code of a library fills a parameter: a few operations on all of its entries alike.

A recipe is what `obstruction.studies.factories.torch_recording` records while a factory runs. It
begins with a step that fills the parameter with a constant or with independent random numbers, and
goes on with steps that treat each entry alone. Entries are therefore independent with one law,
which follows from the steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from scipy import special

from obstruction.schemes.laws import CONSTANT, CUT, CUT_STD, NORMAL, UNIFORM, Law
from obstruction.schemes.laws import TRUNCATED as TRUNCATED_NORMAL

RANDOM: Final = ("uniform", "normal", "cut_normal")
"""The steps that fill a parameter with random numbers."""

_UNCUT: Final = 8.0
"""A normal law that is cut at so many standard deviations or more counts as uncut."""

_CENTRED: Final = 1e-6
"""A mean of at most this many standard deviations counts as 0, which it is but for rounding."""


class Step(NamedTuple):
    """An operation on every entry of a tensor.

    Attributes
    ----------
    operation : str
        ``"fill"``, ``"uniform"``, ``"normal"``, ``"cut_normal"``, ``"multiply"``, ``"divide"``,
        ``"add"``, ``"erfinv"``, ``"clamp"`` or ``"cast"``.
    arguments : tuple of float or str
        The value; the ends; the mean and the standard deviation; these and the ends; the operand;
        the least and the largest value; or the name of the type. ``"erfinv"`` has none.
    """

    operation: str
    arguments: tuple[float | str, ...] = ()


class Drawn(NamedTuple):
    """The law of the entries of a tensor, which has mean 0 or is constant.

    Attributes
    ----------
    law : Law
    scale : float
        The root of the mean square of an entry.
    """

    law: Law
    scale: float


@dataclass(frozen=True)
class Recipe:
    """The steps that fill a parameter.

    Attributes
    ----------
    steps : tuple of Step
    shape : tuple of int
    dtype : str
        The type in which it was filled, for instance ``"float32"``. A step ``"cast"`` changes it.
    """

    steps: tuple[Step, ...]
    shape: tuple[int, ...]
    dtype: str

    @property
    def random(self) -> bool:
        """Whether the entries are random."""
        return self.steps[0].operation in RANDOM

    def drawn(self) -> Drawn | None:
        """Return the law of the entries, or None if it is none of those with exact values."""
        first, *rest = self.steps
        if first.operation == "fill":
            return _constant(float(first.arguments[0]), rest)
        if first.operation == "cut_normal":
            mean, std, low, high = map(float, first.arguments)
            return _cut(mean, std, low, high, rest)
        one, two = map(float, first.arguments)
        if first.operation == "normal":
            return _moved(NORMAL, one, two, rest)
        if rest and rest[0].operation == "erfinv":
            return _from_inverse(one, two, rest[1:])
        return _moved(UNIFORM, (one + two) / 2.0, (two - one) / math.sqrt(12.0), rest)


def _constant(value: float, steps: list[Step]) -> Drawn | None:
    for step in steps:
        if step.operation == "clamp":
            low, high = map(float, step.arguments)
            value = min(max(value, low), high)
        elif step.operation == "erfinv":
            value = float(special.erfinv(value))
        elif step.operation != "cast":
            value = _affine(step)[0] * value + _affine(step)[1]
    return Drawn(CONSTANT, abs(value)) if math.isfinite(value) else None


def _cut(mean: float, std: float, low: float, high: float, steps: list[Step]) -> Drawn | None:
    """Return the law of a normal variable between two ends."""
    cut = min(mean - low, high - mean) / std
    if cut >= _UNCUT:
        return _moved(NORMAL, mean, std, steps)
    if abs(low + high) <= _CENTRED * std and abs(mean) <= _CENTRED * std and _is_cut(cut):
        return _moved(TRUNCATED_NORMAL, 0.0, std * CUT_STD, steps)
    return None


def _is_cut(cut: float) -> bool:
    return abs(cut - CUT) <= 1e-5


def _from_inverse(low: float, high: float, steps: list[Step]) -> Drawn | None:
    """Return the law of ``erfinv(U)`` for uniform U: a normal law between two quantiles."""
    if abs(low + high) > _CENTRED * (high - low):
        return None
    cut = math.sqrt(2.0) * float(special.erfinv(min(high, 1.0)))
    clamped = [step for step in steps if step.operation == "clamp"]
    others = [step for step in steps if step.operation != "clamp"]
    if cut >= _UNCUT:
        found = _moved(NORMAL, 0.0, math.sqrt(0.5), others)
    elif _is_cut(cut):
        found = _moved(TRUNCATED_NORMAL, 0.0, math.sqrt(0.5) * CUT_STD, others)
    else:
        return None
    if found is None:
        return None
    normal = found.scale if found.law is NORMAL else found.scale / CUT_STD
    for step in clamped:  # the cut once more, against rounding
        if min(-float(step.arguments[0]), float(step.arguments[1])) < normal * min(cut, _UNCUT) * (
            1 - 1e-4
        ):
            return None
    return found


def _moved(law: Law, mean: float, scale: float, steps: list[Step]) -> Drawn | None:
    for step in steps:
        if step.operation == "cast":
            if step.arguments[0] not in ("float32", "float64"):
                return None  # entries are rounded too much for a continuous law
        elif step.operation in ("multiply", "divide", "add"):
            factor, shift = _affine(step)
            mean, scale = factor * mean + shift, abs(factor) * scale
        else:
            return None
    if not (math.isfinite(scale) and math.isfinite(mean)):
        return None
    if scale == 0.0:
        return Drawn(CONSTANT, abs(mean))
    return Drawn(law, scale) if abs(mean) <= _CENTRED * scale else None


def _affine(step: Step) -> tuple[float, float]:
    """Return the factor and the shift of a step."""
    value = float(step.arguments[0])
    if step.operation == "multiply":
        return value, 0.0
    if step.operation == "divide":
        return (1.0 / value if value else math.inf), 0.0
    return 1.0, value
