"""The present parameters of a model, by the names that its laws use."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from obstruction.conservation.law import FloatArray
from obstruction.conservation.live.onnx_files import OnnxFile, is_onnx


def parameters_of(source: Any, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, FloatArray]:
    """Return the parameters with given names from a model or a mapping, as float64.

    Parameters
    ----------
    source : model or mapping
        A PyTorch module, a Keras model, a tree of parameters of JAX, the path of an ONNX file, or
        a mapping from names.
    shapes : dict of str to tuple of int
        The names and shapes of the parameters that are needed.

    Raises
    ------
    ValueError
        If a parameter is missing or has another shape.
    """
    found = by_name(source, shapes)
    values = {}
    for name, shape in shapes.items():
        if name not in found:
            raise ValueError(f"other_parameters: has no parameter {name!r}")
        value = _array(found[name])
        value = value.reshape(1) if value.shape == () and shape == (1,) else value
        if value.shape != shape:
            raise ValueError(f"other_parameters: {name} has shape {value.shape}: must be {shape}")
        values[name] = value
    return values


def by_name(source: Any, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any]:
    """Return the parameters of a model or a mapping by name, as its framework holds them.

    The arguments are those of `parameters_of`. A parameter may be missing in the result.
    """
    if isinstance(source, Mapping) and set(shapes) <= set(source):
        return source
    if is_onnx(source):
        return OnnxFile(source).arrays
    if hasattr(source, "trainable_variables"):
        return {variable.path: variable for variable in source.trainable_variables}
    if hasattr(source, "named_parameters"):
        return dict(source.named_parameters())
    if isinstance(source, Mapping | tuple | list) or "jax" in sys.modules:
        from obstruction.conservation.live.jax_pairs import parameters_in
        from obstruction.conservation.live.jax_parameters import ParameterTree

        tree = ParameterTree(parameters_in(source)[0])
        return dict(zip(tree.names, tree.arrays, strict=True))
    raise ValueError(
        f"other_parameters = {type(source).__name__}: must be a model or a mapping of parameters"
    )


def _array(value: Any) -> FloatArray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if value.is_complex():
            value = value.resolve_conj()
            return np.stack([value.real.double().numpy(), value.imag.double().numpy()], axis=-1)
        value = value.double().numpy()
    return np.asarray(value, dtype=np.float64)
