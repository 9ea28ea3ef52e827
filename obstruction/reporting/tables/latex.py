"""Tables in LaTeX, with the packages booktabs and siunitx."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from obstruction.reporting.tables.citing import bibtex
from obstruction.reporting.tables.layout import DAGGER, DASH, Cell, TableLayout
from obstruction.reporting.tables.markup import Markup
from obstruction.reporting.tables.rounding import Shown

_ESCAPES: Final = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
        **{
            "\u00a0": "~",
            "<": r"\ensuremath{<}",
            ">": r"\ensuremath{>}",
            DAGGER: r"\ensuremath{\dagger}",
        },
        **{DASH: "---", "–": "--", "×": r"\ensuremath{\times}"},
    }
)

_LATEX: Final = Markup(
    plain=lambda words: words.translate(_ESCAPES),
    name=lambda word: rf"\texttt{{{word.translate(_ESCAPES)}}}",
    formula=lambda formula: f"${formula}$",
    power=lambda exponent: rf"{{\times}}10^{{{exponent}}}",
)

UPRIGHT, _LANDSCAPE = 397.0, 640.0
"""The width and the height in points of the text of NeurIPS, which is narrower than most."""


class _Size(NamedTuple):
    """A size of type, with widths in points."""

    name: str
    digit: float
    space: float  # the space on either side of a column
    small: str  # the size of type of the intervals
    small_digit: float


_SIZES: Final = (
    _Size("", 5.0, 6.0, r"\footnotesize", 4.25),
    _Size("small", 4.63, 5.0, r"\scriptsize", 3.98),
    _Size("footnotesize", 4.25, 4.0, r"\scriptsize", 3.98),
    _Size("scriptsize", 3.98, 3.0, r"\tiny", 3.4),
)


def check_label(label: str) -> str:
    """Return a label that is valid in LaTeX and in Typst."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9:._-]*", label):
        raise ValueError(
            f"label = {label!r}: must be a letter and then letters, digits and any of : . _ -"
        )
    return label


def write(
    layout: TableLayout, caption: str, origin: tuple[str, ...], label: str, landscape: bool
) -> str:
    """Return a ``table`` with comments, caption, label, tabular and notes."""
    check_label(label)
    size, fits = fitted(layout, _LANDSCAPE if landscape else UPRIGHT)
    environment = "sidewaystable" if landscape else "table"
    packages = ["booktabs", "siunitx", "rotating"][: 2 + landscape]
    first = "l" if layout.stubs[-1] == "scheme" else "r"
    comments = [
        *origin,
        f"Needs \\usepackage{{{','.join(packages)}}}, siunitx of version 3 or newer.",
        *([] if fits else ["Is wide: has more columns than usual texts have room for."]),
        "Please cite:",
        *bibtex().splitlines(),
    ]
    return "\n".join(
        [
            *(f"% {line}" for line in comments),
            rf"\begin{{{environment}}}",
            r"\centering",
            rf"\caption{{{_LATEX.words(caption)}}}",
            rf"\label{{{label}}}",
            r"\par\smallskip",
            *([rf"\{size.name}"] if size.name else []),
            rf"\setlength{{\tabcolsep}}{{{size.space:g}pt}}",
            r"\sisetup{group-digits = none, tight-spacing = true, table-align-exponent = false,",
            r"  table-align-text-after = false}",
            rf"\begin{{tabular}}{{{first}",
            *(f"  {_column(cells)}" for cells in _cells_by_column(layout)),
            "}",
            r"\toprule",
            *_head_lines(layout),
            r"\midrule",
            *_body_lines(layout, size.small),
            r"\bottomrule",
            r"\end{tabular}",
            *_note_lines(layout),
            rf"\end{{{environment}}}",
            "",
        ]
    )


def _cells_by_column(layout: TableLayout) -> list[tuple[Cell, ...]]:
    return list(zip(*(cells for g in layout.groups for _, cells in g.rows), strict=True))


def _head_lines(layout: TableLayout) -> list[str]:
    lines = []
    for i, row in enumerate(layout.head):
        last = i == len(layout.head) - 1
        cells = [_LATEX.words(layout.stubs[-1]) if last else ""]
        cells += [rf"\multicolumn{{{head.span}}}{{c}}{{{_LATEX.words(head.text)}}}" for head in row]
        lines.append(" & ".join(cells) + r" \\")
        if not last:
            ends = pairwise(accumulate((head.span for head in row), initial=1))
            lines.append(" ".join(rf"\cmidrule(lr){{{left + 1}-{right}}}" for left, right in ends))
    return lines


def _body_lines(layout: TableLayout, small: str) -> list[str]:
    lines = []
    for i, group in enumerate(layout.groups):
        if group.title:
            lines += [r"\addlinespace"] * (i > 0)
            lines.append(
                rf"\multicolumn{{{layout.width + 1}}}{{@{{}}l}}{{{_LATEX.words(group.title)}}} \\"
            )
            lines.append(r"\addlinespace[2pt]")
        spaced = any(cell.interval is not None for _, cells in group.rows for cell in cells)
        for j, (key, cells) in enumerate(group.rows):
            intervals = [_interval(cell, small) for cell in cells]
            lines += [r"\addlinespace"] * (spaced and j > 0)
            lines.append(" & ".join([_LATEX.words(key), *map(_cell, cells)]) + r" \\")
            if any(intervals):
                lines.append(" & ".join(["", *intervals]) + r" \\")
    return lines


def _note_lines(layout: TableLayout) -> list[str]:
    if not layout.notes:
        return []
    notes = []
    for note in layout.notes:
        mark = _LATEX.words(note.mark)
        mark = rf"\textsuperscript{{{mark}}}" if note.mark == DAGGER else mark
        notes.append(f"{mark}~{_LATEX.words(note.text)}".removeprefix("~"))
    return [
        r"\par\smallskip",
        r"\parbox{\linewidth}{\footnotesize\raggedright",
        *(f"{note}\\par" for note in notes),
        "}",
    ]


def _cell(cell: Cell) -> str:
    """Return a number for siunitx, or a dash in braces, which siunitx does not parse."""
    if cell.number is None:
        return "{---}"
    number = cell.number
    power = f"e{number.exponent}" if number.exponent else ""
    mark = rf" {{\rlap{{\textsuperscript{{{_LATEX.plain(cell.mark)}}}}}}}" if cell.mark else ""
    return f"{number.relation}{number.mantissa}{power}{mark}"


def _interval(cell: Cell, small: str) -> str:
    if cell.interval is None:
        return ""
    ends = f"[{cell.interval.low},\\,{cell.interval.high}]"
    ends = _LATEX.scaled(ends, cell.interval.exponent)
    return rf"{{{small} ${ends}$}}"


def _column(cells: Sequence[Cell]) -> str:
    """Return the type of a column, with room for its longest number."""
    numbers = [cell.number for cell in cells if cell.number is not None]
    if not numbers:
        return "c"
    relation = "<" if any(number.relation for number in numbers) else ""
    whole, decimals, power = _room(numbers)
    places = f"{whole}.{decimals}" if decimals else f"{whole}"
    left = ""
    if power and any(cell.interval is not None for cell in cells):  # numbers above intervals
        left = ", table-number-alignment=left, table-text-alignment=left"
    return f"S[table-format={relation}{places}{f'e-{power}' if power else ''}{left}]"


def _room(numbers: Sequence[Shown]) -> tuple[int, int, int]:
    """Return how many digits numbers have before and after the point, and in the exponent.

    If some numbers have a power of ten, only these count for the digits after the point, because
    the other numbers can extend into the space of the power.
    """
    powers = [number for number in numbers if number.exponent] or numbers
    return (
        max(len(number.mantissa.partition(".")[0]) for number in numbers),
        max(len(number.mantissa.partition(".")[2]) for number in powers),
        max(len(str(-number.exponent)) if number.exponent else 0 for number in numbers),
    )


# --- the size of the type ------------------------------------------------------------------


def fitted(layout: TableLayout, width: float) -> tuple[_Size, bool]:
    """Return the largest size in which a table fits into a width, and whether any size fits."""
    heads = [0.0] * layout.width
    for row in layout.head:
        spread = [head for head in row for _ in range(head.span)]
        heads = [max(w, len(h.text) / h.span) for w, h in zip(heads, spread, strict=True)]
    stub = max(len(key) for group in layout.groups for key, _ in group.rows)
    for size in _SIZES:
        total = stub * size.digit + 2.0 * size.space * (layout.width + 1)
        for cells, head in zip(_cells_by_column(layout), heads, strict=True):
            total += max(
                head * size.digit, _digits(cells) * size.digit, *_interval_widths(cells, size)
            )
        if total <= width:
            return size, True
    return size, False


def _digits(cells: Sequence[Cell]) -> float:
    """Return the approximate width of the numbers of a column, in digits."""
    numbers = [cell.number for cell in cells if cell.number is not None]
    if not numbers:
        return 2.0
    whole, decimals, power = _room(numbers)
    relation = 2.0 if any(number.relation for number in numbers) else 0.0
    mark = 0.5 if any(cell.mark for cell in cells) else 0.0
    return relation + whole + 0.6 + decimals + _width_of_power(power) + mark


def _interval_widths(cells: Sequence[Cell], size: _Size) -> Iterator[float]:
    yield 0.0
    for cell in cells:
        if cell.interval is not None:
            ends = len(cell.interval.low) + len(cell.interval.high) + 1.4
            exponent = cell.interval.exponent
            digits = len(str(-exponent)) if exponent else 0
            yield size.small_digit * (ends + _width_of_power(digits))


def _width_of_power(digits: int) -> float:
    return 4.5 + 0.75 * digits if digits else 0.0
