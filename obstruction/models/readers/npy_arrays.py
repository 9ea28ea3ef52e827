"""Arrays of numbers as NumPy writes them: a header in text, and the numbers behind it.

The header of each array is compared with the number of bytes in the file before anything is
allocated.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from obstruction.models.contents import Tensor
from obstruction.models.readers.files import Bytes, bytes_of, stored_type, tensor_of

MOST_DIMENSIONS: Final = 32

MAGIC: Final = b"\x93NUMPY"
"""The first bytes of every array."""

_ENTRY: Final = re.compile(
    r"""\s*(['"])(?P<key>descr|fortran_order|shape)\1\s*:\s*
    (?P<value>'[^'\\]*'|"[^"\\]*"|True|False|\([\s\d,L]*\)|\[.*\])\s*(?:,|$)""",
    re.VERBOSE | re.DOTALL,
)
_NUMBERS: Final = re.compile(r"[<>|=]?([biufc])(\d{1,2})|[<>|=]?(\?)")
_BFLOAT16: Final = ("|V2", "<V2")  # NumPy does not know the type of ml_dtypes and writes this


@dataclass(frozen=True)
class Header:
    """What the header of an array says.

    Attributes
    ----------
    form : str or None
        The form of the numbers, as `tensor_of` takes it. None if the array holds none.
    described : str
        What the header calls the type.
    shape : tuple of int
    order : {"C", "F"}
    start : int
        The position of the numbers.
    """

    form: str | None
    described: str
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    start: int

    @property
    def size(self) -> int:
        """The number of bytes of an array of numbers with its header."""
        assert self.form is not None
        return self.start + math.prod(self.shape) * stored_type(self.form).itemsize


def array_of(name: str, data: Bytes) -> Tensor | None:
    """Return the bytes of an array as a tensor, or None if it holds no numbers.

    Raises
    ------
    ValueError
        If the bytes are no array, or too few or too many.
    """
    header = header_of(data)
    if header.form is None:
        return None
    raw, expected = data[header.start :], header.size - header.start
    if raw.size != expected:
        raise ValueError(f"damaged (it has {raw.size:,} bytes where its shape needs {expected:,})")
    return tensor_of(name, raw, header.form, header.shape, header.order)


def replaced(old: Bytes, new: NDArray[Any]) -> bytes:
    """Return the bytes of an array file with new numbers."""
    header = header_of(old)
    assert header.form is not None
    return old[: header.start].tobytes() + bytes_of(new, header.form, header.order)


def header_of(data: Bytes) -> Header:
    """Return the header with which the bytes of an array begin, or raise a ValueError."""
    head = data[:12].tobytes()
    if not head.startswith(MAGIC) or len(head) < 12 or head[6] not in (1, 2, 3):
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
    return Header(_form(described), described[:40], shape, order, stop)


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
