"""Rows of weights of which one combination alone can move, because the outputs see no other.

A model that returns ``y[:, :1]``, ``y0 - y1`` or ``y.sum(-1)`` of several outputs has such rows,
and so has one with two logits, of which a softmax sees the difference. All gradients of the rows
are then multiples of one vector ``u``: ``row @ u`` takes the place of the row in its balance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from obstruction.auditing.live.runs import Runs, actual_probe
from obstruction.conservation.coordinates import Replacement, fits
from obstruction.conservation.law import FloatArray, Term
from obstruction.conservation.laws import Laws
from obstruction.conservation.probing import outputs_at
from obstruction.conservation.rows import Rows, channels, rows_of
from obstruction.conservation.verification import largest_change

PARALLEL: Final = 1e-8
"""Gradients are parallel if what is across is below this share of their length."""

SAME: Final = 1e-9
"""The largest relative change of outputs when rows are moved across ``u``."""

_FEW: Final = 8
"""So many rows are looked at first."""


def candidates(laws: Laws) -> dict[str, tuple[int, Term]]:
    """Return for each parameter whose rows read channels, of several scalars each, law and term."""
    found: dict[str, tuple[int, Term]] = {}
    for number, law in channels(laws):
        for term in law.terms:
            if term.coefficient < 0 and _length(laws, term) > 1:
                found.setdefault(term.tensor, (number, term))
    return found


def may_be_parallel(term: Term, gradient: FloatArray) -> bool:
    """Return whether the first few rows of a gradient are multiples of one vector."""
    places = np.stack(np.unravel_index(np.arange(min(_FEW, term.labels.size)), term.labels.shape))
    wide = np.array(term.labels.shape) > 1
    few = [
        gradient[tuple(int(i) if w else slice(None) for i, w in zip(place, wide, strict=True))]
        for place in places.T
    ]
    rows = np.stack([row.reshape(-1) for row in few])
    return not rows.any() or _parallel(rows) is not None


def readouts(
    laws: Laws, runs: Runs, candidates: Mapping[str, tuple[int, Term]]
) -> list[Replacement]:
    """Return the candidates of which one combination alone moves, verified by running the model."""
    chooses = any(leaf.dtype.kind in "biu" for leaf in runs.live.inputs)
    found = []
    shifted = {term.tensor for law in laws if law.kind == "shift" for term in law.terms}
    for name, (number, term) in candidates.items():
        if name not in shifted and (not runs.random or name not in runs.random[0]):
            continue
        one = rows_of(laws, number, term)
        if one is None:
            continue
        direction = _direction(one, runs)
        if direction is None:
            direction = _difference(laws, one)
        if direction is None or (chooses and not direction.all()):
            continue  # an input that chooses an output leaves the others alone for now only
        replacement = Replacement((one,), direction[:, None], "outputs")
        if fits(laws, replacement) and _verified(runs, one, direction, laws):
            found.append(replacement)
    return found


def _length(laws: Laws, term: Term) -> int:
    """Return the number of scalars for each place of the labels."""
    return int(np.prod(laws.shapes[term.tensor], dtype=np.int64)) // term.labels.size


def _direction(rows: Rows, runs: Runs) -> FloatArray | None:
    """Return the vector of which all gradients of rows are multiples."""
    if not runs.random or rows.tensor not in runs.random[0]:
        return None
    return _parallel(np.concatenate([rows.of(one[rows.tensor]) for one in runs.random]))


def _parallel(gradients: FloatArray) -> FloatArray | None:
    """Return the unit vector of which all rows are multiples, if there is one."""
    largest = float(np.abs(gradients).max())
    if not 0.0 < largest < np.inf:
        return None
    gradients = gradients / largest
    norms = np.linalg.norm(gradients, axis=1)
    flows = norms > 1e-12
    direction: FloatArray = np.zeros(gradients.shape[1])
    direction += gradients[norms.argmax()] / norms.max()
    direction[np.abs(direction) < 1e-14] = 0.0
    across = gradients - (gradients @ direction)[:, None] * direction
    if np.count_nonzero(flows) < 2:
        return None
    parallel = np.linalg.norm(across, axis=1) <= PARALLEL * norms + 1e-14
    if not parallel.all():
        return None
    return direction


def _difference(laws: Laws, rows: Rows) -> FloatArray | None:
    """Return the difference of two scalars whose sum a law of shifts keeps."""
    if rows.places.shape[1] != 2:
        return None
    for law in laws:
        for term in law.terms if law.kind == "shift" else ():
            if term.tensor != rows.tensor:
                continue
            labels = np.broadcast_to(term.labels, laws.shapes[rows.tensor])
            pairs = labels.reshape(-1)[rows.places]
            if (pairs[:, 0] == pairs[:, 1]).all() and (pairs >= 0).all():
                direction: FloatArray = np.array([1.0, -1.0]) / np.sqrt(2.0)
                return direction
    return None


def _verified(runs: Runs, rows: Rows, direction: FloatArray, laws: Laws) -> bool:
    """Return whether the outputs stay if all rows are moved across the direction."""
    if laws.loss is not None and _difference(laws, rows) is not None:
        return True  # the law of shifts was verified under the loss
    generator = np.random.default_rng(len(rows.places))
    for point in (actual_probe(runs.prober, 0), runs.prober.probe(0)):
        value = point.values[rows.tensor]
        before = rows.of(value)
        noise = generator.standard_normal(before.shape) * (float(np.abs(before).max()) or 1.0)
        moved = value.copy().reshape(-1)
        moved[rows.places] = before + noise - (noise @ direction)[:, None] * direction
        values = {**point.values, rows.tensor: moved.reshape(value.shape)}
        outputs = [outputs_at(runs.live, at) for at in (point, replace(point, values=values))]
        if not largest_change(*outputs) <= SAME:
            return False
    return True


def two_logits(
    laws: Laws,
    runs: Runs,
    candidates: Mapping[str, tuple[int, Term]],
    known: Sequence[Replacement],
) -> bool:
    """Return whether the last readers are two scalars for each channel, judged by no loss."""
    if laws.loss is not None:
        return False
    replaced = {name for one in known for name in one.tensors}
    pairs = [term for _, term in candidates.values() if _length(laws, term) == 2]
    if all(term.tensor in replaced for term in pairs):
        return False
    probe = actual_probe(runs.prober, 0)
    return any(y.ndim and y.shape[-1] == 2 for y in outputs_at(runs.live, probe))
