"""Attributes that a library gives to the parameters of a model, which copies of them lack.

The library mup keeps the widths of a base model in such attributes, and its layers read them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any


def attributes_of(owners: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the attributes of some objects."""
    return [dict(vars(one)) for one in owners]


def give_attributes(
    owners: Iterable[Any], held: Sequence[dict[str, Any]], memo: dict[int, Any] | None = None
) -> None:
    """Give objects those of some attributes that they lack.

    With `memo`, that of ``copy.deepcopy``, they get copies where a copy is possible.
    """
    for one, attributes in zip(owners, held, strict=True):
        for name, value in attributes.items():
            if name not in vars(one):
                setattr(one, name, value if memo is None else _copied(value, memo))


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # copying may run code of a library
        return value
