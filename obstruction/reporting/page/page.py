"""The page itself: text, numbers, pictures and programs in one HTML file."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from obstruction.reporting.page import provenance
from obstruction.reporting.page.cells import Texts, write_cells
from obstruction.reporting.page.maps import Maps, make_maps
from obstruction.reporting.page.pictures import Look, draw
from obstruction.reporting.page.selection import Selection, select
from obstruction.reporting.page.summary import SchemeSummary, summarise, verdict_sentences
from obstruction.reporting.tables.citing import bibtex
from obstruction.reporting.tables.html import HTML
from obstruction.schemes import SchemeLike
from obstruction.tools.version import __version__
from obstruction.tools.words import listed

if TYPE_CHECKING:
    from obstruction.studies.study import Study

ROWS: Final = 25
"""Rows of the table on its first page, which is there without JavaScript, too."""

HEADS: Final = {
    "scheme": "scheme",
    "d": "d",
    "l": "l",
    "exact": "exact",
    "empirical": "empirical",
    "interval": "95 % interval",
    "z": "z",
    "estimator": "estimator",
}
"""The columns of the table of cells and what stands above them."""


def report_page(
    study: Study,
    *,
    schemes: SchemeLike | Iterable[SchemeLike] | None = None,
    d: Any = None,
    l: Any = None,
    level: float = 1e-3,
    run: dict[str, Any] | None = None,
) -> str:
    """Return the report of a study as HTML.

    Parameters
    ----------
    study : Study
    schemes, d, l, level
        As in `obstruction.write_report`.
    run : dict, optional
        What the ``run.json`` of the study's folder holds.

    Raises
    ------
    ValueError
        As in `obstruction.write_report`.
    """
    selection = select(study, schemes, d, l)
    rows = selection.rows(study)
    agreement = study.agreement(level=level)
    summaries = summarise(selection, rows)
    texts = write_cells(study, selection, rows)
    pictures, look = draw(rows, summaries)
    maps = make_maps(look, len(selection.schemes))
    names = listed([scheme.label for scheme in selection.schemes])
    template, markup = _template()
    programs = [markup(_script(text)) for text in (maps.library, _part("page.js"))]
    return str(
        template.render(
            title=f"Obstruction at initialisation: {names}",
            names=[scheme.label for scheme in selection.schemes],
            describe=[line.strip() for line in study.describe().splitlines()[1:]],
            policy=_policy(programs),
            style=markup(_part("page.css")),
            programs=programs,
            data=markup(_as_json(_data(selection, rows, texts, summaries, look, maps))),
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
            notes=[(note.mark, markup(HTML.words(note.text))) for note in texts.notes],
            bibtex=bibtex(),
            version=__version__,
            any_exact=any(one.exact for one in summaries),
        )
    )


def _template() -> tuple[Any, Any]:
    """Return the template, which escapes whatever is put into it, and the mark of safe text."""
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ImportError:
        raise ValueError("a report needs jinja2: pip install 'obstruction[report]'") from None
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_part("page.html")), Markup


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _script(text: str) -> str:
    """Return a program in the form in which a browser reads it from a page."""
    text = "\n" + text.replace("\r\n", "\n").strip() + "\n"
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError("a program of the report holds the end of a script")
    return text


def _policy(programs: Iterable[str]) -> str:
    """Return a policy by which the page loads nothing and runs its own programs only."""
    hashes = [
        base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode() for text in programs
    ]
    scripts = " ".join(f"'sha256-{text}'" for text in hashes)
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _as_json(value: Any) -> str:
    """Return JSON that no page can misread as the end of its script."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _data(
    selection: Selection,
    rows: pd.DataFrame,
    texts: Texts,
    summaries: tuple[SchemeSummary, ...],
    look: Look,
    maps: Maps,
) -> dict[str, Any]:
    """Return what ``page.js`` works on; cells are in the order of the study's table."""
    return {
        "schemes": [{"label": one.label, "exact": one.exact} for one in summaries],
        "d": selection.d,
        "l": selection.l,
        "texts": {name: getattr(texts, name) for name in ("exact", "empirical", "interval", "z")},
        "numbers": {
            "exact": _packed(rows["log10_exact"]),
            "empirical": _packed(rows["log10_empirical"]),
            "z": _packed(rows["z"]),
        },
        "tilted": base64.b64encode(
            (rows["estimator"] == "tilted").to_numpy(np.uint8).tobytes()
        ).decode(),
        "axes": {"d": look.d.edges, "l": look.l.edges},
        "scales": {
            name: {"low": scale.low, "high": scale.high, "palette": scale.palette}
            for name, scale in look.scales.items()
        },
        "rows": ROWS,
        "maps": {"document": maps.document, "roots": maps.roots},
    }


def _packed(column: pd.Series[Any]) -> str:
    """Return numbers as the bytes of doubles, the lowest byte first."""
    return base64.b64encode(column.to_numpy(np.float64).astype("<f8").tobytes()).decode()


def _first_rows(rows: pd.DataFrame, texts: Texts) -> list[list[str]]:
    few = min(ROWS, len(rows))
    named = [rows[name].iloc[:few].astype("str").tolist() for name in ("scheme", "d", "l")]
    numbers = [getattr(texts, name)[:few] for name in ("exact", "empirical", "interval", "z")]
    estimators = rows["estimator"].iloc[:few].astype("str").tolist()
    return [list(row) for row in zip(*named, *numbers, estimators, strict=True)]


def _left_out(study: Study, selection: Selection) -> str:
    """Say which part of the study the page shows, if it is not all."""
    if not selection.left_out:
        return ""
    schemes, nd, nl = study.config.shape
    return (
        f"This report shows {selection.cells:,} of the study's {study.counts.obstructed.size:,} "
        f"cells: {len(selection.schemes):,} of {schemes:,} schemes, {len(selection.d):,} of "
        f"{nd:,} values of d, {len(selection.l):,} of {nl:,} values of l. The other "
        f"{selection.left_out:,} are left out. The verdict is that of all cells."
    )
