"""Counts of networks that cannot reach a target, compared with the exact probabilities.

`obstruction.sampling.sign_sampler` counts the networks in which too many output weights are frozen
with the wrong sign. `obstruction.exact.unreachable_probability` computes their probability.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obstruction import exact
from obstruction.sampling.config import StudyConfig
from obstruction.sampling.inference import binomial
from obstruction.sampling.runner import Runner
from obstruction.sampling.sign_sampler import SignSampler
from obstruction.schemes import SchemeLike
from obstruction.tools.checks import check_count
from obstruction.tools.workers import resolve_threads

Need: TypeAlias = int | Callable[[int], int]
"""A number of output weights, or a function of ``l`` that gives it."""


def sample_unreachable(
    schemes: SchemeLike | Iterable[SchemeLike],
    *,
    d: Any,
    l: Any,
    positive: Need = 0,
    negative: Need = 0,
    networks: Any = 10_000,
    seed: Any = 0,
    threads: Any = None,
) -> pd.DataFrame:
    """Draw networks over a grid and count those that cannot reach a target.

    Parameters
    ----------
    schemes : str, InitScheme, or several of them
        Their weights must be independent.
    d, l : int or iterable of int
        The numbers of inputs and of hidden neurons, each >= 1.
    positive, negative : int or callable
        The least numbers of positive and of negative output weights that the target needs, each as
        a number or as a function of ``l``, for example ``lambda l: l // 2``. Their sum is at most
        ``l``.
    networks : int
        The number of networks per cell, >= 1. They are the networks that `obstruction.sample` draws
        with the same seed.
    seed : int
        The seed, >= 0.
    threads : int, optional
        The number of workers, >= 1. The default is the number of cores that this process may use.

    Returns
    -------
    pandas.DataFrame
        One row for each cell, with the columns ``scheme, d, l, positive, negative, networks`` and
        ``unreachable``, the rate ``empirical`` and its 95 % Clopper-Pearson interval ``ci_low,
        ci_high``, the ``exact`` probability, and the z-score ``z`` and exact two-sided ``p_value``
        of the rate under it.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> found = sample_unreachable("xavier_normal", d=2, l=[2, 4], negative=1, networks=1000)
    >>> found[["l", "unreachable", "exact"]].round(4)
       l  unreachable   exact
    0  2           27  0.0298
    1  4            1  0.0007
    """
    config = StudyConfig.of(schemes, d=d, l=l, seed=seed)
    networks = check_count("networks", networks)
    workers = resolve_threads(threads)
    needs = _needs(config.l, positive=positive, negative=negative)
    for scheme in config.schemes:
        if not scheme.independent:
            raise ValueError(f"scheme = {scheme.label!r}: its weights must be independent")
    sampler = SignSampler(config, *needs)
    sampler.check_memory(workers)
    runner = Runner(sampler)
    runner.run(networks, threads=workers)
    return _table(sampler, networks, runner.snapshot()[1][0])


def _needs(sizes: tuple[int, ...], **needs: Need) -> list[tuple[int, ...]]:
    """Return the numbers of positive and negative weights needed at every ``l``."""
    tables = [
        tuple(check_count(name, need(l) if callable(need) else need, least=0) for l in sizes)
        for name, need in needs.items()
    ]
    for l, *both in zip(sizes, *tables, strict=True):
        if sum(both) > l:
            raise ValueError(
                f"positive = {both[0]}, negative = {both[1]}: together at most l = {l} "
                "output weights can be needed"
            )
    return tables


def _table(sampler: SignSampler, networks: int, unreachable: NDArray[np.int64]) -> pd.DataFrame:
    config = sampler.config
    d, l = np.array(config.d)[:, None], np.array(config.l)[None, :]
    positive, negative = np.array([[sampler.positive], [sampler.negative]])
    shown = [np.broadcast_to(part, config.shape).ravel() for part in (d, l, positive, negative)]
    whole = np.stack(
        [
            exact.unreachable_probability(scheme, d, l, positive=positive, negative=negative)
            for scheme in config.schemes
        ]
    ).ravel()
    counts = unreachable.ravel()
    low, high = binomial.interval(counts, networks)
    return pd.DataFrame(
        {
            "scheme": np.repeat([scheme.label for scheme in config.schemes], d.size * l.size),
            **dict(zip(("d", "l", "positive", "negative"), shown, strict=True)),
            "networks": networks,
            "unreachable": counts,
            "empirical": counts / networks,
            "ci_low": low,
            "ci_high": high,
            "exact": whole,
            "z": binomial.z_score(counts, networks, whole),
            "p_value": binomial.p_value(counts, networks, whole),
        }
    )
