"""The interactive heatmaps, drawn by Bokeh, one for each scheme.

Bokeh's document describes the appearance of the maps but does not hold their numbers. The page
holds the numbers only once, for the maps and the table, and ``page.js`` passes them to Bokeh.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from obstruction.reporting.page.cells import HEADS
from obstruction.reporting.page.pictures import AxisStyle, MapStyle

FONT = "system-ui, sans-serif"
HEIGHT = 400
SIDES = ("left", "right", "bottom", "top")
TEXTS = tuple(name for name in HEADS if name != "scheme")

_ROWS = "".join(
    '<tr><th style="padding:0 0.8em 0 0;font-weight:400;text-align:left;color:#55555f">'
    f'{HEADS[name]}</th><td style="padding:0">@{name}</td></tr>'
    for name in TEXTS
)
_TOOLTIP = (
    '<table style="margin:2px 4px;border-collapse:collapse;font:13px/1.5 system-ui,sans-serif;'
    f'font-variant-numeric:tabular-nums;color:#1f1f24">{_ROWS}</table>'
)


def make_maps(style: MapStyle, schemes: int) -> tuple[str, dict[str, Any]]:
    """Return the maps of a number of schemes.

    Returns
    -------
    library : str
        Bokeh's JavaScript library.
    maps : dict
        Bokeh's document, and the identifiers of the maps in it as ``roots``. The data sources of
        the first map are named ``cells-0`` and ``cursor-0``, and its colour scale ``colours-0``.

    Raises
    ------
    ValueError
        If Bokeh is not installed.
    """
    try:
        from bokeh.core.json_encoder import serialize_json
        from bokeh.document import Document
        from bokeh.models import Range1d
        from bokeh.resources import Resources
    except ImportError:
        raise ValueError("a report needs bokeh: pip install 'obstruction[report]'") from None
    ranges = [
        Range1d(ends[0], ends[1], bounds=ends)
        for ends in ((axis.edges[0], axis.edges[-1]) for axis in (style.d, style.l))
    ]
    document = Document()
    figures = [_figure(style, k, ranges) for k in range(schemes)]
    for figure in figures:
        document.add_root(figure)
    roots = json.dumps([figure.id for figure in figures])
    text = f'{{"document": {serialize_json(document.to_json())}, "roots": {roots}}}'
    resources = Resources(mode="inline", components=["bokeh"], log_level="error")
    return "\n".join(resources.js_raw), json.loads(_renumbered(text))


def _figure(style: MapStyle, k: int, ranges: Sequence[Any]) -> Any:
    from bokeh.models import ColorBar, ColumnDataSource, HoverTool, LinearColorMapper
    from bokeh.plotting import figure

    scale = style.scales["chance"]
    colours = LinearColorMapper(
        palette=list(scale.palette),
        low=scale.low,
        high=scale.high,
        nan_color=style.missing,
        name=f"colours-{k}",
    )
    plot = figure(
        x_range=ranges[0],
        y_range=ranges[1],
        x_axis_type="log" if style.d.log else "linear",
        y_axis_type="log" if style.l.log else "linear",
        x_axis_label="inputs d",
        y_axis_label="hidden neurons l",
        tools="box_zoom,pan,reset",
        active_drag="box_zoom",
        toolbar_location="above",
        sizing_mode="stretch_width",
        height=HEIGHT,
        min_width=200,
        min_border_right=12,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
    )
    plot.toolbar.logo = None
    plot.grid.visible = False
    for axis, sizes in ((plot.xaxis[0], style.d), (plot.yaxis[0], style.l)):
        _style_axis(axis, sizes)
    sides: Any = {side: side for side in SIDES}
    cells = ColumnDataSource({name: [] for name in (*SIDES, "value", *TEXTS)}, name=f"cells-{k}")
    fill: Any = {"field": "value", "transform": colours}
    # lines in the colours of the cells close the gaps that antialiasing leaves between them
    drawn = plot.quad(
        **sides, source=cells, fill_color=fill,
        line_color=fill, line_width=1.5, line_join="miter",
    )  # fmt: skip
    cursor = ColumnDataSource({name: [] for name in (*SIDES, "d", "l")}, name=f"cursor-{k}")
    for colour, width in (("#ffffff", 4.0), ("#000000", 1.5)):
        outline: Any = {"fill_color": None, "line_color": colour, "line_width": width}
        plot.quad(**sides, source=cursor, **outline)
        plot.scatter("d", "l", size=20, source=cursor, **outline)
    at_cell: Any = {"tooltips": _TOOLTIP, "point_policy": "follow_mouse"}
    plot.add_tools(HoverTool(renderers=[drawn], visible=False, **at_cell))
    bar = ColorBar(
        color_mapper=colours,
        width=10,
        padding=4,
        background_fill_color=None,
        major_label_text_font=FONT,
        major_label_text_font_size="12px",
        major_label_text_color="#26262b",
        major_tick_line_color=None,
        bar_line_color=None,
        border_line_color=None,
    )
    plot.add_layout(bar, "right")
    return plot


def _style_axis(axis: Any, style: AxisStyle) -> None:
    from bokeh.models import FixedTicker

    axis.ticker = FixedTicker(ticks=list(style.ticks))
    axis.major_label_overrides = {tick: f"{tick:.0f}" for tick in style.ticks}
    axis.axis_label_text_font = axis.major_label_text_font = FONT
    axis.axis_label_text_font_style = "normal"
    axis.axis_label_text_font_size, axis.major_label_text_font_size = "14px", "12px"
    axis.axis_label_text_color = axis.major_label_text_color = "#26262b"
    axis.axis_line_color = None
    axis.major_tick_line_color = "#55555f"
    axis.minor_tick_line_color = None


def _renumbered(text: str) -> str:
    """Rename Bokeh's models p1, p2, ..., so that the same study always gives the same bytes."""
    numbers: dict[str, str] = {}
    return re.sub(
        r'"(p\d+)"', lambda name: f'"{numbers.setdefault(name[1], f"p{len(numbers) + 1}")}"', text
    )
