"""The exact Betti numbers of the invariant set, and the numbers of its components."""

from __future__ import annotations

from dataclasses import dataclass

from obstruction.tools.checks import LARGEST_SIZE, check_count, check_flag
from obstruction.topology.parameters import check_array
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
        Neurons with positive and with negative balance, >= 0. Neurons with balance zero do not
        change the polynomial.
    e : int
        Outputs, >= 1.
    hidden_bias : bool
        Whether the hidden neurons have biases, which act as one more input.

    Returns
    -------
    PoincarePolynomial
        ``(1 + t^(d'-1))^l_pos (1 + t^(e-1))^l_neg``, where ``d'`` is ``d + 1`` with biases and
        ``d`` without.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Nurisso et al. 2024, Thm. 1, and Prop. 6 with biases.

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
        A power of two: each negative balance doubles the number if there is one output, and each
        positive balance doubles it if there is one input and no bias.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Nurisso et al. 2024, Cor. 1 and 2, and Cor. 4 with biases.

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
        The product of ``l_neg + 1`` if there is one output, and of ``l_pos + 1`` if there is one
        input and no bias.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Nurisso et al. 2024, Cor. 3, for one output and ``d' > 1``. The factor for one input is an
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
    """The set of all parameters of a neuron with a given balance.

    Attributes
    ----------
    sign : int
        The sign of the balance.
    dimension : int
        The dimension of the set, ``d' + e - 1``.
    sphere, euclidean : int or None
        The set is homeomorphic to a sphere of dimension `sphere` times a Euclidean space of
        dimension `euclidean`. Both are None for balance zero: the set is then a contractible cone,
        which is not a manifold at its tip, the neuron with all weights zero.
    polynomial : PoincarePolynomial
        The Poincare polynomial of the set.
    """

    sign: int
    dimension: int
    sphere: int | None
    euclidean: int | None
    polynomial: PoincarePolynomial

    def __str__(self) -> str:
        """Return the space to which the set is homeomorphic, or that it is a cone."""
        if self.sphere is None:
            return "a contractible cone"
        return f"S^{self.sphere} x R^{self.euclidean}"


def hyperquadric(c: float, d: int, e: int = 1, hidden_bias: bool = False) -> Hyperquadric:
    """Return the shape of the set of all parameters of a neuron with balance ``c``.

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
    Nurisso et al. 2024, Prop. 2, and Prop. 5 with biases.

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
    """Check the sizes and return ``d'``, ``l_pos``, ``l_neg`` and ``e``."""
    width = check_count("d", d, most=LARGEST_SIZE) + check_flag("hidden_bias", hidden_bias)
    l_pos = check_count("l_pos", l_pos, least=0, most=LARGEST_SIZE)
    l_neg = check_count("l_neg", l_neg, least=0, most=LARGEST_SIZE)
    return width, l_pos, l_neg, check_count("e", e, most=LARGEST_SIZE)
