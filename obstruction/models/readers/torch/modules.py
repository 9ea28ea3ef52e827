"""PyTorch modules and state dicts in memory.

This module never imports PyTorch, which must be loaded already if an object is of it.
"""

from __future__ import annotations

import copy
import itertools
import random
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.models.contents import (
    Contents,
    OperationGraph,
    Orientation,
    UnreadableModel,
    overlapping,
)
from obstruction.models.readers.memory.tensors import (
    as_tensors,
    check_changes,
    is_torch,
    like,
    overwrite,
)
from obstruction.models.readers.torch import graphs as torch_graphs
from obstruction.models.readers.torch import leaves as torch_leaves
from obstruction.models.readers.torch import tracing as torch_tracing

OBJECTS: Final = "a torch.nn.Module or state dict"

_NESTED: Final = ("state_dict", "model_state_dict", "model_state", "model", "module", "net")
"""The keys under which checkpoints keep the state dict of a model."""

_ROWS: Final = 8
_WIDTHS: Final = 3
"""The number of random inputs, and how many widths of inputs are tried."""

_TOLERANCES: Final = {"torch.float64": 1e-8, "torch.float32": 1e-3}  # times the largest output


def matches(source: Any) -> bool:
    """Return whether an object is a PyTorch module, a state dict or a checkpoint that holds one."""
    return _is_module(source) or _state_dict(source) is not None


def read(source: Any) -> Contents:
    """Return the parameters of a module with the graph of its forward pass, or a state dict.

    The forward pass is followed without data, which leaves the module as it was. If that fails, on
    control flow for instance, there is no graph. A checkpoint may hold the state dict under a key
    such as ``"state_dict"``.
    """
    state = None if _is_module(source) else _state_dict(source)
    if state is None:
        return _read_module(_unwrapped(source))
    held = {str(name): value for name, value in state.items() if is_torch(value)}
    shared = _overlapping(held.items())
    return Contents("PyTorch state dict", as_tensors(held), "out_in", None, shared)


def updated(source: Any, changes: Mapping[str, NDArray[Any]], *, inplace: bool) -> Any:
    """Return a module or a state dict with new values.

    With ``inplace`` the tensors themselves are overwritten, so that optimisers continue with them.
    A copy of a state dict shares the tensors that do not change. A module must compute the same
    function before and after. This is checked on random inputs with copies of the module, unless it
    has hooks, cannot be copied or takes no vectors.
    """
    if _is_module(source):
        check_changes(changes, _held(_unwrapped(source)))
        _check_function(_unwrapped(source), changes)
        target = source if inplace else _copied(source)
        overwrite(_held(_unwrapped(target)), changes)
        return target
    state = _state_dict(source)
    assert state is not None
    check_changes(changes, {name: value for name, value in state.items() if is_torch(value)})
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


def _unwrapped(module: Any) -> Any:
    """Return the module within the wrappers of ``DataParallel`` and ``torch.compile``."""
    while (inner := torch_leaves.wrapped(module)) is not None:
        module = inner
    return module


def _held(module: Any) -> dict[str, Any]:
    """Return the parameters and buffers of a module and, once each, of the modules in it."""
    return {
        f"{path}.{name}" if path else name: value
        for path, one in module.named_modules()
        for name, value in (*one._parameters.items(), *one._buffers.items())
        if value is not None
    }


def _read_module(module: Any) -> Contents:
    if isinstance(module, sys.modules["torch"].jit.ScriptModule):
        raise UnreadableModel(
            "TorchScript modules cannot be read: give the module that was scripted or traced, or "
            "the state_dict() of this one"
        )
    held = _held(module)
    if not held:
        raise UnreadableModel(f"{type(module).__name__}: the PyTorch module has no parameters")
    tensors = as_tensors(held)
    graph: OperationGraph | None = None
    notes: tuple[str, ...] = ()
    try:
        graph = torch_tracing.followed(module)
    except torch_graphs.NotFollowed as problem:
        name = type(module).__name__
        notes = (f"the forward pass of {name} cannot be followed ({problem})",)
    layout: Orientation | None = "out_in" if graph is None else None
    shared = _overlapping(held.items())
    return Contents("PyTorch module", tensors, layout, graph, shared, notes)


def _overlapping(held: Iterable[tuple[str, Any]]) -> tuple[frozenset[str], ...]:
    """Return the sets of the names of tensors that share memory."""
    spans = []
    for name, value in held:
        reach = sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True))
        if value.numel():
            start, size = value.data_ptr(), (reach + 1) * value.element_size()
            spans.append((str(value.device), start, start + size, name))
    return overlapping(spans, lambda name, other: True)


def _copied(module: Any) -> Any:
    """Return a deep copy of a module."""
    torch, memo = sys.modules["torch"], {}
    for one in module.modules():
        for value in vars(one).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                # PyTorch does not copy such tensors, which the older weight normalisation makes
                memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(module, memo)
    except Exception as problem:  # copying may run code of the user
        raise ValueError(
            f"inplace = False: {type(module).__name__} cannot be copied ({problem}); "
            "inplace=True changes the module itself"
        ) from None


# --- whether the function stays the same ----------------------------------------------------


def _check_function(module: Any, changes: Mapping[str, NDArray[Any]]) -> None:
    """Raise a ValueError if new weights change the function of a module on random inputs.

    Each copy is run only once, as ``forward`` may change the state of a module. A module with hooks
    is not run, as hooks may write to other places.
    """
    if any(torch_leaves.has_hooks(one) for one in module.modules()):
        return
    matrices = [p for p in module.parameters() if p.ndim == 2 and p.is_floating_point()]
    widths = dict.fromkeys(n for matrix in matrices for n in reversed(matrix.shape))
    for width in itertools.islice(widths, _WIDTHS):
        try:
            before = _outputs(module, {}, matrices[0], width)
        except Exception:  # the user's code may not take such inputs
            continue
        try:
            after = _outputs(module, changes, matrices[0], width)
        except Exception:  # the user's code may fail for reasons of its own
            return
        if not _agree(before, after):
            raise ValueError(
                f"{type(module).__name__}: the module computes another function than its layers "
                "do, so that new weights would change its function; it is left as it was"
            )
        return


def _outputs(
    module: Any, changes: Mapping[str, NDArray[Any]], matrix: Any, width: int
) -> list[Any]:
    """Return the outputs for random inputs of a copy of a module, in evaluation mode."""
    torch = sys.modules["torch"]
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(_ROWS, width, generator=generator, dtype=torch.float64)
    devices = [p.device.index for p in module.parameters() if p.device.type == "cuda"]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - forward may use it
    try:
        with torch.random.fork_rng(dict.fromkeys(devices)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            copied = _copied(module).eval()
            overwrite(_held(_unwrapped(copied)), changes)
            with torch.no_grad():
                made = copied(inputs.to(matrix))
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
    return list(_tensors(made))


def _tensors(made: Any) -> Iterator[Any]:
    if is_torch(made):
        yield made
    elif isinstance(made, (Mapping, list, tuple)):
        for one in made.values() if isinstance(made, Mapping) else made:
            yield from _tensors(one)


def _agree(before: list[Any], after: list[Any]) -> bool:
    """Return whether outputs differ by at most the tolerance, where the first ones are finite."""
    for old, new in zip(before, after, strict=False):
        if old.is_floating_point() and old.numel() and old.isfinite().all():
            largest = float(old.abs().max())
            tolerance = _TOLERANCES.get(str(old.dtype), 5e-2) * largest
            if not (new.shape == old.shape and float((new - old).abs().max()) <= tolerance):
                return False
    return True
