"""Records of the conservation laws of a live model, and of the signs of single weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.laws import Laws
from obstruction.conservation.reading import parameters_of
from obstruction.models import NothingAuditable
from obstruction.training.law_values import FloatArray, Meter
from obstruction.training.signs import Signs, changes, signs_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

KEPT: Final = 20_000
"""A record holds the values of the smallest laws, as long as they are at most so many numbers."""


class LawRecord(NamedTuple):
    """The state of all laws at one step.

    Attributes
    ----------
    values : ndarray of float64
        The conserved numbers of the laws whose values are kept, law after law.
    largest, mean : ndarray of float64
        The drift of each law.
    signs : ndarray of int8
        The signs of the watched weights.
    """

    values: FloatArray
    largest: FloatArray
    mean: FloatArray
    signs: Signs


class LawRecorder:
    """Records the conservation laws of a live model; see `Recorder`.

    Parameters
    ----------
    model : model
        A PyTorch module, a Keras model, or a pair ``(apply, params)`` of JAX.
    laws : Laws
        Its laws, maybe found when it had other parameters.

    Attributes
    ----------
    laws : Laws
        The laws, with the parameters of the model when the recorder was made.

    Raises
    ------
    NothingAuditable
        If there is no law.
    ValueError
        If the model lacks parameters that enter the laws.
    """

    def __init__(self, model: Any, laws: Laws) -> None:
        self.laws = replace(laws, parameters=parameters_of(model, laws.shapes))
        if not len(self.laws):
            raise NothingAuditable(
                "nothing to watch: the gradients show no conservation law of this model"
            )
        self._model = model
        self._tensors, self._positions, self._frozen = watched_weights(self.laws)
        self._meter = Meter(self.laws, _indices(self._tensors, self._positions))
        self._first, weights = self._meter.read(self.laws.parameters)
        self._units = [_unit(law.scale(self.laws.parameters)[law.places]) for law in self.laws]
        self._kept = _kept([law.size for law in self.laws])
        still = np.zeros(len(self.laws))
        self.start = LawRecord(self._values(self._first), still, still, signs_of(weights))

    def read(self, model: Any = None) -> LawRecord:
        """Return the state of all laws now."""
        numbers, weights = self._meter.read(self._model if model is None else model)
        largest, mean = np.zeros(len(numbers)), np.zeros(len(numbers))
        with np.errstate(all="ignore"):
            for i, (now, then) in enumerate(zip(numbers, self._first, strict=True)):
                moved = np.abs(now - then)
                moved /= self._units[i]
                largest[i], mean[i] = moved.max(), moved.mean()
        return LawRecord(self._values(numbers), largest, mean, signs_of(weights))

    def same(self, one: LawRecord, other: LawRecord) -> bool:
        """Return whether two records are equal, NaN included."""
        same: Any = np.array_equal
        return all(same(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))

    def history(self, steps: Sequence[int], records: Sequence[LawRecord]) -> pd.DataFrame:
        """Return a table with a row for every number of the kept laws at every recorded step."""
        import pandas as pd

        sizes = [self.laws[i].size for i in self._kept]
        law = np.repeat(np.array(self._kept, dtype=np.int64), sizes)
        index = np.concatenate([np.zeros(0, np.int64), *(np.arange(size) for size in sizes)])
        values = [np.zeros(0), *(record.values for record in records)]
        return pd.DataFrame(
            {
                "step": np.repeat(np.array(steps, dtype=np.int64), len(law)),
                "law": np.tile(law, len(steps)),
                "kind": self._kinds(np.tile(law, len(steps))),
                "index": np.tile(index, len(steps)),
                "value": np.concatenate(values),
            }
        )

    def drift(self, steps: Sequence[int], records: Sequence[LawRecord]) -> pd.DataFrame:
        """Return a table with a row for every recorded step and law."""
        import pandas as pd

        law = np.tile(np.arange(len(self.laws)), len(steps))
        nothing = np.zeros(0)
        return pd.DataFrame(
            {
                "step": np.repeat(np.array(steps, dtype=np.int64), len(self.laws)),
                "law": law,
                "kind": self._kinds(law),
                "largest": np.concatenate([nothing, *(record.largest for record in records)]),
                "mean": np.concatenate([nothing, *(record.mean for record in records)]),
            }
        )

    def sign_changes(self, steps: Sequence[int], records: Sequence[LawRecord]) -> pd.DataFrame:
        """Return a table of all changes of sign of watched weights."""
        import pandas as pd

        where, first, later = changes([record.signs for record in records])
        together = np.array([record.signs for record in records], dtype=np.int8)
        together = together.reshape(len(records), len(self._tensors))
        numbers = np.array(steps, dtype=np.int64)
        return pd.DataFrame(
            {
                "tensor": pd.array([self._tensors[k] for k in where], dtype="str"),
                "position": pd.Series([self._positions[k] for k in where], dtype=object),
                "step_before": numbers[first],
                "step_after": numbers[later],
                "sign_before": together[first, where],
                "sign_after": together[later, where],
                "frozen_at_start": self._frozen[where],
            }
        )

    def plot(self, steps: Sequence[int], records: Sequence[LawRecord], ax: Axes | None) -> Axes:
        """Draw the drift with a line for each law and a colour for each kind."""
        from obstruction.training.drift_picture import plot_law_drift

        return plot_law_drift(self.drift(steps, records), self.sign_changes(steps, records), ax)

    def _values(self, numbers: Sequence[FloatArray]) -> FloatArray:
        return np.concatenate([np.zeros(0), *(numbers[i] for i in self._kept)])

    def _kinds(self, law: NDArray[np.int64]) -> Any:
        import pandas as pd

        kinds = list(dict.fromkeys(one.kind for one in self.laws))
        codes = np.array([kinds.index(one.kind) for one in self.laws], dtype=np.int64)
        return pd.Categorical.from_codes(codes[law], categories=kinds)


def watched_weights(
    laws: Laws,
) -> tuple[list[str], list[tuple[int, ...]], NDArray[np.bool_]]:
    """Return the weights that are frozen, or alone on their side of a balance.

    Returns
    -------
    tensors : list of str
    positions : list of tuple of int
    frozen : ndarray of bool
        Which of them are frozen. Those at the boundary are not.
    """
    frozen = {(one.tensor, one.position) for one in laws.frozen_scalars.frozen}
    found = set(frozen)
    found |= {(one.tensor, one.position) for one in laws.frozen_scalars.boundary}
    for law in laws:
        if law.kind == "balance":
            for sign in (1, -1):
                single = law.counts(laws.shapes, sign) == 1
                for term in law.terms:
                    shape = laws.shapes[term.tensor]
                    if term.coefficient * sign > 0 and term.labels.size == int(np.prod(shape)):
                        labels = term.labels.reshape(shape)
                        chosen = np.append(single, False)[labels]
                        found |= {(term.tensor, tuple(p)) for p in np.argwhere(chosen).tolist()}
    order = {name: i for i, name in enumerate(laws.shapes)}
    listed = sorted(found, key=lambda one: (order[one[0]], one[1]))
    return (
        [tensor for tensor, _ in listed],
        [position for _, position in listed],
        np.array([one in frozen for one in listed], dtype=bool),
    )


def _indices(
    tensors: Sequence[str], positions: Sequence[tuple[int, ...]]
) -> dict[str, tuple[NDArray[np.int64], ...]]:
    """Return the positions in each tensor as an index, for weights ordered by tensor."""
    by_tensor: dict[str, list[tuple[int, ...]]] = {}
    for tensor, position in zip(tensors, positions, strict=True):
        by_tensor.setdefault(tensor, []).append(position)
    return {
        tensor: tuple(np.array(held, dtype=np.int64).reshape(len(held), -1).T)
        for tensor, held in by_tensor.items()
    }


def _unit(scale: FloatArray) -> FloatArray:
    """Return by what a change is divided: the size of the terms at the start, or 1 if it is 0."""
    return np.where(scale > 0.0, scale, 1.0)


def _kept(sizes: Sequence[int]) -> list[int]:
    """Return which laws keep their values: the smallest, with at most `KEPT` numbers in all."""
    order = np.argsort(sizes, kind="stable")
    total = np.cumsum(np.array(sizes, dtype=np.int64)[order])
    return sorted(order[total <= KEPT].tolist())
