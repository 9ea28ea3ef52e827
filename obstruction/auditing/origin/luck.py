"""Was it bad luck? How usual a number of pathological neurons is for an initialisation.

In a network with one output the neurons of the last hidden layer have one outgoing weight each, and
under gradient flow that of a pathological one is frozen (Nurisso et al. 2024, Cor. 2 and Prop. 3).
For independent weights their number in a fresh network is binomial (`obstruction.exact`), with
``d`` the width of the layer before and ``l`` their number.
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
        The scheme that was given, or those that were recognised, likeliest first.
    given : bool
        Whether the scheme was given.
    d, l, outputs : int
        Inputs and width of the last hidden layer, and the outputs of the network.
    observed : int
        How many neurons of that layer are pathological.
    expected, probability, p_value : float or None
        Those of the likeliest scheme, see `Expectation`; None if no scheme fits or it has no
        exact value. With several outputs they are 0, 0 and 1.
    low, high : float or None
        The smallest and the largest `probability` of all these schemes.
    expectations : tuple of Expectation
        What each of the schemes makes one expect, in the same order.
    verdict : str
        All of this in a sentence, with what to do.
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
        """Return all fields as numbers, words and lists, for JSON."""
        fields = asdict(self)
        fields["schemes"] = list(self.schemes)
        fields["expectations"] = [
            {**one, "schemes": list(one["schemes"])} for one in fields["expectations"]
        ]
        return fields


def assess(model: Model, observed: int, *, scheme: str | InitScheme | None = "auto") -> Luck | None:
    """Say whether the pathological neurons of a network are usual for its initialisation.

    Parameters
    ----------
    model : Model
        The network.
    observed : int
        How many neurons of its last hidden layer are pathological, 0 with several outputs.
    scheme : str, InitScheme or None
        The initialisation. "auto" recognises it from the weights; None skips all this.

    Returns
    -------
    Luck or None
        None if `scheme` is None, or if the last hidden layer keeps no balances.

    Raises
    ------
    ValueError
        If `observed` is not a number that the last hidden layer can have, or the scheme is unknown.
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
