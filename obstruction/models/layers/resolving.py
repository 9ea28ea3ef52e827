"""The layers of a network in forward order, their orientations and links, from `Contents`.

Nothing is guessed. If neither the source nor the shapes decide, an error names the option that the
user must give.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.models.activations import canonical, why_not
from obstruction.models.contents import (
    FLOATS,
    Activation,
    Barrier,
    Contents,
    Dense,
    Orientation,
    Step,
    Tensor,
    UnreadableModel,
)
from obstruction.models.layers import ordering, orientations
from obstruction.models.layers.adapters import check_is_network
from obstruction.models.layers.arranging import UNKNOWN, arranged, ask_for_layout, no_chain
from obstruction.models.layers.naming import Matrix, bag_of
from obstruction.models.model import Layer, Link, Model
from obstruction.models.operations.chains import steps_of
from obstruction.models.options import NO_OPTIONS, ReadOptions

_SLOPES: Final = {"linear": 1.0, "leaky_relu": 0.01, "prelu": 0.25}
_UNNAMED: Final = "not named in layers"


def resolve(contents: Contents, options: ReadOptions = NO_OPTIONS) -> Model:
    """Return the fully connected layers of a network in forward order.

    Parameters
    ----------
    contents : Contents
        What a reader found.
    options : ReadOptions, optional
        What the source does not say. The activation is needed if the source does not name it, the
        layout if neither the source nor the shapes tell it, and the layers if several orders of
        them are possible.

    Returns
    -------
    Model
        A network of any number of layers, even of none.

    Raises
    ------
    AdapterFound
        If the source holds an adapter.
    UnreadableModel
        If weights are not finite floating-point numbers, or if shapes contradict each other. If a
        model was run and is no chain of layers, the error is `NoChain`.
    ValueError
        If an option contradicts the source, or must be given.
    """
    check_is_network(contents)
    contents = contents.with_graph(options.activation, options.layers)
    steps = None if contents.graph is None else steps_of(contents.graph)
    uses = _uses(steps or ())
    skipped: list[tuple[str, str]] = []
    notes = contents.notes
    if steps is not None and options.layers is not None:
        steps, skipped = _picked(contents, steps, options.layers)
    if steps is None:
        try:
            found = arranged(contents, bag_of(contents), options)
        except UnreadableModel:
            raise
        except ValueError as problem:  # the notes say why the reader found no order
            raise ValueError("; ".join((str(problem), *contents.notes))) from None
        steps, skipped = found.steps, found.skipped
        notes = (*notes, *found.notes)
    contents = replace(contents, notes=notes)
    return _model(contents, _Chain.of(steps, uses or _uses(steps)), skipped, options)


# --- from steps to a model ------------------------------------------------------------------


@dataclass(frozen=True)
class _Chain:
    """Layers in forward order, with what lies before, between and after them.

    `uses` counts, for each tensor, the layers of the whole model that use it.
    """

    layers: tuple[Dense, ...]
    gaps: tuple[tuple[Activation | Barrier, ...], ...]
    uses: Counter[str]

    @classmethod
    def of(cls, steps: Sequence[Step], uses: Counter[str]) -> _Chain:
        layers: list[Dense] = []
        gaps: list[list[Activation | Barrier]] = [[]]
        for step in steps:
            if isinstance(step, Dense):
                layers.append(step)
                gaps.append([])
            else:
                gaps[-1].append(step)
        return cls(tuple(layers), tuple(tuple(gap) for gap in gaps), uses)


def _uses(steps: Iterable[Step]) -> Counter[str]:
    """Return how many of the layers among some steps use each tensor."""
    layers = [step for step in steps if isinstance(step, Dense)]
    return Counter(
        name for one in layers for name in {one.weight, one.bias, one.magnitude} if name is not None
    )


def _model(
    contents: Contents,
    chain: _Chain,
    skipped: list[tuple[str, str]],
    options: ReadOptions,
) -> Model:
    settled = _settled(contents, chain, options.layout)
    outside = chain.gaps if len(chain.gaps) == 1 else (chain.gaps[0], chain.gaps[-1])
    skipped += [(s.name, s.reason) for s in itertools.chain(*outside) if isinstance(s, Barrier)]
    if settled is None:
        only = chain.layers[0].name
        skipped.append((only, "the only fully connected layer: there are no hidden neurons"))
        settled, chain = (), _Chain((), (), Counter())
    layers = tuple(layer_of(contents, *pair) for pair in zip(chain.layers, settled, strict=True))
    pairs = range(max(0, len(layers) - 1))
    links = tuple(_link(contents, chain, layers, i, options.activation) for i in pairs)
    behind = itertools.chain(*chain.gaps[-1:])
    ending = tuple(canonical(s.name) for s in behind if isinstance(s, Activation))
    passed = tuple(dict.fromkeys(skipped))
    return Model(layers, links, passed, contents.format, contents.notes, ending)


def _settled(
    contents: Contents, chain: _Chain, asked: Orientation | None
) -> tuple[Orientation, ...] | None:
    """Return how each layer is stored, or None for a single layer if that is unknown."""
    for dense in chain.layers:
        for name in (dense.weight, dense.bias, dense.magnitude):
            if name is not None and name not in contents.tensors:
                raise UnreadableModel(f"{dense.name}: the tensor {name} is missing")
        if contents.tensors[dense.weight].array.ndim != 2:
            shape = contents.tensors[dense.weight].shape
            raise UnreadableModel(f"{dense.weight} has the shape {shape}: must be a matrix")
    matrices = [Matrix(dense) for dense in chain.layers]
    candidates = orientations.possible(matrices, contents, asked)
    if len(candidates) == 1 and all(dense.layout is not None for dense in chain.layers):
        return candidates[0]
    if len(chain.layers) == 1:
        return candidates[0] if len(candidates) == 1 else None
    joined = [not any(isinstance(s, Barrier) for s in gap) for gap in chain.gaps[1:-1]]
    fitting = []
    for candidate in candidates:
        widths = orientations.widths(matrices, contents, candidate)
        pairs = zip(joined, itertools.pairwise(widths), strict=True)
        if all(ordering.chains(pair) for together, pair in pairs if together):
            fitting.append(candidate)
    if len(fitting) > 1:
        raise ask_for_layout(contents)
    if not fitting:
        raise no_chain("layers", contents, chain.layers)
    return fitting[0]


def layer_of(contents: Contents, dense: Dense, layout: Orientation) -> Layer:
    """Return a layer with its arrays.

    Raises
    ------
    UnreadableModel
        If its weights are not finite floating-point numbers, or if it has weight normalisation
        and a row of zeros.
    """
    weight = _checked(contents.tensors[dense.weight])
    bias = None if dense.bias is None else _checked(contents.tensors[dense.bias])
    magnitude = None if dense.magnitude is None else _checked(contents.tensors[dense.magnitude])
    found = Layer(dense.name, weight, bias, layout, magnitude, dense.factor, dense.bias_factor)
    if magnitude is not None and not _is_finite(found.weight):
        raise UnreadableModel(f"{weight.name}: a row of zeros has no direction")
    return found


def _checked(tensor: Tensor) -> Tensor:
    """Return a tensor, or raise UnreadableModel if its numbers cannot be weights."""
    if tensor.dtype not in FLOATS:
        raise UnreadableModel(
            f"{tensor.name} holds numbers of type {tensor.dtype}: weights must be "
            f"{', '.join(FLOATS[:-1])} or {FLOATS[-1]}"
        )
    if not tensor.array.size:
        raise UnreadableModel(f"{tensor.name} has the shape {tensor.shape}: it holds no numbers")
    if not _is_finite(tensor.array):
        raise UnreadableModel(f"{tensor.name} holds numbers that are infinite or not a number")
    return tensor


def _is_finite(array: NDArray[Any]) -> bool:
    """Return whether all numbers are finite, without an array of as many truth values."""
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum()):  # a sum with a number that is not finite is not finite
            return True
    return bool(np.isfinite(array.min()) and np.isfinite(array.max()))


def _link(
    contents: Contents, chain: _Chain, layers: Sequence[Layer], i: int, asked: str | None
) -> Link:
    here, after = chain.layers[i], chain.layers[i + 1]
    gap = chain.gaps[i + 1]
    barriers = [s for s in gap if isinstance(s, Barrier)]
    reasons = [f"{s.name}: {s.reason}" if s.name else s.reason for s in barriers]
    if not barriers and layers[i].outputs != layers[i + 1].inputs:
        reasons.append(
            f"{here.name} has {layers[i].outputs} outputs and {after.name} "
            f"{layers[i + 1].inputs} inputs: something lies between them"
        )
    if after.magnitude is not None:
        reasons.append(f"the weights of {after.name} are normalised, which hides their scale")
    for dense in (here, after):
        if not dense.trained:
            reasons.append(f"{dense.name} is not trained")
    reasons += _sharing(contents, chain, i)
    known = [s for s in gap if isinstance(s, Activation)]
    name, slope, why = _composed(known, asked, must=not reasons, contents=contents, at=here.name)
    if asked is not None and not barriers and UNKNOWN not in known and name != asked:
        raise ValueError(
            f"activation = {asked!r}: between {here.name} and {after.name} "
            f"the {contents.format} has {name}"
        )
    reasons += [why] if why else []
    return Link(name, slope, "; ".join(dict.fromkeys(reasons)) or None)


def _composed(
    known: Sequence[Activation], asked: str | None, *, must: bool, contents: Contents, at: str
) -> tuple[str, float, str | None]:
    """Return the composition of activations: its name, its slope, and why it keeps no balance."""
    name, slope = "linear", 1.0
    for one in known:
        if one.name:
            this = canonical(one.name)
            factor = _SLOPES["linear"] if this == "linear" else one.slope
        elif asked is not None:
            this, factor = asked, _SLOPES.get(asked, 0.0)
        elif must:
            raise ValueError(
                f"activation = None: {contents.format} does not say which activation follows "
                f"{at}: give activation='relu' or another (--activation relu)"
            )
        else:
            return "", 0.0, None
        why = why_not(this)
        if why is not None:
            return this, 0.0, why
        if this != "linear" and name != "relu":  # a ReLU stays one before or behind the others
            name = this
        slope *= factor
    return name, slope, None


def _sharing(contents: Contents, chain: _Chain, i: int) -> list[str]:
    """Return the reasons of neurons between layers i and i + 1 whose weights are shared."""
    here, after = chain.layers[i], chain.layers[i + 1]
    touching = [n for n in (here.weight, here.bias, here.magnitude, after.weight) if n is not None]
    reasons = []
    for name in touching:
        if chain.uses[name] > 1:
            owner = here.name if name in (here.weight, here.bias, here.magnitude) else after.name
            reasons.append(f"weights are shared: {owner} is used {chain.uses[name]} times")
        for group in contents.shared:
            if name in group:
                reasons.append(f"weights are shared between {' and '.join(sorted(group))}")
    return reasons


# --- parts of a chain, by name --------------------------------------------------------------


def _picked(
    contents: Contents, steps: tuple[Step, ...], layers: Sequence[str]
) -> tuple[tuple[Step, ...] | None, list[tuple[str, str]]]:
    """Return the steps between the first and the last layer named, and what is left out.

    The steps are None if a name is not that of a step.
    """
    dense = {i: step for i, step in enumerate(steps) if isinstance(step, Dense)}
    places: list[int] = []
    for name in layers:
        found = [i for i, step in dense.items() if name in (step.name, step.weight)]
        later = [i for i in found if not places or i > places[-1]]
        if not found:
            return None, []
        if not later:
            names = ", ".join(step.name for step in dense.values())
            raise ValueError(f"layers = {list(layers)!r}: {contents.format} has the order {names}")
        places.append(later[0])
    chosen = [
        step if i in places or not isinstance(step, Dense) else Barrier(step.name, _UNNAMED)
        for i, step in enumerate(steps)
        if places[0] <= i <= places[-1]
    ]
    return tuple(chosen), [(step.name, _UNNAMED) for i, step in dense.items() if i not in places]
