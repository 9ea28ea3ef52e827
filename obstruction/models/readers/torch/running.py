"""Runs of a copy of a PyTorch module, usually in float64, at any values of its parameters."""

from __future__ import annotations

import contextlib
import copy
import random
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.models.readers.memory.tensors import is_torch
from obstruction.models.readers.torch import layers as torch_layers
from obstruction.tools.attributes import attributes_of, give_attributes
from obstruction.tools.randomness import ONE_AT_A_TIME, seeded

FloatArray = NDArray[np.float64]

_REPEATS: Final = 5


class Copy:
    """A copy of a module, which computes on the CPU.

    Parameters
    ----------
    module : torch.nn.Module
        It is copied and stays as it is.
    exact : bool
        Whether the copy computes in float64, which code with casts to other types does not allow.

    Attributes
    ----------
    module : torch.nn.Module
        The copy.
    parameters : dict of str to tensor
        Its parameters of floating-point numbers, once each.

    Raises
    ------
    ValueError
        If the module cannot be copied.
    """

    def __init__(self, module: Any, *, exact: bool = True) -> None:
        self.module = copied(module)
        with ONE_AT_A_TIME, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which TorchScript gives for tensors of older kinds
            marks = attributes_of(self.module.parameters())
            self.module.to("cpu", sys.modules["torch"].float64 if exact else None)
            give_attributes(self.module.parameters(), marks)
        self.parameters = {
            name: value
            for name, value in held(self.module).items()
            if value.is_floating_point() and isinstance(value, sys.modules["torch"].nn.Parameter)
        }
        self._runs = 0
        self._buffers = [(one, one.detach().clone()) for one in self.module.buffers()]

    def values(self) -> dict[str, FloatArray]:
        """Return the present values of all parameters, without a copy."""
        return {name: value.detach().numpy() for name, value in self.parameters.items()}

    def write(self, values: Mapping[str, FloatArray]) -> None:
        """Give some parameters other values."""
        torch = sys.modules["torch"]
        with torch.no_grad():
            for name, array in values.items():
                self.parameters[name].copy_(torch.as_tensor(array))

    def outputs(self, *inputs: Any) -> list[FloatArray]:
        """Return all tensors of floats that the copy returns in evaluation mode.

        Any exception of the user's code is passed on.
        """
        torch = sys.modules["torch"]
        with self._running(training=False), torch.no_grad():
            made = list(tensors_in(self.module(*map(self._given, inputs))))
        return [y.detach().double().numpy() for y in made if y.is_floating_point()]

    def draws(self, *inputs: Any) -> bool:
        """Return whether a run in evaluation mode draws random numbers.

        It is repeated if so, as other threads may have drawn them.
        """
        torch = sys.modules["torch"]
        for _ in range(_REPEATS):
            with self._running(training=False), torch.no_grad():
                before = _random_state()
                self.module(*map(self._given, inputs))
                if _random_state() == before:
                    return False
        return True

    def gradients(self, *inputs: Any) -> dict[str, FloatArray]:
        """Return the gradients of a random function of the outputs in training mode.

        Parameters without a gradient are left out.
        """
        torch = sys.modules["torch"]
        wanted = {name: p for name, p in self.parameters.items() if p.requires_grad}
        with self._running(training=True), torch.enable_grad():
            made = list(tensors_in(self.module(*map(self._given, inputs))))
            parts = [(y * torch.randn_like(y)).sum() for y in made if y.requires_grad]
            if not parts or not wanted:
                return {}
            found = torch.autograd.grad(sum(parts), list(wanted.values()), allow_unused=True)
        return {
            name: slope.numpy()
            for name, slope in zip(wanted, found, strict=True)
            if slope is not None
        }

    def calls(self, *inputs: Any) -> list[str]:
        """Return the paths of all modules that a run calls, in the order in which they end."""
        made: list[str] = []
        with contextlib.ExitStack() as stack:
            for path, one in self.module.named_modules():
                hook = one.register_forward_hook(lambda *_, path=path: made.append(path))
                stack.callback(hook.remove)
            self.outputs(*inputs)
        return made

    def _given(self, array: Any) -> Any:
        """Return an input as a tensor, floats in the type of the parameters."""
        made = array if is_torch(array) else sys.modules["torch"].from_numpy(np.array(array))
        kinds = (p.dtype for p in self.parameters.values())
        return made.to(next(kinds, made.dtype)) if made.is_floating_point() else made

    @contextlib.contextmanager
    def _running(self, *, training: bool) -> Iterator[None]:
        torch = sys.modules["torch"]
        with ONE_AT_A_TIME, warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            self._runs += 1
            torch.default_generator.manual_seed(self._runs)
            self.module.train(training)
            with torch.no_grad():
                for buffer, start in self._buffers:
                    if buffer.shape == start.shape:
                        buffer.copy_(start)
            with seeded(self._runs):
                yield


def held(module: Any) -> dict[str, Any]:
    """Return the parameters and buffers of a module and, once each, of the modules in it."""
    return {
        f"{path}.{name}" if path else name: value
        for path, one in module.named_modules()
        for name, value in (*one._parameters.items(), *one._buffers.items())
        if value is not None
    }


def copied(module: Any) -> Any:
    """Return a deep copy of a module.

    Raises
    ------
    ValueError
        If that is not possible.
    """
    torch, memo = sys.modules["torch"], {}
    for one in module.modules():
        for value in vars(one).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                # PyTorch does not copy such tensors, which the older weight normalisation makes
                memo[id(value)] = value.detach().clone()
    try:
        with ONE_AT_A_TIME, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = copy.deepcopy(module, memo)
            give_attributes(made.parameters(), attributes_of(module.parameters()), memo)
            return made
    except Exception as problem:  # copying may run code of the user
        raise ValueError(f"{type(module).__name__} cannot be copied ({problem})") from None


def unwrapped(module: Any) -> Any:
    """Return the module within wrappers such as ``DataParallel`` and ``torch.compile``."""
    while True:
        kind = type(module)
        if kind.__module__.startswith("torch._dynamo.") and hasattr(module, "_orig_mod"):
            module = module._orig_mod
        elif torch_layers.role(f"{kind.__module__}.{kind.__qualname__}") == "wrapper":
            module = module.module
        else:
            return module


def tensors_in(made: Any) -> Iterator[Any]:
    """Yield the tensors in what a module returns."""
    if is_torch(made):
        yield made
    elif isinstance(made, (Mapping, list, tuple)):
        for one in made.values() if isinstance(made, Mapping) else made:
            yield from tensors_in(one)


def _random_state() -> tuple[Any, ...]:
    """Return the state of the random generators that a forward pass may use."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    torch = sys.modules["torch"].random.get_rng_state()
    return random.getstate(), torch.numpy().tobytes(), kind, np.asarray(keys).tobytes(), *rest
