"""The command ``run``: sample with checkpoints, compare with exact values, draw and write."""

from __future__ import annotations

import io
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from obstruction.cli.base import complain, exit_code, need_output
from obstruction.cli.keeping import Keeper
from obstruction.cli.memory import check_memory
from obstruction.cli.signals import code_of, signals
from obstruction.sampling.config import StudyConfig
from obstruction.studies import folder
from obstruction.studies.run import StudyRun
from obstruction.studies.study import Study
from obstruction.tools.checks import check_probability
from obstruction.tools.folder_lock import FolderLock, only_writer
from obstruction.tools.progress import tell
from obstruction.tools.words import counted, duration

if TYPE_CHECKING:
    from obstruction.studies.factories.model_study import ModelStudy

CHECKPOINT_SECONDS: Final = 30.0
"""The least time between checkpoints, in seconds, if the user does not say."""

_POWER: Final = 0.9
"""The power at which `obstruction.studies.verdict` states which deviations a run detects."""


def run_study(
    given: Mapping[str, Any],
    defaults: Mapping[str, Any],
    out: str,
    *,
    networks: int | None,
    default_networks: int,
    first: int | None,
    threads: int | None,
    estimator: str | None,
    samples: int | None,
    mode: str,
    level: float,
    quiet: bool,
    checkpoint_seconds: float | None = None,
) -> int:
    """Run the command ``obstruction run`` and return its exit code.

    ``given`` holds the arguments of `StudyConfig.of` that the user gave, and ``defaults`` all of
    them for a new study. ``first`` is the number of the first network of a part. ``mode`` is "new",
    "overwrite" or "resume". A resumed study keeps the configuration, estimator and samples that it
    has. If an argument or the folder is wrong, the function raises ValueError and touches nothing.
    """
    check_level(level)
    check_folder(out, mode)
    if not quiet:
        need_output()
    asked = {"networks": networks, "threads": threads, "estimator": estimator, "samples": samples}
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    run = None
    if first is not None:
        options["first"] = first
    if mode != "resume":
        config = StudyConfig.of(**{**defaults, **given})
        run = StudyRun(config, **{"networks": default_networks, "estimator": "auto", **options})
    with signals(), only_writer(out) as lock:
        check_folder(out, mode)  # another run may have ended since
        if run is None:
            run = StudyRun.resume(out, folder.load(out), given, **options)
        check_memory(run)
        if not quiet:
            echo_predecessor(lock, out)
            if threads is not None and threads > run.threads:
                present = f"this process may use {counted(run.threads, 'core')}, so it does"
                tell(f"obstruction: threads = {threads}: {present}")
        place = folder.prepare(out)
        if run.prior is not None and run.finished and not (place / folder.CHECKPOINT).exists():
            if not quiet:
                click.echo(run.prior.describe())
                click.echo(f"{out} holds these {run.counted:,} networks already; nothing to draw.")
            return verdict(run.prior, level, quiet)
        seconds = CHECKPOINT_SECONDS if checkpoint_seconds is None else checkpoint_seconds
        keeper = Keeper(run, out, lock, seconds, replace=mode == "overwrite")
        return _kept_run(run, keeper, _Request(out, estimator, samples, level, quiet))


def echo_predecessor(lock: FolderLock, out: str) -> None:
    """Say that a run takes over a folder from one that was killed."""
    if lock.left_by is not None:
        click.echo(f"{out} is taken over from {lock.left_by}, which was killed.")


@dataclass(frozen=True)
class _Request:
    """What a run needs to know besides its networks; the names are those of `run_study`."""

    out: str
    estimator: str | None
    samples: int | None
    level: float
    quiet: bool

    def again(self, out: str) -> str:
        """Return the command that resumes the run in a folder, with its estimator and samples."""
        given = {"out": out, "estimator": self.estimator, "samples": self.samples}
        words = [f"--{name} {shlex.quote(str(value))}" for name, value in given.items() if value]
        return " ".join(["obstruction run --resume", *words])


def _kept_run(run: StudyRun, keeper: Keeper, request: _Request) -> int:
    """Count, save, judge and draw; whatever happens, what was counted is kept."""
    quiet = request.quiet
    before, seconds_before = run.counted, run.seconds
    try:
        run.count(keeper.save_if_due, progress=not quiet)
        keeper.save()
        begun = time.perf_counter()
        study = run.weigh(progress=not quiet)
        weighing = time.perf_counter() - begun
        # On a large grid each of these steps takes much memory, so none overlaps another.
        pictures = draw(study)
        agreement = study.agreement(level=request.level)
        files, complaint = keeper.finish(study, pictures, agreement)
    except KeyboardInterrupt as signalled:
        return _interrupted(run, keeper, request, signalled)
    except Exception as error:
        kept = _what_is_kept(run, keeper, request)
        if isinstance(error, ValueError):
            raise ValueError(f"{error}; {kept}") from error
        tell(f"obstruction: {kept}")
        raise
    if not quiet:
        click.echo(study.describe())
        if study.first is not None and study.estimator != "direct":
            click.echo("  a part of a study: weighted samples are drawn when parts are merged")
        drawn, seconds = run.counted - before, run.seconds - seconds_before
        for line in _speed(study, drawn, seconds, weighing):
            click.echo(line)
        click.echo(str(agreement))
        click.echo("Written: " + ", ".join(str(file) for file in files))
    if complaint:
        raise ValueError(complaint)
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


def _interrupted(
    run: StudyRun, keeper: Keeper, request: _Request, signalled: KeyboardInterrupt
) -> int:
    """Save what was counted before an interruption, say so, and return the exit code."""
    complain(f"interrupted; {_what_is_kept(run, keeper, request)}")
    return code_of(signalled)


def _what_is_kept(run: StudyRun, keeper: Keeper, request: _Request) -> str:
    """Save what was counted, elsewhere if need be, and return in words where it is."""
    networks, target, out = run.counted, run.target, request.out
    if not networks:
        return "no network was counted yet and nothing was changed"
    if keeper.kept < networks:
        keeper.save()
    if keeper.kept < networks:
        place = keeper.rescue()
        if place is not None:
            out = str(place)
        elif keeper.kept:
            networks = keeper.kept
        else:
            return f"{networks:,} networks are lost: {keeper.failed}, nor can another folder"
    left = "" if networks < target else ", but table and pictures are not made yet"
    return (
        f"{networks:,} of {target:,} networks are saved in {out}{left}; go on with: "
        f"{request.again(out)}"
    )


def draw(study: Study) -> dict[str, bytes]:
    """Return the names and contents of the pictures of a study."""
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
