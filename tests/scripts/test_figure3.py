"""The toy experiment of figure 3: the bound, the predictions, the training and what is written."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from obstruction import topology, training

SCRIPTS = Path(__file__).parents[2] / "scripts"


def script(name):
    if not SCRIPTS.exists():
        pytest.skip("the package is installed away from its scripts")
    sys.path.insert(0, str(SCRIPTS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def toy():
    return script("toy")


@pytest.fixture(scope="module")
def figure3():
    return script("figure3")


@pytest.fixture(scope="module")
def small(toy):
    X, y = toy.data(500)
    return X, y, {sign: toy.least_loss(X, y, sign) for sign in (1, -1)}


# --- the bound ---------------------------------------------------------------------------------


def least_by_search(X, y, neurons, starts=8):
    """The least loss of so many neurons with positive output weights, by descent from anywhere."""
    rng = np.random.default_rng(1)

    def loss(flat):
        pre = X @ flat.reshape(-1, 2).T
        error = np.maximum(pre, 0.0).sum(axis=1) - y
        slope = 2.0 * ((error[:, None] * (pre > 0.0)).T @ X) / len(y)
        return np.mean(error**2), slope.ravel()

    found = [
        optimize.minimize(loss, rng.normal(size=2 * neurons), jac=True, method="L-BFGS-B").fun
        for _ in range(starts)
    ]
    return min(found)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("neurons", [2, 4])
def test_no_search_gets_below_the_bound_and_it_is_met(toy, small, sign, neurons):
    X, y, bounds = small
    bound, found = bounds[sign], least_by_search(X, sign * y, neurons)
    assert 0.0 <= bound.high - bound.low <= 1e-9
    assert found >= bound.low
    assert found == pytest.approx(bound.high, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_of_other_targets(toy, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(100, 2)) * [1.0, 0.5]
    y = np.maximum(X @ rng.normal(size=(2, 6)), 0.0) @ rng.normal(size=6) + rng.normal(size=100)
    bound = toy.least_loss(X, y, 1)
    assert bound.high - bound.low <= 1e-9
    assert bound.low - 1e-12 <= least_by_search(X, y, 6) <= bound.high * 1.02
    fit = np.maximum(X @ bound.neurons.T, 0.0).sum(axis=1)
    assert np.mean((fit - y) ** 2) == pytest.approx(bound.high, rel=1e-12)


def test_a_target_without_negative_output_weights_has_no_bound(toy, small):
    X = small[0]
    reachable = np.maximum(X, 0.0).sum(axis=1)
    assert toy.least_loss(X, reachable, 1).high <= 1e-9
    assert toy.least_loss(X, reachable, 1).low <= 1e-9
    assert toy.least_loss(X, reachable, -1).low == pytest.approx(np.mean(reachable**2))


def test_the_bound_is_above_the_negative_part_and_near_the_exact_one(toy):
    X, y = toy.data()

    def together(angle):
        """E[relu(a x) relu(b x)] for unit vectors at an angle and standard normal x."""
        return (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / (2 * math.pi)

    angles = np.linspace(0.0, math.pi / 2, 2001)
    most = max(together(angle) - together(math.pi / 2 + angle) for angle in angles)
    exact = 1.0 - 1.0 / math.pi - 2.0 * most**2
    assert exact == pytest.approx(0.37773, abs=1e-5)  # the number in docs/toy.md
    for sign in (1, -1):
        bound = toy.least_loss(X, y, sign)
        assert bound.low > np.mean(np.minimum(sign * y, 0.0) ** 2)
        assert bound.low == pytest.approx(exact, rel=0.05)  # a standard error is 2.7 %
        turns = np.arctan2(bound.neurons[:, 1], bound.neurons[:, 0])
        assert np.ptp(turns) < 0.01  # a single neuron is best, however many are allowed


@pytest.mark.parametrize("seed", range(5))
def test_the_best_direction_is_the_best_of_many(toy, seed):
    rng = np.random.default_rng(seed)
    X, r = rng.normal(size=(40, 2)), rng.normal(size=40)
    turn = np.linspace(0.0, 2 * np.pi, 20_001)
    values = r @ np.maximum(X @ np.array([np.cos(turn), np.sin(turn)]), 0.0) / 40
    angle, most = toy.best_direction(X, r)
    assert values.max() <= most + 1e-12
    assert most == pytest.approx(values.max(), abs=1e-5)
    there = np.mean(r * np.maximum(X @ [np.cos(angle), np.sin(angle)], 0.0))
    assert there == pytest.approx(most)


# --- predictions -------------------------------------------------------------------------------

FROZEN, LOOSE = [0.1, 0.2], [3.0, 4.0]


@pytest.mark.parametrize(
    ("hidden", "output", "stuck"),
    [
        ([FROZEN, FROZEN], [1.0, 1.0], True),
        ([FROZEN, FROZEN], [-1.0, -1.0], True),
        ([FROZEN, FROZEN], [1.0, -1.0], False),
        ([FROZEN, LOOSE], [1.0, 1.0], False),
        ([LOOSE, FROZEN], [-1.0, -1.0], False),
        ([LOOSE, LOOSE], [1.0, 1.0], False),
        ([FROZEN, [0.6, 0.8]], [1.0, 1.0], False),  # balance exactly 0: not frozen
    ],
)
def test_predictions_by_hand(toy, hidden, output, stuck):
    assert toy.out_of_reach(np.array(hidden), np.array(output)) is stuck


def test_conditions_keep_the_function_and_set_the_balances(toy):
    X, _ = toy.data(50)
    W1, W2 = toy.draw(range(20))
    assert (W2 < 0.0).any()
    before = training.outputs(W1, np.abs(W2), X)
    for condition in ("both frozen positive", "one free"):
        new1, new2 = toy.start(W1, W2, condition)
        np.testing.assert_allclose(training.outputs(new1, new2, X), before, rtol=1e-10, atol=1e-12)
        assert (new2 > 0.0).all()
        for one, two in zip(new1, new2, strict=True):
            c = topology.balances(one, two[None, :])
            np.testing.assert_allclose(c, toy.CONDITIONS[condition][1], rtol=1e-9)
    new1, new2 = toy.start(W1, W2, "frozen, signs as drawn")
    np.testing.assert_array_equal(np.sign(new2), np.sign(W2))
    same1, same2 = toy.start(W1, W2, "all as drawn")
    assert same1 is W1
    assert same2 is W2


# --- training ----------------------------------------------------------------------------------


@pytest.fixture
def tiny(figure3, monkeypatch):
    """Make the quick version so small that it takes a second."""
    monkeypatch.setattr(figure3, "QUICK_POINTS", 200)
    monkeypatch.setattr(figure3, "QUICK_SEEDS", 4)
    monkeypatch.setattr(figure3, "QUICK_ESCAPE_SEEDS", 1)
    monkeypatch.setattr(figure3, "QUICK_EVERY", 8)
    monkeypatch.setattr(figure3.toy, "QUICK", figure3.toy.Plan(0.01, 300, 0.02, 300))
    monkeypatch.setattr(figure3, "STAGE", figure3.Stage(16.0, 40.0, 1.8, mesh=(13, 7)))


@pytest.fixture(scope="module")
def trained(toy, small):
    X, y, bounds = small
    bound = min(one.low for one in bounds.values())
    return toy.experiment(range(10), X, y, toy.QUICK, bound), bound


def test_those_predicted_to_be_stuck_are(toy, small, trained):
    table, _ = trained
    assert set(table["predicted"]) == {"stuck", "not stuck"}
    stuck = table[table["predicted"] == "stuck"]
    assert set(stuck["outcome"]) == {"at or above it"}
    counts = toy.confusion(table)
    assert counts.to_numpy().sum() == 40
    assert counts.loc["not stuck", "learned"] > 0
    positive = table[table["condition"] == "both frozen positive"]
    assert (positive["predicted"] == "stuck").all()
    best = small[2][1]
    assert (positive["final_loss"] >= best.low).all()
    assert positive["final_loss"].median() == pytest.approx(best.high, abs=1e-3)
    assert table.loc[table["condition"] == "one free", "predicted"].eq("not stuck").all()


def test_balances_hardly_drift_and_frozen_signs_stay(trained):
    table, _ = trained
    assert table["drift"].min() > 0.0
    assert table["drift"].max() < 0.01
    for k in (1, 2):
        frozen = table[f"c{k}"] < 0.0
        assert (table.loc[frozen, f"v{k}"] * table.loc[frozen, f"final_v{k}"] > 0.0).all()
    free = table[table["condition"] == "one free"]
    assert (free["v2"] > 0.0).all()
    assert (free["final_v2"] < 0.0).any()


def test_what_has_not_learned_has_a_cause(toy, trained):
    table, _ = trained
    learned = table["outcome"] == "learned"
    assert table.loc[learned, "cause"].eq("").all()
    assert table.loc[~learned, "cause"].isin(toy.CAUSES).all()
    below = table["outcome"] == "below the bound"  # so it has weights of both signs
    assert (table.loc[below, "final_v1"] * table.loc[below, "final_v2"] < 0.0).all()


def test_threads_change_nothing(toy, small):
    X, y, _ = small
    plan = toy.Plan(0.01, 50, 0.02, 50)
    one, two = (toy.experiment(range(5), X, y, plan, 0.3, threads) for threads in (1, 2))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_confusion_and_outcomes_by_hand(toy):
    losses = {1e-9: "learned", 0.0039: "learned", 0.0041: "below the bound"}
    losses |= {0.39: "below the bound", 0.4: "at or above it", 3.0: "at or above it"}
    assert [toy.outcome(loss, 0.4) for loss in losses] == list(losses.values())
    assert toy.outcome(math.nan, 0.4) == "at or above it"  # a diverged one has not learned
    rows = [("stuck", "at or above it")] * 3 + [("not stuck", "learned")] * 2
    rows += [("not stuck", "at or above it")]
    counts = toy.confusion(pd.DataFrame(rows, columns=["predicted", "outcome"]))
    assert counts.to_numpy().tolist() == [[0, 0, 3], [2, 0, 1]]
    assert list(counts.index) == ["stuck", "not stuck"]


def test_causes_by_hand(toy):
    X, y = toy.data(2000)
    best = toy.least_loss(X, y, 1).neurons.sum(axis=0)
    same, none = np.array([best / 2, best / 2]), np.array([best, [0.0, 1e-5]])
    ones = np.array([1.0, 1.0])
    assert toy.cause(same, ones, X, y, 1e-6, 0.3) == "slow"
    assert toy.cause(same, ones, X, y, 0.4, 0.3) == "local minimum, one sign"
    assert toy.cause(none, ones, X, y, 0.4, 0.3) == "vanished neuron"
    assert toy.cause(2 * same, ones, X, y, 0.4, 0.3) == "still moving"


def test_the_size_of_the_gradient(toy, small):
    X, y, _ = small
    rng = np.random.default_rng(3)
    W1, W2 = rng.normal(size=(2, 2)), rng.normal(size=2)

    def loss(flat):
        return np.mean((np.maximum(X @ flat[:4].reshape(2, 2).T, 0.0) @ flat[4:] - y) ** 2)

    slope = optimize.approx_fprime(np.append(W1.ravel(), W2), loss, 1e-7)
    assert toy.gradient_size(W1, W2, X, y) == pytest.approx(np.linalg.norm(slope), rel=1e-4)


def test_small_steps_stay_and_large_ones_break_out(toy, small, monkeypatch):
    X, y, bounds = small
    kept = {"gradient descent": (0.02, 0.7, 5.0), "momentum 0.9": (0.1,)}
    chosen = {name: (*toy.OPTIMIZERS[name][:2], rates) for name, rates in kept.items()}
    monkeypatch.setattr(toy, "OPTIMIZERS", chosen)
    found = toy.escapes(range(40), X, y, bounds[1].low, (1.0,))
    rows = found.set_index(["optimizer", "learning_rate"])
    assert (found["below"] <= found["crossed"]).all()  # below the bound only with a negative weight
    assert (found["learned"] <= found["below"]).all()
    quiet = rows.loc[("gradient descent", 0.02)]
    assert quiet["crossed"] == quiet["diverged"] == 0
    assert quiet["steps"] == 1000
    assert 0.0 < quiet["drift_50"] < 0.05
    assert rows.loc[("gradient descent", 0.7), "crossed"] > 0
    assert rows.loc[("gradient descent", 5.0), "diverged"] == 40
    assert np.isnan(rows.loc[("gradient descent", 5.0), "drift_50"])
    assert rows.loc[("momentum 0.9", 0.1), "crossed"] > 10


# --- what is drawn and written -----------------------------------------------------------------


@pytest.mark.parametrize("c", [1.0, -1.0])
def test_hyperboloids(c):
    stage = script("hyperboloids").Stage(elev=20.0, azim=35.0, highest=2.0, mesh=(41, 11))
    sheets = stage.sheets(c)
    assert sorted(sheets) == ([0] if c > 0.0 else [-1, 1])
    for sign, sheet in sheets.items():
        np.testing.assert_allclose((sheet**2) @ [1.0, 1.0, -1.0], c, atol=1e-12)
        assert np.abs(sheet[..., 2]).max() == pytest.approx(2.0)
        assert sign == 0 or (np.sign(sheet[..., 2]) == sign).all()
    if c > 0.0:
        front = stage.eye * [1.0, 1.0, 0.0] / np.linalg.norm(stage.eye[:2])
        assert stage.hidden(np.array([front, -front])).tolist() == [False, True]


@pytest.mark.slow
def test_the_quick_version_writes_what_it_says(figure3, tiny, tmp_path, capsys):
    assert figure3.main(["--quick", "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(figure3.FILES)
    table = pd.read_csv(tmp_path / "figure3.csv", keep_default_na=False)
    assert len(table) == 16
    text = (tmp_path / "figure3.md").read_text(encoding="utf-8")
    assert "A quick version" in text
    assert "| stuck | 0 | 0 |" in text
    assert "not stuck" in capsys.readouterr().out


def test_a_wrong_prediction_is_reported(figure3, tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(figure3.heatmaps, "save", lambda *_: None)
    monkeypatch.setattr(figure3.toy, "out_of_reach", lambda W1, W2: True)
    assert figure3.main(["--quick", "--out", str(tmp_path)]) == 1
