"""Large arrays of bfloat16 numbers: they act as decoded ones and are never decoded as a whole."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from conftest import framework

import obstruction as ob
from obstruction import models
from obstruction.models import bfloat16
from obstruction.models.bfloat16 import Bfloat16Array, bfloat16_array, memory_of
from obstruction.models.contents import decode_bfloat16, encode_bfloat16, round_bfloat16
from obstruction.models.norms import row_and_column_norms

RNG = np.random.default_rng(0)


def drawn(*shape):
    return round_bfloat16(RNG.standard_normal(shape))


def safetensors_file(path, tensors):
    """Write bfloat16 tensors as their library does."""
    about, at, parts = {}, 0, []
    for name, values in tensors.items():
        raw = encode_bfloat16(values).tobytes()
        about[name] = {
            "dtype": "BF16", "shape": list(values.shape), "data_offsets": [at, at + len(raw)]
        }  # fmt: skip
        parts.append(raw)
        at += len(raw)
    text = json.dumps(about).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))
    return path


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("shape", [(), (7,), (5, 3), (2, 3, 4), (0, 4), (600, 700)])
def test_it_acts_as_the_decoded_array(shape, turned):
    plain = drawn(*shape)
    array = Bfloat16Array(encode_bfloat16(plain).reshape(shape))
    if turned:
        plain, array = plain.T, array.T
    assert (array.shape, array.ndim, array.size, array.dtype, array.nbytes) == (
        plain.shape, plain.ndim, plain.size, plain.dtype, plain.nbytes,
    )  # fmt: skip
    assert np.array_equal(np.asarray(array), plain)
    assert array.astype(np.float64).dtype == np.float64
    assert array.tobytes() == plain.tobytes()
    assert np.isclose(array.sum(), plain.sum(), rtol=1e-4, atol=1e-3)
    if plain.size:
        assert (array.min(), array.max()) == (plain.min(), plain.max())
    assert np.array_equal(2.0 * array - 1.0, 2.0 * plain - 1.0)
    assert np.array_equal(array != 0.0, plain != 0.0)
    assert np.array_equal(array.reshape(-1)[::3], plain.reshape(-1)[::3])
    if plain.ndim:
        assert len(array) == len(plain)
        assert np.array_equal(array[1:], plain[1:])
        assert all(np.array_equal(a, b) for a, b in zip(array, plain, strict=True))
    if plain.ndim == 2:
        for mine, other in zip(
            row_and_column_norms(array), row_and_column_norms(plain), strict=True
        ):
            np.testing.assert_allclose(mine, other, rtol=1e-14)


@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [(0, 0), (500, 3), (-1, -1)])
def test_numbers_that_are_not_finite_are_found(wrong, place, tmp_path):
    values = {"0.weight": drawn(600, 500), "2.weight": drawn(1, 600)}
    values["0.weight"][place] = wrong
    path = safetensors_file(tmp_path / "a.safetensors", values)
    with pytest.raises(models.UnreadableModel, match="infinite or not a number"):
        ob.audit(path, "relu", layout="out_in")


def test_only_large_arrays_are_decoded_in_parts():
    small, large = (np.zeros(size, np.uint16) for size in (bfloat16.LARGE - 1, bfloat16.LARGE))
    assert isinstance(bfloat16_array(small), np.ndarray)
    found = bfloat16_array(large)
    assert not isinstance(found, np.ndarray)
    assert memory_of(found) is large


def test_a_large_file_is_audited_and_repaired_as_a_small_one(tmp_path, monkeypatch):
    values = {"0.weight": drawn(600, 500), "0.bias": drawn(600), "2.weight": drawn(1, 600) * 40}
    path = safetensors_file(tmp_path / "a.safetensors", values)
    report = ob.audit(path, "relu", layout="out_in")
    repaired = ob.repair(path, activation="relu", layout="out_in", out=tmp_path / "b.safetensors")
    monkeypatch.setattr(bfloat16, "LARGE", 2**40)
    assert report.to_json() == ob.audit(path, "relu", layout="out_in").to_json()
    again = ob.repair(path, activation="relu", layout="out_in", out=tmp_path / "c.safetensors")
    assert repaired.read_bytes() == again.read_bytes()
    assert repaired.read_bytes() != path.read_bytes()


def test_shared_tensors_of_pytorch_are_found(tmp_path):
    torch = framework("torch")
    weight = torch.randn(600, 600).to(torch.bfloat16)
    torch.save(
        {"a.weight": weight, "b.weight": weight.T, "c.weight": weight + 1}, tmp_path / "a.pt"
    )
    contents = models.read_contents(tmp_path / "a.pt")
    assert contents.shared == (frozenset({"a.weight", "b.weight"}),)
    assert np.array_equal(np.asarray(contents.tensors["b.weight"].array), weight.T.float().numpy())


MEASURED = """
import resource, sys
import numpy as np
import obstruction as ob
ob.audit((np.ones((3, 2)), np.ones((1, 3))), "relu", layout="out_in")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = ob.audit(sys.argv[1], "relu", layout="out_in", layers=["0", "2", "4"])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(1024 * (after - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems count memory otherwise")
@pytest.mark.parametrize("form", ["safetensors", "pt"])
def test_memory_is_that_of_the_file_and_little_more(form, tmp_path):
    width = 4096
    values = {f"{name}.weight": drawn(width, width) for name in "024"}
    if form == "pt":
        torch = framework("torch")
        path = tmp_path / "a.pt"
        torch.save({n: torch.from_numpy(v).to(torch.bfloat16) for n, v in values.items()}, path)
    else:
        path = safetensors_file(tmp_path / "a.safetensors", values)
    command = [sys.executable, "-c", MEASURED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    assert int(done.stdout) < 1.5 * path.stat().st_size


def test_decoding_keeps_the_shape_of_a_number():
    assert decode_bfloat16(np.array(0x3F80, np.uint16))[()] == 1.0
