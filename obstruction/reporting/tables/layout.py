"""The layout of a table, which is the same in all formats.

Its words contain names in backticks and formulas in ``$...$``, which each format translates.
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
    """A column heading and the number of columns below it."""

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
    """Rows of a table below a title, which is empty if the rows are not grouped.

    The title is made of the ``keys``, one for each axis. A row is a heading and its cells.
    """

    title: str
    keys: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True)
class Note:
    """A note below a table, and the mark that it explains or ""."""

    mark: str
    text: str


@dataclass(frozen=True)
class TableLayout:
    """A table ready to be written in any format.

    Attributes
    ----------
    stubs : tuple of str
        The names of the axes of the groups and, last, the heading of the first column.
    head : tuple of tuple of Head
        Rows of headings, each of which covers all columns but the first.
    groups : tuple of Group
    notes : tuple of Note
    width : int
        The number of columns without the first.
    """

    stubs: tuple[str, ...]
    head: tuple[tuple[Head, ...], ...]
    groups: tuple[Group, ...]
    notes: tuple[Note, ...]
    width: int


def lay_out(
    arrangement: Arrangement, values: Sequence[str], frame: pd.DataFrame, digits: int
) -> TableLayout:
    """Return the layout of the cells in a frame of `obstruction.reporting.tables.cells`.

    The ``values`` "exact" and "empirical" stand side by side, in this order. Exact values have
    ``digits`` significant digits, or fewer if fewer are accurate.
    """
    names = [axis.name for axis in arrangement.axes]
    records = {tuple(row[name] for name in names): row for row in frame.to_dict("records")}
    columns = list(_points(arrangement.columns))
    ((fixed, _),) = _points(arrangement.fixed)
    *outer, stub = arrangement.rows
    seen: set[Note] = set()

    def line(place: dict[str, Any]) -> tuple[Cell, ...]:
        cells = []
        for point, _ in columns:
            row = records[tuple((place | point)[name] for name in names)]
            for value in values:
                cell, notes = _CELLS[value](row, digits)
                cells.append(cell)
                seen.update(notes)
        return tuple(cells)

    groups = []
    for place, keys in _points(outer):
        rows = tuple(
            (
                text if stub.name == "scheme" else _stub(stub.name, point[stub.name]),
                line(fixed | place | point),
            )
            for point, (text,) in _points([stub])
        )
        groups.append(Group(", ".join(keys), keys, rows))
    width = len(columns) * len(values)
    return TableLayout(
        tuple(
            axis.name if axis.name == "scheme" else _marked(axis.name) for axis in arrangement.rows
        ),
        tuple(_heads(arrangement.columns, values, width)),
        tuple(groups),
        tuple(sorted(seen, key=lambda note: (_ORDER.index(note.mark), note.text))),
        width,
    )


def _points(axes: Sequence[TableAxis]) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    """Yield all combinations of keys, and their texts, where the last axis changes fastest."""
    for keys in product(*(axis.keys for axis in axes)):
        named = list(zip((axis.name for axis in axes), keys, strict=True))
        yield (
            {name: getattr(key, "label", key) for name, key in named},
            tuple(_title(name, key) for name, key in named),
        )


def _title(name: str, key: Any) -> str:
    """Return a key with the name of its axis; those of models are names of code."""
    if hasattr(key, "label"):
        return f"`{key.label}`"
    return f"${name} = {key}$" if name in ("d", "l") else _code(f"{name} = {key}")


def _marked(name: str) -> str:
    return f"${name}$" if name in ("d", "l") else _code(name)


def _stub(name: str, key: Any) -> str:
    return _code(key) if isinstance(key, str) else str(key)


def _code(text: str) -> str:
    plain = text.replace("`", "'")
    return f"`{plain}`"


def _heads(
    axes: Sequence[TableAxis], values: Sequence[str], width: int
) -> Iterator[tuple[Head, ...]]:
    repeat, span = 1, width
    for axis in axes:
        span //= len(axis.keys)
        texts = [text for _, (text,) in _points([axis])]
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
        if "reason" in row:
            told, begin = str(row["reason"]), "no exact value"
            return Cell(None), (Note(DASH, told if begin in told else f"{begin}: {told}"),)
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
