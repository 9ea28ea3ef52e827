"""Callbacks of Keras and Lightning that number the steps of a training run."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

Visit: TypeAlias = Callable[[int], None]
Last: TypeAlias = Callable[[], int | None]


def keras_callback(visit: Visit, last: Last) -> Any:
    """Return a ``keras.callbacks.Callback`` that visits while ``fit`` runs.

    Parameters
    ----------
    visit : callable
        Takes the number of a step.
    last : callable
        Returns the number of the last step, None before the first.

    Raises
    ------
    ImportError
        If Keras is not installed.
    """
    keras = _framework("keras", ("keras",))

    class MonitorCallback(keras.callbacks.Callback):  # type: ignore[misc, name-defined]
        """A callback that numbers the batches across all calls of ``fit``."""

        def on_train_begin(self, logs: Any = None) -> None:
            if last() is None:
                visit(0)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            # With JAX, access to the model makes Keras copy the trained weights into it.
            _ = self.model
            visit((last() or 0) + 1)

    return MonitorCallback()


def lightning_callback(visit: Visit, last: Last) -> Any:
    """Return a Lightning ``Callback`` that visits while ``Trainer.fit`` runs.

    The arguments are those of `keras_callback`.

    Raises
    ------
    ImportError
        If neither ``lightning`` nor ``pytorch_lightning`` is installed.
    """
    names = ["lightning.pytorch", "pytorch_lightning"]
    names.sort(key=lambda name: name not in sys.modules)  # the one that the user has imported
    lightning = _framework("lightning", names)

    class MonitorCallback(lightning.Callback):  # type: ignore[misc, name-defined]
        """A callback that numbers the steps by the trainer's count of optimiser steps."""

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self._record(trainer)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
            self._record(trainer)

        def _record(self, trainer: Any) -> None:
            # A batch whose gradient is only accumulated does not increase the count.
            before = last()
            if before is None or trainer.global_step > before:
                visit(trainer.global_step)

    return MonitorCallback()


def _framework(extra: str, names: Sequence[str]) -> Any:
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ImportError(f"{extra} is not installed: pip install 'obstruction[{extra}]'")
