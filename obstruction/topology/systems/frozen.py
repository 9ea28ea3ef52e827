"""Find the scalars whose signs no training can change, given any set of balances."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from obstruction.tools.checks import check_count
from obstruction.topology.systems.cuts import Cuts
from obstruction.topology.systems.inflow import inflow_suffices
from obstruction.topology.systems.magnitudes import square_root, whole_numbers
from obstruction.topology.systems.parts import orient
from obstruction.topology.systems.programs import Programs
from obstruction.topology.systems.rows import Rows, Scalar
from obstruction.topology.systems.signs import Signs, at_most
from obstruction.topology.systems.system import System

FROZEN = "frozen"
BOUNDARY = "boundary"

MOST_WORK = 2_000_000
"""The largest number of cells of one product, times that of its parts, that are decided singly."""

MOST_VARIABLES = 2_000
"""The default limit of the variables of a linear program."""

MOST_PROGRAMS = 2_000
"""The default limit of the number of linear programs."""

_MARGIN = 1e-9


class FrozenScalar(NamedTuple):
    """A scalar that is frozen or at the boundary of being so.

    For all scalars with the same balances, ``w² >= square``, which is the sum of the balances of
    `nodes` times `coefficients`.

    Attributes
    ----------
    tensor : str
    position : tuple of int
        The index of the scalar in its tensor.
    status : {"frozen", "boundary"}
        A scalar is at the boundary if only some balances within the tolerances freeze it, or if the
        least square is exactly zero.
    least : float
        The smallest absolute value that the scalar can reach.
    square : Fraction
        Its square, exactly. It may be negative at the boundary, where it proves nothing.
    nodes : tuple of int
        The nodes of the certificate.
    coefficients : tuple of Fraction
        In a network they are all -1, if the scalar is the only one out of the set of nodes, or all
        1, if it is the only one into the set.
    """

    tensor: str
    position: tuple[int, ...]
    status: str
    least: float
    square: Fraction
    nodes: tuple[int, ...]
    coefficients: tuple[Fraction, ...]


@dataclass(frozen=True, eq=False)
class FrozenScalars(Sequence[FrozenScalar]):
    """The frozen scalars of a system of balances. As a sequence, it has the elements of `frozen`.

    Attributes
    ----------
    frozen, boundary : tuple of FrozenScalar
        The scalars with each status, in the order of tensors and positions.
    undecided : dict from str to int
        For tensors with scalars that were not decided, their number. Nothing is said of them. All
        other scalars that are not listed can pass through zero.
    """

    frozen: tuple[FrozenScalar, ...]
    boundary: tuple[FrozenScalar, ...]
    undecided: dict[str, int]

    def __len__(self) -> int:
        return len(self.frozen)

    def __getitem__(self, index: Any) -> Any:
        return self.frozen[index]

    def __iter__(self) -> Iterator[FrozenScalar]:
        return iter(self.frozen)

    @property
    def components(self) -> int:
        """The number of connected components, ``2^frozen``.

        It is a lower bound if some scalars are undecided.
        """
        return 1 << len(self.frozen)

    @property
    def log2_components(self) -> int:
        """The logarithm to base 2 of the number of components."""
        return len(self.frozen)


def frozen_scalars(
    system: System, *, most_variables: int = MOST_VARIABLES, most_programs: int = MOST_PROGRAMS
) -> FrozenScalars:
    """Return which scalars of a system of balances can never change their sign.

    Parameters
    ----------
    system : System
    most_variables : int
        Scalars that need a linear program with more variables remain undecided.
    most_programs : int
        At most so many linear programs are solved. The other scalars that need one remain
        undecided.

    Raises
    ------
    ValueError
        If a limit is not a whole number of at least 0.
    """
    variables = check_count("most_variables", most_variables, least=0)
    programs = check_count("most_programs", most_programs, least=0)
    return _Decision(system, variables, programs).result()


class _Found(NamedTuple):
    """What is known of one scalar, with squares in whole units."""

    frozen: bool
    square: Fraction
    nodes: tuple[int, ...]
    coefficients: tuple[Fraction, ...]


class _Decision:
    """The decision of all scalars of a system."""

    def __init__(self, system: System, most_variables: int, most_programs: int) -> None:
        self._system = system
        self._unit, (c, t) = whole_numbers(system.balances, system.tolerances)
        self._whole, self._slack = c, t
        self._rows = Rows(system)
        self._signs = Signs(self._rows)
        self._zero = self._signs.zero()
        self._sign = orient(self._rows, self._zero)
        self._cuts = Cuts(self._rows, self._signs, self._zero, self._sign, c, t)
        self._programs = Programs(
            self._rows,
            self._signs,
            self._zero,
            system.balances,
            system.tolerances,
            c,
            t,
            most_variables,
        )
        self._margin = max(_MARGIN, 4.0 * system.rtol)
        self._proved = {
            side: inflow_suffices(
                self._rows, self._zero, self._sign, side=side, margin=self._margin
            )
            for side in (1, -1)
        }
        self._remaining = most_programs
        self._undecided: Counter[str] = Counter()

    def result(self) -> FrozenScalars:
        """Decide all scalars."""
        found: dict[str, list[FrozenScalar]] = {FROZEN: [], BOUNDARY: []}
        order: dict[str, int] = {}
        for e in self._candidates():
            best = self._decide(e)
            if best is None:
                continue
            block = self._system.blocks[e.block]
            status = FROZEN if best.frozen else BOUNDARY
            square = best.square * self._unit
            one = FrozenScalar(
                block.tensor.name,
                block.position(e.p, e.q),
                status,
                square_root(square),
                square,
                best.nodes,
                best.coefficients,
            )
            found[status].append(one)
            order.setdefault(one.tensor, len(order))
        for ones in found.values():
            ones.sort(key=lambda one: (order[one.tensor], one.position))
        frozen, boundary = map(tuple, found.values())
        return FrozenScalars(frozen, boundary, dict(self._undecided))

    def _candidates(self) -> Iterator[Scalar]:
        """Yield the scalars that may be frozen, and count those that are not decided."""
        for row, e in self._rows.scalars_of_lists():
            if any(self._open(term, e) for term in self._rows.entries[row]):
                yield e
        cells: dict[int, set[Scalar]] = {}
        for e in self._signs.blamed():
            if self._rows.extra[e.block] >= 0:
                cells.setdefault(e.block, set()).add(e)
        for b in np.flatnonzero(self._rows.cells).tolist():
            yield from self._cells(b, cells.get(b, set()))

    def _open(self, term: tuple[int, int], e: Scalar) -> bool:
        """Return whether a term can be positive in a certificate of a scalar."""
        variable = term[0]
        return not self._zero[variable] and not self._signs.without(at_most(*term), e)

    def _cells(self, b: int, blamed: set[Scalar]) -> Iterator[Scalar]:
        """Yield the cells of a product that may be frozen."""
        rows, block = self._rows, self._system.blocks[b]
        wide = [self._never(b, side) for side in (0, 1)]
        first, second = (side.alone for side in block.sides)
        if block.sums:
            # All cells in other rows and columns together can take over what a cell holds.
            largest = max(int(sums.exponents.max()) for sums in block.sums)
            p_sums, q_sums = (sums.at(largest) for sums in block.sums)
            limit = (1.0 - self._margin) * float(p_sums.sum())
            least = limit - np.where(wide[0], q_sums.max(), q_sums[wide[1]].max(initial=-np.inf))
            listed = np.flatnonzero(first & (p_sums >= least) & (p_sums.sum() > 0.0))
        else:
            limit, p_sums, q_sums = -np.inf, np.zeros(first.size), np.zeros(second.size)
            listed = np.flatnonzero(first & (wide[0] | wide[1].any()))
        found = [
            (p, np.flatnonzero(second & (wide[0][p] | wide[1]) & (q_sums >= limit - p_sums[p])))
            for p in listed.tolist()
        ]
        number = sum(columns.size for _, columns in found)
        if number * (first.size + second.size) > MOST_WORK:
            self._undecided[block.tensor.name] += number
            found = []
        cells = {Scalar(b, p, q) for p, columns in found for q in columns.tolist()}
        for e in sorted(cells | blamed):
            terms = [*rows.terms(b, 0, e.p), *rows.terms(b, 1, e.q)]
            if any(self._open(term, e) for term in terms):
                yield e

    def _never(self, b: int, side: int) -> NDArray[np.bool_]:
        """Return for each part of a side whether a term has a conclusion that is never drawn."""
        count = len(self._system.blocks[b].sides[side].alone)
        return np.array(
            [
                any(
                    self._signs.blame(at_most(*term)) is None
                    for term in self._rows.terms(b, side, part)
                )
                for part in range(count)
            ]
        )

    def _decide(self, e: Scalar) -> _Found | None:
        """Return what is known of a scalar, None if it is free or undecided."""
        column = [v for v in self._rows.column(e) if not self._zero[v]]
        if not column:
            return None
        if not self._sign[column[0]]:
            return self._by_program(e)
        best = None
        for side in (1, -1):
            if self._rows.extra[e.block] < 0 and self._proved[side][self._rows.row_of(e)]:
                continue
            cut = self._cuts.decide(e, side)
            if cut is not None and cut.high >= 0:
                coefficients = tuple(Fraction(a, cut.size) for a in cut.coefficients)
                square = Fraction(cut.least, cut.size)
                one = _Found(cut.low > 0, square, cut.nodes, coefficients)
                best = one if best is None else max(best, one, key=lambda f: f[:2])
        return best

    def _by_program(self, e: Scalar) -> _Found | None:
        self._remaining -= 1
        answer = self._programs.decide(e) if self._remaining >= 0 else None
        if answer is not None and answer.certificate is not None:
            one = answer.certificate
            square, slack = one.bound(self._whole), one.slack(self._slack)
            if square + slack >= 0:
                return _Found(square > slack, square, *one)
        if answer is None or not answer.free:
            self._undecided[self._system.blocks[e.block].tensor.name] += 1
        return None
