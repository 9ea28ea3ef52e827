"""The balances in which one scalar is alone on a side, evaluated at many draws of a model.

A balance ``sum(written²) - sum(read²)`` freezes the sign of a scalar that alone writes, or alone
reads, iff its square exceeds the sum on the other side. The ratio of both sums decides this. Under
cross-entropy two logits are one such scalar, ``(v_1 - v_2) / sqrt(2)``, as a law keeps their sum.
Entries that never move are left out of the balances. Sets of several channels can freeze more
scalars (`obstruction.topology.systems`), which is not looked at here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.law import FloatArray, Labels, Law, Term, summed
from obstruction.conservation.laws import RTOL, Laws

SIDES = {-1: "read", 1: "written"}
"""The sides of a balance by the signs of their coefficients."""


class Ratios(NamedTuple):
    """The sides of a balance at one draw, for each of its channels with a single scalar.

    Attributes
    ----------
    ratio : ndarray of float64
        The square of the scalar over the sum on the other side; infinite if that sum is 0, and NaN
        if both are.
    frozen : ndarray of bool
        Whether the ratio exceeds 1 beyond the rounding of the sums.
    """

    ratio: FloatArray
    frozen: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SingleSide:
    """The channels of a balance that have one scalar on a side.

    Attributes
    ----------
    number : int
        The number of the law.
    law : Law
        The balance, without entries that never move.
    sign : {-1, 1}
        The side: -1 if the scalars read their channels, 1 if they write them.
    tensor : str
        The parameter to which the scalars belong.
    channels : ndarray of int64
        The channels, whose number is that of the scalars.
    places : ndarray of int64, shape (channels,) or (channels, 2)
        The index of each scalar in the flattened parameter. Two logits have two.
    others : float
        The mean number of scalars on the other side.
    """

    number: int
    law: Law
    sign: int
    tensor: str
    channels: Labels
    places: Labels
    others: float

    @property
    def side(self) -> str:
        """The side in a word: ``"read"``, ``"written"``, or ``"difference"`` of two logits."""
        return SIDES[self.sign] if self.places.ndim == 1 else "difference"

    @property
    def names(self) -> set[str]:
        """The parameters that are needed to evaluate it."""
        return {term.tensor for term in self.law.terms}

    def ratios(self, parameters: Mapping[str, FloatArray]) -> Ratios:
        """Return the sides at the parameters of a draw."""
        own = parameters[self.tensor].reshape(-1)[self.places]
        square = own * own if own.ndim == 1 else (own[:, 0] - own[:, 1]) ** 2 / 2.0
        mine, other = (
            _total(self.law, sign, parameters)[self.channels] for sign in (self.sign, -self.sign)
        )
        if own.ndim == 1:
            square = mine  # with the coefficient of the law
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = square / other
            return Ratios(ratio, square - other > RTOL * np.maximum(square, other))


def single_sides(laws: Laws) -> list[SingleSide]:
    """Return the single sides of all balances of a model, parameter by parameter."""
    constant = _constant(laws)
    found = []
    for number, law in enumerate(laws):
        if law.kind != "balance":
            continue
        moving = _without(law, constant, laws)
        for sign in SIDES:
            found += list(_of(number, moving, sign, laws))
    return found


def _of(number: int, law: Law, sign: int, laws: Laws) -> Iterator[SingleSide]:
    terms = [term for term in law.terms if term.coefficient * sign > 0]
    counts = np.zeros(law.labels, np.int64)
    others = law.counts(laws.shapes, -sign)
    labels = [_flat(term, laws) for term in terms]
    for one in labels:
        counts += np.bincount(one[one >= 0], minlength=law.labels)
    for term, one in zip(terms, labels, strict=True):
        alone = np.flatnonzero((one >= 0) & (counts[np.maximum(one, 0)] == 1))
        if alone.size:
            mean = float(others[one[alone]].mean())
            yield SingleSide(number, law, sign, term.tensor, one[alone], alone, mean)
        if sign < 0 and abs(term.coefficient) == 1:
            pairs = _pairs(term, one, counts, laws)
            if pairs.size:
                first = one[pairs[:, 0]]
                mean = float(others[first].mean())
                yield SingleSide(number, law, sign, term.tensor, first, pairs, mean)


def _pairs(term: Term, labels: Labels, counts: Labels, laws: Laws) -> Labels:
    """Return the places of two scalars of a channel of which a law keeps the sum."""
    twice = np.flatnonzero((labels >= 0) & (counts[np.maximum(labels, 0)] == 2))
    twice = twice[np.argsort(labels[twice], kind="stable")]
    places = np.bincount(labels[twice], minlength=counts.size)
    if not twice.size or (places[places > 0] != 2).any():
        return np.empty((0, 2), np.int64)
    pairs = twice.reshape(-1, 2)
    kept = np.zeros(len(pairs), np.bool_)
    for law in laws:
        for other in law.terms if law.kind == "shift" else ():
            if other.tensor == term.tensor:
                sums = _flat(other, laws)
                size = np.bincount(sums[sums >= 0], minlength=law.labels)
                first, second = sums[pairs].T
                kept |= (first == second) & (first >= 0) & (size[np.maximum(first, 0)] == 2)
    return pairs[kept]


def _flat(term: Term, laws: Laws) -> Labels:
    labels: Labels = np.broadcast_to(term.labels, laws.shapes[term.tensor]).reshape(-1)
    return labels


def _total(law: Law, sign: int, parameters: Mapping[str, FloatArray]) -> FloatArray:
    """Return the sum of squares on one side of each channel."""
    total = np.zeros(law.labels)
    for term in law.terms:
        if term.coefficient * sign > 0:
            value = parameters[term.tensor]
            total += abs(term.coefficient) * summed(value * value, term.labels, law.labels)
    return total


def _constant(laws: Laws) -> dict[str, NDArray[np.bool_]]:
    """Return for parameters with entries that never move which these are."""
    found: dict[str, NDArray[np.bool_]] = {}
    for law in laws:
        for term in law.terms if law.kind == "constant" else ():
            mask = _flat(term, laws) >= 0
            found[term.tensor] = found.get(term.tensor, np.zeros((), np.bool_)) | mask
    return found


def _without(law: Law, constant: Mapping[str, NDArray[np.bool_]], laws: Laws) -> Law:
    """Return a balance without entries that never move, which is a balance again."""
    if not any(term.tensor in constant for term in law.terms):
        return law
    terms = []
    for term in law.terms:
        if term.tensor in constant:
            labels = np.where(constant[term.tensor], -1, _flat(term, laws))
            shape = laws.shapes[term.tensor]
            term = Term(term.tensor, labels.reshape(shape), term.coefficient)
        terms.append(term)
    return Law("balance", tuple(terms), law.labels, law.violation, law.change)
