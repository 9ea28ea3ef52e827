"""A report of laws judged by an independent search, and by the outputs of a plain model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from covering import Shapes, covered
from independent_search import search
from plain_model import PlainModel
from rescaling import Balance
from second_look import other_points, refuted_laws, wrong_numbers
from torch import nn

SEED = 5
"""Of the points that neither of the searches has seen."""


@dataclass(frozen=True)
class Judgement:
    """What is said about a report.

    Attributes
    ----------
    channels : int
        The number of balances that the independent search finds and other points do not refute.
    covered : int
        The number of those that follow from the report.
    missed : tuple of (int, Balance)
        For laws of the search, how many numbers the report lacks.
    refuted : tuple of Law
        The reported laws that other points refute.
    doubtful : int
        The number of balances of the independent search that other points refute.
    """

    channels: int
    covered: int
    missed: tuple[tuple[int, Balance], ...]
    refuted: tuple[Any, ...]
    doubtful: int


def shapes_of(laws: Any) -> Shapes:
    """Return the shapes of the parameters of a report, complex ones with two parts."""
    return {name: value.shape for name, value in laws.parameters.items()}


def judged(
    model: nn.Module, inputs: Any, laws: Any, *, oracle: Sequence[Balance] | None = None
) -> Judgement:
    """Return what the independent search and other points say about a report.

    Parameters
    ----------
    model : torch.nn.Module
        In the mode that the report is about. If it cannot be copied it is changed.
    inputs : tuple or dict
    laws : Laws
        The report.
    oracle : sequence of Balance, optional
        The balances of the independent search; by default it is run.
    """
    plain = PlainModel(model, inputs)
    points = other_points(plain, SEED)
    wanted = search(model, inputs) if oracle is None else oracle
    missed, channels, doubtful = [], 0, 0
    for law, found in zip(wanted, covered(wanted, laws, shapes_of(laws)), strict=True):
        rest = np.flatnonzero(~found)
        wrong = wrong_numbers(plain, law, rest, points) if rest.size else []
        channels += law.width - len(wrong)
        doubtful += len(wrong)
        if rest.size > len(wrong):
            missed.append((rest.size - len(wrong), law))
    return Judgement(
        channels,
        channels - sum(n for n, _ in missed),
        tuple(missed),
        tuple(refuted_laws(plain, laws, points)),
        doubtful,
    )
