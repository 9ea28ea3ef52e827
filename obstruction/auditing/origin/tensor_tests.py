"""How far the values of a tensor are from a law at a given scale.

The tests of `compare` are exact, or asymptotic from a stated number of values on:

- *mean* and *mean square*: exact for normal values (the normal and the chi-square law); for bounded
  ones by the central limit theorem, from `_MANY` values on;
- *bound*: a value beyond the bound of its law excludes the law;
- *largest size*: exact for every law, two-sided;
- *distribution*: Kolmogorov-Smirnov at the exact law and scale, exact up to `_MANY` values;
- *independence*: rows (or columns) that are orthogonal to each other, as no independent ones are;
- *alignment* with the next layer, which training brings about first of all: chi-square, exact for
  normal weights and erring upwards for bounded ones.

There is no test of the fourth moment: that of normal values is too heavy-tailed for its p-value to
be right at any useful level, and the largest size and the distribution see what it would.

Of a large tensor a part is looked at, the same one every time. Values may have been rounded to as
few bits as bfloat16 has: the tests allow for it.
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
"""How many values of a tensor are looked at."""

_LARGEST_SORTED: Final = 20_000
"""How many of them the Kolmogorov-Smirnov test takes."""

_MANY: Final = 1_000
"""How many values asymptotic tests need."""

_ROUNDING: Final = 2.0**-8
"""The largest relative error of a value that was rounded to bfloat16."""

_OUTPUTS: Final = 4
_PRODUCTS: Final = 1024
_BLOCKS: Final = 8
"""How many outputs of the next layer are looked at for alignment, how many products in all, and of
how many blocks of columns."""

_VECTORS: Final = 16
"""How many rows or columns are held against each other for orthogonality."""

CERTAIN: Final = 1e-12
"""Below this p-value no further test is needed."""

_BEYOND: Final = float(special.ndtr(-CUT))
"""The share of normal values on each side of the cut of truncated ones."""

_LEAK: Final = (2.0 * _BEYOND) ** 4
"""The share of truncated normal weights that Keras on PyTorch leaves untruncated: it takes the
first of four normal draws within the cut, and the first of all if none is."""


class Finding(NamedTuple):
    """The outcome of one test.

    Attributes
    ----------
    p_value : float
        The probability, at most, of a finding like this if the values have the law.
    reason : callable
        Returns what was found, as half a sentence.
    """

    p_value: float
    reason: Callable[[], str]


class TensorSample:
    """The values of a tensor that are looked at, and what is computed of them once.

    Parameters
    ----------
    name : str
        What the tensor is called in findings, in the plural: ``"the weights of 'fc1'"``.
    array : ndarray of floats
        A matrix of shape (outputs, inputs) or a vector; only views and small copies are made.
    following : ndarray of floats, optional
        The matrix of the next layer, of shape (its outputs, outputs).
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
        """Evenly spread values, all if they are few."""
        array = self.array
        if array.ndim > 1 and not array.flags.c_contiguous:
            array = array.T  # stored as (inputs, outputs): flat without a copy
        flat = array.reshape(-1)
        step = -(-flat.size // _LARGEST_SAMPLE)
        while step > 1 and math.gcd(step, array.shape[-1]) > 1:
            step += 1  # or only some columns would be seen
        return flat[::step].astype(np.float64)

    @cached_property
    def total(self) -> float:
        """Their sum."""
        return float(self.values.sum())

    @cached_property
    def square(self) -> float:
        """Their sum of squares."""
        return float(np.einsum("i,i", self.values, self.values))  # no threads for so few

    @property
    def sizes(self) -> FloatArray:
        """Their absolute values."""
        return np.abs(self.values)

    @cached_property
    def largest(self) -> float:
        """Their largest size."""
        return float(self.sizes.max(initial=0.0))

    @cached_property
    def zero(self) -> bool:
        """Whether all values of the tensor are zero."""
        return self.largest == 0.0 and not np.any(self.array)

    @cached_property
    def ordered(self) -> FloatArray:
        """Fewer of them in ascending order."""
        return np.sort(self.values[:: -(-self.values.size // _LARGEST_SORTED)])

    @cached_property
    def gram(self) -> FloatArray:
        """Scalar products of a few rows of a matrix or, if there are more of these, columns."""
        rows, columns = self.array.shape
        few = self.array[:_VECTORS] if rows <= columns else self.array[:, :_VECTORS].T
        vectors = few.astype(np.float64)
        return vectors @ vectors.T

    @cached_property
    def products(self) -> FloatArray:
        """Products of some columns with a few rows of the next layer, made orthonormal.

        Given the next layer these are independent and have the variance of the values, if the
        values are normal and do not depend on it. Empty without a next layer.
        """
        if self.following is None:
            return np.zeros(0)
        rows = self.following[: min(_OUTPUTS, self.following.shape[1])].astype(np.float64)
        directions, sizes = np.linalg.qr(rows.T)
        if not np.all(np.isfinite(sizes)) or np.any(np.diagonal(sizes) == 0.0):
            return np.zeros(0)
        inputs, block = self.array.shape[1], _PRODUCTS // len(rows) // _BLOCKS
        columns = self.array
        if inputs > block * _BLOCKS:  # neighbours share the lines of the cache
            starts = np.linspace(0, inputs - block, _BLOCKS).astype(np.int64)
            columns = np.hstack([columns[:, start : start + block] for start in starts])
        # Not by BLAS: on a busy machine its threads take longer to meet than the work takes.
        result: FloatArray = np.einsum("kr,kc->rc", directions, columns.astype(np.float64))
        return result.ravel()


def compare(tensor: TensorSample, law: Law, variance: float) -> tuple[list[Finding], float]:
    """Hold the values of a tensor against a law of mean 0.

    Parameters
    ----------
    tensor : TensorSample
        The values.
    law : Law
        The law.
    variance : float
        The mean square, > 0.

    Returns
    -------
    findings : list of Finding
        One a test.
    log_likelihood : float
        That of the values looked at; inf for several rows or columns if the law is orthogonal.
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
    """Test that no value is beyond the bound, or no more than Keras leaves there."""
    p = 1.0 if beyond == 0 else 0.0
    if beyond and law == TRUNCATED:
        p = float(special.bdtrc(beyond - 1, tensor.values.size, _LEAK))
    return Finding(p, lambda: f"{beyond:,} of {tensor.name} are beyond the bound")


def _size(tensor: TensorSample, law: Law, std: float) -> Finding:
    """Test the largest size: not too large, nor too small for so many values."""
    n, size = tensor.values.size, tensor.largest / std
    larger = _some(n, _survival(law, size * (1.0 - _ROUNDING)))
    smaller = 1.0 - _some(n, _survival(law, size * (1.0 + _ROUNDING)))
    return Finding(
        min(1.0, 2.0 * min(larger, smaller)),
        lambda: f"the largest of {tensor.name} is {size:.4g} standard deviations",
    )


def _some(n: int, p: float) -> float:
    """Return the probability of at least one success."""
    return 1.0 if p == 1.0 else -math.expm1(n * math.log1p(-p))


def _survival(law: Law, size: float) -> float:
    """Return the probability that a standardised value is at least that large."""
    if law == UNIFORM:
        return max(0.0, 1.0 - size / law.bound)
    if law == TRUNCATED:
        tail = float(special.ndtr(-size * CUT_STD))
        leaked = _LEAK * min(1.0, tail / _BEYOND)
        return min(1.0, max(0.0, (tail - _BEYOND) / (0.5 - _BEYOND)) + leaked)
    return float(2.0 * special.ndtr(-size))


def _distribution(tensor: TensorSample, law: Law, std: float) -> Finding:
    """Test the whole distribution of values that may have been rounded.

    Rounding keeps their order, so the distance was at least that of the values moved back as far
    as rounding can have moved them.
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
    """Return, at least, the probability of a Kolmogorov distance of that size.

    It is at most twice that of the one-sided distance. For many values its asymptotic form is
    used (Maag and Dicaire 1971), which errs upwards in the tail: 0.5 % at p = 0.01 and 11 % at
    p = 2e-14, for a thousand values.
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
    """Test that a layer does not depend on the next, as gradients make it do."""
    products = tensor.products / std
    return Finding(
        _chi_square(products.size, float(np.einsum("i,i", products, products))),
        lambda: f"{tensor.name} depend on those of the next layer",
    )


def _orthogonal(tensor: TensorSample, std: float) -> tuple[list[Finding], float]:
    """Compare a few rows or columns with orthogonal ones of the right length."""
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
