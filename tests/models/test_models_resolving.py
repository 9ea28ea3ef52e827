"""Resolving: what a reader found becomes layers in order, and what is not known is asked for."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obstruction.models.contents import (
    Activation,
    Barrier,
    Contents,
    Dense,
    Tensor,
    UnreadableModel,
)
from obstruction.models.layers.ordering import chains, positions, shape_order
from obstruction.models.layers.resolving import resolve
from obstruction.models.operations.graphs import operation_chain
from obstruction.models.options import ReadOptions


def bag(shapes, *, layout=None, shared=(), format="safetensors", dtype="float32"):
    """Contents of tensors of the given shapes, each with numbers of its own."""
    random = np.random.default_rng(0)
    tensors = {
        name: Tensor(name, random.normal(size=shape).astype(np.float32), dtype)
        for name, shape in shapes.items()
    }
    return Contents(format, tensors, layout, None, tuple(map(frozenset, shared)))


def with_steps(shapes, *steps, **options):
    found = bag(shapes, **options)
    graph = operation_chain(steps)
    return Contents(found.format, found.tensors, found.layout, graph, found.shared)


def names(model):
    return [layer.name for layer in model.layers]


def reasons(model):
    return [link.reason for link in model.links]


TORCH = {"fc1.weight": (7, 5), "fc1.bias": (7,), "fc2.weight": (1, 7), "fc2.bias": (1,)}
RELU = Activation("ReLU")


def dense(name, **options):
    return Dense(name, f"{name}.weight", layout="out_in", **options)


# --- orders --------------------------------------------------------------------------------


def every_order(widths):
    return [
        list(order)
        for order in itertools.permutations(range(len(widths)))
        if chains([widths[i] for i in order])
    ]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=5))
@settings(max_examples=400)
def test_the_order_of_shapes_is_that_of_trying_all(widths):
    possible = every_order(widths)
    found = shape_order(widths)
    assert (found is None) == (not possible)
    if found is not None:
        order, unique = found
        assert order in possible
        assert unique == (len(possible) == 1)


def test_a_thousand_layers_are_ordered_at_once():
    widths = [(i, i + 1) for i in range(1, 400)]
    order, unique = shape_order(widths[::-1])
    assert (order, unique) == ([*range(398, -1, -1)], True)
    assert shape_order([(8, 8)] * 1000)[1] is False


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (["0", "2", "10"], [(0,), (2,), (10,)]),
        (["net.0.linear", "net.1.linear"], [(0,), (1,)]),
        (["net.0", "net.2.0", "net.2.2"], [(0,), (2, 0), (2, 2)]),
        (["params/layers_0", "params/layers_2"], [(0,), (2,)]),
        (["Dense_0", "Dense_1"], None),
        (["linear", "linear_1"], None),
        (["fc1", "fc2"], None),
        (["a.0", "b.0"], None),
        (["layers/dense", "layers/dense_1"], None),
    ],
)
def test_only_places_in_a_sequence_are_positions(layers, expected):
    assert positions(layers) == expected


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_bag_is_ordered_by_its_shapes_however_it_is_stored(order):
    stored = [("a", (7, 5)), ("b", (3, 7)), ("c", (1, 3))]
    shapes = {}
    for i in order:
        name, shape = stored[i]
        shapes |= {f"{name}.weight": shape, f"{name}.bias": (shape[0],)}
    model = resolve(bag(shapes), ReadOptions("relu"))
    assert names(model) == ["a", "b", "c"]
    assert [layer.weight.shape for layer in model.layers] == [(7, 5), (3, 7), (1, 3)]
    assert reasons(model) == [None, None]
    assert model.segments() == [range(3)]


def test_auto_numbering_is_not_trusted():
    """Flax numbers by construction: here Dense_0 is the output layer."""
    shapes = {
        "params/Dense_0/kernel": (7, 1),
        "params/Dense_0/bias": (1,),
        "params/Dense_1/kernel": (5, 7),
        "params/Dense_1/bias": (7,),
    }
    model = resolve(bag(shapes), ReadOptions("relu"))
    assert names(model) == ["params/Dense_1", "params/Dense_0"]
    assert [layer.layout for layer in model.layers] == ["in_out", "in_out"]


def test_square_layers_with_numbered_names_are_asked_for():
    shapes = {
        f"fc{i}.{part}": s for i in (10, 9) for part, s in (("weight", (4, 4)), ("bias", (4,)))
    }
    with pytest.raises(
        ValueError, match=r"^layers = None: the shapes allow several orders"
    ) as told:
        resolve(bag(shapes, layout="out_in"), ReadOptions("relu"))
    assert str(told.value).endswith("such as layers=['fc9', 'fc10'] (--layers fc9,fc10)")
    pasted = re.search(r"layers=(\[.*?\])", str(told.value))[1]
    model = resolve(bag(shapes, layout="out_in"), ReadOptions("relu", layers=eval(pasted)))
    assert names(model) == ["fc9", "fc10"]


def test_places_in_a_sequence_decide_among_square_layers():
    shapes = {f"{i}.weight": (4, 4) for i in (10, 0, 2)}
    model = resolve(bag(shapes, layout="out_in"), ReadOptions("relu"))
    assert names(model) == ["0", "2", "10"]
    with pytest.raises(ValueError, match=r"^layout = None"):
        resolve(bag(shapes), ReadOptions("relu"))


def test_places_that_contradict_the_shapes_decide_nothing():
    shapes = {"0.weight": (1, 7), "2.weight": (7, 5)}
    with pytest.raises(ValueError, match=r"layers=\['2', '0'\]"):
        resolve(bag(shapes, layout="out_in"), ReadOptions("relu"))
    model = resolve(bag(shapes), ReadOptions("relu"))  # in the other layout they agree
    assert [layer.layout for layer in model.layers] == ["in_out"] * 2


def test_two_networks_in_one_file_are_asked_for():
    shapes = {
        f"{part}.{i}.weight": s
        for part, e in (("actor", 2), ("critic", 1))
        for i, s in ((0, (8, 3)), (2, (e, 8)))
    }
    with pytest.raises(ValueError, match=r"make no single chain") as told:
        resolve(bag(shapes), ReadOptions("relu"))
    assert "layers=['actor.0', 'actor.2']" in str(told.value)
    model = resolve(
        bag(shapes), ReadOptions("relu", layout="out_in", layers=["critic.0", "critic.2"])
    )
    assert names(model) == ["critic.0", "critic.2"]
    assert ("actor.0", "not named in layers") in model.skipped


def test_own_names_are_in_order_and_out_in():
    shapes = {"W2": (4, 4), "b1": (4,), "W1": (4, 4), "W10": (1, 4)}
    shapes |= {f"W{i}": (4, 4) for i in range(3, 10)}
    model = resolve(bag(shapes), ReadOptions("relu"))
    assert names(model) == [f"W{i}" for i in range(1, 11)]
    assert {layer.layout for layer in model.layers} == {"out_in"}
    assert model.layers[0].bias is not None
    assert model.layers[1].bias is None


def test_own_names_keep_their_order_if_they_are_stored_the_other_way():
    """Read as (out, in) these would chain backwards: W2, W1."""
    model = resolve(bag({"W1": (5, 7), "W2": (7, 1)}), ReadOptions("relu"))
    assert names(model) == ["W1", "W2"]
    assert [layer.weight.shape for layer in model.layers] == [(7, 5), (1, 7)]
    with pytest.raises(ValueError, match=r"the outputs of each layer must be the inputs"):
        resolve(bag({"W1": (5, 7), "W2": (6, 1)}), ReadOptions("relu"))


def test_arrays_that_savez_numbered():
    shapes = {"arr_0": (7, 5), "arr_1": (7,), "arr_2": (1, 7), "arr_3": (1,)}
    model = resolve(bag(shapes), ReadOptions("relu"))
    assert [layer.bias_tensor.name for layer in model.layers] == ["arr_1", "arr_3"]


# --- layouts -------------------------------------------------------------------------------


def test_a_chain_read_backwards_is_a_chain():
    shapes = {"fc1.weight": (7, 5), "fc2.weight": (1, 7)}
    with pytest.raises(ValueError, match=r"^layout = None.*layout='out_in'.*\(--layout out_in\)"):
        resolve(bag(shapes), ReadOptions("relu"))
    assert names(resolve(bag(shapes), ReadOptions("relu", layout="out_in"))) == ["fc1", "fc2"]
    with pytest.raises(ValueError, match=r"against the order of their names.*\['fc2', 'fc1'\]"):
        resolve(bag(shapes), ReadOptions("relu", layout="in_out"))
    told = ReadOptions("relu", layout="in_out", layers=["fc2", "fc1"])
    assert names(resolve(bag(shapes), told)) == ["fc2", "fc1"]


def test_biases_tell_the_layout():
    turned = {name: shape[::-1] for name, shape in TORCH.items()}
    assert {x.layout for x in resolve(bag(TORCH), ReadOptions("relu")).layers} == {"out_in"}
    assert {x.layout for x in resolve(bag(turned), ReadOptions("relu")).layers} == {"in_out"}
    with pytest.raises(ValueError, match=r"^layout = 'in_out': fc1.weight .* stored out_in"):
        resolve(bag(TORCH), ReadOptions("relu", layout="in_out"))


def test_biases_of_some_layers_tell_the_layout_of_the_square_ones():
    shapes = {**TORCH, "fc3.weight": (7, 7), "fc3.bias": (7,)}
    assert names(resolve(bag(shapes), ReadOptions("relu"))) == ["fc1", "fc3", "fc2"]


def test_a_known_layout_must_not_be_contradicted():
    shapes = {"a.weight": (4, 4), "b.weight": (1, 4)}
    with pytest.raises(ValueError, match=r"^layout = 'in_out': safetensors stores weights out_in"):
        resolve(bag(shapes, layout="out_in"), ReadOptions("relu", layout="in_out"))
    with pytest.raises(ValueError, match=r"^layout = 'in_out': safetensors stores a out_in"):
        resolve(with_steps(shapes, dense("a"), RELU, dense("b")), ReadOptions(layout="in_out"))
    with pytest.raises(ValueError, match=r"^layout = 'oi': must be one of out_in, in_out"):
        resolve(bag(shapes), ReadOptions(layout="oi"))


def test_gpt2_stores_in_out_in_a_pytorch_file():
    shapes = {
        "h.0.mlp.c_fc.weight": (4, 16),
        "h.0.mlp.c_fc.bias": (16,),
        "h.0.mlp.c_proj.weight": (16, 4),
        "h.0.mlp.c_proj.bias": (4,),
    }
    layers = ["h.0.mlp.c_fc", "h.0.mlp.c_proj"]
    model = resolve(bag(shapes, layout="out_in"), ReadOptions("relu", layers=layers))
    assert [layer.weight.shape for layer in model.layers] == [(16, 4), (4, 16)]
    assert {layer.layout for layer in model.layers} == {"in_out"}
    given = resolve(
        bag(shapes, layout="out_in"), ReadOptions("relu", layers=layers, layout="in_out")
    )
    assert given.layers[0].weight.shape == (16, 4)


def test_biases_may_prove_one_layout_here_and_another_there():
    shapes = {"a.weight": (7, 5), "a.bias": (7,), "b.weight": (7, 1), "b.bias": (1,)}
    model = resolve(bag(shapes), ReadOptions("relu"))
    assert [layer.layout for layer in model.layers] == ["out_in", "in_out"]


def test_custom_falls_if_a_bias_disproves_it():
    shapes = {"a/kernel": (7, 5), "a/bias": (7,), "b/kernel": (1, 7)}
    model = resolve(bag(shapes), ReadOptions("relu"))
    assert [layer.layout for layer in model.layers] == ["out_in", "out_in"]


def test_kernels_are_in_out_by_custom_unless_the_caller_says_so():
    shapes = {"a/kernel": (4, 4), "b/kernel": (4, 1)}
    model = resolve(bag(shapes), ReadOptions("relu"))
    assert (names(model), model.layers[0].layout) == (["a", "b"], "in_out")
    model = resolve(bag(shapes), ReadOptions("relu", layout="out_in"))
    assert names(model) == ["b", "a"]


def test_weights_are_views_in_the_right_orientation():
    found = bag({"a/kernel": (5, 7), "b/kernel": (7, 1)})
    model = resolve(found, ReadOptions("relu"))
    stored = found.tensors["a/kernel"].array
    assert np.shares_memory(model.layers[0].weight, stored)
    np.testing.assert_array_equal(model.layers[0].weight, stored.T)


def test_biases_that_fit_neither_side():
    shapes = {**TORCH, "fc1.bias": (6,)}
    with pytest.raises(UnreadableModel, match=r"^fc1.bias has 6 numbers, which fits neither side"):
        resolve(bag(shapes), ReadOptions("relu"))


# --- names ---------------------------------------------------------------------------------

PAIRS = [
    ("X.weight", "X.bias"),
    ("X/kernel", "X/bias"),
    ("X/w", "X/b"),
    ("X/vars/0", "X/vars/1"),
    ("X/kernel:0", "X/bias:0"),
    ("X/kernel/value", "X/bias/value"),
    ("X_weight", "X_bias"),
    ("module.X.weight", "module.X.bias"),
    ("_orig_mod.X.weight", "_orig_mod.X.bias"),
    ("module._orig_mod.X.weight", "module._orig_mod.X.bias"),
    ("_orig_mod.module.X.weight", "_orig_mod.module.X.bias"),
]


@pytest.mark.parametrize(("weight", "bias"), PAIRS)
def test_weights_and_biases_are_paired(weight, bias):
    shapes = {}
    for name, rows, columns in (("hid", 7, 5), ("out", 1, 7)):
        shapes[bias.replace("X", name)] = (rows,)
        shapes[weight.replace("X", name)] = (rows, columns)
    model = resolve(bag(shapes), ReadOptions("relu"))
    assert names(model) == ["hid", "out"]
    assert [layer.bias_tensor.name for layer in model.layers] == [
        bias.replace("X", "hid"),
        bias.replace("X", "out"),
    ]
    assert reasons(model) == [None]


@pytest.mark.parametrize(
    ("weight", "bias"), [("coefs_", "intercepts_"), ("w", "b"), ("W_", "b_"), ("net/W", "net/b")]
)
def test_numbered_pairs(weight, bias):
    shapes = {f"{weight}0": (5, 7), f"{bias}0": (7,), f"{weight}1": (7, 1), f"{bias}1": (1,)}
    model = resolve(bag(shapes), ReadOptions("relu"))
    assert names(model) == [f"{weight}0", f"{weight}1"]
    assert [layer.bias_tensor.name for layer in model.layers] == [f"{bias}0", f"{bias}1"]
    assert model.layers[0].layout == "in_out"


def test_prefixes_stay_if_two_layers_would_have_one_name():
    shapes = {name: s for key, s in TORCH.items() for name in (key, f"module.{key}")}
    with pytest.raises(ValueError, match=r"'none' among fc1, module.fc1, fc2, module.fc2$"):
        resolve(bag(shapes), ReadOptions(layers=["none", "fc1"]))


def test_what_is_no_layer_is_skipped_with_its_reason():
    others = {
        "wte.weight": ((11, 5), "an embedding"),
        "conv.weight": ((4, 3, 3, 3), "a convolution"),
        "lstm.weight_ih_l0": ((12, 5), "a recurrent layer"),
        "attn.in_proj_weight": ((15, 5), "attention"),
        "blk.attn.proj.weight": ((5, 5), "attention"),
        "q_proj.weight": ((5, 5), "attention"),
    }
    shapes = {**TORCH, **{name: shape for name, (shape, _) in others.items()}}
    shapes |= {"conv.bias": (4,), "lstm.weight_hh_l0": (12, 3), "lstm.bias_ih_l0": (12,)}
    model = resolve(bag(shapes), ReadOptions("relu"))
    assert names(model) == ["fc1", "fc2"]
    assert reasons(model) == [None]
    skipped = dict(model.skipped)
    for name, (_, reason) in others.items():
        owner = name.rpartition(".")[0] if "in_proj" not in name else "attn.in_proj"
        assert skipped[owner].startswith(reason)


def test_an_embedding_with_a_bias_is_a_layer():
    shapes = {"time_embed.0.weight": (7, 5), "time_embed.0.bias": (7,)}
    shapes |= {"time_embed.2.weight": (1, 7), "time_embed.2.bias": (1,)}
    assert names(resolve(bag(shapes), ReadOptions("relu"))) == ["time_embed.0", "time_embed.2"]


def test_a_matrix_of_unknown_name_is_asked_about():
    shapes = {**TORCH, "x_train": (5, 7)}
    with pytest.raises(ValueError, match=r"^layers = None: .* whether x_train belongs") as told:
        resolve(bag(shapes), ReadOptions("relu"))
    assert "layers=['fc1', 'fc2']" in str(told.value)
    assert names(resolve(bag(shapes), ReadOptions("relu", layers=["fc1", "fc2"]))) == ["fc1", "fc2"]


def test_matrices_of_any_names_are_layers_if_there_is_nothing_else():
    model = resolve(bag({"hidden": (7, 5), "out": (1, 7)}), ReadOptions("relu", layout="out_in"))
    assert names(model) == ["hidden", "out"]


def test_a_vector_of_unknown_use_might_be_a_bias():
    shapes = {"hidden": (7, 5), "out": (1, 7), "shift": (7,)}
    model = resolve(bag(shapes), ReadOptions("relu", layout="out_in"))
    assert reasons(model) == ["shift: a vector of unknown use of this width may follow"]


def test_counters_and_positions_are_no_layers():
    found = bag({**TORCH, "bn.num_batches_tracked": (), "position_ids": (1, 512)})
    ids = Tensor("position_ids", np.zeros((1, 512), np.int64), "int64")
    found = Contents("safetensors", {**found.tensors, "position_ids": ids})
    assert names(resolve(found, ReadOptions("relu"))) == ["fc1", "fc2"]


# --- normalisation in a bag ----------------------------------------------------------------

DEEP = {"fc1.weight": (7, 5), "fc2.weight": (6, 7), "fc3.weight": (1, 6)}


@pytest.mark.parametrize(
    "layer",
    [
        {"bn1.weight": (7,), "bn1.bias": (7,), "bn1.running_mean": (7,), "bn1.running_var": (7,)},
        {"bn1.weight": (7,), "bn1.bias": (7,)},
        {"bn1/scale": (7,), "bn1/offset": (7,)},
        {"bn1/gamma": (7,), "bn1/beta": (7,), "bn1/moving_mean": (7,)},
        {"bn1/vars/0": (7,), "bn1/vars/1": (7,), "bn1/vars/2": (7,), "bn1/vars/3": (7,)},
    ],
)
def test_a_normalisation_may_follow_every_layer_of_its_width(layer):
    model = resolve(bag({**DEEP, **layer}, layout="out_in"), ReadOptions("relu"))
    assert reasons(model) == ["bn1: a normalisation layer of this width may follow", None]
    assert model.segments() == [range(1, 3)]


def test_a_normalisation_of_another_width_is_skipped():
    shapes = {**DEEP, "norm.weight": (5,), "norm.bias": (5,)}
    model = resolve(bag(shapes, layout="out_in"), ReadOptions("relu"))
    assert reasons(model) == [None, None]
    assert ("norm", "a normalisation layer") in model.skipped


def test_a_normalisation_with_a_place_is_where_it_is():
    shapes = {"0.weight": (7, 5), "2.weight": (7, 7), "3.weight": (7,), "3.bias": (7,)}
    shapes |= {"5.weight": (1, 7)}
    model = resolve(bag(shapes, layout="out_in"), ReadOptions("relu"))
    assert reasons(model) == [None, "3: a normalisation layer follows"]


def test_slopes_of_a_prelu_are_no_normalisation():
    shapes = {**DEEP, "act.weight": (7,)}
    assert reasons(resolve(bag(shapes, layout="out_in"), ReadOptions(activation="prelu"))) == [
        None,
        None,
    ]
    why = reasons(resolve(bag(shapes, layout="out_in"), ReadOptions("relu")))[0]
    assert why == "act: a normalisation layer or a PReLU of this width may follow"


# --- weight normalisation ------------------------------------------------------------------


def normalised(prefix, magnitude, direction, rows, columns):
    return {f"{prefix}.{magnitude}": (rows, 1), f"{prefix}.{direction}": (rows, columns)}


@pytest.mark.parametrize(
    "parts",
    [
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ],
)
def test_weight_normalisation(parts):
    shapes = normalised("a", *parts, 7, 5) | {"a.bias": (7,), "b.weight": (1, 7)}
    found = bag(shapes, layout="out_in")
    model = resolve(found, ReadOptions("relu"))
    assert reasons(model) == [None]
    g, v = (found.tensors[f"a.{part}"].array.astype(float) for part in parts)
    norms = np.sqrt((v * v).sum(axis=1))
    np.testing.assert_allclose(model.layers[0].weight, g * v / norms[:, None], rtol=1e-14)
    assert model.layers[0].magnitude.name == f"a.{parts[0]}"

    shapes = {"a.weight": (7, 5), "a.bias": (7,)} | normalised("b", *parts, 1, 7)
    why = reasons(resolve(bag(shapes), ReadOptions("relu")))
    assert why == ["the weights of b are normalised, which hides their scale"]


@pytest.mark.parametrize(
    "extra",
    [
        {"a.weight_g": (1, 5), "a.weight_v": (7, 5)},
        {"a.weight_orig": (7, 5), "a.weight_u": (7,), "a.weight_v": (5,)},
        {"a.weight_orig": (7, 5), "a.weight_mask": (7, 5)},
        {"a.parametrizations.weight.original": (7, 5), "a.parametrizations.weight.0._u": (7,)},
    ],
)
def test_weights_computed_from_others(extra):
    model = resolve(
        bag({**extra, "a.bias": (7,), "b.weight": (1, 7), "b.bias": (1,)}), ReadOptions("relu")
    )
    assert names(model) == ["a", "b"]
    assert reasons(model)[0].startswith("a: its weights are ")


# --- sharing, training, numbers ------------------------------------------------------------


def test_shared_weights_stop_the_neurons_on_both_sides():
    found = bag(DEEP, layout="out_in", shared=[("fc2.weight", "tied.weight")])
    why = "weights are shared between fc2.weight and tied.weight"
    assert reasons(resolve(found, ReadOptions("relu"))) == [why, why]
    found = bag(DEEP, layout="out_in", shared=[("fc1.weight", "wte.weight")])
    assert reasons(resolve(found, ReadOptions("relu")))[1] is None


def test_a_layer_used_twice():
    steps = [dense("fc1"), RELU, dense("h"), RELU, dense("h"), RELU, dense("fc2")]
    model = resolve(
        with_steps({"fc1.weight": (7, 5), "h.weight": (7, 7), "fc2.weight": (1, 7)}, *steps)
    )
    assert reasons(model) == ["weights are shared: h is used 2 times"] * 3
    part = resolve(
        with_steps({"fc1.weight": (7, 5), "h.weight": (7, 7), "fc2.weight": (1, 7)}, *steps),
        ReadOptions(layers=["fc1", "h"]),
    )
    assert reasons(part) == ["weights are shared: h is used 2 times"]


def test_frozen_layers_keep_no_balance():
    steps = [dense("fc1"), RELU, dense("fc2", trained=False), RELU, dense("fc3")]
    assert reasons(resolve(with_steps(DEEP, *steps))) == ["fc2 is not trained"] * 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", TORCH)
def test_numbers_must_be_finite(name, bad):
    found = bag(TORCH)
    array = found.tensors[name].array
    array[(0,) * array.ndim] = bad
    array[(-1,) * array.ndim] = -bad  # which may cancel
    with pytest.raises(UnreadableModel, match=f"^{name} holds numbers that are infinite or not"):
        resolve(found, ReadOptions("relu"))


def test_large_numbers_are_finite_even_if_their_sum_is_not():
    found = bag(TORCH)
    found.tensors["fc1.weight"].array[:] = 3e38
    assert len(resolve(found, ReadOptions("relu")).layers) == 2


def test_numbers_must_be_floating_point():
    found = bag({"W1": (7, 5), "W2": (1, 7)})
    whole = Tensor("W1", np.ones((7, 5), np.int8), "int8")
    with pytest.raises(UnreadableModel, match=r"^W1 holds numbers of type int8: weights"):
        resolve(Contents("npz", {**found.tensors, "W1": whole}), ReadOptions("relu"))


def test_layers_without_numbers():
    with pytest.raises(UnreadableModel, match=r"^fc1.weight has the shape \(0, 5\)"):
        resolve(
            bag({**TORCH, "fc1.weight": (0, 5), "fc1.bias": (0,), "fc2.weight": (1, 0)}),
            ReadOptions("relu"),
        )


# --- activations ---------------------------------------------------------------------------


def test_an_unknown_activation_is_asked_for():
    with pytest.raises(
        ValueError, match=r"^activation = None: safetensors does not say.*\(--activation relu\)"
    ):
        resolve(bag(TORCH))
    assert (
        resolve(bag(TORCH), ReadOptions(activation="LeakyReLU")).links[0].activation == "leaky_relu"
    )
    with pytest.raises(
        ValueError, match=r"^activation = 'rleu': must be one of .*did you mean relu"
    ):
        resolve(bag(TORCH), ReadOptions(activation="rleu"))


def test_an_activation_is_not_asked_for_where_nothing_is_audited():
    shapes = {**TORCH, "bn.weight": (7,), "bn.bias": (7,)}
    assert resolve(bag(shapes)).links[0].activation == ""


def test_an_activation_must_agree_with_the_source():
    found = with_steps(TORCH, dense("fc1"), RELU, dense("fc2"))
    assert resolve(found, ReadOptions("relu")).links[0].activation == "relu"
    with pytest.raises(
        ValueError, match=r"^activation = 'tanh': between fc1 and fc2 the .* has relu"
    ):
        resolve(found, ReadOptions(activation="tanh"))


def test_activations_that_are_not_homogeneous():
    why = reasons(resolve(bag(TORCH), ReadOptions(activation="gelu")))[0]
    assert why.startswith("gelu is not positively homogeneous")
    found = with_steps(TORCH, dense("fc1"), RELU, Activation("Tanh"), dense("fc2"))
    assert reasons(resolve(found))[0].startswith("tanh is not positively homogeneous")


@pytest.mark.parametrize(
    ("between", "name", "slope"),
    [
        ((), "linear", 1.0),
        ((Activation("Identity"),), "linear", 1.0),
        ((RELU, Activation("LeakyReLU", 0.1)), "relu", 0.0),
        ((Activation("LeakyReLU", 0.1), RELU), "relu", 0.0),
        ((Activation("LeakyReLU", 0.1), Activation("PReLU", 0.5)), "prelu", 0.05),
    ],
)
def test_several_activations_are_one(between, name, slope):
    link = resolve(with_steps(TORCH, dense("fc1"), *between, dense("fc2"))).links[0]
    assert (link.activation, link.reason) == (name, None)
    assert link.slope == pytest.approx(slope)


def test_what_follows_the_last_layer_does_not_matter():
    found = with_steps(TORCH, dense("fc1"), RELU, dense("fc2"), Activation("Softmax"))
    assert reasons(resolve(found)) == [None]


# --- steps ---------------------------------------------------------------------------------


def test_barriers_stop_the_neurons_where_they_are():
    bn = Barrier("bn", "batch normalisation")
    first, last = Barrier("conv", "convolution"), Barrier("head", "unknown")
    found = with_steps(DEEP, first, dense("fc1"), bn, RELU, dense("fc2"), RELU, dense("fc3"), last)
    model = resolve(found)
    assert reasons(model) == ["bn: batch normalisation", None]
    assert model.skipped == (("conv", "convolution"), ("head", "unknown"))


def test_layers_that_do_not_fit_have_something_between_them():
    shapes = {"fc1.weight": (7, 5), "fc2.weight": (1, 14)}
    model = resolve(with_steps(shapes, dense("fc1"), RELU, dense("fc2")))
    assert reasons(model) == ["fc1 has 7 outputs and fc2 14 inputs: something lies between them"]


def test_a_part_of_a_chain_is_picked_by_name():
    found = with_steps(DEEP, dense("fc1"), RELU, dense("fc2"), RELU, dense("fc3"))
    model = resolve(found, ReadOptions(layers=["fc2", "fc3"]))
    assert (names(model), reasons(model)) == (["fc2", "fc3"], [None])
    assert model.skipped == (("fc1", "not named in layers"),)
    model = resolve(found, ReadOptions(layers=["fc1", "fc3"]))
    assert reasons(model) == ["fc2: not named in layers"]
    with pytest.raises(ValueError, match=r"^layers = \['fc3', 'fc1'\]: .* order fc1, fc2, fc3"):
        resolve(found, ReadOptions(layers=["fc3", "fc1"]))


def test_layers_that_the_steps_do_not_tell_of_are_found_among_the_tensors():
    found = with_steps({**TORCH, "in.weight": (5, 3)}, dense("in"), Barrier("rest", "unknown"))
    model = resolve(found, ReadOptions(layers=["fc1", "fc2"], activation="relu"))
    assert (names(model), reasons(model)) == (["fc1", "fc2"], [None])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["fc1", "fc3"], "^layers: there is no layer 'fc3' among fc1, fc2"),
        (["fc1", "fc1"], "'fc1' is named twice"),
        (["fc2", "fc1"], "the outputs of each layer must be the inputs of the next"),
        (["fc1"], "must name two layers or more"),
        ("fc1", "must be a sequence of names"),
    ],
)
def test_layers_that_cannot_be(layers, message):
    with pytest.raises(ValueError, match=message):
        resolve(bag(TORCH), ReadOptions("relu", layers=layers))


def test_layers_may_be_named_by_their_tensors():
    model = resolve(bag(TORCH), ReadOptions("relu", layers=["fc1.weight", "fc2.weight"]))
    assert names(model) == ["fc1", "fc2"]


def test_less_than_two_layers_still_make_a_model():
    assert resolve(bag({})).layers == ()
    one = resolve(bag({"fc.weight": (7, 5), "fc.bias": (7,)}))
    assert (names(one), one.links, one.segments()) == (["fc"], (), [])
    unclear = resolve(bag({"fc.weight": (7, 5)}))
    assert unclear.layers == ()
    assert unclear.skipped[0][0] == "fc"


def test_factors_of_the_forward_pass_are_handed_on():
    steps = [dense("fc1", factor=2.0, bias_factor=0.5), RELU, dense("fc2")]
    layer = resolve(with_steps(TORCH, *steps)).layers[0]
    assert (layer.factor, layer.bias_factor) == (2.0, 0.5)


def test_notes_are_kept():
    found = bag(TORCH)
    found = Contents(found.format, found.tensors, notes=("the graph is not read",))
    model = resolve(found, ReadOptions("relu"))
    assert (model.notes, model.skipped) == (("the graph is not read",), ())


def test_missing_tensors_are_named():
    found = with_steps({"fc1.weight": (7, 5)}, dense("fc1"), RELU, dense("fc2"))
    with pytest.raises(UnreadableModel, match=r"^fc2: the tensor fc2.weight is missing"):
        resolve(found)
