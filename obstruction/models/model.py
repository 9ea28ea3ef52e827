"""Fully connected layers in forward order, and the activations that link them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obstruction.models.contents import Orientation, Tensor


@dataclass(frozen=True, eq=False)
class Layer:
    """A fully connected layer.

    Attributes
    ----------
    name : str
        The name of the layer in the source.
    weight_tensor : Tensor
        The stored weights. With weight normalisation it holds their directions.
    bias_tensor : Tensor or None
        The stored biases.
    layout : {"out_in", "in_out"}
        The orientation in which `weight_tensor` is stored.
    magnitude : Tensor or None
        The stored lengths of the rows of `weight`, None without weight normalisation.
    factor, bias_factor : float
        Fixed factors of weights and biases in the forward pass. Balances ignore them.
    """

    name: str
    weight_tensor: Tensor
    bias_tensor: Tensor | None
    layout: Orientation
    magnitude: Tensor | None = None
    factor: float = 1.0
    bias_factor: float = 1.0

    @cached_property
    def weight(self) -> NDArray[Any]:
        """The weights, shape (outputs, inputs), with nan where a direction has length 0."""
        weight = self.oriented(self.weight_tensor.array)
        if self.magnitude is None:
            return weight
        weight = weight.astype(np.float64)
        lengths = np.linalg.norm(weight, axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            weight *= self.magnitude.array.astype(np.float64).reshape(-1, 1) / lengths
        return weight

    @property
    def bias(self) -> NDArray[Any] | None:
        """The biases, shape (outputs,), or None."""
        return None if self.bias_tensor is None else self.bias_tensor.array.reshape(-1)

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors in which the layer is stored."""
        stored = (self.weight_tensor, self.bias_tensor, self.magnitude)
        return [tensor for tensor in stored if tensor is not None]

    @property
    def outputs(self) -> int:
        """The number of outputs."""
        return int(self.weight.shape[0])

    @property
    def inputs(self) -> int:
        """The number of inputs."""
        return int(self.weight.shape[1])

    def oriented(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """Return a matrix, transposed if the weights are stored as (inputs, outputs)."""
        return matrix if self.layout == "out_in" else matrix.T

    def with_values(self, values: Mapping[str, NDArray[Any]]) -> Layer:
        """Return a copy of the layer with new values, in stored shape, by the names of tensors."""

        def new(tensor: Tensor) -> Tensor:
            return replace(tensor, array=values.get(tensor.name, tensor.array))

        return replace(
            self,
            weight_tensor=new(self.weight_tensor),
            bias_tensor=self.bias_tensor and new(self.bias_tensor),
            magnitude=self.magnitude and new(self.magnitude),
        )

    def rescaled(
        self, rows: NDArray[np.float64] | None, columns: NDArray[np.float64] | None
    ) -> dict[str, NDArray[Any]]:
        """Return the tensors of the layer with its rows and columns multiplied by factors.

        Parameters
        ----------
        rows : ndarray of float64, shape (outputs,), or None
            Factors > 0 of the rows of the weights and of the biases, or None for ones.
        columns : ndarray of float64, shape (inputs,), or None
            Factors > 0 of the columns of the weights, or None for ones.

        Returns
        -------
        dict of str to ndarray
            New values, in stored shape and precision, by the names of the tensors that change.

        Raises
        ------
        ValueError
            If `columns` is given and the layer has weight normalisation.
        """
        changes: dict[str, NDArray[Any]] = {}
        if columns is not None and self.magnitude is not None:
            raise ValueError(f"{self.name}: weight normalisation cannot take a factor per column")
        if self.magnitude is None and (rows is not None or columns is not None):
            weight = self.weight.astype(np.float64)
            if rows is not None:
                weight *= rows[:, None]
            if columns is not None:
                weight *= columns[None, :]
            changes[self.weight_tensor.name] = self.weight_tensor.stored(
                np.ascontiguousarray(self.oriented(weight))
            )
        for stored in (self.magnitude, self.bias_tensor):
            if rows is not None and stored is not None:
                scaled = stored.array.astype(np.float64) * rows.reshape(stored.shape)
                changes[stored.name] = stored.stored(scaled)
        return changes


@dataclass(frozen=True)
class Link:
    """The hidden neurons between a layer and the next.

    Attributes
    ----------
    activation : str
        The canonical name of their activation, "" if it is unknown.
    slope : float
        The slope of the activation for negative inputs.
    reason : str or None
        Why the neurons keep no balance, None if they keep one and are audited.
    """

    activation: str
    slope: float = 0.0
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Model:
    """The fully connected layers of a network.

    Attributes
    ----------
    layers : tuple of Layer
        In the order of the forward pass.
    links : tuple of Link
        ``links[i]`` lies between ``layers[i]`` and ``layers[i + 1]``.
    skipped : tuple of (str, str)
        The name of everything else in the source, with the reason why it is not audited.
    format : str
        The kind of the source, such as ``"safetensors"`` or ``"PyTorch module"``.
    notes : tuple of str
        Remarks of the reader, a sentence each.
    ending : tuple of str
        The canonical names of the functions that are applied to the outputs, as far as the source
        says it.
    """

    layers: tuple[Layer, ...]
    links: tuple[Link, ...]
    skipped: tuple[tuple[str, str], ...]
    format: str
    notes: tuple[str, ...] = ()
    ending: tuple[str, ...] = ()

    def segments(self) -> list[range]:
        """Return the longest runs of two or more layers between which all neurons are audited.

        Examples
        --------
        If the activation in the middle of four layers is not homogeneous, the segments are
        ``[range(0, 2), range(2, 4)]``.
        """
        found, start = [], 0
        for i, link in enumerate((*self.links, Link("", reason="the end"))):
            if link.reason is not None:
                if i > start:
                    found.append(range(start, i + 1))
                start = i + 1
        return found
