"""Limits, errors, views and copies that the readers of files share."""

from __future__ import annotations

import contextlib
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.models.bfloat16 import bfloat16_array
from obstruction.models.contents import Tensor, encode_bfloat16

SMALL: Final = 64 * 2**20
"""The number of bytes to which every file may expand, however small it is."""

_LEFT: Final[ContextVar[int | None]] = ContextVar("left", default=None)

Bytes: TypeAlias = NDArray[np.uint8]

Splice: TypeAlias = tuple[int, int, Any]
"""The position and the number of bytes in a file, and the bytes that replace them."""


def most_expanded(size: int) -> int:
    """Return the number of bytes to which a file of ``size`` bytes may expand.

    That is 3 times its size, or `SMALL` if that is more. Together with the file itself, memory then
    stays within 4 times the size of a large file. Of a part of a model, it is at most what
    `expanding_to` leaves to it.
    """
    most, left = max(3 * size, SMALL), _LEFT.get()
    return most if left is None else min(most, left)


@contextlib.contextmanager
def expanding_to(left: int) -> Iterator[None]:
    """Let the files that are read meanwhile expand to no more than ``left`` bytes."""
    token = _LEFT.set(left)
    try:
        yield
    finally:
        _LEFT.reset(token)


def shown(name: str) -> str:
    """Return a name from a file in quotes for an error, escaped and shortened."""
    return repr(name if len(name) <= 100 else name[:97] + "...")


@contextlib.contextmanager
def told_as(error: type[ValueError], path: Path) -> Iterator[None]:
    """Turn every problem with a file into an error of the given type that names the file."""
    try:
        yield
    except error:
        raise
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror or problem})") from None
    except RecursionError:
        raise error(f"{path}: is nested too deeply") from None
    except MemoryError:
        raise error(f"{path}: does not fit into memory") from None
    except UnicodeError:
        raise error(f"{path}: damaged (a name in it is not valid text)") from None
    except (ValueError, OverflowError, zlib.error, struct.error) as problem:
        raise error(f"{path}: {problem}") from None


def mapped(path: Path) -> Bytes:
    """Return the bytes of an ordinary file as a read-only array, mapped into memory."""
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("is not an ordinary file")
    if state.st_size == 0:
        raise ValueError("is empty")
    return np.asarray(np.memmap(path, np.uint8, "r"))


def stored_type(form: str) -> np.dtype[Any]:
    """Return the NumPy type in which a file holds numbers: ``"bfloat16"`` as bit patterns."""
    return np.dtype("<u2" if form == "bfloat16" else form)


def tensor_of(
    name: str, raw: Bytes, form: str, shape: tuple[int, ...], order: Literal["C", "F"] = "C"
) -> Tensor:
    """Return bytes of a file as a tensor, as a view if they are aligned for their type.

    The form is ``"bfloat16"`` or the name of a NumPy type, such as ``"<f4"``. In the file, the last
    index changes fastest with the order ``"C"``, and the first index with ``"F"``.
    """
    kind = stored_type(form)
    if raw.ctypes.data % kind.alignment:
        raw = raw.copy()
    numbers: NDArray[Any] = raw.view(kind)
    if form == "bfloat16":
        return Tensor(name, bfloat16_array(numbers.reshape(shape, order=order)), form)
    return Tensor(name, numbers.reshape(shape, order=order), kind.name)


def bytes_of(values: NDArray[Any], form: str, order: Literal["C", "F"] = "C") -> bytes:
    """Return the bytes for which `tensor_of` returns a tensor of these values."""
    flat = values.reshape(-1, order=order)
    if form == "bfloat16":
        flat = encode_bfloat16(flat)
    return flat.astype(stored_type(form)).tobytes()


def spliced(data: Bytes, splices: Iterable[Splice], stream: IO[bytes]) -> None:
    """Write the bytes of a file to a stream with some of them replaced."""
    done = 0
    for start, length, new in sorted(splices, key=lambda splice: splice[0]):
        stream.write(data[done:start].data)
        stream.write(new)
        done = start + length
    stream.write(data[done:].data)


def fitting(changes: Mapping[str, Any], tensors: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return new values of tensors as arrays.

    Raises
    ------
    ValueError
        If the file has no tensor of a name, or if a shape or type is not the stored one.
    """
    checked = {}
    for name, values in changes.items():
        if name not in tensors:
            raise ValueError(f"changes: there is no tensor {name!r} in the file")
        old, new = tensors[name], np.asarray(values)
        if new.shape != old.shape:
            raise ValueError(f"changes[{name!r}] has shape {new.shape}: must have {old.shape}")
        if new.dtype.newbyteorder("=") != old.array.dtype.newbyteorder("="):
            kind = old.array.dtype.name
            raise ValueError(f"changes[{name!r}] has type {new.dtype}: must be of type {kind}")
        if old.dtype == "bfloat16" and (np.atleast_1d(new).view(np.uint32) & 0xFFFF).any():
            raise ValueError(f"changes[{name!r}]: holds numbers that are no bfloat16 numbers")
        checked[name] = new
    return checked
