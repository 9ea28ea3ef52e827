"""Weights and combinations of weights that cannot vanish, under the names that users know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from obstruction.auditing.live.linear import Combination
from obstruction.auditing.live.systems import Balances
from obstruction.conservation.coordinates import Replacement
from obstruction.conservation.law import FloatArray
from obstruction.conservation.laws import Laws
from obstruction.conservation.rows import Rows
from obstruction.topology.systems import FrozenScalar

_SPELT: Final = 4
"""Combinations of more scalars are not spelt out."""


@dataclass(frozen=True)
class Bound:
    """A weight, or a combination of weights, that is frozen or at the boundary of being so.

    Attributes
    ----------
    what : str
        The name of the weight, such as ``"2.weight[0, 3]"``, or a formula.
    combination : bool
        Whether it is a combination of several weights.
    tensor : str
        The parameter.
    position : tuple of int
        The index of the weight in it; for a combination, the channel, or the block of a matrix law.
    status : {"frozen", "boundary"}
    value, least : float
        The present value, and the smallest absolute value that gradient flow can reach.
    laws : tuple of (int, int)
        The laws that prove it, with the index in each.
    cause : {"balances", "outputs", "linear", "data"}
        What is needed besides the balances of single channels: that the outputs see one combination
        only, that neurons are linear, or that training inputs span no more than they do.
    """

    what: str
    combination: bool
    tensor: str
    position: tuple[int, ...]
    status: str
    value: float
    least: float
    laws: tuple[tuple[int, int], ...]
    cause: str


def bounds_of(laws: Laws, balances: Balances, *, cause: str = "balances") -> list[Bound]:
    """Return the frozen scalars of balances, and those at the boundary."""
    found = []
    for one in (*balances.found.frozen, *balances.found.boundary):
        replacement = balances.replaced(one)
        if replacement is None:
            found.append(_weight(laws, balances, one, one.tensor, one.position, cause))
        else:
            found.append(_replaced(laws, balances, one, replacement, cause))
    return found


def linear_bounds(ones: Iterable[Combination], *, cause: str = "linear") -> Iterator[Bound]:
    """Yield the combinations of linear neurons that cannot vanish."""
    for one in ones:
        what = f"a combination of {one.tensor}, block {one.block}"
        if one.block == 0:
            what = f"a combination of {one.tensor}"
        place = one.law, one.block
        yield Bound(
            what, True, one.tensor, (one.block,), "frozen", one.value, one.least, (place,), cause
        )


def named(tensor: str, position: Sequence[int]) -> str:
    """Return the name of a weight."""
    return f"{tensor}[{', '.join(map(str, position))}]" if position else tensor


def _weight(
    laws: Laws,
    balances: Balances,
    one: FrozenScalar,
    tensor: str,
    position: tuple[int, ...],
    cause: str,
) -> Bound:
    value = float(laws.parameters[tensor][position])
    proof = balances.named(one.nodes)
    what = named(tensor, position)
    return Bound(what, False, tensor, position, one.status, value, one.least, proof, cause)


def _replaced(
    laws: Laws, balances: Balances, one: FrozenScalar, replacement: Replacement, cause: str
) -> Bound:
    label, dimension = one.position
    direction = replacement.basis[:, dimension]
    scalars = [
        (rows.tensor, place) for rows in replacement.rows for place in _positions(laws, rows, label)
    ]
    largest = int(np.abs(direction).argmax())
    cause = replacement.cause if cause == "balances" else cause
    if abs(direction[largest]) > 1.0 - 1e-9:
        return _weight(laws, balances, one, *scalars[largest], cause)
    row = replacement.coordinates(laws.parameters)[label]
    sign = float(np.sign(direction[np.flatnonzero(np.abs(direction) > 1e-9)[0]]))
    used = np.abs(direction) > 1e-9
    unit = 1.0
    if np.ptp(np.abs(direction[used])) < 1e-9:
        unit = float(np.sqrt(used.sum()))
    what = _formula(scalars, direction * sign * unit, used)
    return Bound(
        what,
        True,
        replacement.name,
        (int(label),),
        one.status,
        float(row[dimension]) * sign * unit,
        one.least * unit,
        balances.named(one.nodes),
        cause,
    )


def _positions(laws: Laws, rows: Rows, label: int) -> list[tuple[int, ...]]:
    shape = laws.shapes[rows.tensor]
    places = np.unravel_index(rows.places[label], shape)
    return [tuple(map(int, place)) for place in zip(*places, strict=True)]


def _formula(
    scalars: Sequence[tuple[str, tuple[int, ...]]], factors: FloatArray, used: NDArray[np.bool_]
) -> str:
    chosen = np.flatnonzero(used).tolist()
    if len(chosen) > _SPELT:
        return f"a combination of {len(chosen):,} weights of {scalars[0][0]}"
    words: list[str] = []
    for place in chosen:
        factor = float(factors[place])
        size = "" if abs(abs(factor) - 1.0) < 1e-9 else f"{abs(factor):.4g} "
        mark = ("- " if factor < 0 else "+ ") if words else ("-" if factor < 0 else "")
        words.append(f"{mark}{size}{named(*scalars[place])}")
    return " ".join(words)
