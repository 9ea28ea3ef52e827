"""Files made to attack, and files damaged at random: a clear error or contents, nothing else."""

from __future__ import annotations

import io
import json
import pickle
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import framework
from model_files import (
    Made,
    Named,
    exported,
    module,
    network,
    npy,
    npz,
    ordered,
    pickled,
    program,
    safetensors,
    sequential,
    state_dict,
    storages,
    tensor,
    torch_legacy,
    torch_zip,
    zipped,
)

from obstruction.models import read_contents
from obstruction.models.contents import Contents, UnreadableModel
from obstruction.models.readers import npz as npz_reader
from obstruction.models.readers import zip_archives as archives
from obstruction.models.readers.files import SMALL, most_expanded, told_as
from obstruction.models.readers.torch import files as torch_files

pytestmark = pytest.mark.usefixtures("one_hdf5_process")

SECONDS = 2.0  # that any small file may take
ARRAYS = network(3, 5, 2)


def attempt(path: Path) -> Contents | UnreadableModel:
    """Read a file as users do, by its content."""
    start = time.process_time()
    try:
        result: Contents | UnreadableModel = read_contents(path)
    except UnreadableModel as error:
        result = error
    except ValueError as error:  # of the house; `check` looks at what it says
        result = UnreadableModel(str(error))
    assert time.process_time() - start < SECONDS
    return result


def onnx_model() -> bytes:
    helper = framework("onnx.helper")
    to_tensor = framework("onnx.numpy_helper").from_array
    nodes = [
        helper.make_node("Gemm", ["x", "0.weight", "0.bias"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("Gemm", ["a", "2.weight", "2.bias"], ["y"], transB=1),
    ]
    ends = [helper.make_tensor_value_info(n, 1, ["n", s]) for n, s in (("x", 3), ("y", 2))]
    weights = [to_tensor(array, name) for name, array in ARRAYS.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return helper.make_model(graph, producer_name="test").SerializeToString()


def hdf5_weights() -> bytes:
    stream = io.BytesIO()
    with framework("h5py").File(stream, "w") as file:
        for layer, part in (("dense", "0"), ("dense_1", "2")):
            file[f"layers/{layer}/vars/0"] = ARRAYS[f"{part}.weight"].T
            file[f"layers/{layer}/vars/1"] = ARRAYS[f"{part}.bias"]
    return stream.getvalue()


@dataclass(frozen=True)
class Format:
    """A kind of file: a good one, and what damaged ones are put into."""

    suffix: str
    make: Callable[[], bytes]
    wrap: Callable[[bytes], bytes] = bytes


def in_archive(raw: bytes) -> bytes:
    return torch_zip(raw, storages(ARRAYS))


PLACES = "n/data/weights/model_weights_config.json"


# in archives every byte has a checksum, so what is in them is also damaged before it gets one
FORMATS = {
    "torch": Format(".pt", lambda: in_archive(pickled(state_dict(ARRAYS)))),
    "torch state dict": Format(".pt", lambda: pickled(state_dict(ARRAYS)), in_archive),
    "torch module": Format(".pt", lambda: pickled(sequential(ARRAYS)), in_archive),
    "torch legacy": Format(".pt", lambda: torch_legacy(state_dict(ARRAYS), storages(ARRAYS))),
    "safetensors": Format(".safetensors", lambda: safetensors(ARRAYS)),
    "npz": Format(".npz", lambda: npz(ARRAYS, compressed=True)),
    "npy": Format(".npy", lambda: npy(ARRAYS["0.weight"])),
    "npy in npz": Format(
        ".npz", lambda: npy(ARRAYS["0.weight"]), lambda raw: zipped({"a.npy": raw})
    ),
    "eqx": Format(".eqx", lambda: b"{}\n" + b"".join(map(npy, ARRAYS.values()))),
    "torch.export": Format(".pt2", lambda: exported(ARRAYS)),
    "torch.export program": Format(
        ".pt2", lambda: json.dumps(program(ARRAYS)).encode(), lambda raw: exported(ARRAYS, raw)
    ),
    "torch.export places": Format(
        ".pt2",
        lambda: zipfile.ZipFile(io.BytesIO(exported(ARRAYS))).read(PLACES),
        lambda raw: exported(ARRAYS, config=raw),
    ),
    "onnx": Format(".onnx", onnx_model),
    "hdf5": Format(".h5", hdf5_weights),
}


def mutated(good: bytes, rng: np.random.Generator) -> bytes:
    """Return a copy with one to three random damages."""
    data = bytearray(good)
    for _ in range(rng.integers(1, 4)):
        size = max(len(data), 1)
        at, length = int(rng.integers(size)), int(rng.integers(1, 9))
        other = int(rng.integers(size))
        data = data or bytearray(1)
        match int(rng.integers(8)):
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at] = int(rng.integers(256))
            case 2:
                data[at : at + length] = rng.bytes(length)
            case 3:
                del data[at:]
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = data[other : other + 8 * length]
            case 6:
                data[at : at + length] = data[other : other + length]
            case _:
                extreme = (0, 0xFF, 0x7F, 0x80)[int(rng.integers(4))]
                data[at : at + length] = bytes([extreme]) * length
    return bytes(data)


def check(kind: Format, files: list[bytes], folder: Path) -> int:
    """Read files; return how many gave contents."""
    paths = [folder / f"{i}{kind.suffix}" for i in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    good = 0
    for path in paths:
        result = attempt(path)
        if isinstance(result, Contents):
            good += 1
            total = sum(tensor.array.nbytes for tensor in result.tensors.values())
            assert total < 10**6
            for tensor in result.tensors.values():
                tensor.array.tobytes()  # every number can be read
        else:
            assert isinstance(result, UnreadableModel)
            text = str(result)
            assert str(path) in text
            assert "\n" not in text
            assert not text.endswith(".")
            assert len(text) < 500 + len(str(path))
    return good


@pytest.mark.parametrize("name", FORMATS)
def test_good_files_are_read(name, tmp_path):
    kind = FORMATS[name]
    assert check(kind, [kind.wrap(kind.make())], tmp_path) == 1


@pytest.mark.parametrize("name", FORMATS)
def test_random_damage(name, tmp_path):
    kind, rng = FORMATS[name], np.random.default_rng(zlib.crc32(name.encode()))
    good = kind.make()
    check(kind, [kind.wrap(mutated(good, rng)) for _ in range(60)], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(6))
@pytest.mark.parametrize("name", FORMATS)
def test_much_random_damage(name, part, tmp_path):
    """Over all formats and parts 12 000 files."""
    kind, rng = FORMATS[name], np.random.default_rng([part, zlib.crc32(name.encode())])
    good = kind.make()
    read = check(kind, [kind.wrap(mutated(good, rng)) for _ in range(200)], tmp_path)
    assert read < 200


@pytest.mark.parametrize("name", FORMATS)
def test_every_truncation(name, tmp_path):
    kind = FORMATS[name]
    good = kind.make()
    step = max(1, len(good) // 100)
    files = [kind.wrap(good[:length]) for length in range(0, len(good), step)]
    # of formats that have no checksum or end, what is left may be whole
    assert check(kind, files, tmp_path) < len(files) / 2


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_every_truncation_at_every_length(name, tmp_path):
    kind = FORMATS[name]
    good = kind.make()
    check(kind, [kind.wrap(good[:length]) for length in range(len(good))], tmp_path)


# --- pickles that run something ------------------------------------------------------------------

WAYS = ("reduce", "inst", "obj", "newobj", "newobj_ex", "stack_global")


def attacks(mark: Path) -> dict[str, Any]:
    shell, code = f"touch {mark}", f"__import__('os').mknod({str(mark)!r})"
    names = {
        "os.system": shell,
        "posix.system": shell,
        "builtins.eval": code,
        "builtins.exec": code,
        "torch._utils.exec": code,
        "torch.hub.load": shell,
    }
    return {
        f"{path}-{way}": Made(Named(*path.rsplit(".", 1)), (words,), way=way)
        for path, words in names.items()
        for way in WAYS
    }


def placed(attack: Made) -> dict[str, Any]:
    """Return files' contents with the attack in all the places that a loader might look at."""
    good = {name: tensor(str(i), a) for i, (name, a) in enumerate(ARRAYS.items())}
    built = Made(attack.function, attack.args, {"_modules": {}, "_parameters": good})
    weight = Made(Named("torch._utils", "_rebuild_tensor_v2"), (attack, 0, (1,), (1,)))
    layer = module("linear.Linear", parameters={"weight": attack, "bias": weight})
    return {
        "alone": attack,
        "among": ordered({**good, "evil": attack}),
        "first": {"evil": attack, "state_dict": ordered(good)},
        "storage": ordered({**good, "evil": weight}),
        "state": built,
        "module": module("container.Sequential", {"0": layer, "1": attack}),
        "hook": module("linear.Linear", parameters=good, _forward_hooks=ordered({1: attack})),
        "class": Made(attack, (), {"a": attack}, way="newobj"),
    }


@pytest.mark.parametrize("write", [torch_zip, torch_legacy], ids=["zip", "legacy"])
def test_nothing_is_run(write, tmp_path):
    mark = tmp_path / "mark"
    seen = set()
    for name, attack in attacks(mark).items():
        for place, value in placed(attack).items():
            path = tmp_path / "a.pt"
            path.write_bytes(write(value, storages(ARRAYS)))
            result = attempt(path)
            assert not mark.exists(), (name, place)
            seen.add((place, isinstance(result, Contents)))
            if isinstance(result, Contents):
                assert {n: t.shape for n, t in result.tensors.items()}.items() <= {
                    n: a.shape for n, a in ARRAYS.items()
                }.items()
    kept = {place for place, good in seen if good}
    assert {"among", "first"} <= kept
    assert "alone" not in kept
    assert "storage" not in kept


def test_the_attacks_are_real(tmp_path):
    """Python's own reader does what they say."""
    mark = tmp_path / "mark"
    done = 0
    for name, attack in attacks(mark).items():
        if "torch" not in name and "newobj" not in name:
            pickle.loads(pickled(attack))
            assert mark.exists(), name
            mark.unlink()
            done += 1
    assert done == 16


# --- archives ------------------------------------------------------------------------------------


def archive(path: Path, data: bytes) -> archives.Archive:
    path.write_bytes(data)
    with told_as(UnreadableModel, path):
        return archives.Archive(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_are_those_of_python(method, tmp_path):
    members = {"a": b"x" * 5_000, "b/c": b"", "ä": np.random.default_rng(0).bytes(3 * 2**20)}
    found = archive(tmp_path / "a.zip", zipped(members, method))
    assert list(found.members) == list(members)
    for name, data in members.items():
        assert found.view(name).tobytes() == found.read(name) == data


def test_a_copy_with_a_member_that_grows(tmp_path):
    """Also where sizes and places have 64 bits, and where sizes follow the data."""

    class Pipe(io.RawIOBase):
        def __init__(self):
            self.parts = []

        def writable(self):
            return True

        def write(self, data):
            self.parts.append(bytes(data))
            return len(data)

    rng = np.random.default_rng(0)
    for stream in (io.BytesIO(), Pipe()):
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
            for name in "abc":
                with made.open(name, "w", force_zip64=name != "a") as member:
                    member.write(bytes(5_000))
            made.comment = b"hello"
        data = stream.getvalue() if isinstance(stream, io.BytesIO) else b"".join(stream.parts)
        found = archive(tmp_path / "a.zip", data)
        new = {"a": rng.bytes(5_000), "b": rng.bytes(5_000)}
        with (tmp_path / "b.zip").open("wb") as out:
            found.write(new, out)
        with zipfile.ZipFile(tmp_path / "b.zip") as back:
            assert back.testzip() is None
            assert back.comment == b"hello"
            assert {name: back.read(name) for name in "abc"} == {**new, "c": bytes(5_000)}
        again = archives.Archive(tmp_path / "b.zip")
        assert {name: again.read(name) for name in "abc"} == {**new, "c": bytes(5_000)}


def test_bombs(tmp_path):
    size = SMALL + 1
    bomb = zipped({"a.npy": bytes(size)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 10**5
    path = tmp_path / "a.npz"
    path.write_bytes(bomb)
    tracemalloc.start()
    with pytest.raises(UnreadableModel, match="expands out of proportion"):
        npz_reader.read(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    many = {f"{i}.npy": npy(np.zeros(2**20)) for i in range(12)}
    path.write_bytes(zipped(many, zipfile.ZIP_DEFLATED))
    tracemalloc.start()
    with pytest.raises(UnreadableModel, match="expands out of proportion"):
        npz_reader.read(path)
    assert tracemalloc.get_traced_memory()[1] < 1.1 * SMALL
    tracemalloc.stop()


def test_a_bomb_that_declares_little(tmp_path):
    """Both headers say 100 bytes; the stream holds a million."""
    good = bytearray(zipped({"a.npy": bytes(10**6)}, zipfile.ZIP_DEFLATED))
    old, new = struct.pack("<L", 10**6), struct.pack("<L", 100)
    assert good.count(old) == 2
    path = tmp_path / "a.npz"
    path.write_bytes(bytes(good).replace(old, new))
    with pytest.raises(UnreadableModel, match="expands to more bytes than it declares"):
        npz_reader.read(path)
    path.write_bytes(bytes(good).replace(old, struct.pack("<L", 10**6 + 1)))
    with pytest.raises(UnreadableModel, match="does not expand to what it declares"):
        npz_reader.read(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_odd_archives(tmp_path):
    def of(change: Callable[[bytearray], None]) -> bytes:
        data = bytearray(zipped({"a": b"first", "b": b"second"}))
        change(data)
        return bytes(data)

    def at(data: bytearray, mark: bytes, offset: int, form: str, value: int) -> None:
        struct.pack_into(form, data, data.find(mark) + offset, value)

    def encrypted(data: bytearray) -> None:
        at(data, b"PK\x03\x04", 6, "<H", 1)
        at(data, b"PK\x01\x02", 8, "<H", 1)

    def overlapping(data: bytearray) -> None:
        second = data.rfind(b"PK\x01\x02")
        struct.pack_into("<L", data, second + 42, 0)
        data[second + 46 : second + 47] = b"a"

    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as made:
        made.writestr("a", b"1")
        made.writestr("a", b"2")
    squeezed = zipped({"a": b"1"}, zipfile.ZIP_BZIP2)
    cases = {
        "is encrypted": of(encrypted),
        "does not fit the directory": of(overlapping),
        "holds 'a' twice": twice.getvalue(),
        "compressed by method 12": squeezed,
        "its end is missing": zipped({"a": b"1"})[:-30],
        "not at its end": b"prefix" + zipped({"a": b"1"}),
        "its end is damaged": zipped({"a": b"1"}) + b"x",
        "contradict each other": of(lambda d: at(d, b"PK\x01\x02", 24, "<L", 6)),
        "is not a plain zip archive": of(lambda d: at(d, b"PK\x05\x06", 16, "<L", 9)),
    }
    for why, data in cases.items():
        with pytest.raises(UnreadableModel, match=why):
            archive(tmp_path / "a.zip", data)


def test_members_within_each_other_are_refused(tmp_path):
    """A whole member stands in the bytes of another, and the directory lists both."""
    inner = zipped({"b": b"second"})
    outer = zipped({"a": inner[: inner.find(b"PK\x01\x02")]})
    start = outer.rfind(b"PK\x01\x02")
    entry = bytearray(inner[inner.find(b"PK\x01\x02") : inner.find(b"PK\x05\x06")])
    struct.pack_into("<L", entry, 42, outer.rfind(b"PK\x03\x04"))
    listed = outer[start : outer.find(b"PK\x05\x06")] + entry
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2, 2, len(listed), start, 0)
    with pytest.raises(UnreadableModel, match="'b' lies within another member"):
        archive(tmp_path / "a.zip", outer[:start] + listed + tail)


def test_a_flipped_bit_is_found(tmp_path):
    data = bytearray(torch_zip(state_dict(ARRAYS), storages(ARRAYS)))
    data[data.find(ARRAYS["0.weight"].tobytes()) + 5] ^= 1
    path = tmp_path / "a.pt"
    path.write_bytes(data)
    with pytest.raises(UnreadableModel, match="the checksum of 'model/data/0' does not fit"):
        torch_files.read(path)


def test_the_limit_is_three_times_the_file():
    assert most_expanded(10) == SMALL
    assert most_expanded(10**9) == 3 * 10**9


def test_tensors_that_show_the_same_numbers_again_and_again(tmp_path):
    """1000 tensors of 1 MB each, in a file of 1 MB."""
    array = np.zeros(2**18, np.float32)
    value = {str(i): tensor("0", array) for i in range(1000)}
    path = tmp_path / "a.pt"
    path.write_bytes(torch_zip(value, {"0": array.tobytes()}))
    with pytest.raises(UnreadableModel, match="many times the size of the file"):
        torch_files.read(path)
