"""Names of parameters."""

from __future__ import annotations

from collections.abc import Sequence


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
