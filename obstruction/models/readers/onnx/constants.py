"""Values of an ONNX graph that depend on no input, and attributes of its nodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from obstruction.models.contents import FLOATS, Tensor


@dataclass(frozen=True)
class Constant:
    """A value that does not depend on an input of the model.

    It is a stored tensor, perhaps with its axes in another order. Axis ``i`` is the stored axis
    ``axes[i]``, or a new axis of length 1 if ``axes[i]`` is None. Without a tensor, `reason` says
    why the value cannot be weights. A tensor that is `rounded` to integers can be none until it is
    turned back into floating-point numbers.
    """

    tensor: Tensor | None = None
    axes: tuple[int | None, ...] = ()
    reason: str = "the weights are computed in the graph"
    rounded: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        assert self.tensor is not None
        return tuple(1 if axis is None else self.tensor.shape[axis] for axis in self.axes)

    def reshaped(self, shape: tuple[int, ...]) -> Constant:
        """Return the constant with axes of length 1 moved, else one that cannot be weights."""
        left = [axis for axis, n in zip(self.axes, self.shape, strict=True) if n != 1]
        if [n for n in self.shape if n != 1] != [n for n in shape if n != 1]:
            return Constant(reason="the weights change their shape in the graph")
        kept = iter(left)
        return replace(self, axes=tuple(None if n == 1 else next(kept) for n in shape))

    def matrix(self) -> tuple[Tensor, bool]:
        """Return the stored matrix and whether it is used transposed.

        A ValueError says why this is no stored matrix of floating-point numbers.
        """
        tensor = self.tensor
        if tensor is None:
            raise ValueError(self.reason)
        if self.rounded:
            raise ValueError("the weights are quantised")
        if tensor.dtype not in FLOATS:
            raise ValueError(f"the weights are of type {tensor.dtype}")
        if len(tensor.shape) != 2 or len(self.axes) != 2:
            raise ValueError(f"the weights have the shape {tensor.shape}")
        spare = iter(sorted({0, 1} - set(self.axes)))  # stored axes, of length 1, that are left
        axes = tuple(next(spare) if axis is None else axis for axis in self.axes)
        return tensor, axes == (1, 0)


def new_shape(
    node: Any, shape: tuple[int, ...], constants: Mapping[str, Constant]
) -> tuple[int, ...] | None:
    """Return the shape that a node gives a constant, or None if it is not known."""
    wanted = ints(node, "axes") or ints(node, "shape")
    if len(node.input) > 1 and node.input[1]:
        told = constants[node.input[1]].tensor
        if told is None or told.array.size > 16 or told.array.dtype.kind != "i":
            return None
        wanted = [int(n) for n in told.array.ravel()]
    if node.op_type == "Reshape":
        kept = [shape[i] if n == 0 and i < len(shape) else n for i, n in enumerate(wanted)]
        known = math.prod(n for n in kept if n != -1)
        return tuple(math.prod(shape) // max(known, 1) if n == -1 else n for n in kept)
    if node.op_type == "Squeeze":
        gone = {n % len(shape) for n in wanted} if wanted and shape else None
        return tuple(n for i, n in enumerate(shape) if not (n == 1 if gone is None else i in gone))
    if node.op_type == "Unsqueeze":
        rank = len(shape) + len(wanted)
        new, old = {n % rank for n in wanted}, iter(shape)
        return tuple(1 if i in new else next(old, 1) for i in range(rank))
    return None


def ints(node: Any, name: str) -> list[int]:
    """Return an attribute of a node that is a list of integers, empty without it."""
    for attribute in node.attribute:
        if attribute.name == name:
            return list(attribute.ints)
    return []


def number(node: Any, name: str, otherwise: Any) -> Any:
    """Return an attribute of a node that is a number."""
    for attribute in node.attribute:
        if attribute.name == name:
            return float(attribute.i if attribute.type == 2 else attribute.f)
    return otherwise


def text(node: Any, name: str) -> str:
    """Return an attribute of a node that is a text, "" without it."""
    for attribute in node.attribute:
        if attribute.name == name:
            return str(attribute.s.decode("utf-8", "replace"))
    return ""
