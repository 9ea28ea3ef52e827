"""The page of a study of models that a factory makes."""

from __future__ import annotations

import io
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from obstruction.reporting.page.cells import interval_text, number_text, z_text
from obstruction.reporting.page.parts import part, policy, template
from obstruction.reporting.page.pictures import Picture, base64_text
from obstruction.reporting.sources import can_be_drawn
from obstruction.reporting.tables.citing import bibtex
from obstruction.reporting.tables.layout import DASH, Cell
from obstruction.reporting.tables.rounding import by_digits, by_interval, precise
from obstruction.studies.factories.model_cell import ModelCell
from obstruction.studies.factories.model_folder import RUN
from obstruction.studies.factories.model_study import ModelStudy
from obstruction.studies.factories.model_text import command, data_lines, lines, notes
from obstruction.tools.version import __version__
from obstruction.tools.words import counted, listed

MOST_ROWS: Final = 1000
"""The most rows of a table."""

_MOST_NOTES: Final = 40


class _Table(NamedTuple):
    """A table of the page: texts below headings, and what it leaves out, or ""."""

    label: str
    caption: str
    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]
    left_out: str


def models_page(
    study: ModelStudy, *, level: float = 1e-3, run: Mapping[str, Any] | None = None
) -> str:
    """Return the report of a study of models as HTML.

    ``run`` is the content of the file ``run.json`` of the study, if there is one.
    """
    agreement = study.agreement(level=level)
    page, markup = template("page.models.html")
    names = list(dict.fromkeys(cell.source for cell in study.cells))
    return str(
        page.render(
            title=f"Obstruction at initialisation: {listed(names)}",
            names=names,
            describe=next(lines(study)),
            policy=policy(()),
            style=markup(part("page.css")),
            verdict=agreement.verdict,
            sentences=agreement.sentences(),
            cells=_cells(study, names),
            laws=_laws(study, names),
            pictures=_pictures(study),
            draws=list(_draws(study)),
            origin=_origin(study, run),
            command=command(study) if study.origin else "",
            bibtex=bibtex(),
            version=__version__,
        )
    )


def recorded_models(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the content of ``run.json`` in a folder from which a study was read."""
    entries: dict[str, Any] = json.loads((Path(folder) / RUN).read_text(encoding="utf-8"))
    return entries


def _cells(study: ModelStudy, names: Sequence[str]) -> _Table:
    table = study.table()
    keys = _keys(study, names)
    ranks = bool(table["data_rank"].notna().any())
    heads = (
        *keys,
        *(["data rank"] if ranks else []),
        *("draws", "P", "95 % interval", "exact", "z"),
        *("weights", "share", "exact share", "largest ratio"),
    )
    rows = [
        (
            *(str(row[name]) for name in keys),
            *([str(row["data_rank"]).replace("<NA>", DASH)] if ranks else []),
            f"{row['networks']:,}",
            *_estimate(row),
            _exact(row["exact"]),
            z_text(row["z"]),
            f"{row['weights']:,}",
            _percent(row["share"]),
            _percent(row["exact_share"]),
            f"{row['largest']:.3g}",
        )
        for row in table.head(MOST_ROWS).to_dict("records")
    ]
    left_out = ""
    if len(table) > MOST_ROWS:
        left_out = f"The first {MOST_ROWS:,} of {len(table):,}; cells.csv has all."
    return _Table("Architectures", "The probability of a frozen sign", heads, rows, left_out)


def _laws(study: ModelStudy, names: Sequence[str]) -> _Table:
    table, keys, left_out = study.by_law(), _keys(study, names), ""
    if len(table) > MOST_ROWS:
        left_out = f"The {MOST_ROWS:,} with the largest shares of {len(table):,}; laws.csv has all."
        kept = table.sort_values("share", ascending=False, kind="stable").index[:MOST_ROWS]
        table = table.loc[sorted(kept)]
    heads = (
        *keys,
        *("law", "side", "weights of", "number", "others", "P", "95 % interval"),
        *("share", "exact share", "p-value", "largest ratio"),
    )
    rows = [
        (
            *(str(row[name]) for name in keys),
            str(row["law"]),
            row["side"],
            row["tensor"],
            f"{row['weights']:,}",
            f"{row['others']:,.4g}",
            *_estimate(row),
            _percent(row["share"]),
            _percent(row["exact"]),
            DASH if math.isnan(row["p_value"]) else f"{row['p_value']:.2g}",
            f"{row['largest']:.3g}",
        )
        for row in table.to_dict("records")
    ]
    return _Table("Balances", "Frozen weights, balance by balance", heads, rows, left_out)


def _keys(study: ModelStudy, names: Sequence[str]) -> list[str]:
    """Return the columns that name an architecture."""
    return ["model"] * (len(names) > 1 or not study.axes) + list(study.axes)


def _estimate(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return an estimated probability and its interval."""
    numbers = [precise(row[name], -math.inf) for name in ("empirical", "ci_low", "ci_high")]
    cell = Cell(*by_interval(numbers[0], numbers[1], numbers[2]))
    return number_text(cell), interval_text(cell)


def _exact(value: float) -> str:
    return number_text(Cell(None if math.isnan(value) else by_digits(precise(value, -math.inf), 4)))


def _percent(share: float) -> str:
    return DASH if math.isnan(share) else f"{100.0 * share:.3g} %"


def _pictures(study: ModelStudy) -> tuple[Picture, ...]:
    """Return the heatmaps of a grid that can be drawn."""
    if not can_be_drawn(study):
        return ()
    from obstruction.reporting import heatmaps

    table, (x, y) = study.table(), tuple(study.axes)
    figure = heatmaps.figure(table, axes=(x, y))
    stream = io.BytesIO()
    heatmaps.write(figure, stream)
    figure.clear()
    image = stream.getvalue()
    width, height = (int.from_bytes(image[at : at + 4]) for at in (16, 20))  # a PNG's header
    found = table["empirical"]
    least, most = (table.loc[at] for at in (found.idxmin(), found.idxmax()))
    ends = (f"{row['empirical']:.3g} at {x} = {row[x]}, {y} = {row[y]}" for row in (least, most))
    return (
        Picture(
            f"data:image/png;base64,{base64_text(image)}",
            width,
            height,
            f"Heatmaps over {x} (to the right) and {y} (upwards): empirical probability of a "
            f"frozen sign, exact probability, z-score. The empirical one is between "
            f"{' and '.join(ends)}.",
            "The probability that a draw has a frozen sign, on the linear scale from 0 to 1: "
            "estimated, exact, and their difference in standard errors.",
        ),
    )


def _draws(study: ModelStudy) -> Iterator[str]:
    """Yield how the draws were made, and what a reader of the counts should know."""
    ways = Counter(map(_way, study.cells))
    for way, number in ways.items():
        where = f" ({counted(number, 'architecture')})" if len(ways) > 1 else ""
        yield f"{way}{where}."
    yield from data_lines(study)
    told = [note for cell in study.cells for note in notes(cell)]
    told = [note for note in told if "calls the whole factory" not in note]
    yield from told[:_MOST_NOTES]
    if len(told) > _MOST_NOTES:
        yield f"There are {len(told) - _MOST_NOTES:,} more notes, which printing the study shows."


def _way(cell: ModelCell) -> str:
    if not cell.sides:
        return "A single draw was made, since no weight is alone on a side of a balance"
    if cell.called:
        return f"Each draw calls the whole factory: {cell.called}"
    return (
        "Each draw fills only the parameters in these balances, by the operations with which the "
        "factory was seen to fill them"
    )


def _origin(study: ModelStudy, run: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return the terms and descriptions of a study's provenance."""
    frameworks = dict.fromkeys(cell.framework for cell in study.cells)
    found = [("Frameworks", listed(frameworks))]
    if study.origin:
        found.append(("Factory", study.origin["model"]))
    found += [(f"Axis {name}", ", ".join(map(str, values))) for name, values in study.axes.items()]
    drawn = sum(cell.counts.networks for cell in study.cells)
    total = study.networks * math.prod(map(len, study.axes.values()))
    state = f"{drawn:,}" if study.complete else f"{drawn:,} of {total:,} (interrupted)"
    found += [
        ("Draws of each architecture", f"{study.networks:,}"),
        ("Draws in all", state),
        ("Seed", str(study.seed)),
        ("Loss", study.loss or "any"),
        ("Time", f"{sum(cell.seconds for cell in study.cells):,.1f} s"),
    ]
    if run:
        written = str(run["written"]).replace("+00:00", " UTC").replace("T", " ", 1)
        found += [("Saved", written), ("Software", f"obstruction {run['version']}")]
    else:
        found.append(("Software", f"obstruction {__version__}"))
    return found
