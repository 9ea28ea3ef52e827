"""Studies: sample a grid, look at it as a table, hold it against the exact values."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from obstruction.sampling.config import StudyConfig
from obstruction.sampling.counts import Counts
from obstruction.sampling.sampler import Range, Sampler, check_memory
from obstruction.schemes import SchemeLike
from obstruction.studies.rare_cells import (
    DEFAULT_SAMPLES,
    RareEstimates,
    check_estimator,
    estimate_rare,
    rare_cells,
)
from obstruction.tools.checks import check_count
from obstruction.tools.workers import resolve_threads

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from obstruction.studies.verdict import Agreement


@dataclass(frozen=True, eq=False)
class Study:
    """The counts of a sampled grid and what follows from them. Made by `sample` and `load`.

    Attributes
    ----------
    config : StudyConfig
        Schemes, axes, seed and plan.
    counts : Counts
        Integer counts of shape ``(schemes, nd, nl)``.
    done : tuple of (int, int)
        The ranges ``start ... stop - 1`` of networks that were counted; one range unless the run
        was interrupted.
    target : int
        How many networks were asked for.
    seconds : float
        How long the sampling took.
    threads : int
        On how many threads it ran last.
    estimator : {"direct", "tilted", "auto"}
        Which cells are, or are to be, estimated from weighted samples instead of counts.
    samples : int
        How many weighted samples such a cell gets.
    rare : RareEstimates, optional
        The estimates of these cells; None until they are made, or if there is no such cell.
    """

    config: StudyConfig
    counts: Counts
    done: tuple[Range, ...]
    target: int
    seconds: float = 0.0
    threads: int = 0
    estimator: str = "direct"
    samples: int = DEFAULT_SAMPLES
    rare: RareEstimates | None = None

    @property
    def networks(self) -> int:
        """Networks drawn per cell."""
        return self.counts.networks

    @property
    def complete(self) -> bool:
        """Whether all networks asked for were drawn."""
        return self.networks >= self.target

    def table(self) -> pd.DataFrame:
        """Return the tidy table, one row a cell; `obstruction.studies.table.COLUMNS` explains it.

        Raises
        ------
        ValueError
            If no network was drawn yet.

        Examples
        --------
        >>> import obstruction as ob
        >>> study = ob.sample("kaiming_normal", d=[2, 10], l=[10], networks=1000, seed=0)
        >>> study.table()[["scheme", "d", "l", "obstructed", "exact"]].round(4)
                   scheme   d   l  obstructed   exact
        0  kaiming_normal   2  10         589  0.5981
        1  kaiming_normal  10  10         110  0.0967
        """
        return self._table.copy(deep=False)  # pandas copies what is changed

    def agreement(self, *, level: float = 1e-3) -> Agreement:
        """Return the verdict on estimates against exact values; see `obstruction.studies.verdict`.

        Parameters
        ----------
        level : float
            The family-wise false-alarm rate, between 0 and 1.
        """
        from obstruction.studies.verdict import agreement

        return agreement(self._table, level=level)

    def with_rare(
        self, *, threads: int = 1, watch: Callable[[float], None] = lambda share: None
    ) -> Study:
        """Return the study with its rare cells estimated, as its ``estimator`` says.

        Parameters
        ----------
        threads : int
            Without influence on the result.
        watch : callable, optional
            Called now and then with the share of the work that is done; an exception ends it.
        """
        where = rare_cells(self.config, self.networks, self.estimator)
        rare = estimate_rare(self.config, where, samples=self.samples, threads=threads, watch=watch)
        return replace(self, rare=rare)

    @cached_property
    def _table(self) -> pd.DataFrame:
        from obstruction.studies import table

        if self.networks == 0:
            raise ValueError("networks = 0: nothing was drawn yet")
        return table.build(self.config, self.counts, self.rare)

    def describe(self) -> str:
        """Return two lines that say which study this is."""
        config = self.config
        state = "" if self.complete else f" of {self.target:,} (interrupted)"
        _, nd, nl = config.shape
        return (
            f"{', '.join(scheme.label for scheme in config.schemes)}\n"
            f"  d {_span(config.d)}, l {_span(config.l)}: {nd:,} x {nl:,} cells, "
            f"{self.networks:,}{state} {'network' if self.networks == 1 else 'networks'} each, "
            f"{config.plan} plan, seed {config.seed}"
        )

    def __repr__(self) -> str:
        schemes = ", ".join(scheme.label for scheme in self.config.schemes)
        _, nd, nl = self.config.shape
        return (
            f"<Study of {schemes}: {nd} x {nl} cells (d, l), {self.networks:,} networks each, "
            f"{self.config.plan}, seed {self.config.seed}>"
        )


def _span(sizes: tuple[int, ...]) -> str:
    return f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"


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
    config = StudyConfig.of(schemes, d=d, l=l, seed=seed, plan=plan)
    networks = check_count("networks", networks)
    workers = resolve_threads(threads)
    if threads is not None and workers < threads:
        warnings.warn(
            f"threads = {threads}: this process may use {workers} cores, so it does", stacklevel=2
        )
    check_estimator(config, estimator)
    samples = check_count("samples", samples, least=2)
    check_memory(config, workers)
    sampler = Sampler(config)
    if progress:
        from obstruction.tools.progress import Bar

        with Bar(networks) as bar:
            study = run(sampler, networks, threads=workers, watch=bar)
        study = replace(study, estimator=estimator, samples=samples)
        with Bar(100, unit="%") as bar:
            return study.with_rare(threads=workers, watch=bar.share)
    study = run(sampler, networks, threads=workers)
    return replace(study, estimator=estimator, samples=samples).with_rare(threads=workers)


def run(
    sampler: Sampler,
    networks: int,
    *,
    threads: int,
    watch: Callable[[int], None] = lambda networks: None,
    before: float = 0.0,
) -> Study:
    """Bring a sampler to a number of networks and return the study; ``before`` in seconds."""
    begun = time.perf_counter()
    sampler.run(networks, threads=threads, watch=watch)
    return current(sampler, networks, threads, before + time.perf_counter() - begun)


def current(sampler: Sampler, networks: int, threads: int, seconds: float) -> Study:
    """Return the study as far as a sampler has got."""
    done, counts = sampler.snapshot()
    return Study(sampler.config, counts, done, networks, seconds, threads)
