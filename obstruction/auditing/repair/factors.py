"""The least factors by which neurons must be rescaled so that none is pathological.

The incoming weights and the bias of neuron ``k`` of hidden layer ``h`` are multiplied by a factor
``alpha > 0``, and its outgoing weights are divided by it. In terms of ``x = log alpha``, the demand
``in_norm >= (1 + margin) * out_norm`` reads ``x >= F(x)``. Here ``F`` of a neuron is half the
logarithm of ``(1 + margin) * out_norm / in_norm``, where the factor of this neuron is 1 and those
of its neighbours are as they are.

``F`` is monotone, because a larger factor of a neighbour makes the outgoing weights of the neuron
larger or its incoming weights smaller. If ``x`` of a neighbouring layer changes by ``t``, ``F``
changes by at most ``t / 2``, and by less if there are biases, which do not change. In a chain of
``N`` matrices the map ``max(0, F)`` is therefore a contraction with the factor ``cos(pi / N)`` in
the norm ``max over h, k of |x_hk| / sin(pi h / N)``, ``h = 1..N-1``. So it has exactly one fixed
point. Iteration converges to it from every start, and it is the least ``x >= 0`` that meets all
demands. They can be met unless a neuron is dead: its in-norm is 0 and its out-norm is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded

from obstruction.models.model import Model
from obstruction.models.norms import NeuronNorms, sums_of_squares
from obstruction.models.updating import epsilon, stored_types
from obstruction.tools.checks import check_choice

FloatArray: TypeAlias = NDArray[np.float64]
Norms: TypeAlias = Sequence[NeuronNorms | None]
Masks: TypeAlias = list[NDArray[np.bool_]]

SCOPES: Final = ("all", "frozen")

_FLOOR: Final = 2.0**-43  # a bound on the relative error of sums of squares
_RANGE: Final = (1e-140, 1e140)  # norms whose scaled squares neither overflow nor underflow
_LARGEST_SCALE: Final = 1e100
_MOST_PASSES: Final = 100_000
_PATIENCE: Final = 8  # accelerated steps without progress before a plain step
_MEMORY: Final = 10  # points that the acceleration looks back on
_LOG2: Final = math.log(2.0)


def check(margin: float, scope: str) -> None:
    """Raise a ValueError if a margin is not a finite number > 0, or if a scope is unknown."""
    number = isinstance(margin, (int, float, np.number)) and not isinstance(margin, bool)
    if not number or not 0.0 < margin < math.inf:
        raise ValueError(f"margin = {margin!r}: must be a finite number greater than 0")
    check_choice("scope", scope, SCOPES)


def looked_after(model: Model, scope: str) -> list[bool]:
    """Return for every link whether its neurons are looked after, which means repaired if needed.

    The scope ``"frozen"`` means the neurons with one outgoing weight. If a layer of one neuron has
    one outgoing weight, the balances of all layers before it decide together whether the weight is
    frozen (docs/topology.md), so that all of them are looked after too.
    """
    inside = [link.reason is None for link in model.links]
    if scope == "all":
        return inside
    chosen = [False] * len(inside)
    for segment in model.segments():
        narrow = False
        for h in reversed(segment[:-1]):
            single = model.layers[h + 1].outputs == 1
            narrow |= single and model.layers[h].outputs == 1
            chosen[h] = single or narrow
    return chosen


def lacking(norms: Norms, inside: list[bool], margin: float) -> Masks:
    """Return for every link which of its neurons are looked after and do not have the margin."""
    return [
        found.incoming < (1.0 + margin) * found.outgoing
        if wanted and found is not None
        else np.zeros(0, dtype=bool)
        for found, wanted in zip(norms, inside, strict=True)
    ]


def check_neurons(model: Model, norms: Norms, inside: list[bool]) -> None:
    """Raise a ValueError if a neuron is dead, or if its norms are too large or too small."""
    for layer, found, wanted in zip(model.layers[:-1], norms, inside, strict=True):
        if not wanted or found is None:
            continue
        both = np.concatenate([found.incoming, found.outgoing])
        if not np.all(np.isfinite(both)):
            raise ValueError(f"{layer.name}: has weights that are not finite, nothing is repaired")
        dead = np.flatnonzero((found.incoming == 0.0) & (found.outgoing > 0.0))
        if dead.size:
            listed = ", ".join(map(str, dead[:5])) + ", ..." * (dead.size > 5)
            raise ValueError(
                f"{layer.name}: dead neurons cannot be repaired by rescaling, "
                f"their incoming weights and biases are all 0 (index {listed})"
            )
        if np.any((both > 0.0) & ((both < _RANGE[0]) | (both > _RANGE[1]))):
            raise ValueError(
                f"{layer.name}: has neurons with norms outside {_RANGE[0]:g} to {_RANGE[1]:g}, "
                "which cannot be rescaled safely"
            )


def solve(
    model: Model,
    norms: Norms,
    inside: list[bool],
    margin: float,
    active: Masks,
    extra: float = 1.0,
) -> tuple[list[FloatArray], int]:
    """Return the least factors >= 1 that leave every neuron with the margin.

    There is one array of factors for each hidden layer. They are 1 where neurons are not looked
    after or nothing is needed, and powers of two where a neuron touches a tensor of 16 bits. The
    second result is the number of evaluations of the map.

    ``inside`` marks the links that are looked after, and ``active`` the neurons that are known to
    lack the margin. ``extra`` is a factor of the usual allowance for rounding.
    """
    demands = _Demands(model, norms, inside, margin, active, extra)
    x = [np.zeros(layer.outputs) for layer in model.layers[:-1]]
    image, passes = demands(x), 1
    # An error of x changes the ratio of the norms by twice as much, which is within the slack.
    enough = min(demands.slack, default=1.0) / 8.0
    residual, error = _residual(image, x)
    if not any(a and b for a, b in pairwise(inside)):
        x, error = image, 0.0  # no demand depends on x, so its first image is the fixed point
    history, tries, good = _History(), 0, (x, image, error)
    while error > max(enough, 2.0**-50 * max(a.max(initial=0.0) for a in image)):
        x = history.leap(x, demands.shift(residual), demands.active)
        if tries == _PATIENCE or any(np.any(a > math.log(_LARGEST_SCALE)) for a in x):
            history, tries, x = _History(), 0, good[1]  # a plain step always makes progress
            _check_size(model, x, demands.limits)
            good = (x, x, math.inf)
        image, passes, tries = demands(x), passes + 1, tries + 1
        residual, error = _residual(image, x)
        if error <= 0.7 * good[2]:
            tries, good = 0, (x, image, error)
        if passes > _MOST_PASSES:
            raise ValueError(f"margin = {margin!r}: no factors were found in {passes:,} iterations")
    _check_size(model, x, demands.limits)
    if any(half and wanted for half, wanted in zip(demands.halves, inside, strict=True)):
        x, more = _to_powers_of_two(model, demands, x, enough)
        passes += more
    return [
        np.exp2(np.rint(a / _LOG2)) if half else np.exp(a)
        for a, half in zip(x, demands.halves, strict=True)
    ], passes


def _residual(image: list[FloatArray], x: list[FloatArray]) -> tuple[list[FloatArray], float]:
    """Return the step of the map from a point, and its size in the norm of the contraction."""
    found = [new - old for new, old in zip(image, x, strict=True)]
    weights = np.sin(np.pi * np.arange(1, len(x) + 1) / (len(x) + 1))
    sizes = [np.abs(r).max(initial=0.0) for r in found]
    return found, float(max(sizes / weights))


class _Demands:
    """The map ``max(0, F)``, which reads only the matrices beside layers that have moved."""

    def __init__(
        self,
        model: Model,
        norms: Norms,
        inside: list[bool],
        margin: float,
        active: Masks,
        extra: float,
    ) -> None:
        self.model, self.inside = model, inside
        self.incoming = [np.ones(0) if n is None else n.incoming**2 for n in norms]
        self.outgoing = [np.ones(0) if n is None else n.outgoing**2 for n in norms]
        self.at = [np.zeros(layer.outputs) for layer in model.layers[:-1]]
        self.active = [np.zeros(len(x), dtype=bool) for x in self.at]
        for mask, known in zip(self.active, active, strict=True):
            mask[: len(known)] = known  # links that are not looked after have empty masks
        self.plain = 2.0 * math.log1p(margin)
        self.halves: list[bool] = []
        self.slack: list[float] = []
        self.limits: list[float] = []
        for h in range(len(inside)):
            touched = stored_types(model.layers[h : h + 2])
            half = bool(touched & {"float16", "bfloat16"})
            # Rounding changes a norm by at most half an epsilon; powers of two cause no rounding.
            ulps = 0.0 if half else 4.0 * max(map(epsilon, touched))
            self.halves.append(half)
            self.slack.append(extra * (ulps + _FLOOR))
            self.limits.append(2.0**15 if "float16" in touched else _LARGEST_SCALE)

    def __call__(self, x: list[FloatArray]) -> list[FloatArray]:
        """Return the image of ``x``, which is 0 for neurons that have always had the margin."""
        self._move(x)
        found = []
        for h, wanted in enumerate(self.inside):
            if not wanted:
                found.append(np.zeros_like(x[h]))
                continue
            with np.errstate(divide="ignore", invalid="ignore"):
                least = self.plain + np.log(self.outgoing[h]) - np.log(self.incoming[h])
            self.active[h] |= least > 4.0 * x[h]
            needed = np.maximum(0.0, (least + 2.0 * self.slack[h]) / 4.0)
            found.append(np.where(self.active[h], needed, 0.0))
        return found

    def _move(self, x: list[FloatArray]) -> None:
        """Update the sums of squares."""
        moved = [bool(np.any(new != old)) for new, old in zip(x, self.at, strict=True)]
        last = len(self.model.layers) - 1
        for i, layer in enumerate(self.model.layers):
            below = 0 < i < last and moved[i - 1] and self.inside[i]
            above = 0 < i < last and moved[i] and self.inside[i - 1]
            if below or above:  # both sums cost no more than one: reading weights takes the time
                factors = np.exp(-2.0 * x[i - 1]), np.exp(2.0 * x[i])
                across, down = sums_of_squares(layer.weight, *factors)
            if below:
                bias = 0.0 if layer.bias is None else layer.bias.astype(np.float64) ** 2
                self.incoming[i] = across + bias
            if above:
                self.outgoing[i - 1] = down
        self.at = x

    def shift(self, residual: list[FloatArray]) -> list[FloatArray]:
        """Return Newton's step for a simpler map, in which neurons depend on means of layers.

        In wide layers this is nearly so. The step then gains several digits, and a plain step one
        bit.
        """
        share = np.array([mask.mean() if mask.size else 0.0 for mask in self.active])
        mean = np.array(
            [
                r[mask].mean() if mask.any() else 0.0
                for r, mask in zip(residual, self.active, strict=True)
            ]
        )
        bands = np.ones((3, len(share)))
        bands[0, 1:], bands[2, :-1] = -0.5 * share[1:], -0.5 * share[:-1]
        further = solve_banded((1, 1), bands, mean) - mean
        return [
            np.where(mask, r + move, 0.0)
            for r, mask, move in zip(residual, self.active, further, strict=True)
        ]


class _History:
    """Earlier points and steps, for Anderson's acceleration of the iteration."""

    def __init__(self) -> None:
        self.points: list[FloatArray] = []
        self.steps: list[FloatArray] = []

    def leap(self, x: list[FloatArray], step: list[FloatArray], active: Masks) -> list[FloatArray]:
        """Return the next point, at which the step would be 0 if it were a linear function."""
        self.points = [*self.points[-_MEMORY:], np.concatenate(x)]
        self.steps = [*self.steps[-_MEMORY:], np.concatenate(step)]
        there = self.points[-1] + self.steps[-1]
        if len(self.steps) > 1:
            points, steps = np.diff(self.points, axis=0), np.diff(self.steps, axis=0)
            part = np.linalg.lstsq(steps.T, self.steps[-1], rcond=1e-10)[0]
            there = there - part @ (points + steps)
        ends = np.cumsum([len(a) for a in x])[:-1]
        return [
            np.where(mask, np.maximum(0.0, a), 0.0)
            for a, mask in zip(np.split(there, ends), active, strict=True)
        ]


def _to_powers_of_two(
    model: Model, demands: _Demands, x: list[FloatArray], enough: float
) -> tuple[list[FloatArray], int]:
    """Return the least point with powers of two in 16-bit layers, and the number of passes.

    The fixed point is a lower bound of that point. Iteration from it only goes up.
    """

    def up(values: list[FloatArray]) -> list[FloatArray]:
        return [
            np.ceil((a - enough) / _LOG2) * _LOG2 if half else a
            for a, half in zip(values, demands.halves, strict=True)
        ]

    x, passes = [np.maximum(0.0, a) for a in up(x)], 0
    while True:
        passes += 1
        higher = [np.maximum(a, b) for a, b in zip(x, up(demands(x)), strict=True)]
        if all(np.all(b <= a + enough) for a, b in zip(x, higher, strict=True)):
            return x, passes
        _check_size(model, higher, demands.limits)
        x = higher


def _check_size(model: Model, x: list[FloatArray], limits: list[float]) -> None:
    for layer, values, limit in zip(model.layers, x, limits, strict=False):
        if values.max(initial=0.0) > math.log(limit):
            raise ValueError(
                f"{layer.name}: would need a factor larger than {limit:.3g}, "
                "give a smaller margin or the scope 'frozen'"
            )
