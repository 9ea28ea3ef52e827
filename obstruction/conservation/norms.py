"""Norms of blocks of weights that a normalisation does not see, but for its ``eps``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.candidates import Candidate, Evaluation
from obstruction.conservation.law import FloatArray, Law
from obstruction.conservation.live.names import owner
from obstruction.conservation.probing import Probe, Prober, stretched
from obstruction.conservation.sides import Side, grouped
from obstruction.conservation.signatures import Signatures, add_gradients, signatures

SCALE: Final = 1e-9
"""The norm of a block is conserved if its sum is below this share of the absolute values."""

_CLOSE: Final = 0.1
"""Where ``eps`` has an influence, half of all blocks come as close at some probe."""

_CHANCE: Final = 0.33
"""Sums of ``n`` random terms are as close as this over the root of ``n`` half as often."""

_SLACK: Final = 64.0
"""The influence of ``eps`` before blocks grow is known up to this factor.

A backward pass that clips changes what it is relative to.
"""

_LESS: Final = 8.0
"""It shrinks faster by no more than this factor than behind an activation of degree two."""

_MUCH: Final = 1e-2
"""Sums above this share do not count as due to ``eps`` behind activations of higher degree."""

_DIFFERENT: Final = 0.01
"""The influence of ``eps`` shrinks as expected up to this relative difference."""

_GROWTH: Final = (4, 6, 5)
"""Blocks are multiplied by two to these powers, to see how the influence of ``eps`` shrinks.

Layers take them in turn: what two layers of a residual branch add to its trunk would shrink as the
influence of ``eps`` does if both grew alike.
"""

_DRIFT: Final = 0.1
"""Norms are not conserved if ``eps`` makes more than this of half of the sums differ from zero."""

_AGREEING: Final = 0.8
"""The share of blocks that must agree; the check by transformations looks at every block."""

_ROUNDING: Final = 1e-12
_LITTLE: Final = 1e-4

PROBES: Final = (0, 2)
"""The probes for that, whose scales are near the usual."""


class Steady:
    """Sums of sides at the probes for norms, where ``eps`` is removed if the model allows it.

    Parameters
    ----------
    prober : Prober
    sides : sequence of Side
        All sides of which candidates may be made.
    large : bool
        Whether the model is so large that it is looked at with fewer probes.
    """

    def __init__(self, prober: Prober, sides: Sequence[Side], *, large: bool) -> None:
        self.prober, self.large = prober, large
        self.probes = PROBES[:1] if large else PROBES
        self._sides = sides
        self._known: dict[int, Evaluation | None] = {}

    def without_eps(self, number: int) -> Evaluation | None:
        """Return the sums at a probe, or None if ``eps`` cannot be removed."""
        if number not in self._known:
            probe = self.prober.probe(number)
            self._known[number] = _without_eps(self.prober, probe, self._sides)
        return self._known[number]


def scales(evaluation: Evaluation, steady: Steady, sides: Sequence[Side]) -> list[Candidate]:
    """Return the smallest blocks of weights whose length a normalisation does not see."""
    chosen: dict[str, list[Candidate]] = {}
    for side in sorted(sides, key=lambda side: -side.width):
        if len(side.shape) >= 2 and len(side.axes) == 1:
            chosen.setdefault(side.tensor, []).extend(_blocks_of(evaluation, side, sides))
    candidates = [one for together in chosen.values() for one in together]
    held = set(_kept(evaluation, steady, candidates))
    found = []
    for together in chosen.values():
        finest = sorted(together, key=lambda one: (-one.width, len(one.parts)))
        found += [one for one in finest if one in held][:1]
    return found


def streams(evaluation: Evaluation, steady: Steady, sides: Sequence[Side]) -> list[Candidate]:
    """Return the blocks of everything that writes a residual stream which is normalised.

    The writers of a stream are the given sides of its width, which no balance explains: what reads
    the stream stands behind the gains of a normalisation, and keeps a balance with them. Nor has a
    writer blocks of its own: these stand before another normalisation.
    """
    by_width: dict[int, list[Side]] = {}
    for side in sides:
        if len(side.axes) == 1 and side.width > 1:
            by_width.setdefault(side.width, []).append(side)
    candidates = []
    for width, together in by_width.items():
        tensors = [side.tensor for side in together]
        if len(tensors) < 2 or len(set(tensors)) < len(tensors):
            continue
        index = np.zeros(width, dtype=np.int64)
        whole = Candidate(tuple((side.relabelled(index, 1), 1) for side in together))
        sums, sizes = evaluation.total(whole)
        if (np.abs(sums) <= _CLOSE * sizes).any():
            candidates.append(whole)
    return _kept(evaluation, steady, candidates, follow=not steady.large)


def _blocks_of(evaluation: Evaluation, side: Side, sides: Sequence[Side]) -> Iterator[Candidate]:
    """Yield contiguous blocks of slices whose sums may vanish, with biases and without."""
    vectors = [
        (other, 1)
        for other in sides
        if len(other.shape) == 1
        and other.width == side.width
        and owner(other.tensor) == owner(side.tensor)
    ]
    alone = Candidate(((side, 1),))
    for whole in [alone, Candidate((*alone.parts, *vectors))] if vectors else [alone]:
        sums, sizes = evaluation.total(whole)
        for block in range(1, side.width + 1):
            if side.width % block or side.scalars * block < 2:
                continue
            index = np.arange(side.width, dtype=np.int64) // block
            width = side.width // block
            total, size = grouped(sums, index, width), grouped(sizes, index, width)
            share = np.abs(total) / np.where(size > 0.0, size, 1.0)
            close = min(_CLOSE, _CHANCE / (side.scalars * block) ** 0.5)
            if np.median(share, axis=1).min() <= close:
                yield whole.relabelled(index, width)


def _kept(
    evaluation: Evaluation,
    steady: Steady,
    candidates: Sequence[Candidate],
    *,
    follow: bool = True,
) -> list[Candidate]:
    """Return the candidates whose norms are conserved but for ``eps``.

    They are at all probes at which something flows through them, and that is one at least. Where
    ``eps`` is removed, its influence is also followed by growing blocks, if this is wanted, as some
    of it may be written in a function.
    """
    kept = list(candidates)
    seen: set[Candidate] = set()
    for number in steady.probes:
        silent = {one for one in kept if not _flows(evaluation, one, number)}
        open_ = [one for one in kept if one not in silent]
        free = steady.without_eps(number) if open_ else None
        held = set(_vanishing(free, open_))
        if follow or free is None:
            left = [one for one in open_ if one not in held]
            held.update(_shrinking_at(evaluation, steady.prober, left, number))
        seen |= held
        kept = [one for one in kept if one in held or one in silent]
    return [one for one in kept if one in seen]


def _flows(evaluation: Evaluation, candidate: Candidate, number: int) -> bool:
    """Return whether enough flows through a candidate at a probe; see `_share`."""
    sizes = evaluation.total(candidate)[1][number]
    some = sizes > _LITTLE * sizes.max(initial=0.0)
    return bool(2 * np.count_nonzero(some) >= some.size)


def _without_eps(prober: Prober, probe: Probe, sides: Iterable[Side]) -> Evaluation | None:
    """Return the sums of sides where ``eps`` is removed, or None if it cannot be."""
    gradients_of = getattr(prober.live, "gradients_without_eps", None)
    if gradients_of is None:
        return None
    gradients = gradients_of(probe.values, probe.inputs, seed=probe.seed, cotangent=probe.cotangent)
    if not all(one is None or np.isfinite(one).all() for one in gradients.values()):
        return None  # a channel that does not vary cannot be normalised
    found = Signatures()
    add_gradients(found, sides, probe.values, gradients)
    return Evaluation(found)


def _vanishing(evaluation: Evaluation | None, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates whose sums vanish where ``eps`` is removed, none if it is not."""
    if evaluation is None:
        return []
    shares = [_share(evaluation, one, 0) for one in candidates]
    pairs = zip(candidates, shares, strict=True)
    return [one for one, share in pairs if (share <= SCALE).mean() >= _AGREEING]


def _shrinking_at(
    evaluation: Evaluation, prober: Prober, candidates: Sequence[Candidate], number: int
) -> list[Candidate]:
    """Return the candidates whose sums vanish, or shrink as ``eps`` does when blocks grow.

    The sums are relative, at a probe, with blocks multiplied by ``2**n``, twice. What ``eps``
    causes is divided by ``4**n`` each time. A softmax or a bounded activation also hides the length
    of large weights, but not in this way.
    """
    if not candidates:
        return []
    before = [_share(evaluation, one, number) for one in candidates]
    growth = _growth(candidates)
    large = _grown(prober, candidates, number, growth)
    by = [4.0 ** growth[one.parts[0][0].tensor] for one in candidates]
    exact = [(a <= SCALE) & (b <= SCALE) for a, b in zip(before, large, strict=True)]
    open_ = [e | _by_eps(a, b, n) for e, a, b, n in zip(exact, before, large, by, strict=True)]
    chosen = [i for i, may in enumerate(open_) if may.mean() >= _AGREEING]
    twice = {name: 2 * exponent for name, exponent in growth.items()}
    larger = _grown(prober, [candidates[i] for i in chosen], number, twice)
    found = []
    for i, share in zip(chosen, larger, strict=True):
        for degree in (1, 2, 3):  # of the activation between blocks and their normalisation
            expected = large[i] / by[i] ** degree
            by_eps = np.abs(share - expected) <= _DIFFERENT * expected + _ROUNDING
            held = (exact[i] & (share <= SCALE)) | (by_eps & open_[i])
            if held.mean() >= _AGREEING:
                found.append(candidates[i])
                break
    return found


def _growth(candidates: Iterable[Candidate]) -> dict[str, int]:
    """Return the exponents by which parameters grow; those of one layer or candidate are equal."""
    group: dict[str, int] = {}
    layers: dict[str, int] = {}
    for one in candidates:
        names = [side.tensor for side, _ in one.parts]
        mine = {layers.setdefault(owner(name), len(layers)) for name in names}
        mine |= {group[name] for name in names if name in group}
        joined = min(mine)
        group |= dict.fromkeys(names, joined)
        group |= {name: joined for name, number in group.items() if number in mine}
    return {name: _GROWTH[number % len(_GROWTH)] for name, number in group.items()}


def _by_eps(before: FloatArray, large: FloatArray, by: float) -> NDArray[np.bool_]:
    """Return whether the first growth of blocks leaves what it leaves of the influence of ``eps``.

    Less may be left where layers before grow as well.
    """
    ratio = before / np.maximum(1.0 - before, 1e-12) / by
    expected = ratio / (1.0 + ratio)
    found: NDArray[np.bool_] = large <= np.minimum(_SLACK * expected + _ROUNDING, 1e-2)
    return found


def _grown(
    prober: Prober,
    candidates: Sequence[Candidate],
    number: int,
    growth: Mapping[str, int],
) -> list[FloatArray]:
    """Return the relative sums of candidates at a probe at which some parameters are grown.

    The cotangents are larger than usual, as a backward pass that clips is not linear in them.
    """
    sides = _sides_of(candidates)
    if not sides:
        return []
    probe = _larger(prober.probe(number), growth)
    evaluation = Evaluation(signatures(prober.live, sides, [probe]))
    return [_share(evaluation, one, 0) for one in candidates]


def _larger(probe: Probe, growth: Mapping[str, int]) -> Probe:
    """Return a probe with parameters multiplied by two to given powers, and large cotangents."""
    larger = {name: 2.0**exponent * probe.values[name] for name, exponent in growth.items()}
    cotangent = stretched(probe.cotangent, 1)
    return replace(probe, values={**probe.values, **larger}, cotangent=cotangent)


def _share(evaluation: Evaluation, candidate: Candidate, number: int) -> FloatArray:
    """Return the sums of a candidate at a probe, relative to its sizes.

    Blocks through which hardly anything flows are left out: where a neuron is active for a single
    sample of a batch, all that flows is due to ``eps``.
    """
    sums, sizes = (part[number] for part in evaluation.total(candidate))
    some = sizes > _LITTLE * sizes.max(initial=0.0)
    if 2 * np.count_nonzero(some) < some.size:
        return np.ones_like(sizes)  # nothing flows, which is no conservation
    share: FloatArray = np.where(some, np.abs(sums), 0.0) / np.where(some, sizes, 1.0)
    return share


def _sides_of(candidates: Sequence[Candidate]) -> list[Side]:
    """Return the sides of which candidates are made, before any relabelling."""
    bases = (side.base or side for one in candidates for side, _ in one.parts)
    return list({side.key: side for side in bases}.values())


def drifting(prober: Prober, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that at the actual parameters only ``eps`` may violate.

    Their sums shrink when blocks grow, even for losses so large that a backward pass clips.
    """
    probe = prober.actual()
    probe = replace(probe, cotangent=stretched(probe.cotangent, 1))
    if not candidates:
        return []
    free = _vanishing(_without_eps(prober, probe, _sides_of(candidates)), candidates)
    left = [one for one in candidates if one not in free]
    kept = {*free, *_drifting_at(prober, probe, left)}
    return [one for one in candidates if one in kept]


def _drifting_at(prober: Prober, probe: Probe, candidates: Sequence[Candidate]) -> list[Candidate]:
    sides = _sides_of(candidates)
    if not sides:
        return []
    growth = _growth(candidates)
    larger = _larger(probe, growth)
    evaluation = Evaluation(signatures(prober.live, sides, [probe, larger]))
    found = []
    for one in candidates:
        if _flows(evaluation, one, 0) and _flows(evaluation, one, 1):
            before, large = (_share(evaluation, one, number) for number in (0, 1))
            degree = np.where(before > _MUCH, 1, 2)
            by = 4.0 ** growth[one.parts[0][0].tensor]
            least = before / np.maximum(1.0 - before, 1e-12) / by**degree / _LESS
            most = 2.0 * before / np.maximum(1.0 - before, 1e-12) / by
            by_eps = _by_eps(before, large, by) & (large <= most + SCALE)
            by_eps &= large >= np.minimum(least, 1e-2) - _ROUNDING
            may = ((before <= SCALE) & (large <= SCALE)) | by_eps
            if float(may.mean()) < _AGREEING:
                continue
        found.append(one)
    return found


def norm_laws(prober: Prober, candidates: Sequence[Candidate]) -> list[Law]:
    """Return the laws of norms of blocks, with their drift at the actual parameters."""
    if not candidates:
        return []
    at = Signatures()
    add_gradients(at, _sides_of(candidates), prober.live.parameters, prober.actual_gradients)
    evaluation = Evaluation(at)
    laws = []
    for candidate in candidates:
        sums, sizes = (part[0] for part in evaluation.total(candidate))
        drift = np.abs(sums) / np.where(sizes > 0.0, sizes, 1.0)
        laws.append(Law("scale", candidate.terms, candidate.width, drift, 0.0))
    return laws


def lasting_norms(laws: Iterable[Law]) -> list[Law]:
    """Return the laws of norms on which ``eps`` has little influence at the actual parameters."""
    return [law for law in laws if np.median(law.violation) <= _DRIFT]
