"""The steps of the layers and operations of Keras, recognised by the names of their classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from obstruction.models.activations import HOMOGENEOUS, canonical, is_activation
from obstruction.models.contents import Activation, Barrier, Join, Step
from obstruction.models.readers.files import shown
from obstruction.models.readers.keras.config import (
    Call,
    class_name_of,
    config_of,
    is_custom,
    is_keras,
    is_operation,
    number_of,
)

_DROPOUTS: Final = ("Dropout", "GaussianDropout", *(f"SpatialDropout{n}D" for n in (1, 2, 3)))
RESHAPED: Final = ("Flatten", "Reshape", "RepeatVector", "ExpandDims", "Squeeze")
_TRANSPARENT: Final = ("InputLayer", "Input", "Identity", *RESHAPED, *_DROPOUTS)
_ACTIVATION_LAYERS: Final = ("ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax", "ThresholdedReLU")
_OPERATIONS: Final = (
    *("Add", "Cast", "Concatenate", "Divide", "Maximum", "Multiply", "Reshape", "TrueDivide"),
    *("ExpandDims", "Squeeze"),
)
_TENSORFLOW: Final = {"Concat": "Concatenate", "Truediv": "TrueDivide"}
_NAMES: Final = ("relu", "leaky_relu", "linear")  # Keras's names of homogeneous activations

_CONSTANT: Final = "a constant is added, multiplied or compared with"
_JOINED: Final = "the outputs are joined with those of other layers"
SEVERAL: Final = "it is given several values"
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


def as_operation(layer: Mapping[str, Any], call: Call) -> tuple[str, Mapping[str, Any]] | None:
    """Return the class and the arguments of an operation such as ``keras.ops.add``, else None.

    Functions of TensorFlow are such operations too. HDF5 files do not hold modules; there an
    operation is recognised by its configuration, which does not say whether it is trainable.
    """
    kind, config = class_name_of(layer), config_of(layer)
    if kind == "TFOpLambda":
        function = str(config.get("function")).split(".")[-1]
        named = "".join(word.capitalize() for word in function.split("_"))
        return _TENSORFLOW.get(named, named), call.keywords
    known = kind in _OPERATIONS or (kind not in _ACTIVATION_LAYERS and is_activation(kind))
    in_hdf5 = known and "module" not in layer and "trainable" not in config
    return (kind, config) if in_hdf5 or is_operation(layer) else None


def steps_of_operation(kind: str, config: Mapping[str, Any], name: str, call: Call) -> list[Step]:
    """Return the steps of an operation of a class of ``keras.ops``."""
    constants = call.constants
    if kind == "Add" and len(call.references) == 2 and not constants:
        return [Join(name, _REASONS[kind], "sum")]
    if kind == "Concatenate":
        return [_concatenation(name, config.get("axis", 0), call)]
    if len(call.references) == 1:
        is_number = len(constants) == 1 and type(constants[0]) in (int, float)
        divides = kind in ("Divide", "TrueDivide") and call.first
        adds_nothing = kind == "Add" and constants == (0,)
        if is_number and (kind == "Multiply" or divides or adds_nothing):
            return []
        if is_number and kind == "Maximum" and constants == (0,):
            return [Activation("relu")]
        if kind in RESHAPED or (kind == "Cast" and "float" in str(config.get("dtype"))):
            return []
        if is_activation(kind) and canonical(kind) != "linear" and not constants:
            return [layer_activation(kind, config)]
        if kind in ("Add", "Subtract", "Maximum", "Minimum"):
            return [Barrier(name, _CONSTANT)]
    return [unknown(kind, name)]


def steps_of_layer(kind: str, config: Mapping[str, Any], name: str, call: Call) -> list[Step]:
    """Return the steps of a layer of a class of ``keras.layers`` that uses no weights."""
    if kind in ("Add", "Average") and len(call.references) > 1 and not call.constants:
        return [Join(name, _REASONS[kind], "sum")]
    if kind == "Concatenate":
        return [_concatenation(name, config.get("axis", -1), call)]
    if len(call.references) > 1 and kind in ("Activation", *_TRANSPARENT, *_ACTIVATION_LAYERS):
        return [Barrier(name, SEVERAL)]
    if kind == "Activation":
        return activation(config.get("activation"), name)
    if kind in _ACTIVATION_LAYERS:
        return [layer_activation(kind, config)]
    return [] if kind in _TRANSPARENT else [unknown(kind, name)]


def _concatenation(name: str, axis: Any, call: Call) -> Barrier:
    """Return the join of a concatenation, a barrier if it is not along the axis of the neurons."""
    axes = {one.axes for one in call.references}
    known = axes.pop() if len(axes) == 1 else None
    if len(call.references) > 1 and not call.constants:
        if axis == -1 or (known is not None and axis == known - 1):
            return Join(name, _JOINED, "concat")
        if axis == 1 and known is None:
            return Join(name, _JOINED, "concat", second_axis=True)
    return Barrier(name, _JOINED)


def unknown(kind: str, name: str) -> Barrier:
    """Return the barrier that a layer or operation is across which no balance is conserved."""
    families = [why for part, why in _FAMILIES.items() if part in kind]
    return Barrier(name, _REASONS.get(kind) or (*families, f"{kind} layers are not audited")[0])


def layer_activation(kind: str, config: Mapping[str, Any]) -> Activation:
    """Return the activation of a layer or operation whose only purpose is to apply it."""
    slope = config.get("negative_slope", config.get("alpha"))
    if kind == "ReLU":
        if config.get("max_value") is not None:
            highest = number_of(config["max_value"], 0.0)
            return Activation("relu6" if highest == 6.0 else f"relu up to {highest:g}")
        if number_of(config.get("threshold"), 0.0):
            return Activation("ThresholdedReLU")
        slope = number_of(slope, 0.0)
        return Activation("leaky_relu", slope) if slope else Activation("relu")
    if kind in ("LeakyReLU", "LeakyRelu"):
        return Activation(kind, number_of(slope, 0.3 if kind == "LeakyReLU" else 0.2))
    return Activation(kind)


def activation(spec: Any, name: str) -> list[Step]:
    """Return the steps of an argument ``activation``, which names a function or a layer.

    A name is understood only if it is one of Keras's own, as a user's function may have any name.
    """
    if isinstance(spec, dict):
        kind, config = class_name_of(spec), spec.get("config")
        if kind == "function" and is_keras(spec.get("module")) and not is_custom(spec):
            return activation(str(config), name)
        if kind in _ACTIVATION_LAYERS and not is_custom(spec):
            return [layer_activation(kind, config if isinstance(config, dict) else {})]
        if kind == "Activation" and isinstance(config, dict) and not is_custom(spec):
            return activation(config.get("activation"), name)
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
