"""The command that draws all figures again, its manifest, and the committed figures against it."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import shutil
from pathlib import Path

import pytest

import obstruction

ROOT = Path(__file__).parents[2]
FIGURES, SCRIPTS = ROOT / "figures", ROOT / "scripts"

pytestmark = pytest.mark.skipif(
    not (SCRIPTS / "reproduce.py").exists(), reason="installed away from its scripts"
)

GOOD = """
import argparse
import time
from pathlib import Path

FILES, SEED = ("{name}.txt", "{name}.md"), 7
parser = argparse.ArgumentParser()
parser.add_argument("--quick", action="store_true")
parser.add_argument("--out", type=Path)
parser.add_argument("--more")

def main(argv=None):
    options = parser.parse_args(argv)
    time.sleep(0.2)
    for file in FILES:
        (options.out / file).write_text(f"{{options.quick}} {{options.more}}")
    return 0

if __name__ == "__main__":
    raise SystemExit(main())
"""
IDLE = "FILES, SEED = ('nothing.txt',), None"
BAD = "raise SystemExit(3)"


@pytest.fixture
def tools(monkeypatch):
    """Return the modules `reproduce` and `manifest`."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import manifest
    import reproduce

    return reproduce, manifest


@pytest.fixture
def sandbox(tools, monkeypatch, tmp_path):
    """Return `reproduce` at work on a project of its own, with scripts that do next to nothing."""
    reproduce, _ = tools
    scripts, figures = tmp_path / "scripts", tmp_path / "figures"
    scripts.mkdir()
    texts = {"figure2": GOOD, "figure3": BAD, "figure4": IDLE, "table1": GOOD}  # no figure5
    for name, text in texts.items():
        body = text.format(name=name) if text is GOOD else text
        (scripts / f"{name}.py").write_text(body)
    monkeypatch.setattr(reproduce, "SCRIPTS", scripts)
    monkeypatch.setattr(reproduce, "FIGURES", figures)
    return reproduce


def records(folder):
    return {
        record["file"]: record
        for record in json.loads((folder / "manifest.json").read_text())["files"]
    }


# --- reproduce -------------------------------------------------------------------------------


def test_a_full_run_writes_and_records(sandbox, capsys):
    assert sandbox.main(["table1", "figure2"]) == 0
    found = records(sandbox.FIGURES)
    assert sorted(found) == ["figure2.md", "figure2.txt", "table1.md", "table1.txt"]
    entry = found["figure2.txt"]
    data = (sandbox.FIGURES / "figure2.txt").read_bytes()
    assert data == b"False None"
    assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert entry["script"] == "scripts/figure2.py"
    assert entry["command"] == "python scripts/figure2.py --out figures"
    assert (entry["seed"], entry["version"]) == (7, obstruction.__version__)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", entry["date"])
    assert 0.2 <= entry["seconds"] < 60  # the script sleeps 0.2 s
    assert {"python", "numpy", "scipy", "numba", "matplotlib"} <= set(entry["libraries"])
    out = capsys.readouterr().out
    assert re.search(r"^figure2: \d+\.\d s, figure2.txt, figure2.md$", out, re.MULTILINE)
    assert out.index("figure2:") < out.index("table1:")
    assert out.endswith("Written to figures\n")


def test_a_failure_does_not_end_the_others(sandbox, capsys):
    assert sandbox.main(["all"]) == 1
    out = capsys.readouterr().out
    assert "figure3: FAILED, exited with 3" in out
    assert "figure4: FAILED, did not write nothing.txt" in out
    assert "figure5: FAILED, scripts/figure5.py is missing" in out
    assert "failed: figure3, figure4, figure5" in out
    assert sorted(records(sandbox.FIGURES)) == [
        *("figure2.md", "figure2.txt", "table1.md", "table1.txt")
    ]


def test_an_old_file_is_not_taken_for_a_new_one(sandbox, capsys, tmp_path):
    import os

    old = tmp_path / "old" / "nothing.txt"
    old.parent.mkdir()
    old.write_text("from before")
    os.utime(old, (1e9, 1e9))
    assert sandbox.main(["figure4", "--out", str(old.parent)]) == 1
    assert "did not write nothing.txt" in capsys.readouterr().out


def test_a_quick_run_leaves_the_figures_alone(sandbox, capsys):
    assert sandbox.main(["figure2"]) == 0
    before = (sandbox.FIGURES / "manifest.json").read_bytes()
    capsys.readouterr()
    assert sandbox.main(["figure2", "--quick"]) == 0
    assert (sandbox.FIGURES / "manifest.json").read_bytes() == before
    assert (sandbox.FIGURES / "figure2.txt").read_text() == "False None"
    place = Path(re.search(r"^Written to (.*)$", capsys.readouterr().out, re.MULTILINE)[1])
    try:
        assert (place / "figure2.txt").read_text() == "True None"
        assert "--quick" in records(place)["figure2.txt"]["command"]
    finally:
        shutil.rmtree(place)


def test_words_go_to_the_script_and_are_recorded(sandbox):
    assert sandbox.main(["figure2", "--", "--more", "a b"]) == 0
    assert (sandbox.FIGURES / "figure2.txt").read_text() == "False a b"
    wanted = "python scripts/figure2.py --more 'a b' --out figures"
    assert records(sandbox.FIGURES)["figure2.md"]["command"] == wanted


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["figure6"], "'figure6': must be one of figure2, figure3"),
        (["figure2", "all", "tabel1"], "'tabel1': must be one of"),
        (["--quick", "--out", "FIGURES"], "must not replace the committed figures"),
        (["--", "--resume"], "name only one"),
        (["figure2", "--out", "FILE"], "is not a folder"),
        (["figure2", "--out", "DAMAGED"], "is damaged"),
    ],
)
def test_wrong_use_is_one_line_and_does_nothing(sandbox, capsys, tmp_path, words, why):
    (tmp_path / "file").touch()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "manifest.json").write_text("{")
    paths = {"FIGURES": sandbox.FIGURES, "FILE": tmp_path / "file", "DAMAGED": tmp_path / "damaged"}
    assert sandbox.main([str(paths.get(word, word)) for word in words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("reproduce: ")
    assert why in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not sandbox.FIGURES.exists()


def test_a_real_script_runs(tools, tmp_path):
    reproduce, manifest = tools
    assert reproduce.main(["table1", "--quick", "--out", str(tmp_path)]) == 0
    assert sorted(records(tmp_path)) == ["table1.md", "table1.tex"]
    assert "Quick version: 3 of 10 sizes" in (tmp_path / "table1.md").read_text(encoding="utf-8")
    assert (tmp_path / "table1.tex").read_text(encoding="utf-8").startswith("% Quick version")
    assert manifest.differences(tmp_path, SCRIPTS) == []


# --- the manifest ------------------------------------------------------------------------------


@pytest.fixture
def folder(tools, tmp_path):
    """Return a folder with two files and their manifest."""
    _, manifest = tools
    run = dict.fromkeys(manifest.RUN, "known")
    for name in ("limits.png", "figure2.png"):
        (tmp_path / name).write_bytes(b"picture of " + name.encode())
    manifest.enter(tmp_path, ["figure2.png"], "scripts/figure2.py", run)
    manifest.update(tmp_path)
    return tmp_path


def test_what_did_not_come_from_reproduce_is_not_invented(tools, folder):
    _, manifest = tools
    found = records(folder)
    assert found["limits.png"]["script"] == "scripts/limits.py"
    assert all(found["limits.png"][key] is None for key in manifest.RUN)
    assert all(found["figure2.png"][key] == "known" for key in manifest.RUN)
    assert manifest.differences(folder, SCRIPTS) == []


def test_every_difference_is_seen(tools, folder, capsys):
    _, manifest = tools
    (folder / "limits.png").write_bytes(b"Picture of limits.png")  # one byte, the same size
    assert manifest.differences(folder, SCRIPTS) == ["limits.png: other sha256"]
    (folder / "figure2.png").write_bytes(b"")
    (folder / "new.png").touch()
    (folder / ".hidden").touch()
    assert manifest.differences(folder, SCRIPTS) == [
        "new.png: is not in the manifest",
        *("figure2.png: other bytes", "figure2.png: other sha256", "limits.png: other sha256"),
    ]
    (folder / "figure2.png").unlink()
    assert "figure2.png: is in the manifest, but not there" in manifest.differences(folder, SCRIPTS)
    assert "limits.png: scripts/limits.py is missing" in manifest.differences(folder, folder)
    assert manifest.main(["--out", str(folder)]) == 1
    assert "--update" in capsys.readouterr().err
    assert manifest.main(["--update", "--out", str(folder)]) == 2  # who wrote new.png?
    assert "new.png: which script" in capsys.readouterr().err


def test_a_file_is_of_the_script_it_is_named_after_if_nothing_else_is_known(tools):
    _, manifest = tools
    assert manifest.script_of("figure2.png") == "scripts/figure2.py"
    assert manifest.script_of("figure5_statements.md") == "scripts/figure5.py"
    assert manifest.script_of("coverage.md") == "scripts/tilted_coverage.py"
    assert manifest.script_of("new.png") is None


def test_an_update_forgets_the_run_of_a_changed_file(tools, folder):
    _, manifest = tools
    (folder / "figure2.png").write_bytes(b"drawn by hand")
    assert manifest.main(["--update", "--out", str(folder)]) == 0
    found = records(folder)["figure2.png"]
    assert found["script"] == "scripts/figure2.py"
    assert all(found[key] is None for key in manifest.RUN)


# --- what is committed --------------------------------------------------------------------------


def test_the_committed_figures_match_their_manifest(tools):
    _, manifest = tools
    assert manifest.differences(FIGURES, SCRIPTS) == []


def test_a_changed_byte_of_a_committed_figure_is_seen(tools, tmp_path):
    _, manifest = tools
    copy = shutil.copytree(FIGURES, tmp_path / "figures")
    data = bytearray((copy / "figure2.png").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "figure2.png").write_bytes(data)
    assert manifest.differences(copy, SCRIPTS) == ["figure2.png: other sha256"]


def test_records_are_whole_and_not_from_the_future(tools):
    _, manifest = tools
    found = records(FIGURES)
    assert len(found) > 15
    for entry in found.values():
        assert set(entry) == {"file", "bytes", "sha256", "script", *manifest.RUN}
        known = [key for key in manifest.RUN if key != "seed" and entry[key] is not None]
        assert len(known) in (0, len(manifest.RUN) - 1)
        if known:
            ran, now = (
                tuple(map(int, version.split(".")[:3]))
                for version in (entry["version"], obstruction.__version__)
            )
            assert ran <= now
            assert entry["command"].endswith("--out figures")
            assert "--quick" not in entry["command"]


def test_scripts_keep_the_contract_and_their_files_are_recorded(tools):
    reproduce, _ = tools
    found = records(FIGURES)
    there = [name for name in reproduce.NAMES if (SCRIPTS / f"{name}.py").exists()]
    assert {"figure2", "figure5", "table1"} <= set(there)
    for name in there:
        script = reproduce.load(SCRIPTS / f"{name}.py")
        assert list(inspect.signature(script.main).parameters) == ["argv"]
        assert script.SEED is None or isinstance(script.SEED, int)
        for file in script.FILES:
            if file in found:
                assert found[file]["script"] == f"scripts/{name}.py"
                if found[file]["command"]:
                    assert found[file]["seed"] == script.SEED
        if name in ("figure2", "figure5", "table1"):
            assert set(script.FILES) <= set(found)
