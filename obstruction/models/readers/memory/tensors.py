"""Conversion of arrays of any framework to tensors and back, without importing the framework."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obstruction.models.contents import Tensor, Unread, UnreadableModel, overlapping


def is_torch(value: Any) -> bool:
    """Return whether a value is a PyTorch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_jax(value: Any) -> bool:
    """Return whether a value is a JAX array."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.Array)


def is_key(value: Any) -> bool:
    """Return whether a value is an array of random keys of JAX, which are no numbers."""
    return is_jax(value) and not isinstance(value.dtype, np.dtype)


def is_array(value: Any) -> bool:
    """Return whether a value is an array of numbers of NumPy, PyTorch or JAX."""
    if is_jax(value):
        return not is_key(value)
    return isinstance(value, (np.ndarray, np.generic)) or is_torch(value)


def unread_in(held: Mapping[str, Any]) -> dict[str, Unread]:
    """Return the arrays that do not hold plain numbers only: sparse and masked ones."""
    found = {}
    for name, value in held.items():
        shape = tuple(value.shape)
        if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
            found[name] = Unread("a masked array", shape)
        elif is_torch(value) and value.layout is not sys.modules["torch"].strided:
            form = str(value.layout).removeprefix("torch.").removeprefix("sparse_").upper()
            found[name] = Unread(
                f"a sparse tensor ({'COO' if form == 'SPARSE_COO' else form})", shape
            )
    return found


def as_tensors(held: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return arrays of NumPy, PyTorch or JAX as tensors of the same names."""
    return {name: as_tensor(name, value) for name, value in held.items()}


def as_tensor(name: str, value: Any) -> Tensor:
    """Return an array of NumPy, PyTorch or JAX as a tensor, without a copy if that is possible.

    Raises
    ------
    UnreadableModel
        If it is a PyTorch tensor that is lazy, on the device ``meta``, or sparse, or if it is a
        masked array.
    """
    if is_torch(value):
        return _from_torch(name, value)
    if np.ma.is_masked(value):
        raise UnreadableModel(f"{name}: is a masked array: give one without masked numbers")
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":
        return Tensor(name, array.astype(np.float32), "bfloat16")
    return Tensor(name, array, array.dtype.name)


def _from_torch(name: str, value: Any) -> Tensor:
    torch = sys.modules["torch"]
    if torch.nn.parameter.is_lazy(value):
        raise UnreadableModel(f"{name}: is not initialised: run the module on one batch first")
    if value.is_meta:
        raise UnreadableModel(f"{name}: is on the device 'meta', where tensors hold no numbers")
    if value.layout is not torch.strided:
        raise UnreadableModel(f"{name}: is sparse, which cannot be read: give it as a dense tensor")
    dtype = str(value.dtype).removeprefix("torch.")
    held = value.detach().cpu()
    if held.is_quantized:
        held = held.int_repr()
    elif dtype == "bfloat16":
        held = held.float()
    elif dtype.startswith("float8"):
        held = held.view(torch.uint8)  # NumPy has no such type
    array = held.numpy().view()
    array.flags.writeable = False  # as it is the memory of the user's model
    return Tensor(name, array, dtype)


def overlapping_torch(held: Iterable[tuple[str, Any]]) -> tuple[frozenset[str], ...]:
    """Return the sets of the names of tensors of PyTorch that share memory."""
    spans = []
    for name, value in held:
        reach = sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True))
        if value.numel():
            start, size = value.data_ptr(), (reach + 1) * value.element_size()
            spans.append((str(value.device), start, start + size, name))
    return overlapping(spans, lambda name, other: True)


def like(value: Any, array: NDArray[Any]) -> Any:
    """Return numbers as an array of the framework, type and device of another array."""
    if is_torch(value):
        torch = sys.modules["torch"]
        made = torch.from_numpy(np.array(array)).to(device=value.device, dtype=value.dtype)
        if isinstance(value, torch.nn.Parameter):
            return torch.nn.Parameter(made, requires_grad=value.requires_grad)
        return made.requires_grad_(value.requires_grad) if value.is_leaf else made
    typed = array.astype(value.dtype)
    return sys.modules["jax"].device_put(typed, value.sharding) if is_jax(value) else typed


def rebuilt(source: Any, parts: Iterable[Any]) -> Any:
    """Return parts in a sequence of the same type as another, perhaps a named tuple."""
    return getattr(source, "_make", type(source))(parts)


def overwrite(held: Mapping[str, Any], changes: Mapping[str, NDArray[Any]]) -> None:
    """Write new numbers into some of the arrays of NumPy or PyTorch that are held."""
    for name, array in changes.items():
        value = held[name]
        if is_torch(value):
            torch = sys.modules["torch"]
            with torch.no_grad():
                value.copy_(torch.from_numpy(np.array(array)))
        elif isinstance(value, np.ndarray) and value.flags.writeable:
            value[...] = array
        else:
            raise ValueError(f"inplace = True: {name} cannot be changed in place")


def check_changes(changes: Mapping[str, NDArray[Any]], held: Mapping[str, Any]) -> None:
    """Raise a ValueError unless all changes have the name and the shape of an array."""
    for name, array in changes.items():
        if name not in held:
            raise ValueError(f"changes: there is no tensor {name!r}")
        shape = tuple(held[name].shape)
        if tuple(array.shape) != shape:
            raise ValueError(f"changes: {name!r} has the shape {shape}, not {tuple(array.shape)}")
