"""What an initialisation scheme makes one expect of the last hidden layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from obstruction import exact
from obstruction.auditing.origin.recognition import Fit
from obstruction.models.model import Model

LEVEL: Final = 1e-3
"""Below this p-value weights or a number of neurons do not come from an initialisation."""

UNLUCKY: Final = 0.05
"""Below this p-value a number of neurons is luck, bad or good."""

RARE: Final = 0.01
"""Up to this probability nobody needs to look for pathological neurons after a new draw."""


@dataclass(frozen=True)
class Expectation:
    """What an initialisation makes one expect.

    Attributes
    ----------
    schemes : tuple of str
        Its label, and those of others that are the same for this network.
    fit : float
        The p-value of the hypothesis that the weights were drawn from it, in [0, 1].
    expected : float or None
        The mean number of pathological neurons; None, as are the next three, if there is no
        exact value.
    probability : float or None
        The probability that a fresh network has any.
    p_value : float or None
        The probability of at least as many as were observed.
    p_fewer : float or None
        The probability of at most as many.
    """

    schemes: tuple[str, ...]
    fit: float
    expected: float | None = None
    probability: float | None = None
    p_value: float | None = None
    p_fewer: float | None = None


@dataclass(frozen=True)
class LastHiddenLayer:
    """The neurons of the last hidden layer, and how many of them are pathological.

    Attributes
    ----------
    model : Model
        The network.
    d, l, outputs : int
        The inputs of the layer, its width, and the outputs of the network.
    observed : int
        The number of its pathological neurons, 0 with several outputs.
    """

    model: Model
    d: int
    l: int
    outputs: int
    observed: int

    @property
    def lone_and_deep(self) -> bool:
        """Whether what freezes the one neuron can also lie in the layers before it."""
        return self.l == 1 and len(self.model.segments()[-1]) > 2

    @property
    def finding(self) -> str:
        """The number of pathological neurons, as the start of a sentence."""
        where = " of the last hidden layer" if len(self.model.layers) > 2 else ""
        if self.l == 1:
            return f"The only neuron{where} is {'' if self.observed else 'not '}pathological"
        if self.observed == 0:
            return f"No neuron{where} is pathological"
        verb = "is" if self.observed == 1 else "are"
        return f"{self.observed:,} of {self.l:,} neurons{where} {verb} pathological"


def expect(last: LastHiddenLayer, fit: Fit) -> Expectation:
    """Return what a scheme that fits the weights makes one expect."""
    if last.outputs > 1:
        return Expectation(fit.labels, fit.p_value, 0.0, 0.0, 1.0, 1.0)
    nothing = Expectation(fit.labels, fit.p_value)
    if last.lone_and_deep:
        return nothing
    try:
        count = exact.pathological_count(fit.scheme, last.d, last.l)
        some = float(exact.obstruction_probability(fit.scheme, last.d, last.l))
    except ValueError:  # NoExactValue, or more inputs than can be integrated
        return nothing
    many = {0: 1.0, 1: some}.get(last.observed)
    return Expectation(
        fit.labels,
        fit.p_value,
        expected=float(count.mean()),
        probability=some,
        p_value=float(count.sf(last.observed - 1)) if many is None else many,
        p_fewer=float(count.cdf(last.observed)),
    )
