"""The axes of a table: d, l or scheme along its rows and columns, each with its keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from obstruction.schemes import InitScheme, as_schemes
from obstruction.tools.checks import check_axis
from obstruction.tools.parsing import parse_axis

if TYPE_CHECKING:
    from obstruction.sampling.config import StudyConfig

NAMES: Final = ("d", "l", "scheme")

AxesLike: TypeAlias = str | Mapping[str, Any]
"""The name of an axis, or axes with their keys, where None stands for all keys of the study."""


@dataclass(frozen=True)
class TableAxis:
    """An axis of a table, whose keys are sizes or schemes in the order of the table."""

    name: str
    keys: tuple[Any, ...]


@dataclass(frozen=True)
class Arrangement:
    """The axes along rows and along columns, outer ones first, and those with a single key."""

    rows: tuple[TableAxis, ...]
    columns: tuple[TableAxis, ...]
    fixed: tuple[TableAxis, ...]

    @property
    def axes(self) -> tuple[TableAxis, ...]:
        """All of them."""
        return (*self.rows, *self.columns, *self.fixed)

    def keys(self, name: str) -> tuple[Any, ...]:
        """Return the keys of the axis d, l or scheme."""
        (axis,) = [a for a in self.axes if a.name == name]
        return axis.keys


def parse_axes(option: str, texts: Iterable[str]) -> dict[str, Any]:
    """Return the axes in the texts of an option of the command line.

    Parameters
    ----------
    option : str
        The name of the option, for errors.
    texts : iterable of str
        Texts such as ``d=2,5,10`` or ``l=1:100`` (see `obstruction.tools.parsing.parse_axis`),
        ``scheme=xavier_normal,kaiming_normal``, or only a name for all keys of a study.

    Raises
    ------
    ValueError
        If a text is malformed or an axis is given twice.

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
            axes[name] = re.split(r",(?![^,:]*=)", keys)  # not between the options of one label
        else:
            axes[name] = list(parse_axis(name, keys))
    return axes


def arrange(
    rows: AxesLike, columns: AxesLike, schemes: Any, study: StudyConfig | None
) -> Arrangement:
    """Return the axes of a table, whose keys must be those of the study if there is one.

    If the schemes are in neither rows nor columns and there are several, they become the outermost
    rows. An axis along which the study has a single size need not be named. ``schemes`` is a
    choice of schemes, or None for all.
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
    along_rows, along_columns = (
        [
            TableAxis(name, chosen if name == "scheme" else _sizes(name, keys, study))
            for name, keys in axes.items()
        ]
        for axes in given.values()
    )
    fixed = []
    for name in sorted({*NAMES}.difference(*given.values())):
        keys = chosen if name == "scheme" else getattr(study, name, ())
        if len(keys) == 1:
            fixed.append(TableAxis(name, keys))
        elif name == "scheme":
            along_rows.insert(0, TableAxis(name, keys))
        else:
            raise ValueError(f"{name}: is in neither rows nor columns, say rows {name}=2,5,10")
    return Arrangement(tuple(along_rows), tuple(along_columns), tuple(fixed))


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
    return tuple(there[scheme.label] for scheme in chosen)


def _abridged(sizes: Sequence[int]) -> str:
    """Return sizes in words. If there are many, only the first and the last ones are named."""
    if len(sizes) > 2 and sizes == tuple(range(sizes[0], sizes[-1] + 1)):
        return f"{sizes[0]} to {sizes[-1]}"
    words = [str(size) for size in sizes]
    if len(words) > 12:
        words = [*words[:6], "...", *words[-3:]]
    return ", ".join(words)
