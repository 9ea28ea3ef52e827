"""Whether neurons are where they seem to be when values of a graph are reshaped and joined.

Graphs say nothing of shapes. A layer after a reshape takes what the layer before it makes only if
the numbers of neurons agree, which they do only if the last axis stayed as it was. Where values are
added or put side by side that cannot be seen from outside: what was reshaped is not joined.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

from obstruction.models.contents import Barrier, Dense, Join, Step

_REGROUPED: Final = "what was reshaped is joined, so its neurons may be regrouped"


class Regrouping:
    """Follows which values hold the neurons of a layer, and may hold them on another axis."""

    def __init__(self) -> None:
        self._neurons: set[Hashable] = set()  # values that hold neurons of a layer
        self._reshaped: set[Hashable] = set()
        self._beside: set[Hashable] = set()  # put side by side along the second axis

    def holds_neurons(self, value: Hashable) -> bool:
        """Return whether a value is made of outputs of a layer, with no barrier in between."""
        return value in self._neurons

    def followed(
        self,
        inputs: Sequence[Hashable],
        output: Hashable,
        steps: tuple[Step, ...],
        *,
        reshapes: bool = False,
        second_axis: bool = False,
    ) -> tuple[Step, ...]:
        """Follow an operation; return its steps, a barrier if it joins what may be regrouped.

        Parameters
        ----------
        inputs, output : hashable
            The values it takes and makes.
        steps : tuple of Step
            What it seems to be.
        reshapes : bool
            Whether it may change the shape of its input.
        second_axis : bool
            Whether, if it joins, it does so along the second axis, which may not be the last.
        """
        given = self._neurons.intersection(inputs)
        reshaped, beside = bool(given & self._reshaped), bool(given & self._beside)
        joins = [step for step in steps if isinstance(step, Join)]
        if joins and reshaped:
            steps = (Barrier(joins[0].name, _REGROUPED),)
        elif reshapes and beside:
            steps = (Barrier("reshape", _REGROUPED),)
        kept = [one for one in steps if isinstance(one, (Dense, Barrier))]
        if kept and isinstance(kept[-1], Dense):
            self._neurons.add(output)
        elif given and not any(not isinstance(one, Join) for one in kept):
            self._neurons.add(output)
            if reshaped or reshapes:
                self._reshaped.add(output)
            if beside or (joins and second_axis):
                self._beside.add(output)
        return steps
