"""An independent, plain search for balances by gradients: an oracle for the tests.

It shares no code with `obstruction.conservation`. For random weights w it sums w * dL/dw over slices
of every tensor. Integer null vectors of these sums, taken for all indices at once, are candidates.
Each is then held against the outputs: writers are multiplied and readers divided by powers of two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from plain_model import PlainModel, Values
from scipy.spatial import cKDTree
from torch import nn

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]

SCALES = (1.0, 1.0, 0.25, 4.0, 0.5, 2.0, 1.0, 8.0, 0.25, 1.0, 4.0, 0.5)
NOISE = 1e-11
EXACT = 1e-8
ROUNDING = 1e-9
MOST_SLICES = 32


@dataclass(frozen=True, eq=False)
class Side:
    """Scalars of one or several tensors, each of which belongs to one index or to none.

    Attributes
    ----------
    name : str
        Tensor, axes and what was done to the index, for people.
    labels : dict of str to ndarray
        For every tensor its indices; broadcasts to the tensor's shape; -1 for none.
    sums, sizes : ndarray of shape (probes, width)
        Sums of w * dL/dw and of its absolute value.
    """

    name: str
    labels: dict[str, Indices]
    sums: Floats
    sizes: Floats

    @property
    def width(self) -> int:
        """Return the number of indices."""
        return self.sums.shape[1]

    def mapped(self, what: str, new: Indices, width: int) -> Side:
        """Return the side with index ``new[i]`` in place of ``i``, and indices of -1 left out."""
        kept = new >= 0
        place = np.zeros((self.width, width))
        if self.width * width <= 1 << 16:
            place[np.flatnonzero(kept), new[kept]] = 1
            sums, sizes = self.sums @ place, self.sizes @ place
        else:
            sums, sizes = np.zeros((2, len(self.sums), width))
            for p in range(len(sums)):
                sums[p] = np.bincount(new[kept], self.sums[p][kept], width)
                sizes[p] = np.bincount(new[kept], self.sizes[p][kept], width)
        table = np.append(new, -1)  # so that -1 stays -1
        labels = {tensor: table[old] for tensor, old in self.labels.items()}
        return Side(f"{self.name}{what}", labels, sums, sizes)


@dataclass(frozen=True, eq=False)
class Balance:
    """A law: for every index, the sum over sides of coefficient * w² is conserved."""

    width: int
    coefficients: dict[str, int]
    terms: tuple[tuple[str, Indices, int], ...] = field(repr=False)


def random_values(model: PlainModel, scale: float, seed: int) -> dict[str, torch.Tensor]:
    """Return random weights whose sizes differ between tensors and between rows of a tensor."""
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for name, w in model.actual.items():
        real = torch.view_as_real(w) if w.is_complex() else w
        size = float(real.std()) if real.numel() > 1 else 0.0
        if size <= 1e-3 * float(real.abs().mean()) or size == 0.0:  # a constant, often 0 or 1
            size = float(real.abs().mean()) or (real[0].numel() ** -0.5 if real.ndim > 1 else 0.3)
        spread = 2.0 ** (3 * torch.rand((), generator=generator) - 1.5)
        rows = 2.0 ** (2 * torch.rand(real.shape[:1], generator=generator) - 1)
        rows = rows.reshape(-1, *[1] * (real.ndim - 1)) if real.ndim else torch.ones(())
        drawn = torch.randn(real.shape, generator=generator, dtype=torch.float64)
        drawn = drawn * size * scale * spread * rows
        values[name] = torch.view_as_complex(drawn) if w.is_complex() else drawn
    return values


def _probes(model: PlainModel, count: int, seed: int) -> list[dict[str, torch.Tensor]]:
    """Return w * dL/dw at random weights; points where numbers overflow are drawn smaller."""
    found = []
    for p in range(count):
        scale = SCALES[p % len(SCALES)]
        for attempt in range(3):
            at = seed + 1000 * p + attempt
            values = random_values(model, scale, at)
            products = model.products(values, model.inputs(at), at)
            largest = max(float(v.abs().max()) for v in products.values() if v.numel())
            if np.isfinite(largest) and 0 < largest < 1e100:
                found.append({n: v / largest for n, v in products.items()})
                break
            scale /= 4
    if not found:
        raise ValueError("gradients are infinite or zero at every random point")
    return found


def _reshapes(shape: tuple[int, ...], groups: int) -> Iterable[tuple[str, tuple[int, ...], Any]]:
    """Yield a name, a finer shape, and the axes to keep."""
    axes = len(shape)
    yield "0", shape, (0,)
    if axes >= 2:
        yield "1", shape, (1,)
        if groups > 1:
            yield f"1 of {groups} groups", (groups, shape[0] // groups, *shape[1:]), (0, 2)
    if axes == 3:
        yield from (("2", shape, (2,)), ("01", shape, (0, 1)))
        yield from (("02", shape, (0, 2)), ("12", shape, (1, 2)))


def _sides(module: nn.Module, probes: list[dict[str, torch.Tensor]]) -> list[Side]:
    """Return the sums over slices of every tensor along its first axes."""
    groups = {}
    for path, part in module.named_modules():
        if isinstance(getattr(part, "groups", None), int):
            groups[f"{path}.weight" if path else "weight"] = part.groups
    sides = []
    for name, first in probes[0].items():
        shape = tuple(first.shape)
        if not shape:
            shape = (1,)
        grouped = groups.get(name, 1)
        grouped = grouped if shape[0] % grouped == 0 else 1
        for text, finer, kept in _reshapes(shape, grouped):
            widths = [finer[k] for k in kept]
            labels = np.arange(np.prod(widths)).reshape(
                [n if k in kept else 1 for k, n in enumerate(finer)]
            )
            labels = np.broadcast_to(labels, finer) if finer != shape else labels
            labels = labels.reshape(shape) if finer != shape else labels
            gone = [k for k in range(len(finer)) if k not in kept]
            values = [p[name].reshape(finer) for p in probes]
            sums = [(v.sum(gone) if gone else v).reshape(-1).numpy() for v in values]
            sizes = [(v.abs().sum(gone) if gone else v.abs()).reshape(-1).numpy() for v in values]
            actual = labels if first.ndim else labels.reshape(())
            sides.append(Side(f"{name}@{text}", {name: actual}, np.stack(sums), np.stack(sizes)))
    return _without_noise(sides)


def _without_noise(sides: list[Side]) -> list[Side]:
    """Return the sides through which something flows, with rounding errors set to zero."""
    owner: dict[str, Floats] = {}
    for s in sides:
        part = s.name.rpartition("@")[0].rpartition(".")[0]
        owner[part] = np.maximum(owner.get(part, np.zeros(len(s.sums))), s.sizes.max(1))
    kept = []
    for s in sides:
        part = s.name.rpartition("@")[0].rpartition(".")[0]
        floor = np.maximum(NOISE * s.sizes, (1e-13 * owner[part])[:, None] + 1e-17)
        sums = np.where(np.abs(s.sums) <= floor, 0.0, s.sums)
        alive = (sums != 0).any(1).mean()
        if alive > 0.3:
            kept.append(Side(s.name, s.labels, sums, s.sizes))
    return kept


def _integers(v: Floats) -> Floats | None:
    """Return the smallest integer multiple of a vector, if there is one."""
    if np.abs(v).max() > 1e4:
        return None
    for k in range(1, 7):
        near = np.rint(k * v)
        if np.abs(k * v - near).max() < 1e-6 * k:
            return near if Fraction(int(np.abs(near).max())) <= 12 else None
    return None


def _null_vectors(sides: list[Side]) -> list[tuple[Floats, int]]:
    """Return integer vectors that annihilate the sums at every index, each with a pivot."""
    m = len(sides)
    if m < 2 or sides[0].sums.size < m + 4:
        return []
    a = np.stack([s.sums.ravel() for s in sides], 1)
    sizes = np.stack([s.sizes.ravel() for s in sides], 1)
    largest = np.abs(a).max(1)
    live = largest > 0
    if live.sum() < m + 4:
        return []
    scaled = a[live] / largest[live, None]
    lengths = np.linalg.norm(scaled, axis=0)
    if (lengths == 0).any():
        return []
    r = np.linalg.qr(scaled / lengths, mode="r")
    _, values, rows = np.linalg.svd(r)
    null = rows[values <= 1e-9 * values[0]] / lengths
    null /= np.abs(null).max(1, keepdims=True) if len(null) else 1
    found, row = [], 0
    pivots = []
    for column in range(m):
        if row == len(null):
            break
        best = row + int(np.argmax(np.abs(null[row:, column])))
        if abs(null[best, column]) < 1e-6:
            continue
        null[[row, best]] = null[[best, row]]
        null[row] /= null[row, column]
        others = np.arange(len(null)) != row
        null[others] -= np.outer(null[others, column], null[row])
        pivots.append(column)
        row += 1
    for v, pivot in zip(null, pivots, strict=False):
        whole = _integers(v)
        if whole is None:
            continue
        wrong = np.abs(a @ whole) > EXACT * (sizes @ np.abs(whole))
        if not wrong.any():
            found.append((whole, pivot))
    return found


def _divisors(n: int) -> list[int]:
    return [a for a in range(1, n + 1) if n % a == 0]


def _middle(a: int, r: int, c: int, d: int = 1) -> Indices:
    """Return the map that sums the second and fourth... axis of an index (a, r, c) or its pairs."""
    index = np.arange(a * c * d).reshape(a, 1, c, d)
    return np.broadcast_to(index, (a, r, c, d)).reshape(-1)


class _Search:
    def __init__(self, model: PlainModel, probes: int, seed: int) -> None:
        self.model, self.seed = model, seed
        self.sides = _sides(model.module, _probes(model, probes, seed))
        self.spent: set[str] = set()
        self.found: list[Balance] = []
        self.points = [(model.actual, model.inputs(seed))]
        for k, scale in enumerate((1.0, 0.25, 4.0)):
            for attempt in range(3):
                values = random_values(model, scale * 0.5**attempt, seed + 77 + 10 * k + attempt)
                inputs = model.inputs(seed + 77 + k)
                if all(y.isfinite().all() for y in model.outputs(values, inputs)):
                    self.points.append((values, inputs))
                    break
        self.outputs = [model.outputs(*point) for point in self.points]

    def by_width(self) -> dict[int, list[Side]]:
        sides: dict[int, list[Side]] = {}
        for s in self.sides:
            if s.name not in self.spent:
                sides.setdefault(s.width, []).append(s)
        return sides

    def admit(self, candidates: list[tuple[list[Side], Floats, int]]) -> list[bool]:
        """Add the candidates that the outputs do not refute; tell which."""
        laws = []
        for sides, vector, pivot in candidates:
            sign = 1 if vector[pivot] > 0 else -1
            used = [(s, sign * int(k)) for s, k in zip(sides, vector, strict=True) if k]
            terms = [(t, labels, k) for s, k in used for t, labels in s.labels.items()]
            width = sides[0].width
            laws.append(Balance(width, {s.name: k for s, k in used}, tuple(terms)))
        good = [True] * len(laws)
        for k, (values, inputs) in enumerate(self.points):
            rest = [i for i in range(len(laws)) if good[i]]
            for i in self._refuted(rest, laws, values, inputs, self.outputs[k]):
                good[i] = False
        self.found += [law for law, ok in zip(laws, good, strict=True) if ok]
        return good

    def _refuted(
        self, which: list[int], laws: list[Balance], values: Values, inputs: Any, before: Any
    ) -> list[int]:
        """Return those that change the outputs, by halving the set until it does not."""
        if not which:
            return []
        powers = {n: np.zeros(tuple(w.shape), np.int64) for n, w in values.items()}
        for i in which:
            generator = np.random.default_rng([self.seed, i])
            draw = np.append(generator.integers(-1, 3, laws[i].width), 0)
            for tensor, labels, k in laws[i].terms:
                powers[tensor] = powers[tensor] + k * draw[labels]
        scaled = {
            n: w * torch.from_numpy(np.ldexp(1.0, powers[n])) if powers[n].any() else w
            for n, w in values.items()
        }
        after = self.model.outputs(scaled, inputs)
        same = len(after) == len(before) and all(
            x.shape == y.shape
            and bool(y.isfinite().all())
            and float((x - y).abs().max() if x.numel() else 0.0)
            <= ROUNDING * float(x.abs().max() if x.numel() else 0.0)
            for x, y in zip(before, after, strict=True)
        )
        if same:
            return []
        if len(which) == 1:
            return which
        half = len(which) // 2
        return [
            i
            for part in (which[:half], which[half:])
            for i in self._refuted(part, laws, values, inputs, before)
        ]

    def solve(self, sides: list[Side], originals: list[str | None]) -> None:
        """Find and admit the laws among sides; a law spends one side that had none before."""
        vectors = _null_vectors(sides)
        good = self.admit([(sides, v, pivot) for v, pivot in vectors])
        for (_, pivot), ok in zip(vectors, good, strict=True):
            name = originals[pivot]
            if ok and name is not None:
                self.spent.add(name)

    def aligned(self) -> None:
        """Laws among sides of equal width, index by index."""
        for _, sides in sorted(self.by_width().items(), reverse=True):
            self.solve(sides, [s.name for s in sides])

    def coarser(self) -> None:
        """Laws of pairs (of rotary positions) and of blocks, among sides of equal width."""
        for width in sorted(self.by_width(), reverse=True):
            kinds = [(a, 2, width // (2 * a)) for a in _divisors(width) if width % (2 * a) == 0]
            kinds += [(width // r, r, 1) for r in _divisors(width) if r > 2]
            for a, r, c in kinds:
                sides = self.by_width().get(width, [])
                if a * c < 2 or len(sides) < 2:
                    continue
                what, new = f"[{a}, sum {r}, {c}]", _middle(a, r, c)
                made = [s.mapped(what, new, a * c) for s in sides]
                self.solve(made, [s.name for s in sides])

    def owners(self) -> list[Side]:
        """Return all sides, and the rows of a module together with its bias as one side."""
        sides = [s for s in self.sides if s.name not in self.spent]
        rows: dict[tuple[str, int], list[Side]] = {}
        for s in self.sides:
            tensor, _, axis = s.name.rpartition("@")
            if axis == "0":
                rows.setdefault((tensor.rpartition(".")[0], s.width), []).append(s)
        for (owner, _), parts in rows.items():
            if 2 <= len(parts) <= 4:
                labels = {t: v for s in parts for t, v in s.labels.items()}
                sums, sizes = sum(s.sums for s in parts), sum(s.sizes for s in parts)
                sides.append(Side(f"{owner}@rows", labels, sums, sizes))
        return sides

    def blocks(self) -> None:
        """Laws between a side and slices, blocks or strides of wider sides; grouped heads too."""
        for width in sorted(self.by_width(), reverse=True):
            if width == 1:
                continue
            basis = self.by_width().get(width, [])
            if not basis or basis[0].sums.size < len(basis) + 4:
                continue
            made: list[Side] = []
            for s in self.owners():
                r = s.width // width
                if r < 2 or s.width % width:
                    continue
                maps = [(f"[{a}, sum {r}, {width // a}]", _middle(a, r, width // a))
                        for a in _divisors(width)]  # fmt: skip
                for k in range(r if r <= MOST_SLICES else 0):
                    part = np.full(s.width, -1)
                    part[k * width : (k + 1) * width] = np.arange(width)
                    maps.append((f"[{k * width}:{(k + 1) * width}]", part))
                made += self._spanned(basis, [s.mapped(w, new, width) for w, new in maps])
            self._with_basis(basis, made)

    def rotary_groups(self) -> None:
        """Laws between pairs of keys and pairs of all queries that share them."""
        for width in sorted(self.by_width(), reverse=True):
            for a in _divisors(width):
                half = width // (2 * a)
                if width % (2 * a) or half < 2:
                    continue
                for text, split in (("halves", (half, 1)), ("neighbours", (1, half))):
                    c, d = (half, 1) if text == "halves" else (1, half)
                    del split, d
                    narrow = (
                        _middle(a, 2, half)
                        if c > 1
                        else np.repeat(np.arange(width // 2), 2)
                    )
                    basis = [
                        s.mapped(f"[{a} heads, {text}]", narrow, width // 2)
                        for s in self.by_width().get(width, [])
                    ]
                    wide = []
                    for s in self.owners():
                        r = s.width // width
                        if s.width % width or not 2 <= r <= 16:
                            continue
                        shared = narrow.reshape(a, 1, width // a)
                        new = np.broadcast_to(shared, (a, r, width // a)).reshape(-1)
                        what = f"[{a} groups of {r}, {text}]"
                        wide.append(s.mapped(what, new, width // 2))
                    if basis and wide:
                        self._with_basis(basis, self._spanned(basis, wide))

    def _spanned(self, basis: list[Side], made: list[Side]) -> list[Side]:
        """Return those of the sides that are combinations of the basis."""
        if not made or basis[0].sums.size < len(basis) + 4:
            return []
        b = np.stack([s.sums.ravel() for s in basis], 1)
        d = np.stack([s.sums.ravel() for s in made], 1)
        live = np.abs(b).max(1) > 0
        weight = np.where(live, 1 / np.where(live, np.abs(b).max(1), 1), 0)[:, None]
        q, r = np.linalg.qr(b * weight)
        q = q[:, np.abs(np.diag(r)) > 1e-12 * np.abs(np.diag(r)).max()]
        d = d * weight
        rest = np.linalg.norm(d - q @ (q.T @ d), axis=0)
        lengths = np.linalg.norm(d, axis=0)
        good = (rest <= 1e-8 * lengths) & (lengths > 0)
        return [s for s, ok in zip(made, good, strict=True) if ok]

    def _with_basis(self, basis: list[Side], made: list[Side]) -> None:
        """Admit one law for every made side: itself against the basis."""
        for s in made:
            sides = [s, *[b for b in basis if b.name.partition("[")[0] not in self.spent]]
            vectors = [(v, p) for v, p in _null_vectors(sides) if p == 0]
            for v, _ in vectors:
                if not self.admit([(sides, v, 0)])[0]:
                    continue
                alone = [i for i in range(1, len(sides)) if abs(v[i]) == 1]
                if alone:
                    self.spent.add(sides[alone[0]].name.partition("[")[0])

    def matched(self) -> None:
        """Laws of one writer and one reader whose channels are in another order or place."""
        taken = {(t, int(i)) for law in self.found for t, i in _entries(law)}
        names, sums, sizes, atoms = [], [], [], []
        sides = [s for s in self.owners() if s.width > 1]
        for s in sides:
            for i in range(s.width):
                if (s.name, i) not in taken:
                    atoms.append((s, i))
            names.append(s.name)
        if len(atoms) < 2:
            return
        sums = np.stack([s.sums[:, i] for s, i in atoms])
        sizes = np.stack([s.sizes[:, i] for s, i in atoms])
        lengths = np.linalg.norm(sums, axis=1)
        live = (sums != 0).mean(1) > 0.3
        unit = sums / np.where(lengths > 0, lengths, 1)[:, None]
        where = np.flatnonzero(live)
        pairs = cKDTree(unit[where]).query_pairs(1e-7)
        byside: dict[tuple[str, str], list[tuple[int, int]]] = {}
        used: set[int] = set()
        for i, j in sorted(pairs):
            x, y = where[i], where[j]
            if x in used or y in used or set(atoms[x][0].labels) & set(atoms[y][0].labels):
                continue
            if (np.abs(sums[x] - sums[y]) > EXACT * (sizes[x] + sizes[y])).any():
                continue
            used |= {x, y}
            byside.setdefault((atoms[x][0].name, atoms[y][0].name), []).append((x, y))
        candidates = []
        for both in byside.values():
            parts = []
            for column in (0, 1):
                side = atoms[both[0][column]][0]
                new = np.full(side.width, -1)
                for k, pair in enumerate(both):
                    new[atoms[pair[column]][1]] = k
                parts.append(side.mapped(f"[{len(both)} of {side.width}]", new, len(both)))
            candidates.append((parts, np.array([1.0, -1.0]), 0))
        self.admit(candidates)


def _entries(law: Balance) -> Iterable[tuple[str, int]]:
    """Yield the sides and indices of a law that blocks or slices have used already."""
    for name in law.coefficients:
        base, _, rest = name.partition("[")
        if ":" in rest:
            first, _, last = rest.rstrip("]").partition(":")
            yield from ((base, i) for i in range(int(first), int(last)))


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
    for step in (found.aligned, found.coarser, found.blocks, found.rotary_groups, found.matched):
        step()
    return found.found
