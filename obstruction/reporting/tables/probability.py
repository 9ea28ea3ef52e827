"""Tables of the probability of obstruction, to paste into a paper."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from obstruction.reporting.tables.axes import Arrangement, AxesLike, arrange
from obstruction.reporting.tables.cells import (
    MOST_CELLS,
    MOST_DIGITS,
    VALUES,
    exact_cells,
    methods,
    study_cells,
)
from obstruction.reporting.tables.layout import TableLayout, lay_out
from obstruction.reporting.tables.models import (
    models_arrangement,
    models_caption,
    models_frame,
)
from obstruction.schemes import InitScheme, SchemeLike, scheme_origin
from obstruction.studies.factories.model_study import ModelStudy
from obstruction.tools.checks import check_choice, check_count
from obstruction.tools.version import __version__
from obstruction.tools.words import counted, listed

if TYPE_CHECKING:
    from obstruction.studies.study import Study

FORMATS: Final = ("latex", "markdown", "html", "csv", "typst")
"""The formats in which a table can be written."""

SUFFIXES: Final = dict(zip((".tex", ".md", ".html", ".csv", ".typ"), FORMATS, strict=True))
"""The formats by the suffixes of file names."""

DEFAULT_DIGITS: Final = 4
DEFAULT_LABEL: Final = "tab:obstruction"


@dataclass(frozen=True, eq=False)
class ProbabilityTable:
    """A table of probabilities of obstruction, as `probability_table` returns it.

    Attributes
    ----------
    frame : pandas.DataFrame
        The unrounded numbers, with one row for each cell. The columns are ``scheme, d, l``, for
        exact values ``exact, log10_exact, method``, and for estimates ``networks, obstructed,
        empirical, ci_low, ci_high``, the logarithms of the last three, ``estimator, samples`` and
        ``interval_level``. `obstruction.studies.table.COLUMNS` explains them.
    caption : str
        The caption, with names in backticks and formulas in ``$...$``.
    origin : tuple of str
        Lines about the origin of the numbers, which become comments.
    layout : TableLayout
        The rounded numbers and their arrangement.
    """

    frame: pd.DataFrame
    caption: str
    origin: tuple[str, ...]
    layout: TableLayout

    def to_latex(self, *, label: str = DEFAULT_LABEL, landscape: bool = False) -> str:
        r"""Return a ``table`` for LaTeX, which needs booktabs and siunitx (3 or newer).

        Intervals stand below their estimates. The type is as small as a text of 5.5 by 9 inches
        requires. Comments hold the BibTeX entries to cite.

        Parameters
        ----------
        label : str
            The label for ``\ref``, of letters, digits and ``:._-``.
        landscape : bool
            Whether to turn the table as a ``sidewaystable``, which needs the package rotating.

        Raises
        ------
        ValueError
            If the label has other characters.
        """
        from obstruction.reporting.tables.latex import write

        return write(self.layout, self.caption, self.origin, label, landscape)

    def to_typst(self, *, label: str = DEFAULT_LABEL) -> str:
        """Return a ``figure`` for Typst 0.11 or newer, with BibTeX entries in comments.

        The label and its errors are those of `to_latex`.
        """
        from obstruction.reporting.tables.typst import write

        return write(self.layout, self.caption, self.origin, label)

    def to_markdown(self) -> str:
        """Return a pipe table, with the caption above it and the notes below it."""
        from obstruction.reporting.tables.markdown import write

        return write(self.layout, self.caption)

    def to_html(self) -> str:
        """Return a ``figure`` for an HTML page, in ASCII and without scripts."""
        from obstruction.reporting.tables.html import write

        return write(self.layout, self.caption)

    def to_csv(self) -> str:
        """Return `frame` as CSV, in which numbers have all their digits."""
        return str(self.frame.to_csv(index=False, lineterminator="\n"))

    def render(self, format: str, *, label: str | None = None, landscape: bool = False) -> str:
        """Return the table in a format.

        Parameters
        ----------
        format : {"latex", "markdown", "html", "csv", "typst"}
        label : str, optional
            The label, which is allowed in LaTeX and Typst.
        landscape : bool
            Whether to turn the table, which is possible in LaTeX.

        Raises
        ------
        ValueError
            If the format is unknown, or if it does not allow a label or a turned table.
        """
        check_choice("format", format, FORMATS)
        if label is not None and format not in ("latex", "typst"):
            raise ValueError(
                f"label = {label!r}: {format} has no labels, only latex and typst have"
            )
        if landscape and format != "latex":
            raise ValueError(f"landscape: {format} tables are not turned, only latex ones are")
        options: dict[str, Any] = {} if label is None else {"label": label}
        options |= {"landscape": True} if landscape else {}
        return str(getattr(self, f"to_{format}")(**options))

    def __str__(self) -> str:
        return self.to_markdown().rstrip("\n")

    def _repr_html_(self) -> str:
        return self.to_html()


def probability_table(
    study: Study | ModelStudy | None = None,
    *,
    rows: AxesLike,
    columns: AxesLike = {},  # noqa: B006  (never changed)
    schemes: SchemeLike | Iterable[SchemeLike] | None = None,
    values: str | Iterable[str] | None = None,
    digits: Any = None,
) -> ProbabilityTable:
    """Return a table of the probability that a network is obstructed at initialisation.

    Parameters
    ----------
    study : Study or ModelStudy, optional
        The study whose values are shown. Without it, there are only exact values, for any sizes.
    rows, columns : str or mapping
        The axes ``"d"``, ``"l"`` and ``"scheme"`` along rows and columns, outer ones first, with
        their keys. Examples are ``{"d": [2, 5, 10]}`` and ``{"scheme": None, "d": [2, 5]}``. None,
        or a name instead of a mapping, stands for all keys of the study. If there are several
        schemes and they are in neither rows nor columns, they become the outermost rows. The axes
        of a study of models are those of its grid, or ``"model"`` without a grid.
    schemes : str, InitScheme, or several of them, optional
        The schemes of a table without a study, or a choice among those of the study.
    values : {"exact", "empirical"} or several of them, optional
        The values that stand side by side. The default is both, or ``"exact"`` without a study.
    digits : int, optional
        The number of significant digits of exact values, from 1 to 11 and by default 4. Digits that
        are not accurate are left out. Estimates are rounded by their intervals.

    Returns
    -------
    ProbabilityTable

    Raises
    ------
    ValueError
        If an argument is out of its range, or if a cell is not on the grid of the study.
    NoExactValue
        If there is no study and no scheme has exact values.

    Examples
    --------
    >>> print(probability_table(rows={"d": [2, 10]}, columns={"l": [1, 100]},
    ...                         schemes="kaiming_normal"))
    Exact probability that a two-layer ReLU network with *d* inputs, *l* hidden neurons and one
    output is obstructed at initialisation, for `kaiming_normal`.
    <BLANKLINE>
    | *d* | *l* = 1 | *l* = 100 |
    | ---: | ---: | ---: |
    | 2 | 0.4226 | 0.6285 |
    | 10 | 0.3409 | 1.589 × 10⁻⁴ |
    """
    wanted = _values(values, study)
    if digits is not None and "exact" not in wanted:
        raise ValueError(f"digits = {digits!r}: is about exact values, which values does not name")
    shown = DEFAULT_DIGITS if digits is None else check_count("digits", digits, most=MOST_DIGITS)
    if isinstance(study, ModelStudy):
        if schemes is not None:
            raise ValueError(f"schemes = {schemes!r}: is about studies of (d, l), not of models")
        arrangement = models_arrangement(study, rows, columns)
        frame = models_frame(study, arrangement, wanted)
        caption, origin = models_caption(study, arrangement, wanted)
        layout = lay_out(arrangement, wanted, frame, shown)
        return ProbabilityTable(
            frame.drop(columns="reason", errors="ignore"), caption, origin, layout
        )
    arrangement = arrange(rows, columns, schemes, None if study is None else study.config)
    cells = math.prod(len(arrangement.keys(name)) for name in ("scheme", "d", "l"))
    if cells > MOST_CELLS:
        raise ValueError(
            f"rows, columns: {cells:,} cells are too many for a table, at most {MOST_CELLS:,} are"
            " allowed"
        )
    frame = exact_cells(arrangement) if study is None else study_cells(study, arrangement, wanted)
    return ProbabilityTable(
        frame,
        _caption(arrangement, wanted, study, frame),
        _origin(wanted, study, frame),
        lay_out(arrangement, wanted, frame, shown),
    )


def _values(
    values: str | Iterable[str] | None, study: Study | ModelStudy | None
) -> tuple[str, ...]:
    """Return the checked values, or the default ones."""
    if values is None:
        return VALUES if study is not None else ("exact",)
    words = (values,) if isinstance(values, str) else tuple(values)
    if not words or len(set(words)) < len(words):
        raise ValueError(f"values = {list(words)}: must be one or both of {', '.join(VALUES)}")
    for word in words:
        check_choice("values", word, VALUES)
    if study is None and "empirical" in words:
        raise ValueError("values = 'empirical': there are none without a study")
    return words


def _caption(
    arrangement: Arrangement, values: tuple[str, ...], study: Study | None, frame: pd.DataFrame
) -> str:
    """Return the caption, which names the schemes and how the numbers were obtained."""
    sizes = {axis.name: axis.keys[0] for axis in arrangement.fixed}
    d, l = (f"${name} = {sizes[name]}$" if name in sizes else f"${name}$" for name in ("d", "l"))
    begin = "Exact probability" if values == ("exact",) else "Probability"
    text = (
        f"{begin} that a two-layer ReLU network with {d} inputs, {l} hidden neurons and one output "
        f"is obstructed at initialisation, for {_schemes_in_words(arrangement.keys('scheme'))}"
    )
    if "empirical" in values and study is not None:
        level = 100.0 * frame["interval_level"].iloc[0]
        seeds = study.seeds_in_words.replace(" ", "\u00a0", 1)
        text += (
            f": {'exact, and ' if 'exact' in values else ''}empirical from "
            f"{counted(study.networks, 'network')} per cell ({study.config.plan} plan, "
            f"{seeds}), with {level:g}\u00a0% confidence intervals in "
            "brackets"
        )
    return text + "."


def _schemes_in_words(schemes: tuple[InitScheme, ...]) -> str:
    words = []
    for scheme in schemes:
        framework, api = scheme_origin(scheme.name)
        origin = "" if framework == "textbook" else f" ({framework} {api})"
        words.append(f"`{scheme.label}`{origin}")
    return listed(words)


def _origin(values: tuple[str, ...], study: Study | None, frame: pd.DataFrame) -> tuple[str, ...]:
    lines = [f"Written by obstruction {__version__}."]
    if study is not None:
        lines += [line.strip() for line in study.describe().splitlines()]
    if "exact" in values:
        lines += [f"Exact values of {name}: {way}." for name, way in methods(frame).items()]
    return tuple(lines)
