"""Check and broadcast the arguments of the exact functions."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray: TypeAlias = NDArray[np.float64]
Result: TypeAlias = float | FloatArray


def arguments(**values: ArrayLike) -> tuple[FloatArray, ...]:
    """Return the arguments as float64 arrays of one shape.

    The argument `a` is a ratio >= 0, `positive` and `negative` are counts >= 0, and all others are
    sizes >= 1.
    """
    arrays = {}
    for name, value in values.items():
        ratio = name == "a"
        least = 0.0 if name in ("positive", "negative") else 1.0
        allowed = "a number in [0, inf]" if ratio else f"a whole number from {least:.0f} to 2**53"
        try:
            given = np.asarray(value)
        except ValueError:  # nested lists of different lengths
            given = np.asarray(None)
        if given.size and given.dtype.kind not in "iuf":  # bool, text, complex, object
            raise ValueError(f"{name} = {value!r}: must be {allowed}")
        array = given.astype(np.float64)
        whole = (array >= least) & (array <= 2.0**53) & (array == np.floor(array))
        bad = array[~(array >= 0.0 if ratio else whole)]
        if bad.size:
            raise ValueError(f"{name} = {bad[0]}: must be {allowed}")
        arrays[name] = array
    try:
        return np.broadcast_arrays(*arrays.values())
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"shapes must broadcast together: {shapes}") from None


def plain(array: FloatArray) -> Result:
    """Return the array, or a float if it has no dimensions."""
    array = array + 0.0  # turns -0.0 into 0.0
    return array if array.ndim else float(array)
