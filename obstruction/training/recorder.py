"""What a monitor needs of a recorder, which knows what is to be recorded of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

R = TypeVar("R")


class Recorder(Protocol[R]):
    """Makes records of a model, and tables of records.

    Attributes
    ----------
    start : record
        The record of the model when the recorder was made.
    """

    start: R

    def read(self, model: Any = None) -> R:
        """Return the record of a model as it is now, by default of the one given first."""
        ...

    def same(self, one: R, other: R) -> bool:
        """Return whether two records are equal."""
        ...

    def history(self, steps: Sequence[int], records: Sequence[R]) -> pd.DataFrame:
        """Return a table of all that is in the records of some steps."""
        ...

    def drift(self, steps: Sequence[int], records: Sequence[R]) -> pd.DataFrame:
        """Return a table of how much the conserved numbers differ from those at the start."""
        ...

    def sign_changes(self, steps: Sequence[int], records: Sequence[R]) -> pd.DataFrame:
        """Return a table of all changes of sign."""
        ...

    def plot(self, steps: Sequence[int], records: Sequence[R], ax: Axes | None) -> Axes:
        """Draw the drift over the steps, and mark changes of sign."""
        ...
