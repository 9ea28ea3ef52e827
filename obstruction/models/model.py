"""A network as the audit sees it: fully connected layers in order, and what links them."""

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
        What the source calls it.
    weight : ndarray, shape (outputs, inputs)
        The weights, usually a view of the stored tensor.
    bias : ndarray, shape (outputs,), or None
        The biases.
    weight_tensor : Tensor
        The stored weights; with `magnitude`, their directions.
    bias_tensor : Tensor or None
        The stored biases.
    layout : {"out_in", "in_out"}
        How `weight_tensor` is stored.
    magnitude : Tensor or None
        With weight normalisation, the stored magnitudes of the rows of `weight`.
    factor, bias_factor : float
        Fixed factors of the forward pass; balances are those of the stored weights.
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
        """Return the tensors after rows (with biases) and columns are multiplied by factors.

        Parameters
        ----------
        rows : ndarray of float64, shape (outputs,), or None
            Factors > 0 of the rows of the weights and of the biases, None to leave them.
        columns : ndarray of float64, shape (inputs,), or None
            Factors > 0 of the columns of the weights, None to leave them.

        Returns
        -------
        dict of str to ndarray
            New values by name of tensor, in stored shape and precision; only what changes.

        Raises
        ------
        ValueError
            If columns of a layer with weight normalisation are to be scaled, which no factor of
            its parameters can do.
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


@dataclass(frozen=True)
class Link:
    """What lies between a layer and the next: the hidden neurons, if the layers are consecutive.

    Attributes
    ----------
    activation : str
        The canonical name of the activation, "" if it is not known.
    slope : float
        Its factor on negative inputs.
    reason : str or None
        Why these neurons keep no balance and are not audited, None if they are.
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
        One fewer than layers: ``links[i]`` is between ``layers[i]`` and ``layers[i + 1]``.
    skipped : tuple of (str, str)
        What else was found and not audited, each with its reason.
    format : str
        Where it comes from: ``"safetensors"``, ``"PyTorch module"``.
    notes : tuple of str
        What a reader remarks that is no reason to skip anything, a sentence each.
    """

    layers: tuple[Layer, ...]
    links: tuple[Link, ...]
    skipped: tuple[tuple[str, str], ...]
    format: str
    notes: tuple[str, ...] = ()

    def segments(self) -> list[range]:
        """Return the runs of layers between which all neurons are audited, two layers or more.

        Examples
        --------
        A model of four layers whose middle link is no ReLU has ``[range(0, 2), range(2, 4)]``.
        """
        found, start = [], 0
        for i, link in enumerate((*self.links, Link("", reason="the end"))):
            if link.reason is not None:
                if i > start:
                    found.append(range(start, i + 1))
                start = i + 1
        return found
