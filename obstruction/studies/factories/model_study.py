"""Studies of models that a factory makes, with their tables and their verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from obstruction.sampling.inference import binomial
from obstruction.sampling.inference.verdict import Verdict
from obstruction.sampling.runner import Range
from obstruction.studies.factories.counting import ModelCounts
from obstruction.studies.factories.data_sides import DataFacts
from obstruction.tools.checks import check_probability
from obstruction.tools.words import columns, counted, duration

if TYPE_CHECKING:
    import pandas as pd

_LISTED: Final = 12
"""The most rows that a summary lists."""


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


@dataclass(frozen=True, eq=False, repr=False)
class ModelStudy:
    """How often the initialisation of a library freezes signs, as `sample_model` returns it.

    Printing it shows the probability that a draw has a frozen sign, the mean share of frozen
    weights, and both for each law.

    Attributes
    ----------
    cells : tuple of ModelCell
        The architectures, one for each combination of the values on the axes.
    axes : dict of str to tuple
        The axes of the grid and their values; empty without a grid.
    networks : int
        The number of draws of each architecture that were asked for.
    seed : int
        The seed.
    loss : str or None
        The loss for which the laws hold; None if they hold for every loss.
    """

    cells: tuple[ModelCell, ...]
    axes: Mapping[str, tuple[Any, ...]]
    networks: int
    seed: int
    loss: str | None = None

    @property
    def complete(self) -> bool:
        """Whether every architecture has all draws that were asked for."""
        total = math.prod(map(len, self.axes.values()))
        drawn = all(cell.counts.networks >= self.networks for cell in self.cells)
        return len(self.cells) == total and drawn

    def table(self) -> pd.DataFrame:
        """Return a table with a row for each architecture.

        Returns
        -------
        DataFrame
            The columns are ``model`` and the axes of the grid; ``networks`` and ``obstructed``, the
            numbers of draws and of those with a frozen sign; the rate ``empirical`` with its 95 %
            Clopper-Pearson interval ``ci_low, ci_high``; the ``exact`` probability that was given,
            with the z-score ``z`` and the exact two-sided ``p_value`` of the rate, NaN without one;
            ``weights``, the number of weights that are alone on a side of a balance;
            ``share``, the mean share of these that are frozen, NaN if there are none, and
            ``exact_share``, its exact value, NaN where it is not known; ``largest``,
            the largest ratio of such a weight's square to the other side in any draw, which
            freezes it if it exceeds 1; ``same_start``, whether all draws start with the same
            weights; ``beyond``, the number of weights that sets of several channels freeze in the
            first draw, which the counts leave out; and ``data_rank``, the dimension of the span of
            the data, missing without data that are judged.
        """
        import pandas as pd

        n = np.array([cell.counts.networks for cell in self.cells], np.int64)
        obstructed = np.array([cell.counts.obstructed for cell in self.cells], np.int64)
        exact = np.array([cell.exact for cell in self.cells], np.float64)
        low, high = binomial.interval(obstructed, n)
        weights = np.array([cell.weights for cell in self.cells], np.int64)
        frozen = np.array([cell.counts.frozen for cell in self.cells], np.int64)
        with np.errstate(invalid="ignore"):
            share = frozen / (n * weights)
        return pd.DataFrame(
            {
                "model": [cell.source for cell in self.cells],
                **{name: [cell.arguments[name] for cell in self.cells] for name in self.axes},
                "networks": n,
                "obstructed": obstructed,
                "empirical": obstructed / n,
                "ci_low": low,
                "ci_high": high,
                "exact": exact,
                "z": binomial.z_score(obstructed, n, exact),
                "p_value": binomial.p_value(obstructed, n, exact),
                "weights": weights,
                "share": share,
                "exact_share": [_exact_share(cell) for cell in self.cells],
                "largest": [cell.largest for cell in self.cells],
                "same_start": [cell.counts.same_start for cell in self.cells],
                "beyond": [cell.beyond for cell in self.cells],
                "data_rank": pd.array([cell.data_rank for cell in self.cells], "Int64"),
            }
        )

    def by_law(self) -> pd.DataFrame:
        """Return a table with a row for each side of a balance on which weights are alone.

        Returns
        -------
        DataFrame
            The columns are ``model`` and the axes of the grid; ``law``, the number of the balance
            in the laws of the model; ``side``, whether the weights alone have ``"read"`` or
            ``"written"`` their channels, are the ``"difference"`` of two logits, or each is the one
            ``"combination"`` of incoming weights that can move on the data; ``tensor``;
            ``weights``, their number; ``others``, the mean number of scalars on the other side;
            ``obstructed``, ``empirical``, ``ci_low`` and ``ci_high``, as in `table`, of the draws
            in which one of them is frozen; ``share``, the mean share of them that is frozen, with
            its ``exact`` value, NaN where it is not known, and the exact two-sided ``p_value`` of
            the number of frozen weights, NaN besides if they depend on each other; and ``largest``,
            as in `table`.
        """
        import pandas as pd

        rows = [row for cell in self.cells for row in self._rows(cell)]
        names = [
            *("model", *self.axes, "law", "side", "tensor", "weights", "others", "networks"),
            *(
                "obstructed",
                "empirical",
                "ci_low",
                "ci_high",
                "share",
                "exact",
                "p_value",
                "largest",
            ),
        ]
        return pd.DataFrame(rows, columns=names)

    def agreement(self, *, level: float = 1e-3) -> Verdict:
        """Return the verdict on the exact probabilities that were given.

        Parameters
        ----------
        level : float
            The probability, between 0 and 1, of the verdict "disagrees" if they are all right.

        Returns
        -------
        Verdict
            There is one exact binomial test for each architecture with an exact value, and one for
            each side whose independent weights have one.
        """
        check_probability("level", level)
        tests = [table["p_value"].to_numpy(np.float64) for table in (self.table(), self.by_law())]
        return Verdict(level, np.concatenate(tests))

    def _rows(self, cell: ModelCell) -> Iterator[tuple[Any, ...]]:
        n = cell.counts.networks
        for k, side in enumerate(cell.sides):
            some = int(cell.counts.some[k])
            low, high = binomial.interval(some, n)
            frozen, trials = int(cell.counts.weights[k]), n * side.weights
            tested = cell.shares[k] if cell.independent[k] else math.nan
            yield (
                cell.source,
                *(cell.arguments[name] for name in self.axes),
                *side,
                n,
                some,
                some / n,
                float(low),
                float(high),
                frozen / trials,
                cell.shares[k],
                float(binomial.p_value(frozen, trials, tested)),
                float(cell.counts.largest[k]),
            )

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    __repr__ = __str__


def _exact_share(cell: ModelCell) -> float:
    """Return the exact mean share of frozen weights; NaN if a weight is alone in two balances."""
    numbers = [side.weights for side in cell.sides]
    if not numbers or sum(numbers) != cell.weights:
        return math.nan
    return math.fsum(map(math.prod, zip(numbers, cell.shares, strict=True))) / cell.weights


def _lines(study: ModelStudy) -> Iterator[str]:
    loss = f" under {study.loss}" if study.loss else ""
    seconds = sum(cell.seconds for cell in study.cells)
    first = study.cells[0]
    many = "" if len(study.cells) == 1 else f"{counted(len(study.cells), 'architecture')}, "
    each = "" if len(study.cells) == 1 else " each"
    state = "" if study.complete else " (interrupted)"
    yield (
        f"{first.source} ({first.framework}){loss}: {many}{counted(study.networks, 'draw')}{each} "
        f"by its own initialisation{state}, seed {study.seed}, {duration(seconds)}"
    )
    if len(study.cells) == 1:
        yield from _one(study, first)
    else:
        yield from _grid(study)
    yield from _data(study)
    for cell in study.cells:
        yield from _notes(cell)


def _one(study: ModelStudy, cell: ModelCell) -> Iterator[str]:
    (row,) = study.table().to_dict("records")
    if not cell.sides:
        yield "No weight is alone on a side of a balance: no single balance can freeze a sign."
        return
    exact = "" if math.isnan(cell.exact) else f"; exact {cell.exact:.4g}"
    yield (
        f"P(some sign frozen) = {row['empirical']:.4g} (95 %: {row['ci_low']:.3g} to "
        f"{row['ci_high']:.3g}{exact}); of {counted(cell.weights, 'weight')} alone on a side of a "
        f"balance, {100.0 * row['share']:.3g} % are frozen on average; largest ratio of the two "
        f"sides {cell.largest:.3g}"
    )
    laws = study.by_law().sort_values("share", ascending=False, kind="stable")
    head = ("law", "side", "weights of", "number", "P", "95 %", "share", "exact", "largest ratio")
    rows = [
        (
            str(one["law"]),
            one["side"],
            one["tensor"],
            f"{one['weights']:,}",
            f"{one['empirical']:.3g}",
            f"{one['ci_low']:.2g}-{one['ci_high']:.2g}",
            f"{100.0 * one['share']:.3g} %",
            "" if math.isnan(one["exact"]) else f"{100.0 * one['exact']:.3g} %",
            f"{one['largest']:.3g}",
        )
        for one in laws.head(_LISTED).to_dict("records")
    ]
    yield from columns([head, *rows], left=3, indent=2)
    if len(laws) > _LISTED:
        yield f"  and {len(laws) - _LISTED:,} more with smaller shares: see by_law()"


def _grid(study: ModelStudy) -> Iterator[str]:
    table = study.table()
    ranks = ["rank"] if table["data_rank"].notna().any() else []
    head = (*study.axes, *ranks, "P", "95 %", "exact", "share", "largest ratio")
    rows = [
        (
            *(str(one[name]) for name in study.axes),
            *(str(one["data_rank"]).replace("<NA>", "") for _ in ranks),
            f"{one['empirical']:.3g}",
            f"{one['ci_low']:.2g}-{one['ci_high']:.2g}",
            "" if math.isnan(one["exact"]) else f"{one['exact']:.3g}",
            "" if math.isnan(one["share"]) else f"{100.0 * one['share']:.3g} %",
            f"{one['largest']:.3g}",
        )
        for one in table.head(4 * _LISTED).to_dict("records")
    ]
    yield from columns([head, *rows], left=0, indent=2)
    if len(table) > 4 * _LISTED:
        yield f"  and {len(table) - 4 * _LISTED:,} more: see table()"


def _data(study: ModelStudy) -> Iterator[str]:
    """Yield what the data are, or why they change nothing; a grid shows the ranks in its table."""
    told = {str(cell.data) for cell in study.cells if cell.data is not None}
    if len(told) == 1 and all(cell.data is not None for cell in study.cells):
        yield from told
        return
    if any(cell.data_rank is not None for cell in study.cells):
        yield (
            "The rank is the dimension of the span of the data, as layers that read the inputs can "
            "see them (a bias counts as one); balances are those on this span."
        )
    for cell in study.cells:
        if cell.data is not None and cell.data.reason:
            yield f"{_where(cell)}{cell.data}"


def _where(cell: ModelCell) -> str:
    where = ", ".join(f"{name} = {value}" for name, value in cell.arguments.items())
    return f"{where}: " if where else ""


def _notes(cell: ModelCell) -> Iterator[str]:
    start = _where(cell)
    if cell.counts.same_start and cell.sides:
        yield (
            f"{start}All draws start with the same weights in these balances, whatever the seed: "
            "the probability is 0 or 1, and no interval is needed."
        )
    if cell.called and cell.framework == "PyTorch" and cell.sides:
        yield f"{start}Each draw calls the whole factory: {cell.called}."
    if not cell.repeatable:
        yield (
            f"{start}Two calls of the factory under one seed gave different weights: it draws from "
            "a generator that is not seeded, and the counts cannot be repeated."
        )
    if cell.beyond:
        yield (
            f"{start}In the first draw, sets of several channels freeze "
            f"{counted(cell.beyond, 'further weight')}, which the counts leave out."
        )
    if cell.undecided:
        yield f"{start}In the first draw, {counted(cell.undecided, 'weight')} could not be decided."
