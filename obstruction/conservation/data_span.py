"""The span of the training inputs, and the first layer's weights that can move in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.coordinates import Replacement, fits
from obstruction.conservation.law import FloatArray
from obstruction.conservation.laws import Laws
from obstruction.conservation.live.names import owner
from obstruction.conservation.probing import Prober, gradients_at
from obstruction.conservation.rows import Rows, channels, rows_of
from obstruction.tools.words import counted, listed, plural

RANK: Final = 1e-7
"""Singular values below this share of the largest count as zero: inputs are often float32."""

INSIDE: Final = 1e-9
"""Gradients lie in a span if what is outside is below this share of their length."""

_TRIES: Final = 12
"""So many random parameters are tried on layers with a single input."""


class NoSpan(ValueError):
    """The error for a model of which the span of its inputs says nothing."""


@dataclass(frozen=True)
class Span:
    """The span of the inputs that a model is trained on.

    Attributes
    ----------
    samples : int
        The number of samples.
    width : int
        The number of inputs of the first dense layer, one more if it has a bias.
    rank : int
        The dimension of the span, with a one appended to each input if there is a bias.
    layers : tuple of str
        The dense layers that read the inputs.
    """

    samples: int
    width: int
    rank: int
    layers: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"The {counted(self.samples, 'sample')} {'spans' if self.samples == 1 else 'span'} "
            f"{self.rank:,} of {counted(self.width, 'dimension')} that "
            f"{plural(len(self.layers), 'layer')} {listed(self.layers)} can see (a bias counts as "
            "one)"
        )


def checked_data(data: Any, inputs: tuple[NDArray[Any], ...]) -> FloatArray:
    """Return samples of the inputs as float64, in the shape in which the model takes them.

    Raises
    ------
    NoSpan
        If the model has several inputs, or one that is not real.
    ValueError
        If the data are no samples of its inputs.
    """
    if len(inputs) != 1 or inputs[0].dtype.kind != "f" or inputs[0].ndim < 2:
        raise NoSpan(
            "data: is judged for models with one array of real inputs, samples along its first axis"
        )
    if hasattr(data, "detach"):
        data = data.detach().cpu().numpy()
    array = np.asarray(data)
    shape = inputs[0].shape[1:]
    if array.dtype.kind not in "fiu" or array.shape[1:] != shape or not array.size:
        raise ValueError(
            f"data has shape {array.shape} and type {array.dtype}: must be samples of the shape "
            f"{shape}, as inputs"
        )
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError("data: must be finite")
    return array


def spanned(laws: Laws, prober: Prober, data: FloatArray) -> tuple[list[Replacement], list[Span]]:
    """Return the rows of all dense layers that read the inputs, on the span of the data.

    Raises
    ------
    NoSpan
        If no balance has a dense layer that reads the inputs.
    """
    shape = data.shape[1:]
    widths = dict.fromkeys((int(np.prod(shape)), shape[-1]))
    found: list[Replacement] = []
    spans: dict[tuple[int, bool], Span] = {}
    for number, law in channels(laws):
        for term in law.terms:
            if term.coefficient < 0:
                continue
            rows = rows_of(laws, number, term)
            if rows is None or rows.places.shape[1] not in widths:
                continue
            if any(rows.tensor in one.tensors for one in found):
                continue
            bias = _bias(laws, rows)
            if not _reads(prober, rows, bias):
                continue
            width = rows.places.shape[1]
            basis, span = _basis(data.reshape(-1, width), bias is not None)
            together = (rows,) if bias is None else (rows, bias)
            replacement = Replacement(together, basis, "data")
            if not fits(laws, replacement):
                continue
            found.append(replacement)
            name = owner(rows.tensor) or rows.tensor
            old = spans.get((width, bias is not None))
            layers = (name,) if old is None else (*old.layers, name)
            spans[width, bias is not None] = Span(len(data), *span, layers)
    if not found:
        raise NoSpan(
            "data: is judged for models whose first parameters are a dense layer that reads the "
            "inputs and has a balance; none was found"
        )
    return found, list(spans.values())


def _bias(laws: Laws, rows: Rows) -> Rows | None:
    """Return the bias of a layer, if it is in the law."""
    for term in laws[rows.law].terms:
        same = owner(term.tensor) == owner(rows.tensor) and term.tensor != rows.tensor
        if same and term.coefficient == rows.term.coefficient:
            one = rows_of(laws, rows.law, term)
            if one is not None and one.places.shape[1] == 1:
                return one
    return None


def _basis(data: FloatArray, bias: bool) -> tuple[FloatArray, tuple[int, int]]:
    """Return an orthonormal basis of the span, and the width and the rank."""
    unit = float(np.abs(data).max()) or 1.0
    ones = [np.full((len(data), 1), 1.0 / unit)] if bias else []
    matrix = np.concatenate([data / unit, *ones], axis=1)
    if len(matrix) > matrix.shape[1]:
        matrix = np.asarray(np.linalg.qr(matrix, mode="r"))
    _, values, directions = np.linalg.svd(matrix, full_matrices=False)
    rank = int(np.count_nonzero(values > RANK * values[0])) if values[0] > 0.0 else 0
    return directions[:rank].T, (matrix.shape[1], rank)


def _reads(prober: Prober, rows: Rows, bias: Rows | None) -> bool:
    """Return whether gradients of rows lie in the span of the inputs, whatever these are.

    The inputs are moved into a random subspace of half of the dimensions, away from zero if there
    is a bias: samples that are scaled span the same, but not together with a one.
    """
    width = rows.places.shape[1]
    shape = prober.probe(0).inputs[0].shape
    flat = np.asarray(prober.probe(0).inputs[0], dtype=np.float64).reshape(-1, width)
    generator = np.random.default_rng(width)
    parts = [rows] if bias is None else [rows, bias]
    if width == 1:
        return _reads_one(prober, parts, shape)
    few = max(1, min(width // 2, len(flat)))
    subspace = np.linalg.qr(generator.standard_normal((width, few)))[0]
    flat = (flat @ subspace) @ subspace.T
    if bias is not None:
        flat = flat + generator.standard_normal(width)
    whole = _gradients(prober, parts, flat.reshape(shape))
    if whole is None or not whole.any():
        return False
    basis, (_, rank) = _basis(flat, bias is not None)
    return rank < whole.shape[1] and _lies_in(basis, whole)


def _reads_one(prober: Prober, parts: Sequence[Rows], shape: tuple[int, ...]) -> bool:
    """Return the same for rows of one weight, with or without a bias.

    All inputs are one number, or zero if there is no bias, so that gradients of rows vanish. One
    neuron is often dead, and several parameters are tried.
    """
    awake = False
    for number in range(_TRIES):
        value = 0.0 if len(parts) == 1 else 1.0 + number / _TRIES
        whole = _gradients(prober, parts, np.full(shape, value), number)
        if whole is None:
            return False
        if len(parts) == 1:
            other = _gradients(prober, parts, np.ones(shape), number)
            awake |= other is not None and bool(other.any())
            if whole.any():
                return False
        else:
            awake |= bool(whole.any())
            if not _lies_in(_basis(np.full((1, 1), value), True)[0], whole):
                return False
    return awake


def _lies_in(basis: FloatArray, rows: FloatArray) -> bool:
    """Return whether rows are combinations of orthonormal columns, to rounding."""
    outside = rows - (rows @ basis) @ basis.T
    size = np.linalg.norm(rows, axis=1)
    return bool((np.linalg.norm(outside, axis=1) <= INSIDE * size + 1e-13 * size.max()).all())


def _gradients(
    prober: Prober, parts: Sequence[Rows], inputs: FloatArray, number: int = 0
) -> FloatArray | None:
    """Return gradients of rows side by side; None if the outputs do not depend on one of them."""
    found = gradients_at(prober.live, replace(prober.probe(number), inputs=(inputs,)))
    values = [found[one.tensor] for one in parts]
    if any(value is None for value in values):
        return None
    return np.concatenate(
        [one.of(value) for one, value in zip(parts, values, strict=True) if value is not None],
        axis=1,
    )
