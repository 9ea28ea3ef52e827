"""Balances of the layers that read the inputs, on the span of the training data in every draw.

The weights of a dense layer that reads the inputs move in the span of the data only. So their
coordinates in it stand in its balances in place of the weights, as in a model with as many inputs
as the data have dimensions.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from obstruction.conservation.coordinates import Replacement, memberships
from obstruction.conservation.data_span import NoSpan, Span, checked_data, spanned
from obstruction.conservation.law import FloatArray, Law, Term
from obstruction.conservation.laws import Laws
from obstruction.conservation.probing import Prober
from obstruction.schemes.laws import NORMAL
from obstruction.studies.factories.recipes import Drawn
from obstruction.studies.factories.single_sides import Ratios, SingleSide, single_sides


@dataclass(frozen=True)
class DataFacts:
    """The training data that a model was judged on.

    Attributes
    ----------
    digest : str
        A checksum of the data.
    spans : tuple of Span
        The span of the data, for the dense layers that read the inputs.
    reason : str
        Why there are no spans, so that the data change nothing; "" if there are.
    """

    digest: str
    spans: tuple[Span, ...] = ()
    reason: str = ""

    @property
    def rank(self) -> int | None:
        """The dimension of the span, the largest if layers see several; None without a span."""
        return max((span.rank for span in self.spans), default=None)

    def __str__(self) -> str:
        if self.reason:
            return f"The data change nothing: data= {self.reason}."
        lines = []
        for span in self.spans:
            end = (
                "which is all of them, so that the data change nothing"
                if span.rank == span.width
                else "and balances are those on their span"
            )
            lines.append(f"{span}, {end}.")
        return " ".join(lines)


@dataclass(frozen=True, eq=False)
class SpanSide(SingleSide):
    """The channels of a balance with a single scalar on a side, with coordinates in place of rows.

    The places of a coordinate, which may be alone on a side as well, are those in the array of the
    coordinates of all rows.

    Attributes
    ----------
    replacements : tuple of Replacement
        The parameters in the balance whose coordinates stand in their place.
    """

    replacements: tuple[Replacement, ...]

    @property
    def side(self) -> str:
        """As for other balances, or ``"combination"`` if the scalar is a coordinate of a row."""
        own = any(one.name == self.tensor for one in self.replacements)
        return "combination" if own else super().side

    @property
    def names(self) -> set[str]:
        """The parameters that are needed to evaluate it."""
        return super().names.union(*(one.tensors for one in self.replacements))

    def ratios(self, parameters: Mapping[str, FloatArray]) -> Ratios:
        """Return the sides at the parameters of a draw."""
        found = {one.name: one.coordinates(parameters) for one in self.replacements}
        return super().ratios({**parameters, **found})


@dataclass(frozen=True, eq=False)
class Judged:
    """The balances of a model as they are judged, with or without data.

    Attributes
    ----------
    laws : Laws
        The laws. Coordinates stand in them and in their parameters in place of the weights that
        move on the span of the data only.
    replacements : tuple of Replacement
        What these coordinates are.
    data : DataFacts or None
        The data, if there are any.
    """

    laws: Laws
    replacements: tuple[Replacement, ...] = ()
    data: DataFacts | None = None

    def sides(self) -> tuple[SingleSide, ...]:
        """Return the single sides, which take the parameters of the model and no coordinates."""
        return tuple(map(self._from_draws, single_sides(self.laws)))

    def drawn(self, laws: Mapping[str, Drawn | None]) -> dict[str, Drawn | None]:
        """Return the laws of all tensors in the balances, for independent entries of parameters.

        Coordinates of normal entries of one variance are such entries again. Those of others depend
        on each other.
        """
        found = dict(laws)
        for one in self.replacements:
            inside = [laws.get(name) for name in one.tensors]
            found[one.name] = _rotated(inside)
        return found

    def _from_draws(self, side: SingleSide) -> SingleSide:
        inside = tuple(one for one in self.replacements if one.name in side.names)
        if not inside:
            return side
        own = {field.name: getattr(side, field.name) for field in fields(side)}
        return SpanSide(**own, replacements=inside)


def _rotated(laws: Sequence[Drawn | None]) -> Drawn | None:
    first = laws[0]
    for one in laws:
        if first is None or one is None or one.law is not NORMAL:
            return None
        if not math.isclose(one.scale, first.scale, rel_tol=1e-6):
            return None
    return first


def judged(laws: Laws, prober: Prober, data: Any) -> Judged:
    """Return the balances of a model, on the span of data unless these are None.

    Raises
    ------
    ValueError
        If the data are no samples of the inputs.
    """
    if data is None:
        return Judged(laws)
    try:
        found, spans = spanned(laws, prober, checked_data(data, prober.live.inputs))
    except NoSpan as error:
        reason = str(error).removeprefix("data: ")
        return Judged(laws, data=DataFacts(digest(data), reason=reason))
    facts = DataFacts(digest(data), tuple(spans))
    inside = tuple(one for one in found if one.basis.shape[1] < one.basis.shape[0])
    return Judged(_replaced(laws, inside), inside, facts)


def digest(data: Any) -> str:
    """Return a checksum of arrays, the same for the same numbers in any type of float."""
    found = hashlib.sha256()
    if isinstance(data, Mapping):
        data = [part for item in sorted(data.items()) for part in item]
    array = _array(data)
    if array.dtype.kind == "O" and isinstance(data, tuple | list):
        for part in data:
            found.update(digest(part).encode())
        return found.hexdigest()
    found.update(repr(array.shape).encode())
    if array.dtype.kind in "biuf":
        found.update(np.ascontiguousarray(array, "<f8").tobytes())
    else:
        found.update(repr(array.tolist()).encode())
    return found.hexdigest()


def check_same_data(held: DataFacts | None, data: Any, *, out: Any, at: str) -> None:
    """Raise a ValueError if the data are others than those of a cell in a folder."""
    mine = None if data is None else digest(data)
    theirs = None if held is None else held.digest
    if mine != theirs:
        where = f" at {at}" if at else ""
        how = "None" if theirs is None else "given" if mine is None else "other"
        raise ValueError(f"out = {out}: holds another study: data is {how} there{where}")


def _replaced(laws: Laws, replacements: tuple[Replacement, ...]) -> Laws:
    """Return laws and parameters with coordinates in place of the parameters they replace.

    Laws other than balances leave out these parameters, as they say nothing about coordinates.
    """
    gone = {name for one in replacements for name in one.tensors}
    if not gone:
        return laws
    parameters = {name: value for name, value in laws.parameters.items() if name not in gone}
    more: dict[int, list[Term]] = {}
    for one in replacements:
        parameters[one.name] = one.coordinates(laws.parameters)
        for number, labels, coefficient in memberships(laws, one.rows[0]) or []:
            more.setdefault(number, []).append(Term(one.name, labels[:, None], coefficient))
    changed = [_with(law, gone, more.get(number, [])) for number, law in enumerate(laws)]
    return replace(laws, laws=tuple(changed), parameters=parameters)


def _with(law: Law, gone: set[str], more: list[Term]) -> Law:
    kept = tuple(term for term in law.terms if term.tensor not in gone)
    return replace(law, terms=(*more, *kept))


def _array(data: Any) -> Any:
    if hasattr(data, "detach"):
        data = data.detach().cpu().numpy()
    try:
        return np.asarray(data)
    except ValueError:  # lists of different lengths
        return np.array(data, dtype=object)
