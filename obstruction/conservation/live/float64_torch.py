"""Operations of PyTorch in float64, where a model asks for a narrower type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch.overrides import TorchFunctionMode

_NARROW: Final = frozenset({torch.float32, torch.float16, torch.bfloat16})
_CONVERSIONS: Final = frozenset(
    {torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16, torch.Tensor.double}
)
_MADE_FROM_DATA: Final = frozenset({torch.tensor, torch.as_tensor, torch.asarray})


class _Float64Mode(TorchFunctionMode):
    """Replaces every type of floats that is passed to a function of PyTorch."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        args = tuple(_wide(one) for one in args)
        options = {name: _wide(value) for name, value in (kwargs or {}).items()}
        if func in _CONVERSIONS:
            func = torch.Tensor.double
        result = func(*args, **options)
        if func in _MADE_FROM_DATA and result.dtype in _NARROW:
            return result.double()
        return result


@contextmanager
def in_float64() -> Iterator[None]:
    """Compute in float64: conversions to narrower floats and new tensors of them have this type.

    Tensors that exist keep their types, and what is written in C++ is not reached.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Float64Mode():
            yield
    finally:
        torch.set_default_dtype(default)


def _wide(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in _NARROW else value
