"""Find the laws of a live model: the search by gradients, and the check by transformations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from obstruction.conservation.balances import find_balances, rest
from obstruction.conservation.candidates import Candidate, Evaluation
from obstruction.conservation.invariances import (
    PROBES,
    constant_entries,
    constants,
    scales,
    shifts,
    streams,
)
from obstruction.conservation.law import KINDS, Law
from obstruction.conservation.laws import Laws
from obstruction.conservation.live.base import LiveModel
from obstruction.conservation.live.losses import check_loss
from obstruction.conservation.live.opening import open_model
from obstruction.conservation.matrices import largest_block, may_mix
from obstruction.conservation.probing import Prober, signatures
from obstruction.conservation.sides import sides_of
from obstruction.conservation.verification import POINTS, verified
from obstruction.tools.checks import check_count

_MANY: Final = 5_000_000


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
        ``apply(params, *inputs)`` returns the outputs. It is not changed.
    inputs : array, tuple or dict
        Example inputs: one array, several positional inputs, or keyword inputs. Their shapes,
        types and ranges matter, their values do not.
    loss : {"cross_entropy"}, optional
        The loss for which laws are sought. By default they hold for every loss.
    training : bool
        Whether the model runs in training mode.
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
    check_count("seed", seed, least=0)
    check_loss(loss)
    live = open_model(model, inputs, training=training, loss=loss)
    found = find_laws(live, seed=seed)
    name = type(model[1]).__name__ if isinstance(model, tuple) else type(model).__name__
    return Laws(tuple(found), name, live.framework, live.parameters, live.fixed, loss)


def find_laws(live: LiveModel, *, seed: int) -> list[Law]:
    """Return the verified laws of a live model.

    Parameters
    ----------
    live : LiveModel
    seed : int
        The seed of the random probes.

    Raises
    ------
    ValueError
        If the outputs are not finite, or the model has no parameters that are trained.
    """
    shapes = {name: value.shape for name, value in live.parameters.items()}
    if not shapes:
        raise ValueError("the model has no parameters that are trained")
    prober = Prober(live, seed=seed)
    numbers = sum(value.size for value in live.parameters.values())
    sides = sides_of(shapes, live.output_axes, live.groups)
    probes = range(3 if numbers > _MANY else 4)
    found = signatures(prober, sides, probes=probes)
    evaluation = Evaluation(found)
    constant = constant_entries(
        evaluation, found, shapes, lookups=any(leaf.dtype.kind != "f" for leaf in live.inputs)
    )
    moving = [
        side
        for side in sides
        if found.reached[side.tensor] and not np.all(constant.get(side.tensor, False))
    ]
    steady = PROBES[:1] if numbers > _MANY else PROBES
    norms = scales(evaluation, prober, moving, probes=steady)
    prober.shrink((term.tensor, term.labels >= 0) for one in norms for term in one.terms)
    more = signatures(
        prober, moving, probes=[len(probes) + number for number in probes], small=True
    )
    evaluation = Evaluation(found, more)
    balances = find_balances(
        evaluation,
        moving,
        live.output_axes,
        normalised={(side.tensor, side.axes) for one in norms for side, _ in one.parts},
    )
    laws = _as_laws(prober, evaluation, balances)
    left = rest([*balances, *norms], moving)
    laws += _norms(prober, norms + streams(evaluation, prober, left, probes=steady))
    laws += constants(constant)
    laws += shifts(found, shapes, constant)
    points = POINTS if numbers <= _MANY else POINTS // 2
    kept = verified(prober, laws, points=points)
    mixed = {id(law.terms) for law in kept if law.kind == "matrix"}
    plain = [
        replace(law, kind="balance", block=1)
        for law in laws
        if law.kind == "matrix" and id(law.terms) not in mixed
    ]
    return sorted(
        [*kept, *verified(prober, plain, points=points)], key=lambda law: KINDS.index(law.kind)
    )


def _as_laws(prober: Prober, evaluation: Evaluation, candidates: Sequence[Candidate]) -> list[Law]:
    """Return the laws of balances; those whose channels mix are matrix laws."""
    if not any(map(may_mix, candidates)):
        return [_balance(evaluation, one) for one in candidates]
    probe = prober.probe(2)
    gradients = prober.live.gradients(
        probe.values, probe.inputs, seed=probe.seed, cotangent=probe.cotangent
    )
    laws = []
    for candidate in candidates:
        law = _balance(evaluation, candidate)
        block, violation = largest_block(candidate, probe.values, gradients)
        if block > 1:
            law = replace(law, kind="matrix", block=block, violation=law.violation + violation)
        laws.append(law)
    return laws


def _balance(evaluation: Evaluation, candidate: Candidate) -> Law:
    violation = evaluation.evidence(candidate).violation
    return Law("balance", candidate.terms, candidate.width, violation, 0.0)


def _norms(prober: Prober, candidates: Sequence[Candidate]) -> list[Law]:
    """Return the laws of norms of blocks, with their drift at the actual parameters."""
    if not candidates:
        return []
    probe, live = prober.actual(), prober.live
    gradients = live.gradients(
        probe.values, probe.inputs, seed=probe.seed, cotangent=probe.cotangent
    )
    laws = []
    for candidate in candidates:
        sums, sizes = np.zeros((2, candidate.width))
        for side, _ in candidate.parts:
            gradient = gradients[side.tensor]
            if gradient is not None:
                product = probe.values[side.tensor] * gradient
                sums += side.sums(product)
                sizes += side.sums(np.abs(product))
        drift = np.abs(sums) / np.where(sizes > 0.0, sizes, 1.0)
        laws.append(Law("scale", candidate.terms, candidate.width, drift, 0.0))
    return laws
