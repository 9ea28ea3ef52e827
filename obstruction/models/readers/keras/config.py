"""The description of a Keras model, which may hold anything, as it is found in files.

Keras writes into files what ``model.get_config()`` returns. The calls of layers are spelled in one
way by Keras 3, and in another by Keras 2 and tf_keras.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

Place: TypeAlias = tuple[str, ...]
"""The name of a layer, after the names of the models in which it is nested."""

MODELS: Final = ("Sequential", "Functional", "Model")
_PARTS: Final = ("kernel", "bias")


def has_graph(class_name: str, config: Mapping[str, Any]) -> bool:
    """Return whether a configuration lists layers, which those of subclassed models do not."""
    return class_name in MODELS and isinstance(config.get("layers"), list)


def remarks(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a configuration says of initialisers and regularisers, a sentence each."""
    found: dict[str, list[str]] = {}
    for layer in _dense_layers(config):
        name = str(layer.get("name"))
        weights, biases = (class_of(layer.get(f"{part}_initializer")) for part in _PARTS)
        if weights:
            also = f", biases by {biases}" if biases and layer.get("use_bias", True) else ""
            found.setdefault(f"weights initialised by {weights}{also}", []).append(name)
        if any(class_of(layer.get(f"{part}_regularizer")) for part in (*_PARTS, "activity")):
            found.setdefault("a regulariser is part of the loss and moves balances", []).append(
                name
            )
    return tuple(f"{', '.join(names)}: {what}" for what, names in found.items())


def _dense_layers(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    layers = config.get("layers")
    for layer in layers if isinstance(layers, list) else []:
        inner = layer.get("config") if isinstance(layer, dict) else None
        if isinstance(inner, dict):
            if layer.get("class_name") == "Dense" and not is_custom(layer):
                yield inner
            yield from _dense_layers(inner)


def file_places(
    class_name: str, config: Mapping[str, Any], under: str = ""
) -> Iterator[tuple[Place, str]]:
    """Yield the place of each layer and the group of ``model.weights.h5`` that has its tensors.

    A group is named by the class of the layer in snake case and a counter, in the order in which
    the model lists its layers. The names that users give to layers are not used.

    Examples
    --------
    >>> layers = [{"class_name": "Dense", "config": {"name": name}} for name in ("first", "last")]
    >>> dict(file_places("Sequential", {"layers": layers}))
    {('first',): 'layers/dense', ('last',): 'layers/dense_1'}
    """
    counts: dict[str, int] = {}
    for layer in layers_of(config):
        if is_operation(layer):
            continue  # an operation such as keras.ops.relu is not among the layers of a model
        kind, inner = class_name_of(layer), config_of(layer)
        group = _snake_case(kind)
        count = counts.get(group, 0)
        counts[group] = count + 1
        path = f"{under}layers/{group}_{count}" if count else f"{under}layers/{group}"
        place = (name_of(layer),)
        yield place, path
        if has_graph(kind, inner):
            for rest, deeper in file_places(kind, inner, f"{path}/"):
                yield place + rest, deeper


def _snake_case(name: str) -> str:
    """Spell a class as `keras.src.utils.naming.to_snake_case` does."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def layers_of(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the configurations of the layers of a model."""
    layers = config.get("layers")
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise ValueError("its layers are no list of configurations")
    return layers


def config_of(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with which a layer was made."""
    config = layer.get("config", {})
    if not isinstance(config, dict):
        raise ValueError(f"the layer {layer.get('name')!r} has no configuration")
    return config


def class_name_of(layer: Mapping[str, Any]) -> str:
    """Return the class of a layer."""
    return str(layer.get("class_name"))


def name_of(layer: Mapping[str, Any]) -> str:
    """Return the name of a layer, which is unique in its model."""
    name = layer.get("name", config_of(layer).get("name"))
    if not isinstance(name, str):
        raise ValueError("a layer has no name")
    return name


def class_of(spec: Any) -> str:
    """Return the class of an initialiser, regulariser or constraint, "" if there is none."""
    if isinstance(spec, dict):
        kind = spec.get("class_name")
        return "a function of the user's own" if kind in (None, "function") else str(kind)
    return spec if isinstance(spec, str) else ""


def number_of(value: Any, otherwise: float) -> float:
    """Return a number, or an array of one number, and something else if it is neither."""
    if isinstance(value, dict):  # an array that Keras serialised
        value = value.get("config", {}).get("value") if isinstance(value.get("config"), dict) else 0
    try:
        return float(value) if isinstance(value, (int, float)) else otherwise
    except OverflowError:
        raise ValueError("a number in it is too large") from None


def is_keras(module: Any) -> bool:
    """Return whether the name of a module is one of Keras's own, not that of an add-on."""
    parts = str(module).split(".")
    return parts[0] in ("keras", "tf_keras") or (parts[0] == "tensorflow" and "keras" in parts)


def is_custom(described: Mapping[str, Any]) -> bool:
    """Return whether a configuration describes an object of a class that is not Keras's own.

    The name of the class does not decide this, as a user may call a class ``Dense``. Keras 3 writes
    the module of the class, or null for a module that it does not know. Older files have no module;
    there only a class that its user registered can be recognised.
    """
    if "module" in described and not is_keras(described["module"]):
        return True
    return ">" in str(described.get("registered_name")) or ">" in class_name_of(described)


def is_operation(layer: Mapping[str, Any]) -> bool:
    """Return whether this is an operation such as ``keras.ops.relu``, not a layer."""
    module = layer.get("module")
    return is_keras(module) and "ops" in str(module).split(".")


# --- calls of layers --------------------------------------------------------------------------


class Reference(NamedTuple):
    """A value, as a tensor that a call of a layer returns; `axes` is their number if known."""

    layer: str
    call: int
    tensor: int
    axes: int | None = None


@dataclass(frozen=True)
class Call:
    """The arguments that a layer is called with.

    Attributes
    ----------
    references : tuple of Reference
        The values among the arguments.
    constants : tuple of object
        The other operands. Whether a layer is trained and what it masks are none.
    first : bool
        Whether the first operand is a value.
    keys : tuple of str or None
        The keys of the values if they are given as a dictionary.
    keywords : mapping of str to object
        Further arguments in the spelling of Keras 2.
    given : tuple of hashable
        The names of the values in the graph, if they have any yet.
    """

    references: tuple[Reference, ...]
    constants: tuple[Any, ...] = ()
    first: bool = True
    keys: tuple[str, ...] | None = None
    keywords: Mapping[str, Any] = field(default_factory=dict)
    given: tuple[Hashable, ...] = ()


def call_of(spec: Any) -> Call:
    """Return the arguments of a call in either spelling."""
    keywords: Mapping[str, Any] = {}
    if is_new(spec):
        first, others = spec["args"], spec["kwargs"]
        if not isinstance(first, (list, tuple)) or not isinstance(others, dict):
            raise ValueError("a layer is called with arguments of no known form")
        modes = {name: others[name] for name in ("mask", "training") if name in others}
        rest = {name: others[name] for name in others if name not in modes}
        operands = [*_operands(first), *_operands(rest), *references_in(modes)]
        argument: Any = first[0] if first else None
    else:
        argument = first = spec
        while isinstance(first, (list, tuple)) and first and not isinstance(first[0], str):
            first = first[0]
        if isinstance(first, (list, tuple)) and len(first) > 3 and isinstance(first[3], dict):
            keywords = first[3]
        other = keywords.get("y")  # the second operand of a function of TensorFlow
        operands = [*_operands(spec), *(() if references_in(other) else _operands(other))]
    plain = isinstance(argument, dict) and "class_name" not in argument
    return Call(
        tuple(one for one in operands if isinstance(one, Reference)),
        tuple(one for one in operands if not isinstance(one, Reference)),
        bool(operands) and isinstance(operands[0], Reference),
        tuple(sorted(map(str, argument))) if plain else None,
        keywords,
    )


def is_new(call: Any) -> bool:
    """Return whether a call is spelled as in Keras 3."""
    return isinstance(call, dict) and "args" in call and "kwargs" in call


def references_in(spec: Any) -> tuple[Reference, ...]:
    """Return the values among nested arguments."""
    return tuple(one for one in _operands(spec) if isinstance(one, Reference))


def _operands(spec: Any) -> Iterator[Any]:
    """Yield the values and constants among nested arguments in the order in which Keras does."""
    if isinstance(spec, dict) and "class_name" in spec:
        inner = spec.get("config")
        if spec["class_name"] != "__keras_tensor__" or not isinstance(inner, dict):
            yield spec  # such as a constant array
            return
        shape = inner.get("shape")
        axes = len(shape) if isinstance(shape, (list, tuple)) else None
        yield from (one._replace(axes=axes) for one in references_in(inner.get("keras_history")))
    elif isinstance(spec, dict):
        for name in sorted(spec, key=str):
            yield from _operands(spec[name])
    elif not isinstance(spec, (list, tuple)):
        yield from () if spec is None else (spec,)
    elif len(spec) > 2 and isinstance(spec[0], str) and type(spec[1]) is int:
        constant = spec[0] == "_CONSTANT_VALUE" or type(spec[2]) is not int
        yield spec[2] if constant else Reference(*spec[:3])
        yield from references_in(spec[3:])
    else:
        yield from itertools.chain.from_iterable(map(_operands, spec))
