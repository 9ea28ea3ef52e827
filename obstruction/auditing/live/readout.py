"""Rows of weights of which one combination alone can move, because the outputs see no other.

A model that returns ``y[:, :1]``, ``y0 - y1`` or ``y.sum(-1)`` of several outputs has such rows,
and so has one with two logits, of which a softmax sees the difference. All gradients of the rows
are then multiples of one vector ``u``: ``row @ u`` takes the place of the row in its balance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from obstruction.auditing.live.rows import Rows, channels, rows_of
from obstruction.auditing.live.runs import Runs, actual_probe, difference
from obstruction.auditing.live.systems import Replacement, fits
from obstruction.conservation.law import FloatArray
from obstruction.conservation.laws import Laws

PARALLEL: Final = 1e-8
"""Gradients are parallel if what is across is below this share of their length."""

SAME: Final = 1e-9
"""The largest relative change of outputs when rows are moved across ``u``."""

_MOST: Final = 100_000
"""Longer rows are not looked at."""


def candidates(laws: Laws) -> list[Rows]:
    """Return the rows that read channels and have several scalars, one for each parameter."""
    found: dict[str, Rows] = {}
    for number, law in channels(laws):
        for term in law.terms:
            if term.coefficient > 0 or term.tensor in found:
                continue
            rows = rows_of(laws, number, term)
            if rows is not None and 2 <= rows.places.shape[1] <= _MOST:
                found[term.tensor] = rows
    return list(found.values())


def readouts(laws: Laws, runs: Runs, rows: Sequence[Rows]) -> list[Replacement]:
    """Return the candidates of which one combination alone moves, verified by running the model."""
    chooses = any(leaf.dtype.kind in "biu" for leaf in runs.live.inputs)
    found = []
    for one in rows:
        direction = _direction(one, runs)
        if direction is None:
            direction = _difference(laws, one)
        if direction is None or (chooses and not direction.all()):
            continue  # an input that chooses an output leaves the others alone for now only
        replacement = Replacement((one,), direction[:, None], "outputs")
        if fits(laws, replacement) and _verified(runs, one, direction, laws):
            found.append(replacement)
    return found


def _direction(rows: Rows, runs: Runs) -> FloatArray | None:
    """Return the vector of which all gradients of rows are multiples."""
    gradients = np.concatenate([rows.of(one[rows.tensor]) for one in runs.random])
    largest = float(np.abs(gradients).max())
    if not 0.0 < largest < np.inf:
        return None
    gradients = gradients / largest
    norms = np.linalg.norm(gradients, axis=1)
    flows = norms > 1e-12
    direction: FloatArray = gradients[norms.argmax()] / norms.max()
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
                return np.array([1.0, -1.0]) / np.sqrt(2.0)
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
        outputs = [
            runs.live.outputs(at, point.inputs, seed=point.seed) for at in (point.values, values)
        ]
        if not difference(*outputs) <= SAME:
            return False
    return True


def two_logits(laws: Laws, runs: Runs, rows: Sequence[Rows], known: Sequence[Replacement]) -> bool:
    """Return whether the last readers are two scalars for each channel, judged by no loss."""
    if laws.loss is not None:
        return False
    replaced = {name for one in known for name in one.tensors}
    pairs = [one for one in rows if one.places.shape[1] == 2 and one.tensor not in replaced]
    if not pairs:
        return False
    probe = actual_probe(runs.prober, 0)
    outputs = runs.live.outputs(probe.values, probe.inputs, seed=probe.seed)
    return any(y.ndim and y.shape[-1] == 2 for y in outputs)
