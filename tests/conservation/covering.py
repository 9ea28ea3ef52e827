"""Which balances of an independent search follow from the laws that are reported.

A number of a law is a vector: its coefficient for the square of each scalar of the model. It
follows from others if it is a combination of their vectors. Constant scalars are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rescaling import Balance
from scipy.sparse import csc_matrix, csr_matrix
from scipy.sparse.linalg import lsqr
from slices import Indices

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
Truth: TypeAlias = NDArray[np.bool_]

SAME = 1e-7
ASKED = 32
"""So many numbers of a law are asked one by one before the rest of them is given up."""


def balances_of(laws: Iterable[Any], kinds: Sequence[str] = ("balance", "matrix")) -> list[Balance]:
    """Return the reported laws of some kinds as balances; of matrices, the diagonal."""
    return [
        Balance(
            law.labels,
            {f"{t.tensor} {i}": t.coefficient for i, t in enumerate(law.terms)},
            tuple((t.tensor, t.labels, t.coefficient) for t in law.terms),
        )
        for law in laws
        if law.kind in kinds
    ]


def constants_of(laws: Iterable[Any], shapes: Shapes) -> dict[str, Truth]:
    """Return a mask of the scalars of each parameter that are reported as constant."""
    masks: dict[str, Truth] = {}
    for law in laws:
        for term in law.terms if law.kind == "constant" else ():
            mask = np.broadcast_to(term.labels >= 0, shapes[term.tensor])
            masks[term.tensor] = masks.get(term.tensor, np.zeros(mask.shape, bool)) | mask
    return masks


def covered(oracle: Sequence[Balance], laws: Sequence[Any], shapes: Shapes) -> list[Truth]:
    """Return for every law of the oracle which of its numbers follow from the reported laws.

    Parameters
    ----------
    oracle : sequence of Balance
    laws : sequence of Law
        What `obstruction.conservation_laws` returned.
    shapes : dict of str to tuple of int
        The shapes of all trained parameters, as reported.
    """
    constant = constants_of(laws, shapes)
    wanted = [_fitted(law, shapes, constant) for law in oracle]
    known = [
        _fitted(law, shapes, constant) for law in balances_of(laws, ("balance", "matrix", "scale"))
    ]
    columns, targets = _vectors(known, wanted, shapes)
    found = _equal(columns, targets)
    found |= np.diff(targets.indptr) == 0  # all scalars are constant
    parts = np.split(found, np.cumsum([law.width for law in oracle])[:-1]) if oracle else []
    first = 0
    for part in parts:
        rest = np.flatnonzero(~part)
        if rest.size and columns.shape[1]:
            part[rest] = _combined(columns, targets[:, first + rest])
        first += part.size
    return parts


def _fitted(law: Balance, shapes: Shapes, constant: Mapping[str, Truth]) -> Balance:
    """Return a law without constant scalars; one of a complex parameter gets its last axis."""
    terms = []
    for tensor, labels, k in law.terms:
        shape = shapes[tensor]
        if labels.ndim and labels.ndim < len(shape):
            labels = labels[..., None]
        if tensor in constant:
            labels = np.where(constant[tensor], -1, labels)
        terms.append((tensor, _compressed(labels), k))
    return Balance(law.width, law.coefficients, tuple(terms))


def _compressed(labels: Indices) -> Indices:
    """Return labels without the axes along which they are equal, which keep the length 1."""
    for axis in range(labels.ndim):
        first = labels.take([0], axis)
        if labels.shape[axis] > 1 and (labels == first).all():
            labels = first
    return labels


def _vectors(
    known: Sequence[Balance], wanted: Sequence[Balance], shapes: Shapes
) -> tuple[csc_matrix, csc_matrix]:
    """Return the coefficients of all numbers: a column a number, a row a kind of scalars.

    Scalars that enter the same numbers with the same coefficients are one kind.
    """
    laws = [*known, *wanted]
    firsts = np.cumsum([0, *(law.width for law in laws)])
    entries: list[tuple[Indices, Indices, NDArray[np.float64]]] = []
    rows = 0
    for tensor in sorted({name for law in laws for name, _, _ in law.terms}):
        held = [
            (firsts[i], labels, k)
            for i, law in enumerate(laws)
            for name, labels, k in law.terms
            if name == tensor
        ]
        shape = np.broadcast_shapes(*(labels.shape for _, labels, _ in held))
        flat = [np.broadcast_to(labels, shape).reshape(-1) for _, labels, _ in held]
        chosen = _different(flat)
        for (first, _, k), labels in zip(held, flat, strict=True):
            label = labels[chosen]
            used = np.flatnonzero(label >= 0)
            entries.append((used + rows, label[used] + first, np.full(used.size, float(k))))
        rows += len(chosen)
    row, column = (
        np.concatenate([np.zeros(0, np.int64), *(entry[i] for entry in entries)]) for i in (0, 1)
    )
    value = np.concatenate([np.zeros(0), *(entry[2] for entry in entries)])
    whole = csc_matrix((value, (row, column)), (rows, int(firsts[-1])))
    middle = int(firsts[len(known)])
    return whole[:, :middle], whole[:, middle:]


def _different(columns: Sequence[Indices]) -> Indices:
    """Return the first row of each kind of rows of a table, told apart by a hash."""
    keys = np.zeros(columns[0].size, np.uint64)
    for number, column in enumerate(columns):
        factor = np.uint64(1442695040888963407 + 2 * number)
        keys = keys * np.uint64(6364136223846793005) + (column + 2).astype(np.uint64) * factor
    return np.unique(keys, return_index=True)[1]


def _equal(columns: csc_matrix, targets: csc_matrix) -> Truth:
    """Return which targets are a multiple of a column."""
    generator = np.random.default_rng(0)
    drawn = generator.standard_normal((2, columns.shape[0]))
    ratios = []
    for matrix in (columns, targets):
        one, other = (np.asarray(row @ matrix) for row in drawn)
        ratios.append(other / np.where(one == 0.0, 1.0, one))
    known = np.sort(ratios[0])
    if not known.size:
        return np.zeros(targets.shape[1], bool)
    place = np.clip(np.searchsorted(known, ratios[1]), 1, known.size - 1) if known.size > 1 else 0
    near = np.minimum(np.abs(known[place] - ratios[1]), np.abs(known[place - 1] - ratios[1]))
    return np.asarray((near <= 1e-12 * np.abs(ratios[1])) & (np.diff(targets.indptr) > 0))


def _combined(columns: csc_matrix, targets: csc_matrix) -> Truth:
    """Return which targets are combinations of columns; several are asked at once, then halves."""
    rows = csr_matrix(columns)
    generator = np.random.default_rng(1)

    def inside(places: Indices) -> bool:
        y = np.asarray(targets[:, places] @ generator.uniform(1.0, 2.0, places.size))
        answer = lsqr(rows, y, atol=1e-13, btol=1e-13, iter_lim=3000)[0]
        return bool(np.linalg.norm(rows @ answer - y) <= SAME * np.linalg.norm(y))

    def halved(places: Indices) -> list[int]:
        if inside(places):
            return [int(i) for i in places]
        if places.size == 1:
            return []
        return [i for half in np.array_split(places, 2) for i in halved(half)]

    every = generator.permutation(targets.shape[1])
    found = np.zeros(every.size, bool)
    if inside(every):
        return ~found
    some = every[:ASKED]
    found[some] = [inside(place[None]) for place in some]
    if found.any() and every.size > ASKED:
        found[halved(np.sort(every[ASKED:]))] = True
    return found
