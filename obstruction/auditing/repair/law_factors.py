"""Factors of the channels of balances after which no weight is frozen.

A certificate shows that ``w_e² >= y·c > 0`` for a weight ``e``: ``c`` are the balances, and the sum
of the laws with coefficients ``y`` contains ``a_e w_e²`` with ``a_e > 0`` and nothing else that is
positive. If every channel ``k`` is scaled by ``exp(-t y_k)``, the model computes the same, ``w_e²``
decreases and every other square in the sum increases. The least ``t`` for which the others exceed
``w_e²`` by a margin makes the certificate void. Certificates that share channels are treated
together by iteration, and those that appear afterwards are added.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.law import FloatArray, Law, summed
from obstruction.conservation.laws import Laws
from obstruction.topology.systems import FrozenScalar

Weight: TypeAlias = tuple[str, tuple[int, ...]]

_LARGEST: Final = math.log(1e9)
"""The largest logarithm of a factor; if more is needed, other balances are against it."""

_ROUNDS: Final = 200
_SWEEPS: Final = 5_000
_ENOUGH: Final = 1e-7
_LOG2: Final = math.log(2.0)

DEAD: Final = "its channel is dead: nothing else in the balance can be scaled up"
EITHER: Final = "it or a weight on the other side of the balance is frozen, whatever the factors"
AGAINST: Final = "other balances allow no factor that frees it"


@dataclass(eq=False)
class _Demand:
    """A certificate that is to become void, and the logarithm ``t`` of the factor for that."""

    weight: Weight
    square: float
    column: tuple[NDArray[np.int64], FloatArray]
    nodes: NDArray[np.int64]
    y: FloatArray
    inside: float
    t: float = 0.0


@dataclass
class Factors:
    """The result of the search.

    Attributes
    ----------
    exponents : dict of int to ndarray of float64
        For the number of each balance law the logarithms of the factors of its channels.
    left : dict from (str, tuple of int) to str
        The weights that stay frozen, each with the reason.
    """

    exponents: dict[int, FloatArray]
    left: dict[Weight, str] = field(default_factory=dict)


def find_factors(laws: Laws, margin: float, coarse: Mapping[str, bool]) -> Factors:
    """Return factors of channels after which no weight is frozen or at the boundary.

    Parameters
    ----------
    laws : Laws
    margin : float, > 0
        Where a weight was frozen, the norm of the weights on the other side of its balance is
        afterwards at least ``1 + margin`` times as large as the weight.
    coarse : dict of str to bool
        Parameters whose channels are scaled by powers of two only.
    """
    return _Search(laws, margin, coarse).run()


def scaled(laws: Laws, exponents: Mapping[int, FloatArray]) -> dict[str, FloatArray]:
    """Return the parameters, of those that change, after channels are scaled."""
    found: dict[str, FloatArray] = {}
    for number, logs in exponents.items():
        if np.any(logs):
            for term in laws[number].terms:
                moved = np.append(logs, 0.0)[term.labels] * term.coefficient
                if np.any(moved):
                    value = found.get(term.tensor, laws.parameters[term.tensor])
                    found[term.tensor] = value * np.exp(moved)
    return found


class _Search:
    def __init__(self, laws: Laws, margin: float, coarse: Mapping[str, bool]) -> None:
        self._laws = laws
        self._balances: list[tuple[int, Law, int]] = []
        first = 0
        for number, law in enumerate(laws):
            if law.kind == "balance":
                self._balances.append((number, law, first))
                first += law.labels
        self._size = first
        self._log_margin = 2.0 * math.log1p(margin)
        self._sums = _Sums(laws, self._balances, first)
        self._coarse = np.zeros(first, dtype=bool)
        for _, law, start in self._balances:
            for term in law.terms:
                if coarse[term.tensor]:
                    used = term.labels[term.labels >= 0]
                    self._coarse[start + used] = True
        self._demands: list[_Demand] = []
        self._left: dict[Weight, str] = {}

    def run(self) -> Factors:
        for _ in range(_ROUNDS):
            logs = self._rounded()
            now = replace(self._laws, parameters=self._laws.parameters | scaled(self._laws, logs))
            listed = now.frozen_scalars
            fresh = [
                one
                for one in (*listed.frozen, *listed.boundary)
                if (one.tensor, one.position) not in self._left
            ]
            if not fresh:
                break
            known = len(self._left)
            for one in fresh:
                self._add(one)
            self._solve()
            if len(self._left) > known:
                self._demands = []  # some may only have been made for weights that are given up
        return Factors(self._rounded(), self._left)

    def _add(self, one: FrozenScalar) -> None:
        """Demand that a certificate becomes void, or leave its weight as it is."""
        weight = (one.tensor, one.position)
        nodes = np.array(one.nodes, dtype=np.int64)
        y = np.array([float(part) for part in one.coefficients])
        square = float(self._laws.parameters[one.tensor][one.position]) ** 2
        at, factors = self._column(one)
        weights = np.zeros(self._size)
        weights[nodes] = y
        inside = float(weights[at] @ factors)
        demand = _Demand(weight, square, (at, factors), nodes, y, inside)
        if square == 0.0 or not self._others(demand, np.zeros(self._size)) > 0.0:
            self._left[weight] = DEAD
            return
        for other in self._demands:
            if np.array_equal(other.nodes, nodes):
                if other.weight == weight:
                    self._drop(other, AGAINST)
                    return
                if np.allclose(other.y, -y):
                    self._drop(other, EITHER)
                    self._left[weight] = EITHER
                    return
        self._demands.append(demand)

    def _drop(self, demand: _Demand, reason: str) -> None:
        self._demands = [one for one in self._demands if one is not demand]
        self._left[demand.weight] = reason

    def _column(self, one: FrozenScalar) -> tuple[NDArray[np.int64], FloatArray]:
        """Return the nodes that a scalar enters, and its coefficients."""
        nodes, factors = [], []
        for _, law, first in self._balances:
            for term in law.terms:
                if term.tensor == one.tensor:
                    shape = self._laws.shapes[one.tensor]
                    label = int(np.broadcast_to(term.labels, shape)[one.position])
                    if label >= 0:
                        nodes.append(first + label)
                        factors.append(float(term.coefficient))
        return np.array(nodes, dtype=np.int64), np.array(factors)

    def _others(self, demand: _Demand, s: FloatArray, c: FloatArray | None = None) -> float:
        """Return the sum of the other squares in a certificate, zero if it is only rounding."""
        c = self._sums.balances(s) if c is None else c
        own = demand.inside * self._square(demand, s)
        rest = own - float(demand.y @ c[demand.nodes])
        return rest if rest > 1e-13 * own else 0.0

    def _square(self, demand: _Demand, s: FloatArray) -> float:
        at, factors = demand.column
        return demand.square * math.exp(2.0 * float(factors @ s[at]))

    def _solve(self) -> None:
        """Find the factors for all demands; those that need too large ones are given up."""
        shared = np.zeros(self._size)
        for demand in self._demands:
            shared[demand.nodes] += 1.0
        for _ in range(_SWEEPS):
            s = self._logs()
            c = self._sums.balances(s)
            largest, hopeless = 0.0, []
            for demand in self._demands:
                step = self._step(demand, s, c) / max(1.0, float(shared[demand.nodes].max()))
                t = max(0.0, demand.t + step)
                largest = max(largest, abs(t - demand.t))
                demand.t = t
                if t > _LARGEST:
                    hopeless.append(demand)
            if hopeless:
                self._drop(max(hopeless, key=lambda one: one.t), AGAINST)
                for demand in self._demands:
                    demand.t = 0.0
            elif largest < _ENOUGH:
                return
        for demand in self._demands:
            if self._step(demand, self._logs(), self._sums.balances(self._logs())) > 1e-3:
                self._drop(demand, AGAINST)

    def _step(self, demand: _Demand, s: FloatArray, c: FloatArray) -> float:
        """Return by how much ``t`` of a demand has to grow, if no other changes."""
        others = self._others(demand, s, c)
        if others == 0.0:
            return 1.0
        own = demand.inside * self._square(demand, s)
        lack = self._log_margin + math.log(own / others) + 10.0 * _ENOUGH
        return min(1.0, lack / 4.0)

    def _logs(self) -> FloatArray:
        s = np.zeros(self._size)
        for demand in self._demands:
            s[demand.nodes] -= demand.t * demand.y
        return s

    def _rounded(self) -> dict[int, FloatArray]:
        """Return the logarithms of all factors by law, of powers of two where these are wanted."""
        s = self._logs()
        if self._coarse.any():
            for _ in range(_ROUNDS):
                whole = np.sign(s) * np.ceil(np.abs(s) / _LOG2 - 1e-6) * _LOG2
                s = np.where(self._coarse, whole, s)
                c = self._sums.balances(s)
                lacking = [one for one in self._demands if self._step(one, s, c) > 1e-6]
                if not lacking:
                    break
                for demand in lacking:
                    demand.t += _LOG2 / 2.0
                s = self._logs()
        return {number: s[first : first + law.labels] for number, law, first in self._balances}


class _Sums:
    """The balances of all channels after they are scaled.

    Squares are summed once over the axes of a parameter along which no label varies. The parts of
    parameters whose channels have not been scaled anew are kept.
    """

    def __init__(self, laws: Laws, balances: Sequence[tuple[int, Law, int]], size: int) -> None:
        self._size = size
        terms: dict[str, list[tuple[NDArray[np.int64], int, int, int]]] = {}
        for _, law, first in balances:
            for term in law.terms:
                entry = (term.labels, term.coefficient, first, law.labels)
                terms.setdefault(term.tensor, []).append(entry)
        self._terms = terms
        self._squares = {}
        for name, entries in terms.items():
            square = laws.parameters[name] ** 2
            still = tuple(
                a for a in range(square.ndim) if all(labels.shape[a] == 1 for labels, *_ in entries)
            )
            self._squares[name] = square.sum(axis=still, keepdims=True)
        self._nodes = {
            name: np.concatenate([first + labels[labels >= 0] for labels, _, first, _ in entries])
            for name, entries in terms.items()
        }
        self._known: dict[str, tuple[FloatArray, list[tuple[int, FloatArray]]]] = {}

    def balances(self, s: FloatArray) -> FloatArray:
        """Return the balances if channel ``k`` is scaled by ``exp(s[k])``."""
        total = np.zeros(self._size)
        for name in self._terms:
            here = s[self._nodes[name]]
            if name not in self._known or not np.array_equal(self._known[name][0], here):
                self._known[name] = (here, self._parts(name, s))
            for first, part in self._known[name][1]:
                total[first : first + len(part)] += part
        return total

    def _parts(self, name: str, s: FloatArray) -> list[tuple[int, FloatArray]]:
        value = self._squares[name]
        for labels, coefficient, first, width in self._terms[name]:
            logs = np.append(s[first : first + width], 0.0)[labels]
            if np.any(logs):
                value = value * np.exp(2.0 * coefficient * logs)
        return [
            (first, coefficient * summed(value, labels, width))
            for labels, coefficient, first, width in self._terms[name]
        ]
