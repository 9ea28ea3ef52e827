"""Recognise the framework of a model, and open it as a live model."""

from __future__ import annotations

import sys
from typing import Any

from obstruction.conservation.live.base import LiveModel


def open_model(model: Any, inputs: Any, *, training: bool, loss: str | None = None) -> LiveModel:
    """Return a live model of any framework."""
    keras = sys.modules.get("keras")
    # before PyTorch, as layers of Keras are its modules, too, with that backend
    if keras is not None and isinstance(model, keras.Layer):
        from obstruction.conservation.live.keras import KerasModel

        return KerasModel(model, inputs, training=training)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        from obstruction.conservation.live.torch import TorchModel

        return TorchModel(model, inputs, training=training)
    from obstruction.conservation.live.jax import JaxModel

    return JaxModel(*model, inputs)
