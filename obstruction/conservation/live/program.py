"""Live models that are run as a program of lists of arrays, as those of JAX and Keras are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from obstruction.conservation.live.base import FloatArray, Leaves, Values


class Program(Protocol):
    """The outputs of a function and their gradients, for values of the parameters in order."""

    def shapes(self, leaves: Leaves) -> list[tuple[int, ...]]:
        """Return the shapes of the outputs."""
        ...

    def outputs(self, values: list[FloatArray], leaves: Leaves, *, seed: int) -> list[FloatArray]:
        """Return the outputs."""
        ...

    def gradients(
        self, values: list[FloatArray], leaves: Leaves, *, seed: int, cotangent: int
    ) -> list[FloatArray | None]:
        """Return the gradient of a random function of the outputs, for each value."""
        ...


class ProgramModel:
    """The runs of a `LiveModel` that has a program.

    Attributes
    ----------
    parameters : dict of str to ndarray of float64
        In the order in which the program takes their values. One without axes has one of length 1.
    """

    parameters: dict[str, FloatArray]
    _program: Program
    _bare: frozenset[str] = frozenset()

    def _hold(self, parameters: Mapping[str, FloatArray]) -> None:
        """Set the parameters."""
        self._bare = frozenset(name for name, value in parameters.items() if value.ndim == 0)
        self.parameters = {name: np.atleast_1d(value) for name, value in parameters.items()}

    def outputs(self, values: Values, inputs: Leaves, *, seed: int) -> list[FloatArray]:
        """Return the outputs; see `LiveModel.outputs`."""
        return self._program.outputs(self._ordered(values), inputs, seed=seed)

    def gradients(
        self, values: Values, inputs: Leaves, *, seed: int, cotangent: int
    ) -> dict[str, FloatArray | None]:
        """Return the gradients of a random function of the outputs; see `LiveModel.gradients`."""
        found = self._program.gradients(
            self._ordered(values), inputs, seed=seed, cotangent=cotangent
        )
        parts = (None if one is None else np.atleast_1d(one) for one in found)
        return dict(zip(self.parameters, parts, strict=True))

    def _ordered(self, values: Values) -> list[FloatArray]:
        ordered = {name: np.asarray(values[name], np.float64) for name in self.parameters}
        return [one.reshape(()) if name in self._bare else one for name, one in ordered.items()]
