"""The HTML page of a report, which holds all its text, numbers, pictures and programs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from obstruction.reporting.page import provenance
from obstruction.reporting.page.cells import HEADS, cell_texts
from obstruction.reporting.page.maps import make_maps
from obstruction.reporting.page.models import models_page, recorded_models
from obstruction.reporting.page.parts import as_json, part, policy, script, template
from obstruction.reporting.page.pictures import MapStyle, base64_text, draw_pictures
from obstruction.reporting.page.selection import Selection, select
from obstruction.reporting.page.summary import SchemeSummary, summarise, verdict_sentences
from obstruction.reporting.tables.cells import table_rows
from obstruction.reporting.tables.citing import bibtex
from obstruction.reporting.tables.html import HTML
from obstruction.schemes import SchemeLike
from obstruction.studies.factories.model_study import ModelStudy
from obstruction.tools.files import replacing
from obstruction.tools.version import __version__
from obstruction.tools.words import listed

if TYPE_CHECKING:
    from obstruction.studies.study import Study

ROWS: Final = 25
"""The number of rows of the table of cells that are shown at a time, and without JavaScript."""


def write_report(
    study: Study | ModelStudy | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    schemes: SchemeLike | Iterable[SchemeLike] | None = None,
    d: Any = None,
    l: Any = None,
    level: float = 1e-3,
) -> Path:
    """Write the report of a study as a single HTML file that needs no network.

    Parameters
    ----------
    study : Study, ModelStudy or path-like
        A study, or the folder of a study. From a folder, the report also states when the study was
        made, and its checksum.
    out : path-like
        The file to write or replace. Its name must end in .html or .htm. The file appears whole or
        not at all, and the same study always gives the same bytes.
    schemes : str, InitScheme, or several of them, optional
        The schemes of the study to show; all by default.
    d, l : int or iterable of int, optional
        The sizes of the study to show; all by default. The verdict is always that of all cells. The
        page about a study of models shows all of it, and takes none of these.
    level : float
        The probability that the verdict is a false alarm, between 0 and 0.9.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If the folder holds no study, the study does not have a scheme or a size, there are more
        than 100,000 cells to show, Bokeh is not installed, or the file has another name or cannot
        be written.

    Examples
    --------
    >>> import obstruction as ob
    >>> study = ob.sample("kaiming_normal", d=[2, 5, 10], l=[5, 10], networks=1000)
    >>> ob.write_report(study, "report.html")  # doctest: +SKIP
    PosixPath('report.html')
    """
    path = Path(out)
    if path.suffix.lower() not in (".html", ".htm"):  # this also protects the files of the study
        raise ValueError(f"out = {os.fspath(out)!r}: must end in .html")
    folder = None
    if isinstance(study, (str, os.PathLike)):
        from obstruction.studies.loading import load

        folder, study = study, load(study)
    if isinstance(study, ModelStudy):
        for name, given in (("schemes", schemes), ("d", d), ("l", l)):
            if given is not None:
                raise ValueError(f"{name} = {given!r}: is about a study of (d, l), not of models")
        run = None if folder is None else recorded_models(folder)
        text = models_page(study, level=level, run=run)
    else:
        run = None if folder is None else provenance.recorded(study, folder)
        text = report_page(study, schemes=schemes, d=d, l=l, level=level, run=run)
    if path.is_dir():
        raise ValueError(f"out = {path}: is a folder, name a file in it")
    with replacing(path) as stream:
        stream.write(text.encode())
    return path


def report_page(
    study: Study,
    *,
    schemes: SchemeLike | Iterable[SchemeLike] | None = None,
    d: Any = None,
    l: Any = None,
    level: float = 1e-3,
    run: dict[str, Any] | None = None,
) -> str:
    """Return the report of a study as HTML; see `write_report` for the arguments.

    ``run`` is the content of the file ``run.json`` of the study, if there is one.
    """
    selection = select(study, schemes, d, l)
    rows = table_rows(study, *selection)
    agreement = study.agreement(level=level)
    summaries = summarise(selection, rows)
    texts, notes = cell_texts(selection, rows)
    pictures, style = draw_pictures(rows, summaries)
    library, maps = make_maps(style, len(selection.schemes))
    names = listed([scheme.label for scheme in selection.schemes])
    page, markup = template("page.html")
    programs = [markup(script(text)) for text in (library, part("page.js"))]
    return str(
        page.render(
            title=f"Obstruction at initialisation: {names}",
            names=[scheme.label for scheme in selection.schemes],
            describe=[line.strip() for line in study.describe().splitlines()[1:]],
            policy=policy(programs),
            style=markup(part("page.css")),
            programs=programs,
            data=markup(as_json(_data(selection, rows, texts, summaries, style, maps))),
            verdict=agreement.verdict,
            sentences=verdict_sentences(agreement),
            left_out=_left_out(study, selection),
            summaries=summaries,
            origin=provenance.origin(study, run),
            command=provenance.command(study),
            pictures=pictures,
            heads=HEADS,
            cells=_first_rows(rows, texts),
            count=len(rows),
            notes=[(note.mark, markup(HTML.words(note.text))) for note in notes],
            bibtex=bibtex(),
            version=__version__,
            any_exact=any(one.exact for one in summaries),
        )
    )


def _data(
    selection: Selection,
    rows: pd.DataFrame,
    texts: dict[str, list[str]],
    summaries: tuple[SchemeSummary, ...],
    style: MapStyle,
    maps: dict[str, Any],
) -> dict[str, Any]:
    """Return the data for ``page.js``, with the cells in the order of the study's table."""
    return {
        "schemes": [{"label": one.label, "exact": one.exact} for one in summaries],
        "d": selection.d,
        "l": selection.l,
        "texts": texts,
        "numbers": {
            "exact": _packed(rows["log10_exact"]),
            "empirical": _packed(rows["log10_empirical"]),
            "z": _packed(rows["z"]),
        },
        "tilted": base64_text((rows["estimator"] == "tilted").to_numpy(np.uint8).tobytes()),
        "axes": {"d": style.d.edges, "l": style.l.edges},
        "scales": {name: asdict(scale) for name, scale in style.scales.items()},
        "rows": ROWS,
        "maps": maps,
    }


def _packed(column: pd.Series[Any]) -> str:
    """Return numbers as little-endian doubles in base64."""
    return base64_text(column.to_numpy(np.float64).astype("<f8").tobytes())


def _first_rows(rows: pd.DataFrame, texts: dict[str, list[str]]) -> list[tuple[str, ...]]:
    few = rows.iloc[:ROWS].astype("str")
    columns = [texts[name][:ROWS] if name in texts else few[name].tolist() for name in HEADS]
    return list(zip(*columns, strict=True))


def _left_out(study: Study, selection: Selection) -> str:
    """Return a paragraph about the cells that the page does not show, or "" if it shows all."""
    schemes, nd, nl = study.config.shape
    cells = schemes * nd * nl
    if selection.cells == cells:
        return ""
    return (
        f"This report shows {selection.cells:,} of the study's {cells:,} "
        f"cells: {len(selection.schemes):,} of {schemes:,} schemes, {len(selection.d):,} of "
        f"{nd:,} values of d, {len(selection.l):,} of {nl:,} values of l. The other "
        f"{cells - selection.cells:,} are left out. The verdict is that of all cells."
    )
