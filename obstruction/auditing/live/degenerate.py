"""Starts that stay degenerate: dead channels, equal neurons, and models that cannot learn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from obstruction.auditing.live.runs import Runs, actual_probe
from obstruction.conservation.law import FloatArray, Law, Term, slices, summed
from obstruction.conservation.laws import Laws
from obstruction.conservation.live.base import LiveModel
from obstruction.conservation.probing import Prober, gradients_at
from obstruction.conservation.rows import channels

STEPS: Final = 4
"""The number of steps after which the outputs must depend on the inputs."""

_EQUAL: Final = 1e-9


@dataclass(frozen=True, eq=False)
class Suspects:
    """Channels of a law that are dead or equal by their weights; gradients decide.

    Attributes
    ----------
    law : int
    silent : ndarray of bool, shape (labels,)
        Whether all scalars that write the channel are zero.
    groups : tuple of tuple of int
        Channels with exactly equal scalars.
    """

    law: int
    silent: NDArray[np.bool_]
    groups: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Degenerate:
    """What is degenerate in a law, and stays so.

    Attributes
    ----------
    law : int
    dead : tuple of int
        The channels of which no scalar has a gradient, as nothing is written to them.
    whole : bool
        Whether these are all channels of the law.
    equal : tuple of tuple of int
        Groups of neurons that are exactly equal.
    """

    law: int
    dead: tuple[int, ...]
    whole: bool
    equal: tuple[tuple[int, ...], ...]


def suspects(laws: Laws) -> list[Suspects]:
    """Return the channels that may be degenerate, by the parameters alone."""
    found = []
    for number, law in channels(laws):
        written = np.zeros(law.labels)
        for term in law.terms:
            if term.coefficient > 0:
                size = np.sign(np.abs(laws.parameters[term.tensor]))
                written += summed(size, term.labels, law.labels)
        silent = written == 0.0
        groups = tuple(
            group
            for group in _groups(law, laws.parameters, exact=True)
            if not silent[list(group)].any()
        )
        if silent.any() or groups:
            found.append(Suspects(number, silent, groups))
    return found


def tensors_of(laws: Laws, ones: Iterable[Suspects]) -> set[str]:
    """Return the parameters whose gradients decide."""
    return {term.tensor for one in ones for term in laws[one.law].terms}


def degenerate(laws: Laws, runs: Runs, ones: Iterable[Suspects]) -> list[Degenerate]:
    """Return what is degenerate according to the gradients at the actual parameters."""
    found = []
    for one in ones:
        law = laws[one.law]
        flows = np.zeros(law.labels)
        for gradients in runs.actual:
            for term in law.terms:
                size = np.abs(gradients[term.tensor])
                flows += summed(size, term.labels, law.labels)
        dead = np.flatnonzero(one.silent & (flows == 0.0))
        alive = [group for group in one.groups if (flows[list(group)] > 0.0).all()]
        equal = tuple(_still_equal(law, runs, alive)) if alive else ()
        if dead.size or equal:
            whole = dead.size == law.labels
            found.append(Degenerate(one.law, tuple(map(int, dead)), whole, equal))
    return found


def _still_equal(
    law: Law, runs: Runs, groups: Iterable[tuple[int, ...]]
) -> Iterable[tuple[int, ...]]:
    """Yield the parts of groups whose gradients are equal in all runs."""
    together: list[set[int]] = [set(group) for group in groups]
    for gradients in runs.actual:
        equal = _groups(law, gradients, exact=False)
        together = [one & set(other) for one in together for other in equal]
        together = [one for one in together if len(one) > 1]
    for one in together:
        yield tuple(sorted(one))


def _groups(law: Law, arrays: dict[str, FloatArray], *, exact: bool) -> Iterable[tuple[int, ...]]:
    """Yield the groups of labels whose scalars are equal."""
    rows = [part for term in law.terms for part in _slices(law, term, arrays[term.tensor])]
    if not rows or law.labels < 2:
        return
    unit = max(float(np.abs(part).max()) for part in rows)
    if unit == 0.0 or not np.isfinite(unit):
        return
    generator = np.random.default_rng(law.labels)
    keys, sizes = np.zeros((2, law.labels))
    for part in rows:
        keys += (part / unit) @ generator.uniform(1.0, 2.0, part.shape[1])
        sizes += np.abs(part / unit).sum(axis=1)
    order = np.argsort(keys, kind="stable")
    near = np.diff(keys[order]) <= 1e-8 * np.maximum(sizes[order][1:], 1e-300)
    for run in np.split(order, np.flatnonzero(~near) + 1):
        rest = sorted(map(int, run))
        while len(rest) > 1:
            first, *others = rest
            same = [k for k in others if _same(rows, first, k, exact=exact)]
            if same:
                yield (first, *same)
            rest = [k for k in others if k not in set(same)]


def _same(rows: list[FloatArray], i: int, j: int, *, exact: bool) -> bool:
    if exact:
        return all(np.array_equal(part[i], part[j]) for part in rows)
    return all(
        float(np.abs(part[i] - part[j]).max())
        <= _EQUAL * max(float(np.abs(part[i]).max()), float(np.abs(part[j]).max()))
        for part in rows
    )


def _slices(law: Law, term: Term, values: FloatArray) -> list[FloatArray]:
    """Return the scalars of each label; a term with gaps or uneven labels has none to compare."""
    used = term.labels[term.labels >= 0]
    counts = np.bincount(used, minlength=law.labels)
    if (counts != counts[0]).any() or counts[0] == 0:
        # Labels that differ in their numbers of scalars are told apart by their sums.
        return [summed(values, term.labels, law.labels)[:, None]]
    return slices(values, term.labels, law.labels)


def learns(prober: Prober, moving: frozenset[str]) -> bool:
    """Return whether gradients can make the outputs depend on the inputs.

    A parameter with several axes that has a gradient is proof enough. Otherwise a few steps along
    gradients of random losses are taken, after which other inputs must give other outputs.
    """
    live = prober.live
    if any(live.parameters[name].ndim > 1 for name in moving):
        return True
    if not moving:
        return False
    values = dict(live.parameters)
    for number in range(STEPS):
        gradients = gradients_at(live, replace(actual_probe(prober, number), values=values))
        values = {name: _step(value, gradients[name]) for name, value in values.items()}
        if _depends(prober, values):
            return True
    return False


def _step(value: FloatArray, gradient: FloatArray | None) -> FloatArray:
    if gradient is None or not gradient.any():
        return value
    size = float(np.sqrt(np.mean(value * value))) or 1.0
    return value - 0.1 * size * gradient / float(np.abs(gradient).max())


def _depends(prober: Prober, values: dict[str, FloatArray]) -> bool:
    """Return whether outputs differ between inputs."""
    live: LiveModel = prober.live
    first, second = prober.actual(), prober.probe(0)
    if all(np.array_equal(a, b) for a, b in zip(first.inputs, second.inputs, strict=True)):
        return True  # there are no other inputs to compare with
    one, other = (live.outputs(values, probe.inputs, seed=0) for probe in (first, second))
    return any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))
