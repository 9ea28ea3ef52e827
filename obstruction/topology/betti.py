"""Betti numbers of the invariant set, exact whatever its size, and how many pieces it has."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from obstruction.tools.checks import LARGEST_SIZE, check_count
from obstruction.topology.parameters import check_array, check_flag

LONGEST: Final = 10**7
"""The most coefficients that a dense list may have."""


@dataclass(frozen=True)
class PoincarePolynomial:
    """The polynomial whose coefficients are the Betti numbers of an invariant set.

    It is kept as a product, so it takes no room however many neurons there are, and equal
    polynomials are equal objects. `poincare_polynomial` and `hyperquadric` make them.

    Attributes
    ----------
    factors : tuple of (int, int)
        Pairs ``(s, n)``, ascending in ``s``, each standing for ``(1 + t^s)^n`` with ``n > 0``.

    Examples
    --------
    >>> p = poincare_polynomial(d=3, l_pos=2, l_neg=1)
    >>> print(p)
    2 (1 + t^2)^2
    >>> p.sparse(), p.dense(), p.total
    ({0: 2, 2: 4, 4: 2}, [2, 0, 4, 0, 2], 8)
    """

    factors: tuple[tuple[int, int], ...]

    @property
    def degree(self) -> int:
        """The largest degree with a Betti number above 0."""
        return sum(s * n for s, n in self.factors)

    @property
    def total(self) -> int:
        """The sum of all Betti numbers, ``2^(l_pos + l_neg)``."""
        return 1 << sum(n for _, n in self.factors)

    def betti(self, k: int) -> int:
        """Return the k-th Betti number, 0 beyond the degree.

        Raises
        ------
        ValueError
            If ``k`` is not a whole number >= 0.
        """
        return _coefficient(check_count("k", k, least=0), self.factors)

    def items(self) -> Iterator[tuple[int, int]]:
        """Yield the degrees whose Betti number is not 0, ascending, each with that number.

        Large polynomials have millions of them, with thousands of digits each; they are made as
        they are asked for.
        """
        terms = [(0, 1)]
        for s, n in self.factors[:-1]:
            terms = list(_times(terms, s, n))
        last = self.factors[-1:]
        yield from _times(terms, *last[0]) if last else terms

    def sparse(self) -> dict[int, int]:
        """Return the Betti numbers that are not 0, by degree."""
        return dict(self.items())

    def dense(self) -> list[int]:
        """Return the Betti numbers from degree 0 to the last that is not 0.

        Raises
        ------
        ValueError
            If there are more than ten million; `sparse` and `items` leave the zeros out.
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
        """Return the value at ``t``; at -1 it is the Euler characteristic."""
        return math.prod((1 + t**s) ** n for s, n in self.factors)

    def __mul__(self, other: PoincarePolynomial) -> PoincarePolynomial:
        """Return the polynomial of the product of two spaces (Kuenneth's formula)."""
        return _product(*self.factors, *other.factors)

    def __str__(self) -> str:
        """Return the product as one writes it."""
        words = []
        for s, n in self.factors:
            base = "2" if s == 0 else "(1 + t)" if s == 1 else f"(1 + t^{s})"
            words.append(base if n == 1 else f"{base}^{n}")
        return " ".join(words) or "1"


def _product(*factors: tuple[int, int]) -> PoincarePolynomial:
    """Return a product of ``(1 + t^s)^n``, equal powers together, so that it is written one way."""
    powers: dict[int, int] = {}
    for s, n in factors:
        powers[s] = powers.get(s, 0) + n
    return PoincarePolynomial(tuple((s, powers[s]) for s in sorted(powers) if powers[s]))


def _times(terms: list[tuple[int, int]], s: int, n: int) -> Iterator[tuple[int, int]]:
    """Yield the terms of a polynomial times ``(1 + t^s)^n``, ascending."""
    if s == 0:
        yield from ((k, number << n) for k, number in terms)
        return
    row = _binomials(n)
    # One ascending stream for each term of the shorter factor, merged as they are asked for.
    if len(terms) <= len(row):
        powers = list(enumerate(row))
        streams = [_shifted(powers, s, k, number) for k, number in terms]
    else:
        streams = [_shifted(terms, 1, s * j, number) for j, number in enumerate(row)]
    for k, same in groupby(heapq.merge(*streams, key=itemgetter(0)), key=itemgetter(0)):
        yield k, sum(number for _, number in same)


def _shifted(
    terms: list[tuple[int, int]], step: int, shift: int, factor: int
) -> Iterator[tuple[int, int]]:
    return ((step * k + shift, factor * number) for k, number in terms)


def _binomials(n: int) -> list[int]:
    row = [1]
    for k in range(n):
        row.append(row[-1] * (n - k) // (k + 1))
    return row


def _coefficient(k: int, factors: tuple[tuple[int, int], ...]) -> int:
    if not factors:
        return int(k == 0)
    (s, n), rest = factors[0], factors[1:]
    if s == 0:
        return _coefficient(k, rest) << n
    if not rest:
        return math.comb(n, k // s) if k % s == 0 else 0
    found = 0
    for i in range(min(n, k // s) + 1):
        other = _coefficient(k - s * i, rest)
        if other:
            found += math.comb(n, i) * other
    return found


def poincare_polynomial(
    d: int, l_pos: int, l_neg: int, e: int = 1, hidden_bias: bool = False
) -> PoincarePolynomial:
    """Return the Poincare polynomial of the invariant set.

    Parameters
    ----------
    d : int
        Inputs, >= 1.
    l_pos, l_neg : int
        Neurons with positive and with negative balance, >= 0; those with balance zero have no
        influence.
    e : int
        Outputs, >= 1.
    hidden_bias : bool
        Whether the hidden neurons have biases, which act as one more input.

    Returns
    -------
    PoincarePolynomial
        ``(1 + t^(d'-1))^l_pos (1 + t^(e-1))^l_neg``, ``d' = d + 1`` with biases, else ``d``.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Nurisso et al. 2024, Thm. 1; with biases Prop. 6.

    Examples
    --------
    >>> poincare_polynomial(d=2, l_pos=1, l_neg=2, e=3).dense()  # (1 + t)(1 + t^2)^2
    [1, 1, 2, 2, 1, 1]
    """
    width, l_pos, l_neg, e = _sizes(d, l_pos, l_neg, e, hidden_bias)
    return _product((width - 1, l_pos), (e - 1, l_neg))


def betti(k: int, d: int, l_pos: int, l_neg: int, e: int = 1, hidden_bias: bool = False) -> int:
    """Return the k-th Betti number of the invariant set, the number of its k-dimensional holes.

    Parameters
    ----------
    k : int
        The dimension, >= 0.
    d, l_pos, l_neg, e, hidden_bias
        As in `poincare_polynomial`.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Nurisso et al. 2024, Thm. 1 and Prop. 6.

    Examples
    --------
    >>> [betti(k, d=2, l_pos=3, l_neg=1) for k in range(4)]
    [2, 6, 6, 2]
    """
    return poincare_polynomial(d, l_pos, l_neg, e, hidden_bias).betti(k)


def components(d: int, l_pos: int, l_neg: int, e: int = 1, hidden_bias: bool = False) -> int:
    """Return the number of connected components of the invariant set.

    Parameters
    ----------
    d, l_pos, l_neg, e, hidden_bias
        As in `poincare_polynomial`.

    Returns
    -------
    int
        A factor 2 for every negative balance if there is one output, and for every positive one if
        there is one input and no bias; 1 otherwise.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Nurisso et al. 2024, Cor. 1 and 2; with biases Cor. 4.

    Examples
    --------
    >>> components(10, l_pos=5, l_neg=3), components(1, l_pos=5, l_neg=3, e=2)
    (8, 32)
    >>> components(1, l_pos=5, l_neg=3, hidden_bias=True)
    8
    """
    width, l_pos, l_neg, e = _sizes(d, l_pos, l_neg, e, hidden_bias)
    return 1 << (l_pos * (width == 1) + l_neg * (e == 1))


def effective_components(
    d: int, l_pos: int, l_neg: int, e: int = 1, hidden_bias: bool = False
) -> int:
    """Return the number of components up to rescaling and permutation of the neurons.

    Parameters
    ----------
    d, l_pos, l_neg, e, hidden_bias
        As in `poincare_polynomial`.

    Returns
    -------
    int
        A factor ``l_neg + 1`` if there is one output, and ``l_pos + 1`` if there is one input and
        no bias; 1 otherwise.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Nurisso et al. 2024, Cor. 3, for one output and ``d' > 1``; the factor for one input is our
    extension.

    Examples
    --------
    >>> effective_components(10, l_pos=5, l_neg=3), effective_components(1, l_pos=5, l_neg=3)
    (4, 24)
    """
    width, l_pos, l_neg, e = _sizes(d, l_pos, l_neg, e, hidden_bias)
    return (l_pos * (width == 1) + 1) * (l_neg * (e == 1) + 1)


@dataclass(frozen=True)
class Hyperquadric:
    """The set of a neuron's parameters that have one balance.

    Attributes
    ----------
    sign : int
        The sign of the balance.
    dimension : int
        Its dimension, ``d' + e - 1``.
    sphere, euclidean : int or None
        It is homeomorphic to a sphere of dimension `sphere` times a Euclidean space of dimension
        `euclidean`; None for balance zero, where it is a cone: contractible, and no manifold at
        its tip, the neuron with all weights zero.
    polynomial : PoincarePolynomial
        Its Betti numbers.
    """

    sign: int
    dimension: int
    sphere: int | None
    euclidean: int | None
    polynomial: PoincarePolynomial

    def __str__(self) -> str:
        """Return what it is homeomorphic to, or that it is contractible."""
        if self.sphere is None:
            return "a contractible cone"
        return f"S^{self.sphere} x R^{self.euclidean}"


def hyperquadric(c: float, d: int, e: int = 1, hidden_bias: bool = False) -> Hyperquadric:
    """Return the shape of the set of a neuron's parameters with balance ``c``.

    Parameters
    ----------
    c : float
        The balance, finite.
    d, e : int
        Inputs and outputs, >= 1.
    hidden_bias : bool
        Whether the neuron has a bias.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Nurisso et al. 2024, Prop. 2; with biases Prop. 5.

    Examples
    --------
    >>> print(hyperquadric(1.0, d=2), hyperquadric(-1.0, d=2), sep=", ")  # one sheet and two
    S^1 x R^1, S^0 x R^2
    >>> hyperquadric(-1.0, d=2).polynomial.dense()
    [2]
    """
    width, _, _, e = _sizes(d, 0, 0, e, hidden_bias)
    number = float(check_array("c", c, 0, "a number"))
    sign = (number > 0.0) - (number < 0.0)
    if sign == 0:
        return Hyperquadric(0, width + e - 1, None, None, _product())
    sphere, euclidean = (width - 1, e) if sign > 0 else (e - 1, width)
    return Hyperquadric(sign, width + e - 1, sphere, euclidean, _product((sphere, 1)))


def _sizes(d: int, l_pos: int, l_neg: int, e: int, hidden_bias: bool) -> tuple[int, int, int, int]:
    """Return ``d'``, ``l_pos``, ``l_neg`` and ``e``, checked."""
    width = check_count("d", d, most=LARGEST_SIZE) + check_flag("hidden_bias", hidden_bias)
    l_pos = check_count("l_pos", l_pos, least=0, most=LARGEST_SIZE)
    l_neg = check_count("l_neg", l_neg, least=0, most=LARGEST_SIZE)
    return width, l_pos, l_neg, check_count("e", e, most=LARGEST_SIZE)
