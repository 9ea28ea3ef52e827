"""The interface of samplers, whose counting can run on threads, be interrupted and be resumed.

A sampler defines what is drawn and how it is counted. `obstruction.sampling.runner` divides the
work into ranges, runs them on threads and handles interruptions, in the same way for all samplers.
A new sampler is a frozen dataclass with two methods, `Sampler.tally` and `Sampler.count`.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray


class Additive(Protocol):
    """Counts or moments. The sum of those of disjoint sets of draws is that of their union."""

    def __add__(self, other: Any) -> Any: ...


Tally = TypeVar("Tally")
Result = TypeVar("Result", bound=Additive)


class Sampler(ABC, Generic[Tally, Result]):
    """Draws that are numbered 0, 1, 2, ... and can be counted in any ranges.

    A draw is a network, or a piece of weighted samples. It depends only on the sampler and on its
    number. A sampler does not change and can be pickled. All threads, processes and machines
    therefore obtain the same counts.

    Each worker adds its draws to a *tally* of its own and hands it over from time to time. A tally
    holds the counts themselves, or something else from which `result` makes them.
    """

    in_order: ClassVar[bool] = False
    """Whether the order of additions matters, as it does for sums of floats.

    If so, every draw is counted on a tally of its own, and the results are added in the order of
    the draws. Otherwise a tally takes many draws, and results are added as they come.
    """

    @property
    def least(self) -> int:
        """The smallest number of draws for which a call of `count` is fast."""
        return 1

    @property
    def most(self) -> int:
        """The number of draws that a tally has room for."""
        return sys.maxsize

    @abstractmethod
    def tally(self) -> Tally:
        """Return an empty tally."""

    @abstractmethod
    def count(self, tally: Tally, start: int, stop: int, flag: NDArray[np.uint8]) -> bool:
        """Add the draws ``start ... stop - 1`` to a tally, and return whether all were added.

        If the flag, an array of shape (1,), becomes 1, the work should be broken off soon. If not
        all draws were added, the tally is not used any more. The range may cross the blocks of
        `obstruction.sampling.streams`.
        """

    def result(self, tally: Tally) -> Result:
        """Return the counts of a tally, by default the tally itself. It is not used any more."""
        return cast(Result, tally)
