"""Several runs with one folder, runs that are killed, and what is left of their studies."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from obstruction.reporting import heatmaps
from obstruction.tools.folder_lock import only_writer

FILES = {"cells.csv", "run.json", "heatmap.png", "heatmap.pdf"}
SMALL = ("--d", "1:4", "--l", "1,2,5", "--networks", "2000")

# Processes that start in no time: the package is imported and its kernels are loaded already.
FORKED = textwrap.dedent(
    """
    import io, os, random, signal, sys, time
    from types import SimpleNamespace
    import obstruction as ob
    from obstruction.cli import main
    from obstruction.reporting import heatmaps

    heatmaps.figure = lambda table: SimpleNamespace(clear=lambda: None)
    heatmaps.write = lambda figure, stream, kind: stream.write(kind.encode())
    ob.sample("xavier_normal", d=[1, 9], l=[1, 9], networks=10, estimator="tilted", samples=10)
    FILES = {"cells.csv", "run.json", "heatmap.png", "heatmap.pdf"}

    def start(*words):
        child = os.fork()
        if child == 0:
            sys.stdout = sys.stderr = io.StringIO()
            try:
                main(["run", "-q", "--threads", "1", *words])
            except SystemExit as end:
                if end.code:
                    os.write(2, sys.stderr.getvalue().encode())
                os._exit(end.code or 0)
            finally:
                os._exit(99)
        return child

    def end(child):
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    """
)


def forked(code, *words):
    """Run code after `FORKED`; return what it printed on standard output and error."""
    line = [sys.executable, "-c", FORKED + textwrap.dedent(code), *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, done.stderr


@pytest.mark.parametrize("mode", ["new", "overwrite", "resume"])
def test_a_folder_in_use_is_refused_at_once(mode, command, tmp_path, monkeypatch):
    monkeypatch.setattr(heatmaps, "write", lambda figure, stream, kind: stream.write(b"picture"))
    if mode != "new":
        assert command("run", *SMALL, "--out", tmp_path).code == 0
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    words = {"new": SMALL, "overwrite": (*SMALL, "--overwrite"), "resume": ("--resume",)}[mode]
    holder = (
        "import sys\nfrom obstruction.tools.folder_lock import only_writer\n"
        "with only_writer(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", holder, str(tmp_path)], **pipes) as first:
        assert first.stdout.readline() == "held\n"
        monkeypatch.setattr(
            "obstruction.sampling.runner.Runner.run", lambda *words, **options: pytest.fail("runs")
        )
        for line in (("run", *words, "--out", tmp_path), ("plot", tmp_path))[: 1 + bool(before)]:
            outcome = command(*line)
            assert (outcome.code, outcome.out) == (2, "")
            assert outcome.err.startswith(f"obstruction: out = {tmp_path}: is in use by process ")
            assert f"process {first.pid} on " in outcome.err
            assert outcome.err.count("\n") == 1
        now = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        assert now.pop(".obstruction-lock")
        assert now == before
        first.stdin.close()
    assert set(os.listdir(tmp_path)) == set(before)


def test_models_and_saving_in_python_take_the_lock_as_well(tmp_path):
    code = (
        "import sys, obstruction as ob\nfrom obstruction.studies import folder\n"
        "study = ob.sample('xavier_normal', d=[1], l=[1], networks=9)\n"
        "try: folder.save(study, sys.argv[1])\nexcept ValueError as error: print(error)\n"
        "try: ob.sample_model(lambda: None, out=sys.argv[1])\n"
        "except ValueError as error: print(error)"
    )
    with only_writer(tmp_path):
        line = [sys.executable, "-c", code, str(tmp_path)]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout.count(f"out = {tmp_path}: is in use by process {os.getpid()} on ") == 2


def test_a_run_after_a_kill_says_whose_folder_it_takes(tmp_path, command):
    code = (
        "import os, sys\nfrom obstruction.tools.folder_lock import only_writer\n"
        "with only_writer(sys.argv[1]):\n    os.kill(os.getpid(), 9)"
    )
    killed = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    assert killed.wait() == -9
    for name in (".cells.csv.0123abcd.part", ".checkpoint.npz.0123abcd.part"):
        (tmp_path / name).write_bytes(b"torn")
    outcome = command("run", *SMALL, "--out", tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    first = outcome.out.splitlines()[0]
    assert first.startswith(f"{tmp_path} is taken over from process {killed.pid} on ")
    assert set(os.listdir(tmp_path)) == FILES
    assert "taken over" not in command("run", "--resume", "--out", tmp_path).out


def test_loading_while_a_run_replaces_the_study(tmp_path):
    printed, _ = forked(
        """
        path = sys.argv[1]
        small = ("--d", "1:3", "--l", "1:3", "--networks", "50", "--out", path)
        assert end(start(*small)) == 0
        seen = set()
        for seed in range(1, 9):
            child = start(*small, "--overwrite", "--seed", str(seed))
            while os.waitpid(child, os.WNOHANG) == (0, 0):
                seen.add(ob.load(path).config.seed)
            assert ob.load(path).config.seed == seed
        print(len(seen))
        """,
        tmp_path,
    )
    assert int(printed) > 1


@pytest.mark.slow
def test_two_writers_never_lose_a_study(tmp_path):
    """50 times two runs are started together with one folder, with and without a study in it."""
    printed, complaints = forked(
        """
        chance, outcomes = random.Random(1), []
        for number in range(50):
            path = f"{sys.argv[1]}/{number}"
            words = ("--d", "1:12", "--l", "1:12", "--networks", "20000", "--out", path)
            mode = ("new", "overwrite", "resume")[number % 3]
            if mode != "new":
                first = (*words[:4], "--networks", "500", "--out", path, "--seed", "9")
                assert end(start(*first)) == 0
            options = {"new": (), "overwrite": ("--overwrite",), "resume": ("--resume",)}[mode]
            children = []
            for seed in (1, 2):
                seeded = ("--seed", "9" if mode == "resume" else str(seed))
                children.append(start(*words, *options, *seeded))
                time.sleep(chance.choice([0.0, 0.0, 0.01, 0.05]))
            codes = [end(child) for child in children]
            study = ob.load(path)
            assert set(os.listdir(path)) == FILES, os.listdir(path)
            assert (study.networks, study.complete) == (20_000, True)
            assert set(codes) <= {0, 2} and 0 in codes, codes
            if mode == "new":
                assert sorted(codes) == [0, 2]
                assert study.config.seed == 1 + codes.index(0)
            elif mode == "overwrite":
                assert study.config.seed in [1 + k for k in (0, 1) if codes[k] == 0]
            outcomes.append(codes.count(0))
        print(outcomes.count(1), outcomes.count(2))
        """,
        tmp_path,
    )
    one, both = map(int, printed.split())
    assert (one + both, both) <= (50, 10)
    lines = complaints.splitlines()
    assert len(lines) == one
    assert all(" is in use by process " in line or " holds a study " in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_300_kills_at_random_moments_lose_nothing(seed, tmp_path):
    """Runs with a checkpoint at every look; small ones end, and are killed while they save, too."""
    forked(
        """
        path, chance = sys.argv[1], random.Random(int(sys.argv[2]))
        grid = ("--d", "1:9", "--l", "1:9", "--out", path, "--checkpoint-seconds", "0")
        before, target, ended, cut = 0, 3000, 0, 0
        for number in range(100):
            fresh = ("--networks", str(target), "--samples", "50")
            words = ("--resume", "--networks", str(target)) if before else fresh
            child = start(*grid, *words)
            time.sleep(chance.uniform(0.0, 0.35))
            os.kill(child, signal.SIGKILL)
            code = end(child)
            assert code in (0, -9), code
            ended, cut = ended + (code == 0), cut + (code != 0)
            try:
                held = ob.load(path)
            except ValueError as error:
                assert before == 0 and "no such folder" in str(error) or "holds no" in str(error)
                continue
            assert before <= held.networks <= target
            before = held.networks
            if held.complete and code == 0:
                assert set(os.listdir(path)) == FILES, os.listdir(path)
                target = before + chance.choice([1000, 10**7])
            target = max(target, held.done[-1][1])
        target = held.done[-1][1] + 500
        assert end(start(*grid, "--resume", "--networks", str(target))) == 0
        assert set(os.listdir(path)) == FILES, os.listdir(path)
        whole = (*grid[:4], "--out", path + "-whole", "--networks", str(target), "--samples", "50")
        assert end(start(*whole)) == 0
        cells = [open(one + "/cells.csv", "rb").read() for one in (path, path + "-whole")]
        assert cells[0] == cells[1]
        assert cut > 50, cut
        print(ended, cut)
        """,
        tmp_path / "a",
        seed,
    )
