"""Files of the safetensors format: a header in JSON, followed by numbers.

This reader follows the description of the format, https://huggingface.co/docs/safetensors. The
first eight bytes give the length of the header. The header gives the type, shape and place of every
tensor. The places must fill the rest of the file without holes or overlaps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

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
from obstruction.tools.files import replacing

FORMAT: Final = "safetensors"
SUFFIXES: Final = (".safetensors",)

LARGEST_HEADER: Final = 100_000_000
"""The largest number of bytes of a header, as in the format's own library."""

SMALL_HEADER: Final = 2 * 2**20
"""The largest number of bytes of a header that is more than a tenth of its file. The objects made
of a header need many times its size."""

MOST_DIMENSIONS: Final = 64
_MOST_DIGITS: Final = 30  # of any number; a size has 19 at most

_TYPES: Final = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "BF16": "bfloat16",
    "F32": "<f4",
    "F64": "<f8",
    "C64": "<c8",
}
_BITS: Final = {
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}  # types that NumPy does not have


@dataclass(frozen=True)
class _Entry:
    kind: str
    shape: tuple[int, ...]
    start: int  # counted from the start of the file
    stop: int


def matches(head: bytes, path: Path) -> bool:
    """Return whether the header of a file starts as one in JSON does."""
    return head[8:9] == b"{" or path.suffix in SUFFIXES


def read(path: Path) -> Contents:
    """Return the tensors of a file."""
    with told_as(UnreadableModel, path):
        return _read(mapped(path))[0]


def write(path: Path, changes: Mapping[str, NDArray[Any]], out: Path) -> None:
    """Write a copy with new numbers in some tensors; the header stays as it is."""
    with told_as(UnreadableModel, path):
        data = mapped(path)
        contents, entries = _read(data)
    splices = []
    for name, new in fitting(changes, contents.tensors).items():
        entry = entries[name]
        raw = bytes_of(new, _TYPES.get(entry.kind, "u1"))
        splices.append((entry.start, entry.stop - entry.start, raw))
    with replacing(out) as stream:
        spliced(data, splices, stream)


def _read(data: Bytes) -> tuple[Contents, dict[str, _Entry]]:
    entries = _header(data)
    tensors, notes, unread = {}, [], {}
    for name, entry in entries.items():
        raw = data[entry.start : entry.stop]
        if entry.kind in _BITS and _BITS[entry.kind] < 8:
            notes.append(f"{shown(name)} holds numbers of type {entry.kind}, which are not read")
            unread[name] = Unread(f"numbers of type {entry.kind}", entry.shape)
            continue
        tensors[name] = _tensor(name, entry, raw)
    contents = Contents("safetensors", tensors, notes=tuple(notes), unread=unread)
    return contents, entries


def _tensor(name: str, entry: _Entry, raw: Bytes) -> Tensor:
    if entry.kind in _BITS:
        return Tensor(name, raw.reshape(entry.shape), entry.kind.lower())
    return tensor_of(name, raw, _TYPES[entry.kind], entry.shape)


def _header(data: Bytes) -> dict[str, _Entry]:
    """Return the entries of a header in their order, after all checks of the format."""
    if data.size < 8:
        raise ValueError("damaged (the file is cut off)")
    length = int.from_bytes(data[:8].tobytes(), "little")
    if length > LARGEST_HEADER:
        raise ValueError(f"its header claims {length:,} bytes: at most {LARGEST_HEADER:,} are read")
    start = 8 + length
    if start > data.size:
        raise ValueError("damaged (the header is cut off)")
    if length > max(SMALL_HEADER, data.size // 10):
        raise ValueError(f"its header has {length:,} bytes, more than a tenth of the file")
    text = data[8:start].tobytes()
    if not text.startswith(b"{"):
        raise ValueError("damaged (the header is no JSON object)")
    try:
        found = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_fraction,
            parse_int=_whole,
            parse_float=_no_fraction,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"damaged (the header is no JSON text: {error.msg})") from None
    metadata = found.pop("__metadata__", None)
    if metadata is None:  # MLX writes null if there are none
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("damaged (the metadata of the header are not texts)")
    entries = {name: _entry(name, about, start) for name, about in found.items()}
    place = start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != place:
            kind = "overlaps another tensor" if entry.start < place else "follows a hole"
            raise ValueError(f"damaged (tensor {shown(name)} {kind})")
        place = entry.stop
    if place != data.size:
        raise ValueError(
            f"damaged (the tensors end at byte {place:,}, the file at byte {data.size:,})"
        )
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("damaged (the header has a name twice)")
    return found


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"damaged (the header holds a number of {len(text):,} digits)")
    return int(text)


def _no_fraction(text: str) -> None:
    raise ValueError(f"damaged (the header holds {shown(text)}, which is no whole number)")


def _entry(name: str, about: Any, base: int) -> _Entry:
    if not isinstance(about, dict) or set(about) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(
            f"damaged (tensor {shown(name)} is not described by dtype, shape and offsets)"
        )
    kind, shape, offsets = about["dtype"], about["shape"], about["data_offsets"]
    if not isinstance(kind, str) or (kind not in _TYPES and kind not in _BITS):
        raise ValueError(
            f"tensor {shown(name)} has the type {str(kind)[:40]!r}, which is not known"
        )
    if not _sizes(shape) or len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"damaged (tensor {shown(name)} has no possible shape)")
    if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"damaged (tensor {shown(name)} has no possible place)")
    bits = _BITS[kind] if kind in _BITS else 8 * stored_type(_TYPES[kind]).itemsize
    if math.prod(shape) * bits != 8 * (offsets[1] - offsets[0]):
        raise ValueError(f"damaged (the place of tensor {shown(name)} does not fit its shape)")
    return _Entry(kind, tuple(shape), base + offsets[0], base + offsets[1])


def _sizes(values: Any) -> bool:
    """Return whether a value is a list of whole numbers that can be sizes."""
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**63 for v in values)
