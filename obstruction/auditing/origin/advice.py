"""Sentences that say how usual the pathological neurons of a network are, with advice."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from obstruction import exact
from obstruction.auditing.origin.expectation import (
    LEVEL,
    RARE,
    UNLUCKY,
    Expectation,
    LastHiddenLayer,
)
from obstruction.tools.words import counted, listed

_OPTION: Final = "scheme= or --scheme"

_LONG: Final = re.compile(r"(=\d+\.\d{4})\d+")
"""A number in a label that has more than four decimals, such as the gain sqrt(2)."""


def advice(last: LastHiddenLayer, expectations: Sequence[Expectation], doubt: str = "") -> str:
    """Return a sentence that says how usual the pathological neurons are, and what to do.

    The likeliest expectation comes first. ``doubt`` is the reason why the weights do not look drawn
    from the scheme that the user named, "" if they do.
    """
    if last.outputs > 1:
        sentence = _several_outputs(last)
    elif last.d == 1 and last.model.layers[-2].bias is None:
        sentence = _one_input(last)
    else:
        sentence = _verdict(last, expectations, doubt)
    return _LONG.sub(r"\1", sentence)


def _verdict(last: LastHiddenLayer, expectations: Sequence[Expectation], doubt: str) -> str:
    if not expectations:
        return (
            f"{last.finding}; these weights fit none of the known initialisations (they look "
            "trained, or drawn in another way), so name the one they were drawn from "
            f"({_OPTION}) to compare{_or_repair(last)}."
        )
    first, *others = expectations
    kinds = {_kind(last, one) for one in expectations}
    if len(kinds) > 1:
        return _ambiguous(last, expectations)
    kind = kinds.pop()
    sentence = _unknown(last, first) if kind == "unknown" else _sentence(kind, last, first)
    if doubt:
        p = f", p = {first.fit:.1g}" if first.fit > 0.0 else ""
        return (
            f"These weights do not look drawn from {first.schemes[0]} ({doubt}{p}), but if they "
            f"were: {sentence[0].lower()}{sentence[1:]}."
        )
    if others and _range(expectations):
        names = _labels(others)
        return (
            f"{sentence}; the same holds for {names}, which these weights also fit (all together: "
            f"{_range(expectations)}; {_OPTION} names the one that was used)."
        )
    return sentence + "."


def _kind(last: LastHiddenLayer, one: Expectation) -> str:
    """Return the key in `_SENTENCES` for an expectation, or "unknown" without an exact value."""
    if one.p_value is None or one.p_fewer is None:
        return "unknown"
    if last.observed and one.p_value < LEVEL:
        return "too many"
    if one.p_fewer < LEVEL:
        return "too few"
    some = one.probability or 0.0
    if last.observed:
        return "unlucky" if one.p_value < UNLUCKY else "usual" if some > 0.5 else "not rare"
    return "lucky" if one.p_fewer < UNLUCKY else "spared" if some > RARE else "clear"


def _unknown(last: LastHiddenLayer, one: Expectation) -> str:
    label = one.schemes[0]
    if last.lone_and_deep:
        return (
            f"{last.finding}; there is no formula for how usual that is, since what freezes the "
            "only neuron of the last hidden layer also depends on those before it"
            f"{_or_repair(last)}"
        )
    if exact.has_exact(label):
        return (
            f"{last.finding}; with {last.d:,} inputs the exact probabilities of {label} are out of "
            f"range{_or_repair(last)}"
        )
    run = f"obstruction run --scheme {label} --d {last.d} --l {last.l}"
    mean = "" if one.expected is None else f" ({_expected(one.expected)} expected)"
    return (
        f"{last.finding}{mean}; {label} weights depend on each other, so how far their number "
        f"varies has no exact value: count them in networks drawn for it (`{run}`)"
        f"{_or_repair(last)}"
    )


_USUAL: Final = (
    "{finding}, which is usual for {scheme} ({sizes}: {expected} expected; {any} would have at "
    "least one): "
)
_SENTENCES: Final = {
    "clear": (
        "{finding}, as was to be expected: with {scheme} ({sizes}) {any} would have one, and there "
        "is nothing to do"
    ),
    "spared": (
        "{finding}; with {scheme} ({sizes}) {any} would have one, so there is nothing to do now, "
        "but look again after a new draw"
    ),
    "lucky": (
        "{finding}, which is good luck: with {scheme} ({sizes}) {any} would have one, so keep "
        "these weights, or change the initialisation before you draw others (`{design}`)"
    ),
    "usual": _USUAL
    + (
        "repair these weights (`obstruction repair`) or change the initialisation (`{design}`), "
        "since a new draw is likely to be no better"
    ),
    "not rare": _USUAL
    + (
        "draw again with another seed, repair these weights (`obstruction repair`) or change the "
        "initialisation (`{design}`)"
    ),
    "unlucky": (
        "{finding}, which is bad luck: with {scheme} ({sizes}: {expected} expected) {as_many} "
        "would have as many, so draw again with another seed or repair these weights "
        "(`obstruction repair`)"
    ),
    "too many": (
        "{finding}, too many for bad luck: with {scheme} ({sizes}: {expected} expected) {as_many} "
        "would have as many, so look for what else made them (training, a wrong scale, a mistake), "
        "or repair these weights (`obstruction repair`)"
    ),
    "too few": (
        "{finding}, too few for chance: with {scheme} ({sizes}: {expected} expected) {as_few} "
        "would have so few, so check that this is how the weights were drawn{or_repair}"
    ),
}


def _sentence(kind: str, last: LastHiddenLayer, one: Expectation) -> str:
    return _SENTENCES[kind].format(
        finding=last.finding,
        scheme=one.schemes[0],
        sizes=f"{counted(last.d, 'input')}, {counted(last.l, 'neuron')}",
        expected=_expected(one.expected),
        any=_networks(one.probability),
        as_many=_networks(one.p_value),
        as_few=_networks(one.p_fewer),
        design=f"obstruction design --scheme {one.schemes[0]} --d {last.d} --l {last.l}",
        or_repair=_or_repair(last),
    )


def _ambiguous(last: LastHiddenLayer, expectations: Sequence[Expectation]) -> str:
    names = _labels(expectations)
    spread = _range(expectations)
    return (
        f"{last.finding}; these weights can have been drawn from {names}"
        f"{f' ({spread})' if spread else ''}, so name the one that was used ({_OPTION}) to hear "
        f"whether that is usual{_or_repair(last)}."
    )


def _several_outputs(last: LastHiddenLayer) -> str:
    first = last.model.layers[0]
    start = f"With {last.outputs:,} outputs no neuron of the last hidden layer can be pathological"
    if first.inputs == 1 and first.bias is None:
        return (
            f"{start}, but with one input and no biases the input weight of every neuron of the "
            "first that has a positive balance is frozen: add biases or a constant input."
        )
    if any(layer.outputs == 1 for layer in last.model.layers[:-1]):
        return f"{start}, whatever the initialisation: only a hidden layer of one neuron can cut."
    return f"{start}, whatever the initialisation: there is nothing to do."


def _one_input(last: LastHiddenLayer) -> str:
    return (
        f"{last.finding}, but with one input and no biases every neuron of the last hidden layer "
        "has a frozen weight, whatever the initialisation: add hidden biases or a constant input."
    )


# --- words --------------------------------------------------------------------------------------


def _or_repair(last: LastHiddenLayer) -> str:
    return ", or repair these weights (`obstruction repair`)" if last.observed else ""


def _expected(value: float | None) -> str:
    """Return an expected number of pathological neurons as text."""
    if value is None or value == 0.0:
        return "none"
    if value < 1e-3:
        return "fewer than 0.001"
    return f"{value:,.0f}" if value >= 100.0 else f"{value:.2g}"


def _networks(p: float | None) -> str:
    """Return a probability as a share of networks in words."""
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
    """Return the range of the probabilities in words, "" if its ends read the same."""
    known = [one.probability for one in expectations if one.probability is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    if not known or _percent(low) == _percent(high):
        return ""
    return f"{_percent(low)} to {_percent(high)} of fresh networks would have one"


def _percent(p: float) -> str:
    if p < 1e-6:
        return "less than 0.0001 %"
    return f"{100.0 * p:.{2 if p < 0.95 else 3}g} %"


def _labels(expectations: Sequence[Expectation], most: int = 4) -> str:
    """Return the labels of schemes as a list in words, which names at most ``most`` of them."""
    labels = list(dict.fromkeys(one.schemes[0] for one in expectations))
    if len(labels) > most:
        labels = [*labels[: most - 1], f"{len(labels) - most + 1} others"]
    return listed(labels)
