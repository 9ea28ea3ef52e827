"""Models that are split into several files, read by the index that lists their parts.

Hugging Face's libraries write ``model.safetensors.index.json``, which names the file of each
tensor, and Keras writes ``model.weights.json``, which names the files of each layer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final

from obstruction.models.contents import Contents, Tensor, UnreadableModel
from obstruction.models.readers.files import expanding_to, mapped, most_expanded, shown, told_as

MOST_PARTS: Final = 1_000
"""The largest number of parts of a model."""

LARGEST_INDEX: Final = 100_000_000
"""The largest number of bytes of an index."""

SMALL_INDEX: Final = 2 * 2**20
"""The largest number of bytes of an index that is more than a tenth of the files in its folder. The
objects made of an index need many times its size."""

NUMBERED: Final = re.compile(
    r"(?P<stem>.+)[-_.](?P<number>\d{4,6})-of-(?P<count>\d{4,6})(?P<rest>(?:\.[\w-]+)+)"
)
"""The name of a part, in which it has a number of so many."""

KERAS: Final = re.compile(r"(?P<stem>.+)_(?P<number>\d{5})(?P<rest>\.weights\.h5)")
"""The name of a part of Keras's sharded weights, which are numbered from 0."""

_INDEX: Final = re.compile(r".+\.index(?:\.[^.]+)?\.json|.+\.weights\.json")


def is_index(path: Path) -> bool:
    """Return whether the name of a file is that of an index.

    Examples
    --------
    >>> is_index(Path("model.safetensors.index.json")), is_index(Path("config.json"))
    (True, False)
    """
    return _INDEX.fullmatch(path.name) is not None


def index_in(folder: Path) -> Path | None:
    """Return the only index in a folder, None if there is none.

    Raises
    ------
    ValueError
        If there are several.
    """
    found = indices(folder)
    if len(found) > 1:
        names = ", ".join(shown(one.name) for one in found[:5])
        raise ValueError(f"is a folder with several models in parts: give one index of {names}")
    return found[0] if found else None


def read_index(path: Path, read_part: Callable[[Path], Contents]) -> Contents:
    """Return the tensors of all parts of a model.

    Parameters
    ----------
    path : Path
        The index. All parts must lie in its folder.
    read_part : callable
        Reads a part.

    Raises
    ------
    UnreadableModel
        If the index is damaged or names files elsewhere, if a part is missing or does not hold
        just the tensors that the index says, or if what all parts hold is out of proportion to
        their size.
    """
    places = places_in(path)
    grouped = all(name.startswith("/") for names in places.values() for name in names)  # by Keras
    with told_as(UnreadableModel, path):
        _check_series(places)
        files = {name: _part(path, name) for name in places}
        total = sum(file.stat().st_size for file in files.values())
    most = left = most_expanded(total)
    parts: list[Contents] = []
    tensors: dict[str, Tensor] = {}
    for name, file in files.items():
        with expanding_to(left):
            part = read_part(file)
        with told_as(UnreadableModel, path):
            left -= sum(tensor.array.nbytes for tensor in part.tensors.values())
            if left < 0:
                raise ValueError(f"its parts expand to more than {most:,} bytes")
            if parts and part.format != parts[0].format:
                raise ValueError(f"has parts of two formats ({parts[0].format}, {part.format})")
            if grouped:
                _check_groups(name, places, part, tensors)
            else:
                _check_names(name, places, part)
            tensors.update(part.tensors)
            parts.append(part)
    with told_as(UnreadableModel, path):
        if grouped:
            _check_numbers(tensors)
    return _joined(parts, tensors)


def _joined(parts: list[Contents], tensors: Mapping[str, Tensor]) -> Contents:
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    shared = tuple(group for part in parts for group in part.shared)
    layouts = {part.layout for part in parts}
    form = parts[0].format if len(parts) == 1 else f"{parts[0].format} in {len(parts)} parts"
    layout = layouts.pop() if len(layouts) == 1 else None
    unread = {name: member for part in parts for name, member in part.unread.items()}
    customs = {part.customary for part in parts}
    custom = customs.pop() if len(customs) == 1 else None
    return Contents(form, tensors, layout, None, shared, notes, unread=unread, customary=custom)


# --- the index --------------------------------------------------------------------------------


def indices(folder: Path) -> list[Path]:
    """Return the indices in a folder, sorted by name."""
    return sorted(one for one in folder.iterdir() if is_index(one) and one.is_file())


def places_in(path: Path) -> dict[str, set[str]]:
    """Return what an index says of each file: the names of its tensors, or of groups of them."""
    with told_as(UnreadableModel, path):
        data = mapped(path)
        if data.size > LARGEST_INDEX:
            raise ValueError(f"has {data.size:,} bytes: at most {LARGEST_INDEX:,} are read")
        if data.size > SMALL_INDEX:
            beside = (one.stat() for one in path.parent.iterdir() if one.is_file())
            if 10 * data.size > sum(state.st_size for state in beside):
                raise ValueError(f"has {data.size:,} bytes, more than a tenth of its folder")
        try:
            found = json.loads(
                data.tobytes().decode("utf-8"),
                object_pairs_hook=_unique,
                parse_int=_no_name,
                parse_float=_no_name,
                parse_constant=_no_name,
            )
        except json.JSONDecodeError as error:
            raise ValueError(f"damaged (the index is no JSON text: {error.msg})") from None
        held = found.get("weight_map") if isinstance(found, dict) else None
        if not isinstance(held, dict) or not held:
            raise ValueError("is no index of a model in parts (it has no weight_map)")
        places: dict[str, set[str]] = {}
        for name, files in held.items():
            for file in files if isinstance(files, list) and files else [files]:
                if not isinstance(file, str):
                    raise ValueError(f"damaged (the index names no file for {shown(name)})")
                places.setdefault(file, set()).add(name)
        if len(places) > MOST_PARTS:
            raise ValueError(f"lists {len(places):,} parts: at most {MOST_PARTS:,} are read")
        return places


def _check_series(files: Collection[str]) -> None:
    """Raise ValueError if an index leaves out a part by the numbers in the names of the others."""
    numbered = [match for file in files if (match := NUMBERED.fullmatch(file))]
    for count in {int(match["count"]) for match in numbered}:
        found = sum(int(match["count"]) == count for match in numbered)
        if found != count:
            raise ValueError(f"lists {found} of {count} parts")
    numbers = {int(match["number"]) for file in files if (match := KERAS.fullmatch(file))}
    if numbers and max(numbers) >= len(numbers):
        raise ValueError(f"lists {len(numbers)} of {max(numbers) + 1} parts")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("damaged (the index has a name twice)")
    return found


def _no_name(text: str) -> None:
    """Return None for a number, however long it is: none is needed."""


def _part(index: Path, name: str) -> Path:
    """Return the path of a part, which must be an ordinary file in the folder of the index."""
    plain = PurePosixPath(name).name == name and PureWindowsPath(name).name == name
    if not plain or name in ("", "..") or "\0" in name:
        raise ValueError(f"names the part {shown(name)}: parts must be files in its own folder")
    part = index.parent / name
    if part.resolve().parent != index.parent.resolve():
        raise ValueError(f"the part {shown(name)} is a link out of the folder: put the file there")
    if not part.is_file() or is_index(part):
        kind = "no ordinary file" if part.exists() else "missing"
        raise ValueError(f"the part {shown(name)} is {kind}: all parts must lie beside the index")
    return part


# --- whether the parts hold what the index says -------------------------------------------------


def _check_names(file: str, places: Mapping[str, set[str]], part: Contents) -> None:
    """Raise ValueError unless a part holds just the tensors that the index names."""
    told = places[file]
    for name in part.tensors:
        if name not in told:
            others = [other for other, names in places.items() if name in names]
            where = f"which it places in {shown(others[0])}" if others else "which it does not name"
            raise ValueError(f"the part {shown(file)} holds the tensor {shown(name)}, {where}")
    for name in sorted(told - part.tensors.keys()):
        if not any(note.startswith(shown(name)) for note in part.notes):  # which was passed over
            raise ValueError(f"the part {shown(file)} lacks the tensor {shown(name)}")


def _check_groups(
    file: str, places: Mapping[str, set[str]], part: Contents, known: Collection[str]
) -> None:
    """Raise ValueError if a part holds tensors of a layer that the index does not place there."""
    groups = {group.strip("/") for group in places[file]}
    for name in part.tensors:
        if name in known:
            raise ValueError(f"two parts hold the tensor {shown(name)}")
        if name.rpartition("/")[0] not in groups:
            raise ValueError(
                f"the part {shown(file)} holds the tensor {shown(name)}, which the index does not "
                "place there"
            )
    held = {name.rpartition("/")[0] for name in part.tensors}
    for group in sorted(groups - held):
        if not group.startswith("optimizer"):
            raise ValueError(f"the part {shown(file)} lacks the tensors of {shown(group)}")


def _check_numbers(tensors: Collection[str]) -> None:
    """Raise ValueError if the numbers of the tensors of a layer have a gap."""
    counts: dict[str, list[str]] = {}
    for name in tensors:
        group, _, number = name.rpartition("/")
        counts.setdefault(group, []).append(number)
    for group, numbers in counts.items():
        missing = [str(i) for i in range(len(numbers)) if str(i) not in numbers]
        if missing and all(number.isdigit() for number in numbers):
            raise ValueError(f"no part holds the tensor {shown(f'{group}/{missing[0]}')}")
