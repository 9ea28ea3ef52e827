"""The result of sampling networks on a graph: how often each of their weights is frozen."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from obstruction.dag.graph.graph import FloatArray, Graph
from obstruction.dag.graph.names import shown
from obstruction.dag.probability.exact import FrozenProbabilities, frozen_probabilities
from obstruction.dag.probability.sampling import DagSampler, FrozenCounts, freezable_edges
from obstruction.sampling.inference import binomial
from obstruction.sampling.inference.verdict import Verdict
from obstruction.sampling.runner import Runner
from obstruction.schemes import InitScheme, SchemeLike, as_scheme
from obstruction.tools.checks import check_count, check_probability, check_seed
from obstruction.tools.words import columns, counted
from obstruction.tools.workers import resolve_threads

if TYPE_CHECKING:
    import pandas as pd

LISTED: Final = 8
"""Weights that a summary lists at most."""

_SHOWN_NUMBERS: Final = 12
"""Numbers of frozen weights that a summary has columns for."""


@dataclass(frozen=True, eq=False)
class DagStudy:
    """Counts of frozen weights of sampled networks. Made by `sample_dag`.

    Attributes
    ----------
    network : Graph
    scheme : InitScheme
    seed : int
    counts : FrozenCounts
        Integers; everything else follows from them.
    seconds : float
        How long the sampling took.
    threads : int
        On how many threads.
    """

    network: Graph
    scheme: InitScheme
    seed: int
    counts: FrozenCounts
    seconds: float = 0.0
    threads: int = 0

    @property
    def networks(self) -> int:
        """Networks drawn."""
        return self.counts.networks

    @property
    def disconnected(self) -> float:
        """The share of networks with at least one frozen weight."""
        return self.counts.disconnected / self.networks

    @property
    def mean(self) -> float:
        """The mean number of frozen weights."""
        return self.counts.frozen / self.networks

    @property
    def mean_error(self) -> float:
        """The standard error of `mean`."""
        if self.networks == 1:
            return math.nan
        number = np.arange(self.counts.numbers.size)
        squares = float((self.counts.numbers * (number - self.mean) ** 2).sum())
        return math.sqrt(squares / (self.networks - 1) / self.networks)

    @property
    def law(self) -> FloatArray:
        """The shares of networks with 0, 1, ... frozen weights."""
        return self.counts.numbers / self.networks

    @property
    def most(self) -> int:
        """The most weights that can be frozen at once, as far as is known.

        With an exact law the most it allows, otherwise the most that were seen.
        """
        if self.exact.law is not None:
            return self.exact.law.size - 1
        return int(np.flatnonzero(self.counts.numbers)[-1])

    def interval(self, *, level: float = 0.95) -> tuple[float, float]:
        """Return the Clopper-Pearson interval of the probability of being disconnected."""
        low, high = binomial.interval(self.counts.disconnected, self.networks, level=level)
        return float(low), float(high)

    @cached_property
    def exact(self) -> FrozenProbabilities:
        """The exact probabilities, NaN and None where there are none."""
        return frozen_probabilities(self.network, self.scheme)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a table of the weights that could be frozen; all others never are.

        Returns
        -------
        DataFrame
            One row a weight, in the order of the edges: ``tail, head, networks, frozen``, the rate
            ``empirical`` with its 95 % Clopper-Pearson interval ``ci_low, ci_high``, the ``exact``
            probability, the distance ``z`` and the exact two-sided ``p_value`` between the two;
            the last three NaN if there is no exact value.
        """
        import pandas as pd

        edges = freezable_edges(self.network)
        frozen, exact, n = self.counts.edges[edges], self.exact.edges[edges], self.networks
        low, high = binomial.interval(frozen, n)
        names = [self.network.edges[e] for e in edges.tolist()]
        return pd.DataFrame(
            {
                "tail": pd.Series([a for a, _ in names], dtype=object),
                "head": pd.Series([b for _, b in names], dtype=object),
                "networks": n,
                "frozen": frozen,
                "empirical": frozen / n,
                "ci_low": low,
                "ci_high": high,
                "exact": exact,
                "z": binomial.z_score(frozen, n, exact),
                "p_value": binomial.p_value(frozen, n, exact),
            }
        )

    def agreement(self, *, level: float = 1e-3) -> DagAgreement:
        """Hold the counts against the exact values, where there are any.

        Parameters
        ----------
        level : float
            How often the verdict may be "disagrees" if the exact values are right, between 0 and 1.

        Returns
        -------
        DagAgreement
        """
        check_probability("level", level)
        return _agreement(self, level)

    def worst(self, most: int | None = None) -> pd.DataFrame:
        """Return the rows of `to_dataframe` that were frozen most often, those first."""
        table = self.to_dataframe().sort_values("frozen", ascending=False, kind="stable")
        return table if most is None else table.head(most)

    def summary(self, most: int = LISTED) -> str:
        """Return what printing shows, with so many weights at most."""
        return "\n".join(_lines(self, most))

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return (
            f"<DagStudy of {self.scheme.label}: {self.network!r}; {self.networks:,} networks, "
            f"seed {self.seed}>"
        )


@dataclass(frozen=True, eq=False, repr=False)
class DagAgreement(Verdict):
    """What counts of frozen weights say about the exact values. Made by `DagStudy.agreement`.

    Disconnected networks, networks with a given number of frozen weights, and networks in which a
    given weight is frozen are binomial if the exact values are right. The subjects of the
    `obstruction.sampling.inference.verdict.Verdict` are these counts, with one test each.

    Attributes
    ----------
    counts : tuple of str
        What was counted, how often it was found, and its exact value.
    reason : str
        Why not all could be tested, empty if it was.
    """

    counts: tuple[str, ...]
    reason: str

    @property
    def worst(self) -> str:
        """The count that is furthest off, in words; empty if there is no test."""
        return self.counts[int(np.nanargmin(self.p_adjusted))] if self.tests else ""

    def __str__(self) -> str:
        if not self.tests:
            return f"UNTESTED: {self.reason}."
        rate = f"(false alarms: {self.level:g})"
        if self.rejected:
            return (
                f"DISAGREES: {self.rejected:,} of {self.tests:,} tests contradict the exact values "
                f"{rate}; worst: {self.worst}, adjusted p-value {self.smallest:.2g}."
            )
        some = f" Not all is known exactly: {self.reason}." if self.reason else ""
        tests = counted(self.tests, "test")
        return f"AGREES: the counts bear out the exact values in {tests} {rate}.{some}"


def sample_dag(
    network: Graph,
    scheme: SchemeLike,
    *,
    networks: Any = 100_000,
    seed: Any = 0,
    threads: Any = None,
) -> DagStudy:
    """Draw fresh networks on a graph and count those that are disconnected.

    Parameters
    ----------
    network : obstruction.dag.Network
    scheme : str or InitScheme
        The initialisation, of independent weights; `obstruction.dag.edge_laws` says how it applies
        to a graph.
    networks : int
        How many to draw, >= 1; whole floats such as ``1e6`` are taken.
    seed : int
        The seed, >= 0. The same seed gives the same counts on any number of threads. Weights at the
        same place in the order of edges are the same random numbers in every network and scheme.
    threads : int, optional
        Workers, >= 1; by default all cores this process may use, and never more.

    Returns
    -------
    DagStudy

    Raises
    ------
    ValueError
        If an argument is out of its range, the scheme's weights depend on each other or its biases
        do not fit the network, or the work does not fit into memory.

    Examples
    --------
    >>> from obstruction import dag
    >>> study = sample_dag(dag.Network.mlp([8, 16, 4, 1]), "kaiming_normal", networks=10_000)
    >>> study.counts.numbers.tolist()
    [7720, 2066, 204, 10, 0]
    >>> round(study.exact.disconnected, 4), study.agreement().verdict
    (0.2284, 'agrees')
    """
    if not isinstance(network, Graph):
        raise ValueError(f"network = {network!r}: must be an obstruction.dag.Network")
    rule = as_scheme(scheme)
    several, chosen = check_count("networks", networks), check_seed(seed)
    workers = resolve_threads(threads)
    begun = time.perf_counter()
    sampler = DagSampler.of(network, rule, seed=chosen)
    sampler.check_memory(workers)
    runner = Runner(sampler)
    runner.run(several, threads=workers)
    _, counts = runner.snapshot()
    return DagStudy(network, rule, chosen, counts, time.perf_counter() - begun, workers)


def _agreement(study: DagStudy, level: float) -> DagAgreement:
    """Test every count that has an exact value."""
    exact, counts = study.exact, study.counts
    edges = freezable_edges(study.network)
    if not edges.size:
        return DagAgreement(level, np.zeros(0), (), "no weight can be frozen")
    names = [f"{shown([study.network.edges[e]])} is frozen" for e in edges.tolist()]
    names.append("a network is disconnected")
    found = [*counts.edges[edges].tolist(), counts.disconnected]
    expected = [*exact.edges[edges].tolist(), exact.disconnected]
    if exact.law is not None:
        numbers = range(1, exact.law.size - 1)  # none is tested above, the rest follows
        names += [f"{k} weights are frozen" for k in numbers]
        found += counts.numbers[numbers].tolist()
        expected += exact.law[numbers].tolist()
    n = counts.networks
    about = tuple(
        f"{name} in {k:,} of {n:,}, exact {p:.6g}"
        for name, k, p in zip(names, found, expected, strict=True)
    )
    unknown = "nothing is known exactly: " if np.isnan(expected).all() else ""
    return DagAgreement(level, binomial.p_value(found, n, expected), about, unknown + exact.reason)


def _lines(study: DagStudy, most: int) -> Iterator[str]:
    """Yield the summary that printing shows."""
    exact, edges = study.exact, freezable_edges(study.network)
    yield repr(study.network)
    yield f"  {study.scheme.label}, {counted(study.networks, 'network')}, seed {study.seed}"
    if not edges.size:
        yield "No weight can be frozen: every hidden node has several weights in and several out."
        return
    low, high = study.interval()
    unknown = math.isnan(exact.disconnected)
    yield (
        f"Disconnected: {study.disconnected:.6g} of the networks (95 %: {low:.6g} to {high:.6g}), "
        + ("no exact value" if unknown else f"exact {exact.disconnected:.6g}")
    )
    error = 1.96 * study.mean_error
    yield (
        f"Frozen weights: {study.mean:.6g} on average (95 %: +-{error:.2g}), "
        + ("no exact value" if math.isnan(exact.mean) else f"exact {exact.mean:.6g}")
        + f"; {edges.size:,} of {study.network.size:,} can be"
    )
    yield ""
    yield from _law_table(study)
    if most:
        yield ""
        yield from _weight_table(study, edges.size, most)


def _law_table(study: DagStudy) -> Iterator[str]:
    """Yield how many networks have how many frozen weights."""
    counts, law = study.counts.numbers, study.exact.law
    last = int(np.flatnonzero(counts)[-1])
    first = max(0, last + 1 - _SHOWN_NUMBERS) if not counts[0] else 0
    numbers = range(first, min(last + 1, first + _SHOWN_NUMBERS))
    rows = [["frozen weights", *(f"{k:,}" for k in numbers)]]
    rows.append(["networks", *(f"{counts[k]:,}" for k in numbers)])
    if law is not None:
        rows.append(["expected", *(f"{study.networks * law[k]:,.1f}" for k in numbers)])
    yield from columns(rows, left=0, indent=2)
    left = int(counts[numbers.stop :].sum() + counts[: numbers.start].sum())
    if left:
        yield f"  and {counted(left, 'network')} with other numbers"


def _weight_table(study: DagStudy, size: int, most: int) -> Iterator[str]:
    """Yield the weights that are frozen most often."""
    rows = [["weight", "frozen", "95 %", "exact"]]
    for one in study.worst(most).itertuples():
        exact = "-" if math.isnan(one.exact) else f"{one.exact:.6g}"
        interval = f"{one.ci_low:.4g} to {one.ci_high:.4g}"
        rows.append([f"{one.tail} -> {one.head}", f"{one.empirical:.6g}", interval, exact])
    yield from columns(rows, indent=2)
    if size > most:
        yield f"  and {size - most:,} more that can be frozen"
