"""Models in several files: read by their index, and no part is taken for the whole."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import framework
from keras_onnx_files import damaged
from model_files import (
    module,
    network,
    npz,
    ordered,
    safetensors,
    state_dict,
    storages,
    tensor,
    torch_zip,
)

import obstruction as ob
from obstruction.models import UnreadableModel, read_contents
from obstruction.models.readers import files
from obstruction.models.split import indices

os.environ.setdefault("KERAS_BACKEND", "jax")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HELD = network(3, 8, 8, 1, seed=4)
FORMS = {
    "safetensors": (
        "model-{:05}-of-{:05}.safetensors",
        "model.safetensors.index.json",
        safetensors,
    ),
    "bin": (
        "pytorch_model-{:05}-of-{:05}.bin",
        "pytorch_model.bin.index.json",
        lambda held: torch_zip(state_dict(held), storages(held)),
    ),
    "npz": ("model-{:05}-of-{:05}.npz", "model.npz.index.json", npz),
    "variant": (
        "diffusion_model.fp16-{:05}-of-{:05}.safetensors",
        "diffusion_model.safetensors.index.fp16.json",
        safetensors,
    ),
}


def split(folder: Path, held=HELD, form="safetensors", count=2) -> tuple[Path, list[Path]]:
    """Write a model in parts as Hugging Face's libraries do; return its index and its parts."""
    name, index, written = FORMS[form]
    keys = [list(part) for part in np.array_split(list(held), count)]
    parts = [folder / name.format(i + 1, count) for i in range(count)]
    for path, part in zip(parts, keys, strict=True):
        path.write_bytes(written({key: held[key] for key in part}))
    places = {str(k): path.name for path, part in zip(parts, keys, strict=True) for k in part}
    about = {"metadata": {"total_size": 1.5e3, "note": None}, "weight_map": places}
    (folder / index).write_text(json.dumps(about, indent=2))
    return folder / index, parts


def edited(index: Path, edit) -> None:
    about = json.loads(index.read_text())
    edit(about["weight_map"])
    index.write_text(json.dumps(about))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_an_index_or_its_folder_is_read_as_the_whole(tmp_path, form, count):
    index, parts = split(tmp_path, form=form, count=count)
    for source in (index, tmp_path, str(tmp_path)):
        found = read_contents(source)
        assert list(found.tensors) == list(HELD)
        for name, array in HELD.items():
            assert np.array_equal(found.tensors[name].array, array)
    whole = tmp_path / f"whole{parts[0].suffix}"
    whole.write_bytes(FORMS[form][2](HELD))
    told = {"activation": "relu", "layout": "out_in", "scheme": None}
    report, expected = ob.audit(index, **told), ob.audit(whole, **told)
    assert report.neurons.equals(expected.neurons)
    assert (f"in {count} parts" in report.summary()["format"]) == (count > 1)


def test_renamed_and_reordered(tmp_path):
    (tmp_path / "whole.safetensors").write_bytes(safetensors(HELD))
    whole = ob.audit(tmp_path / "whole.safetensors", "relu").neurons
    renamed = {f"net.blocks.{name}": array for name, array in reversed(HELD.items())}
    index, _ = split(tmp_path, renamed, count=3)
    found = ob.audit(index, "relu").neurons
    assert found.drop(columns="layer").equals(whole.drop(columns="layer"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", [0, 1])
def test_a_part_is_refused_and_its_index_named(refused, tmp_path, form, number):
    index, parts = split(tmp_path, form=form)
    told = ("--activation", "relu", "--layout", "out_in")
    for words in (("audit",), ("repair", "--dry-run"), ("dag",)):
        line = refused(*words, parts[number], *told)
        assert f"only a part ({number + 1} of 2) of a model" in line
        assert index.name in line
    index.unlink()
    line = refused("audit", parts[number], *told)
    assert ".index.json" in line
    assert "only a part" in line
    assert refused("inspect", parts[number]) == line


def test_a_part_of_another_name_is_refused_if_an_index_lists_it(tmp_path):
    index, parts = split(tmp_path)
    parts[0].rename(tmp_path / "first.safetensors")
    parts[1].rename(tmp_path / "second.safetensors")
    edited(index, lambda places: places.update(dict.fromkeys(list(HELD)[:3], "first.safetensors")))
    edited(index, lambda places: places.update(dict.fromkeys(list(HELD)[3:], "second.safetensors")))
    with pytest.raises(
        UnreadableModel, match=r"only a part of a model: .*model\.safetensors\.index"
    ):
        read_contents(tmp_path / "first.safetensors")
    assert list(read_contents(index).tensors) == list(HELD)


@pytest.mark.parametrize(
    "name",
    [
        "model-00001-of-00001.safetensors",  # whole
        "model-00001-of-00001 (1).safetensors",
        "model-1-of-1.safetensors",
        "model-rank-0-of-1.safetensors",
        "MODEL-00001-OF-00001_copy.safetensors",
        "fold-02-of-05.safetensors",
        "net-seed-2-of-3.safetensors",
        "best-of-5.safetensors",
        "rank_model.safetensors",
        "partial.safetensors",
        "shard.safetensors",
        "weights.safetensors",
        "consolidated.00.safetensors",
        "consolidated.safetensors",
        "rank.safetensors",
        "low_rank4.safetensors",
        "epoch_00003.safetensors",
    ],
)
def test_whole_files_of_similar_names_are_read(tmp_path, name):
    (tmp_path / "broken.index.json").write_text("{")
    (tmp_path / "config.json").write_text(json.dumps({"weight_map": {"a": name, "b": "c"}}))
    (tmp_path / name).write_bytes(safetensors(HELD))
    assert list(read_contents(tmp_path / name).tensors) == list(HELD)


@pytest.mark.parametrize(
    ("names", "apart"),
    [
        (["mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt"], [0, 1]),
        (["mp_rank_03_model_states.pt"], [0]),
        (["mp_rank_00_model_states.pt"], []),
        (["consolidated.00.pth", "consolidated.01.pth"], [0, 1]),
        (["consolidated.01.pth"], [0]),
        (["consolidated.00.pth"], []),
        (["consolidated-00001-of-00002.pth"], [0]),
        (["mp_rank_00/model_optim_rng.pt", "mp_rank_01/model_optim_rng.pt"], [0, 1]),
        (["mp_rank_00_000/model_rng.pt", "mp_rank_00_001/model_rng.pt"], [0, 1]),
        (["mp_rank_00/model_optim_rng.pt"], [0]),
        (["mp_rank_00_000/model_optim_rng.pt"], [0]),
        (["MP_RANK_00/other.pt"], [0]),
        (["tp_rank_00_pp_rank_000/model_weights.ckpt"], [0]),
        (["tp_rank_00/model_weights.ckpt"], [0]),
        (["tp_rank_00_pp_rank_000.pt"], [0]),
        (["rank0.safetensors"], [0]),
        (["rank0 (1).safetensors"], [0]),
        (["reshard-model_part-0.pt"], [0]),
        (["reshard-model_part-1-shard0.pt"], [0]),
        (["checkpoint_last-shard0.pt"], [0]),
        (["weights.00.npz"], [0]),
        (["weights.npz"], []),
        (["model_rank0.pt", "model_rank1.pt"], [0, 1]),
        (["model_rank1.pt"], []),
        (["low_rank0.pt", "low_rank1.pt"], []),
        (["tp_rank_0.pt"], [0]),
        (["rank_0/model.pt", "rank_4/model.pt"], [0]),
        (["model-part1-of-2.pt", "model_part_0.bin"], [0, 1]),
        (["model-rank-0-of-2.pt"], [0]),
        (["MODEL-00001-OF-00002.SAFETENSORS"], [0]),
        (["model-00001-of-00002 (1).safetensors"], [0]),
        (["model-00001-of-00002.safetensors (1)"], [0]),
        (["model-00001-of-00002_copy.safetensors"], [0]),
        (["model-00001-of-00002 - Copy (2).safetensors"], [0]),
        (["Copy of model-00001-of-00002.pt"], [0]),
        (["model_00001_of_00002.safetensors"], [0]),
        (["model-1-of-2.safetensors"], [0]),
        (["model-2-of-3.pt", "model-1-of-1.pt"], [0]),
        (["zero_pp_rank_0_mp_rank_00_model_states.pt"], [0]),
        (["layer_01-model_00-model_states.pt"], [0]),
        (["model_world_size_4_rank_0.pt", "model_world_size_1_rank_0.pt"], [0]),
        (["checkpoint_last-shard0.pt", "checkpoint_last-shard1.pt"], [0, 1]),
        (["rank0.safetensors", "rank1.safetensors"], [0, 1]),
        (["model.tp_rank_0.pt", "model.tp_rank_1.pt"], [0, 1]),
    ],
    ids=lambda value: value[0] if value and isinstance(value[0], str) else "",
)
def test_ranks(tmp_path, names, apart):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(torch_zip(state_dict(HELD), storages(HELD)))
    for i, name in enumerate(names):
        if i in apart:
            with pytest.raises(UnreadableModel, match="only a part"):
                read_contents(tmp_path / name)
        else:
            assert list(read_contents(tmp_path / name).tensors) == list(HELD)


@pytest.mark.parametrize("hops", [1, 2])
@pytest.mark.parametrize("beside", [True, False])
def test_a_link_to_a_part_is_one(tmp_path, hops, beside):
    index, parts = split(tmp_path)
    if not beside:
        index.unlink()
    (tmp_path / "blob").write_bytes(parts[0].read_bytes())
    if hops == 2:  # as in a cache, whose names are links
        parts[0].unlink()
        parts[0].symlink_to("blob")
    folder = tmp_path / "other"
    folder.mkdir()
    link = folder / "m.safetensors"
    link.symlink_to(parts[0])
    with pytest.raises(UnreadableModel, match=rf"m\.safetensors: is only a part.*{index.name}"):
        read_contents(link)


def test_a_link_to_a_whole_is_read(tmp_path):
    (tmp_path / "whole.safetensors").write_bytes(safetensors(HELD))
    (tmp_path / "m.safetensors").symlink_to("whole.safetensors")
    assert list(read_contents(tmp_path / "m.safetensors").tensors) == list(HELD)


def test_ranks_name_their_siblings(refused, tmp_path, monkeypatch):
    for name in ("consolidated.00.pth", "consolidated.01.pth"):
        (tmp_path / name).write_bytes(torch_zip(state_dict(HELD), storages(HELD)))
    monkeypatch.chdir(tmp_path)
    line = refused("audit", "consolidated.00.pth", "--activation", "relu")
    assert "beside 'consolidated.01.pth'" in line


@pytest.mark.parametrize("ranks", [1, 2])
def test_what_deepspeed_says_of_ranks(tmp_path, ranks):
    saved = {"module": state_dict(HELD), "mp_world_size": ranks, "dp_world_size": 4}
    path = tmp_path / "renamed.pt"
    path.write_bytes(torch_zip(saved, storages(HELD)))
    if ranks == 1:
        assert list(read_contents(path).tensors) == list(HELD)
    else:
        with pytest.raises(UnreadableModel, match="only a part of a model: one of 2 ranks"):
            read_contents(path)


def test_parts_of_other_formats(refused, tmp_path):
    path = tmp_path / "flax_model-00001-of-00002.msgpack"
    path.write_bytes(b"\x81\xa1a\xc0")
    assert "flax_model.msgpack.index.json" in refused("audit", path)
    index = tmp_path / "flax_model.msgpack.index.json"
    index.write_text(
        json.dumps({"weight_map": {"a": path.name, "b": path.name.replace("1-", "2-")}})
    )
    (tmp_path / path.name.replace("1-", "2-")).write_bytes(b"\x81\xa1b\xc0")
    assert "msgpack file cannot be read" in refused("audit", index)


# --- damaged and hostile indices ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (
            lambda places: places.update(extra="model-00002-of-00002.safetensors"),
            "lacks the tensor",
        ),
        (
            lambda places: places.pop("0.bias"),
            r"holds the tensor '0\.bias', which it does not name",
        ),
        (
            lambda places: places.update({"0.bias": "model-00002-of-00002.safetensors"}),
            r"holds the tensor '0\.bias', which it places in 'model-00002",
        ),
        (lambda places: places.update(a="more.safetensors"), "is missing"),
        (lambda places: places.update(a="../model.safetensors"), "files in its own folder"),
        (lambda places: places.update(a=".."), "files in its own folder"),
        (lambda places: places.update(a="."), "files in its own folder"),
        (lambda places: places.update(a=""), "files in its own folder"),
        (lambda places: places.update(a="/etc/passwd"), "files in its own folder"),
        (lambda places: places.update(a="sub/a.safetensors"), "files in its own folder"),
        (lambda places: places.update(a="sub\\a.safetensors"), "files in its own folder"),
        (lambda places: places.update(a="C:a.safetensors"), "files in its own folder"),
        (lambda places: places.update(a="a\0b"), "files in its own folder"),
        (lambda places: places.update(a="x" * 5000), "cannot be read"),
        (lambda places: places.update(a="linked.safetensors"), "link out of the folder"),
        (lambda places: places.update(a="folder"), "no ordinary file"),
        (lambda places: places.update(a="model.safetensors.index.json"), "no ordinary file"),
        (lambda places: [places.pop(name) for name in list(HELD)[3:]], "lists 1 of 2 parts"),
        (lambda places: places.update(a=3), "names no file"),
        (lambda places: places.update(a=None), "names no file"),
        (lambda places: places.update(a=["x", 1]), "names no file"),
        (lambda places: places.clear(), "no weight_map"),
    ],
)
def test_wrong_indices(refused, tmp_path, edit, match):
    folder, elsewhere = tmp_path / "model", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "folder").mkdir()
    (elsewhere / "linked.safetensors").write_bytes(safetensors({"a": np.ones((2, 2), "f4")}))
    (folder / "linked.safetensors").symlink_to(elsewhere / "linked.safetensors")
    index, _ = split(folder)
    edited(index, edit)
    with pytest.raises(UnreadableModel, match=match) as error:
        read_contents(index)
    assert str(index) in str(error.value)
    for source in (index, folder):
        refused("audit", source, "--activation", "relu")


def test_tensors_that_two_parts_hold(tmp_path):
    index, parts = split(tmp_path)
    parts[1].write_bytes(safetensors(HELD))
    with pytest.raises(UnreadableModel, match=r"holds the tensor '0\.weight', which it places in"):
        read_contents(index)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "no JSON text"),
        ("", "is empty"),
        ("[]", "no weight_map"),
        ('{"weight_map": []}', "no weight_map"),
        ('{"metadata": {}}', "no weight_map"),
        ('{"weight_map": {"a": "b", "a": "c"}}', "a name twice"),
        ('{"weight_map": {"a": "b"}, "weight_map": {}}', "a name twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"weight_map": {"a": ' + "9" * 10_000 + "}}", "names no file"),
        ('{"weight_map": {"a": NaN}}', "names no file"),
        ("\ufffe", "not valid text"),
    ],
)
def test_damaged_indices(tmp_path, text, match):
    index = tmp_path / "model.safetensors.index.json"
    index.write_bytes(text.encode("utf-16") if text == "\ufffe" else text.encode())
    with pytest.raises(UnreadableModel, match=match):
        read_contents(index)


def test_changed_indices_are_refused_or_read_rightly(tmp_path):
    index, _ = split(tmp_path)
    whole = {name: array.tobytes() for name, array in HELD.items()}
    read = 0
    for data in damaged(index.read_bytes(), 400):
        index.write_bytes(data)
        try:
            found = read_contents(index)
        except UnreadableModel:
            continue
        read += 1
        assert {name: one.array.tobytes() for name, one in found.tensors.items()} == whole
    assert 0 < read < 400  # the notes of an index may change


def test_a_damaged_part_is_named(tmp_path):
    index, parts = split(tmp_path)
    parts[1].write_bytes(parts[1].read_bytes()[:-4])
    with pytest.raises(UnreadableModel, match=r"model-00002-of-00002\.safetensors: damaged"):
        read_contents(index)


def test_parts_of_two_formats(tmp_path):
    index, parts = split(tmp_path)
    held = {name: HELD[name] for name in list(HELD)[3:]}
    parts[1].write_bytes(npz(held))
    with pytest.raises(UnreadableModel, match=r"two formats \(safetensors, npz\)"):
        read_contents(index)


def test_the_limits_hold_for_the_whole(tmp_path, monkeypatch):
    """Parts that may each expand to 64 MiB may not do so together."""
    count, size = 12, 2 * 2**20
    held = {f"a{i}": np.zeros(size, np.float64) for i in range(count)}
    name = "model-{:05}-of-{:05}.npz"
    for i, (key, array) in enumerate(held.items()):
        (tmp_path / name.format(i + 1, count)).write_bytes(npz({key: array}, compressed=True))
    places = {key: name.format(i + 1, count) for i, key in enumerate(held)}
    index = tmp_path / "model.npz.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert sum(one.stat().st_size for one in tmp_path.iterdir()) < 2**20
    tracemalloc.start()
    with pytest.raises(UnreadableModel, match="expand"):
        read_contents(index)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * files.SMALL


def test_many_parts_and_long_indices_are_refused(tmp_path, monkeypatch):
    index, _ = split(tmp_path, count=4)
    monkeypatch.setattr(indices, "MOST_PARTS", 3)
    with pytest.raises(UnreadableModel, match="lists 4 parts: at most 3"):
        read_contents(index)
    monkeypatch.undo()
    index.write_text(index.read_text() + " " * indices.SMALL_INDEX)
    with pytest.raises(UnreadableModel, match="more than a tenth of its folder"):
        read_contents(index)
    monkeypatch.setattr(indices, "LARGEST_INDEX", 1000)
    with pytest.raises(UnreadableModel, match=r"at most 1,000 are read"):
        read_contents(index)


# --- folders and writing ------------------------------------------------------------------------


def test_folders(refused, tmp_path):
    split(tmp_path)
    split(tmp_path, form="bin")
    line = refused("audit", tmp_path, "--activation", "relu")
    assert "'model.safetensors.index.json', 'pytorch_model.bin.index.json'" in line
    for one in tmp_path.glob("*.index.json"):
        one.unlink()
    line = refused("audit", tmp_path, "--activation", "relu")
    assert "no index that lists them" in line
    (tmp_path / "b.safetensors").write_bytes(safetensors(HELD))
    assert "such as b.safetensors" in refused("audit", tmp_path)


def test_the_current_folder_has_a_name(command, tmp_path, monkeypatch):
    split(tmp_path)
    monkeypatch.chdir(tmp_path)
    outcome = command("audit", ".", "--activation", "relu", "--fail-on", "never")
    assert outcome.code == 0
    assert outcome.out.startswith(f"{tmp_path.name} (safetensors in 2 parts)")


def test_a_repair_is_found_but_not_written(command, refused, tmp_path):
    index, _ = split(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    outcome = command("repair", index, "--activation", "relu", "--dry-run")
    assert outcome.code == 0
    for source, out in ((index, tmp_path / "out.json"), (tmp_path, tmp_path / "out")):
        line = refused("repair", source, "--activation", "relu", "--out", out)
        assert "a model in parts is read but not written" in line
        with pytest.raises(ValueError, match="read but not written"):
            ob.repair(source, out=out, activation="relu")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_adapter_in_parts_is_none_either(command, tmp_path):
    held = {f"{i}.lora_{side}.weight": np.ones((2, 2), "f4") for i in range(2) for side in "AB"}
    index, _ = split(tmp_path, held)
    outcome = command("audit", index, "--activation", "relu")
    assert outcome.code == 3
    assert "adapter" in outcome.err


def test_a_part_that_is_a_module_gives_its_tensors(tmp_path):
    """The graph of a part would leave out the others."""
    linear = module("linear.Linear", parameters={"weight": tensor("0", HELD["0.weight"])})
    parts = [
        torch_zip(module("container.Sequential", {"0": linear}), {"0": HELD["0.weight"].tobytes()}),
        torch_zip(
            ordered({"2.weight": tensor("0", HELD["4.weight"])}), {"0": HELD["4.weight"].tobytes()}
        ),
    ]
    for i, part in enumerate(parts):
        (tmp_path / f"pytorch_model-0000{i}-of-00002.bin").write_bytes(part)
    places = {f"{2 * i}.weight": f"pytorch_model-0000{i}-of-00002.bin" for i in range(2)}
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    found = read_contents(index)
    assert found.graph is None
    assert list(found.tensors) == ["0.weight", "2.weight"]
    assert (found.format, found.layout) == ("PyTorch file in 2 parts", None)
    assert found.customary == "out_in"


# --- Keras --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """Return a folder in which Keras has saved a model in parts and whole."""
    keras = framework("keras")
    framework("h5py")
    folder = tmp_path_factory.mktemp("sharded")
    dense = keras.layers.Dense
    net = keras.Sequential([keras.Input((3,)), *(dense(n, "relu") for n in (8, 8)), dense(1)])
    net.save_weights(folder / "net.weights.json", max_shard_size=2.5e-7)
    net.save_weights(folder / "whole.weights.h5")
    return folder


def test_sharded_weights_of_keras(sharded, tmp_path):
    told = {"activation": "relu", "scheme": None}
    report = ob.audit(sharded / "net.weights.json", **told)
    assert report.neurons.equals(ob.audit(sharded / "whole.weights.h5", **told).neurons)
    assert ob.audit(sharded, **told).neurons.equals(report.neurons)
    parts = sorted(sharded.glob("net_*.weights.h5"))
    assert len(parts) == 3
    for part in parts:
        with pytest.raises(UnreadableModel, match=r"only a part.*net\.weights\.json"):
            read_contents(part)
    for part in parts:  # without the index their contents tell
        (tmp_path / part.name).write_bytes(part.read_bytes())
    for part in parts:
        with pytest.raises(UnreadableModel, match=r"only a part.*net\.weights\.json"):
            read_contents(tmp_path / part.name)
    for number in (0, 2):  # alone and renamed
        (tmp_path / "x.h5").write_bytes(parts[number].read_bytes())
        with pytest.raises(UnreadableModel, match="only a part"):
            read_contents(tmp_path / "x.h5")


def test_what_parts_of_keras_lack(sharded, tmp_path):
    for one in sharded.glob("net*"):
        (tmp_path / one.name).write_bytes(one.read_bytes())
    index = tmp_path / "net.weights.json"
    about = index.read_text()
    edited(index, lambda places: places.pop("/layers/dense/vars"))
    with pytest.raises(UnreadableModel, match="lists 2 of 3 parts"):
        read_contents(index)
    index.write_text(about)
    edited(index, lambda places: places.update({"/layers/dense_9/vars": ["net_00000.weights.h5"]}))
    with pytest.raises(UnreadableModel, match="lacks the tensors of 'layers/dense_9/vars'"):
        read_contents(index)
    index.write_text(about)
    edited(index, lambda places: places.update({"/layers/dense_1/vars": "net_00002.weights.h5"}))
    edited(index, lambda places: places.update({"/x/vars": "net_00001.weights.h5"}))
    with pytest.raises(UnreadableModel, match="which the index does not place there"):
        read_contents(index)
    index.write_text(about)
    (tmp_path / "net_00001.weights.h5").unlink()
    with pytest.raises(UnreadableModel, match="is missing"):
        read_contents(index)


def test_weights_of_several_epochs_are_whole(tmp_path):
    keras = framework("keras")
    framework("h5py")
    net = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1)]
    )
    for epoch in (1, 2):
        net.save_weights(tmp_path / f"net_{epoch:05}.weights.h5")
    for epoch in (1, 2):
        assert len(read_contents(tmp_path / f"net_{epoch:05}.weights.h5").tensors) == 4
