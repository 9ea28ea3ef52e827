"""Recognise the framework of a model, and open it as a live model."""

from __future__ import annotations

import sys
from typing import Any

from obstruction.conservation.live.base import LiveModel


def open_model(model: Any, inputs: Any, *, training: bool, loss: str | None = None) -> LiveModel:
    """Return a live model of any framework."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        from obstruction.conservation.live.torch import TorchModel

        return TorchModel(model, inputs, training=training)
    from obstruction.conservation.live.jax import JaxModel

    return JaxModel(*model, inputs)
