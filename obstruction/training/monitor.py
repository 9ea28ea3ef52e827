"""A monitor that records balances and signs of output weights during training.

Gradient flow conserves every balance, so the output weight of a pathological neuron never changes
its sign. Finite steps, momentum, Adam and weight decay do not conserve balances exactly. A
`Monitor` shows by how much balances drift, and which output weights change their sign as a result.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from obstruction import models
from obstruction.models import NothingAuditable, Orientation, ReadOptions, Tensor
from obstruction.models.norms import norms_of
from obstruction.models.readers.memory.tensors import as_tensors
from obstruction.models.updating import model_with
from obstruction.tools.checks import check_count

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]

_TOLERANCE: Final = 1e-6
"""The least relative difference by which a pathological neuron's in-norm is the smaller norm."""


class Monitor:
    """Records balances and signs of output weights at chosen steps of training.

    Parameters
    ----------
    model : model
        Any model that `obstruction.audit` takes. It is read again at every recorded step, so it
        must be the object that training changes or the file that training writes.
    activation, layout, layers
        As for `obstruction.audit`: facts that the model itself does not contain.
    every : int
        The least number of steps between records, >= 1.

    Raises
    ------
    NothingAuditable
        If no hidden layer keeps a balance; the message gives the reasons.
    ValueError
        If the model cannot be read or `every` is not a whole number >= 1.

    Notes
    -----
    Drift is measured from the state of the model when the monitor is made, so it must be made
    before training. A record takes 17 bytes for every hidden neuron, so 1000 records of 10,000
    neurons take 170 MB; a larger `every` saves memory. Norms that are not finite are recorded as
    NaN.

    Examples
    --------
    >>> weights = [np.array([[1.0, 2.0], [0.5, 0.0]]), np.array([[3.0, -1.0]])]
    >>> monitor = Monitor(weights, activation="relu", layout="out_in")
    >>> for step in range(3):
    ...     weights[1] -= 0.75  # an optimiser would be here
    ...     monitor.step(step)
    >>> monitor.drift["largest"].round(3).tolist()
    [0.0, 1.65, 4.2, 7.65]
    """

    def __init__(
        self,
        model: Any,
        *,
        activation: str | None = None,
        layout: Orientation | None = None,
        layers: Sequence[str] | None = None,
        every: int = 1,
    ) -> None:
        self.every = check_count("every", every)
        known = models.read(model, ReadOptions(activation, layout, layers))
        audited = [link.reason is None for link in known.links]
        if not any(audited):
            reasons = dict.fromkeys(str(link.reason) for link in known.links)
            reasons |= dict.fromkeys(f"{name}: {reason}" for name, reason in known.skipped)
            raise NothingAuditable("nothing to watch: " + "; ".join(reasons or ["no hidden layer"]))
        self._model, self._audited = known, audited
        self._tensors = _reader(model, known)
        hidden = [layer for layer, wanted in zip(known.layers, audited, strict=False) if wanted]
        self._names = [layer.name for layer in hidden]
        self._sizes = [layer.outputs for layer in hidden]
        self._last: int | None = None
        self._steps: list[int] = []
        self._records: list[_Record] = []
        self._start = self._read(None)

    def step(self, step: int, model: Any = None) -> None:
        """Record the model if at least `every` steps have passed since the last record.

        Parameters
        ----------
        step : int
            The number of the step, >= 0 and larger than at the last call. The first call is always
            recorded. If training has changed the model before it, the state from which training
            started is recorded as the previous step.
        model : model, optional
            The present model, with the same structure. It is needed if training makes new arrays
            instead of changing the old ones, as with JAX.

        Raises
        ------
        ValueError
            If `step` does not increase or the structure of the model has changed.
        """
        self._visit(step, self.every, model)

    def _visit(self, step: int, every: int, model: Any = None) -> None:
        number = check_count("step", step, least=0)
        if self._last is not None and number <= self._last:
            raise ValueError(f"step = {step!r}: must be larger than the last one, {self._last}")
        if not self._steps or number - self._steps[-1] >= every:
            record = self._read(model)
            if not self._steps and not record.equals(self._start):
                self._steps, self._records = [number - 1], [self._start]
            self._steps.append(number)
            self._records.append(record)
        self._last = number

    def _read(self, model: Any) -> _Record:
        """Return the norms and signs of the present weights."""
        tensors = self._tensors() if model is None else models.read_contents(model).tensors
        now = model_with(self._model, tensors)
        with np.errstate(all="ignore"):
            found = [n for n in norms_of(self._audited, now.layers) if n is not None]
        incoming = np.concatenate([n.incoming for n in found])
        outgoing = np.concatenate([n.outgoing for n in found])
        finite = np.isfinite(incoming) & np.isfinite(outgoing)
        incoming[~finite] = outgoing[~finite] = np.nan
        signs = []
        for h, wanted in enumerate(self._audited):
            if not wanted:
                continue
            weight = now.layers[h + 1].weight
            size = weight.shape[1]
            if len(weight) == 1:
                sign = np.sign(weight[0], where=np.isfinite(weight[0]), out=np.full(size, np.nan))
                signs.append(np.where(np.isnan(sign), _NONE, sign).astype(np.int8))
            else:
                signs.append(np.full(size, _NONE, dtype=np.int8))
        return _Record(incoming, outgoing, np.concatenate(signs))

    @property
    def history(self) -> pd.DataFrame:
        """All records, with a row for every neuron at every recorded step.

        The columns are ``step``, ``layer``, ``neuron`` (index in the layer), ``balance``
        (``in_norm² - out_norm²``), ``in_norm`` (with bias), ``out_norm`` and ``sign``. The sign is
        that of the output weight, -1, 0 or 1; it is missing for neurons with several.
        """
        import pandas as pd

        count = sum(self._sizes)
        incoming = _joined([record.incoming for record in self._records])
        outgoing = _joined([record.outgoing for record in self._records])
        signs = _joined([record.signs for record in self._records]).astype(np.int8)
        shape = len(self._steps)
        return pd.DataFrame(
            {
                "step": np.repeat(np.array(self._steps, dtype=np.int64), count),
                "layer": self._layer_column(np.tile(self._layer_numbers(), shape)),
                "neuron": np.tile(self._neuron_numbers(), shape),
                "balance": _balance(incoming, outgoing),
                "in_norm": incoming,
                "out_norm": outgoing,
                "sign": pd.arrays.IntegerArray(signs, signs == _NONE),
            }
        )

    @property
    def drift(self) -> pd.DataFrame:
        """The drift of the balances, with a row for every recorded step and layer.

        The columns are ``step``, ``layer``, ``largest`` and ``mean``. The last two are taken over
        the neurons of the layer. The drift of a neuron is ``|balance - balance at the start|``
        relative to ``in_norm² + out_norm²`` at the start.
        """
        import pandas as pd

        largest, mean = [], []
        unit = np.maximum(self._start.incoming, self._start.outgoing)
        unit = np.where(unit > 0.0, unit, 1.0)  # squares of norms in this unit do not overflow
        first = _balance(self._start.incoming / unit, self._start.outgoing / unit)
        size = (self._start.incoming / unit) ** 2 + (self._start.outgoing / unit) ** 2
        ends = np.cumsum(self._sizes)[:-1]
        for record in self._records:
            with np.errstate(all="ignore"):
                now = _balance(record.incoming / unit, record.outgoing / unit)
                moved = np.abs(now - first)
                moved = np.where(moved == 0.0, 0.0, moved / size)
            largest += [part.max() for part in np.split(moved, ends)]
            mean += [part.mean() for part in np.split(moved, ends)]
        layers = len(self._sizes)
        return pd.DataFrame(
            {
                "step": np.repeat(np.array(self._steps, dtype=np.int64), layers),
                "layer": self._layer_column(np.tile(np.arange(layers), len(self._steps))),
                "largest": np.array(largest, dtype=np.float64),
                "mean": np.array(mean, dtype=np.float64),
            }
        )

    @property
    def sign_changes(self) -> pd.DataFrame:
        """All changes of sign of output weights of neurons with a single output weight.

        The columns are ``layer``, ``neuron``, ``step_before``, ``step_after``, ``sign_before``,
        ``sign_after``, ``pathological_at_start`` and ``pathological_before``. The two steps are
        recorded steps with opposite signs and nothing but zeros between them. The last two columns
        say whether gradient flow from the start, or from ``step_before``, could not have changed
        the sign.
        """
        import pandas as pd

        signs = _joined([record.signs for record in self._records]).reshape(-1, sum(self._sizes))
        found = []
        known = np.zeros(sum(self._sizes), dtype=np.int64)  # the last record with a nonzero sign
        for i in range(1, len(self._steps)):
            before, after = signs[known, np.arange(len(known))], signs[i]
            for k in np.flatnonzero(_signed(before) & _signed(after) & (before != after)):
                found.append((k, known[k], i))
            known = np.where(_signed(after), i, known)
        where, first, later = np.array(found, dtype=np.int64).reshape(-1, 3).T
        bad = np.array([record.pathological for record in self._records]).reshape(signs.shape)
        steps = np.array(self._steps, dtype=np.int64)
        return pd.DataFrame(
            {
                "layer": self._layer_column(self._layer_numbers()[where]),
                "neuron": self._neuron_numbers()[where],
                "step_before": steps[first],
                "step_after": steps[later],
                "sign_before": signs[first, where].astype(np.int8),
                "sign_after": signs[later, where].astype(np.int8),
                "pathological_at_start": self._start.pathological[where],
                "pathological_before": bad[first, where].astype(bool),
            }
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the drift over the steps, with a line for each layer, and mark changes of sign.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            The axes to draw in; by default those of a new figure.
        """
        from obstruction.training.drift_picture import plot_drift

        return plot_drift(self.drift, self.sign_changes, ax)

    def keras_callback(self, every: int | None = None) -> Any:
        """Return a ``keras.callbacks.Callback`` that records while ``fit`` runs.

        Parameters
        ----------
        every : int, optional
            The least number of batches between records; by default `every` of the monitor.

        Raises
        ------
        ImportError
            If Keras is not installed.
        """
        keras = _framework("keras", ("keras",))
        monitor, pause = self, self.every if every is None else check_count("every", every)

        class MonitorCallback(keras.callbacks.Callback):  # type: ignore[misc, name-defined]
            """A callback that numbers the batches across all calls of ``fit``."""

            def on_train_begin(self, logs: Any = None) -> None:
                if monitor._last is None:
                    monitor._visit(0, pause)

            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                # With JAX, access to the model makes Keras copy the trained weights into it.
                _ = self.model
                monitor._visit((monitor._last or 0) + 1, pause)

        return MonitorCallback()

    def lightning_callback(self, every: int | None = None) -> Any:
        """Return a Lightning ``Callback`` that records while ``Trainer.fit`` runs.

        Parameters
        ----------
        every : int, optional
            The least number of optimiser steps between records; by default `every` of the monitor.

        Raises
        ------
        ImportError
            If neither ``lightning`` nor ``pytorch_lightning`` is installed.
        """
        names = ["lightning.pytorch", "pytorch_lightning"]
        names.sort(key=lambda name: name not in sys.modules)  # the one that the user has imported
        lightning = _framework("lightning", names)
        monitor, pause = self, self.every if every is None else check_count("every", every)

        class MonitorCallback(lightning.Callback):  # type: ignore[misc, name-defined]
            """A callback that numbers the steps by the trainer's count of optimiser steps."""

            def on_train_start(self, trainer: Any, pl_module: Any) -> None:
                self._record(trainer)

            def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
                self._record(trainer)

            def _record(self, trainer: Any) -> None:
                # A batch whose gradient is only accumulated does not increase the count.
                if monitor._last is None or trainer.global_step > monitor._last:
                    monitor._visit(trainer.global_step, pause)

        return MonitorCallback()

    def _layer_numbers(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self._sizes)), self._sizes)

    def _neuron_numbers(self) -> NDArray[np.int64]:
        return np.concatenate([np.arange(size) for size in self._sizes])

    def _layer_column(self, numbers: NDArray[np.int64]) -> Any:
        import pandas as pd

        names = list(dict.fromkeys(self._names))
        codes = np.array([names.index(name) for name in self._names])
        return pd.Categorical.from_codes(codes[numbers], categories=names)


_NONE: Final = 2
"""The code for no sign: the neuron has several output weights, or one that is not finite."""


class _Record(NamedTuple):
    """The norms and signs of all watched neurons at one step."""

    incoming: FloatArray
    outgoing: FloatArray
    signs: NDArray[np.int8]

    def equals(self, other: _Record) -> bool:
        same: Any = np.array_equal
        return all(same(a, b, equal_nan=True) for a, b in zip(self, other, strict=True))

    @property
    def pathological(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = np.less(self.incoming, (1.0 - _TOLERANCE) * self.outgoing)
        return found


def _balance(incoming: FloatArray, outgoing: FloatArray) -> FloatArray:
    with np.errstate(over="ignore", invalid="ignore"):
        return (incoming - outgoing) * (incoming + outgoing)


def _signed(signs: NDArray[np.int8]) -> NDArray[np.bool_]:
    return np.isin(signs, (-1, 1))


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0)


def _reader(source: Any, model: Any) -> Callable[[], Mapping[str, Tensor]]:
    """Return a function that reads the present tensors without tracing a module's graph again."""
    torch = sys.modules.get("torch")
    names = [tensor.name for layer in model.layers for tensor in layer.tensors]
    is_module = torch is not None and isinstance(source, torch.nn.Module)
    if not is_module or not set(names) <= set(source.state_dict()):
        return lambda: models.read_contents(source).tensors

    def read() -> dict[str, Tensor]:
        state = source.state_dict()
        return as_tensors({name: state[name] for name in names})

    return read


def _framework(extra: str, names: Sequence[str]) -> Any:
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ImportError(f"{extra} is not installed: pip install 'obstruction[{extra}]'")
