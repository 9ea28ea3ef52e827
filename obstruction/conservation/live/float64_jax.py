"""Programs of JAX in float64, whatever precision they were written for.

A function of JAX is traced as its author runs it, and the traced program is then evaluated with
float64 in the place of all narrower floats. Explicit conversions, such as ``x.astype("float32")``
or ``Dense(dtype="bfloat16")``, and carries of loops that start in float32 therefore lose nothing.
What a program does on purpose with integers and bits, random numbers included, stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import jax
import jax.experimental
import numpy as np
from jax import numpy as jnp

_CALLS: Final = {
    "checkpoint": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "core_closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
}
"""Operations that only call another program, and the parameter that holds it.

Rules of differentiation that come with them have done their work when the gradient is traced.
"""

_OUTSIDE: Final = ("bitcast", "callback", "ffi", "pallas", "custom_call")
"""Parts of names of operations that depend on the width of their operands."""


def in_float64() -> AbstractContextManager[None]:
    """Return a context in which JAX computes in float64, in this thread only."""
    if hasattr(jax, "enable_x64"):
        context: AbstractContextManager[None] = jax.enable_x64(True)
    else:  # before JAX 0.8
        context = jax.experimental.enable_x64()
    return context


def widened(dtype: Any) -> Any:
    """Return float64 for a narrower type of floats, complex128 likewise, and others as they are."""
    if not isinstance(dtype, np.dtype):
        return dtype  # the type of random keys
    if jnp.issubdtype(dtype, jnp.floating):
        return np.dtype(np.float64)
    return np.dtype(np.complex128) if jnp.issubdtype(dtype, jnp.complexfloating) else dtype


def widen(array: Any) -> Any:
    """Return an array in its wider type."""
    dtype = widened(array.dtype)
    return array if dtype == array.dtype else jnp.asarray(array, dtype)


def evaluate(program: Any, constants: Iterable[Any], operands: Iterable[Any]) -> list[Any]:
    """Evaluate a program in float64.

    Parameters
    ----------
    program : jaxpr
        The traced program, in any precision.
    constants, operands : iterables of array
        What the program closes over, and what it is called with; floats must have type float64.

    Returns
    -------
    list of array
        The results, in which floats have type float64.
    """
    known = dict(zip(program.constvars, constants, strict=True))
    known.update(zip(program.invars, operands, strict=True))

    def read(variable: Any) -> Any:
        if hasattr(variable, "val"):
            return jnp.asarray(variable.val, widened(variable.aval.dtype))
        return known[variable]

    for operation in program.eqns:
        results = _results(operation, [read(variable) for variable in operation.invars])
        known.update(zip(operation.outvars, results, strict=True))
    return [read(variable) for variable in program.outvars]


def depending(program: Any, operands: Iterable[Any]) -> list[bool]:
    """Return whether each result of a program may depend on one of some of its operands."""
    reached = set(operands)
    for operation in program.eqns:
        given = [not hasattr(one, "val") and one in reached for one in operation.invars]
        if not any(given):
            continue
        inner = _called(operation)
        if inner is None:
            reached.update(operation.outvars)
            continue
        inside = [one for one, does in zip(inner.invars, given, strict=True) if does]
        depends = depending(inner, inside)
        reached.update(one for one, does in zip(operation.outvars, depends, strict=True) if does)
    return [not hasattr(one, "val") and one in reached for one in program.outvars]


def _results(operation: Any, operands: list[Any]) -> Sequence[Any]:
    """Return the results of one operation in float64."""
    name, parameters = operation.primitive.name, operation.params
    if (inner := _called(operation)) is not None:
        constants = getattr(parameters[_CALLS[name]], "consts", ())
        return evaluate(inner, [widen(one) for one in constants], operands)
    if name == "reduce_precision" and not _coarser(operation):
        return operands
    if not any(part in name for part in _OUTSIDE):
        try:
            return _bound(operation, operands, {k: _wide(v) for k, v in parameters.items()})
        except (NotImplementedError, TypeError, ValueError):
            pass  # the operation exists for some types only
    narrow = [
        one if one.dtype == variable.aval.dtype else jnp.asarray(one, variable.aval.dtype)
        for one, variable in zip(operands, operation.invars, strict=True)
    ]
    return _bound(operation, narrow, parameters)


def _called(operation: Any) -> Any:
    """Return the program that an operation calls, if it does nothing else."""
    held = operation.params.get(_CALLS.get(operation.primitive.name))
    return getattr(held, "jaxpr", held)


def _bound(operation: Any, operands: list[Any], parameters: dict[str, Any]) -> list[Any]:
    bound = operation.primitive.get_bind_params(parameters)
    functions, bound = bound if isinstance(bound, tuple) else ((), bound)  # before JAX 0.8
    results = operation.primitive.bind(*functions, *operands, **bound)
    return [widen(one) for one in (results if operation.primitive.multiple_results else [results])]


def _coarser(operation: Any) -> bool:
    """Return whether precision is reduced below that of the operand's own type."""
    info = jnp.finfo(operation.invars[0].aval.dtype)
    bits = operation.params["exponent_bits"], operation.params["mantissa_bits"]
    return bool(bits[0] < info.nexp or bits[1] < info.nmant)


def _wide(parameter: Any) -> Any:
    """Return a parameter of an operation with wider types, in programs that it holds as well."""
    if isinstance(parameter, np.dtype):
        return widened(parameter)
    if isinstance(parameter, type) and issubclass(parameter, np.generic):
        return widened(np.dtype(parameter))
    if hasattr(parameter, "jaxpr") and hasattr(parameter, "consts"):
        return _wide_program(parameter.jaxpr, parameter.consts)
    if hasattr(parameter, "eqns") and not parameter.constvars:
        return _wide_program(parameter, ()).jaxpr
    if isinstance(parameter, tuple):
        parts = [_wide(one) for one in parameter]
        if all(new is old for new, old in zip(parts, parameter, strict=True)):
            return parameter
        return parameter._make(parts) if hasattr(parameter, "_make") else tuple(parts)
    return None if "DotAlgorithm" in type(parameter).__name__ else parameter


def _wide_program(program: Any, constants: Iterable[Any]) -> Any:
    wide = [widen(one) for one in constants]
    operands = [
        jax.ShapeDtypeStruct(one.aval.shape, widened(one.aval.dtype)) for one in program.invars
    ]
    return jax.make_jaxpr(lambda *given: evaluate(program, wide, given))(*operands)
