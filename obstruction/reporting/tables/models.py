"""Tables of the probability that a draw of a model has a frozen sign."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from obstruction.reporting.tables.axes import Arrangement, TableAxis
from obstruction.reporting.tables.cells import MOST_CELLS, RECORDED
from obstruction.studies.factories.model_study import ModelStudy
from obstruction.studies.factories.model_text import lines
from obstruction.studies.factories.model_verdict import whole_test
from obstruction.tools.version import __version__
from obstruction.tools.words import counted, listed

MODEL: Final = "model"
"""The axis of a study without a grid."""


def models_arrangement(study: ModelStudy, rows: Any, columns: Any) -> Arrangement:
    """Return the axes of a table of a study of models, with their keys.

    ``rows`` and ``columns`` are a name or a mapping of names to keys, where None stands for all
    values on that axis. A study without a grid has the axis ``model``.

    Raises
    ------
    ValueError
        If an axis or a value is not that of the study, or if one is missing.
    """
    there = dict(study.axes) or {MODEL: (study.cells[0].source,)}
    given = {"rows": _mapping(rows), "columns": _mapping(columns)}
    if not given["rows"]:
        raise ValueError(f"rows: must name at least one of {', '.join(there)}")
    along: dict[str, list[TableAxis]] = {"rows": [], "columns": []}
    for option, axes in given.items():
        for name, keys in axes.items():
            if name not in there:
                raise ValueError(f"{option}: {name!r} is none of {', '.join(there)}")
            if option == "columns" and name in given["rows"]:
                raise ValueError(f"columns: {name} is among the rows already")
            along[option].append(TableAxis(name, _keys(name, keys, there[name])))
    fixed = []
    for name, keys in there.items():
        if name not in given["rows"] and name not in given["columns"]:
            if len(keys) > 1:
                raise ValueError(f"{name}: is in neither rows nor columns, say rows {name}")
            fixed.append(TableAxis(name, keys))
    made = Arrangement(tuple(along["rows"]), tuple(along["columns"]), tuple(fixed))
    cells = math.prod(len(axis.keys) for axis in made.axes)
    if cells > MOST_CELLS:
        raise ValueError(
            f"rows, columns: {cells:,} cells are too many for a table, at most {MOST_CELLS:,} are"
            " allowed"
        )
    return made


def models_frame(
    study: ModelStudy, arrangement: Arrangement, values: tuple[str, ...]
) -> pd.DataFrame:
    """Return the numbers of the chosen architectures, in the columns of a table of sizes."""
    table = study.table()
    kept = np.ones(len(table), np.bool_)
    for axis in arrangement.axes:
        kept &= table[axis.name].isin(axis.keys).to_numpy(np.bool_)
    if not kept.any() or np.count_nonzero(kept) < math.prod(len(a.keys) for a in arrangement.axes):
        raise ValueError("study: was interrupted, and lacks architectures of this table")
    table = table[kept].reset_index(drop=True)
    frame = table[["model", *(axis.name for axis in arrangement.axes if axis.name != MODEL)]].copy()
    if "exact" in values:
        tests = [whole_test(cell) for cell, keep in zip(study.cells, kept, strict=True) if keep]
        frame["exact"] = table["exact"]
        frame["method"] = [
            f"none: {one.reason}" if math.isnan(one.exact) else RECORDED for one in tests
        ]
        frame["reason"] = [one.reason for one in tests]
    if "empirical" in values:
        for name in ("networks", "obstructed", "empirical", "ci_low", "ci_high"):
            frame[name] = table[name]
        frame["estimator"], frame["samples"], frame["interval_level"] = "direct", 0, 0.95
    with np.errstate(divide="ignore"):
        for name in ("exact", "empirical", "ci_low", "ci_high"):
            if name in frame.columns:
                frame[f"log10_{name}"] = np.log10(frame[name])
    return frame


def models_caption(
    study: ModelStudy, arrangement: Arrangement, values: tuple[str, ...]
) -> tuple[str, tuple[str, ...]]:
    """Return the caption of a table of models, and lines about the origin of its numbers."""
    names = dict.fromkeys(cell.source for cell in study.cells)
    fixed = [f"{axis.name} = {axis.keys[0]}" for axis in arrangement.fixed if axis.name != MODEL]
    text = (
        f"{'Exact probability' if values == ('exact',) else 'Probability'} that a draw of "
        f"{listed(f'`{name}`' for name in names)} by its own initialisation has a frozen sign"
        f"{' with ' * bool(fixed)}{', '.join(f'`{one}`' for one in fixed)}"
    )
    if "empirical" in values:
        text += (
            f": {'exact, and ' if 'exact' in values else ''}empirical from "
            f"{counted(study.networks, 'draw')} per architecture (seed\u00a0{study.seed}), with "
            "95\u00a0% confidence intervals in brackets"
        )
    return f"{text}.", (f"Written by obstruction {__version__}.", next(lines(study)))


def _mapping(axes: Any) -> Mapping[str, Any]:
    return {axes: None} if isinstance(axes, str) else axes


def _keys(name: str, keys: Any, there: tuple[Any, ...]) -> tuple[Any, ...]:
    if keys is None:
        return there
    several = keys if isinstance(keys, Iterable) and not isinstance(keys, str) else [keys]
    chosen = tuple(dict.fromkeys(several))
    for key in chosen:
        if key not in there:
            raise ValueError(f"{name} = {key}: the study has {name} = {', '.join(map(str, there))}")
    return chosen
