"""Exit codes, and what is kept when disks, folders, terminals, outputs or threads fail."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

import obstruction as ob
from obstruction.cli import base, running
from obstruction.reporting import heatmaps
from obstruction.sampling.runner import Runner
from obstruction.studies import folder

FILES = {"cells.csv", "run.json", "heatmap.png", "heatmap.pdf"}
GRID = ("--d", "1:4", "--l", "1,2,5")
SMALL = (*GRID, "--networks", "2000")
LONG = ("--d", "1:20", "--l", "1:20", "--networks", "1e10", "--threads", "2")
COMMAND = (sys.executable, "-m", "obstruction")


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(heatmaps, "figure", lambda table: SimpleNamespace(clear=lambda: None))
    monkeypatch.setattr(heatmaps, "write", lambda figure, stream, kind: stream.write(b"picture"))


@pytest.fixture
def stepwise(monkeypatch):
    """Let runs look around after 500, 1,200 and all networks, and do ``events[k]`` before it."""
    count, events = Runner.run, {}

    def run(self, networks, *, start, threads, watch):
        for k, part in enumerate((500, 1200, networks)):
            count(self, part, threads=threads)
            events.get(k, lambda: None)()
            watch(self.counted)

    monkeypatch.setattr(Runner, "run", run)
    monkeypatch.setattr(running, "CHECKPOINT_SECONDS", 0.0)
    return events


# --- failures while a run saves ----------------------------------------------------------------


def test_a_checkpoint_that_fails_once_does_not_end_the_run(
    command, no_pictures, stepwise, disk, tmp_path
):
    stepwise[0] = lambda: setattr(disk, "full", True)
    stepwise[1] = lambda: setattr(disk, "full", False)
    out = tmp_path / "a"
    outcome = command("run", *SMALL, "--out", out)
    assert outcome.code == 0
    failed, saved = outcome.err.splitlines()
    assert failed == (
        f"obstruction: no checkpoint: out = {out}: cannot be written (No space left on device); "
        "500 networks are counted and kept in memory; the run goes on and tries again"
    )
    assert saved == f"obstruction: 1,200 networks are saved in {out} now"
    assert set(os.listdir(out)) == FILES
    assert ob.load(out).networks == 2000


def test_the_same_failure_is_told_once(command, no_pictures, stepwise, disk, tmp_path):
    stepwise[1] = lambda: setattr(disk, "full", True)
    outcome = command("run", *SMALL, "--quiet", "--out", tmp_path / "a")
    assert outcome.code == 2
    failed, ended = outcome.err.splitlines()
    assert "1,200 networks are counted and kept in memory, 500 of them in" in failed
    assert "tries again" in failed
    found = re.fullmatch(
        rf"obstruction: out = {tmp_path / 'a'}: cannot be written \(No space left on device\); "
        rf"the study is written to ({tmp_path}/a-rescued-\w+) instead",
        ended,
    )
    assert found
    assert set(os.listdir(found[1])) == FILES
    rescued = ob.load(found[1])
    assert (rescued.networks, rescued.complete) == (2000, True)
    assert ob.load(tmp_path / "a").networks == 500
    stepwise.clear()
    disk.full = False
    assert command("run", "--resume", "--out", tmp_path / "a").code == 0
    assert ob.load(tmp_path / "a").counts == rescued.counts
    assert set(os.listdir(tmp_path / "a")) == FILES


def test_the_verdict_is_told_even_if_the_folder_cannot_be_written(
    command, no_pictures, disk, tmp_path
):
    disk.full = True
    outcome = command("run", *SMALL, "--out", tmp_path / "a")
    assert outcome.code == 2
    assert "\nAGREES: " in outcome.out
    (place,) = re.findall(r"is written to (\S+) instead", outcome.err)
    assert f"Written: {place}/cells.csv, " in outcome.out
    assert not (tmp_path / "a").exists()


def test_a_folder_that_is_removed_is_made_again(command, no_pictures, stepwise, tmp_path):
    out = tmp_path / "a"
    stepwise[1] = lambda: shutil.rmtree(out)
    outcome = command("run", *SMALL, "--out", out)
    assert outcome.code == 0
    assert outcome.err == f"obstruction: out = {out}: was removed; it is made again\n"
    assert set(os.listdir(out)) == FILES
    assert ob.load(out).networks == 2000


def test_a_folder_that_is_replaced_by_a_file(command, no_pictures, stepwise, tmp_path):
    out = tmp_path / "a"

    def replace():
        shutil.rmtree(out)
        out.write_text("mine")

    stepwise[1] = replace
    outcome = command("run", *SMALL, "--out", out)
    assert outcome.code == 2
    (place,) = re.findall(r"is written to (\S+) instead", outcome.err)
    assert ob.load(place).networks == 2000
    assert out.read_text() == "mine"


def test_another_study_that_took_the_place_is_not_replaced(
    command, no_pictures, stepwise, tmp_path
):
    out, other = tmp_path / "a", ob.sample("lecun_normal", d=[3], l=[3], networks=7)

    def replace():
        shutil.rmtree(out)
        folder.save(other, tmp_path / "b")
        (tmp_path / "b").rename(out)

    stepwise[1] = replace
    outcome = command("run", *SMALL, "--out", out)
    assert outcome.code == 2
    assert f"out = {out}: was removed, and another study is there now" in outcome.err
    (place,) = re.findall(r"is written to (\S+) instead", outcome.err)
    assert ob.load(place).networks == 2000
    assert ob.load(out).config == other.config


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interruption_with_a_full_disk_saves_elsewhere(
    name, command, stepwise, disk, tmp_path, no_pictures
):
    number = signal.Signals[name]
    stepwise[0] = lambda: setattr(disk, "full", True)
    stepwise[1] = lambda: signal.raise_signal(number)
    outcome = command("run", *SMALL, "--out", tmp_path / "a")
    assert (outcome.code, outcome.out) == (128 + number, "")
    found = re.fullmatch(
        r"obstruction: interrupted; 1,200 of 2,000 networks are saved in (\S+); go on with: "
        r"obstruction run --resume --out \1",
        outcome.err.splitlines()[-1],
    )
    assert found
    assert ob.load(found[1]).networks == 1200
    assert not (tmp_path / "a").exists()
    stepwise.clear()
    assert command("run", "--resume", "--out", found[1]).code == 0


def test_nothing_can_be_written_anywhere(command, no_pictures, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    outcome = command("run", *SMALL, "--out", tmp_path / "a")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "2,000 networks are lost" in outcome.err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "code"), [(RuntimeError("odd"), 4), (MemoryError(), 2), (ValueError("bad"), 2)]
)
@pytest.mark.parametrize("step", ["counting", "drawing"])
def test_whatever_fails_the_counts_are_kept(
    step, error, code, command, no_pictures, stepwise, tmp_path, monkeypatch
):
    def fail(*words):
        raise error

    if step == "counting":
        monkeypatch.setattr(running, "CHECKPOINT_SECONDS", 1e9)
        stepwise[1] = fail
    else:
        monkeypatch.setattr(heatmaps, "figure", fail)
    outcome = command("run", *SMALL, "--out", tmp_path / "a")
    networks = 1200 if step == "counting" else 2000
    assert outcome.code == code
    assert f"{networks:,} of 2,000 networks are saved in {tmp_path / 'a'}" in outcome.err
    assert "Traceback" not in outcome.err
    assert os.listdir(tmp_path / "a") == ["checkpoint.npz"]
    assert ob.load(tmp_path / "a").networks == networks


def test_checkpoint_seconds(command, refused, no_pictures, tmp_path, monkeypatch, stepwise):
    saved, save = [], folder.save_checkpoint

    def note(study, path, *, replace=False):
        saved.append(study.networks)
        save(study, path, replace=replace)

    monkeypatch.setattr(folder, "save_checkpoint", note)
    assert command("run", *SMALL, "--checkpoint-seconds", 1e6, "--out", tmp_path / "a").code == 0
    assert saved == [2000]
    monkeypatch.setattr(running, "CHECKPOINT_SECONDS", 1e6)
    assert command("run", *SMALL, "--checkpoint-seconds", 0, "--out", tmp_path / "b").code == 0
    assert saved == [2000, 500, 1200, 2000, 2000]
    for wrong in ("-1", "nan", "inf", "soon"):
        assert "checkpoint-seconds" in refused(
            "run", *SMALL, "--checkpoint-seconds", wrong, "--out", tmp_path / "c"
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_small_file_system_that_fills(command, no_pictures, stepwise, tmp_path, monkeypatch):
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        stepwise[0] = lambda: (place / "filling").write_bytes(
            b"x" * (os.statvfs(place).f_bavail * 4096)
        )
        stepwise[1] = lambda: (place / "filling").unlink()
        outcome = command("run", *SMALL, "--out", place / "a")
        assert (outcome.code, len(outcome.err.splitlines())) == (0, 2)
        assert "No space left on device" in outcome.err
        stepwise.clear()
        free = os.statvfs(place).f_bavail * 4096
        (place / "filling").write_bytes(b"x" * (free - 4096))
        outcome = command("run", *SMALL, "--seed", "5", "--overwrite", "--out", place / "a")
        assert outcome.code == 2
        (found,) = re.findall(r"is written to (\S+) instead", outcome.err)
        assert ob.load(found).config.seed == 5
        assert ob.load(place / "a").config.seed == 0
        assert set(os.listdir(place / "a")) == FILES
        shutil.rmtree(found)
    finally:
        subprocess.run(["umount", place], check=True)


# --- signals -----------------------------------------------------------------------------------


def start(out, *words, **options):
    line = [*COMMAND, "run", *LONG, "--checkpoint-seconds", "0", "--out", str(out), *words]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    for _ in range(1200):
        if (out / "checkpoint.npz").exists():
            return process
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no checkpoint appeared")


def test_a_closed_terminal_keeps_the_work(tmp_path):
    process = start(tmp_path / "a")
    process.stderr.close()  # as that of a terminal that is gone
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 129
    process.stdout.close()
    assert os.listdir(tmp_path / "a") == ["checkpoint.npz"]
    assert ob.load(tmp_path / "a").networks > 0


def test_nohup_goes_on(tmp_path):
    def ignore():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = start(tmp_path / "a", preexec_fn=ignore)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.terminate()
    printed, complaint = process.communicate(timeout=60)
    assert (process.returncode, printed) == (143, b"")
    assert complaint.startswith(b"obstruction: interrupted; ")


@pytest.mark.parametrize(("name", "code"), [("SIGHUP", 129), ("SIGINT", 130), ("SIGTERM", 143)])
def test_signals_end_every_command(name, code, command, monkeypatch):
    handlers = [signal.getsignal(one) for one in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)]

    def schemes():
        signal.raise_signal(signal.Signals[name])

    monkeypatch.setattr(base.cli.commands["schemes"], "callback", schemes)
    monkeypatch.setattr(base.cli.commands["schemes"], "params", [])
    outcome = command("schemes")
    assert (outcome.code, outcome.out, outcome.err) == (code, "", "obstruction: interrupted\n")
    now = [signal.getsignal(one) for one in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)]
    assert now == handlers


# --- exit codes --------------------------------------------------------------------------------


class Odd(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (Odd("some\nthing"), 4, "unexpected error (Odd: some thing); OBSTRUCTION_TRACEBACK=1 in"),
        (KeyError("key"), 4, "unexpected error (KeyError: 'key')"),
        (EOFError(), 4, "unexpected error (EOFError)"),
        (EOFError("Ran out of input"), 4, "unexpected error (EOFError: Ran out of input)"),
        (RecursionError("deep"), 4, "unexpected error (RecursionError: deep)"),
        (AssertionError(), 4, "unexpected error (AssertionError)"),
        (StopIteration(), 4, "unexpected error (StopIteration)"),
        (RuntimeError("can't start new thread"), 2, "does not let this process start another"),
        (MemoryError(), 2, "out of memory"),
        (ImportError("torch is not installed"), 2, "torch is not installed"),
        (ValueError(), 2, "ValueError"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "system: No space left on device"),
        (FileNotFoundError(2, "No such file", "name"), 2, "name: No such file"),
        (SystemExit(1), 2, "ended the process (SystemExit: 1)"),
        (SystemExit(0), 2, "ended the process (SystemExit: 0)"),
        (click.UsageError("wrong"), 2, "wrong"),
        (click.Abort(), 130, "interrupted"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyboardInterrupt(129), 129, "interrupted"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, None),
    ],
)
def test_every_error_is_one_line_and_never_a_finding(error, code, said, command, monkeypatch):
    def schemes():
        raise error

    monkeypatch.setattr(base.cli.commands["schemes"], "callback", schemes)
    monkeypatch.setattr(base.cli.commands["schemes"], "params", [])
    monkeypatch.setattr(base, "_discard_output", lambda: None)
    monkeypatch.delenv("OBSTRUCTION_TRACEBACK", raising=False)
    outcome = command("schemes")
    assert (outcome.code, outcome.out) == (code, "")
    if said is None:
        assert outcome.err == ""
        return
    assert outcome.err.startswith("obstruction: ")
    assert outcome.err.count("\n") == 1
    assert said in outcome.err
    monkeypatch.setenv("OBSTRUCTION_TRACEBACK", "1")
    again = command("schemes")
    assert again.code == code
    assert again.err.endswith(outcome.err)
    assert ("Traceback (most recent call last)" in again.err) == (code in (2, 4))


def test_without_threads(refused, tmp_path, monkeypatch):
    def fail(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    message = refused("run", *SMALL, "--threads", "1", "--out", tmp_path / "a")
    assert "threads = 1: the system let this process start only 0 (can't start new th" in message
    assert not (tmp_path / "a").exists()


def test_warnings_of_the_package_are_one_line(command, monkeypatch):
    class Told(UserWarning):
        pass

    Told.__module__ = "obstruction.somewhere"

    def schemes():
        for category, text in ((Told, "watch out"), (UserWarning, "somebody else's")):
            click.echo(warnings.formatwarning(text, category, "file", 1), nl=False, err=True)

    monkeypatch.setattr(base.cli.commands["schemes"], "callback", schemes)
    monkeypatch.setattr(base.cli.commands["schemes"], "params", [])
    first, *others = command("schemes").err.splitlines()
    assert first == "obstruction: watch out"
    assert "obstruction: " not in warnings.formatwarning("watch out", Told, "file", 1)
    assert "UserWarning: somebody else's" in others[0]


EXACT = "exact --scheme xavier_normal --d 2 --l 3"


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (f"{EXACT} >&-", 2, "obstruction: standard output: is closed\n"),
        (f"{EXACT} 2>&-", 0, ""),
        (f"{EXACT} >&- 2>&-", 2, ""),
        (f"{EXACT} <&- >&- 2>&-", 2, ""),
        (f"{EXACT} > /dev/full", 2, "obstruction: standard output: No space left on device\n"),
        ("--help >&-", 2, "obstruction: standard output: is closed\n"),
        ("exact --nonsense 2>&-", 2, ""),
        ("exact --nonsense >&-", 2, "obstruction: No such option '--nonsense'.\n"),
        ("run --d 1 --l 1 --networks 9 --out OUT >&-", 2, "closed; > /dev/null or --quiet"),
        ("run --d 1 --l 1 --networks 9 --quiet --out OUT >&- 2>&-", 0, ""),
        ("run --d 1 --l 1 --networks 9 --out OUT 2>&-", 0, ""),
    ],
)
def test_closed_outputs(line, code, said, tmp_path):
    out = tmp_path / "a"
    words = f'exec "$0" -m obstruction {line}'.replace("OUT", str(out))
    done = subprocess.run(["bash", "-c", words, sys.executable], capture_output=True)
    assert done.returncode == code
    assert said in done.stderr.decode()
    assert done.stderr.count(b"\n") == bool(said)
    if "--out" in line:
        assert out.exists() == (code == 0)
    if out.exists():
        assert set(os.listdir(out)) == FILES
        assert ob.load(out).networks == 9


def test_a_reader_that_has_enough(tmp_path):
    line = 'set -o pipefail; "$0" -m obstruction --help | head -c 0'
    done = subprocess.run(["bash", "-c", line, sys.executable], capture_output=True)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_package_that_cannot_be_loaded(tmp_path):
    (tmp_path / "filelock.py").write_text("raise ImportError('it is broken')")
    done = subprocess.run(
        [*COMMAND, "run", *SMALL, "--out", str(tmp_path / "a")],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(ob.__file__).parents[1]}"},
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "it is broken" in done.stderr
