"""What the configuration of a Keras model says: its layers and the order in which they are used.

Keras writes the same description into files and returns it from ``model.get_config()``; the graph
of a Functional model is in it, in one of two spellings (Keras 3, and Keras 2 with tf_keras).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from obstruction.models.activations import HOMOGENEOUS, canonical, check_activation
from obstruction.models.contents import Activation, Barrier, Dense, Node, Step, Tensor
from obstruction.models.operations.chains import chained
from obstruction.models.readers.files import shown

Place: TypeAlias = tuple[str, ...]
"""Where a layer is: its name, after the names of the models that it is nested in."""

Find: TypeAlias = Callable[[Place], tuple[str, ...]]
"""Returns the names of a layer's tensors, weights before biases; ValueError if not found."""

MODELS: Final = ("Sequential", "Functional", "Model")
_MOST_NODES: Final = 20_000
_PARTS: Final = ("kernel", "bias")

_DROPOUTS: Final = ("Dropout", "GaussianDropout", *(f"SpatialDropout{n}D" for n in (1, 2, 3)))
_TRANSPARENT: Final = ("InputLayer", "Input", "Flatten", "Reshape", "Identity", "RepeatVector")
_ACTIVATION_LAYERS: Final = ("ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax", "ThresholdedReLU")
_NAMES: Final = ("relu", "leaky_relu", "linear")  # what Keras calls what keeps balances

_REASONS: Final = {
    "BatchNormalization": (
        "batch normalisation makes the outputs independent of the scale of the weights"
    ),
    "LayerNormalization": (
        "layer normalisation makes the outputs independent of the scale of the weights"
    ),
    "GroupNormalization": (
        "group normalisation makes the outputs independent of the scale of the weights"
    ),
    "RMSNormalization": "normalisation makes the outputs independent of the scale of the weights",
    "UnitNormalization": "normalisation makes the outputs independent of the scale of the weights",
    "SpectralNormalization": "the weights are divided by their largest singular value",
    "Normalization": "the inputs are shifted by constants",
    "Add": "a skip connection adds outputs of other layers",
    "Concatenate": "the outputs are joined with those of other layers",
    "Multiply": "the outputs are multiplied, by a constant or by outputs of other layers",
    "Permute": "the axes are exchanged",
    "GaussianNoise": "noise of a fixed size is added",
    "AlphaDropout": "dropped outputs are replaced by a constant",
    "ActivityRegularization": "the loss depends on the outputs of this layer",
    "Embedding": "an embedding is not a fully connected layer",
    "Lambda": "a Lambda layer runs code that is not read",
}
_FAMILIES: Final = {
    "Conv": "convolutions are not audited",
    "Pooling": "pooling mixes the outputs",
    "Attention": "attention is not audited",
    "LSTM": "recurrent layers are not audited",
    "GRU": "recurrent layers are not audited",
    "RNN": "recurrent layers are not audited",
}


def steps(
    class_name: str,
    config: Mapping[str, Any],
    find: Find,
    tensors: Mapping[str, Tensor],
) -> tuple[Step, ...] | None:
    """Return the steps of a model, None if its configuration holds no graph (a subclassed model).

    Parameters
    ----------
    class_name : str
        The class of the model.
    config : mapping
        Its configuration, as from ``model.get_config()``.
    find : callable
        Returns the names of the tensors of a layer by its place.
    tensors : mapping of str to Tensor
        The tensors, for the slopes of PReLU.

    Raises
    ------
    ValueError
        If the configuration contradicts itself or the tensors.
    """
    if not has_graph(class_name, config):
        return None
    graph = _Graph(find, tensors)
    results = graph.model(class_name, config, (), [("", "input")], True)
    return chained(graph.nodes, results)


def has_graph(class_name: str, config: Mapping[str, Any]) -> bool:
    """Return whether a configuration lists layers, as those of subclassed models do not."""
    return class_name in MODELS and isinstance(config.get("layers"), list)


def remarks(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a configuration says of how weights begin and are penalised, a sentence each."""
    found: dict[str, list[str]] = {}
    for layer in _dense_layers(config):
        name = str(layer.get("name"))
        weights, biases = (_class_of(layer.get(f"{part}_initializer")) for part in _PARTS)
        if weights:
            also = f", biases by {biases}" if biases and layer.get("use_bias", True) else ""
            found.setdefault(f"weights initialised by {weights}{also}", []).append(name)
        if any(_class_of(layer.get(f"{part}_regularizer")) for part in _PARTS):
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
    """Yield where ``model.weights.h5`` keeps each layer: its place, and the group in the file.

    Groups are named by the class in snake case and a counter, in the order in which the model
    lists its layers; the names that users give do not count.

    Examples
    --------
    >>> layers = [{"class_name": "Dense", "config": {"name": name}} for name in ("first", "last")]
    >>> dict(file_places("Sequential", {"layers": layers}))
    {('first',): 'layers/dense', ('last',): 'layers/dense_1'}
    """
    counts: dict[str, int] = {}
    for layer in _layers(config):
        if _is_operation(layer):
            continue  # an operation such as keras.ops.relu is no layer, and not counted
        kind, inner = _class_name(layer), _config(layer)
        group = _snake_case(kind)
        count = counts.get(group, 0)
        counts[group] = count + 1
        path = f"{under}layers/{group}_{count}" if count else f"{under}layers/{group}"
        place = (_name(layer),)
        yield place, path
        if has_graph(kind, inner):
            for rest, deeper in file_places(kind, inner, f"{path}/"):
                yield place + rest, deeper


def _snake_case(name: str) -> str:
    """Spell a class as `keras.src.utils.naming.to_snake_case` does."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


# --- careful access: a configuration may say anything -------------------------------------------


def _layers(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    layers = config.get("layers")
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise ValueError("its layers are no list of configurations")
    return layers


def _config(layer: Mapping[str, Any]) -> dict[str, Any]:
    config = layer.get("config", {})
    if not isinstance(config, dict):
        raise ValueError(f"the layer {layer.get('name')!r} has no configuration")
    return config


def _class_name(layer: Mapping[str, Any]) -> str:
    return str(layer.get("class_name"))


def _name(layer: Mapping[str, Any]) -> str:
    name = layer.get("name", _config(layer).get("name"))
    if not isinstance(name, str):
        raise ValueError("a layer has no name")
    return name


def _class_of(spec: Any) -> str:
    """Return the class of an initialiser, regulariser or constraint, "" if there is none."""
    if isinstance(spec, dict):
        kind = spec.get("class_name")
        return "a function of the user's own" if kind in (None, "function") else str(kind)
    return spec if isinstance(spec, str) else ""


def _number(value: Any, otherwise: float) -> float:
    if isinstance(value, dict):  # an array that Keras serialised
        value = value.get("config", {}).get("value") if isinstance(value.get("config"), dict) else 0
    try:
        return float(value) if isinstance(value, (int, float)) else otherwise
    except OverflowError:
        raise ValueError("a number in it is too large") from None


def is_keras(module: Any) -> bool:
    """Return whether a module is one of Keras's own, `None` and add-ons such as keras_hub not."""
    parts = str(module).split(".")
    return parts[0] in ("keras", "tf_keras") or (parts[0] == "tensorflow" and "keras" in parts)


def is_custom(described: Mapping[str, Any]) -> bool:
    """Return whether what a configuration describes is of a class that is not Keras's own.

    The name of a class does not tell: a user may call one ``Dense``. Keras 3 writes the module,
    null if it does not know it. Old files only tell a class that its user registered.
    """
    if "module" in described and not is_keras(described["module"]):
        return True
    return ">" in str(described.get("registered_name")) or ">" in _class_name(described)


def _is_operation(layer: Mapping[str, Any]) -> bool:
    """Return whether this is an operation such as ``keras.ops.relu``, which is no layer."""
    module = layer.get("module")
    return is_keras(module) and "ops" in str(module).split(".")


def _references(spec: Any) -> Iterator[tuple[str, int, int]]:
    """Yield the tensors that a node takes, ``(layer, node, tensor)``, in either spelling."""
    if isinstance(spec, dict):
        inner = spec.get("config")
        if spec.get("class_name") == "__keras_tensor__" and isinstance(inner, dict):
            yield from _references(inner.get("keras_history"))
        else:
            yield from itertools.chain.from_iterable(map(_references, spec.values()))
    elif isinstance(spec, (list, tuple)):  # a model in memory has tuples
        head = spec[:3]
        if len(head) == 3 and isinstance(head[0], str) and all(type(n) is int for n in head[1:]):
            yield head[0], head[1], head[2]
            spec = spec[3:]
        yield from itertools.chain.from_iterable(map(_references, spec))


# --- the graph ------------------------------------------------------------------------------


class _Graph:
    """The nodes of a model, with those of nested models in their place."""

    def __init__(self, find: Find, tensors: Mapping[str, Tensor]) -> None:
        self.find, self.tensors = find, tensors
        self.nodes: list[Node] = []
        self._scopes = itertools.count()

    def add(self, inputs: Iterable[Any], outputs: Iterable[Any], steps: Iterable[Step]) -> None:
        if len(self.nodes) == _MOST_NODES:
            raise ValueError(f"its graph has more than {_MOST_NODES:,} nodes")
        self.nodes.append(Node(tuple(inputs), tuple(outputs), tuple(steps)))

    def model(
        self,
        class_name: str,
        config: Mapping[str, Any],
        under: Place,
        inputs: list[Any],
        trained: bool,
    ) -> list[Any]:
        """Add the nodes of a model applied to values, and return the values it makes."""
        trained = trained and config.get("trainable") is not False
        if class_name == "Sequential":
            for layer in _layers(config):
                inputs = self.layer(layer, under, inputs, trained)
            return inputs
        return self.functional(config, under, inputs, trained)

    def functional(
        self, config: Mapping[str, Any], under: Place, given: list[Any], trained: bool
    ) -> list[Any]:
        scope = next(self._scopes)
        layers = {_name(layer): layer for layer in _layers(config)}
        if len(layers) < len(_layers(config)):
            raise ValueError("two layers have the same name")
        results = list(_references(config.get("output_layers")))
        taken: dict[tuple[str, int], set[int]] = {}
        for name, node, tensor in results:
            taken.setdefault((name, node), set()).add(tensor)
        for layer in layers.values():
            for name, node, tensor in _references(layer.get("inbound_nodes")):
                taken.setdefault((name, node), set()).add(tensor)

        starts = list(_references(config.get("input_layers")))
        if not results or not starts:
            raise ValueError("it does not say which layers come first and last")
        if under and len(starts) != len(given):
            raise ValueError(f"{under[-1]!r} takes {len(starts)} inputs and is given {len(given)}")
        if under:
            for value, start in zip(given, starts, strict=True):
                self.add([value], [(scope, *start)], [])
        for name, layer in layers.items():
            calls = layer.get("inbound_nodes") or []
            if not isinstance(calls, list):
                raise ValueError(f"the layer {name!r} has no list of nodes")
            for i, call in enumerate(calls):
                values = [(scope, *reference) for reference in _references(call)]
                if not values:
                    raise ValueError(f"it does not say what the layer {name!r} is applied to")
                made = self.layer(layer, under, values, trained)
                used = sorted(taken.get((name, i), {0}))
                if not made:
                    continue
                if len(made) == 1:
                    self.add(made, [(scope, name, i, tensor) for tensor in used], [])
                elif max(used) < len(made):
                    for tensor in used:
                        self.add([made[tensor]], [(scope, name, i, tensor)], [])
                else:
                    raise ValueError(f"the layer {name!r} has no output {max(used)}")
        return [(scope, *reference) for reference in results]

    def layer(
        self, layer: Mapping[str, Any], under: Place, inputs: list[Any], trained: bool
    ) -> list[Any]:
        """Add a layer, or the nodes of a nested model, and return the values it makes."""
        kind, config, place = _class_name(layer), _config(layer), (*under, _name(layer))
        if has_graph(kind, config) and not is_custom(layer):
            return self.model(kind, config, place, inputs, trained)
        output = (next(self._scopes), place)
        trained = trained and config.get("trainable") is not False
        self.add(inputs, [output], self.steps_of(layer, place, trained))
        return [output]

    def steps_of(self, layer: Mapping[str, Any], place: Place, trained: bool) -> list[Step]:
        """Return what a layer is for the audit."""
        kind, config, name = _class_name(layer), _config(layer), "/".join(place)
        if is_custom(layer):
            return [Barrier(name, f"{kind} is a layer of the user's own, whose code is not read")]
        if kind == "Dense":
            return self.dense(config, place, trained)
        if kind == "TimeDistributed":
            inner = config.get("layer")
            if isinstance(inner, dict) and _class_name(inner) == "Dense" and not is_custom(inner):
                return self.dense(_config(inner), place, trained)
        if kind in _TRANSPARENT + _DROPOUTS:
            return []
        if kind == "Activation":
            return _activation(config.get("activation"), name)
        if kind in _ACTIVATION_LAYERS or (_is_operation(layer) and _is_activation(kind)):
            return [self.activation_layer(kind, config, place)]
        reason = _REASONS.get(kind)
        for part, why in _FAMILIES.items():
            reason = reason or (why if part in kind else None)
        return [Barrier(name, reason or f"{kind} layers are not audited")]

    def dense(self, config: Mapping[str, Any], place: Place, trained: bool) -> list[Step]:
        name = "/".join(place)
        if config.get("lora_rank"):
            return [Barrier(name, "low-rank adaptation (LoRA) trains other weights than these")]
        if config.get("quantization_config") or "Quantized" in _class_of(config.get("dtype")):
            return [Barrier(name, "the weights are quantised")]
        names = self.find(place)
        biased = bool(config.get("use_bias", True))
        if len(names) < 1 + biased:
            raise ValueError(f"the weights of {name!r} are not where its layer says")
        weight, bias = names[0], names[1] if biased else None
        shape = self.tensors[weight].shape
        if len(shape) != 2 or config.get("units", shape[1]) != shape[1]:
            raise ValueError(f"the weights of {name!r} do not have the shape its layer says")
        if bias is not None and self.tensors[bias].shape != shape[1:]:
            raise ValueError(f"the biases of {name!r} do not have the shape its layer says")
        layer = Dense(name, weight, bias, layout="in_out", trained=trained)
        applied = _activation(config.get("activation"), name)
        for part in ("kernel_constraint", "bias_constraint"):
            if constraint := _class_of(config.get(part)):
                held = Barrier(name, f"{constraint} changes the weights after every step")
                return [held, layer, *applied, held]
        return [layer, *applied]

    def activation_layer(self, kind: str, config: Mapping[str, Any], place: Place) -> Activation:
        if kind != "PReLU":
            return _layer_activation(kind, config)
        names = self.find(place)
        slopes = self.tensors[names[0]].array if names else None
        uniform = slopes is not None and slopes.size and (slopes == slopes.flat[0]).all()
        return Activation(
            "PReLU", float(slopes.flat[0]) or 0.0 if uniform and slopes is not None else 0.0
        )


def _is_activation(kind: str) -> bool:
    try:
        return check_activation(kind) != "linear"  # no operation is one, whatever it is called
    except ValueError:
        return False


def _layer_activation(kind: str, config: Mapping[str, Any]) -> Activation:
    """Return the activation that a layer of its own applies."""
    slope = config.get("negative_slope", config.get("alpha"))
    if kind == "ReLU":
        if config.get("max_value") is not None:
            highest = _number(config["max_value"], 0.0)
            return Activation("relu6" if highest == 6.0 else f"relu up to {highest:g}")
        if _number(config.get("threshold"), 0.0):
            return Activation("ThresholdedReLU")
        slope = _number(slope, 0.0)
        return Activation("leaky_relu", slope) if slope else Activation("relu")
    if kind in ("LeakyReLU", "LeakyRelu"):
        return Activation(kind, _number(slope, 0.3 if kind == "LeakyReLU" else 0.2))
    return Activation(kind)


def _activation(spec: Any, name: str) -> list[Step]:
    """Return the activation that an argument ``activation`` names, a function or a layer.

    A name counts if it is one of Keras's own; a user's function may have any name.
    """
    if isinstance(spec, dict):
        kind, config = _class_name(spec), spec.get("config")
        if kind == "function" and is_keras(spec.get("module")) and not is_custom(spec):
            return _activation(str(config), name)
        if kind in _ACTIVATION_LAYERS and not is_custom(spec):
            return [_layer_activation(kind, config if isinstance(config, dict) else {})]
        if kind == "Activation" and isinstance(config, dict) and not is_custom(spec):
            return _activation(config.get("activation"), name)
        called = config if isinstance(config, str) else spec.get("class_name")
        if called in (None, "__lambda__"):
            return [Barrier(name, "a custom activation without a name, whose code is not read")]
        return [Barrier(name, f"a custom activation {shown(str(called))}, whose code is not read")]
    if spec is None or spec == "linear":
        return []
    plain = isinstance(spec, str) and spec.isidentifier()
    if not plain or (canonical(spec) in HOMOGENEOUS and spec not in _NAMES):
        return [Barrier(name, f"a custom activation {shown(str(spec))}, whose code is not read")]
    return [Activation(spec, 0.2 if spec == "leaky_relu" else 0.0)]
