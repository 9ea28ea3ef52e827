"""Decide whether a scalar is frozen by a linear program, where a system is no network.

The program looks for the certificate ``y`` with the largest ``y c`` among those in which the scalar
itself has the sum 1. It is solved in floating point. Its solution is rounded to fractions, and what
they prove is computed exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.sparse import coo_array

from obstruction.topology.systems.magnitudes import FloatArray, Scaled
from obstruction.topology.systems.rows import Rows, Scalar
from obstruction.topology.systems.signs import Signs

_GAP = 1e-6
"""Programs are solved to this accuracy, relative to the largest balance."""


class Certificate(NamedTuple):
    """A proof that a squared scalar has at least the value ``sum of coefficients * balances``.

    Attributes
    ----------
    nodes : tuple of int
    coefficients : tuple of Fraction
    """

    nodes: tuple[int, ...]
    coefficients: tuple[Fraction, ...]

    def bound(self, balances: Sequence[int]) -> Fraction:
        """Return the sum of the balances times the coefficients."""
        pairs = zip(self.nodes, self.coefficients, strict=True)
        return sum((a * balances[v] for v, a in pairs), Fraction(0))

    def slack(self, tolerances: Sequence[int]) -> Fraction:
        """Return by how much the bound may be off if each balance is off by its tolerance."""
        pairs = zip(self.nodes, self.coefficients, strict=True)
        return sum((abs(a) * tolerances[v] for v, a in pairs), Fraction(0))


class Program(NamedTuple):
    """The answer of a linear program.

    Attributes
    ----------
    certificate : Certificate or None
        The best certificate found, None if there is none or if rounding failed.
    free : bool
        Whether the scalar can be zero for sure.
    """

    certificate: Certificate | None
    free: bool


class Programs:
    """The parts of a system that are no networks.

    Parameters
    ----------
    rows, signs, zero
        As for `obstruction.topology.systems.cuts.Cuts`.
    balances, tolerances : Scaled
    whole, slack : sequence of int
        The same numbers in a common unit.
    most : int
        The largest number of variables of a program.
    """

    def __init__(
        self,
        rows: Rows,
        signs: Signs,
        zero: NDArray[np.bool_],
        balances: Scaled,
        tolerances: Scaled,
        whole: Sequence[int],
        slack: Sequence[int],
        most: int,
    ) -> None:
        self._rows, self._signs, self._most = rows, signs, most
        self._zero: list[bool] = zero.tolist()
        self._balances, self._tolerances = balances, tolerances
        self._whole, self._slack = whole, slack

    def decide(self, e: Scalar) -> Program | None:
        """Return the answer for a scalar, None if the program would be too large."""
        column = {v: a for v, a in self._rows.column(e).items() if not self._vanishes(v, e)}
        if not column:
            return Program(None, True)
        gathered = self._gather(e, column)
        if gathered is None:
            return None
        variables, conditions = gathered
        problem = _Problem(variables, conditions, column, self._rows.nodes)
        scaled = [self._of(numbers, variables) for numbers in (self._balances, self._tolerances)]
        largest = max(int(one.exponents.max()) for one in scaled)
        c, t = (one.at(largest) for one in scaled)
        found, value = problem.solve(c, 0 * t)
        if value is None:
            return Program(None, True)
        best = found
        if found and t.any() and self._bound(found) <= 0 and value > 0:
            robust, _ = problem.solve(c, t)
            if robust and self._bound(robust) > self._bound(found):
                best = robust
        return Program(best, value < -_GAP)

    def _bound(self, one: Certificate) -> Fraction:
        return one.bound(self._whole) - one.slack(self._slack)

    def _of(self, numbers: Scaled, variables: list[int]) -> Scaled:
        nodes = np.array([v for v in variables if v < self._rows.nodes])
        return Scaled(numbers.values[nodes], numbers.exponents[nodes])

    def _vanishes(self, v: int, e: Scalar) -> bool:
        return self._zero[v] or (
            self._signs.without(2 * v, e) and self._signs.without(2 * v + 1, e)
        )

    def _gather(
        self, e: Scalar, column: dict[int, int]
    ) -> tuple[list[int], list[list[tuple[int, int]]]] | None:
        """Return the variables that matter for a scalar, and the conditions on them."""
        rows = self._rows
        product = int(rows.extra[e.block])
        own = rows.row_of(e)
        used: set[int] = set()
        found = list(column)
        place = set(found)
        conditions: list[list[tuple[int, int]]] = []

        def add(entries: list[tuple[int, int]]) -> None:
            kept = [(v, a) for v, a in entries if v in place or not self._vanishes(v, e)]
            if kept:
                conditions.append(kept)
            for v, _ in kept:
                if v not in place:
                    place.add(v)
                    found.append(v)

        if product >= 0:
            terms = rows.terms(e.block, 0, e.p)
            for q in range(len(rows.blocks[e.block].sides[1].alone)):
                if q != e.q:
                    add([*terms, *rows.terms(e.block, 1, q)])
        for v in found:
            if len(found) > self._most:
                return None
            for row in rows.of_variable[v]:
                if row != own and row not in used:
                    used.add(row)
                    add(rows.entries[row])
        return found, conditions


class _Problem:
    """A linear program for certificates of one scalar."""

    def __init__(
        self,
        variables: list[int],
        conditions: list[list[tuple[int, int]]],
        column: dict[int, int],
        nodes: int,
    ) -> None:
        self._variables, self._conditions, self._column = variables, conditions, column
        self._is_node = np.array([v < nodes for v in variables])
        place = {v: i for i, v in enumerate(variables)}
        triples = [(i, place[v], a) for i, one in enumerate(conditions) for v, a in one]
        i, j, a = np.array(triples or np.zeros((0, 3)), dtype=np.int64).T
        shape = (max(len(conditions), 1), len(variables))
        self._upper = coo_array((a.astype(float), (i, j)), shape=shape).tocsr()
        row = np.zeros((1, len(variables)))
        for v, factor in column.items():
            row[0, place[v]] = factor
        self._equal = row

    def solve(self, c: FloatArray, t: FloatArray) -> tuple[Certificate | None, float | None]:
        """Return the best certificate and its value, None if there is none.

        Every node adds its balance times its number, less its tolerance times the absolute value.
        """
        n = len(self._variables)
        price = np.zeros((2, n))
        price[:, self._is_node] = -(c - t), c + t
        upper, equal = self._upper, self._equal
        if t.any():  # numbers are differences of two that are not negative
            upper = coo_array(np.hstack([upper.toarray(), -upper.toarray()])).tocsr()
            equal = np.hstack([equal, -equal])
            solved = scipy.optimize.linprog(
                price.ravel(), upper, np.zeros(upper.shape[0]), equal, [1.0], method="highs"
            )
        else:
            solved = scipy.optimize.linprog(
                price[0],
                upper,
                np.zeros(upper.shape[0]),
                equal,
                [1.0],
                bounds=(None, None),
                method="highs",
            )
        if solved.status == 2:
            return None, None
        if solved.status != 0:
            return None, np.inf
        y = solved.x if solved.x.size == n else solved.x[:n] - solved.x[n:]
        return self._exact(y), -float(solved.fun)

    def _exact(self, y: FloatArray) -> Certificate | None:
        """Return the certificate with numbers rounded to simple fractions, if it is valid."""
        for most in (1, 2, 12, 1000):
            values = {
                v: Fraction(float(number)).limit_denominator(most)
                for v, number in zip(self._variables, y, strict=True)
            }
            if any(abs(float(values[v]) - x) > _GAP for v, x in zip(values, y, strict=True)):
                continue
            own = sum(a * values[v] for v, a in self._column.items())
            if own > 0 and all(sum(a * values[v] for v, a in one) <= 0 for one in self._conditions):
                used = [
                    v
                    for v, node in zip(self._variables, self._is_node, strict=True)
                    if node and values[v]
                ]
                used.sort()
                return Certificate(tuple(used), tuple(values[v] / own for v in used))
        return None
