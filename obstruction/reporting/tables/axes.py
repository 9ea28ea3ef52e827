"""The axes of a table: which of d, l and scheme run along its rows and columns, over which keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from obstruction.schemes import InitScheme, as_scheme, as_schemes
from obstruction.tools.checks import check_axis
from obstruction.tools.parsing import parse_axis

if TYPE_CHECKING:
    from obstruction.sampling.config import StudyConfig

NAMES: Final = ("d", "l", "scheme")

AxesLike: TypeAlias = str | Mapping[str, Any]
"""The name of an axis, or names and keys; None stands for all keys that the study has."""


@dataclass(frozen=True)
class TableAxis:
    """An axis of a table: sizes or schemes, in the order of the table."""

    name: str
    keys: tuple[Any, ...]


@dataclass(frozen=True)
class Arrangement:
    """The axes along rows and columns, outer ones first, and those that have one key only."""

    rows: tuple[TableAxis, ...]
    columns: tuple[TableAxis, ...]
    fixed: tuple[TableAxis, ...]

    def keys(self, name: str) -> tuple[Any, ...]:
        """Return the keys of d, l or scheme, wherever the axis is."""
        (axis,) = [a for a in (*self.rows, *self.columns, *self.fixed) if a.name == name]
        return axis.keys


def parse_axes(option: str, texts: Iterable[str]) -> dict[str, Any]:
    """Read axes as the command line has them.

    Parameters
    ----------
    option : str
        Where they were given, for messages.
    texts : iterable of str
        ``d=2,5,10``, ``l=1:100`` and so on (see `obstruction.tools.parsing.parse_axis`),
        ``scheme=xavier_normal,kaiming_normal``, or a name alone for all keys of a study.

    Raises
    ------
    ValueError
        If a text is malformed or an axis given twice.

    Examples
    --------
    >>> parse_axes("rows", ["scheme", "d=2,5"])
    {'scheme': None, 'd': [2, 5]}
    """
    axes: dict[str, Any] = {}
    for text in texts:
        name, equals, keys = text.partition("=")
        if name not in NAMES:
            raise ValueError(
                f"{option} = {text!r}: must read d=2,5,10 or l=1:100 or scheme=NAME,..."
            )
        if name in axes:
            raise ValueError(f"{option}: {name} is given twice")
        if not equals:
            axes[name] = None
        elif name == "scheme":
            axes[name] = _split_schemes(keys)
        else:
            axes[name] = list(parse_axis(name, keys))
    return axes


def _split_schemes(text: str) -> list[str]:
    """Split labels at their commas, but not at those between the options of one label."""
    return re.split(r",(?![^,:]*=)", text)


def arrange(
    rows: AxesLike, columns: AxesLike, schemes: Any, study: StudyConfig | None
) -> Arrangement:
    """Check the axes of a table against those of a study and complete them.

    Schemes that are in neither rows nor columns become the outermost rows if there are several;
    sizes of which the study has a single one need not be named.

    Parameters
    ----------
    rows, columns : str or mapping
    schemes : scheme, several of them, or None
        A choice; None for all.
    study : StudyConfig or None
        What there is to choose from; without a study, anything.

    Raises
    ------
    ValueError
        If an axis is unknown, missing or given twice, or the study does not have a key.
    """
    given = {"rows": _mapping("rows", rows), "columns": _mapping("columns", columns)}
    if not given["rows"]:
        raise ValueError("rows: must name at least one of d, l and scheme")
    for name in given["rows"]:
        if name in given["columns"]:
            raise ValueError(f"columns: {name} is among the rows already")
    inside = [axes["scheme"] for axes in given.values() if axes.get("scheme") is not None]
    if inside and schemes is not None:
        raise ValueError("schemes: are given along rows or columns already")
    chosen = _schemes(inside[0] if inside else schemes, study)
    placed = {
        option: [TableAxis(name, chosen if name == "scheme" else _sizes(name, keys, study))
                 for name, keys in axes.items()]
        for option, axes in given.items()
    }  # fmt: skip
    named = {name for axes in given.values() for name in axes}
    fixed = []
    for name in NAMES[:2]:
        if name not in named:
            there = None if study is None else getattr(study, name)
            if there is None or len(there) > 1:
                raise ValueError(f"{name}: is in neither rows nor columns, say rows {name}=2,5,10")
            fixed.append(TableAxis(name, there))
    if "scheme" not in named:
        if len(chosen) == 1:
            fixed.append(TableAxis("scheme", chosen))
        else:
            placed["rows"].insert(0, TableAxis("scheme", chosen))
    return Arrangement(tuple(placed["rows"]), tuple(placed["columns"]), tuple(fixed))


def _mapping(option: str, axes: AxesLike) -> Mapping[str, Any]:
    if isinstance(axes, str):
        return parse_axes(option, [axes])
    if not isinstance(axes, Mapping):
        raise ValueError(
            f"{option} = {axes!r}: must be a name or a mapping such as {{'d': [2, 5]}}"
        )
    for name in axes:
        if name not in NAMES:
            raise ValueError(f"{option}: {name!r} is none of {', '.join(NAMES)}")
    return axes


def _sizes(name: str, keys: Any, study: StudyConfig | None) -> tuple[int, ...]:
    there: tuple[int, ...] | None = None if study is None else getattr(study, name)
    if keys is None:
        if there is None:
            raise ValueError(f"{name}: sizes are needed without a study, as in {name}=2,5,10")
        return there
    check_axis(name, keys)
    several = keys if isinstance(keys, Iterable) else [keys]
    sizes = tuple(dict.fromkeys(map(int, several)))  # in the order given
    for size in sizes:
        if there is not None and size not in there:
            raise ValueError(f"{name} = {size}: the study has {name} = {_abridged(there)}")
    return sizes


def _schemes(keys: Any, study: StudyConfig | None) -> tuple[InitScheme, ...]:
    if keys is None:
        if study is None:
            raise ValueError("schemes: at least one is needed without a study")
        return study.schemes
    chosen = as_schemes(keys)
    if study is None:
        return chosen
    there = {scheme.label: scheme for scheme in study.schemes}
    for scheme in chosen:
        if scheme.label not in there:
            raise ValueError(f"scheme = {scheme.label!r}: the study has {', '.join(there)}")
    return tuple(there[as_scheme(scheme).label] for scheme in chosen)


def _abridged(sizes: Sequence[int]) -> str:
    """Return the sizes of an axis in a few words, by their first and last ones if they are many."""
    if len(sizes) > 2 and sizes == tuple(range(sizes[0], sizes[-1] + 1)):
        return f"{sizes[0]} to {sizes[-1]}"
    words = [str(size) for size in sizes]
    if len(words) > 12:
        words = [*words[:6], "...", *words[-3:]]
    return ", ".join(words)
