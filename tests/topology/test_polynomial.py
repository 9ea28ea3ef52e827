"""Products of powers of polynomials, against the same multiplied out one by one."""

import math
import time

import numpy as np
import pytest

import obstruction as ob
from obstruction import topology
from obstruction.topology.polynomial import PoincarePolynomial, product, sphere


def multiplied(factors):
    found = np.array([1], dtype=object)
    for terms, n in factors:
        dense = np.zeros(terms[-1][0] + 1, dtype=object)
        for degree, number in terms:
            dense[degree] = number
        for _ in range(n):
            found = np.convolve(found, dense)
    return found.tolist()


def random_factors(rng):
    factors = []
    for _ in range(rng.integers(0, 5)):
        degrees = np.unique(np.append(0, rng.integers(1, 9, rng.integers(0, 4)))).tolist()
        terms = tuple((degree, int(rng.integers(1, 6))) for degree in degrees)
        factors.append((terms, int(rng.integers(0, 6))))
    return factors


def test_products_of_any_polynomials_are_those_multiplied_out():
    rng = np.random.default_rng(1)
    lengths = set()
    for _ in range(300):
        factors = random_factors(rng)
        expected, found = multiplied(factors), product(factors)
        assert found.dense() == expected
        assert list(found.items()) == [(k, b) for k, b in enumerate(expected) if b]
        assert [found.betti(k) for k in range(len(expected) + 2)] == [*expected, 0, 0]
        assert found.degree == len(expected) - 1
        assert found.total == sum(expected) == found(1)
        assert found(-1) == sum((-1) ** k * b for k, b in enumerate(expected))
        lengths.add(len(found.factors))
    assert lengths >= {0, 1, 2, 3, 4}


def test_products_do_not_depend_on_the_order_of_their_factors():
    rng = np.random.default_rng(2)
    for _ in range(50):
        factors = random_factors(rng)
        one, two = product(factors[:2]), product(factors[2:])
        assert one * two == two * one == product(factors[::-1])
        assert str(one * two) == str(product(factors))


def test_large_powers_take_no_time():
    large = 10**9
    start = time.process_time()
    found = topology.poincare_polynomial(d=3, l_pos=large, l_neg=0)
    assert (found.betti(0), found.betti(2), found.betti(4)) == (1, large, math.comb(large, 2))
    assert found.degree == 2 * large
    mixed = product([(((0, 1), (1, 2), (3, 1)), large), (sphere(2), large)])
    assert [mixed.betti(k) for k in range(3)] == [1, 2 * large, 4 * math.comb(large, 2) + large]
    assert topology.poincare_polynomial(d=1, l_pos=10**7, l_neg=10**7).total == 1 << 2 * 10**7
    assert time.process_time() - start < 2.0  # 0.01 s


def test_there_is_one_class():
    assert ob.dag.PoincarePolynomial is topology.PoincarePolynomial is PoincarePolynomial
    with pytest.raises(ValueError, match=r"^k = -1: must be a whole number of at least 0$"):
        topology.poincare_polynomial(2, 1, 1).betti(-1)
