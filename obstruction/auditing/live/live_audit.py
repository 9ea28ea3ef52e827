"""The audit of a live model: laws, what they freeze, and what stays degenerate."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from obstruction.auditing.live.bounds import Bound, bounds_of, linear_bounds
from obstruction.auditing.live.degenerate import degenerate, learns, suspects, tensors_of
from obstruction.auditing.live.law_report import LawReport
from obstruction.auditing.live.linear import combinations
from obstruction.auditing.live.margins import margins
from obstruction.auditing.live.readout import (
    candidates,
    may_be_parallel,
    readouts,
    two_logits,
)
from obstruction.auditing.live.runs import runs_of
from obstruction.auditing.live.systems import Balances
from obstruction.conservation.coordinates import Replacement
from obstruction.conservation.data_span import Span, checked_data, spanned
from obstruction.conservation.finding import laws_of, prober_of
from obstruction.conservation.laws import Laws


def audit_live(
    model: Any, inputs: Any, *, loss: str | None, data: Any, rtol: float, seed: int
) -> LawReport:
    """Return the report about a model that can be run; see `obstruction.audit`."""
    prober = prober_of(model, inputs, loss=loss, training=True, seed=seed)
    samples = None if data is None else checked_data(data, prober.live.inputs)
    laws = laws_of(prober, model, loss=loss)
    readers, doubtful = candidates(laws), suspects(laws)
    runs = runs_of(
        prober,
        actual=tensors_of(laws, doubtful),
        random={name: partial(may_be_parallel, term) for name, (_, term) in readers.items()},
        seen=_judged(laws),
    )
    known = readouts(laws, runs, readers)
    bounds, undecided = _bounds(laws, known, rtol)
    spans: tuple[Span, ...] = ()
    if samples is not None:
        more, found = spanned(laws, prober, samples)
        spans = tuple(found)
        together, undecided = _bounds(laws, [*known, *more], rtol)
        bounds = _marked(bounds, together)
        known = [*known, *more]
    return LawReport(
        source=laws.source,
        laws=laws,
        bounds=tuple(bounds),
        degenerate=tuple(degenerate(laws, runs, doubtful)),
        learns=learns(prober, runs.moving),
        undecided=undecided,
        unreached=runs.unreached,
        margins=tuple(margins(laws, _by_name(known))),
        spans=spans,
        two_logits=two_logits(laws, runs, readers, known),
        modules=module_types(model),
        rtol=rtol,
        inputs=inputs,
    )


def _judged(laws: Laws) -> set[str]:
    """Return the parameters that a law is about; a constant matrix may merely not be reached."""
    return {
        term.tensor
        for law in laws
        for term in law.terms
        if law.kind != "constant" or len(laws.shapes[term.tensor]) < 2
    }


def _bounds(
    laws: Laws, replacements: list[Replacement], rtol: float
) -> tuple[list[Bound], dict[str, int]]:
    balances = Balances(laws, replacements, rtol=rtol)
    linear, large = combinations(laws, _by_name(replacements), rtol=rtol)
    undecided = dict(balances.found.undecided)
    if large:
        undecided["linear neurons"] = large
    return [*bounds_of(laws, balances), *linear_bounds(linear)], undecided


def _marked(before: list[Bound], after: list[Bound]) -> list[Bound]:
    """Return bounds; those that were not frozen before are due to the data."""
    known = {(one.tensor, one.position, one.what) for one in before if one.status == "frozen"}
    return [
        one
        if (one.tensor, one.position, one.what) in known
        else Bound(**{**vars(one), "cause": "data"})
        for one in after
    ]


def _by_name(replacements: list[Replacement]) -> dict[str, Replacement]:
    return {name: one for one in replacements for name in one.tensors}


def module_types(model: Any) -> dict[str, str]:
    """Return for each parameter of a PyTorch module the place and type of its module."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(model, torch.nn.Module):
        return {}
    found = {}
    for place, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            full = f"{place}.{name}" if place else name
            found[full] = f"{place}|{_kind(module)}"
    return found


def _kind(module: Any) -> str:
    """Return the name of the class of a module, and of a parametrisation that of its own class."""
    kind = type(module)
    if kind.__module__ == "torch.nn.utils.parametrize":
        if kind.__name__ == "ParametrizationList":
            return " and ".join(type(way).__name__.lstrip("_") for way in module)
        kind = kind.__mro__[1]
    return kind.__name__
