"""Models of Keras 3 on the backends PyTorch and JAX."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.live.inputs import called, opened, refused
from obstruction.conservation.live.losses import seen
from obstruction.conservation.live.names import distinct
from obstruction.conservation.live.program import Program, ProgramModel
from obstruction.conservation.live.trees import arrays_of

BACKENDS: Final = ("torch", "jax")


class KerasModel(ProgramModel):
    """A model or layer of Keras; see `LiveModel`.

    It is run in a stateless scope, so that its weights, its moving statistics and the states of its
    random generators stay as they are. Everything is computed in float64, whatever the policies of
    its layers are. A model that is not built yet is built by the inputs.

    Parameters
    ----------
    model : keras.Layer
        A functional, sequential or subclassed model. Its trainable weights are the parameters.
    inputs : array, tuple, list or dict
        Example inputs, in the structure in which ``model(inputs)`` takes them. A tuple is passed as
        several arguments if ``call`` requires several, and a dictionary as keywords if ``call`` has
        them.
    training : bool
        Whether dropout is active and batch normalisation uses the statistics of the batch.

    Raises
    ------
    ValueError
        If the backend is another one, if nothing is trained, or if the model cannot be run with the
        inputs.
    """

    framework = "Keras"

    def __init__(
        self, model: Any, inputs: Any, *, training: bool = True, loss: str | None = None
    ) -> None:
        self._loss = loss
        backend = keras.backend.backend()
        if backend not in BACKENDS:
            raise ValueError(
                f"model: Keras runs on the backend {backend!r}, which is not supported; set the "
                "environment variable KERAS_BACKEND to torch or jax before Keras is imported"
            )
        self._model, self._training = model, bool(training)
        self.inputs: tuple[NDArray[Any], ...]
        self.inputs, self._rebuild = opened(inputs, _is_input, to_numpy=keras.ops.convert_to_numpy)
        shapes = [leaf.shape for leaf in self.inputs]
        try:
            if not model.built:
                self._call(inputs, training=False)
        except Exception as error:
            raise refused(error, shapes) from error
        layers = _layers(model)
        self._weights = list(model.trainable_weights)
        if not self._weights:
            raise ValueError("model: it has no trainable weights")
        names = _names(model)
        self._hold(
            {
                names[id(weight)]: keras.ops.convert_to_numpy(weight.value).astype(np.float64)
                for weight in self._weights
            }
        )
        self.fixed = tuple(names[id(weight)] for weight in _frozen(layers, self._weights))
        owned = [
            (names[id(weight)], layer, weight)
            for layer in layers
            for weight in layer._trainable_variables
            if weight.trainable
        ]
        self.output_axes = {
            name: axis for name, *one in owned if (axis := _output_axis(*one)) is not None
        }
        self.groups = {
            name: number for name, *one in owned if (number := _groups(*one)) is not None
        }
        try:
            self._program = _program_of(backend)(self._run, self._weights, self.inputs)
        except Exception as error:
            raise refused(error, shapes) from error
        if not self._program.shapes(self.inputs):
            raise ValueError("model: its output holds no array of floats")

    def _run(self, values: list[Any], leaves: list[Any], seed: Any) -> Any:
        state = dict(zip(map(id, self._weights), values, strict=True))
        mapping = [
            (one, state[id(one)] if id(one) in state else _restarted(one, seed))
            for one in self._model.variables
        ]
        with keras.StatelessScope(state_mapping=mapping):
            output = self._call(self._rebuild(leaves), training=self._training)
            if self._loss is None:
                return output
            found = arrays_of(output, keras.ops.is_tensor)
            return seen(found, self._loss, keras.ops.log_softmax)

    def _call(self, inputs: Any, *, training: bool) -> Any:
        """Call the model as its ``call`` takes several inputs."""
        options = {"training": training}
        graph = isinstance(self._model, keras.Sequential) or hasattr(self._model, "inputs")
        if isinstance(inputs, (tuple, dict)) and not graph:
            takes = [
                one
                for one in inspect.signature(self._model.call).parameters.values()
                if one.name not in ("training", "mask")
            ]
            if isinstance(inputs, dict):
                spread = set(inputs) <= {one.name for one in takes}
            else:
                required = [one for one in takes if one.default is one.empty]
                spread = len(inputs) == 1 or len(required) > 1
            if spread:
                return called(partial(self._model, **options), inputs)
        return self._model(inputs, **options)


def _program_of(backend: str) -> Callable[..., Program]:
    if backend == "jax":
        from obstruction.conservation.live.jax_program import Program

        return Program
    from obstruction.conservation.live.keras_torch import TorchProgram

    return TorchProgram


def _is_input(node: Any) -> bool:
    """Return whether an object is an array of numbers or flags."""
    if isinstance(node, (np.ndarray, np.generic)):
        return node.dtype.kind in "biuf"
    return bool(keras.ops.is_tensor(node))


def _layers(model: Any) -> list[Any]:
    """Return a model and all layers in it."""
    layers = list(model._flatten_layers())
    if any(kind.__name__ == "TorchModuleWrapper" for one in layers for kind in type(one).__mro__):
        raise ValueError(
            "model: a layer of it wraps a module of PyTorch, whose weights Keras cannot replace; "
            "give the whole model as a module of PyTorch, or that module alone"
        )
    return layers


def _names(model: Any) -> dict[int, str]:
    """Return the name of every weight by its identity."""
    weights = model.weights
    names = distinct([weight.path for weight in weights])
    return dict(zip(map(id, weights), names, strict=True))


def _frozen(layers: Iterable[Any], trained: Iterable[Any]) -> list[Any]:
    """Return the weights that would be trained, had they not been frozen, each once."""
    known = {id(weight) for weight in trained}
    found = {
        id(weight): weight
        for layer in layers
        for weight in layer._trainable_variables
        if id(weight) not in known
    }
    return list(found.values())


def _output_axis(layer: Any, weight: Any) -> int | None:
    """Return the axis of the outputs of a kernel; kernels of several heads have none."""
    kind, axes = type(layer).__name__, len(weight.shape)
    if not weight.name.endswith("kernel") or axes < 2 or (axes > 2 and "Conv" not in kind):
        return None
    if "depthwise" in weight.name or kind.startswith("Depthwise"):  # (..., channels, multiplier)
        return -2 if weight.shape[-1] == 1 else None
    return -2 if "Transpose" in kind else -1


def _groups(layer: Any, weight: Any) -> int | None:
    """Return the number of groups of a convolution."""
    if not weight.name.endswith("kernel") or "Conv" not in type(layer).__name__:
        return None
    depthwise = "depthwise" in weight.name or type(layer).__name__.startswith("Depthwise")
    return int(weight.shape[-2]) if depthwise else int(getattr(layer, "groups", 1))


def _restarted(variable: Any, seed: Any) -> Any:
    """Return the value of a variable of the state; that of a random generator with a seed."""
    if variable.name != "seed_generator_state":
        return variable.value
    one = keras.ops.convert_to_tensor(np.array([1, 0]), dtype=variable.dtype)
    return variable.value + seed * one
