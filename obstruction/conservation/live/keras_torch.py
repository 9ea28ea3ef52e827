"""Keras on PyTorch: the outputs of a function of variables and inputs, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from obstruction.conservation.live.base import FloatArray, Leaves, cotangents
from obstruction.conservation.live.running_torch import running
from obstruction.conservation.live.trees import arrays_of
from obstruction.tools.randomness import word


class TorchProgram:
    """The same as `obstruction.conservation.live.jax_program.Program`, run by PyTorch.

    Parameters
    ----------
    function : callable
        ``function(values, leaves, seed)`` returns the outputs in any nesting.
    leaves : sequence of array
        Example inputs.
    values : sequence of array
        Example values of the parameters.
    """

    def __init__(
        self,
        function: Callable[[list[Any], list[Any], int], Any],
        values: Sequence[NDArray[Any]],
        leaves: Leaves,
    ) -> None:
        self._function = function
        with torch.no_grad():
            self._shapes = [tuple(one.shape) for one in self._run(_tensors(values), leaves, 0)]

    def shapes(self, leaves: Leaves) -> list[tuple[int, ...]]:
        """Return the shapes of the outputs at the example inputs."""
        return self._shapes

    def outputs(
        self, values: Sequence[FloatArray], leaves: Leaves, *, seed: int
    ) -> list[FloatArray]:
        """Return all arrays of floats in the output."""
        with torch.no_grad():
            return [_numpy(one) for one in self._run(_tensors(values), leaves, seed)]

    def gradients(
        self, values: Sequence[FloatArray], leaves: Leaves, *, seed: int, cotangent: int
    ) -> list[FloatArray | None]:
        """Return the gradient of a random linear function of the outputs for each value."""
        with torch.enable_grad():
            variables = [one.requires_grad_() for one in _tensors(values)]
            outputs = self._run(variables, leaves, seed)
            pairs = zip(outputs, cotangents([one.shape for one in outputs], cotangent), strict=True)
            terms = [(one, torch.from_numpy(c).to(one)) for one, c in pairs if one.requires_grad]
        if not terms:
            return [None] * len(variables)
        found = torch.autograd.grad(
            [one for one, _ in terms], variables, [c for _, c in terms], allow_unused=True
        )
        return [None if one is None else _numpy(one) for one in found]

    def _run(self, values: list[Any], leaves: Leaves, seed: int) -> list[Any]:
        inputs = _tensors(leaves)
        with running(seed):
            output = self._function(values, inputs, word(seed))
        found = arrays_of(output, _is_inexact)
        return [
            part.to(torch.float64)
            for one in found
            for part in ((one.real, one.imag) if one.is_complex() else (one,))
        ]


def _is_inexact(node: Any) -> bool:
    return isinstance(node, torch.Tensor) and (node.is_floating_point() or node.is_complex())


def _tensors(arrays: Sequence[NDArray[Any]]) -> list[torch.Tensor]:
    return [torch.tensor(np.asarray(one)) for one in arrays]


def _numpy(tensor: torch.Tensor) -> FloatArray:
    array: FloatArray = tensor.detach().cpu().numpy()
    return array
