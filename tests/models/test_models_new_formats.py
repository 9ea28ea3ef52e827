"""New formats: one module each, which fulfils a protocol, and its entry in a list."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toy_format
import toy_objects

import obstruction as ob
from obstruction import models
from obstruction.models.readers.file_readers import FILE_READERS
from obstruction.models.readers.object_readers import OBJECT_READERS

HIDDEN, OUTPUT = np.array([[3.0, 0.0], [0.0, 1.0]]), np.array([[1.0, -2.0]])
X = np.random.default_rng(0).standard_normal((2, 50))
PACKAGE = Path(ob.__file__).parent


@pytest.fixture
def toys():
    """Both toy readers are listed while a test runs."""
    FILE_READERS.append(toy_format)
    OBJECT_READERS.append(toy_objects)
    yield
    FILE_READERS.remove(toy_format)
    OBJECT_READERS.remove(toy_objects)


@pytest.fixture
def toy_file(tmp_path):
    path = tmp_path / "net.toy"
    path.write_text(toy_format.saved({"0.weight": HIDDEN, "2.weight": OUTPUT}))
    return path


def test_files_of_a_new_format_are_read_audited_and_repaired(toys, toy_file, tmp_path):
    report = ob.audit(toy_file, "relu")
    assert report.neurons["status"].tolist() == ["free", "pathological"]
    assert len(ob.dag.from_model(toy_file, "relu")[0].edges) == 6
    fixed = ob.repair(toy_file, out=tmp_path / "fixed.toy", activation="relu")
    assert ob.audit(fixed, "relu").neurons["status"].tolist() == ["free", "free"]
    net = toy_objects.Toy(*(t.array for t in models.read_contents(fixed).tensors.values()))
    np.testing.assert_allclose(net(X), toy_objects.Toy(HIDDEN, OUTPUT)(X), rtol=1e-12)
    toy_file.rename(tmp_path / "net.pt")  # the content tells the format, not the name
    assert models.read_contents(tmp_path / "net.pt").format == "toy file"


def test_objects_of_a_new_kind_are_read_audited_and_repaired(toys):
    net = toy_objects.Toy(HIDDEN.copy(), OUTPUT.copy())
    assert ob.audit(net).neurons["status"].tolist() == ["free", "pathological"]
    monitor = ob.Monitor(net)
    fixed = ob.repair(net)
    assert ob.audit(fixed).neurons["status"].tolist() == ["free", "free"]
    np.testing.assert_allclose(fixed(X), net(X), rtol=1e-12)
    np.testing.assert_array_equal(net.held["hidden"], HIDDEN)
    assert ob.repair(net, inplace=True) is net
    monitor.step(1)
    assert monitor.drift["largest"].iloc[-1] > 0.0


def test_refusals_list_a_new_format(toys, toy_file, tmp_path):
    with pytest.raises(models.UnreadableModel, match=r"or a toy network$"):
        ob.audit(object())
    with pytest.raises(models.UnreadableModel, match=r"is a folder: .* such as net.toy$"):
        ob.audit(tmp_path)
    (tmp_path / "notes.txt").write_text("weights of my model")
    with pytest.raises(models.UnreadableModel, match=r" and toy files \(.toy\)$"):
        ob.audit(tmp_path / "notes.txt")


def test_without_its_entry_a_format_is_not_read(toy_file):
    with pytest.raises(models.UnreadableModel, match=r"is of no format that can be read"):
        ob.audit(toy_file, "relu")
    with pytest.raises(models.UnreadableModel, match=r"^a model cannot be read from toy_objects"):
        ob.audit(toy_objects.Toy(HIDDEN, OUTPUT))


LIST = """
import {reader}
from obstruction.models.readers.base import {protocol}
readers: list[{protocol}] = [{reader}]
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not (PACKAGE.parent / "pyproject.toml").exists(), reason="mypy reads the package's source"
)
def test_a_reader_that_does_not_fulfil_its_protocol_is_refused_by_mypy(tmp_path):
    pytest.importorskip("mypy")
    of_files = Path(toy_format.__file__).read_text()
    of_objects = Path(toy_objects.__file__).read_text()
    wrong = {
        "no_write": ("FileReader", of_files.replace("def write(", "def wrote(")),
        "no_suffixes": ("FileReader", of_files.replace("SUFFIXES =", "ENDINGS =")),
        "other_path": (
            "FileReader",
            of_files.replace("def read(path: Path)", "def read(path: str)"),
        ),
        "other_result": ("FileReader", of_files.replace("-> Contents:", "-> Tensor:")),
        "never_in_place": ("ObjectReader", of_objects.replace(", *, inplace: bool", "")),
        "no_name": ("ObjectReader", of_objects.replace("OBJECTS =", "NAME =")),
    }
    right = {"of_files": ("FileReader", of_files), "of_objects": ("ObjectReader", of_objects)}
    for reader, (protocol, text) in (wrong | right).items():
        (tmp_path / f"{reader}.py").write_text(text)
        (tmp_path / f"list_{reader}.py").write_text(LIST.format(reader=reader, protocol=protocol))
    command = [sys.executable, "-m", "mypy", "--config-file=", "--follow-imports=silent"]
    done = subprocess.run(
        [*command, *(f"list_{reader}.py" for reader in wrong | right)],
        env={**os.environ, "MYPYPATH": os.pathsep.join(map(str, (tmp_path, PACKAGE.parent)))},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    refused = {line.split(":")[0] for line in done.stdout.splitlines() if "incompatible" in line}
    assert refused == {f"list_{reader}.py" for reader in wrong}, done.stdout + done.stderr
