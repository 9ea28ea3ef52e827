"""Nested mappings of arrays: parameters of Flax and Haiku, with and without the frameworks."""

from __future__ import annotations

import types

import numpy as np
import pytest
from conftest import framework

from obstruction import models
from obstruction.models.options import ReadOptions
from obstruction.models.readers.memory import trees


def flax_like(d=5, l=7, e=1):
    """What Flax gives ``Dense(e)(relu(Dense(l)(x)))``: the output layer is constructed first."""
    random = np.random.default_rng(2)
    return {
        "params": {
            "Dense_0": {"kernel": random.normal(size=(l, e)), "bias": np.zeros(e)},
            "Dense_1": {"kernel": random.normal(size=(d, l)), "bias": np.ones(l)},
        }
    }


def test_a_tree_is_read_by_joined_names():
    tree = flax_like()
    model = models.read(tree, ReadOptions("relu"))
    assert [layer.name for layer in model.layers] == ["params/Dense_1", "params/Dense_0"]
    assert np.shares_memory(model.layers[0].weight, tree["params"]["Dense_1"]["kernel"])
    assert model.layers[0].weight.shape == (7, 5)
    assert model.format == "tree of arrays"


def test_square_layers_of_flax_have_its_layout_but_no_order():
    tree = flax_like(7, 7, 7)
    with pytest.raises(ValueError, match=r"^layers = None: .*'params/Dense_0', 'params/Dense_1'"):
        models.read(tree, ReadOptions("relu"))
    layers = ["params/Dense_1", "params/Dense_0"]
    model = models.read(tree, ReadOptions("relu", layers=layers))
    assert {layer.layout for layer in model.layers} == {"in_out"}
    with pytest.raises(
        ValueError, match=r"^layout = 'out_in': tree of arrays stores weights in_out"
    ):
        models.read(tree, ReadOptions("relu", layers=layers, layout="out_in"))


def test_batch_statistics_tell_of_a_normalisation():
    tree = flax_like()
    tree["batch_stats"] = {"BatchNorm_0": {"mean": np.zeros(7), "var": np.ones(7)}}
    reason = models.read(tree, ReadOptions("relu")).links[0].reason
    assert reason == "batch_stats/BatchNorm_0: a normalisation layer of this width may follow"


def test_lists_of_mappings_are_in_order():
    random = np.random.default_rng(0)
    tree = [{"w": random.normal(size=(4, 4)), "b": np.zeros(4)} for _ in range(3)]
    model = models.read(tree, ReadOptions("relu"))
    assert [layer.name for layer in model.layers] == ["0", "1", "2"]
    assert model.layers[0].layout == "in_out"


def test_w_alone_does_not_tell_the_layout_of_ones_own_arrays():
    tree = {"a": {"w": np.ones((7, 5))}, "b": {"w": np.ones((1, 7))}}
    with pytest.raises(ValueError, match=r"^layout = None"):
        models.read(tree, ReadOptions("relu"))


def test_a_changed_copy_leaves_the_tree_alone():
    tree = flax_like()
    new = models.write(tree, {"params/Dense_0/kernel": np.full((7, 1), 9.0)})
    assert (new["params"]["Dense_0"]["kernel"] == 9.0).all()
    assert not (tree["params"]["Dense_0"]["kernel"] == 9.0).any()
    assert new["params"]["Dense_1"] is tree["params"]["Dense_1"]


def test_a_tree_is_changed_in_place():
    tree = flax_like()
    kernel = tree["params"]["Dense_0"]["kernel"]
    same = models.write(tree, {"params/Dense_0/kernel": np.full((7, 1), 9.0)}, inplace=True)
    assert same is tree
    assert kernel is tree["params"]["Dense_0"]["kernel"]
    assert (kernel == 9.0).all()


def test_mappings_that_cannot_change():
    frozen = types.MappingProxyType({"a": types.MappingProxyType({"kernel": np.ones((2, 2))})})
    new = models.write(frozen, {"a/kernel": np.zeros((2, 2))})
    assert type(new) is types.MappingProxyType
    assert not new["a"]["kernel"].any()
    assert frozen["a"]["kernel"].all()


@pytest.mark.parametrize(
    "source", [{}, [], {"a": {}}, {"a": "text"}, {"a": {"b": None}}, "text", 3]
)
def test_what_is_no_tree(source):
    assert not trees.matches(source)


# --- with the frameworks -------------------------------------------------------------------


def test_flax_linen():
    jax, nn = framework("jax"), framework("flax.linen")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(nn.relu(nn.Dense(7)(x)))

    x = np.ones((3, 5), np.float32)
    params = Net().init(jax.random.key(0), x)
    model = models.read(params, ReadOptions("relu"))
    assert [layer.weight.shape for layer in model.layers] == [(7, 5), (1, 7)]
    hidden = np.maximum(0, x @ model.layers[0].weight.T + model.layers[0].bias)
    out = hidden @ model.layers[1].weight.T + model.layers[1].bias
    np.testing.assert_allclose(out, Net().apply(params, x), rtol=1e-5)

    changes = model.layers[0].rescaled(np.full(7, 2.0), None)
    changes |= model.layers[1].rescaled(None, np.full(7, 0.5))
    for inplace in (False, True):
        new = models.write(params, changes, inplace=inplace)
        assert (new is params) == inplace
        name = model.layers[0].weight_tensor.name.split("/")[1]
        assert isinstance(new["params"][name]["kernel"], jax.Array)
        np.testing.assert_allclose(Net().apply(new, x), out, rtol=1e-5)
        np.testing.assert_array_equal(new["params"][name]["kernel"], 2 * model.layers[0].weight.T)


def test_flax_sequential_and_frozen_dict():
    jax, nn = framework("jax"), framework("flax.linen")
    frozen = framework("flax.core").FrozenDict
    net = nn.Sequential([nn.Dense(5), nn.relu, nn.Dense(5), nn.relu, nn.Dense(5)])
    params = frozen(net.init(jax.random.key(0), np.ones((1, 5), np.float32)))
    model = models.read(params, ReadOptions("relu"))
    assert [layer.name[-8:] for layer in model.layers] == ["layers_0", "layers_2", "layers_4"]
    name = model.layers[0].weight_tensor.name
    new = models.write(params, {name: np.zeros((5, 5), np.float32)})
    assert type(new) is frozen
    assert not np.asarray(new["params"]["layers_0"]["kernel"]).any()
    with pytest.raises(ValueError, match=r"^inplace = True: a FrozenDict cannot be changed"):
        models.write(params, {name: np.zeros((5, 5), np.float32)}, inplace=True)


def test_haiku_numbers_by_construction():
    jax, hk = framework("jax"), framework("haiku")
    net = hk.transform(lambda x: hk.Linear(1)(jax.nn.relu(hk.Linear(7)(x))))
    x = np.ones((2, 5), np.float32)
    params = net.init(jax.random.PRNGKey(0), x)
    model = models.read(params, ReadOptions("relu"))
    assert [layer.weight.shape for layer in model.layers] == [(7, 5), (1, 7)]
    name = model.layers[0].name
    new = models.write(params, {f"{name}/b": np.ones(7, np.float32)})
    assert type(new) is type(params)
    assert np.asarray(new[name]["b"]).all()
    assert not np.asarray(params[name]["b"]).any()


def test_haiku_without_biases_is_in_out():
    jnp = framework("jax.numpy")
    tree = {"linear": {"w": jnp.ones((7, 1))}, "linear_1": {"w": jnp.ones((5, 7))}}
    model = models.read(tree, ReadOptions("relu"))
    assert [layer.name for layer in model.layers] == ["linear_1", "linear"]


def test_flax_nnx_state():
    nnx = framework("flax.nnx")
    net = nnx.Sequential(
        nnx.Linear(5, 7, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(7, 1, rngs=nnx.Rngs(1))
    )
    state = nnx.state(net)
    model = models.read(state, ReadOptions("relu"))
    assert [layer.weight.shape for layer in model.layers] == [(7, 5), (1, 7)]
    name = model.layers[0].weight_tensor.name
    before = np.array(model.layers[0].weight_tensor.array)
    new = models.write(state, {name: np.full((5, 7), 4.0, np.float32)})
    assert (models.read_contents(new).tensors[name].array == 4.0).all()
    np.testing.assert_array_equal(models.read_contents(state).tensors[name].array, before)
    nnx.update(net, new)
    assert (np.asarray(nnx.state(net)["layers"][0]["kernel"][...]) == 4.0).all()
    assert models.read(net, ReadOptions("relu")).layers[0].weight.max() == 4.0
    linen = framework("flax.linen")
    with pytest.raises(models.UnreadableModel, match=r"give the parameters: state\.params"):
        models.read(linen.Dense(3))


def test_bfloat16_of_jax():
    jnp = framework("jax.numpy")
    tree = {
        "a": {"kernel": jnp.ones((5, 7), jnp.bfloat16), "bias": jnp.ones(7, jnp.bfloat16)},
        "b": {"kernel": jnp.ones((7, 1), jnp.bfloat16)},
    }
    model = models.read(tree, ReadOptions("relu"))
    assert model.layers[0].weight_tensor.dtype == "bfloat16"
    changes = model.layers[0].rescaled(np.full(7, 1.5), None)
    new = models.write(tree, changes)
    assert new["a"]["kernel"].dtype == jnp.bfloat16
    assert (np.asarray(new["a"]["kernel"], np.float32) == 1.5).all()
