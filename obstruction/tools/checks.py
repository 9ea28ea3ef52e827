"""Checks of arguments.

Each check returns the value in its proper type. If the value is not allowed, it raises a
`ValueError` that names the argument, its value and what is allowed.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import numbers
import sys
from collections.abc import Callable, Iterable, Sized
from typing import Any, Final

import numpy as np

LARGEST_SIZE: Final = 10**9
"""The largest d or l for which the indices of formulas and kernels do not overflow."""

LARGEST_AXIS: Final = 10**6
"""The largest number of sizes along one axis of a grid."""

LARGEST_COUNT: Final = 10**15
"""The largest number of networks."""

LARGEST_SEED: Final = 2**128 - 1
"""The largest seed. Larger ones exceed the entropy of the generator and would not be distinct."""

_CELL_BYTES: Final = 100
"""The smallest number of bytes that a cell occupies in counts and table."""


def check_count(name: str, value: Any, *, least: int = 1, most: int = LARGEST_COUNT) -> int:
    """Return a whole number between ``least`` and ``most``.

    It may be given as an int, as an integral float such as 1e6, or as a NumPy scalar.
    """
    number = _whole(value)
    if number is None or not least <= number <= most:
        upper = f" and at most {most:,}" if number is not None and number > most else ""
        raise ValueError(f"{name} = {value!r}: must be a whole number of at least {least}{upper}")
    return number


def check_axis(name: str, values: Any) -> tuple[int, ...]:
    """Return one or several sizes >= 1 as an ascending tuple without repetitions."""
    if isinstance(values, np.ndarray):
        check_length(name, values.size)
        values = np.atleast_1d(values).tolist()
    if isinstance(values, (str, bytes)):
        raise ValueError(f"{name} = {values!r}: must be a size or a sequence of sizes")
    check_length(name, _length(values))
    sizes = values if isinstance(values, Iterable) else [values]
    checked = {check_count(name, size, most=LARGEST_SIZE) for size in sizes}
    if not checked:
        raise ValueError(f"{name} = []: must hold at least one size")
    return tuple(sorted(checked))


def check_length(name: str, length: int) -> int:
    """Return the number of sizes along an axis, which must not exceed `LARGEST_AXIS`."""
    if length > LARGEST_AXIS:
        raise ValueError(
            f"{name}: {length:,} sizes would need {length * _CELL_BYTES / 2**30:,.1f} GiB "
            f"for every size of the other axis; at most {LARGEST_AXIS:,} sizes are allowed"
        )
    return length


def check_seed(value: Any) -> int:
    """Return a seed, a whole number from 0 to `LARGEST_SEED`."""
    return check_count("seed", value, least=0, most=LARGEST_SEED)


def check_probability(name: str, value: Any, *, below: float = 1.0) -> float:
    """Return a number strictly between 0 and ``below`` as a float."""
    allowed = f"a number between 0 and {below:g}, both excluded"
    return _real(name, value, lambda number: 0.0 < number < below, allowed)


def check_share(name: str, value: Any) -> float:
    """Return a number from 0 to 1, both included, as a float."""
    return _real(name, value, lambda number: 0.0 <= number <= 1.0, "a number from 0 to 1")


def check_rtol(value: Any) -> float:
    """Return a relative tolerance ``rtol``, a number from 0 to below 1, as a float."""
    return _real("rtol", value, lambda number: 0.0 <= number < 1.0, "a number from 0 to below 1")


def check_tolerance(value: Any) -> float:
    """Return an absolute ``tolerance``, a finite number of at least 0, as a float."""
    allowed = "a finite number of at least 0"
    return _real("tolerance", value, lambda number: 0.0 <= number < math.inf, allowed)


def check_flag(name: str, value: Any) -> bool:
    """Return True or False, and refuse any other value."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} = {value!r}: must be True or False")
    return bool(value)


def check_choice(name: str, value: Any, allowed: Iterable[str]) -> str:
    """Return a word that is one of those allowed. Otherwise, the error suggests a similar one."""
    words = tuple(allowed)
    if value not in words:
        choice = f"must be one of {', '.join(words)}{suggestion(str(value), words)}"
        raise ValueError(f"{name} = {value!r}: {choice}")
    return str(value)


def suggestion(word: str, allowed: Iterable[str]) -> str:
    """Return a question about the most similar of the words allowed, or "" if none is similar."""
    near = difflib.get_close_matches(word, tuple(allowed), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _length(values: Any) -> int:
    """Return the number of values, or 0 if it is not known in advance."""
    try:
        return len(values) if isinstance(values, Sized) else 0
    except OverflowError:  # a range longer than any memory
        return sys.maxsize


def _real(name: str, value: Any, accept: Callable[[float], bool], allowed: str) -> float:
    """Return a number, which may be written as text, as a float if it is accepted."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if accept(number := float(value)):
            return number
    raise ValueError(f"{name} = {value!r}: must be {allowed}")


def _whole(value: Any) -> int | None:
    if isinstance(value, (bool, np.bool_, str, bytes)):
        return None
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        return int(number) if math.isfinite(number) and number.is_integer() else None
    return None
