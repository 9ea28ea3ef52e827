"""Studies, which hold the counts of a sampled grid and give its table and its verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from obstruction.sampling.config import StudyConfig
from obstruction.sampling.counts import Counts
from obstruction.sampling.runner import Range
from obstruction.studies.rare_cells import (
    DEFAULT_SAMPLES,
    RareEstimates,
    estimate_rare,
    rare_cells,
)
from obstruction.tools.words import listed, plural

if TYPE_CHECKING:
    import pandas as pd

    from obstruction.studies.verdict import Agreement


@dataclass(frozen=True, eq=False)
class Study:
    """The counts of a sampled grid, as `sample` and `load` return them.

    Attributes
    ----------
    config : StudyConfig
        The schemes, axes, seed and plan.
    counts : Counts
        Integer counts of shape ``(schemes, nd, nl)``.
    done : tuple of (int, int)
        The ranges ``start ... stop - 1`` of networks that were counted. There is a single range
        unless the run was interrupted.
    target : int
        The number of networks that were asked for.
    seconds : float
        The time that the sampling took.
    threads : int
        The number of threads on which it ran last.
    estimator : {"direct", "tilted", "auto"}
        Which cells are estimated from weighted samples instead of counts, as in `sample`.
    samples : int
        The number of weighted samples in such a cell.
    rare : RareEstimates, optional
        The estimates of these cells, or None if they are not made yet or there is no such cell.
    first : int, optional
        The number of the first network of a part of a study, which is to be merged with others
        (`obstruction.merge`), and None for a study of its own. Cells of a part have no weighted
        samples.
    others : tuple of (int, tuple of (int, int))
        Further seeds, with the ranges of networks that were counted under each, if studies of
        several seeds were merged.
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
    first: int | None = None
    others: tuple[tuple[int, tuple[Range, ...]], ...] = ()

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the networks, which are several if studies were merged."""
        return self.config.seed, *(seed for seed, _ in self.others)

    @property
    def seeds_in_words(self) -> str:
        """The seeds in words, as ``"seed 0"`` or ``"seeds 0, 1 and 2"``."""
        return f"{'seeds' if self.others else 'seed'} {listed(self.seeds)}"

    @property
    def networks(self) -> int:
        """The number of networks drawn per cell."""
        return self.counts.networks

    @property
    def complete(self) -> bool:
        """Whether all networks that were asked for were drawn."""
        return self.networks >= self.target

    def table(self) -> pd.DataFrame:
        """Return the tidy table, which has one row for each cell.

        The columns are explained in `obstruction.studies.table.COLUMNS`.

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
        """Return the verdict of `obstruction.studies.verdict` on the exact values.

        Parameters
        ----------
        level : float
            The probability, between 0 and 1, of the verdict "disagrees" if they are all right.
        """
        from obstruction.studies.verdict import agreement

        return agreement(self._table, level=level)

    def with_rare(
        self, *, threads: int = 1, watch: Callable[[float], None] = lambda share: None
    ) -> Study:
        """Return the study with the estimates that its ``estimator`` asks for.

        The arguments are those of `obstruction.studies.rare_cells.estimate_rare`.
        """
        if self.first is not None:
            return self
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
        """Return two lines that name the schemes, the grid, the networks, the plan and the seed."""
        config = self.config
        state = "" if self.complete else f" of {self.target:,} (interrupted)"
        part = "" if self.first is None else f" from number {self.first:,}"
        _, nd, nl = config.shape
        return (
            f"{', '.join(scheme.label for scheme in config.schemes)}\n"
            f"  d {_span(config.d)}, l {_span(config.l)}: {nd:,} x {nl:,} cells, "
            f"{self.networks:,}{state} {plural(self.networks, 'network')} each{part}, "
            f"{config.plan} plan, {self.seeds_in_words}"
        )

    def __repr__(self) -> str:
        schemes = ", ".join(scheme.label for scheme in self.config.schemes)
        _, nd, nl = self.config.shape
        return (
            f"<Study of {schemes}: {nd} x {nl} cells (d, l), {self.networks:,} networks each, "
            f"{self.config.plan}, {self.seeds_in_words}>"
        )


def _span(sizes: tuple[int, ...]) -> str:
    return f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
