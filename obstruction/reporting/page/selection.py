"""Which cells of a study a report shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from obstruction.reporting.tables.axes import Arrangement, arrange
from obstruction.reporting.tables.cells import study_rows
from obstruction.schemes import InitScheme, SchemeLike
from obstruction.tools.checks import check_axis

if TYPE_CHECKING:
    from obstruction.studies.study import Study

MOST_CELLS: Final = 100_000
"""Cells of the largest report: a page of some 10 MB that a browser still handles at ease."""


@dataclass(frozen=True)
class Selection:
    """The cells of a study that are shown: all of some schemes, ``d`` and ``l``, ascending.

    Attributes
    ----------
    schemes : tuple of InitScheme
    d, l : tuple of int
    left_out : int
        How many cells of the study are not among them.
    """

    schemes: tuple[InitScheme, ...]
    d: tuple[int, ...]
    l: tuple[int, ...]
    left_out: int

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return len(self.schemes) * len(self.d) * len(self.l)

    def rows(self, study: Study) -> pd.DataFrame:
        """Return their rows of the study's table, in its order."""
        frame = study_rows(study, self.schemes, self.d, self.l)
        if isinstance(frame["scheme"].dtype, pd.CategoricalDtype):
            frame["scheme"] = frame["scheme"].cat.remove_unused_categories()
        return frame

    def arrangement(self) -> Arrangement:
        """Return the arrangement of a table with one row a cell."""
        rows = {"scheme": self.schemes, "d": self.d, "l": self.l}
        return arrange(rows, {}, None, None)


def select(
    study: Study,
    schemes: SchemeLike | Iterable[SchemeLike] | None = None,
    d: Any = None,
    l: Any = None,
) -> Selection:
    """Return the cells to show; None stands for all that the study has along an axis.

    Raises
    ------
    ValueError
        If a scheme or a size is not one of the study's, or if there are more cells than
        `MOST_CELLS`; the message says which sizes would do.
    """
    axes = {"d": d, "l": l}
    unknown: dict[str, Any] = {}
    for name, sizes in axes.items():
        there = getattr(study.config, name)
        axes[name] = there if sizes is None else check_axis(name, sizes)
        unknown[name] = sorted(set(axes[name]).difference(there))[:1] or None
    # one unknown size is enough to be told what there is, and all would take their time
    chosen = arrange({"scheme": schemes, **unknown}, {}, None, study.config)
    d_axis, l_axis = axes.values()
    labels = {scheme.label for scheme in chosen.keys("scheme")}
    kept = tuple(scheme for scheme in study.config.schemes if scheme.label in labels)
    selection = Selection(kept, d_axis, l_axis, 0)
    if selection.cells > MOST_CELLS:
        raise ValueError(
            f"d, l: {selection.cells:,} cells are too many for a report, at most {MOST_CELLS:,} "
            f"are allowed; choose some, say {_advice(selection)}"
        )
    return Selection(kept, d_axis, l_axis, study.counts.obstructed.size - selection.cells)


def spelled(sizes: Sequence[int]) -> str:
    """Return sizes as `obstruction.tools.parsing.parse_axis` reads them.

    Examples
    --------
    >>> spelled([1, 2, 3, 4]), spelled([1, 11, 21]), spelled([2, 5, 10])
    ('1:4', '1:21:10', '2,5,10')
    """
    steps = {b - a for a, b in pairwise(sizes)}
    if len(sizes) < 3 or len(steps) > 1:
        return ",".join(map(str, sizes))
    step = steps.pop()
    return f"{sizes[0]}:{sizes[-1]}" + (f":{step}" if step > 1 else "")


def _advice(selection: Selection) -> str:
    """Return options that leave as many sizes of each axis as fit, evenly spaced."""
    room = MOST_CELLS // len(selection.schemes)
    most = math.isqrt(room)
    d_most = max(most, room // len(selection.l))
    l_most = max(most, room // len(selection.d))
    words = []
    for name, sizes, few in (("d", selection.d, d_most), ("l", selection.l, l_most)):
        if len(sizes) > few:
            words.append(f"--{name} {_short(sizes[:: -(-len(sizes) // few)])}")
    return " ".join(words)


def _short(sizes: Sequence[int]) -> str:
    """Return sizes on the command line; of a long list, as many as a line holds."""
    text = spelled(sizes)
    if len(text) <= 60 or ":" in text:
        return text
    return spelled(sizes[:: -(-len(sizes) // 8)])
