"""A tree of parameters of JAX: which leaves are trained, and what they are called."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from obstruction.conservation.live.names import distinct


class ParameterTree:
    """The trained arrays of a pytree, by name.

    Trained are the arrays of floats. In the variables of a Flax module, which are a dictionary
    with the key ``params``, those of other collections are state; in the state of an nnx module
    those that are no ``nnx.Param``. Numbers of Python are trained only in a pytree of plain
    containers, because in a module, such as one of Equinox, they are options.

    Attributes
    ----------
    names : list of str
        The keys, indices and attributes that lead to an array, joined by ``/``.
    arrays : list of array
        The trained arrays. A complex one is real, with a last axis of length 2.
    output_axes : dict of str to int
        See `LiveModel`.
    """

    def __init__(self, params: Any) -> None:
        found, self._structure = jax.tree_util.tree_flatten_with_path(params)
        self._leaves = [leaf for _, leaf in found]
        state = _state_paths(params)
        collections = isinstance(params, Mapping) and "params" in params
        self._places = [
            place
            for place, (path, leaf) in enumerate(found)
            if _is_trained(leaf, path)
            and not (collections and _text(path[0]) != "params")
            and not any(path[: len(start)] == start for start in state)
        ]
        self.names = distinct([_name(found[place][0]) for place in self._places])
        self._complex = [jnp.iscomplexobj(self._leaves[place]) for place in self._places]
        self.arrays = [
            _real(self._leaves[place]) if parts else self._leaves[place]
            for place, parts in zip(self._places, self._complex, strict=True)
        ]
        self.output_axes = {
            name: axis
            for name, array, place in zip(self.names, self.arrays, self._places, strict=True)
            if (axis := _output_axis(name, found[place][0], np.ndim(array))) is not None
        }

    def filled(self, values: Sequence[Any], seed: Any) -> Any:
        """Return the pytree with other trained arrays, and with random keys mixed with a seed."""
        leaves = [mixed(leaf, seed) if is_key(leaf) else leaf for leaf in self._leaves]
        for place, value, parts in zip(self._places, values, self._complex, strict=True):
            leaves[place] = jax.lax.complex(value[..., 0], value[..., 1]) if parts else value
        return jax.tree_util.tree_unflatten(self._structure, leaves)

    def with_values(self, values: Mapping[str, Any]) -> Any:
        """Return the pytree with other values of some trained arrays, in their own types."""
        leaves = list(self._leaves)
        for name, place, parts in zip(self.names, self._places, self._complex, strict=True):
            if name in values:
                value, old = np.asarray(values[name]), leaves[place]
                value = value[..., 0] + 1j * value[..., 1] if parts else value
                if isinstance(old, float):
                    leaves[place] = float(value)
                elif isinstance(old, jax.Array):
                    leaves[place] = jnp.asarray(value, dtype=old.dtype)
                else:
                    leaves[place] = value.astype(old.dtype)
        return jax.tree_util.tree_unflatten(self._structure, leaves)


def is_key(node: Any) -> bool:
    """Return whether an array holds random keys of JAX, of the new or the old kind."""
    if not isinstance(node, (np.ndarray, jax.Array)):
        return False
    if jnp.issubdtype(node.dtype, jax.dtypes.prng_key):
        return True
    # arrays of type uint32 and of this shape are in use for nothing else
    return bool(node.dtype == np.uint32 and node.shape[-1:] == _shape_of_old_keys())


@functools.cache
def _shape_of_old_keys() -> tuple[int, ...]:
    return tuple(jax.eval_shape(jax.random.PRNGKey, np.uint32(0)).shape)


def mixed(keys: Any, seed: Any) -> Any:
    """Return random keys that also depend on a seed."""
    keys = jnp.asarray(keys)
    scalar = 0 if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) else 1
    mix = jax.random.fold_in
    for _ in range(keys.ndim - scalar):
        mix = jax.vmap(mix, in_axes=(0, None))
    return mix(keys, seed)


def _is_trained(leaf: Any, path: tuple[Any, ...]) -> bool:
    if isinstance(leaf, float):
        return not any(isinstance(key, jax.tree_util.GetAttrKey) for key in path)
    return isinstance(leaf, (np.ndarray, np.generic, jax.Array)) and bool(
        jnp.issubdtype(leaf.dtype, jnp.inexact)
    )


def _real(array: Any) -> Any:
    """Return a complex array as a real one with the parts along a last axis."""
    return np.stack([np.real(array), np.imag(array)], axis=-1)


def _state_paths(params: Any) -> list[tuple[Any, ...]]:
    """Return where the state of an nnx module holds variables that are no parameters."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is None:
        return []
    found, _ = jax.tree_util.tree_flatten_with_path(
        params, is_leaf=lambda node: isinstance(node, nnx.Variable)
    )
    return [
        path
        for path, node in found
        if isinstance(node, nnx.Variable) and not isinstance(node, nnx.Param)
    ]


def _text(key: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key).strip(".[]'\"")


def _name(path: tuple[Any, ...]) -> str:
    if path and isinstance(path[-1], jax.tree_util.GetAttrKey) and path[-1].name == "value":
        path = path[:-1]  # the content of a variable of nnx, or of a parameter with metadata
    return "/".join(_text(key) for key in path) or "params"


def _output_axis(name: str, path: tuple[Any, ...], ndim: int) -> int | None:
    """Return the axis of the outputs of a kernel, by the conventions of the libraries.

    A kernel with three axes may belong to a convolution, or to the heads of attention, which are
    left out.
    """
    parents, _, last = name.lower().rpartition("/")
    if ndim < 2 or (ndim == 3 and "conv" not in parents):
        return None
    if last == "kernel":
        return -1
    if last == "w":  # Haiku stores the kernels of transposed convolutions as (..., out, in)
        return -2 if "_transpose" in parents else -1
    attribute = bool(path) and isinstance(path[-1], jax.tree_util.GetAttrKey)
    return 0 if last == "weight" and attribute else None
