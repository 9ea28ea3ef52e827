"""Which signs the weights that are alone on a side of their balance can take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obstruction.auditing.live.bounds import Bound
from obstruction.auditing.live.degenerate import Degenerate
from obstruction.conservation.law import Law
from obstruction.conservation.laws import Laws


@dataclass(frozen=True)
class Signs:
    """The signs that the single weights of a parameter can take.

    Attributes
    ----------
    tensor : str
        The parameter.
    side : {"read", "written"}
        The side of the balances on which its weights are alone. Output weights are read.
    weights : int
        The number of weights that are alone.
    free : int
        How many of them no balance keeps from either sign.
    positive, negative : int
        How many keep their sign because they are frozen, at the boundary, which is not crossed in
        finite time, or belong to a dead channel. One that keeps the value zero is in neither.
    """

    tensor: str
    side: str
    weights: int
    free: int
    positive: int
    negative: int

    @property
    def max_positive(self) -> int:
        """The largest number of positive weights that no balance forbids."""
        return self.free + self.positive

    @property
    def max_negative(self) -> int:
        """The largest number of negative weights that no balance forbids."""
        return self.free + self.negative


def signs_of(laws: Laws, bounds: Iterable[Bound], degenerate: Iterable[Degenerate]) -> list[Signs]:
    """Return the signs of all parameters with weights that are alone on a side."""
    kept: dict[str, list[tuple[int, ...]]] = {}
    for one in bounds:
        if not one.combination:
            kept.setdefault(one.tensor, []).append(one.position)
    dead = {one.law: set(one.dead) for one in degenerate}
    found: dict[tuple[str, str], list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]] = {}
    for number, law in enumerate(laws):
        if law.kind == "balance":
            for tensor, side, single, labels in _single(laws, law):
                stays = single & np.isin(labels, list(dead.get(number, ())))
                for position in kept.get(tensor, ()):
                    stays[position] |= single[position]
                found.setdefault((tensor, side), []).append((single, stays))
    return [_counted(laws, *key, *_together(masks)) for key, masks in found.items()]


def _single(
    laws: Laws, law: Law
) -> Iterator[tuple[str, str, NDArray[np.bool_], NDArray[np.int64]]]:
    """Yield parameters with weights that are alone on a side, which these are, and their labels."""
    for sign, side in ((-1, "read"), (1, "written")):
        alone = law.counts(laws.shapes, sign) == 1
        for term in law.terms:
            if term.coefficient * sign > 0:
                labels = np.broadcast_to(term.labels, laws.shapes[term.tensor])
                single = (labels >= 0) & alone[np.maximum(labels, 0)]
                if single.any():
                    yield term.tensor, side, single, labels


def _together(
    masks: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    single, stays = (np.logical_or.reduce(list(part)) for part in zip(*masks, strict=True))
    return single, stays


def _counted(
    laws: Laws, tensor: str, side: str, single: NDArray[np.bool_], stays: NDArray[np.bool_]
) -> Signs:
    values = laws.parameters[tensor][stays]
    weights = int(single.sum())
    return Signs(
        tensor=tensor,
        side=side,
        weights=weights,
        free=weights - values.size,
        positive=int(np.count_nonzero(values > 0.0)),
        negative=int(np.count_nonzero(values < 0.0)),
    )
