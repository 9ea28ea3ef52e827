"""The cells of a report as a reader sees them: each number as text, rounded as in the tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from obstruction.reporting.page.selection import Selection
from obstruction.reporting.tables.cells import VALUES, study_cells
from obstruction.reporting.tables.layout import DASH, Cell, Note, lay_out
from obstruction.reporting.tables.markup import UNICODE
from obstruction.reporting.tables.probability import DEFAULT_DIGITS
from obstruction.reporting.tables.rounding import Shown, by_digits, precise

if TYPE_CHECKING:
    from obstruction.studies.study import Study


@dataclass(frozen=True)
class Texts:
    """The numbers of all cells as text, one entry a cell, and the notes that explain their marks.

    Attributes
    ----------
    exact, empirical, interval, z : tuple of str
    notes : tuple of Note
    """

    exact: tuple[str, ...]
    empirical: tuple[str, ...]
    interval: tuple[str, ...]
    z: tuple[str, ...]
    notes: tuple[Note, ...]


def write_cells(study: Study, selection: Selection, rows: pd.DataFrame) -> Texts:
    """Write the numbers of the selected rows of a study's table."""
    arrangement = selection.arrangement()
    cells = study_cells(study, arrangement, VALUES)
    layout = lay_out(arrangement, VALUES, cells, DEFAULT_DIGITS)
    pairs = [cells for group in layout.groups for _, cells in group.rows]
    estimates = [estimate for _, estimate in pairs]
    return Texts(
        tuple(_text(exact) for exact, _ in pairs),
        tuple(map(_text, estimates)),
        tuple(map(_interval, estimates)),
        tuple(map(z_text, rows["z"].tolist())),
        layout.notes,
    )


def short(value: float, log10: float) -> str:
    """Return a probability in three digits, for running text.

    Examples
    --------
    >>> short(0.12345, -0.90852), short(0.0, -1188.5)
    ('0.123', '3.16 × 10⁻¹¹⁸⁹')
    """
    return _rounded(by_digits(precise(value, log10), 3))


def z_text(z: float) -> str:
    """Return a distance in standard errors, with its sign.

    Examples
    --------
    >>> z_text(-3.6301), z_text(float("nan"))
    ('−3.63', '—')
    """
    if math.isnan(z):
        return DASH
    text = f"{z:+.2f}" if abs(z) < 1000.0 else f"{z:+.3g}"
    return text.replace("-", "−").replace("inf", "∞")


def _text(cell: Cell) -> str:
    return DASH if cell.number is None else _rounded(cell.number) + cell.mark


def _rounded(number: Shown) -> str:
    relation = f"{number.relation} " if number.relation else ""
    return relation + UNICODE.scaled(number.mantissa, number.exponent)


def _interval(cell: Cell) -> str:
    """Return the interval of an estimate.

    If a bound is shown instead of the estimate, the bound is an end of the interval, and the other
    end is 0 or 1.
    """
    if cell.number is None:
        return DASH
    if cell.interval is not None:
        ends = f"[{cell.interval.low}, {cell.interval.high}]"
        return UNICODE.scaled(ends, cell.interval.exponent)
    bound = UNICODE.scaled(cell.number.mantissa, cell.number.exponent)
    low, high = {"<": ("0", bound), ">": (bound, "1")}.get(cell.number.relation, (bound, bound))
    return f"[{low}, {high}]"
