"""Layers of a network made of what a reader found: their order, orientation and links.

Nothing is guessed. What the source does not say and the shapes do not decide is asked for: the
error names the option.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.models.activations import canonical, check_activation, why_not
from obstruction.models.contents import (
    FLOATS,
    LAYOUTS,
    Activation,
    Barrier,
    Contents,
    Dense,
    Layout,
    Step,
    Tensor,
    UnreadableModel,
)
from obstruction.models.layers import layouts, ordering
from obstruction.models.layers.arranging import UNKNOWN, arranged, ask_for_layout, no_chain
from obstruction.models.layers.naming import Matrix, bag_of
from obstruction.models.model import Layer, Link, Model
from obstruction.models.operations.chains import steps_of

_SLOPES: Final = {"linear": 1.0, "leaky_relu": 0.01, "prelu": 0.25}
_UNNAMED: Final = "not named in layers"


def resolve(
    contents: Contents,
    *,
    activation: str | None = None,
    layout: Layout | None = None,
    layers: Sequence[str] | None = None,
) -> Model:
    """Return the fully connected layers of a network in forward order.

    Parameters
    ----------
    contents : Contents
        What a reader found.
    activation : str, optional
        What follows every hidden layer. Needed if the source does not say; if it does, both must
        agree.
    layout : {"out_in", "in_out"}, optional
        How weights are stored. Needed if neither the source nor the shapes say.
    layers : sequence of str, optional
        Names of the layers to look at, in forward order. Needed if several orders are possible;
        also to pick a part of the network.

    Returns
    -------
    Model
        Of any number of layers, none included; what was passed over is in its `skipped`.

    Raises
    ------
    UnreadableModel
        If weights are no finite floating-point numbers or contradict each other.
    ValueError
        If an argument contradicts the source, or must be given.
    """
    if activation is not None:
        activation = check_activation(activation)
    if layout is not None:
        check_layout(layout)
    layers = _check_layers(layers)
    steps = None if contents.graph is None else steps_of(contents.graph)
    uses = _uses(steps or ())
    skipped: list[tuple[str, str]] = []
    if steps is not None and layers is not None:
        steps, skipped = _picked(contents, steps, layers)
    if steps is None:
        try:
            steps, skipped = arranged(contents, bag_of(contents), activation, layout, layers)
        except UnreadableModel:
            raise
        except ValueError as problem:  # what a reader could not follow is why it must be told
            raise ValueError("; ".join((str(problem), *contents.notes))) from None
    chain = _Chain.of(steps, uses or _uses(steps))
    return _model(contents, chain, skipped, activation, layout)


def check_layout(layout: str) -> None:
    """Raise a ValueError if a layout has no such name."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout = {layout!r}: must be one of {', '.join(LAYOUTS)}")


def layer_names(contents: Contents) -> list[str]:
    """Return the names that ``layers=`` accepts, in forward order if the source tells it."""
    if contents.graph is not None:
        steps = steps_of(contents.graph)
        return list(dict.fromkeys(step.name for step in steps if isinstance(step, Dense)))
    bag = bag_of(contents)
    return [m.dense.name for m in (*bag.layers, *bag.unsure)]


def _check_layers(layers: Sequence[str] | None) -> tuple[str, ...] | None:
    if layers is None:
        return None
    named = not isinstance(layers, (str, bytes)) and isinstance(layers, Iterable)
    given = tuple(layers) if named else ()
    if not named or not all(isinstance(name, str) for name in given):
        raise ValueError(f"layers = {layers!r}: must be a sequence of names of layers")
    if len(given) < 2:
        raise ValueError(f"layers = {list(given)!r}: must name two layers or more")
    return given


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
    activation: str | None,
    layout: Layout | None,
) -> Model:
    settled = _settled(contents, chain, layout)
    outside = chain.gaps if len(chain.gaps) == 1 else (chain.gaps[0], chain.gaps[-1])
    skipped += [(s.name, s.reason) for s in itertools.chain(*outside) if isinstance(s, Barrier)]
    if settled is None:
        only = chain.layers[0].name
        skipped.append((only, "the only fully connected layer: there are no hidden neurons"))
        return Model((), (), tuple(dict.fromkeys(skipped)), contents.format, contents.notes)
    layers = tuple(
        layer_of(contents, dense, one) for dense, one in zip(chain.layers, settled, strict=True)
    )
    links = tuple(
        _link(contents, chain, layers, i, activation) for i in range(max(0, len(layers) - 1))
    )
    return Model(layers, links, tuple(dict.fromkeys(skipped)), contents.format, contents.notes)


def _settled(contents: Contents, chain: _Chain, asked: Layout | None) -> tuple[Layout, ...] | None:
    """Return how each layer is stored, None if that is open and of no interest."""
    for dense in chain.layers:
        for name in (dense.weight, dense.bias, dense.magnitude):
            if name is not None and name not in contents.tensors:
                raise UnreadableModel(f"{dense.name}: the tensor {name} is missing")
        if contents.tensors[dense.weight].array.ndim != 2:
            shape = contents.tensors[dense.weight].shape
            raise UnreadableModel(f"{dense.weight} has the shape {shape}: must be a matrix")
    options = layouts.possible([Matrix(dense) for dense in chain.layers], contents, asked)
    if len(options) == 1 and all(dense.layout is not None for dense in chain.layers):
        return options[0]
    if len(chain.layers) == 1:
        return options[0] if len(options) == 1 else None
    shapes = [contents.tensors[dense.weight].shape for dense in chain.layers]
    joined = [not any(isinstance(s, Barrier) for s in gap) for gap in chain.gaps[1:-1]]
    fitting = []
    for option in options:
        widths = [layouts.width(*pair) for pair in zip(shapes, option, strict=True)]
        pairs = zip(joined, itertools.pairwise(widths), strict=True)
        if all(ordering.chains(pair) for together, pair in pairs if together):
            fitting.append(option)
    if len(fitting) > 1:
        raise ask_for_layout(contents)
    if not fitting:
        raise no_chain("layers", contents, chain.layers)
    return fitting[0]


def layer_of(contents: Contents, dense: Dense, layout: Layout) -> Layer:
    """Return a layer with its arrays.

    Raises
    ------
    UnreadableModel
        If its weights are no finite floating-point numbers, or have no direction.
    """
    weight = _checked(contents.tensors[dense.weight])
    bias = None if dense.bias is None else _checked(contents.tensors[dense.bias])
    magnitude = None if dense.magnitude is None else _checked(contents.tensors[dense.magnitude])
    array: NDArray[Any] = weight.array if layout == "out_in" else weight.array.T
    if magnitude is not None:
        rows = array.astype(np.float64)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        if not norms.all():
            raise UnreadableModel(f"{weight.name}: a row of zeros has no direction")
        array = rows * (magnitude.array.reshape(-1, 1) / norms)
    return Layer(
        dense.name,
        array,
        None if bias is None else bias.array.reshape(-1),
        weight,
        bias,
        layout,
        magnitude,
        dense.factor,
        dense.bias_factor,
    )


def _checked(tensor: Tensor) -> Tensor:
    """Return a tensor of finite numbers of which weights are made.

    Raises
    ------
    UnreadableModel
        If it is none.
    """
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
    """Return whether all numbers are finite, without memory for as many truth values."""
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum()):  # no sum can hide what is not finite; one pass
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
    """Return activations one after the other as one: name, slope, why it keeps no balance."""
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
        if this != "linear" and name != "relu":  # whatever follows or precedes a ReLU, it is one
            name = this
        slope *= factor
    return name, slope, None


def _sharing(contents: Contents, chain: _Chain, i: int) -> list[str]:
    """Return why the neurons between layers i and i + 1 have weights that are used elsewhere."""
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
    contents: Contents, steps: tuple[Step, ...], layers: tuple[str, ...]
) -> tuple[tuple[Step, ...] | None, list[tuple[str, str]]]:
    """Return the steps of the layers named, None if the source does not tell of all of them."""
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
