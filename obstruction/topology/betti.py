"""Betti numbers of the invariant set, exact whatever its size, and how many pieces it has."""

from __future__ import annotations

from dataclasses import dataclass

from obstruction.tools.checks import LARGEST_SIZE, check_count
from obstruction.topology.parameters import check_array, check_flag
from obstruction.topology.polynomial import PoincarePolynomial, product, sphere


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
    return product([(sphere(width - 1), l_pos), (sphere(e - 1), l_neg)])


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
        return Hyperquadric(0, width + e - 1, None, None, product([]))
    dimension, euclidean = (width - 1, e) if sign > 0 else (e - 1, width)
    polynomial = product([(sphere(dimension), 1)])
    return Hyperquadric(sign, width + e - 1, dimension, euclidean, polynomial)


def _sizes(d: int, l_pos: int, l_neg: int, e: int, hidden_bias: bool) -> tuple[int, int, int, int]:
    """Return ``d'``, ``l_pos``, ``l_neg`` and ``e``, checked."""
    width = check_count("d", d, most=LARGEST_SIZE) + check_flag("hidden_bias", hidden_bias)
    l_pos = check_count("l_pos", l_pos, least=0, most=LARGEST_SIZE)
    l_neg = check_count("l_neg", l_neg, least=0, most=LARGEST_SIZE)
    return width, l_pos, l_neg, check_count("e", e, most=LARGEST_SIZE)
