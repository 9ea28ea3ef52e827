"""Run a study: the part that `obstruction.sample` and the command ``obstruction run`` share.

The arguments are checked, networks are counted, and rare cells are estimated by weighted samples.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from obstruction.sampling.config import StudyConfig
from obstruction.sampling.grid_sampler import GridSampler, compile_kernels
from obstruction.sampling.runner import Runner
from obstruction.schemes import SchemeLike
from obstruction.studies.rare_cells import DEFAULT_SAMPLES, check_estimator
from obstruction.studies.study import Study
from obstruction.tools.checks import LARGEST_COUNT, check_count
from obstruction.tools.workers import resolve_threads


class StudyRun:
    """A study in the making. The arguments and their errors are those of `sample`.

    Attributes
    ----------
    config : StudyConfig
    estimator : {"direct", "tilted", "auto"}
    prior : Study or None
        A study of the same configuration that is continued.
    target : int
        The number of networks to reach in every cell.
    first : int or None
        The number of the first network of a part of a study, as in `Study`.
    threads : int
        The number of workers, which is at most the number of cores.
    seconds : float
        The time that the counting has taken, including that of the prior study.
    """

    def __init__(
        self,
        config: StudyConfig,
        *,
        networks: Any,
        threads: Any = None,
        estimator: str = "direct",
        samples: Any = DEFAULT_SAMPLES,
        prior: Study | None = None,
        first: Any = None,
    ) -> None:
        self.target = check_count("networks", networks)
        self.first = None if first is None else check_first(first, self.target)
        self.threads = resolve_threads(threads)
        self.prior = prior
        self.config = config
        self.estimator = check_estimator(config, estimator)
        self._samples = check_count("samples", samples, least=2)
        sampler = GridSampler(config)
        sampler.check_memory(self.threads)
        if prior is None:
            self._runner, self.seconds = Runner(sampler), 0.0
        else:
            self._runner = Runner(sampler, prior.done, prior.counts)
            self.seconds = prior.seconds

    @classmethod
    def resume(cls, out: str, prior: Study, given: Mapping[str, Any], **options: Any) -> StudyRun:
        """Continue the study in the folder ``out``.

        The arguments ``given`` for `StudyConfig.of` must describe the same study. The ``options``
        are arguments of `StudyRun`. The number of networks, the estimator and the number of samples
        are by default those of the study. The number of networks must not be less than was counted.
        """
        if prior.others:
            raise ValueError(
                f"out = {out}: is merged from studies of several seeds and cannot go on; draw "
                "other networks in another folder and merge them with it"
            )
        mine = prior.config
        own = {name: getattr(mine, name) for name in ("schemes", "d", "l", "seed", "plan")}
        difference = StudyConfig.of(**{**own, **given}).difference(mine)
        if difference:
            raise ValueError(f"out = {out}: cannot resume another study: {difference}")
        kept = {"networks": prior.target, "estimator": prior.estimator, "samples": prior.samples}
        kept["first"] = prior.first
        run = cls(mine, prior=prior, **{**kept, **options})
        wanted, held = f"networks = {run.target:,}: {out}", f"{prior.networks:,}"
        if run.target < prior.networks:
            raise ValueError(f"{wanted} holds {held} networks already")
        last = max((stop for _, stop in prior.done), default=0) - (prior.first or 0)
        if run.target < last:  # an interruption leaves gaps, and what is counted is kept
            raise ValueError(
                f"{wanted} holds {held} of the first {last:,} networks already; "
                f"ask for {last:,} or more"
            )
        return run

    @property
    def counted(self) -> int:
        """The number of networks counted so far, including those of the prior study."""
        return self._runner.counted

    @property
    def finished(self) -> bool:
        """Whether the prior study has everything that was asked for."""
        return (
            self.prior is not None
            and self.prior.networks >= self.target
            and (self.prior.estimator, self.prior.samples) == (self.estimator, self._samples)
        )

    def study(self) -> Study:
        """Return the study with the counts so far and without estimates of rare cells."""
        done, counts = self._runner.snapshot()
        made = (self.target, self.seconds, self.threads, self.estimator, self._samples)
        return Study(self.config, counts, done, *made, first=self.first)

    def count(
        self, watch: Callable[[int], None] = lambda networks: None, *, progress: bool = False
    ) -> None:
        """Count the networks that are missing, and show a bar on the terminal if asked to.

        The function ``watch`` is called now and then with the number of networks counted so far. An
        exception in it, or a `KeyboardInterrupt`, ends the counting. The counts are kept.
        """
        compile_kernels()
        before, begun = self.seconds, time.perf_counter()

        def look(networks: int) -> None:
            self.seconds = before + time.perf_counter() - begun
            move(networks)
            watch(networks)

        with progress_bar(progress, self.target, self.counted) as move:
            try:
                start = self.first or 0
                stop = start + self.target
                self._runner.run(stop, start=start, threads=self.threads, watch=look)
            finally:
                self.seconds = before + time.perf_counter() - begun

    def weigh(self, *, progress: bool = False) -> Study:
        """Return the counted study with estimates of its rare cells."""
        with progress_bar(progress, 100, unit="%") as move:
            return self.study().with_rare(
                threads=self.threads, watch=lambda share: move(int(100 * share))
            )


def check_first(first: Any, networks: int) -> int:
    """Return the number of the first network of a part, which leaves numbers for all networks."""
    return check_count("networks-from", first, least=0, most=LARGEST_COUNT - networks)


def progress_bar(
    shown: bool, total: int, start: int = 0, unit: str = " networks"
) -> AbstractContextManager[Callable[[int], None]]:
    """Return a progress bar, or a substitute that does nothing if no bar is to be shown."""
    if not shown:
        return nullcontext(lambda number: None)
    from obstruction.tools.progress import Bar

    return Bar(total, start, unit)


def sample(
    schemes: SchemeLike | Iterable[SchemeLike],
    *,
    d: Any,
    l: Any,
    networks: Any = 100_000,
    seed: Any = 0,
    plan: str = "nested",
    threads: Any = None,
    estimator: str = "direct",
    samples: Any = DEFAULT_SAMPLES,
    progress: bool = False,
) -> Study:
    """Draw networks over a grid and count the obstructed ones.

    Parameters
    ----------
    schemes : str, InitScheme, or several of them
        The schemes, their names, or labels with options (``"kaiming_normal:mode=fan_out"``).
    d, l : int or iterable of int
        The numbers of inputs and of hidden neurons, each >= 1.
    networks : int
        The number of networks per cell, >= 1. Integral floats such as ``1e6`` are allowed.
    seed : int
        The seed, >= 0. The same seed gives the same counts on any number of threads.
    plan : {"nested", "independent"}
        With ``"nested"``, all cells, and all schemes of the same laws, share large networks and use
        the leading part of each. The count of every cell then has its exact binomial law, but the
        cells depend on each other. With ``"independent"``, each cell draws networks of its own,
        which is far slower.
    threads : int, optional
        The number of workers, >= 1. The default is the number of cores that this process may use,
        and a larger number is reduced to it with a warning.
    estimator : {"direct", "tilted", "auto"}
        With ``"direct"``, the estimate of every cell is its rate of obstructed networks. With
        ``"tilted"``, it comes from weighted samples (`obstruction.sampling.rare.estimate`), which
        can estimate probabilities of any size. With ``"auto"``, it comes from weighted samples only
        in cells in which fewer than 100 pathological neurons are expected. Networks are counted
        in all cells in any case.
    samples : int
        The number of weighted samples per cell, >= 2.
    progress : bool
        Whether to show a bar on the terminal.

    Returns
    -------
    Study

    Raises
    ------
    ValueError
        If an argument is out of its range, or the grid does not fit into memory.

    Examples
    --------
    >>> study = sample(["xavier_normal", "kaiming_normal"], d=[5], l=range(1, 4), networks=1e3)
    >>> study.counts.obstructed.shape
    (2, 1, 3)
    """
    run = StudyRun(
        StudyConfig.of(schemes, d=d, l=l, seed=seed, plan=plan),
        networks=networks,
        threads=threads,
        estimator=estimator,
        samples=samples,
    )
    if threads is not None and run.threads < threads:
        warnings.warn(
            f"threads = {threads}: this process may use {run.threads} cores, so it does",
            stacklevel=2,
        )
    run.count(progress=progress)
    return run.weigh(progress=progress)
