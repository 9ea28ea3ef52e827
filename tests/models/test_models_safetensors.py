"""The safetensors format against its own library, and what breaks its rules."""

from __future__ import annotations

import json
import struct
import time
import tracemalloc

import numpy as np
import pytest
from conftest import framework
from model_files import network, safetensors, safetensors_header

from obstruction.models.contents import UnreadableModel, round_bfloat16
from obstruction.models.readers import safetensors as reader

ARRAYS = {
    **network(3, 5, 2),
    "double": np.array([[1.5, -2.5]]),
    "half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "count": np.array(7, dtype=np.int64),
    "flags": np.array([True, False]),
    "empty": np.zeros((0, 4), np.float32),
}


def put(tmp_path, data: bytes):
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    return path


def same(tensors, arrays) -> None:
    assert list(tensors) == list(arrays)
    for name, array in arrays.items():
        found = tensors[name].array
        assert found.dtype == array.dtype, name
        assert found.shape == array.shape, name
        assert found.tobytes() == array.tobytes(), name


def test_what_it_holds(tmp_path):
    contents = reader.read(put(tmp_path, safetensors(ARRAYS)))
    same(contents.tensors, ARRAYS)
    assert contents.tensors["half"].dtype == "float16"
    assert (contents.format, contents.layout, contents.graph) == ("safetensors", None, None)
    with pytest.raises(ValueError, match="read-only"):
        contents.tensors["0.weight"].array[0, 0] = 1.0


def test_the_library_and_we_read_and_write_the_same(tmp_path):
    library = framework("safetensors.numpy")
    path = tmp_path / "a.safetensors"
    library.save_file(ARRAYS, path, metadata={"format": "np"})
    found = reader.read(path).tensors
    same({name: found[name] for name in ARRAYS}, ARRAYS)
    ours = library.load(safetensors(ARRAYS))
    same_values = {name: array.tobytes() for name, array in ours.items()}
    assert same_values == {name: array.tobytes() for name, array in ARRAYS.items()}
    changed = {"0.weight": -ARRAYS["0.weight"], "half": ARRAYS["half"] + np.float16(1)}
    reader.write(path, changed, tmp_path / "b.safetensors")
    back = library.load_file(tmp_path / "b.safetensors")
    for name, array in {**ARRAYS, **changed}.items():
        assert np.array_equal(back[name], array), name


def test_metadata_of_null(tmp_path):
    """MLX writes them, with keys in the order of the alphabet and a header that ends in spaces."""
    entries = safetensors_header(ARRAYS)
    ordered = {name: dict(sorted(entries[name].items())) for name in sorted(entries)}
    text = json.dumps({"__metadata__": None, **ordered}, separators=(",", ":"))
    path = put(tmp_path, safetensors(ARRAYS, text.encode() + b"   "))
    same(reader.read(path).tensors, {name: ARRAYS[name] for name in ordered})
    framework("safetensors.numpy").load_file(path)
    reader.write(path, {"half": ARRAYS["half"] + np.float16(1)}, path)
    assert text.encode() in path.read_bytes()


def test_bfloat16(tmp_path):
    ml_dtypes, library = framework("ml_dtypes"), framework("safetensors.numpy")
    rng = np.random.default_rng(0)
    values = {"a": rng.normal(size=(4, 3)), "scalar": np.array(1 / 3), "none": np.zeros((0, 2))}
    path = tmp_path / "a.safetensors"
    library.save_file({k: v.astype(ml_dtypes.bfloat16) for k, v in values.items()}, path)
    before = path.read_bytes()
    tensors = reader.read(path).tensors
    for name, value in values.items():
        expected = value.astype(ml_dtypes.bfloat16).astype(np.float32)
        assert tensors[name].dtype == "bfloat16"
        assert np.array_equal(tensors[name].array, expected)
        assert tensors[name].shape == value.shape
    reader.write(path, {k: t.array for k, t in tensors.items()}, path)
    assert path.read_bytes() == before
    new = round_bfloat16(3.0 * values["a"])
    reader.write(path, {"a": new}, path)
    assert np.array_equal(reader.read(path).tensors["a"].array, new)
    assert np.array_equal(library.load_file(path)["a"].astype(np.float32), new)
    with pytest.raises(ValueError, match="holds numbers that are no bfloat16 numbers"):
        reader.write(path, {"a": (values["a"] / 3).astype(np.float32)}, path)


def test_writing_changes_nothing_else(tmp_path):
    path = put(tmp_path, safetensors(ARRAYS))
    before = path.read_bytes()
    reader.write(path, {}, tmp_path / "same")
    assert (tmp_path / "same").read_bytes() == before
    reader.write(path, {"2.bias": np.array([8.0, 9.0], np.float32)}, path)
    start = 8 + int.from_bytes(before[:8], "little")
    place = start + safetensors_header(ARRAYS)["2.bias"]["data_offsets"][0]
    after = struct.pack("<ff", 8, 9)
    assert path.read_bytes() == before[:place] + after + before[place + 8 :]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "same"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"x": np.zeros(1, np.float32)}, "no tensor 'x'"),
        ({"0.bias": np.zeros(4, np.float32)}, r"has shape \(4,\): must have \(5,\)"),
        ({"0.bias": np.zeros(5)}, "has type float64: must be of type float32"),
    ],
)
def test_changes_that_do_not_fit(changes, why, tmp_path):
    path = put(tmp_path, safetensors(ARRAYS))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=why):
        reader.write(path, changes, path)
    assert path.read_bytes() == before


def test_places_that_cannot_be_written(tmp_path):
    path = put(tmp_path, safetensors(ARRAYS))
    with pytest.raises(ValueError, match=r"out = .*: cannot be written"):
        reader.write(path, {}, tmp_path / "no" / "such")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"out = .*: cannot be written"):
        reader.write(path, {}, tmp_path / "folder")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "folder"]


def test_a_link_and_its_permissions_stay(tmp_path):
    path = put(tmp_path, safetensors(ARRAYS))
    path.chmod(0o640)
    link = tmp_path / "link.safetensors"
    link.symlink_to(path)
    reader.write(link, {"0.bias": np.ones(5, np.float32)}, link)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert np.array_equal(reader.read(path).tensors["0.bias"].array, np.ones(5))


ONE = {"a": np.array([[1.0, 2.0]], np.float32)}


def entry(**changed):
    return {"a": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8], **changed}}


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (entry(dtype="F33"), "type 'F33', which is not known"),
        (entry(dtype=3), "type '3', which is not known"),
        (entry(shape=[2, 2]), "does not fit its shape"),
        (entry(shape=[-1, -2]), "no possible shape"),
        (entry(shape=[True, 2]), "no possible shape"),
        (entry(shape=[1.0, 2]), "holds '1.0', which is no whole number"),
        (entry(shape=[2**63, 0], data_offsets=[0, 0]), "no possible shape"),
        (entry(shape=[2**31, 2**33], data_offsets=[0, 0]), "does not fit its shape"),
        (entry(shape=[1] * 65), "no possible shape"),
        (entry(shape="12"), "no possible shape"),
        (entry(data_offsets=[8, 0]), "no possible place"),
        (entry(data_offsets=[0, 8, 9]), "no possible place"),
        (entry(data_offsets=[4, 12]), "follows a hole"),
        (entry(extra=1), "not described by"),
        ({"a": {"dtype": "F32", "shape": [1, 2]}}, "not described by"),
        ({"a": 1}, "not described by"),
        ({**entry(), "b": entry()["a"]}, "overlaps another"),
        ({**entry(shape=[1, 1], data_offsets=[0, 4])}, "end at byte"),
        ({**entry(), "__metadata__": {"a": 1}}, "metadata"),
        ({**entry(), "__metadata__": []}, "metadata"),
        ({**entry(), "__metadata__": 0}, "metadata"),
        ({**entry(), "__metadata__": {"a": None}}, "metadata"),
        (b'{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8],"dtype":"F32"}}', "name twice"),
        (json.dumps(entry()).encode()[:-1] + b',"a":{}}', "name twice"),
        (b'{"a":NaN}', "holds 'NaN', which is no whole number"),
        (b"[1]", "no JSON object"),
        (b" {}", "no JSON object"),
        (b"{", "no JSON text"),
        (b'{"a":' + b"[" * 10**6, "nested too deeply|no JSON text"),
        (b'{"\xff":1}', "not valid text"),
        *(
            (text.replace(b"#", b"9" * 100_000), r"holds a number of 100,000 digits\)$")
            for text in (
                b'{"a":#}',
                b'{"a":{"dtype":"F32","shape":[#,2],"data_offsets":[0,8]}}',
                b'{"__metadata__":{"a":#}}',
            )
        ),
        (b'{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,8]}}', "'1e999', which is no"),
        (b'{"a":0.' + b"1" * 100_000 + b"}", r"1\.\.\.', which is no whole number\)$"),
    ],
)
def test_broken_rules(header, why, tmp_path):
    path = put(tmp_path, safetensors(ONE, header))
    with pytest.raises(UnreadableModel, match=why) as caught:
        reader.read(path)
    assert str(path) in str(caught.value)


def test_headers_that_claim_too_much(tmp_path):
    for claim in (10 * 2**30, 2**63 + 5, 100_000_001):
        with pytest.raises(UnreadableModel, match="at most 100,000,000"):
            reader.read(put(tmp_path, struct.pack("<Q", claim) + b'{"a"' + bytes(50)))
    with pytest.raises(UnreadableModel, match="the header is cut off"):
        reader.read(put(tmp_path, struct.pack("<Q", 9 * 10**7) + b'{"a"' + bytes(50)))
    with pytest.raises(UnreadableModel, match="the file is cut off"):
        reader.read(put(tmp_path, b"123"))
    with pytest.raises(UnreadableModel, match="is empty"):
        reader.read(put(tmp_path, b""))
    large = b'{"a":[' + b"[]," * 2**20 + b"[]]}"
    with pytest.raises(UnreadableModel, match="more than a tenth of the file"):
        reader.read(put(tmp_path, safetensors({}, large)))


def test_what_is_made_of_a_header_stays_small(tmp_path):
    worst = b'{"a":[' + b"[]," * (reader.SMALL_HEADER // 3 - 20) + b"[]]}"
    path = put(tmp_path, safetensors({}, worst))
    tracemalloc.start()
    with pytest.raises(UnreadableModel):
        reader.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26


def test_types_that_numpy_does_not_have(tmp_path):
    data = {"q": np.arange(6, dtype=np.uint8), "w": np.arange(2, dtype=np.uint8)}
    header = safetensors_header(data)
    header["q"] |= {"dtype": "F8_E4M3", "shape": [2, 3]}
    header["w"] |= {"dtype": "F4", "shape": [2, 2]}
    contents = reader.read(put(tmp_path, safetensors(data, header)))
    assert list(contents.tensors) == ["q"]
    assert contents.tensors["q"].dtype == "f8_e4m3"
    assert contents.tensors["q"].shape == (2, 3)
    assert contents.notes == ("'w' holds numbers of type F4, which are not read",)


def test_not_an_ordinary_file(tmp_path):
    with pytest.raises(UnreadableModel, match="is not an ordinary file"):
        reader.read(tmp_path)
    with pytest.raises(UnreadableModel, match="No such file"):
        reader.read(tmp_path / "none.safetensors")


def test_what_it_recognises(tmp_path):
    assert reader.matches(safetensors(ONE)[:4096], tmp_path / "x.bin")
    assert reader.matches(b"", tmp_path / "x.safetensors")
    assert not reader.matches(b"PK\x03\x04" + bytes(100), tmp_path / "x.npz")


def test_large_files_are_mapped_not_read(tmp_path):
    """A sparse file of 640 MB."""
    shape = [4096, 4096]
    size = 4 * 4096 * 4096
    header = {
        str(i): {"dtype": "F32", "shape": shape, "data_offsets": [i * size, (i + 1) * size]}
        for i in range(10)
    }
    path = put(tmp_path, safetensors({}, header))
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size + 10 * size)
    tracemalloc.start()
    start = time.process_time()
    contents = reader.read(path)
    assert time.process_time() - start < 0.5
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert contents.tensors["9"].array[-1, -1] == 0.0
