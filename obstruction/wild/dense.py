"""Dense networks of scikit-learn, Keras, Flax and Haiku, under their default initialisations."""

from __future__ import annotations

import os
from typing import Any, Final

import numpy as np

from obstruction.wild.architecture import Zoo
from obstruction.wild.examples import head, rows
from obstruction.wild.libraries import library

ZOO: Final = Zoo("dense")


def keras() -> Any:
    """Return Keras, which runs on PyTorch unless the user has chosen another backend."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return library("keras")


def _regressor(inputs: int) -> Any:
    """Return the network of scikit-learn's MLPRegressor before its first step.

    Its weights come with the first call of ``partial_fit``, which is given a rate of learning that
    leaves them as they are. A module of PyTorch computes with them.
    """
    torch, neural = library("torch"), library("sklearn.neural_network")
    fitted = neural.MLPRegressor(solver="sgd", learning_rate_init=1e-300)
    fitted.partial_fit(np.zeros((2, inputs)), np.zeros(2))
    nn = torch.nn
    hidden, output = fitted.coefs_[0].shape[1], fitted.coefs_[1].shape[1]
    model = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, output)).double()
    with torch.no_grad():
        for layer, weight, bias in zip(model[::2], fitted.coefs_, fitted.intercepts_, strict=True):
            layer.weight.copy_(torch.from_numpy(weight.T))
            layer.bias.copy_(torch.from_numpy(bias))
    return model


for _d in (1, 2, 3, 5, 8, 10):
    ZOO.add(
        f"scikit-learn/mlp_regressor-d={_d}",
        rows(_d),
        f"one layer of 100 as shipped, {_d} features; PyTorch computes with its weights",
        exact=head("sklearn_mlp", _d, 100),
    )(lambda d=_d: _regressor(d))


def _four() -> Any:
    return np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)


@ZOO.add(
    "keras/dense",
    _four,
    "Dense(32), Dense(1), 4 inputs",
    exact=head("keras_dense", 4, 32),
)
def _keras() -> Any:
    layers = keras().layers
    return keras().Sequential(
        [layers.Input((4,)), layers.Dense(32, activation="relu"), layers.Dense(1)]
    )


@ZOO.add(
    "flax/dense",
    _four,
    "Dense(32), Dense(1), 4 inputs",
    exact=head("flax_dense", 4, 32),
)
def _flax(seed: int) -> Any:
    jax, linen = library("jax"), library("flax.linen")
    model = linen.Sequential([linen.Dense(32), linen.relu, linen.Dense(1)])
    return model, model.init(jax.random.key(seed), _four())


@ZOO.add(
    "dm-haiku/mlp",
    _four,
    "layers of 32 and 1, 4 inputs",
    exact=head("haiku_linear", 4, 32),
)
def _haiku(seed: int) -> Any:
    jax, haiku = library("jax"), library("haiku")
    model = haiku.without_apply_rng(haiku.transform(lambda x: haiku.nets.MLP([32, 1])(x)))
    return model.apply, model.init(jax.random.key(seed), _four())
