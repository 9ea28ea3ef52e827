"""Tables in Markdown, as pipe tables with Unicode characters instead of formulas."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from obstruction.reporting.tables.layout import DASH, Cell, TableLayout
from obstruction.reporting.tables.markup import UNICODE

_MARKDOWN: Final = replace(
    UNICODE,
    plain=lambda text: text.replace("<", "\\<").replace(">", "\\>"),  # no tag, no quotation
    name=lambda word: f"`{word}`",
    formula=lambda formula: f"*{formula[0]}*{formula[1:]}",
)


def write(layout: TableLayout, caption: str) -> str:
    """Return a table with its caption above and its notes below.

    A table in Markdown has a single row of headings and no groups. Headings above each other are
    therefore joined, and the axes of the groups become columns.
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
        lines += ["", f"{_MARKDOWN.plain(note.mark)} {_MARKDOWN.words(note.text)}".lstrip()]
    return "\n".join(lines) + "\n"


def _row(texts: list[str]) -> str:
    return "| " + " | ".join(_MARKDOWN.words(text) for text in texts) + " |"


def _cell(cell: Cell) -> str:
    if cell.number is None:
        return DASH
    interval = "" if cell.interval is None else f" {UNICODE.interval(cell.interval)}"
    return UNICODE.number(cell.number) + interval + cell.mark  # `_row` escapes < and >
