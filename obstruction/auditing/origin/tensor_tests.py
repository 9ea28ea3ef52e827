"""Tests of whether the values of a tensor were drawn from a law at a given scale.

The tests of `compare` are exact, or asymptotic for at least `_MANY` values:

- *mean* and *mean square*: exact for normal values, which have the normal and the chi-square law;
  for bounded values the central limit theorem is used if there are at least `_MANY`;
- *bound*: a value beyond the bound of its law excludes the law;
- *largest size*: the largest absolute value, exact for every law, two-sided;
- *distribution*: Kolmogorov-Smirnov at the exact law and scale, exact below `_MANY` values;
- *independence*: independent rows (or columns) are not all orthogonal to each other;
- *alignment* with the next layer, the first effect of training: chi-square, exact for normal
  weights; for bounded weights the p-value is too large.

The fourth moment is not tested. For normal values its distribution has such heavy tails that its
p-value would be wrong at every useful level, and other tests detect the same deviations.

Of a large tensor always the same part is tested. The tests allow for values that were rounded to
bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from obstruction.schemes.laws import (
    CONSTANT,
    CUT,
    CUT_STD,
    NORMAL,
    ORTHOGONAL,
    TRUNCATED,
    UNIFORM,
    Law,
)

FloatArray: TypeAlias = NDArray[np.float64]

_LARGEST_SAMPLE: Final = 2**17
"""The largest number of values that are tested."""

_LARGEST_SORTED: Final = 20_000
"""The largest number of values in the Kolmogorov-Smirnov test."""

_MANY: Final = 1_000
"""The least number of values for an asymptotic test."""

_ROUNDING: Final = 2.0**-8
"""The largest relative error of a value that was rounded to bfloat16."""

_OUTPUTS: Final = 4
_PRODUCTS: Final = 1024
_BLOCKS: Final = 8
"""The largest numbers of outputs of the next layer, of products, and of blocks of columns in the
test of alignment."""

_VECTORS: Final = 16
"""The largest number of rows or columns in the test of independence."""

CERTAIN: Final = 1e-12
"""Below this p-value a law is excluded without further tests."""

_BEYOND: Final = float(special.ndtr(-CUT))
"""The share of normal values on each side of the cut of truncated ones."""

_LEAK: Final = (2.0 * _BEYOND) ** 4
"""The share of truncated normal weights that Keras on PyTorch leaves untruncated. It takes the
first of four normal draws that is within the cut, and the first draw if none is."""


class Finding(NamedTuple):
    """The outcome of one test: an upper bound of the p-value, and a function that describes it."""

    p_value: float
    reason: Callable[[], str]


class TensorSample:
    """The tested values of a tensor, with statistics that are computed once.

    Parameters
    ----------
    name : str
        The name of the tensor in findings, in the plural: ``"the weights of 'fc1'"``.
    array : ndarray of floats
        A matrix of shape (outputs, inputs) or a vector.
    following : ndarray of floats, optional
        The matrix of the next layer, whose number of columns is the number of outputs.
    """

    def __init__(
        self, name: str, array: NDArray[Any], following: NDArray[Any] | None = None
    ) -> None:
        self.name = name
        self.array = array
        self.following = following
        self._compared: dict[tuple[Law, float], tuple[list[Finding], float]] = {}

    @cached_property
    def values(self) -> FloatArray:
        """The tested values, evenly spread over the tensor."""
        array = self.array
        if array.ndim > 1 and not array.flags.c_contiguous:
            array = array.T  # stored as (inputs, outputs): flat without a copy
        flat = array.reshape(-1)
        step = -(-flat.size // _LARGEST_SAMPLE)
        while step > 1 and math.gcd(step, array.shape[-1]) > 1:
            step += 1  # otherwise some columns would be left out
        return flat[::step].astype(np.float64)

    @cached_property
    def total(self) -> float:
        """The sum of the values."""
        return float(self.values.sum())

    @cached_property
    def square(self) -> float:
        """The sum of squares of the values."""
        return float(np.einsum("i,i", self.values, self.values))  # BLAS would use threads

    @property
    def sizes(self) -> FloatArray:
        """The absolute values."""
        return np.abs(self.values)

    @cached_property
    def largest(self) -> float:
        """The largest absolute value."""
        return float(self.sizes.max(initial=0.0))

    @cached_property
    def zero(self) -> bool:
        """Whether all values of the tensor are zero."""
        return self.largest == 0.0 and not np.any(self.array)

    @cached_property
    def ordered(self) -> FloatArray:
        """At most `_LARGEST_SORTED` of the values in ascending order."""
        return np.sort(self.values[:: -(-self.values.size // _LARGEST_SORTED)])

    @cached_property
    def gram(self) -> FloatArray:
        """Scalar products of a few rows of a matrix, or of columns if there are more of these."""
        rows, columns = self.array.shape
        few = self.array[:_VECTORS] if rows <= columns else self.array[:, :_VECTORS].T
        vectors = few.astype(np.float64)
        return vectors @ vectors.T

    @cached_property
    def products(self) -> FloatArray:
        """Products of some columns with orthonormal combinations of rows of the next layer.

        If the values are normal and do not depend on the next layer, the products are independent
        and have the variance of the values. The array is empty without a next layer.
        """
        if self.following is None:
            return np.zeros(0)
        rows = self.following[: min(_OUTPUTS, self.following.shape[1])].astype(np.float64)
        directions, sizes = np.linalg.qr(rows.T)
        if not np.all(np.isfinite(sizes)) or np.any(np.diagonal(sizes) == 0.0):
            return np.zeros(0)
        inputs, block = self.array.shape[1], _PRODUCTS // len(rows) // _BLOCKS
        columns = self.array
        if inputs > block * _BLOCKS:  # neighbouring columns share cache lines
            starts = np.linspace(0, inputs - block, _BLOCKS).astype(np.int64)
            columns = np.hstack([columns[:, start : start + block] for start in starts])
        # On a busy machine, the threads of BLAS wait for each other longer than this takes.
        result: FloatArray = np.einsum("kr,kc->rc", directions, columns.astype(np.float64))
        return result.ravel()


def compare(tensor: TensorSample, law: Law, variance: float) -> tuple[list[Finding], float]:
    """Test the values of a tensor against a law of mean 0 and a mean square > 0.

    The result is a finding for each test and the log-likelihood of the values, which is inf if the
    law is orthogonal and there are several rows or columns.
    """
    key = law, variance
    if key not in tensor._compared:
        tensor._compared[key] = _compare(tensor, law, math.sqrt(variance))
    return tensor._compared[key]


def _compare(tensor: TensorSample, law: Law, std: float) -> tuple[list[Finding], float]:
    if not math.isfinite(tensor.square):
        return [Finding(0.0, lambda: f"{tensor.name} are not all finite")], -math.inf
    if law == CONSTANT:
        same = np.abs(tensor.values / std - 1.0).max(initial=0.0) <= _ROUNDING
        return [Finding(float(same), lambda: f"{tensor.name} are not all {std:.4g}")], 0.0
    if law == ORTHOGONAL:
        return _orthogonal(tensor, std)
    beyond = 0
    if tensor.largest * (1.0 - _ROUNDING) > law.bound * std:
        beyond = int(np.count_nonzero(tensor.sizes * (1.0 - _ROUNDING) > law.bound * std))
    findings = [*_moments(tensor, law, std), _bound(tensor, law, beyond), _size(tensor, law, std)]
    if tensor.array.ndim > 1 and min(tensor.gram.shape) > 1:
        findings.append(_independence(tensor))
    if tensor.products.size:
        findings.append(_alignment(tensor, std))
    if min(finding.p_value for finding in findings) > CERTAIN:
        findings.append(_distribution(tensor, law, std))
    return findings, _log_likelihood(tensor, law, std, beyond)


# --- the tests ----------------------------------------------------------------------------------


def _moments(tensor: TensorSample, law: Law, std: float) -> Iterator[Finding]:
    n = tensor.values.size
    if law != NORMAL and n < _MANY:
        return
    mean, square = tensor.total / n / std, tensor.square / std**2
    yield Finding(
        float(special.erfc(abs(mean) * math.sqrt(n / 2.0))),
        lambda: f"the mean of {tensor.name} is {mean:.2g} standard deviations, not 0",
    )
    if law == NORMAL:
        p = _chi_square(n, square)
    else:
        p = special.erfc(abs(square / n - 1.0) * math.sqrt(n / 2.0 / (law.fourth_moment - 1.0)))
    yield Finding(
        float(p),
        lambda: f"the mean square of {tensor.name} is {square / n:.4g} times what it would be",
    )


def _chi_square(n: int, square: float) -> float:
    return min(1.0, 2.0 * float(min(special.chdtr(n, square), special.chdtrc(n, square))))


def _bound(tensor: TensorSample, law: Law, beyond: int) -> Finding:
    """Test that no value is beyond the bound, or no more than the leak of Keras explains."""
    p = 1.0 if beyond == 0 else 0.0
    if beyond and law == TRUNCATED:
        p = float(special.bdtrc(beyond - 1, tensor.values.size, _LEAK))
    return Finding(p, lambda: f"{beyond:,} of {tensor.name} are beyond the bound")


def _size(tensor: TensorSample, law: Law, std: float) -> Finding:
    """Test that the largest size is neither too large nor too small for the number of values."""
    n, size = tensor.values.size, tensor.largest / std
    larger = _some(n, _survival(law, size * (1.0 - _ROUNDING)))
    smaller = 1.0 - _some(n, _survival(law, size * (1.0 + _ROUNDING)))
    return Finding(
        min(1.0, 2.0 * min(larger, smaller)),
        lambda: f"the largest of {tensor.name} is {size:.4g} standard deviations",
    )


def _some(n: int, p: float) -> float:
    """Return the probability of at least one success in n trials."""
    return 1.0 if p == 1.0 else -math.expm1(n * math.log1p(-p))


def _survival(law: Law, size: float) -> float:
    """Return the probability that a standardised value has at least the absolute value ``size``."""
    if law == UNIFORM:
        return max(0.0, 1.0 - size / law.bound)
    if law == TRUNCATED:
        tail = float(special.ndtr(-size * CUT_STD))
        leaked = _LEAK * min(1.0, tail / _BEYOND)
        return min(1.0, max(0.0, (tail - _BEYOND) / (0.5 - _BEYOND)) + leaked)
    return float(2.0 * special.ndtr(-size))


def _distribution(tensor: TensorSample, law: Law, std: float) -> Finding:
    """Test the distribution of values that may have been rounded.

    The distance is a lower bound of that of the values before rounding. It is found by moving each
    value as far as rounding can have moved it.
    """
    x = tensor.ordered / std
    n = x.size
    room = np.abs(x) * _ROUNDING
    steps = np.arange(n + 1) / n
    above = (steps[1:] - _cumulative(law, x + room)).max()
    below = (_cumulative(law, x - room) - steps[:-1]).max()
    return Finding(
        _distance_p_value(n, max(float(above), float(below), 0.0)),
        lambda: f"{tensor.name} are not distributed like {law} ones of this scale",
    )


def _distance_p_value(n: int, distance: float) -> float:
    """Return an upper bound of the probability of a Kolmogorov distance of at least that size.

    The bound is twice the probability for the one-sided distance. From `_MANY` values on its
    asymptotic form is used (Maag and Dicaire 1971). For 1000 values this form is too large by 0.5 %
    at p = 0.01 and by 11 % at p = 2e-14.
    """
    if n < _MANY:
        return min(1.0, 2.0 * float(special.smirnov(n, distance)))
    return min(1.0, 2.0 * math.exp(-((6.0 * n * distance + 1.0) ** 2) / (18.0 * n)))


def _cumulative(law: Law, x: FloatArray) -> FloatArray:
    shares: FloatArray
    if law == UNIFORM:
        shares = 0.5 + x / (2.0 * law.bound)
    elif law == TRUNCATED:
        shares = (special.ndtr(x * CUT_STD) - _BEYOND) / (1.0 - 2.0 * _BEYOND)
    else:
        shares = special.ndtr(x)
    return np.clip(shares, 0.0, 1.0)


def _independence(tensor: TensorSample) -> Finding:
    """Test that a matrix is not orthogonal.

    The cosine of two independent normal vectors in n dimensions is within +-t with probability at
    most ``2 t sqrt(n / 2 pi)``.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        lengths = np.sqrt(np.diagonal(tensor.gram))
        cosines = tensor.gram / lengths / lengths[:, None]
    count, n = lengths.size, max(tensor.array.shape)
    np.fill_diagonal(cosines, 0.0)
    p = 1.0
    if np.abs(cosines).max() <= 2.0 * _ROUNDING:
        pair = min(1.0, 4.0 * _ROUNDING * math.sqrt(n / (2.0 * math.pi)))
        p = pair ** (count * (count - 1) // 2)
    return Finding(p, lambda: f"{tensor.name} are orthogonal, not independent")


def _alignment(tensor: TensorSample, std: float) -> Finding:
    """Test that a layer does not depend on the next layer, as gradients make it depend."""
    products = tensor.products / std
    return Finding(
        _chi_square(products.size, float(np.einsum("i,i", products, products))),
        lambda: f"{tensor.name} depend on those of the next layer",
    )


def _orthogonal(tensor: TensorSample, std: float) -> tuple[list[Finding], float]:
    """Test that a few rows or columns are orthogonal and have the right length."""
    count, length = len(tensor.gram), std**2 * max(tensor.array.shape)
    off = np.abs(tensor.gram / length - np.eye(count)).max()
    finding = Finding(
        float(off <= 2.0 * _ROUNDING), lambda: f"{tensor.name} are not orthogonal of this scale"
    )
    return [finding], math.inf if count > 1 else _log_likelihood(tensor, NORMAL, std, 0)


def _log_likelihood(tensor: TensorSample, law: Law, std: float, beyond: int) -> float:
    n = tensor.values.size
    scale = beyond * math.log(_LEAK) - n * math.log(std)
    if law == UNIFORM:
        return scale - n * math.log(2.0 * law.bound)
    normal = scale - 0.5 * n * math.log(2.0 * math.pi)
    if law == TRUNCATED:
        gain = n * math.log(CUT_STD / (1.0 - 2.0 * _BEYOND))
        return normal + gain - 0.5 * tensor.square * (CUT_STD / std) ** 2
    return normal - 0.5 * tensor.square / std**2
