"""A zoo of real architectures from public packages, built with random weights.

Nothing is downloaded. A package that is not installed raises ImportError when its entry is built.
"""

from __future__ import annotations

from . import (
    attention,
    control,
    generative,
    graphs,
    language,
    science,
    tabular,
    timm_models,
    vision,
)
from .entry import Entry

__all__ = ["ZOO", "Entry"]

ZOO: dict[str, Entry] = {}
for _part in (
    vision,
    timm_models,
    language,
    attention,
    control,
    graphs,
    tabular,
    science,
    generative,
):
    ZOO.update(_part.ZOO)
