"""The second check of a law: the model must not notice the law's own transformation.

Gradients refute a law soundly, but they confirm it only where the random probes went. So every law
is also tried on the model itself, at its actual and at random parameters: channels are scaled by
powers of two, which rounds nothing, matrices mix, constants move. The outputs must stay the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np

from obstruction.conservation.law import FloatArray, Law, summed
from obstruction.conservation.live.base import LiveModel, Values
from obstruction.conservation.probing import (
    AWAKE,
    Probe,
    Prober,
    gradients_at,
    outputs_at,
)
from obstruction.conservation.transformations import FAR, GROWTH, rescaled, scattered, transformed

EXACT: Final = 1e-9
"""The largest relative change of outputs when channels are scaled by powers of two."""

NEARLY: Final = 1e-4
"""Up to this change, rounding may be to blame: the channels are scaled again, by 1/4 to 4.

Factors of a million make an offset that is not scaled, and that a mean removes, lose its digits.
"""

ROUNDED: Final = 1e-7
"""The largest relative change of outputs under transformations that are rounded."""

CLEARLY_NOT: Final = 1e-2
"""Gradients refute a law here if their sum is above this share of the absolute values.

An offset that is not scaled, and that a mean removes, leaves much rounding where channels are
scaled by a million.
"""

_UNIT: Final = 1e-16
_LOST: Final = 8.0
"""Rounding may grow by this factor times the square of the distance by which something moves."""

_FAINT: Final = 1e-3
"""Channels through which less than this share of the most flows count as if so much did."""

_ROUNDING: Final = 1e-9
"""So do all through which less than this share of the most in the model flows."""

_BACKWARD: Final = (0, 2)
"""The random probes at which gradients are looked at again."""

_EXACTLY: Final = (-10, 20)
"""Blocks are multiplied by two to one of these powers where ``eps`` is removed."""

_OTHERS: Final = 0.05
"""An ``eps`` that is removed elsewhere has less influence than this share of the change."""

_STEP: Final = 4
_SHRINKS: Final = 4.0**_STEP
_LEAST: Final = -8
_LITTLE: Final = 1e-3
"""Changes below this are in proportion to ``eps``."""

_VISIBLE: Final = 1e-6
"""Changes above this can be followed until they vanish in rounding."""

_NOISE: Final = 1e-11
_SLACK: Final = 0.1
"""Small changes may differ so much from what is expected, as a kink may lie between."""

_TURNS: Final = 8.0
"""Large changes by ``eps`` may shrink faster by this factor, as those of several layers add up."""

_DEGREES: Final = 3
"""Activations between blocks and their normalisation are homogeneous of at most this degree."""

POINTS: Final = 4
"""The number of random probes at which laws are tried, besides the actual parameters."""


def verified(prober: Prober, laws: Sequence[Law], *, points: int = POINTS) -> list[Law]:
    """Return the laws whose transformations change nothing, with the changes that were seen."""
    kept = list(laws)
    hidden = (AWAKE,) if prober.asleep else ()
    for number in (None, *hidden, *range(points)):
        if not kept:
            break
        kept = _passing_at(prober, number, kept)
        if number in _BACKWARD:
            kept = _kept_by_gradients(prober, number, kept, (1, -1) if points == POINTS else (1,))
    order = {id(law.terms): i for i, law in enumerate(laws)}
    return sorted(kept, key=lambda law: order[id(law.terms)])


def _kept_by_gradients(
    prober: Prober, number: int, laws: Sequence[Law], signs: Sequence[int]
) -> list[Law]:
    """Return the laws that gradients do not refute where channels are scaled.

    A backward pass that is not that of the model, because it clips for instance, may look like it
    as long as all channels have about the usual size.
    """
    balances = [law for law in laws if law.kind == "balance"]
    if not balances:
        return list(laws)
    kept, point = list(laws), prober.probe(number)
    for sign in signs:
        generator = np.random.default_rng([point.seed, 1])
        values = transformed(point.values, balances, generator, sign=sign)
        gradients = gradients_at(prober.live, replace(point, values=values))
        products = {name: values[name] * one for name, one in gradients.items() if one is not None}
        most = max((np.abs(one).max(initial=0.0) for one in products.values()), default=0.0)
        floor = _ROUNDING * most
        kept = [law for law in kept if law.kind != "balance" or _vanishes(law, products, floor)]
    return kept


def _vanishes(law: Law, products: Mapping[str, FloatArray], floor: float) -> bool:
    """Return whether products of weights and gradients add up to zero, where they are seen.

    What is below the floor counts as if it were as large.
    """
    sums, sizes = np.zeros((2, law.labels))
    for term in law.terms:
        if term.tensor in products:
            one = products[term.tensor]
            sums += term.coefficient * summed(one, term.labels, law.labels)
            sizes += abs(term.coefficient) * summed(np.abs(one), term.labels, law.labels)
    largest = float(sizes.max(initial=0.0))
    if not np.isfinite(largest):
        return True
    least = max(_FAINT * largest, floor)
    return bool((np.abs(sums) <= CLEARLY_NOT * np.maximum(sizes, least)).all())


def _passing_at(prober: Prober, number: int | None, laws: Sequence[Law]) -> list[Law]:
    """Return the laws whose transformations change nothing at one point.

    Laws about norms are tried without ``eps``, if it can be removed. All others are tried at once.
    If something changes, they are tried one kind after the other.
    """
    before = prober.outputs(number)
    point = prober.actual() if number is None else prober.probe(number)
    norms = [law for law in laws if law.kind == "scale"]
    others = [law for law in laws if law.kind != "scale"]
    plain = _Trial(prober.live, point, before)
    free: list[Law] = []
    change = plain.without_eps(norms) if norms else np.inf
    if change <= ROUNDED:
        free, norms = [replace(law, change=max(law.change, change)) for law in norms], []
    return free + _passing(plain, norms, others)


def _passing(plain: _Trial, norms: Sequence[Law], others: Sequence[Law]) -> list[Law]:
    """Return the laws that pass, where ``eps`` is part of the model."""
    laws = [*norms, *others]
    if not laws:
        return []
    trial = plain
    if norms:  # of blocks so large that ``eps`` has no influence
        trial = plain.grown(norms)
        if not plain.agrees(trial, norms):
            norms = plain.agreeing(norms)
            trial = plain.grown(norms)
            laws = [*norms, *others]
    scaling = _scaling(others)  # the channels of matrices mix, and besides they are scaled
    change = plain.change([*others, *scaling]) if others else 0.0
    if change <= EXACT:
        change = max(change, trial.change([*laws, *scaling], sign=-1))
    if change <= EXACT:
        return [replace(law, change=max(law.change, change)) for law in laws]
    return plain.apart(others) + trial.passing(norms)


def _scaling(laws: Iterable[Law]) -> list[Law]:
    """Return the balances of matrix laws."""
    return [replace(law, kind="balance") for law in laws if law.kind == "matrix"]


class _Trial:
    """The comparison of outputs before and after transformations, at one point."""

    def __init__(self, live: LiveModel, point: Probe, before: list[FloatArray]) -> None:
        self._live, self._point, self._before = live, point, before
        self._free: list[FloatArray] | None = None  # the same without eps, once it is known

    def grown(self, norms: Sequence[Law], exponent: int = GROWTH[0]) -> _Trial:
        """Return the same with blocks multiplied by a power of two."""
        large = replace(self._point, values=rescaled(self._point.values, norms, exponent))
        return _Trial(self._live, large, outputs_at(self._live, large))

    def agrees(self, large: _Trial, norms: Sequence[Law]) -> bool:
        """Return whether outputs change as ``eps`` lets them when blocks grow.

        If ``eps`` can be removed, they must not change at all. If it cannot, or is not what changes
        them, see `_by_eps`. Blocks that are too large for that are made smaller at first.
        """
        if self.without_eps(norms) <= ROUNDED:
            return True
        small = self._without_eps(rescaled(self._point.values, norms, _EXACTLY[0]))
        if small is not None:
            with_eps = largest_change(self._before, self.grown(norms, _EXACTLY[0])._before)
            if abs(small - with_eps) > _OTHERS * with_eps:
                return False

        def change(exponent: int) -> float:
            return largest_change(large._before, self.grown(norms, exponent)._before)

        seen = [largest_change(large._before, self._before)]
        least = 0
        while _NOISE < seen[0] < _VISIBLE and least > _LEAST:
            least -= _STEP
            seen.insert(0, change(least))
        for exponent in range(least + _STEP * len(seen), GROWTH[0], _STEP):
            verdict = _by_eps(seen)
            if verdict is not None:
                return verdict
            seen.append(change(exponent))
        return bool(_by_eps(seen))

    def without_eps(self, norms: Sequence[Law]) -> float:
        """Return the change of outputs without ``eps``, infinity if it cannot be removed.

        A random half of the blocks is made small and the other large, then the other way round.
        """
        most = 0.0
        for order in (_EXACTLY, _EXACTLY[::-1]):
            generator = np.random.default_rng([self._point.seed, len(norms)])
            change = self._without_eps(
                scattered(self._point.values, norms, generator, np.asarray(order))
            )
            if change is None:
                return np.inf
            most = max(most, change)
        return most

    def _without_eps(self, values: Values) -> float | None:
        free = getattr(self._live, "outputs_without_eps", None)
        if free is None:
            return None
        point = self._point
        if self._free is None:
            self._free = free(point.values, point.inputs, seed=point.seed)
        return largest_change(self._free, free(values, point.inputs, seed=point.seed))

    def agreeing(self, norms: Sequence[Law]) -> list[Law]:
        """Return the laws about norms that `agrees` finds right, found by bisection."""
        if self.agrees(self.grown(norms), norms):
            return list(norms)
        if len(norms) == 1:
            return []
        middle = len(norms) // 2
        return self.agreeing(norms[:middle]) + self.agreeing(norms[middle:])

    def change(self, laws: Sequence[Law], *, mild: bool = False, sign: int = 1) -> float:
        """Return the largest change of outputs when all laws are applied."""
        generator = np.random.default_rng([self._point.seed, len(laws)])
        values = transformed(self._point.values, laws, generator, mild=mild, sign=sign)
        try:
            after = outputs_at(self._live, replace(self._point, values=values))
        except Exception:  # whatever the model raises for parameters that it does not allow
            return np.inf if sign > 0 else self.change(laws, mild=mild)
        return largest_change(self._before, after)

    def apart(self, laws: Sequence[Law]) -> list[Law]:
        """Return the laws that pass, one kind after the other."""
        kept = self.passing([law for law in laws if law.kind == "balance"])
        rounded = [law for law in laws if law.kind != "balance"]
        homogeneous = {id(law.terms) for law in self.passing(_scaling(rounded))}
        return kept + self.passing(
            [law for law in rounded if law.kind != "matrix" or id(law.terms) in homogeneous]
        )

    def passing(self, laws: Sequence[Law]) -> list[Law]:
        """Return the laws under whose transformations the outputs stay, found by bisection."""
        if not laws:
            return []
        exact = laws[0].kind == "balance"
        moved = all(law.kind in ("constant", "shift") for law in laws)
        limit = EXACT if exact else ROUNDED
        change = self.change(laws)
        rounding = NEARLY if exact else _grown_rounding(change) if moved else 0.0
        if change <= (NEARLY if exact else ROUNDED):
            change = max(change, self.change(laws, sign=-1))
            if limit < change <= rounding:
                change = self.change(laws, mild=True, sign=1 if exact else -1)
        if change <= limit:
            return [replace(law, change=max(law.change, change)) for law in laws]
        if len(laws) == 1:
            return []
        middle = len(laws) // 2
        return self.passing(laws[:middle]) + self.passing(laws[middle:])


def _grown_rounding(change: float) -> float:
    """Return the change that rounding may cause far away, given that nearby."""
    return min(CLEARLY_NOT, _LOST * max(change, _UNIT) * FAR**2)


def _by_eps(changes: Sequence[float]) -> bool | None:
    """Return whether ``eps`` of a normalisation causes changes; None if more must be known.

    Between two of them, blocks before the normalisation are multiplied by ``2**4``. Large changes
    are divided by less than ``4**4``, and small ones by just that, or a power of it where an
    activation of higher degree stands between. What a threshold causes is divided by other
    numbers, and is gone at once when nothing falls below the threshold any more.
    """
    degrees: list[int] = []
    for place, (before, after) in enumerate(pairwise(changes)):
        shrunk = [before / _SHRINKS**degree for degree in range(1, _DEGREES + 1)]
        if shrunk[0] <= _NOISE:
            return after <= 2.0 * _NOISE and _slowly(changes[: place + 1], max(degrees, default=1))
        fitting = [
            degree
            for degree, expected in enumerate(shrunk, start=1)
            if (expected > _NOISE or degree in degrees)
            and abs(after - expected) <= _SLACK * expected + _NOISE
        ]
        if before > _LITTLE or not fitting:
            degrees = []
        elif degrees and degrees[0] not in fitting:
            return False
        else:
            degrees.append(degrees[0] if degrees else fitting[0])
        if len(degrees) == 2:
            return _slowly(changes[: place + 2], degrees[0])
    return None


def _slowly(changes: Sequence[float], degree: int) -> bool:
    """Return whether changes shrink no faster than those by ``eps`` do where they are small."""
    return all(
        after >= before / (_TURNS * _SHRINKS**degree) - _NOISE
        for before, after in pairwise(changes)
    )


def largest_change(before: Sequence[FloatArray], after: Sequence[FloatArray]) -> float:
    """Return the largest change of an output, relative to the largest entry of its array.

    It is infinity if shapes differ, or if something is not finite or zero before and not after.
    """
    if [y.shape for y in before] != [y.shape for y in after]:
        return np.inf
    return max(map(_difference, before, after))


def _difference(before: FloatArray, after: FloatArray) -> float:
    """Return the largest difference relative to the largest entry; infinity if it is not finite."""
    if before.size == 0:
        return 0.0
    with np.errstate(all="ignore"):
        same = (before == after) | (np.isnan(before) & np.isnan(after))
        difference = float(np.where(same, 0.0, np.abs(after - before)).max())
        if difference == 0.0:
            return 0.0
        largest = float(np.abs(before).max())
    relative = difference / largest if largest > 0.0 else np.inf
    return relative if np.isfinite(relative) else np.inf
