"""Nested mappings and lists of arrays, such as the parameters of Flax and Haiku."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Final, TypeAlias

from numpy.typing import NDArray

from obstruction.models.contents import (
    Contents,
    Orientation,
    Unread,
    UnreadableModel,
    names_weights,
)
from obstruction.models.readers.memory.tensors import (
    as_tensors,
    check_changes,
    is_array,
    is_jax,
    is_key,
    like,
    overwrite,
    rebuilt,
    unread_in,
)

OBJECTS: Final = "a tree of Flax or Haiku parameters"

_Leaves: TypeAlias = Iterator[tuple[tuple[Any, ...], Any]]


def matches(source: Any) -> bool:
    """Return whether an object consists of nested mappings and lists that hold only arrays."""
    if not isinstance(source, (Mapping, tuple, list)):
        return False
    found = False
    for _, leaf in _leaves(source, ()):
        found = found or is_array(leaf)
        if not (leaf is None or is_array(leaf) or is_key(leaf) or isinstance(leaf, (int, float))):
            return False
    return found


def read(source: Any) -> Contents:
    """Return the arrays of a tree, whose names are the keys that lead to them, joined by ``/``.

    Such trees are ``{"params": {"Dense_0": {"kernel": ..., "bias": ...}}}`` of Flax,
    ``nnx.state(model)``, and ``{"linear": {"w": ..., "b": ...}}`` of Haiku.

    Raises
    ------
    UnreadableModel
        If it consists of sequences alone.
    """
    if all(type(key) is int for path, _ in _leaves(source, ()) for key in path):
        raise UnreadableModel(
            f"a {type(source).__name__} of nested sequences of arrays does not say whether these "
            "follow one another or are branches: give the layers of a chain as one sequence "
            "[(W1, b1), (W2, b2), ...]"
        )
    held = _named(source)
    unread = unread_in(held) | _lists(source)
    tensors = as_tensors({name: value for name, value in held.items() if name not in unread})
    return Contents("tree of arrays", tensors, _layout(held), unread=unread)


def updated(source: Any, changes: Mapping[str, NDArray[Any]], *, inplace: bool) -> Any:
    """Return a tree of the same types in which some arrays have new values.

    With ``inplace``, arrays of NumPy are overwritten and those of JAX replaced in their containers.
    """
    check_changes(changes, _named(source))
    paths = {_name(path): path for path, leaf in _leaves(source, ()) if is_array(leaf)}
    wanted = {paths[name]: (name, array) for name, array in changes.items()}
    return _replaced(source, (), wanted, inplace)


def _leaves(tree: Any, path: tuple[Any, ...]) -> _Leaves:
    """Yield the leaves of a tree, each with the keys that lead to it."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(tree, (tuple, list)):
        for i, value in enumerate(tree):
            yield from _leaves(value, (*path, i))
    else:
        yield path, _content(tree)


def _content(leaf: Any) -> Any:
    """Return the array in a variable such as Flax's ``nnx.Param``, or the leaf itself."""
    if is_array(leaf) or not hasattr(leaf, "replace"):
        return leaf
    inner = leaf.get_value() if hasattr(leaf, "get_value") else getattr(leaf, "value", leaf)
    return inner if is_array(inner) or is_key(inner) else leaf


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(str(key) for key in path)


def _named(source: Any) -> dict[str, Any]:
    return {_name(path): leaf for path, leaf in _leaves(source, ()) if is_array(leaf)}


def _lists(source: Any) -> dict[str, Unread]:
    """Return what is no array in a tree: lists of plain numbers, and what is named like weights."""
    counts: Counter[tuple[Any, ...]] = Counter()
    for path, leaf in _leaves(source, ()):
        if isinstance(leaf, (int, float)):
            inside = itertools.takewhile(lambda key: isinstance(key, int), reversed(path))
            depth = len(list(inside))
            counts[path[: len(path) - depth]] += int(depth > 0)
    found = {_name(path): Unread("a list of numbers") for path, n in counts.items() if n > 1}
    for path, leaf in _leaves(source, ()):
        name = _name(path)
        if not is_array(leaf) and name not in found and names_weights(name):
            found[name] = Unread(f"no array ({type(leaf).__name__})")
    return found


def _layout(held: Mapping[str, Any]) -> Orientation | None:
    """Return the orientation of Flax and Haiku if the names are theirs, else None."""
    matrices = [(name, one) for name, one in held.items() if one.ndim == 2]
    parts = [(name.rpartition("/"), one) for name, one in matrices]
    if not parts or any(name[2] not in ("kernel", "w") for name, _ in parts):
        return None
    biases = [f"{name[0]}/{'bias' if name[2] == 'kernel' else 'b'}" in held for name, _ in parts]
    if all(is_jax(one) for _, one in parts) or all(biases):
        return "in_out"
    return "in_out" if all(name[2] == "kernel" for name, _ in parts) else None


def _replaced(
    tree: Any,
    path: tuple[Any, ...],
    wanted: Mapping[tuple[Any, ...], tuple[str, NDArray[Any]]],
    inplace: bool,
) -> Any:
    """Return a tree with new arrays in some leaves, or the tree itself if none is in it."""
    if not any(one[: len(path)] == path for one in wanted):
        return tree
    if path in wanted:
        name, array = wanted[path]
        return _leaf(tree, name, array, inplace)
    keys = list(tree) if isinstance(tree, Mapping) else range(len(tree))
    new = {key: _replaced(tree[key], (*path, key), wanted, inplace) for key in keys}
    changed = {key: value for key, value in new.items() if value is not tree[key]}
    if inplace:
        if changed and not isinstance(tree, (MutableMapping, list)):
            raise ValueError(f"inplace = True: a {type(tree).__name__} cannot be changed in place")
        for key, value in changed.items():
            tree[key] = value
        return tree
    if isinstance(tree, (tuple, list)):
        return rebuilt(tree, new.values())
    if not isinstance(tree, dict):  # a shallow copy of another mapping may share its entries
        return type(tree)(new)
    target = copy.copy(tree)
    for key, value in changed.items():
        target[key] = value
    return target


def _leaf(leaf: Any, name: str, array: NDArray[Any], inplace: bool) -> Any:
    """Return a leaf of the same kind with new numbers."""
    held = _content(leaf)
    if inplace and not is_jax(held):
        overwrite({name: held}, {name: array})
        return leaf
    made = like(held, array)
    return made if held is leaf else leaf.replace(made)
