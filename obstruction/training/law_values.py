"""The conserved numbers of a model while it is trained, at little cost.

A parameter is read once for all laws that it enters. It is converted to float64 slice by slice, so
that all sums have this precision and no second copy of the model is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.laws import Laws
from obstruction.conservation.reading import by_name

FloatArray: TypeAlias = NDArray[np.float64]
Axes: TypeAlias = tuple[int, ...]

_SLICE: Final = 2**17
"""About so many scalars are converted at a time, which a processor's cache can hold."""


class _Entry(NamedTuple):
    """The scalars of a parameter in a law: their labels, and the axes along which these vary."""

    law: int
    labels: NDArray[np.int64]
    coefficient: int
    axes: Axes


class Meter:
    """Computes the conserved numbers of a model.

    Parameters
    ----------
    laws : Laws
    watched : mapping from str to tuple of ndarray
        The indices of single scalars of parameters, which are returned along with the numbers.
    """

    def __init__(self, laws: Laws, watched: Mapping[str, tuple[NDArray[np.int64], ...]]) -> None:
        self._laws, self._shapes, self._watched = laws, laws.shapes, watched
        self._entries: dict[tuple[str, bool], list[_Entry]] = {}
        self._matrices = [i for i, law in enumerate(laws) if law.kind == "matrix"]
        for number, law in enumerate(laws):
            if law.kind == "matrix":
                continue
            for term in law.terms:
                axes = tuple(int(i) for i in np.flatnonzero(np.array(term.labels.shape) > 1))
                entry = _Entry(number, term.labels, term.coefficient, axes)
                self._entries.setdefault((term.tensor, law.quadratic), []).append(entry)

    def read(self, source: Any) -> tuple[list[FloatArray], NDArray[Any]]:
        """Return the numbers of each law, and the scalars that are watched, in order.

        Raises
        ------
        ValueError
            If a parameter is missing or has another shape.
        """
        found = by_name(source, self._shapes)
        held = _Present(found, self._shapes)
        numbers = [np.zeros(law.labels) for law in self._laws]
        with np.errstate(all="ignore"):
            for (name, squared), entries in self._entries.items():
                sums = sums_along(held[name], {entry.axes for entry in entries}, squared=squared)
                for entry in entries:
                    part = sums[entry.axes]
                    flat = np.broadcast_to(entry.labels, part.shape).reshape(-1)
                    total = np.bincount(
                        flat + 1, weights=part.reshape(-1), minlength=len(numbers[entry.law]) + 1
                    )
                    numbers[entry.law] += entry.coefficient * total[1:]
            for number in self._matrices:
                numbers[number] = self._laws[number].values(held)
        values = [held[name][index] for name, index in self._watched.items()]
        return numbers, np.concatenate([np.zeros(0), *(v.astype(np.float64) for v in values)])


class _Present(Mapping[str, NDArray[Any]]):
    """The present parameters as arrays, fetched when they are asked for."""

    def __init__(self, found: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._found, self._shapes = found, shapes

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._found:
            raise ValueError(f"model: has no parameter {name!r} any more")
        value = _array(self._found[name])
        if value.shape != self._shapes[name]:
            raise ValueError(
                f"model: {name} has shape {value.shape}: must be {self._shapes[name]}, as at the "
                "start"
            )
        return value

    def __iter__(self) -> Any:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def _array(value: Any) -> NDArray[Any]:
    """Return a parameter as an array, without a copy where its memory can be shared."""
    if hasattr(value, "detach"):
        import torch

        value = value.detach()
        value = torch.view_as_real(value) if value.is_complex() else value
        value = value.cpu()
        return np.asarray((value.float() if value.dtype == torch.bfloat16 else value).numpy())
    return np.asarray(value)


def sums_along(
    array: NDArray[Any], wanted: Iterable[Axes], *, squared: bool
) -> dict[Axes, FloatArray]:
    """Return sums over all axes but some, in float64, for several choices of these.

    Parameters
    ----------
    array : ndarray
        Numbers of any type.
    wanted : iterable of tuple of int
        The axes that are kept, in ascending order. All others have length 1 in the result.
    squared : bool
        Whether the numbers are squared first.
    """
    shape = array.shape
    array = array.reshape(shape or (1,))
    dims = {axes: _kept(array.shape, axes) for axes in wanted}
    totals = {axes: np.zeros(lengths) for axes, lengths in dims.items()}
    rows = max(1, _SLICE * len(array) // max(1, array.size))
    for start in range(0, len(array), rows):
        part = array[start : start + rows].astype(np.float64, order="C")
        if squared:
            np.square(part, out=part)
        for axes, total in totals.items():
            if 0 in axes:
                total[start : start + rows] += _reduced(part, axes)
            else:
                total += _reduced(part, axes)
    return {axes: total.reshape(total.shape if shape else ()) for axes, total in totals.items()}


def _reduced(part: FloatArray, axes: Sequence[int]) -> FloatArray:
    """Return the sum over all axes but some; axes before and after these are joined first."""
    shape = part.shape
    first, last = (axes[0], axes[-1]) if axes else (0, -1)
    lead = int(np.prod(shape[:first], dtype=np.int64))
    middle = shape[first : last + 1]
    if lead > 1:
        part = part.reshape(lead, -1).sum(axis=0)
    if last + 1 < len(shape):
        part = part.reshape(*middle, -1).sum(axis=-1)
    part = part.reshape(middle)
    part = part.sum(axis=tuple(i for i in range(len(middle)) if first + i not in axes))
    return part.reshape(_kept(shape, axes))


def _kept(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """Return a shape with length 1 along all axes but some."""
    return tuple(n if i in axes else 1 for i, n in enumerate(shape))
