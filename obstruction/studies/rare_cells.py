"""The rare cells of a study, and estimates for them from weighted samples.

A cell is rare if so few pathological neurons are expected in it that counting them says little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.sampling.config import StudyConfig
from obstruction.sampling.inference.weighted import Estimate
from obstruction.sampling.rare import estimate as tilting
from obstruction.studies.exact_values import exact_values
from obstruction.tools.checks import check_choice

ESTIMATORS: Final = ("direct", "tilted", "auto")
"""Estimates come from counts, from weighted samples, or from the latter in rare cells only."""

DEFAULT_SAMPLES: Final = 20_000
"""The number of weighted samples per cell."""

RARE_BELOW: Final = 100
"""A cell is rare if fewer pathological neurons than this are expected in all its networks."""


@dataclass(frozen=True, eq=False)
class RareEstimates:
    """Estimates from weighted samples in some cells of a study.

    Attributes
    ----------
    where : ndarray of bool, shape (schemes, nd, nl)
        The cells that have estimates.
    estimate : Estimate
        Estimates of the probability that a neuron is pathological, with one entry for each of these
        cells, in the order of ``where``.
    """

    where: NDArray[np.bool_]
    estimate: Estimate


def check_estimator(config: StudyConfig, estimator: str) -> str:
    """Return one of `ESTIMATORS`. With "tilted", the weights of all schemes must be independent."""
    check_choice("estimator", estimator, ESTIMATORS)
    for scheme in config.schemes:
        if estimator == "tilted" and not scheme.independent:
            raise ValueError(
                f"estimator = 'tilted': the weights of scheme {scheme.label!r} depend on each "
                "other and cannot be tilted; use direct or auto, which count them"
            )
    return estimator


def rare_cells(config: StudyConfig, networks: int, estimator: str) -> NDArray[np.bool_]:
    """Return which cells are to be estimated from weighted samples.

    With ``"auto"``, these are the cells that are rare according to their exact value. A scheme has
    none if its weights depend on each other, because such weights cannot be tilted.
    """
    where = np.zeros(config.shape, np.bool_)
    if estimator == "direct":
        return where
    expected = networks * np.array(config.l) * exact_values(config).neuron
    for k, scheme in enumerate(config.schemes):
        if scheme.independent:
            where[k] = (estimator == "tilted") | (expected[k] < RARE_BELOW)  # NaN is not rare
    return where


def estimate_rare(
    config: StudyConfig,
    where: NDArray[np.bool_],
    *,
    samples: int,
    threads: int,
    watch: Callable[[float], None] = lambda share: None,
) -> RareEstimates | None:
    """Return estimates from weighted samples in some cells, or None if there are no such cells.

    The cells are given by an array of shape ``(schemes, nd, nl)``. The function ``watch`` is called
    now and then with the fraction of the work that is done. An exception in it ends the work.
    """
    total = np.count_nonzero(where)
    if not total:
        return None
    parts, done = [], 0
    for scheme, mask in zip(config.schemes, where, strict=True):
        rows, columns = np.nonzero(mask)
        if not rows.size:
            continue
        parts.append(
            tilting.estimate(
                scheme,
                np.array(config.d)[rows],
                np.array(config.l)[columns],
                samples,
                seed=config.seed,
                threads=threads,
                watch=_within(watch, done / total, rows.size / total),
            )
        )
        done += rows.size
    arrays: dict[str, Any] = {
        one.name: np.concatenate([getattr(part, one.name) for part in parts])
        for one in fields(Estimate)[1:]
    }
    return RareEstimates(where, Estimate(samples, **arrays))


def _within(watch: Callable[[float], None], before: float, size: float) -> Callable[[float], None]:
    """Return a function that reports the progress of a part of the work as that of the whole."""
    return lambda share: watch(before + share * size)
