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
demands. In deep chains iteration takes very long, even if it is accelerated, and Newton's method
takes a few steps. The demands can be met unless a neuron is dead: its in-norm is 0 and its out-norm
is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Final

import numpy as np

from obstruction.auditing.repair.demands import Demands, FloatArray, Masks, Norms
from obstruction.models.model import Model
from obstruction.tools.checks import check_choice

SCOPES: Final = ("all", "frozen")

_RANGE: Final = (1e-140, 1e140)  # norms whose scaled squares neither overflow nor underflow
_MOST_PASSES: Final = 1_000
_FEW_PASSES: Final = 24  # after which four times as many steps of Newton's follow if cheap
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
    told: Callable[[int], None] = lambda passes: None,
) -> tuple[list[FloatArray], int]:
    """Return the least factors >= 1 that leave every neuron with the margin.

    There is one array of factors for each hidden layer. They are 1 where neurons are not looked
    after or nothing is needed, and powers of two where a neuron touches a tensor of 16 bits. The
    second result is the number of evaluations of the map.

    ``inside`` marks the links that are looked after, and ``active`` the neurons that are known to
    lack the margin. ``extra`` is a factor of the usual allowance for rounding. ``told`` is called
    with the number of evaluations so far.
    """
    demands = Demands(model, norms, inside, margin, active, extra)
    x = [np.zeros(layer.outputs) for layer in model.layers[:-1]]
    # An error of x changes the ratio of the norms by twice as much, which is within the slack.
    enough = min(demands.slack, default=1.0) / 8.0
    search = _Search(demands, x, told)
    if not any(a and b for a, b in pairwise(inside)):
        search.x, search.rest = search.image, 0.0  # no demand depends on x
    cheap = demands.newton_is_cheap
    while search.rest > max(enough, 2.0**-50 * max(a.max(initial=0.0) for a in search.image)):
        if cheap and _FEW_PASSES < search.passes <= 5 * _FEW_PASSES:
            search.newton()
        else:
            search.leap()
        if search.is_below:
            _check_size(model, search.x, demands.limits)
        if search.passes > _MOST_PASSES:
            raise ValueError(
                f"margin = {margin!r}: no factors were found in {search.passes:,} iterations"
            )
    x, passes = search.x, search.passes
    _check_size(model, x, demands.limits)
    if any(half and wanted for half, wanted in zip(demands.halves, inside, strict=True)):
        x, more = _to_powers_of_two(model, demands, x, enough)
        passes += more
    return [
        np.exp2(np.rint(a / _LOG2)) if half else np.exp(a)
        for a, half in zip(x, demands.halves, strict=True)
    ], passes


class _Search:
    """The search for the fixed point of a map.

    Attributes
    ----------
    x, image : list of ndarray
        The present point, and what the map makes of it.
    rest : float
        The largest difference of an entry of the two, by which the demand of a neuron is missed.
    error : float
        Their distance in the norm in which the map is a contraction.
    passes : int
        The number of evaluations of the map.
    """

    def __init__(self, demands: Demands, x: list[FloatArray], told: Callable[[int], None]) -> None:
        self.demands, self.told = demands, told
        self.norm = np.sin(np.pi * np.arange(1, len(x) + 1) / (len(x) + 1))
        self.passes = self.tries = 0
        self.good: tuple[list[FloatArray], list[FloatArray], float]
        self._go(x)
        self._restart(x, self.image, self.error)

    @property
    def is_below(self) -> bool:
        """Whether the present point is a lower bound of the fixed point.

        The map is monotone, so that iteration from a point that it raises only goes up.
        """
        return all((r >= 0.0).all() for r in self.residual)

    def leap(self) -> None:
        """Take an accelerated step, or a plain one after many without progress."""
        x = self.history.leap(self.x, self.demands.shift(self.residual), self.demands.active)
        if self.tries == _PATIENCE or not all(np.isfinite(a).all() for a in x):
            x = self.good[1]  # a plain step always makes progress
            self._restart(x, x, math.inf)
        self._go(x)
        self.tries += 1
        if self.error <= 0.7 * self.good[2]:
            self.tries, self.good = 0, (self.x, self.image, self.error)

    def newton(self) -> None:
        """Take Newton's step.

        Far from the fixed point it may lead further away at first. So it is not held back, which
        was seen to take far longer in deep chains.
        """
        step = self.demands.newton(self.image, self.residual)
        x = [np.maximum(0.0, a + b) for a, b in zip(self.x, step, strict=True)]
        self._go(x if all(np.isfinite(a).all() for a in x) else self.image)

    def _restart(self, x: list[FloatArray], image: list[FloatArray], error: float) -> None:
        self.history, self.tries, self.good = _History(), 0, (x, image, error)

    def _go(self, x: list[FloatArray]) -> None:
        self.x, self.image = x, self.demands(x)
        self.residual = [new - old for new, old in zip(self.image, x, strict=True)]
        sizes = [np.abs(r).max(initial=0.0) for r in self.residual]
        self.rest = float(max(sizes, default=0.0))
        self.error = float(max(sizes / self.norm, default=0.0))
        self.passes += 1
        self.told(self.passes)


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
    model: Model, demands: Demands, x: list[FloatArray], enough: float
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
