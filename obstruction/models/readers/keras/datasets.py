"""The tensors in HDF5 files, found by another process.

A damaged file can crash the HDF5 library or keep it busy forever. So `hdf5_child` calls the library
in a process with little memory and time. It answers where in the file the numbers of each tensor
are, and this module reads them there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from obstruction.models.contents import Tensor, UnreadableModel, decode_bfloat16
from obstruction.models.readers.files import Bytes, mapped, most_expanded, told_as
from obstruction.models.readers.zip_archives import Archive

WEIGHTS: Final = "model.weights.h5"
"""The member of a ``.keras`` archive that is an HDF5 file."""

_CHILD: Final = Path(__file__).with_name("hdf5_child.py")
_SECONDS: Final = 60.0
_BYTES_A_SECOND: Final = 2**22


@dataclass(frozen=True, eq=False)
class Found:
    """What the other process found in an HDF5 file.

    Attributes
    ----------
    data : ndarray of uint8
        The bytes of the HDF5 file.
    entries : dict of str to dict
        The place, type and shape of each tensor, by its name and in stored order.
    tensors : dict of str to Tensor
        The tensors, by their names.
    attributes : dict of str to dict
        The attributes of groups that hold text, by the path of the group.
    notes : tuple of str
        What was passed over, a sentence each.
    """

    data: Bytes
    entries: dict[str, dict[str, Any]]
    tensors: dict[str, Tensor]
    attributes: dict[str, dict[str, list[str]]]
    notes: tuple[str, ...]


# --- the other process ----------------------------------------------------------------------


def ask(requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the answers to requests; a new process goes on where one crashes."""
    answers: list[dict[str, Any]] = []
    while len(answers) < len(requests):
        rest = requests[len(answers) :]
        lines, problem = _run(rest)
        for line in lines[: len(rest)]:
            try:
                answers.append(json.loads(line))
            except ValueError:  # the process was ended while it wrote
                break
        if len(answers) < len(requests):
            answers.append({"refused": problem})
    return answers


def _run(requests: Sequence[Mapping[str, Any]]) -> tuple[list[bytes], str]:
    """Start the process; return its answers, and why they end if one is missing."""
    if not sys.executable:
        raise ValueError("HDF5 files are read by another Python, and this one does not know itself")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "PYTHONIOENCODING": "ascii",
        "HDF5_PLUGIN_PRELOAD": "::",  # no plugins are loaded
        "HDF5_USE_FILE_LOCKING": "FALSE",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    seconds = sum(_SECONDS + request.get("size", 0) / _BYTES_A_SECOND for request in requests)
    process = subprocess.Popen(
        # -P keeps this folder out of sys.path, where its modules could hide others
        [sys.executable, "-P", str(_CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    text = "".join(json.dumps(request) + "\n" for request in requests).encode()
    problem = ""
    with process:
        try:
            output, _ = process.communicate(text, timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            problem = "the HDF5 library does not come to an end on it"
        except BaseException:
            process.kill()
            raise
    code = process.returncode
    ended = f"signal {-code}" if code < 0 else f"exit code {code}"
    whole = output[: output.rfind(b"\n") + 1].splitlines()
    return whole, problem or f"the HDF5 library crashed on it or ran out of time ({ended})"


def _need_h5py() -> None:
    if importlib.util.find_spec("h5py") is None:
        raise ValueError("reading HDF5 files needs h5py: pip install 'obstruction[hdf5]'")


# --- finding the tensors --------------------------------------------------------------------


@contextlib.contextmanager
def opened(
    paths: Sequence[Path],
) -> Iterator[list[tuple[Archive | None, Found] | UnreadableModel]]:
    """Yield what the other process finds in files, while its temporary files exist."""
    with tempfile.TemporaryDirectory(prefix="obstruction-") as folder:
        located: list[tuple[Archive | None, Bytes] | UnreadableModel] = []
        requests = []
        for i, path in enumerate(paths):
            try:
                with told_as(UnreadableModel, path):
                    _need_h5py()
                    archive, data, request = _located(path, Path(folder) / f"{i}.h5")
                    requests.append({**request, "scratch": str(Path(folder) / f"{i}.numbers")})
                    located.append((archive, data))
            except UnreadableModel as error:
                located.append(error)
        answers = iter(list(zip(requests, ask(requests), strict=True)))
        results: list[tuple[Archive | None, Found] | UnreadableModel] = []
        for path, file in zip(paths, located, strict=True):
            if isinstance(file, UnreadableModel):
                results.append(file)
                continue
            try:
                with told_as(UnreadableModel, path):
                    request, answer = next(answers)
                    results.append((file[0], _found(file[1], Path(request["scratch"]), answer)))
            except UnreadableModel as error:
                results.append(error)
        yield results


def _located(path: Path, beside: Path) -> tuple[Archive | None, Bytes, dict[str, Any]]:
    """Return the archive if a file is one, the bytes of the HDF5 file, and a request for it."""
    data, archive, start, place = mapped(path), None, 0, path
    if data[:4].tobytes() == b"PK\x03\x04":
        archive = Archive(path)
        if WEIGHTS not in archive.members:
            raise ValueError(f"is no Keras model that can be read ({WEIGHTS!r} is not in it)")
        member = archive.members[WEIGHTS]
        data = archive.view(WEIGHTS)
        if member.method == 0:
            start = member.start
        else:
            beside.write_bytes(data.data)
            place = beside
    request = {
        "do": "survey",
        "path": str(place.absolute()),
        "start": start,
        "size": data.size,
        "most": most_expanded(data.size),
    }
    return archive, data, request


def _found(data: Bytes, scratch: Path, answer: dict[str, Any]) -> Found:
    if "refused" in answer:
        raise ValueError(answer["refused"])
    entries = {entry["name"]: entry for entry in answer["tensors"]}
    attributes = answer["attributes"]
    tensors = {}
    for name in _stored_order(entries, attributes):
        tensors[name] = _tensor(data, scratch, entries[name])
    notes = [f"{name}: {why}" for name, why in answer["passed"]]
    if answer["optimiser"]:
        notes.append("the state of the optimiser is passed over")
    return Found(data, {name: entries[name] for name in tensors}, tensors, attributes, tuple(notes))


def _tensor(data: Bytes, scratch: Path, entry: Mapping[str, Any]) -> Tensor:
    brain = entry["dtype"] == "bfloat16"
    kind = np.dtype("u2" if brain else entry["dtype"]).newbyteorder(entry["order"])
    shape = tuple(entry["shape"])
    count = int(np.prod(shape, dtype=object)) if shape else 1
    if entry["offset"] is not None:
        raw = data[entry["offset"] : entry["offset"] + count * kind.itemsize]
        # numbers must be aligned in memory, so others are copied
        aligned = raw.size == 0 or raw.ctypes.data % kind.itemsize == 0
        values = (raw if aligned else raw.copy()).view(kind)
    else:
        values = np.fromfile(scratch, kind, count=count, offset=entry["scratch"])
    if values.size != count:
        raise ValueError(f"damaged ({entry['name']!r} is cut off)")
    values = values.reshape(shape)
    if brain:
        values = decode_bfloat16(values)
    elif not values.dtype.isnative:
        values = values.astype(kind.newbyteorder("="))
    return Tensor(entry["name"], values, entry["dtype"])


def _stored_order(names: Mapping[str, Any], attributes: Mapping[str, Any]) -> list[str]:
    """Return names in the order in which Keras lists them, or sorted by the numbers in them."""
    listed = []
    for root in ("", "model_weights"):
        for layer in listing(attributes, root, "layer_names"):
            group = f"{root}/{layer}" if root else layer
            listed += [f"{group}/{name}" for name in listing(attributes, group, "weight_names")]
    places = {name: i for i, name in enumerate(listed)}

    def key(name: str) -> tuple[Any, ...]:
        parts = re.split(r"(\d+)", name)
        natural = [(int(p), "") if i % 2 else (-1, p) for i, p in enumerate(parts)]
        return places.get(name, len(places)), natural

    return sorted(names, key=key)


def listing(attributes: Mapping[str, Any], group: str, key: str) -> list[str]:
    """Return the names that Keras keeps in an attribute, or in several numbered ones if many."""
    own = attributes.get(group, {})
    found: list[str] = list(own.get(key, []))
    for part in itertools.takewhile(own.__contains__, (f"{key}{i}" for i in itertools.count())):
        found += own[part]
    return found
