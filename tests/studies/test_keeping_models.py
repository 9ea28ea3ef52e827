"""Studies of models whose folder cannot be written, is removed, or belongs to another run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time

import pytest
from conftest import framework

import obstruction as ob
from obstruction.cli import model_runs
from obstruction.studies.factories.sampling_models import sampled
from obstruction.studies.wild import ARCHITECTURES
from obstruction.studies.wild import study as zoo
from obstruction.tools.folder_lock import FolderInUse, only_writer

torch = framework("torch")
nn = torch.nn

FILES = {"cells.csv", "laws.csv", "run.json"}
ARGUMENTS = {"inputs": torch.ones(4, 3), "networks": 200, "seed": 1}
CALLS = []


def net(width=4):
    CALLS.append(0)
    for number, event in EVENTS.items():
        if len(CALLS) == number:
            event()
    torch.manual_seed(int(torch.randint(2**31, ())))  # so that every draw calls the factory
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 1))


EVENTS = {}


@pytest.fixture(autouse=True)
def _no_events():
    CALLS.clear()
    yield
    EVENTS.clear()


def kept(out, **options):
    told = []
    extra = {"grid": None, "loss": None, "progress": False, "tell": told.append}
    study = sampled(net, **{**ARGUMENTS, **extra, "out": out, "keep_seconds": 0.0, **options})
    return study, told


def test_a_study_that_cannot_be_written_is_returned_and_kept_elsewhere(disk, tmp_path):
    disk.full = True
    with pytest.warns(RuntimeWarning) as told:
        study = ob.sample_model(net, **ARGUMENTS, out=tmp_path / "a")
    assert study.complete
    (place,) = re.findall(r"is written to (\S+) instead", str(told[-1].message))
    assert str(told[-1].message).startswith(f"out = {tmp_path / 'a'}: cannot be written (No space")
    assert set(os.listdir(place)) == FILES
    assert str(ob.load(place)) == str(study)
    assert not (tmp_path / "a").exists()


def test_a_failure_on_the_way_is_told_and_tried_again(disk, tmp_path):
    EVENTS[60] = lambda: setattr(disk, "full", True)
    EVENTS[300] = lambda: setattr(disk, "full", False)
    study, told = kept(tmp_path / "a", grid={"width": [4, 5]})
    assert len(told) == 2
    assert re.match(
        rf"no checkpoint: out = {tmp_path / 'a'}: cannot be written \(No space left on device\); "
        r"\d+ draws are kept in memory; the run goes on and tries again",
        told[0],
    )
    assert told[1].endswith(f" draws are saved in {tmp_path / 'a'} now")
    assert set(os.listdir(tmp_path / "a")) == FILES
    assert str(ob.load(tmp_path / "a")) == str(study)


def test_an_interruption_with_a_full_disk_saves_elsewhere(disk, tmp_path):
    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)  # until the main thread has stopped this one

    disk.full = True
    EVENTS[150] = interrupt
    told = []
    with pytest.raises(KeyboardInterrupt):
        kept(tmp_path / "a", tell=told.append)
    (place,) = re.findall(r"\d+ draws are saved in (\S+) instead", told[-1])
    assert 0 < ob.load(place).cells[0].counts.networks < 200
    EVENTS.clear()
    resumed, _ = kept(place)
    assert resumed.table().equals(kept(None)[0].table())


def test_a_folder_that_is_removed_is_made_again(tmp_path):
    EVENTS[150] = lambda: shutil.rmtree(tmp_path / "a")
    study, told = kept(tmp_path / "a")
    assert told == [f"out = {tmp_path / 'a'}: was removed; it is made again"]
    assert set(os.listdir(tmp_path / "a")) == FILES
    assert str(ob.load(tmp_path / "a")) == str(study)


def test_the_folder_is_locked_while_a_study_is_drawn(tmp_path):
    seen = []

    def look():
        seen.extend(os.listdir(tmp_path / "a"))

    EVENTS[100] = look
    kept(tmp_path / "a")
    assert ".obstruction-lock" in seen
    assert set(os.listdir(tmp_path / "a")) == FILES
    (tmp_path / "a" / ".run.json.0123abcd.part").write_text("torn")
    kept(tmp_path / "a", networks=201)
    assert set(os.listdir(tmp_path / "a")) == FILES


PACKAGES = {one.package for one in ARCHITECTURES.values()}


def test_the_zoo_is_locked(tmp_path, monkeypatch):
    refused = []

    def other():
        try:
            zoo.study_wild(list(ARCHITECTURES)[:1], networks=2, out=tmp_path)
        except FolderInUse as error:
            refused.append(error)

    monkeypatch.setattr(zoo, "_versions", lambda names: dict.fromkeys(PACKAGES, "1"))
    with only_writer(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1


def test_the_command_ends_with_2_and_tells_the_verdict(command, disk, tmp_path, monkeypatch):
    monkeypatch.setattr(model_runs, "factory_of", lambda path, call: model_runs.partial(net))
    disk.full = True
    words = ("--model", "somewhere:net", "--inputs", "3", "--networks", 100)
    outcome = command("run", *words, "--out", tmp_path / "a")
    assert outcome.code == 2
    assert "draw" in outcome.out
    (place,) = re.findall(r"the study is written to (\S+) instead", outcome.err)
    assert ob.load(place).networks == 100
    disk.full = False
    words = ("run", *words, "--checkpoint-seconds", 0, "--out", tmp_path / "a")
    assert command(*words).code == 0
    assert ob.load(tmp_path / "a").table().equals(ob.load(place).table())
