"""The monitor: drift against the law of conservation, sign changes against a built example."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from obstruction.models import NothingAuditable
from obstruction.training.monitor import Monitor

OPTIONS = {"activation": "relu", "layout": "out_in"}


def data(samples=64, inputs=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, inputs))
    return x, np.sin(x[:, 0]) - np.maximum(x[:, 1], 0.0)


def start(inputs=3, hidden=10, seed=1):
    rng = np.random.default_rng(seed)
    shapes = (hidden, inputs), (hidden,), (1, hidden), (1,)
    return [rng.standard_normal(shape) / 2.0 for shape in shapes]


def gradients(weights, x, y):
    """Return the gradient of half the mean squared error, by hand."""
    w1, b1, w2, b2 = weights
    z = x @ w1.T + b1
    h = np.maximum(z, 0.0)
    error = ((h @ w2.T + b2)[:, 0] - y)[:, None] / len(x)
    back = error @ w2 * (z > 0)
    return [back.T @ x, back.sum(axis=0), error.T @ h, error.sum(axis=0)]


def train(rate, steps, *, momentum=0.0, decay=0.0, every=1):
    """Train by gradient descent in place, monitored."""
    (x, y), weights = data(), start()
    monitor = Monitor(weights, **OPTIONS, every=every)
    speed = [np.zeros_like(w) for w in weights]
    monitor.step(0)
    for i in range(1, steps + 1):
        for w, g, v in zip(weights, gradients(weights, x, y), speed, strict=True):
            v[...] = momentum * v + g + decay * w
            w -= rate * v
        monitor.step(i)
    return monitor, weights


# --- drift ----------------------------------------------------------------------------------


def test_gradient_flow_keeps_balances_and_drift_is_linear_in_the_rate():
    coarse, weights = train(4e-3, 250)
    fine, _ = train(1e-3, 1000)
    last = [m.drift["largest"].iloc[-1] for m in (coarse, fine)]
    assert np.abs(weights[0] - start()[0]).max() > 0.05  # it did move
    assert last[1] < 2e-3
    assert last[0] / last[1] == pytest.approx(4.0, rel=0.05)


def test_momentum_and_decay_drift_more():
    plain, momentum, decay = (
        train(1e-3, 300, **kw)[0].drift["largest"].iloc[-1]
        for kw in ({}, {"momentum": 0.9}, {"decay": 0.1})
    )
    assert momentum > 10.0 * plain
    assert decay > 10.0 * plain


def test_history_is_what_the_weights_say():
    monitor, weights = train(0.05, 3)
    table = monitor.history
    assert list(table) == ["step", "layer", "neuron", "balance", "in_norm", "out_norm", "sign"]
    assert table["step"].tolist() == [step for step in range(4) for _ in range(10)]
    assert table["neuron"].tolist() == list(range(10)) * 4
    assert set(table["layer"]) == {"W1"}
    last = table[table["step"] == 3]
    w1, b1, w2, _ = weights
    into = np.sqrt((w1**2).sum(axis=1) + b1**2)
    np.testing.assert_allclose(last["in_norm"], into, rtol=1e-14)
    np.testing.assert_allclose(last["out_norm"], np.abs(w2[0]), rtol=1e-14)
    np.testing.assert_allclose(last["balance"], into**2 - w2[0] ** 2, rtol=1e-12)
    assert last["sign"].tolist() == np.sign(w2[0]).tolist()


def test_drift_is_relative_to_the_norms_at_the_start():
    weights = [np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[5.0, 1.0], [0.0, 1.0]])]
    monitor = Monitor(weights, **OPTIONS)
    monitor.step(10)
    weights[0][0] *= 2.0  # the balance of the first neuron moves by 75, of 25 + 25
    monitor.step(11)
    drift = monitor.drift
    assert list(drift) == ["step", "layer", "largest", "mean"]
    assert drift["step"].tolist() == [10, 11]
    np.testing.assert_allclose(drift["largest"], [0.0, 1.5], rtol=1e-14)
    np.testing.assert_allclose(drift["mean"], [0.0, 0.75], rtol=1e-14)
    assert monitor.history["sign"].isna().all()  # two outgoing weights each
    assert monitor.sign_changes.empty


def test_every_audited_layer_has_its_rows():
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape) for shape in ((4, 2), (3, 4), (1, 3))]
    monitor = Monitor(weights, **OPTIONS)
    monitor.step(0)
    weights[1] *= 1.1
    monitor.step(1)
    assert monitor.drift["layer"].tolist() == ["W1", "W2"] * 2
    table = monitor.history
    assert table["sign"].isna().tolist() == ([True] * 4 + [False] * 3) * 2
    assert table["neuron"].tolist() == [0, 1, 2, 3, 0, 1, 2] * 2


# --- steps ----------------------------------------------------------------------------------


def test_the_start_is_kept_if_the_first_step_comes_after_an_update():
    weights = [np.ones((2, 2)), np.ones((1, 2))]
    monitor = Monitor(weights, **OPTIONS)
    weights[1] *= -1.0
    monitor.step(5)
    assert monitor.history["step"].tolist() == [4, 4, 5, 5]
    assert monitor.sign_changes["step_before"].tolist() == [4, 4]


def test_every():
    weights = [np.ones((2, 2)), np.ones((1, 2))]
    monitor = Monitor(weights, **OPTIONS, every=10)
    for step in range(3, 40):
        monitor.step(step)
    assert monitor.history["step"].unique().tolist() == [3, 13, 23, 33]


@pytest.mark.parametrize("every", [0, -1, 1.5, "2", None])
def test_every_must_be_a_count(every):
    with pytest.raises(ValueError, match=r"every = .*: must be a whole number of at least 1"):
        Monitor([np.ones((2, 2)), np.ones((1, 2))], **OPTIONS, every=every)


def test_steps_must_increase():
    monitor = Monitor([np.ones((2, 2)), np.ones((1, 2))], **OPTIONS, every=100)
    monitor.step(7)
    monitor.step(8)
    for step in (8, 3):
        with pytest.raises(ValueError, match=rf"step = {step}: must be larger than .*, 8"):
            monitor.step(step)
    with pytest.raises(ValueError, match=r"step = 9\.5: must be a whole number of at least 0"):
        monitor.step(9.5)
    monitor.step(9)


def test_tables_before_the_first_step_are_empty():
    monitor = Monitor([np.ones((2, 2)), np.ones((1, 2))], **OPTIONS)
    assert monitor.history.empty
    assert monitor.drift.empty
    assert monitor.sign_changes.empty
    assert monitor.plot().texts[0].get_text() == "no drift yet"


def test_a_model_that_is_replaced_is_passed():
    weights = {"a.weight": np.ones((2, 2)), "b.weight": np.ones((1, 2))}
    monitor = Monitor(weights, **OPTIONS)
    monitor.step(0)
    monitor.step(1, {name: -w for name, w in weights.items()})
    assert monitor.sign_changes["sign_after"].tolist() == [-1, -1]
    with pytest.raises(ValueError, match=r"'a\.weight' has shape \(3, 2\), not \(2, 2\)"):
        monitor.step(2, {"a.weight": np.ones((3, 2)), "b.weight": np.ones((1, 3))})
    with pytest.raises(ValueError, match=r"there is no tensor 'b\.weight'"):
        monitor.step(3, {"a.weight": np.ones((2, 2)), "c.weight": np.ones((1, 2))})


def test_nothing_to_watch():
    with pytest.raises(NothingAuditable, match="nothing to watch: tanh"):
        Monitor([np.ones((2, 2)), np.ones((1, 2))], activation="tanh", layout="out_in")


def test_diverged_weights_are_recorded_as_nan():
    weights = [np.ones((3, 2)), np.ones((1, 3))]
    monitor = Monitor(weights, **OPTIONS)
    monitor.step(0)
    weights[0][1, 0], weights[1][0, 2] = np.inf, np.nan
    monitor.step(1)
    weights[1][0, 2] = -1.0
    monitor.step(2)
    table = monitor.history
    assert table[table["step"] == 1]["balance"].isna().tolist() == [False, True, True]
    assert table[table["step"] == 1]["in_norm"].isna().tolist() == [False, True, True]
    assert table[table["step"] == 1]["sign"].isna().tolist() == [False, False, True]
    assert monitor.drift["largest"].isna().tolist() == [False, True, True]
    changes = monitor.sign_changes  # the sign before the gap counts
    assert changes[["neuron", "step_before", "step_after"]].values.tolist() == [[2, 0, 2]]
    monitor.plot()


def test_large_weights_do_not_overflow():
    weights = [np.full((1, 2), 1e200), np.full((1, 1), 1e200)]
    monitor = Monitor(weights, **OPTIONS)
    monitor.step(0)
    weights[0] *= np.sqrt(1.5)
    monitor.step(1)
    assert monitor.drift["largest"].iloc[-1] == pytest.approx(1.0 / 3.0)


# --- signs ----------------------------------------------------------------------------------


def test_a_large_step_frees_a_pathological_neuron_and_a_small_one_does_not():
    """One neuron, one sample: f = a relu(w), a = 2, w = 0.5, target -3; c = 0.25 - 4 < 0."""

    def changes(rate, steps):
        weights = [np.array([[0.5]]), np.array([[2.0]])]
        monitor = Monitor(weights, **OPTIONS)
        for i in range(steps):
            w, a = weights[0][0, 0], weights[1][0, 0]
            error = a * max(w, 0.0) + 3.0
            weights[0][0, 0], weights[1][0, 0] = (
                w - rate * error * a * (w > 0),
                a - rate * error * w,
            )
            monitor.step(i)
        return monitor.sign_changes

    assert changes(1e-3, 3000).empty
    found = changes(1.5, 1)
    assert found[["neuron", "step_before", "step_after"]].values.tolist() == [[0, -1, 0]]
    assert found[["sign_before", "sign_after"]].values.tolist() == [[1, -1]]
    assert found["pathological_at_start"].tolist() == [True]
    assert found["pathological_before"].tolist() == [True]


def test_the_columns_tell_the_start_from_the_step_before():
    weights = [np.array([[1.0], [3.0]]), np.array([[2.0, 2.0]])]
    monitor = Monitor(weights, **OPTIONS)
    monitor.step(0)
    weights[1][0] = 0.5, 2.9  # the first is freed, the second still is free
    monitor.step(1)
    weights[1][0] = 0.0, 3.1
    monitor.step(2)
    weights[1][0] = -0.1, -3.1  # the second was pathological just before
    monitor.step(3)
    weights[1][0] = -0.2, 3.0
    monitor.step(4)
    table = monitor.sign_changes
    assert table["neuron"].tolist() == [0, 1, 1]
    assert table["step_before"].tolist() == [1, 2, 3]
    assert table["step_after"].tolist() == [3, 3, 4]
    assert table["pathological_at_start"].tolist() == [True, False, False]
    assert table["pathological_before"].tolist() == [False, True, True]


# --- plot and callbacks ---------------------------------------------------------------------


def test_the_plot_shows_drift_and_marks():
    monitor, _ = train(0.5, 60)
    assert len(monitor.sign_changes) > 0
    ax = monitor.plot()
    assert ax.get_yscale() == "log"
    (line,) = ax.get_lines()
    drift = monitor.drift
    kept = drift[drift["largest"] > 0.0]
    np.testing.assert_array_equal(line.get_xdata(), kept["step"])
    np.testing.assert_array_equal(line.get_ydata(), kept["largest"])
    marked = np.concatenate([c.get_offsets()[:, 0] for c in ax.collections])
    assert sorted(marked) == sorted(monitor.sign_changes["step_after"])
    assert monitor.plot(ax) is ax


def test_monitoring_does_not_load_matplotlib():
    import subprocess

    code = (
        "import sys, numpy as np, obstruction as ob\n"
        "m = ob.Monitor([np.ones((2, 2)), np.ones((1, 2))], activation='relu', layout='out_in')\n"
        "m.step(0); m.drift; m.history; m.sign_changes\n"
        "assert not {'matplotlib', 'torch', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("make", "names", "extra"),
    [
        ("keras_callback", ["keras"], "keras"),
        (
            "lightning_callback",
            ["lightning", "lightning.pytorch", "pytorch_lightning"],
            "lightning",
        ),
    ],
)
def test_a_missing_framework_is_named_with_its_extra(monkeypatch, make, names, extra):
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)
    monitor = Monitor([np.ones((2, 2)), np.ones((1, 2))], **OPTIONS)
    with pytest.raises(ImportError, match=rf"{extra} is not installed: .*'obstruction\[{extra}\]'"):
        getattr(monitor, make)()
