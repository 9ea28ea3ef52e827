"""Models of Keras on both backends, by formulas in NumPy and central differences.

The tests run on the backend of this process, and once more in another process on the other one.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from conftest import framework

os.environ.setdefault("KERAS_BACKEND", "jax")
ON = os.environ["KERAS_BACKEND"]
OTHER = {"jax": "torch", "torch": "jax"}[ON]
SECOND = "OBSTRUCTION_TESTS_ON_OTHER_BACKEND"

framework(ON)
keras = framework("keras")
make = keras.layers

from obstruction.conservation.live.base import cotangents  # noqa: E402
from obstruction.conservation.live.keras import KerasModel  # noqa: E402
from obstruction.conservation.live.opening import open_model  # noqa: E402

# Keras itself turns its variables into arrays in a way that NumPy is going to drop
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

X = np.random.default_rng(4).standard_normal((6, 5)).astype(np.float32)


@pytest.mark.skipif(SECOND in os.environ, reason="this is the other process")
def test_the_other_backend():
    framework(OTHER)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n0", "-q", "-m", "", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "KERAS_BACKEND": OTHER, SECOND: "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "passed" in done.stdout


@pytest.fixture(autouse=True)
def _same_weights():
    keras.utils.set_random_seed(7)


def ran(model: KerasModel, seed: int = 0) -> list[np.ndarray]:
    return model.outputs(model.parameters, model.inputs, seed=seed)


def slope(model: KerasModel, *, seed: int = 0, step: float = 1e-6) -> tuple[float, float]:
    """Return the derivative along a random direction by differences, and by the gradient."""
    generator = np.random.default_rng(1)
    way = {name: generator.standard_normal(v.shape) for name, v in model.parameters.items()}
    pulled = cotangents([one.shape for one in ran(model, seed)], 2)

    def value(t: float) -> float:
        moved = {name: v + t * way[name] for name, v in model.parameters.items()}
        found = model.outputs(moved, model.inputs, seed=seed)
        return sum(float(np.sum(c * y)) for c, y in zip(pulled, found, strict=True))

    gradients = model.gradients(model.parameters, model.inputs, seed=seed, cotangent=2)
    by_gradient = sum(float(np.sum(g * way[n])) for n, g in gradients.items() if g is not None)
    return (value(step) - value(-step)) / (2 * step), by_gradient


def everything(model: Any) -> list[np.ndarray]:
    """Return copies of all state of a model."""
    return [np.array(keras.ops.convert_to_numpy(one.value)) for one in model.variables]


def test_a_sequential_model_is_its_formula():
    model = keras.Sequential([make.Dense(4, activation="tanh"), make.Dense(2)])
    live = KerasModel(model, X)  # which builds it
    assert (live.framework, live.fixed) == ("Keras", ())
    (w, b, v, c) = live.parameters.values()
    assert [name.rpartition("/")[2] for name in live.parameters] == ["kernel", "bias"] * 2
    assert sorted(live.output_axes.values()) == [-1, -1]
    assert [one.dtype for one in live.inputs] == [np.float64]
    values = {name: one + 1e-9 for name, one in live.parameters.items()}
    expected = np.tanh(live.inputs[0] @ (w + 1e-9) + (b + 1e-9)) @ (v + 1e-9) + (c + 1e-9)
    (found,) = live.outputs(values, live.inputs, seed=0)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)
    (pulled,) = cotangents([(6, 2)], 5)
    gradients = live.gradients(live.parameters, live.inputs, seed=0, cotangent=5)
    hidden = np.tanh(live.inputs[0] @ w + b)
    back = (pulled @ v.T) * (1 - hidden**2)
    for found_, right in zip(
        gradients.values(),
        (live.inputs[0].T @ back, back.sum(axis=0), hidden.T @ pulled, pulled.sum(axis=0)),
        strict=True,
    ):
        np.testing.assert_allclose(found_, right, rtol=1e-12, atol=1e-13)


def vision(image: Any) -> Any:
    y = make.BatchNormalization()(make.Conv2D(4, 3, strides=2)(image))
    y = make.Conv2DTranspose(6, 3)(make.Dropout(0.5)(make.ReLU()(y)))
    y = make.GlobalAveragePooling2D()(make.DepthwiseConv2D(2)(make.LayerNormalization()(y)))
    outputs = {"first": make.Dense(2, name="first")(y), "second": make.Dense(1, name="second")(y)}
    return keras.Model(image, outputs)


def test_nothing_of_the_user_changes():
    model = vision(keras.Input((8, 8, 3)))
    model.get_layer("second").trainable = False
    images = np.random.default_rng(1).standard_normal((4, 8, 8, 3))
    before, python = everything(model), random.getstate()
    numpy = np.random.get_state()[1].copy()  # noqa: NPY002
    policies = [layer.dtype_policy.name for layer in model.layers]
    live = KerasModel(model, images)
    first = ran(live, 1)
    gradients = live.gradients(live.parameters, live.inputs, seed=1, cotangent=0)
    for one, other in zip(before, everything(model), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    assert [layer.dtype_policy.name for layer in model.layers] == policies
    assert random.getstate() == python
    np.testing.assert_array_equal(np.random.get_state()[1], numpy)  # noqa: NPY002
    if ON == "jax":
        assert not framework("jax").config.jax_enable_x64
    else:
        assert framework("torch").get_default_dtype() == framework("torch").float32

    assert live.fixed == ("second/kernel", "second/bias")
    assert live.output_axes == {
        "conv2d/kernel": -1,
        "conv2d_transpose/kernel": -2,
        "depthwise_conv2d/kernel": -2,
        "first/kernel": -1,
    }
    assert [live.groups[name] for name in list(live.output_axes)[:3]] == [1, 1, 6]
    assert [one.shape for one in first] == [(4, 2), (4, 1)]
    np.testing.assert_array_equal(first[0], ran(live, 1)[0])
    assert (first[0] != ran(live, 2)[0]).any()
    differences, gradient = slope(live, seed=3)
    assert gradient == pytest.approx(differences, rel=1e-6)
    # batch normalisation sees no bias before it: exactly, in float64
    size = np.abs(gradients["conv2d/kernel"]).max()
    assert np.abs(gradients["conv2d/bias"]).max() < 1e-13 * size


def test_in_inference_it_is_the_model_itself():
    model = vision(keras.Input((8, 8, 3)))
    images = np.random.default_rng(1).standard_normal((4, 8, 8, 3)).astype(np.float32)
    live = KerasModel(model, images, training=False)
    for one, other in zip(ran(live, 0), ran(live, 1), strict=True):
        np.testing.assert_array_equal(one, other)
    own = model(images, training=False)
    for one, name in zip(ran(live), ("first", "second"), strict=True):
        np.testing.assert_allclose(one, keras.ops.convert_to_numpy(own[name]), atol=1e-5)


class Twice(keras.Model):
    """A subclassed model, whose ``call`` takes two inputs and does not know whether it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.norm = make.Dense(3), make.BatchNormalization()
        self.drop, self.unused = make.Dropout(0.4), make.Dense(2)

    def call(self, x, scale):
        self.unused(x)
        return self.drop(self.norm(self.dense(x))) * scale


@pytest.mark.parametrize("form", ["tuple", "dict"])
def test_a_subclassed_model_of_two_inputs(form):
    scale = np.arange(6.0).reshape(6, 1)
    model = Twice()
    live = KerasModel(model, (X, scale) if form == "tuple" else {"scale": scale, "x": X})
    p = {name.split("/", 1)[1]: one for name, one in live.parameters.items()}
    assert len(p) == 6
    kernel = next(one for name, one in p.items() if one.shape == (5, 3))
    y = X.astype(np.float64) @ kernel
    y = scale * (y - y.mean(axis=0)) / np.sqrt(y.var(axis=0) + 1e-3)
    (found,) = ran(live, 5)
    kept = found != 0
    assert 0 < kept.sum() < 15
    np.testing.assert_allclose(found[kept], y[kept] / 0.6, rtol=1e-6)
    gradients = live.gradients(live.parameters, live.inputs, seed=5, cotangent=0)
    assert sum(one is None for one in gradients.values()) == 2  # of the unused layer
    np.testing.assert_array_equal(everything(model.norm)[2], np.zeros(3))  # the moving mean


def test_several_inputs_of_a_functional_model():
    left, right = keras.Input((5,), name="left"), keras.Input((5,), name="right")
    outputs = make.Dense(2)(left) - make.Dense(2)(right)
    model = keras.Model([left, right], outputs)
    forms = ([X, 2 * X], (X, 2 * X), {"right": 2 * X, "left": X})
    found = [ran(KerasModel(model, form))[0] for form in forms]
    w, _, v, _ = KerasModel(model, forms[0]).parameters.values()
    for one in found:
        np.testing.assert_allclose(one, X.astype(float) @ w - 2 * X.astype(float) @ v, rtol=1e-12)


def test_narrow_policies_lose_nothing():
    policy = keras.dtype_policies.DTypePolicy("mixed_bfloat16")
    model = keras.Sequential([make.Dense(4, dtype=policy), make.Dense(2, dtype="float16")])
    live = KerasModel(model, X)
    w, b, v, c = live.parameters.values()
    expected = (live.inputs[0] @ w + b) @ v + c
    np.testing.assert_allclose(ran(live)[0], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_attention_recurrence_and_masks():
    tokens = keras.Input((5,), dtype="int32")
    x = make.Embedding(9, 8, mask_zero=True)(tokens)
    x = x + make.MultiHeadAttention(2, 4, dropout=0.1)(x, x)
    model = keras.Model(tokens, make.LSTM(3)(x))
    live = KerasModel(model, np.arange(20).reshape(4, 5) % 9)
    assert live.inputs[0].dtype.kind == "i"
    # kernels of heads have two axes of outputs, so none is named
    assert {name.rpartition("/")[0] for name in live.output_axes} == {"lstm/lstm_cell"}
    differences, gradient = slope(live, seed=2)
    assert gradient == pytest.approx(differences, rel=1e-6)


def test_names_are_distinct():
    class Pair(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="pair")
            self.parts = [make.Dense(2, name="same"), make.Dense(5, name="same")]

        def call(self, x):
            return self.parts[1](self.parts[0](x))

    live = KerasModel(Pair(), X)
    assert len(live.parameters) == 4
    assert [one.shape for one in live.parameters.values()] == [(5, 2), (2,), (2, 5), (5,)]


def test_what_cannot_be_run_is_refused_in_plain_words():
    model = keras.Sequential([keras.Input((5,)), make.Dense(4)])
    with pytest.raises(ValueError, match=r"of shape \(6, 4\)\. ValueError: .*incompatible") as bad:
        open_model(model, X[:, :4])
    assert len(str(bad.value).splitlines()) == 1
    with pytest.raises(ValueError, match=r"instance inputs=np\..*\.normal\(size=\(16, 5\)\); inp"):
        open_model(model)
    model.trainable = False
    with pytest.raises(ValueError, match=r"^model: it has no trainable weights"):
        open_model(model, X)
    if ON == "torch":
        torch = framework("torch")
        wrapper = keras.layers.TorchModuleWrapper(torch.nn.Linear(5, 2))
        with pytest.raises(ValueError, match=r"^model: a layer of it wraps a module of PyTorch"):
            open_model(keras.Sequential([wrapper, make.Dense(2)]), X)
