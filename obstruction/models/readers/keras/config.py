"""The description of a Keras model: its layers and the graph in which they are used.

``model.get_config()`` returns this description, and Keras writes it into files. There are two
spellings of the graph of a Functional model: that of Keras 3, and that of Keras 2 and tf_keras.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, TypeAlias

from obstruction.models.activations import HOMOGENEOUS, canonical, check_activation
from obstruction.models.contents import (
    Activation,
    Barrier,
    Dense,
    Join,
    Operation,
    OperationGraph,
    Step,
    Tensor,
)
from obstruction.models.operations.graphs import operation_graph
from obstruction.models.readers.files import shown

Place: TypeAlias = tuple[str, ...]
"""The name of a layer, after the names of the models in which it is nested."""

Find: TypeAlias = Callable[[Place], tuple[str, ...]]
"""Returns the names of a layer's tensors, weights before biases; ValueError if not found."""

MODELS: Final = ("Sequential", "Functional", "Model")
_MOST_OPERATIONS: Final = 20_000
_PARTS: Final = ("kernel", "bias")

_DROPOUTS: Final = ("Dropout", "GaussianDropout", *(f"SpatialDropout{n}D" for n in (1, 2, 3)))
_RESHAPED: Final = ("Flatten", "Reshape", "RepeatVector")
_TRANSPARENT: Final = ("InputLayer", "Input", "Identity", *_RESHAPED, *_DROPOUTS)
_ACTIVATION_LAYERS: Final = ("ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax", "ThresholdedReLU")
_SUMS: Final = ("Add", "Average")
_NAMES: Final = ("relu", "leaky_relu", "linear")  # what Keras calls what keeps balances

_RESHAPING: Final = ("Reshape", "ExpandDims", "Squeeze")
_OPERATIONS: Final = (
    *("Add", "Cast", "Concatenate", "Divide", "Maximum", "Multiply", "TrueDivide"),
    *_RESHAPING,
)
_TENSORFLOW: Final = {
    "add": "Add",
    "concat": "Concatenate",
    "divide": "Divide",
    "expand_dims": "ExpandDims",
    "leaky_relu": "LeakyRelu",
    "maximum": "Maximum",
    "multiply": "Multiply",
    "reshape": "Reshape",
    "squeeze": "Squeeze",
    "truediv": "TrueDivide",
}  # functions of TensorFlow, by the names of the same operations of Keras

_CONSTANT: Final = "a constant is added, multiplied or compared with"
_SEVERAL: Final = "it is given several values"
_JOINED: Final = "the outputs are joined with those of other layers"
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
    "Average": "a skip connection adds outputs of other layers",
    "Concatenate": _JOINED,
    "Multiply": "the outputs are multiplied, by a constant or by outputs of other layers",
    "Permute": "the axes are exchanged",
    "GaussianNoise": "noise of a fixed size is added",
    "AlphaDropout": "dropped outputs are replaced by a constant",
    "ActivityRegularization": "the loss depends on the outputs of this layer",
    "Embedding": "an embedding is not a fully connected layer",
    "Lambda": "a Lambda layer runs code that is not read",
    "StopGradient": "no gradient passes here",
}
_FAMILIES: Final = {
    "Conv": "convolutions are not audited",
    "Pooling": "pooling mixes the outputs",
    "Attention": "attention is not audited",
    "LSTM": "recurrent layers are not audited",
    "GRU": "recurrent layers are not audited",
    "RNN": "recurrent layers are not audited",
}


def graph_of(
    class_name: str,
    config: Mapping[str, Any],
    find: Find,
    tensors: Mapping[str, Tensor],
    frozen: Collection[str] = (),
) -> OperationGraph | None:
    """Return the operations of a model, None if it is subclassed and its description has no graph.

    Parameters
    ----------
    class_name : str
        The class of the model.
    config : mapping
        Its configuration, as from ``model.get_config()``.
    find : callable
        Returns the names of the tensors of a layer by its place.
    tensors : mapping of str to Tensor
        The tensors of the model.
    frozen : collection of str
        The names of tensors that training leaves as they are, apart from those of layers that the
        configuration itself says are not trainable.

    Raises
    ------
    ValueError
        If the configuration contradicts itself or the tensors.
    """
    if not has_graph(class_name, config):
        return None
    reading = _Reading(find, tensors, frozen)
    results = reading.model(class_name, config, (), ["input"], None, True)
    return operation_graph(
        reading.operations,
        results,
        lambda layer: not reading.elsewhere.isdisjoint({layer.weight, layer.bias}),
    )


def has_graph(class_name: str, config: Mapping[str, Any]) -> bool:
    """Return whether a configuration lists layers, which those of subclassed models do not."""
    return class_name in MODELS and isinstance(config.get("layers"), list)


def remarks(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a configuration says of initialisers and regularisers, a sentence each."""
    found: dict[str, list[str]] = {}
    for layer in _dense_layers(config):
        name = str(layer.get("name"))
        weights, biases = (_class_of(layer.get(f"{part}_initializer")) for part in _PARTS)
        if weights:
            also = f", biases by {biases}" if biases and layer.get("use_bias", True) else ""
            found.setdefault(f"weights initialised by {weights}{also}", []).append(name)
        if any(_class_of(layer.get(f"{part}_regularizer")) for part in (*_PARTS, "activity")):
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
    for layer in _layers(config):
        if _is_operation(layer):
            continue  # an operation such as keras.ops.relu is not among the layers of a model
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


# --- parts of a configuration, which may hold anything --------------------------------------------


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


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


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
    return ">" in str(described.get("registered_name")) or ">" in _class_name(described)


def _is_operation(layer: Mapping[str, Any]) -> bool:
    """Return whether this is an operation such as ``keras.ops.relu``, not a layer.

    HDF5 files do not hold modules. There an operation is recognised by its configuration, which
    does not say whether it is trainable.
    """
    if "module" in layer:
        return is_keras(layer["module"]) and "ops" in str(layer["module"]).split(".")
    kind = _class_name(layer)
    known = kind in _OPERATIONS or (kind not in _ACTIVATION_LAYERS and _is_activation(kind))
    return known and "trainable" not in _config(layer)


def _is_activation(kind: str) -> bool:
    try:
        return check_activation(kind) != "linear"  # no operation is linear, whatever its name is
    except ValueError:
        return False


# --- calls of layers --------------------------------------------------------------------------


class _Reference(NamedTuple):
    """A value that a call of a layer returns; `axes` is their number if it is known."""

    layer: str
    call: int
    tensor: int
    axes: int | None = None


@dataclass(frozen=True)
class _Call:
    """The arguments that a layer is called with.

    Attributes
    ----------
    operands : tuple of object
        A `_Reference` for each value among the arguments, and constants as they are.
    keys : tuple of str or None
        The keys of the values if they are given as a dictionary.
    keywords : mapping of str to object
        Further arguments in the spelling of Keras 2.
    """

    operands: tuple[Any, ...]
    keys: tuple[str, ...] | None = None
    keywords: Mapping[str, Any] = field(default_factory=dict)

    @property
    def references(self) -> list[_Reference]:
        """The values among the operands."""
        return [one for one in self.operands if isinstance(one, _Reference)]

    @property
    def constants(self) -> list[Any]:
        """The other operands."""
        return [one for one in self.operands if not isinstance(one, _Reference)]


def _call_of(spec: Any) -> _Call:
    """Return the arguments of a call in either spelling."""
    if not _is_new(spec):
        keywords = _keywords(spec)
        other = keywords.get("y")  # the second operand of a function of TensorFlow
        constants = () if other is None or _references(other) else (other,)
        return _Call((*_operands(spec), *constants), _keys(spec), keywords)
    arguments, keywords = spec["args"], spec["kwargs"]
    if not isinstance(arguments, (list, tuple)) or not isinstance(keywords, dict):
        raise ValueError("a layer is called with arguments of no known form")
    modes = {name: keywords[name] for name in ("mask", "training") if name in keywords}
    others = {name: given for name, given in keywords.items() if name not in modes}
    operands = (*_operands(arguments), *_operands(others), *_references(modes))
    return _Call(operands, _keys(arguments[0]) if arguments else None)


def _is_new(call: Any) -> bool:
    """Return whether a call is spelled as in Keras 3."""
    return isinstance(call, dict) and "args" in call and "kwargs" in call


def _keys(argument: Any) -> tuple[str, ...] | None:
    """Return the keys of a dictionary of values, in the order in which Keras flattens it."""
    plain = isinstance(argument, dict) and "class_name" not in argument
    return tuple(sorted(map(str, argument))) if plain else None


def _keywords(spec: Any) -> Mapping[str, Any]:
    """Return the further arguments of a call in the spelling of Keras 2."""
    while isinstance(spec, (list, tuple)) and spec and not isinstance(spec[0], str):
        spec = spec[0]
    given = spec[3] if isinstance(spec, (list, tuple)) and len(spec) > 3 else None
    return given if isinstance(given, dict) else {}


def _operands(spec: Any) -> Iterator[Any]:
    """Yield the values and constants of nested arguments, in the order in which Keras does."""
    if isinstance(spec, dict) and "class_name" in spec:
        inner = spec.get("config")
        if spec["class_name"] != "__keras_tensor__" or not isinstance(inner, dict):
            yield spec  # a constant array, say
            return
        shape = inner.get("shape")
        axes = len(shape) if isinstance(shape, (list, tuple)) else None
        yield from (one._replace(axes=axes) for one in _references(inner.get("keras_history")))
    elif isinstance(spec, dict):
        for name in sorted(spec, key=str):
            yield from _operands(spec[name])
    elif not isinstance(spec, (list, tuple)):
        yield from () if spec is None else (spec,)
    elif len(spec) > 2 and isinstance(spec[0], str) and type(spec[1]) is int:
        constant = spec[0] == "_CONSTANT_VALUE" or type(spec[2]) is not int
        yield spec[2] if constant else _Reference(*spec[:3])
        yield from _references(spec[3:])
    else:
        yield from itertools.chain.from_iterable(map(_operands, spec))


def _references(spec: Any) -> list[_Reference]:
    """Return the values among nested arguments."""
    return [one for one in _operands(spec) if isinstance(one, _Reference)]


# --- the graph --------------------------------------------------------------------------------


class _Reading:
    """Collects the operations of a model and of the models that are nested in it."""

    def __init__(self, find: Find, tensors: Mapping[str, Tensor], frozen: Collection[str]) -> None:
        self.find, self.tensors, self.frozen = find, tensors, frozen
        self.operations: list[Operation] = []
        self.elsewhere: set[str] = set()  # tensors of layers of which it is not known what they do
        self._scopes = itertools.count()

    def add(
        self,
        inputs: Iterable[Hashable],
        outputs: Iterable[Hashable],
        steps: Iterable[Step] = (),
        *,
        reshapes: bool = False,
    ) -> None:
        """Add an operation.

        Raises
        ------
        ValueError
            If there are too many, as a small file may describe very many.
        """
        if len(self.operations) == _MOST_OPERATIONS:
            raise ValueError(f"its graph has more than {_MOST_OPERATIONS:,} nodes")
        self.operations.append(Operation(tuple(inputs), tuple(outputs), tuple(steps), reshapes))

    def model(
        self,
        class_name: str,
        config: Mapping[str, Any],
        under: Place,
        given: Sequence[Hashable],
        keys: tuple[str, ...] | None,
        trained: bool,
    ) -> Sequence[Hashable]:
        """Add the operations of a model that is applied to values, and return its results."""
        trained = trained and config.get("trainable") is not False
        scope = next(self._scopes)
        if class_name != "Sequential":
            return self.functional(config, scope, under, given, keys, trained)
        for i, layer in enumerate(_layers(config)):
            call = _Call(tuple(_Reference("", 0, k) for k in range(len(given))))
            given = self.layer(layer, under, given, call, [(scope, i)], trained)
        return given

    def functional(
        self,
        config: Mapping[str, Any],
        scope: int,
        under: Place,
        given: Sequence[Hashable],
        keys: tuple[str, ...] | None,
        trained: bool,
    ) -> Sequence[Hashable]:
        """Add the operations of a Functional model, and return its results."""
        calls = _Calls(config)
        starts = calls.starts
        if under and len(starts) != len(given):
            raise ValueError(f"{under[-1]!r} takes {len(starts)} inputs and is given {len(given)}")
        if under and keys is not None and not isinstance(config["input_layers"], dict):
            named = dict(zip(keys, given, strict=True))  # by the names of the inputs
            if not named.keys() >= {start.layer for start in starts}:
                raise ValueError(f"{under[-1]!r} is given inputs of other names than its own")
            given = [named[start.layer] for start in starts]
        for i, start in enumerate(starts):
            if under:
                self.add([given[i]], [(scope, *start[:3])])
            elif not calls.of.get(start.layer):
                self.add([start.layer], [(scope, *start[:3])])
        for name, layer in calls.layers.items():
            for i, call in enumerate(calls.of[name]):
                values = [(scope, *one[:3]) for one in call.references]
                if not values:
                    raise ValueError(f"it does not say what the layer {name!r} is applied to")
                used = sorted(calls.used.get((name, i), ()))
                outputs = [(scope, name, i, tensor) for tensor in used]
                made = self.layer(layer, under, values, call, outputs, trained)
                if made is outputs:
                    continue
                if used and used[-1] >= len(made):  # it is a model
                    raise ValueError(f"the layer {name!r} has no output {used[-1]}")
                for tensor, output in zip(used, outputs, strict=True):
                    self.add([made[tensor]], [output])
        return [(scope, *one[:3]) for one in calls.results]

    def layer(
        self,
        layer: Mapping[str, Any],
        under: Place,
        given: Sequence[Hashable],
        call: _Call,
        outputs: Sequence[Hashable],
        trained: bool,
    ) -> Sequence[Hashable]:
        """Add a layer that makes these outputs, or a nested model; return the values it makes."""
        kind, config, place = _class_name(layer), _config(layer), (*under, _name(layer))
        name, trained = "/".join(place), trained and config.get("trainable") is not False
        if is_custom(layer):
            self.use_elsewhere(place)
            own = f"{kind} is a layer of the user's own, whose code is not read"
            self.add(given, outputs, [Barrier(name, own)])
            return outputs
        if has_graph(kind, config):
            return self.model(kind, config, place, given, call.keys, trained)
        if kind == "TFOpLambda":  # a function of TensorFlow
            function = str(config.get("function")).split(".")[-1]
            kind = _TENSORFLOW.get(function, function)
            steps = _operation(kind, {"axis": 0, **call.keywords}, name, call)
            reshapes = kind in _RESHAPING
        elif _is_operation(layer):
            steps, reshapes = _operation(kind, config, name, call), kind in _RESHAPING
        else:
            steps, reshapes = self.steps_of(layer, place, call, trained), kind in _RESHAPED
            if steps and all(isinstance(step, Barrier) for step in steps):
                self.use_elsewhere(place)
        self.add(given, outputs, steps, reshapes=reshapes)
        return outputs

    def use_elsewhere(self, place: Place) -> None:
        """Record that it is not known what a layer does with its weights."""
        with contextlib.suppress(ValueError):
            self.elsewhere.update(self.find(place))

    def steps_of(
        self, layer: Mapping[str, Any], place: Place, call: _Call, trained: bool
    ) -> list[Step]:
        """Return the steps of a layer that is one of Keras's own."""
        kind, config, name = _class_name(layer), _config(layer), "/".join(place)
        if kind in _SUMS and len(call.references) > 1 and not call.constants:
            return [Join(name, _REASONS[kind], "sum")]
        if kind == "Concatenate":
            return [_concatenation(name, config.get("axis", -1), call)]
        single, inner = len(call.references) == 1, config.get("layer")
        if kind == "TimeDistributed" and isinstance(inner, dict) and not is_custom(inner):
            kind, config = _class_name(inner), _config(inner)
            if kind != "Dense":
                return [_unknown("TimeDistributed", name)]
        if kind == "Dense":
            return self.dense(config, place, trained) if single else [Barrier(name, _SEVERAL)]
        if kind in _TRANSPARENT:
            return [] if single else [Barrier(name, _SEVERAL)]
        if kind == "Activation" and single:
            return _activation(config.get("activation"), name)
        if kind in _ACTIVATION_LAYERS and single:
            return [self.activation_layer(kind, config, place)]
        return [_unknown(kind, name)]

    def dense(self, config: Mapping[str, Any], place: Place, trained: bool) -> list[Step]:
        """Return the steps of a fully connected layer."""
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
        trained = trained and weight not in self.frozen and bias not in self.frozen
        layer = Dense(name, weight, bias, layout="in_out", trained=trained)
        applied = _activation(config.get("activation"), name)
        for part in ("kernel_constraint", "bias_constraint"):
            if constraint := _class_of(config.get(part)):
                held = Barrier(name, f"{constraint} changes the weights after every step")
                return [held, layer, *applied, held]
        return [layer, *applied]

    def activation_layer(self, kind: str, config: Mapping[str, Any], place: Place) -> Activation:
        """Return the activation that a layer of its own applies."""
        if kind != "PReLU":
            return _layer_activation(kind, config)
        names = self.find(place)
        slopes = self.tensors[names[0]].array if names else None
        uniform = slopes is not None and slopes.size and (slopes == slopes.flat[0]).all()
        return Activation(
            "PReLU", float(slopes.flat[0]) or 0.0 if uniform and slopes is not None else 0.0
        )


class _Calls:
    """The layers of a Functional model, and which values each call of a layer takes.

    Calls are numbered from 0 here. Keras counts the making of a nested model as its first call, so
    that it numbers the others from 1. Keras 3 does so among the outputs of a model only.

    Attributes
    ----------
    layers : dict of str to dict
        The configuration of each layer, by its name.
    of : dict of str to list of _Call
        The calls of each layer.
    starts, results : list of _Reference
        The inputs of the model and the values that it returns.
    used : dict of (str, int) to set of int
        Which of the tensors that a call of a layer returns are used.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.layers = {_name(layer): layer for layer in _layers(config)}
        if len(self.layers) < len(_layers(config)):
            raise ValueError("two layers have the same name")
        described = {name: layer.get("inbound_nodes") for name, layer in self.layers.items()}
        for name, calls in described.items():
            if calls and not isinstance(calls, list):
                raise ValueError(f"the layer {name!r} has no list of nodes")
        self.of = {name: [*map(_call_of, calls or ())] for name, calls in described.items()}
        self.starts = _references(config.get("input_layers"))
        self.results = _references(config.get("output_layers"))
        if not self.results or not self.starts:
            raise ValueError("it does not say which layers come first and last")
        self.used: dict[tuple[str, int], set[int]] = {}
        inner = [one for calls in self.of.values() for call in calls for one in call.references]
        is_new = all(_is_new(call) for calls in described.values() for call in calls or ())
        first = self._first_calls(inner if is_new else [*inner, *self.results])
        for calls in self.of.values():
            calls[:] = [
                replace(call, operands=tuple(self._counted(one, first) for one in call.operands))
                for call in calls
            ]
        if is_new:
            first = self._first_calls(self.results)
            first |= {name: 1 for name, layer in self.layers.items() if _is_functional(layer)}
        self.results = [self._counted(one, first) for one in self.results]

    def _first_calls(self, references: Iterable[_Reference]) -> dict[str, int]:
        """Return the number of the first call of each layer, given all references to its calls."""
        return {
            one.layer: 1
            for one in references
            if one.call and one.call >= len(self.of.get(one.layer, ()))
        }

    def _counted(self, operand: Any, first: Mapping[str, int]) -> Any:
        """Return a reference with its call counted from 0; constants stay as they are."""
        if not isinstance(operand, _Reference):
            return operand
        name, call = operand.layer, operand.call - first.get(operand.layer, 0)
        if name not in self.layers:
            raise ValueError(f"it refers to a layer {name!r} that it does not list")
        is_start = not self.of[name] and any(start.layer == name for start in self.starts)
        if not 0 <= call < len(self.of[name]) + is_start:
            raise ValueError(f"it refers to a call of the layer {name!r} that it does not list")
        self.used.setdefault((name, call), set()).add(operand.tensor)
        return operand._replace(call=call)


def _is_functional(layer: Mapping[str, Any]) -> bool:
    """Return whether a layer is a Functional model of Keras's own class."""
    kind = _class_name(layer)
    return kind != "Sequential" and has_graph(kind, _config(layer)) and not is_custom(layer)


def _operation(kind: str, config: Mapping[str, Any], name: str, call: _Call) -> list[Step]:
    """Return the steps of an operation such as ``keras.ops.add``."""
    references, constants = call.references, call.constants
    if kind == "Add" and len(references) == 2 and not constants:
        return [Join(name, _REASONS[kind], "sum")]
    if kind == "Concatenate":
        return [_concatenation(name, config.get("axis", 0), call)]
    if len(references) == 1:
        number = constants[0] if len(constants) == 1 and _is_number(constants[0]) else None
        divides = kind in ("Divide", "TrueDivide") and isinstance(call.operands[0], _Reference)
        if number is not None and (kind == "Multiply" or divides or (kind == "Add" and not number)):
            return []
        if number == 0 and kind == "Maximum":
            return [Activation("relu")]
        if kind in _RESHAPING or (kind == "Cast" and "float" in str(config.get("dtype"))):
            return []
        if _is_activation(kind) and not constants:
            return [_layer_activation(kind, config)]
        if kind in ("Add", "Subtract", "Maximum", "Minimum"):
            return [Barrier(name, _CONSTANT)]
    return [_unknown(kind, name)]


def _concatenation(name: str, axis: Any, call: _Call) -> Barrier:
    """Return the join of a concatenation, a barrier if it is not along the axis of the neurons."""
    axes = {one.axes for one in call.references}
    known = axes.pop() if len(axes) == 1 else None
    if len(call.references) < 2 or call.constants:
        return Barrier(name, _JOINED)
    if axis == -1 or (known is not None and axis == known - 1):
        return Join(name, _JOINED, "concat")
    if axis == 1 and known is None:
        return Join(name, _JOINED, "concat", second_axis=True)
    return Barrier(name, _JOINED)


def _unknown(kind: str, name: str) -> Barrier:
    """Return the barrier that a layer or operation is of which no balance is conserved."""
    families = [why for part, why in _FAMILIES.items() if part in kind]
    return Barrier(name, _REASONS.get(kind) or (*families, f"{kind} layers are not audited")[0])


def _layer_activation(kind: str, config: Mapping[str, Any]) -> Activation:
    """Return the activation of a layer or operation whose only purpose is to apply it."""
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
    """Return the steps of an argument ``activation``, which names a function or a layer.

    A name is understood only if it is one of Keras's own, as a user's function may have any name.
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
