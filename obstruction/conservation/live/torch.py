"""PyTorch modules as live models: a copy in float64, differentiated by autograd."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Final

import numpy as np
import torch

from obstruction.conservation.live.base import FloatArray, Leaves, Values, cotangents
from obstruction.conservation.live.losses import seen
from obstruction.conservation.live.running_torch import WIDER, Narrowed, narrow_steps, running
from obstruction.conservation.live.trees import arrays_of, flatten
from obstruction.tools.attributes import attributes_of, give_attributes

_OUTPUT_AXES: Final[tuple[tuple[type, int], ...]] = (
    (torch.nn.modules.conv._ConvTransposeNd, 1),
    (torch.nn.modules.conv._ConvNd, 0),
    (torch.nn.Linear, 0),
    (torch.nn.Embedding, 1),
)


_EPS: Final = ("eps", "epsilon", "variance_epsilon")
"""What normalisations call the small number that they add to a variance."""

_LARGEST_EPS: Final = 0.01
"""A larger number decides what a normalisation does, and is part of the model."""

_RUNS: Final = 3
"""A model that leaves its parameters alone in so many runs does not write into them.

The last of these runs are at random parameters, of which many are large.
"""


class TorchModel:
    """A PyTorch module that can be run at any values of its parameters.

    Parameters
    ----------
    model : torch.nn.Module
        It is copied and stays as it is.
    inputs : tensor, tuple or dict
        One input, several positional inputs, or keyword inputs.
    training : bool
        Whether the model runs in training mode.
    loss : str, optional
        See `obstruction.conservation.live.losses`.

    Notes
    -----
    Code inside the model that asks for float32, such as the normalisation of many transformers,
    gets float64. A complex parameter is a real one with a last axis of length 2, and a parameter
    that is a single number without axes has one of length 1.
    """

    framework = "PyTorch"

    def __init__(
        self, model: torch.nn.Module, inputs: Any, *, training: bool, loss: str | None = None
    ) -> None:
        self._loss = loss
        with torch.inference_mode(mode=False):  # in which the caller may be
            twin = copied(model)
            marks = attributes_of(twin.parameters())
            self._model = _widened(twin.to("cpu")).train(training)
            give_attributes(self._model.parameters(), marks)
        for one, original in zip(self._model.parameters(), model.parameters(), strict=True):
            for hook in (original._backward_hooks or {}).values():
                one.register_hook(hook)  # a copy has none
        leaves, self._rebuild = flatten(
            inputs, lambda leaf: isinstance(leaf, torch.Tensor | np.ndarray)
        )
        self.inputs = tuple(_array(leaf) for leaf in leaves)
        if any(torch.nn.parameter.is_lazy(p) for p in self._model.parameters()):
            with running(0):
                self._call(self.inputs)
        named = [(n, p) for n, p in self._model.named_parameters() if p.numel()]
        self._trained = {n: p for n, p in named if p.requires_grad}
        self.fixed = tuple(n for n, p in named if not p.requires_grad)
        self._buffers = [(b, b.detach().clone()) for b in self._model.buffers()]
        self.parameters = {
            n: np.atleast_1d(_array(p.detach())).copy() for n, p in self._trained.items()
        }
        self._narrowed: frozenset[str] | None = None
        self._clean = 0  # runs after which the parameters were as before
        self.output_axes = _output_axes(self._model)
        self.groups = {
            f"{prefix}.weight" if prefix else "weight": module.groups
            for prefix, module in self._model.named_modules()
            if isinstance(module, torch.nn.modules.conv._ConvNd)
        }

    def outputs(self, values: Values, inputs: Leaves, *, seed: int) -> list[FloatArray]:
        """Return all arrays of floats in the output, see `LiveModel.outputs`."""
        with running(seed), torch.no_grad():
            self._set(values)
            found = [_array(y.detach()) for y in self._call(inputs)]
            if not self._shares:  # outputs may be parameters, whose memory is written again
                found = [y.copy() for y in found]
                self._clean = self._clean + 1 if self._leaves(values) else 0
        return found

    def outputs_without_eps(self, values: Values, inputs: Leaves, *, seed: int) -> list[FloatArray]:
        """Return the outputs with an ``eps`` of normalisations that is next to nothing."""
        with _without_eps(self._model):
            return self.outputs(values, inputs, seed=seed)

    def gradients_without_eps(
        self, values: Values, inputs: Leaves, *, seed: int, cotangent: int
    ) -> dict[str, FloatArray | None]:
        """Return the gradients with an ``eps`` of normalisations that is next to nothing."""
        with _without_eps(self._model):
            return self.gradients(values, inputs, seed=seed, cotangent=cotangent)

    def gradients(
        self, values: Values, inputs: Leaves, *, seed: int, cotangent: int
    ) -> dict[str, FloatArray | None]:
        """Return the gradient of a random function of the outputs, see `LiveModel.gradients`.

        Raises
        ------
        ValueError
            If a part of the model works in less than double precision.
        """
        looked = Narrowed() if self._narrowed is None else None
        with running(seed), torch.enable_grad():
            self._set(values)
            found = [y for y in self._call(inputs) if y.requires_grad]
            if not found:
                return dict.fromkeys(self._trained)
            narrow = narrow_steps(found) if looked else set()
            drawn = cotangents([tuple(_real(y).shape) for y in found], cotangent)
            pulled = [torch.from_numpy(c) for c in drawn]
            total = sum(((_real(y) * c).sum() for y, c in zip(found, pulled, strict=True)))
            with looked or nullcontext():
                parts = torch.autograd.grad(total, list(self._trained.values()), allow_unused=True)
        if looked is not None:
            self._narrowed = frozenset(narrow | looked.names)
        if self._narrowed:
            raise ValueError(
                f"model: {', '.join(sorted(self._narrowed))} works in less than double precision, "
                "so laws cannot be told from rounding; casts in scripted functions and in "
                "backward passes of your own must be casts to the type of their inputs"
            )
        return {
            name: None
            if part is None
            else np.atleast_1d(_array(part.to_dense() if part.is_sparse else part))
            for name, part in zip(self._trained, parts, strict=True)
        }

    @property
    def _shares(self) -> bool:
        """Whether parameters are set without a copy, as the model does not write into them."""
        return self._clean >= _RUNS

    def _leaves(self, values: Values) -> bool:
        """Return whether the model has left its parameters as they were before it ran."""
        return all(
            np.array_equal(np.atleast_1d(_array(p.detach())), values[name], equal_nan=True)
            for name, p in self._trained.items()
        )

    def _set(self, values: Values) -> None:
        with torch.no_grad():
            for name, parameter in self._trained.items():
                value = np.asarray(values[name])
                if self._shares and not parameter.is_complex():
                    value = np.require(value, requirements=["C", "W"])
                    parameter.data = torch.from_numpy(value).reshape(parameter.shape)
                else:
                    held = _real(parameter.data)
                    held.copy_(torch.from_numpy(value).reshape(held.shape))
            for buffer, start in self._buffers:
                if buffer.shape == start.shape:
                    buffer.copy_(start)

    def _call(self, inputs: Leaves) -> list[Any]:
        given = self._rebuild([torch.from_numpy(np.array(leaf)) for leaf in inputs])
        if isinstance(given, Mapping):
            output = self._model(**given)
        elif isinstance(given, tuple) and not hasattr(given, "_fields"):
            output = self._model(*given)
        else:
            output = self._model(given)
        found = arrays_of(output, lambda leaf: isinstance(leaf, torch.Tensor))
        numbers = [y for y in found if y.is_floating_point() or y.is_complex()]
        return seen(numbers, self._loss, torch.log_softmax)


@contextmanager
def _without_eps(model: torch.nn.Module) -> Iterator[None]:
    """Set every ``eps`` to next to nothing for a while; zero is refused by some modules."""
    held = [
        (module, name, value)
        for module in model.modules()
        if any("norm" in kind.__name__.lower() for kind in type(module).__mro__)
        for name, value in vars(module).items()
        if name in _EPS and isinstance(value, float) and 0.0 < value <= _LARGEST_EPS
    ]
    try:
        for module, name, _ in held:
            setattr(module, name, 1e-300)
        yield
    finally:
        for module, name, value in held:
            setattr(module, name, value)


def copied(model: torch.nn.Module) -> torch.nn.Module:
    """Return a deep copy that can be trained.

    Results of a forward pass that modules hold are copied as constants. The parameters of the copy
    of a scripted module are results of others, which have no gradients of their own, until they are
    detached (PyTorch 2.13.0, ``findings/torch_scripted_copy.sh``).
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    found = copy.deepcopy(model, memo)
    give_attributes(found.parameters(), attributes_of(model.parameters()), memo)
    for one in found.parameters():
        if not one.is_leaf:
            one.detach_().requires_grad_()
    return found


def _widened(model: torch.nn.Module) -> torch.nn.Module:
    """Return a module whose tensors are all turned into float64 or complex128."""
    for held in (*model.parameters(), *model.buffers()):
        if held.dtype in WIDER and not torch.nn.parameter.is_lazy(held):
            held.data = held.data.to(WIDER[held.dtype])
    for module in model.double().modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, torch.Tensor) and value.dtype in WIDER:
                vars(module)[name] = value.detach().to("cpu", WIDER[value.dtype])
    return model


def _output_axes(model: torch.nn.Module) -> dict[str, int]:
    axes: dict[str, int] = {}
    for prefix, module in model.named_modules():
        for kind, axis in _OUTPUT_AXES:
            if isinstance(module, kind):
                axes[f"{prefix}.weight" if prefix else "weight"] = axis
                break
    return axes


def _real(tensor: Any) -> Any:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _array(tensor: Any) -> Any:
    """Return a tensor or array as a NumPy array, floats as float64."""
    if isinstance(tensor, np.ndarray):
        return tensor.astype(np.float64) if tensor.dtype.kind == "f" else tensor
    tensor = _real(tensor.detach().cpu())
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()
