"""The hidden layers of an audited network, and their rows in tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

STATUSES: Final = ("free", "pathological", "boundary", "dead")
"""The possible status of a neuron, in the order of the codes in `HiddenLayer.status`."""

_REALS, _CODES, _FLAGS = (
    partial[NDArray[Any]](np.zeros, 0, dtype) for dtype in (np.float64, np.int8, np.bool_)
)


@dataclass(frozen=True, eq=False)
class HiddenLayer:
    """The neurons between a layer and the next one.

    Arrays have shape ``(neurons,)``, or ``(0,)`` if the neurons were not audited.

    Attributes
    ----------
    name, following : str
        The layer whose outputs the neurons are, and the next layer, which reads them.
    inputs, neurons, outputs : int
        The numbers of weights into each neuron, of neurons, and of weights out of each neuron.
    activation : str
        Its canonical name, "" if unknown.
    bias : bool
        Whether the neurons have biases.
    reason : str or None
        Why the neurons were not audited; None if they were.
    in_norm, out_norm : ndarray of float64
        The norms of the incoming weights (with bias) and of the outgoing weights.
    sign : ndarray of int8
        The sign of the only outgoing weight; 0 if it is zero or there are several.
    status : ndarray of int8
        Codes into `STATUSES`.
    out_frozen, in_frozen : ndarray of bool
        Whether the neuron's only outgoing (incoming) weight can never change its sign.
    bottleneck : ndarray of float64
        The balance that decides whether the outgoing weight is frozen: that of the neuron or, if
        it is alone in its layer, of a set of neurons that may lie in layers before it; nan with
        several outgoing weights.
    scale : ndarray of float64
        The factor that repairs a pathological or boundary neuron if it multiplies the incoming
        weights and divides the outgoing ones. It is 1 if none is needed. It is nan if none helps:
        for dead neurons, and for a neuron that is alone in its layer and frozen by others.
    """

    name: str
    following: str
    inputs: int
    neurons: int
    outputs: int
    activation: str
    bias: bool
    reason: str | None
    in_norm: FloatArray = field(default_factory=_REALS)
    out_norm: FloatArray = field(default_factory=_REALS)
    sign: NDArray[np.int8] = field(default_factory=_CODES)
    status: NDArray[np.int8] = field(default_factory=_CODES)
    out_frozen: NDArray[np.bool_] = field(default_factory=_FLAGS)
    in_frozen: NDArray[np.bool_] = field(default_factory=_FLAGS)
    bottleneck: FloatArray = field(default_factory=_REALS)
    scale: FloatArray = field(default_factory=_REALS)

    @property
    def audited(self) -> bool:
        """Whether the neurons were audited."""
        return self.reason is None

    @property
    def balance(self) -> FloatArray:
        """``in_norm² − out_norm²``, computed without cancellation; infinite if it overflows."""
        with np.errstate(over="ignore"):
            return (self.in_norm - self.out_norm) * (self.in_norm + self.out_norm)

    @property
    def margin(self) -> FloatArray:
        """``in_norm / out_norm − 1``; inf if only ``out_norm`` is 0, nan if both norms are."""
        with np.errstate(divide="ignore", invalid="ignore"):
            margin = self.in_norm / self.out_norm - 1.0
        return np.where((self.in_norm == 0.0) & (self.out_norm == 0.0), np.nan, margin)

    def count(self, status: str) -> int:
        """Return the number of neurons that have a status."""
        return int(np.count_nonzero(self.status == STATUSES.index(status)))


FROZEN: Final = ("", "out", "in", "both")
"""The frozen weights of a neuron: none, its only outgoing one, its only incoming one, or both."""


def neuron_columns(layer: HiddenLayer) -> dict[str, NDArray[Any]]:
    """Return the columns of `Findings.neurons` for the neurons of an audited layer."""
    names = ("in_norm", "out_norm", "balance", "margin", "sign")
    frozen = layer.out_frozen + 2 * layer.in_frozen.astype(np.int8)
    return {
        "layer": np.full(layer.neurons, layer.name, dtype=object),
        "index": np.arange(layer.neurons),
        **{name: getattr(layer, name) for name in names},
        "status": np.array(STATUSES, dtype=object)[layer.status],
        "frozen": np.array(FROZEN, dtype=object)[frozen],
        "bottleneck": layer.bottleneck,
        "scale": layer.scale,
    }


def layer_row(layer: HiddenLayer) -> dict[str, Any]:
    """Return the row of a layer in `Findings.layers`; without an audit, some values are None."""
    names = ("following", "inputs", "neurons", "outputs", "activation", "bias", "audited")
    row = {"layer": layer.name, **{name: getattr(layer, name) for name in names}}
    if layer.audited:
        smallest = float(np.nanmin(layer.margin, initial=math.inf))
        row |= {status: layer.count(status) for status in STATUSES[1:]}
        row |= {"frozen_inputs": int(layer.in_frozen.sum()), "smallest_margin": smallest}
    else:
        row |= dict.fromkeys((*STATUSES[1:], "frozen_inputs", "smallest_margin"))
    return {**row, "reason": layer.reason or ""}
