"""Keras models in memory: those of Keras 3 with any backend, and those of tf_keras (Keras 2).

This module never imports Keras. An object can only be a Keras model if Keras is loaded already.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.models.contents import (
    Contents,
    OperationGraph,
    Tensor,
    UnreadableModel,
    decode_bfloat16,
)
from obstruction.models.readers.files import fitting
from obstruction.models.readers.keras import config as keras_config
from obstruction.models.readers.keras.graph import graph_of

OBJECTS: Final = "a Keras model"

_PACKAGES: Final = ("keras", "tf_keras")
_CALLS: Final = ("call", "__call__")


def matches(source: Any) -> bool:
    """Return whether an object is a Keras model."""
    return _package(source) is not None


def read(source: Any) -> Contents:
    """Return the tensors of a Keras model and, unless it is subclassed, its graph of operations.

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
    graph, notes = _graph(source, tensors, variables)
    return Contents("Keras model", tensors, "in_out", graph, (), notes)


def updated(source: Any, changes: Mapping[str, NDArray[Any]], *, inplace: bool) -> Any:
    """Return a Keras model with new values in some tensors.

    Parameters
    ----------
    source : keras.Model
        The model.
    changes : mapping of str to ndarray
        New values by the names of `Contents.tensors`, in stored shape and type.
    inplace : bool
        Whether to change the model itself, which keeps its optimiser. Otherwise a clone is
        changed. The clone is not compiled and has no optimiser, since the moments of the old one
        would not fit the new weights.

    Raises
    ------
    ValueError
        If a change does not fit, or if a copy is asked for and Keras cannot copy the model because
        it is subclassed or holds code of the user's own.
    """
    names = read(source).tensors
    fitted = fitting(changes, names)
    target = source if inplace else _clone(source)
    for name, variable in zip(names, target.weights, strict=True):
        if name in fitted:
            variable.assign(fitted[name])
    return target


def _package(source: Any) -> Any:
    """Return the package, `keras` or `tf_keras`, of which a source is a model; None if neither."""
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
    """Return Sequential or Functional if a model computes the graph of this class, else None."""
    kind: Any
    for kind in type(source).__mro__:
        if keras_config.is_keras(kind.__module__) and kind.__name__ in keras_config.MODELS[:2]:
            # a subclass may override what the model computes
            same = all(
                getattr(type(source), way, None) == getattr(kind, way, None) for way in _CALLS
            )
            return kind if same and not _is_patched(source) else None
    return None


def _is_patched(layer: Any) -> bool:
    return any(way in getattr(layer, "__dict__", ()) for way in _CALLS)


def _is_own(made: Any) -> bool:
    """Return whether a layer runs the code of a class of Keras, none of a user's."""
    return _is_in_keras(type(made)) and not _is_patched(made)


def _is_in_keras(made: Any) -> bool:
    """Return whether a class or function is the one that Keras has under its name."""
    module, name = getattr(made, "__module__", None), getattr(made, "__name__", "")
    return keras_config.is_keras(module) and (
        getattr(sys.modules.get(str(module)), str(name), None) is made
    )


def _is_own_activation(applied: Any) -> bool:
    """Return whether an activation, which is a function, a layer or None, is Keras's own."""
    if applied is None or _is_in_keras(applied):
        return True
    return _is_own(applied) and _is_own_activation(getattr(applied, "activation", None))


def _told(model: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a model with everything marked that is the user's own code.

    A description holds the names of functions, and in Keras 2 also the names of layers, without
    their modules. A user's function may have any name, so the objects themselves are looked at.
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
    if len(set(order)) < len(order):  # it lists a layer once that stands twice in a Sequential
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


def _graph(
    source: Any, tensors: Mapping[str, Tensor], variables: Mapping[str, Any]
) -> tuple[OperationGraph | None, tuple[str, ...]]:
    """Return the operations of a model, and remarks on them."""
    kind = _graph_class(source)
    if kind is None:
        own = f"{type(source).__name__}: a model of the user's own, whose order is code"
        return None, (own,)
    names = {id(variable): name for name, variable in variables.items()}
    frozen = {name for name, variable in variables.items() if not variable.trainable}

    def find(place: keras_config.Place) -> tuple[str, ...]:
        layer = source
        for part in place:
            layer = layer.get_layer(part)
        return tuple(names[id(one)] for one in layer.weights if id(one) in names)

    try:
        with warnings.catch_warnings():
            # Keras warns of layers that could not be loaded again, but nothing is loaded here
            warnings.simplefilter("ignore")
            config = _told(source, kind.get_config(source))
        graph = graph_of(kind.__name__, config, find, tensors, frozen)
    except Exception as problem:  # get_config may run code of the user's own
        told = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        return None, (f"the description of the model is not followed: {told}",)
    if graph is None:
        return None, (f"{type(source).__name__}: its get_config() lists no layers",)
    return graph, keras_config.remarks(config)


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
    """Yield the layers of a model, each followed by the layers that are nested in it."""
    for layer in (*getattr(model, "layers", ()), getattr(model, "layer", None)):
        if layer is not None:
            yield layer
            yield from _all_layers(layer)


def _is_same_code(old: Any, new: Any) -> bool:
    """Return whether a copy of a layer runs the same code, as Keras copies functions by name."""
    if type(old) is not type(new) or _is_patched(old):
        return False
    for part in ("activation", "recurrent_activation", "function"):
        one, other = getattr(old, part, None), getattr(new, part, None)
        if one is not other and not (_is_own_activation(one) and _is_own_activation(other)):
            return False
    return True
