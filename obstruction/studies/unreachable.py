"""Targets out of reach: networks whose frozen output weights have too few of a needed sign.

A function that needs at least ``m+`` positive and ``m-`` negative output weights cannot be
learned by gradient flow from a network of which more than ``l - m-`` output weights are frozen
positive, or more than ``l - m+`` frozen negative. This module samples how often that happens;
`obstruction.exact.unreachable_probability` computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obstruction import exact
from obstruction.sampling import streams
from obstruction.sampling.config import StudyConfig, sheets
from obstruction.sampling.inference import binomial
from obstruction.sampling.kernels import signs as sign_kernels
from obstruction.sampling.sampler import check_memory
from obstruction.schemes import SchemeLike
from obstruction.tools.checks import check_count
from obstruction.tools.workers import check_room, resolve_threads

Need: TypeAlias = int | Callable[[int], int]
"""A number of output weights, or a function of ``l`` that gives it."""

_COUNT_AT_A_TIME = 64


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
        How many output weights of either sign the target needs at least, as a number or as a
        function of ``l``, for example ``lambda l: l // 2``; together at most ``l``.
    networks : int
        Networks per cell, >= 1; the same networks as `obstruction.sample` draws with this seed.
    seed : int
        The seed, >= 0.
    threads : int, optional
        Workers, >= 1; by default all cores this process may use.

    Returns
    -------
    pandas.DataFrame
        One row a cell: ``scheme, d, l, positive, negative, networks, unreachable``, the rate
        ``empirical`` with its 95 % Clopper-Pearson interval ``ci_low, ci_high``, the ``exact``
        probability, and the distance ``z`` and exact two-sided ``p_value`` between the two.

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
    sizes = np.array(config.l, np.int64)
    needs = _needs(sizes, positive=positive, negative=negative)
    for scheme in config.schemes:
        if not scheme.independent:
            raise ValueError(f"scheme = {scheme.label!r}: its weights must be independent")
    whole = config.l[-1] * (config.d[-1] + 4)
    check_room(
        f"d, l: {workers} networks of {config.l[-1]:,} neurons with {config.d[-1]:,} inputs each",
        workers * 16 * whole,
    )
    check_memory(config, workers)
    unreachable = np.zeros(config.shape, np.int64)
    stop = np.zeros(1, np.uint8)
    parts = sheets(config)
    work = [
        (sheet, block, first + start, min(_COUNT_AT_A_TIME, count - start))
        for sheet in parts
        for block, first, count in streams.pieces(0, networks)
        for start in range(0, count, _COUNT_AT_A_TIME)
    ]

    def counted(piece: tuple[Any, int, int, int]) -> tuple[Any, NDArray[np.int64]]:
        sheet, block, first, count = piece
        found = np.zeros(sheet.grid.thresholds[..., :-1].shape, np.int64)
        sign_kernels.count_unreachable(
            streams.block_key(config.seed, sheet.path, block),
            sheet.codes,
            first,
            count,
            sheet.grid,
            sizes,
            *needs,
            stop,
            found,
            np.zeros((2, *found.shape), np.int64),
        )
        return sheet.where, found

    with ThreadPoolExecutor(workers) as pool:
        try:
            for where, found in pool.map(counted, work):
                unreachable[where] += found
        except BaseException:
            stop[0] = 1
            pool.shutdown(cancel_futures=True)
            raise
    return _table(config, needs, networks, unreachable)


def _needs(sizes: NDArray[np.int64], **needs: Need) -> list[NDArray[np.int64]]:
    """Return the numbers of positive and negative weights needed at every ``l``."""
    tables = []
    for name, need in needs.items():
        values = [need(int(l)) if callable(need) else need for l in sizes]
        tables.append(
            np.array([check_count(name, value, least=0) for value in values], dtype=np.int64)
        )
    for l, *both in zip(sizes, *tables, strict=True):
        if sum(both) > l:
            raise ValueError(
                f"positive = {both[0]}, negative = {both[1]}: together at most l = {l} "
                "output weights can be needed"
            )
    return tables


def _table(
    config: StudyConfig,
    needs: list[NDArray[np.int64]],
    networks: int,
    unreachable: NDArray[np.int64],
) -> pd.DataFrame:
    d, l = np.array(config.d)[:, None], np.array(config.l)[None, :]
    shown = [np.broadcast_to(part, config.shape).ravel() for part in (d, l, *needs)]
    whole = np.stack(
        [
            exact.unreachable_probability(
                scheme, d, l, positive=needs[0][None, :], negative=needs[1][None, :]
            )
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
