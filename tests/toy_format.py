"""A format of weight files in one module, as a newcomer would add it: nested lists in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from obstruction.models.contents import Contents, Tensor, UnreadableModel
from obstruction.models.readers.files import fitting, told_as

FORMAT = "toy"
SUFFIXES = (".toy",)


def matches(head: bytes, path: Path) -> bool:
    return head.startswith(b'{"toy": ') or path.suffix in SUFFIXES


def read(path: Path) -> Contents:
    with told_as(UnreadableModel, path):
        held = json.loads(path.read_text())["toy"]
        tensors = {name: Tensor(name, np.array(rows, float), "float64") for name, rows in held}
    return Contents("toy file", tensors, "out_in")


def write(path: Path, changes: Mapping[str, Any], out: Path) -> None:
    tensors = read(path).tensors
    new = {name: tensor.array for name, tensor in tensors.items()} | fitting(changes, tensors)
    beside = out.with_name(out.name + ".part")
    beside.write_text(saved(new))
    beside.replace(out)


def saved(arrays: Mapping[str, Any]) -> str:
    return json.dumps({"toy": [(name, array.tolist()) for name, array in arrays.items()]})
