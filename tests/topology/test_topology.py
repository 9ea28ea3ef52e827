"""Topology of the invariant set: known cases by hand, definitions by brute force, paths."""

import itertools
import math
import re
import subprocess
import sys

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obstruction import topology as top

SIZES = [(d, e, bias) for d, e in itertools.product((1, 3), (1, 2)) for bias in (False, True)]


def network(rng, l, d, e, bias, spread=1.0):
    scale = 10.0 ** rng.uniform(-spread, spread, (l, 2))
    W1 = rng.standard_normal((l, d)) * scale[:, :1]
    W2 = rng.standard_normal((e, l)) * scale[:, 1]
    return top.Parameters(W1, W2, rng.standard_normal(l) * scale[:, 0] if bias else None)


def size_of(theta):
    return (theta.incoming**2).sum(axis=1) + (theta.outgoing**2).sum(axis=1)


def balances_of(theta):
    return top.balances(*theta)


def transformed(theta, f, argument):
    return f(theta.W1, theta.W2, argument, theta.b1)


networks = st.builds(
    lambda seed, l, size: network(np.random.default_rng(seed), l, *size),
    st.integers(0, 2**32 - 1),
    st.integers(1, 7),
    st.sampled_from(SIZES),
)


# --- balances and neurons: Eq. 11, 28, Prop. 1, Lemma 1 -------------------------------------


def test_balances_by_hand():
    W1, W2, b1 = [[3.0, 4.0], [0.0, 1.0]], [[1.0, 2.0], [2.0, 2.0]], [2.0, 1.0]
    assert top.balances(W1, W2).tolist() == [25.0 - 5.0, 1.0 - 8.0]
    assert top.balances(W1, W2, b1).tolist() == [29.0 - 5.0, 2.0 - 8.0]
    assert top.balances(np.float16(W1), np.int8(W2), np.float32(b1)).tolist() == [24.0, -6.0]


def test_balances_are_float64_to_the_last_digits():
    """Float32 weights near balance: their squares are exact in float64, the sign is right."""
    rng = np.random.default_rng(0)
    W1 = rng.standard_normal((50, 300)).astype(np.float32)
    W2 = np.sqrt((W1.astype(float) ** 2).sum(axis=1)).astype(np.float32)[None]
    with mp.workdps(60):
        exact = [
            mp.fsum(mp.mpf(float(w)) ** 2 for w in row) - mp.mpf(float(v)) ** 2
            for row, v in zip(W1, W2[0], strict=True)
        ]
        off = [abs(c - x) for c, x in zip(top.balances(W1, W2), exact, strict=True)]
        assert max(off) < 600 * 4e-16
        assert max(map(abs, exact)) < 1e-3


def test_sign_counts():
    c = [1.0, -2.0, 0.0, 0.5, -0.5]
    assert top.sign_counts(c) == (2, 2, 1)
    assert top.sign_counts(c, tolerance=0.5) == (1, 1, 3)
    assert top.sign_counts(c, tolerance=[2, 0, 0, 0, 1]) == (1, 1, 3)
    assert all(type(n) is int for n in top.sign_counts(c))


@settings(max_examples=30)
@given(networks)
def test_neurons_are_all_there_is(theta):
    """Prop. 1: the parameters are the direct sum of the neurons' parameters."""
    rows = top.neurons(*theta)
    bias = theta.b1 is not None
    (l, d), e = theta.W1.shape, theta.W2.shape[0]
    assert rows.shape == (l, d + bias + e)
    back = top.from_neurons(rows, d, e, bias)
    for one, two in zip(theta, back, strict=True):
        np.testing.assert_array_equal(one, two)
    rows[0] += 1.0  # one neuron moves, the others stay
    moved = top.from_neurons(rows, d, e, bias)
    np.testing.assert_array_equal(balances_of(moved)[1:], balances_of(theta)[1:])


@settings(max_examples=30)
@given(networks, st.integers(0, 2**32 - 1))
def test_the_invariant_set_is_a_product(theta, seed):
    """Lemma 1: neurons of two points on H(c), mixed at will, are a point on H(c)."""
    rng = np.random.default_rng(seed)
    (l, d), e, bias = theta.W1.shape, theta.W2.shape[0], theta.b1 is not None
    c = balances_of(theta)
    other = transformed(network(rng, l, d, e, bias), top.rescale_to_balance, c)
    mask = rng.random(l) < 0.5
    rows = np.where(mask[:, None], top.neurons(*theta), top.neurons(*other))
    assert top.in_invariant_set(top.from_neurons(rows, d, e, bias), c)
    assert not top.in_invariant_set(theta, c + size_of(theta) * 1e-6)
    product = top.PoincarePolynomial(())
    for number in c:
        product *= top.hyperquadric(number, d, e, bias).polynomial
    counts = top.sign_counts(c)
    assert product == top.poincare_polynomial(d, counts.l_pos, counts.l_neg, e, bias)


# --- Betti numbers: Prop. 2, 5, 6, Thm. 1, Cor. 1 to 4 ----------------------------------------


@pytest.mark.parametrize(
    ("c", "d", "e", "bias", "words", "numbers"),
    [
        (1.0, 2, 1, False, "S^1 x R^1", [1, 1]),  # one sheet
        (-1.0, 2, 1, False, "S^0 x R^2", [2]),  # two sheets
        (1.0, 1, 1, False, "S^0 x R^1", [2]),  # a hyperbola
        (1.0, 1, 1, True, "S^1 x R^1", [1, 1]),
        (-1.0, 1, 1, True, "S^0 x R^2", [2]),
        (-3.0, 4, 3, False, "S^2 x R^4", [1, 0, 1]),
        (3.0, 4, 3, True, "S^4 x R^3", [1, 0, 0, 0, 1]),
        (0.0, 4, 3, True, "a contractible cone", [1]),
        (0.0, 1, 1, False, "a contractible cone", [1]),  # two lines that cross
    ],
)
def test_hyperquadrics_by_hand(c, d, e, bias, words, numbers):
    quadric = top.hyperquadric(c, d, e, bias)
    assert str(quadric) == words
    assert quadric.polynomial.dense() == numbers
    assert quadric.dimension == d + bias + e - 1
    if c:
        assert quadric.sphere + quadric.euclidean == quadric.dimension


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        ((2, 1, 0), [1, 1]),
        ((2, 2, 0), [1, 2, 1]),  # a torus
        ((2, 0, 2), [4]),
        ((3, 2, 1), [2, 0, 4, 0, 2]),
        ((1, 2, 3), [32]),
        ((1, 2, 3, 1, True), [8, 16, 8]),
        ((1, 2, 3, 2), [4, 12, 12, 4]),
        ((2, 1, 1, 3), [1, 1, 1, 1]),  # (1 + t)(1 + t^2)
        ((3, 1, 1, 4), [1, 0, 1, 1, 0, 1]),  # (1 + t^2)(1 + t^3)
        ((2, 0, 2, 3, True), [1, 0, 2, 0, 1]),
        ((5, 0, 0), [1]),
    ],
)
def test_polynomials_by_hand(arguments, numbers):
    p = top.poincare_polynomial(*arguments)
    assert p.dense() == numbers
    assert p.sparse() == {k: n for k, n in enumerate(numbers) if n}
    assert [top.betti(k, *arguments) for k in range(len(numbers) + 3)] == [*numbers, 0, 0, 0]
    assert top.components(*arguments) == numbers[0]
    assert p.degree == len(numbers) - 1


@pytest.mark.parametrize(("d", "e", "bias"), SIZES)
def test_polynomials_are_products_multiplied_out(d, e, bias):
    width = d + bias
    for l_pos, l_neg in itertools.product(range(5), repeat=2):
        expected = np.array([1], dtype=object)
        for degree, count in ((width - 1, l_pos), (e - 1, l_neg)):
            sphere = np.zeros(degree + 1, dtype=object)
            sphere[0] += 1
            sphere[-1] += 1
            for _ in range(count):
                expected = np.convolve(expected, sphere)
        p = top.poincare_polynomial(d, l_pos, l_neg, e, bias)
        assert p.dense() == expected.tolist()
        assert p.total == sum(p.dense()) == p(1) == 2 ** (l_pos + l_neg)
        assert [p.betti(k) for k in range(p.degree + 1)] == p.dense()
        euler = sum((-1) ** k * n for k, n in enumerate(p.dense()))
        assert p(-1) == euler
        assert list(p.items()) == sorted(p.sparse().items())


def test_thousands_of_neurons():
    p = top.poincare_polynomial(d=1000, l_pos=3000, l_neg=2000)
    assert p.betti(0) == 2**2000 == top.components(1000, 3000, 2000)
    assert p.betti(999 * 1500) == math.comb(3000, 1500) << 2000
    assert p.betti(998) == 0
    found = p.sparse()
    assert len(found) == 3001
    assert sum(found.values()) == p.total == 2**5000
    with pytest.raises(ValueError, match=r"^degree = 19,980,000: a dense list is made below"):
        top.poincare_polynomial(d=1000, l_pos=20_000, l_neg=0).dense()
    both = top.poincare_polynomial(d=1001, l_pos=4000, l_neg=4000, e=12)
    first = list(itertools.islice(both.items(), 3))  # without making all 16 million
    assert first == [(0, 1), (11, 4000), (22, math.comb(4000, 2))]
    assert both.betti(11_000) == sum(
        math.comb(4000, i) * math.comb(4000, (11_000 - 1000 * i) // 11)
        for i in range(12)
        if (11_000 - 1000 * i) % 11 == 0
    )
    square = top.poincare_polynomial(d=2, l_pos=300, l_neg=200, e=2)
    assert square.dense() == [math.comb(500, k) for k in range(501)]
    mixed = top.poincare_polynomial(d=2, l_pos=300, l_neg=200, e=3)
    assert sum(mixed.dense()) == 2**500
    for k in (0, 1, 137, 350, 699, 700):
        assert mixed.betti(k) == mixed.dense()[k]


def test_components_by_hand():
    """Cor. 1, 2 and 4; Cor. 3."""
    assert top.components(2, 5, 3) == 8
    assert top.components(1, 5, 3) == 2**8
    assert top.components(1, 5, 3, hidden_bias=True) == 8
    assert top.components(1, 5, 3, e=2) == 32
    assert top.components(2, 5, 3, e=2) == top.components(1, 5, 3, e=2, hidden_bias=True) == 1
    assert top.effective_components(2, 5, 3) == 4
    assert top.effective_components(2, 5, 3, e=2) == 1
    assert top.effective_components(1, 5, 3, hidden_bias=True) == 4
    assert top.components(2, 0, 10**5) == 2**100_000


def test_polynomials_are_values():
    one, two = top.poincare_polynomial(2, 3, 0, e=9), top.poincare_polynomial(9, 0, 3, e=2)
    assert one == two
    assert hash(one) == hash(two)
    assert one != top.poincare_polynomial(2, 3, 1, e=9)
    assert str(top.poincare_polynomial(2, 1, 0)) == "(1 + t)"
    assert str(top.poincare_polynomial(4, 3, 2)) == "2^2 (1 + t^3)^3"
    assert str(top.poincare_polynomial(4, 0, 0)) == "1"
    with pytest.raises(AttributeError):
        one.factors = ()


# --- labels: Prop. 3, Thm. 2 --------------------------------------------------------------------


def test_labels_by_hand():
    W1 = [[1.0], [-0.1], [0.5], [-4.0]]
    W2 = [[-0.5, 2.0, -0.5, -1.0]]  # balances +, -, 0, +
    label = top.component_label(W1, W2)
    assert (label.output_neurons, label.output_signs) == ((1,), (1,))
    assert (label.input_neurons, label.input_signs) == ((0, 3), (1, -1))
    assert label.effective == (1, 1, 2, 0)
    biased = top.component_label(W1, W2, [0.0] * 4)
    assert (biased.output_neurons, biased.input_neurons) == ((1,), ())
    two = top.component_label(W1, W2 + W2)
    assert (two.output_neurons, two.input_neurons) == ((), (0, 3))
    assert top.component_label(W1, W2, tolerance=4.0).output_neurons == ()
    assert top.component_label(W1, W2, tolerance=4.0).input_neurons == (3,)


@pytest.mark.parametrize(("d", "e", "bias"), SIZES)
def test_components_are_what_labels_tell_apart(d, e, bias):
    """As many labels as the formula counts; every sign pattern occurs."""
    rng = np.random.default_rng(1)
    c = np.array([2.0, -1.0, 0.0, 1.0, -3.0])
    thetas = [
        transformed(network(rng, 5, d, e, bias), top.rescale_to_balance, c) for _ in range(150)
    ]
    labels = {top.component_label(*theta, tolerance=1e-9) for theta in thetas}
    assert len(labels) == top.components(d, 2, 2, e, bias)
    effective = {label.effective for label in labels}
    assert len(effective) == top.effective_components(d, 2, 2, e, bias)
    for one, two in itertools.pairwise(thetas[:15]):
        same = top.component_label(*one, tolerance=1e-9) == top.component_label(
            *two, tolerance=1e-9
        )
        assert top.same_component(one, two) is same
        assert top.same_invariant_set(one, two)


@settings(max_examples=30)
@given(networks, st.integers(0, 2**32 - 1))
def test_rescaling_and_permutation_keep_what_they_must(theta, seed):
    """Signs are not changed by rescaling, and permutation only moves them."""
    rng = np.random.default_rng(seed)
    l = theta.W1.shape[0]
    order = rng.permutation(l)
    moved = transformed(theta, top.permute, order)
    np.testing.assert_array_equal(balances_of(moved), balances_of(theta)[order])
    assert top.sign_counts(balances_of(moved)) == top.sign_counts(balances_of(theta))
    assert top.component_label(*moved).effective == top.component_label(*theta).effective
    tiny = rng.uniform(0.999, 1.001, l)
    scaled = transformed(theta, top.rescale, tiny)
    if top.sign_counts(balances_of(theta)) == top.sign_counts(balances_of(scaled)):
        assert top.component_label(*scaled) == top.component_label(*theta)
    back = transformed(scaled, top.rescale_to_balance, balances_of(theta))
    assert top.same_component(back, theta)
    assert top.same_effective_component(back, theta)
    # Lemma 3: rescaling, then permuting, is permuting, then rescaling by the permuted factors
    alpha = 10.0 ** rng.uniform(-2, 2, l)
    one = transformed(transformed(theta, top.rescale, alpha), top.permute, order)
    two = transformed(moved, top.rescale, alpha[order])
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first, second)


def function(theta, x, slope):
    z = theta.W1 @ x + (0.0 if theta.b1 is None else theta.b1[:, None])
    return theta.W2 @ np.where(z > 0.0, z, slope * z)


@settings(max_examples=30)
@given(networks, st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.01, 0.5]))
def test_equivalent_parameters_encode_the_same_function(theta, seed, slope):
    rng = np.random.default_rng(seed)
    l, d = theta.W1.shape
    other = transformed(theta, top.rescale, 10.0 ** rng.uniform(-3, 3, l))
    other = transformed(other, top.permute, rng.permutation(l))
    assert top.observationally_equivalent(theta, other)
    assert top.observationally_equivalent(other, theta)
    x = rng.standard_normal((d, 20))
    y, size = function(theta, x, slope), (size_of(theta)).sum() * np.abs(x).max() * 10.0
    np.testing.assert_allclose(function(other, x, slope), y, rtol=0, atol=1e-12 * size)
    rows = top.neurons(*other)
    k = rng.integers(l)
    for changed in (-1.0, 1.001):
        rows_changed = rows.copy()
        rows_changed[k, : theta.incoming.shape[1]] *= changed
        third = top.from_neurons(rows_changed, d, theta.W2.shape[0], theta.b1 is not None)
        assert not top.observationally_equivalent(theta, third)


def sign_choices(sign, d, e, bias):
    """Neurons of given sign of balance: all signs of weights, some sides zero."""
    width = d + bias
    sides = []
    for n in (width, e):
        if n == 1:
            sides.append([np.array([1.0]), np.array([-1.0]), np.array([0.0])])
        else:
            sides.append([np.arange(1.0, n + 1), np.zeros(n)])
    for into, out in itertools.product(*sides):
        if (sign > 0 and not into.any()) or (sign < 0 and not out.any()):
            continue
        if sign == 0 and into.any() != out.any():
            continue
        yield into, out


@pytest.mark.parametrize(
    ("d", "e", "bias"), [(1, 1, False), (2, 1, False), (1, 1, True), (1, 2, False), (2, 2, False)]
)
@pytest.mark.parametrize(
    "signs",
    [
        (-1,),
        (-1, -1),
        (1, -1),
        (-1, -1, 0),
        pytest.param((1, 1, -1), marks=pytest.mark.slow),
        pytest.param((-1, -1, 1), marks=pytest.mark.slow),
    ],
)
def test_theorem_2_by_brute_force(d, e, bias, signs):
    """Effective components from their definition: all points, all permutations, Prop. 4.

    One component leads into another if for EVERY point of it some equivalent point is in the
    other. Points are represented by all signs of weights, and by sides that are zero.
    """
    l = len(signs)
    c = np.array([s * (k + 1.0) for k, s in enumerate(signs)])
    reached = {}  # label -> for each point of that component, the labels of its equivalents
    for choice in itertools.product(*(list(sign_choices(s, d, e, bias)) for s in signs)):
        factor = np.sqrt(np.arange(2.0, l + 2))  # no two neurons alike
        rows = np.array([np.concatenate(pair) for pair in choice]) * factor[:, None]
        theta = top.from_neurons(rows, d, e, bias)
        theta = transformed(theta, top.rescale_to_balance, c)
        label = top.component_label(*theta, tolerance=1e-9)
        labels = set()
        for order in itertools.permutations(range(l)):
            try:
                other = transformed(
                    transformed(theta, top.permute, order), top.rescale_to_balance, c
                )
            except ValueError:  # Prop. 4 excludes it
                continue
            assert top.observationally_equivalent(theta, other)
            labels.add(top.component_label(*other, tolerance=1e-9))
        reached.setdefault(label, []).append((theta, labels))
    l_pos, l_neg = signs.count(1), signs.count(-1)
    assert len(reached) == top.components(d, l_pos, l_neg, e, bias)
    classes = set()
    for one in reached:
        into = frozenset(two for two in reached if all(two in s for _, s in reached[one]))
        back = frozenset(two for two in reached if all(one in s for _, s in reached[two]))
        assert into == back
        assert one in into
        classes.add(into)
        for two in reached:
            pair = reached[one][0][0], reached[two][0][0]
            assert (two in into) is (one.effective == two.effective)
            assert top.same_effective_component(*pair) is (two in into)
            assert top.same_component(*pair) is (one == two)
    assert len(classes) == top.effective_components(d, l_pos, l_neg, e, bias)
    assert sum(map(len, classes)) == len(reached)


def test_a_single_point_may_have_equivalents_in_more_components():
    """Why "for every point" stands in Thm. 2: a free neuron of the other sign can swap places."""
    c = [-1.0, 1.0]
    theta = top.rescale_to_balance([[1.0, 2.0], [3.0, 4.0]], [[1.0, -1.0]], c)
    swapped = top.permute(theta.W1, theta.W2, [1, 0])
    other = top.rescale_to_balance(swapped.W1, swapped.W2, c)
    assert top.observationally_equivalent(theta, other)
    assert top.same_invariant_set(theta, other)
    assert not top.same_component(theta, other)
    assert not top.same_effective_component(theta, other)


def test_different_balances_are_different_sets():
    theta = [[1.0, 0.0]], [[2.0]]
    other = [[1.0, 0.0]], [[2.1]]
    for same in (top.same_invariant_set, top.same_component, top.same_effective_component):
        assert same(theta, theta) is True
        assert same(theta, other) is False
        assert same(theta, other, rtol=0.2) is True


def test_nearly_zero_balances_freeze_nothing():
    theta, other = ([[1.0, 0.0]], [[1.0 + 1e-12]]), ([[1.0, 0.0]], [[-1.0 - 1e-12]])
    assert top.same_component(theta, other)
    assert not top.same_component(theta, other, rtol=1e-13)


# --- rescaling to balances: Prop. 4 --------------------------------------------------------------


def exact_factor(A, B, c):
    """Eq. 23 in high precision."""
    with mp.workdps(400):
        A, B, c = mp.mpf(A), mp.mpf(B), mp.mpf(c)
        root = mp.sqrt(c * c + 4 * A * B)
        return mp.sqrt((c + root) / (2 * A) if c >= 0 else 2 * B / (root - c))


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_factors_against_many_digits(sign):
    rng = np.random.default_rng(2)
    a, b = 10.0 ** rng.uniform(-140, 140, (2, 500))
    c = sign * 10.0 ** rng.uniform(-250, 250, 500)
    found = top.rescaling_factors(a, b, c)
    for x, y, target, alpha in zip(a, b, c, found, strict=True):
        exact = exact_factor(mp.mpf(x) ** 2, mp.mpf(y) ** 2, target)
        assert abs(mp.mpf(alpha) / exact - 1) < 1e-15
    naive = [exact_factor(x * x, y * y, 0.0) for x, y in zip(a[:20], b[:20], strict=True)]
    np.testing.assert_allclose(
        top.rescaling_factors(a[:20], b[:20], 0.0), np.array(naive, dtype=float), rtol=1e-15
    )


@settings(max_examples=30)
@given(networks, st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-30.0, 30.0))
def test_any_target_is_reached(theta, sign, exponent):
    target = sign * 10.0**exponent
    new = transformed(theta, top.rescale_to_balance, target)
    off = np.abs(balances_of(new) - target) / size_of(new)
    assert off.max() < 2e-15
    assert top.in_invariant_set(new, target, rtol=2e-15)
    # the factor is the only one: back again, the parameters are what they were
    back = transformed(new, top.rescale_to_balance, balances_of(theta))
    tolerance = 1e-13 * (1.0 + abs(target) / np.sqrt(size_of(theta).min()))
    if tolerance < 1e-9:
        assert top.in_invariant_set(back, balances_of(theta), rtol=1e-12)
    for one, two in zip(new, theta, strict=True):
        if one is not None:  # signs stay
            np.testing.assert_array_equal(np.sign(one), np.sign(two))


def test_targets_where_the_ratio_only_just_overflows():
    for a, b, c in ((6e-64, 1.8e-84, -3.6e161), (6e-64, 1.8e-84, 3e161), (1e-154, 1e-154, 1.5)):
        alpha = top.rescaling_factors([a], [b], [c])[0]
        exact = exact_factor(mp.mpf(a) ** 2, mp.mpf(b) ** 2, c)
        assert abs(mp.mpf(alpha) / exact - 1) < 1e-15


def test_extreme_norms_and_targets():
    W1, W2 = np.array([[1e-170, 1e-170], [1e120, 0.0], [1e-120, 0.0]]), np.full((1, 3), 1e-170)
    new = top.rescale_to_balance(W1, W2, 0.0)
    np.testing.assert_allclose(np.abs(new.outgoing[:, 0]), np.hypot(*new.W1.T), rtol=1e-15)
    new = top.rescale_to_balance(W1, W2, [1.0, 1e250, -1e250])
    np.testing.assert_allclose(top.balances(*new), [1.0, 1e250, -1e250], rtol=4e-16)
    with pytest.raises(ValueError, match=r"^neuron 0: the factor that takes it to c_target = 1e\+"):
        top.rescaling_factors([1e-300], [1e-300], [1e300])


def test_targets_given_one_by_one():
    theta = network(np.random.default_rng(3), 4, 2, 2, True)
    target = [1.0, -2.0, 0.0, 1e-3]
    new = transformed(theta, top.rescale_to_balance, target)
    np.testing.assert_allclose(balances_of(new), target, rtol=0, atol=1e-13)


@pytest.mark.parametrize("bias", [None, [0.0]])
def test_degenerate_neurons(bias):
    """Prop. 4: zero input weights reach only c < 0, zero output weights c > 0, both c = 0."""
    no_in, no_out, nothing = ([[0.0, 0.0]], [[2.0]]), ([[3.0, 4.0]], [[0.0]]), ([[0.0, 0]], [[0.0]])
    new = top.rescale_to_balance(*no_in, -9.0, bias)
    assert (new.W1.tolist(), new.W2.tolist()) == ([[0.0, 0.0]], [[3.0]])
    new = top.rescale_to_balance(*no_out, 100.0, bias)
    assert (new.W1.tolist(), new.W2.tolist()) == ([[6.0, 8.0]], [[0.0]])
    new = top.rescale_to_balance(*nothing, 0.0, bias)
    assert (new.W1.tolist(), new.W2.tolist()) == ([[0.0, 0.0]], [[0.0]])
    for theta, targets, words in (
        (no_in, (0.0, 1.0), "has no input weights, so only balances < 0 can be reached"),
        (no_out, (0.0, -1.0), "has no output weights, so only balances > 0 can be reached"),
        (nothing, (-1.0, 1.0), "has no weights at all, so only balance 0 can be reached"),
    ):
        for c in targets:
            with pytest.raises(ValueError, match=rf"^c_target = {c}: neuron 0 {words}$"):
                top.rescale_to_balance(*theta, c, bias)


def test_a_bias_is_an_input_weight():
    new = top.rescale_to_balance([[0.0]], [[1.0]], 3.0, [2.0])
    assert top.balances(*new).round(14).tolist() == [3.0]
    assert new.b1[0] > 1.9


def test_the_first_bad_neuron_is_named():
    W1, W2 = [[1.0], [0.0], [1.0]], [[1.0, 1.0, 0.0]]
    with pytest.raises(ValueError, match=r"^c_target = 5\.0: neuron 1 has no input weights"):
        top.rescale_to_balance(W1, W2, 5.0)
    with pytest.raises(ValueError, match=r"^c_target = -5\.0: neuron 2 has no output weights"):
        top.rescale_to_balance(W1, W2, -5.0)


# --- equality up to rescaling and permutation ----------------------------------------------------


def test_zero_sides():
    W1 = np.array([[1.0, 2.0], [0.0, 0.0], [3.0, 1.0], [0.0, 0.0]])
    W2 = np.array([[0.0, 5.0, 2.0, 0.0], [0.0, -5.0, 1.0, 0.0]])
    theta = W1, W2
    order = [3, 1, 0, 2]
    other = top.permute(*top.rescale(W1, W2, [3.0, 0.1, 7.0, 5.0])[:2], order)
    assert top.observationally_equivalent(theta, other)
    for place, value in (((0, 0), -1.0), ((1, 0), 1e-3), ((3, 0), 1e-3)):
        changed = W1.copy()
        changed[place] = value
        assert not top.observationally_equivalent(theta, (changed, W2)), place
    flipped = W2.copy()
    flipped[:, 1] *= -1.0
    assert not top.observationally_equivalent(theta, (W1, flipped))
    # alone, a side may have any size; beside another, only the product counts
    assert top.observationally_equivalent(theta, (W1 * [[9.0], [1.0], [1.0], [1.0]], W2))
    assert not top.observationally_equivalent(theta, (W1 * [[1.0], [1.0], [9.0], [1.0]], W2))


def test_neurons_that_are_alike():
    """Constant weights: any neuron will do, but as many on both sides."""
    W1, W2 = np.ones((500, 3)), np.ones((1, 500))
    W1[250:] = 2.0
    order = np.random.default_rng(4).permutation(500)
    assert top.observationally_equivalent((W1, W2), top.permute(W1, W2, order))
    fewer = W1.copy()
    fewer[250] = 1.0
    assert not top.observationally_equivalent((W1, W2), (fewer, W2))


def test_many_neurons_and_one_input():
    rng = np.random.default_rng(5)
    theta = network(rng, 3000, 1, 1, False)
    other = transformed(theta, top.permute, rng.permutation(3000))
    other = transformed(other, top.rescale, 10.0 ** rng.uniform(-2, 2, 3000))
    assert top.observationally_equivalent(theta, other)
    W1 = other.W1.copy()
    W1[7] *= 1.0 + 1e-6
    assert not top.observationally_equivalent(theta, (W1, other.W2))
    assert top.observationally_equivalent(theta, (W1, other.W2), rtol=1e-5)


# --- paths: Lemma 2, the proofs of Prop. 2 and 3 -------------------------------------------------


@pytest.mark.parametrize(("d", "e", "bias"), SIZES)
def test_paths_inside_a_component(d, e, bias):
    """A path exists iff the labels are equal; it stays on H(c) and has no jumps."""
    rng = np.random.default_rng(6)
    c = np.array([2.0, -1.0, 0.0, 1.0, -3.0])
    built = 0
    for trial in range(4):
        ends = [
            transformed(network(rng, 5, d, e, bias), top.rescale_to_balance, c) for _ in range(2)
        ]
        if trial:  # opposite ends, where a sphere has no shortest way
            rows = top.neurons(*ends[0])
            width = d + bias
            rows[:, :width] *= 1.0 if width == 1 else -1.0
            rows[:, width:] *= 1.0 if e == 1 else -1.0
            ends[1] = top.from_neurons(rows, d, e, bias)
        labels = [top.component_label(*end, tolerance=1e-9) for end in ends]
        if labels[0] != labels[1]:
            with pytest.raises(ValueError, match=r"^theta2: must lie in the same component"):
                top.path(*ends)
            continue
        built += 1
        point = top.path(*ends)
        rows = np.array([top.neurons(*point(s)) for s in np.linspace(0.0, 1.0, 201)])
        size = np.abs(rows).max()
        np.testing.assert_allclose(rows[0], top.neurons(*ends[0]), rtol=0, atol=1e-13 * size)
        np.testing.assert_allclose(rows[-1], top.neurons(*ends[1]), rtol=0, atol=1e-13 * size)
        assert np.abs(np.diff(rows, axis=0)).max() < 0.1 * size
        for s in np.linspace(0.0, 1.0, 9):
            assert top.in_invariant_set(point(s), c, rtol=1e-12)
            if s != 0.5:  # there, zero-balance neurons vanish and change no label
                assert top.component_label(*point(s), tolerance=1e-9) == labels[0]
    assert built
    with pytest.raises(ValueError, match=r"^s = 1\.5: must be a number from 0 to 1$"):
        point(1.5)


def test_a_free_sign_changes_on_the_way():
    point = top.path(([[1.0, 0.0]], [[0.5]]), ([[0.0, 1.0]], [[-0.5]]))
    signs = [np.sign(point(s).W2[0, 0]) for s in (0.0, 0.4, 0.6, 1.0)]
    assert signs == [1.0, 1.0, -1.0, -1.0]


# --- bad arguments and imports -----------------------------------------------------------------

W1_, W2_ = [[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: top.balances([1.0], W2_), r"^W1 has shape \(1,\): must be \(l, d\)"),
        (lambda: top.balances(W1_, [1.0, 2.0]), r"^W2 has shape \(2,\): must be \(e, 2\)"),
        (lambda: top.balances(W1_, [[1.0]]), r"^W2 has shape \(1, 1\): must be \(e, 2\), for W1"),
        (lambda: top.balances(W1_, W2_, [1.0]), r"^b1 has shape \(1,\): must be \(2,\)"),
        (lambda: top.balances(W1_, W2_, 0.0), r"^b1 has shape \(\): must be \(2,\)"),
        (lambda: top.balances([[1.0, np.nan]], [[1.0]]), r"^W1\[0, 1\] = nan: must be finite$"),
        (lambda: top.balances(W1_, W2_, [0.0, np.inf]), r"^b1\[1\] = inf: must be finite$"),
        (lambda: top.balances([[1j]], [[1.0]]), r"^W1: must be an array of real numbers"),
        (lambda: top.balances([["1"]], [[1.0]]), r"^W1: must be an array of real numbers"),
        (lambda: top.balances([[1.0], [1.0, 2.0]], W2_), r"^W1: must be an array of real numbers"),
        (lambda: top.balances([[True]], [[1.0]]), r"^W1: must be an array of real numbers"),
        (lambda: top.balances([[]], [[1.0]]), r"^W1 has shape \(1, 0\): must be"),
        (lambda: top.balances([[1e200]], [[1.0]]), r"^neuron 0 has weights so large"),
        (lambda: top.sign_counts([np.nan]), r"^balances\[0\] = nan: must be finite$"),
        (lambda: top.sign_counts([1.0], tolerance=-1), r"^tolerance = -1.0: must be at least 0$"),
        (lambda: top.sign_counts([1.0], tolerance=[0, 0]), r"^tolerance has shape \(2,\): must be"),
        (lambda: top.components(0, 1, 1), r"^d = 0: must be a whole number of at least 1$"),
        (lambda: top.components(1, -1, 1), r"^l_pos = -1: must be a whole number of at least 0$"),
        (lambda: top.components(1, 1, 0.5), r"^l_neg = 0.5: must be a whole number"),
        (lambda: top.components(1, 1, 1, 0), r"^e = 0: must be a whole number of at least 1$"),
        (lambda: top.components(1, 1, 1, 1, 1), r"^hidden_bias = 1: must be True or False$"),
        (lambda: top.betti(-1, 1, 1, 1), r"^k = -1: must be a whole number of at least 0$"),
        (lambda: top.hyperquadric(np.nan, 1), r"^c = nan: must be finite$"),
        (lambda: top.hyperquadric([1.0], 1), r"^c has shape \(1,\): must be a number$"),
        (lambda: top.rescale(W1_, W2_, 0.0), r"^alpha = 0.0: must be positive$"),
        (lambda: top.rescale(W1_, W2_, [1, -1]), r"^alpha = -1.0: must be positive$"),
        (lambda: top.rescale(W1_, W2_, 1e308), r"^neuron 0: its weights overflow when scaled"),
        (lambda: top.rescale_to_balance(W1_, W2_, np.inf), r"^c_target = inf: must be finite$"),
        (lambda: top.rescale_to_balance(W1_, W2_, [1.0]), r"^c_target has shape \(1,\): must be"),
        (lambda: top.rescaling_factors([1.0], [-1.0], 0.0), r"^out_norms = -1.0: must be at least"),
        (lambda: top.rescaling_factors([1.0], [1.0, 2.0], 0.0), r"^out_norms has shape \(2,\)"),
        (lambda: top.permute(W1_, W2_, [0, 0]), r"^order: must name every neuron from 0 to 1 once"),
        (lambda: top.permute(W1_, W2_, [0.5, 1]), r"^order: must name every neuron"),
        (lambda: top.from_neurons([[1.0, 2.0]], 2), r"^rows has shape \(1, 2\): must be \(l, 3\)"),
        (lambda: top.same_component((W1_, W2_), (W1_,)), r"^theta2: must be \(W1, W2\) or"),
        (lambda: top.same_component(np.ones((2, 2)), (W1_, W2_)), r"^theta: must be \(W1, W2\) or"),
        (
            lambda: top.same_component((W1_, W2_), (W1_, W2_ + W2_)),
            r"^W2 of theta2 has shape \(2, 2\): must be \(1, 2\), as of theta$",
        ),
        (
            lambda: top.same_component((W1_, W2_), (W1_, W2_, [0.0, 0.0])),
            r"^b1 of theta2 has shape \(2,\): must be None, as of theta$",
        ),
        (
            lambda: top.same_component((W1_, W2_), (W1_, [[np.nan, 0.0]])),
            r"^W2 of theta2\[0, 0\] = nan: must be finite$",
        ),
        (lambda: top.same_component((W1_, W2_), (W1_, W2_), rtol=-1.0), r"^rtol = -1.0: must be"),
        (lambda: top.in_invariant_set((W1_, W2_), 0.0, rtol=1), r"^rtol = 1: must be a number"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert not re.search(r"\.$", str(caught.value))


def test_arguments_are_left_alone():
    theta = network(np.random.default_rng(7), 3, 2, 1, True)
    copies = [array.copy() for array in theta]
    other = transformed(theta, top.rescale_to_balance, -1.0)
    top.permute(theta.W1, theta.W2, [2, 1, 0], theta.b1)
    top.observationally_equivalent(theta, other)
    for array, copy in zip(theta, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
        array[...] = 0.0  # what was returned is no view
    assert np.all(top.neurons(*other) != 0.0)


def test_the_import_is_light():
    code = (
        "import sys, obstruction.topology, obstruction.topology.chains;"
        "print({'scipy', 'numba', 'pandas', 'matplotlib', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
