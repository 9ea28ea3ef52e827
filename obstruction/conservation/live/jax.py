"""Models of JAX and of the libraries on it, such as Flax, Haiku and Equinox."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import jax
import numpy as np
from jax import numpy as jnp
from numpy.typing import NDArray

from obstruction.conservation.live.inputs import called, opened, refused
from obstruction.conservation.live.jax_parameters import ParameterTree, is_key, mixed
from obstruction.conservation.live.jax_program import Program
from obstruction.conservation.live.losses import seen
from obstruction.conservation.live.program import ProgramModel
from obstruction.conservation.live.trees import arrays_of, flatten

_COLLECTIONS: Final = {"batch_stats", "cache", "intermediates"}
"""Collections of Flax that an apply function may return although it did not get them."""


class JaxModel(ProgramModel):
    """A function of parameters and inputs; see `LiveModel`.

    Everything is computed in float64, even where the model asks for another precision, and whatever
    ``jax_enable_x64`` is, which is not changed. Rules of differentiation that the model brings with
    it, such as those of ``jax.custom_vjp`` and ``stop_gradient``, are kept.

    Random keys in the inputs or in the parameters are mixed with the seed of a run. Keys that
    `apply` closes over are the same in every run.

    Parameters
    ----------
    apply : callable
        ``apply(params, x)`` for one input, ``apply(params, *inputs)`` for a tuple of inputs or
        ``apply(params, **inputs)`` for a dictionary. It decides itself whether it trains: for
        dropout and batch normalisation pass ``train=True`` or the like to the model inside.
        Where it returns a pair whose second part is a dictionary of collections of Flax, as
        ``module.apply(..., mutable=["batch_stats"])`` does, the second part is new state, and only
        the first is an output.
    params : pytree
        The parameters. Arrays of floats are trained; but from a dictionary with the key ``params``,
        as Flax makes it, only those under this key. Other leaves, such as running means and the
        functions in an Equinox module, are kept as they are.
    inputs : array, tuple or dict
        Example inputs.
    keyed : bool
        Whether `apply` takes a random key, which depends on the seed of a run, after `params`.

    Raises
    ------
    ValueError
        If nothing is trained, or if the model cannot be run with the inputs.
    """

    framework = "JAX"

    def __init__(
        self,
        apply: Callable[..., Any],
        params: Any,
        inputs: Any,
        *,
        keyed: bool = False,
        loss: str | None = None,
    ) -> None:
        self._apply, self._keyed, self._loss = apply, keyed, loss
        self._params = ParameterTree(params)
        if not self._params.names:
            raise ValueError("params: holds no array of floats, so that nothing can be trained")
        self._collections = set(params) - {"params"} if isinstance(params, Mapping) else set()
        leaves, self._rebuild = flatten(inputs, _is_input)
        self.inputs: tuple[NDArray[Any], ...] = opened(inputs, _is_input)[0]
        self._hold(
            {
                name: np.asarray(array).astype(np.float64)
                for name, array in zip(self._params.names, self._params.arrays, strict=True)
            }
        )
        self.fixed: tuple[str, ...] = ()
        self.output_axes = self._params.output_axes
        self.groups: dict[str, int] = {}
        try:
            self._program = Program(self._run, self._params.arrays, leaves)
        except Exception as error:
            raise refused(error, [np.shape(leaf) for leaf in leaves]) from error
        if not self._program.shapes(self.inputs):
            raise ValueError("model: its output holds no array of floats")

    def _run(self, values: list[Any], leaves: list[Any], seed: Any) -> Any:
        inputs = self._rebuild(leaves)
        keys, replaced = flatten(inputs, is_key)
        first = [self._params.filled(values, seed)]
        if self._keyed:
            first.append(jax.random.PRNGKey(seed))
        output = called(partial(self._apply, *first), replaced([mixed(key, seed) for key in keys]))
        output = output[0] if self._returns_state(output) else output
        if self._loss is None:
            return output
        return seen(arrays_of(output, _is_output), self._loss, jax.nn.log_softmax)

    def _returns_state(self, output: Any) -> bool:
        return (
            type(output) is tuple
            and len(output) == 2
            and isinstance(output[1], Mapping)
            and set(output[1]) <= self._collections | _COLLECTIONS
        )


def _is_output(node: Any) -> bool:
    return isinstance(node, (np.ndarray, jax.Array)) and jnp.issubdtype(node.dtype, jnp.inexact)


def _is_input(node: Any) -> bool:
    """Return whether an object is an array of numbers or flags, and no random key."""
    if not isinstance(node, (np.ndarray, np.generic, jax.Array)) or is_key(node):
        return False
    return bool(jnp.issubdtype(node.dtype, jnp.number) or node.dtype == bool)
