"""The search for laws: what is constant, which norms last, and which balances hold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.balances import completed, find_balances, rest
from obstruction.conservation.candidates import Candidate, Evaluation
from obstruction.conservation.constants import (
    constant_entries,
    constants,
    entries_of,
    lasting,
    shifts,
)
from obstruction.conservation.law import KINDS, Law
from obstruction.conservation.matrices import largest_block, may_mix
from obstruction.conservation.norms import (
    Steady,
    drifting,
    lasting_norms,
    norm_laws,
    scales,
    streams,
)
from obstruction.conservation.probing import Prober, gradients_at
from obstruction.conservation.sides import Side, sides_of
from obstruction.conservation.signatures import Signatures, add_gradients
from obstruction.conservation.verification import POINTS, verified

_EXTRA: Final = 2
"""At most so many further probes are drawn as long as a neuron was dead at all others."""

_MOST: Final = 24
"""At most so many probes are drawn so that there are more numbers than unknown relations.

So many more are drawn to find a gradient of each parameter.
"""

_MANY: Final = 5_000_000
"""Models with more parameters are looked at with fewer probes."""


def find_laws(prober: Prober) -> list[Law]:
    """Return the verified laws of a live model, from its probes.

    What is known of one kind of laws decides how the next is sought: constants carry no balance,
    and blocks before a normalisation are made small, so that something flows through it.

    Raises
    ------
    ValueError
        If the model has no parameters that are trained.
    """
    search = _Search(prober)
    search.find_constants()
    search.find_norms()
    search.look_again()
    laws = [*search.find_balances(), *search.scale_laws, *search.constant_laws]
    return sorted(laws, key=lambda law: KINDS.index(law.kind))


class _Search:
    """What is known of a model at a stage of the search.

    Attributes
    ----------
    evaluation : Evaluation
        The sums of all sides at the probes so far.
    constant_laws, scale_laws : list of Law
        The verified laws of constants, and of norms of blocks.
    norms : list of Candidate
        The blocks whose norms are conserved.
    """

    def __init__(self, prober: Prober) -> None:
        live = prober.live
        self.prober = prober
        self.shapes = {name: value.shape for name, value in live.parameters.items() if value.size}
        if not self.shapes:
            raise ValueError("the model has no parameters that are trained")
        self.large = sum(value.size for value in live.parameters.values()) > _MANY
        self.points = POINTS // 2 if self.large else POINTS
        self.sides = sides_of(self.shapes, live.output_axes, live.groups)
        self.count = 3 if self.large else 4
        self.observed = _observed(prober, self.sides, range(self.count), shifts=True)
        _wake(prober, self.observed, 2 if self.large else _MOST)
        self.evaluation = Evaluation(self.observed)
        self.constant_laws: list[Law] = []
        self.norms: list[Candidate] = []
        self._refuted: set[str] = set()
        self.scale_laws: list[Law] = []

    @property
    def constant(self) -> dict[str, NDArray[np.bool_]]:
        """Which entries of parameters are constant."""
        return entries_of(self.constant_laws)

    @property
    def moving(self) -> list[Side]:
        """The sides of parameters that have a gradient and are not constant as a whole."""
        constant = self.constant
        return [
            side
            for side in self.sides
            if self.observed.reached[side.tensor] and not np.all(constant.get(side.tensor, False))
        ]

    def find_constants(self) -> None:
        """Find and verify what is constant."""
        seen = self._constant_entries()
        still = self._verified(constants(seen))
        self.constant_laws = lasting(self.prober, still, points=self.points)
        self._refuted = set(seen) - set(self.constant)

    def find_norms(self) -> None:
        """Find and verify the norms of blocks before a normalisation."""
        self._steady = Steady(self.prober, self.moving, large=self.large)
        norms = scales(self.evaluation, self._steady, self.moving)
        norms = norms if self.large else drifting(self.prober, norms)
        claims = norm_laws(self.prober, norms)
        self.scale_laws = self._verified(lasting_norms(claims))
        self.norms = _admitted(norms, claims, self.scale_laws)

    def look_again(self) -> None:
        """Look at more probes, at which blocks before a normalisation are small.

        Some constants are seen only there, and others are none.
        """
        self.prober.shrink(
            tuple((term.tensor, term.labels >= 0) for term in one.terms) for one in self.norms
        )
        moving, constant = self.moving, self.constant
        more = 2 if self.large else _enough(moving, 4)
        numbers = range(self.count, self.count + more)
        seen = _observed(self.prober, self.sides, numbers, small=True)
        self.evaluation = Evaluation(self.observed, seen)
        for number in range(numbers.stop, numbers.stop + _EXTRA):
            if not _any_dead(self.evaluation, moving, constant):
                break
            _observed(self.prober, self.sides, [number], small=True, found=seen)
            self.evaluation = Evaluation(self.observed, seen)
        again = self._constant_entries()
        self._update({n: mask for n, mask in again.items() if n not in self._refuted})

    def find_balances(self) -> list[Law]:
        """Return the verified laws of all other kinds."""
        moving = self.moving
        balances = find_balances(self.evaluation, moving, self.prober.live.output_axes)
        normed = {side.tensor for one in self.norms for side, _ in one.parts}
        left = [side for side in rest(balances, moving) if side.tensor not in normed]
        claims = self._as_laws(balances)
        sums = streams(self.evaluation, self._steady, left)
        laws = [
            *claims,
            *lasting_norms(norm_laws(self.prober, sums)),
            *shifts(self.observed, self.shapes, self.constant),
        ]
        kept = self._verified(laws)
        admitted = _admitted(balances, claims, kept)
        refused = [one for one in balances if one not in admitted]
        kept += self._verified(self._as_laws(completed(self.evaluation, refused, moving)))
        mixed = {id(law.terms) for law in kept if law.kind == "matrix"}
        plain = [
            replace(law, kind="balance", block=1)
            for law in laws
            if law.kind == "matrix" and id(law.terms) not in mixed
        ]
        return kept + self._verified(plain)

    def _verified(self, laws: Sequence[Law]) -> list[Law]:
        return verified(self.prober, laws, points=self.points)

    def _constant_entries(self) -> dict[str, NDArray[np.bool_]]:
        live = self.prober.live
        return constant_entries(
            self.evaluation,
            self.observed,
            self.shapes,
            output_axes=live.output_axes,
            lookups=any(leaf.dtype.kind != "f" for leaf in live.inputs),
        )

    def _update(self, entries: Mapping[str, NDArray[np.bool_]]) -> None:
        """Take other entries as constant, of which those that are new are verified."""
        known = {law.terms[0].tensor: law for law in self.constant_laws}
        kept, new = [], []
        for law in constants(entries):
            (term,) = law.terms
            old = known.get(term.tensor)
            if old is not None and np.array_equal(old.terms[0].labels, term.labels):
                kept.append(old)
            else:
                new.append(law)
        self.constant_laws = kept + lasting(self.prober, self._verified(new), points=self.points)

    def _as_laws(self, candidates: Sequence[Candidate]) -> list[Law]:
        """Return the laws of balances; those whose channels mix are matrix laws."""
        laws = [
            Law("balance", one.terms, one.width, self.evaluation.evidence(one).violation, 0.0)
            for one in candidates
        ]
        if not any(map(may_mix, candidates)):
            return laws
        probe = self.prober.probe(2)
        gradients = gradients_at(self.prober.live, probe)
        for place, (law, candidate) in enumerate(zip(laws, candidates, strict=True)):
            block, violation = largest_block(candidate, probe.values, gradients)
            if block > 1:
                total = law.violation + violation
                laws[place] = replace(law, kind="matrix", block=block, violation=total)
        return laws


def _observed(
    prober: Prober,
    sides: Sequence[Side],
    numbers: Iterable[int],
    *,
    small: bool = False,
    shifts: bool = False,
    found: Signatures | None = None,
) -> Signatures:
    """Return the signatures of sides at probes with given numbers, with those known before."""
    found = Signatures() if found is None else found
    for number in numbers:
        probe, gradients = prober.gradients(number, small=small)
        add_gradients(found, sides, probe.values, gradients, shifts=shifts)
    return found


def _wake(prober: Prober, observed: Signatures, most: int) -> None:
    """Look for a gradient of parameters that no probe reached, at more of them.

    All that reads such a parameter may have been dead, or nothing reads it.
    """
    for number in range(_MOST, _MOST + most):
        hidden = [n for n, seen in observed.reached.items() if not seen and observed.connected[n]]
        if not hidden:
            break
        _, gradients = prober.gradients(number)
        for name in hidden:
            part = gradients[name]
            observed.reached[name] = part is not None and bool(part.any())


def _admitted(
    candidates: Sequence[Candidate], claims: Sequence[Law], kept: Sequence[Law]
) -> list[Candidate]:
    """Return the candidates whose laws are among those that were kept."""
    known = {id(law.terms) for law in kept}
    pairs = zip(candidates, claims, strict=True)
    return [one for one, law in pairs if id(law.terms) in known]


def _enough(sides: Sequence[Side], least: int) -> int:
    """Return the number of probes at which the sides of each width have more rows than columns.

    Deep networks of few neurons need many. Where more than `_MOST` were needed, none are drawn.
    """
    columns = Counter(side.width for side in sides)
    needed = [math.ceil((2 * n + 4) / width) for width, n in columns.items() if width > 1]
    return max([least, *(n for n in needed if n <= _MOST)])


def _any_dead(
    evaluation: Evaluation, sides: Sequence[Side], constant: Mapping[str, NDArray[np.bool_]]
) -> bool:
    """Return whether a neuron was dead at all probes so far, judged by biases and gains."""
    return any(
        bool((evaluation.dead(side) & ~constant.get(side.tensor, np.zeros((), bool))).any())
        for side in sides
        if len(side.shape) == 1 and side.index is None
    )
