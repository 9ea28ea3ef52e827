"""The transformation that belongs to each law: what may be done to a model that nothing changes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.law import FloatArray, Law, with_slices
from obstruction.conservation.live.base import Values

EXPONENTS: Final = (-20, -7, -2, -1, 1, 2, 7, 20)
"""Channels are scaled by powers of two with these exponents, so that nothing is rounded."""

GROWTH: Final = (20, 26)
"""Blocks before a normalisation are multiplied by powers of two between these exponents.

``eps`` has no influence on such large weights.
"""


FAR: Final = 2.0**14
"""What is translated moves by about its own size, or back by so many times as much.

An activation may be linear on a long interval.
"""

LESS_FAR: Final = 2.0**7
"""So far only, if rounding may be to blame.

A variance that is computed as the mean square less the square of the mean loses the digits of a
large offset, twice.
"""


def transformed(
    values: Values,
    laws: Iterable[Law],
    generator: np.random.Generator,
    *,
    mild: bool = False,
    sign: int = 1,
) -> dict[str, FloatArray]:
    """Return parameters after random transformations of laws, which must not change the outputs.

    Parameters
    ----------
    values : dict of str to ndarray
        Parameters; they are not changed.
    laws : iterable of Law
        Their transformations are applied one after the other.
    generator : Generator
        The source of scales, matrices and distances.
    mild : bool
        Whether channels are only scaled by 1/4 to 4, and nothing moves far.
    sign : {1, -1}
        With -1 every channel is scaled by the inverse factor, matrices mix with the other sign, and
        what is translated moves far.
    """
    found = dict(values)
    for law in laws:
        if law.kind == "balance":
            exponents = EXPONENTS[2:-2] if mild else EXPONENTS
            _rescale(found, law, sign * generator.choice(exponents, law.labels))
        elif law.kind == "scale":
            found |= scattered(found, [law], generator, np.arange(GROWTH[1] - GROWTH[0] + 1))
        elif law.kind == "matrix":
            _mix(found, law, generator, sign)
        else:
            distance = 1.0 if sign > 0 else -LESS_FAR if mild else -FAR
            _translate(found, law, distance * generator.standard_normal(law.labels))
    return found


def rescaled(values: Values, laws: Iterable[Law], exponent: int) -> dict[str, FloatArray]:
    """Return parameters with every block of laws about norms multiplied by a power of two."""
    found = dict(values)
    for law in laws:
        _rescale(found, law, np.full(law.labels, exponent))
    return found


def scattered(
    values: Values, laws: Iterable[Law], generator: np.random.Generator, exponents: NDArray[Any]
) -> dict[str, FloatArray]:
    """Return parameters with blocks multiplied by two to random powers, each by its own."""
    found = dict(values)
    for law in laws:
        _rescale(found, law, exponents[generator.integers(len(exponents), size=law.labels)])
    return found


def _rescale(values: dict[str, FloatArray], law: Law, exponents: NDArray[Any]) -> None:
    powers = np.append(exponents, 0)  # the label -1 is scaled by one
    for term in law.terms:
        factors = np.ldexp(1.0, powers[term.labels] * term.coefficient)
        values[term.tensor] = values[term.tensor] * factors


def _translate(values: dict[str, FloatArray], law: Law, distances: FloatArray) -> None:
    for term in law.terms:
        value = values[term.tensor]
        unit = float(np.sqrt(np.mean(value * value))) or 1.0
        values[term.tensor] = value + unit * np.append(distances, 0.0)[term.labels]


def _mix(
    values: dict[str, FloatArray], law: Law, generator: np.random.Generator, sign: int
) -> None:
    """Mix the channels of each block by a random matrix, or by its negative.

    Neurons that are all active, or all dead, look linear; with one of the two signs they are not.
    """
    side, count = law.block, law.labels // law.block
    noise = generator.standard_normal((count, side, side)) / side**0.5
    matrix = sign * (np.eye(side) + 0.3 * noise)
    inverse = np.linalg.inv(matrix).transpose(0, 2, 1)
    for term in law.terms:
        by = matrix if term.coefficient > 0 else inverse
        mixed = partial(_mixed, by)
        value = values[term.tensor]
        values[term.tensor] = with_slices(value, term.labels, law.labels, mixed)


def _mixed(matrices: FloatArray, rows: FloatArray) -> FloatArray:
    """Return the rows with those of each block mixed by its matrix."""
    count, side, _ = matrices.shape
    found: FloatArray = (matrices @ rows.reshape(count, side, -1)).reshape(rows.shape)
    return found
