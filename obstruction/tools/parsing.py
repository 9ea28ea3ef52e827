"""The text form of numbers on the command line: counts as ``1e6`` and axes as ``1:100``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise

import numpy as np

from obstruction.tools.checks import LARGEST_COUNT, LARGEST_SIZE, check_count, check_length

_FORMS = (
    "must be whole numbers, written as a list 2,3,5 or as a range 1:100 or 1:100:5 (stop included) "
    "or as geom:2:4096:20"
)


def parse_count(name: str, text: str, *, least: int = 1, most: int = LARGEST_COUNT) -> int:
    """Return the whole number from ``least`` to ``most`` in a text, which may read ``1e6``.

    Examples
    --------
    >>> parse_count("networks", "2.5e3")
    2500
    """
    number = _whole(text)
    if number is None:
        raise ValueError(f"{name} = {text!r}: must be a whole number of at least {least}")
    return check_count(name, number, least=least, most=most)


def parse_share(name: str, text: str) -> tuple[int, int]:
    """Return the number of a part, from 1, and the number of parts in a text such as ``2/8``.

    Examples
    --------
    >>> parse_share("shard", "2/8")
    (2, 8)
    """
    number, slash, parts = text.partition("/")
    found = _whole(number), _whole(parts) if slash else None
    if found[0] is None or found[1] is None or not 1 <= found[0] <= found[1]:
        raise ValueError(f"{name} = {text!r}: must be I/N with whole numbers 1 <= I <= N, say 2/8")
    return found[0], found[1]


def parse_axis(name: str, text: str) -> Sequence[int]:
    """Return the sizes >= 1 along one axis, in the order given.

    The text has one or several parts, joined by commas. A part is a size, a range such as ``1:100``
    or ``1:100:5``, which includes its stop, or ``geom:2:4096:20``. The last stands for 20 sizes
    from 2 to 4096 whose logarithms are evenly spaced, rounded and without repetitions.

    Examples
    --------
    >>> list(parse_axis("d", "1:10:3"))
    [1, 4, 7, 10]
    >>> list(parse_axis("l", "1,2,geom:4:16:3"))
    [1, 2, 4, 8, 16]
    """
    parts = [_parse_part(name, part.strip(), text) for part in text.split(",")]
    if len(parts) == 1:
        return parts[0]
    check_length(f"{name} = {text!r}", sum(len(part) for part in parts))
    return [size for part in parts for size in part]


def axis_text(sizes: Sequence[int]) -> str:
    """Return ascending sizes in the form that `parse_axis` reads.

    Examples
    --------
    >>> axis_text([1, 2, 3, 4]), axis_text([1, 11, 21]), axis_text([2, 5, 10])
    ('1:4', '1:21:10', '2,5,10')
    """
    steps = {b - a for a, b in pairwise(sizes)}
    if len(sizes) < 3 or len(steps) > 1:
        return ",".join(map(str, sizes))
    step = steps.pop()
    return f"{sizes[0]}:{sizes[-1]}" + (f":{step}" if step > 1 else "")


def _parse_part(name: str, part: str, text: str) -> Sequence[int]:
    words = part.split(":")
    geometric = words[0].lower() == "geom"
    numbers = [_whole(word) for word in words[geometric:]]
    if None in numbers or len(numbers) not in ((3,) if geometric else (1, 2, 3)):
        raise ValueError(f"{name} = {text!r}: {_FORMS}")
    roles = ("size",) if len(words) == 1 else ("start", "stop", "number" if geometric else "step")
    alone = words == [text.strip()]
    known = [
        check_count(name if alone else f"{name} = {text!r}: {role}", number, most=LARGEST_SIZE)
        for role, number in zip(roles, numbers, strict=False)
    ]
    if len(known) == 1:
        return known
    start, stop = known[:2]
    if stop < start:
        raise ValueError(f"{name} = {text!r}: stops at {stop}, before it starts at {start}")
    if not geometric:
        return range(start, stop + 1, known[2] if len(known) == 3 else 1)
    check_length(f"{name} = {text!r}", known[2])
    if known[2] == 1 and start < stop:
        raise ValueError(f"{name} = {text!r}: one size cannot be both {start} and {stop}")
    steps = np.rint(np.geomspace(start, stop, known[2])).astype(np.int64)
    return list(dict.fromkeys(steps.tolist()))


_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,6})?\s*", re.ASCII | re.IGNORECASE)


def _whole(text: str) -> int | None:
    if not _NUMBER.fullmatch(text):
        return None
    number = Decimal(text.strip())
    if not number.is_finite() or number.adjusted() > 30 or number != number.to_integral_value():
        return None
    return int(number)
