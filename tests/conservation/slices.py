"""Sums of w * dL/dw over slices of tensors, at random weights: what the independent search sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from plain_model import PlainModel
from scipy.sparse import csr_matrix

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]

SCALES = (1.0, 1.0, 0.25, 4.0, 16.0, 2.0, 1.0, 8.0, 0.5, 1.0, 12.0, 0.25)
NOISE = 1e-11
NOTHING = 1e-10
"""Where all sums are smaller, relative to the largest w * dL/dw of the model, nothing flows."""
FAINT = 1e-4
"""Smaller numbers than this, relative to the largest of the same side, are not measured better."""


@dataclass(frozen=True)
class Slices:
    """A way to cut a tensor into slices, one for each index.

    Attributes
    ----------
    name, tensor : str
        ``"0.weight@1"`` are the columns of ``"0.weight"``.
    shape : tuple of int
        The shape of the tensor, in which the first axis may be split into groups.
    kept : tuple of int
        The axes of `shape` that make the index.
    """

    name: str
    tensor: str
    shape: tuple[int, ...]
    kept: tuple[int, ...]

    def sums(self, values: torch.Tensor) -> Floats:
        """Return the sum of values over every slice."""
        gone = [k for k in range(len(self.shape)) if k not in self.kept]
        values = values.reshape(self.shape)
        return np.asarray((values.sum(gone) if gone else values).reshape(-1).numpy(), np.float64)

    def labels(self, actual: tuple[int, ...]) -> Indices:
        """Return the index of every scalar of the tensor, whose shape is `actual`."""
        width = int(np.prod([self.shape[k] for k in self.kept]))
        short = [n if k in self.kept else 1 for k, n in enumerate(self.shape)]
        return np.broadcast_to(np.arange(width).reshape(short), self.shape).reshape(actual)


@dataclass(frozen=True, eq=False)
class Side:
    """Slices of one or several tensors, those with the same index taken together.

    Attributes
    ----------
    name : str
        For people.
    parts : tuple of (str, ndarray)
        The name of the slices, and for each of their indices that of the side, -1 for none.
    sums, sizes : ndarray of shape (probes, width)
        Sums of w * dL/dw, and of its absolute value.
    """

    name: str
    parts: tuple[tuple[str, Indices], ...]
    sums: Floats
    sizes: Floats

    @property
    def width(self) -> int:
        """Return the number of indices."""
        return self.sums.shape[1]

    def mapped(self, what: str, new: Indices, width: int) -> Side:
        """Return the side with index ``new[i]`` in place of ``i``; -1 leaves ``i`` out."""
        kept = np.flatnonzero(new >= 0)
        place = csr_matrix((np.ones(len(kept)), (kept, new[kept])), (self.width, width))
        made = np.concatenate([self.sums, self.sizes]) @ place
        table = np.append(new, -1)  # so that -1 stays -1
        parts = tuple((name, table[old]) for name, old in self.parts)
        return Side(f"{self.name}{what}", parts, made[: len(self.sums)], made[len(self.sums) :])


def together(name: str, sides: list[Side]) -> Side:
    """Return one side whose sums are those of several."""
    sums = np.sum([s.sums for s in sides], 0)
    return Side(
        name, tuple(p for s in sides for p in s.parts), sums, np.sum([s.sizes for s in sides], 0)
    )


def random_values(model: PlainModel, scale: float, seed: int) -> dict[str, torch.Tensor]:
    """Return random weights whose sizes differ between tensors and between rows of a tensor."""
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for name, w in model.actual.items():
        real = torch.view_as_real(w) if w.is_complex() else w
        size = float(real.std()) if real.numel() > 1 else 0.0
        if size <= 1e-3 * float(real.abs().mean()) or size == 0.0:  # a constant, often 0 or 1
            fan = real[0].numel() if real.ndim > 1 else 11
            size = float(real.abs().mean()) or fan**-0.5
        spread = 2.0 ** (3 * torch.rand((), generator=generator) - 1.5)
        rows = 2.0 ** (2 * torch.rand(real.shape[:1], generator=generator) - 1)
        rows = rows.reshape(-1, *[1] * (real.ndim - 1)) if real.ndim else torch.ones(())
        drawn = torch.randn(real.shape, generator=generator, dtype=torch.float64)
        drawn = drawn * size * scale * spread * rows
        values[name] = torch.view_as_complex(drawn) if w.is_complex() else drawn
    return values


def _ways(name: str, shape: tuple[int, ...], groups: int) -> Iterator[Slices]:
    """Yield the ways to cut a tensor: along its first axes, and pairs of them if it has three."""
    shape = shape or (1,)
    yield Slices(f"{name}@0", name, shape, (0,))
    if len(shape) >= 2 and groups > 1 and shape[0] % groups == 0:
        if (shape[0], shape[1]) != (groups, 1):  # of a depthwise kernel rows and columns are one
            finer = (groups, shape[0] // groups, *shape[1:])
            yield Slices(f"{name}@1 of {groups} groups", name, finer, (0, 2))
    elif len(shape) >= 2:
        yield Slices(f"{name}@1", name, shape, (1,))
    if len(shape) == 3 and groups == 1:
        for kept in ((2,), (0, 1), (0, 2), (1, 2)):
            if any(shape[k] == 1 for k in kept):
                continue  # the same scalars as along fewer axes
            yield Slices(f"{name}@{''.join(map(str, kept))}", name, shape, kept)


def cut(model: PlainModel) -> dict[str, Slices]:
    """Return all ways to cut the trainable tensors of a model, by name."""
    groups = {}
    for path, part in model.module.named_modules():
        if isinstance(getattr(part, "groups", None), int):
            groups[f"{path}.weight" if path else "weight"] = part.groups
    tensors = {n: w for n, w in model.actual.items() if w.numel()}
    ways = (_ways(n, tuple(w.shape), groups.get(n, 1)) for n, w in tensors.items())
    return {s.name: s for way in ways for s in way}


def measured(model: PlainModel, cuts: dict[str, Slices], probes: int, seed: int) -> list[Side]:
    """Return the sums at several random points, of the slices through which something flows."""
    sums: dict[str, list[Floats]] = {name: [] for name in cuts}
    sizes: dict[str, list[Floats]] = {name: [] for name in cuts}
    for p in range(probes):
        scale = SCALES[p % len(SCALES)]
        for attempt in range(4):  # points where numbers overflow are drawn again, smaller
            at = seed + 1000 * p + attempt
            products = model.products(random_values(model, scale, at), model.inputs(at), at)
            largest = max(float(v.abs().max()) for v in products.values() if v.numel())
            if np.isfinite(largest) and 0 < largest < 1e100:
                sizewise = {n: v.abs() for n, v in products.items()}
                for name, s in cuts.items():
                    sums[name].append(s.sums(products[s.tensor]) / largest)
                    sizes[name].append(s.sums(sizewise[s.tensor]) / largest)
                break
            scale /= 4
    if not next(iter(sums.values())):
        raise ValueError("gradients are infinite or zero at every random point")
    sides = [
        Side(
            name,
            ((name, np.arange(len(values[0]))),),
            np.stack(values),
            np.stack(sizes[name]),
        )
        for name, values in sums.items()
    ]
    return _without_noise(sides)


def _without_noise(sides: list[Side]) -> list[Side]:
    """Return the sides through which something flows, with rounding errors set to zero."""
    owner: dict[str, Floats] = {}
    for s in sides:
        part = owner_of(s.name)
        owner[part] = np.maximum(owner.get(part, np.zeros(len(s.sums))), s.sizes.max(1))
    kept = []
    for s in sides:
        floor = np.maximum(NOISE * s.sizes, (1e-13 * owner[owner_of(s.name)])[:, None] + 1e-17)
        sums = np.where(np.abs(s.sums) <= floor, 0.0, s.sums)
        if (sums != 0).any(1).mean() > 0.3 and np.abs(sums).max() > NOTHING:
            # where a softmax saturates, tiny gradients are differences of large numbers
            kept.append(Side(s.name, s.parts, sums, np.maximum(s.sizes, FAINT * s.sizes.max())))
    return kept


def owner_of(side: str) -> str:
    """Return the name of the module whose tensor a side cuts."""
    return side.partition("@")[0].rpartition(".")[0]
