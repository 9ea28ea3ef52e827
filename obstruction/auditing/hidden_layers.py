"""Hidden layers as the audit judged them, and their rows in tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

STATUSES: Final = ("free", "pathological", "boundary", "dead")
"""What a neuron can be, in the order of the codes in `HiddenLayer.status`."""

NEURON_COLUMNS: Final = (
    "layer",
    "index",
    "in_norm",
    "out_norm",
    "balance",
    "margin",
    "sign",
    "status",
    "frozen",
    "bottleneck",
    "scale",
)

LAYER_COLUMNS: Final = (
    "layer",
    "following",
    "inputs",
    "neurons",
    "outputs",
    "activation",
    "bias",
    "audited",
    "pathological",
    "boundary",
    "dead",
    "frozen_inputs",
    "smallest_margin",
    "reason",
)


@dataclass(frozen=True, eq=False)
class HiddenLayer:
    """The neurons between a layer and the one that follows. Arrays have shape ``(neurons,)``.

    Attributes
    ----------
    name, following : str
        The layer whose outputs the neurons are, and the one that reads them.
    inputs, neurons, outputs : int
        Weights into each neuron, neurons, weights out of each neuron.
    activation : str
        Canonical name, "" if unknown.
    bias : bool
        Whether the neurons have biases.
    reason : str or None
        Why the neurons were not audited; then the arrays are empty.
    in_norm, out_norm : ndarray of float64
        Norms of incoming weights (with bias) and outgoing weights.
    sign : ndarray of int8
        Sign of the one outgoing weight; 0 if it is zero or there are several.
    status : ndarray of int8
        Codes into `STATUSES`.
    out_frozen, in_frozen : ndarray of bool
        Whether the neuron's one outgoing (incoming) weight can never change its sign.
    bottleneck : ndarray of float64
        The balance that decides about the outgoing weight: the neuron's own, or that of the set of
        neurons behind it if the layer has one neuron; nan with several outgoing weights.
    scale : ndarray of float64
        The factor on incoming weights (and its inverse on outgoing ones) that would repair a
        pathological or boundary neuron by itself; 1 if none is needed, nan if none helps: for dead
        neurons, and in a layer of one neuron that is frozen by those behind it.
    """

    name: str
    following: str
    inputs: int
    neurons: int
    outputs: int
    activation: str
    bias: bool
    reason: str | None
    in_norm: FloatArray
    out_norm: FloatArray
    sign: NDArray[np.int8]
    status: NDArray[np.int8]
    out_frozen: NDArray[np.bool_]
    in_frozen: NDArray[np.bool_]
    bottleneck: FloatArray
    scale: FloatArray

    @property
    def audited(self) -> bool:
        """Whether the neurons keep balances and were judged."""
        return self.reason is None

    @property
    def balance(self) -> FloatArray:
        """``in_norm² − out_norm²``, computed without cancellation; infinite if it overflows."""
        with np.errstate(over="ignore"):
            return (self.in_norm - self.out_norm) * (self.in_norm + self.out_norm)

    @property
    def margin(self) -> FloatArray:
        """``in_norm / out_norm − 1``: negative if the balance is, infinite without output."""
        with np.errstate(divide="ignore", invalid="ignore"):
            margin = self.in_norm / self.out_norm - 1.0
        return np.where((self.in_norm == 0.0) & (self.out_norm == 0.0), np.nan, margin)

    def count(self, status: str) -> int:
        """Return how many neurons have a status."""
        return int(np.count_nonzero(self.status == STATUSES.index(status)))


FROZEN: Final = ("", "out", "in", "both")
"""Which of a neuron's weights are frozen: none, its only outgoing one, its only incoming one."""


def neuron_columns(layer: HiddenLayer) -> dict[str, NDArray[Any]]:
    """Return the columns `NEURON_COLUMNS` of the neurons of an audited layer."""
    frozen = layer.out_frozen + 2 * layer.in_frozen.astype(np.int8)
    return {
        "layer": np.full(layer.neurons, layer.name, dtype=object),
        "index": np.arange(layer.neurons),
        "in_norm": layer.in_norm,
        "out_norm": layer.out_norm,
        "balance": layer.balance,
        "margin": layer.margin,
        "sign": layer.sign,
        "status": np.array(STATUSES, dtype=object)[layer.status],
        "frozen": np.array(FROZEN, dtype=object)[frozen],
        "bottleneck": layer.bottleneck,
        "scale": layer.scale,
    }


def layer_row(layer: HiddenLayer) -> dict[str, Any]:
    """Return the entries `LAYER_COLUMNS` of a layer; None where it was not audited."""
    row: dict[str, Any] = {
        "layer": layer.name,
        "following": layer.following,
        "inputs": layer.inputs,
        "neurons": layer.neurons,
        "outputs": layer.outputs,
        "activation": layer.activation,
        "bias": layer.bias,
        "audited": layer.audited,
    }
    if layer.audited:
        smallest = float(np.nanmin(layer.margin, initial=math.inf))
        row |= {status: layer.count(status) for status in STATUSES[1:]}
        row |= {"frozen_inputs": int(layer.in_frozen.sum()), "smallest_margin": smallest}
    else:
        row |= dict.fromkeys((*STATUSES[1:], "frozen_inputs", "smallest_margin"))
    return {**row, "reason": layer.reason or ""}
