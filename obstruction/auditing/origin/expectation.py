"""The number of pathological neurons that an initialisation scheme makes likely."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from obstruction import exact
from obstruction.auditing.origin.recognition import Fit
from obstruction.models.model import Model

LEVEL: Final = 1e-3
"""Below this p-value, weights or a number of neurons are not ascribed to an initialisation."""

UNLUCKY: Final = 0.05
"""Below this p-value, a number of neurons is called bad or good luck."""

RARE: Final = 0.01
"""Up to this probability of any pathological neuron, no check is advised after a new draw."""


@dataclass(frozen=True)
class Expectation:
    """The distribution of the number of pathological neurons for one scheme.

    Attributes
    ----------
    schemes : tuple of str
        The label of the scheme, and those of schemes that are the same for this network.
    fit : float
        The p-value of the hypothesis that the weights were drawn from the scheme, in [0, 1].
    expected : float or None
        The mean number of pathological neurons, or None if there is no exact value.
    probability : float or None
        The probability that a fresh network has at least one pathological neuron. If neurons depend
        on each other, this number and the next two are None.
    p_value, p_fewer : float or None
        The probabilities of at least and of at most as many pathological neurons as observed.
    """

    schemes: tuple[str, ...]
    fit: float
    expected: float | None = None
    probability: float | None = None
    p_value: float | None = None
    p_fewer: float | None = None


@dataclass(frozen=True)
class LastHiddenLayer:
    """The last hidden layer: its inputs, its width, the outputs of the network, its findings.

    ``observed`` is the number of pathological neurons, 0 with several outputs.
    """

    model: Model
    d: int
    l: int
    outputs: int
    observed: int

    @property
    def lone_and_deep(self) -> bool:
        """Whether the layer has one neuron, and others in layers before it can also freeze it."""
        return self.l == 1 and len(self.model.segments()[-1]) > 2

    @property
    def finding(self) -> str:
        """The start of a sentence that says how many neurons are pathological."""
        where = " of the last hidden layer" if len(self.model.layers) > 2 else ""
        if self.l == 1:
            return f"The only neuron{where} is {'' if self.observed else 'not '}pathological"
        if self.observed == 0:
            return f"No neuron{where} is pathological"
        verb = "is" if self.observed == 1 else "are"
        return f"{self.observed:,} of {self.l:,} neurons{where} {verb} pathological"


def expect(last: LastHiddenLayer, fit: Fit) -> Expectation:
    """Return the expectation for a scheme that fits the weights."""
    if last.outputs > 1:
        return Expectation(fit.labels, fit.p_value, 0.0, 0.0, 1.0, 1.0)
    nothing = Expectation(fit.labels, fit.p_value)
    if last.lone_and_deep:
        return nothing
    try:
        count = exact.pathological_count(fit.scheme, last.d, last.l)
        some = float(exact.obstruction_probability(fit.scheme, last.d, last.l))
    except exact.NoExactValue:
        return replace(nothing, expected=_mean(last, fit))
    except ValueError:  # more inputs than can be integrated
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


def _mean(last: LastHiddenLayer, fit: Fit) -> float | None:
    """Return the mean number of pathological neurons, which may depend on each other."""
    try:
        return last.l * float(exact.pathological_probability(fit.scheme, last.d, last.l))
    except ValueError:  # biases, or more neurons than can be integrated
        return None
