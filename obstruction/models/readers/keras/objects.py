"""Keras models in memory: Keras 3 with any backend, and tf_keras (Keras 2).

Keras is never imported here: a model can only be one of its own if it is loaded already.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
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
from obstruction.models.readers.files import fitting
from obstruction.models.readers.keras import config as keras_config

OBJECTS: Final = "a Keras model"

_PACKAGES: Final = ("keras", "tf_keras")
_CALLS: Final = ("call", "__call__")


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
        If a change does not fit, or a model is to be copied that Keras cannot copy: a subclassed
        one, or one with code of the user's own that its description does not hold.
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
        if keras_config.is_keras(kind.__module__) and kind.__name__ in keras_config.MODELS[:2]:
            # a subclass may compute something else than its layers in order
            same = all(
                getattr(type(source), way, None) == getattr(kind, way, None) for way in _CALLS
            )
            return kind if same and not _is_patched(source) else None
    return None


def _is_patched(layer: Any) -> bool:
    return any(way in getattr(layer, "__dict__", ()) for way in _CALLS)


def _is_own(made: Any) -> bool:
    """Return whether a layer does what its class in Keras does, not what a user wrote."""
    return _is_in_keras(type(made)) and not _is_patched(made)


def _is_in_keras(made: Any) -> bool:
    """Return whether a class or function is the very one that a module of Keras holds."""
    module, name = getattr(made, "__module__", None), getattr(made, "__name__", "")
    return keras_config.is_keras(module) and (
        getattr(sys.modules.get(str(module)), str(name), None) is made
    )


def _is_own_activation(applied: Any) -> bool:
    """Return whether an activation, a function or a layer, is Keras's own; None is."""
    if applied is None or _is_in_keras(applied):
        return True
    return _is_own(applied) and _is_own_activation(getattr(applied, "activation", None))


def _told(model: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description of a model that marks what is the user's own.

    A description has only the names of functions, and in Keras 2 of layers, which a user may have
    given to other code; the objects themselves tell.
    """
    objects = {one.name: one for one in (*getattr(model, "operations", ()), *model.layers)}
    layers = []
    for entry in config["layers"]:
        name = entry.get("name", entry["config"].get("name"))
        if name in objects:
            entry = _told_layer(objects[name], entry)
        elif entry["class_name"] != "InputLayer":
            raise ValueError(f"the layer {name!r} is not in it")
        layers.append(entry)
    order = [one.name for one in model.layers]
    if len(set(order)) < len(order):  # of a layer that stands twice in a Sequential it has one
        told = {entry.get("name", entry["config"].get("name")): entry for entry in layers}
        first = [entry for entry in layers if entry["class_name"] == "InputLayer"]
        layers = first + [told[name] for name in order]
    return {**config, "layers": layers}


def _told_layer(layer: Any, entry: Mapping[str, Any]) -> dict[str, Any]:
    config = dict(entry["config"])
    if not _is_own(layer):
        return {**entry, "module": None}
    if keras_config.has_graph(entry["class_name"], config):
        return {**entry, "config": _told(layer, config)}
    if "layer" in config and hasattr(layer, "layer"):
        config["layer"] = _told_layer(layer.layer, config["layer"])
    applied = getattr(layer, "activation", None)
    if not _is_own_activation(applied):
        name = getattr(applied, "__name__", type(applied).__name__)
        named = None if name == "<lambda>" else name
        kind = "function" if named else "__lambda__"
        config["activation"] = {"module": None, "class_name": kind, "config": named}
    return {**entry, "config": config}


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what could not be loaded again, which nobody does
            config = _told(source, kind.get_config(source))
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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clone = package.models.clone_model(source)
        if not clone.weights:
            clone.build(source.input_shape)
        clone.set_weights(source.get_weights())
        pairs = list(zip(_all_layers(source), _all_layers(clone), strict=True))
    except Exception as problem:  # whatever Keras or code of the user's own raises
        raise ValueError(
            f"{type(source).__name__}: Keras cannot copy this model, perhaps for code of the "
            "user's own in it; use inplace=True"
        ) from problem
    for old, new in pairs:
        if not _is_same_code(old, new):
            raise ValueError(
                f"{type(source).__name__}: a copy that Keras makes would not do what the layer "
                f"{old.name!r} does, which has code of the user's own; use inplace=True"
            )
    return clone


def _all_layers(model: Any) -> Iterator[Any]:
    """Yield the layers of a model, those in wrappers and nested models after their holder."""
    for layer in (*getattr(model, "layers", ()), getattr(model, "layer", None)):
        if layer is not None:
            yield layer
            yield from _all_layers(layer)


def _is_same_code(old: Any, new: Any) -> bool:
    """Return whether a copy of a layer runs the same code: Keras finds functions by their names."""
    if type(old) is not type(new) or _is_patched(old):
        return False
    for part in ("activation", "recurrent_activation", "function"):
        one, other = getattr(old, part, None), getattr(new, part, None)
        if one is not other and not (_is_own_activation(one) and _is_own_activation(other)):
            return False
    return True
