"""Keras models in memory: Keras 3 with any backend, and tf_keras (Keras 2).

Keras is never imported here: a model can only be one of its own if it is loaded already.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.models.contents import (
    Contents,
    Dense,
    Step,
    Tensor,
    UnreadableModel,
    decode_bfloat16,
)
from obstruction.models.readers import keras_config
from obstruction.models.readers.files import fitting

_PACKAGES: Final = ("keras", "tf_keras")


def matches(source: Any) -> bool:
    """Return whether an object is a Keras model."""
    return _package(source) is not None


def read(source: Any) -> Contents:
    """Return the tensors of a Keras model and, unless it is subclassed, its steps.

    Parameters
    ----------
    source : keras.Model
        A Sequential, Functional or subclassed model that has been built.

    Raises
    ------
    UnreadableModel
        If it has no weights yet.
    """
    tensors, variables = {}, {}
    for variable in source.weights:
        name = unused = str(getattr(variable, "path", variable.name))
        count = 1
        while unused in tensors:
            count += 1
            unused = f"{name}#{count}"
        tensors[unused] = _tensor(source, unused, variable)
        variables[unused] = variable
    if not tensors:
        raise UnreadableModel(
            f"{type(source).__name__}: the Keras model has no weights yet; "
            "call it on data, or build it with an input shape"
        )
    steps, notes = _steps(source, tensors, variables)
    return Contents("Keras model", tensors, "in_out", steps, (), notes)


def updated(source: Any, changes: Mapping[str, NDArray[Any]], *, inplace: bool) -> Any:
    """Return a Keras model in which some tensors have other values.

    Parameters
    ----------
    source : keras.Model
        The model.
    changes : mapping of str to ndarray
        New values by the names of `Contents.tensors`, in stored shape and type.
    inplace : bool
        Whether to change the model itself. If not, a clone with the same weights is changed: it
        is not compiled and has no optimiser, whose moments would not fit the new weights. A model
        that is changed in place keeps its optimiser with its moments.

    Raises
    ------
    ValueError
        If a change does not fit, or a subclassed model is to be copied, which Keras cannot do.
    """
    names = read(source).tensors
    fitted = fitting(changes, names)
    target = source if inplace else _clone(source)
    for name, variable in zip(names, target.weights, strict=True):
        if name in fitted:
            variable.assign(fitted[name])
    return target


def _package(source: Any) -> Any:
    """Return the loaded package whose model the source is, None if it is none of Keras."""
    for name in _PACKAGES:
        package = sys.modules.get(name)
        kind = getattr(package, "Model", None)
        if isinstance(kind, type) and isinstance(source, kind):
            return package
    return None


def _tensor(source: Any, name: str, variable: Any) -> Tensor:
    convert = getattr(getattr(_package(source), "ops", None), "convert_to_numpy", None)
    array = np.asarray(convert(variable.value) if convert else variable.numpy())
    kind = array.dtype.name
    if kind == "bfloat16":
        array = decode_bfloat16(np.ascontiguousarray(array).view(np.uint16).reshape(array.shape))
    return Tensor(name, array, kind)


def _graph_class(source: Any) -> Any:
    """Return Sequential or Functional if its graph is what the model computes, else None."""
    kind: Any
    for kind in type(source).__mro__:
        if kind.__module__.split(".")[0] in _PACKAGES and kind.__name__ in keras_config.MODELS[:2]:
            # a subclass may compute something else than its layers in order
            return kind if type(source).call is kind.call else None
    return None


def _steps(
    source: Any, tensors: Mapping[str, Tensor], variables: Mapping[str, Any]
) -> tuple[tuple[Step, ...] | None, tuple[str, ...]]:
    """Return the steps of a model and what to say of them."""
    kind = _graph_class(source)
    if kind is None:
        own = f"{type(source).__name__}: a model of the user's own, whose order is code"
        return None, (own,)
    names = {id(variable): name for name, variable in variables.items()}

    def find(place: keras_config.Place) -> tuple[str, ...]:
        layer = source
        for part in place:
            layer = layer.get_layer(part)
        return tuple(names[id(variable)] for variable in layer.weights)

    try:
        config = kind.get_config(source)
        steps = keras_config.steps(kind.__name__, config, find, tensors)
    except Exception as problem:  # layers of the user's own take part in get_config
        return None, (f"the description of the model is not followed: {problem}",)
    if steps is None:
        return None, (f"{type(source).__name__}: its get_config() lists no layers",)
    trained = tuple(
        replace(step, trained=step.trained and bool(variables[step.weight].trainable))
        if isinstance(step, Dense)
        else step
        for step in steps
    )
    return trained, keras_config.remarks(config)


def _clone(source: Any) -> Any:
    package = _package(source)
    if _graph_class(source) is None:
        raise ValueError(
            f"{type(source).__name__}: a subclassed Keras model cannot be copied; "
            "use inplace=True, perhaps on a model that was loaded a second time"
        )
    clone = package.models.clone_model(source)
    if not clone.weights:
        clone.build(source.input_shape)
    clone.set_weights(source.get_weights())
    return clone
