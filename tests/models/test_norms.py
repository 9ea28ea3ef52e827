"""Norms of rows, columns and neurons."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obstruction.models.contents import Tensor
from obstruction.models.model import Layer, Link, Model
from obstruction.models.norms import hidden_norms, row_and_column_norms


def exact(values: np.ndarray) -> float:
    """Return the norm with a sum that does not round, of numbers scaled by a power of two."""
    values = [float(value) for value in values.ravel()]
    largest = max(map(abs, values), default=0.0)
    if largest == 0.0:
        return 0.0
    scale = 2.0 ** math.frexp(largest)[1] if largest < 1e300 else 2.0**1000
    return math.sqrt(math.fsum((value / scale) ** 2 for value in values)) * scale


def check(weight: np.ndarray) -> None:
    rows, columns = row_and_column_norms(weight)
    assert rows.dtype == columns.dtype == np.float64
    for found, parts in ((rows, weight), (columns, weight.T)):
        assert found == pytest.approx([exact(part) for part in parts], rel=1e-14, abs=0)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 70_000), (70_000, 3), (300, 301), (1, 9), (9, 1)])
def test_rows_and_columns(dtype, shape):
    weight = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    if max(shape) > 1000:
        rows, columns = row_and_column_norms(weight)
        wide = weight.astype(np.float64)
        assert np.allclose(rows, np.linalg.norm(wide, axis=1), rtol=1e-13, atol=0)
        assert np.allclose(columns, np.linalg.norm(wide, axis=0), rtol=1e-13, atol=0)
    else:
        check(weight)


@pytest.mark.parametrize("view", [lambda w: w.T, lambda w: w[::2], lambda w: w[:, ::-3]])
def test_views(view):
    check(view(np.random.default_rng(1).standard_normal((31, 17))))


@given(st.integers(1, 5), st.integers(1, 5), st.integers(-320, 307), st.integers(0, 2**32 - 1))
def test_any_size_of_weights(height, width, power, seed):
    generator = np.random.default_rng(seed)
    powers = np.clip(power + generator.integers(-30, 2, (height, width)), -330, 307)
    check(generator.uniform(-1, 1, (height, width)) * 10.0 ** powers.astype(float))


def test_rows_of_very_different_size():
    check(np.array([[1e200, 1e-200], [1e-200, 3e-200], [0.0, 0.0]]))


def layer(name: str, weight: np.ndarray, bias: np.ndarray | None = None) -> Layer:
    tensor = Tensor(f"{name}.weight", weight, "float64")
    other = None if bias is None else Tensor(f"{name}.bias", bias, "float64")
    return Layer(name, tensor, other, "out_in")


def test_neurons_own_rows_with_biases_and_columns():
    first = layer("a", np.array([[3.0, 0.0], [0.0, 1.0]]), np.array([4.0, 0.0]))
    second = layer("b", np.array([[2.0, -7.0]]))
    relu = Link("relu")
    (norms,) = hidden_norms(Model((first, second), (relu,), (), "test"))
    assert norms is not None
    assert norms.incoming.tolist() == [5.0, 1.0]
    assert norms.outgoing.tolist() == [2.0, 7.0]
    barred = Link("tanh", reason="no")
    model = Model((first, second, layer("c", np.ones((3, 1)))), (barred, relu), (), "test")
    none, last = hidden_norms(model)
    assert none is None
    assert last is not None
    assert last.incoming == pytest.approx([math.hypot(2, 7)])
    assert last.outgoing == pytest.approx([math.sqrt(3)])
