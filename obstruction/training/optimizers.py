"""The optimizers: the settings of gradient descent, Adam and AdamW as in ``torch.optim``."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class GradientDescent:
    """Gradient descent as in `torch.optim.SGD`, here always with the gradient of all data.

    A step updates the buffer ``b = momentum b + g + weight_decay w``, which is 0 at the start, and
    then the weights ``w = w - learning_rate b``. Here ``g`` is the gradient.

    Parameters
    ----------
    learning_rate : float
        Above 0.
    momentum : float
        At least 0 and below 1.
    weight_decay : float
        At least 0. It adds ``weight_decay / 2`` times the sum of squared weights to the loss.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check("learning_rate", self.learning_rate, "above 0", above=0.0)
        _check("momentum", self.momentum, "at least 0 and below 1", below=1.0)
        _check("weight_decay", self.weight_decay, "at least 0")


@dataclass(frozen=True)
class Adam:
    """Adam or AdamW, as in `torch.optim.Adam` and `torch.optim.AdamW`.

    Parameters
    ----------
    learning_rate : float
        Above 0.
    betas : (float, float)
        Each at least 0 and below 1.
    eps : float
        Above 0.
    weight_decay : float
        At least 0.
    decoupled : bool
        Whether the decay shrinks the weights directly, as in AdamW, or is part of the gradient.
        The default decay of AdamW is 0.01 in torch and 0 here.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    Kingma and Ba: Adam, ICLR 2015; Loshchilov and Hutter: Decoupled weight decay, ICLR 2019.
    """

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = False

    def __post_init__(self) -> None:
        _check("learning_rate", self.learning_rate, "above 0", above=0.0)
        if not isinstance(self.betas, (tuple, list)) or len(self.betas) != 2:
            raise ValueError(f"betas = {self.betas!r}: must be two numbers")
        for i, beta in enumerate(self.betas):
            _check(f"betas[{i}]", beta, "at least 0 and below 1", below=1.0)
        _check("eps", self.eps, "above 0", above=0.0)
        _check("weight_decay", self.weight_decay, "at least 0")
        if not isinstance(self.decoupled, bool):
            raise ValueError(f"decoupled = {self.decoupled!r}: must be True or False")


Optimizer: TypeAlias = GradientDescent | Adam


def _check(
    name: str, value: Any, allowed: str, *, above: float = -math.inf, below: float = math.inf
) -> None:
    """Raise ValueError unless the value is a finite number >= 0 with ``above < value < below``."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (real and math.isfinite(value) and value >= 0.0 and above < value < below):
        raise ValueError(f"{name} = {value!r}: must be a finite number, {allowed}")
