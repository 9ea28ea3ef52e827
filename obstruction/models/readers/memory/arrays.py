"""Weights as plain arrays in a sequence or in a flat mapping."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.models.contents import (
    Activation,
    Contents,
    Dense,
    Orientation,
    Step,
    UnreadableModel,
)
from obstruction.models.operations.graphs import operation_chain
from obstruction.models.readers.memory.tensors import (
    as_tensors,
    check_changes,
    is_array,
    is_jax,
    like,
    overwrite,
    rebuilt,
    unread_in,
)

OBJECTS: Final = "a sequence or mapping of arrays"

_EMPTY: Final = (
    "the empty places in the sequence have no parameters; they are taken for the activation that "
    "is told, and for dropout and the like"
)


def matches(source: Any) -> bool:
    """Return whether an object is a sequence or flat mapping of arrays."""
    if isinstance(source, Mapping):
        values = [*source.values()]
        return bool(values) and all(is_array(one) and not is_jax(one) for one in values)
    if not isinstance(source, (tuple, list)) or not source:
        return False
    return all(
        part is None or is_array(part) or _is_pair(part) or _is_empty(part) for part in source
    )


def read(source: Any) -> Contents:
    """Return arrays as the layers of a network.

    A sequence, such as what `obstruction.replay` returns, holds the layers in forward order: as
    ``(W1, W2, ...)``, as ``[W1, b1, W2, b2, ...]`` with None for missing biases, or as
    ``[(W1, b1), (W2, b2), ...]``. Among pairs there may be empty tuples or None for what has no
    parameters, as stax of JAX writes for activations. A mapping holds arrays by names, as a file
    does. Weights must be matrices: for one output, the last is ``(1, l)`` or ``(l, 1)``.
    """
    held = {name: value for name, value in _slots(source) if value is not None}
    if isinstance(source, Mapping):
        unread = unread_in(held)
        readable = {name: value for name, value in held.items() if name not in unread}
        return Contents("mapping of arrays", as_tensors(readable), unread=unread)
    tensors = as_tensors(held)
    ours = _is_replayed(source)
    between = Activation("relu" if ours else "")  # without a name, the user must give it
    layout: Orientation | None = "out_in" if ours else None
    steps: list[Step] = []
    weights = [name for name in tensors if name[0] == "W"]
    for name in sorted(weights, key=lambda name: int(name[1:])):
        bias = f"b{name[1:]}"
        steps += [between] if steps else []
        steps.append(Dense(name, name, bias=bias if bias in tensors else None, layout=layout))
    name = "replayed weights" if ours else "sequence of arrays"
    notes = (_EMPTY,) if not ours and any(map(_is_empty, source)) else ()
    return Contents(name, tensors, layout, operation_chain(steps), _shared(held), notes)


def updated(source: Any, changes: Mapping[str, NDArray[Any]], *, inplace: bool) -> Any:
    """Return a container of the same type with new values; arrays of JAX allow no ``inplace``."""
    slots = _slots(source)
    held = {name: value for name, value in slots if value is not None}
    check_changes(changes, held)
    if inplace:
        overwrite(held, changes)
        return source
    new = {name: like(held[name], array) for name, array in changes.items()}
    if isinstance(source, MutableMapping):
        target = copy.copy(source)
        target.update(new)
        return target
    if isinstance(source, Mapping):
        return {**source, **new}
    values = iter([new.get(name, value) for name, value in slots])
    paired = any(map(_is_pair, source))
    parts = []
    for part in source:
        if _is_empty(part) or (part is None and paired):
            parts.append(part)
        else:
            parts.append(
                rebuilt(part, [next(values) for _ in part]) if _is_pair(part) else next(values)
            )
    return rebuilt(source, parts)


def _slots(source: Any) -> list[tuple[str, Any]]:
    """Return a name and an array for every place in a source, or None where it holds no array."""
    if isinstance(source, Mapping):
        return [(str(name), value) for name, value in source.items()]
    if _is_replayed(source):
        return list(zip(source._fields, source, strict=True))
    slots: list[tuple[str, Any]] = []
    layer = 0
    taken = True
    paired = any(map(_is_pair, source))
    for part in source:
        if _is_empty(part) or (part is None and paired):
            continue
        if _is_pair(part):
            layer, taken = layer + 1, True
            slots += [(f"{letter}{layer}", one) for letter, one in zip("Wb", part, strict=False)]
        elif part is not None and part.ndim != 1:
            layer, taken = layer + 1, False
            slots.append((f"W{layer}", part))
        elif not taken:
            taken = True
            slots.append((f"b{layer}", part))
        else:
            what = "None" if part is None else f"the shape {tuple(part.shape)}"
            raise UnreadableModel(
                f"array {len(slots)} has {what} where weights are expected: they must be matrices, "
                "(1, l) or (l, 1) for one output"
            )
    for name, value in slots:
        shape = None if value is None else tuple(value.shape)
        if name[0] == "W" and len(shape or ()) != 2:
            raise UnreadableModel(f"{name} has the shape {shape}: weights must be matrices")
        if name[0] == "b" and shape is not None and len(shape) != 1:
            raise UnreadableModel(f"{name} has the shape {shape}: biases must be vectors")
    if layer == 1:
        raise UnreadableModel(
            "one matrix is one layer: give the weights of two layers or more, where the output "
            "weights are a matrix too, (1, l) or (l, 1) for one output"
        )
    return slots


def _is_pair(part: Any) -> bool:
    """Return whether a part of a sequence holds the weights and the biases of a layer."""
    if not isinstance(part, (tuple, list)) or len(part) not in (1, 2):
        return False
    return is_array(part[0]) and all(one is None or is_array(one) for one in part)


def _is_empty(part: Any) -> bool:
    """Return whether a part of a sequence is a place without parameters."""
    return isinstance(part, (tuple, list)) and not part


def _is_replayed(source: Any) -> bool:
    """Return whether an object is the `Weights` that `obstruction.replay` returns."""
    kind = type(source)
    return f"{kind.__module__}.{kind.__name__}" == "obstruction.studies.replay.Weights"


def _shared(held: Mapping[str, Any]) -> tuple[frozenset[str], ...]:
    """Return the pairs of NumPy arrays that share memory."""
    arrays = [(name, value) for name, value in held.items() if isinstance(value, np.ndarray)]
    return tuple(
        frozenset({one, other})
        for (one, a), (other, b) in itertools.combinations(arrays, 2)
        if np.shares_memory(a, b)
    )
