"""The facts that the audit of a live model finds; `law_report` adds the forms of output."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from obstruction.auditing.live.bounds import Bound
from obstruction.auditing.live.degenerate import Degenerate
from obstruction.auditing.live.margins import Margins
from obstruction.auditing.live.span import Span
from obstruction.conservation.laws import Laws

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class LawFindings:
    """The facts about a model; `law_report.LawReport` describes the attributes."""

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
    inputs: Any

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

    def _table(self, status: str) -> pd.DataFrame:
        import pandas as pd

        columns = ("what", "combination", "tensor", "position", "value", "least", "laws", "cause")
        chosen = [one for one in self.bounds if one.status == status]
        rows = [[getattr(one, name) for name in columns] for one in chosen]
        return pd.DataFrame(rows, columns=list(columns))
