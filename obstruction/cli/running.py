"""A run from start to finish: sample with checkpoints, verify, draw, write, report."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import shlex
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import click

from obstruction.sampling.config import StudyConfig
from obstruction.sampling.sampler import Sampler, check_memory, compile_kernels
from obstruction.studies import folder
from obstruction.studies.rare_cells import DEFAULT_SAMPLES, check_estimator
from obstruction.studies.study import Study, current
from obstruction.tools.checks import check_count, check_probability
from obstruction.tools.progress import Bar
from obstruction.tools.words import counted, duration
from obstruction.tools.workers import resolve_threads

if TYPE_CHECKING:
    from obstruction.studies.verdict import Agreement

EXIT_DISAGREES: Final = 1

CHECKPOINT_SECONDS: Final = 30.0
"""How often a run saves what it has counted."""

_POWER: Final = 0.9
"""The power at which `obstruction.studies.verdict` states what a run would have caught."""


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

    Parameters
    ----------
    given, defaults : mapping
        Arguments of `StudyConfig.of`: those the user gave, and the others' values in a new study.
        A resumed study keeps its own.
    out : str
        The folder.
    networks, default_networks : int
        Networks to reach, and how many if the user did not say.
    threads : int, optional
    estimator : {"direct", "tilted", "auto"}, optional
    samples : int, optional
        As in `obstruction.sample`; a resumed study keeps its own, a new one is ``"auto"``.
    mode : {"new", "overwrite", "resume"}
        What to do with a study that the folder holds.
    level : float
        False-alarm rate of the verdict.
    quiet : bool
        Whether to print nothing but errors.

    Raises
    ------
    ValueError
        If an argument is wrong or the folder does not allow it; nothing has been touched then.
    """
    check_level(level)
    config = StudyConfig.of(**{**defaults, **given})
    resolve_threads(threads)
    if estimator is not None:
        check_estimator(config, estimator)
    if samples is not None:
        check_count("samples", samples, least=2)
    prior = _prior(out, mode)
    if prior is None:
        target = networks or default_networks
    else:
        config, target = _continued(prior, given, networks, out)
    wanted = _wanted(prior, estimator, samples)
    check_estimator(config, wanted[0])
    workers = resolve_threads(threads)
    if threads is not None and threads > workers and not quiet:
        present = f"this process may use {counted(workers, 'core')}, so it does"
        click.echo(f"obstruction: threads = {threads}: {present}", err=True)
    check_memory(config, workers)
    made = not Path(out).exists()
    place = folder.prepare(out)
    if (
        prior is not None
        and prior.networks >= target
        and (prior.estimator, prior.samples) == wanted
        and not (place / folder.CHECKPOINT).exists()
    ):
        if not quiet:
            click.echo(prior.describe())
            click.echo(f"{out} holds these {prior.networks:,} networks already; nothing to draw.")
        return verdict(prior, level, quiet)

    again = _again(out, estimator, samples)
    run = _Run(config, prior, target, workers, wanted, place, replace=mode == "overwrite")
    with _signals():
        try:
            study = run.sample(quiet)
        except KeyboardInterrupt as signalled:
            run.save()
            if made and run.sampler.networks == 0:
                with contextlib.suppress(OSError):
                    place.rmdir()
            return _interrupted(run.sampler.networks, target, out, again, signalled)
        seconds = run.seconds
        run.save()
        try:
            begun = time.perf_counter()
            study = _with_rare(study, workers, quiet)
            weighing = time.perf_counter() - begun
            agreement, files = _conclude(study, place, level)
        except KeyboardInterrupt as signalled:
            return _interrupted(study.networks, target, out, again, signalled)
    if not quiet:
        click.echo(study.describe())
        for line in _speed(study, run.drawn, seconds, weighing):
            click.echo(line)
        click.echo(str(agreement))
        click.echo("Written: " + ", ".join(str(file) for file in files))
    return _code(agreement)


def check_level(level: float) -> None:
    """Refuse a false-alarm rate that is none, before any work is done.

    Raises
    ------
    ValueError
        If it is not between 0 and the power that `obstruction.studies.verdict` promises.
    """
    check_probability("level", level, below=_POWER)


def _prior(out: str, mode: str) -> Study | None:
    """Return the study to continue, or see to it that none is in the way."""
    there = folder.holds_study(out)
    if mode == "resume":
        if not there:
            raise ValueError(f"out = {out}: holds no study to resume")
        return folder.load(out)
    if there and mode == "new":
        raise ValueError(
            f"out = {out}: holds a study already; "
            "--overwrite replaces it, --resume goes on with it, --out names another folder"
        )
    if mode == "new" and (names := folder.in_the_way(out)):
        raise ValueError(
            f"out = {out}: holds {', '.join(names)} already; --overwrite replaces such files"
        )
    return None


def _continued(
    prior: Study, given: Mapping[str, Any], networks: int | None, out: str
) -> tuple[StudyConfig, int]:
    mine = prior.config
    asked = StudyConfig.of(
        **{
            "schemes": mine.schemes,
            "d": mine.d,
            "l": mine.l,
            "seed": mine.seed,
            "plan": mine.plan,
            **given,
        }
    )
    difference = asked.difference(mine)
    if difference:
        raise ValueError(f"out = {out}: cannot resume another study: {difference}")
    target = check_count("networks", networks or prior.target)
    if target < prior.networks:
        raise ValueError(f"networks = {target:,}: {out} holds {prior.networks:,} networks already")
    last = max((stop for _, stop in prior.done), default=0)
    if target < last:  # an interruption leaves gaps, and what is counted cannot be taken back
        raise ValueError(
            f"networks = {target:,}: {out} holds {prior.networks:,} of the first {last:,} networks "
            f"already; ask for {last:,} or more"
        )
    return mine, target


def _wanted(prior: Study | None, estimator: str | None, samples: int | None) -> tuple[str, int]:
    """Return the estimator and the number of weighted samples: given, kept or by default."""
    kept = ("auto", DEFAULT_SAMPLES) if prior is None else (prior.estimator, prior.samples)
    return estimator or kept[0], samples or kept[1]


def _with_rare(study: Study, workers: int, quiet: bool) -> Study:
    """Estimate the rare cells, showing how that goes on."""
    if quiet:
        return study.with_rare(threads=workers)
    with Bar(100, unit="%") as shown:
        return study.with_rare(threads=workers, watch=shown.share)


class _Run:
    """A sampler at work that saves itself."""

    def __init__(
        self,
        config: StudyConfig,
        prior: Study | None,
        target: int,
        workers: int,
        wanted: tuple[str, int],
        place: Path,
        *,
        replace: bool,
    ) -> None:
        self.sampler = (
            Sampler(config) if prior is None else Sampler(config, prior.done, prior.counts)
        )
        self.before = (0, 0.0) if prior is None else (prior.networks, prior.seconds)
        self.target, self.workers, self.wanted = target, workers, wanted
        self.place, self.replace = place, replace
        self.begun = self.saved = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.begun

    @property
    def drawn(self) -> int:
        return self.sampler.networks - self.before[0]

    def sample(self, quiet: bool) -> Study:
        bar = contextlib.nullcontext() if quiet else Bar(self.target, self.before[0])
        with bar as shown:

            def watch(networks: int) -> None:
                if shown is not None:
                    shown(networks)
                if time.perf_counter() - self.saved > CHECKPOINT_SECONDS:
                    self.save()

            compile_kernels()
            self.begun = self.saved = time.perf_counter()
            self.sampler.run(self.target, threads=self.workers, watch=watch)
        return self.study()

    def study(self) -> Study:
        study = current(self.sampler, self.target, self.workers, self.before[1] + self.seconds)
        return dataclasses.replace(study, estimator=self.wanted[0], samples=self.wanted[1])

    def save(self) -> None:
        """Save what has been counted, if anything has."""
        if self.sampler.networks == 0:
            return
        folder.save_checkpoint(self.study(), self.place, replace=self.replace)
        self.replace = False
        self.saved = time.perf_counter()


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Turn SIGTERM into the interruption that Ctrl-C is; within, a second of either is ignored."""

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
    """Return the command that goes on; until it has, a finished study keeps its estimator."""
    given = {"out": out, "estimator": estimator, "samples": samples}
    words = [f"--{name} {shlex.quote(str(value))}" for name, value in given.items() if value]
    return " ".join(["obstruction run --resume", *words])


def _interrupted(
    networks: int, target: int, out: str, again: str, signalled: KeyboardInterrupt
) -> int:
    """Say what an interruption left behind; return the exit code."""
    if networks:
        left = "" if networks < target else ", but table and pictures are not made yet"
        kept = f"{networks:,} of {target:,} networks are saved in {out}{left}; go on with: {again}"
    else:
        kept = "no network was counted yet and nothing was changed"
    click.echo(f"obstruction: interrupted; {kept}", err=True)
    return int(signalled.args[0])


def _conclude(study: Study, place: Path, level: float) -> tuple[Agreement, list[Path]]:
    """Draw, verify and write; one after the other, as each takes memory on a large grid."""
    pictures = _draw(study)
    agreement = study.agreement(level=level)
    return agreement, folder.save(study, place, pictures, agreement)


def _draw(study: Study) -> dict[str, bytes]:
    from obstruction.reporting import heatmaps

    figure = heatmaps.figure(study.table())
    streams = {name: io.BytesIO() for name in folder.PICTURES}
    for name, stream in streams.items():
        heatmaps.write(figure, stream, kind=name.rpartition(".")[2])
    figure.clear()  # or its arrays would stay until the next collection of cycles
    return {name: stream.getvalue() for name, stream in streams.items()}


def _speed(study: Study, drawn: int, seconds: float, weighing: float) -> Iterator[str]:
    """Say what was drawn and how fast; ``weighing`` is the time of the weighted samples."""
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


def verdict(study: Study, level: float, quiet: bool = False) -> int:
    """Print what the counts of a study say about the exact values; return the exit code."""
    agreement = study.agreement(level=level)
    if not quiet:
        click.echo(str(agreement))
    return _code(agreement)


def _code(agreement: Agreement) -> int:
    return EXIT_DISAGREES if agreement.verdict == "disagrees" else 0
