"""Convert values to values that JSON can represent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def json_value(value: Any) -> Any:
    """Return a NumPy scalar as Python's own, a float that is not finite as None, others unchanged.

    Examples
    --------
    >>> json_value(np.int64(3)), json_value(math.inf), json_value("kaiming_normal")
    (3, None, 'kaiming_normal')
    """
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_object(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dictionary of values that JSON can hold."""
    return {name: json_value(value) for name, value in values.items()}
