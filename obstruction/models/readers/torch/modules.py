"""PyTorch modules and state dicts in memory.

This module never imports PyTorch, which must be loaded already if an object is of it.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.models.contents import Contents, Unread, UnreadableModel, names_weights
from obstruction.models.readers.memory.tensors import (
    as_tensors,
    check_changes,
    is_array,
    is_torch,
    like,
    overlapping_torch,
    overwrite,
    unread_in,
)
from obstruction.models.readers.torch.chains import chain_of
from obstruction.models.readers.torch.inputs import inputs_of
from obstruction.models.readers.torch.layers import customary
from obstruction.models.readers.torch.running import Copy, copied, held, unwrapped

OBJECTS: Final = "a torch.nn.Module or state dict"

_NESTED: Final = ("state_dict", "model_state_dict", "model_state", "model", "module", "net")
"""The keys under which checkpoints keep the state dict of a model."""

_NOT_RUN: Final = (
    "a state dict cannot be run, so the order of its layers and their activation are told by "
    "names, shapes and options and not verified; a module is run"
)

_TOLERANCES: Final = {"torch.float64": 1e-8, "torch.float32": 1e-3}  # times the largest output


def matches(source: Any) -> bool:
    """Return whether an object is a PyTorch module, a state dict or a checkpoint that holds one."""
    return _is_module(source) or _state_dict(source) is not None


def read(source: Any) -> Contents:
    """Return the parameters and buffers of a module, or of a state dict.

    A module is not run yet; the contents know how to find its layers by running a copy of it. A
    checkpoint may hold the state dict under a key such as ``"state_dict"``.
    """
    state = None if _is_module(source) else _state_dict(source)
    if state is None:
        return _read_module(unwrapped(source))
    arrays = {str(name): value for name, value in state.items() if is_array(value)}
    unread = unread_in(arrays)
    found = {name: value for name, value in arrays.items() if name not in unread}
    for name, value in state.items():
        if _is_payload(value) or (names_weights(str(name)) and not is_array(value)):
            unread[str(name)] = Unread(f"an object ({type(value).__name__})")
    return Contents(
        "PyTorch state dict",
        as_tensors(found),
        shared=overlapping_torch((name, value) for name, value in found.items() if is_torch(value)),
        notes=(_NOT_RUN,),
        unread=unread,
        customary=customary(found),
    )


def updated(source: Any, changes: Mapping[str, NDArray[Any]], *, inplace: bool) -> Any:
    """Return a module or a state dict with new values.

    With ``inplace`` the tensors themselves are overwritten, so that optimisers continue with them.
    A copy of a state dict shares the tensors that do not change. A module must compute the same
    function before and after. This is checked on random inputs with copies of the module, unless it
    has hooks, cannot be copied or takes no vectors.
    """
    if _is_module(source):
        check_changes(changes, held(unwrapped(source)))
        _check_function(unwrapped(source), changes)
        target = source if inplace else _copied(source)
        overwrite(held(unwrapped(target)), changes)
        return target
    state = _state_dict(source)
    assert state is not None
    check_changes(changes, {name: value for name, value in state.items() if is_array(value)})
    if inplace:
        overwrite(state, changes)
        return source
    new = copy.copy(state)
    for name, array in changes.items():
        new[name] = like(state[name], array)
    if state is source:
        return new
    target = copy.copy(source)
    target[next(key for key in _NESTED if source.get(key) is state)] = new
    return target


def _is_payload(value: Any) -> bool:
    """Return whether an entry of a state dict is no array but may hold weights."""
    if value is None or is_array(value) or isinstance(value, (int, float, complex, str)):
        return False
    if isinstance(value, Mapping):
        return any(is_array(one) or _is_payload(one) for one in value.values())
    torch = sys.modules["torch"]
    return not isinstance(value, (torch.dtype, torch.device, torch.layout, torch.Size))


def _is_module(source: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.nn.Module)


def _state_dict(source: Any) -> Any:
    """Return the state dict that a mapping is or holds, or None if there is none."""
    if not isinstance(source, Mapping):
        return None
    for one in (source, *(source.get(key) for key in _NESTED)):
        if isinstance(one, Mapping) and any(is_torch(value) for value in one.values()):
            return one
    return None


def _read_module(module: Any) -> Contents:
    if isinstance(module, sys.modules["torch"].jit.ScriptModule):
        raise UnreadableModel(
            "TorchScript modules cannot be read: give the module that was scripted or traced, or "
            "the state_dict() of this one; ob.audit(model, inputs=x) runs it"
        )
    found = held(module)
    if not found:
        raise UnreadableModel(f"{type(module).__name__}: the PyTorch module has no parameters")
    tensors = as_tensors(found)
    contents = Contents("PyTorch module", tensors, shared=overlapping_torch(found.items()))
    return replace(contents, run=partial(chain_of, module, contents))


def _copied(module: Any) -> Any:
    try:
        return copied(module)
    except ValueError as problem:
        raise ValueError(
            f"inplace = False: {problem}; inplace=True changes the module itself"
        ) from None


# --- whether the function stays the same ----------------------------------------------------


def _check_function(module: Any, changes: Mapping[str, NDArray[Any]]) -> None:
    """Raise a ValueError if new weights change the function of a module on random inputs.

    A module with hooks is not run, as hooks may write to other places.
    """
    hooks = ("_forward_pre_hooks", "_forward_hooks")
    if any(getattr(one, kind) for one in module.modules() for kind in hooks):
        return
    inputs = inputs_of(module)
    if inputs is None:
        return
    kinds = [_TOLERANCES.get(str(value.dtype), 5e-2) for value in module.parameters()]
    before, after = Copy(module), Copy(module)
    after.write(changes)
    try:
        pairs = list(zip(before.outputs(inputs), after.outputs(inputs), strict=True))
    except Exception:  # the user's code may fail for reasons of its own
        return
    for old, new in pairs:
        if np.isfinite(old).all() and np.abs(new - old).max() > max(kinds) * np.abs(old).max():
            raise ValueError(
                f"{type(module).__name__}: the module computes another function than its layers "
                "do, so that new weights would change its function; it is left as it was"
            )
