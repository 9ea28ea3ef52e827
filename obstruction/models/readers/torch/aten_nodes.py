"""Operations of PyTorch's ATen library as data, as ``torch.export`` describes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Value:
    """A reference to a tensor that an operation of a graph takes."""

    name: str


@dataclass(frozen=True)
class Node:
    """An operation of a graph.

    Attributes
    ----------
    target : str
        Such as ``"aten.linear.default"``.
    given : mapping of str to object
        The arguments, by the names of their parameters: numbers, strings, `Value` or None, and
        lists of these.
    outputs : tuple of str
        The names of the tensors that it makes, empty if it makes none.
    """

    target: str
    given: Mapping[str, Any]
    outputs: tuple[str, ...]

    @property
    def space(self) -> str:
        """The library of the operation, such as ``"aten"``."""
        return self.target.partition(".")[0]

    @property
    def kind(self) -> str:
        """The name of the operation without the mark of one that works in place."""
        name = self.target.split(".")[1] if "." in self.target else self.target
        return name.removesuffix("_") if self.is_in_place else name

    @property
    def is_in_place(self) -> bool:
        """Whether the name of the operation says that it changes its first argument."""
        name = self.target.split(".")[1] if "." in self.target else self.target
        return name.endswith("_") and not name.endswith("__")

    @property
    def values(self) -> list[str]:
        """The names of the tensors that it takes."""
        return list(_names(self.given.values()))


def _names(values: Any) -> Iterator[str]:
    for value in values:
        if isinstance(value, Value):
            yield value.name
        elif isinstance(value, (list, tuple)):
            yield from _names(value)
