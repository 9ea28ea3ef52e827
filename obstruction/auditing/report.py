"""The report of an audit: the findings as text, JSON, HTML and a picture."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from obstruction.auditing.findings import Findings
from obstruction.auditing.hidden_layers import NEURON_COLUMNS, layer_row
from obstruction.tools.json_values import json_object, json_value
from obstruction.tools.version import __version__

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEMA_VERSION: Final = 1
"""The version of the layout of `Report.to_json`; it changes when a name or a meaning does."""


@dataclass(frozen=True, eq=False, repr=False)
class Report(Findings):
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

    def to_json(self, *, neurons: int | None = None) -> str:
        """Return the report as JSON; docs/audit.md describes it under its `SCHEMA_VERSION`.

        Parameters
        ----------
        neurons : int, optional
            How many neurons to list at most, worst first; all in order if not given.
        """
        table = self.neurons if neurons is None else self.worst(neurons)
        columns = [map(json_value, table[name].tolist()) for name in NEURON_COLUMNS]
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
        from obstruction.auditing.picture import plot_report

        return plot_report(self, ax)

    def __str__(self) -> str:
        from obstruction.auditing.text import report_text

        return report_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from obstruction.auditing.text import report_html

        return report_html(self)
