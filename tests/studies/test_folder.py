"""The folder of a study: what is in it, what a kill leaves of it, and how damage is reported."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
import re
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

import obstruction as ob
from obstruction.sampling.config import StudyConfig
from obstruction.studies import folder
from obstruction.studies.table import COLUMNS

FILES = {"cells.csv", "run.json", "heatmap.png", "heatmap.pdf"}


@pytest.fixture(scope="module")
def old():
    return ob.sample("xavier_normal", d=[1, 2], l=[1, 3], networks=500, seed=1)


@pytest.fixture(scope="module")
def new():
    labels = ["kaiming_normal:mode=fan_out,output_gain=0.5", "orthogonal"]
    return ob.sample(labels, d=[2, 5], l=[1, 3, 4], networks=700, seed=2)


@pytest.fixture(scope="module")
def rare():
    """A study with counted cells, rare ones, certain ones, and one of weights that are all 0."""
    labels = ["kaiming_normal", "torch_linear", "orthogonal", "zero_output", "custom:law=constant"]
    axes = {"d": [2, 30, 400], "l": [2, 30, 400]}
    study = ob.sample(labels, **axes, networks=300, seed=2, estimator="auto", samples=200)
    assert 20 < np.count_nonzero(study.rare.where) < study.rare.where.size - 9
    return study


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    """Do not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def paint(word: bytes):
    return dict.fromkeys(folder.PICTURES, word)


def put(study, path, word=b"old"):
    return folder.save(study, path, paint(word))


def interrupted(study, target=10**6):
    return dataclasses.replace(study, target=target)


def same(one, other) -> bool:
    return (one.config, one.target, one.done) == (other.config, other.target, other.done) and (
        one.counts == other.counts
    )


# --- a study comes back ------------------------------------------------------------------------


def test_a_finished_study_comes_back(new, tmp_path):
    written = put(new, tmp_path / "a" / "b")
    assert {path.name for path in written} == FILES == set(os.listdir(tmp_path / "a" / "b"))
    assert all(path.stat().st_size > 0 for path in written)
    for path in (tmp_path / "a" / "b", str(tmp_path / "a" / "b")):
        back = ob.load(path)
        assert same(back, new)
        assert back.complete
        assert back.table().equals(new.table())


def test_weighted_samples_come_back(rare, tmp_path):
    written = put(rare, tmp_path)
    back = ob.load(tmp_path)
    assert same(back, rare)
    assert (back.estimator, back.samples) == ("auto", 200)
    assert np.array_equal(back.rare.where, rare.rare.where)
    assert back.rare.estimate.samples == 200
    for field in dataclasses.fields(rare.rare.estimate):
        mine, theirs = (getattr(study.rare.estimate, field.name) for study in (back, rare))
        assert np.array_equal(mine, theirs), field.name
    assert back.table().equals(rare.table())
    assert back.agreement().to_dict() == rare.agreement().to_dict()
    assert str(back.agreement()) == str(rare.agreement())
    assert rare.agreement().tilted == np.count_nonzero(rare.rare.where)
    put(back, tmp_path / "again")
    assert (tmp_path / "again" / "cells.csv").read_bytes() == written[0].read_bytes()


def test_zeros_of_either_sign_come_back(rare, tmp_path):
    """Both are written as the first of them, and the checksum takes them for the same."""
    estimate = rare.rare.estimate
    skewness = np.where(np.arange(estimate.skewness.size) % 2, 0.0, -0.0)
    changed = dataclasses.replace(estimate, skewness=skewness)
    study = dataclasses.replace(rare, rare=dataclasses.replace(rare.rare, estimate=changed))
    put(study, tmp_path)
    assert (ob.load(tmp_path).rare.estimate.skewness == 0.0).all()


def test_a_checkpoint_holds_no_estimates_but_what_is_wanted(rare, tmp_path):
    folder.save_checkpoint(interrupted(rare), tmp_path)
    back = ob.load(tmp_path)
    assert same(back, interrupted(rare))
    assert (back.estimator, back.samples, back.rare) == ("auto", 200, None)
    assert back.with_rare().table().equals(rare.table())


def test_a_finished_study_is_preferred_to_its_own_counts(rare, tmp_path):
    """As when a run to another estimator was interrupted while it drew weighted samples."""
    put(rare, tmp_path)
    folder.save_checkpoint(dataclasses.replace(rare, estimator="tilted", samples=999), tmp_path)
    back = ob.load(tmp_path)
    assert (back.estimator, back.samples) == ("auto", 200)
    assert back.table().equals(rare.table())


def test_an_interrupted_study_comes_back(new, tmp_path):
    pieces = ((0, 300), (1024, 1424))
    partial = dataclasses.replace(new, target=10**6, done=pieces, seconds=2.5, threads=2)
    folder.save_checkpoint(partial, tmp_path)
    assert os.listdir(tmp_path) == ["checkpoint.npz"]
    back = ob.load(tmp_path)
    assert same(back, partial)
    assert (back.seconds, back.threads, back.complete) == (2.5, 2, False)


def test_the_more_advanced_of_study_and_checkpoint_counts(old, tmp_path):
    more = ob.sample("xavier_normal", d=[1, 2], l=[1, 3], networks=600, seed=1)
    put(old, tmp_path)
    folder.save_checkpoint(interrupted(more), tmp_path)
    assert same(ob.load(tmp_path), interrupted(more))
    put(more, tmp_path)
    assert set(os.listdir(tmp_path)) == FILES
    folder.save_checkpoint(interrupted(old), tmp_path)
    assert same(ob.load(tmp_path), more)


def test_a_checkpoint_of_another_study_is_there_to_replace_it(old, new, tmp_path):
    few = ob.sample(new.config.schemes, d=new.config.d, l=new.config.l, networks=9, seed=2)
    put(old, tmp_path)
    folder.save_checkpoint(interrupted(few), tmp_path)
    assert same(ob.load(tmp_path), interrupted(few))
    usable(tmp_path, old)


def test_what_run_json_says(new, tmp_path):
    folder.save(new, tmp_path, {}, new.agreement())
    about = json.loads((tmp_path / "run.json").read_bytes())
    assert about["version"] == ob.__version__
    assert about["schemes"][0] == {
        "label": "kaiming_normal:mode=fan_out,output_gain=0.5",
        "name": "kaiming_normal",
        "options": {"mode": "fan_out", "output_gain": 0.5},
    }
    assert (about["d"], about["l"], about["seed"]) == ([2, 5], [1, 3, 4], 2)
    assert (about["plan"], about["block"]) == ("nested", 1024)
    assert (about["networks"], about["done"]) == (700, [[0, 700]])
    assert about["seconds"] >= 0
    assert about["threads"] >= 1
    assert about["agreement"]["verdict"] == "agrees"
    assert about["agreement"]["untested_cells"] == 6
    assert {"python", "numpy", "scipy", "numba"} <= set(about["machine"])
    again = ob.sample(
        [ob.scheme(entry["name"], **entry["options"]) for entry in about["schemes"]],
        d=about["d"],
        l=about["l"],
        networks=about["networks"],
        seed=about["seed"],
        plan=about["plan"],
    )
    assert again.counts == new.counts


# --- a kill at any moment ----------------------------------------------------------------------


class Killed(BaseException):
    """Stands for a kill: no handler in the package may catch it."""


class Killer:
    """Kills before the n-th step that reaches the disk, leaving unflushed files half written."""

    def __init__(self, monkeypatch, step: int) -> None:
        self.left = step
        for owner, name in (
            (os, "fsync"),
            (Path, "replace"),
            (Path, "unlink"),
            (Path, "mkdir"),
            (shutil, "rmtree"),
        ):
            monkeypatch.setattr(owner, name, self.watched(name, getattr(owner, name)))

    def watched(self, name, original):
        def step(*words, **options):
            self.left -= 1
            if self.left >= 0:
                return original(*words, **options)
            if name == "fsync" and stat.S_ISREG(os.fstat(words[0]).st_mode):
                os.ftruncate(words[0], os.fstat(words[0]).st_size // 2)
            if name == "rmtree":
                for file in list(Path(words[0]).glob("*"))[:1]:
                    os.remove(file)
            raise Killed

        return step


def killed_at_every_step(action, monkeypatch):
    """Yield after killing ``action`` at its first, second, ... step, until it gets through."""
    for step in itertools.count():
        with monkeypatch.context() as patch:
            killer = Killer(patch, step)
            try:
                action(step)
            except Killed:
                pass
            else:
                assert killer.left >= 0
                return
        yield step


def no_study(path) -> bool:
    """Whether loading says that the folder never held a study."""
    with pytest.raises(ValueError, match=r"no such folder|holds no study"):
        ob.load(path)
    return True


def usable(path, study) -> None:
    """Check that the next run works and leaves nothing behind."""
    put(study, path, b"next")
    assert same(ob.load(path), study)
    assert set(os.listdir(path)) == FILES
    assert (path / "heatmap.png").read_bytes() == b"next"


@pytest.mark.parametrize("before", ["nothing", "study", "study and checkpoint", "checkpoint"])
def test_killed_while_saving(before, old, new, tmp_path, monkeypatch):
    start = tmp_path / "start"
    if "study" in before:
        put(old, start)
    if "checkpoint" in before:
        start.mkdir(exist_ok=True)
        folder.save_checkpoint(interrupted(old if "study" in before else new), start)

    def action(step):
        if start.exists():
            shutil.copytree(start, tmp_path / str(step))
        put(new, tmp_path / str(step), b"new")

    seen = set()
    for step in killed_at_every_step(action, monkeypatch):
        path = tmp_path / str(step)
        if before == "nothing" and not folder.holds_study(path):
            assert no_study(path)
            usable(path, old)
            continue
        back = ob.load(path)
        kind = next(
            (
                kind
                for kind, study in (("old", old), ("partial", interrupted(new)), ("new", new))
                if same(back, study)
            ),
            "neither",
        )
        assert kind in ({"old", "new"} if "study" in before else {"partial", "new"})
        seen.add(kind)
        folder.prepare(path)
        assert same(ob.load(path), back)
        if kind == "new":
            assert set(os.listdir(path)) == FILES
            assert (path / "heatmap.pdf").read_bytes() == b"new"
        usable(path, old)
    assert step >= 15
    assert seen == {"nothing": {"new"}, "checkpoint": {"partial", "new"}}.get(
        before, {"old", "new"}
    )


def test_killed_while_completing_what_a_kill_cut_short(old, new, tmp_path, monkeypatch):
    start = tmp_path / "start"
    put(old, start)
    replace = Path.replace

    def until_the_commit(self, target):
        if (start / ".obstruction-commit").exists():
            raise Killed
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", until_the_commit)
        with pytest.raises(Killed):
            put(new, start, b"new")
    assert (start / "cells.csv").read_bytes() != (start / ".obstruction-new/cells.csv").read_bytes()
    assert same(ob.load(start), new)

    def action(step):
        shutil.copytree(start, tmp_path / str(step))
        folder.prepare(tmp_path / str(step))

    for step in killed_at_every_step(action, monkeypatch):
        assert same(ob.load(tmp_path / str(step)), new)
        folder.prepare(tmp_path / str(step))
        assert set(os.listdir(tmp_path / str(step))) == FILES
        assert (tmp_path / str(step) / "heatmap.png").read_bytes() == b"new"
    assert step >= 7


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("before", ["nothing", "study", "checkpoint"])
def test_killed_while_saving_a_checkpoint(before, replace, old, new, tmp_path, monkeypatch):
    start = tmp_path / "start"
    start.mkdir()
    if before == "study":
        put(old, start)
    elif before == "checkpoint":
        folder.save_checkpoint(interrupted(old), start)
    partial = interrupted(new)

    def action(step):
        shutil.copytree(start, tmp_path / str(step))
        folder.save_checkpoint(partial, tmp_path / str(step), replace=replace)

    for step in killed_at_every_step(action, monkeypatch):
        path = tmp_path / str(step)
        if before == "nothing" and not (path / "checkpoint.npz").exists():
            assert no_study(path)
        else:
            back = ob.load(path)
            assert same(back, partial) or same(
                back, interrupted(old) if before == "checkpoint" else old
            )
        usable(path, old)
    assert step >= (6 if replace else 2)
    done = tmp_path / str(step + 1)
    assert same(ob.load(done), partial)
    if replace:
        assert os.listdir(done) == ["checkpoint.npz"]


@pytest.mark.parametrize(
    ("entry", "other"),
    [
        ('seed": ', 'seed": 1'),
        ('estimator": "direct"', 'estimator": "auto"'),
        ('samples": ', 'samples": 1'),
    ],
)
def test_a_description_must_fit_its_counts(entry, other, old, tmp_path):
    """Another seed would make a resumed run mix two streams."""
    put(old, tmp_path)
    text = (tmp_path / "run.json").read_text()
    assert text.count(f'"{entry}') == 1
    (tmp_path / "run.json").write_text(text.replace(f'"{entry}', f'"{other}'))
    with pytest.raises(
        ValueError, match=r"run.json, line \d+: damaged \(its checksum does not fit"
    ):
        ob.load(tmp_path)


def test_files_in_the_way_are_named(tmp_path):
    assert folder.in_the_way(tmp_path / "new") == []
    (tmp_path / "heatmap.png").write_bytes(b"precious")
    (tmp_path / "notes.txt").write_bytes(b"harmless")
    assert folder.in_the_way(tmp_path) == ["heatmap.png"]


def test_a_full_disk_leaves_the_old_study(old, new, tmp_path, monkeypatch):
    put(old, tmp_path)

    def full(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").readlink().name.startswith(".heatmap.png."):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            ValueError, match=r"^out = .*: cannot be written \(No space left on device\)"
        ):
            folder.save(new, tmp_path, {"heatmap.png": b"picture"})
    assert same(ob.load(tmp_path), old)
    assert set(os.listdir(tmp_path)) == FILES
    usable(tmp_path, new)


def test_leftovers_do_not_hurt(old, new, tmp_path):
    stage = tmp_path / ".obstruction-new"
    stage.mkdir()
    (stage / "cells.csv").write_text("torn")
    (stage / "heatmap.svg").write_text("of another version")
    (tmp_path / ".checkpoint.npz.0123abcd.part").write_bytes(b"torn")
    assert not folder.holds_study(tmp_path)
    assert no_study(tmp_path)
    put(old, tmp_path)
    assert same(ob.load(tmp_path), old)
    stage.mkdir()
    (stage / "run.json").write_text("torn")
    assert same(ob.load(tmp_path), old)
    usable(tmp_path, new)


# --- places that do not do ---------------------------------------------------------------------


def test_places_that_cannot_be_written(old, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("mine")
    for path, message in (
        (file, "exists and is not a folder"),
        (file / "below", r"cannot be written \(Not a directory\)"),
        ("/proc/nowhere", "cannot be written"),
        ("x" * 300, "File name too long"),
        ("", "empty"),
    ):
        with pytest.raises(ValueError, match=message):
            folder.prepare(path)
        with pytest.raises(ValueError, match=message):
            folder.save(old, path)
    assert file.read_text() == "mine"

    def refuse(*words, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(folder.tempfile, "TemporaryFile", refuse)
    with pytest.raises(ValueError, match=r"cannot be written \(Permission denied\)"):
        folder.prepare(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_read_only_parent(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="Permission denied"):
        folder.prepare(tmp_path / "new")


def test_places_that_hold_no_study(tmp_path):
    for path, message in (
        (tmp_path / "none", "no such folder"),
        (tmp_path, r"holds no study \(neither run.json nor checkpoint.npz\)"),
        (Path(__file__), "is not a folder"),
        ("x" * 300, "File name too long"),
        ("", "empty"),
    ):
        with pytest.raises(ValueError, match=message):
            ob.load(path)


# --- damage ------------------------------------------------------------------------------------


def without(key: str):
    return lambda about: {name: value for name, value in about.items() if name != key}


def changed(key: str, value: object):
    return lambda about: {**about, key: value}


KEYS = ("format", "block", "schemes", "d", "l", "seed", "plan")
KEYS += ("networks", "networks_wanted", "done", "seconds", "threads", "estimator", "samples")

ENTRIES = [
    *((without(key), key, f"'{key}' is missing") for key in KEYS),
    *((changed(key, None), key, "") for key in KEYS),
    *((changed(key, {"a": []}), key, "") for key in KEYS),
    *((changed(key, "word"), key, "") for key in KEYS),
    (changed("format", 1), "format", "format = 1: this version of obstruction reads format 3"),
    (changed("block", 512), "block", "block = 512"),
    (changed("schemes", []), "schemes", "at least one"),
    (changed("schemes", ["xavier_normal"]), "schemes", ""),
    (changed("schemes", [{"name": "xavier_normal"}]), "schemes", "'options' is missing"),
    (
        changed("schemes", [{"name": "xavier", "options": {}, "label": "xavier"}]),
        "schemes",
        "did you mean 'xavier_normal'",
    ),
    (
        changed("schemes", [{"name": "xavier_normal", "options": {}, "label": "other"}]),
        "schemes",
        "'other' does not fit",
    ),
    (changed("d", [0, 2]), "d", "d = 0"),
    (changed("d", []), "d", "at least one size"),
    (changed("l", [1.5]), "l", "l = 1.5"),
    (changed("seed", -1), "seed", "seed = -1"),
    (changed("plan", "nestd"), "plan", "must be one of nested, independent"),
    (changed("networks", 0), "networks", "networks = 0"),
    (changed("networks", 600), "done", "must be ascending ranges of 600 networks"),
    (changed("networks", "500"), "networks", "networks = '500'"),
    (changed("done", [[0, 400]]), "done", "must be ascending ranges of 500 networks"),
    (changed("done", [[0, 300], [100, 300]]), "done", "must be ascending ranges"),
    (changed("done", [[300, 0], [0, 800]]), "done", "done = 0"),
    (changed("done", [[-100, 400]]), "done", "done = -100"),
    (changed("done", [[0.5, 500.5]]), "done", "done = 0.5"),
    (changed("done", [500]), "done", ""),
    (changed("seconds", -1), "seconds", "at least 0"),
    (changed("seconds", float("nan")), "seconds", "finite"),
    (changed("seconds", float("inf")), "seconds", "finite"),
    (changed("threads", float("inf")), "threads", "threads = inf"),
    (changed("threads", 0), "threads", "threads = 0"),
    (changed("estimator", "tlted"), "estimator", "must be one of direct, tilted, auto"),
    (changed("samples", 1), "samples", "samples = 1: must be a whole number of at least 2"),
]


@pytest.mark.parametrize("number", range(len(ENTRIES)))
def test_wrong_entries_are_named(number, old, tmp_path):
    change, key, message = ENTRIES[number]
    put(old, tmp_path)
    path = tmp_path / "run.json"
    path.write_text(json.dumps(change(json.loads(path.read_text())), indent=2))
    lines = path.read_text().splitlines()
    with pytest.raises(ValueError, match=re.escape(message or key)) as caught:
        ob.load(tmp_path)
    assert "\n" not in str(caught.value)
    line = next((n for n, text in enumerate(lines, 1) if text.startswith(f'  "{key}":')), None)
    assert str(caught.value).startswith(f"{path}, line {line}: " if line else f"{path}: damaged ")
    assert (line is None) == ("is missing" in message and key in message)

    about = json.loads(path.read_text())
    path.unlink()
    (tmp_path / "cells.csv").unlink()
    encoded = np.frombuffer(json.dumps(about).encode(), np.uint8)
    counts = {"obstructed": old.counts.obstructed, "pathological": old.counts.pathological}
    np.savez(tmp_path / "checkpoint.npz", about=encoded, **counts)
    with pytest.raises(ValueError, match=re.escape(message or key)) as caught:
        ob.load(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'checkpoint.npz'}: damaged (")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "line 1: damaged"),
        (b"\xff\xfe\x00", "line 1: damaged (is not UTF-8 text)"),
        (b'{\n"d": 1,\n\xff\n}', "line 3: damaged (is not UTF-8 text)"),
        (b"{\n", "line 2: damaged"),
        (b'{"format": 1,\n "version" 2}', "line 2: damaged"),
        (b"[1, 2]", ": damaged (is not a JSON object)"),
        (b"7", ": damaged (is not a JSON object)"),
        (b'"run"', ": damaged (is not a JSON object)"),
        (b"null", ": damaged (is not a JSON object)"),
        (b"{}", ": damaged ('format' is missing)"),
        (b"[" * 100_000, ": damaged (is not a JSON text)"),
        (b'{"seed": ' + b"9" * 5000 + b"}", ": damaged (is not a JSON text)"),
    ],
)
def test_run_json_that_is_none(text, message, old, tmp_path):
    put(old, tmp_path)
    (tmp_path / "run.json").write_bytes(text)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        ob.load(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "run.json"))


def test_truncated_run_json(old, tmp_path):
    put(old, tmp_path)
    path = tmp_path / "run.json"
    whole = path.read_bytes()
    for length in range(0, len(whole) - 2, 37):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"run\.json, line \d+: damaged"):
            ob.load(tmp_path)


def test_missing_files(old, tmp_path):
    put(old, tmp_path)
    (tmp_path / "cells.csv").rename(tmp_path / "aside")
    with pytest.raises(ValueError, match=r"cells\.csv: cannot be read \(No such file"):
        ob.load(tmp_path)
    (tmp_path / "aside").rename(tmp_path / "cells.csv")
    (tmp_path / "run.json").unlink()
    with pytest.raises(ValueError, match=r"run\.json: is missing"):
        ob.load(tmp_path)
    (tmp_path / "run.json").mkdir()
    with pytest.raises(ValueError, match=r"run\.json: cannot be read \(Is a directory"):
        ob.load(tmp_path)


def test_damaged_checkpoint(old, tmp_path):
    path, partial = tmp_path / "checkpoint.npz", interrupted(old)
    folder.save_checkpoint(partial, tmp_path)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    wrong = [b"", b"PK", b"\0" * 500, b"text\n", *(whole[:n] for n in range(0, len(whole), 97))]
    for _ in range(300):
        at, value = random.integers(len(whole)), random.integers(256)
        wrong.append(whole[:at] + bytes([value]) + whole[at + 1 :])
    refused = 0
    for data in wrong:
        path.write_bytes(data)
        try:  # it may be a byte that carries no meaning
            back, complaint = ob.load(tmp_path), ""
        except ValueError as error:
            back, complaint = None, str(error)
        assert complaint.startswith(f"{path}: damaged (") if complaint else same(back, partial)
        refused += bool(complaint)
    assert refused > 0.75 * len(wrong)


def test_checkpoint_with_other_contents(old, tmp_path):
    path = tmp_path / "checkpoint.npz"
    folder.save_checkpoint(interrupted(old), tmp_path)
    with np.load(path) as data:
        good = dict(data)
    for changes in (
        {"obstructed": good["obstructed"][:, :1]},
        {"obstructed": good["obstructed"].astype(float)},
        {"about": np.frombuffer(b"[1]", np.uint8)},
        {"about": np.frombuffer(b"{", np.uint8)},
        {"about": np.array("text")},
        {"pathological": np.array([None])},
    ):
        np.savez(path, **{**good, **changes})
        with pytest.raises(ValueError, match=r"checkpoint\.npz: damaged \("):
            ob.load(tmp_path)
    np.savez(path, about=good["about"])
    with pytest.raises(ValueError, match="obstructed"):
        ob.load(tmp_path)
    with path.open("wb") as stream:
        np.save(stream, good["obstructed"])
    with pytest.raises(ValueError, match=r"checkpoint\.npz: damaged"):
        ob.load(tmp_path)


def test_counts_of_another_study(old, new, tmp_path):
    put(old, tmp_path / "old")
    put(new, tmp_path / "new")
    shutil.copy(tmp_path / "new" / "cells.csv", tmp_path / "old" / "cells.csv")
    with pytest.raises(ValueError, match=r"cells\.csv, line 2: is the cell kaiming_normal"):
        ob.load(tmp_path / "old")


def nudged(field: str) -> str:
    """Change a number by so little that no rate gives it away."""
    return repr(float(field) * (1 + 1e-12))


LINE, NEXT = r"cells\.csv, line 6: ", r"cells\.csv, line 7: "
CHECKSUM = r"run\.json, line \d+: damaged \(its checksum does not fit"

# Line 6 is kaiming_normal, d = 30, l = 30; what is done to a field there, and what is said.
TILTED = {
    "estimate": ("log_mean_weight", lambda field: f"-{field}", LINE + "log_mean_weight = '--"),
    "other estimate": ("log_mean_weight", lambda field: f"{field}1"[1:], LINE + "log_mean_weight"),
    "no estimate": ("log_mean_weight", lambda field: "", LINE + "log_mean_weight =  does not fit"),
    "twelfth digit": ("log_mean_weight", nudged, CHECKSUM),
    "rate": (
        "empirical",
        lambda field: "0.5",
        LINE + "log_mean_weight = .* does not fit empirical",
    ),
    "rate of neurons": (
        "empirical_neuron",
        lambda field: "0.0",
        LINE + "log_mean_weight = .* does",
    ),
    "samples": ("samples", lambda field: "250", NEXT + "samples = 200, but 250 in the lines above"),
    "one sample": ("samples", lambda field: "1", LINE + "samples = '1' does not fit estimator til"),
    "no samples": ("samples", lambda field: "", LINE + "samples = '' does not fit estimator til"),
    "direct": ("estimator", lambda field: "direct", LINE + "obstructed = .* does not fit"),
    "no estimator": ("estimator", lambda field: "", LINE + "estimator = '' is none of direct, til"),
    "skewness": ("skewness", nudged, CHECKSUM),
    "no skewness": ("skewness", lambda field: "", CHECKSUM),
    "skewness as a word": ("skewness", lambda field: "high", LINE + "skewness = 'high' is not a n"),
    "error": ("relative_error_neuron", nudged, CHECKSUM),
    "share": ("largest_share", nudged, CHECKSUM),
    "bound": ("log_bound", lambda field: "0.0", CHECKSUM),
}


@pytest.mark.parametrize("name", TILTED)
def test_damaged_weighted_samples_are_refused(name, rare, tmp_path):
    column, change, message = TILTED[name]
    put(rare, tmp_path)
    path = tmp_path / "cells.csv"
    lines = path.read_text().split("\n")
    fields = dict(zip(COLUMNS, lines[5].split(","), strict=True))
    assert (fields["d"], fields["l"], fields["estimator"]) == ("30", "30", "tilted")
    fields[column] = change(fields[column])
    lines[5] = ",".join(fields.values())
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message) as caught:
        ob.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_another_number_of_samples_everywhere_is_refused(rare, tmp_path):
    put(rare, tmp_path)
    for name, before in (("cells.csv", ",tilted,200,"), ("run.json", '"samples": 200')):
        path = tmp_path / name
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, before.replace("200", "300")))
        with pytest.raises(ValueError, match=CHECKSUM):
            ob.load(tmp_path)


def test_difference_names_what_differs():
    one = StudyConfig.of("xavier_normal", d=range(1, 101), l=[2], seed=0)
    two = StudyConfig.of("custom", d=range(1, 51), l=[2], seed=3, plan="independent")
    assert one.difference(one) == ""
    words = one.difference(two)
    for part in ("schemes", "d is 1 2 3 ... 99 100 (100 values)", "seed is 0 here and 3", "plan"):
        assert part in words
    assert "l is" not in words
