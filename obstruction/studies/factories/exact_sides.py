"""Exact probabilities that the single weights of a balance are frozen, from recorded draws.

A weight ``v`` that is alone on a side is frozen iff ``v^2`` exceeds the sum of squares on the other
side. If the entries of all tensors in the balance are independent with known laws
(`obstruction.studies.factories.recipes`), this is the probability of a pathological neuron for
which `obstruction.exact.inversion` has the integrals: ``n`` entries with one law, and one further
entry or a constant. Without random entries on the other side it is a tail of the law of ``v``.

Channels without a random entry in common are independent, so that the probability of a draw
follows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from obstruction.conservation.law import FloatArray, Term
from obstruction.exact import inversion
from obstruction.schemes.laws import (
    CONSTANT,
    CUT,
    CUT_STD,
    NORMAL,
    TRIANGULAR,
    TRUNCATED,
    UNIFORM,
    Law,
)
from obstruction.studies.factories.recipes import Drawn
from obstruction.studies.factories.single_sides import SingleSide

_SAME = 1e-6
"""Scales that differ relatively by at most this much are equal; they come in single precision."""


class ExactSides(NamedTuple):
    """Exact values of a model.

    Attributes
    ----------
    probability : float
        The probability that a draw has a frozen sign; NaN if it is not known.
    shares : tuple of float
        For each side the probability that one of its weights is frozen, as a mean over them; NaN if
        it is not known for all of them.
    independent : tuple of bool
        Whether the weights of a side are frozen independently of each other.
    """

    probability: float
    shares: tuple[float, ...]
    independent: tuple[bool, ...]


def exact_sides(
    sides: Sequence[SingleSide],
    laws: Mapping[str, Drawn | None],
    shapes: Mapping[str, tuple[int, ...]],
) -> ExactSides:
    """Return the exact values of sides of balances.

    Parameters
    ----------
    sides : sequence of SingleSide
    laws : dict of str to Drawn or None
        The laws of the independent entries of all tensors in the balances, None for one that is not
        known.
    shapes : dict of str to tuple of int
        The shapes of these tensors.
    """
    known = [frozen_probabilities(side, laws, shapes) for side in sides]
    apart = [_apart([side], laws, shapes) for side in sides]
    shares = tuple(float(p.mean()) for p in known)
    probability = math.nan
    if not np.isnan(shares).any() and _apart(sides, laws, shapes):
        probability = _some(sides, known)
    elif any(one == 1.0 for p in known for one in p):
        probability = 1.0
    return ExactSides(probability, shares, tuple(apart))


def frozen_probabilities(
    side: SingleSide, laws: Mapping[str, Drawn | None], shapes: Mapping[str, tuple[int, ...]]
) -> FloatArray:
    """Return for each weight of a side the probability that it is frozen, NaN if not known."""
    channels = side.channels
    own = laws[side.tensor]
    if side.places.ndim == 2 and own is not None:
        own = _difference(own)
    own_terms = _terms(side, side.sign)
    other_terms = _terms(side, -side.sign)
    coefficient = next(abs(t.coefficient) for t in own_terms if t.tensor == side.tensor)
    counts = np.stack([_counts(term, side.law.labels, shapes)[channels] for term in other_terms])
    kinds, which = np.unique(counts, axis=1, return_inverse=True)
    found = np.full(kinds.shape[1], np.nan)
    for k, numbers in enumerate(kinds.T):
        others = []
        for term, number in zip(other_terms, numbers, strict=True):
            if number:
                others.append((laws[term.tensor], int(number), abs(term.coefficient)))
        if own is not None and all(law is not None for law, _, _ in others):
            found[k] = _exceeds(_scaled(own, coefficient), _merged(others))
    return found[which.reshape(-1)]


def _terms(side: SingleSide, sign: int) -> list[Term]:
    return [term for term in side.law.terms if term.coefficient * sign > 0]


def _counts(term: Term, labels: int, shapes: Mapping[str, tuple[int, ...]]) -> NDArray[np.int64]:
    flat = np.broadcast_to(term.labels, shapes[term.tensor]).reshape(-1)
    return np.bincount(flat[flat >= 0], minlength=labels)


def _scaled(drawn: Drawn, coefficient: float) -> Drawn:
    return Drawn(drawn.law, drawn.scale * math.sqrt(coefficient))


def _difference(drawn: Drawn) -> Drawn | None:
    """Return the law of the difference of two entries over the root of 2."""
    if drawn.law is CONSTANT:
        return Drawn(CONSTANT, 0.0)
    if drawn.law is NORMAL:
        return drawn
    return Drawn(TRIANGULAR, drawn.scale) if drawn.law is UNIFORM else None


def _merged(others: Iterable[tuple[Drawn | None, int, float]]) -> list[tuple[Drawn, int]]:
    """Return different laws with their numbers of entries."""
    found: list[tuple[Drawn, int]] = []
    for drawn, number, coefficient in others:
        assert drawn is not None
        one = _scaled(drawn, coefficient)
        for k, (other, count) in enumerate(found):
            if other.law is one.law and abs(one.scale - other.scale) <= _SAME * other.scale:
                found[k] = other, count + number
                break
        else:
            found.append((one, number))
    return found


def _exceeds(own: Drawn, others: Sequence[tuple[Drawn, int]]) -> float:
    """Return the probability that the square of a weight exceeds the sum of squares of others."""
    constant = sum(n * one.scale**2 for one, n in others if one.law is CONSTANT)
    random = [(one, n) for one, n in others if one.law is not CONSTANT]
    if own.scale == 0.0:
        return 0.0
    if not random:
        return _tail(own, math.sqrt(constant))
    random.sort(key=lambda one: -one[1])
    (most, number), *rest = random
    bias: Law | None = None
    beta = 0.0
    if constant:
        bias, beta = CONSTANT, constant / most.scale**2
    if rest:
        (further, count), *more = rest
        if more or constant or count != 1:
            return math.nan
        bias, beta = further.law, (further.scale / most.scale) ** 2
    ratio = (own.scale / most.scale) ** 2
    cells = (np.array([float(value)]) for value in (number, ratio, beta))
    exponent, factor = inversion.factors(own.law, most.law, bias, *cells)
    return float(min(np.exp(exponent[0]) * factor[0], 1.0))


def _tail(own: Drawn, least: float) -> float:
    """Return the probability that the absolute value of a weight exceeds a number."""
    x = least / own.scale
    if own.law is CONSTANT:
        return float(x < 1.0 - _SAME)
    if own.law is NORMAL:
        return float(special.erfc(x / math.sqrt(2.0)))
    if x >= own.law.bound:
        return 0.0
    if own.law is UNIFORM:
        return 1.0 - x / own.law.bound
    if own.law is TRIANGULAR:
        return (1.0 - x / own.law.bound) ** 2
    assert own.law is TRUNCATED
    inside = special.erf(CUT / math.sqrt(2.0))
    return float((inside - special.erf(x * CUT_STD / math.sqrt(2.0))) / inside)


def _some(sides: Sequence[SingleSide], known: Sequence[FloatArray]) -> float:
    """Return the probability that some weight is frozen, for independent channels.

    In a channel at most one side is frozen.
    """
    channels: dict[tuple[int, int], float] = {}
    for side, p in zip(sides, known, strict=True):
        for channel, one in zip(side.channels.tolist(), p.tolist(), strict=True):
            key = side.number, channel
            channels[key] = channels.get(key, 0.0) + one
    total = np.array(list(channels.values()))
    if (total >= 1.0 - 1e-12).any():
        return 1.0
    return float(abs(np.expm1(np.log1p(-total).sum())))


def _apart(
    sides: Sequence[SingleSide],
    laws: Mapping[str, Drawn | None],
    shapes: Mapping[str, tuple[int, ...]],
) -> bool:
    """Return whether no random entry is in two channels of the sides."""
    seen: set[tuple[int, int]] = set()
    names = {term.tensor for side in sides for term in side.law.terms}
    used = {name: np.zeros(math.prod(shapes[name]), np.int64) for name in names}
    for side in sides:
        new = [c for c in side.channels.tolist() if (side.number, c) not in seen]
        seen |= {(side.number, c) for c in new}
        wanted = np.zeros(side.law.labels + 1, np.bool_)  # the last is for entries of no channel
        wanted[new] = True
        for term in side.law.terms:
            drawn = laws[term.tensor]
            if drawn is None or drawn.law is not CONSTANT:
                labels = np.broadcast_to(term.labels, shapes[term.tensor]).reshape(-1)
                used[term.tensor] += wanted[labels]
    return all((count <= 1).all() for count in used.values())
