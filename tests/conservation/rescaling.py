"""Balances held against the outputs of a plain model: writers times, readers by powers of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from plain_model import PlainModel, Values
from slices import Indices, random_values

ROUNDING = 1e-9
UNSTABLE = 1e-5
"""Points where rounding errors may change the outputs by more are not asked."""


@dataclass(frozen=True, eq=False)
class Balance:
    """A law: for every index, the sum over sides of coefficient * w² is conserved.

    Attributes
    ----------
    width : int
        The number of channels.
    coefficients : dict of str to int
        A coefficient for every side.
    terms : tuple of (str, ndarray, int)
        The same for scalars: a tensor, the index of each of its scalars (-1 for none) and the
        coefficient. A tensor may occur twice. Indices broadcast to the shape of the tensor.
    """

    width: int
    coefficients: dict[str, int]
    terms: tuple[tuple[str, Indices, int], ...] = field(repr=False)


class Point:
    """Weights, inputs, outputs, and how much rounding errors of the weights change the outputs."""

    def __init__(self, model: PlainModel, values: Values, seed: int) -> None:
        self.values, self.inputs = values, model.inputs(seed)
        self.outputs = model.outputs(values, self.inputs)
        generator = torch.Generator().manual_seed(seed)
        rounded = {}
        for name, w in values.items():
            errors = torch.randn(w.shape, generator=generator, dtype=torch.float64)
            rounded[name] = w * (1 + 2.0**-51 * errors)
        self.tolerance = max(
            ROUNDING, 100 * change(self.outputs, model.outputs(rounded, self.inputs))
        )


def points_of(model: PlainModel, seed: int) -> list[Point]:
    """Return the actual weights and some random ones of different sizes, where outputs are stable.

    Parameters
    ----------
    model : PlainModel
    seed : int
        Of the random weights and inputs.
    """
    points = [Point(model, model.actual, seed)]
    for k, scale in enumerate((1.0, 8.0, 64.0, 0.25)):
        for attempt in range(4):
            at = seed + 77 + 10 * k + attempt
            point = Point(model, random_values(model, scale * 0.25**attempt, at), at)
            if point.tolerance <= UNSTABLE:
                points.append(point)
                break
    return points


def powers(
    laws: Sequence[Balance], which: Sequence[int], values: Values, seed: int
) -> dict[str, Indices]:
    """Return the power of two for each scalar, under random rescalings of all channels.

    Parameters
    ----------
    laws : sequence of Balance
    which : sequence of int
        The laws whose channels are rescaled, all at once.
    values : dict of str to tensor
    seed : int
    """
    found: dict[str, Indices] = {}
    for i in which:
        generator = np.random.default_rng([seed, i, 5])
        draw = np.append(generator.choice([-1, 1, 2], laws[i].width), 0)
        for tensor, labels, k in laws[i].terms:
            shape = tuple(values[tensor].shape)
            found[tensor] = found.get(tensor, np.zeros(shape, np.int64)) + k * draw[labels]
    return found


def refuted(
    model: PlainModel,
    laws: Sequence[Balance],
    point: Point,
    which: Sequence[int] | None = None,
    *,
    seed: int = 0,
) -> list[int]:
    """Return the numbers of the laws that change the outputs at a point, found by halving.

    Parameters
    ----------
    model : PlainModel
    laws : sequence of Balance
    point : Point
    which : sequence of int, optional
        The laws that are asked about, by default all.
    seed : int
    """
    asked = range(len(laws)) if which is None else which
    if not asked:
        return []
    scaled = dict(point.values)
    for n, power in powers(laws, asked, point.values, seed).items():
        scaled[n] = point.values[n] * torch.from_numpy(np.ldexp(1.0, power))
    if change(point.outputs, model.outputs(scaled, point.inputs)) <= point.tolerance:
        return []
    if len(asked) == 1:
        return list(asked)
    half = len(asked) // 2
    parts = asked[:half], asked[half:]
    return [i for part in parts for i in refuted(model, laws, point, part, seed=seed)]


def change(before: list[torch.Tensor], after: list[torch.Tensor]) -> float:
    """Return the largest change of an output, relative to its largest number."""
    if len(before) != len(after):
        return float("inf")
    changes = [0.0]
    for x, y in zip(before, after, strict=True):
        if x.shape != y.shape or not bool((x.isfinite() & y.isfinite()).all()):
            return float("inf")
        if x.numel():
            wrong, size = float((x - y).abs().max()), float(x.abs().max())
            changes.append(wrong / size if size else float("inf") if wrong else 0.0)
    return max(changes)
