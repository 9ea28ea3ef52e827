"""The one place where these tests call the search for laws, and what they ask of its answer."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from kind import COUNTED, Kind

import obstruction as ob


def laws_of(model: Any, inputs: Any, *, training: bool = True) -> Any:
    """Return the laws of a model."""
    return ob.conservation_laws(model, inputs=inputs, training=training)


@cache
def found(kind: Kind) -> Any:
    """Return the laws that the search finds in a case, searched once."""
    model, inputs = kind.made()
    return laws_of(model, inputs, training=kind.training)


def parameters(model: Any) -> dict[str, np.ndarray]:
    """Return the trainable parameters by name."""
    named = model.named_parameters()
    return {name: p.detach().numpy().copy() for name, p in named if p.requires_grad}


def counts(laws: Any, convention: frozenset[str] = frozenset()) -> dict[str, int]:
    """Return the number of conserved numbers of each kind but matrices, without zeros."""
    sizes = {kind: sum(law.size for law in laws if law.kind == kind) for kind in COUNTED}
    return {kind: n for kind, n in sizes.items() if n and kind not in convention}


def blocks(laws: Any) -> list[int]:
    """Return the side lengths of all blocks of matrix laws, in order."""
    matrices = [law for law in laws if law.kind == "matrix"]
    return sorted(side for law in matrices for side in [law.block] * (law.labels // law.block))


def forms(laws: Any, kind: str, at: dict[str, np.ndarray]) -> np.ndarray:
    """Return the coefficients of all laws of one kind: a row a number, a column a scalar.

    Every number is a weighted sum of squares, or of scalars, so its value where one scalar is 1
    and all others are 0 is the coefficient of that scalar.
    """
    zero = {name: np.zeros_like(value) for name, value in at.items()}
    columns = []
    for value in zero.values():
        for place in np.ndindex(value.shape):
            value[place] = 1.0
            columns.append([x for law in laws if law.kind == kind for x in law.values(zero)])
            value[place] = 0.0
    return np.array(columns).T


def drifts(laws: Any, start: dict[str, np.ndarray], end: dict[str, np.ndarray]) -> np.ndarray:
    """Return the change of every conserved number, relative to the size of its law's terms.

    Terms that start at zero, as biases do, are measured by the largest of all laws.
    """
    sizes = [law.scale(start).max() for law in laws]
    parts = [np.abs(law.values(end) - law.values(start)) for law in laws]
    relative = [
        part / (size if size > 1e-6 * max(sizes) else max(sizes))
        for part, size in zip(parts, sizes, strict=True)
    ]
    return np.concatenate([np.zeros(0), *relative])
