"""The draws of one architecture, as a study of models keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from obstruction.sampling.runner import Range
from obstruction.studies.factories.counting import ModelCounts
from obstruction.studies.factories.data_sides import DataFacts


class SideRow(NamedTuple):
    """A side of a balance on which single weights are alone.

    Attributes
    ----------
    law : int
        The number of the balance in the laws of the model.
    side : {"read", "written", "difference", "combination"}
        Whether the weights alone read or write their channels, or are differences of two logits, or
        each is the one combination of incoming weights that can move on the data.
    tensor : str
    weights : int
        Their number.
    others : float
        The mean number of scalars on the other side.
    """

    law: int
    side: str
    tensor: str
    weights: int
    others: float


@dataclass(frozen=True, eq=False)
class ModelCell:
    """The draws of one architecture.

    Attributes
    ----------
    arguments : dict
        The values of the axes, with which the factory was called.
    source : str
        The type of the model.
    framework : str
    sides : tuple of SideRow
        The sides of balances on which single weights are alone.
    weights : int
        The number of weights that are alone on a side. One that is so in several balances counts
        once.
    counts : ModelCounts
    done : tuple of (int, int)
        The ranges ``start ... stop - 1`` of draws that were counted.
    exact : float
        The probability of a frozen sign that the counts are held against, or NaN.
    shares : tuple of float
        For each side the exact mean share of its weights that are frozen, NaN if it is not known.
    independent : tuple of bool
        For each side whether its weights are frozen independently of each other.
    called : str
        Why each draw called the whole factory; empty if it drew only the weights in the balances.
    beyond : int
        The weights that sets of several channels freeze in the first draw, which are not counted.
    undecided : int
        The weights of the first draw for which this could not be decided.
    start : str
        A checksum of the weights in the balances in the first draw.
    repeatable : bool
        Whether a second call under the seed of the first draw gave the same weights.
    seconds : float
        The time that the draws took.
    data : DataFacts or None
        The data on whose span the balances were taken, if there are any.
    """

    arguments: Mapping[str, Any]
    source: str
    framework: str
    sides: tuple[SideRow, ...]
    weights: int
    counts: ModelCounts
    done: tuple[Range, ...]
    exact: float
    shares: tuple[float, ...]
    independent: tuple[bool, ...]
    called: str
    beyond: int
    undecided: int
    start: str
    repeatable: bool
    seconds: float
    data: DataFacts | None = None

    @property
    def data_rank(self) -> int | None:
        """The dimension of the span of the data; None if they are not given or change nothing."""
        return None if self.data is None else self.data.rank

    @property
    def largest(self) -> float:
        """The largest ratio of the square of such a weight to its other side in any draw."""
        return float(self.counts.largest.max(initial=0.0))
