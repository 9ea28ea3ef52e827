"""Modules and functions of PyTorch that are steps by themselves."""

from __future__ import annotations

import numbers
import sys
from typing import Any, Final

from obstruction.models.activations import canonical, why_not
from obstruction.models.contents import Activation, Barrier, Dense, Step
from obstruction.models.readers import torch_layers

_COMPUTED: Final = "its weights are computed from others when it is called"


def builtin(module: Any) -> str | None:
    """Return the class of ``torch.nn`` whose forward pass a module has, None if it has its own."""
    own = type(module).forward
    if own is sys.modules["torch"].nn.Module.forward:
        return None
    for kind in type(module).__mro__:
        ours = kind.__module__.startswith("torch.nn.")
        if kind.__module__.startswith("torch.nn.utils."):
            continue  # what parametrisation makes of the class
        if ours and getattr(kind, "forward", None) is own:
            return f"{kind.__module__}.{kind.__qualname__}"
    return None


def leaf(module: Any, kind: str, role: str, path: str, label: str) -> tuple[Step, ...]:
    """Return the steps of a module of ``torch.nn``."""
    if role == "linear":
        return (_linear(module, path, label),)
    if role == "activation":
        name, weight = kind.rpartition(".")[2], getattr(module, "weight", None)
        given = (
            module.__dict__.get("negative_slope")
            if weight is None
            else float(weight.detach().mean())
        )
        return (Activation(name, slope(name, given)),)
    return () if role == "nothing" else (Barrier(label, torch_layers.reason(kind)),)


def _linear(module: Any, path: str, label: str) -> Dense | Barrier:
    held, prefix = dict(module._parameters), f"{path}." if path else ""
    weight, magnitude = "weight", ""
    if hasattr(module, "parametrizations"):
        how: Any = getattr(module.parametrizations, "weight", ())
        if set(module.parametrizations) != {"weight"} or len(how) != 1:
            return Barrier(label, _COMPUTED)
        if type(how[0]).__name__ != "_WeightNorm":
            return Barrier(label, _COMPUTED)
        held |= {f"parametrizations.weight.{name}": p for name, p in how._parameters.items()}
        magnitude, weight = (f"parametrizations.weight.original{i}" for i in (0, 1))
    elif "weight_g" in held:
        magnitude, weight = "weight_g", "weight_v"
    if held.get(weight) is None:
        return Barrier(label, _COMPUTED)
    if magnitude and tuple(held[magnitude].shape) != (len(held[weight]), 1):  # not row by row
        return Barrier(label, _COMPUTED)
    bias = "bias" if held.get("bias") is not None else ""
    return Dense(
        label,
        prefix + weight,
        bias=prefix + bias if bias else None,
        layout="out_in",
        magnitude=prefix + magnitude if magnitude else None,
        trained=all(held[part].requires_grad for part in (weight, magnitude, bias) if part),
    )


def conv1d(module: Any, path: str, label: str) -> Dense:
    """Return the layer that Hugging Face's ``Conv1D`` is: fully connected, stored transposed."""
    prefix = f"{path}." if path else ""
    trained = module.weight.requires_grad and module.bias.requires_grad
    return Dense(label, prefix + "weight", bias=prefix + "bias", layout="in_out", trained=trained)


def is_activation(name: str) -> bool:
    """Return whether a function of this name is applied to each output of a layer."""
    known = canonical(name)
    return known != "linear" and "is not known" not in (why_not(known) or "")


def slope(name: str, given: Any) -> float:
    """Return the factor of negative inputs of an activation."""
    usual = {"leaky_relu": 0.01, "prelu": 0.25}.get(canonical(name), 0.0)
    return float(given) if usual and isinstance(given, numbers.Real) else usual
