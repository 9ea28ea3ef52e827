"""The heatmaps of a report as images, and their style, which the interactive ones share."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from obstruction.reporting.page.summary import SchemeSummary
from obstruction.tools.words import listed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS: Final = 256
"""The number of colours of a scale."""


@dataclass(frozen=True)
class Picture:
    """A figure of the report: a data URL, a size in pixels, a description and a caption."""

    address: str
    width: int
    height: int
    alt: str
    caption: str


@dataclass(frozen=True)
class ColourScale:
    """The colours of a quantity from the lowest value to the highest, and these two values."""

    low: float
    high: float
    palette: tuple[str, ...]


@dataclass(frozen=True)
class AxisStyle:
    """The edges of the cells along an axis, its scale, and the sizes that are labelled."""

    edges: tuple[float, ...]
    log: bool
    ticks: tuple[float, ...]


@dataclass(frozen=True)
class MapStyle:
    """The style that images and interactive heatmaps share.

    Attributes
    ----------
    d, l : AxisStyle
    scales : dict of str to ColourScale
        "chance" for probabilities, "log10" for their common logarithms, and "z" for z-scores.
    missing : str
        The colour of cells without a value.
    """

    d: AxisStyle
    l: AxisStyle
    scales: dict[str, ColourScale]
    missing: str


def draw_pictures(
    rows: pd.DataFrame, summaries: tuple[SchemeSummary, ...]
) -> tuple[tuple[Picture, ...], MapStyle]:
    """Draw the heatmaps of some rows of a study's table, and describe them by the summaries."""
    from obstruction.reporting import heatmaps

    plain, log = heatmaps.figure(rows), heatmaps.figure(rows, scale="log10")
    style = _map_style(plain, log)
    columns = "empirical probability of obstruction, exact probability, z-score"
    names = listed([one.label for one in summaries])
    alt = " ".join(
        [
            f"Heatmaps with a row for each of {names}" if len(summaries) > 1 else "Heatmaps",
            f"over the inputs d (to the right) and the hidden neurons l (upwards): {columns}.",
            *(one.words() for one in summaries),
        ]
    )
    kinds = (
        (plain, "", "on the linear scale from 0 to 1", ""),
        (
            log,
            "The same on the logarithmic scale. ",
            "by its common logarithm, which tells small probabilities apart",
            " Cells in which no network was obstructed have no logarithm and are grey.",
        ),
    )
    pictures = []
    for figure, before, how, more in kinds:
        stream = io.BytesIO()
        heatmaps.write(figure, stream)
        image = stream.getvalue()
        width, height = (int.from_bytes(image[at : at + 4]) for at in (16, 20))  # a PNG's header
        address = f"data:image/png;base64,{base64_text(image)}"
        caption = (
            f"The probability that a network is obstructed, {how}: estimated, exact, and their "
            f"difference in standard errors.{more}"
        )
        pictures.append(Picture(address, width, height, before + alt, caption))
        figure.clear()
    return tuple(pictures), style


def base64_text(data: bytes) -> str:
    """Return bytes as text in base64."""
    return base64.b64encode(data).decode()


def _map_style(plain: Figure, log: Figure) -> MapStyle:
    """Return the style of two figures with probabilities and with logarithms."""
    panel = plain.axes[0]
    mesh: Any = panel.collections[0]
    corners = mesh.get_coordinates()
    return MapStyle(
        _axis(corners[0, :, 0], panel.get_xscale(), panel.get_xticks()),
        _axis(corners[:, 0, 1], panel.get_yscale(), panel.get_yticks()),
        {
            "chance": _scale(mesh),
            "log10": _scale(log.axes[0].collections[0]),
            "z": _scale(plain.axes[2].collections[0]),
        },
        _hex(mesh.cmap(np.nan)),
    )


def _axis(edges: Any, scale: str, ticks: Any) -> AxisStyle:
    return AxisStyle(tuple(map(float, edges)), scale == "log", tuple(map(float, ticks)))


def _scale(mesh: Any) -> ColourScale:
    colours = mesh.cmap(np.linspace(0.0, 1.0, COLOURS))
    return ColourScale(float(mesh.norm.vmin), float(mesh.norm.vmax), tuple(map(_hex, colours)))


def _hex(colour: Any) -> str:
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in colour[:3])
