"""Any model that can be run, as a `LiveModel`."""

from __future__ import annotations

import os
import sys
from typing import Any, Final

import numpy as np

from obstruction.conservation.live.base import LiveModel
from obstruction.conservation.live.inputs import ACCEPTED, opened, refused, short
from obstruction.conservation.live.onnx_files import EXTRA, can_run, is_onnx

MODELS: Final = (
    "a module of PyTorch, a model of Keras, a module of Equinox or nnx, or a pair (apply, params) "
    "of JAX, where apply(params, x) returns the outputs, or the path of an ONNX file, "
    "for instance (lambda params, x: net.apply(params, x, train=True), params)"
)


def open_model(
    model: Any,
    inputs: Any = None,
    *,
    training: bool = True,
    loss: str | None = None,
    run: bool = True,
) -> LiveModel:
    """Return a model with the interface `LiveModel`.

    Parameters
    ----------
    model : object
        A ``torch.nn.Module``; a model or layer of Keras 3 on the backend PyTorch or JAX; a pair
        ``(apply, params)`` of JAX, or ``(module, variables)`` of Flax, or ``(transformed, params)``
        of Haiku; or a module of Equinox or nnx, which is called with the inputs; or the path of an
        ONNX file. It is not changed, but a model of Keras that is not built yet is built by the
        inputs.
    inputs : array, tuple or dict
        Example inputs: one array, a tuple of positional inputs, or a dictionary of keyword inputs,
        which may be nested further.
    training : bool
        Whether the model runs in training mode. It has no effect on functions of JAX, which decide
        that themselves, and on ONNX files, in which that is decided already.
    run : bool
        Whether a module of PyTorch is run once, to see that it can be. Models of other frameworks
        are run in any case.

    Raises
    ------
    TypeError
        If the model is of another kind.
    ValueError
        If inputs are missing, empty or not finite, or if the model cannot be run with them.
    """
    if is_onnx(model):
        return _onnx_model(model, inputs, loss)
    if _is_keras(model):
        _check_given(inputs, _keras_example(model))
        from obstruction.conservation.live.keras import KerasModel

        return KerasModel(model, inputs, training=training, loss=loss)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        _check_given(inputs, _torch_example(model))
        return _torch_model(model, inputs, training, loss, run)
    if "jax" in sys.modules:
        from obstruction.conservation.live.jax_pairs import pair_of

        pair = pair_of(model, training=training)
        if pair is not None:
            _check_given(inputs, "inputs=x, where apply(params, x) is how you call the model")
            from obstruction.conservation.live.jax import JaxModel

            return JaxModel(pair.apply, pair.params, inputs, keyed=pair.keyed, loss=loss)
    raise TypeError(
        f"model = {short(model)} of type {type(model).__qualname__}: {_hint(model)}must be {MODELS}"
    )


def _check_given(inputs: Any, example: str) -> None:
    if inputs is None:
        raise ValueError(
            f"inputs: an example batch is needed to run the model, for instance {example}; "
            f"{ACCEPTED}"
        )


def _onnx_model(path: str | os.PathLike[str], inputs: Any, loss: str | None) -> LiveModel:
    """Return an ONNX file, once it has run."""
    if not can_run():
        raise ValueError(
            f"{os.fsdecode(path)}: running an ONNX file needs onnx, onnx2fx and torch: {EXTRA}"
        )
    from obstruction.conservation.live.onnx import OnnxModel

    return OnnxModel(path, inputs, loss=loss)


def _is_keras(model: Any) -> bool:
    layer = getattr(sys.modules.get("keras"), "Layer", None)
    return layer is not None and isinstance(model, layer)


def _torch_model(model: Any, inputs: Any, training: bool, loss: str | None, run: bool) -> LiveModel:
    """Return a module of PyTorch, once it has run if that is wanted."""
    import torch

    from obstruction.conservation.live.torch import TorchModel

    def to_numpy(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray):
            return leaf
        leaf = leaf.detach().cpu()
        return (leaf.double() if leaf.is_floating_point() else leaf).numpy()

    arrays, _ = opened(
        inputs, lambda leaf: isinstance(leaf, (torch.Tensor, np.ndarray)), to_numpy=to_numpy
    )
    try:
        live = TorchModel(model, inputs, training=training, loss=loss)
        if run:
            live.outputs(live.parameters, live.inputs, seed=0)
    except Exception as error:
        raise refused(error, [array.shape for array in arrays]) from error
    return live


def _torch_example(model: Any) -> str:
    """Return an example of inputs for the first layer of a module that says what it takes."""
    for module in model.modules():
        kind = type(module).__name__ if type(module).__module__.startswith("torch.nn.") else ""
        if kind == "Linear":
            return f"inputs=torch.randn(16, {module.in_features})"
        if kind in ("Conv1d", "Conv2d", "Conv3d"):
            sizes = ", ".join(["64"] * int(kind[4]))
            return f"inputs=torch.randn(4, {module.in_channels}, {sizes})"
        if kind in ("Embedding", "EmbeddingBag"):
            return f"inputs=torch.randint({module.num_embeddings}, (4, 16))"
        if kind in ("LSTM", "GRU", "RNN"):
            return f"inputs=torch.randn(16, 4, {module.input_size})"
    return "inputs=torch.randn(16, 10)"


def _keras_example(model: Any) -> str:
    """Return an example of inputs for a model that may say what it takes."""
    wanted = getattr(model, "inputs", None) or []
    arrays = [_random(one.shape, str(one.dtype)) for one in wanted] or [_random((None, 10), "")]
    return f"inputs={arrays[0]}" if len(arrays) == 1 else f"inputs=({', '.join(arrays)})"


def _random(shape: Any, kind: str) -> str:
    sizes = tuple(16 if size is None else int(size) for size in shape)
    if "int" in kind:
        return f"np.zeros({sizes}, dtype={kind!r})"
    return f"np.random.default_rng(0).normal(size={sizes})"


def _hint(model: Any) -> str:
    """Return a sentence for objects that are nearly models."""
    module = type(model).__module__.partition(".")[0]
    if isinstance(model, (str, bytes)) or hasattr(model, "__fspath__"):
        return "a file cannot be run, load the model first; it "
    if module in ("tensorflow", "tf_keras"):
        return "models of TensorFlow are not supported, those of Keras 3 are; it "
    linen = sys.modules.get("flax.linen")
    if linen is not None and isinstance(model, linen.Module):
        return "a Flax module needs its variables, give the pair (module, variables); it "
    if module == "haiku":
        return "a Haiku function needs its parameters, give the pair (transformed, params); it "
    if isinstance(model, tuple):
        return "a pair must hold a function and its parameters, in this order; it "
    if callable(model):
        return "a function needs its parameters, give the pair (function, params); it "
    return ""
