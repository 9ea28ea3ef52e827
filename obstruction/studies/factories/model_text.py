"""What a study of models prints."""

from __future__ import annotations

import ast
import math
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from obstruction.tools.words import columns, counted, duration

if TYPE_CHECKING:
    import pandas as pd

    from obstruction.studies.factories.model_cell import ModelCell

_LISTED: Final = 12
"""The most rows that a summary lists."""


class Told(Protocol):
    """What is told of a `obstruction.studies.factories.model_study.ModelStudy`."""

    @property
    def cells(self) -> tuple[ModelCell, ...]:
        """The architectures."""

    @property
    def axes(self) -> Mapping[str, tuple[Any, ...]]:
        """The axes of the grid and their values."""

    @property
    def networks(self) -> int:
        """The number of draws that were asked for."""

    @property
    def seed(self) -> int:
        """The seed."""

    @property
    def loss(self) -> str | None:
        """The loss."""

    @property
    def origin(self) -> Mapping[str, Any] | None:
        """The command that made it."""

    @property
    def complete(self) -> bool:
        """Whether all draws were made."""

    def table(self) -> pd.DataFrame:
        """Return a row for each architecture."""

    def by_law(self) -> pd.DataFrame:
        """Return a row for each side of a balance."""


def lines(study: Told) -> Iterator[str]:
    """Yield the lines that a study prints."""
    loss = f" under {study.loss}" if study.loss else ""
    seconds = sum(cell.seconds for cell in study.cells)
    first = study.cells[0]
    many = "" if len(study.cells) == 1 else f"{counted(len(study.cells), 'architecture')}, "
    each = "" if len(study.cells) == 1 else " each"
    state = "" if study.complete else " (interrupted)"
    yield (
        f"{first.source} ({first.framework}){loss}: {many}{counted(study.networks, 'draw')}{each} "
        f"by its own initialisation{state}, seed {study.seed}, {duration(seconds)}"
    )
    if len(study.cells) == 1:
        yield from _one(study, first)
    else:
        yield from _grid(study)
    yield from data_lines(study)
    for cell in study.cells:
        yield from notes(cell)


def _one(study: Told, cell: ModelCell) -> Iterator[str]:
    (row,) = study.table().to_dict("records")
    if not cell.sides:
        yield "No weight is alone on a side of a balance: no single balance can freeze a sign."
        return
    exact = "" if math.isnan(cell.exact) else f"; exact {cell.exact:.4g}"
    yield (
        f"P(some sign frozen) = {row['empirical']:.4g} (95 %: {row['ci_low']:.3g} to "
        f"{row['ci_high']:.3g}{exact}); of {counted(cell.weights, 'weight')} alone on a side of a "
        f"balance, {100.0 * row['share']:.3g} % are frozen on average; largest ratio of the two "
        f"sides {cell.largest:.3g}"
    )
    laws = study.by_law().sort_values("share", ascending=False, kind="stable")
    head = ("law", "side", "weights of", "number", "P", "95 %", "share", "exact", "largest ratio")
    rows = [
        (
            str(one["law"]),
            one["side"],
            one["tensor"],
            f"{one['weights']:,}",
            f"{one['empirical']:.3g}",
            f"{one['ci_low']:.2g}-{one['ci_high']:.2g}",
            f"{100.0 * one['share']:.3g} %",
            "" if math.isnan(one["exact"]) else f"{100.0 * one['exact']:.3g} %",
            f"{one['largest']:.3g}",
        )
        for one in laws.head(_LISTED).to_dict("records")
    ]
    yield from columns([head, *rows], left=3, indent=2)
    if len(laws) > _LISTED:
        yield f"  and {len(laws) - _LISTED:,} more with smaller shares: see by_law()"


def _grid(study: Told) -> Iterator[str]:
    table = study.table()
    ranks = ["rank"] if table["data_rank"].notna().any() else []
    head = (*study.axes, *ranks, "P", "95 %", "exact", "share", "largest ratio")
    rows = [
        (
            *(str(one[name]) for name in study.axes),
            *(str(one["data_rank"]).replace("<NA>", "") for _ in ranks),
            f"{one['empirical']:.3g}",
            f"{one['ci_low']:.2g}-{one['ci_high']:.2g}",
            "" if math.isnan(one["exact"]) else f"{one['exact']:.3g}",
            "" if math.isnan(one["share"]) else f"{100.0 * one['share']:.3g} %",
            f"{one['largest']:.3g}",
        )
        for one in table.head(4 * _LISTED).to_dict("records")
    ]
    yield from columns([head, *rows], left=0, indent=2)
    if len(table) > 4 * _LISTED:
        yield f"  and {len(table) - 4 * _LISTED:,} more: see table()"


def command(study: Told, *more: str) -> str:
    """Return the command that made a study of which the origin is known, with more words."""
    origin = study.origin or {}
    words = ["obstruction", "run", "--model", str(origin["model"])]
    for name in ("call", "inputs"):
        words += [word for text in origin[name] for word in (f"--{name}", text)]
    for name, values in study.axes.items():
        words += ["--grid", f"{name}={','.join(map(_value, values))}"]
    words += ["--loss", study.loss] if study.loss else []
    words += ["--networks", str(study.networks), "--seed", str(study.seed)]
    return shlex.join([*words, *more])


def data_lines(study: Told) -> Iterator[str]:
    """Yield what the data are, or why they change nothing; a grid shows the ranks in its table."""
    told = {str(cell.data) for cell in study.cells if cell.data is not None}
    if len(told) == 1 and all(cell.data is not None for cell in study.cells):
        yield from told
        return
    if any(cell.data_rank is not None for cell in study.cells):
        yield (
            "The rank is the dimension of the span of the data, as layers that read the inputs can "
            "see them (a bias counts as one); balances are those on this span."
        )
    for cell in study.cells:
        if cell.data is not None and cell.data.reason:
            yield f"{_begin(cell)}{cell.data}"


def where(cell: ModelCell) -> str:
    """Return the values of the axes of an architecture in words."""
    return ", ".join(f"{name} = {value}" for name, value in cell.arguments.items())


def _begin(cell: ModelCell) -> str:
    place = where(cell)
    return f"{place}: " if place else ""


def notes(cell: ModelCell) -> Iterator[str]:
    """Yield what a reader of the counts of an architecture should know."""
    start = _begin(cell)
    if cell.counts.same_start and cell.sides:
        yield (
            f"{start}All draws start with the same weights in these balances, whatever the seed: "
            "the probability is 0 or 1, and no interval is needed."
        )
    if cell.called and cell.framework == "PyTorch" and cell.sides:
        yield f"{start}Each draw calls the whole factory: {cell.called}."
    if not cell.repeatable:
        yield (
            f"{start}Two calls of the factory under one seed gave different weights: it draws from "
            "a generator that is not seeded, and the counts cannot be repeated."
        )
    if cell.beyond:
        yield (
            f"{start}In the first draw, sets of several channels freeze "
            f"{counted(cell.beyond, 'further weight')}, which the counts leave out."
        )
    if cell.undecided:
        yield f"{start}In the first draw, {counted(cell.undecided, 'weight')} could not be decided."


def _value(value: object) -> str:
    """Return a value as ``--grid`` reads it; a text that looks like a literal is quoted."""
    if not isinstance(value, str):
        return repr(value)
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    return repr(value)
