"""Plain arrays as models: sequences, mappings, and the weights that `ob.replay` returns."""

from __future__ import annotations

import numpy as np
import pytest

import obstruction as ob
from obstruction import models
from obstruction.models.contents import UnreadableModel
from obstruction.models.options import ReadOptions
from obstruction.models.readers.memory import arrays


@pytest.fixture
def net():
    random = np.random.default_rng(1)
    shapes = {"W1": (7, 5), "b1": (7,), "W2": (1, 7), "b2": (1,)}
    return {name: random.normal(size=shape) for name, shape in shapes.items()}


def forms(net):
    W1, b1, W2, b2 = net.values()
    return {
        "flat": [W1, b1, W2, b2],
        "pairs": [(W1, b1), (W2, b2)],
        "tuple": (W1, b1, W2, b2),
        "mapping": dict(net),
        "turned": [W1.T, b1, W2.T, b2],
    }


@pytest.mark.parametrize("form", forms(dict.fromkeys(("W1", "b1", "W2", "b2"), np.zeros((1, 1)))))
def test_every_form_gives_the_same_network(net, form):
    source = forms(net)[form]
    model = models.read(source, ReadOptions("relu"))
    assert [layer.name for layer in model.layers] == ["W1", "W2"]
    for layer, number in zip(model.layers, "12", strict=True):
        np.testing.assert_array_equal(layer.weight, net[f"W{number}"])
        np.testing.assert_array_equal(layer.bias, net[f"b{number}"])
        assert np.shares_memory(layer.weight, net[f"W{number}"])


@pytest.mark.parametrize("form", [0, 1, 2, 3])
def test_biases_may_be_missing(net, form):
    W1, b1, W2, b2 = net.values()
    source = [(W1, W2), [W1, None, W2, b2], [(W1, None), (W2, b2)], [W1, b1, W2]][form]
    model = models.read(source, ReadOptions("relu"))
    assert model.layers[0].bias is (b1 if form == 3 else None) or form == 3
    assert (model.layers[1].bias is None) == (form in (0, 3))
    assert [layer.layout for layer in model.layers] == ["out_in", "out_in"]


def test_the_order_of_a_sequence_is_kept_and_its_layout_told_by_the_shapes(net):
    W1, _, W2, _ = net.values()
    assert models.read((W1.T, W2.T), ReadOptions("relu")).layers[0].layout == "in_out"
    with pytest.raises(ValueError, match=r"^layers: the outputs of each layer must be the inputs"):
        models.read((W2.T, W1), ReadOptions("relu"))
    with pytest.raises(ValueError, match=r"^layout = None: sequence of arrays does not say"):
        models.read((np.eye(4), np.eye(4)), ReadOptions("relu"))
    model = models.read((np.eye(4), np.eye(4)), ReadOptions("relu", layout="in_out"))
    assert model.layers[0].layout == "in_out"
    with pytest.raises(ValueError, match=r"^activation = None: sequence of arrays"):
        models.read((W1, W2))


def test_replayed_weights_say_all_that_is_needed():
    weights = ob.replay(0, network=3, d=4, l=4, scheme="torch_linear")
    model = models.read(weights)
    assert model.links[0].activation == "relu"
    np.testing.assert_array_equal(model.layers[0].weight, weights.W1)
    np.testing.assert_array_equal(model.layers[0].bias, weights.b1)
    assert (
        models.read(ob.replay(0, network=3, d=1, l=1, scheme="kaiming_normal")).links[0].reason
        is None
    )
    new = models.write(weights, {"W2": 2 * weights.W2})
    assert type(new) is type(weights)
    np.testing.assert_array_equal(new.W2, 2 * weights.W2)
    assert new.W1 is weights.W1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((np.ones((7, 5)), np.ones(7)), "^one matrix is one layer"),
        ((np.ones((7, 5)), np.ones(7), np.ones(7)), r"^array 2 has the shape \(7,\) where weights"),
        ((np.ones(7), np.ones((7, 5))), r"^array 0 has the shape \(7,\)"),
        ([(np.ones((7, 5)), np.ones(7)), (np.ones(7), np.ones(1))], r"^W2 has the shape \(7,\)"),
        ((np.ones((7, 5, 1)), np.ones((1, 7))), r"^W1 has the shape \(7, 5, 1\)"),
        ({"W1": np.ones((7, 5)), "W2": np.ones(7)}, r"^W2 has the shape \(7,\)"),
    ],
)
def test_weights_must_be_matrices(source, message):
    with pytest.raises(UnreadableModel, match=message):
        models.read(source, ReadOptions("relu"))


def test_the_same_array_twice_is_shared(net):
    square = np.ones((7, 7))
    model = models.read([net["W1"], square, square, net["W2"]], ReadOptions("relu"))
    assert all("weights are shared between W2 and W3" in link.reason for link in model.links)
    both = np.ones((14, 7))  # halves of one array have nothing in common
    model = models.read([both[:7], both[7:]], ReadOptions("relu", layout="out_in"))
    assert model.links[0].reason is None


@pytest.mark.parametrize("form", ["flat", "pairs", "tuple", "mapping"])
def test_a_changed_copy_is_of_the_same_type(net, form):
    source = forms(net)[form]
    before = {name: array.copy() for name, array in net.items()}
    changes = {"W1": 3.0 * net["W1"], "b2": net["b2"] + 1.0}
    new = models.write(source, changes)
    assert type(new) is type(source)
    found = models.read_contents(new).tensors
    for name in net:
        np.testing.assert_array_equal(found[name].array, changes.get(name, before[name]))
        np.testing.assert_array_equal(net[name], before[name])


@pytest.mark.parametrize("form", ["flat", "pairs", "tuple", "mapping", "turned"])
def test_arrays_are_changed_in_place(net, form):
    source = forms(net)[form]
    model = models.read(source, ReadOptions("relu"))
    changes = model.layers[0].rescaled(np.arange(1.0, 8.0), None)
    expected = net["W1"] * np.arange(1.0, 8.0)[:, None]
    assert models.write(source, changes, inplace=True) is source
    np.testing.assert_array_equal(net["W1"], expected)


def test_what_cannot_be_changed(net):
    net["W1"].flags.writeable = False
    with pytest.raises(ValueError, match=r"^inplace = True: W1 cannot be changed in place"):
        models.write(net, {"W1": np.ones((7, 5))}, inplace=True)
    with pytest.raises(ValueError, match=r"^changes: there is no tensor 'W9'"):
        models.write(net, {"W9": np.ones(1)})
    with pytest.raises(ValueError, match=r"^changes: 'W1' has the shape \(7, 5\), not \(5, 7\)"):
        models.write(net, {"W1": np.ones((5, 7))})


def test_an_open_npz_file_is_a_mapping(net, tmp_path):
    np.savez(tmp_path / "net.npz", **net)
    with np.load(tmp_path / "net.npz") as opened:
        assert arrays.matches(opened)
        model = models.read(opened, ReadOptions("relu"))
        new = models.write(opened, {"b1": np.zeros(7)})
    np.testing.assert_array_equal(model.layers[0].weight, net["W1"])
    assert not new["b1"].any()


def test_types_are_kept_and_bfloat16_is_rounded():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    source = {"W1": np.ones((7, 5), ml_dtypes.bfloat16), "W2": np.ones((1, 7), np.float16)}
    model = models.read(source, ReadOptions("relu"))
    assert [layer.weight_tensor.dtype for layer in model.layers] == ["bfloat16", "float16"]
    changes = model.layers[0].rescaled(np.full(7, 1.00390625), None)
    new = models.write(source, changes)
    assert new["W1"].dtype == source["W1"].dtype
    assert (new["W1"].astype(np.float32) == 1.0).all()
