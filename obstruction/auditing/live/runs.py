"""Runs of a live model at its actual and at random parameters, as far as an audit needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from obstruction.conservation.law import FloatArray
from obstruction.conservation.live.base import LiveModel
from obstruction.conservation.probing import Probe, Prober, gradients_at

ACTUAL = 2
"""The number of runs at the actual parameters: with the example inputs, then with random ones."""

RANDOM = 3
"""The number of runs at random parameters."""

MOST = 8
"""Up to so many random parameters are tried on a parameter that no gradient reaches."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Gradients of a model.

    Attributes
    ----------
    prober : Prober
    moving : frozenset of str
        The parameters that have a gradient at the actual parameters.
    unreached : tuple of str
        The parameters whose gradient vanished in all runs, although the outputs depend on them.
    actual, random : list of dict
        The gradients of some parameters in each run.
    """

    prober: Prober
    moving: frozenset[str]
    unreached: tuple[str, ...]
    actual: list[dict[str, FloatArray]]
    random: list[dict[str, FloatArray]]

    @property
    def live(self) -> LiveModel:
        """The model."""
        return self.prober.live


def actual_probe(prober: Prober, number: int) -> Probe:
    """Return a run at the actual parameters, the first with the example inputs."""
    if number == 0:
        return prober.actual()
    return replace(prober.actual(inputs=False), cotangent=number, seed=number)


def runs_of(
    prober: Prober,
    *,
    actual: Iterable[str],
    random: Mapping[str, Callable[[FloatArray], bool]],
    seen: Iterable[str],
) -> Runs:
    """Run a model.

    Parameters
    ----------
    prober : Prober
    actual : iterable of str
        The parameters whose gradients at the actual parameters are kept.
    random : mapping from str to callable
        The parameters whose gradients at random parameters are kept, unless the callable returns
        False for the first gradient at the actual parameters.
    seen : iterable of str
        Parameters that are known to have a gradient, or to need none.
    """
    keep, wanted = set(actual), set(random)
    moving: set[str] = set()
    unreached = dict.fromkeys(name for name in prober.live.parameters if name not in set(seen))
    found: tuple[list[dict[str, FloatArray]], list[dict[str, FloatArray]]] = ([], [])
    for number in range(ACTUAL if keep else 1):
        if number == 0:
            gradients = prober.actual_gradients
            del prober.actual_gradients  # they are as large as the model
        else:
            gradients = gradients_at(prober.live, actual_probe(prober, number))
        moving.update(name for name, part in gradients.items() if part is not None and part.any())
        found[0].append(_some(prober.live, gradients, keep))
        if number == 0:
            first = _some(prober.live, gradients, wanted)
            wanted = {name for name in wanted if random[name](first[name])}
    unreached = {name: None for name in unreached if name not in moving}
    number = 0
    while number < (RANDOM if wanted else 0) or (unreached and number < MOST):
        gradients = gradients_at(prober.live, prober.probe(number))
        for name in list(unreached):
            part = gradients[name]
            if part is None or part.any():  # None: nothing depends on it, which is a proof
                del unreached[name]
        if number < RANDOM:
            found[1].append(_some(prober.live, gradients, wanted))
        number += 1
    return Runs(prober, frozenset(moving), tuple(unreached), *found)


def _some(
    live: LiveModel, gradients: dict[str, FloatArray | None], names: set[str]
) -> dict[str, FloatArray]:
    return {
        name: np.zeros_like(live.parameters[name]) if part is None else part
        for name, part in gradients.items()
        if name in names
    }
