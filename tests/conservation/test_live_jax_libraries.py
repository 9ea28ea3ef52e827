"""Modules of Flax, Haiku, Equinox, nnx and stax, as their users hold them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import framework

jax = framework("jax")
jnp = jax.numpy

import obstruction as ob  # noqa: E402
from obstruction.conservation.live.opening import open_model  # noqa: E402

KEY = jax.random.key(0)
X = np.random.default_rng(3).standard_normal((6, 5))
TOKENS = np.arange(12).reshape(2, 6) % 7


def ran(model: Any, seed: int = 0) -> np.ndarray:
    (found,) = model.outputs(model.parameters, model.inputs, seed=seed)
    return found


def normalised(y: np.ndarray) -> np.ndarray:
    return (y - y.mean(axis=0)) / np.sqrt(y.var(axis=0) + 1e-5)


@pytest.fixture(scope="module")
def flax_network():
    nn = framework("flax.linen")

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool):
            x = nn.BatchNorm(use_running_average=not train)(nn.Dense(8, dtype=jnp.float32)(x))
            x = nn.Dropout(0.5, deterministic=not train)(nn.relu(x))
            return nn.Dense(2, dtype=jnp.bfloat16)(x)

    module = Network()
    return module, module.init(jax.random.key(0), X, train=False)


def test_flax_with_state_that_is_no_output(flax_network):
    module, variables = flax_network

    def apply(variables: Any, x: Any) -> Any:
        key = {"dropout": jax.random.key(0)}
        return module.apply(variables, x, train=True, rngs=key, mutable=["batch_stats"])

    live = open_model((apply, variables), X)
    assert set(live.parameters) == {
        f"params/{name}"
        for name in (
            *("Dense_0/kernel", "Dense_0/bias", "Dense_1/kernel", "Dense_1/bias"),
            *("BatchNorm_0/scale", "BatchNorm_0/bias"),
        )
    }
    assert live.output_axes == {"params/Dense_0/kernel": -1, "params/Dense_1/kernel": -1}
    assert ran(live).shape == (6, 2)
    gradients = live.gradients(live.parameters, live.inputs, seed=0, cotangent=0)
    size = np.abs(gradients["params/Dense_0/kernel"]).max()
    # batch normalisation makes the output independent of the bias before it: exactly, in float64
    assert np.abs(gradients["params/Dense_0/bias"]).max() < 1e-14 * size


def test_flax_in_inference_is_the_formula(flax_network):
    module, variables = flax_network
    live = open_model((lambda v, x: module.apply(v, x, train=False), variables), {"x": X})
    p = {name.removeprefix("params/"): value for name, value in live.parameters.items()}
    hidden = (X @ p["Dense_0/kernel"] + p["Dense_0/bias"]) / np.sqrt(1 + 1e-5)
    hidden = np.maximum(hidden * p["BatchNorm_0/scale"] + p["BatchNorm_0/bias"], 0)
    expected = hidden @ p["Dense_1/kernel"] + p["Dense_1/bias"]
    # epsilon is a number of type float32 inside the model
    np.testing.assert_allclose(ran(live), expected, rtol=1e-9, atol=1e-12)


def test_flax_module_with_its_variables(flax_network):
    module, variables = flax_network
    still = ran(open_model((module, variables), X, training=False))
    function = lambda v, x: module.apply(v, x, train=False)  # noqa: E731
    np.testing.assert_array_equal(still, ran(open_model((function, variables), X)))
    for model in ((module, variables), module.bind(variables)):
        live = open_model(model, X)
        assert (ran(live) != still).any()
        np.testing.assert_array_equal(ran(live, 1), ran(live, 1))
        assert (ran(live, 1) != ran(live, 2)).any()


@pytest.mark.slow
def test_flax_recurrent_and_attention():
    nn = framework("flax.linen")

    class Network(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            x = nn.Embed(7, 8)(tokens)
            x = x + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x))
            return nn.RNN(nn.LSTMCell(3))(x)

    module = Network()
    live = open_model((module.apply, module.init(jax.random.key(0), TOKENS)), TOKENS)
    # kernels of heads have two axes of outputs, so none is named
    assert len(live.output_axes) == 8
    assert all("LSTM" in name for name in live.output_axes)
    way = {n: np.random.default_rng(1).standard_normal(v.shape) for n, v in live.parameters.items()}

    def value(t: float) -> float:
        moved = {name: one + t * way[name] for name, one in live.parameters.items()}
        return float(live.outputs(moved, live.inputs, seed=0)[0].ravel() @ pulled.ravel())

    from obstruction.conservation.live.base import cotangents

    (pulled,) = cotangents([(2, 6, 3)], 0)
    found = live.gradients(live.parameters, live.inputs, seed=0, cotangent=0)
    slope = sum(float(np.sum(one * way[name])) for name, one in found.items() if one is not None)
    assert (value(1e-5) - value(-1e-5)) / 2e-5 == pytest.approx(slope, rel=1e-8)


def test_no_law_of_an_attention_layer_is_listed_twice():
    nn = framework("flax.linen")

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            heads = nn.MultiHeadDotProductAttention(2, qkv_features=8)
            return nn.Dense(1)(heads(x, x).mean(1))

    inputs = np.random.default_rng(0).standard_normal((3, 4, 8)).astype(np.float32)
    module = Network()
    pair = module.apply, module.init(KEY, inputs)
    found = ob.conservation_laws(pair, inputs=inputs)
    # two heads of 4: queries and keys, values and outputs; 8 linear outputs of the layer
    assert sorted(law.size for law in found) == [20, 20, 36]
    assert found.counts == {"matrix": 76}


def test_axes_of_convolutions():
    nn = framework("flax.linen")

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x, image):
            image = nn.ConvTranspose(4, (3, 3))(nn.Conv(6, (3, 3))(image))
            return nn.Conv(5, (3,))(x), image

    inputs = np.ones((2, 8, 3)), np.ones((2, 8, 8, 3))
    module = Network()
    live = open_model((module, module.init(KEY, *inputs)), inputs)
    widths = {
        name.split("/")[1]: live.parameters[name].shape[axis]
        for name, axis in live.output_axes.items()
    }
    assert widths == {"Conv_0": 6, "ConvTranspose_0": 4, "Conv_1": 5}


def test_haiku():
    haiku = framework("haiku")

    def network(x: Any) -> Any:
        return haiku.dropout(haiku.next_rng_key(), 0.5, haiku.nets.MLP([4, 2])(x))

    pair = haiku.transform(network)
    params = pair.init(jax.random.key(0), X)
    live = open_model((pair, params), X)
    assert live.output_axes == {"mlp/~/linear_0/w": -1, "mlp/~/linear_1/w": -1}
    assert (ran(live, 1) != ran(live, 2)).any()
    given = open_model((pair.apply, params), (jax.random.PRNGKey(0), X))
    assert (ran(given, 1) != ran(given, 2)).any()

    stateful = haiku.transform_with_state(
        lambda x: haiku.BatchNorm(False, False, 0.9)(haiku.Linear(4)(x), is_training=True)
    )
    params, state = stateful.init(jax.random.key(0), X)
    live = open_model((stateful, (params, state)), X)
    p = live.parameters
    expected = normalised(X @ p["linear/w"] + p["linear/b"])
    np.testing.assert_allclose(ran(live), expected, rtol=1e-5)


def test_equinox():
    equinox = framework("equinox")
    module = equinox.nn.MLP(5, 2, 4, 1, key=jax.random.key(0))
    live = open_model(module, X[0])
    p = live.parameters
    assert list(p) == [f"layers/{i}/{name}" for i in (0, 1) for name in ("weight", "bias")]
    assert live.output_axes == {"layers/0/weight": 0, "layers/1/weight": 0}
    hidden = np.maximum(p["layers/0/weight"] @ X[0] + p["layers/0/bias"], 0)
    expected = p["layers/1/weight"] @ hidden + p["layers/1/bias"]
    np.testing.assert_allclose(ran(live), expected, rtol=1e-13)
    batch = open_model((lambda module, x: jax.vmap(module)(x), module), X)
    np.testing.assert_allclose(ran(batch)[0], ran(live), rtol=1e-13)


def test_nnx():
    nnx = framework("flax.nnx")

    class Network(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.linear = nnx.Linear(5, 4, rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.drop(self.norm(self.linear(x)))

    module = Network(nnx.Rngs(0))
    names = {"linear/kernel", "linear/bias", "norm/scale", "norm/bias"}
    for model in (module, nnx.split(module)):
        live = open_model(model, X)
        assert set(live.parameters) == names
        p = live.parameters
        expected = normalised(X @ p["linear/kernel"] + p["linear/bias"])
        kept = ran(live, 1) != 0
        np.testing.assert_allclose(ran(live, 1)[kept], 2 * expected[kept], rtol=1e-6)
        assert (kept != (ran(live, 2) != 0)).any()
    np.testing.assert_array_equal(module.norm.mean[...], np.zeros(4))
    assert module.drop.rngs.count[...] == 0


def test_stax():
    stax = framework("jax.example_libraries.stax")
    start, apply = stax.serial(stax.Dense(3), stax.Relu, stax.Dense(2))
    _, params = start(jax.random.key(0), (-1, 5))
    live = open_model((apply, params), X)
    p = live.parameters
    assert list(p) == ["0/0", "0/1", "2/0", "2/1"]
    expected = np.maximum(X @ p["0/0"] + p["0/1"], 0) @ p["2/0"] + p["2/1"]
    np.testing.assert_allclose(ran(live), expected, rtol=1e-13, atol=1e-14)
