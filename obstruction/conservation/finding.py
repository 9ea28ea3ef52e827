"""Find the laws of a live model: the search by gradients, and the check by transformations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.balances import completed, find_balances, rest
from obstruction.conservation.candidates import Candidate, Evaluation
from obstruction.conservation.constants import (
    constant_entries,
    constants,
    entries_of,
    lasting,
    shifts,
)
from obstruction.conservation.law import KINDS, Law
from obstruction.conservation.laws import Laws
from obstruction.conservation.live.losses import check_loss
from obstruction.conservation.live.onnx_files import is_onnx
from obstruction.conservation.live.opening import open_model
from obstruction.conservation.matrices import largest_block, may_mix
from obstruction.conservation.norms import Steady, drifting, norm_laws, scales, streams
from obstruction.conservation.probing import Prober, gradients_at
from obstruction.conservation.sides import Side, sides_of
from obstruction.conservation.signatures import Signatures, add_gradients
from obstruction.conservation.verification import POINTS, verified
from obstruction.tools.checks import check_count, check_flag

_EXTRA: Final = 2
"""At most so many further probes are drawn as long as a neuron was dead at all others."""

_MOST: Final = 24
"""At most so many probes are drawn so that there are more numbers than unknown relations.

So many more are drawn to find a gradient of each parameter.
"""

_MANY: Final = 5_000_000
"""Models with more parameters are looked at with fewer probes."""


def conservation_laws(
    model: Any,
    inputs: Any = None,
    *,
    loss: str | None = None,
    training: bool = True,
    seed: int = 0,
) -> Laws:
    """Find the numbers that gradient flow keeps while a model is trained, and verify them.

    Parameters
    ----------
    model : model
        A ``torch.nn.Module``, a Keras model, or a pair ``(apply, params)`` of JAX, where
        ``apply(params, *inputs)`` returns the outputs; or the path of an ONNX file, which needs
        ``pip install 'obstruction[onnx-run]'``. It is not changed.
    inputs : array, tuple or dict
        Example inputs: one array, several positional inputs, or keyword inputs. Their shapes,
        types and ranges matter, their values do not. An ONNX file with fixed shapes needs none.
    loss : {"cross_entropy"}, optional
        The loss for which laws are sought. By default they hold for every loss.
    training : bool
        Whether the model runs in training mode. An ONNX file runs as it was exported.
    seed : int
        The seed of the random probes, >= 0.

    Returns
    -------
    Laws
        Printing it shows a law a line.

    Raises
    ------
    ValueError
        If an argument is out of its range, or the model cannot be run with these inputs.
    TypeError
        If `model` is none of the models above.

    Notes
    -----
    If ``f(exp(t S) w) = f(w)`` for a symmetric matrix ``S`` and all ``t``, then ``wᵀ S w`` is
    conserved (Kunin et al. 2021; Marcotte, Gribonval, Peyré 2023). Candidates for ``S`` are sums of
    slices of parameters for which the sum of ``w * dL/dw`` vanishes at random parameters, inputs
    and losses. They are admitted if, besides, the outputs stay the same to rounding when the
    transformation is applied to the model.
    """
    prober = prober_of(model, inputs, loss=loss, training=training, seed=seed)
    return laws_of(prober, model, loss=loss)


def prober_of(model: Any, inputs: Any, *, loss: str | None, training: bool, seed: int) -> Prober:
    """Return the probes of a model that is opened; see `conservation_laws`."""
    check_count("seed", seed, least=0)
    check_flag("training", training)
    check_loss(loss)
    live = open_model(model, inputs, training=training, loss=loss, run=False)
    return Prober(live, seed=seed)


def laws_of(prober: Prober, model: Any, *, loss: str | None) -> Laws:
    """Return the laws of a model that is open already; see `conservation_laws`."""
    live = prober.live
    found = find_laws(prober)
    source = type(model[1] if isinstance(model, tuple) else model).__name__
    if is_onnx(model):
        source = Path(model).name
    return Laws(tuple(found), source, live.framework, live.parameters, live.fixed, loss)


def find_laws(prober: Prober) -> list[Law]:
    """Return the verified laws of a live model, from its probes.

    Raises
    ------
    ValueError
        If the model has no parameters that are trained.
    """
    live = prober.live
    shapes = {name: value.shape for name, value in live.parameters.items() if value.size}
    if not shapes:
        raise ValueError("the model has no parameters that are trained")
    large = sum(value.size for value in live.parameters.values()) > _MANY
    count, more, points = (3, 2, POINTS // 2) if large else (4, 4, POINTS)
    sides = sides_of(shapes, live.output_axes, live.groups)
    observed = _observed(prober, sides, range(count), shifts=True)
    _wake(prober, observed, more if large else _MOST)
    evaluation = Evaluation(observed)
    lookups = any(leaf.dtype.kind != "f" for leaf in live.inputs)
    constant = constant_entries(
        evaluation, observed, shapes, output_axes=live.output_axes, lookups=lookups
    )
    still = verified(prober, constants(constant), points=points)
    still = lasting(prober, still, points=points)
    refuted = set(constant) - set(entries_of(still))
    constant = entries_of(still)
    moving = _moving(sides, observed, constant)
    steady = Steady(prober, moving, large=large)
    norms = scales(evaluation, steady, moving)
    norms = norms if large else drifting(prober, norms)
    lengths = norm_laws(prober, norms)
    fixed = verified(prober, lengths, points=points)
    norms = _admitted(norms, lengths, fixed)
    prober.shrink(tuple((term.tensor, term.labels >= 0) for term in one.terms) for one in norms)
    more = more if large else _enough(moving, more)
    seen = _observed(prober, sides, range(count, count + more), small=True)
    evaluation = Evaluation(observed, seen)
    for number in range(count + more, count + more + _EXTRA):
        if not _any_dead(evaluation, moving, constant):
            break
        _observed(prober, sides, [number], small=True, found=seen)
        evaluation = Evaluation(observed, seen)
    again = constant_entries(
        evaluation, observed, shapes, output_axes=live.output_axes, lookups=lookups
    )
    still = _updated(prober, still, {n: m for n, m in again.items() if n not in refuted}, points)
    constant = entries_of(still)
    moving = _moving(sides, observed, constant)
    normalised = {
        (side.tensor, side.axes) for one in norms if one.width > 1 for side, _ in one.parts
    }
    balances = find_balances(evaluation, moving, live.output_axes, normalised=normalised)
    normed = {side.tensor for one in norms for side, _ in one.parts}
    left = [side for side in rest(balances, moving) if side.tensor not in normed]
    sums = streams(evaluation, steady, left)
    claims = _as_laws(prober, evaluation, balances)
    laws = [
        *claims,
        *norm_laws(prober, sums),
        *shifts(observed, shapes, constant),
    ]
    kept = verified(prober, laws, points=points)
    admitted = _admitted(balances, claims, kept)
    whole = completed(evaluation, [one for one in balances if one not in admitted], moving)
    kept += verified(prober, _as_laws(prober, evaluation, whole), points=points)
    mixed = {id(law.terms) for law in kept if law.kind == "matrix"}
    plain = [
        replace(law, kind="balance", block=1)
        for law in laws
        if law.kind == "matrix" and id(law.terms) not in mixed
    ]
    kept += verified(prober, plain, points=points)
    return sorted([*kept, *fixed, *still], key=lambda law: KINDS.index(law.kind))


def _observed(
    prober: Prober,
    sides: Sequence[Side],
    numbers: Iterable[int],
    *,
    small: bool = False,
    shifts: bool = False,
    found: Signatures | None = None,
) -> Signatures:
    """Return the signatures of sides at probes with given numbers, with those known before."""
    found = Signatures() if found is None else found
    for number in numbers:
        probe, gradients = prober.gradients(number, small=small)
        add_gradients(found, sides, probe.values, gradients, shifts=shifts)
    return found


def _wake(prober: Prober, observed: Signatures, most: int) -> None:
    """Look for a gradient of parameters that no probe reached, at more of them.

    All that reads such a parameter may have been dead, or nothing reads it.
    """
    for number in range(_MOST, _MOST + most):
        hidden = [n for n, seen in observed.reached.items() if not seen and observed.connected[n]]
        if not hidden:
            break
        _, gradients = prober.gradients(number)
        for name in hidden:
            part = gradients[name]
            observed.reached[name] = part is not None and bool(part.any())


def _updated(
    prober: Prober, laws: Sequence[Law], entries: Mapping[str, NDArray[np.bool_]], points: int
) -> list[Law]:
    """Return the laws of constant entries, of which those that are new are verified."""
    known = {law.terms[0].tensor: law for law in laws}
    kept, new = [], []
    for law in constants(entries):
        (term,) = law.terms
        old = known.get(term.tensor)
        if old is not None and np.array_equal(old.terms[0].labels, term.labels):
            kept.append(old)
        else:
            new.append(law)
    return kept + lasting(prober, verified(prober, new, points=points), points=points)


def _admitted(
    candidates: Sequence[Candidate], claims: Sequence[Law], kept: Sequence[Law]
) -> list[Candidate]:
    """Return the candidates whose laws are among those that were kept."""
    known = {id(law.terms) for law in kept}
    pairs = zip(candidates, claims, strict=True)
    return [one for one, law in pairs if id(law.terms) in known]


def _moving(
    sides: Sequence[Side], observed: Signatures, constant: Mapping[str, NDArray[np.bool_]]
) -> list[Side]:
    """Return the sides of parameters that have a gradient and are not constant as a whole."""
    return [
        side
        for side in sides
        if observed.reached[side.tensor] and not np.all(constant.get(side.tensor, False))
    ]


def _enough(sides: Sequence[Side], least: int) -> int:
    """Return the number of probes at which the sides of each width have more rows than columns.

    Deep networks of few neurons need many. Where more than `_MOST` were needed, none are drawn.
    """
    columns = Counter(side.width for side in sides)
    needed = [math.ceil((2 * n + 4) / width) for width, n in columns.items() if width > 1]
    return max([least, *(n for n in needed if n <= _MOST)])


def _any_dead(
    evaluation: Evaluation, sides: Sequence[Side], constant: Mapping[str, NDArray[np.bool_]]
) -> bool:
    """Return whether a neuron was dead at all probes so far, judged by biases and gains."""
    return any(
        bool((evaluation.dead(side) & ~constant.get(side.tensor, np.zeros((), bool))).any())
        for side in sides
        if len(side.shape) == 1 and side.index is None
    )


def _as_laws(prober: Prober, evaluation: Evaluation, candidates: Sequence[Candidate]) -> list[Law]:
    """Return the laws of balances; those whose channels mix are matrix laws."""
    laws = [
        Law("balance", one.terms, one.width, evaluation.evidence(one).violation, 0.0)
        for one in candidates
    ]
    if not any(map(may_mix, candidates)):
        return laws
    probe = prober.probe(2)
    gradients = gradients_at(prober.live, probe)
    for place, (law, candidate) in enumerate(zip(laws, candidates, strict=True)):
        block, violation = largest_block(candidate, probe.values, gradients)
        if block > 1:
            total = law.violation + violation
            laws[place] = replace(law, kind="matrix", block=block, violation=total)
    return laws
