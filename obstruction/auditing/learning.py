"""Starts from which a chain of layers can never learn anything.

Let some weights and biases of a chain be zero. Gradients keep a weight at zero as long as the
neuron before it always returns zero, or no gradient arrives at the neuron behind it. A ReLU that
reads nothing but its bias, which is not positive, does both. So the activity of neurons is followed
forwards and gradients are followed backwards, over all weights that are not zero or may become
nonzero, until nothing changes any more. What is zero then stays zero for every loss and all data,
as the set of parameters with these zeros is closed under gradient flow. If no path of other weights
leads from an input to an output, the outputs never depend on the inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.models.model import Layer, Model
from obstruction.models.norms import NeuronNorms

Flags: TypeAlias = NDArray[np.bool_]

_BLOCK: Final = 2**20
"""The number of weights that are compared with zero at a time."""


def stuck_segments(model: Model, norms: Sequence[NeuronNorms | None]) -> tuple[range, ...]:
    """Return the runs of audited layers whose outputs never depend on their inputs.

    Some neuron of such a run has no incoming weights but its bias, so that others need no search.
    """
    found = []
    for segment in model.segments():
        if any(_reads_nothing(model.layers[i], norms[i]) for i in list(segment)[:-1]):
            kinds = [model.links[i].activation for i in list(segment)[:-1]]
            if not can_learn([model.layers[i] for i in segment], kinds):
                found.append(segment)
    return tuple(found)


def _reads_nothing(layer: Layer, norms: NeuronNorms | None) -> bool:
    """Return whether some neuron after a layer may have no incoming weights but its bias."""
    bias = 0.0 if layer.bias is None else np.abs(layer.bias.astype(np.float64))
    return norms is not None and bool((norms.incoming <= bias).any())


def can_learn(layers: Sequence[Layer], activations: Sequence[str]) -> bool:
    """Return whether gradients may make the outputs of a chain depend on its inputs.

    Parameters
    ----------
    layers : sequence of Layer
        Two layers or more in forward order.
    activations : sequence of str
        The canonical names of the activations between them. The derivative of ``"relu"`` at zero is
        zero, as in all frameworks; those of other homogeneous activations are not.

    Returns
    -------
    bool
        False is certain: the chain is constant and stays so. True says that zeros do not forbid it.

    Examples
    --------
    >>> from obstruction.models.contents import Tensor
    >>> def layer(matrix):
    ...     return Layer("fc", Tensor("w", np.array(matrix), "float64"), None, "out_in")
    >>> zeros, ones = layer([[0.0], [0.0]]), layer([[1.0, 1.0]])
    >>> can_learn([zeros, ones], ["relu"]), can_learn([zeros, ones], ["leaky_relu"])
    (False, True)
    """
    depth = len(layers)
    active: list[Flags] = [np.ones(layers[0].inputs, np.bool_)]
    active += [np.zeros(layer.outputs, np.bool_) for layer in layers]
    reached: list[Flags] = [np.zeros(layer.outputs, np.bool_) for layer in layers]
    biased: list[Flags] = [
        np.zeros(layer.outputs, np.bool_)
        if layer.bias is None
        else (layer.bias > 0.0 if kind == "relu" else layer.bias != 0.0)
        for layer, kind in zip(layers, (*activations, "linear"), strict=True)
    ]
    before = -1
    while (found := sum(int(flags.sum()) for flags in (*active, *reached))) != before:
        before = found
        for i, layer in enumerate(layers):
            learned = reached[i] if active[i].any() or layer.bias is not None else False
            active[i + 1] = _rows(layer.weight, active[i]) | biased[i] | learned
        reached[-1][:] = True
        for i in range(depth - 2, -1, -1):
            into = _rows(layers[i + 1].weight.T, reached[i + 1])
            into |= active[i + 1] & reached[i + 1].any()
            reached[i] = into & active[i + 1] if activations[i] == "relu" else into
    path = active[0]
    for i, layer in enumerate(layers):
        path = _rows(layer.weight, path) | (reached[i] & bool((path & active[i]).any()))
    return bool(path.any())


def _rows(matrix: NDArray[Any], columns: Flags) -> Flags:
    """Return which rows of a matrix have a number that is not zero in some columns."""
    found = np.zeros(matrix.shape[0], np.bool_)
    step = max(1, _BLOCK // max(1, matrix.shape[1]))
    for start in range(0, matrix.shape[0], step):
        block = matrix[start : start + step]
        found[start : start + step] = ((block != 0.0) & columns).any(axis=1)
    return found
