"""The random generators of Python and NumPy, which the code of a model may use."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Start the global generators from a seed, and give them their old states back afterwards."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(word(seed))  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def word(seed: int) -> int:
    """Return a number below 2³² for a seed of any size."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])
