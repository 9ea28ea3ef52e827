"""A kind of models in memory in one module, as a newcomer would add it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from obstruction.models.contents import Activation, Contents, Dense
from obstruction.models.operations.graphs import operation_chain
from obstruction.models.readers.memory.tensors import as_tensors, check_changes, overwrite

OBJECTS = "a toy network"


class Toy:
    """A network of one hidden layer."""

    def __init__(self, hidden: Any, output: Any) -> None:
        self.held = {"hidden": hidden, "output": output}

    def __call__(self, x: Any) -> Any:
        return self.held["output"] @ np.maximum(self.held["hidden"] @ x, 0.0)


def matches(source: Any) -> bool:
    return isinstance(source, Toy)


def read(source: Any) -> Contents:
    tensors = as_tensors(source.held)
    steps = (Dense("hidden", "hidden"), Activation("relu"), Dense("output", "output"))
    return Contents("toy network", tensors, "out_in", operation_chain(steps))


def updated(source: Any, changes: Mapping[str, Any], *, inplace: bool) -> Any:
    check_changes(changes, source.held)
    target = source if inplace else copy.deepcopy(source)
    overwrite(target.held, changes)
    return target
