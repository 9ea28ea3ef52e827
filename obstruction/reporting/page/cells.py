"""The numbers of the cells of a report as text, rounded as in `obstruction table`."""

from __future__ import annotations

import math
from typing import Final

import pandas as pd

from obstruction.reporting.page.selection import Selection
from obstruction.reporting.tables.axes import arrange
from obstruction.reporting.tables.cells import VALUES, printed_columns
from obstruction.reporting.tables.layout import DASH, Cell, Note, lay_out
from obstruction.reporting.tables.markup import UNICODE
from obstruction.reporting.tables.probability import DEFAULT_DIGITS
from obstruction.reporting.tables.rounding import by_digits, precise

HEADS: Final = {
    name: name.replace("interval", "95 % interval")
    for name in ("scheme", "d", "l", "exact", "empirical", "interval", "z", "estimator")
}
"""The columns of the table of cells, and the headings above them."""


def cell_texts(
    selection: Selection, rows: pd.DataFrame
) -> tuple[dict[str, list[str]], tuple[Note, ...]]:
    """Return the numbers of the selected rows of a study's table as text.

    Returns
    -------
    texts : dict of str to list of str
        "exact", "empirical", "interval" and "z", with one text for each row.
    notes : tuple of Note
        Explanations of the marks behind some numbers.
    """
    axes = {"scheme": selection.schemes, "d": selection.d, "l": selection.l}
    arrangement = arrange(axes, {}, None, None)
    layout = lay_out(arrangement, VALUES, printed_columns(rows, VALUES), DEFAULT_DIGITS)
    pairs = [cells for group in layout.groups for _, cells in group.rows]
    estimates = [estimate for _, estimate in pairs]
    texts = {
        "exact": [number_text(exact) for exact, _ in pairs],
        "empirical": list(map(number_text, estimates)),
        "interval": list(map(interval_text, estimates)),
        "z": list(map(z_text, rows["z"].tolist())),
    }
    return texts, layout.notes


def short(value: float, log10: float) -> str:
    """Return a probability with three significant digits, for running text.

    Examples
    --------
    >>> short(0.12345, -0.90852), short(0.0, -1188.5)
    ('0.123', '3.16 × 10⁻¹¹⁸⁹')
    """
    return UNICODE.number(by_digits(precise(value, log10), 3))


def z_text(z: float) -> str:
    """Return a z-score, with its sign.

    Examples
    --------
    >>> z_text(-3.6301), z_text(float("nan"))
    ('−3.63', '—')
    """
    if math.isnan(z):
        return DASH
    text = f"{z:+.2f}" if abs(z) < 1000.0 else f"{z:+.3g}"
    return text.replace("-", "−").replace("inf", "∞")


def number_text(cell: Cell) -> str:
    """Return the number of a cell with its mark, or a dash."""
    return DASH if cell.number is None else UNICODE.number(cell.number) + cell.mark


def interval_text(cell: Cell) -> str:
    """Return the confidence interval of an estimate.

    An estimate that is only known to lie below or above a bound has no interval of its own. It
    gets the one from 0 to the bound, or from the bound to 1.
    """
    if cell.number is None:
        return DASH
    if cell.interval is not None:
        return UNICODE.interval(cell.interval)
    bound = UNICODE.scaled(cell.number.mantissa, cell.number.exponent)
    low, high = {"<": ("0", bound), ">": (bound, "1")}.get(cell.number.relation, (bound, bound))
    return f"[{low}, {high}]"
