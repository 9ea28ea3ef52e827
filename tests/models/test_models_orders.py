"""How tensors without a class are stored, and in which order: what is known, and what is asked."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from conftest import framework
from model_files import (
    module,
    npz,
    safetensors,
    sequential,
    state_dict,
    storages,
    tensor,
    torch_legacy,
    torch_zip,
)

import obstruction as ob
from obstruction import models
from obstruction.models import ReadOptions

RANDOM = np.random.default_rng(0)
AGAINST = "the order of the layers is not that of their names"


def held(shapes, *, bias=False, turned=False):
    """Return weights of the shapes ``(outputs, inputs)``, or turned, by the names of layers."""
    arrays = {}
    for name, (rows, columns) in shapes.items():
        array = RANDOM.normal(size=(rows, columns)).astype("f4")
        arrays[f"{name}.weight"] = np.ascontiguousarray(array.T) if turned else array
        if bias:
            arrays[f"{name}.bias"] = RANDOM.normal(size=rows).astype("f4")
    return arrays


def file_of(tmp_path, arrays, write=torch_zip):
    path = tmp_path / "a.pt"
    path.write_bytes(write(state_dict(arrays), storages(arrays)))
    return path


def read(source, layout=None, layers=None):
    return models.read(source, ReadOptions("relu", layout, layers))


def names(model):
    return [layer.name for layer in model.layers]


def layouts(model):
    return {layer.layout for layer in model.layers}


def orders(arrays):
    parts = {}
    for name, array in arrays.items():
        parts.setdefault(name.rpartition(".")[0], {})[name] = array
    for order in itertools.permutations(parts.values()):
        yield {name: array for part in order for name, array in part.items()}


THREE = {"A": (8, 5), "B": (4, 8), "C": (1, 4)}
NUMBERED = [("layer0", "layer1", "layer2"), ("w1", "w2", "w10"), ("b.3.fc", "b.4.fc", "b.12.fc")]


def named(new, shapes=THREE):
    return dict(zip(new, shapes.values(), strict=True))


# --- state dicts of PyTorch without biases ----------------------------------------------------


@pytest.mark.parametrize("new", NUMBERED)
@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
def test_what_is_stored_as_pytorch_does_in_the_order_of_the_numbers_is_read(tmp_path, new, write):
    for arrays in orders(held(named(new))):
        model = read(file_of(tmp_path, arrays, write))
        assert (names(model), layouts(model), model.notes) == (list(new), {"out_in"}, ())


@pytest.mark.parametrize("new", NUMBERED[:2])
def test_what_is_stored_the_other_way_is_asked_about(tmp_path, new):
    """The layers of e3nn and of one's own ``x @ w`` are stored as (inputs, outputs)."""
    for arrays in orders(held(named(new), turned=True)):
        path = file_of(tmp_path, arrays)
        with pytest.raises(ValueError, match=r"^layout = None: .* does not say") as told:
            read(path)
        text = str(told.value)
        assert f"stored in_out their order is {', '.join(new)}" in text
        assert f"stored out_in their order is {', '.join(new[::-1])}" in text
        model = read(path, "in_out")
        assert (names(model), [x.weight.shape for x in model.layers]) == (
            list(new),
            list(THREE.values()),
        )
        with pytest.raises(ValueError, match="only against the order of their names") as told:
            read(path, "out_in")
        assert f"(--layers {','.join(new[::-1])})" in str(told.value)
        assert "(--layout in_out)" in str(told.value)
        assert names(read(path, "out_in", list(new[::-1]))) == list(new[::-1])


def test_the_same_in_memory():
    torch = framework("torch")
    arrays = held({"layer0": (8, 5), "layer1": (1, 8)}, turned=True)
    state = {name: torch.tensor(array) for name, array in arrays.items()}
    with pytest.raises(ValueError, match=r"^layout = None"):
        read(state)
    assert names(read(state, "in_out")) == ["layer0", "layer1"]
    plain = {name: torch.tensor(array) for name, array in held(named(NUMBERED[0])).items()}
    assert layouts(read(plain)) == {"out_in"}


def test_words_tell_an_order_only_if_the_stored_one_agrees(tmp_path):
    cases = [
        ("hidden", "out", False, True),  # both in the stored and in alphabetical order
        ("up", "down", False, False),  # only in the stored order
        ("up", "down", True, False),
        ("hidden", "out", True, False),
    ]
    for first, last, turned, known in cases:
        path = file_of(tmp_path, held({first: (8, 5), last: (1, 8)}, turned=turned))
        if known:
            assert names(read(path)) == [first, last]
            continue
        with pytest.raises(ValueError, match=r"^layout = None"):
            read(path)
        model = read(path, "in_out" if turned else "out_in")
        assert names(model) == [first, last]
        assert any(AGAINST in note for note in model.notes) is (first == "up")


def test_places_in_a_sequence_are_an_order(tmp_path):
    for turned, layout in ((False, "out_in"), (True, "in_out")):
        path = file_of(tmp_path, held(named(("0", "2", "4")), turned=turned))
        model = read(path)
        assert (names(model), layouts(model)) == (["0", "2", "4"], {layout})
        told = [note for note in model.notes if "only so the layers form a chain" in note]
        assert len(told) == int(turned)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("new", [("0", "2"), ("fc1", "fc2"), ("h.0.mlp.c_fc", "h.0.mlp.c_proj")])
def test_square_layers_are_asked_about(tmp_path, bias, new):
    path = file_of(tmp_path, held(dict.fromkeys(new, (6, 6)), bias=bias))
    with pytest.raises(ValueError, match=r"^layout = None"):
        read(path, layers=list(new))
    if new[0] == "0":
        with pytest.raises(ValueError, match=r"^layout = None"):
            read(path)
    told = [read(path, layout, list(new)).layers[0].weight for layout in ("out_in", "in_out")]
    np.testing.assert_array_equal(told[0], told[1].T)


def test_symmetric_chains_without_biases_are_asked_about(tmp_path):
    path = file_of(tmp_path, held({"0": (6, 3), "2": (3, 6)}))
    with pytest.raises(ValueError, match=r"^layout = None"):
        read(path)


def test_biases_tell(tmp_path):
    for turned, layout in ((False, "out_in"), (True, "in_out")):
        for new in (*NUMBERED, ("0", "2", "4"), ("x", "z", "y")):
            arrays = held(named(new), bias=True, turned=turned)
            model = read(file_of(tmp_path, arrays))
            assert (names(model), layouts(model)) == (list(new), {layout})
    square = {**held({"0": (6, 6), "2": (1, 6)}, bias=True)}
    assert layouts(read(file_of(tmp_path, square))) == {"out_in"}


def test_a_class_tells(tmp_path):
    arrays = {"0.weight": np.eye(6, dtype="f4"), "0.bias": np.zeros(6, "f4")}
    arrays |= {"2.weight": np.eye(6, dtype="f4"), "2.bias": np.zeros(6, "f4")}
    (tmp_path / "a.pt").write_bytes(torch_zip(sequential(arrays), storages(arrays)))
    assert layouts(models.read(tmp_path / "a.pt")) == {"out_in"}
    parts = {
        name: module(
            "linear.Linear",
            parameters={
                kind: tensor(str(2 * i + j), arrays[f"{2 * i}.{kind}"])
                for j, kind in enumerate(("weight", "bias"))
            },
        )
        for i, name in enumerate(("fc1", "fc2"))
    }
    own = module("mine.models.Net", modules=parts)
    (tmp_path / "b.pt").write_bytes(torch_zip(own, storages(arrays)))
    model = read(tmp_path / "b.pt", layers=["fc1", "fc2"])
    assert layouts(model) == {"out_in"}


# --- every reading against the names is told --------------------------------------------------


@pytest.mark.parametrize("new", [("fc2", "fc1"), ("z", "y"), ("Dense_1", "Dense_0")])
def test_a_proven_order_against_the_names_is_told(tmp_path, new):
    arrays = held({new[0]: (8, 5), new[1]: (1, 8)}, bias=True)
    (tmp_path / "a.npz").write_bytes(npz(arrays))
    (tmp_path / "a.safetensors").write_bytes(safetensors(arrays))
    for source in (file_of(tmp_path, arrays), tmp_path / "a.npz", tmp_path / "a.safetensors"):
        report = ob.audit(source, "relu")
        assert names(report.model) == list(new)
        assert f"{AGAINST} but follows from shapes: {', '.join(new)}" in report.model.notes
        assert "not that of their names" in " ".join(str(report).split())


def test_an_order_of_custom_alone_against_numbers_is_asked_about():
    arrays = {"Dense_0/kernel": np.ones((7, 1)), "Dense_1/kernel": np.ones((5, 7))}
    with pytest.raises(ValueError, match="only against the order of their names"):
        read(arrays)
    assert names(read(arrays, "out_in")) == ["Dense_0", "Dense_1"]
    assert names(read(arrays, layers=["Dense_1", "Dense_0"])) == ["Dense_1", "Dense_0"]
    in_words = {"b/kernel": np.ones((5, 7)), "a/kernel": np.ones((7, 1))}
    assert any(AGAINST in note for note in read(in_words).notes)


def test_the_command_asks(tmp_path, command):
    path = file_of(tmp_path, held({"layer0": (8, 5), "layer1": (1, 8)}, turned=True))
    outcome = command("audit", path, "--activation", "relu")
    assert (outcome.code, outcome.out) == (2, "")
    assert "--layout" in outcome.err
    outcome = command("audit", path, "--activation", "relu", "--layout", "out_in")
    assert (outcome.code, outcome.out) == (2, "")
    assert "--layers layer1,layer0" in outcome.err
    outcome = command("audit", path, "--activation", "relu", "--layout", "in_out")
    assert "5 -> 8 -> 1" in outcome.out
