"""Fully connected layers in forward order, and the activations that link them."""

from __future__ import annotations

from dataclasses import dataclass
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
    weight : ndarray, shape (outputs, inputs)
        The weights, usually a view of the stored tensor.
    bias : ndarray, shape (outputs,), or None
        The biases.
    weight_tensor : Tensor
        The stored weights. With weight normalisation it holds their directions.
    bias_tensor : Tensor or None
        The stored biases.
    layout : {"out_in", "in_out"}
        The orientation in which `weight_tensor` is stored.
    magnitude : Tensor or None
        The stored magnitudes of the rows of `weight`, None without weight normalisation.
    factor, bias_factor : float
        Fixed factors of weights and biases in the forward pass. Balances ignore them.
    """

    name: str
    weight: NDArray[Any]
    bias: NDArray[Any] | None
    weight_tensor: Tensor
    bias_tensor: Tensor | None
    layout: Orientation
    magnitude: Tensor | None = None
    factor: float = 1.0
    bias_factor: float = 1.0

    @property
    def outputs(self) -> int:
        """The number of outputs."""
        return int(self.weight.shape[0])

    @property
    def inputs(self) -> int:
        """The number of inputs."""
        return int(self.weight.shape[1])

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
        if self.magnitude is not None and rows is not None:
            stored = self.magnitude
            scaled = stored.array.astype(np.float64) * rows.reshape(stored.shape)
            changes[stored.name] = stored.stored(scaled)
        elif rows is not None or columns is not None:
            weight = self.weight.astype(np.float64)
            if rows is not None:
                weight *= rows[:, None]
            if columns is not None:
                weight *= columns[None, :]
            oriented = weight if self.layout == "out_in" else weight.T
            changes[self.weight_tensor.name] = self.weight_tensor.stored(
                np.ascontiguousarray(oriented).reshape(self.weight_tensor.shape)
            )
        if rows is not None and self.bias is not None and self.bias_tensor is not None:
            scaled = self.bias.astype(np.float64) * rows
            changes[self.bias_tensor.name] = self.bias_tensor.stored(
                scaled.reshape(self.bias_tensor.shape)
            )
        return changes


def weight_normalised(directions: NDArray[Any], magnitudes: NDArray[Any]) -> NDArray[np.float64]:
    """Return rows of given directions and lengths; a direction of zeros gives nan."""
    rows = directions.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        rows *= magnitudes.astype(np.float64).reshape(-1, 1) / lengths
    return rows


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
    """

    layers: tuple[Layer, ...]
    links: tuple[Link, ...]
    skipped: tuple[tuple[str, str], ...]
    format: str
    notes: tuple[str, ...] = ()

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
