"""Which reader a model goes to, and what is said of what no reader takes."""

from __future__ import annotations

import importlib.util
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import framework

from obstruction import models
from obstruction.models import ReadOptions, UnreadableModel


@pytest.fixture
def net():
    random = np.random.default_rng(1)
    return {"W1": random.normal(size=(7, 5)), "W2": random.normal(size=(1, 7))}


@pytest.fixture
def saved(net, tmp_path):
    np.savez(tmp_path / "net.npz", **net)
    return tmp_path / "net.npz"


def test_a_file_and_its_arrays_are_the_same_model(net, saved):
    for source in (saved, str(saved), os.fspath(saved)):
        model = models.read(source, ReadOptions("relu"))
        for layer, array in zip(model.layers, net.values(), strict=True):
            np.testing.assert_array_equal(layer.weight, array)
    assert set(models.read_contents(saved).tensors) == set(net)


def test_the_content_tells_the_format_not_the_name(saved):
    renamed = saved.rename(saved.with_name("net.pt"))
    assert models.read_contents(renamed).format == "npz"
    layers = models.read(renamed, ReadOptions("relu")).layers
    assert [layer.name for layer in layers] == ["W1", "W2"]


def test_options_reach_the_resolver(saved):
    with pytest.raises(ValueError, match=r"^activation = None"):
        models.read(saved)
    with pytest.raises(ValueError, match=r"^layers: there is no layer 'W3'"):
        models.read(saved, ReadOptions("relu", layers=["W1", "W3"]))


def test_a_file_is_written_to_out(net, saved, tmp_path):
    out = tmp_path / "new.npz"
    before = saved.read_bytes()
    assert models.write(saved, {"W1": 2 * net["W1"]}, out=str(out)) == out
    found = models.read_contents(out).tensors
    np.testing.assert_array_equal(found["W1"].array, 2 * net["W1"])
    np.testing.assert_array_equal(found["W2"].array, net["W2"])
    assert saved.read_bytes() == before
    assert models.write(saved, {"W1": 2 * net["W1"]}, out=saved) == saved
    np.testing.assert_array_equal(models.read_contents(saved).tensors["W1"].array, 2 * net["W1"])


def test_where_to_write_must_be_clear(net, saved, tmp_path):
    with pytest.raises(ValueError, match=r"^out = None: must be the path to write to"):
        models.write(saved, {})
    with pytest.raises(ValueError, match=r"^inplace = True: must be False for a file"):
        models.write(saved, {}, out=saved, inplace=True)
    with pytest.raises(
        ValueError, match=r"^out = 'x.npz': must be None unless the model is a file"
    ):
        models.write(net, {}, out="x.npz")


# --- refusals ------------------------------------------------------------------------------


class Attack:
    """A pickle of this would make a folder when it is opened."""

    def __reduce__(self):
        return os.mkdir, ("attacked",)


def skops() -> bytes:
    stream, npy = io.BytesIO(), io.BytesIO()
    np.save(npy, np.ones((3, 2)))
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("140.npy", npy.getvalue())
        archive.writestr("schema.json", "{}")
    return stream.getvalue()


REFUSED = {
    "empty.pt": (b"", "is empty"),
    "model.pkl": (pickle.dumps(Attack()), "a pickle is not opened"),
    "model.joblib": (b"\x78\x9c" + bytes(30), "a pickle is not opened"),
    "model.skops": (skops(), "a .skops file cannot be read: load it yourself"),
    "model.msgpack": (b"\x81\xa6params\x80", "a .msgpack file cannot be read: load it yourself"),
    "model.ckpt.index": (b"\x00\x00\x01binary", "a TensorFlow checkpoint cannot be read"),
    "notes.txt": (b"weights of my model", "is of no format that can be read: PyTorch files"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_files_are_refused_with_what_to_do(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, message = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableModel) as told:
        models.read(name)
    assert message in str(told.value)
    assert name in str(told.value)
    assert str(told.value).count("\n") == 0
    assert not str(told.value).endswith(".")
    assert not (tmp_path / "attacked").exists()


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(UnreadableModel, match=r"nothing.pt: there is no such file$"):
        models.read(tmp_path / "nothing.pt")
    with pytest.raises(UnreadableModel, match=r"is a folder: give a file$"):
        models.read(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(UnreadableModel, match=r"give a file in it, such as model.safetensors$"):
        models.read(str(tmp_path))
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(
        UnreadableModel, match=r"a TensorFlow SavedModel cannot be read: load it with"
    ):
        models.read(tmp_path)
    for bad in ("", "a\0b"):
        with pytest.raises(UnreadableModel, match=r"is no path$"):
            models.read(bad)
    with pytest.raises(UnreadableModel, match=r"cannot be read \(File name too long\)$"):
        models.read("x" * 5000)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableModel, match=r"is not an ordinary file$"):
        models.read(tmp_path / "pipe")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(saved):
    saved.chmod(0)
    with pytest.raises(UnreadableModel, match=r"cannot be read \(Permission denied\)$"):
        models.read(saved)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (3, "int"),
        (None, "NoneType"),
        ({}, "dict"),
        ([], "list"),
        ([[1.0, 2.0]], "list"),
        (b"x", "bytes"),
    ],
)
def test_other_objects_are_refused(source, kind):
    with pytest.raises(UnreadableModel, match=rf"^a model cannot be read from {kind}: give a path"):
        models.read(source)


# --- what is loaded ------------------------------------------------------------------------


def test_a_keras_model_on_pytorch_is_one_of_keras():
    framework("torch")
    if importlib.util.find_spec("keras") is None:  # importing it would choose a backend for all
        framework("keras")
    code = """
import keras
from obstruction import models
dense = keras.layers.Dense
net = keras.Sequential([keras.Input((5,)), dense(7, activation="relu"), dense(1)])
print(models.read_contents(net).format, models.read(net).links[0].activation)
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(models.__file__).parents[2],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
    )
    assert run.stdout == "Keras model relu\n", run.stderr


def loaded_by(code: str, *, cwd: Path) -> set[str]:
    program = f"import sys\n{code}\nprint(' '.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return {name.split(".")[0] for name in run.stdout.split()}


def test_reading_arrays_and_files_loads_no_framework(saved):
    heavy = {
        "torch",
        "keras",
        "tensorflow",
        "jax",
        "flax",
        "sklearn",
        "onnx",
        "h5py",
        "pandas",
        "scipy",
    }
    package = Path(models.__file__).parents[2]
    assert not heavy & loaded_by("import obstruction.models", cwd=package)
    code = "from obstruction.models import ReadOptions, read\n"
    code += f"read({str(saved)!r}, ReadOptions('relu'))"
    assert not heavy & loaded_by(code, cwd=package)
    code = "import numpy as np; from obstruction import models\n"
    code += "models.read([np.ones((3, 2)), np.ones((1, 3))], models.ReadOptions('relu'))"
    assert not heavy & loaded_by(code, cwd=package)
