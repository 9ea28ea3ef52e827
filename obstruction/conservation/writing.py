"""New values for the parameters of a model, by the names that its laws use, in a copy of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.law import FloatArray
from obstruction.conservation.reading import by_name

_PLACES = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}


def precisions(source: Any, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return the number of binary places in which a model stores each parameter.

    Raises
    ------
    ValueError
        If a parameter is missing or has another type than a float of 16, 32 or 64 bits.
    """
    found = by_name(source, shapes)
    places = {}
    for name in shapes:
        if name not in found:
            raise ValueError(f"model: has no parameter {name!r}")
        kind = str(getattr(found[name], "dtype", "float64")).rpartition(".")[2]
        kind = {"complex64": "float32", "complex128": "float64"}.get(kind, kind)
        if kind not in _PLACES:
            raise ValueError(f"model: {name} has type {kind}: must be one of {', '.join(_PLACES)}")
        places[name] = _PLACES[kind]
    return places


def rewritten(model: Any, values: Mapping[str, FloatArray]) -> Any:
    """Return a copy of a model in which some parameters have new values.

    Parameters
    ----------
    model : model
        A PyTorch module, a Keras model, a pair ``(apply, params)`` of JAX or its parameters. It is
        not changed.
    values : dict of str to ndarray
        The new values, which are rounded to the type of each parameter.

    Returns
    -------
    model or pytree
        The copy; for JAX the new parameters, without `apply`.
    """
    if hasattr(model, "trainable_variables"):
        twin = copy.deepcopy(model)
        pairs = zip(model.trainable_variables, twin.trainable_variables, strict=True)
        for old, new in pairs:
            if old.path in values:
                new.assign(values[old.path].reshape(old.shape))
        return twin
    if hasattr(model, "named_parameters"):
        return _module(model, values)
    from obstruction.conservation.live.jax_pairs import parameters_in
    from obstruction.conservation.live.jax_parameters import ParameterTree

    params, put = parameters_in(model)
    tree = ParameterTree(params)
    shapes = dict(zip(tree.names, map(np.shape, tree.arrays), strict=True))
    return put(tree.with_values({name: new.reshape(shapes[name]) for name, new in values.items()}))


def rounded(values: Mapping[str, FloatArray], places: Mapping[str, int]) -> dict[str, FloatArray]:
    """Return values as they are after they have been stored, given the result of `precisions`."""
    found = {}
    with np.errstate(over="ignore"):
        for name, value in values.items():
            if places[name] == 8:  # the range of bfloat16 is that of float32
                fractions, exponents = np.frexp(value)
                value = np.ldexp(np.rint(np.ldexp(fractions, 8)), exponents - 8)
            kind = {11: np.float16, 53: np.float64}.get(places[name], np.float32)
            found[name] = value.astype(kind).astype(np.float64)
    return found


def _module(model: Any, values: Mapping[str, NDArray[Any]]) -> Any:
    import torch

    from obstruction.conservation.live.torch import copied

    twin = copied(model)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if name in values:
                target = torch.view_as_real(parameter) if parameter.is_complex() else parameter
                new = np.ascontiguousarray(values[name])
                target.copy_(torch.from_numpy(new).reshape(target.shape))
    return twin
