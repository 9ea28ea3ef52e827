"""Weights and biases that a layer of PyTorch computes from other tensors, told by their names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

_PARAMETRISED: Final = re.compile(
    r"(?:.*[./])?parametrizations[./](?P<what>weight|bias)[./](?P<part>.+)"
)
_OLDER: Final = re.compile(r"(?:.*[./])?(?P<what>weight|bias)_(?P<part>orig|mask|u)")

_KNOWN: Final = {
    "_WeightNorm": "weight normalisation",
    "_SpectralNorm": "spectral normalisation",
    "_Orthogonal": "orthogonal parametrisation",
}
"""The parametrisations of ``torch.nn.utils.parametrizations``, by the names of their classes."""

_PARTS: Final = {
    "_u": _KNOWN["_SpectralNorm"],
    "_v": _KNOWN["_SpectralNorm"],
    "base": _KNOWN["_Orthogonal"],
}
"""The tensors that tell such a parametrisation."""


def kind_of(name: str) -> str:
    """Return what a class of a parametrisation is called.

    Examples
    --------
    >>> kind_of("_Orthogonal"), kind_of("Symmetric")
    ('orthogonal parametrisation', 'parametrisation Symmetric')
    """
    return _KNOWN.get(name, f"parametrisation {name}")


def why_computed(names: Iterable[str]) -> str | None:
    """Return why weights or biases of a layer are not stored, None if they are.

    Parameters
    ----------
    names : iterable of str
        The names of all tensors of the layer. Weights with weight normalisation alone are stored,
        as directions and magnitudes.

    Examples
    --------
    >>> why_computed(["0.weight_orig", "0.weight_mask", "0.bias"])
    'its weights are computed from others (pruning)'
    >>> why_computed(["0.weight", "0.bias"])
    """
    parts: defaultdict[str, set[str]] = defaultdict(set)
    older: defaultdict[str, set[str]] = defaultdict(set)
    for name in names:
        if match := _PARAMETRISED.fullmatch(name):
            parts[match["what"]].add(re.sub(r"[./]", ".", match["part"]))
        elif match := _OLDER.fullmatch(name):
            older[match["what"]].add(match["part"])
    for what, held in parts.items():
        if what != "weight" or not held <= {"original0", "original1"}:
            return f"its {_plural(what)} are computed from others ({_parametrisation(held)})"
    for what, held in older.items():
        if "orig" in held:
            ways = {"mask": "pruning", "u": _KNOWN["_SpectralNorm"]}
            kind = " and ".join(way for part, way in ways.items() if part in held)
            words = f"its {_plural(what)} are computed from others"
            return f"{words} ({kind})" if kind else words
    return None


def _parametrisation(held: set[str]) -> str:
    """Return what a parametrisation is called that has some tensors."""
    inner = [part.partition(".") for part in held if part[:1].isdigit()]
    kinds = {_PARTS.get(name, "") for _, _, name in inner}
    if "original0" in held or len({number for number, _, _ in inner}) > 1:
        return "several tensors or parametrisations"
    if len(kinds) == 1 and "" not in kinds:
        return f"{kinds.pop()}, as {min(held - {'original'})} shows"
    return "a parametrisation whose class is not stored"


def _plural(what: str) -> str:
    return {"weight": "weights", "bias": "biases"}[what]
