"""Nested inputs and outputs as flat lists of arrays, for any framework."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Final, TypeAlias

IsArray: TypeAlias = Callable[[Any], bool]
Rebuild: TypeAlias = Callable[[Sequence[Any]], Any]
_Children: TypeAlias = list[tuple[str, Any]]

CACHES: Final = frozenset(
    {
        "cache",
        "cache_params",
        "kv_cache",
        "mems",
        "past_buckets_states",
        "past_key_value",
        "past_key_values",
        "presents",
    }
)
"""Names of outputs that only speed up a later call."""


def flatten(tree: Any, is_array: IsArray) -> tuple[list[Any], Rebuild]:
    """Return the arrays in a nested structure, and a function that puts others in their place.

    Tuples, lists, named tuples, mappings, dataclasses, objects with attrs fields and the graphs
    of PyTorch Geometric are opened. Everything else that is no array is kept as it is.

    Parameters
    ----------
    tree : object
        The structure. It is not changed.
    is_array : callable
        Whether an object is an array, that is, a leaf.

    Returns
    -------
    leaves : list
        The arrays in order. One that occurs several times is listed several times.
    rebuild : callable
        ``rebuild(new_leaves)`` returns the same structure with other leaves. It raises
        `ValueError` if their number differs.

    Examples
    --------
    >>> nested = {"x": 1.5, "rest": [None, (2.5, "sum")]}
    >>> leaves, rebuild = flatten(nested, lambda node: isinstance(node, float))
    >>> leaves
    [1.5, 2.5]
    >>> rebuild([3.5, 4.5])
    {'x': 3.5, 'rest': [None, (4.5, 'sum')]}
    """
    leaves = [leaf for _, leaf in _walk("", tree, is_array)]

    def rebuild(new_leaves: Sequence[Any]) -> Any:
        if len(new_leaves) != len(leaves):
            raise ValueError(f"new_leaves: {len(new_leaves)} arrays for {len(leaves)} places")
        return _replaced(tree, is_array, iter(new_leaves))

    return leaves, rebuild


def paths(tree: Any, is_array: IsArray, *, name: str = "inputs") -> list[str]:
    """Return an expression for every array that `flatten` finds, such as ``inputs[0]['mask']``.

    Parameters
    ----------
    tree : object
        The structure.
    is_array : callable
        Whether an object is an array.
    name : str
        What the structure itself is called.
    """
    return [path for path, _ in _walk(name, tree, is_array)]


def arrays_of(output: Any, is_array: IsArray, *, skip: Collection[str] = CACHES) -> list[Any]:
    """Return the arrays in the output of a model, without caches.

    Besides the structures that `flatten` opens, the public attributes of other objects are
    followed, for instance those of a probability distribution.

    Parameters
    ----------
    output : object
        What the model returned.
    is_array : callable
        Whether an object is an array that counts as an output.
    skip : collection of str
        Names of attributes and keys that are left out. Objects whose class is called a cache are
        left out as well.
    """
    found: list[Any] = []
    _collect(output, is_array, frozenset(skip), found, set())
    return found


def _walk(path: str, tree: Any, is_array: IsArray) -> Iterator[tuple[str, Any]]:
    if is_array(tree):
        yield path, tree
        return
    for label, child in _children(tree) or ():
        yield from _walk(path + label, child, is_array)


def _replaced(tree: Any, is_array: IsArray, leaves: Iterator[Any]) -> Any:
    if is_array(tree):
        return next(leaves)
    children = _children(tree)
    if not children:
        return tree
    new = [_replaced(child, is_array, leaves) for _, child in children]
    if all(one is child for one, (_, child) in zip(new, children, strict=True)):
        return tree
    return _with_children(tree, new)


def _collect(
    node: Any, is_array: IsArray, skip: frozenset[str], found: list[Any], above: set[int]
) -> None:
    if is_array(node):
        found.append(node)
        return
    if id(node) in above or "cache" in type(node).__name__.lower():
        return
    children = _children(node)
    if children is None:
        children = _public(node)
    above.add(id(node))
    for label, child in children:
        if label.strip(".[]'\"") not in skip:
            _collect(child, is_array, skip, found, above)
    above.discard(id(node))


def _children(tree: Any) -> _Children | None:
    """Return what a structure holds, with the text that selects it; None if it is no structure."""
    if isinstance(tree, Mapping):
        return [(f"[{key!r}]", value) for key, value in tree.items()]
    if isinstance(tree, (tuple, list)):
        names = getattr(tree, "_fields", None)
        return [
            (f".{names[i]}" if names else f"[{i}]", value) for i, value in enumerate(list(tree))
        ]
    if (stores := _stores(tree)) is not None:
        return [(f".stores[{i}]", store) for i, store in enumerate(stores)]
    if (fields := _fields(tree)) is not None:
        return [(f".{name}", getattr(tree, name)) for name in fields]
    return None


def _with_children(tree: Any, children: list[Any]) -> Any:
    """Return a copy of a structure that holds other children."""
    if isinstance(tree, Mapping):
        pairs = dict(zip(tree.keys(), children, strict=True))
        if type(tree) is dict or not isinstance(tree, MutableMapping):
            return pairs if type(tree) is dict else type(tree)(pairs)  # type: ignore[call-arg]
        mapping = copy.copy(tree)
        for key, child in pairs.items():
            mapping[key] = child
        return mapping
    if isinstance(tree, tuple):
        make: Any = getattr(tree, "_make", type(tree))  # that of a named tuple takes a sequence
        return make(children)
    if isinstance(tree, list):
        sequence = copy.copy(tree)
        sequence[:] = children
        return sequence
    new = copy.copy(tree)
    if _stores(tree) is not None:
        for store, child in zip(new.stores, children, strict=True):
            for key in list(store):
                store[key] = child[key]
        return new
    for name, child in zip(_fields(tree) or (), children, strict=True):
        object.__setattr__(new, name, child)
    return new


def _fields(tree: Any) -> list[str] | None:
    """Return the names of the fields of a dataclass or attrs object that have a value."""
    if isinstance(tree, type):
        return None
    if dataclasses.is_dataclass(tree):
        names = [field.name for field in dataclasses.fields(tree)]
    elif hasattr(type(tree), "__attrs_attrs__"):
        names = [field.name for field in type(tree).__attrs_attrs__]
    else:
        return None
    return [name for name in names if hasattr(tree, name)]


def _stores(tree: Any) -> list[Any] | None:
    """Return the mappings in which PyTorch Geometric keeps the tensors of a graph."""
    if not any(kind.__module__.startswith("torch_geometric.") for kind in type(tree).__mro__):
        return None
    stores = getattr(tree, "stores", None)
    return list(stores) if isinstance(stores, list) else None


def _public(node: Any) -> _Children:
    """Return the public attributes of an object that is neither a function nor a module."""
    if callable(node) or not hasattr(node, "__dict__"):
        return []
    return [(f".{name}", value) for name, value in vars(node).items() if name[0] != "_"]
