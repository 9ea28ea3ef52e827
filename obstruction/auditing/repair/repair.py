"""The repair of a network: no neuron stays pathological, and the function stays the same.

If the incoming weights and the bias of a neuron are multiplied by ``alpha > 0`` and its outgoing
weights are divided by ``alpha``, the network computes the same function, but the balance of the
neuron changes (prop. 4 of Nurisso, Leroy, Vaccarino, NeurIPS 2024). A suitable factor makes it
positive, and the sign of the output weight is no longer frozen.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from obstruction import models
from obstruction.auditing.live.law_report import LawReport
from obstruction.auditing.repair.factors import check, check_neurons, lacking, looked_after, solve
from obstruction.auditing.repair.laws import repair_laws, repaired_laws
from obstruction.auditing.repair.same_function import largest_difference
from obstruction.conservation.live.onnx_files import is_onnx
from obstruction.models.activations import HOMOGENEOUS
from obstruction.models.contents import NoChain, NothingAuditable, Orientation
from obstruction.models.model import Model
from obstruction.models.norms import hidden_norms, norms_of
from obstruction.models.options import NO_OPTIONS, ReadOptions
from obstruction.models.updating import model_with, rescaled_tensors
from obstruction.tools.words import aligned, counted, plural

if TYPE_CHECKING:
    from obstruction.auditing.report import Report

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Repair:
    """The changes that a repair makes, and how accurately it keeps the function.

    Attributes
    ----------
    margin : float
        Every repaired neuron has ``in_norm >= (1 + margin) * out_norm``.
    scope : {"all", "frozen"}
        Which neurons are repaired.
    layers : tuple of str
        The names of all hidden layers.
    scales : tuple of ndarray of float64
        The factors, >= 1, of the neurons of every hidden layer. They multiply the incoming weights
        and the bias, and divide the outgoing weights.
    changed : int
        The number of neurons whose factor is not 1.
    largest_scale : float
        The largest factor.
    difference, relative_difference : float
        The largest absolute difference of an output, and its ratio to the largest output. They are
        computed in float64 from the stored weights, for standard normal inputs.
    inputs : int
        The number of these inputs, 0 if nothing was changed.
    iterations : int
        The number of iterations that found the factors.
    changes : mapping of str to ndarray
        The new values of the tensors that change, in stored shape and precision.
    untouched : tuple of (str, str)
        The hidden layers that are not repaired, each with the reason.
    notes : tuple of str
        What the repair does not achieve, a sentence each.
    """

    margin: float
    scope: str
    layers: tuple[str, ...]
    scales: tuple[FloatArray, ...]
    changed: int
    largest_scale: float
    difference: float
    relative_difference: float
    inputs: int
    iterations: int
    changes: Mapping[str, NDArray[Any]]
    untouched: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        demand = f"in_norm >= {1.0 + self.margin:g} * out_norm"
        which = "every neuron" if self.scope == "all" else "every neuron with one outgoing weight"
        left_out = dict(self.untouched)
        lines = []
        if self.changed:
            times = f"{self.iterations} {plural(self.iterations, 'iteration')}"
            lines += [
                f"Rescaled {self.changed:,} hidden neurons, after which {which} has {demand}.",
                "The network computes the same function: on "
                f"{self.inputs} random inputs its outputs differ by at most {self.difference:.2g}, "
                f"{self.relative_difference:.2g} of the largest output.",
                f"The largest factor is {self.largest_scale:.4g}, found in {times}.",
                "",
            ]
            heads = ("layer", "neurons", "rescaled", "largest factor")
            widths = [max(map(len, ("layer", *self.layers))), *map(len, heads[1:])]
            lines.append(aligned(heads, widths, left=1))
            for name, scale in zip(self.layers, self.scales, strict=True):
                if name not in left_out:
                    counts = f"{len(scale):,}", f"{np.count_nonzero(scale != 1.0):,}"
                    factor = f"{scale.max(initial=1.0):.4g}"
                    lines.append(aligned((name, *counts, factor), widths, left=1))
            lines += [""] * bool(left_out or self.notes)
        else:
            lines.append(f"Nothing to repair: {which} looked at has {demand}.")
        lines += [f"Not touched: {name}: {reason}." for name, reason in self.untouched]
        lines += [f"Note: {note}." for note in self.notes]
        return "\n".join(lines).rstrip()


def repair(
    model: Any,
    report: Report | LawReport | None = None,
    *,
    margin: float = 0.1,
    scope: str = "all",
    inplace: bool = False,
    out: str | os.PathLike[str] | None = None,
    activation: str | None = None,
    layout: Orientation | None = None,
    layers: Sequence[str] | None = None,
) -> Any:
    """Return a model that computes the same function and has no pathological neuron.

    Parameters
    ----------
    model : model or path
        Everything that `obstruction.audit` takes.
    report : Report or LawReport, optional
        The audit of this model, in place of `activation`, `layout` and `layers`. With the report
        of an audit with example inputs, channels are scaled by the conservation laws, as
        `obstruction.auditing.repair.laws.repair_laws` describes; then only `margin` may be given.
    margin : float, > 0
        Afterwards ``in_norm >= (1 + margin) * out_norm`` holds for every repaired neuron, where
        ``in_norm`` includes the bias. It holds in the stored precision, so that a second repair
        changes nothing.
    scope : {"all", "frozen"}
        Repair all audited hidden neurons, or only those with a single outgoing weight, whose sign
        can be frozen.
    inplace : bool
        Whether to change and return the object itself. Otherwise it is copied.
    out : path
        Where to write the repaired copy of a file, in the same format. It may be the file itself.
    activation, layout, layers
        What the model does not say, as for `obstruction.audit`.

    Returns
    -------
    model or Path
        The repaired model, or `out` for a file.

    Raises
    ------
    NothingAuditable
        If nothing in the model can be repaired, or if it holds an adapter and no network.
    ValueError
        If a neuron without incoming weights or with shared weights would have to be rescaled, if
        the stored precision does not suffice for the margin or the function, if the report belongs
        to another model, or if an argument is out of range. Nothing is written or changed then.

    Examples
    --------
    >>> fixed = repair({"0.weight": np.ones((2, 3)), "1.weight": np.full((1, 2), 9.0)},
    ...                activation="relu", layout="out_in")
    >>> fixed["1.weight"].round(3).tolist()
    [[3.764, 3.764]]
    """
    if isinstance(report, LawReport):
        file = is_onnx(model)
        given = {"scope": scope != "all", "inplace": inplace, "out": out is not None and not file}
        given |= {"activation": activation is not None, "layout": layout is not None}
        given |= {"layers": layers is not None}
        if wrong := [name for name, is_given in given.items() if is_given]:
            raise ValueError(
                f"{', '.join(wrong)}: must not be given with the report of a live model, which "
                "is repaired by its conservation laws and returned as a copy"
            )
        _warn_of_combinations(report)
        if not file:
            return repair_laws(model, report.laws, inputs=report.inputs, margin=margin)
        models.check_target(model, out)
        changes = repaired_laws(model, report.laws, inputs=report.inputs, margin=margin)
        return models.write(model, _as_stored(model, changes), out=out)
    models.check_target(model, out, inplace=inplace)
    options = ReadOptions(activation, layout, layers)
    found = find_repair(model, report, options, margin=margin, scope=scope)
    return write_repair(found, model, out=out, inplace=inplace)


def find_repair(
    source: Any,
    report: Report | None = None,
    options: ReadOptions = NO_OPTIONS,
    *,
    margin: float = 0.1,
    scope: str = "all",
    told: Callable[[int], None] = lambda passes: None,
) -> Repair:
    """Find a repair and check that it keeps the function, without changing the model.

    The arguments and errors are those of `repair`, where ``options`` holds its last three. The
    source may also be a `Model`. ``told`` is called with the number of iterations as they go on.
    `write_repair` carries out the repair.
    """
    check(margin, scope)
    for name, value in vars(options).items():
        if report is not None and value is not None:
            raise ValueError(f"{name} = {value!r}: must be None with a report, which says it")
    if isinstance(source, Model):
        model = source
    elif report is None:
        try:
            model = models.read(source, options)
        except NoChain as error:
            raise NoChain(
                f"{error}. Its laws can repair it: ob.repair(model, ob.audit(model))"
            ) from None
    else:
        model = _reread(source, report)
    inside = looked_after(model, scope)
    if all(link.reason is not None for link in model.links):
        why = [str(link.reason) for link in model.links]
        why = why or [f"{name}: {reason}" for name, reason in model.skipped]
        reasons = "; ".join(dict.fromkeys(why)) or "there is none"
        raise NothingAuditable(f"no hidden layer can be repaired: {reasons}")
    norms = hidden_norms(model)
    check_neurons(model, norms, inside)
    active = left = lacking(norms, inside, margin)
    _check_shared(model, margin)
    factors, passes = [np.ones(layer.outputs) for layer in model.layers[:-1]], 0
    changes: dict[str, NDArray[Any]] = {}
    extra = 1.0
    while any(mask.any() for mask in left):  # repeated if rounding exceeds the expected error
        if extra > 1e4:
            raise ValueError(f"margin = {margin!r}: cannot be held in the stored precision")
        factors, more = solve(model, norms, inside, margin, active, extra, told)
        passes, extra = passes + more, 8.0 * extra
        changes = rescaled_tensors(model, factors)
        after = tuple(layer.with_values(changes) for layer in model.layers)
        left = lacking(norms_of(inside, after), inside, margin)
        active = [a | b for a, b in zip(active, left, strict=True)]
    difference, relative, inputs = largest_difference(model, changes) if changes else (0.0, 0.0, 0)
    every = np.concatenate(factors)
    return Repair(
        margin=float(margin),
        scope=scope,
        layers=tuple(layer.name for layer in model.layers[:-1]),
        scales=tuple(factors),
        changed=int(np.count_nonzero(every != 1.0)),
        largest_scale=float(every.max(initial=1.0)),
        difference=difference,
        relative_difference=relative,
        inputs=inputs,
        iterations=passes,
        changes=changes,
        untouched=_untouched(model, inside),
        notes=_notes(model, inside),
    )


def write_repair(
    found: Repair,
    source: Any,
    *,
    out: str | os.PathLike[str] | None = None,
    inplace: bool = False,
) -> Any:
    """Carry out a repair, with the parameters, the result and the errors of `repair`."""
    return models.write(source, found.changes, out=out, inplace=inplace)


def _warn_of_combinations(report: LawReport) -> None:
    """Warn of what is frozen besides single weights, which no balance of a law alone tells."""
    number = sum(one.combination and one.status == "frozen" for one in report.bounds)
    if number:
        stays = "stays" if number == 1 else "stay"
        warnings.warn(
            f"{counted(number, 'combination')} of weights {stays} frozen: the repair frees single "
            "weights only",
            stacklevel=3,
        )


def _as_stored(path: Any, changes: Mapping[str, FloatArray]) -> dict[str, NDArray[Any]]:
    """Return new values in the types of the tensors of a file."""
    tensors = models.read_contents(path).tensors
    return {name: value.astype(tensors[name].array.dtype) for name, value in changes.items()}


def _reread(source: Any, report: Report) -> Model:
    """Return the model of a report with the present values of its source.

    The function raises ValueError if the report is not an audit of this source as it is now.
    """
    contents = models.read_contents(source)
    models.check_is_network(contents)
    try:
        model = model_with(report.model, contents.tensors)
    except ValueError as error:
        raise ValueError(f"report: must be an audit of this model, but {error}") from None
    table = report.to_dataframe()
    found = [norms for norms in hidden_norms(model) if norms is not None]
    for column, part in (("in_norm", "incoming"), ("out_norm", "outgoing")):
        now = np.concatenate([getattr(norms, part) for norms in found] or [np.ones(0)])
        then = table[column].to_numpy(np.float64)
        if now.shape != then.shape or not np.allclose(now, then, rtol=1e-6, atol=0.0):
            raise ValueError(
                "report: must be an audit of this model as it is now, but its norms are others"
            )
    return model


def _untouched(model: Model, inside: list[bool]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (layer.name, link.reason or "its neurons have several outgoing weights, none is frozen")
        for layer, link, wanted in zip(model.layers[:-1], model.links, inside, strict=True)
        if not wanted
    )


def _notes(model: Model, inside: list[bool]) -> tuple[str, ...]:
    return tuple(
        f"{layer.name} has one input and no biases, so with positive balances the signs of its "
        "input weights are frozen instead: no rescaling connects such a network"
        for layer, wanted in zip(model.layers[:-1], inside, strict=True)
        if wanted and layer.inputs == 1 and layer.bias is None
    )


def _check_shared(model: Model, margin: float) -> None:
    """Raise a ValueError if a neuron with one outgoing weight lacks the margin and shares it."""
    shared = [
        link.reason is not None
        and after.outputs == 1
        and link.activation in HOMOGENEOUS
        and any(word in link.reason for word in ("share", "tied"))
        for link, after in zip(model.links, model.layers[1:], strict=True)
    ]
    masks = lacking(norms_of(shared, model.layers), shared, margin)
    for i, mask in enumerate(masks):
        if mask.any():
            raise ValueError(
                f"{model.layers[i].name}: has {np.count_nonzero(mask)} neurons that lack the "
                f"margin and cannot be rescaled: {model.links[i].reason}"
            )
