"""What a run is said to need is what its process needs, table and pictures included."""

from __future__ import annotations

import re
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from obstruction.cli.memory import required_memory
from obstruction.sampling.config import StudyConfig
from obstruction.studies.run import StudyRun

PEAK = """
import re, sys
from pathlib import Path
from obstruction.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
status = Path("/proc/self/status").read_text()  # getrusage counts what forked, too
print(int(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("schemes", "size", "estimator"),
    [(1, 100, "direct"), (2, 100, "direct"), (2, 300, "auto"), (1, 400, "direct")],
)
def test_the_estimate_is_near_the_peak(schemes, size, estimator, tmp_path):
    names = ["kaiming_normal", "xavier_normal"][:schemes]
    words = ["run", "--d", f"1:{size}", "--l", f"1:{size}", "--networks", "1000", "-q"]
    words += ["--threads", "1", "--estimator", estimator, "--samples", "200"]
    words += [word for name in names for word in ("--scheme", name)]
    line = [sys.executable, "-c", PEAK, *words, "--out", str(tmp_path / "a")]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=600)
    config = StudyConfig.of(names, d=range(1, size + 1), l=range(1, size + 1), seed=0)
    run = StudyRun(config, networks=1000, threads=1, estimator=estimator)
    assert required_memory(run) == pytest.approx(int(done.stdout), rel=0.2)


def test_a_run_whose_pictures_do_not_fit_is_refused_before_it_draws(tmp_path, monkeypatch, capsys):
    from obstruction.cli import main

    memory = SimpleNamespace(available=2**29)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    own = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=2**27))
    monkeypatch.setattr(psutil, "Process", lambda: own)
    words = ("run", "--d", "1:100", "--l", "1:100", "--out", str(tmp_path / "a"))
    with pytest.raises(SystemExit) as end:
        main([*words])
    assert end.value.code == 2
    message = (
        r"2 x 100 x 100 cells with their table and pictures would need about 0\.\d GiB of memory"
    )
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "a").exists()
