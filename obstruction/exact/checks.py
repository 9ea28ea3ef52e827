"""Arguments of the exact functions: checked, broadcast, and given back as they came."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray: TypeAlias = NDArray[np.float64]
Result: TypeAlias = float | FloatArray


def arguments(**values: ArrayLike) -> tuple[FloatArray, ...]:
    """Return the arguments as float64 arrays of one shape, or say what is wrong.

    A ratio is named ``a``, counts are ``positive`` and ``negative``, all others are sizes.
    """
    arrays = {}
    for name, value in values.items():
        ratio = name == "a"
        least = 0.0 if name in ("positive", "negative") else 1.0
        allowed = f"a whole number from {least:.0f} to 2**53"
        if ratio:
            allowed = "a number in [0, inf]"
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
    """Return an array of no dimensions as a float."""
    array = array + 0.0  # no negative zeros
    return array if array.ndim else float(array)
