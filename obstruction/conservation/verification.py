"""The second check of a law: the model must not notice the law's own transformation.

Gradients refute a law soundly, but they confirm it only where the random probes went. So every law
is also tried on the model itself, at its actual and at random parameters: channels are scaled by
powers of two, which rounds nothing, matrices mix, constants move. The outputs must stay the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from obstruction.conservation.law import FloatArray, Law
from obstruction.conservation.live.base import LiveModel
from obstruction.conservation.probing import AWAKE, Probe, Prober, outputs_at
from obstruction.conservation.transformations import GROWTH, rescaled, transformed

EXACT: Final = 1e-9
"""The largest relative change of outputs when channels are scaled by powers of two."""

NEARLY: Final = 1e-4
"""Up to this change, rounding may be to blame: the channels are scaled again, by 1/4 to 4.

Factors of a million make an offset that is not scaled, and that a mean removes, lose its digits.
"""

ROUNDED: Final = 1e-7
"""The largest relative change of outputs under transformations that are rounded."""

_STEP: Final = 4
_SLACK: Final = 16.0
"""The influence of ``eps`` is in proportion to it up to this factor."""

POINTS: Final = 4
"""The number of random probes at which laws are tried, besides the actual parameters."""


def verified(prober: Prober, laws: Sequence[Law], *, points: int = POINTS) -> list[Law]:
    """Return the laws whose transformations change nothing, with the changes that were seen."""
    kept = list(laws)
    hidden = (AWAKE,) if prober.asleep else ()
    for number in (None, *hidden, *range(points)):
        if kept:
            kept = _passing_at(prober, number, kept)
    order = {id(law.terms): i for i, law in enumerate(laws)}
    return sorted(kept, key=lambda law: order[id(law.terms)])


def _passing_at(prober: Prober, number: int | None, laws: Sequence[Law]) -> list[Law]:
    """Return the laws whose transformations change nothing at one point.

    All are tried at once. If something changes, they are tried one kind after the other.
    """
    point = prober.actual() if number is None else prober.probe(number)
    norms = [law for law in laws if law.kind == "scale"]
    others = [law for law in laws if law.kind != "scale"]
    plain = _Trial(prober.live, point, prober.outputs(number))
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

    def grown(self, norms: Sequence[Law], exponent: int = GROWTH[0]) -> _Trial:
        """Return the same with blocks multiplied by a power of two."""
        large = replace(self._point, values=rescaled(self._point.values, norms, exponent))
        return _Trial(self._live, large, outputs_at(self._live, large))

    def agrees(self, large: _Trial, norms: Sequence[Law]) -> bool:
        """Return whether outputs change no more than ``eps`` lets them when blocks grow.

        Its influence is divided by ``4**4`` if blocks are multiplied by ``2**4``. That of anything
        else that large blocks hide, such as a threshold, is divided by another number, or is gone.
        """
        first = largest_change(large._before, self._before)
        second = largest_change(large._before, self.grown(norms, _STEP)._before)
        expected = first / 4.0**_STEP
        return expected / _SLACK - EXACT <= second <= _SLACK * expected + EXACT

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
        limit = EXACT if exact else ROUNDED
        change = self.change(laws)
        if change <= (NEARLY if exact else ROUNDED):
            change = max(change, self.change(laws, sign=-1))
            if exact and EXACT < change <= NEARLY:
                change = self.change(laws, mild=True)
        if change <= limit:
            return [replace(law, change=max(law.change, change)) for law in laws]
        if len(laws) == 1:
            return []
        middle = len(laws) // 2
        return self.passing(laws[:middle]) + self.passing(laws[middle:])


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
