"""Large arrays of bfloat16 numbers, which NumPy lacks, decoded part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from obstruction.models.contents import decode_bfloat16

LARGE: Final = 2**18
"""Arrays of fewer numbers are decoded at once."""

_BLOCK: Final = 2**18


class Bfloat16Array(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of float32 numbers that is stored as bit patterns of bfloat16.

    A part that is taken out of it is decoded alone. Anything else that NumPy's arrays can do is
    done by a decoded copy of the whole.

    Parameters
    ----------
    raw : ndarray of uint16
        The bit patterns, perhaps a view of a file.
    """

    dtype: Final = np.dtype(np.float32)

    def __init__(self, raw: NDArray[np.uint16]) -> None:
        self.raw = raw
        self.shape, self.ndim, self.size, self.flags = raw.shape, raw.ndim, raw.size, raw.flags
        self.nbytes = raw.size * self.dtype.itemsize

    @property
    def T(self) -> Bfloat16Array:
        """The transposed array."""
        return Bfloat16Array(self.raw.T)

    def reshape(self, *shape: Any, **options: Any) -> Bfloat16Array:
        """Return the array in another shape."""
        return Bfloat16Array(self.raw.reshape(*shape, **options))

    def sum(self, *args: Any, **options: Any) -> Any:
        """Return the sum of the numbers, part by part if there are no arguments."""
        if args or options or not self.size:
            return np.asarray(self).sum(*args, **options)
        return np.float32(sum(self._blocks(lambda part: part.sum(dtype=np.float64))))

    def min(self, *args: Any, **options: Any) -> Any:
        """Return the least number, part by part if there are no arguments."""
        if args or options or not self.size:
            return np.asarray(self).min(*args, **options)
        return np.min(list(self._blocks(np.min)))

    def max(self, *args: Any, **options: Any) -> Any:
        """Return the greatest number, part by part if there are no arguments."""
        if args or options or not self.size:
            return np.asarray(self).max(*args, **options)
        return np.max(list(self._blocks(np.max)))

    def _blocks(self, function: Callable[[NDArray[np.float32]], Any]) -> Iterator[Any]:
        """Yield a function of each of some parts that have all numbers in them."""
        turned = self.ndim > 1 and not self.raw.flags.c_contiguous
        rows = self.raw.T if turned else self.raw
        rows = rows.reshape(rows.shape[0], -1) if rows.ndim > 1 else rows.reshape(-1, 1)
        step = max(1, _BLOCK // max(1, rows.shape[1]))
        for start in range(0, rows.shape[0], step):
            yield function(decode_bfloat16(rows[start : start + step]))

    def __getitem__(self, key: Any) -> Any:
        found = self.raw[key]
        return decode_bfloat16(np.asarray(found))[()]

    def __len__(self) -> int:
        return len(self.raw)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        found = decode_bfloat16(self.raw)
        return found if dtype is None else found.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        given = [np.asarray(one) if isinstance(one, Bfloat16Array) else one for one in inputs]
        return getattr(ufunc, method)(*given, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # as copying and pickling ask for
            raise AttributeError(name)
        return getattr(np.asarray(self), name)


def bfloat16_array(raw: NDArray[np.uint16]) -> NDArray[Any]:
    """Return bit patterns of bfloat16 as float32 numbers, many of them decoded part by part."""
    if raw.size < LARGE:
        return decode_bfloat16(raw)
    return cast(NDArray[Any], Bfloat16Array(raw))


def memory_of(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in whose memory the numbers of an array are."""
    held: Any = array
    return held.raw if isinstance(held, Bfloat16Array) else array
