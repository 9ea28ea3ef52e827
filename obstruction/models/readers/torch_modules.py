"""PyTorch modules and state dicts in memory.

PyTorch is never imported here: an object can only be one of its own if it is loaded already.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

from numpy.typing import NDArray

from obstruction.models.contents import Contents, Layout, Step, UnreadableModel
from obstruction.models.readers import torch_leaves, torch_tracing
from obstruction.models.readers.tensors import as_tensor, check_changes, is_torch, like, overwrite

_NESTED: Final = ("state_dict", "model_state_dict", "model_state", "model", "module", "net")
"""Keys under which checkpoints keep the state dict of the model."""


def matches(source: Any) -> bool:
    """Return whether an object is a PyTorch module, a state dict or a checkpoint that holds one."""
    return _is_module(source) or _state_dict(source) is not None


def read(source: Any) -> Contents:
    """Return the parameters of a module with the steps of its forward pass, or a state dict's.

    The forward pass is followed without data and leaves the module as it was. If it cannot be
    followed, because of control flow for instance, there are no steps.

    Parameters
    ----------
    source : torch.nn.Module or mapping of str to torch.Tensor
        Also a checkpoint: a mapping that holds a state dict under a key such as ``"state_dict"``.

    Raises
    ------
    UnreadableModel
        If there are no parameters, or they are not initialised yet.
    """
    state = None if _is_module(source) else _state_dict(source)
    if state is None:
        return _read_module(_unwrapped(source))
    held = {str(name): value for name, value in state.items() if is_torch(value)}
    tensors = {name: as_tensor(name, value) for name, value in held.items()}
    return Contents("PyTorch state dict", tensors, "out_in", None, _overlapping(held.items()))


def updated(source: Any, changes: Mapping[str, NDArray[Any]], *, inplace: bool) -> Any:
    """Return a module or state dict in which some tensors have other values.

    Parameters
    ----------
    source : torch.nn.Module or mapping of str to torch.Tensor
        What was read.
    changes : mapping of str to ndarray
        New values by the names of `Contents.tensors`.
    inplace : bool
        Whether to change the tensors themselves, so that optimisers go on with them. If not, a
        module is copied whole; of a state dict the changed tensors only.

    Raises
    ------
    ValueError
        If a change does not fit, or the module cannot be copied.
    """
    if _is_module(source):
        check_changes(changes, _held(_unwrapped(source)))
        target = source if inplace else _copied(source)
        held = _held(_unwrapped(target))
        for name, array in changes.items():
            overwrite(name, held[name], array)
        return target
    state = _state_dict(source)
    assert state is not None
    check_changes(changes, {name: value for name, value in state.items() if is_torch(value)})
    if inplace:
        for name, array in changes.items():
            overwrite(name, state[name], array)
        return source
    new = copy.copy(state)
    for name, array in changes.items():
        new[name] = like(state[name], array)
    if state is source:
        return new
    target = copy.copy(source)
    target[next(key for key in _NESTED if source.get(key) is state)] = new
    return target


def _is_module(source: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.nn.Module)


def _state_dict(source: Any) -> Any:
    """Return the mapping of names to tensors that a source is or holds, None if there is none."""
    if not isinstance(source, Mapping):
        return None
    for one in (source, *(source.get(key) for key in _NESTED)):
        if isinstance(one, Mapping) and any(is_torch(value) for value in one.values()):
            return one
    return None


def _unwrapped(module: Any) -> Any:
    """Return the module inside DataParallel and what torch.compile returns."""
    while True:
        kind = torch_leaves.builtin(module) or ""
        if kind.endswith(("DataParallel", "DistributedDataParallel")):
            module = module.module
        elif hasattr(module, "_orig_mod"):
            module = module._orig_mod
        else:
            return module


def _held(module: Any) -> dict[str, Any]:
    """Return the parameters and buffers of a module, each module's once."""
    return {
        f"{path}.{name}" if path else name: value
        for path, one in module.named_modules()
        for name, value in (*one._parameters.items(), *one._buffers.items())
        if value is not None
    }


def _read_module(module: Any) -> Contents:
    held = _held(module)
    if not held:
        raise UnreadableModel(f"{type(module).__name__}: the PyTorch module has no parameters")
    tensors = {name: as_tensor(name, value) for name, value in held.items()}
    steps: tuple[Step, ...] | None = None
    notes: tuple[str, ...] = ()
    try:
        steps = torch_tracing.steps_of(module)
    except torch_tracing.NotFollowed as problem:
        name = type(module).__name__
        notes = (f"the forward pass of {name} cannot be followed ({problem})",)
    layout: Layout | None = "out_in" if steps is None else None
    return Contents("PyTorch module", tensors, layout, steps, _overlapping(held.items()), notes)


def _overlapping(held: Iterable[tuple[str, Any]]) -> tuple[frozenset[str], ...]:
    """Return the sets of tensors that share memory."""
    spans: list[tuple[str, int, int, str]] = []
    for name, value in held:
        reach = sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True))
        if value.numel():
            start = value.data_ptr()
            spans.append(
                (str(value.device), start, start + (reach + 1) * value.element_size(), name)
            )
    groups: list[set[str]] = []
    device, end = "", 0
    for place, start, stop, name in sorted(spans):
        if place == device and start < end:
            groups[-1].add(name)
            end = max(end, stop)
        else:
            groups.append({name})
            device, end = place, stop
    return tuple(frozenset(group) for group in groups if len(group) > 1)


def _copied(module: Any) -> Any:
    """Return a deep copy of a module."""
    torch, memo = sys.modules["torch"], {}
    for one in module.modules():
        for value in vars(one).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                # what the older weight normalisation computes; PyTorch refuses to copy such
                memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(module, memo)
    except Exception as problem:  # modules may hold anything
        raise ValueError(
            f"inplace = False: {type(module).__name__} cannot be copied ({problem}); "
            "inplace=True changes the module itself"
        ) from None
