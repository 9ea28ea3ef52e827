"""The command ``merge`` and the parts that ``run`` draws for it."""

from __future__ import annotations

import pytest

from obstruction.cli import main
from obstruction.reporting import heatmaps

SMALL = ("--d", "1:4", "--l", "1,2,30", "--networks", "2001", "--samples", "200", "--threads", "1")
FILES = ["cells.csv", "heatmap.pdf", "heatmap.png", "run.json"]


@pytest.fixture(autouse=True)
def plain_pictures(monkeypatch):
    monkeypatch.setattr(heatmaps, "write", lambda figure, stream, kind: stream.write(kind.encode()))


@pytest.fixture
def command(capsys):
    def call(*words):
        with pytest.raises(SystemExit) as end:
            main([*map(str, words)])
        return (end.value.code or 0, *capsys.readouterr())

    return call


def test_shards_make_the_files_of_one_run(command, tmp_path):
    for i in (1, 2, 3):
        code, out, _ = command("run", *SMALL, "--shard", f"{i}/3", "--out", tmp_path / f"s{i}")
        assert code == 0
        assert f"667 networks each from number {667 * (i - 1):,}" in out
        assert "weighted samples are drawn when parts are merged" in out
    parts = [tmp_path / f"s{i}" for i in (3, 1, 2)]
    code, out, _ = command("merge", *parts, "--out", tmp_path / "all")
    assert (code, "AGREES" in out) == (0, True)
    command("run", *SMALL, "-q", "--out", tmp_path / "one")
    merged, one = ((tmp_path / name / "cells.csv").read_bytes() for name in ("all", "one"))
    assert merged == one
    assert sorted(file.name for file in (tmp_path / "all").iterdir()) == FILES


def test_missing_networks_are_told_and_drawn(command, tmp_path):
    command("run", *SMALL, "-q", "--out", tmp_path / "one")
    command("run", *SMALL, "-q", "--shard", "1/3", "--out", tmp_path / "a")
    command(
        "run", *SMALL, "-q", "--networks-from", 1900, "--networks", 101, "--out", tmp_path / "b"
    )
    code, out, _ = command("merge", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "c")
    assert code == 0
    assert "768 of 2,001 (interrupted)" in out
    assert f"Networks are missing; obstruction run --resume --out {tmp_path / 'c'}" in out
    command("run", "--resume", "-q", "--out", tmp_path / "c")
    assert (tmp_path / "c" / "cells.csv").read_bytes() == (
        tmp_path / "one" / "cells.csv"
    ).read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shard", "0/3"], "shard = '0/3': must be I/N with whole numbers 1 <= I <= N, say 2/8"),
        (["--shard", "4/3"], "shard = '4/3': must be I/N"),
        (["--shard", "3"], "shard = '3': must be I/N"),
        (["--shard", "1/"], "shard = '1/': must be I/N"),
        (["--shard", "1/2001/2"], "must be I/N"),
        (["--shard", "7/3000"], "shard = 7/3000: 2,001 networks are too few for 3,000 parts"),
        (["--networks-from", "-1"], "networks-from = -1: must be a whole number of at least 0"),
        (["--networks-from", "1e30"], "networks-from"),
        (["--networks-from", "1", "--shard", "1/2"], "exclude each other"),
        (["--resume", "--shard", "1/2"], "--shard cannot be changed by --resume"),
    ],
)
def test_bad_parts_are_refused(command, tmp_path, words, message):
    code, _, error = command("run", *SMALL, *words, "--out", tmp_path / "out")
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_models_have_no_parts(command, tmp_path):
    words = ("run", "--model", "a:b", "--shard", "1/2", "--out", tmp_path / "out")
    assert "--shard is about a grid of (d, l)" in command(*words)[2]


def test_the_folder_of_a_part_is_not_written(command, tmp_path):
    command("run", *SMALL, "-q", "--shard", "1/2", "--out", tmp_path / "a")
    before = (tmp_path / "a" / "run.json").read_bytes()
    code, _, error = command("merge", tmp_path / "a", "--out", tmp_path / "a", "--overwrite")
    assert (code, "is one of the studies to merge" in error) == (2, True)
    code, _, error = command("merge", tmp_path / "a", tmp_path / "a", "--out", tmp_path / "b")
    assert (code, "would be counted twice" in error) == (2, True)
    assert not (tmp_path / "b").exists()
    assert (tmp_path / "a" / "run.json").read_bytes() == before
    command("merge", tmp_path / "a", "--out", tmp_path / "b", "-q")
    code, _, error = command("merge", tmp_path / "a", "--out", tmp_path / "b")
    assert (code, "holds a study already" in error) == (2, True)
    assert command("merge", tmp_path / "a", "--out", tmp_path / "b", "--overwrite")[0] == 0
