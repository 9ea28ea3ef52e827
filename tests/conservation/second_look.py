"""A second look at laws, at other points: what the outputs refute of a report or of a search.

The transformation of each law is applied to a plain copy of the model. Whole numbers among the
inputs, such as tokens and edges, are drawn anew where the model still runs: laws must not depend
on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from covering import balances_of
from plain_model import PlainModel
from rescaling import UNSTABLE, Balance, Point, change, refuted
from slices import Indices, random_values
from torch import nn

MOVED = 1e-6
"""Where weights are moved or have grown, more digits are lost than where they are rescaled."""

GROWTHS = ((4, 1e-3), (20, MOVED))
"""Before norms of blocks are asked, the blocks grow by powers of two, so that eps changes less.

A bounded activation hides how large its inputs are as well, but not after the small growth.
"""


LARGEST_EPS = 0.01
"""A larger number changes what a normalisation is."""


def other_points(model: PlainModel, seed: int) -> list[Point]:
    """Return the actual and random weights of several sizes, with new inputs if it runs."""
    redrawn = model.redrawn(seed)
    found = []
    for k, scale in enumerate((None, 1.0, 4.0, 64.0)):
        for attempt in range(4):
            at = seed + 10 * k + attempt
            small = 0.25**attempt * (scale or 0.0)
            values = model.actual if scale is None else random_values(model, small, at)
            try:
                point = Point(redrawn, values, at)
            except (RuntimeError, IndexError, ValueError, AssertionError):
                redrawn = model
                point = Point(redrawn, values, at)
            if point.tolerance <= UNSTABLE:
                found.append(point)
                break
    return found


def refuted_laws(model: PlainModel, laws: Sequence[Any], points: Sequence[Point]) -> list[Any]:
    """Return the reported laws whose own transformation changes the outputs at some point.

    Of a matrix law the scaling of its channels is tried. A norm is tried without the small number
    that modules add to a variance. If that refutes it, the number may be written in a function, and
    the norm is tried with blocks so large that it has no influence.
    """
    wrong: list[Any] = []
    channels = [law for law in laws if law.kind in ("balance", "matrix")]
    balances = [_plain(model, one) for one in balances_of(channels)]
    linear = [law for law in laws if law.kind in ("constant", "shift")]
    norms = [law for law in laws if law.kind == "scale"]
    for point in points:
        wrong += [channels[i] for i in refuted(model, balances, point)]
        wrong += _wrong(model, linear, point, max(MOVED, 1e3 * point.tolerance))
        with _without_eps(model.module):
            doubted = _wrong(model, norms, point, max(MOVED, 1e3 * point.tolerance))
        for growth, most in GROWTHS:
            wrong += _wrong(model, doubted, point, max(most, 1e3 * point.tolerance), growth)
    return list({id(law): law for law in wrong}.values())


@contextmanager
def _without_eps(module: nn.Module) -> Iterator[None]:
    """Make the small numbers that modules add to a variance far smaller for a while."""
    found = [
        (part, name, number)
        for part in module.modules()
        for name, number in vars(part).items()
        if "eps" in name and isinstance(number, float) and 0.0 < number < LARGEST_EPS
    ]
    for part, name, number in found:
        setattr(part, name, 1e-60 * number)
    try:
        yield
    finally:
        for part, name, number in found:
            setattr(part, name, number)


def wrong_numbers(
    model: PlainModel, law: Balance, numbers: Indices, points: Sequence[Point]
) -> list[int]:
    """Return the numbers of a balance, among those asked, that are refuted at some point."""
    return sorted({i for point in points for i in _wrong_numbers(model, law, numbers, point)})


def _wrong_numbers(model: PlainModel, law: Balance, numbers: Indices, point: Point) -> list[int]:
    kept = np.full(law.width + 1, -1)
    kept[numbers] = numbers
    part = Balance(
        law.width, law.coefficients, tuple((t, kept[labels], k) for t, labels, k in law.terms)
    )
    if not refuted(model, [part], point):
        return []
    if len(numbers) == 1:
        return [int(numbers[0])]
    return [
        i for half in np.array_split(numbers, 2) for i in _wrong_numbers(model, law, half, point)
    ]


def _plain(model: PlainModel, law: Balance) -> Balance:
    """Return a law with labels for complex numbers, not for their real and imaginary parts."""
    terms = []
    for tensor, labels, k in law.terms:
        whole = labels
        if labels.ndim > model.actual[tensor].ndim:
            whole = labels[..., 0]
            if (labels != whole[..., None]).any():
                raise ValueError(f"{tensor}: parts of complex numbers have different labels")
        terms.append((tensor, whole, k))
    return Balance(law.width, law.coefficients, tuple(terms))


def _real(w: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(w) if w.is_complex() else w


def _moved(law: Any, values: dict[str, torch.Tensor], generator: np.random.Generator) -> None:
    """Move the scalars of a linear law, those of one number together; let those of a norm grow."""
    if law.kind == "scale":
        _multiplied(law, values, generator.integers(0, 6, law.labels))
        return
    draw = np.append(generator.standard_normal(law.labels), 0.0)
    for term in law.terms:
        new = values[term.tensor].clone()
        unit = float(_real(new).square().mean().sqrt()) or 1.0
        _real(new).add_(torch.from_numpy(unit * draw[term.labels]))
        values[term.tensor] = new


def _multiplied(law: Any, values: dict[str, torch.Tensor], exponents: Indices) -> None:
    factors = np.ldexp(1.0, np.append(exponents, 0))
    for term in law.terms:
        new = values[term.tensor].clone()
        _real(new).mul_(torch.from_numpy(factors[term.labels]))
        values[term.tensor] = new


def _wrong(
    model: PlainModel, laws: Sequence[Any], point: Point, tolerance: float, growth: int = 0
) -> list[Any]:
    """Return the laws whose transformation changes the outputs, by halving."""
    if not laws:
        return []
    start = dict(point.values)
    for law in laws if growth else ():
        _multiplied(law, start, np.full(law.labels, growth))
    before = model.outputs(start, point.inputs)
    values = dict(start)
    generator = np.random.default_rng(len(laws))
    for law in laws:
        _moved(law, values, generator)
    if change(before, model.outputs(values, point.inputs)) <= tolerance:
        return []
    if len(laws) == 1:
        return list(laws)
    half = len(laws) // 2
    return [
        law
        for part in (laws[:half], laws[half:])
        for law in _wrong(model, part, point, tolerance, growth)
    ]
