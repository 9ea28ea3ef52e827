"""Studies of models that a factory makes, with their tables and their verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from obstruction.sampling.inference import binomial
from obstruction.studies.factories.model_cell import ModelCell
from obstruction.studies.factories.model_text import lines
from obstruction.studies.factories.model_verdict import ModelAgreement, side_tests, whole_test
from obstruction.tools.checks import check_probability

if TYPE_CHECKING:
    import pandas as pd


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
    origin : dict or None
        The ``model``, ``call`` and ``inputs`` of the command ``obstruction run`` that made the
        study; None if another program did.
    """

    cells: tuple[ModelCell, ...]
    axes: Mapping[str, tuple[Any, ...]]
    networks: int
    seed: int
    loss: str | None = None
    origin: Mapping[str, Any] | None = None

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
            Clopper-Pearson interval ``ci_low, ci_high``; the ``exact`` probability that was given
            or found, with the z-score ``z`` and the exact two-sided ``p_value`` of the rate, NaN
            without one;
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
            the number of frozen weights, which is also NaN if they depend on each other; and
            ``largest``, as in `table`.
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

    def agreement(self, *, level: float = 1e-3) -> ModelAgreement:
        """Return the verdict on the exact probabilities.

        Parameters
        ----------
        level : float
            The probability, between 0 and 1, of the verdict "disagrees" if they are all right.

        Returns
        -------
        ModelAgreement
            There is one exact binomial test for each architecture with an exact value, and one for
            each side whose independent weights have one. Printing it tells the verdict and why; it
            is true iff the counts agree.
        """
        check_probability("level", level)
        tests = [table["p_value"].to_numpy(np.float64) for table in (self.table(), self.by_law())]
        whole = [whole_test(cell) for cell in self.cells]
        sides = [one for cell in self.cells for one in side_tests(cell)]
        return ModelAgreement(level, np.concatenate(tests), (*whole, *sides))

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
        return "\n".join(lines(self))

    __repr__ = __str__


def _exact_share(cell: ModelCell) -> float:
    """Return the exact mean share of frozen weights; NaN if a weight is alone in two balances."""
    numbers = [side.weights for side in cell.sides]
    if not numbers or sum(numbers) != cell.weights:
        return math.nan
    return math.fsum(map(math.prod, zip(numbers, cell.shares, strict=True))) / cell.weights
