"""Networks whose tensors have new values, from a repair or from training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.models.contents import Tensor
from obstruction.models.model import Layer, Model

FloatArray = NDArray[np.float64]

_EPSILON: Final = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23}
_NORMAL: Final = {"float16": 2.0**-14, "bfloat16": 2.0**-126, "float32": 2.0**-126}


def model_with(model: Model, tensors: Mapping[str, Tensor]) -> Model:
    """Return a copy of a model with the present values of its tensors.

    Raises
    ------
    ValueError
        If one of its tensors is missing or has another shape than before.
    """
    for layer in model.layers:
        for known in layer.tensors:
            if known.name not in tensors:
                raise ValueError(f"there is no tensor {known.name!r}")
            if tensors[known.name].shape != known.shape:
                raise ValueError(
                    f"the tensor {known.name!r} has shape {tensors[known.name].shape}, "
                    f"not {known.shape}"
                )
    arrays = {name: tensor.array for name, tensor in tensors.items()}
    return replace(model, layers=tuple(layer.with_values(arrays) for layer in model.layers))


def stored_types(layers: Sequence[Layer]) -> set[str]:
    """Return the types in which the numbers of some layers are stored."""
    return {tensor.dtype for layer in layers for tensor in layer.tensors}


def epsilon(dtype: str) -> float:
    """Return the distance from 1 to the next larger number of a type."""
    return _EPSILON.get(dtype, 2.0**-52)


def rescaled_tensors(model: Model, factors: list[FloatArray]) -> dict[str, NDArray[Any]]:
    """Return the stored values of all tensors that change when hidden neurons are rescaled.

    `factors` holds an array for each hidden layer, with a factor per neuron.

    Raises
    ------
    ValueError
        If layers share such a tensor, if the columns of a layer with weight normalisation would
        have to be scaled, or if values overflow or underflow their type.
    """
    moved = [bool(np.any(a != 1.0)) for a in factors] + [False]
    names = [tensor.name for layer in model.layers for tensor in layer.tensors]
    changes: dict[str, NDArray[Any]] = {}
    for i, layer in enumerate(model.layers):
        rows = factors[i] if moved[i] else None
        columns = 1.0 / factors[i - 1] if i > 0 and moved[i - 1] else None
        with np.errstate(over="ignore", under="ignore"):
            new = layer.rescaled(rows, columns)
        for name, values in new.items():
            if names.count(name) > 1:
                raise ValueError(f"{layer.name}: cannot be rescaled, other layers share {name}")
            if not np.all(np.isfinite(values)):
                raise ValueError(f"{layer.name}: the rescaled {name} overflows its stored type")
        if layer.weight_tensor.name in new:
            _check_underflow(layer, rows, columns, new[layer.weight_tensor.name])
        changes |= new
    return changes


def _check_underflow(
    layer: Layer, rows: FloatArray | None, columns: FloatArray | None, values: NDArray[Any]
) -> None:
    """Raise a ValueError if a row or column loses more to underflow than to rounding."""
    dtype = layer.weight_tensor.dtype
    normal = _NORMAL.get(dtype, 2.0**-1022)
    if np.abs(values).min(initial=np.inf) >= normal:
        return
    new = layer.oriented(values)
    if not np.any((np.abs(new) < normal) & (layer.weight != 0.0)):
        return  # only zeros are that small, and they were zeros before
    exact = layer.weight.astype(np.float64)
    exact *= 1.0 if rows is None else rows[:, None]
    exact *= 1.0 if columns is None else columns[None, :]
    lost = np.where(np.abs(exact) < normal, new - exact, 0.0)
    for axis in (0, 1):
        largest = np.abs(exact).max(axis=axis, initial=0.0, keepdims=True)
        unit = np.where(largest > 0.0, largest, 1.0)
        loss = np.sqrt(((lost / unit) ** 2).sum(axis=axis))
        size = np.sqrt(((exact / unit) ** 2).sum(axis=axis))
        if np.any(loss > epsilon(dtype) * size):
            raise ValueError(
                f"{layer.name}: the rescaled {layer.weight_tensor.name} underflows {dtype}"
            )
