"""Tables in Typst."""

from __future__ import annotations

import re
from itertools import accumulate, pairwise
from typing import Final

from obstruction.reporting.tables.citing import bibtex
from obstruction.reporting.tables.latex import UPRIGHT, check_label, fitted
from obstruction.reporting.tables.layout import DAGGER, DASH, Cell, Note, TableLayout
from obstruction.reporting.tables.markup import Markup

_SPECIAL = re.compile(r"([\\#*_`$<>@\[\]~/='\"-])")

_TYPST: Final = Markup(
    plain=lambda text: _SPECIAL.sub(r"\\\1", text).replace("\u00a0", "~"),
    name=lambda word: f"`{word}`",
    formula=lambda formula: f"${formula}$",
    power=lambda exponent: f" times 10^({exponent})",
)

_SIZES = {"": 0.9, "small": 0.8, "footnotesize": 0.75, "scriptsize": 0.65}
"""Sizes of type in em for those of LaTeX. The text of Typst is larger and wider."""


def write(layout: TableLayout, caption: str, origin: tuple[str, ...], label: str) -> str:
    """Return a figure with comments, table, notes, caption and label."""
    check_label(label)
    comments = [*origin, "Please cite:", *bibtex().splitlines()]
    width = layout.width + 1
    left = layout.stubs[-1] == "scheme"
    lines = [f"// {line}" for line in comments]
    lines += [
        f"#figure(kind: table, caption: [{_TYPST.words(caption)}])[",
        f"  #set text(size: {_SIZES[fitted(layout, UPRIGHT)[0].name]}em)",
        "  #table(",
        f"    columns: {width}, stroke: none, inset: (x: 0.4em, y: 0.45em),",
        f"    align: (x, y) => if x == 0 {{ {'left' if left else 'right'} }} else {{ center }},",
        "    table.hline(stroke: 0.08em),",
        "    table.header(",
    ]
    for i, row in enumerate(layout.head):
        cells = [f"[{_TYPST.words(layout.stubs[-1])}]" if i == len(layout.head) - 1 else "[]"]
        for head in row:
            text = f"[{_TYPST.words(head.text)}]"
            cells.append(f"table.cell(colspan: {head.span}){text}" if head.span > 1 else text)
        lines.append(f"      {', '.join(cells)},")
        if i < len(layout.head) - 1:
            for start, end in pairwise(accumulate((head.span for head in row), initial=1)):
                rule = f"start: {start}, end: {end}, stroke: 0.03em"
                lines.append(f"      table.hline({rule}),")
    lines += ["      table.hline(stroke: 0.05em),", "    ),"]
    for group in layout.groups:
        if group.title:
            title = f"[{_TYPST.words(group.title)}]"
            lines.append(f"    table.cell(colspan: {width}, align: left){title},")
        for key, row_cells in group.rows:
            lines.append(f"    [{_TYPST.words(key)}], {', '.join(map(_cell, row_cells))},")
    lines += ["    table.hline(stroke: 0.08em),", "  )"]
    if layout.notes:
        notes = " \\ ".join(map(_note, layout.notes))
        lines.append(f"  #align(left)[{notes}]")
    lines.append(f"] <{label}>")
    return "\n".join(lines) + "\n"


def _note(note: Note) -> str:
    mark = f"#super[{note.mark}]" if note.mark == DAGGER else _TYPST.plain(note.mark)
    return f"{mark} {_TYPST.words(note.text)}".lstrip()


def _cell(cell: Cell) -> str:
    if cell.number is None:
        return f"[{DASH}]"
    number = cell.number
    relation = {"<": "< ", ">": "> "}.get(number.relation, "")
    mark = f"#super[{cell.mark}]" if cell.mark else ""
    value = _TYPST.scaled(number.mantissa, number.exponent)
    text = f"${relation}{value}${mark}"
    if cell.interval is not None:
        ends = f"\\[{cell.interval.low}, {cell.interval.high}\\]"
        ends = _TYPST.scaled(ends, cell.interval.exponent)
        text += f" \\ #text(size: 0.8em)[${ends}$]"
    return f"[{text}]"
