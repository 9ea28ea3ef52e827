"""Counts of the draws of a model: how many have a frozen sign, and how many weights are frozen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.law import FloatArray
from obstruction.sampling.interface import Sampler
from obstruction.studies.factories.single_sides import SingleSide

IntArray: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ModelCounts:
    """Counts over draws of a model; those of disjoint sets of draws can be added.

    Attributes
    ----------
    networks : int
        The number of draws.
    obstructed : int
        The draws with at least one frozen sign.
    frozen : int
        The frozen weights of all draws. One that is alone in several balances counts once.
    some, weights : ndarray of int64, shape (sides,)
        The draws in which some weight of a side is frozen, and the frozen weights of all draws.
    largest : ndarray of float64, shape (sides,)
        The largest ratio of a side in any draw, 0 without draws.
    starts : frozenset of str
        Checksums of the weights in these balances: those of all draws, or of two different ones.
    """

    networks: int
    obstructed: int
    frozen: int
    some: IntArray
    weights: IntArray
    largest: FloatArray
    starts: frozenset[str]

    @classmethod
    def zero(cls, sides: int) -> ModelCounts:
        """Return the counts of no draws."""
        none = np.zeros(sides, np.int64)
        return cls(0, 0, 0, none, none, np.zeros(sides), frozenset())

    @property
    def same_start(self) -> bool:
        """Whether all draws, of which there are several, start with the same weights."""
        return self.networks > 1 and len(self.starts) == 1

    def __add__(self, other: ModelCounts) -> ModelCounts:
        return ModelCounts(
            self.networks + other.networks,
            self.obstructed + other.obstructed,
            self.frozen + other.frozen,
            self.some + other.some,
            self.weights + other.weights,
            np.maximum(self.largest, other.largest),
            frozenset(sorted(self.starts | other.starts)[:2]),
        )


@dataclass
class ModelTally:
    """The counts of a worker."""

    counts: ModelCounts


@dataclass(frozen=True, eq=False)
class ModelSampler(Sampler[ModelTally, ModelCounts]):
    """A sampler of the draws of a model.

    The code of a library draws from generators that all threads share, so there is one worker.

    Attributes
    ----------
    parameters : callable
        Returns the parameters in the balances, in the draw of a number.
    sides : tuple of SingleSide
    shapes : dict of str to tuple of int
        The shapes of all trained parameters.
    differ : bool
        Whether all draws are known to differ, so that no checksum tells.
    """

    parameters: Callable[[int], Mapping[str, FloatArray]]
    sides: tuple[SingleSide, ...]
    shapes: dict[str, tuple[int, ...]]
    differ: bool = False

    @cached_property
    def needed(self) -> set[str]:
        """The names of the parameters in the balances."""
        return needed_for(self.sides)

    def tally(self) -> ModelTally:
        """Return an empty tally."""
        return ModelTally(ModelCounts.zero(len(self.sides)))

    def count(self, tally: ModelTally, start: int, stop: int, flag: NDArray[np.uint8]) -> bool:
        """Count draws one by one."""
        for number in range(start, stop):
            if flag[0]:
                return False
            tally.counts = tally.counts + self.one(number)
        return True

    def result(self, tally: ModelTally) -> ModelCounts:
        """Return the counts."""
        return replace(tally.counts)

    def one(self, number: int) -> ModelCounts:
        """Return the counts of a single draw."""
        parameters = self.parameters(number)
        sizes = {side.tensor: _size(self.shapes[side.tensor]) for side in self.sides}
        frozen = {name: np.zeros(size, np.bool_) for name, size in sizes.items()}
        weights, largest = np.zeros(len(self.sides), np.int64), np.zeros(len(self.sides))
        for k, side in enumerate(self.sides):
            found = side.ratios(parameters)
            weights[k] = np.count_nonzero(found.frozen)
            largest[k] = np.fmax.reduce(found.ratio, initial=0.0)
            first = side.places if side.places.ndim == 1 else side.places[:, 0]
            frozen[side.tensor][first[found.frozen]] = True
        total = sum(int(np.count_nonzero(mask)) for mask in frozen.values())
        start = frozenset([str(number) if self.differ else checksum(parameters, self.needed)])
        some = (weights > 0).astype(np.int64)
        return ModelCounts(1, int(total > 0), total, some, weights, largest, start)


def needed_for(sides: Iterable[SingleSide]) -> set[str]:
    """Return the names of the parameters in the balances of some sides."""
    return set().union(*(side.names for side in sides))


def checksum(parameters: Mapping[str, FloatArray], names: Iterable[str]) -> str:
    """Return a checksum of the values of some parameters."""
    found = hashlib.sha256()
    for name in sorted(names):
        found.update(np.ascontiguousarray(parameters[name], "<f8").tobytes())
    return found.hexdigest()


def distinct_weights(sides: tuple[SingleSide, ...]) -> int:
    """Return the number of weights, or differences of two logits, that are alone on a side."""
    found: dict[str, set[int]] = {}
    for side in sides:
        first = side.places if side.places.ndim == 1 else side.places[:, 0]
        found.setdefault(side.tensor, set()).update(first.tolist())
    return sum(map(len, found.values()))


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))
