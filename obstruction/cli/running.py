"""The command ``run``: sample with checkpoints, compare with exact values, draw and write."""

from __future__ import annotations

import contextlib
import io
import shlex
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import click

from obstruction.cli.base import exit_code
from obstruction.sampling.config import StudyConfig
from obstruction.studies import folder
from obstruction.studies.run import StudyRun
from obstruction.studies.study import Study
from obstruction.tools.checks import check_probability
from obstruction.tools.words import counted, duration

if TYPE_CHECKING:
    from obstruction.studies.factories.model_study import ModelStudy

CHECKPOINT_SECONDS: Final = 30.0
"""The least time between checkpoints, in seconds."""

_POWER: Final = 0.9
"""The power at which `obstruction.studies.verdict` states which deviations a run detects."""


def run_study(
    given: Mapping[str, Any],
    defaults: Mapping[str, Any],
    out: str,
    *,
    networks: int | None,
    default_networks: int,
    threads: int | None,
    estimator: str | None,
    samples: int | None,
    mode: str,
    level: float,
    quiet: bool,
) -> int:
    """Run the command ``obstruction run`` and return its exit code.

    ``given`` holds the arguments of `StudyConfig.of` that the user gave, and ``defaults`` all of
    them for a new study. ``mode`` is "new", "overwrite" or "resume". A resumed study keeps the
    configuration, estimator and samples that it has. If an argument or the folder is wrong, the
    function raises ValueError and touches nothing.
    """
    check_level(level)
    check_folder(out, mode)
    asked = {"networks": networks, "threads": threads, "estimator": estimator, "samples": samples}
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if mode == "resume":
        run = StudyRun.resume(out, folder.load(out), given, **options)
    else:
        config = StudyConfig.of(**{**defaults, **given})
        run = StudyRun(config, **{"networks": default_networks, "estimator": "auto", **options})
    if threads is not None and threads > run.threads and not quiet:
        present = f"this process may use {counted(run.threads, 'core')}, so it does"
        click.echo(f"obstruction: threads = {threads}: {present}", err=True)
    made = not Path(out).exists()
    place = folder.prepare(out)
    if run.prior is not None and run.finished and not (place / folder.CHECKPOINT).exists():
        if not quiet:
            click.echo(run.prior.describe())
            click.echo(f"{out} holds these {run.counted:,} networks already; nothing to draw.")
        return verdict(run.prior, level, quiet)

    again = _again(out, estimator, samples)
    checkpoints = _Checkpoints(run, place, replace=mode == "overwrite")
    before, seconds_before = run.counted, run.seconds
    with signals():
        try:
            run.count(checkpoints.save_if_due, progress=not quiet)
        except KeyboardInterrupt as signalled:
            checkpoints.save()
            if made and run.counted == 0:
                with contextlib.suppress(OSError):
                    place.rmdir()
            return _interrupted(run.counted, run.target, out, again, signalled)
        checkpoints.save()
        try:
            begun = time.perf_counter()
            study = run.weigh(progress=not quiet)
            weighing = time.perf_counter() - begun
            # On a large grid each of these steps takes much memory, so none overlaps another.
            pictures = _draw(study)
            agreement = study.agreement(level=level)
            files = folder.save(study, place, pictures, agreement)
        except KeyboardInterrupt as signalled:
            return _interrupted(run.counted, run.target, out, again, signalled)
    if not quiet:
        click.echo(study.describe())
        drawn, seconds = run.counted - before, run.seconds - seconds_before
        for line in _speed(study, drawn, seconds, weighing):
            click.echo(line)
        click.echo(str(agreement))
        click.echo("Written: " + ", ".join(str(file) for file in files))
    return exit_code(agreement)


def check_level(level: float) -> None:
    """Raise ValueError unless a false-alarm rate is between 0 and the power of the verdict."""
    check_probability("level", level, below=_POWER)


def check_folder(out: str, mode: str) -> None:
    """Raise ValueError if a folder has no study to resume, or files that a run may not replace."""
    there = folder.holds_study(out)
    if mode == "resume" and not there:
        raise ValueError(f"out = {out}: holds no study to resume")
    if mode == "new" and there:
        raise ValueError(
            f"out = {out}: holds a study already; "
            "--overwrite replaces it, --resume goes on with it, --out names another folder"
        )
    if mode == "new" and (names := folder.in_the_way(out)):
        raise ValueError(
            f"out = {out}: holds {', '.join(names)} already; --overwrite replaces such files"
        )


class _Checkpoints:
    """The checkpoints of a run, which save its counts."""

    def __init__(self, run: StudyRun, place: Path, *, replace: bool) -> None:
        self._run, self._place, self._replace = run, place, replace
        self._saved = time.perf_counter()

    def save_if_due(self, networks: int) -> None:
        """Save if the last checkpoint is more than `CHECKPOINT_SECONDS` ago."""
        if time.perf_counter() - self._saved > CHECKPOINT_SECONDS:
            self.save()

    def save(self) -> None:
        """Save if anything has been counted."""
        if self._run.counted == 0:
            return
        folder.save_checkpoint(self._run.study(), self._place, replace=self._replace)
        self._replace = False
        self._saved = time.perf_counter()


@contextlib.contextmanager
def signals() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt as Ctrl-C does, and ignore all later signals of both."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _again(out: str, estimator: str | None, samples: int | None) -> str:
    """Return the command that resumes this run with the same estimator and samples."""
    given = {"out": out, "estimator": estimator, "samples": samples}
    words = [f"--{name} {shlex.quote(str(value))}" for name, value in given.items() if value]
    return " ".join(["obstruction run --resume", *words])


def _interrupted(
    networks: int, target: int, out: str, again: str, signalled: KeyboardInterrupt
) -> int:
    """Print what was saved before an interruption, and return the exit code."""
    if networks:
        left = "" if networks < target else ", but table and pictures are not made yet"
        kept = f"{networks:,} of {target:,} networks are saved in {out}{left}; go on with: {again}"
    else:
        kept = "no network was counted yet and nothing was changed"
    click.echo(f"obstruction: interrupted; {kept}", err=True)
    return int(signalled.args[0])


def _draw(study: Study) -> dict[str, bytes]:
    from obstruction.reporting import heatmaps

    figure = heatmaps.figure(study.table())
    streams = {name: io.BytesIO() for name in folder.PICTURES}
    for name, stream in streams.items():
        heatmaps.write(figure, stream, kind=name.rpartition(".")[2])
    figure.clear()  # frees its arrays at once
    return {name: stream.getvalue() for name, stream in streams.items()}


def _speed(study: Study, drawn: int, seconds: float, weighing: float) -> Iterator[str]:
    """Yield lines on the networks and the weighted samples that were drawn, and on their speed."""
    threads = counted(study.threads, "thread")
    if drawn:
        yield (
            f"  {counted(drawn, 'network')} per cell drawn in {duration(seconds)} "
            f"on {threads}: {drawn / seconds:,.0f} networks/s "
            f"in each of {study.counts.obstructed.size:,} cells"
        ).removesuffix(" in each of 1 cells")
    if study.rare is not None:
        yield (
            f"  {study.samples:,} weighted samples in "
            f"{counted(study.rare.where.sum(), 'rare cell')} in {duration(weighing)} on {threads}"
        )


def verdict(study: Study | ModelStudy, level: float, quiet: bool = False) -> int:
    """Print whether the counts of a study agree with the exact values, and return the exit code."""
    agreement = study.agreement(level=level)
    if not quiet:
        click.echo(str(agreement))
    return exit_code(agreement)
