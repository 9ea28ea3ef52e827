"""An independent, plain search for balances by gradients: an oracle for the tests.

It shares no code with `obstruction.conservation`. For random weights w it sums w * dL/dw over
slices of every tensor. Integer null vectors of these sums, for all indices at once, are candidates.
Each is then held against the outputs: writers are multiplied and readers divided by powers of two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from plain_model import PlainModel
from relations import divisors, null_vectors, spanned, summed
from rescaling import Balance, points_of, powers, refuted
from scipy.spatial import cKDTree
from slices import Floats, Side, cut, measured, owner_of, together
from torch import nn

EXACT = 1e-8
MOST_SLICES = 32
MOST_QUERIES = 16  # that share a key
WIDEST_HEAD = 256
PATIENCE = 60
"""How many refuted laws of pairs are halved, so that their true pairs are found."""


@dataclass(frozen=True, eq=False)
class _Candidate:
    sides: list[Side]
    vector: Floats
    pivot: int = 0

    def used(self) -> list[tuple[Side, int]]:
        sign = 1 if self.vector[self.pivot] > 0 else -1
        return [(s, sign * int(k)) for s, k in zip(self.sides, self.vector, strict=True) if k]

    def key(self, index: int) -> frozenset[tuple[str, int, int]]:
        """Return the slices in the law's number of an index, up to a common sign."""
        found = [
            (name, int(i), k)
            for s, k in self.used()
            for name, new in s.parts
            for i in np.flatnonzero(new == index)
        ]
        sign = min(found)[2] if found else 1
        return frozenset((n, i, k if sign > 0 else -k) for n, i, k in found)


class _Search:
    def __init__(self, model: PlainModel, probes: int, seed: int) -> None:
        self.model, self.seed = model, seed
        self.cuts = cut(model)
        self.sides = measured(model, self.cuts, probes, seed)
        self.spent: set[str] = set()
        self.known: set[frozenset[tuple[str, int, int]]] = set()
        self.found: list[Balance] = []
        self.seen: set[int] = set()  # laws, by the rescaling of all scalars
        self.patience = PATIENCE
        self.points = points_of(model, seed)

    def by_width(self) -> dict[int, list[Side]]:
        sides: dict[int, list[Side]] = {}
        for s in self.sides:
            if s.name not in self.spent:
                sides.setdefault(s.width, []).append(s)
        return sides

    def owners(self) -> list[Side]:
        """Return all sides, and slices of a module together with its biases as one side.

        The slices are rows, or columns where a module keeps its outputs along the second axis.
        """
        found = [s for s in self.sides if s.name not in self.spent]
        owned: dict[tuple[str, int], list[Side]] = {}
        for s in self.sides:
            owned.setdefault((owner_of(s.name), s.width), []).append(s)
        for (owner, _), sides in owned.items():
            flat = [s for s in sides if len(self.cuts[s.name].shape) == 1]
            for axis in ("@0", "@1"):
                thick = [s for s in sides if s not in flat and s.name.endswith(axis)]
                both = [*(thick if axis == "@0" else thick[:1]), *flat]
                if 2 <= len(both) <= 4 and (thick or axis == "@0"):
                    found.append(together(f"{owner}{axis} with biases", both))
        return found

    def admit(self, candidates: list[_Candidate]) -> list[bool]:
        """Add the candidates that are new and that the outputs do not refute; tell which."""
        laws = []
        good = []
        for c in candidates:
            law = self._law(c)
            moved = powers([law], [0], self.points[0].values, self.seed)
            same = frozenset((n, p.tobytes()) for n, p in moved.items() if p.any())
            good.append(bool(same) and c.key(0) not in self.known and hash(same) not in self.seen)
            self.seen.add(hash(same))
            laws.append(law)
        for point in self.points:
            rest = [i for i in range(len(laws)) if good[i]]
            for i in refuted(self.model, laws, point, rest, seed=self.seed):
                good[i] = False
        for law, c, ok in zip(laws, candidates, good, strict=True):
            if ok:
                self.found.append(law)
                self.known |= {c.key(i) for i in range(law.width)}
        return good

    def _law(self, c: _Candidate) -> Balance:
        terms = []
        for s, k in c.used():
            for name, new in s.parts:
                cut = self.cuts[name]
                labels = cut.labels(tuple(self.model.actual[cut.tensor].shape))
                terms.append((cut.tensor, np.append(new, -1)[labels], k))
        coefficients: dict[str, int] = {}
        for s, k in c.used():
            coefficients[s.name if s.name not in coefficients else f"{s.name} again"] = k
        return Balance(c.sides[0].width, coefficients, tuple(terms))

    def solve(self, sides: list[Side], names: list[str]) -> None:
        """Admit the laws among sides; each spends the side that is its pivot."""
        candidates = [_Candidate(sides, v, pivot) for v, pivot in null_vectors(sides)]
        for c, ok in zip(candidates, self.admit(candidates), strict=True):
            if ok:
                self.spent.add(names[c.pivot])

    def aligned(self) -> None:
        """Find laws among sides of equal width, index by index."""
        for _, sides in sorted(self.by_width().items(), reverse=True):
            self.solve(sides, [s.name for s in sides])

    def coarser(self) -> None:
        """Find laws of pairs (of rotary positions) and of blocks, among sides of equal width."""
        for width in sorted(self.by_width(), reverse=True):
            kinds = [(a, 2, width // (2 * a)) for a in divisors(width) if width % (2 * a) == 0]
            kinds += [(width // r, r, 1) for r in divisors(width) if r > 2]
            for a, r, c in kinds:
                sides = self.by_width().get(width, [])
                if a * c < 2 or len(sides) < 2:
                    continue
                new, what = summed(a, r, c), f"[{a}, sum {r}, {c}]"
                self.solve([s.mapped(what, new, a * c) for s in sides], [s.name for s in sides])

    def blocks(self) -> None:
        """Find laws between a side and slices, blocks or strides of wider ones (grouped heads)."""
        for width in sorted(self.by_width(), reverse=True):
            basis = self.by_width().get(width, [])
            if width == 1 or not basis:
                continue
            made: list[Side] = []
            for s in self.owners():
                if s.width % width or s.width == width:
                    continue
                r = s.width // width
                maps = [
                    (f"[{a}, sum {r}, {width // a}]", summed(a, r, width // a))
                    for a in divisors(width)
                ]
                for start in range(0, s.width if r <= MOST_SLICES else 0, width):
                    new = np.full(s.width, -1)
                    new[start : start + width] = np.arange(width)
                    maps.append((f"[{start}:{start + width}]", new))
                made += spanned(basis, [s.mapped(what, new, width) for what, new in maps])
            self._against(basis, made)

    def rotary_groups(self) -> None:
        """Find laws between pairs of keys and the pairs of all queries that share them."""
        for width in sorted(self.by_width(), reverse=True):
            for a in divisors(width):
                d = width // a
                if d % 2 or not 4 <= d <= WIDEST_HEAD:
                    continue
                for how, within in (
                    ("halves", np.tile(np.arange(d // 2), 2)),
                    ("neighbours", np.repeat(np.arange(d // 2), 2)),
                ):
                    pairs = np.arange(a)[:, None] * (d // 2) + within
                    narrow = self.by_width().get(width, [])
                    basis = [s.mapped(f"[{a} {how}]", pairs.ravel(), width // 2) for s in narrow]
                    made = []
                    for s in self.owners():
                        r = s.width // width
                        if s.width % width or not 2 <= r <= MOST_QUERIES:
                            continue
                        new = np.broadcast_to(pairs[:, None], (a, r, d)).ravel()
                        made.append(s.mapped(f"[{a} x {r} {how}]", new, width // 2))
                    self._against(basis, spanned(basis, made))

    def _against(self, basis: list[Side], made: list[Side]) -> None:
        """Admit one law for every made side, itself against sides of the basis."""
        for s in made:
            left = [b for b in basis if b.name.partition("[")[0] not in self.spent]
            sides = [s, *left]
            for v, pivot in null_vectors(sides):
                if pivot or not self.admit([_Candidate(sides, v)])[0]:
                    continue
                alone = [i for i in range(1, len(sides)) if abs(v[i]) == 1]
                if alone:
                    self.spent.add(sides[alone[0]].name.partition("[")[0])

    def matched(self) -> None:
        """Find laws of one writer and one reader whose channels have other places or orders."""
        atoms = [(s, i) for s in self.owners() if s.width > 1 for i in range(s.width)]
        if len(atoms) < 2:
            return
        sums = np.stack([s.sums[:, i] for s, i in atoms])
        sizes = np.stack([s.sizes[:, i] for s, i in atoms])
        lengths = np.linalg.norm(sums, axis=1)
        alive = (np.abs(sums) > 1e-6 * sizes).mean(1) > 0.2
        where = np.flatnonzero(alive & (lengths > 1e-4 * np.linalg.norm(sizes, axis=1)))
        if len(where) < 2:
            return
        unit = sums[where] / lengths[where, None]
        by_sides: dict[tuple[str, str], list[tuple[int, int]]] = {}
        used: set[int] = set()
        for i, j in sorted(cKDTree(unit).query_pairs(1e-7)):
            x, y = int(where[i]), int(where[j])
            (s, k), (t, m) = atoms[x], atoms[y]
            if x in used or y in used or self._overlap(s, t) or (k == m and s.parts == t.parts):
                continue
            if (np.abs(sums[x] - sums[y]) > EXACT * (sizes[x] + sizes[y])).any():
                continue
            if self._pairs(atoms, [(x, y)]).key(0) not in self.known:
                used |= {x, y}
                by_sides.setdefault((s.name, t.name), []).append((x, y))
        for pairs in by_sides.values():
            self._admit_pairs(atoms, pairs)

    def _overlap(self, s: Side, t: Side) -> bool:
        """Tell whether two sides cut a tensor in two ways, so that they may share scalars."""
        ways = {self.cuts[n].tensor: n for n, _ in s.parts}
        return any(ways.get(self.cuts[n].tensor, n) != n for n, _ in t.parts)

    def _pairs(self, atoms: list[tuple[Side, int]], pairs: list[tuple[int, int]]) -> _Candidate:
        sides = []
        for column in (0, 1):
            side = atoms[pairs[0][column]][0]
            new = np.full(side.width, -1)
            new[[atoms[pair[column]][1] for pair in pairs]] = np.arange(len(pairs))
            first = int(np.flatnonzero(new >= 0)[0])
            what = f"[{len(pairs)} of {side.width} from {first}]"
            sides.append(side.mapped(what, new, len(pairs)))
        return _Candidate(sides, np.array([1.0, -1.0]))

    def _admit_pairs(self, atoms: list[tuple[Side, int]], pairs: list[tuple[int, int]]) -> None:
        """Admit a law of pairs; a refuted one is halved, as some of its pairs may be true."""
        if self.patience <= 0 or self.admit([self._pairs(atoms, pairs)])[0]:
            return
        self.patience -= 1
        if len(pairs) == 1:
            return
        half = len(pairs) // 2
        self._admit_pairs(atoms, pairs[:half])
        self._admit_pairs(atoms, pairs[half:])


def search(module: nn.Module, inputs: Any, *, seed: int = 0) -> list[Balance]:
    """Return the balances of a module, each found by gradients and not refuted by outputs.

    Parameters
    ----------
    module : torch.nn.Module
        In the mode (training or evaluation) that is asked about.
    inputs : tuple or dict
        Positional or keyword inputs.
    seed : int, keyword-only
        Of the random weights and inputs.
    """
    model = PlainModel(module, inputs)
    size = sum(w.numel() for w in model.actual.values())
    found = _Search(model, 24 if size < 500_000 else 12, seed)
    for step in _steps(found):
        step()
    return found.found


def _steps(found: _Search) -> Iterator[Any]:
    yield from (found.aligned, found.coarser, found.blocks, found.rotary_groups, found.matched)
