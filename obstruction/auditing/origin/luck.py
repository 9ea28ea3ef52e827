"""Was it bad luck? How usual a number of pathological neurons is for an initialisation.

In a network with one output the neurons of the last hidden layer have one outgoing weight each, and
under gradient flow that of a pathological one is frozen (Nurisso et al. 2024, Cor. 2 and Prop. 3).
For independent weights their number in a fresh network is binomial (`obstruction.exact`), with
``d`` the width of the layer before and ``l`` their number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from obstruction import exact
from obstruction.auditing.origin.recognition import Fit, misfit, recognise
from obstruction.models.model import Model
from obstruction.schemes import InitScheme, as_scheme
from obstruction.tools.checks import check_count

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
    given = scheme is not None and not (isinstance(scheme, str) and scheme == "auto")
    rule = as_scheme(scheme) if given and scheme is not None else None
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
    case = _Case(model, d, l, outputs, observed)
    expectations = tuple(_expectation(case, fit) for fit in fits)
    probabilities = [one.probability for one in expectations if one.probability is not None]
    likeliest = expectations[0] if expectations else Expectation((), 0.0)
    if outputs > 1:
        verdict = _several_outputs(case)
    elif d == 1 and hidden.bias is None:
        verdict = _one_input(case)
    else:
        verdict = _verdict(case, expectations, doubt, given=given)
    several = outputs > 1
    return Luck(
        schemes=tuple(one.schemes[0] for one in expectations),
        given=given,
        d=d,
        l=l,
        outputs=outputs,
        observed=observed,
        expected=0.0 if several else likeliest.expected,
        probability=0.0 if several else likeliest.probability,
        p_value=1.0 if several else likeliest.p_value,
        low=0.0 if several else min(probabilities, default=None),
        high=0.0 if several else max(probabilities, default=None),
        expectations=expectations,
        verdict=_LONG.sub(r"\1", verdict),
    )


@dataclass(frozen=True)
class _Case:
    """The neurons of the last hidden layer."""

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
    def count(self) -> str:
        """The finding, as the start of a sentence."""
        where = " of the last hidden layer" if len(self.model.layers) > 2 else ""
        if self.l == 1:
            return f"The only neuron{where} is {'' if self.observed else 'not '}pathological"
        if self.observed == 0:
            return f"No neuron{where} is pathological"
        verb = "is" if self.observed == 1 else "are"
        return f"{self.observed:,} of {self.l:,} neurons{where} {verb} pathological"

    @property
    def sizes(self) -> str:
        return (
            f"{self.d:,} {'input' if self.d == 1 else 'inputs'}, "
            f"{self.l:,} {'neuron' if self.l == 1 else 'neurons'}"
        )


def _expectation(case: _Case, fit: Fit) -> Expectation:
    if case.outputs > 1:
        return Expectation(fit.labels, fit.p_value, 0.0, 0.0, 1.0, 1.0)
    nothing = Expectation(fit.labels, fit.p_value)
    if case.lone_and_deep:
        return nothing
    try:
        count = exact.pathological_count(fit.scheme, case.d, case.l)
        some = float(exact.obstruction_probability(fit.scheme, case.d, case.l))
    except ValueError:  # NoExactValue, or more inputs than can be integrated
        return nothing
    many = {0: 1.0, 1: some}.get(case.observed)
    return Expectation(
        fit.labels,
        fit.p_value,
        expected=float(count.mean()),
        probability=some,
        p_value=float(count.sf(case.observed - 1)) if many is None else many,
        p_fewer=float(count.cdf(case.observed)),
    )


_OPTION: Final = "scheme= or --scheme"

_LONG: Final = re.compile(r"(=\d+\.\d{4})\d+")
"""Options of schemes with more digits than a sentence needs, such as a gain of the root of 2."""


# --- the verdict --------------------------------------------------------------------------------


def _verdict(case: _Case, expectations: Sequence[Expectation], doubt: str, *, given: bool) -> str:
    if not expectations:
        return (
            f"{case.count}; these weights fit none of the known initialisations (they look "
            "trained, or drawn in another way), so name the one they were drawn from "
            f"({_OPTION}) to compare{_or_repair(case)}."
        )
    first, *others = expectations
    kinds = {_kind(case, one) for one in expectations}
    if len(kinds) > 1:
        return _ambiguous(case, expectations)
    sentence = _SENTENCES[kinds.pop()](case, first)
    if doubt:
        weights = "These weights do not look drawn from"
        p = f", p = {first.fit:.1g}" if first.fit > 0.0 else ""
        return f"{weights} {first.schemes[0]} ({doubt}{p}), but if they were: {_lower(sentence)}."
    if others and _range(expectations):
        names = _listed([one.schemes[0] for one in others])
        return (
            f"{sentence}; the same holds for {names}, which these weights also fit (all together: "
            f"{_range(expectations)}; {_OPTION} names the one that was used)."
        )
    return sentence + "."


def _kind(case: _Case, one: Expectation) -> str:
    """Return which of `_SENTENCES` applies."""
    if one.p_value is None or one.p_fewer is None:
        return "unknown"
    if case.observed and one.p_value < LEVEL:
        return "too many"
    if one.p_fewer < LEVEL:
        return "too few"
    some = one.probability or 0.0
    if case.observed:
        return "unlucky" if one.p_value < UNLUCKY else "usual" if some > 0.5 else "not rare"
    return "lucky" if one.p_fewer < UNLUCKY else "spared" if some > RARE else "clear"


def _unknown(case: _Case, one: Expectation) -> str:
    label = one.schemes[0]
    if case.lone_and_deep:
        why = (
            "what freezes the only neuron of the last hidden layer also depends on those before it"
        )
        return f"{case.count}; there is no formula for how usual that is, since {why}" + _or_repair(
            case
        )
    if exact.has_exact(label):
        return (
            f"{case.count}; with {case.d:,} inputs the exact probabilities of {label} are out of "
            f"range{_or_repair(case)}"
        )
    run = f"obstruction run --scheme {label} --d {case.d} --l {case.l}"
    return (
        f"{case.count}; {label} weights depend on each other, so there is no exact value to "
        f"compare with: count them in networks drawn for it (`{run}`){_or_repair(case)}"
    )


def _clear(case: _Case, one: Expectation) -> str:
    return (
        f"{case.count}, as was to be expected: with {one.schemes[0]} ({case.sizes}) "
        f"{_networks(one.probability)} would have one, and there is nothing to do"
    )


def _spared(case: _Case, one: Expectation) -> str:
    return (
        f"{case.count}; with {one.schemes[0]} ({case.sizes}) {_networks(one.probability)} would "
        "have one, so there is nothing to do now, but look again after a new draw"
    )


def _lucky(case: _Case, one: Expectation) -> str:
    return (
        f"{case.count}, which is good luck: with {one.schemes[0]} ({case.sizes}) "
        f"{_networks(one.probability)} would have one, so keep these weights, or change the "
        f"initialisation before you draw others (`{_design(case, one)}`)"
    )


def _usual(case: _Case, one: Expectation) -> str:
    return (
        f"{_facts(case, one)}: repair these weights (`obstruction repair`) or change the "
        f"initialisation (`{_design(case, one)}`), since a new draw is likely to be no better"
    )


def _not_rare(case: _Case, one: Expectation) -> str:
    return (
        f"{_facts(case, one)}: draw again with another seed, repair these weights (`obstruction "
        f"repair`) or change the initialisation (`{_design(case, one)}`)"
    )


def _facts(case: _Case, one: Expectation) -> str:
    return (
        f"{case.count}, which is usual for {one.schemes[0]} ({case.sizes}: "
        f"{_number(one.expected)} expected; {_networks(one.probability)} would have at least one)"
    )


def _unlucky(case: _Case, one: Expectation) -> str:
    return (
        f"{case.count}, which is bad luck: with {one.schemes[0]} ({case.sizes}: "
        f"{_number(one.expected)} expected) {_networks(one.p_value)} would have as many, so "
        "draw again with another seed or repair these weights (`obstruction repair`)"
    )


def _too_many(case: _Case, one: Expectation) -> str:
    return (
        f"{case.count}, too many for bad luck: with {one.schemes[0]} ({case.sizes}: "
        f"{_number(one.expected)} expected) {_networks(one.p_value)} would have as many, so "
        "look for what else made them (training, a wrong scale, a mistake), or repair these "
        "weights (`obstruction repair`)"
    )


def _too_few(case: _Case, one: Expectation) -> str:
    return (
        f"{case.count}, too few for chance: with {one.schemes[0]} ({case.sizes}: "
        f"{_number(one.expected)} expected) {_networks(one.p_fewer)} would have so few, so check "
        f"that this is how the weights were drawn{_or_repair(case)}"
    )


_SENTENCES: Final = {
    "unknown": _unknown,
    "clear": _clear,
    "spared": _spared,
    "lucky": _lucky,
    "usual": _usual,
    "not rare": _not_rare,
    "unlucky": _unlucky,
    "too many": _too_many,
    "too few": _too_few,
}


def _ambiguous(case: _Case, expectations: Sequence[Expectation]) -> str:
    names = _listed([one.schemes[0] for one in expectations])
    spread = _range(expectations)
    return (
        f"{case.count}; these weights can have been drawn from {names}"
        f"{f' ({spread})' if spread else ''}, so name the one that was used ({_OPTION}) to hear "
        f"whether that is usual{_or_repair(case)}."
    )


def _several_outputs(case: _Case) -> str:
    first = case.model.layers[0]
    start = f"With {case.outputs:,} outputs no neuron of the last hidden layer can be pathological"
    if first.inputs == 1 and first.bias is None:
        return (
            f"{start}, but with one input and no biases the input weight of every neuron of the "
            "first that has a positive balance is frozen: add biases or a constant input."
        )
    if any(layer.outputs == 1 for layer in case.model.layers[:-1]):
        return f"{start}, whatever the initialisation: only a hidden layer of one neuron can cut."
    return f"{start}, whatever the initialisation: there is nothing to do."


def _one_input(case: _Case) -> str:
    return (
        f"{case.count}, but with one input and no biases every neuron of the last hidden layer has "
        "a frozen weight, whatever the initialisation: add hidden biases or a constant input."
    )


# --- words --------------------------------------------------------------------------------------


def _or_repair(case: _Case) -> str:
    return ", or repair these weights (`obstruction repair`)" if case.observed else ""


def _design(case: _Case, one: Expectation) -> str:
    return f"obstruction design --scheme {one.schemes[0]} --d {case.d} --l {case.l}"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _number(value: float | None) -> str:
    if value is None or value == 0.0:
        return "none"
    if value < 1e-3:
        return "fewer than 0.001"
    return f"{value:,.0f}" if value >= 100.0 else f"{value:.2g}"


def _networks(p: float | None) -> str:
    """Write a probability as a share of networks."""
    if not p or p < 1e-6:
        share = "fewer than one in a million"
    elif p < 1e-3:
        share = f"one in {float(f'{1.0 / p:.2g}'):,.0f}"
    elif p > 0.9995:
        share = "practically all"
    else:
        share = f"{_percent(p)} of"
    return f"{share} fresh networks"


def _range(expectations: Sequence[Expectation]) -> str:
    """Return how widely the probabilities of several schemes range, "" if they look the same."""
    known = [one.probability for one in expectations if one.probability is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    if not known or _percent(low) == _percent(high):
        return ""
    return f"{_percent(low)} to {_percent(high)} of fresh networks would have one"


def _percent(p: float) -> str:
    if p < 1e-6:
        return "less than 0.0001 %"
    return f"{100.0 * p:.{2 if p < 0.95 else 3}g} %"


def _listed(words: Sequence[str], most: int = 4) -> str:
    """Join words, no more than a few."""
    words = list(dict.fromkeys(words))
    if len(words) > most:
        words = [*words[: most - 1], f"{len(words) - most + 1} others"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
