"""Example inputs of a model: how they are given, checked and passed on."""

from __future__ import annotations

import re
from collections import UserDict
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.live.losses import LossError
from obstruction.conservation.live.trees import IsArray, Rebuild, flatten, paths

ACCEPTED: Final = (
    "inputs may be an array, a tuple of positional inputs, or a dictionary of keyword inputs; "
    "a model that takes one tuple or dictionary gets it as inputs=(it,)"
)

_WRAPPER: Final = "Exception encountered when calling"
"""How Keras begins errors of others."""

_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")


def opened(
    inputs: Any, is_array: IsArray, *, to_numpy: Callable[[Any], NDArray[Any]] = np.asarray
) -> tuple[tuple[NDArray[Any], ...], Rebuild]:
    """Return the arrays of the example inputs, floats as float64, and the way back.

    Parameters
    ----------
    inputs : object
        Arrays in any nesting.
    is_array : callable
        Whether an object is an array that the model computes with.
    to_numpy : callable
        Turns such an array into one of NumPy.

    Raises
    ------
    ValueError
        If there is no array, or one that is empty or not finite.
    """
    leaves, rebuild = flatten(inputs, is_array)
    if not leaves:
        raise ValueError(f"inputs = {short(inputs)}: holds no array; {ACCEPTED}")
    arrays = tuple(_float64(to_numpy(leaf)) for leaf in leaves)
    for path, array in zip(paths(inputs, is_array), arrays, strict=True):
        if array.size == 0:
            raise ValueError(f"{path} is empty: it has the shape {array.shape}")
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            bad = np.argwhere(~np.isfinite(array))[0]
            where = f"{path}[{', '.join(map(str, bad))}]" if array.ndim else path
            raise ValueError(f"{where} = {array[tuple(bad)]}: inputs must be finite")
    return arrays, rebuild


def called(function: Callable[..., Any], inputs: Any) -> Any:
    """Call a function with inputs: a tuple is positional, a dictionary is keywords."""
    if type(inputs) is tuple:
        return function(*inputs)
    if isinstance(inputs, (dict, UserDict)) and all(isinstance(key, str) for key in inputs):
        return function(**inputs)
    return function(inputs)


def refused(error: Exception, shapes: Sequence[tuple[int, ...]]) -> ValueError:
    """Return an error that says why a model could not be run with its example inputs.

    Parameters
    ----------
    error : Exception
        What the framework raised.
    shapes : sequence of tuple of int
        The shapes of the inputs.
    """
    if isinstance(error, LossError):
        return error
    given = ", ".join(str(shape) for shape in shapes)
    noun = "shape" if len(shapes) == 1 else "shapes"
    lines = [_COLOURS.sub("", line).strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith(_WRAPPER)]
    reason = short(next(iter(lines), ""), most=300, quoted=False)
    return ValueError(
        f"inputs: the model could not be run with inputs of {noun} {given}. "
        f"{type(error).__name__}: {reason}"
    )


def _float64(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind in "biuc":
        return array
    return array.astype(np.float64, copy=False)  # bfloat16 is of the kind "V"


def short(value: Any, *, most: int = 60, quoted: bool = True) -> str:
    """Return an object in one line of at most so many characters."""
    text = repr(value) if quoted else str(value)
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
