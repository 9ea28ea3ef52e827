"""Signs of weights at the recorded steps of a training run, and where they changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Signs = NDArray[np.int8]

NONE: Final = 2
"""The code for no sign, for instance that of a weight that is not finite."""


def signs_of(weights: NDArray[Any]) -> Signs:
    """Return -1, 0 or 1 for every weight, and `NONE` for one that is not finite."""
    finite = np.isfinite(weights)
    return np.where(finite, np.sign(np.where(finite, weights, 0)), NONE).astype(np.int8)


def changes(signs: Sequence[Signs]) -> tuple[NDArray[np.int64], ...]:
    """Return all changes of sign, given the signs of all weights at each record.

    Returns
    -------
    where, before, after : ndarray of int64
        For each change, the number of the weight and of two records, which have opposite signs and
        nothing but zeros between them. Changes are ordered by the later record, then the weight.
    """
    width = len(signs[0]) if signs else 0
    found: list[tuple[int, int, int]] = []
    known = np.zeros(width, dtype=np.int64)  # the last record with a sign other than zero
    last = signs[0].copy() if signs else np.zeros(0, dtype=np.int8)
    for i, now in enumerate(signs):
        signed = np.isin(now, (-1, 1))
        turned = np.flatnonzero(signed & np.isin(last, (-1, 1)) & (last != now))
        found += [(int(k), int(known[k]), i) for k in turned]
        known[signed], last[signed] = i, now[signed]
    where, before, after = np.array(found, dtype=np.int64).reshape(-1, 3).T
    return where, before, after
