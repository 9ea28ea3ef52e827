"""Example inputs of the zoo, small and always the same, and exact values of heads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from obstruction.exact import obstruction_probability
from obstruction.wild.architecture import Exact
from obstruction.wild.libraries import library


def noise(*shape: int, seed: int = 0) -> Any:
    """Return a tensor of PyTorch of normal noise."""
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return library("torch").from_numpy(values)


def numbers(most: int, *shape: int, seed: int = 0) -> Any:
    """Return a tensor of whole numbers from 2 to ``most - 1``; 0 and 1 often pad."""
    values = np.random.default_rng(seed).integers(2, most, shape)
    return library("torch").from_numpy(values)


def rows(width: int, batch: int = 8) -> Callable[[], Any]:
    """Return a function that returns a batch of vectors."""
    return lambda: noise(batch, width)


def images(size: int, batch: int = 2, channels: int = 3) -> Callable[[], Any]:
    """Return a function that returns a batch of square images of noise."""
    return lambda: noise(batch, channels, size, size)


def head(scheme: str, d: int, l: int, *, copies: int = 1) -> Exact:
    """Return a function that returns the exact probability of dense heads with one output.

    Parameters
    ----------
    scheme : str
        The scheme of the last two layers.
    d, l : int
        The inputs and the neurons of the last hidden layer.
    copies : int
        The number of independent heads, each with a hidden layer of its own.
    """

    def value() -> float:
        one = float(obstruction_probability(scheme, d, l))
        return 1.0 if one == 1.0 else -math.expm1(copies * math.log1p(-one))

    return value


def behind_gains(law: str, std: float, count: int) -> Exact:
    """Return a function that returns the exact probability of a head behind gains 1 and shifts 0.

    A weight is frozen iff its absolute value exceeds 1.

    Parameters
    ----------
    law : {"normal", "uniform", "triangular"}
        The law of the weights. The difference of two uniform logits, over the square root of 2, is
        triangular.
    std : float
        The standard deviation of a weight.
    count : int
        The number of weights, which are independent.
    """

    def value() -> float:
        if law == "normal":
            one = math.erfc(1.0 / (std * 2.0**0.5))
        elif law == "uniform":
            one = max(0.0, 1.0 - 1.0 / (std * 3.0**0.5))
        else:
            one = max(0.0, 1.0 - 1.0 / (std * 6.0**0.5)) ** 2
        return -math.expm1(count * math.log1p(-one))

    return value


def behind_norm(width: int) -> Exact:
    """Return a function that returns the exact value of a default ``nn.Linear`` behind a norm.

    The weights lie within 1/sqrt(width), so none is frozen by a gain of 1.
    """
    return behind_gains("uniform", (3.0 * width) ** -0.5, width)
