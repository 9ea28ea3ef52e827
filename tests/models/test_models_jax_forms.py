"""What libraries on JAX write: lists of stax, files and modules of Equinox, modules of nnx."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from conftest import framework
from model_files import npy

import obstruction as ob
from obstruction import models
from obstruction.models.contents import NothingAuditable, UnreadableModel
from obstruction.models.options import ReadOptions

RELU = ReadOptions("relu")


def drawn(*sizes, seed=0):
    """Weights (inputs, outputs) and biases."""
    rng = np.random.default_rng(seed)
    pairs = itertools.pairwise(sizes)
    return [(rng.normal(size=pair), rng.normal(size=pair[1])) for pair in pairs]


def links(source, options=RELU):
    return [link.reason or link.activation for link in models.read(source, options).links]


# --- sequences with places that have no parameters -----------------------------------------------

EMPTY = {"tuple": (), "list": [], "none": None}


@pytest.mark.parametrize("empty", EMPTY)
@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("pair", [list, tuple])
def test_empty_places_are_passed_over(empty, kind, pair):
    layers = drawn(3, 6, 5, 1)
    gap = EMPTY[empty]
    source = kind([gap, pair(layers[0]), gap, gap, pair(layers[1]), gap, pair(layers[2]), gap])
    model = models.read(source, RELU)
    assert [layer.weight.shape for layer in model.layers] == [(6, 3), (5, 6), (1, 5)]
    assert [layer.bias.tolist() for layer in model.layers] == [b.tolist() for _, b in layers]
    new = models.write(source, {"b2": np.zeros(5)})
    assert type(new) is kind
    assert [type(part) for part in new] == [type(part) for part in source]
    assert not new[4][1].any()
    assert new[1][0] is source[1][0]
    if empty != "none":
        assert "empty places" in models.read_contents(source).notes[0]


def test_without_pairs_a_missing_bias_is_none():
    (w1, b1), (w2, _) = drawn(3, 6, 1)
    model = models.read([w1, b1, w2, None], RELU)
    assert [layer.bias is None for layer in model.layers] == [False, True]
    with pytest.raises(UnreadableModel, match="array 2 has None where weights are expected"):
        models.read([w1, b1, None, w2], RELU)


def test_nested_sequences_may_be_branches():
    """As stax writes for parallel layers, and for a serial of serials."""
    first, second, third = drawn(3, 6, 6, 1)
    for source in ([[first, ()], second, third], [first, (), [second, ()], third]):
        with pytest.raises(
            UnreadableModel, match="nested sequences of arrays does not say whether"
        ):
            models.read(source, RELU)


def test_stax_itself():
    jax = framework("jax")
    stax = framework("jax.example_libraries.stax")
    init, apply = stax.serial(stax.Dense(6), stax.Relu, stax.Dense(5), stax.Relu, stax.Dense(1))
    _, params = init(jax.random.PRNGKey(0), (-1, 3))
    x = np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32)
    repaired = ob.repair(params, activation="relu")
    assert links(params) == ["relu", "relu"]
    assert np.allclose(apply(repaired, x), apply(params, x), atol=1e-5)
    branches = stax.serial(
        stax.Dense(6), stax.FanOut(2), stax.parallel(stax.Dense(6), stax.Identity), stax.FanInSum,
        stax.Dense(1),
    )  # fmt: skip
    with pytest.raises(UnreadableModel, match="nested sequences"):
        models.read(branches[0](jax.random.PRNGKey(0), (-1, 3))[1], RELU)


# --- files of Equinox ----------------------------------------------------------------------------


def eqx(tmp_path, *arrays, head=b"", name="a.eqx"):
    path = tmp_path / name
    path.write_bytes(head + b"".join(npy(np.asarray(one, "f4")) for one in arrays))
    return path


def flat(pairs, *, last=True):
    """What Equinox writes for these layers, which it stores as (outputs, inputs)."""
    arrays = [part for w, b in pairs for part in (w.T, b)]
    return arrays if last else arrays[:-1]


@pytest.mark.parametrize("name", ["a.eqx", "a.npy", "a"])
def test_a_file_is_read_by_its_content(name, tmp_path):
    pairs = drawn(3, 6, 5, 1)
    path = eqx(tmp_path, *flat(pairs), name=name)
    model = models.read(path, RELU)
    assert [layer.name for layer in model.layers] == ["leaf_0", "leaf_2", "leaf_4"]
    for layer, (w, b) in zip(model.layers, pairs, strict=True):
        assert np.array_equal(layer.weight, w.T.astype("f4"))
        assert np.array_equal(layer.bias, b.astype("f4"))
    models.write(path, {"leaf_2.bias": np.zeros(5, "f4")}, out=tmp_path / f"b{path.suffix}")
    new = models.read(tmp_path / f"b{path.suffix}", RELU)
    assert not new.layers[1].bias.any()
    assert np.array_equal(new.layers[2].weight, model.layers[2].weight)


def test_a_line_of_options_may_come_first(tmp_path):
    head = b'{"width": {"all": 6}, "depth": 2}\n'
    path = eqx(tmp_path, *flat(drawn(3, 6, 1)), head=head)
    assert links(path) == ["relu"]
    models.write(path, {"leaf_0.bias": np.zeros(6, "f4")}, out=path)
    assert path.read_bytes().startswith(head + b"\x93NUMPY")
    assert links(path) == ["relu"]


def test_an_order_that_shapes_leave_open_is_asked_for(tmp_path):
    path = eqx(tmp_path, *flat(drawn(3, 6, 6, 6, 1)))
    with pytest.raises(ValueError, match=r"layers=\['leaf_0', 'leaf_2', 'leaf_4', 'leaf_6'\]"):
        models.read(path, RELU)
    names = ["leaf_0", "leaf_2", "leaf_4", "leaf_6"]
    assert links(path, ReadOptions("relu", layers=names)) == ["relu"] * 3


def test_vectors_that_need_not_be_biases(tmp_path):
    (w1, b1), (w2, b2) = drawn(3, 6, 1)
    w1, w2 = w1.T, w2.T
    norms = {
        "scale and shift": (w1, b1, b1 + 1, b1, w2, b2),
        "scale of ones": (w1, np.ones(6), w2, b2),
        "scale without biases": (w1, b1, w2),
        "shift alone": (w1, b1, b1, w2, b2),
    }
    for name, arrays in norms.items():
        with pytest.raises(NothingAuditable, match="a vector of unknown use"):
            ob.audit(eqx(tmp_path, *arrays), "relu", layout="out_in")
        assert name
    numbers = eqx(tmp_path, 0.1, w1, b1, np.float32(0.5), w2, b2)
    assert links(numbers) == ["relu"], "numbers are no layers"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"{}\n", "no array follows its first line"),
        (b"{}\n" + b"x" * 100 + npy(np.ones(3)), "no array follows its first line"),
        (npy(np.ones(3)) * 2 + npy(np.ones(3))[:-1], "array 2 is cut off"),
        (npy(np.ones(3)) * 2 + b"x" * 20, "does not start as an array does"),
    ],
)
def test_damaged_files(data, why, tmp_path):
    path = tmp_path / "a.eqx"
    path.write_bytes(data)
    with pytest.raises(UnreadableModel, match=why):
        models.read(path, RELU)


# --- modules of Equinox --------------------------------------------------------------------------


@pytest.fixture
def key():
    framework("equinox")
    return framework("jax").random.PRNGKey(0)


def test_modules_of_known_classes_tell_their_layers(key):
    equinox, jax = framework("equinox"), framework("jax")
    nn = equinox.nn
    net = nn.MLP(3, 1, 6, 2, key=key)
    model = models.read(net)
    assert [layer.name for layer in model.layers] == ["layers/0", "layers/1", "layers/2"]
    assert links(net, ReadOptions()) == ["relu", "relu"]
    for layer, told in zip(model.layers, net.layers, strict=True):
        assert np.array_equal(layer.weight, told.weight)
    repaired = ob.repair(net)
    x = np.random.default_rng(0).normal(size=(9, 3)).astype("f4")
    assert np.allclose(jax.vmap(repaired)(x), jax.vmap(net)(x), atol=1e-5)
    with pytest.raises(ValueError, match="inplace = True: a module of Equinox cannot be changed"):
        models.write(net, {"layers/0/bias": np.zeros(6)}, inplace=True)
    with pytest.raises(ValueError, match=r"activation = 'tanh': .* has relu"):
        ob.audit(net, "tanh")


def test_activations_of_modules(key):
    equinox, jax = framework("equinox"), framework("jax")
    nn, linear = equinox.nn, equinox.nn.Linear
    for function, found in ((jax.nn.leaky_relu, "leaky_relu"), (nn.PReLU(), "prelu")):
        assert links(nn.MLP(3, 1, 6, 2, activation=function, key=key), ReadOptions()) == [found] * 2
    assert (
        "tanh is not"
        in links(nn.MLP(3, 1, 6, 1, activation=jax.nn.tanh, key=key), ReadOptions())[0]
    )
    own = nn.MLP(3, 1, 6, 1, activation=lambda x: x * (x > 0), key=key)
    with pytest.raises(ValueError, match="activation = None"):
        models.read(own)
    assert links(own) == ["relu"]
    parts = [linear(3, 6, key=key), nn.Lambda(jax.nn.relu), nn.Dropout(0.1), linear(6, 1, key=key)]
    assert links(nn.Sequential(parts), ReadOptions()) == ["relu"]
    parts.insert(1, nn.LayerNorm(6))
    assert "LayerNorm" in links(nn.Sequential(parts))[0]


def test_other_modules_are_told_by_names(key):
    equinox, jax = framework("equinox"), framework("jax")

    class Net(equinox.Module):
        out: equinox.nn.Linear
        into: equinox.nn.Linear
        key: jax.Array

        def __call__(self, x):
            return self.out(jax.nn.relu(self.into(x)))

    first, second = jax.random.split(key)
    linear = equinox.nn.Linear
    net = Net(linear(6, 1, key=first), linear(3, 6, key=second), jax.random.key(0))
    model = models.read(net, RELU)
    assert [layer.name for layer in model.layers] == ["into", "out"]
    assert "is not run" in model.notes[0]
    square = Net(linear(6, 6, key=first), linear(6, 6, key=second), jax.random.key(0))
    with pytest.raises(ValueError, match="layers = None"):
        models.read(square, RELU)
    assert models.read_contents(square).layout == "out_in"


def test_a_subclass_is_not_taken_for_its_class(key):
    equinox, jax = framework("equinox"), framework("jax")

    class Other(equinox.nn.MLP):
        def __call__(self, x, *, key=None):
            return self.layers[1](jax.numpy.sin(self.layers[0](x)))

    with pytest.raises(ValueError, match="activation = None"):
        models.read(Other(3, 1, 6, 1, key=key))


def test_files_that_equinox_writes_and_reads(key, tmp_path):
    equinox, jax = framework("equinox"), framework("jax")
    net = equinox.nn.MLP(3, 1, 6, 2, key=key)
    path = tmp_path / "a.eqx"
    equinox.tree_serialise_leaves(path, net)
    repaired = ob.repair(path, activation="relu", out=tmp_path / "b.eqx")
    back = equinox.tree_deserialise_leaves(repaired, net)
    x = np.random.default_rng(0).normal(size=(9, 3)).astype("f4")
    assert np.allclose(jax.vmap(back)(x), jax.vmap(net)(x), atol=1e-5)
    half = jax.tree_util.tree_map(
        lambda one: one.astype(jax.numpy.bfloat16) if equinox.is_array(one) else one, net
    )
    equinox.tree_serialise_leaves(path, half)
    assert models.read(path, RELU).layers[0].weight_tensor.dtype == "bfloat16"


# --- modules of nnx ------------------------------------------------------------------------------


def nnx_net(*, dropout=False, norm=False):
    nnx = framework("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.out = nnx.Linear(6, 1, rngs=rngs)
            self.into = nnx.Linear(3, 6, rngs=rngs)
            if dropout:
                self.dropout = nnx.Dropout(0.0, rngs=rngs)
            if norm:
                self.norm = nnx.BatchNorm(6, rngs=rngs)

        def __call__(self, x):
            return self.out(nnx.relu(self.into(x)))

    return Net(nnx.Rngs(0))


@pytest.mark.parametrize("dropout", [False, True])
def test_modules_of_nnx(dropout):
    nnx = framework("flax.nnx")
    net = nnx_net(dropout=dropout)
    for source in (net, nnx.state(net)):
        model = models.read(source, RELU)
        assert [layer.name for layer in model.layers] == ["into", "out"]
        assert {layer.layout for layer in model.layers} == {"in_out"}
    assert "is not run" in models.read(net, RELU).notes[0]
    x = np.random.default_rng(0).normal(size=(9, 3)).astype("f4")
    before = np.asarray(net(x))
    fixed = ob.repair(net, activation="relu")
    assert fixed is not net
    assert np.allclose(fixed(x), before, atol=1e-5)
    models.write(net, {"into/bias": np.full(6, 2.0, "f4")}, inplace=True)
    assert (np.asarray(net.into.bias[...]) == 2.0).all()


def test_a_normalisation_in_a_module_of_nnx_is_seen():
    assert "a normalisation layer of this width may follow" in links(nnx_net(norm=True))[0]


def test_a_module_of_nnx_without_arrays():
    nnx = framework("flax.nnx")
    with pytest.raises(UnreadableModel, match="Dropout: the module of nnx has no arrays"):
        models.read(nnx.Dropout(0.1))


def test_arrays_of_one_file_are_written_as_numpy_does(tmp_path):
    stream = io.BytesIO()
    for part in flat(drawn(3, 6, 1)):
        np.save(stream, np.asfortranarray(part.astype("f8")))
    (tmp_path / "a.eqx").write_bytes(stream.getvalue())
    assert links(tmp_path / "a.eqx") == ["relu"]
