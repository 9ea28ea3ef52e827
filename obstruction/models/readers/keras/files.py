"""Keras files: ``.keras``, ``.weights.h5``, and whole models in ``.h5`` of Keras 2 and Keras 3.

A damaged file can crash the HDF5 library, so `datasets` starts a process that calls it.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.models.contents import (
    Contents,
    OperationGraph,
    Unread,
    UnreadableModel,
    encode_bfloat16,
)
from obstruction.models.readers.files import Bytes, fitting, most_expanded, told_as
from obstruction.models.readers.keras import config as keras_config
from obstruction.models.readers.keras.datasets import WEIGHTS, Found, ask, listing, survey
from obstruction.models.readers.keras.graph import graph_of
from obstruction.models.readers.zip_archives import Archive
from obstruction.tools.files import replacing

FORMAT: Final = "Keras"
SUFFIXES: Final = (".keras", ".weights.h5", ".h5")

SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_WEIGHTED: Final = re.compile(r"(?:^|/)(?:dense|einsum_dense|conv\dd)(?:_\d+)?/vars$")
_MOST_CONFIG: Final = 2**26


def matches(head: bytes, path: Path) -> bool:
    """Return whether a file is an HDF5 file, or a zip archive that holds one."""
    if any(head[at : at + len(SIGNATURE)] == SIGNATURE for at in (0, 512, 1024, 2048)):
        return True
    if not head.startswith(b"PK\x03\x04"):
        return False
    first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    if first in (b"metadata.json", b"config.json", WEIGHTS.encode()):
        return b"config.json" in head or first == WEIGHTS.encode()
    return path.suffix.lower() == ".keras"


def read(path: Path) -> Contents:
    """Return the tensors, and the graph of the model if the file describes it."""
    with told_as(UnreadableModel, path):
        archive, found = survey(path)
        if not found.tensors:
            raise ValueError("holds no tensors")
        described, notes = _description(archive, found), list(found.notes)
        graph: OperationGraph | None = None
        if described is not None:
            try:
                graph = _graph(described, archive is not None, found)
                notes += keras_config.remarks(described["config"])
                if graph is None:
                    name = described.get("class_name")
                    notes.append(f"{name}: a model of the user's own, whose order is code")
            except (ValueError, RecursionError) as problem:
                notes.append(f"the description of the model is not followed: {problem}")
    name = "Keras .keras" if archive is not None else "Keras HDF5"
    return Contents(
        name,
        found.tensors,
        "in_out",
        graph,
        notes=tuple(notes),
        part=None if archive is not None else _part(found),
        unread={one: Unread("no plain numbers") for one in found.passed},
    )


def _part(found: Found) -> str | None:
    """Return what to give instead of a part of sharded weights, or None for whole ones.

    Only the first part has a root. The layer with which a part ends may be empty in it.
    """
    named = {group for group, held in found.attributes.items() if "name" in held}
    layers = {group for group in named if group.endswith("/vars")}
    empty = layers - {name.rpartition("/")[0] for name in found.tensors}
    if (layers and "vars" not in named) or any(map(_WEIGHTED.search, empty)):
        return "give the index of these sharded weights (.weights.json), with all parts beside it"
    return None


def write(path: Path, changes: Mapping[str, NDArray[Any]], out: Path) -> None:
    """Write a copy with new numbers in some tensors.

    Numbers that are stored in one piece, as Keras does, are replaced in place. The HDF5 library
    stores compressed numbers anew, with the same settings.
    """
    with told_as(UnreadableModel, path):
        archive, found = survey(path)
    checked = fitting(changes, found.tensors)
    with told_as(UnreadableModel, path):
        new = _patched(found, checked)
        with replacing(out) as stream:
            if archive is None:
                stream.write(new.data)
            elif new.size == found.data.size:
                archive.write({WEIGHTS: new.tobytes()}, stream)
            else:
                _rebuilt(archive, new, path, stream)


# --- what the model is ----------------------------------------------------------------------


def _description(archive: Archive | None, found: Found) -> dict[str, Any] | None:
    """Return the class and the configuration of the model, None if the file does not hold them."""
    if archive is not None:
        if "config.json" not in archive.members:
            return None
        if archive.members["config.json"].size > _MOST_CONFIG:
            raise ValueError("the description of the model is too long")
        text = archive.read("config.json").decode("utf-8")
    else:
        stored = found.attributes.get("", {}).get("model_config", [])
        if len(stored) != 1:
            return None
        text = stored[0]
    try:
        described = json.loads(text)
    except json.JSONDecodeError as problem:
        raise ValueError(f"damaged (the description of the model: {problem})") from None
    except ValueError:
        raise ValueError(
            "damaged (the description of the model holds a number of too many digits)"
        ) from None
    if not isinstance(described, dict) or not isinstance(described.get("config"), dict):
        return None
    return described


def _graph(described: dict[str, Any], is_archive: bool, found: Found) -> OperationGraph | None:
    """Return the operations of the model, None if its class is the user's own."""
    class_name, config = str(described.get("class_name")), described["config"]
    if keras_config.is_custom(described) or not keras_config.has_graph(class_name, config):
        return None
    if is_archive:
        groups = dict(keras_config.file_places(class_name, config))

        def find(place: keras_config.Place) -> tuple[str, ...]:
            if place not in groups:
                raise ValueError(f"{place[-1]!r} is no layer")
            return _in_weights_file(found, place, groups[place])

    else:

        def find(place: keras_config.Place) -> tuple[str, ...]:
            return _in_whole_model(found, place)

    return graph_of(class_name, config, find, found.tensors)


def _in_weights_file(found: Found, place: keras_config.Place, group: str) -> tuple[str, ...]:
    """Return the tensors of a layer in ``model.weights.h5``."""
    # Keras 2.13 to 2.15 had another name for the list of layers; a wrapper such as TimeDistributed
    # keeps its layer in a group of its own
    renamed = group.replace("layers/", "_layer_checkpoint_dependencies/")
    for path in (group, f"{group}/layer", renamed, f"{renamed}/layer"):
        names = [f"{path}/vars/{i}" for i in range(8)]
        present = tuple(name for name in names if name in found.tensors)
        if present:
            told = found.attributes.get(f"{path}/vars", {}).get("name", [])
            if told not in ([], [place[-1]]) and path == group:
                raise ValueError(f"{group!r} is said to be {told[0]!r}, not {place[-1]!r}")
            return present
    raise ValueError(f"{group!r} is not in the file")


def _in_whole_model(found: Found, place: keras_config.Place) -> tuple[str, ...]:
    """Return the tensors of a layer in a whole model as HDF5, which lists them by name."""
    group = f"model_weights/{place[0]}"
    listed = listing(found.attributes, group, "weight_names")
    if len(place) > 1:
        inner = [name for name in listed if name.split("/")[-2:-1] == [place[-1]]]
        exact = [name for name in inner if tuple(name.split("/")[-1 - len(place) : -1]) == place]
        listed = exact or inner
    kinds = [name.split("/")[-1].split(":")[0] for name in listed]
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"more than one layer in the file is called {place[-1]!r}")
    order = {"kernel": 0, "bias": 1}
    pairs = sorted(zip(kinds, listed, strict=True), key=lambda pair: order.get(pair[0], 2))
    names = tuple(f"{group}/{name}" for _, name in pairs)
    if not names or any(name not in found.tensors for name in names):
        raise ValueError(f"the weights of {'/'.join(place)!r} are not in the file")
    return names


# --- a copy with other values ---------------------------------------------------------------


def _patched(found: Found, changes: Mapping[str, NDArray[Any]]) -> Bytes:
    """Return the bytes of the HDF5 file with new values."""
    new = found.data.copy()
    rest = {}
    for name, values in changes.items():
        entry = found.entries[name]
        raw = _raw(values, entry)
        if entry["offset"] is None:
            rest[name] = raw
        else:
            new[entry["offset"] : entry["offset"] + len(raw)] = np.frombuffer(raw, np.uint8)
    return _stored_by_library(new, found, rest) if rest else new


def _raw(values: NDArray[Any], entry: Mapping[str, Any]) -> bytes:
    stored = encode_bfloat16(values) if entry["dtype"] == "bfloat16" else values
    return stored.astype(stored.dtype.newbyteorder(entry["order"])).tobytes()


def _stored_by_library(data: Bytes, found: Found, raw: Mapping[str, bytes]) -> Bytes:
    with tempfile.TemporaryDirectory(prefix="obstruction-") as folder:
        copy, scratch = Path(folder) / "copy.h5", Path(folder) / "numbers"
        copy.write_bytes(data.data)
        changes, place = [], 0
        with scratch.open("wb") as stream:
            for name, numbers in raw.items():
                changes.append({"name": name, "scratch": place})
                place += stream.write(numbers)
        request = {"do": "store", "path": str(copy), "scratch": str(scratch), "changes": changes}
        ask({**request, "size": data.size, "most": most_expanded(data.size)})
        return np.fromfile(copy, np.uint8)


def _rebuilt(archive: Archive, new: Bytes, path: Path, stream: Any) -> None:
    """Write the archive with weights of another size, as compressed numbers may need more room."""
    import zipfile

    with zipfile.ZipFile(path) as old, zipfile.ZipFile(stream, "w") as made:
        made.comment = old.comment
        for info in old.infolist():
            if info.filename == WEIGHTS:
                made.writestr(info, new.data, compress_type=info.compress_type)
            else:
                with old.open(info) as source, made.open(info, "w") as target:
                    shutil.copyfileobj(source, target)
