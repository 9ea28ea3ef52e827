"""How models of libraries on JAX are called: each as a function of parameters and inputs."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import jax

_TRAINS: Final = {"train": True, "training": True, "is_training": True}
_INFERS: Final = {"deterministic": False, "inference": False}
_FLAGS: Final = _TRAINS | _INFERS
"""Arguments of modules that say whether they train, and what they are if they do."""


@dataclass(frozen=True)
class Pair:
    """A function and its parameters.

    Attributes
    ----------
    apply : callable
        ``apply(params, *inputs)``, or ``apply(params, key, *inputs)`` if it is `keyed`.
    params : pytree
        The parameters.
    keyed : bool
        Whether the function takes a random key.
    """

    apply: Callable[..., Any]
    params: Any
    keyed: bool = False


def pair_of(model: Any, *, training: bool) -> Pair | None:
    """Return a model as a function and its parameters, or None if it is no model of JAX.

    Accepted are pairs ``(apply, params)``; ``(module, variables)`` of Flax; ``(transformed,
    params)`` of Haiku, and ``(transformed, (params, state))`` with state; modules of Equinox and
    of nnx, and what ``nnx.split`` returns.
    """
    nnx, linen, equinox = map(sys.modules.get, ("flax.nnx", "flax.linen", "equinox"))
    if equinox is not None and isinstance(model, equinox.Module):
        return Pair(lambda module, *args, **options: module(*args, **options), model)
    if nnx is not None and isinstance(model, nnx.Module):
        model = nnx.split(model)
    if linen is not None and isinstance(model, linen.Module) and model.scope is not None:
        model = model.unbind()
    if not (isinstance(model, tuple) and len(model) == 2):
        return None
    function, params = model
    if nnx is not None and isinstance(function, nnx.GraphDef):
        return Pair(
            lambda state, *args, **options: nnx.merge(function, state)(*args, **options), params
        )
    if linen is not None and isinstance(function, linen.Module):
        return Pair(_of_flax(function, params, training), params, keyed=True)
    kind = type(function).__name__
    if kind == "TransformedWithState":
        weights, state = params
        return Pair(
            lambda given, key, *args, **options: function.apply(
                given, state, key, *args, **options
            )[0],
            weights,
            keyed=True,
        )
    if kind == "Transformed":
        return Pair(function.apply, params, keyed=True)
    is_pair = callable(function) and not inspect.isroutine(params)
    return Pair(function, params) if is_pair else None


def parameters_in(source: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Return the parameters in a pair or in a pytree, and a function that puts others in place.

    The function returns the second element of a pair, or the pytree.
    """
    pair = isinstance(source, tuple) and len(source) == 2
    if not pair or not (callable(source[0]) or hasattr(source[0], "apply")):
        return source, lambda new: new
    function, params = source
    if type(function).__name__ == "TransformedWithState":
        return params[0], lambda new: (new, params[1])
    return params, lambda new: new


def _of_flax(module: Any, variables: Any, training: bool) -> Callable[..., Any]:
    """Return a function that applies a module, whose state may change, with random keys."""
    state = [name for name in variables if name != "params"]
    flags = {
        name: _FLAGS[name] is training
        for name in inspect.signature(type(module).__call__).parameters
        if name in _FLAGS
    }

    def apply(given: Any, key: Any, *args: Any, **options: Any) -> Any:
        names = list(inspect.signature(module.__call__).parameters)[: len(args)]
        free = {name: value for name, value in flags.items() if name not in names}
        rngs = {"params": key, "dropout": jax.random.fold_in(key, 1)}
        return module.apply(given, *args, **{**free, **options}, rngs=rngs, mutable=state)[0]

    return apply
