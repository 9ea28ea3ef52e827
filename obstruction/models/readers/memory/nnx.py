"""Modules of Flax's nnx in memory, read as the tree of their state.

This module never imports Flax, which must be loaded already if an object is of it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from numpy.typing import NDArray

from obstruction.models.contents import Contents, UnreadableModel
from obstruction.models.readers.memory import trees

OBJECTS: Final = "a module of Flax"

_NOT_RUN: Final = (
    "a module of nnx is not run without inputs=, so the order of its layers and their activation "
    "are told by names, shapes and options and not verified"
)


def matches(source: Any) -> bool:
    """Return whether an object is a module of nnx."""
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(source, nnx.Module)


def read(source: Any) -> Contents:
    """Return the arrays of a module by the names that ``nnx.state`` gives them."""
    state = sys.modules["flax.nnx"].state(source)
    if not trees.matches(state):
        raise UnreadableModel(f"{type(source).__name__}: the module of nnx has no arrays")
    return replace(trees.read(state), format="nnx module", notes=(_NOT_RUN,))


def updated(source: Any, changes: Mapping[str, NDArray[Any]], *, inplace: bool) -> Any:
    """Return a module with new values in some arrays."""
    nnx = sys.modules["flax.nnx"]
    definition, state = nnx.split(source)
    new = trees.updated(state, changes, inplace=False)
    if not inplace:
        return nnx.merge(definition, new)
    nnx.update(source, new)
    return source
