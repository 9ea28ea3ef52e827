"""NumPy's files against NumPy, and headers that lie."""

from __future__ import annotations

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from conftest import framework
from model_files import network, npy, npy_with, npz, zipped

from obstruction.models.contents import UnreadableModel, round_bfloat16
from obstruction.models.readers import npz as reader

ARRAYS = {
    **network(3, 5, 2),
    "params/Dense_0/kernel": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "coefs_0": np.arange(6, dtype=np.float16).reshape(2, 3),
    "big": np.arange(4, dtype=">f4"),
    "step": np.array(7),
    "empty": np.zeros((0, 4), np.float32),
}


def put(tmp_path, data: bytes, name="a.npz"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_what_it_holds(compressed, tmp_path):
    path = put(tmp_path, npz(ARRAYS, compressed=compressed))
    contents = reader.read(path)
    assert list(contents.tensors) == list(ARRAYS)
    for name, array in ARRAYS.items():
        found = contents.tensors[name]
        assert found.array.dtype == array.dtype
        assert np.array_equal(found.array, array)
        assert found.shape == array.shape
        assert found.dtype == array.dtype.name
    assert (contents.format, contents.layout, contents.graph) == ("npz", None, None)


def test_a_single_array_has_the_name_of_its_file(tmp_path):
    array = ARRAYS["params/Dense_0/kernel"]
    path = put(tmp_path, npy(array), "first.npy")
    contents = reader.read(path)
    assert list(contents.tensors) == ["first"]
    assert np.array_equal(contents.tensors["first"].array, array)
    reader.write(path, {"first": -array}, path)
    assert path.read_bytes() == npy(-array)


@pytest.mark.parametrize("compressed", [False, True])
def test_writing_changes_nothing_else(compressed, tmp_path):
    path = put(tmp_path, npz(ARRAYS, compressed=compressed))
    before = path.read_bytes()
    reader.write(path, {}, tmp_path / "same")
    assert (tmp_path / "same").read_bytes() == before
    rng = np.random.default_rng(3)
    changes = {
        name: rng.normal(size=ARRAYS[name].shape).astype(ARRAYS[name].dtype)
        for name in ("0.weight", "params/Dense_0/kernel", "big")
    }
    out = tmp_path / "b.npz"
    reader.write(path, changes, out)
    with zipfile.ZipFile(io.BytesIO(before)) as old, zipfile.ZipFile(out) as new:
        assert new.testzip() is None
        for one, other in zip(old.infolist(), new.infolist(), strict=True):
            assert (one.filename, one.compress_type) == (other.filename, other.compress_type)
            assert one.date_time == other.date_time
            if one.filename.removesuffix(".npy") not in changes:
                assert old.read(one) == new.read(other)
                assert one.compress_size == other.compress_size
    with np.load(out) as back:
        for name, array in {**ARRAYS, **changes}.items():
            assert np.array_equal(back[name], array), name
            assert back[name].dtype == array.dtype
            assert np.isfortran(back[name]) == np.isfortran(ARRAYS[name]), name
    assert compressed == (out.stat().st_size != len(before))
    again = reader.read(out).tensors
    assert np.array_equal(again["0.weight"].array, changes["0.weight"])


def test_bfloat16(tmp_path):
    bfloat16 = framework("ml_dtypes").bfloat16
    values = {"a": np.random.default_rng(0).normal(size=(3, 4)), "s": np.array(1 / 3)}
    values["f"] = np.asfortranarray(values["a"])
    for compressed in (False, True):
        arrays = {name: value.astype(bfloat16, order="K") for name, value in values.items()}
        path = put(tmp_path, npz(arrays, compressed=compressed))
        before = path.read_bytes()
        tensors = reader.read(path).tensors
        for name, value in values.items():
            assert tensors[name].dtype == "bfloat16"
            assert np.array_equal(tensors[name].array, value.astype(bfloat16).astype(np.float32))
        reader.write(path, {name: tensor.array for name, tensor in tensors.items()}, path)
        assert compressed or path.read_bytes() == before
        new = round_bfloat16(values["f"] * 3)
        reader.write(path, {"f": new}, path)
        with np.load(path) as back:
            assert np.array_equal(back["f"].view(bfloat16).astype(np.float32), new)
            assert np.array_equal(back["a"], np.load(io.BytesIO(before))["a"])


def test_nothing_is_unpickled(tmp_path):
    mark = tmp_path / "mark"

    class Attack:
        def __reduce__(self):
            return print, ("attacked",), None

    arrays = {**ARRAYS, "evil": np.array([Attack()], dtype=object), "text": np.array(["abc"])}
    contents = reader.read(put(tmp_path, npz(arrays)))
    assert list(contents.tensors) == list(ARRAYS)
    assert contents.notes == (
        "'evil' holds no numbers (type |O) and is not read",
        "'text' holds no numbers (type <U3) and is not read",
    )
    assert not mark.exists()


def head(descr="'<f4'", fortran="False", shape="(2, 3)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (npy_with(head(shape="(1000000000000, 3)"), bytes(24)), "24 bytes where its shape needs"),
        (npy_with(head(shape="(9223372036854775808, 0)")), "no possible shape"),
        (npy_with(head(shape="(3, 3)"), bytes(24)), "24 bytes where its shape needs 36"),
        (npy_with(head(shape="(1, 3)"), bytes(24)), "24 bytes where its shape needs 12"),
        (npy_with(head(shape="(-2, 3)"), bytes(24)), "not one that NumPy writes"),
        (npy_with(head(shape="(2 3)"), bytes(24)), "no possible shape"),
        (npy_with(head(shape=f"({'1,' * 40})"), bytes(4)), "no possible shape"),
        (npy_with(head(shape="'x'"), bytes(24)), "no possible shape"),
        (npy_with(head(fortran="(1,)"), bytes(24)), "not one that NumPy writes"),
        (npy_with(head() + "x", bytes(24)), "not one that NumPy writes"),
        (npy_with("{'descr': '<f4'}", bytes(24)), "not one that NumPy writes"),
        (npy_with("{'descr': '<f4', 'descr': '<f4', 'shape': (1,)}"), "not one that NumPy writes"),
        (npy_with("((((((((", bytes(24)), "not one that NumPy writes"),
        (npy_with("{" + "(" * 60_000 + "}"), "not one that NumPy writes"),
        (npy(np.zeros(3))[:-1], "23 bytes where its shape needs 24"),
        (npy(np.zeros(3))[:60], "its header is cut off"),
        (b"\x93NUMPY\x09\x00" + bytes(90), "does not start as an array does"),
        (b"\x93NUMPY\x02\x00\x00\x00\x00\x01" + bytes(2**24), "too many"),
        (b"abc", "does not start as an array does"),
        (b"", "does not start as an array does"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_headers_that_lie(raw, why, compressed, tmp_path):
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    path = put(tmp_path, zipped({"x.npy": raw}, method))
    tracemalloc.start()
    with pytest.raises(UnreadableModel, match=why) as caught:
        reader.read(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24 + 2**22
    tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert "'x'" in str(caught.value)


def test_types_that_are_none(tmp_path):
    for descr in ("'<f3'", "'<i9'", "'|V9'", "[('a', '<f4'), ('b', '<i8')]", "'<M8[s]'", "'f99'"):
        contents = reader.read(put(tmp_path, zipped({"x.npy": npy_with(head(descr))})))
        assert contents.tensors == {}
        assert "holds no numbers" in contents.notes[0]


def test_other_members_are_told(tmp_path):
    contents = reader.read(put(tmp_path, zipped({"x.npy": npy(np.ones(2)), "readme.txt": b"hi"})))
    assert list(contents.tensors) == ["x"]
    assert contents.notes == ("'readme.txt' is no array and not read",)


def test_what_it_recognises(tmp_path):
    assert reader.matches(npz(ARRAYS)[:4096], tmp_path / "x.bin")
    assert reader.matches(npy(np.ones(2)), tmp_path / "x.bin")
    assert reader.matches(b"", tmp_path / "x.npz")
    assert not reader.matches(zipped({"m/data.pkl": b""})[:4096], tmp_path / "x.pt")
