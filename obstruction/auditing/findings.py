"""The facts that an audit finds; `obstruction.auditing.report` adds the forms of output."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from obstruction.auditing.hidden_layers import (
    FROZEN,
    STATUSES,
    HiddenLayer,
    layer_row,
    neuron_columns,
)
from obstruction.models.model import Model
from obstruction.tools.checks import check_count

if TYPE_CHECKING:
    import pandas as pd

    from obstruction.auditing.origin.luck import Luck

_BOUNDARY, _DEAD = STATUSES.index("boundary"), STATUSES.index("dead")


@dataclass(frozen=True, eq=False)
class Findings:
    """The facts about a network; `obstruction.auditing.report.Report` describes the attributes."""

    source: str
    model: Model
    hidden: tuple[HiddenLayer, ...]
    components: int
    effective_components: int
    luck: Luck | None
    rtol: float
    stuck: tuple[range, ...] = ()

    @property
    def audited(self) -> tuple[HiddenLayer, ...]:
        """The hidden layers that were audited."""
        return tuple(layer for layer in self.hidden if layer.audited)

    @property
    def output_neurons(self) -> HiddenLayer | None:
        """The last hidden layer; None if it was not audited or there are several outputs."""
        last = self.hidden[-1]
        return last if last.audited and last.outputs == 1 else None

    @property
    def frozen_weights(self) -> int:
        """The number of weights that can never change sign; ``components`` is 2 to this power."""
        return self.components.bit_length() - 1

    @property
    def verdict(self) -> str:
        """What was found, the gravest first.

        ``"degenerate"`` if nothing can be learned, ``"obstructed"`` if a weight is frozen,
        ``"boundary"`` if a balance is so near to zero that rounding decides its sign, else
        ``"clear"``.
        """
        if not self.learns:
            return "degenerate"
        if self.frozen_weights:
            return "obstructed"
        return "boundary" if self._total("boundary") else "clear"

    @property
    def learns(self) -> bool:
        """Whether gradients may make the outputs of all audited layers depend on their inputs."""
        return not self.stuck

    @property
    def reachable_signs(self) -> tuple[int, int] | None:
        """The largest numbers of positive and of negative output weights that training can reach.

        None if the last hidden layer was not audited or there are several outputs. Weights that are
        frozen, at the boundary, which is not crossed in finite time, or of dead neurons keep their
        signs.
        """
        last = self.output_neurons
        if last is None:
            return None
        sign = last.sign[self._stays(last)]  # zero for ever, if neurons without inputs have none
        free = self._free(last)
        return free + int(np.count_nonzero(sign > 0)), free + int(np.count_nonzero(sign < 0))

    def reaches(self, *, positive: int = 0, negative: int = 0) -> bool:
        """Return whether training can reach given numbers of positive and negative output weights.

        Parameters
        ----------
        positive, negative : int
            The least numbers of output weights of each sign that a target needs, >= 0. Their sum
            must be at most the number of neurons of the last hidden layer.

        Raises
        ------
        ValueError
            If a number is out of its range, if the network has several outputs, or if its last
            hidden layer was not audited.

        Notes
        -----
        A weight that is frozen, at the boundary or of a dead neuron keeps its sign. All others can
        take either (Nurisso et al. 2024, Prop. 3).
        """
        positive = check_count("positive", positive, least=0)
        negative = check_count("negative", negative, least=0)
        last, most = self.output_neurons, self.reachable_signs
        if last is None or most is None:
            raise ValueError(
                f"positive = {positive}, negative = {negative}: signs of output weights "
                "bind only a network with one output whose last hidden layer is audited"
            )
        if positive + negative > last.neurons:
            raise ValueError(
                f"positive + negative = {positive + negative}: must be at most {last.neurons}, "
                "the neurons of the last hidden layer"
            )
        together = most[0] + most[1] - self._free(last)
        return positive <= most[0] and negative <= most[1] and positive + negative <= together

    @cached_property
    def neurons(self) -> pd.DataFrame:
        """A table with a row for each audited neuron."""
        import pandas as pd

        parts = [neuron_columns(layer) for layer in self.audited]
        columns: dict[str, Any] = {
            name: np.concatenate([part[name] for part in parts]) for name in parts[0]
        }
        for name, kinds in (("layer", None), ("status", STATUSES), ("frozen", FROZEN)):
            kept = list(dict.fromkeys(columns[name])) if kinds is None else list(kinds)
            columns[name] = pd.Categorical(columns[name], categories=kept)
        return pd.DataFrame(columns)

    @cached_property
    def layers(self) -> pd.DataFrame:
        """A table with a row for each hidden layer, audited or not."""
        import pandas as pd

        table = pd.DataFrame([layer_row(layer) for layer in self.hidden])
        counts = ["inputs", "neurons", "outputs", "pathological", "boundary", "dead"]
        return table.astype(dict.fromkeys((*counts, "frozen_inputs"), "Int64"))

    def to_dataframe(self) -> pd.DataFrame:
        """Return a copy of `neurons`."""
        return self.neurons.copy()

    def summary(self) -> dict[str, Any]:
        """Return the facts about the network as a flat dictionary of plain Python values."""
        signs = self.reachable_signs
        last = self.output_neurons
        margins = [layer.margin for layer in self.audited if layer.outputs == 1]
        smallest = np.nanmin(np.concatenate(margins), initial=math.inf) if margins else math.inf
        frozen = np.zeros(0, np.int8) if last is None else last.sign[last.out_frozen]
        return {
            "source": self.source,
            "format": self.model.format,
            "verdict": self.verdict,
            "hidden_layers": len(self.hidden),
            "audited_layers": len(self.audited),
            "neurons": sum(layer.neurons for layer in self.audited),
            **{status: self._total(status) for status in STATUSES},
            "frozen_weights": self.frozen_weights,
            "frozen_inputs": sum(int(layer.in_frozen.sum()) for layer in self.audited),
            "frozen_positive": None if last is None else int(np.count_nonzero(frozen > 0)),
            "frozen_negative": None if last is None else int(np.count_nonzero(frozen < 0)),
            "components": self.components,
            "log2_components": self.frozen_weights,
            "effective_components": self.effective_components,
            "max_positive": None if signs is None else signs[0],
            "max_negative": None if signs is None else signs[1],
            "both_signs_reachable": None if signs is None else min(signs) > 0,
            "learns": self.learns,
            "smallest_margin": float(smallest) if math.isfinite(smallest) else None,
            "rtol": self.rtol,
        }

    def worst(self, most: int) -> pd.DataFrame:
        """Return the rows of dead, then pathological, boundary and free neurons, at most ``most``.

        Neurons of the same status are in the order of their margins. Free neurons are included
        only if they have a single outgoing weight.
        """
        table = self.neurons
        single = np.concatenate([np.full(l.neurons, l.outputs == 1) for l in self.audited])
        status = table["status"].cat.codes.to_numpy()
        rank = np.array([3, 1, 2, 0])[status]
        chosen = np.flatnonzero(single | (status > 0))
        margin = table["margin"].to_numpy()[chosen]
        order = np.lexsort((np.where(np.isnan(margin), -1.0, margin), rank[chosen]))
        return table.iloc[chosen[order[:most]]]

    @staticmethod
    def _stays(layer: HiddenLayer) -> NDArray[np.bool_]:
        """Return which output weights of a layer keep their signs."""
        stays: NDArray[np.bool_] = layer.out_frozen | np.isin(layer.status, (_BOUNDARY, _DEAD))
        return stays

    def _free(self, layer: HiddenLayer) -> int:
        return layer.neurons - int(np.count_nonzero(self._stays(layer)))

    def _total(self, status: str) -> int:
        return sum(layer.count(status) for layer in self.audited)
