"""Losses that see less than all outputs, as a last step of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

LOSSES: Final = ("cross_entropy",)
"""The losses whose laws can be asked for. Cross-entropy does not see a common shift of logits."""


class LossError(ValueError):
    """A model does not return what a loss needs."""


def check_loss(loss: str | None) -> None:
    """Raise a `ValueError` if a loss is none of `LOSSES` and not None."""
    if loss is not None and loss not in LOSSES:
        raise ValueError(f"loss = {loss!r}: must be None or one of {', '.join(map(repr, LOSSES))}")


def seen(outputs: Sequence[Any], loss: str | None, log_softmax: Callable[..., Any]) -> list[Any]:
    """Return what a loss sees of the outputs: for cross-entropy the logarithm of the softmax.

    Parameters
    ----------
    outputs : sequence of array
        The outputs of the model. Classes lie along the last axis, or along axis 1 of arrays with
        four axes or more, as images have.
    loss : str or None
        With None the outputs stay as they are.
    log_softmax : callable
        ``log_softmax(array, axis=...)`` of the framework.

    Raises
    ------
    ValueError
        If the loss is cross-entropy and the model does not return one array of two logits or more.
    """
    if loss is None:
        return list(outputs)
    if len(outputs) != 1:
        raise LossError(
            f"loss = {loss!r}: the model returns {len(outputs)} arrays; it must return its logits"
        )
    (logits,) = outputs
    axis = 1 if logits.ndim >= 4 else -1
    if logits.ndim == 0 or logits.shape[axis] < 2:
        raise LossError(
            f"loss = {loss!r}: the model returns an array of shape {tuple(logits.shape)}; it must "
            "return two logits or more along its axis of classes"
        )
    return [log_softmax(logits, axis=axis)]
