"""Laws about parameters themselves: constants, and sums that a mean removes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.candidates import Evaluation
from obstruction.conservation.law import FloatArray, Law, Term
from obstruction.conservation.live.names import owner
from obstruction.conservation.probing import Probe, Prober, gradients_at, outputs_at
from obstruction.conservation.signatures import Signatures
from obstruction.conservation.transformations import transformed
from obstruction.conservation.verification import largest_change

CONSTANT: Final = 1e-10
"""A bias is constant if its part is below this share of that of the weights of its neuron."""

CLEARLY_NOT: Final = 1e-6
"""The same share at probes with small weights, beside which rounding errors of the bias matter."""

_WIDE: Final = (6, -6, 12, -9)
"""All parameters are multiplied by two to these powers."""

_NOTICED: Final = 1e-4
"""Moving a parameter by its size changes the outputs by about its share of what flows.

A change below this part of the share is rounding.
"""

_FAINT: Final = 1e-9
"""What flows to a vector is rounding below this share of the most that flows in the model."""

_ROUNDING: Final = 1e-14
"""Rounding errors are below this share of the largest part of any neuron of the layer.

Where the neuron is saturated, they are below this share of its largest part at any probe.
"""


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
            entries |= _vanishing(name, shape[0], evaluation, output_axes)
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
            if zero.all() or not (np.stack(sizes)[:, ~zero] > 0.0).all():
                continue
            entries |= zero.reshape(
                [side.width if a in side.axes else 1 for a in range(len(shape))]
            )
    return entries


def _vanishing(
    name: str, width: int, evaluation: Evaluation, output_axes: Mapping[str, int]
) -> NDArray[np.bool_]:
    """Return which entries of a vector vanish wherever the weights of their neurons do not."""
    seen, against, vectors = _weighed(name, width, evaluation, output_axes)
    vanishes: NDArray[np.bool_] = seen.sum(axis=0) >= 2
    vanishes &= ~against
    vanishes = _filled(vanishes, against)
    if vectors and vanishes.sum() < 0.9 * seen.any(axis=0).sum():
        return np.zeros(width, dtype=bool)  # saturated channels of a normalisation
    return vanishes


def _weighed(
    name: str, width: int, evaluation: Evaluation, output_axes: Mapping[str, int]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], bool]:
    """Return what speaks about the entries of a vector.

    At which probes the neurons of the entries are active, which of the entries do not vanish at
    one of these, and whether the layer has vectors besides, but no matrix.
    """
    mine = next(s for s in evaluation.sides if s.tensor == name)
    _, own = evaluation.of(mine)
    mates = [
        side
        for side in evaluation.sides
        if side.tensor != name and side.width == width and owner(side.tensor) == owner(name)
    ]
    if mates:  # of a square weight only the rows or only the columns belong to the neurons
        by_tensor: dict[str, list[FloatArray]] = {}
        for side in mates:
            axis = output_axes.get(side.tensor)
            if axis is None or axis % len(side.shape) in side.axes:
                by_tensor.setdefault(side.tensor, []).append(evaluation.of(side)[1])
        if not by_tensor:
            nothing = np.zeros(own.shape, dtype=bool)
            return nothing, np.zeros(width, dtype=bool), False
        largest = np.max([np.min(sizes, axis=0) for sizes in by_tensor.values()], axis=0)
    else:
        largest = np.broadcast_to(own.max(axis=1, keepdims=True), own.shape)
    seen = largest > 1e-7 * largest.max(axis=1, keepdims=True)
    seen &= largest > 1e-8 * largest.max(axis=0)  # unless a softmax is saturated
    limit = np.full((len(own), 1), CONSTANT)
    limit[evaluation.first or len(own) :] = CLEARLY_NOT
    rounding = np.maximum(largest.max(axis=1, keepdims=True), largest.max(axis=0))
    most = np.maximum(limit * largest, _ROUNDING * rounding)
    against: NDArray[np.bool_] = (seen & (own > most)).any(axis=0)
    vectors = bool(mates) and all(len(side.shape) == 1 for side in mates)
    return seen, against, vectors


def lasting(prober: Prober, laws: Sequence[Law], *, points: int) -> list[Law]:
    """Return the laws of constants that hold as well where all parameters are small or large.

    An activation that is constant between two bounds, or below one, hides what is before it from
    all probes of the usual size. If it hid some parameters of a layer, none is judged. A gradient
    may be rounding, as behind a saturated softmax, unless the outputs change as well.
    """
    kept = list(laws)
    for exponent in _WIDE[:points] if kept else ():
        probe = _sized(prober, exponent)
        values = probe.values
        try:
            gradients = gradients_at(prober.live, probe)
        except Exception:  # whatever the model raises for parameters of such a size
            continue
        products = {
            name: np.abs(np.multiply(values[name], one, out=values[name]), out=values[name])
            for name, one in gradients.items()
            if one is not None
        }
        most = max((float(one.max(initial=0.0)) for one in products.values()), default=0.0)
        if np.isfinite(most):
            moving = [law for law in kept if _moves(_term(law), products, most)]
            shares = [float(products[_term(law).tensor].max()) / most for law in moving]
            moving = _noticed(prober, exponent, moving, shares)
            hidden = {owner(_term(law).tensor) for law in moving}
            kept = [law for law in kept if owner(_term(law).tensor) not in hidden]
    return kept


def _sized(prober: Prober, exponent: int) -> Probe:
    """Return a probe with all parameters multiplied by a power of two."""
    probe, factor = prober.probe(0), 2.0**exponent
    return replace(probe, values={name: factor * value for name, value in probe.values.items()})


def _noticed(
    prober: Prober, exponent: int, laws: Sequence[Law], shares: Sequence[float]
) -> list[Law]:
    """Return the laws whose translations change the outputs, as their share of gradients says."""
    if not laws:
        return []
    probe = _sized(prober, exponent)
    before = outputs_at(prober.live, probe)
    found = []
    for law, share in zip(laws, shares, strict=True):
        values = transformed(probe.values, [law], np.random.default_rng(0))
        after = outputs_at(prober.live, replace(probe, values=values))
        if largest_change(before, after) > _NOTICED * share:
            found.append(law)
    return found


def _term(law: Law) -> Term:
    return law.terms[0]


def _moves(term: Term, products: Mapping[str, FloatArray], most: float) -> bool:
    """Return whether gradients of entries are seen, beside those of the weights of its neurons."""
    if term.tensor not in products:
        return False
    own = products[term.tensor]
    least = np.full(own.shape, _FAINT * most if own.ndim == 1 else 0.0)
    if own.ndim == 1:
        for name, other in products.items():
            if name != term.tensor and owner(name) == owner(term.tensor):
                for axis in range(other.ndim):
                    if other.shape[axis] == own.size:
                        rest = tuple(a for a in range(other.ndim) if a != axis)
                        np.maximum(least, CLEARLY_NOT * other.sum(axis=rest), out=least)
    return bool(((own > least) & (term.labels >= 0)).any())


def entries_of(laws: Iterable[Law]) -> dict[str, NDArray[np.bool_]]:
    """Return which entries of parameters are constant by some laws; see `constants`."""
    return {term.tensor: term.labels >= 0 for law in laws for term in law.terms}


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
