"""Poincare polynomials as products, with exact integers of any size."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from operator import itemgetter
from typing import Any, Final, TypeAlias

from obstruction.tools.checks import check_count

LONGEST: Final = 10**7
"""The largest length of a dense list of coefficients."""

Terms: TypeAlias = tuple[tuple[int, int], ...]
"""Pairs of a degree and its coefficient by ascending degree, which starts at 0."""

Factor: TypeAlias = tuple[Terms, int]
"""A polynomial and the power to which it is raised."""


@dataclass(frozen=True)
class PoincarePolynomial:
    """The polynomial whose coefficients are the Betti numbers of an invariant set.

    It is stored as a product, which needs little memory for any number of neurons. Products of the
    same factors are equal. `obstruction.topology.poincare_polynomial`,
    `obstruction.topology.hyperquadric` and `obstruction.dag.poincare_polynomial` create
    polynomials.

    Attributes
    ----------
    factors : tuple of (tuple of (int, int), int)
        Pairs ``(terms, n)``, each for the n-th power of a polynomial. The terms of this polynomial
        are pairs of a degree and a nonzero coefficient, by ascending degree.

    Examples
    --------
    >>> from obstruction import topology
    >>> p = topology.poincare_polynomial(d=3, l_pos=2, l_neg=1)
    >>> print(p)
    2 (1 + t^2)^2
    >>> p.sparse(), p.dense(), p.total
    ({0: 2, 2: 4, 4: 2}, [2, 0, 4, 0, 2], 8)
    >>> p.factors
    ((((0, 2),), 1), (((0, 1), (2, 1)), 2))
    """

    factors: tuple[Factor, ...]

    @property
    def degree(self) -> int:
        """The largest degree with a Betti number above 0."""
        return sum(terms[-1][0] * n for terms, n in self.factors)

    @property
    def total(self) -> int:
        """The sum of all Betti numbers."""
        return _raised(*((sum(number for _, number in terms), n) for terms, n in self.factors))

    def betti(self, k: int) -> int:
        """Return the k-th Betti number, which is 0 beyond the degree.

        Raises
        ------
        ValueError
            If ``k`` is not a whole number >= 0.
        """
        k = check_count("k", k, least=0)
        if not self.factors:
            return int(k == 0)
        # The longest factor is not multiplied out, since few of its coefficients are needed.
        *others, (terms, n) = sorted(self.factors, key=lambda factor: _length(factor, k))
        if len(terms) == 2:
            return sum(
                number * _binomial_term(terms, n, k - degree)
                for degree, number in _expanded(others, k)
            )
        last = dict(_power(terms, n, k))
        return sum(number * last.get(k - degree, 0) for degree, number in _expanded(others, k))

    def items(self) -> Iterator[tuple[int, int]]:
        """Yield pairs of a degree and its Betti number, if that is not 0, by ascending degree.

        Large polynomials have millions of pairs, and the numbers have thousands of digits. They are
        computed one at a time.
        """
        yield from _expanded(self.factors, self.degree)

    def sparse(self) -> dict[int, int]:
        """Return the Betti numbers that are not 0, by degree."""
        return dict(self.items())

    def dense(self) -> list[int]:
        """Return the Betti numbers from degree 0 to the last that is not 0.

        Raises
        ------
        ValueError
            If there are more than ten million. `sparse` and `items` omit the zeros.
        """
        if self.degree >= LONGEST:
            raise ValueError(
                f"degree = {self.degree:,}: a dense list is made below {LONGEST:,}, "
                "use sparse() or items()"
            )
        found = [0] * (self.degree + 1)
        for k, number in self.items():
            found[k] = number
        return found

    def __call__(self, t: Any) -> Any:
        """Return the value at ``t``, which at -1 is the Euler characteristic."""
        return math.prod(
            sum(number * t**k for k, number in terms) ** n for terms, n in self.factors
        )

    def __mul__(self, other: PoincarePolynomial) -> PoincarePolynomial:
        """Return the polynomial of the product of two spaces (Kuenneth's formula)."""
        return product([*self.factors, *other.factors])

    def __str__(self) -> str:
        """Return the product as text, such as ``2 (1 + t^2)^2``."""
        words = []
        for terms, n in self.factors:
            parts = [_written(*term) for term in terms]
            word = parts[0] if len(parts) == 1 else f"({' + '.join(parts)})"
            words.append(word if n == 1 else f"{word}^{n}")
        return " ".join(words) or "1"


def product(factors: Iterable[Factor]) -> PoincarePolynomial:
    """Return the product of powers of polynomials, with equal factors joined and sorted."""
    powers: Counter[Terms] = Counter()
    for terms, n in factors:
        powers[terms] += n
    return PoincarePolynomial(tuple(sorted((+powers).items(), key=_order)))


def sphere(dimension: int) -> Terms:
    """Return the terms of a sphere's polynomial, ``1 + t^dimension``."""
    return ((0, 1), (dimension, 1)) if dimension else ((0, 2),)


def _order(factor: Factor) -> tuple[int, list[tuple[int, int]]]:
    """Return the sort key of a factor: its degree, then its coefficients from degree 0 on."""
    terms, _ = factor
    return terms[-1][0], [(-k, number) for k, number in terms]


def _expanded(factors: Sequence[Factor], most: int) -> Iterator[tuple[int, int]]:
    """Yield the terms of a product up to a degree, ascending, and the last product lazily."""
    found = iter([(0, 1)])
    for terms, n in factors:
        both = _times(list(found), _power(terms, n, most))
        found = takewhile(lambda term: term[0] <= most, both)
    return found


def _times(one: list[tuple[int, int]], two: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the terms of a product of two polynomials, ascending."""
    # Each term of the shorter polynomial gives an ascending stream, and the streams are merged.
    shorter, longer = sorted((one, two), key=len)
    streams = [_shifted(longer, degree, number) for degree, number in shorter]
    for k, same in groupby(heapq.merge(*streams, key=itemgetter(0)), key=itemgetter(0)):
        yield k, sum(number for _, number in same)


def _shifted(terms: list[tuple[int, int]], degree: int, factor: int) -> Iterator[tuple[int, int]]:
    return ((degree + k, factor * number) for k, number in terms)


def _power(terms: Terms, n: int, most: int) -> list[tuple[int, int]]:
    """Return the terms of the n-th power of a polynomial up to a degree.

    With ``q = p^n`` the identity ``p q' = n p' q`` gives each coefficient from those before
    (J. C. P. Miller's recurrence; for ``p = 1 + t`` that of the binomial coefficients).
    """
    (_, first), *others = terms
    step = math.gcd(*(degree for degree, _ in others)) or 1
    others = [(degree // step, number) for degree, number in others]
    row = [_raised((first, n))]
    for k in range(1, min(n * terms[-1][0], most) // step + 1):
        total = sum(((n + 1) * j - k) * number * row[k - j] for j, number in others if j <= k)
        row.append(total // (k * first))
    return [(step * k, number) for k, number in enumerate(row) if number]


def _binomial_term(terms: Terms, n: int, k: int) -> int:
    """Return the coefficient of ``t^k`` in the n-th power of a polynomial with two terms."""
    (_, first), (degree, second) = terms
    i, off = divmod(k, degree)
    return 0 if off or i > n else math.comb(n, i) * _raised((first, n - i), (second, i))


def _length(factor: Factor, most: int) -> int:
    """Return the approximate number of terms of the power up to a degree."""
    terms, n = factor
    degree = terms[-1][0]
    return min(n, most // degree) if degree else 0


def _raised(*powers: tuple[int, int]) -> int:
    """Return a product of powers of positive numbers, with powers of two as shifts."""
    odd, shift = 1, 0
    for number, n in powers:
        twos = (number & -number).bit_length() - 1
        odd, shift = odd * (number >> twos) ** n, shift + n * twos
    return odd << shift


def _written(degree: int, number: int) -> str:
    power = "" if degree == 0 else "t" if degree == 1 else f"t^{degree}"
    return power if power and number == 1 else f"{number} {power}".strip()
