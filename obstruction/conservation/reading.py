"""The present parameters of a model, by the names that its laws use."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from obstruction.conservation.law import FloatArray
from obstruction.conservation.live.inputs import called
from obstruction.conservation.live.onnx_files import OnnxFile, is_onnx
from obstruction.conservation.live.opening import open_model


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


def same_parameters(
    model: Any, inputs: Any, shapes: Mapping[str, tuple[int, ...]], needed: Iterable[str]
) -> dict[str, FloatArray]:
    """Return some parameters of another model of the same architecture, as float64.

    Parameters
    ----------
    model : model
        A model made by the same code as the one whose parameters are named. A model of Keras, whose
        names are others in each model, is read in the order of its weights. One that is not built
        yet is built.
    inputs : array, tuple or dict
        The inputs that build it.
    shapes : dict of str to tuple of int
        The names and shapes of all trained parameters, in order.
    needed : iterable of str
        The names of those to return.

    Raises
    ------
    ValueError
        If parameters are missing or have other shapes.
    """
    wanted = {name: shapes[name] for name in needed}
    if hasattr(model, "trainable_variables"):
        if not model.built:
            open_model(model, inputs)
        weights = list(model.trainable_weights)
        if len(weights) != len(shapes):
            raise ValueError(f"it has {len(weights)} trained parameters, not {len(shapes)}")
        return parameters_of(dict(zip(shapes, weights, strict=True)), wanted)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        _initialised(model, inputs)
    return parameters_of(model, wanted)


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


def _initialised(module: Any, inputs: Any) -> None:
    """Run a module of PyTorch with lazy layers once, which makes their parameters."""
    import torch

    if any(map(torch.nn.parameter.is_lazy, module.parameters())):
        with torch.no_grad():
            called(module, inputs)


def _array(value: Any) -> FloatArray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if value.is_complex():
            value = value.resolve_conj()
            return np.stack([value.real.double().numpy(), value.imag.double().numpy()], axis=-1)
        value = value.double().numpy()
    return np.asarray(value, dtype=np.float64)
