"""The drawn heatmaps of a report, and what the interactive ones take over from them."""

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
"""Colours of a scale."""


@dataclass(frozen=True)
class Picture:
    """A figure of the report: the image as a data address, what it shows, and its caption."""

    address: str
    width: int
    height: int
    alt: str
    caption: str


@dataclass(frozen=True)
class Scale:
    """The colours of a quantity, lowest first, and the numbers at both ends."""

    low: float
    high: float
    palette: tuple[str, ...]


@dataclass(frozen=True)
class MapAxis:
    """Where the cells of an axis end, on which scale, and which sizes are labelled."""

    edges: tuple[float, ...]
    log: bool
    ticks: tuple[float, ...]


@dataclass(frozen=True)
class Look:
    """How the interactive heatmaps are drawn: as the drawn ones are.

    Attributes
    ----------
    d, l : MapAxis
    scales : dict of str to Scale
        Of probabilities, of their common logarithms and of z-scores: "chance", "log10", "z".
    missing : str
        The colour of cells without a value.
    """

    d: MapAxis
    l: MapAxis
    scales: dict[str, Scale]
    missing: str


def draw(
    rows: pd.DataFrame, summaries: tuple[SchemeSummary, ...]
) -> tuple[tuple[Picture, ...], Look]:
    """Draw the heatmaps of a study.

    Parameters
    ----------
    rows : DataFrame
        The cells, as in `obstruction.Study.table`.
    summaries : tuple of SchemeSummary
        What the descriptions of the images say.
    """
    from obstruction.reporting import heatmaps

    plain, log = heatmaps.figure(rows), heatmaps.figure(rows, scale="log10")
    look = _look(plain, log)
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
        data = base64.b64encode(image).decode()
        caption = (
            f"The probability that a network is obstructed, {how}: estimated, exact, and their "
            f"difference in standard errors.{more}"
        )
        pictures.append(
            Picture(f"data:image/png;base64,{data}", width, height, before + alt, caption)
        )
        figure.clear()
    return tuple(pictures), look


def _look(plain: Figure, log: Figure) -> Look:
    """Read axes and colours off the figures, so that both kinds of heatmap look alike."""
    panel = plain.axes[0]
    mesh: Any = panel.collections[0]
    corners = mesh.get_coordinates()
    missing = mesh.cmap(np.nan)
    return Look(
        _axis(corners[0, :, 0], panel.get_xscale(), panel.get_xticks()),
        _axis(corners[:, 0, 1], panel.get_yscale(), panel.get_yticks()),
        {
            "chance": _scale(mesh),
            "log10": _scale(log.axes[0].collections[0]),
            "z": _scale(plain.axes[2].collections[0]),
        },
        _hex(missing),
    )


def _axis(edges: Any, scale: str, ticks: Any) -> MapAxis:
    return MapAxis(tuple(map(float, edges)), scale == "log", tuple(map(float, ticks)))


def _scale(mesh: Any) -> Scale:
    colours = mesh.cmap(np.linspace(0.0, 1.0, COLOURS))
    return Scale(float(mesh.norm.vmin), float(mesh.norm.vmax), tuple(map(_hex, colours)))


def _hex(colour: Any) -> str:
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in colour[:3])
