"""The forward order of layers that were found by names and shapes."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from obstruction.models.contents import (
    ORIENTATIONS,
    Activation,
    Barrier,
    Contents,
    Dense,
    Orientation,
    Step,
)
from obstruction.models.layers import ordering, orientations, walls
from obstruction.models.layers.naming import Bag, Matrix
from obstruction.models.layers.walls import Wall
from obstruction.models.options import ReadOptions

UNKNOWN: Final = Activation("")
"""An activation that the source does not name."""

_LONGEST_SUGGESTION: Final = 40
_MOST_COMPARED: Final = 200_000  # pairs of names; beyond, walls are taken to lie everywhere


@dataclass(frozen=True)
class Arranged:
    """Layers as steps in forward order, with the names and reasons of what is left out."""

    steps: tuple[Step, ...]
    skipped: list[tuple[str, str]]
    notes: list[str]


@dataclass(frozen=True)
class _Run:
    """Layers that follow each other, and how they are stored if that is known."""

    matrices: list[Matrix]
    settled: tuple[Orientation, ...] | None

    @property
    def names(self) -> list[str]:
        return [one.dense.name for one in self.matrices]


def arranged(contents: Contents, bag: Bag, options: ReadOptions) -> Arranged:
    """Return layers as steps in forward order.

    Layers around something that cannot be read are apart, and one that is alone then is left out.

    Raises
    ------
    ValueError
        If an option contradicts the source, or must be given.
    """
    skipped = [*bag.skipped, *((m.dense.name, what) for m, what in bag.others)]
    skipped += [(wall.name, wall.reason) for wall in bag.walls]
    notes: list[str] = []
    unsure: list[Wall] = []
    if options.layers is not None:
        matrices, unnamed = _named(bag, options.layers)
        skipped += [(m.dense.name, "not named in layers") for m in unnamed]
        runs = [_Run(matrices, _order_given(contents, matrices, options.layout, options.layers))]
        notes += _taken_apart(runs[0].names, bag.walls)
    else:
        parts = _parts(bag)
        if len(parts) > 1:
            alone = [part[0].dense.name for part in parts if len(part) == 1]
            skipped += [(name, "no layer beside it is read") for name in alone]
            parts = [part for part in parts if len(part) > 1]
        found = [
            _order_found(contents, replace(bag, layers=tuple(part)), options.layout)
            for part in parts
        ]
        runs = [run for run, _ in found]
        notes += [note for _, said in found for note in said]
        other = [*bag.skipped, *((m.dense.name, what) for m, what in bag.others)]
        unsure = [Wall(name, f"{what}, which seems to lie here") for name, what in other]
        unsure += [wall for wall in bag.walls if not wall.certain]
    certain, doubtful = walls.Blocks(w for w in bag.walls if w.certain), walls.Blocks(unsure)
    steps: list[Step] = []
    used: set[str] = set()
    for run in runs:
        if steps:
            steps.append(Barrier("", "what lies between them is not read"))
        between = _barriers(contents, bag, run, options, used)
        for i, pair in enumerate(itertools.pairwise(run.names)):
            between[i + 1] += [
                Barrier(wall.name, wall.reason)
                for wall in certain.around(*pair)
                if walls.separates(wall.name, *pair)
            ]
            near = doubtful.around(*pair)
            many = len(near) * len(run.names) > _MOST_COMPARED
            between[i + 1] += [
                Barrier(wall.name, wall.reason)
                for wall in (near[:1] if many else near)
                if many or walls.lies_between(wall.name, *pair, bag.stored)
            ]
        steps += between[0]
        for i, matrix in enumerate(run.matrices):
            steps.append(replace(matrix.dense, layout=run.settled[i] if run.settled else None))
            steps += [UNKNOWN] if i + 1 < len(run.matrices) else []
            steps += between[i + 1]
    skipped += [(vector.name, vector.what) for vector in bag.vectors if vector.name not in used]
    return Arranged(tuple(steps), skipped, notes)


def _barriers(
    contents: Contents, bag: Bag, run: _Run, options: ReadOptions, used: set[str]
) -> list[list[Barrier]]:
    """Return what ends chains before, between and behind layers, and note the vectors used."""
    matrices, settled = run.matrices, run.settled
    shapes = [contents.tensors[m.dense.weight].shape for m in matrices]
    between: list[list[Barrier]] = [[] for _ in range(len(matrices) + 1)]
    for i, matrix in enumerate(matrices):
        if matrix.reason is not None:
            between[i].append(Barrier(matrix.dense.name, matrix.reason))
            between[i + 1].append(Barrier(matrix.dense.name, matrix.reason))
    places = ordering.positions([*run.names, *(vector.name for vector in bag.vectors)])
    if places is not None and places[: len(matrices)] != sorted(places[: len(matrices)]):
        places = None
    for k, vector in enumerate(bag.vectors):
        if vector.slopes and options.activation == "prelu":
            used.add(vector.name)
            continue
        if places is not None:
            at = sum(place < places[len(matrices) + k] for place in places[: len(matrices)])
            between[at].append(Barrier(vector.name, f"{vector.what} follows"))
            used.add(vector.name)
            continue
        for i, (shape, layout) in enumerate(zip(shapes[:-1], settled or (), strict=False)):
            if orientations.width(shape, layout)[1] == vector.width:
                why = f"{vector.what} of this width may follow"
                between[i + 1].append(Barrier(vector.name, why))
                used.add(vector.name)
    return between


def _parts(bag: Bag) -> list[list[Matrix]]:
    """Return the layers of a bag in parts between which something lies that cannot be read."""
    certain = [wall for wall in bag.walls if wall.certain]
    matrices = list(bag.layers)
    if not certain or len(matrices) < 2:
        return [matrices]
    if not bag.ordered:
        matrices.sort(key=lambda one: ordering.natural(one.dense.name))
    blocks, parts = walls.Blocks(certain), [[matrices[0]]]
    for one, other in itertools.pairwise(matrices):
        names = one.dense.name, other.dense.name
        near = blocks.around(*names)
        many = len(near) * len(matrices) > _MOST_COMPARED
        if many or any(walls.separates(wall.name, *names) is not False for wall in near):
            parts.append([])
        parts[-1].append(other)
    if len(parts) == 1:
        return [list(bag.layers)]
    return parts


def _taken_apart(names: Sequence[str], found: Sequence[Wall]) -> list[str]:
    """Return notes on what cannot be read and is not taken to lie between layers that are named."""
    blocks = walls.Blocks(wall for wall in found if wall.certain)
    near = [
        wall
        for pair in itertools.pairwise(names)
        for wall in blocks.around(*pair)
        if walls.separates(wall.name, *pair) is None
    ]
    return [
        f"{wall.name} ({wall.reason}) is taken to lie elsewhere, as layers = {list(names)} says"
        for wall in dict.fromkeys(near)
    ]


def _named(bag: Bag, layers: Sequence[str]) -> tuple[list[Matrix], list[Matrix]]:
    """Return the layers that a user names, and those that the user does not name."""
    everything = [*bag.layers, *bag.unsure, *(m for m, _ in bag.others)]
    chosen: list[Matrix] = []
    for name in layers:
        matched = [m for m in everything if name in (m.dense.name, m.dense.weight)]
        if not matched:
            known = [m.dense.name for m in everything]
            near = difflib.get_close_matches(name, known, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            allowed = ", ".join(known[:_LONGEST_SUGGESTION]) or "none"
            raise ValueError(f"layers: there is no layer {name!r} among {allowed}{hint}")
        if matched[0] in chosen:
            raise ValueError(f"layers = {list(layers)!r}: {name!r} is named twice")
        chosen.append(matched[0])
    return chosen, [m for m in (*bag.layers, *bag.unsure) if m not in chosen]


def _order_given(
    contents: Contents, chosen: list[Matrix], layout: Orientation | None, layers: Sequence[str]
) -> tuple[Orientation, ...]:
    """Return the orientations with which layers in a given order form a chain."""
    candidates = orientations.possible(chosen, contents, layout)
    fitting = _chaining(contents, chosen, candidates, range(len(chosen)))
    if len(fitting) > 1:
        raise ask_for_layout(contents)
    if not fitting:
        raise no_chain(f"layers = {list(layers)!r}", contents, [m.dense for m in chosen])
    return fitting[0]


def _order_found(
    contents: Contents, bag: Bag, layout: Orientation | None
) -> tuple[_Run, list[str]]:
    """Return the layers in the only possible order, and remarks on it."""
    matrices = list(bag.layers)
    candidates = orientations.possible(matrices, contents, layout)
    if len(matrices) < 2:
        return _Run(matrices, candidates[0] if len(candidates) == 1 else None), []
    names = [m.dense.name for m in matrices]
    place = ordering.positions(names)
    known = list(range(len(matrices))) if bag.ordered else None
    if place is not None and not bag.ordered:
        known = sorted(range(len(matrices)), key=lambda i: place[i])
    found: list[tuple[tuple[Orientation, ...], list[int]]] = []
    several = False
    if known is not None:
        found = [(fit, known) for fit in _chaining(contents, matrices, candidates, known)]
        if not found and bag.ordered:  # the order is certain, the usual orientation is not
            plain = [replace(m, convention=None) for m in matrices]
            candidates = orientations.possible(plain, contents, layout)
            found = [(fit, known) for fit in _chaining(contents, matrices, candidates, known)]
        if not found and bag.ordered:
            raise no_chain("layers", contents, [m.dense for m in matrices])
    if not found:
        for candidate in candidates:
            tried = ordering.shape_order(orientations.widths(matrices, contents, candidate))
            if tried is not None:
                found.append((candidate, tried[0]))
                several = several or not tried[1] or known is not None
    if bag.unsure or several or not found:
        raise _ask_for_layers(contents, bag, candidates, [order for _, order in found])
    if len(found) > 1 and known is None:
        found = _customary(contents, bag, found)
    if len(found) > 1:
        readings = [", ".join(names[i] for i in order) for _, order in found]
        told = "; ".join(
            f"stored {one[0][0]} their order is {reading}"
            for one, reading in zip(found, readings, strict=True)
            if len(set(readings)) > 1 and len(names) <= _LONGEST_SUGGESTION
        )
        raise ask_for_layout(contents, told)
    settled, order = found[0]
    run = _Run([matrices[i] for i in order], tuple(settled[i] for i in order))
    return run, [] if bag.ordered else _remarks(contents, run, layout)


def _customary(
    contents: Contents, bag: Bag, found: list[tuple[tuple[Orientation, ...], list[int]]]
) -> list[tuple[tuple[Orientation, ...], list[int]]]:
    """Return the only reading in the order of the names if it is the customary one, else all.

    The order of names without numbers tells little, and must not contradict the stored order.
    """
    names = [m.dense.name for m in bag.layers]
    orders = [sorted(range(len(names)), key=lambda i: ordering.natural(names[i]))]
    if not ordering.numbered(names):
        orders.append(list(range(len(names))))
    inside = [one for one in found if one[1] in orders]
    if contents.customary is None or len(inside) != 1:
        return found
    proven = [orientations.proven(m.dense, contents.tensors) for m in bag.layers]
    told = zip(inside[0][0], proven, strict=True)
    customary = all(proof or layout == contents.customary for layout, proof in told)
    return inside if customary else found


def _remarks(contents: Contents, run: _Run, layout: Orientation | None) -> list[str]:
    """Return remarks on an order that is not that of the names, and on an unusual orientation.

    Raises
    ------
    ValueError
        If nothing but an option or a custom speaks against the order of numbers in the names.
    """
    assert run.settled is not None
    names, first = run.names, run.settled[0]
    ascending = sorted(names, key=ordering.natural)
    told = [orientations.proven(m.dense, contents.tensors) for m in run.matrices]
    certain = contents.layout is not None or any(told)
    if names == ascending:
        usual = contents.customary in (None, *run.settled)
        if usual or certain or layout is not None:
            return []
        return [
            f"weights are taken to be stored {first}, as only so the layers form a chain in the "
            "order of their names"
        ]
    other = ORIENTATIONS[first == ORIENTATIONS[0]]
    if not certain and ordering.numbered(names) and names == ascending[::-1]:
        quoted = ", ".join(map(repr, names))
        raise ValueError(
            f"layers = None: if weights are stored {first}, the layers form a chain only against "
            f"the order of their names: give layers=[{quoted}] if that is the forward order "
            f"(--layers {','.join(names)}), or layout={other!r} if they are stored so "
            f"(--layout {other})"
        )
    shown = ", ".join(names[:_LONGEST_SUGGESTION])
    return [f"the order of the layers is not that of their names but follows from shapes: {shown}"]


def _chaining(
    contents: Contents,
    matrices: Sequence[Matrix],
    candidates: Sequence[tuple[Orientation, ...]],
    order: Sequence[int],
) -> list[tuple[Orientation, ...]]:
    """Return the orientations with which layers form a chain in an order."""
    found = []
    for candidate in candidates:
        widths = orientations.widths(matrices, contents, candidate)
        if ordering.chains([widths[i] for i in order]):
            found.append(candidate)
    return found


# --- errors that ask for an option ----------------------------------------------------------


def ask_for_layout(contents: Contents, told: str = "") -> ValueError:
    """Return the error that asks for the layout, with what depends on it."""
    return ValueError(
        f"layout = None: {contents.format} does not say how weights are stored and both ways fit "
        "their shapes: give layout='out_in' as PyTorch stores them or layout='in_out' as Keras, "
        "Flax and scikit-learn do (--layout out_in)" + (f"; {told}" if told else "")
    )


def _ask_for_layers(
    contents: Contents,
    bag: Bag,
    candidates: Sequence[tuple[Orientation, ...]],
    orders: Sequence[Sequence[int]],
) -> ValueError:
    """Return the error that asks for the layers and suggests an order that can be pasted."""
    matrices = bag.layers
    if bag.unsure:
        odd = ", ".join(m.dense.name for m in bag.unsure[:3])
        why = f"{contents.format} does not say whether {odd} belongs to the network"
    elif orders:
        why = f"the shapes allow several orders of the {len(matrices)} layers"
    else:
        listed = ", ".join(
            f"{m.dense.name} {contents.tensors[m.dense.weight].shape}" for m in matrices[:4]
        )
        more = ", ..." if len(matrices) > 4 else ""
        why = f"the {len(matrices)} layers ({listed}{more}) make no single chain in any order"
    left_out = [matrix.dense.name for matrix in (*bag.unsure, *(one for one, _ in bag.others))]
    left_out += [wall.name for wall in bag.walls]
    names = _suggestion(contents, matrices, candidates, orders, left_out)
    example = ""
    if names:
        quoted = ", ".join(repr(name) for name in names)
        example = f", such as layers=[{quoted}] (--layers {','.join(names)})"
    return ValueError(f"layers = None: {why}: name them in forward order{example}")


def _suggestion(
    contents: Contents,
    matrices: Sequence[Matrix],
    candidates: Sequence[tuple[Orientation, ...]],
    orders: Sequence[Sequence[int]],
    left_out: Sequence[str],
) -> list[str]:
    """Return the names of layers in an order in which they form a chain, or none.

    None is returned if something that is left out may lie between them by its name.

    The order of the numbers in the names, or else the stored order, comes first.
    """
    by_number = list(range(len(matrices)))
    if len({re.sub(r"[\d_]", "", matrix.dense.name) for matrix in matrices}) == 1:
        by_number.sort(key=lambda i: ordering.natural(matrices[i].dense.name))
    parts: dict[str, list[int]] = {}
    for i in by_number:
        name = matrices[i].dense.name
        parts.setdefault(name[: max(name.rfind("."), name.rfind("/")) + 1], []).append(i)
    for order in (by_number, *orders, *parts.values()):
        short = 2 <= len(order) <= _LONGEST_SUGGESTION
        names = [matrices[i].dense.name for i in order]
        if short and _chaining(contents, matrices, candidates, order):
            within = sorted(map(ordering.natural, names))
            others = (ordering.natural(name) for name in left_out)
            if not any(within[0] < other < within[-1] for other in others):
                return names
    return []


def no_chain(argument: str, contents: Contents, layers: Sequence[Dense]) -> ValueError:
    """Return the error that says that layers form no chain in the order given."""
    shapes = ", ".join(f"{d.name} {contents.tensors[d.weight].shape}" for d in layers)
    return ValueError(
        f"{argument}: the outputs of each layer must be the inputs of the next one, "
        f"which these shapes do not allow: {shapes}"
    )
