"""The report of an audit by conservation laws: the findings as text, JSON and HTML."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from obstruction.auditing.live.law_findings import LawFindings
from obstruction.conservation.laws import Laws
from obstruction.tools.json_values import json_object
from obstruction.tools.version import __version__

SCHEMA_VERSION: Final = 1
"""The version of the layout of `LawReport.to_json`, which changes with any name or meaning."""


@dataclass(frozen=True, eq=False, repr=False)
class LawReport(LawFindings):
    """The result of `obstruction.audit` with example inputs. Printing it shows a short text.

    Attributes
    ----------
    source : str
        The type of the model.
    laws : Laws
        The conservation laws on which the report rests.
    bounds : tuple of Bound
        The weights, and combinations of weights, that are frozen or at the boundary.
    degenerate : tuple of Degenerate
        Dead channels and equal neurons.
    learns : bool
        Whether gradients can make the outputs depend on the inputs.
    undecided : dict of str to int
        For parameters with weights that could not be decided, their number.
    unreached : tuple of str
        The parameters that no gradient reached in any run: nothing is known of them.
    margins : tuple of Margins
        How far the weights that could freeze are from it.
    spans : tuple of Span
        The span of the data, for the dense layers that read the inputs; empty without `data`.
    two_logits : bool
        Whether the model has two outputs that cross-entropy would tie together, and no loss was
        given.
    signs : tuple of Signs
        The signs that weights which are alone on a side of their balance can take.
    modules : dict of str to str
        The type of the module that a parameter belongs to, where it is known.
    rtol : float
        The relative tolerance within which a balance counts as zero.
    inputs : object
        The example inputs, as they were given.

    Examples
    --------
    >>> import torch  # doctest: +SKIP
    >>> from torch import nn  # doctest: +SKIP
    >>> import obstruction as ob  # doctest: +SKIP
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))  # doctest: +SKIP
    >>> start = [[0.3, 0.4], [3.0, 4.0]], [0.0, 0.0], [[2.0, 1.0]]  # doctest: +SKIP
    >>> for number, values in enumerate(start):  # doctest: +SKIP
    ...     list(net.parameters())[number].data = torch.tensor(values)
    >>> report = ob.audit(net, inputs=torch.randn(8, 2))  # doctest: +SKIP
    >>> report.verdict, report.components  # doctest: +SKIP
    ('obstructed', 2)
    >>> report.frozen[["what", "value", "cause"]].values.tolist()  # doctest: +SKIP
    [['2.weight[0, 0]', 2.0, 'balances']]
    """

    def to_json(self) -> str:
        """Return the report as JSON; docs/audit.md describes it under its `SCHEMA_VERSION`."""
        summary = self.summary()
        if self.components >= 2**53:
            summary["components"] = f"2^{self.frozen_weights + self.frozen_combinations}"
        content = {
            "schema": "laws",
            "schema_version": SCHEMA_VERSION,
            "obstruction_version": __version__,
            "summary": json_object(summary),
            "laws": [law_object(self.laws, number) for number in range(len(self.laws))],
            "bounds": [json_object(vars(one)) for one in self.bounds],
            "degenerate": [vars(one) for one in self.degenerate],
            "undecided": self.undecided,
            "unreached": list(self.unreached),
            "data": [vars(one) for one in self.spans],
        }
        return json.dumps(content, allow_nan=False, ensure_ascii=False)

    def text(self, *, verbose: bool = False) -> str:
        """Return the report as text of at most 15 lines, or with everything in it."""
        from obstruction.auditing.live.law_text import report_text

        return report_text(self, verbose=verbose)

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from obstruction.auditing.live.law_text import report_html

        return report_html(self)


def law_object(laws: Laws, number: int) -> dict[str, Any]:
    """Return a law as an object of JSON."""
    law = laws[number]
    return json_object(
        {
            "law": number,
            "kind": law.kind,
            "size": law.size,
            "block": law.block,
            "writers": list(dict.fromkeys(t.tensor for t in law.terms if t.coefficient > 0)),
            "readers": list(dict.fromkeys(t.tensor for t in law.terms if t.coefficient < 0)),
            "violation": float(law.violation.max(initial=0.0)),
            "change": float(law.change),
        }
    )
