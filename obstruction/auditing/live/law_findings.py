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
from obstruction.auditing.live.signs import Signs, signs_of
from obstruction.conservation.data_span import Span
from obstruction.conservation.laws import Laws
from obstruction.tools.checks import check_count
from obstruction.tools.words import listed

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
    def signs(self) -> tuple[Signs, ...]:
        """The signs that weights which are alone on a side of their balance can take."""
        return tuple(signs_of(self.laws, self.bounds, self.degenerate))

    @property
    def output_signs(self) -> Signs | None:
        """The signs of the only parameter with weights that alone read their channels, or None."""
        found = [one for one in self.signs if one.side == "read"]
        return found[0] if len(found) == 1 else None

    def reaches(self, *, positive: int = 0, negative: int = 0, tensor: str | None = None) -> bool:
        """Return whether no balance keeps output weights from given numbers of signs.

        Parameters
        ----------
        positive, negative : int
            The least numbers of weights of each sign that a target needs, >= 0. Their sum must be
            at most the number of weights in question.
        tensor : str, optional
            The parameter in question, one of those in `signs`. By default the only one whose
            weights alone read their channels, such as the output weights of a scalar output.

        Raises
        ------
        ValueError
            If a number is out of its range, or if `tensor` is missing or has no such weights.

        Notes
        -----
        What is frozen keeps its sign, and so do weights at the boundary and of dead channels. False
        is certain. True says that no balance forbids it, and not that training gets there.
        """
        positive = check_count("positive", positive, least=0)
        negative = check_count("negative", negative, least=0)
        names = [one.tensor for one in self.signs]
        chosen = self.output_signs if tensor is None else None
        for one in self.signs:
            if one.tensor == tensor:
                chosen = one
        if chosen is None:
            allowed = f"must be one of {listed(names)}" if names else "there is no such parameter"
            raise ValueError(
                f"tensor = {tensor!r}: is a parameter with weights that are alone on a side of "
                f"their balance; {allowed}"
            )
        if positive + negative > chosen.weights:
            raise ValueError(
                f"positive + negative = {positive + negative}: must be at most {chosen.weights}, "
                f"the weights of {chosen.tensor} that are alone on a side of their balance"
            )
        return (
            positive <= chosen.max_positive
            and negative <= chosen.max_negative
            and positive + negative <= chosen.free + chosen.positive + chosen.negative
        )

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
        signs = self.output_signs
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
            "max_positive": None if signs is None else signs.max_positive,
            "max_negative": None if signs is None else signs.max_negative,
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
