"""What can be drawn: tables, studies, and the folders of studies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import pandas as pd

if TYPE_CHECKING:
    from obstruction.studies.factories.model_study import ModelStudy
    from obstruction.studies.study import Study

    Drawable: TypeAlias = pd.DataFrame | Study | ModelStudy | str | os.PathLike[str]

AXES: Final = ("d", "l")
"""The columns along the axes by default, to the right and upwards."""


def table_and_axes(
    source: Drawable, axes: Sequence[str] | None
) -> tuple[pd.DataFrame, Sequence[str]]:
    """Return the table of what shall be drawn, and its axes.

    Raises
    ------
    ValueError
        If a folder holds no study, or the grid of a study of models has not two axes of whole
        numbers and no other axes are given.
    """
    if isinstance(source, pd.DataFrame):
        return source, AXES if axes is None else axes
    if isinstance(source, str | os.PathLike):
        from obstruction.studies.loading import load

        source = load(source)
    if axes is None:
        axes = axes_of(source)
    return source.table(), axes


def axes_of(study: Study | ModelStudy) -> Sequence[str]:
    """Return the axes of a study that lie to the right and upwards in a heatmap."""
    names = getattr(study, "axes", None)
    if names is None:
        return AXES
    if not can_be_drawn(study):
        found = ", ".join(
            f"{name} = {' '.join(map(str, values))}" for name, values in names.items()
        )
        raise ValueError(
            "a heatmap of a study of models needs a grid with two axes of whole numbers of at "
            f"least 1; this one has {found or 'no grid'}"
        )
    return tuple(names)


def can_be_drawn(study: Study | ModelStudy) -> bool:
    """Return whether a study has a grid with two axes of whole numbers."""
    axes = getattr(study, "axes", None)
    if axes is None:
        return True
    return len(axes) == 2 and all(
        isinstance(value, int) and not isinstance(value, bool) and value >= 1
        for values in axes.values()
        for value in values
    )
