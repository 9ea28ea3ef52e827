"""Networks for equations, operators and signals, with one output."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from obstruction.wild.architecture import Zoo
from obstruction.wild.examples import head, noise
from obstruction.wild.libraries import library

ZOO: Final = Zoo("science")


def _points(count: int = 8) -> Callable[[], Any]:
    return lambda: noise(count, 2).abs()


def _deepxde() -> Any:
    os.environ.setdefault("DDE_BACKEND", "pytorch")
    return library("deepxde.nn.pytorch")


ZOO.add(
    "deepxde/fnn",
    _points(),
    "2 layers of 32, ReLU, Glorot normal",
    exact=head("xavier_normal", 32, 32),
)(lambda: _deepxde().FNN([2, 32, 32, 1], "relu", "Glorot normal"))
ZOO.add(
    "deepxde/pfnn",
    _points(),
    "4 outputs with 2 layers of 20 each, ReLU, Glorot normal",
    exact=head("xavier_normal", 20, 20, copies=4),
)(lambda: _deepxde().PFNN([2, [20] * 4, [20] * 4, 4], "relu", "Glorot normal"))
ZOO.add(
    "deepxde/deeponet",
    lambda: ((noise(4, 20), noise(6, 2, seed=1)),),
    "branch and trunk of 2 layers of 40, ReLU, Glorot normal",
)(lambda: _deepxde().DeepONetCartesianProd([20, 40, 40], [2, 40, 40], "relu", "Glorot normal"))


@ZOO.add("neuraloperator/fno", lambda: noise(2, 2, 8, 8), "16 wide, 4 modes, 2 layers")
def _fno() -> Any:
    made = library("neuralop.models").FNO
    return made(n_modes=(4, 4), in_channels=2, out_channels=1, hidden_channels=16, n_layers=2)
