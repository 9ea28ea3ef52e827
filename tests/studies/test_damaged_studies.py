"""Studies whose files are damaged in every way: one plain error or the same study, nothing else."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import random
import struct
import zipfile

import numpy as np
import pytest

import obstruction as ob
from obstruction.conservation.data_span import Span
from obstruction.studies import folder
from obstruction.studies.factories import model_folder
from obstruction.studies.factories.counting import ModelCounts
from obstruction.studies.factories.data_sides import DataFacts
from obstruction.studies.factories.model_cell import ModelCell, SideRow
from obstruction.studies.factories.model_study import ModelStudy
from obstruction.studies.wild import remedies


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def study():
    return ob.sample(
        ["kaiming_normal", "custom:law=constant"],
        d=[2, 40],
        l=[3, 40],
        networks=300,
        estimator="auto",
        samples=50,
    )


@pytest.fixture(scope="module")
def models():
    """A study of models, made by hand."""
    sides = (SideRow(0, "read", "0.weight", 8, 3.0), SideRow(2, "written", "2.weight", 8, 1.5))
    counts = [np.array(pair, np.int64) for pair in ((4, 2), (5, 2))]
    drawn = ModelCounts(10, 5, 7, *counts, np.array([1.5, np.inf]), frozenset({"ab", "cd"}))
    facts = DataFacts("0" * 64, (Span(8, 4, 3, ("0",)),), "")
    cells = tuple(
        ModelCell(
            {"width": width, "kind": "relu"},
            "Net",
            "PyTorch",
            sides,
            16,
            drawn,
            ((0, 4), (6, 12)),
            0.25,
            (0.1, float("nan")),
            (True, False),
            "",
            0,
            1,
            "ab",
            True,
            1.25,
            facts,
        )
        for width in (8, 16)
    )
    axes = {"width": (8, 16), "kind": ("relu",)}
    return ModelStudy(cells, axes, 10, 3, None, {"model": "a:b", "call": [], "inputs": ["3"]})


# --- checkpoints -------------------------------------------------------------------------------


def members(study) -> dict[str, bytes]:
    """The members of the checkpoint of a study."""
    stream = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "whole_file", lambda path: _Kept(stream))
        patch.setattr(folder, "only_writer", lambda path: _Kept(None))
        folder.save_checkpoint(study, "nowhere")
    with zipfile.ZipFile(stream) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


class _Kept:
    def __init__(self, stream):
        self.stream = stream

    def __enter__(self):
        return self.stream

    def __exit__(self, *error):
        pass


def packed(contents: dict[str, bytes], flags: int = 0) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    data = bytearray(stream.getvalue())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + offset] |= flags
            at = data.find(mark, at + 4)
    return bytes(data)


def array(header: bytes, data: bytes = b"") -> bytes:
    header = header.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


HEADERS = {
    "braces": b"{" * 20,
    "many braces": b"{" * 110,
    "brackets": b"[" * 110,
    "nothing": b"",
    "no dictionary": b"[1, 2]",
    "code": b"{'descr': __import__('os'), 'fortran_order': False, 'shape': ()}",
    "objects": b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
    "huge": b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000000000,)}",
    "negative": b"{'descr': '<i8', 'fortran_order': False, 'shape': (-1,)}",
    "type": b"{'descr': 'nonsense', 'fortran_order': False, 'shape': (1,)}",
    "texts": b"{'descr': '<U3', 'fortran_order': False, 'shape': (0,)}",
    "\0": b"\0" * 50,
}


@pytest.mark.parametrize("member", ["about", "obstructed", "pathological"])
@pytest.mark.parametrize("header", HEADERS)
def test_checkpoints_with_other_headers(header, member, study, command, tmp_path):
    contents = members(study) | {f"{member}.npy": array(HEADERS[header])}
    (tmp_path / "checkpoint.npz").write_bytes(packed(contents))
    refused_everywhere(command, tmp_path)


def refused_everywhere(command, path) -> None:
    with pytest.raises(ValueError, match=r"checkpoint\.npz: damaged \(.+\)$") as caught:
        ob.load(path)
    said = f"obstruction: {' '.join(str(caught.value).split())}\n"
    for words in (("check", path), ("plot", path), ("run", "--resume", "--out", path)):
        outcome = command(*words)
        assert (outcome.code, outcome.out, outcome.err) == (2, "", said)
    assert os.listdir(path) == ["checkpoint.npz"]


@pytest.mark.parametrize("member", ["about", "obstructed", "pathological"])
@pytest.mark.parametrize("data", [b"", b"{}", b'{"format": 2}', b"\x93NUMPY", b"PK\x03\x04"])
def test_checkpoints_with_members_that_are_no_arrays(data, member, study, command, tmp_path):
    contents = members(study)
    del contents[f"{member}.npy"]
    (tmp_path / "checkpoint.npz").write_bytes(packed({member: data, **contents}))
    refused_everywhere(command, tmp_path)


@pytest.mark.parametrize("flags", [0x01, 0x20, 0x41])
def test_checkpoints_that_claim_to_be_encrypted_or_patched(flags, study, command, tmp_path):
    (tmp_path / "checkpoint.npz").write_bytes(packed(members(study), flags))
    refused_everywhere(command, tmp_path)


def test_a_sound_checkpoint_is_read(study, tmp_path):
    (tmp_path / "checkpoint.npz").write_bytes(packed(members(study)))
    assert ob.load(tmp_path).counts == study.counts


# --- mutations ---------------------------------------------------------------------------------


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Change, remove, repeat, insert or exchange some bytes."""
    changed, at = bytearray(data), chance.randrange(len(data))
    kind, size = chance.randrange(7), 1 + chance.randrange(8)
    words = [
        b"null",
        b"-1",
        b"1e999",
        b'"',
        b"{",
        b"[[",
        b"NaN",
        b"9" * 40,
        b"true",
        b"\xff",
        b"\n",
    ]
    if kind == 0:
        changed[at] ^= 1 << chance.randrange(8)
    elif kind == 1:
        changed[at : at + size] = chance.randbytes(size)
    elif kind == 2:
        del changed[at : at + size]
    elif kind == 3:
        changed[at:at] = changed[at : at + size]
    elif kind == 4:
        del changed[at:]
    elif kind == 5:
        changed[at : at + size] = chance.choice(words)
    else:
        numbers = [k for k, byte in enumerate(changed) if 48 <= byte <= 57] or [at]
        changed[chance.choice(numbers)] = 48 + chance.randrange(10)
    return bytes(changed)


def complaint(read, path) -> str:
    """What reading says is wrong with a file; nothing but a plain error is let through."""
    try:
        read(path)
    except ValueError as error:
        return str(error)
    return ""


def same(one, other) -> bool:
    return (one.config, one.networks, one.samples) == (
        other.config,
        other.networks,
        other.samples,
    ) and one.counts == other.counts


@pytest.mark.slow
@pytest.mark.parametrize("name", ["checkpoint.npz", "run.json", "cells.csv"])
def test_3000_mutations_of_a_study(name, study, tmp_path):
    if name == "checkpoint.npz":
        study = dataclasses.replace(study, target=10**6, rare=None)
        folder.save_checkpoint(study, tmp_path)
    else:
        folder.save(study, tmp_path)
    path, chance, refused = tmp_path / name, random.Random(0), 0
    whole = path.read_bytes()
    for _ in range(3000):
        data = mutated(whole, chance)
        path.write_bytes(data)
        if said := complaint(ob.load, tmp_path):
            assert str(tmp_path) in said, data
            assert "\n" not in said, data
            refused += 1
        else:
            back = ob.load(tmp_path)
            assert same(back, study), data
            assert "networks each" in repr(back), data
    assert refused > 2000
    path.write_bytes(whole)
    assert same(ob.load(tmp_path), study)


@pytest.mark.slow
def test_3000_mutations_of_a_study_of_models(models, tmp_path):
    model_folder.save(models, tmp_path)
    path, chance, refused = tmp_path / "run.json", random.Random(0), 0
    whole = path.read_bytes()
    for _ in range(3000):
        data = mutated(whole, chance)
        path.write_bytes(data)
        if said := complaint(ob.load, tmp_path):
            assert str(path) in said, data
            refused += 1
        else:
            back = ob.load(tmp_path)
            assert str(back) == str(models), data
            assert back.table().equals(models.table()), data
    assert refused > 2000


@pytest.mark.slow
def test_3000_mutations_of_remedies(tmp_path):
    kept = {
        "a@1": remedies.Remedy(3000, 0, ("0.weight", "0.bias"), 0.5, 0.001, 3000, 2),
        "b@2": remedies.Remedy(3000, 0, (), float("nan"), float("nan"), 0, 0),
    }
    remedies.keep(kept, tmp_path)
    path, chance = tmp_path / remedies.FILE, random.Random(0)
    whole = path.read_bytes()
    for _ in range(3000):
        data = mutated(whole, chance)
        path.write_bytes(data)
        if said := complaint(remedies.kept, tmp_path):
            assert str(path) in said, data
        else:
            for one in remedies.kept(tmp_path).values():
                assert isinstance(one.networks, int), data
                assert isinstance(one.factor, float), data


def test_a_study_of_models_states_its_checksum(models, tmp_path):
    model_folder.save(models, tmp_path)
    path = tmp_path / "run.json"
    entries = json.loads(path.read_text())
    assert len(entries["digest"]) == 64
    assert str(ob.load(tmp_path)) == str(models)
    for changed, said in (
        ({**entries, "seed": 4}, "checksum does not fit"),
        ({**entries, "digests": 1}, "what is 'digests'?"),
        ({**entries, "cells": entries["cells"][:1]}, "checksum does not fit"),
    ):
        path.write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=rf"run\.json: damaged \(.*{said}"):
            ob.load(tmp_path)
    del entries["digest"]  # as older versions wrote it
    path.write_text(json.dumps(entries))
    assert str(ob.load(tmp_path)) == str(models)
