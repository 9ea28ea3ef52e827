"""Making a study: check the arguments, count networks, and weigh samples of rare cells.

Both `obstruction.sample` and the command ``obstruction run`` make their studies here.
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
from obstruction.tools.checks import check_count
from obstruction.tools.workers import resolve_threads


class StudyRun:
    """A study in the making.

    Parameters
    ----------
    config : StudyConfig
    networks : int
        How many networks to reach in every cell, >= 1.
    threads : int, optional
    estimator : {"direct", "tilted", "auto"}
    samples : int
        As for `sample`.
    prior : Study, optional
        A study of the same configuration that is to be continued.

    Attributes
    ----------
    prior : Study or None
    target : int
        The networks to reach.
    threads : int
        Workers; not more than there are cores.
    seconds : float
        How long the counting has taken, that of the prior study included.

    Raises
    ------
    ValueError
        If an argument is out of its range, or the grid does not fit into memory.
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
    ) -> None:
        self.target = check_count("networks", networks)
        self.threads = resolve_threads(threads)
        self.prior = prior
        self._config = config
        self._estimator = check_estimator(config, estimator)
        self._samples = check_count("samples", samples, least=2)
        sampler = GridSampler(config)
        sampler.check_memory(self.threads)
        if prior is None:
            self._runner, self.seconds = Runner(sampler), 0.0
        else:
            self._runner = Runner(sampler, prior.done, prior.counts)
            self.seconds = prior.seconds

    @classmethod
    def resume(
        cls,
        out: str,
        prior: Study,
        given: Mapping[str, Any],
        **options: Any,
    ) -> StudyRun:
        """Continue a study.

        Parameters
        ----------
        out : str
            The folder that holds it, for messages.
        prior : Study
        given : mapping
            Arguments of `StudyConfig.of`, which must describe the same study.
        **options
            Arguments of `StudyRun`. The number of networks, the estimator and the number of samples
            are by default the study's own.

        Raises
        ------
        ValueError
            If another study is described, the networks to reach are fewer than those counted, or an
            argument is out of its range.
        """
        mine = prior.config
        own = {name: getattr(mine, name) for name in ("schemes", "d", "l", "seed", "plan")}
        difference = StudyConfig.of(**{**own, **given}).difference(mine)
        if difference:
            raise ValueError(f"out = {out}: cannot resume another study: {difference}")
        kept = {"networks": prior.target, "estimator": prior.estimator, "samples": prior.samples}
        run = cls(mine, prior=prior, **{**kept, **options})
        wanted, held = f"networks = {run.target:,}: {out}", f"{prior.networks:,}"
        if run.target < prior.networks:
            raise ValueError(f"{wanted} holds {held} networks already")
        last = max((stop for _, stop in prior.done), default=0)
        if run.target < last:  # an interruption leaves gaps, and what is counted is kept
            raise ValueError(
                f"{wanted} holds {held} of the first {last:,} networks already; "
                f"ask for {last:,} or more"
            )
        return run

    @property
    def counted(self) -> int:
        """Networks counted so far, those of the prior study included."""
        return self._runner.counted

    @property
    def finished(self) -> bool:
        """Whether the prior study holds all that is asked for."""
        return (
            self.prior is not None
            and self.prior.networks >= self.target
            and (self.prior.estimator, self.prior.samples) == (self._estimator, self._samples)
        )

    def study(self) -> Study:
        """Return the study as far as it is counted, without estimates of rare cells."""
        done, counts = self._runner.snapshot()
        return Study(
            self._config,
            counts,
            done,
            self.target,
            self.seconds,
            self.threads,
            self._estimator,
            self._samples,
        )

    def count(
        self, watch: Callable[[int], None] = lambda networks: None, *, progress: bool = False
    ) -> None:
        """Count the networks that are missing.

        Parameters
        ----------
        watch : callable, optional
            Called now and then with the number of networks counted so far. An exception in it, or
            a `KeyboardInterrupt`, ends the counting; what was counted is kept.
        progress : bool
            Whether to show a bar on the terminal.
        """
        compile_kernels()
        before, begun = self.seconds, time.perf_counter()

        def look(networks: int) -> None:
            self.seconds = before + time.perf_counter() - begun
            move(networks)
            watch(networks)

        with _bar(progress, self.target, self.counted) as move:
            try:
                self._runner.run(self.target, threads=self.threads, watch=look)
            finally:
                self.seconds = before + time.perf_counter() - begun

    def weigh(self, *, progress: bool = False) -> Study:
        """Return the counted study with its rare cells estimated.

        Parameters
        ----------
        progress : bool
            Whether to show a bar on the terminal.
        """
        with _bar(progress, 100, unit="%") as move:
            return self.study().with_rare(
                threads=self.threads, watch=lambda share: move(int(100 * share))
            )


def _bar(
    shown: bool, total: int, start: int = 0, unit: str = " networks"
) -> AbstractContextManager[Callable[[int], None]]:
    """Return a progress bar, or what takes its place if none is to be shown."""
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
        Names, labels with options (``"kaiming_normal:mode=fan_out"``) or schemes.
    d, l : int or iterable of int
        The numbers of inputs and of hidden neurons, each >= 1.
    networks : int
        Networks per cell, >= 1; whole floats such as ``1e6`` are taken.
    seed : int
        The seed, >= 0. The same seed gives the same counts on any number of threads.
    plan : {"nested", "independent"}
        ``"nested"``: each network is the leading part of one large one, which serves all cells
        and all schemes of one law; every cell has its exact binomial count, cells depend on each
        other. ``"independent"``: each cell draws its own networks, which is far slower.
    threads : int, optional
        Workers, >= 1; by default all cores this process may use. More are not used, with a
        warning.
    estimator : {"direct", "tilted", "auto"}
        ``"direct"``: every cell's estimate is its rate of obstructed networks. ``"tilted"``: it
        comes from weighted samples (`obstruction.sampling.rare.estimate`), which see probabilities
        of any size. ``"auto"``: counts where some 100 pathological neurons are to be expected,
        weighted samples elsewhere. Counts are made in any case.
    samples : int
        Weighted samples per cell, >= 2.
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
