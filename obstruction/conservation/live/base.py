"""The interface of a model that can be run: values of parameters in, outputs and gradients out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
Values: TypeAlias = Mapping[str, FloatArray]
"""A value for every trainable parameter, by name, in the shape in which the framework stores it."""

Leaves: TypeAlias = Sequence[NDArray[Any]]
"""The arrays of the inputs, in the order of `LiveModel.inputs`."""


class LiveModel(Protocol):
    """A model that can be run in float64 at any values of its parameters.

    The model of the user is never changed: an implementation works on a copy or restores all
    state, random generators included. Every run starts from the same state of buffers, such as
    running means, and its random numbers (dropout, noise) depend on `seed` alone.

    Attributes
    ----------
    framework : str
        ``"PyTorch"``, ``"JAX"`` or ``"Keras"``.
    parameters : dict of str to ndarray of float64
        The actual values of the trainable parameters, in the order in which the model registers
        them. A parameter that is shared by several layers is listed once.
    fixed : tuple of str
        The names of parameters that are not trained.
    inputs : tuple of ndarray
        The arrays of the example inputs: nested tuples, lists and dictionaries are flattened.
        Arrays of floats have type float64. Other inputs (None, strings, flags) are kept as given.
    output_axes : dict of str to int
        For parameters of known layers, the axis along which their outputs lie: 0 for
        ``torch.nn.Linear.weight``, 1 for ``torch.nn.ConvTranspose2d.weight``, -1 for a kernel of
        Keras or Flax. They decide words and signs, and spare the search the places of a kernel.
    groups : dict of str to int
        For weights of known convolutions, their number of groups.
    """

    framework: str
    parameters: dict[str, FloatArray]
    fixed: tuple[str, ...]
    inputs: tuple[NDArray[Any], ...]
    output_axes: dict[str, int]
    groups: dict[str, int]

    def outputs(self, values: Values, inputs: Leaves, *, seed: int) -> list[FloatArray]:
        """Return all arrays of floats in the output of the model, flattened from any nesting.

        Outputs that only speed up a later call (caches of keys and values) are left out.
        """
        ...

    def gradients(
        self, values: Values, inputs: Leaves, *, seed: int, cotangent: int
    ) -> dict[str, FloatArray | None]:
        """Return the gradient of a random linear function of the outputs, for each parameter.

        The function is ``sum(c * y)`` over all outputs ``y``, where ``cotangents`` draws the ``c``
        from the seed `cotangent`. The gradient of a parameter that the outputs do not depend on at
        all, in the framework's graph, is None.
        """
        ...


STRETCHES: Final = (0, 12, 0, -12)
"""Cotangents are multiplied by powers of two with these exponents, by the seed modulo four.

A backward pass of its own, which clips gradients for instance, need not be linear in them.
"""


def stretch(seed: int) -> float:
    """Return the factor of the cotangents that belong to a seed, a power of two."""
    return float(2.0 ** STRETCHES[seed % len(STRETCHES)])


def cotangents(shapes: Sequence[tuple[int, ...]], seed: int) -> list[FloatArray]:
    """Return normal arrays of given shapes, the same for the same seed, times its `stretch`.

    Seeds that differ modulo four only give the same arrays with another stretch.
    """
    generator = np.random.default_rng([seed // len(STRETCHES), 0xC07A])
    return [np.asarray(stretch(seed) * generator.standard_normal(shape)) for shape in shapes]
