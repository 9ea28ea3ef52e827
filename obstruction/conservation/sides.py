"""The sides of parameters: groups of scalars that a law may scale together.

A side divides the scalars of one parameter into groups with the labels 0, 1, ... Most sides are
the slices along one axis: the rows of a weight matrix write the channels of its outputs, its
columns read those of its inputs. Other sides are the slices along two axes, such as the heads of
an attention layer, and the inputs of a grouped convolution.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from obstruction.conservation.law import FloatArray, Labels

LARGEST: Final = 1 << 17
"""The largest number of labels of a side of more than one axis."""


@dataclass(frozen=True, eq=False)
class Side:
    """A division of the scalars of one parameter into labelled groups.

    Attributes
    ----------
    tensor : str
        The name of the parameter.
    shape : tuple of int
        Its shape.
    axes : tuple of int
        The axes along which the groups lie; groups contain everything along the other axes.
    index : ndarray of int64 or None
        The label of each combination of places along `axes`; None if all are different and in
        order. -1 stands for no label.
    width : int
        The number of labels.
    base, place : Side and ndarray of int64, or None
        For a side made by `relabelled`, the side with the first labels, and the label here of
        each label there.
    """

    tensor: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    width: int
    index: Labels | None = None
    base: Side | None = None
    place: Labels | None = None

    @property
    def key(self) -> tuple[str, tuple[int, ...], bytes]:
        """A value that two sides share if and only if they are the same."""
        return self.tensor, self.axes, b"" if self.index is None else self.index.tobytes()

    @property
    def kept(self) -> tuple[int, ...]:
        """The lengths of the axes along which the groups lie."""
        return tuple(self.shape[axis] for axis in self.axes)

    @cached_property
    def flat(self) -> Labels:
        """The label of each combination of places along `axes`, as one axis."""
        if self.index is None:
            return np.arange(math.prod(self.kept), dtype=np.int64)
        return self.index.reshape(-1)

    @property
    def labels(self) -> Labels:
        """The label of each scalar, in a shape that broadcasts to that of the parameter."""
        shape = [self.shape[a] if a in self.axes else 1 for a in range(len(self.shape))]
        return self.flat.reshape(shape)

    @property
    def scalars(self) -> int:
        """The number of scalars in a group, if all have as many."""
        return math.prod(self.shape) // max(self.width, 1)

    def grouped(self, part: FloatArray) -> FloatArray:
        """Return the sums over every group, given those over all other axes, shape ``kept``."""
        if self.index is None:
            return part.reshape(-1)
        return grouped(part.reshape(-1), self.flat, self.width)

    def relabelled(self, index: Labels, width: int) -> Side:
        """Return a side whose label is a function of that of this one; -1 removes a group."""
        place = np.arange(self.width, dtype=np.int64) if self.place is None else self.place
        chosen = _composed(index, place)
        base = self.base or self
        labels = chosen if base.index is None else _composed(chosen, base.flat)
        labels = labels.reshape(self.kept)
        return Side(self.tensor, self.shape, self.axes, width, labels, base, chosen)


def _composed(outer: Labels, inner: Labels) -> Labels:
    return np.append(outer, -1)[inner]


def grouped(values: FloatArray, labels: Labels, width: int) -> FloatArray:
    """Return the sums of values, along the last axis, over equal labels; -1 is left out."""
    used = labels >= 0
    rows = values.reshape(-1, values.shape[-1])
    if not used.all():
        rows, labels = rows[:, used], labels[used]
    sums = [np.bincount(labels, weights=row, minlength=width) for row in rows]
    return np.array(sums, dtype=np.float64).reshape(*values.shape[:-1], width)


def sides_of(
    shapes: Mapping[str, tuple[int, ...]],
    output_axes: Mapping[str, int],
    groups: Mapping[str, int],
) -> list[Side]:
    """Return the sides of parameters of which the laws of most layers are made.

    `output_axes` and `groups` are those of `obstruction.conservation.live.base.LiveModel`. They
    only leave out what is no channel of a known convolution.
    """
    found = []
    for name, shape in shapes.items():
        axes: Iterable[int] = range(len(shape))
        if len(shape) >= 3 and name in output_axes:
            axes = (0, 1) if output_axes[name] >= 0 else (len(shape) - 2, len(shape) - 1)
        found += [
            Side(name, shape, (axis,), shape[axis])
            for axis in axes
            if shape[axis] > 1 or len(shape) < 3
        ]
    widths = {side.width for side in found}
    for name, shape in shapes.items():
        if len(shape) >= 3:
            if name not in output_axes:
                found += _pairs(name, shape)
            if name in groups:
                wanted = {groups[name] * shape[1], groups[name] * shape[-2]}
                found += _grouped_inputs(name, shape, wanted, groups[name])
            else:
                found += _grouped_inputs(name, shape, widths)
    kept = {side.kept for side in found if len(side.axes) == 2 and side.index is None}
    for name, shape in shapes.items():
        if len(shape) == 2 and min(shape) > 1:
            width = math.prod(shape)
            if shape in kept or (width in widths and width <= LARGEST):
                found.append(Side(name, shape, (0, 1), width))
    return list({side.key: side for side in found}.values())


def _pairs(name: str, shape: tuple[int, ...]) -> Iterable[Side]:
    """Yield the sides along two axes of a parameter with three."""
    if len(shape) == 3:
        for axes in ((0, 1), (1, 2), (0, 2)):
            lengths = [shape[axis] for axis in axes]
            if min(lengths) > 1 and math.prod(lengths) <= LARGEST:
                yield Side(name, shape, axes, math.prod(lengths))


def _grouped_inputs(
    name: str, shape: tuple[int, ...], widths: set[int], known: int | None = None
) -> Iterable[Side]:
    """Yield the input channels of a weight that may belong to a grouped convolution.

    With ``g`` groups, a weight of shape ``(out, in/g, ...)`` reads channel ``i`` of the group of
    its output. A weight with channels last has shape ``(..., in/g, out)``, and that of a
    transposed convolution ``(in, out/g, ...)``.
    """
    for long, short in ((0, 1), (len(shape) - 1, len(shape) - 2)):
        out, inputs = shape[long], shape[short]
        for width in sorted(widths):
            groups, rest = divmod(width, inputs)
            if rest or groups < 2 or out % groups or (inputs == 1 and groups == out):
                continue
            if known is not None and groups != known:
                continue
            group = np.arange(out, dtype=np.int64) // (out // groups)
            index = group[:, None] * inputs + np.arange(inputs)
            axes = (long, short) if long < short else (short, long)
            places = index if long < short else index.T
            plain = np.array_equal(places.reshape(-1), np.arange(places.size))
            yield Side(name, shape, axes, width, None if plain else places)


def blocks(width: int, narrow: int) -> dict[tuple[int, int], Labels]:
    """Return the regular ways to divide ``width`` labels into ``narrow`` groups of equal size.

    The labels are laid out as ``(outer, repeated, inner)`` with ``outer * inner = narrow``, and
    the places along the middle axis belong together. ``inner = 1`` gives contiguous blocks, as for
    maps that are flattened channels first, and ``outer = 1`` strides, as for channels last. The
    others are groups of heads, and the pairs of rotary positions.
    """
    repeated = width // narrow
    found = {}
    for outer in range(1, narrow + 1):
        if narrow % outer == 0:
            inner = narrow // outer
            index = np.arange(narrow, dtype=np.int64).reshape(outer, 1, inner)
            found[outer, inner] = np.broadcast_to(index, (outer, repeated, inner)).reshape(-1)
    return found
