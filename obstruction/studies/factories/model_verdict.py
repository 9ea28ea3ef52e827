"""The verdict on the exact probabilities of models, in words."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from obstruction.sampling.inference.verdict import Verdict
from obstruction.studies.factories.model_cell import ModelCell
from obstruction.studies.factories.model_text import where
from obstruction.tools.json_values import json_object, json_value
from obstruction.tools.words import counted, listed

KINDS: Final = ("networks", "weights")
"""The kinds of tests: of draws with a frozen sign, and of the frozen weights of a side."""

_SUBJECTS: Final = {"networks": "architecture", "weights": "side"}
_EVENTS: Final = {"networks": "draws with a frozen sign", "weights": "frozen weights"}
_WIDTH: Final = 96
_UNTESTED: Final = 6
"""The most reasons that are told why something is not tested."""


@dataclass(frozen=True)
class ModelTest:
    """What one test of a study of models is about.

    Attributes
    ----------
    kind : {"networks", "weights"}
        Whether it counts the draws with a frozen sign or the frozen weights of one side.
    place : str
        Where in the study it belongs, in words.
    events, trials : int
        What was counted, and how often it could have happened.
    exact : float
        The exact probability, NaN if there is no test.
    reason : str
        Why there is no test; "" if there is one.
    """

    kind: str
    place: str
    events: int
    trials: int
    exact: float
    reason: str


@dataclass(frozen=True, eq=False, repr=False)
class ModelAgreement(Verdict):
    """The verdict on exact probabilities of models, as `ModelStudy.agreement` returns it.

    It is true iff the verdict is "agrees". Printing it tells what was tested and what was not. The
    subjects of the verdict are its tests, so ``rejected`` is the number of tests that reject.

    Attributes
    ----------
    subjects : tuple of ModelTest
        One for each architecture and one for each of their sides, in the order of ``p_values``,
        whether it has a test or not.
    """

    subjects: tuple[ModelTest, ...]

    _shown = ("level", "tests", "untested", "rejected", "smallest")

    def __bool__(self) -> bool:
        return self.agrees

    @property
    def untested(self) -> int:
        """The number of architectures and sides without a test."""
        return len(self.subjects) - self.tests

    def number(self, kind: str) -> tuple[int, int]:
        """Return the number of tests of a kind, and of the subjects that there are of it."""
        own = [one for one in self.subjects if one.kind == kind]
        return sum(not one.reason for one in own), len(own)

    @cached_property
    def worst(self) -> dict[str, Any] | None:
        """The test with the smallest p-value, or None if there is no test."""
        if not self.tests:
            return None
        at = int(np.nanargmin(self.p_values))
        one = self.subjects[at]
        return {
            "test": one.kind,
            "place": one.place,
            "observed": one.events / one.trials,
            "exact": one.exact,
            "p_value": float(self.p_values[at]),
            "p_adjusted": float(self.p_adjusted[at]),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict and the reasons for it as values that JSON can hold."""
        return {
            "verdict": self.verdict,
            "level": self.level,
            "tests": {kind: self.number(kind)[0] for kind in KINDS},
            "untested": self.untested,
            "rejected": self.rejected,
            "smallest_adjusted_p": json_value(self.smallest),
            "worst": self.worst and json_object(self.worst),
        }

    def sentences(self) -> list[str]:
        """Return the verdict in sentences, the most important one first."""
        return list(self._sentences())

    def __str__(self) -> str:
        first, *others = self.sentences()
        lines = textwrap.wrap(first, _WIDTH, break_long_words=False)
        for sentence in others:
            lines += textwrap.wrap(
                sentence,
                _WIDTH,
                initial_indent="  ",
                subsequent_indent="  ",
                break_long_words=False,
            )
        return "\n".join(lines)

    def _sentences(self) -> Iterator[str]:
        if not self.tests:
            every = listed(self._subjects(every=True))
            yield (
                f"UNTESTED: of {every}, none has an exact value, so there is nothing to hold the "
                "counts against."
            )
            yield from self._reasons()
            return
        if self.rejected:
            share = f"{self.rejected:,} of {_tests(self.tests)}"
            yield f"DISAGREES: {share} contradict the exact value."
            chance = max(self.smallest, 1e-300)
            yield f"Were it right, counts so far off would have probability at most {chance:.2g}."
        else:
            yield f"AGREES: the counts of {listed(self._subjects())} bear out the exact values."
        yield (
            "If the exact values are right, a verdict of disagreement has probability at most "
            f"{self.level:g}, whatever the dependence between the tests "
            f"({listed(self._kinds())}, Holm)."
        )
        worst = self.worst
        assert worst is not None
        yield (
            f"Worst: {_EVENTS[worst['test']]}{_at(worst['place'])}: rate {worst['observed']:.6g}, "
            f"exact {worst['exact']:.6g}, p-value {_small(worst['p_value'])}, adjusted "
            f"{_small(worst['p_adjusted'])}."
        )
        yield from self._reasons()

    def _subjects(self, every: bool = False) -> Iterator[str]:
        for kind in KINDS:
            tested, total = self.number(kind)
            if number := total if every else tested:
                yield counted(number, _SUBJECTS[kind])

    def _kinds(self) -> Iterator[str]:
        for kind in KINDS:
            tested, _ = self.number(kind)
            if tested:
                yield f"{_tests(tested)} of {_EVENTS[kind]}"

    def _reasons(self) -> Iterator[str]:
        """Yield why there is no test of some subjects; those with one reason stand together."""
        found: dict[str, list[ModelTest]] = {}
        for one in self.subjects:
            if one.reason:
                found.setdefault(one.reason, []).append(one)
        for reason, ones in list(found.items())[:_UNTESTED]:
            numbers = {kind: sum(one.kind == kind for one in ones) for kind in KINDS}
            told = [counted(n, _SUBJECTS[kind]) for kind, n in numbers.items() if n]
            if len(ones) == 1:
                told = [f"{_EVENTS[ones[0].kind]}{_at(ones[0].place)}"]
            yield f"Untested: {listed(told)}: {reason}."
        if len(found) > _UNTESTED:
            yield f"There are {len(found) - _UNTESTED:,} more reasons why something is untested."


def whole_test(cell: ModelCell) -> ModelTest:
    """Return what the test of an architecture is about."""
    counts, reason = cell.counts, ""
    if math.isnan(cell.exact):
        reason = "its channels share random weights, so that they depend on each other"
        if not cell.sides:
            reason = "no weight is alone on a side, so that no single balance can freeze a sign"
        elif cell.called or any(map(math.isnan, cell.shares)):
            reason = _unknown(cell)
    place = where(cell)
    return ModelTest(
        "networks",
        f"at {place}" if place else "",
        counts.obstructed,
        counts.networks,
        cell.exact,
        reason,
    )


def side_tests(cell: ModelCell) -> Iterator[ModelTest]:
    """Yield what the tests of the sides of an architecture are about."""
    place = where(cell)
    for k, side in enumerate(cell.sides):
        reason = "" if cell.independent[k] else "they depend on each other"
        if math.isnan(cell.shares[k]):
            reason = _unknown(cell)
        yield ModelTest(
            "weights",
            f"of {side.tensor} (law {side.law})" + (f" at {place}" if place else ""),
            int(cell.counts.weights[k]),
            cell.counts.networks * side.weights,
            cell.shares[k],
            reason,
        )


def _unknown(cell: ModelCell) -> str:
    """Return why weights have no exact value."""
    if cell.called:
        return f"no exact value, since each draw calls the whole factory: {cell.called}"
    return "the laws of the weights have no exact value"


def _tests(number: int) -> str:
    return counted(number, "test")


def _at(place: str) -> str:
    return f" {place}" if place else ""


def _small(p: float) -> str:
    return f"{p:.2g}" if p >= 1e-300 else "< 1e-300"
