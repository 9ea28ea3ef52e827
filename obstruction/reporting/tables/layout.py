"""How a table is laid out, whatever the format: headings, cells, notes.

Words carry a little markup that each format translates: names in backticks, formulas in ``$...$``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import pandas as pd

from obstruction.reporting.tables.axes import Arrangement, TableAxis
from obstruction.reporting.tables.cells import accurate_digits
from obstruction.reporting.tables.rounding import Interval, Shown, by_digits, by_interval, precise

DAGGER: Final = "†"
DASH: Final = "—"


@dataclass(frozen=True)
class Head:
    """A column heading and how many columns it stands above."""

    text: str
    span: int


@dataclass(frozen=True)
class Cell:
    """A number with its interval and mark, or a dash where there is no number."""

    number: Shown | None
    interval: Interval | None = None
    mark: str = ""


@dataclass(frozen=True)
class Group:
    """Rows below one title; the title is empty if there is nothing to group by.

    Attributes
    ----------
    title : str
    keys : tuple of str
        What the title is made of, one text an axis.
    rows : tuple of (str, tuple of Cell)
    """

    title: str
    keys: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True)
class Note:
    """A note below a table and the mark it explains, empty for a general remark."""

    mark: str
    text: str


@dataclass(frozen=True)
class TableLayout:
    """A table ready to be written in any format.

    Attributes
    ----------
    stubs : tuple of str
        What heads the titles of the groups and, last, the first column.
    head : tuple of tuple of Head
        Rows of headings, each of which covers all columns but the first.
    groups : tuple of Group
    notes : tuple of Note
    width : int
        Columns but the first.
    """

    stubs: tuple[str, ...]
    head: tuple[tuple[Head, ...], ...]
    groups: tuple[Group, ...]
    notes: tuple[Note, ...]
    width: int


def lay_out(
    arrangement: Arrangement, values: Sequence[str], frame: pd.DataFrame, digits: int
) -> TableLayout:
    """Arrange the cells of a table.

    Parameters
    ----------
    arrangement : Arrangement
    values : sequence of {"exact", "empirical"}
        Side by side in this order.
    frame : pandas.DataFrame
        One row a cell, see `obstruction.reporting.tables.cells`.
    digits : int
        Significant digits of exact values, as far as they are accurate.
    """
    records = {(row["scheme"], row["d"], row["l"]): row for row in frame.to_dict("records")}
    here = {axis.name: _key(axis, 0) for axis in arrangement.fixed}
    *outer, stub = arrangement.rows
    lines = list(_points(arrangement.columns))
    seen: dict[Note, None] = {}

    def line(place: dict[str, Any]) -> tuple[Cell, ...]:
        cells = []
        for point in lines:
            row = records[tuple((here | place | point)[name] for name in ("scheme", "d", "l"))]
            for value in values:
                cell, notes = _CELLS[value](row, digits)
                cells.append(cell)
                seen.update(dict.fromkeys(notes))
        return tuple(cells)

    groups = []
    for place in _points(outer):
        keys = tuple(_text(axis.name, place[axis.name]) for axis in outer)
        rows = tuple(
            (_alone(stub.name, key), line({**place, stub.name: key}))
            for key in (_key(stub, i) for i in range(len(stub.keys)))
        )
        groups.append(Group(", ".join(keys), keys, rows))
    width = len(lines) * len(values)
    return TableLayout(
        tuple(_stub(axis.name) for axis in arrangement.rows),
        tuple(_heads(arrangement.columns, values, width)),
        tuple(groups),
        tuple(sorted(seen, key=lambda note: (_ORDER.index(note.mark), note.text))),
        width,
    )


def _points(axes: Sequence[TableAxis]) -> Iterator[dict[str, Any]]:
    """Yield all combinations of keys, the last axis fastest."""
    for indices in product(*(range(len(axis.keys)) for axis in axes)):
        yield {axis.name: _key(axis, i) for axis, i in zip(axes, indices, strict=True)}


def _key(axis: TableAxis, index: int) -> Any:
    key = axis.keys[index]
    return key.label if axis.name == "scheme" else key


def _text(name: str, key: Any) -> str:
    return f"`{key}`" if name == "scheme" else f"${name} = {key}$"


def _alone(name: str, key: Any) -> str:
    return f"`{key}`" if name == "scheme" else str(key)


def _stub(name: str) -> str:
    return "scheme" if name == "scheme" else f"${name}$"


def _heads(
    axes: Sequence[TableAxis], values: Sequence[str], width: int
) -> Iterator[tuple[Head, ...]]:
    repeat, span = 1, width
    for axis in axes:
        span //= len(axis.keys)
        texts = [_text(axis.name, _key(axis, i)) for i in range(len(axis.keys))]
        yield tuple(Head(text, span) for text in texts * repeat)
        repeat *= len(axis.keys)
    if len(values) > 1 or not axes:
        yield tuple(Head(value, 1) for value in list(values) * repeat)


# --- cells ---------------------------------------------------------------------------------

_TILTED: Final = (
    "estimated from {samples:,} weighted samples (exponential tilting), not from counts"
)
_BOUND: Final = "the end of the {level:g}\u00a0% interval; the estimate itself is {estimate:g}"
_ACCURATE: Final = "Exact values have fewer digits where the method is accurate to no more."
_ORDER: Final = (DAGGER, "<", ">", DASH, "")


def _exact(row: Mapping[str, Any], digits: int) -> tuple[Cell, tuple[Note, ...]]:
    value, log10, method = row["exact"], row["log10_exact"], row["method"]
    if math.isnan(value):
        reason = f"its method ({method}) does not reach so many inputs"
        if method.startswith("none"):
            reason = "its " + method.removeprefix("none: ")  # weights depend on each other
        return Cell(None), (Note(DASH, f"no exact value for `{row['scheme']}`: {reason}"),)
    if method == "certain" and value == 1.0:
        return Cell(Shown("1")), ()
    accurate = min(digits, accurate_digits(method, log10))
    notes = (Note("", _ACCURATE),) if accurate < digits else ()
    return Cell(by_digits(precise(value, log10), accurate)), notes


def _empirical(row: Mapping[str, Any], digits: int) -> tuple[Cell, tuple[Note, ...]]:
    names = ("empirical", "ci_low", "ci_high")
    number, interval = by_interval(*(precise(row[name], row[f"log10_{name}"]) for name in names))
    notes, mark = [], ""
    if row["estimator"] == "tilted":
        mark = DAGGER
        notes.append(Note(DAGGER, _TILTED.format(samples=row["samples"])))
    if number.relation:
        level, estimate = 100 * row["interval_level"], row["empirical"]
        notes.append(Note(number.relation, _BOUND.format(level=level, estimate=estimate)))
    return Cell(number, interval, mark), tuple(notes)


_CELLS: Final = {"exact": _exact, "empirical": _empirical}
