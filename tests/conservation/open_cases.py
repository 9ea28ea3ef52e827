"""Cases in which the search for laws does not yet find exactly the laws derived by hand.

docs/limitations.md describes them. Their tests are expected to fail, and fail the run if they pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pytest


def open_ones(cases: Iterable, names: Collection[str]) -> list:
    """Return cases of a parametrised test, those with given names marked as expected to fail."""
    mark = pytest.mark.xfail(strict=True, reason="docs/limitations.md: the search for laws")
    return [
        pytest.param(*one.values, id=one.id, marks=[*one.marks, mark]) if one.id in names else one
        for one in cases
    ]


LAWS = {
    "sorted neurons",
    "dense block",
    "instance norm",
}
"""A law is missing, or its blocks are not the finest."""

NUMBERS = {
    "sorted neurons",
    "instance norm",
    "dense block",
}
"""The numbers found do not span those derived by hand."""

CLAIMS = {
    "one learned offset for all",
    "Leaky ReLU of z - 1, 2 dense, batch behind",
    "ReLU from 0.001, 6 convolution, batch behind",
    "ReLU plus 0.1, 6 convolution, batch behind",
    "ReLU up to 1000, 6 convolution, batch behind",
    "ReLU6, 6 dense, batch",
    "clamp to 1, 6 convolution, layer",
    "clamp to 1000, 2 dense, batch behind",
    "clamp to 1000, 6 convolution, batch behind",
    "detached beside, 6 convolution, batch behind",
    "detached factor, 2 convolution, layer behind",
    "detached factor, 2 dense, batch behind",
    "detached factor, 6 convolution, batch behind",
    "gate of itself, 6 convolution, batch behind",
    "gradient that is clipped, 6 convolution, batch behind",
    "gradient that is clipped, 6 convolution, layer",
    "gradient that is clipped, 6 dense, none",
    "gradient that is smooth, 6 convolution, batch behind",
    "gradient that leaks, 6 convolution, batch behind",
    "gradient twice too large, 6 convolution, batch behind",
    "hard shrinkage, 2 dense, batch behind",
    "hard shrinkage, 6 convolution, batch behind",
    "hard-swish, 6 convolution, batch behind",
    "hard-tanh, 6 convolution, layer",
    "log(1 + ReLU), 6 convolution, batch behind",
    "no_grad beside, 6 convolution, batch behind",
    "sigmoid, 6 convolution, batch behind",
    "steep softplus, 6 convolution, batch behind",
    "straight-through ReLU, 2 dense, batch behind",
    "straight-through ReLU, 6 convolution, batch behind",
    "straight-through rounding, 2 dense, batch behind",
    "straight-through rounding, 6 convolution, batch behind",
    "straight-through rounding, 6 convolution, layer",
    "straight-through rounding, 6 dense, batch",
    "straight-through sign, 2 dense, batch behind",
    "straight-through sign, 6 convolution, batch behind",
    "straight-through sign, 6 dense, batch",
    "threshold 0.1, 6 convolution, batch behind",
    "threshold 0.1, 6 dense, batch",
    "threshold to 0.5, 2 dense, layer",
    "threshold to 0.5, 6 convolution, batch behind",
}
"""Laws that stand behind an activation which only looks homogeneous, most of them missing.

Some of the deepest designs lose true laws to rounding. False are norms of blocks before a jump that
no input falls into, balances behind a clipped gradient, and one saturated bias called constant.
"""
