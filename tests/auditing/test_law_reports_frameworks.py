"""Audits, repairs and monitors of models of Keras and JAX, by hand-derived networks.

The tests of Keras run on the backend of this process, and in another process on the other one.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import framework

import obstruction as ob

os.environ.setdefault("KERAS_BACKEND", "jax")
ON = os.environ["KERAS_BACKEND"]
OTHER = {"jax": "torch", "torch": "jax"}[ON]
SECOND = "OBSTRUCTION_TESTS_ON_OTHER_BACKEND"

# Keras itself turns its variables into arrays in a way that NumPy is going to drop
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

X = np.random.default_rng(3).normal(size=(8, 2)).astype(np.float32)

IN = np.array([[0.3, 0.4], [3.0, 4.0], [0.0, 0.5]])
"""A row for each neuron. The norms are 0.5, 5 and 0.5."""

ONE = np.array([[2.0, 1.0, -0.25]])
"""Only the first is larger than its norm, so it is frozen, and stays at least sqrt(4 - 0.25)."""


def keras_model(inner, outer):
    framework(ON)
    keras = framework("keras")
    model = keras.Sequential(
        [
            keras.Input((inner.shape[1],)),
            keras.layers.Dense(len(inner), "relu", name="first"),
            keras.layers.Dense(len(outer), use_bias=False, name="last"),
        ],
        name="net",
    )
    model.layers[0].set_weights([inner.T, np.zeros(len(inner))])
    model.layers[1].set_weights([outer.T])
    return model


def jax_pair(inner, outer):
    jax, jnp = framework("jax"), framework("jax.numpy")
    params = {
        "first": {"kernel": jnp.asarray(inner.T), "bias": jnp.zeros(len(inner))},
        "last": {"kernel": jnp.asarray(outer.T)},
    }

    def apply(params, x):
        hidden = jax.nn.relu(x @ params["first"]["kernel"] + params["first"]["bias"])
        return hidden @ params["last"]["kernel"]

    return apply, params


def flax_pair(inner, outer):
    nn, jnp = framework("flax.linen"), framework("jax.numpy")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            hidden = nn.relu(nn.Dense(len(inner), name="first")(x))
            return nn.Dense(len(outer), use_bias=False, name="last")(hidden)

    first = {"kernel": jnp.asarray(inner.T), "bias": jnp.zeros(len(inner))}
    return Net(), {"params": {"first": first, "last": {"kernel": jnp.asarray(outer.T)}}}


def haiku_pair(inner, outer):
    hk, jax = framework("haiku"), framework("jax")

    def forward(x):
        hidden = jax.nn.relu(hk.Linear(len(inner), name="first")(x))
        return hk.Linear(len(outer), with_bias=False, name="last")(hidden)

    first = {"w": jax.numpy.asarray(inner.T), "b": jax.numpy.zeros(len(inner))}
    return hk.transform(forward), {"first": first, "last": {"w": jax.numpy.asarray(outer.T)}}


def haiku_pair_with_state(inner, outer):
    hk, jax = framework("haiku"), framework("jax")

    def forward(x):
        hk.set_state("calls", hk.get_state("calls", (), init=jax.numpy.zeros) + 1.0)
        hidden = jax.nn.relu(hk.Linear(len(inner), name="first")(x))
        return hk.Linear(len(outer), with_bias=False, name="last")(hidden)

    params = haiku_pair(inner, outer)[1]
    return hk.transform_with_state(forward), (params, {"~": {"calls": jax.numpy.zeros(())}})


def nnx_module(inner, outer):
    nnx, jnp = framework("flax.nnx"), framework("jax.numpy")

    class Net(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.first = nnx.Linear(inner.shape[1], len(inner), rngs=rngs)
            self.last = nnx.Linear(len(inner), len(outer), use_bias=False, rngs=rngs)

        def __call__(self, x):
            return self.last(nnx.relu(self.first(x)))

    net = Net()
    net.first.kernel[...] = jnp.asarray(inner.T, jnp.float32)
    net.last.kernel[...] = jnp.asarray(outer.T, jnp.float32)
    return net


KINDS = [keras_model, jax_pair, flax_pair, haiku_pair, haiku_pair_with_state, nnx_module]
every_kind = pytest.mark.parametrize("made", KINDS, ids=lambda kind: kind.__name__)


def changed(inner=IN, **rows):
    """Return weights with other rows: ``changed(row_2=[0, 0])``."""
    found = inner.copy()
    for name, values in rows.items():
        found[int(name[-1])] = values
    return found


@pytest.mark.skipif(SECOND in os.environ, reason="this is the other process")
def test_the_other_backend():
    framework("keras")
    framework(OTHER)
    here = [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        [*here, "-k", "keras"],
        env={**os.environ, "KERAS_BACKEND": OTHER, SECOND: "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "passed" in done.stdout


@every_kind
def test_a_negative_balance_freezes_its_output_weight(made):
    report = ob.audit(made(IN, ONE), inputs=X)
    assert (report.verdict, report.components, report.learns) == ("obstructed", 2, True)
    assert report.laws.counts == {"balance": 3}
    assert sorted(report.laws.table()["value"]) == pytest.approx([-3.75, 0.1875, 24.0], abs=1e-5)
    (row,) = report.frozen.itertuples()
    assert (abs(row.value), row.combination, row.cause) == (2.0, False, "balances")
    assert row.least == pytest.approx(math.sqrt(3.75), rel=1e-6)
    assert report.smallest_margin == pytest.approx(0.5 / 2.0 - 1.0, rel=1e-6)
    text = str(report)
    assert "1 weight can never change its sign, whatever the loss and the data" in text
    assert len(text.splitlines()) <= 15
    assert json.loads(report.to_json())["summary"]["frozen_weights"] == 1


@every_kind
def test_positive_balances_are_clear_and_one_of_zero_is_the_boundary(made):
    clear = ob.audit(made(IN, np.array([[0.4, 1.0, -0.25]])), inputs=X)
    assert (clear.verdict, clear.components, len(clear.frozen)) == ("clear", 1, 0)
    edge = ob.audit(made(IN, np.array([[0.4, 1.0, -0.5]])), inputs=X)
    assert (edge.verdict, edge.components) == ("boundary", 1)
    assert edge.boundary["value"].tolist() == [-0.5]
    assert str(edge).splitlines()[1].startswith("UNDECIDED: 1 weight has a balance of zero")


@every_kind
def test_two_logits_are_judged_by_their_difference_under_cross_entropy(made):
    model = made(IN, np.array([[2.0, 0.1, 0.1], [-1.0, 0.0, 0.3]]))
    report = ob.audit(model, inputs=X)
    assert (report.verdict, report.two_logits) == ("clear", True)
    assert 'loss="cross_entropy" judges it' in str(report).replace("\n", " ")
    report = ob.audit(model, inputs=X, loss="cross_entropy")
    assert (report.verdict, report.components, report.frozen_combinations) == ("obstructed", 2, 1)
    (row,) = report.frozen.itertuples()
    assert abs(row.value) == pytest.approx(3.0)
    assert row.least == pytest.approx(math.sqrt(9.0 - 2.0 * 0.25), rel=1e-6)
    assert report.laws.counts["shift"] == 3
    assert "under cross_entropy" in str(report)


@every_kind
def test_dead_and_equal_neurons_are_degenerate(made):
    free = np.array([[0.4, 1.0, -0.25]])
    whole = ob.audit(made(np.zeros((3, 2)), free), inputs=X)
    assert (whole.verdict, whole.learns, whole.dead) == ("degenerate", False, 3)
    assert "nothing can be learned" in str(whole)
    one = ob.audit(made(changed(row_2=[0.0, 0.0]), free), inputs=X)
    assert (one.learns, one.dead) == (True, 1)
    assert "1 channel is dead and stays so" in str(one)
    twins = ob.audit(made(changed(row_1=IN[0]), np.array([[0.4, 0.4, -0.25]])), inputs=X)
    assert (twins.verdict, twins.summary()["equal"]) == ("degenerate", 2)


def outputs(model, x=X):
    """Return the outputs of a model of Keras or JAX."""
    if isinstance(model, tuple):
        function, params = model
        if hasattr(function, "apply") and hasattr(function, "init") and callable(function):
            return np.asarray(function.apply(params, x))  # Flax
        if type(function).__name__ == "TransformedWithState":
            return np.asarray(function.apply(*params, None, x)[0])
        if hasattr(function, "apply"):
            return np.asarray(function.apply(params, None, x))  # Haiku
        return np.asarray(function(params, x))
    found = model(x)
    return np.asarray(found.detach().cpu() if hasattr(found, "detach") else found)


@every_kind
def test_a_repair_frees_the_weight_and_keeps_the_function(made):
    model = made(IN, ONE)
    before = outputs(model)
    report = ob.audit(model, inputs=X)
    fixed = ob.repair(model, report)
    if isinstance(model, tuple):
        fixed = (model[0], fixed)
    assert outputs(model) == pytest.approx(before, abs=0.0)
    assert outputs(fixed) == pytest.approx(before, rel=1e-5, abs=1e-6)
    after = ob.audit(fixed, inputs=X)
    assert (after.verdict, after.components) == ("clear", 1)
    # in · a, out / a with (in a)² = (1 + margin)² (out / a)²
    assert after.smallest_margin == pytest.approx(0.1, rel=1e-4)


@every_kind
def test_a_monitor_sees_balances_that_leave_and_signs_that_cross(made):
    model = made(IN, ONE)
    monitor = ob.Monitor(model, inputs=X)
    monitor.step(0)
    monitor.step(1, made(IN, np.array([[-2.0, 1.0, -0.25]])))
    monitor.step(2, made(IN, np.array([[-2.0, 3.0, -0.25]])))
    (crossed,) = monitor.sign_changes.itertuples()
    assert (crossed.step_before, crossed.step_after) == (0, 1)
    assert (crossed.sign_before, crossed.sign_after, crossed.frozen_at_start) == (1, -1, True)
    # only the second balance moves: 25 - 1 to 25 - 9, relative to 25 + 1
    assert monitor.drift["largest"].tolist() == pytest.approx([0.0, 0.0, 8.0 / 26.0], abs=1e-6)
