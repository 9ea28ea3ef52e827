"""PyTorch modules and state dicts in memory.

PyTorch is never imported here: an object can only be one of its own if it is loaded already.
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

from obstruction.models.contents import Contents, Layout, OperationGraph, UnreadableModel
from obstruction.models.readers.memory.tensors import (
    as_tensor,
    check_changes,
    is_torch,
    like,
    overwrite,
)
from obstruction.models.readers.torch import graphs as torch_graphs
from obstruction.models.readers.torch import leaves as torch_leaves
from obstruction.models.readers.torch import tracing as torch_tracing

_NESTED: Final = ("state_dict", "model_state_dict", "model_state", "model", "module", "net")
"""Keys under which checkpoints keep the state dict of the model."""

_ROWS: Final = 8
_WIDTHS: Final = 3  # of inputs to try
_TOLERANCES: Final = {"torch.float64": 1e-8, "torch.float32": 1e-3}  # of the largest output


def matches(source: Any) -> bool:
    """Return whether an object is a PyTorch module, a state dict or a checkpoint that holds one."""
    return _is_module(source) or _state_dict(source) is not None


def read(source: Any) -> Contents:
    """Return the parameters of a module with the graph of its forward pass, or a state dict.

    The forward pass is followed without data, which leaves the module as it was. If that fails, on
    control flow for instance, there is no graph.

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

    The values given for a module must leave what it computes as it was. That is checked with copies
    of the module on random inputs, where it can be run on vectors and copied, and has no hooks.

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
        If a change does not fit, the module cannot be copied, or would compute something else.
    """
    if _is_module(source):
        check_changes(changes, _held(_unwrapped(source)))
        _check_function(_unwrapped(source), changes)
        target = source if inplace else _copied(source)
        _change(target, changes)
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


def _change(module: Any, changes: Mapping[str, NDArray[Any]]) -> None:
    held = _held(_unwrapped(module))
    for name, array in changes.items():
        overwrite(name, held[name], array)


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
    while (inner := torch_leaves.wrapped(module)) is not None:
        module = inner
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
    if isinstance(module, sys.modules["torch"].jit.ScriptModule):
        raise UnreadableModel(
            "TorchScript modules cannot be read: give the module that was scripted or traced, or "
            "the state_dict() of this one"
        )
    held = _held(module)
    if not held:
        raise UnreadableModel(f"{type(module).__name__}: the PyTorch module has no parameters")
    tensors = {name: as_tensor(name, value) for name, value in held.items()}
    graph: OperationGraph | None = None
    notes: tuple[str, ...] = ()
    try:
        graph = torch_tracing.followed(module)
    except torch_graphs.NotFollowed as problem:
        name = type(module).__name__
        notes = (f"the forward pass of {name} cannot be followed ({problem})",)
    layout: Layout | None = "out_in" if graph is None else None
    shared = _overlapping(held.items())
    return Contents("PyTorch module", tensors, layout, graph, shared, notes)


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


# --- whether the function stays the same ----------------------------------------------------


def _check_function(module: Any, changes: Mapping[str, NDArray[Any]]) -> None:
    """Check on random inputs that a module with other weights computes the same.

    Only copies are run, each once, as ``forward`` may store or count. Hooks may write elsewhere,
    so that a module with hooks is not run.

    Raises
    ------
    ValueError
        If it computes something else.
    """
    if any(torch_leaves.has_hooks(one) for one in module.modules()):
        return
    matrices = [p for p in module.parameters() if p.ndim == 2 and p.is_floating_point()]
    widths = dict.fromkeys(n for matrix in matrices for n in reversed(matrix.shape))
    for width in itertools.islice(widths, _WIDTHS):
        try:
            before = _outputs(module, {}, matrices[0], width)
        except Exception:  # it is the user's code, and may take no such inputs
            continue
        try:
            after = _outputs(module, changes, matrices[0], width)
        except Exception:  # what ran before may fail for reasons of its own
            return
        if not _agree(before, after):
            raise ValueError(
                f"{type(module).__name__}: the module computes something else than its layers "
                "show, so that other weights would change what it computes; it is left as it was"
            )
        return


def _outputs(
    module: Any, changes: Mapping[str, NDArray[Any]], matrix: Any, width: int
) -> list[Any]:
    """Return the tensors that a copy of a module makes of random inputs in eval mode."""
    torch = sys.modules["torch"]
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(_ROWS, width, generator=generator, dtype=torch.float64)
    devices = [p.device.index for p in module.parameters() if p.device.type == "cuda"]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - forward may use it
    try:
        with torch.random.fork_rng(dict.fromkeys(devices)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            copied = _copied(module).eval()
            _change(copied, changes)
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
    """Return whether outputs differ by no more than rounding does, or hold no finite numbers."""
    for old, new in zip(before, after, strict=False):
        if old.is_floating_point() and old.numel() and old.isfinite().all():
            largest = float(old.abs().max())
            tolerance = _TOLERANCES.get(str(old.dtype), 5e-2) * largest
            if not (new.shape == old.shape and float((new - old).abs().max()) <= tolerance):
                return False
    return True
