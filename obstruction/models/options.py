"""The options with which a user completes what the source of a model says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from obstruction.models.activations import check_activation
from obstruction.models.contents import ORIENTATIONS, Orientation
from obstruction.tools.checks import check_choice


@dataclass(frozen=True)
class ReadOptions:
    """How to understand the tensors of a model, where its source does not say.

    Where the source does say, both must agree.

    Attributes
    ----------
    activation : str, optional
        The activation after every hidden layer, in any spelling; its canonical name is kept.
    layout : {"out_in", "in_out"}, optional
        How all weight matrices are stored.
    layers : sequence of str, optional
        The names of two or more fully connected layers in forward order. They may be a part of
        the network.

    Raises
    ------
    ValueError
        If the activation or the layout has no such name, or if `layers` does not hold two names
        or more.
    """

    activation: str | None = None
    layout: Orientation | None = None
    layers: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.activation is not None:
            object.__setattr__(self, "activation", check_activation(self.activation))
        if self.layout is not None:
            check_choice("layout", self.layout, ORIENTATIONS)
        if self.layers is not None:
            object.__setattr__(self, "layers", _checked_names(self.layers))


NO_OPTIONS: Final = ReadOptions()
"""The options of a user who gives none."""


def _checked_names(layers: Sequence[str]) -> tuple[str, ...]:
    named = not isinstance(layers, (str, bytes)) and isinstance(layers, Iterable)
    names = tuple(layers) if named else ()
    if not named or not all(isinstance(name, str) for name in names):
        raise ValueError(f"layers = {layers!r}: must be a sequence of names of layers")
    if len(names) < 2:
        raise ValueError(f"layers = {list(names)!r}: must name two layers or more")
    return names
