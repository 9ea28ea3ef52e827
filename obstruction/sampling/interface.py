"""The interface of samplers: what can be counted on threads, interrupted and resumed.

A sampler says what is drawn and how it is counted. It knows nothing of threads, of how the work is
cut into ranges, or of interruptions: `obstruction.sampling.runner` sees to these for all samplers.
A new sampler is a frozen dataclass with two methods, `Sampler.tally` and `Sampler.count`.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray


class Additive(Protocol):
    """Counts or moments. Those of disjoint sets of draws add up to those of their union."""

    def __add__(self, other: Any) -> Any: ...


Tally = TypeVar("Tally")
Result = TypeVar("Result", bound=Additive)


class Sampler(ABC, Generic[Tally, Result]):
    """Draws that are numbered 0, 1, 2, ... and can be counted in any ranges.

    A draw is a network, or a piece of weighted samples. It depends on the sampler and on its number
    alone. A sampler does not change and can be pickled, so that other threads, processes and
    machines count the same.

    Each worker counts on a *tally* of its own and hands it over from time to time. A tally may hold
    the counts themselves, or something else from which `result` makes them.
    """

    in_order: ClassVar[bool] = False
    """Whether the order of additions matters, as it does for sums of floats.

    If so, every draw is counted on a tally of its own, and the results are added in the order of
    the draws. Otherwise a tally takes many draws, and results are added as they come.
    """

    @property
    def least(self) -> int:
        """How many draws a call of `count` should be given at least, for the sake of speed."""
        return 1

    @property
    def most(self) -> int:
        """How many draws a tally has room for."""
        return sys.maxsize

    @abstractmethod
    def tally(self) -> Tally:
        """Return a tally of no draw."""

    @abstractmethod
    def count(self, tally: Tally, start: int, stop: int, flag: NDArray[np.uint8]) -> bool:
        """Add the draws ``start ... stop - 1`` to a tally.

        Parameters
        ----------
        tally
            What `tally` returned, with the draws that were added since.
        start, stop : int
            A range of draws, which may cross the blocks of `obstruction.sampling.streams`.
        flag : ndarray of uint8, shape (1,)
            If it becomes 1, the work should be broken off soon.

        Returns
        -------
        bool
            Whether all draws were added. If not, the tally is not used any more.
        """

    def result(self, tally: Tally) -> Result:
        """Return the counts of a tally, which is not used any more; here the tally itself."""
        return cast(Result, tally)
