"""Names of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache


class Owned(str):
    """A name of a parameter that does not show the layer to which it belongs.

    Parameters
    ----------
    name : str
    owner : str
        The name of the layer.
    """

    owner: str

    def __new__(cls, name: str, owner: str) -> Owned:
        """Return the name."""
        made = super().__new__(cls, name)
        made.owner = owner
        return made


def owner(name: str) -> str:
    """Return the name of the layer that a parameter belongs to.

    >>> owner("encoder.0.weight"), owner(Owned("val_8", "MatMul 3"))
    ('encoder.0', 'MatMul 3')
    """
    return name.owner if isinstance(name, Owned) else _layer(name)


@lru_cache(maxsize=1 << 16)
def _layer(name: str) -> str:
    return max((name.rpartition(mark)[0] for mark in "./"), key=len)


def distinct(names: Sequence[str]) -> list[str]:
    """Return names in which a repetition has its number appended.

    >>> distinct(["kernel", "bias", "kernel", "kernel_2", "kernel"])
    ['kernel', 'bias', 'kernel_3', 'kernel_2', 'kernel_4']
    """
    taken, seen, result = set(names), set[str](), []
    for name in names:
        new, number = name, 1
        while new in seen or (number > 1 and new in taken):
            number += 1
            new = f"{name}_{number}"
        seen.add(new)
        result.append(new)
    return result
