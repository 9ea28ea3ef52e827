"""A function of parameters and inputs, traced by JAX, and its gradient, both in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jax import numpy as jnp

from obstruction.conservation.live.base import FloatArray, Leaves, cotangents
from obstruction.conservation.live.float64_jax import depending, evaluate, in_float64, widen
from obstruction.conservation.live.trees import arrays_of
from obstruction.tools.randomness import seeded, word

Function: TypeAlias = Callable[[list[Any], list[Any], Any], Any]
_Shapes: TypeAlias = tuple[tuple[int, ...], ...]


class Program:
    """The outputs of a function and their gradients, compiled once for each shape of the inputs.

    Parameters
    ----------
    function : callable
        ``function(values, leaves, seed)`` returns the outputs in any nesting. It gets the values of
        the parameters and the arrays of the inputs in their own types, and the seed as a scalar of
        type uint32.
    values, leaves : sequences of array
        Examples of the parameters and the inputs, whose types are those of `function`.
    """

    def __init__(self, function: Function, values: Sequence[Any], leaves: Sequence[Any]) -> None:
        self._function = function
        self._values = [jax.ShapeDtypeStruct(np.shape(one), _type_of(one)) for one in values]
        self._types = [_type_of(one) for one in leaves]
        self._traced: dict[_Shapes, _Traced] = {}
        self.shapes(leaves)

    def shapes(self, leaves: Leaves) -> list[tuple[int, ...]]:
        """Return the shapes of the outputs."""
        return [one.shape for one in self._at(leaves).forward.out_avals]

    def outputs(
        self, values: Sequence[FloatArray], leaves: Leaves, *, seed: int
    ) -> list[FloatArray]:
        """Return all arrays of floats in the output; a complex one as real and imaginary part."""
        traced = self._at(leaves)
        with in_float64():
            if traced.outputs is None:
                traced.outputs = _compiled(traced.forward)
            results = traced.outputs([*values, *self._typed(leaves), np.uint32(word(seed))])
        return [np.asarray(one) for one in results]

    def gradients(
        self, values: Sequence[FloatArray], leaves: Leaves, *, seed: int, cotangent: int
    ) -> list[FloatArray | None]:
        """Return the gradient of a random linear function of the outputs for each value.

        It is None if no output depends on the value.
        """
        traced = self._at(leaves)
        if traced.backward is None:
            self._differentiate(traced, leaves)
        directions = cotangents(self.shapes(leaves), cotangent)
        operands = [*values, *self._typed(leaves), np.uint32(word(seed)), *directions]
        with in_float64():
            if traced.gradients is None:
                traced.gradients = _compiled(traced.backward)
            results = traced.gradients(operands)
        return [
            np.asarray(one) if depends else None
            for one, depends in zip(results, traced.depends, strict=True)
        ]

    def _differentiate(self, traced: _Traced, leaves: Leaves) -> None:
        """Trace the gradient, in the types and with the rules of differentiation of the model."""

        def pulled_back(
            values: list[Any], given: list[Any], seed: Any, directions: list[Any]
        ) -> list[Any]:
            _, pull = jax.vjp(lambda varied: self._flat(varied, given, seed), values)
            gradients: list[Any] = pull(directions)[0]
            return gradients

        directions = [
            jax.ShapeDtypeStruct(one.shape, one.dtype) for one in traced.forward.out_avals
        ]
        traced.backward = jax.make_jaxpr(pulled_back)(*self._operands(leaves), directions)
        # A gradient is linear in the directions. Where it does not depend on them, it is zero.
        program = traced.backward.jaxpr
        traced.depends = depending(program, program.invars[len(program.invars) - len(directions) :])

    def _at(self, leaves: Leaves) -> _Traced:
        shapes = tuple(np.shape(one) for one in leaves)
        if shapes not in self._traced:
            forward = jax.make_jaxpr(self._flat)(*self._operands(leaves))
            self._traced[shapes] = _Traced(forward)
        return self._traced[shapes]

    def _operands(self, leaves: Leaves) -> tuple[list[Any], list[Any], Any]:
        given = [
            jax.ShapeDtypeStruct(np.shape(one), kind)
            for one, kind in zip(leaves, self._types, strict=True)
        ]
        return self._values, given, jax.ShapeDtypeStruct((), np.dtype(np.uint32))

    def _typed(self, leaves: Leaves) -> list[Any]:
        return [
            np.asarray(one, np.float64 if jnp.issubdtype(kind, jnp.floating) else kind)
            for one, kind in zip(leaves, self._types, strict=True)
        ]

    def _flat(self, values: list[Any], leaves: list[Any], seed: Any) -> list[Any]:
        with seeded(0):
            output = self._function(values, leaves, seed)
        found = arrays_of(output, _is_inexact)
        return [
            part
            for one in found
            for part in (
                (one.real, one.imag) if jnp.issubdtype(one.dtype, jnp.complexfloating) else (one,)
            )
        ]


class _Traced:
    """What was traced and compiled for one shape of the inputs."""

    def __init__(self, forward: Any) -> None:
        self.forward = forward
        self.backward: Any = None
        self.depends: list[bool] = []
        self.outputs: Callable[[list[Any]], list[Any]] | None = None
        self.gradients: Callable[[list[Any]], list[Any]] | None = None


def _compiled(traced: Any) -> Callable[[list[Any]], list[Any]]:
    constants = [widen(one) for one in traced.consts]
    run = jax.jit(lambda known, operands: evaluate(traced.jaxpr, known, operands))
    return lambda operands: list(run(constants, operands))


def _type_of(array: Any) -> Any:
    return jax.dtypes.canonicalize_dtype(getattr(array, "dtype", np.float64))


def _is_inexact(node: Any) -> bool:
    return isinstance(node, jax.Array) and jnp.issubdtype(node.dtype, jnp.inexact)
