"""The verdict on stated probabilities by a family of tests that may depend on each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from obstruction.sampling.inference.binomial import FloatArray, holm


@dataclass(frozen=True, eq=False, repr=False)
class Verdict:
    """What a family of tests says about stated probabilities, by Holm's method.

    It is true iff the verdict is "agrees".

    Holm's method holds however the tests depend on each other, so they may share random numbers.

    Attributes
    ----------
    level : float
        The largest probability of the verdict "disagrees" if all stated probabilities are right.
    p_values : ndarray, shape (n,) or (kinds, n)
        The p-value of one test, or of one test of each kind, for each of the n subjects. It is NaN
        if there is no test.
    """

    level: float
    p_values: FloatArray

    _shown: ClassVar[tuple[str, ...]] = ("level", "tests", "rejected", "smallest")

    @cached_property
    def p_adjusted(self) -> FloatArray:
        """Holm's adjusted p-values, in the shape of `p_values`."""
        return holm(self.p_values)

    @cached_property
    def smallest_of_each(self) -> FloatArray:
        """The smallest adjusted p-value of each subject, or NaN if it has no test."""
        return np.asarray(np.fmin.reduce(np.atleast_2d(self.p_adjusted), axis=0))

    @property
    def tests(self) -> int:
        """The number of tests in the family."""
        return int(np.count_nonzero(~np.isnan(self.p_values)))

    @property
    def rejected(self) -> int:
        """The number of subjects that at least one test rejects."""
        return int(np.count_nonzero(self.smallest_of_each <= self.level))

    @property
    def smallest(self) -> float:
        """The smallest adjusted p-value, or NaN if there is no test."""
        return float(np.fmin.reduce(self.smallest_of_each, initial=np.nan))

    @property
    def verdict(self) -> str:
        """The verdict: "agrees", "disagrees", or "untested" if there is no test."""
        if self.tests == 0:
            return "untested"
        return "disagrees" if self.rejected else "agrees"

    @property
    def agrees(self) -> bool:
        """Whether the verdict is "agrees"."""
        return self.verdict == "agrees"

    def __bool__(self) -> bool:
        return self.agrees

    def __repr__(self) -> str:
        numbers = (f"{name}={getattr(self, name)!r}" for name in self._shown)
        return f"{type(self).__name__}({', '.join(numbers)})"
