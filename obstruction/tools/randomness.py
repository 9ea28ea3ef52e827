"""The random generators that all code of a process shares, which the code of a model may use."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np

ONE_AT_A_TIME: Final = threading.RLock()
"""A lock that is held while code of a model runs, for which settings of the whole process change.

Such settings are the states of random generators, the default type of numbers, and the filters of
warnings. A thread that changed them while another runs could give each the numbers of the other, or
restore what the other had set.
"""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Start the generators of Python and NumPy from a seed, and restore their states afterwards."""
    with ONE_AT_A_TIME:
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
