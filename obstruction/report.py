"""The report of an audit: every neuron, every layer, and what they mean for training."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from obstruction import __version__
from obstruction.hidden import (
    FROZEN,
    LAYER_COLUMNS,
    NEURON_COLUMNS,
    STATUSES,
    HiddenLayer,
    layer_row,
    neuron_columns,
)
from obstruction.luck import Luck
from obstruction.models.model import Model
from obstruction.validation import check_count

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SCHEMA_VERSION: Final = 1
"""The version of the layout of `Report.to_json`; it changes when a name or a meaning does."""


@dataclass(frozen=True, eq=False)
class Report:
    """What `obstruction.audit` found. Printing it shows a table.

    Attributes
    ----------
    source : str
        The file, or the kind of object.
    model : Model
        The network as it was read.
    hidden : tuple of HiddenLayer
        All hidden layers in the order of the forward pass, audited or not.
    components : int
        Connected components of what gradient flow can reach, exactly (Nurisso et al. 2024, Cor. 1
        and its extension to chains): 1 if it is in one piece.
    effective_components : int
        The same up to rescaling and permutation of neurons (Thm. 2, Cor. 3).
    luck : Luck or None
        How usual this is for the initialisation; None if not asked for.
    rtol : float
        Relative tolerance within which a balance counts as zero ("boundary").

    Examples
    --------
    >>> import obstruction as ob
    >>> report = ob.audit(ob.replay(0, network=7, d=3, l=5, scheme="kaiming_normal"))
    >>> report.summary()["pathological"], report.components
    (1, 2)
    >>> report.reaches(negative=4), report.reaches(negative=5)
    (True, False)
    """

    source: str
    model: Model
    hidden: tuple[HiddenLayer, ...]
    components: int
    effective_components: int
    luck: Luck | None
    rtol: float

    @property
    def audited(self) -> tuple[HiddenLayer, ...]:
        """The hidden layers that were audited."""
        return tuple(layer for layer in self.hidden if layer.audited)

    @property
    def output_neurons(self) -> HiddenLayer | None:
        """The neurons in front of a scalar output, None if there are several outputs."""
        last = self.hidden[-1]
        return last if last.audited and last.outputs == 1 else None

    @property
    def frozen_weights(self) -> int:
        """Weights that can never change sign; ``components`` is 2 to this power."""
        return self.components.bit_length() - 1

    @property
    def verdict(self) -> str:
        """``"obstructed"`` if a weight is frozen, ``"boundary"`` if that is undecided, ``"clear"``.

        A boundary neuron is so near to balance zero that rounding decides.
        """
        if self.frozen_weights:
            return "obstructed"
        return "boundary" if self._total("boundary") else "clear"

    @property
    def reachable_signs(self) -> tuple[int, int] | None:
        """The most positive and the most negative output weights that training can reach.

        None if the output is not one number or its neurons were not audited.
        """
        last = self.output_neurons
        if last is None:
            return None
        frozen = last.sign[last.out_frozen]
        negative, positive = np.count_nonzero(frozen < 0), np.count_nonzero(frozen > 0)
        return last.neurons - int(negative), last.neurons - int(positive)

    def reaches(self, *, positive: int = 0, negative: int = 0) -> bool:
        """Return whether training can reach so many positive and negative output weights.

        Parameters
        ----------
        positive, negative : int
            Output weights of each sign that a target needs at least, together at most the neurons
            of the last hidden layer.

        Raises
        ------
        ValueError
            If they are not such numbers, or the network has not one output behind audited neurons.

        Notes
        -----
        A frozen weight keeps its sign, all others can take either (Nurisso et al. 2024, Prop. 3).
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
        return positive <= most[0] and negative <= most[1]

    @cached_property
    def neurons(self) -> pd.DataFrame:
        """One row for each audited neuron; the columns are `NEURON_COLUMNS`."""
        import pandas as pd

        parts = [neuron_columns(layer) for layer in self.audited]
        columns: dict[str, Any] = {
            name: np.concatenate([part[name] for part in parts]) for name in NEURON_COLUMNS
        }
        for name, kinds in (("layer", None), ("status", STATUSES), ("frozen", FROZEN)):
            kept = list(dict.fromkeys(columns[name])) if kinds is None else list(kinds)
            columns[name] = pd.Categorical(columns[name], categories=kept)
        return pd.DataFrame(columns)

    @cached_property
    def layers(self) -> pd.DataFrame:
        """One row for each hidden layer, audited or not; the columns are `LAYER_COLUMNS`."""
        import pandas as pd

        rows = [layer_row(layer) for layer in self.hidden]
        table = pd.DataFrame(rows, columns=list(LAYER_COLUMNS))
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
            "smallest_margin": float(smallest) if math.isfinite(smallest) else None,
            "rtol": self.rtol,
        }

    def worst(self, most: int) -> pd.DataFrame:
        """Return the neurons that matter most: dead, pathological, boundary, then by margin.

        Free neurons are listed only if they have a single outgoing weight.
        """
        table = self.neurons
        single = np.concatenate([np.full(l.neurons, l.outputs == 1) for l in self.audited])
        status = table["status"].cat.codes.to_numpy()
        rank = np.array([3, 1, 2, 0])[status]
        chosen = np.flatnonzero(single | (status > 0))
        margin = table["margin"].to_numpy()[chosen]
        order = np.lexsort((np.where(np.isnan(margin), -1.0, margin), rank[chosen]))
        return table.iloc[chosen[order[:most]]]

    def to_json(self, *, neurons: int | None = None) -> str:
        """Return the report as JSON; docs/audit.md describes it under its `SCHEMA_VERSION`.

        Parameters
        ----------
        neurons : int, optional
            How many neurons to list at most, worst first; all in order if not given.
        """
        table = self.neurons if neurons is None else self.worst(neurons)
        columns = [_plain(table[name].tolist()) for name in NEURON_COLUMNS]
        rows = zip(*columns, strict=True)
        summary = self.summary()
        if self.components >= 2**53:
            summary["components"] = f"2^{self.frozen_weights}"
        if self.effective_components >= 2**53:
            summary["effective_components"] = str(self.effective_components)
        content = {
            "schema_version": SCHEMA_VERSION,
            "obstruction_version": __version__,
            "summary": summary,
            "luck": None if self.luck is None else _finite(self.luck.to_dict()),
            "layers": [_finite(layer_row(layer)) for layer in self.hidden],
            "neurons": [dict(zip(NEURON_COLUMNS, row, strict=True)) for row in rows],
            "skipped": [{"name": name, "reason": reason} for name, reason in self.model.skipped],
            "notes": list(self.model.notes),
        }
        return json.dumps(content, allow_nan=False, ensure_ascii=False)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw every audited neuron's outgoing against its incoming norm, and the frontier.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure if not given.
        """
        from obstruction.plots import plot_report

        return plot_report(self, ax)

    def __str__(self) -> str:
        from obstruction.rendering import report_text

        return report_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from obstruction.rendering import report_html

        return report_html(self)

    def _total(self, status: str) -> int:
        return sum(layer.count(status) for layer in self.audited)


def _plain(values: Sequence[Any]) -> Iterator[Any]:
    """Yield values with None for what JSON cannot hold."""
    return (
        None if isinstance(value, float) and not math.isfinite(value) else value for value in values
    )


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(row, _plain(list(row.values())), strict=True))
