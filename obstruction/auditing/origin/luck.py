"""Compare the number of pathological neurons of a network with the law of its initialisation.

In a network with one output, each neuron of the last hidden layer has one outgoing weight. Gradient
flow freezes this weight if the neuron is pathological (Nurisso et al. 2024, Cor. 2 and Prop. 3). If
the weights of a fresh network are independent, the number of pathological neurons is binomial
(`obstruction.exact`), where ``d`` is the number of inputs of the layer and ``l`` its width.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from obstruction.auditing.origin.advice import advice
from obstruction.auditing.origin.expectation import LEVEL, Expectation, LastHiddenLayer, expect
from obstruction.auditing.origin.recognition import Fit, misfit, recognise
from obstruction.models.model import Model
from obstruction.schemes import InitScheme, as_scheme
from obstruction.tools.checks import check_count


@dataclass(frozen=True)
class Luck:
    """How usual the pathological neurons of a network are for its initialisation.

    Attributes
    ----------
    schemes : tuple of str
        The scheme that was given, or the schemes that were recognised, likeliest first.
    given : bool
        Whether the scheme was given.
    d, l, outputs : int
        The inputs and the width of the last hidden layer, and the outputs of the network.
    observed : int
        The number of pathological neurons in the last hidden layer.
    expected, probability, p_value : float or None
        The values of `Expectation` for the likeliest scheme; None if no scheme fits or there is no
        exact value. With several outputs they are 0, 0 and 1.
    low, high : float or None
        The smallest and the largest `probability` of all schemes in `schemes`.
    expectations : tuple of Expectation
        The expectation of each scheme, in the same order.
    verdict : str
        The conclusion in a sentence, with advice.
    """

    schemes: tuple[str, ...]
    given: bool
    d: int
    l: int
    outputs: int
    observed: int
    expected: float | None
    probability: float | None
    p_value: float | None
    low: float | None
    high: float | None
    expectations: tuple[Expectation, ...]
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as numbers, strings and lists, for JSON."""
        fields = asdict(self)
        fields["schemes"] = list(self.schemes)
        fields["expectations"] = [
            {**one, "schemes": list(one["schemes"])} for one in fields["expectations"]
        ]
        return fields


def assess(model: Model, observed: int, *, scheme: str | InitScheme | None = "auto") -> Luck | None:
    """Compare the number of pathological neurons with its distribution in fresh networks.

    ``observed`` is that number in the last hidden layer, 0 with several outputs. The scheme "auto"
    is recognised from the weights. The result is None if the scheme is None, or if the last hidden
    layer keeps no balances.

    Raises
    ------
    ValueError
        If ``observed`` is impossible in this network or the scheme is unknown.
    """
    rule = None if scheme is None or scheme == "auto" else as_scheme(scheme)
    if scheme is None or not model.links or model.links[-1].reason is not None:
        return None
    hidden, output = model.layers[-2:]
    d, l, outputs = hidden.inputs, hidden.outputs, output.outputs
    observed = check_count("observed", observed, least=0, most=l if outputs == 1 else 0)
    if rule is not None:
        found = misfit(model, rule)
        fits: tuple[Fit, ...] = (Fit(rule, (rule.label,), found.p_value, math.nan),)
        doubt = found.reason if found.p_value < LEVEL else ""
    else:
        fits, doubt = recognise(model, level=LEVEL), ""
    last = LastHiddenLayer(model, d, l, outputs, observed)
    expectations = tuple(expect(last, fit) for fit in fits)
    nothing = Expectation((), 0.0, 0.0, 0.0, 1.0) if outputs > 1 else Expectation((), 0.0)
    known = expectations or (nothing,)
    probabilities = [one.probability for one in known if one.probability is not None]
    return Luck(
        schemes=tuple(one.schemes[0] for one in expectations),
        given=rule is not None,
        d=d,
        l=l,
        outputs=outputs,
        observed=observed,
        expected=known[0].expected,
        probability=known[0].probability,
        p_value=known[0].p_value,
        low=min(probabilities, default=None),
        high=max(probabilities, default=None),
        expectations=expectations,
        verdict=advice(last, expectations, doubt),
    )
