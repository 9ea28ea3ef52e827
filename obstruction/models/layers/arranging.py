"""The forward order of layers that were found by names and shapes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from obstruction.models.contents import Activation, Barrier, Contents, Dense, Orientation, Step
from obstruction.models.layers import ordering, orientations
from obstruction.models.layers.naming import Bag, Matrix
from obstruction.models.options import ReadOptions

UNKNOWN: Final = Activation("")
"""An activation that the source does not name."""

_LONGEST_SUGGESTION: Final = 40


def arranged(
    contents: Contents, bag: Bag, options: ReadOptions
) -> tuple[tuple[Step, ...], list[tuple[str, str]]]:
    """Return layers as steps in forward order, and the names and reasons of what is left out.

    Raises
    ------
    ValueError
        If an option contradicts the source, or must be given.
    """
    skipped = [*bag.skipped, *((m.dense.name, what) for m, what in bag.others)]
    settled: tuple[Orientation, ...] | None
    if options.layers is not None:
        matrices, unnamed = _named(bag, options.layers)
        skipped += [(m.dense.name, "not named in layers") for m in unnamed]
        settled = _order_given(contents, matrices, options.layout, options.layers)
    else:
        matrices, settled = _order_found(contents, bag, options.layout)
    shapes = [contents.tensors[m.dense.weight].shape for m in matrices]
    between: list[list[Barrier]] = [[] for _ in range(len(matrices) + 1)]
    for i, matrix in enumerate(matrices):
        if matrix.reason is not None:
            between[i].append(Barrier(matrix.dense.name, matrix.reason))
            between[i + 1].append(Barrier(matrix.dense.name, matrix.reason))
    places = ordering.positions([m.dense.name for m in matrices] + [v.name for v in bag.vectors])
    if places is not None and places[: len(matrices)] != sorted(places[: len(matrices)]):
        places = None
    for k, vector in enumerate(bag.vectors):
        if vector.slopes and options.activation == "prelu":
            continue
        if places is not None:
            at = sum(place < places[len(matrices) + k] for place in places[: len(matrices)])
            between[at].append(Barrier(vector.name, f"{vector.what} follows"))
            continue
        follows = [
            i
            for i, (shape, layout) in enumerate(zip(shapes[:-1], settled or (), strict=False))
            if orientations.width(shape, layout)[1] == vector.width
        ]
        for i in follows:
            between[i + 1].append(Barrier(vector.name, f"{vector.what} of this width may follow"))
        if not follows:
            skipped.append((vector.name, vector.what))
    steps: list[Step] = [*between[0]]
    for i, matrix in enumerate(matrices):
        steps.append(replace(matrix.dense, layout=settled[i] if settled else None))
        steps += [UNKNOWN] if i + 1 < len(matrices) else []
        steps += between[i + 1]
    return tuple(steps), skipped


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
) -> tuple[list[Matrix], tuple[Orientation, ...] | None]:
    """Return the layers in the only possible order, and their orientations if they are known."""
    matrices = list(bag.layers)
    candidates = orientations.possible(matrices, contents, layout)
    if len(matrices) < 2:
        return matrices, candidates[0] if len(candidates) == 1 else None
    place = ordering.positions([m.dense.name for m in matrices])
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
    if len(found) > 1:
        raise ask_for_layout(contents)
    settled, order = found[0]
    return [matrices[i] for i in order], tuple(settled[i] for i in order)


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


def ask_for_layout(contents: Contents) -> ValueError:
    """Return the error that asks for the layout."""
    return ValueError(
        f"layout = None: {contents.format} does not say how weights are stored and both ways fit "
        "their shapes: give layout='out_in' as PyTorch stores them or layout='in_out' as Keras, "
        "Flax and scikit-learn do (--layout out_in)"
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
    names = _suggestion(contents, matrices, candidates, orders)
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
) -> list[str]:
    """Return the names of layers in an order in which they form a chain, or none.

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
        if short and _chaining(contents, matrices, candidates, order):
            return [matrices[i].dense.name for i in order]
    return []


def no_chain(argument: str, contents: Contents, layers: Sequence[Dense]) -> ValueError:
    """Return the error that says that layers form no chain in the order given."""
    shapes = ", ".join(f"{d.name} {contents.tensors[d.weight].shape}" for d in layers)
    return ValueError(
        f"{argument}: the outputs of each layer must be the inputs of the next one, "
        f"which these shapes do not allow: {shapes}"
    )
