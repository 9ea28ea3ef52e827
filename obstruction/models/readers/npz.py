"""Files of NumPy, ``.npz`` and ``.npy``, in which pickled objects are never opened."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from obstruction.models.contents import Contents, Unread, UnreadableModel, names_weights
from obstruction.models.readers import eqx
from obstruction.models.readers.files import Bytes, fitting, mapped, shown, spliced, told_as
from obstruction.models.readers.npy_arrays import MAGIC, Header, array_of, header_of, replaced
from obstruction.models.readers.zip_archives import Archive, first_member
from obstruction.tools.files import replacing

FORMAT: Final = "NumPy"
SUFFIXES: Final = (".npz", ".npy")

_OBJECTS: Final = "Python objects"
_REMARK: Final = re.compile(r"[<>|=]?[USMm](?P<size>\d*)(?:\[.*\])?")
_LONGEST_REMARK: Final = 256


def matches(head: bytes, path: Path) -> bool:
    """Return whether a file is an array, or an archive whose first member is one."""
    if head.startswith(MAGIC):
        return True
    member = first_member(head)
    if member is not None:
        return member.endswith(b".npy") or path.suffix == ".npz"
    return path.suffix in SUFFIXES


def read(path: Path) -> Contents:
    """Return the arrays of a file; that of a ``.npy`` file has the name of the file."""
    with told_as(UnreadableModel, path):
        data = mapped(path)
        if data[: len(MAGIC)].tobytes() == MAGIC:
            if eqx.is_sequence(data):
                return eqx.read(path)
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
    with told_as(UnreadableModel, path):
        if eqx.is_sequence(mapped(path)):
            eqx.write(path, changes, out)
            return
    checked = fitting(changes, read(path).tensors)
    with told_as(UnreadableModel, path):
        data = mapped(path)
        archive = None if data[: len(MAGIC)].tobytes() == MAGIC else Archive(path)
        olds = {name: data if archive is None else archive.view(f"{name}.npy") for name in checked}
        news = {name: replaced(olds[name], new) for name, new in checked.items()}
    with replacing(out) as stream:
        if archive is not None:
            archive.write({f"{name}.npy": new for name, new in news.items()}, stream)
        else:
            spliced(data, [(0, data.size, new) for new in news.values()], stream)


def _contents(form: str, members: Mapping[str, Bytes], notes: list[str]) -> Contents:
    tensors, unread = {}, {}
    for name, data in members.items():
        try:
            tensor = array_of(name, data)
        except ValueError as error:
            raise ValueError(f"array {shown(name)}: {error}") from None
        if tensor is not None:
            tensors[name] = tensor
        else:
            header = header_of(data)
            what = _what(header.described)
            if names_weights(name) or not _is_remark(header):
                unread[name] = Unread(what, header.shape if header.shape else None)
            notes.append(
                f"{shown(name)} holds no numbers (type {header.described}) and is not read"
            )
    return Contents(format=form, tensors=tensors, notes=tuple(notes), unread=unread)


def _is_remark(header: Header) -> bool:
    """Return whether an array holds a short text or a date, as a remark of who wrote the file."""
    found = _REMARK.fullmatch(header.described)
    if found is None or math.prod(header.shape) > 1:
        return False
    return int(found["size"] or 0) <= _LONGEST_REMARK


def _what(described: str) -> str:
    """Return in words what an array holds that does not hold numbers."""
    if described.startswith("["):
        return "records"
    kind = described.lstrip("<>|=")[:1]
    return {"O": _OBJECTS, "U": "text", "S": "text", "M": "dates", "m": "times"}.get(
        kind, f"values of type {described}"
    )
