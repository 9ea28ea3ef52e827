"""Models of any framework, in memory or in files, as networks that can be audited.

`reading` chooses one of the `readers` for a source, and `layers` makes a network of what it finds,
with the `options` that a user gives.

Its modules may import tools. They must never know what an audit asks of a network, and they must
never execute anything that a file holds.
"""

from obstruction.models.contents import (
    AdapterFound,
    Contents,
    NoChain,
    NothingAuditable,
    Orientation,
    Tensor,
    UnreadableModel,
)
from obstruction.models.layers.adapters import check_is_network
from obstruction.models.layers.resolving import resolve
from obstruction.models.model import Layer, Link, Model
from obstruction.models.options import ReadOptions
from obstruction.models.reading import check_target, read, read_contents, write

__all__ = [
    "AdapterFound",
    "Contents",
    "Layer",
    "Link",
    "Model",
    "NoChain",
    "NothingAuditable",
    "Orientation",
    "ReadOptions",
    "Tensor",
    "UnreadableModel",
    "check_is_network",
    "check_target",
    "read",
    "read_contents",
    "resolve",
    "write",
]
