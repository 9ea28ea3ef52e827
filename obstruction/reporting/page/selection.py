"""The selection of the cells of a study that a report shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from obstruction.reporting.tables.axes import arrange
from obstruction.schemes import InitScheme, SchemeLike
from obstruction.tools.checks import check_axis
from obstruction.tools.parsing import axis_text

if TYPE_CHECKING:
    from obstruction.studies.study import Study

MOST_CELLS: Final = 100_000
"""The number of cells of the largest report, a page of about 10 MB."""


class Selection(NamedTuple):
    """The cells of some schemes of a study, some ``d`` and some ``l``.

    Attributes
    ----------
    schemes : tuple of InitScheme
        In the order of the study.
    d, l : tuple of int
        In ascending order.
    """

    schemes: tuple[InitScheme, ...]
    d: tuple[int, ...]
    l: tuple[int, ...]

    @property
    def cells(self) -> int:
        """The number of cells."""
        return len(self.schemes) * len(self.d) * len(self.l)


def select(
    study: Study,
    schemes: SchemeLike | Iterable[SchemeLike] | None = None,
    d: Any = None,
    l: Any = None,
) -> Selection:
    """Return the cells to show. None stands for everything that the study has along an axis.

    Raises
    ------
    ValueError
        If the study does not have a scheme or a size, or if there are more cells than `MOST_CELLS`.
        The message then proposes sizes that are allowed.
    """
    axes = {"d": d, "l": l}
    unknown: dict[str, Any] = {}
    for name, sizes in axes.items():
        there = getattr(study.config, name)
        axes[name] = there if sizes is None else check_axis(name, sizes)
        unknown[name] = sorted(set(axes[name]).difference(there))[:1] or None
    # one unknown size is enough for the error, and many would take long to check
    chosen = arrange({"scheme": schemes, **unknown}, {}, None, study.config)
    d_axis, l_axis = axes.values()
    labels = {scheme.label for scheme in chosen.keys("scheme")}
    kept = tuple(scheme for scheme in study.config.schemes if scheme.label in labels)
    selection = Selection(kept, d_axis, l_axis)
    if selection.cells > MOST_CELLS:
        raise ValueError(
            f"d, l: {selection.cells:,} cells are too many for a report, at most {MOST_CELLS:,} "
            f"are allowed; choose some, say {_advice(selection)}"
        )
    return selection


def _advice(selection: Selection) -> str:
    """Return options that select as many evenly spaced sizes of each axis as are allowed."""
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
    """Return sizes as on the command line; of a list too long for a line, some of them."""
    text = axis_text(sizes)
    if len(text) <= 60 or ":" in text:
        return text
    return axis_text(sizes[:: -(-len(sizes) // 8)])
