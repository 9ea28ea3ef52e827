"""Files of Equinox: the arrays of a module one behind the other, without names.

A line of JSON text with the options of the module may come first. The arrays are in the order of
the attributes of the module, which need not be that of the forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from obstruction.models.contents import Contents, Tensor, UnreadableModel
from obstruction.models.readers.files import Bytes, fitting, mapped, spliced, told_as
from obstruction.models.readers.npy_arrays import MAGIC, array_of, header_of, replaced
from obstruction.tools.files import replacing

FORMAT: Final = "Equinox"
SUFFIXES: Final = (".eqx",)

MOST_ARRAYS: Final = 100_000
LONGEST_LINE: Final = 2**20
"""The largest number of bytes of the line of options."""

_UNNAMED: Final = (
    "the arrays of an Equinox file have no names: a vector behind a matrix with as many rows is "
    "taken for its biases; give the module itself if that may be wrong"
)


def matches(head: bytes, path: Path) -> bool:
    """Return whether the name of a file is one of Equinox; `is_sequence` judges the content."""
    return path.suffix in SUFFIXES


def is_sequence(data: Bytes) -> bool:
    """Return whether a file begins with an array that another one follows."""
    if data[: len(MAGIC)].tobytes() != MAGIC:
        return False
    header = header_of(data)
    if header.form is None:
        return False
    return data[header.size : header.size + len(MAGIC)].tobytes() == MAGIC


def read(path: Path) -> Contents:
    """Return the arrays of a file, by their places in it."""
    with told_as(UnreadableModel, path):
        data = mapped(path)
        tensors = _tensors(data, _places(data))
    return Contents("Equinox file", tensors, notes=(_UNNAMED,))


def write(path: Path, changes: Mapping[str, NDArray[Any]], out: Path) -> None:
    """Write a copy with new numbers in some arrays; all else stays as it is."""
    with told_as(UnreadableModel, path):
        data = mapped(path)
        places = _places(data)
        checked = fitting(changes, _tensors(data, places))
    splices = []
    for name, new in checked.items():
        start, stop = places[_place(name)]
        splices.append((start, stop - start, replaced(data[start:stop], new)))
    with replacing(out) as stream:
        spliced(data, splices, stream)


def _places(data: Bytes) -> list[tuple[int, int]]:
    """Return where each array starts and stops."""
    at = 0
    if data[: len(MAGIC)].tobytes() != MAGIC:
        at = data[:LONGEST_LINE].tobytes().find(b"\n" + MAGIC) + 1
        if at == 0:
            raise ValueError("is no file of Equinox (no array follows its first line)")
    places: list[tuple[int, int]] = []
    while at < data.size:
        if len(places) == MOST_ARRAYS:
            raise ValueError(f"holds more than {MOST_ARRAYS:,} arrays: no more are read")
        header = header_of(data[at:])
        if header.form is None:
            raise ValueError(f"array {len(places)} holds no numbers (type {header.described})")
        if at + header.size > data.size:
            raise ValueError(f"damaged (array {len(places)} is cut off)")
        places.append((at, at + header.size))
        at += header.size
    return places


def _tensors(data: Bytes, places: list[tuple[int, int]]) -> dict[str, Tensor]:
    """Return the arrays as tensors, a matrix and its biases as those of one layer."""
    found: list[Tensor] = []
    for i, (start, stop) in enumerate(places):
        tensor = array_of(f"leaf_{i}", data[start:stop])
        assert tensor is not None, "places are those of numbers"
        found.append(tensor)
    biased = {i for i, one in enumerate(found) if one.array.ndim == 2 and _is_biased(found, i)}
    matrices = [i for i, one in enumerate(found) if one.array.ndim == 2]
    if matrices and matrices[-1] not in biased:  # vectors may be the scales of normalisations
        biased = set()
    tensors = {}
    for i, one in enumerate(found):
        name = one.name
        if one.array.ndim == 2:
            name += ".weight"
        elif i - 1 in biased:
            name = f"leaf_{i - 1}.bias"
        tensors[name] = Tensor(name, one.array, one.dtype)
    return tensors


def _is_biased(found: list[Tensor], i: int) -> bool:
    """Return whether a vector behind a matrix can be its biases, and no scale of a start."""
    after = found[i + 1].array if i + 1 < len(found) else None
    if after is None or after.shape != found[i].shape[:1]:
        return False
    return after.size < 2 or bool((after != after[0]).any()) or not after.any()


def _place(name: str) -> int:
    """Return the place of an array with a name."""
    place = int(name.removeprefix("leaf_").partition(".")[0])
    return place + name.endswith(".bias")
