"""Files of ``torch.save``, read where PyTorch cannot be imported and compared with its numbers."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import framework
from model_files import (
    MAGIC,
    Made,
    Named,
    emit,
    module,
    network,
    ordered,
    sequential,
    state_dict,
    storages,
    tensor,
    torch_legacy,
    torch_zip,
    zipped,
)

from obstruction.models.contents import (
    FLOATS,
    Activation,
    Barrier,
    Dense,
    UnreadableModel,
    round_bfloat16,
)
from obstruction.models.operations.chains import steps_of
from obstruction.models.readers.torch import files as reader
from obstruction.models.readers.torch import layers as torch_layers

ARRAYS = network(3, 5, 2)
FORMATS = {"zip": torch_zip, "legacy": torch_legacy}


def put(tmp_path, data: bytes, name="a.pt"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def same(tensors, arrays) -> None:
    assert list(tensors) == list(arrays)
    for name, array in arrays.items():
        assert tensors[name].array.dtype == array.dtype
        assert np.array_equal(tensors[name].array, array), name


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_a_state_dict(write, tmp_path):
    path = put(tmp_path, write(state_dict(ARRAYS), storages(ARRAYS)))
    contents = reader.read(path)
    same(contents.tensors, ARRAYS)
    assert (contents.format, contents.layout) == ("PyTorch file", None)
    assert contents.customary == "out_in"
    assert (contents.graph, contents.shared, contents.notes) == (None, (), ())
    with pytest.raises(ValueError, match="read-only"):
        contents.tensors["0.weight"].array[0, 0] = 1.0


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_a_pickled_chain_has_steps(write, tmp_path):
    contents = reader.read(put(tmp_path, write(sequential(ARRAYS), storages(ARRAYS))))
    same(contents.tensors, ARRAYS)
    assert steps_of(contents.graph) == (
        Dense("0", "0.weight", "0.bias", "out_in"),
        Activation("ReLU"),
        Dense("2", "2.weight", "2.bias", "out_in"),
    )


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_writing_changes_nothing_else(write, tmp_path):
    path = put(tmp_path, write(state_dict(ARRAYS), storages(ARRAYS)))
    before = path.read_bytes()
    reader.write(path, {}, tmp_path / "same")
    assert (tmp_path / "same").read_bytes() == before
    new = -2.0 * ARRAYS["2.weight"]
    reader.write(path, {"2.weight": new}, path)
    after = path.read_bytes()
    assert after.count(new.tobytes()) == before.count(ARRAYS["2.weight"].tobytes()) == 1
    changed = sum(a != b for a, b in zip(before, after, strict=True))
    assert changed <= new.nbytes + 8
    same(reader.read(path).tensors, {**ARRAYS, "2.weight": new})
    if write is torch_zip:
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None


def test_a_compressed_archive_is_written_too(tmp_path):
    data = torch_zip(state_dict(ARRAYS), storages(ARRAYS), method=zipfile.ZIP_DEFLATED)
    path = put(tmp_path, data)
    new = np.zeros_like(ARRAYS["0.weight"])
    reader.write(path, {"0.weight": new}, path)
    same(reader.read(path).tensors, {**ARRAYS, "0.weight": new})
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_DEFLATED}


# --- what is in a checkpoint ---------------------------------------------------------------------


def checkpoint(**parts):
    arrays = {}
    for part in parts.values():
        if isinstance(part, dict):
            arrays.update({f"{len(arrays)}.{name}": array for name, array in part.items()})
    keys = iter(map(str, range(1000)))
    value, stored = {}, {}
    for name, part in parts.items():
        if isinstance(part, dict) and all(isinstance(v, np.ndarray) for v in part.values()):
            made = {}
            for inner, array in part.items():
                key = next(keys)
                made[inner], stored[key] = tensor(key, array), array.tobytes()
            value[name] = ordered(made)
        else:
            value[name] = part
    return torch_zip(value, stored)


@pytest.mark.parametrize(
    "name", ["state_dict", "model_state_dict", "model", "net", "module", "anything"]
)
def test_a_state_dict_within_a_checkpoint(name, tmp_path):
    parts = {"epoch": 3, name: ARRAYS, "optimizer": network(4, 4), "ema": network(2, 2)}
    contents = reader.read(put(tmp_path, checkpoint(**parts)))
    same(contents.tensors, ARRAYS)
    assert contents.notes == (f"the model was read from {name!r}; passed over: 'optimizer', 'ema'",)


def test_the_well_known_comes_first_and_is_told(tmp_path):
    parts = {"model": network(2, 2), "state_dict": ARRAYS}
    contents = reader.read(put(tmp_path, checkpoint(**parts)))
    same(contents.tensors, ARRAYS)
    assert contents.notes == ("the model was read from 'state_dict'; passed over: 'model'",)


def test_two_models_keep_their_names(tmp_path):
    both = {"actor": ARRAYS, "critic": network(3, 2)}
    contents = reader.read(put(tmp_path, checkpoint(**both)))
    expected = {f"{who}.{name}": a for who, arrays in both.items() for name, a in arrays.items()}
    same(contents.tensors, expected)


def test_an_averaged_copy_alone_is_read(tmp_path):
    same(reader.read(put(tmp_path, checkpoint(model_ema=ARRAYS, step=1))).tensors, ARRAYS)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"state": {}, "param_groups": []}, "state of an optimiser and no model"),
        ({"optimizer": {"state": {}, "param_groups": []}}, "holds no tensors"),
        ({}, "holds no tensors"),
        ({"a": 1, "b": ["x"]}, "holds no tensors"),
        (3, "holds neither a state dict nor a module"),
        (Made(Named("os", "system"), ("true",)), "holds neither a state dict nor a module"),
    ],
)
@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_files_without_a_model(write, value, why, tmp_path):
    with pytest.raises(UnreadableModel, match=why):
        reader.read(put(tmp_path, write(value, {})))


def test_other_pickled_modules_are_bags(tmp_path):
    inner = sequential(ARRAYS)
    own = module("my.Net", {"net": inner})
    contents = reader.read(put(tmp_path, torch_zip(own, storages(ARRAYS))))
    assert contents.graph is None
    assert list(contents.tensors) == [f"net.{name}" for name in ARRAYS]
    wrapped = module("torch.nn.parallel.data_parallel.DataParallel", {"module": inner})
    steps = steps_of(reader.read(put(tmp_path, torch_zip(wrapped, storages(ARRAYS)))).graph)
    assert steps[0] == Dense("module.0", "module.0.weight", "module.0.bias", "out_in")


def test_what_lies_between_layers(tmp_path):
    layers = {
        "a": module("dropout.Dropout", p=0.5),
        "b": module("activation.LeakyReLU", negative_slope=0.25),
        "c": module("container.Sequential", {"0": module("batchnorm.BatchNorm1d")}),
        "d": module("my.Own"),
        "e": module("activation.ReLU", _forward_hooks=ordered({1: Named("my", "hook")})),
        "f": module("activation.PReLU", parameters={"weight": tensor("0", np.array([0.5, 0.5]))}),
        "g": 3,
    }
    made = module("container.Sequential", layers)
    data = torch_zip(made, {"0": np.array([0.5, 0.5]).tobytes()})
    assert steps_of(reader.read(put(tmp_path, data)).graph) == (
        Activation("LeakyReLU", 0.25),
        Barrier("c.0", torch_layers.reason("torch.nn.modules.batchnorm.BatchNorm1d")),
        Barrier("d", "what 'Own' does with its inputs is not known"),
        Barrier("e", "hooks act on it, and what they do is not known"),
        Activation("PReLU", 0.5),
        Barrier("g", "what it is cannot be known from the file"),
    )


def test_frozen_layers_are_told(tmp_path):
    frozen = Made(
        Named("torch._utils", "_rebuild_parameter"),
        (tensor("0", ARRAYS["0.weight"]), False, ordered({})),
    )
    bias = tensor("1", ARRAYS["0.bias"])
    both = module("linear.Linear", parameters={"weight": frozen, "bias": bias})
    assert not steps_of(reader.read(put(tmp_path, torch_zip(both, storages(ARRAYS)))).graph)[
        0
    ].trained
    made = module("linear.Linear", parameters={"weight": frozen, "bias": None})
    contents = reader.read(put(tmp_path, torch_zip(made, storages(ARRAYS))))
    assert steps_of(contents.graph) == (Dense("Linear", "weight", None, "out_in", trained=False),)


def test_shared_memory_is_told(tmp_path):
    flat = np.arange(12, dtype=np.float32)
    value = {
        "a": tensor("0", flat, shape=(2, 3)),
        "tied": tensor("0", flat, shape=(2, 3)),
        "transposed": tensor("0", flat, shape=(3, 2), strides=(1, 3)),
        "apart": tensor("0", flat, shape=(3,), offset=6),
        "odd": tensor("0", flat, shape=(2,), strides=(2,), offset=9),
        "even": tensor("0", flat, shape=(1,), offset=10),
        "other": tensor("1", flat, shape=(2, 3)),
    }
    path = put(tmp_path, torch_zip(value, {"0": flat.tobytes(), "1": flat.tobytes()}))
    contents = reader.read(path)
    assert contents.shared == (frozenset({"a", "tied", "transposed"}),)
    assert np.array_equal(contents.tensors["transposed"].array, flat[:6].reshape(2, 3).T)
    assert contents.tensors["odd"].array.tolist() == [9, 11]
    new = np.ones((2, 3), np.float32)
    reader.write(path, {"tied": new}, path)
    assert np.array_equal(reader.read(path).tensors["a"].array, new)
    with pytest.raises(ValueError, match="shares numbers with another tensor"):
        reader.write(path, {"tied": new, "a": 2 * new}, path)


def test_gpt2_names_leave_the_layout_open(tmp_path):
    arrays = {"h.0.mlp.c_fc.weight": np.ones((2, 3), np.float32)}
    contents = reader.read(put(tmp_path, torch_zip(state_dict(arrays), storages(arrays))))
    assert (contents.layout, contents.customary) == (None, None)
    assert "GPT-2" in contents.notes[0]


# --- what cannot be ------------------------------------------------------------------------------

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"shape": (2, 4)}, "reaches beyond its storage"),
        ({"offset": 1}, "reaches beyond its storage"),
        ({"offset": -1}, "impossible place"),
        ({"offset": 2**62}, "reaches beyond its storage"),
        ({"strides": (3, -1)}, "without a shape"),
        ({"strides": (3,)}, "without a shape"),
        ({"shape": (2**40, 3)}, "without a shape"),
        ({"shape": (1,) * 33}, "impossible place"),
        ({"count": 10**9, "shape": (10**9,)}, "beyond its storage|size of the file|cut off"),
        ({"kind": "StrangeStorage"}, "which is not known"),
    ],
)
@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_views_that_cannot_be(write, options, why, tmp_path):
    value = {"a": tensor("0", WEIGHT, **options)}
    with pytest.raises(UnreadableModel, match=why):
        reader.read(put(tmp_path, write(value, {"0": WEIGHT.tobytes()})))


def test_expanded_tensors_hold_no_numbers(tmp_path):
    value = {"a": tensor("0", WEIGHT), "b": tensor("0", WEIGHT, shape=(10**6,) * 2, strides=(0, 0))}
    contents = reader.read(put(tmp_path, torch_zip(value, {"0": WEIGHT.tobytes()})))
    assert list(contents.tensors) == ["a"]
    assert contents.notes == ("'b' is no tensor of plain numbers and is not read",)


def test_other_formats_are_named(tmp_path):
    raw = torch_zip(state_dict(ARRAYS), storages(ARRAYS))
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    cases = {
        "TorchScript": zipped({**members, "model/constants.pkl": b""}),
        "big-endian": zipped({**members, "model/byteorder": b"big"}),
        "no data.pkl of its own": zipped({"a": b""}),
        "'model/data/0' is missing": zipped(
            {name: data for name, data in members.items() if name != "model/data/0"}
        ),
        "tar archive": b"a".ljust(257, b"\0") + b"ustar" + bytes(300),
        "a pickle that torch.save did not write": b"\x80\x04N.",
        "no file that torch.save wrote": b"abc",
        "is empty": b"",
        "is cut off": MAGIC,
    }
    for why, data in cases.items():
        with pytest.raises(UnreadableModel, match=why):
            reader.read(put(tmp_path, data))


def test_copies_without_end_are_refused(tmp_path):
    bomb = emit(tensor("0", WEIGHT)) + b"q\x00"
    for _ in range(40):
        keys = (b"X\x01\x00\x00\x00a", b"X\x01\x00\x00\x00b")
        bomb += b"0}(" + b"h\x00".join((*keys, b"")) + b"uq\x00"
    with pytest.raises(UnreadableModel, match="parts: no more are read"):
        reader.read(put(tmp_path, torch_zip(b"\x80\x02" + bomb + b".", {"0": WEIGHT.tobytes()})))


# --- against PyTorch -----------------------------------------------------------------------------

_READ = """
import sys
sys.modules["torch"] = None
import numpy as np
from obstruction.models import read_contents
from obstruction.models.operations.chains import steps_of
contents = read_contents(sys.argv[1])
arrays = {name: tensor.array for name, tensor in contents.tensors.items()}
np.savez(sys.argv[2], **arrays)
print([tensor.dtype for tensor in contents.tensors.values()])
print(contents.graph and steps_of(contents.graph))
print(sorted(map(sorted, contents.shared)))
"""


def read_without(path, tmp_path):
    """Read a file in a process that cannot import PyTorch."""
    out = tmp_path / "read.npz"
    words = [sys.executable, "-c", _READ, str(path), str(out)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(out) as arrays:
        return dict(arrays), done.stdout.splitlines()


def made_by(torch):
    """Name, object to save and the state dict expected of it."""
    nn = torch.nn
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    plain = net.state_dict()
    normed = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.ReLU(), nn.Linear(4, 1)
    )
    tied = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    tied[2].weight = tied[0].weight
    big = torch.randn(6, 8)
    kinds = ("float16", "bfloat16", "float64", "int64", "int8", "uint8", "bool", "complex64")
    types = {kind: torch.randn(3, 2).to(getattr(torch, kind)) for kind in kinds}
    types["uint16"] = torch.arange(3).to(torch.uint16)
    lightning = {
        "epoch": 1,
        "global_step": 10,
        "pytorch-lightning_version": "2.0",
        "state_dict": {f"model.{k}": v for k, v in plain.items()},
        "loops": {"fit": {}},
        "optimizer_states": [torch.optim.Adam(net.parameters()).state_dict()],
    }
    views = {"t": big.t(), "slice": big[1:4, 2:5], "step": big[::2], "scalar": torch.tensor(1.5)}
    compiled = {f"_orig_mod.module.{k}": v for k, v in plain.items()}
    return {
        "plain": (plain, plain),
        "nested": ({"model_state_dict": plain, "epoch": 3}, plain),
        "lightning": (lightning, lightning["state_dict"]),
        "compiled": (compiled, compiled),
        "module": (net, plain),
        "parameters": ({k: v for k, v in net.named_parameters()}, plain),  # noqa: C416
        "normed": (normed.state_dict(), normed.state_dict()),
        "tied": (tied, tied.state_dict()),
        "types": (types, types),
        "views": (views, views),
        "empty": ({"a": torch.zeros(0, 3), "b": torch.ones(1)},) * 2,
    }


NAMES = (
    *("plain", "nested", "lightning", "compiled", "module", "parameters"),
    *("normed", "tied", "types", "views", "empty"),
)


def numbers(tensor):
    torch = sys.modules["torch"]
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def expected_of(torch, name):
    saved, wanted = made_by(torch)[name]
    return saved, {key: numbers(tensor) for key, tensor in wanted.items()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("new", [True, False])
def test_pytorch_and_we_read_the_same(name, new, tmp_path):
    torch = framework("torch")
    saved, wanted = expected_of(torch, name)
    path = tmp_path / "a.pt"
    torch.save(saved, path, _use_new_zipfile_serialization=new)
    same(reader.read(path).tensors, wanted)
    if name in ("plain", "module", "types"):
        arrays, (kinds, steps, _) = read_without(path, tmp_path)
        assert list(arrays) == list(wanted)
        assert all(np.array_equal(arrays[key], wanted[key]) for key in wanted)
        assert ("bfloat16" in kinds) == (name == "types")
        assert ("Dense" in steps) == (name == "module")
    if name == "tied":
        assert reader.read(path).shared == (frozenset({"0.weight", "2.weight"}),)


@pytest.mark.parametrize("name", ["plain", "lightning", "normed", "types", "views"])
@pytest.mark.parametrize("new", [True, False])
def test_pytorch_loads_what_we_write(name, new, tmp_path):
    torch = framework("torch")
    saved, wanted = expected_of(torch, name)
    if name == "types" and not new:
        saved = {key: saved[key] for key in wanted if key != "uint16"}  # PyTorch cannot load it
        del wanted["uint16"]
    path, out = tmp_path / "a.pt", tmp_path / "b.pt"
    torch.save(saved, path, _use_new_zipfile_serialization=new)
    changes = {}
    for key, found in reader.read(path).tensors.items():
        # of the views, the others overlap this one
        if found.dtype in FLOATS and (name != "views" or key == "t"):
            changes[key] = found.stored(3.0 * found.array.astype(np.float64))
    reader.write(path, changes, out)
    back = torch.load(out, weights_only=True)
    back = back.get("state_dict", back)
    for key, values in changes.items():
        assert np.array_equal(numbers(back[key]), values), key
    if name != "views":
        for key in wanted.keys() - changes.keys():
            assert np.array_equal(numbers(back[key]), wanted[key]), key
    assert changes
    assert len(out.read_bytes()) == len(path.read_bytes())
    reader.write(out, {key: t.array for key, t in reader.read(path).tensors.items()}, out)
    assert out.read_bytes() == path.read_bytes()


def test_old_weight_norm_and_missing_checksums(tmp_path):
    torch = framework("torch")
    with pytest.warns(FutureWarning, match="weight_norm"):
        layer = torch.nn.utils.weight_norm(torch.nn.Linear(3, 4))
    path = tmp_path / "a.pt"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(torch.nn.Sequential(layer), path)
    finally:
        torch.serialization.set_crc32_options(True)
    contents = reader.read(path)
    assert steps_of(contents.graph) == (
        Dense("0", "0.weight_v", "0.bias", "out_in", magnitude="0.weight_g"),
    )
    reader.write(path, {"0.bias": np.ones(4, np.float32)}, path)
    assert np.array_equal(torch.load(path, weights_only=False)[0].bias.detach(), np.ones(4))


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_our_own_builders_are_right(write, tmp_path):
    """PyTorch loads the files that other tests make by hand."""
    torch = framework("torch")
    path = put(tmp_path, write(state_dict(ARRAYS), storages(ARRAYS)))
    back = torch.load(path, weights_only=True)
    assert {name: numbers(t).tolist() for name, t in back.items()} == {
        name: array.tolist() for name, array in ARRAYS.items()
    }


def test_bfloat16_is_written_exactly(tmp_path):
    torch = framework("torch")
    path = tmp_path / "a.pt"
    torch.save({"w": torch.randn(4, 3).bfloat16()}, path)
    new = round_bfloat16(np.random.default_rng(0).normal(size=(4, 3)))
    reader.write(path, {"w": new}, path)
    back = torch.load(path, weights_only=True)["w"]
    assert back.dtype == torch.bfloat16
    assert np.array_equal(back.float().numpy(), new)


def test_what_it_recognises(tmp_path):
    raw = torch_zip(state_dict(ARRAYS), storages(ARRAYS))
    assert reader.matches(raw[:4096], tmp_path / "x")
    assert reader.matches(MAGIC, tmp_path / "x")
    assert reader.matches(b"", tmp_path / "x.ckpt")
    assert not reader.matches(zipped({"a.npy": b""}), tmp_path / "x.npz")
    assert not reader.matches(b"\x89HDF\r\n", tmp_path / "x.ckpt")
