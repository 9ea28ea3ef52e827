"""Tables for papers, of exact values and of estimates with their intervals.

`obstruction.reporting.tables.rounding` explains how numbers are rounded.

Its modules may import studies and everything below them. They must never know of pictures or pages.

Examples
--------
>>> from obstruction import tables
>>> table = tables.probability_table(
...     rows={"d": [2, 10]}, columns={"l": [10, 1000]}, schemes="xavier_normal"
... )
>>> latex = table.to_latex(label="tab:xavier")
"""

from obstruction.reporting.tables.axes import parse_axes
from obstruction.reporting.tables.citing import bibtex
from obstruction.reporting.tables.probability import (
    FORMATS,
    SUFFIXES,
    ProbabilityTable,
    probability_table,
)

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "ProbabilityTable",
    "bibtex",
    "parse_axes",
    "probability_table",
]
