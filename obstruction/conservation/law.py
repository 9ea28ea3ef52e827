"""A conservation law: numbers, made of the parameters, that gradient flow keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[np.int64]
Kind: TypeAlias = Literal["balance", "scale", "matrix", "constant", "shift"]

KINDS: Final[tuple[Kind, ...]] = ("balance", "scale", "matrix", "constant", "shift")
"""The kinds of laws.

balance
    ``sum(written²) - sum(read²)`` of a channel, which is scaled where it is written and scaled back
    where it is read.
scale
    ``sum(block²)`` of a block of weights before a normalisation, which does not see its length.
matrix
    ``W Wᵀ - Rᵀ R`` of linear neurons, or of the queries and keys, or values and outputs, of a head.
constant
    A parameter that the outputs do not depend on, such as a bias before batch normalisation.
shift
    The sum of weights along an axis, of which a following operation subtracts the mean.
"""


@dataclass(frozen=True, eq=False)
class Term:
    """The scalars of one parameter that enter a law.

    Attributes
    ----------
    tensor : str
        The name of the parameter.
    labels : ndarray of int64
        Broadcasts to the shape of the parameter. For every scalar, which number of the law it
        enters, from 0; -1 if it enters none.
    coefficient : int
        Positive if the scalars write, negative if they read. The law contains
        ``coefficient * w²`` (``coefficient * w`` in linear laws) for every scalar ``w``.
    """

    tensor: str
    labels: Labels
    coefficient: int
