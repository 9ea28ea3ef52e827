"""Find the laws of a live model: the search by gradients, and the check by transformations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from obstruction.conservation.balances import find_balances
from obstruction.conservation.candidates import Candidate, Evaluation
from obstruction.conservation.invariances import constant_entries, constants, scales, shifts
from obstruction.conservation.law import Law
from obstruction.conservation.live.base import LiveModel
from obstruction.conservation.matrices import largest_block, may_mix
from obstruction.conservation.probing import Prober, signatures
from obstruction.conservation.sides import sides_of
from obstruction.conservation.verification import verified

_MANY: Final = 5_000_000


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
    sides = sides_of(shapes, live.output_axes)
    found = signatures(prober, sides, probes=6 if numbers > _MANY else 8)
    evaluation = Evaluation(found)
    constant = constant_entries(evaluation, found, shapes)
    moving = [
        side
        for side in sides
        if found.reached[side.tensor] and not np.all(constant.get(side.tensor, False))
    ]
    balances = find_balances(evaluation, moving, live.output_axes)
    laws = _as_laws(prober, evaluation, balances)
    laws += scales(evaluation, prober, moving)
    laws += constants(constant)
    laws += shifts(found, shapes, constant)
    return verified(prober, laws)


def _as_laws(
    prober: Prober, evaluation: Evaluation, candidates: Sequence[Candidate]
) -> list[Law]:
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
