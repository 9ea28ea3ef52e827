"""Files of NumPy, ``.npz`` and ``.npy``, in which pickled objects are never opened.

The header of each array is compared with the number of bytes in the file before anything is
allocated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from obstruction.models.contents import Contents, Tensor, Unread, UnreadableModel
from obstruction.models.readers.files import (
    Bytes,
    bytes_of,
    fitting,
    mapped,
    shown,
    spliced,
    stored_type,
    tensor_of,
    told_as,
)
from obstruction.models.readers.zip_archives import Archive, first_member
from obstruction.tools.files import replacing

FORMAT: Final = "NumPy"
SUFFIXES: Final = (".npz", ".npy")

MOST_DIMENSIONS: Final = 32

_MAGIC: Final = b"\x93NUMPY"
_ENTRY: Final = re.compile(
    r"""\s*(['"])(?P<key>descr|fortran_order|shape)\1\s*:\s*
    (?P<value>'[^'\\]*'|"[^"\\]*"|True|False|\([\s\d,L]*\)|\[.*\])\s*(?:,|$)""",
    re.VERBOSE | re.DOTALL,
)
_NUMBERS: Final = re.compile(r"[<>|=]?([biufc])(\d{1,2})|[<>|=]?(\?)")
_OBJECTS: Final = "Python objects"
_BFLOAT16: Final = ("|V2", "<V2")  # NumPy does not know the type of ml_dtypes and writes this


@dataclass(frozen=True)
class _Header:
    form: str | None  # None if the array does not hold numbers
    described: str
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    start: int  # of the numbers


def matches(head: bytes, path: Path) -> bool:
    """Return whether a file is an array, or an archive whose first member is one."""
    if head.startswith(_MAGIC):
        return True
    member = first_member(head)
    if member is not None:
        return member.endswith(b".npy") or path.suffix == ".npz"
    return path.suffix in SUFFIXES


def read(path: Path) -> Contents:
    """Return the arrays of a file; that of a ``.npy`` file has the name of the file."""
    with told_as(UnreadableModel, path):
        data = mapped(path)
        if data[: len(_MAGIC)].tobytes() == _MAGIC:
            return _contents("npy", {path.stem: data}, [])
        archive = Archive(path)
        names = [name for name in archive.members if name.endswith(".npy")]
        members = {name.removesuffix(".npy"): archive.view(name) for name in names}
        others = [name for name in archive.members if not name.endswith(".npy")]
        return _contents(
            "npz", members, [f"{shown(name)} is no array and not read" for name in others]
        )


def write(path: Path, changes: Mapping[str, NDArray[Any]], out: Path) -> None:
    """Write a copy with new numbers in some arrays; headers and compression stay as they are."""
    checked = fitting(changes, read(path).tensors)
    with told_as(UnreadableModel, path):
        data = mapped(path)
        archive = None if data[: len(_MAGIC)].tobytes() == _MAGIC else Archive(path)
        olds = {name: data if archive is None else archive.view(f"{name}.npy") for name in checked}
        news = {name: _stored(olds[name], new) for name, new in checked.items()}
    with replacing(out) as stream:
        if archive is not None:
            archive.write({f"{name}.npy": new for name, new in news.items()}, stream)
        else:
            spliced(data, [(0, data.size, new) for new in news.values()], stream)


def _contents(form: str, members: Mapping[str, Bytes], notes: list[str]) -> Contents:
    tensors, unread = {}, {}
    for name, data in members.items():
        try:
            header = _header(data)
            tensor = None if header.form is None else _tensor(name, header, header.form, data)
        except ValueError as error:
            raise ValueError(f"array {shown(name)}: {error}") from None
        if tensor is not None:
            tensors[name] = tensor
        else:
            what = _what(header.described)
            if math.prod(header.shape) > 1 or what == _OBJECTS:
                unread[name] = Unread(what, header.shape if header.shape else None)
            notes.append(
                f"{shown(name)} holds no numbers (type {header.described}) and is not read"
            )
    return Contents(format=form, tensors=tensors, notes=tuple(notes), unread=unread)


def _what(described: str) -> str:
    """Return in words what an array holds that does not hold numbers."""
    if described.startswith("["):
        return "records"
    kind = described.lstrip("<>|=")[:1]
    return {"O": _OBJECTS, "U": "text", "S": "text", "M": "dates", "m": "times"}.get(
        kind, f"values of type {described}"
    )


def _tensor(name: str, header: _Header, form: str, data: Bytes) -> Tensor:
    raw = data[header.start :]
    expected = math.prod(header.shape) * stored_type(form).itemsize
    if raw.size != expected:
        raise ValueError(f"damaged (it has {raw.size:,} bytes where its shape needs {expected:,})")
    return tensor_of(name, raw, form, header.shape, header.order)


def _stored(old: Bytes, new: NDArray[Any]) -> bytes:
    """Return the bytes of an array file with new numbers."""
    header = _header(old)
    assert header.form is not None
    return old[: header.start].tobytes() + bytes_of(new, header.form, header.order)


def _header(data: Bytes) -> _Header:
    head = data[:12].tobytes()
    if not head.startswith(_MAGIC) or len(head) < 12 or head[6] not in (1, 2, 3):
        raise ValueError("damaged (it does not start as an array does)")
    start = 10 if head[6] == 1 else 12
    stop = start + int.from_bytes(head[8:start], "little")
    if stop > data.size:
        raise ValueError("damaged (its header is cut off)")
    if stop > 2**16 + 12:
        raise ValueError(f"its header claims {stop:,} bytes: too many")
    text = data[start:stop].tobytes().decode("utf-8" if head[6] == 3 else "latin-1").strip()
    found: dict[str, str] = {}
    at, inner = 0, text[1:-1].rstrip()
    while text[:1] + text[-1:] == "{}" and at < len(inner) and (entry := _ENTRY.match(inner, at)):
        if entry["key"] in found:
            break
        found[entry["key"]] = entry["value"]
        at = entry.end()
    if at != len(inner) or set(found) != {"descr", "fortran_order", "shape"}:
        raise ValueError("damaged (its header is not one that NumPy writes)")
    parts = [part.strip().removesuffix("L") for part in found["shape"][1:-1].split(",")]
    if parts[-1] == "":
        parts.pop()
    plain = found["shape"][0] == "(" and all(part.isascii() and part.isdigit() for part in parts)
    shape = tuple(int(part) for part in parts) if plain else ()
    if found["fortran_order"] not in ("True", "False"):
        raise ValueError("damaged (its header is not one that NumPy writes)")
    if not plain or len(shape) > MOST_DIMENSIONS or any(size >= 2**63 for size in shape):
        raise ValueError("damaged (it has no possible shape)")
    described = found["descr"].strip("'\"")
    order: Literal["C", "F"] = "F" if found["fortran_order"] == "True" else "C"
    return _Header(_form(described), described[:40], shape, order, stop)


def _form(described: str) -> str | None:
    """Return the form of a type that holds numbers, or None for another type."""
    if described in _BFLOAT16:
        return "bfloat16"
    if not _NUMBERS.fullmatch(described):
        return None
    try:
        return np.dtype(described).str
    except TypeError:
        return None
