"""Tables in Markdown: pipes, and signs of Unicode instead of formulas."""

from __future__ import annotations

from obstruction.reporting.tables.layout import DASH, Cell, Layout
from obstruction.reporting.tables.markup import translated
from obstruction.reporting.tables.rounding import Shown

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def write(layout: Layout, caption: str) -> str:
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
    lines = [_words(caption), "", _row(table[0]), _row(rules), *map(_row, table[1:])]
    for note in layout.notes:
        mark = f"\\{note.mark}" if note.mark in ("<", ">") else note.mark  # no tag, no quotation
        lines += ["", f"{mark} {_words(note.text)}".lstrip()]
    return "\n".join(lines) + "\n"


def _row(texts: list[str]) -> str:
    return "| " + " | ".join(_words(text) for text in texts) + " |"


def _words(text: str) -> str:
    return translated(
        text,
        plain=str,
        name=lambda word: f"`{word}`",
        formula=lambda formula: f"*{formula[0]}*{formula[1:]}",
    )


def _cell(cell: Cell) -> str:
    if cell.number is None:
        return DASH
    text = _number(cell.number)
    if cell.interval is not None:
        ends = f"[{cell.interval.low}, {cell.interval.high}]"
        text += f" {ends}{_power(cell.interval.exponent)}"
    return text + cell.mark


def _number(number: Shown) -> str:
    relation = {"<": "\\< ", ">": "\\> "}.get(number.relation, "")
    return relation + number.mantissa + _power(number.exponent)


def _power(exponent: int) -> str:
    return f" × 10{str(exponent).translate(_RAISED)}" if exponent else ""
