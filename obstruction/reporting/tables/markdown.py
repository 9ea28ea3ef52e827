"""Tables in Markdown: pipes, and signs of Unicode instead of formulas."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from obstruction.reporting.tables.layout import DASH, Cell, TableLayout
from obstruction.reporting.tables.markup import UNICODE

_MARKDOWN: Final = replace(
    UNICODE,
    name=lambda word: f"`{word}`",
    formula=lambda formula: f"*{formula[0]}*{formula[1:]}",
)


def write(layout: TableLayout, caption: str) -> str:
    """Return a table with its caption above and its notes below.

    Markdown has one row of headings and no groups: headings are joined, and the axes of the groups
    get columns of their own.
    """
    heads: list[list[str]] = [[] for _ in range(layout.width)]
    for row in layout.head:
        spread = [head.text for head in row for _ in range(head.span)]
        for words, text in zip(heads, spread, strict=True):
            words.append(text)
    table = [[*layout.stubs, *(", ".join(words) for words in heads)]]
    for group in layout.groups:
        table += [[*group.keys, key, *map(_cell, cells)] for key, cells in group.rows]
    left = [not text.startswith("$") for text in layout.stubs]
    rules = [":---" if words else "---:" for words in left] + ["---:"] * layout.width
    lines = [_MARKDOWN.words(caption), "", _row(table[0]), _row(rules), *map(_row, table[1:])]
    for note in layout.notes:
        mark = f"\\{note.mark}" if note.mark in ("<", ">") else note.mark  # no tag, no quotation
        lines += ["", f"{mark} {_MARKDOWN.words(note.text)}".lstrip()]
    return "\n".join(lines) + "\n"


def _row(texts: list[str]) -> str:
    return "| " + " | ".join(_MARKDOWN.words(text) for text in texts) + " |"


def _cell(cell: Cell) -> str:
    if cell.number is None:
        return DASH
    relation = {"<": "\\< ", ">": "\\> "}.get(cell.number.relation, "")
    text = _MARKDOWN.scaled(cell.number.mantissa, cell.number.exponent)
    if cell.interval is not None:
        ends = f"[{cell.interval.low}, {cell.interval.high}]"
        text += " " + _MARKDOWN.scaled(ends, cell.interval.exponent)
    return relation + text + cell.mark
