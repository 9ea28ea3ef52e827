"""Example inputs of a PyTorch module, as far as its first layer tells what they are."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any, Final

from obstruction.models.readers.torch.running import Copy, unwrapped

ROWS: Final = 16
"""The number of example inputs."""

_SIDES: Final = (64, 32, 28, 224)
"""The sizes of images that are tried, for an example in an error."""


def inputs_of(module: Any) -> Any:
    """Return example inputs of a module, or None if they do not follow from its first layer.

    They are vectors for a module that begins with ``nn.Linear``, and whole numbers for one that
    begins with ``nn.Embedding``, if it takes one argument and runs with them.
    """
    torch, first = sys.modules["torch"], _first(module)
    if first is None or len(_arguments(module)) != 1:
        return None
    if isinstance(first, torch.nn.Linear):
        generator = torch.Generator().manual_seed(0)
        made = torch.randn(ROWS, first.in_features, generator=generator, dtype=torch.float64)
    elif isinstance(first, torch.nn.Embedding):
        made = (torch.arange(4 * ROWS) % first.num_embeddings).reshape(4, ROWS)
    else:
        return None
    return made if _runs(module, made) else None


def example(module: Any) -> str:
    """Return an expression for example inputs of a module, with which it runs if it has numbers."""
    names = _arguments(module)
    if len(names) > 1:
        return f"({', '.join(names)})"
    for text, shape in _candidates(module):
        torch = sys.modules["torch"]
        made = torch.zeros(shape, dtype=torch.float64 if "randn(" in text else torch.int64)
        if _runs(module, made):
            return text
    return names[0] if names else "x"


def _candidates(module: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield inputs that fit to the first layer of a module, as an expression and their shape."""
    nn, first = sys.modules["torch"].nn, _first(module)
    if isinstance(first, nn.Linear):
        yield _drawn(4, first.in_features)
        yield _drawn(4, 16, first.in_features)
    elif isinstance(first, nn.Embedding):
        yield f"torch.randint({first.num_embeddings}, (4, 16))", (4, 16)
    elif isinstance(first, nn.RNNBase):
        yield _drawn(*((4, 16) if first.batch_first else (16, 4)), first.input_size)
    elif isinstance(first, nn.MultiheadAttention):
        yield _drawn(*((4, 16) if first.batch_first else (16, 4)), first.embed_dim)
    elif isinstance(first, nn.modules.conv._ConvNd):
        axes = len(first.kernel_size)
        for side in _SIDES:
            yield _drawn(4, first.in_channels, *[side] * axes)
    elif isinstance(first, nn.modules.batchnorm._BatchNorm):
        yield _drawn(4, first.num_features)
        yield _drawn(4, first.num_features, 64, 64)
    elif isinstance(first, nn.LayerNorm):
        yield _drawn(4, *first.normalized_shape)
        yield _drawn(4, 16, *first.normalized_shape)


def _drawn(*shape: int) -> tuple[str, tuple[int, ...]]:
    return f"torch.randn({', '.join(map(str, shape))})", shape


def _first(module: Any) -> Any:
    """Return the first layer of ``torch.nn`` that has parameters, None if there is none."""
    base = sys.modules["torch"].nn.Module
    for one in module.modules():
        kinds = (kind for kind in type(one).__mro__ if kind is not base)
        ours = any(kind.__module__.startswith("torch.nn.modules.") for kind in kinds)
        if ours and any(value is not None for value in one._parameters.values()):
            return one
    return None


def _arguments(module: Any) -> list[str]:
    """Return the names of the arguments that ``forward`` needs."""
    try:
        given = inspect.signature(unwrapped(module).forward).parameters.values()
    except (TypeError, ValueError):
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [one for one in given if one.default is one.empty and one.kind not in variable]
    return [one.name for one in needed]


def _runs(module: Any, *inputs: Any) -> bool:
    """Return whether a copy of a module can be run with some inputs."""
    try:
        Copy(module, exact=False).outputs(*inputs)
    except Exception:  # it is the user's code that runs
        return False
    return True
