"""Which sources are live models, and how example inputs of a model could look."""

from __future__ import annotations

import sys
from typing import Any, Final

_SHORT: Final = 240
"""The number of characters of a reason in an error."""


def is_live(source: Any) -> bool:
    """Return whether a source is a model that can be run: of PyTorch, Keras or JAX."""
    if isinstance(source, tuple):
        return len(source) == 2 and callable(source[0])
    return is_torch(source) or (
        "keras" in sys.modules and callable(source) and hasattr(source, "trainable_variables")
    )


def is_torch(source: Any) -> bool:
    """Return whether a source is a module of PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.nn.Module)


def refused_source(source: Any) -> ValueError:
    """Return the error about inputs for something that cannot be run."""
    return ValueError(
        f"inputs: are for a model that can be run (a torch.nn.Module, a Keras model, or a pair "
        f"(apply, params) of JAX), and {type(source).__name__} is none; without inputs= it is read"
    )


def asking_for_inputs(model: Any, error: ValueError) -> str:
    """Return a short message about a module that could not be read without being run."""
    reason = " ".join(str(error).split())
    if len(reason) > _SHORT:
        reason = reason[: _SHORT - 1].rsplit(" ", 1)[0] + " …"
    return (
        f"{reason}\n"
        "With example inputs the model is run instead: "
        f"ob.audit(model, inputs={example(model)})"
    )


def example(model: Any) -> str:
    """Return an expression that makes inputs for a module, as far as its first layer tells."""
    torch = sys.modules["torch"]
    nn = torch.nn
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            return f"torch.randint({module.num_embeddings}, (4, 16))"
        if isinstance(module, nn.Linear):
            return f"torch.randn(4, {module.in_features})"
        for dimensions, kind in enumerate((nn.Conv1d, nn.Conv2d, nn.Conv3d), start=1):
            if isinstance(module, kind):
                sides = ", ".join(["64"] * dimensions)
                return f"torch.randn(4, {module.in_channels}, {sides})"
        if isinstance(module, nn.RNNBase):
            order = "4, 16" if module.batch_first else "16, 4"
            return f"torch.randn({order}, {module.input_size})"
    return "x"
