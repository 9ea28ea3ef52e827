"""The report of an audit: the findings as text, JSON, HTML and a picture."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from obstruction.auditing.findings import Findings
from obstruction.auditing.hidden_layers import layer_row
from obstruction.tools.json_values import json_object, json_value
from obstruction.tools.version import __version__

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEMA_VERSION: Final = 1
"""The version of the layout of `Report.to_json`, which changes with any name or meaning in it."""


@dataclass(frozen=True, eq=False, repr=False)
class Report(Findings):
    """The result of `obstruction.audit`. Printing it shows a table.

    Attributes
    ----------
    source : str
        The name of the file or the type of the object.
    model : Model
        The network as it was read.
    hidden : tuple of HiddenLayer
        All hidden layers in the order of the forward pass, audited or not.
    components : int
        The number of connected components of the set of weights that gradient flow can reach
        (Nurisso et al. 2024, Cor. 1 and its extension to chains), 1 if the set is connected.
    effective_components : int
        The number of components up to rescaling and permutation of neurons (Thm. 2, Cor. 3).
    luck : Luck or None
        How usual the findings are for the initialisation; None if there was no comparison, as for
        a network in which nothing can learn and whose scheme was not given.
    rtol : float
        The relative tolerance within which a balance counts as zero ("boundary").
    stuck : tuple of range
        The runs of audited layers, by their indices in the model, in which nothing can learn as too
        many weights are zero: their outputs never depend on their inputs.

    Examples
    --------
    >>> import obstruction as ob
    >>> report = ob.audit(ob.replay(0, network=7, d=3, l=5, scheme="kaiming_normal"))
    >>> report.summary()["pathological"], report.components
    (1, 2)
    >>> report.reaches(negative=4), report.reaches(negative=5)
    (True, False)
    """

    def to_json(self, *, neurons: int | None = None) -> str:
        """Return the report as JSON; docs/audit.md describes it under its `SCHEMA_VERSION`.

        Parameters
        ----------
        neurons : int, optional
            The largest number of neurons to list, worst first; by default all in their order.
        """
        table = self.neurons if neurons is None else self.worst(neurons)
        columns = [map(json_value, column.tolist()) for _, column in table.items()]
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
            "luck": None if self.luck is None else json_object(self.luck.to_dict()),
            "layers": [json_object(layer_row(layer)) for layer in self.hidden],
            "neurons": [dict(zip(table.columns, row, strict=True)) for row in rows],
            "skipped": [{"name": name, "reason": reason} for name, reason in self.model.skipped],
            "notes": list(self.model.notes),
        }
        return json.dumps(content, allow_nan=False, ensure_ascii=False)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the outgoing norms of audited neurons against the incoming ones, and the frontier.

        The frontier is the line of balance 0. Neurons with a single outgoing weight are filled by
        status. Those with several, which cannot be pathological, are pale. Norms that are zero are
        drawn at the edge.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            The axes to draw in; by default those of a new figure.
        """
        from obstruction.auditing.picture import plot_report

        return plot_report(self, ax)

    def __str__(self) -> str:
        from obstruction.auditing.text import report_text

        return report_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from obstruction.auditing.text import report_html

        return report_html(self)
