"""Which sources are live models, and example inputs of a module."""

from __future__ import annotations

import sys
from typing import Any

from obstruction.conservation.live.onnx_files import can_run, is_onnx

__all__ = ["inputs_for", "is_live", "is_onnx", "is_torch", "may_run", "refused_source", "shortened"]


def is_live(source: Any) -> bool:
    """Return whether a source is a model that can be run: of PyTorch, Keras or JAX."""
    if is_torch(source):
        return True
    if "keras" in sys.modules and callable(source) and hasattr(source, "trainable_variables"):
        return True
    if "jax" in sys.modules:
        from obstruction.conservation.live.jax_pairs import pair_of

        if pair_of(source, training=True) is not None:
            return True
    return isinstance(source, tuple) and len(source) == 2 and callable(source[0])


def is_torch(source: Any) -> bool:
    """Return whether a source is a module of PyTorch, and no model of Keras on top of it."""
    torch = sys.modules.get("torch")
    layer = getattr(sys.modules.get("keras"), "Layer", ())
    return (
        torch is not None and isinstance(source, torch.nn.Module) and not isinstance(source, layer)
    )


def may_run(source: Any) -> bool:
    """Return whether a source is an ONNX file that can be run here."""
    return is_onnx(source) and can_run()


def shortened(error: Exception) -> str:
    """Return the message of an error, without most of its reasons."""
    first, *others = str(error).rstrip(".").split("; ")
    return f"{first} and {len(others):,} more" if len(others) > 2 else str(error).rstrip(".")


def refused_source(source: Any) -> ValueError:
    """Return the error about inputs for something that cannot be run."""
    exported = sys.modules.get("torch.export")
    if exported is not None and isinstance(source, exported.ExportedProgram):
        return ValueError("inputs: a program of torch.export is read; give program.module() to run")
    return ValueError(
        "inputs: are for a model that can be run (a torch.nn.Module, a Keras model, a pair (apply, "
        "params) of JAX, a module of Equinox or nnx, or an ONNX file), and "
        f"{type(source).__name__} is none; without inputs= it is read"
    )


def inputs_for(model: Any, reason: Exception) -> Any:
    """Return example inputs of a module that follow from its first layer.

    Raises
    ------
    ValueError
        If they do not follow; the message asks for them.
    """
    from obstruction.models.readers.torch.inputs import example, inputs_of

    found = inputs_of(model)
    if found is None:
        raise type(reason)(
            f"{reason}. To find its laws by running it, give inputs that it takes: "
            f"ob.audit(model, inputs={example(model)})"
        ) from None
    return found
