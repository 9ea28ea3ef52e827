"""A summary of a study in a few numbers for each scheme."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from obstruction.reporting.page.cells import short, z_text
from obstruction.reporting.page.selection import Selection
from obstruction.reporting.tables.cells import methods
from obstruction.schemes import InitScheme
from obstruction.tools.words import counted

if TYPE_CHECKING:
    from obstruction.studies.verdict import Agreement


@dataclass(frozen=True)
class Extreme:
    """A smallest or largest number of a study, as text, and the cell that has it."""

    text: str
    d: int
    l: int

    def __str__(self) -> str:
        return f"{self.text} at d = {self.d:,}, l = {self.l:,}"


@dataclass(frozen=True)
class SchemeSummary:
    """The summary of one scheme.

    Attributes
    ----------
    label : str
    hidden, output, ratio, bias : str
        The formulas of Var W1, of Var W2, of their ratio a, and of Var b1. The last is empty if the
        scheme has no biases.
    method : str
        The method by which the exact values are computed, or the reason why there are none.
    exact : bool
        Whether there are exact values.
    source : {"exact", "empirical"}
        Whether `least`, `most` and `likely` are about exact or empirical probabilities.
    least, most : Extreme
        The smallest and the largest probability of obstruction.
    cells, likely, tilted : int
        The numbers of cells that are shown, of those with a probability of at least 1/2, and of
        those that are estimated from weighted samples.
    worst : Extreme or None
        The z-score that is farthest from 0.
    """

    label: str
    hidden: str
    output: str
    ratio: str
    bias: str
    method: str
    exact: bool
    source: str
    least: Extreme
    most: Extreme
    cells: int
    likely: int
    tilted: int
    worst: Extreme | None

    def words(self) -> str:
        """Return the summary as a sentence for readers who cannot see the pictures."""
        text = (
            f"{self.label}: the {self.source} probability of obstruction is {self.least}"
            if self.cells == 1
            else f"{self.label}: the {self.source} probability of obstruction ranges from "
            f"{self.least} to {self.most} and is at least 0.5 in {self.likely:,} of "
            f"{counted(self.cells, 'cell')}"
        )
        if self.worst is not None:
            text += f"; the largest z-score is {self.worst}"
        return text + "."


def summarise(selection: Selection, rows: pd.DataFrame) -> tuple[SchemeSummary, ...]:
    """Return the summary of every scheme of a selection."""
    ways = methods(rows)
    labels = rows["scheme"].astype("str").to_numpy()
    return tuple(
        _summary(scheme, rows.iloc[np.flatnonzero(labels == scheme.label)], ways[scheme.label])
        for scheme in selection.schemes
    )


def _summary(scheme: InitScheme, rows: pd.DataFrame, method: str) -> SchemeSummary:
    hidden, output, ratio = scheme.formulas()
    known = bool(rows["exact"].notna().any())
    source = "exact" if known else "empirical"
    values = rows[f"log10_{source}"].to_numpy(np.float64)
    z = np.abs(rows["z"].to_numpy(np.float64))
    worst = None
    if not np.isnan(z).all():
        at = int(np.nanargmax(z))
        worst = Extreme(z_text(float(rows["z"].iloc[at])), *_cell(rows, at))
    return SchemeSummary(
        scheme.label,
        hidden,
        output,
        ratio,
        scheme.bias_formula(),
        method,
        known,
        source,
        _probability(rows, source, int(np.nanargmin(values))),
        _probability(rows, source, int(np.nanargmax(values))),
        len(rows),
        int(np.count_nonzero(values >= math.log10(0.5))),
        int(np.count_nonzero(rows["estimator"] == "tilted")),
        worst,
    )


def _probability(rows: pd.DataFrame, source: str, at: int) -> Extreme:
    value, log10 = (float(rows[name].iloc[at]) for name in (source, f"log10_{source}"))
    text = short(value, log10)
    if source == "empirical" and value == 0.0 and log10 == -math.inf:
        bound = float(rows["ci_high"].iloc[at])
        text = f"below {short(bound, math.log10(bound))}"
    return Extreme(text, *_cell(rows, at))


def _cell(rows: pd.DataFrame, at: int) -> tuple[int, int]:
    return int(rows["d"].iloc[at]), int(rows["l"].iloc[at])


def verdict_sentences(agreement: Agreement) -> list[str]:
    """Return the sentences in which ``obstruction check`` states the verdict."""
    return re.split(r"(?<=\.) (?=[A-Z0-9])", " ".join(str(agreement).split()))
