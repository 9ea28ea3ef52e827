"""Limits, errors and copies that the readers of files share."""

from __future__ import annotations

import contextlib
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

SMALL: Final = 64 * 2**20
"""Bytes that any file may expand to, however small it is."""

Bytes: TypeAlias = NDArray[np.uint8]

Splice: TypeAlias = tuple[int, int, Any]
"""Where in a file how many bytes are replaced, and by what."""


def most_expanded(size: int) -> int:
    """Return how many bytes may be made of a file of ``size`` bytes: 3 times as many, or `SMALL`.

    With the file itself, memory then stays within 4 times its size.
    """
    return max(3 * size, SMALL)


def shown(name: str) -> str:
    """Return a name from a file as an error shows it: quoted, escaped and not too long."""
    return repr(name if len(name) <= 100 else name[:97] + "...")


@contextlib.contextmanager
def told_as(error: type[ValueError], path: Path) -> Iterator[None]:
    """Turn whatever is wrong with a file into one error of the given type that names the file.

    Raises
    ------
    ValueError
        Of type ``error``, for every `ValueError`, and for what the system or a decoder reports.
    """
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
    """Return the bytes of a file as a read-only array that is read as it is used.

    Raises
    ------
    ValueError
        If it is no ordinary file, or empty.
    OSError
        If it cannot be opened.
    """
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("is not an ordinary file")
    if state.st_size == 0:
        raise ValueError("is empty")
    return np.asarray(np.memmap(path, np.uint8, "r"))


def spliced(data: Bytes, splices: Iterable[Splice], stream: IO[bytes]) -> None:
    """Write bytes to a stream with some of them replaced."""
    done = 0
    for start, length, new in sorted(splices, key=lambda splice: splice[0]):
        stream.write(data[done:start].data)
        stream.write(new)
        done = start + length
    stream.write(data[done:].data)


def fitting(changes: Mapping[str, Any], tensors: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return new values for tensors, if they are what the file can hold.

    Parameters
    ----------
    changes : mapping of str to array_like
        New values by name.
    tensors : mapping of str to Tensor
        What is in the file.

    Raises
    ------
    ValueError
        If a name is not there, or a shape or type is not the stored one.
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
            raise ValueError(f"changes[{name!r}]: holds numbers that bfloat16 cannot")
        checked[name] = new
    return checked
