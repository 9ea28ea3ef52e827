"""Rare cells of a study: which are too rare to be counted, and what weighted samples say there."""

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
"""Counts alone; weighted samples in every cell; or these where too little is to be counted."""

DEFAULT_SAMPLES: Final = 20_000
"""Weighted samples per cell."""

FEW: Final = 100
"""Where fewer pathological neurons than this are expected in all networks, counting says little."""


@dataclass(frozen=True, eq=False)
class RareEstimates:
    """Estimates from weighted samples in some cells of a study.

    Attributes
    ----------
    where : ndarray of bool, shape (schemes, nd, nl)
        The cells.
    estimate : Estimate
        Of the probability that a neuron is pathological; one entry a cell, in the order of
        ``where``.
    """

    where: NDArray[np.bool_]
    estimate: Estimate


def check_estimator(config: StudyConfig, estimator: str) -> str:
    """Return the estimator if it is one that the schemes of a study allow.

    Raises
    ------
    ValueError
        If it is none of `ESTIMATORS`, or tilting is asked for weights that depend on each other.
    """
    check_choice("estimator", estimator, ESTIMATORS)
    for scheme in config.schemes:
        if estimator == "tilted" and not scheme.independent:
            raise ValueError(
                f"estimator = 'tilted': the weights of scheme {scheme.label!r} depend on each "
                "other and cannot be tilted; direct or auto counts them"
            )
    return estimator


def rare_cells(config: StudyConfig, networks: int, estimator: str) -> NDArray[np.bool_]:
    """Return which cells are to be estimated from weighted samples.

    With ``"auto"`` those in which `FEW` pathological neurons are not to be expected, by the exact
    value. Weights that depend on each other cannot be tilted, so such schemes have none.
    """
    where = np.zeros(config.shape, np.bool_)
    if estimator == "direct":
        return where
    chance = exact_values(config).neuron
    few = networks * np.array(config.l) * chance < FEW  # not where there is no exact value
    for k, scheme in enumerate(config.schemes):
        if scheme.independent:
            where[k] = (estimator == "tilted") | few[k]
    return where


def estimate_rare(
    config: StudyConfig,
    where: NDArray[np.bool_],
    *,
    samples: int,
    threads: int,
    watch: Callable[[float], None] = lambda share: None,
) -> RareEstimates | None:
    """Estimate the marked cells; None if there are none.

    Parameters
    ----------
    config : StudyConfig
        Of the study; its seed is used.
    where : ndarray of bool, shape (schemes, nd, nl)
    samples : int
        Weighted samples per cell, >= 2.
    threads : int
        Without influence on the result.
    watch : callable, optional
        Called now and then with the share of the work that is done; an exception ends it.
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
                watch=_part(watch, done / total, rows.size / total),
            )
        )
        done += rows.size
    return RareEstimates(where, _joined(parts))


def _part(watch: Callable[[float], None], before: float, size: float) -> Callable[[float], None]:
    """Return what reports a part of the work as so much of the whole."""
    return lambda share: watch(before + share * size)


def _joined(parts: list[Estimate]) -> Estimate:
    arrays: dict[str, Any] = {
        one.name: np.concatenate([getattr(part, one.name) for part in parts])
        for one in fields(Estimate)
        if one.name != "samples"
    }
    return Estimate(parts[0].samples, **arrays)
