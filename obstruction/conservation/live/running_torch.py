"""Code of PyTorch in float64, and with random numbers that depend on a seed alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from obstruction.tools.randomness import seeded, word

WIDER: Final = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
    torch.complex32: torch.complex128,
}
"""The types of numbers that are replaced, and those that take their places."""

_CASTS: Final = {
    "float": torch.float64,
    "half": torch.float64,
    "bfloat16": torch.float64,
    "cfloat": torch.complex128,
    "chalf": torch.complex128,
}
"""The methods of a tensor that cast it to a narrow type, and the types used instead."""


@contextmanager
def running(seed: int) -> Iterator[None]:
    """Run code in float64 from a given state of all random generators, and restore the rest."""
    devices = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
    with (
        seeded(seed),
        torch.random.fork_rng(devices=devices),
        torch.inference_mode(mode=False),
        _Double(),
    ):
        kind = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(word(seed))
        try:
            yield
        finally:
            torch.set_default_dtype(kind)


class _Double(TorchFunctionMode):  # type: ignore[misc]
    """Every function of PyTorch that is asked for a narrower float, or gets one, uses float64."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in _CASTS and args and isinstance(args[0], torch.Tensor):
            return args[0].to(_CASTS[name])
        given = {key: _widened(value) for key, value in (kwargs or {}).items()}
        if name.startswith("__set") or (name.endswith("_") and not name.endswith("__")):
            if not args:  # as torch.nn.init gets its tensor, which must not be replaced
                return func(**(kwargs or {}))
            return func(args[0], *(_widened(value) for value in args[1:]), **given)
        return func(*(_widened(value) for value in args), **given)


def _widened(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(WIDER.get(value.dtype, value.dtype))
    if isinstance(value, torch.dtype):
        return WIDER.get(value, value)
    if type(value) in (tuple, list):
        return type(value)(_widened(one) for one in value)
    return value


class Narrowed(TorchDispatchMode):  # type: ignore[misc]
    """Records operations of a backward pass that turn double precision into a narrower one.

    Attributes
    ----------
    names : set of str
        The names of these operations, such as ``"aten._to_copy"``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and found.dtype in WIDER:
            given = [one.dtype for one in args if isinstance(one, torch.Tensor)]
            if any(dtype in (torch.float64, torch.complex128) for dtype in given):
                self.names.add(str(func).rpartition(".")[0] or str(func))
        return found


def narrow_steps(outputs: Sequence[Any]) -> set[str]:
    """Return the names of the steps between parameters and outputs that have narrow results.

    Steps are those of the graph that autograd recorded, in scripted functions as well.
    """
    found: set[str] = set()
    left = [y.grad_fn for y in outputs if y.grad_fn is not None]
    seen = set(left)
    while left:
        step = left.pop()
        if any(one.dtype in WIDER for one in step._input_metadata):
            found.add(step.name().rpartition("::")[2])
        for other, _ in step.next_functions:
            if other is not None and other not in seen:
                seen.add(other)
                left.append(other)
    return found
