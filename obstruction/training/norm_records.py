"""Records of the norms and balances of the neurons in chains of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from obstruction import models
from obstruction.models import NothingAuditable, ReadOptions
from obstruction.models.norms import norms_of
from obstruction.models.updating import model_with
from obstruction.training.signs import NONE, Signs, changes, signs_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]

_TOLERANCE: Final = 1e-6
"""The least relative difference by which a pathological neuron's in-norm is the smaller norm."""


class NormRecord(NamedTuple):
    """The norms and signs of all watched neurons at one step."""

    incoming: FloatArray
    outgoing: FloatArray
    signs: Signs

    @property
    def pathological(self) -> NDArray[np.bool_]:
        """Which neurons have the smaller in-norm, so that their output weight is frozen."""
        found: NDArray[np.bool_] = np.less(self.incoming, (1.0 - _TOLERANCE) * self.outgoing)
        return found


class NormRecorder:
    """Records the norms of all hidden neurons whose balances an audit knows; see `Recorder`.

    Parameters
    ----------
    model : model
        Any model that `obstruction.audit` takes.
    options : ReadOptions
        What the model does not say.

    Raises
    ------
    NothingAuditable
        If no hidden layer keeps a balance.
    ValueError
        If the model cannot be read.
    """

    def __init__(self, model: Any, options: ReadOptions) -> None:
        known = models.read(model, options)
        audited = [link.reason is None for link in known.links]
        if not any(audited):
            reasons = dict.fromkeys(str(link.reason) for link in known.links)
            reasons |= dict.fromkeys(f"{name}: {reason}" for name, reason in known.skipped)
            raise NothingAuditable("nothing to watch: " + "; ".join(reasons or ["no hidden layer"]))
        self._model, self._audited = known, audited
        self._source = model
        hidden = [layer for layer, wanted in zip(known.layers, audited, strict=False) if wanted]
        self._names = [layer.name for layer in hidden]
        self._sizes = [layer.outputs for layer in hidden]
        self.start = self.read()

    def read(self, model: Any = None) -> NormRecord:
        """Return the norms and signs of the present weights."""
        tensors = models.read_contents(self._source if model is None else model).tensors
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
            single = len(weight) == 1
            signs.append(
                signs_of(weight[0]) if single else np.full(weight.shape[1], NONE, dtype=np.int8)
            )
        return NormRecord(incoming, outgoing, np.concatenate(signs))

    def same(self, one: NormRecord, other: NormRecord) -> bool:
        """Return whether two records are equal, NaN included."""
        same: Any = np.array_equal
        return all(same(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))

    def history(self, steps: Sequence[int], records: Sequence[NormRecord]) -> pd.DataFrame:
        """Return a table with a row for every neuron at every recorded step."""
        import pandas as pd

        count = sum(self._sizes)
        incoming = _joined([record.incoming for record in records])
        outgoing = _joined([record.outgoing for record in records])
        signs = _joined([record.signs for record in records]).astype(np.int8)
        shape = len(steps)
        return pd.DataFrame(
            {
                "step": np.repeat(np.array(steps, dtype=np.int64), count),
                "layer": self._layer_column(np.tile(self._layer_numbers(), shape)),
                "neuron": np.tile(self._neuron_numbers(), shape),
                "balance": _balance(incoming, outgoing),
                "in_norm": incoming,
                "out_norm": outgoing,
                "sign": pd.arrays.IntegerArray(signs, signs == NONE),
            }
        )

    def drift(self, steps: Sequence[int], records: Sequence[NormRecord]) -> pd.DataFrame:
        """Return a table with a row for every recorded step and layer."""
        import pandas as pd

        largest, mean = [], []
        unit = np.maximum(self.start.incoming, self.start.outgoing)
        unit = np.where(unit > 0.0, unit, 1.0)  # squares of norms in this unit do not overflow
        first = _balance(self.start.incoming / unit, self.start.outgoing / unit)
        size = (self.start.incoming / unit) ** 2 + (self.start.outgoing / unit) ** 2
        ends = np.cumsum(self._sizes)[:-1]
        for record in records:
            with np.errstate(all="ignore"):
                now = _balance(record.incoming / unit, record.outgoing / unit)
                moved = np.abs(now - first)
                moved = np.where(moved == 0.0, 0.0, moved / size)
            largest += [part.max() for part in np.split(moved, ends)]
            mean += [part.mean() for part in np.split(moved, ends)]
        layers = len(self._sizes)
        return pd.DataFrame(
            {
                "step": np.repeat(np.array(steps, dtype=np.int64), layers),
                "layer": self._layer_column(np.tile(np.arange(layers), len(steps))),
                "largest": np.array(largest, dtype=np.float64),
                "mean": np.array(mean, dtype=np.float64),
            }
        )

    def sign_changes(self, steps: Sequence[int], records: Sequence[NormRecord]) -> pd.DataFrame:
        """Return a table of all changes of sign of output weights of neurons with only one."""
        import pandas as pd

        signs = [record.signs for record in records]
        where, first, later = changes(signs)
        together = np.array(signs, dtype=np.int8).reshape(len(signs), sum(self._sizes))
        bad = np.array([record.pathological for record in records], dtype=bool)
        bad = bad.reshape(together.shape)
        numbers = np.array(steps, dtype=np.int64)
        return pd.DataFrame(
            {
                "layer": self._layer_column(self._layer_numbers()[where]),
                "neuron": self._neuron_numbers()[where],
                "step_before": numbers[first],
                "step_after": numbers[later],
                "sign_before": together[first, where],
                "sign_after": together[later, where],
                "pathological_at_start": self.start.pathological[where],
                "pathological_before": bad[first, where],
            }
        )

    def plot(self, steps: Sequence[int], records: Sequence[NormRecord], ax: Axes | None) -> Axes:
        """Draw the drift with a line for each layer."""
        from obstruction.training.drift_picture import plot_drift

        return plot_drift(self.drift(steps, records), self.sign_changes(steps, records), ax)

    def _layer_numbers(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self._sizes)), self._sizes)

    def _neuron_numbers(self) -> NDArray[np.int64]:
        return np.concatenate([np.arange(size) for size in self._sizes])

    def _layer_column(self, numbers: NDArray[np.int64]) -> Any:
        import pandas as pd

        names = list(dict.fromkeys(self._names))
        codes = np.array([names.index(name) for name in self._names])
        return pd.Categorical.from_codes(codes[numbers], categories=names)


def _balance(incoming: FloatArray, outgoing: FloatArray) -> FloatArray:
    with np.errstate(over="ignore", invalid="ignore"):
        return (incoming - outgoing) * (incoming + outgoing)


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0)
