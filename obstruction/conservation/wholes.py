"""Balances of whole parameters: layers of one channel, and single numbers that multiply layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from obstruction.conservation.candidates import Candidate, Evaluation
from obstruction.conservation.live.names import owner
from obstruction.conservation.sides import Side


def whole(
    evaluation: Evaluation, sides: Sequence[Side], known: Sequence[Candidate]
) -> list[Candidate]:
    """Return balances of one channel: of whole layers that write it, and of those that read it.

    Parameters
    ----------
    evaluation : Evaluation
    sides : sequence of Side
    known : sequence of Candidate
        Balances from which others may follow, which are left out.
    """
    layers: dict[str, dict[str, Side]] = {}
    plain = [side for side in sides if side.index is None and len(side.axes) == 1]
    narrow = {side.tensor for side in plain if side.width == 1}
    for side in sorted(plain, key=lambda side: side.width) if narrow else ():
        index = np.zeros(side.width, dtype=np.int64)
        joined = side if side.width == 1 else side.relabelled(index, 1)
        layers.setdefault(owner(side.tensor), {}).setdefault(side.tensor, joined)
    found: list[Candidate] = []
    implied = [_tensors(one) for one in known if _complete(one)]
    for one, other in combinations(_bundles(layers), 2):
        first, second = _tensors(one), _tensors(other)
        if first.keys() & second.keys() or not (first.keys() | second.keys()) & narrow:
            continue
        candidate = one + (-other)
        convincing = evaluation.evidence(candidate).convincing
        if convincing and independent(_tensors(candidate), implied):
            found.append(candidate)
            implied.append(_tensors(candidate))
    return found


def without_sums(found: Sequence[Candidate]) -> list[Candidate]:
    """Return balances without those of one channel that are sums over the channels of others.

    A layer of one neuron has only one slice along an axis, which is the whole parameter.
    """
    implied = [_tensors(one) for one in found if one.width > 1 and _complete(one)]
    kept = []
    for one in found:
        if one.width == 1 and _complete(one):
            if not independent(_tensors(one), implied):
                continue
            implied.append(_tensors(one))
        kept.append(one)
    return kept


def _complete(candidate: Candidate) -> bool:
    """Return whether a candidate contains every place of its parameters."""
    return all((side.flat >= 0).all() for side, _ in candidate.parts)


def independent(one: Mapping[Any, int], others: Sequence[Mapping[Any, int]]) -> bool:
    """Return whether an integer combination of sides is none of other combinations."""
    keys = sorted({key for each in (one, *others) for key in each})
    rows = np.array([[each.get(key, 0) for key in keys] for each in (*others, one)], dtype=float)
    return int(np.linalg.matrix_rank(rows)) > int(np.linalg.matrix_rank(rows[:-1]))


def _bundles(layers: Mapping[str, Mapping[str, Side]]) -> Iterator[Candidate]:
    """Yield the parameters of each layer, alone and with its vectors."""
    for layer in layers.values():
        vectors = [(side, 1) for side in layer.values() if len(side.shape) == 1]
        for side in layer.values():
            yield Candidate(((side, 1),))
            if vectors and len(side.shape) > 1:
                yield Candidate(((side, 1), *vectors))


def _tensors(candidate: Candidate) -> dict[str, int]:
    """Return the factors of whole parameters in the sum of all labels of a candidate."""
    found: dict[str, int] = {}
    for side, factor in candidate.parts:
        found[side.tensor] = found.get(side.tensor, 0) + factor
    return {tensor: factor for tensor, factor in found.items() if factor}
