"""The signatures of sides of parameters: what gradients at probes say about them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from obstruction.conservation.law import FloatArray
from obstruction.conservation.live.base import LiveModel, Values
from obstruction.conservation.probing import Probe, gradients_at
from obstruction.conservation.sides import Side

SHIFTED: Final = 1e-9
"""Gradients add up to zero if their sum is below this share of the sum of absolute values."""

_SATURATED: Final = 1e-3

_FEW: Final = 16
"""At least so many slices of every axis are looked at first."""

_CHUNK: Final = 1 << 16
"""About so many products are in memory at a time, which the caches of a processor hold."""


@dataclass(eq=False)
class Signatures:
    """What gradients at all probes say about the sides of parameters.

    Attributes
    ----------
    sums, sizes : dict of Side to list of ndarray, shape (width,)
        For every probe the sums of ``w * dL/dw`` over the groups of a side, and those of their
        absolute values.
    reached : dict of str to bool
        Whether the gradient of a parameter was anything but zero at some probe.
    connected : dict of str to bool
        Whether the outputs depend on a parameter at all, in the framework's graph.
    shifts : dict of (str, int, int) to list of (float, float)
        For axes of parameters along which gradients may add up to zero, in so many consecutive
        groups of equal size, the largest sum of absolute values at every probe, and the largest
        sum relative to it.
    refuted : set of (str, int, int)
        The axes and numbers of groups for which gradients do not add up to zero.
    probes : int
        The number of probes.
    """

    sums: dict[Side, list[FloatArray]] = field(default_factory=dict)
    sizes: dict[Side, list[FloatArray]] = field(default_factory=dict)
    reached: dict[str, bool] = field(default_factory=dict)
    connected: dict[str, bool] = field(default_factory=dict)
    shifts: dict[tuple[str, int, int], list[tuple[float, float]]] = field(default_factory=dict)
    refuted: set[tuple[str, int, int]] = field(default_factory=set)
    probes: int = 0

    @property
    def unshifted(self) -> dict[tuple[str, int], tuple[int, float]]:
        """The axes along which gradients add up to zero.

        For each there are the largest number of groups and the largest relative sum. Probes at
        which hardly anything flows, as when a softmax is saturated, are left out.
        """
        found: dict[tuple[str, int], tuple[int, float]] = {}
        for (name, axis, groups), parts in sorted(self.shifts.items()):
            most = max(size for size, _ in parts)
            worst = max(ratio for size, ratio in parts if size > _SATURATED * most)
            if worst <= SHIFTED:
                found[name, axis] = groups, worst
        return found

    def stacked(self, side: Side) -> tuple[FloatArray, FloatArray]:
        """Return the sums and sizes of a side, shape ``(probes, width)``."""
        return np.stack(self.sums[side]), np.stack(self.sizes[side])


def signatures(live: LiveModel, sides: Iterable[Side], probes: Iterable[Probe]) -> Signatures:
    """Return the signatures of sides at probes."""
    found, sides = Signatures(), list(sides)
    for probe in probes:
        add_gradients(found, sides, probe.values, gradients_at(live, probe))
    return found


def add_gradients(
    found: Signatures,
    sides: Iterable[Side],
    values: Values,
    gradients: Mapping[str, FloatArray | None],
    *,
    shifts: bool = False,
) -> None:
    """Add to signatures what the gradients at one more probe say about sides.

    Parameters
    ----------
    found : Signatures
    sides : iterable of Side
    values, gradients : mapping from str to ndarray
        The parameters and their gradients at the probe.
    shifts : bool
        Whether to look for axes along which gradients add up to zero.
    """
    by_tensor: dict[str, list[Side]] = {}
    for side in sides:
        by_tensor.setdefault(side.tensor, []).append(side)
    found.probes += 1
    for name, value in values.items():
        if value.size == 0:
            continue
        gradient = gradients[name]
        found.connected[name] = found.connected.get(name, False) or gradient is not None
        gradient = np.zeros_like(value) if gradient is None else gradient
        found.reached[name] = found.reached.get(name, False) or bool(gradient.any())
        if shifts:
            _add_shifts(found, name, gradient)
        if name not in by_tensor:
            continue
        both = _sums(by_tensor[name], value, gradient)
        for side, (total, size) in zip(by_tensor[name], both, strict=True):
            found.sums.setdefault(side, []).append(total)
            found.sizes.setdefault(side, []).append(size)


def _sums(
    sides: Sequence[Side], value: FloatArray, gradient: FloatArray
) -> list[tuple[FloatArray, FloatArray]]:
    """Return for each side the sums of products over its groups, and of their absolute values.

    The products are never held as a whole, because memory is slower than arithmetic.
    """
    used = 1 + max(max(side.axes) for side in sides)
    rest = math.prod(value.shape[used:])
    shape = (*value.shape[:used], rest)
    value, gradient = value.reshape(shape), gradient.reshape(shape)
    ones = np.ones(rest)
    others = [tuple(a for a in range(used) if a not in side.axes) for side in sides]
    found = [(np.zeros(side.kept), np.zeros(side.kept)) for side in sides]
    rows = max(1, _CHUNK * value.shape[0] // max(value.size, 1))
    for start in range(0, value.shape[0], rows):
        piece = slice(start, start + rows)
        product = value[piece] * gradient[piece]
        for kind in (0, 1):
            if kind == 1:
                np.abs(product, out=product)
            inner = product @ ones if rest > 1 else product[..., 0]
            for side, axes, totals in zip(sides, others, found, strict=True):
                part = inner.sum(axis=axes) if axes else inner
                if 0 in side.axes:
                    totals[kind][piece] = part
                else:
                    totals[kind][...] += part
    return [
        (side.grouped(total), side.grouped(size))
        for side, (total, size) in zip(sides, found, strict=True)
    ]


def _add_shifts(found: Signatures, name: str, gradient: FloatArray) -> None:
    for axis, length in enumerate(gradient.shape):
        whole = name, axis, 1
        if length < 2 or whole in found.refuted:
            continue
        if not found.shifts.get(whole) and _clearly_not(gradient, axis):
            found.refuted.add(whole)
            continue
        for groups in range(1, length // 2 + 1):
            if length % groups == 0 and (name, axis, groups) not in found.refuted:
                _add_shift(found, (name, axis, groups), gradient)
            if whole in found.refuted:
                break


def _add_shift(found: Signatures, key: tuple[str, int, int], gradient: FloatArray) -> None:
    _, axis, groups = key
    shape = list(gradient.shape)
    shape[axis : axis + 1] = [groups, shape[axis] // groups]
    divided = gradient.reshape(shape)
    total, size = np.abs(divided.sum(axis=axis + 1)), np.abs(divided).sum(axis=axis + 1)
    largest = float(size.max())
    if largest == 0.0:
        return
    ratio = float((total / np.maximum(size, 1e-6 * largest)).max())
    found.shifts.setdefault(key, []).append((largest, ratio))
    most = max(size for size, _ in found.shifts[key])
    if ratio > SHIFTED and largest > _SATURATED * most:
        found.refuted.add(key)
        del found.shifts[key]


def _clearly_not(gradient: FloatArray, axis: int) -> bool:
    """Return whether a small part of a large gradient shows that it does not add up to zero."""
    steps = [1 if a == axis else max(1, n // _FEW) for a, n in enumerate(gradient.shape)]
    part = gradient[tuple(slice(None, None, step) for step in steps)]
    if 16 * part.size > gradient.size:
        return False
    size = np.abs(part).sum(axis=axis)
    flows = size > 0.0  # not behind dead neurons
    return bool(flows.any() and (np.abs(part.sum(axis=axis)) > 1e-3 * size)[flows].mean() > 0.5)
