"""Layers that cannot be read: what lies around them is not taken to follow each other."""

from __future__ import annotations

import io
import itertools
import time

import numpy as np
import pytest
from conftest import framework
from model_files import (
    Made,
    Named,
    npy,
    npz,
    ordered,
    safetensors,
    safetensors_header,
    state_dict,
    storages,
    tensor,
    torch_legacy,
    torch_zip,
    zipped,
)

import obstruction as ob
from obstruction import models
from obstruction.models import NothingAuditable, ReadOptions
from obstruction.models.contents import Contents, Tensor, Unread
from obstruction.models.layers.resolving import resolve
from obstruction.models.readers.torch import files as torch_files

RANDOM = np.random.default_rng(0)


def floats(*shape, dtype="float32"):
    return RANDOM.normal(size=shape).astype(dtype)


def whole(*shape, dtype="int32"):
    return RANDOM.integers(1, 100, size=shape).astype(dtype)


FIRST = {"weight": floats(6, 3), "bias": floats(6)}
LAST = {"weight": floats(1, 6), "bias": floats(1)}

MIDDLE = {
    "GPTQ": {
        "qweight": whole(1, 6),
        "qzeros": whole(1, 1),
        "scales": floats(1, 6, dtype="float16"),
        "g_idx": whole(6),
        "bias": floats(6),
    },
    "AWQ": {"qweight": whole(6, 1), "qzeros": whole(1, 1), "scales": floats(1, 6)},
    "bitsandbytes": {
        "weight": whole(18, 1, dtype="uint8"),
        "weight.absmax": floats(1),
        "weight.quant_map": floats(16),
        "weight.quant_state.bitsandbytes__nf4": whole(90, dtype="uint8"),
    },
    "bitsandbytes 8": {
        "weight": whole(6, 6, dtype="int8"),
        "SCB": floats(6),
        "weight_format": np.array(0, np.uint8),
    },
    "AQLM": {"codes": whole(6, 1, 2, dtype="int8"), "codebooks": floats(2, 256, 1, 8)},
    "compressed-tensors": {
        "weight_packed": whole(6, 1),
        "weight_scale": floats(6, 1),
        "weight_shape": whole(2, dtype="int64"),
    },
    "compressed-tensors 8": {"weight": whole(6, 6, dtype="int8"), "weight_scale": floats(6, 1)},
    "MLX": {
        "weight": whole(6, 1, dtype="uint32"),
        "scales": floats(6, 1),
        "biases": floats(6, 1),
    },
    "CSR": {
        "crow_indices": whole(7, dtype="int64"),
        "col_indices": whole(9, dtype="int64"),
        "values": floats(9),
    },
    "COO": {"indices": whole(2, 9, dtype="int64"), "values": floats(9)},
    "int8": {"weight": whole(6, 6, dtype="int8")},
    "int8 with a scale": {"qweight": whole(6, 6, dtype="int8"), "scale": floats(1).reshape(())},
    "whole numbers as float": {"weight": whole(6, 6, dtype="int64"), "bias": floats(6)},
    "truth values": {"weight": floats(6, 6) > 0, "bias": floats(6)},
    "complex": {"weight": floats(6, 6).astype(np.complex64)},
    "flat bytes": {"packed": whole(40, dtype="uint8")},
    "mask": {"weight_orig": floats(6, 6), "weight_mask": floats(6, 6), "bias": floats(6)},
    "mask of truth values": {"weight": floats(6, 6), "mask": floats(6, 6) > 0},
    "mask of floats": {"weight": floats(6, 6), "mask": np.ones((6, 6), "f4"), "bias": floats(6)},
}

LOOKS = {
    "GPTQ": "quantised by GPTQ",
    "AWQ": "quantised by AWQ",
    "bitsandbytes": "quantised by bitsandbytes",
    "bitsandbytes 8": "quantised by bitsandbytes",
    "AQLM": "quantised by AQLM",
    "compressed-tensors": "packed by compressed-tensors",
    "compressed-tensors 8": "packed by compressed-tensors",
    "MLX": "quantised by MLX",
    "CSR": "sparse matrix (CSR)",
    "COO": "sparse matrix (COO)",
    "int8": "whole numbers (int8)",
    "int8 with a scale": "whole numbers (int8) with a scale",
    "whole numbers as float": "whole numbers (int64)",
    "truth values": "truth values",
    "complex": "complex64",
    "flat bytes": "whole numbers (uint8)",
    "mask": "pruning",
    "mask of truth values": "its weights are masked",
    "mask of floats": "its weights are masked",
}

NAMES = [
    ("fc1", "fc2", "fc3"),
    ("net.0", "net.2", "net.4"),
    ("0", "2", "4"),
    ("enc", "core", "dec"),  # in no order
    ("model.blocks.1.lin", "model.blocks.2.lin", "model.blocks.10.lin"),
    ("b_in", "a_hidden", "c_out"),
]


def around(names, middle, first=FIRST, last=LAST):
    first, middle, last = (
        {f"{name}.{part}": array for part, array in parts.items()}
        for name, parts in zip(names, (first, middle, last), strict=True)
    )
    return {**first, **middle, **last}


def refused(source, **options):
    with pytest.raises(NothingAuditable) as told:
        ob.audit(source, "relu", layout="out_in", **options)
    text = str(told.value)
    assert "--layers" not in text
    assert "layers=" not in text
    return text


@pytest.mark.parametrize("names", NAMES, ids=lambda names: "-".join(names))
@pytest.mark.parametrize("kind", MIDDLE)
def test_nothing_is_read_past_a_layer_that_cannot_be(kind, names):
    held = around(names, MIDDLE[kind])
    for order in (held, dict(reversed(held.items())), dict(sorted(held.items()))):
        text = refused(order)
        assert LOOKS[kind] in text
        assert names[1] in text


def test_what_a_framework_stores_between_readable_layers_of_one_name_scheme():
    """The chain behind the wall is read, and what stands alone before it is told."""
    names = ("fc1", "fc2", "fc3")
    held = {**around(names, MIDDLE["GPTQ"], last={"weight": floats(5, 6)})}
    held |= {"fc4.weight": floats(1, 5)}
    report = ob.audit(dict(sorted(held.items())), "relu", layout="out_in")
    assert [layer.name for layer in report.model.layers] == ["fc3", "fc4"]
    told = dict(report.model.skipped)
    assert "GPTQ" in told["fc2"]
    assert told["fc1"] == "no layer beside it is read"


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_a_wall_in_the_middle_cuts_a_chain_in_two(order):
    parts = [
        {"l1.weight": floats(6, 3), "l2.weight": floats(4, 6)},
        {"l3.weight": whole(4, 4, dtype="int8")},
        {"l4.weight": floats(5, 4), "l5.weight": floats(2, 5)},
        {"steps": whole(3)},
    ]
    held = {name: array for i in order for name, array in parts[i].items()}
    report = ob.audit(held, "relu", layout="out_in")
    assert [layer.name for layer in report.model.layers] == ["l1", "l2", "l4", "l5"]
    assert [link.reason is None for link in report.model.links] == [True, False, True]


def test_walls_that_names_show_to_be_elsewhere():
    for other in ("fc4", "fc0", "fc10"):
        held = around(("fc1", other, "fc2"), MIDDLE["int8"])
        assert len(ob.audit(held, "relu", layout="out_in").audited) == 1
    held = around(("head.fc1", "encoder.2", "head.fc2"), MIDDLE["GPTQ"])
    report = ob.audit(held, "relu", layout="out_in")
    assert len(report.audited) == 1
    assert "GPTQ" in dict(report.model.skipped)["encoder.2"]


@pytest.mark.parametrize("names", NAMES[:1] + NAMES[3:], ids=lambda names: "-".join(names))
@pytest.mark.parametrize("part", ["blob", "lut", "assignments"])
def test_parts_of_any_name_in_a_place_of_their_own(names, part):
    held = around(names, {part: whole(40, dtype="uint8"), "table": floats(16)})
    for order in (held, dict(sorted(held.items()))):
        assert names[1] in refused(order)
    outside = {"net.a.weight": floats(6, 3), "net.b.weight": floats(1, 6), f"x.{part}": whole(40)}
    assert len(ob.audit(outside, "relu", layout="out_in").audited) == 1


# --- what is no wall --------------------------------------------------------------------------


HARMLESS = {
    "fc2.num_batches_tracked": np.array(3),
    "counters": whole(2, dtype="int64"),
    "fc2.position_ids": whole(1, 512, dtype="int64"),
    "step": whole(1, dtype="int64"),
    "state/steps": whole(4, dtype="int64"),
    "fc2.seed": whole(2, dtype="uint32"),
    "dropout/rngs/key": whole(2, dtype="uint32"),
    "fc2.flag": np.array(True),
    "input_shape": whole(2, dtype="int64"),
    "fc2.limit": np.array([3]),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_counters_and_the_like_are_air(name):
    held = {
        "fc1.weight": FIRST["weight"],
        "fc1.bias": FIRST["bias"],
        name: HARMLESS[name],
        "fc3.weight": LAST["weight"],
        "fc3.bias": LAST["bias"],
    }
    report = ob.audit(held, "relu")
    assert (len(report.audited), report.model.skipped) == (1, ())


def test_whole_numbers_of_a_width_may_act_on_the_neurons():
    for name, size, count in (("order", 6, 0), ("labels", 60, 1)):
        held = {"a.weight": floats(6, 3), "b.weight": floats(1, 6), name: whole(size)}
        model = models.read(held, ReadOptions("relu", "out_in"))
        assert len(model.segments()) == count, name


# --- other layers that are no fully connected ones ----------------------------------------------


@pytest.mark.parametrize(
    ("name", "array", "why"),
    [
        ("fc2.weight", floats(6, 6, 1, 1), "a convolution"),
        ("fc2.weight_ih_l0", floats(24, 6), "a recurrent layer"),
        ("fc2.in_proj_weight", floats(6, 6), "attention"),
        ("mha.in_proj_weight", floats(6, 6), "attention"),
        ("gru.weight_hh_l0", floats(18, 6), "a recurrent layer"),
    ],
)
def test_other_layers_between_two_by_name_are_walls(name, array, why):
    last = "fc3" if name.startswith("fc") else "out"
    held = {"fc1.weight": floats(6, 3), name: array, f"{last}.weight": floats(1, 6)}
    for order in (held, dict(sorted(held.items()))):
        assert why in refused(order)
    report = ob.audit(held, "relu", layout="out_in", layers=["fc1", last])
    assert len(report.audited) == 1
    held = {"fc1.weight": floats(6, 3), "fc2.weight": floats(1, 6), name.replace("2", "4"): array}
    assert len(ob.audit(held, "relu", layout="out_in").audited) == 1


def test_the_stored_order_counts_if_it_is_not_that_of_names():
    parts = {"b.weight": floats(6, 3), "z.weight_ih_l0": floats(24, 6), "a.weight": floats(1, 6)}
    assert "a recurrent layer" in refused(parts)
    report = ob.audit(dict(sorted(parts.items())), "relu", layout="out_in")
    assert len(report.audited) == 1


# --- what users say of their layers -----------------------------------------------------------


def test_layers_around_a_wall_are_not_followed_if_names_show_it_between():
    text = refused(around(("fc1", "fc2", "fc3"), MIDDLE["GPTQ"]), layers=["fc1", "fc3"])
    assert "GPTQ" in text


def test_layers_that_a_user_names_are_followed_with_a_note_if_names_show_nothing():
    held = around(("enc", "core", "dec"), MIDDLE["GPTQ"])
    report = ob.audit(held, "relu", layout="out_in", layers=["enc", "dec"])
    assert len(report.audited) == 1
    assert any("core (what it does is not known" in note for note in report.model.notes)
    assert "is taken to lie elsewhere" in str(report)


# --- every format -----------------------------------------------------------------------------


def nested(held):
    tree = {}
    for name, array in held.items():
        *path, last = name.split(".")
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        place[last] = array
    return tree


def put(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


@pytest.mark.parametrize("kind", ["GPTQ", "CSR", "int8 with a scale", "COO"])
@pytest.mark.parametrize("form", ["npz", "pt", "torch", "nested"])
def test_every_container(tmp_path, form, kind):
    held = around(("fc1", "fc2", "fc3"), MIDDLE[kind])
    if form == "npz":
        source = put(tmp_path, "a.npz", npz(held))
    elif form == "nested":
        source = nested(held)
    else:
        torch = framework("torch")
        source = {name: torch.tensor(array) for name, array in held.items()}
        if form == "pt":
            torch.save(source, tmp_path / "a.pt")
            source = tmp_path / "a.pt"
    assert LOOKS[kind] in refused(source)


@pytest.mark.parametrize(("stored", "what"), [("F4", "type F4"), ("F8_E4M3", "eight bits")])
def test_safetensors_of_types_that_are_not_read(tmp_path, stored, what):
    held = around(("a", "b", "c"), {"weight": whole(36, dtype="uint8")})
    header = safetensors_header(held)
    header["b.weight"] |= {"dtype": stored, "shape": [6, 12 if stored == "F4" else 6]}
    assert what in refused(put(tmp_path, "a.safetensors", safetensors(held, header)))


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (np.array([[{}] * 6] * 6, dtype=object), "Python objects"),
        (np.array({"csr": 1}, dtype=object), "Python objects"),
        (np.full((6, 6), "0.5"), "text"),
        (np.full((6, 6), b"0.5"), "text"),
        (np.zeros((6, 6), [("a", "<f4"), ("b", "<i8")]), "records"),
        (np.zeros((6, 6), "M8[s]"), "dates"),
    ],
)
@pytest.mark.parametrize("names", [*NAMES, ("x", "y", "z"), ("y", "z", "x")])
def test_arrays_in_npz_that_hold_no_numbers(tmp_path, array, what, names):
    held = around(names, {"weight": array})
    if names[0] in "xy":
        held = {name.removesuffix(".weight"): one for name, one in held.items() if one.ndim != 1}
    members = {}
    for name, one in held.items():
        stream = io.BytesIO()
        np.save(stream, one)
        members[f"{name}.npy"] = stream.getvalue()
    if names[0] in "xy" and array.ndim == 0 and names != ("x", "y", "z"):
        pytest.skip("a lone object of any name may be a remark")
    text = refused(put(tmp_path, "a.npz", zipped(members)))
    assert what in text


def test_numbered_arrays_of_which_one_is_no_array_of_numbers(tmp_path):
    for pattern in ("arr_{}", "W{}"):
        held = {pattern.format(1): floats(6, 3), pattern.format(3): floats(1, 6)}
        members = {f"{name}.npy": npy(array) for name, array in held.items()}
        lost = np.array([[None] * 6] * 6, dtype=object)
        members[f"{pattern.format(2)}.npy"] = npy(lost)
        assert "Python objects" in refused(put(tmp_path, "a.npz", zipped(members)))


def test_names_of_classes_are_no_layer(tmp_path):
    held = {"W1": floats(6, 3), "W2": floats(2, 6), "class_names": np.array(["cat", "dog"])}
    report = ob.audit(put(tmp_path, "a.npz", npz(held)), "relu")
    assert len(report.audited) == 1
    assert "holds no numbers" in " ".join(report.model.notes)


CALLS = {
    "a sparse tensor (COO)": Made(
        Named("torch._utils", "_rebuild_sparse_tensor"),
        (Made(Named("torch.serialization", "_get_layout"), ("torch.sparse_coo",)), ()),
    ),
    "a sparse tensor (CSR)": Made(
        Named("torch._utils", "_rebuild_sparse_tensor"),
        (Made(Named("torch.serialization", "_get_layout"), ("torch.sparse_csr",)), ()),
    ),
    "quantised by PyTorch": Made(Named("torch._utils", "_rebuild_qtensor"), (1, 2)),
    "an array of NumPy": Made(Named("numpy.core.multiarray", "_reconstruct"), (1,)),
    "a tensor of a special kind": Made(Named("torch._utils", "_rebuild_wrapper_subclass"), (1, 2)),
    "an object (mine.Packed)": Made(Named("mine", "Packed"), (1,)),
    "a list of numbers": [[0.5] * 6] * 6,
}


@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
@pytest.mark.parametrize("what", CALLS)
@pytest.mark.parametrize("deep", [False, True])
def test_what_pickles_hold_instead_of_tensors(tmp_path, what, write, deep):
    arrays = {"fc1.weight": FIRST["weight"], "fc3.weight": LAST["weight"]}
    value = {name: tensor(str(i), array) for i, (name, array) in enumerate(arrays.items())}
    value = {"fc1.weight": value["fc1.weight"], "fc2.weight": CALLS[what], **value}
    if deep:
        value = {"epoch": 3, "state_dict": ordered(value), "args": Made(Named("a", "B"), ())}
    source = put(tmp_path, "a.pt", write(value, storages(arrays)))
    assert what in refused(source)


def test_other_objects_in_pickles_are_no_layers(tmp_path):
    arrays = {"fc1.weight": FIRST["weight"], "fc2.weight": LAST["weight"]}
    value = {name: tensor(str(i), array) for i, (name, array) in enumerate(arrays.items())}
    value |= {"args": Made(Named("argparse", "Namespace"), ()), "lr": [0.1, 0.2]}
    source = put(tmp_path, "a.pt", torch_zip(value, storages(arrays)))
    assert len(ob.audit(source, "relu").audited) == 1


@pytest.mark.filterwarnings("ignore")
def test_files_that_pytorch_writes(tmp_path):
    torch = framework("torch")
    dense = torch.randn(6, 6)
    packed = torch.quantize_per_tensor(dense, 0.1, 0, torch.qint8)
    channels = torch.quantize_per_channel(dense, torch.ones(6), torch.zeros(6), 0, torch.qint8)
    middles = {
        "a sparse tensor (COO)": {"weight": dense.to_sparse()},
        "a sparse tensor (CSR)": {"weight": dense.to_sparse_csr()},
        "quantised by PyTorch": {"weight": packed},
        "PyTorch (": {"scale": torch.tensor(1.0), "_packed_params._packed_params": (packed, None)},
        "by PyTorch": {"weight": channels},
        "array": {"weight": np.array([[object()] * 6] * 6)},
    }
    for number, (what, middle) in enumerate(middles.items()):
        state = {f"l1.{part}": torch.tensor(array) for part, array in FIRST.items()}
        state |= {f"l2.{part}": value for part, value in middle.items()}
        state |= {f"l3.{part}": torch.tensor(array) for part, array in LAST.items()}
        if what != "array":
            torch.save(state, tmp_path / f"{number}.pt")
            assert what in refused(tmp_path / f"{number}.pt")
        assert "l2" in refused(state)


def test_arrays_of_numpy_beside_tensors_are_read():
    torch = framework("torch")
    state = {"l1.weight": torch.tensor(FIRST["weight"]), "l2.weight": floats(4, 6)}
    state["l3.weight"] = torch.tensor(floats(2, 4))
    model = models.read(state, ReadOptions("relu", "out_in"))
    assert [layer.name for layer in model.layers] == ["l1", "l2", "l3"]


def test_masked_arrays_are_not_read_without_their_mask():
    masked = np.ma.masked_less(floats(6, 6), 0.0)
    assert "a masked array" in refused(around(("fc1", "fc2", "fc3"), {"weight": masked}))
    assert "a masked array" in refused(nested(around(("fc1", "fc2", "fc3"), {"weight": masked})))
    with pytest.raises(models.UnreadableModel, match="masked array"):
        ob.audit([FIRST["weight"], masked, LAST["weight"]], "relu", layout="out_in")
    plain = np.ma.array(floats(6, 6))
    held = around(("fc1", "fc2", "fc3"), {"weight": plain})
    assert len(ob.audit(held, "relu").audited) == 2


def test_the_reader_of_pytorch_tells_what_it_does_not_read(tmp_path):
    arrays = {"a.weight": FIRST["weight"]}
    value = {**state_dict(arrays).items, "b": CALLS["quantised by PyTorch"], "c": [1.0, 2.0]}
    contents = torch_files.read(put(tmp_path, "a.pt", torch_zip(value, storages(arrays))))
    assert contents.unread == {
        "b": Unread("a tensor quantised by PyTorch"),
        "c": Unread("a list of numbers"),
    }


def test_lists_and_mappings_among_arrays_are_not_left_out():
    tree = nested(around(("fc1", "fc2", "fc3"), {"weight": floats(6, 6)}))
    tree["fc2"]["weight"] = tree["fc2"]["weight"].tolist()
    assert "a list of numbers" in refused(tree)
    torch = framework("torch")
    held = around(("fc1", "fc2", "fc3"), {})
    state = {name: torch.tensor(array) for name, array in held.items()}
    for middle in ({"weight": torch.ones(6, 6)}, object(), [1.0, 2.0], b"123"):
        assert "fc2" in refused({**state, "fc2": middle})
    for remark in ({"lr": 0.1}, torch.float32, torch.device("cpu"), "text", None, 3):
        model = models.read({**state, "fc2": remark}, ReadOptions("relu", "out_in"))
        assert len(model.segments()) == 1


@pytest.mark.parametrize(("other", "count"), [("b.{}.qweight", 1), ("{}.qweight", 0)])
def test_many_walls_and_layers_take_little_time(other, count):
    held = {f"a.{i}.w": floats(3, 3) for i in range(1000)}
    held |= {other.format(i): whole(3, 3) for i in range(1000)}
    held |= {f"c.{i}.w": floats(3, 3, 3) for i in range(1000)}
    if not count:
        held = {name.removeprefix("a."): array for name, array in held.items()}
    before = time.perf_counter()
    model = models.read(held, ReadOptions("relu", "out_in"))
    assert time.perf_counter() - before < 20.0
    assert len(model.segments()) == count


def test_a_repair_refuses_too(tmp_path):
    held = around(("fc1", "fc2", "fc3"), MIDDLE["GPTQ"])
    source = put(tmp_path, "a.safetensors", safetensors_of(held))
    before = source.read_bytes()
    with pytest.raises(NothingAuditable, match="GPTQ"):
        ob.repair(source, out=tmp_path / "b.safetensors", activation="relu")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    assert source.read_bytes() == before


def safetensors_of(held):
    header, start = {}, 0
    names = {"int32": "I32", "float16": "F16", "float32": "F32"}
    for name, array in held.items():
        stop = start + array.nbytes
        kind = names[array.dtype.name]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [start, stop]}
        start = stop
    return safetensors(held, header)


def test_exit_code_and_words_of_the_command(tmp_path, command):
    held = around(("fc1", "fc2", "fc3"), MIDDLE["GPTQ"])
    source = put(tmp_path, "a.safetensors", safetensors_of(held))
    outcome = command("audit", source, "--activation", "relu", "--layout", "out_in")
    assert (outcome.code, outcome.out) == (3, "")
    assert "GPTQ" in outcome.err
    assert "--layers" not in outcome.err


def test_walls_of_contents_are_those_of_any_reader():
    held = {"a1.weight": (6, 3), "a3.weight": (1, 6)}
    tensors = {name: Tensor(name, floats(*shape), "float32") for name, shape in held.items()}
    contents = Contents("new format", tensors, "out_in", unread={"a2.weight": Unread("runes")})
    model = resolve(contents, ReadOptions("relu"))
    assert model.layers == ()
    assert ("a2", "what it does is not known, as it holds runes (weight)") in model.skipped
