"""Models of Keras and JAX that a factory makes, against exact values."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
from conftest import framework

import obstruction as ob

os.environ.setdefault("KERAS_BACKEND", "jax")

jax = framework("jax")

X = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_keras_models_that_the_inputs_build():
    """Their variables have other names in each model."""
    keras = framework("keras")
    layers = keras.layers

    def later():
        return keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(1)])

    def at_once():
        return keras.Sequential(
            [keras.Input((4,)), layers.Dense(8, activation="relu"), layers.Dense(1)]
        )

    p = ob.exact.obstruction_probability("keras_dense", 4, 8)
    one, other = (
        ob.sample_model(factory, inputs=X, networks=80, exact=p) for factory in (later, at_once)
    )
    assert one.agreement().verdict == "agrees"
    assert one.table()["obstructed"][0] == other.table()["obstructed"][0] > 0
    assert not one.table()["same_start"][0]
    assert one.cells[0].framework == "Keras"


def test_factories_of_jax_are_given_the_seed():
    import jax.numpy as jnp

    def factory(seed):
        keys = jax.random.split(jax.random.key(seed))
        hidden, output = jax.random.normal(keys[0], (4, 8)), jax.random.normal(keys[1], (8, 1))
        params = {"hidden": hidden / 2.0, "output": output / np.sqrt(8.0)}
        return lambda p, data: jax.nn.relu(data @ p["hidden"]) @ p["output"], params

    p = ob.exact.obstruction_probability("lecun_normal", 4, 8)
    study = ob.sample_model(factory, inputs=jnp.asarray(X), networks=300, seed=2, exact=p)
    assert study.agreement().verdict == "agrees"
    assert not study.table()["same_start"][0]
    wrong = ob.exact.obstruction_probability("lecun_normal", 5, 8)
    assert abs(study.table()["empirical"][0] - wrong) > 0.03
    random.seed(1)
    again = ob.sample_model(factory, inputs=jnp.asarray(X), networks=300, seed=2)
    assert again.table()["obstructed"][0] == study.table()["obstructed"][0]
