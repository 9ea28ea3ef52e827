"""The report of an audit by conservation laws."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from obstruction.auditing.live.bounds import Bound
from obstruction.auditing.live.degenerate import Degenerate
from obstruction.auditing.live.margins import Margins
from obstruction.auditing.live.span import Span
from obstruction.conservation.laws import Laws
from obstruction.tools.json_values import json_object
from obstruction.tools.version import __version__

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION: Final = 1
"""The version of the layout of `LawReport.to_json`, which changes with any name or meaning."""

VERDICTS: Final = ("obstructed", "degenerate", "boundary", "partial", "clear")


@dataclass(frozen=True, eq=False, repr=False)
class LawReport:
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
    modules : dict of str to str
        The type of the module that a parameter belongs to, where it is known.
    rtol : float
        The relative tolerance within which a balance counts as zero.

    Examples
    --------
    >>> import torch
    >>> import obstruction as ob
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
    >>> for number, values in enumerate(([[0.3, 0.4], [3.0, 4.0]], [0.0, 0.0], [[2.0, 1.0]])):
    ...     list(net.parameters())[number].data = torch.tensor(values)
    >>> report = ob.audit(net, inputs=torch.randn(8, 2))
    >>> report.verdict, report.components
    ('obstructed', 2)
    >>> report.frozen[["what", "value", "cause"]].values.tolist()
    [['2.weight[0, 0]', 2.0, 'balances']]
    """

    source: str
    laws: Laws
    bounds: tuple[Bound, ...]
    degenerate: tuple[Degenerate, ...]
    learns: bool
    undecided: dict[str, int]
    unreached: tuple[str, ...]
    margins: tuple[Margins, ...]
    spans: tuple[Span, ...]
    two_logits: bool
    modules: dict[str, str]
    rtol: float

    @property
    def verdict(self) -> str:
        """What was found, the gravest first.

        ``"degenerate"`` if nothing can be learned; ``"obstructed"`` if a weight, or a combination
        of weights, is frozen; ``"degenerate"`` if a whole layer is dead or neurons are exactly
        equal; ``"boundary"`` if a balance is zero within `rtol`; ``"partial"`` if something could
        not be judged; else ``"clear"``, which says that no balance freezes a weight, and not that
        everything is within reach.
        """
        if not self.learns:
            return "degenerate"
        if self.frozen_weights or self.frozen_combinations:
            return "obstructed"
        if any(one.whole or one.equal for one in self.degenerate):
            return "degenerate"
        if any(one.status == "boundary" for one in self.bounds):
            return "boundary"
        return "partial" if self.partial else "clear"

    @property
    def partial(self) -> bool:
        """Whether some parameters could not be judged."""
        return bool(self.undecided or self.unreached)

    @property
    def frozen_weights(self) -> int:
        """The number of weights that can never change their sign."""
        return sum(one.status == "frozen" and not one.combination for one in self.bounds)

    @property
    def frozen_combinations(self) -> int:
        """The number of combinations of weights that can never vanish."""
        return sum(one.status == "frozen" and one.combination for one in self.bounds)

    @property
    def components(self) -> int:
        """The least number of components of the set of parameters that the laws allow."""
        return 1 << (self.frozen_weights + self.frozen_combinations)

    @property
    def frozen(self) -> pd.DataFrame:
        """A table with a row for each frozen weight or combination; see `Bound` for its columns."""
        return self._table("frozen")

    @property
    def boundary(self) -> pd.DataFrame:
        """The same table of what is at the boundary."""
        return self._table("boundary")

    @cached_property
    def dead(self) -> int:
        """The number of dead channels."""
        return sum(len(one.dead) for one in self.degenerate)

    @cached_property
    def smallest_margin(self) -> float:
        """The smallest margin of a weight that could freeze, infinite if none could."""
        parts = [one.margin[~np.isnan(one.margin)] for one in self.margins]
        return min((float(part.min()) for part in parts if part.size), default=math.inf)

    def summary(self) -> dict[str, Any]:
        """Return the facts about the model as a flat dictionary of plain Python values."""
        counts = self.laws.counts
        return {
            "source": self.source,
            "framework": self.laws.framework,
            "verdict": self.verdict,
            "parameters": len(self.laws.parameters),
            "scalars": sum(value.size for value in self.laws.parameters.values()),
            "laws": len(self.laws),
            **{
                kind: counts.get(kind, 0)
                for kind in ("balance", "scale", "matrix", "constant", "shift")
            },
            "frozen_weights": self.frozen_weights,
            "frozen_combinations": self.frozen_combinations,
            "boundary": sum(one.status == "boundary" for one in self.bounds),
            "components": self.components,
            "dead": self.dead,
            "equal": sum(len(group) for one in self.degenerate for group in one.equal),
            "learns": self.learns,
            "undecided": sum(self.undecided.values()),
            "unreached": len(self.unreached),
            "smallest_margin": self.smallest_margin,
            "loss": self.laws.loss,
            "data_rank": max((one.rank for one in self.spans), default=None),
            "rtol": self.rtol,
        }

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

    def _table(self, status: str) -> pd.DataFrame:
        import pandas as pd

        columns = ("what", "combination", "tensor", "position", "value", "least", "laws", "cause")
        chosen = [one for one in self.bounds if one.status == status]
        rows = [[getattr(one, name) for name in columns] for one in chosen]
        return pd.DataFrame(rows, columns=list(columns))


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
