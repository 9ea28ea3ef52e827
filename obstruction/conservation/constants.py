"""Laws about parameters themselves: constants, and sums that a mean removes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.candidates import Evaluation
from obstruction.conservation.law import FloatArray, Law, Term
from obstruction.conservation.live.names import owner
from obstruction.conservation.signatures import Signatures

CONSTANT: Final = 1e-10
"""A bias is constant if its part is below this share of that of the weights of its neuron."""

_ROUNDING: Final = 1e-14
"""Rounding errors are below this share of the largest part of any neuron of the layer."""


def constant_entries(
    evaluation: Evaluation,
    observed: Signatures,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    output_axes: Mapping[str, int],
    lookups: bool,
) -> dict[str, NDArray[np.bool_]]:
    """Return which entries of parameters the outputs do not depend on.

    A parameter that the outputs never use is constant as a whole. An entry of a vector, such as a
    bias, is constant if its gradient vanishes while the weights of the same neuron have one. So
    are all weights of an output of a layer (`output_axes`) that is used nowhere. What the inputs
    merely did not reach is not constant: a column that reads an input which is always zero, the row
    of a word that did not occur, or of a place behind the end of a sequence. If the model may look
    up rows (`lookups`), slices without a gradient say nothing.
    """
    found = {}
    for name, shape in shapes.items():
        if not observed.connected[name]:
            found[name] = np.ones(shape, dtype=bool)
            continue
        entries = np.zeros(shape, dtype=bool)
        if len(shape) == 1:
            entries |= _vanishing(name, shape[0], evaluation, observed, output_axes)
        if not lookups:
            entries |= _unreached(name, shape, observed, _output_axis(name, shapes, output_axes))
        if entries.any():
            found[name] = entries
    return found


def _output_axis(
    name: str, shapes: Mapping[str, tuple[int, ...]], output_axes: Mapping[str, int]
) -> int | None:
    """Return the axis of a parameter along which the outputs of a known layer lie, or None."""
    if name in output_axes:
        return output_axes[name] % len(shapes[name])
    for other, axis in output_axes.items():
        known = other in shapes and owner(other) == owner(name)
        if known and shapes[name] == (shapes[other][axis],):
            return 0
    return None


def _unreached(
    name: str, shape: tuple[int, ...], observed: Signatures, axis: int | None
) -> NDArray[np.bool_]:
    """Return the outputs of a layer for which a gradient is exactly zero at all probes.

    All others must have a gradient at every probe: neurons can also be dead or saturated. A
    parameter without any gradient is never used.
    """
    if not observed.reached[name]:
        return np.ones(shape, dtype=bool)
    entries = np.zeros(shape, dtype=bool)
    for side, sizes in observed.sizes.items():
        if side.tensor == name and side.axes == (axis,):
            zero = ~np.any(sizes, axis=0)
            if not (np.stack(sizes)[:, ~zero] > 0.0).all():
                continue
            entries |= zero.reshape(
                [side.width if a in side.axes else 1 for a in range(len(shape))]
            )
    return entries


def _vanishing(
    name: str,
    width: int,
    evaluation: Evaluation,
    observed: Signatures,
    output_axes: Mapping[str, int],
) -> NDArray[np.bool_]:
    mine = next(s for s in observed.sums if s.tensor == name)
    _, own = evaluation.of(mine)
    mates = [
        side
        for side in observed.sums
        if side.tensor != name and side.width == width and owner(side.tensor) == owner(name)
    ]
    if mates:  # of a square weight only the rows or only the columns belong to the neurons
        by_tensor: dict[str, list[FloatArray]] = {}
        for side in mates:
            axis = output_axes.get(side.tensor)
            if axis is None or axis % len(side.shape) in side.axes:
                by_tensor.setdefault(side.tensor, []).append(evaluation.of(side)[1])
        if not by_tensor:
            return np.zeros(width, dtype=bool)
        largest = np.max([np.min(sizes, axis=0) for sizes in by_tensor.values()], axis=0)
    else:
        largest = np.broadcast_to(own.max(axis=1, keepdims=True), own.shape)
    seen = largest > 1e-7 * largest.max(axis=1, keepdims=True)
    seen &= largest > 1e-8 * largest.max(axis=0)  # unless a softmax is saturated
    limit = np.maximum(CONSTANT * largest, _ROUNDING * largest.max(axis=1, keepdims=True))
    vanishes: NDArray[np.bool_] = ((own <= limit) | ~seen).all(axis=0)
    vanishes &= seen.sum(axis=0) >= 2
    against = (seen & (own > limit)).any(axis=0)
    vanishes = _filled(vanishes, against)
    vectors = mates and all(len(side.shape) == 1 for side in mates)
    if vectors and vanishes.sum() < 0.9 * seen.any(axis=0).sum():
        return np.zeros(width, dtype=bool)  # saturated channels of a normalisation
    return vanishes


def _filled(vanishes: NDArray[np.bool_], against: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask with regular blocks filled in which three quarters vanish.

    Nothing may speak against the others. They were not seen often enough, as entries of the biases
    of a head are when its softmax is saturated.
    """
    width = vanishes.size
    filled = vanishes.copy()
    for block in range(1, width + 1):
        if width % block == 0 and (block >= 4 or block == width):
            parts, others = vanishes.reshape(-1, block), against.reshape(-1, block)
            whole = (4 * parts.sum(axis=1) >= 3 * block) & ~others.any(axis=1)
            filled |= np.repeat(whole, block)
    return filled


def constants(entries: Mapping[str, NDArray[np.bool_]]) -> list[Law]:
    """Return the laws of constant entries, one for each parameter."""
    laws = []
    for name, mask in entries.items():
        count = int(mask.sum())
        labels = np.where(mask, np.cumsum(mask).reshape(mask.shape) - 1, -1)
        term = Term(name, labels.astype(np.int64), 1)
        laws.append(Law("constant", (term,), count, np.zeros(count), 0.0))
    return laws


def shifts(
    observed: Signatures,
    shapes: Mapping[str, tuple[int, ...]],
    constant: Mapping[str, NDArray[np.bool_]],
) -> list[Law]:
    """Return the laws of sums along an axis, along which gradients add up to zero."""
    laws = []
    for (name, axis), (groups, violation) in observed.unshifted.items():
        if name in constant:
            continue
        shape = list(shapes[name])
        length, shape[axis] = shape[axis], groups
        count = int(np.prod(shape, dtype=np.int64))
        labels = np.arange(count, dtype=np.int64).reshape(shape)
        if groups > 1:
            labels = labels.repeat(length // groups, axis=axis)
        term = Term(name, labels, 1)
        laws.append(Law("shift", (term,), count, np.full(count, violation), 0.0))
    return laws
