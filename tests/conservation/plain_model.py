"""Runs a PyTorch module in float64 at any values of its parameters, for an independent search.

Casts to float32 inside the module are made casts to float64, so that gradients are exact to
rounding. Buffers and random generators start from the same state in every run.
"""

from __future__ import annotations

import copy
import dataclasses
import random
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

Values: TypeAlias = Mapping[str, torch.Tensor]

_WIDER = {torch.float32: torch.float64, torch.complex64: torch.complex128}
_CACHES = ("past_key_values", "cache_params", "mems")


class _Float64(TorchFunctionMode):
    """Turns every cast to float32 into a cast to float64."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        args = tuple(_WIDER.get(a, a) if isinstance(a, torch.dtype) else a for a in args)
        given = {
            k: _WIDER.get(v, v) if isinstance(v, torch.dtype) else v
            for k, v in (kwargs or {}).items()
        }
        return func(*args, **given)


def _widened(x: Any) -> Any:
    if isinstance(x, torch.Tensor):
        return x.to(_WIDER.get(x.dtype, x.dtype))
    if isinstance(x, dict):
        return {k: _widened(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return type(x)(_widened(v) for v in x)
    return x


def _leaves(x: Any) -> list[torch.Tensor]:
    """Return the tensors in an output through which gradients flow, caches left out."""
    if isinstance(x, torch.Tensor):
        if not x.requires_grad:
            return []
        return [torch.view_as_real(x) if x.is_complex() else x]
    if isinstance(x, Mapping):
        return [t for k, v in x.items() if k not in _CACHES for t in _leaves(v)]
    if isinstance(x, list | tuple):
        return [t for v in x for t in _leaves(v)]
    if dataclasses.is_dataclass(x):
        return [t for f in dataclasses.fields(x) for t in _leaves(getattr(x, f.name))]
    return []


def _inputs_mapped(
    x: Any, change: Callable[[torch.Tensor], torch.Tensor], *, whole: bool = False
) -> Any:
    """Return inputs with the tensors of real numbers changed, or with those of whole numbers."""
    if isinstance(x, torch.Tensor):
        wanted = x.dtype in (torch.int32, torch.int64) if whole else x.is_floating_point()
        return change(x) if wanted else x
    if isinstance(x, dict):
        return {k: _inputs_mapped(v, change, whole=whole) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return type(x)(_inputs_mapped(v, change, whole=whole) for v in x)
    return x


class PlainModel:
    """A copy of a module in float64 that can be run at any values of its parameters.

    Attributes
    ----------
    module : torch.nn.Module
        The copy.
    actual : dict of str to tensor
        The values of the trainable parameters that the module came with.
    """

    def __init__(self, module: nn.Module, inputs: Any) -> None:
        try:
            module = copy.deepcopy(module)
        except Exception:  # some modules hold tensors that cannot be copied; then it is widened
            warnings.warn("the module cannot be copied and is changed", stacklevel=2)
        self.module = module.double()
        for part in module.modules():  # tensors that are neither parameters nor buffers
            for name, value in vars(part).items():
                if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
                    vars(part)[name] = _widened(value)
        self._parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        for p in module.parameters():
            if p.is_complex():
                p.data = p.data.to(torch.complex128)
        self.actual = {n: p.detach().clone() for n, p in self._parameters.items()}
        self._buffers = {n: b.detach().clone() for n, b in module.named_buffers()}
        self._inputs = _widened(inputs)

    def inputs(self, seed: int) -> Any:
        """Return inputs whose floating-point numbers are changed at random by some 30 percent.

        Whole numbers are kept, as they may be categories, masks or counts.
        """
        generator = torch.Generator().manual_seed(seed)

        def changed(x: torch.Tensor) -> torch.Tensor:
            factors = 1 + 0.3 * torch.randn(x.shape, generator=generator, dtype=x.dtype)
            return torch.where(x == x.round(), x, x * factors)

        return _inputs_mapped(self._inputs, changed)

    def redrawn(self, seed: int) -> PlainModel:
        """Return the same model with other whole numbers in each input, of the same range."""
        generator = torch.Generator().manual_seed(seed)

        def drawn(x: torch.Tensor) -> torch.Tensor:
            low, high = int(x.min()), int(x.max())
            return torch.randint(low, high + 1, x.shape, generator=generator, dtype=x.dtype)

        other = copy.copy(self)
        other._inputs = _inputs_mapped(self._inputs, drawn, whole=True)
        return other

    def _forward(self, values: Values, inputs: Any) -> list[torch.Tensor]:
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(values[name])
            for name, buffer in self.module.named_buffers():
                if name in self._buffers and buffer.shape == self._buffers[name].shape:
                    buffer.copy_(self._buffers[name])
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002, the modules use the old generator
        torch.manual_seed(0)
        with _Float64(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # a fresh copy: modules may change their inputs
            inputs = _inputs_mapped(inputs, torch.clone)
            y = self.module(**inputs) if isinstance(inputs, dict) else self.module(*inputs)
        found = _leaves(y)
        if not found:
            raise ValueError("no output of the module depends on a trainable parameter")
        return found

    def outputs(self, values: Values, inputs: Any) -> list[torch.Tensor]:
        """Return all differentiable outputs at given values of the parameters."""
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            return [y.detach() for y in self._forward(values, inputs)]
        finally:
            torch.set_default_dtype(default)

    def products(self, values: Values, inputs: Any, seed: int) -> dict[str, torch.Tensor]:
        """Return w * dL/dw for every weight w; L is a random linear function of the outputs."""
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            outputs = self._forward(values, inputs)
            generator = torch.Generator().manual_seed(seed)
            weights = [torch.randn(y.shape, generator=generator) for y in outputs]
            loss = sum((c * y).sum() for c, y in zip(weights, outputs, strict=True))
            gradients = torch.autograd.grad(
                loss, list(self._parameters.values()), allow_unused=True
            )
        finally:
            torch.set_default_dtype(default)
        products = {}
        for (name, p), g in zip(self._parameters.items(), gradients, strict=True):
            g = torch.zeros_like(p) if g is None else g
            if g.is_sparse:
                g = g.to_dense()
            products[name] = (p.detach().conj() * g).real if p.is_complex() else p.detach() * g
        return products
