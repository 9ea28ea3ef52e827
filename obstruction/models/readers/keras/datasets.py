"""HDF5 files, which are opened by a process of their own, and the tensors in them.

A damaged file can crash the HDF5 library or make it hang, so the library is only called in another
process with little memory and time (`hdf5_child`). The process answers where in the file the
numbers are, and this module reads them there.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from obstruction.models.contents import Tensor
from obstruction.models.readers.files import Bytes, mapped, most_expanded, stored_type, tensor_of
from obstruction.models.readers.zip_archives import STORED, Archive

WEIGHTS: Final = "model.weights.h5"
"""The member of a ``.keras`` archive that is an HDF5 file."""

_CHILD: Final = Path(__file__).with_name("hdf5_child.py")
_SECONDS: Final = 60.0
_BYTES_A_SECOND: Final = 2**22

ENVIRONMENT: Final = {
    "PYTHONIOENCODING": "ascii",
    "HDF5_PLUGIN_PRELOAD": "::",  # the library loads no plugins
    "HDF5_USE_FILE_LOCKING": "FALSE",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""Variables of the environment of the other process."""


@dataclass(frozen=True, eq=False)
class Found:
    """An HDF5 file as the other process sees it."""

    data: Bytes  # the bytes of the HDF5 file
    entries: dict[str, dict[str, Any]]  # where the numbers of each tensor are, in stored order
    tensors: dict[str, Tensor]
    attributes: dict[str, dict[str, list[str]]]  # those that hold text, by the path of the group
    notes: tuple[str, ...]  # what was passed over
    passed: tuple[str, ...]  # the datasets that were passed over, which hold no plain numbers


def ask(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer of a new process to a request, as `hdf5_child` describes both.

    A ValueError says why the process refuses the request or does not answer.
    """
    if not sys.executable:
        raise ValueError("HDF5 files are read by a second Python, but sys.executable is not set")
    paths = os.pathsep.join(entry for entry in sys.path if entry)
    try:
        done = subprocess.run(
            # -P: this folder has modules named like frameworks, which must not be found first
            [sys.executable, "-P", str(_CHILD)],
            input=json.dumps(request).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths, **ENVIRONMENT},
            timeout=_SECONDS + request["size"] / _BYTES_A_SECOND,
        )
    except subprocess.TimeoutExpired:
        raise ValueError("the HDF5 library does not come to an end on it") from None
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:  # the process was ended before or while it wrote
        code = done.returncode
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        problem = f"the HDF5 library crashed on it or ran out of time ({ended})"
        raise ValueError(problem) from None
    if "refused" in answer:
        raise ValueError(answer["refused"])
    return answer


def survey(path: Path) -> tuple[Archive | None, Found]:
    """Return the archive, None if a file is none, and what the other process finds in the file."""
    if importlib.util.find_spec("h5py") is None:
        raise ValueError("reading HDF5 files needs h5py: pip install 'obstruction[hdf5]'")
    data, archive, start, place = mapped(path), None, 0, path
    with tempfile.TemporaryDirectory(prefix="obstruction-") as folder:
        scratch = Path(folder) / "numbers"
        if data[:4].tobytes() == b"PK\x03\x04":
            archive = Archive(path)
            if WEIGHTS not in archive.members:
                raise ValueError(f"is no Keras model that can be read ({WEIGHTS!r} is not in it)")
            data = archive.view(WEIGHTS)
            if archive.members[WEIGHTS].method == STORED:
                start = archive.members[WEIGHTS].start
            else:
                place = Path(folder) / "weights.h5"
                place.write_bytes(data.data)
        request = {"do": "survey", "path": str(place.absolute()), "start": start, "size": data.size}
        answer = ask({**request, "scratch": str(scratch), "most": most_expanded(data.size)})
        held = {entry["name"]: entry for entry in answer["tensors"]}
        entries = {name: held[name] for name in _stored_order(held, answer["attributes"])}
        tensors = {name: _tensor(data, scratch, entry) for name, entry in entries.items()}
    notes = [f"{name}: {why}" for name, why in answer["passed"]]
    if answer["optimiser"]:
        notes.append("the state of the optimiser is passed over")
    passed = tuple(name for name, _ in answer["passed"])
    return archive, Found(data, entries, tensors, answer["attributes"], tuple(notes), passed)


def _tensor(data: Bytes, scratch: Path, entry: Mapping[str, Any]) -> Tensor:
    name, form, shape = entry["name"], entry["dtype"], tuple(entry["shape"])
    width = stored_type(form).itemsize
    size = math.prod(shape) * width
    if entry["offset"] is not None:
        raw = data[entry["offset"] : entry["offset"] + size]
    else:
        raw = np.fromfile(scratch, np.uint8, size, offset=entry["scratch"])
    if raw.size != size:
        raise ValueError(f"damaged ({name!r} is cut off)")
    if entry["order"] == ">":
        raw = raw.reshape(-1, width)[:, ::-1].ravel()
    return tensor_of(name, raw, form, shape)


def _stored_order(names: Mapping[str, Any], attributes: Mapping[str, Any]) -> list[str]:
    """Return names in the order in which Keras lists them, else by the numbers in them."""
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
