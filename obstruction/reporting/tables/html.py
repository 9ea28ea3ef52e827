"""Tables in HTML, as figures that screen readers can read aloud."""

from __future__ import annotations

from html import escape
from typing import Final

from obstruction.reporting.tables.layout import DAGGER, DASH, Cell, TableLayout
from obstruction.reporting.tables.markup import Markup

_STYLE = """\
<style>
.obstruction-table table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.obstruction-table caption { text-align: left; padding-bottom: 0.5em; }
.obstruction-table th, .obstruction-table td { padding: 0.2em 0.7em; text-align: right; }
.obstruction-table thead th { text-align: center; }
.obstruction-table th[scope=rowgroup] { text-align: left; padding-top: 0.7em; }
.obstruction-table thead, .obstruction-table tbody:last-child { border-bottom: 1px solid; }
.obstruction-table thead { border-top: 2px solid; }
.obstruction-table small { white-space: nowrap; }
.obstruction-table p { font-size: smaller; margin: 0.4em 0; }
</style>"""

HTML: Final = Markup(
    plain=escape,
    name=lambda word: f"<code>{escape(word)}</code>",
    formula=lambda formula: f"<var>{formula[0]}</var>{escape(formula[1:])}",
    power=lambda exponent: f" × 10<sup>{'−' if exponent < 0 else ''}{abs(exponent)}</sup>",
)


def write(layout: TableLayout, caption: str) -> str:
    """Return a figure with the table and its notes."""
    lines = [
        '<figure class="obstruction-table">',
        _STYLE,
        "<table>",
        f"<caption>{HTML.words(caption)}</caption>",
        "<thead>",
    ]
    for i, row in enumerate(layout.head):
        cells = []
        if i == 0:
            down = f' rowspan="{len(layout.head)}"' if len(layout.head) > 1 else ""
            cells.append(f'<th scope="col"{down}>{HTML.words(layout.stubs[-1])}</th>')
        for head in row:
            scope = f'colgroup" colspan="{head.span}' if head.span > 1 else "col"
            cells.append(f'<th scope="{scope}">{HTML.words(head.text)}</th>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    lines.append("</thead>")
    for group in layout.groups:
        lines.append("<tbody>")
        if group.title:
            title = HTML.words(group.title)
            lines.append(f'<tr><th scope="rowgroup" colspan="{layout.width + 1}">{title}</th></tr>')
        for key, cells_of_row in group.rows:
            numbers = "".join(f"<td>{_cell(cell)}</td>" for cell in cells_of_row)
            lines.append(f'<tr><th scope="row">{HTML.words(key)}</th>{numbers}</tr>')
        lines.append("</tbody>")
    lines.append("</table>")
    for note in layout.notes:
        mark = f"<sup>{note.mark}</sup>" if note.mark == DAGGER else escape(note.mark)
        lines.append(f"<p>{f'{mark} {HTML.words(note.text)}'.lstrip()}</p>")
    lines.append("</figure>")
    text = "\n".join(lines) + "\n"
    return text.encode("ascii", "xmlcharrefreplace").decode()  # whatever the page's encoding is


def _cell(cell: Cell) -> str:
    if cell.number is None:
        return DASH
    text = HTML.number(cell.number) + (f"<sup>{cell.mark}</sup>" if cell.mark else "")
    if cell.interval is not None:
        text += f" <br><small>{HTML.interval(cell.interval)}</small>"
    return text
