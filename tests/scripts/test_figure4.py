"""Figure 4: the trend tests, the initial networks, and the script with its cache."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import framework
from scipy import stats

import obstruction as ob

SCRIPTS = Path(__file__).parents[2] / "scripts"
if not SCRIPTS.exists():
    pytest.skip("the package is installed away from its scripts", allow_module_level=True)
sys.path.append(str(SCRIPTS))

import breast_cancer  # noqa: E402
import breast_cancer_report  # noqa: E402
import figure4  # noqa: E402
import trends  # noqa: E402
from breast_cancer import SIGNS, Data, Settings, initial_networks  # noqa: E402

TINY = Settings(widths=(1, 2, 3), initialisations=4, steps=20, seed=3)


def made(mean, widths, rows=60, noise=0.1, seed=0):
    """Losses with the mean `mean(l, l+)`, a row effect, and noise."""
    rng = np.random.default_rng(seed)
    losses = {}
    for l in widths:
        cells = np.array([mean(l, plus) for plus in range(l + 1)])
        spread = 0.1 * rng.normal(size=(rows, 1)) + noise * rng.normal(size=(rows, l + 1))
        losses[l] = cells + spread
    return losses


def shuffled(losses, seed=1):
    """The same losses with the labels l+ of each row shuffled: the null hypothesis is true."""
    rng = np.random.default_rng(seed)
    return {l: rng.permuted(values, axis=1) for l, values in losses.items()}


# --- claim (a): falls with l+ at fixed l -----------------------------------------------------


@pytest.mark.parametrize("test", [trends.page_tests, trends.mean_tests])
def test_a_fall_is_seen_and_not_after_shuffling(test):
    losses = made(lambda l, plus: -0.05 * plus, range(2, 8))
    found = test(losses)
    assert list(found) == list(losses)
    for one in found.values():
        assert one.size < 0.0
        assert one.falls <= 1e-3
        assert one.rises == 1.0
    mirrored = test({l: -values for l, values in losses.items()})
    for l, one in found.items():
        assert mirrored[l].rises == pytest.approx(one.falls, abs=2e-3)
        assert mirrored[l].size == pytest.approx(-one.size)
    for one in test(shuffled(losses)).values():
        assert min(one.falls, one.rises) > 0.01


@pytest.mark.parametrize("test", [trends.page_tests, trends.mean_tests])
def test_false_alarms_of_a_family_are_as_rare_as_promised(test):
    """200 families without a trend at level 0.1; the bound is passed once in 10,000 times."""
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(200):
        losses = {l: rng.standard_t(3, size=(30, l + 1)) for l in (2, 3, 5)}
        found = test(losses) if test is trends.page_tests else test(losses, flips=2000)
        alarms += min(min(one.falls, one.rises) for one in found.values()) <= 0.1
    bound = stats.binom.isf(1e-4, 200, 0.1)
    assert alarms <= bound
    assert alarms >= 5  # nor is the test so timid that it never says anything


def test_page_is_scipys_and_its_size_the_mean_correlation():
    losses = made(lambda l, plus: -0.02 * plus, [4], rows=20)
    (found,) = trends.page_tests(losses).values()
    reference = stats.page_trend_test(losses[4][:, ::-1], method="asymptotic").pvalue
    assert found.falls == pytest.approx(min(1.0, 2 * reference), rel=1e-9)
    rho = [stats.spearmanr(np.arange(5), row).statistic for row in losses[4]]
    assert found.size == pytest.approx(np.mean(rho))


def test_the_size_of_the_mean_test_is_the_change_from_none_to_all():
    losses = {4: np.array([[5.0, 4.0, 3.0, 2.0, 1.0], [5.0, 4.0, 3.0, 2.0, 1.0]])}
    assert trends.mean_tests(losses)[4].size == pytest.approx(-4.0)


def test_the_mean_can_fall_while_most_rows_rise():
    rng = np.random.default_rng(0)
    rows = np.tile(0.01 * np.arange(6), (100, 1)) + 1e-3 * rng.normal(size=(100, 6))
    rows[:25] -= np.arange(6)
    (mean,), (ranks,) = trends.mean_tests({5: rows}).values(), trends.page_tests({5: rows}).values()
    assert mean.falls < 1e-3 < mean.rises
    assert ranks.rises < 1e-3 < ranks.falls


def test_page_says_nothing_of_one_neuron():
    assert trends.page_tests({1: np.zeros((5, 2))}) == {}


# --- claim (b): the number and not the share -------------------------------------------------


WIDTHS = range(1, 13)


def test_a_loss_that_depends_on_the_number_is_told():
    found = trends.trends(made(lambda l, plus: np.exp(-plus), WIDTHS, noise=0.02), resamples=200)
    assert found.number_at_width.high < -0.5
    assert found.difference.low > 0.0
    assert found.width_at_number.low < 0.3
    assert found.width_at_number.high > -0.3


def test_every_value_lies_in_its_interval():
    for noise in (1e-3, 0.02, 1.0):
        losses = made(lambda l, plus: np.exp(-0.3 * plus), WIDTHS, noise=noise)
        for one in trends.trends(losses, resamples=200):
            assert -1.0 <= one.low <= one.value <= one.high <= 1.0


def test_a_loss_that_depends_on_the_share_is_told():
    losses = made(lambda l, plus: np.exp(-5 * plus / l), WIDTHS, noise=0.02)
    found = trends.trends(losses, resamples=200)
    assert found.number_at_width.high < -0.5
    assert found.difference.high < 0.0
    assert found.width_at_number.low > 0.3
    assert found.explained_by_share.value > 0.8


def test_nothing_is_found_where_labels_are_shuffled():
    losses = shuffled(made(lambda l, plus: np.exp(-plus), WIDTHS, noise=0.02))
    found = trends.trends(losses, resamples=200)
    assert found.number_at_width.low < 0.0 < found.number_at_width.high
    assert abs(found.number_at_width.value) < 0.3


def test_the_trends_of_a_small_case_by_hand():
    """l = 1, 2, 3 with means from a list: strata and correlations counted by hand."""
    losses = {1: [[6.0, 5.0]], 2: [[6.0, 4.0, 3.0]], 3: [[7.0, 2.0, 3.0, 1.0]]}
    found = trends.trends({l: np.array(v) for l, v in losses.items()}, resamples=10)
    # at fixed l: l = 2 is -1 (3 cells), l = 3 is -0.8 (4 cells); l = 1 has too few
    assert found.number_at_width.value == pytest.approx((3 * -1.0 + 4 * -0.8) / 7)
    # at fixed l+: 0 -> 6, 6, 7 (rho sqrt(3)/2), 1 -> 5, 4, 2 (rho -1); 2 and 3 have too few
    assert found.width_at_number.value == pytest.approx((3 * np.sqrt(3) / 2 - 3) / 6)
    # at a fixed share: only 1 has three cells: 5, 3, 1
    assert found.width_at_share.value == -1.0
    # by number: groups (6, 6, 7), (5, 4, 2), (3, 3), (1): falling means, so they are the fit
    cells = np.array([6, 5, 6, 4, 3, 7, 2, 3, 1.0])
    fit = np.array([19, 11, 19, 11, 9, 19, 11, 9, 3]) / 3
    whole = ((cells - cells.mean()) ** 2).sum()
    assert found.explained_by_number.value == pytest.approx(1 - ((cells - fit) ** 2).sum() / whole)
    assert found.difference.value == pytest.approx(
        found.explained_by_number.value - found.explained_by_share.value
    )


# --- the experiment --------------------------------------------------------------------------


@pytest.mark.parametrize("sign", SIGNS)
def test_all_networks_of_an_initialisation_are_one_function(sign):
    settings = replace(TINY, balance=0.7)
    W1, W2 = initial_networks(5, 30, sign, settings, 2)
    X = np.random.default_rng(0).normal(size=(50, 30))
    f = ob.training.outputs(W1, W2, X)
    np.testing.assert_allclose(f, np.tile(f[0], (6, 1)), rtol=1e-10, atol=1e-12)
    for free in range(6):
        c = ob.topology.balances(W1[free], W2[free][None])
        np.testing.assert_allclose(c, np.where(np.arange(5) < free, 0.7, -0.7), atol=1e-12)
    assert (np.sign(W2) == np.sign(W2[0])).all()


def test_signs_begin_as_promised():
    drawn, one = (
        np.array([np.sign(initial_networks(6, 3, sign, TINY, i)[1][0]) for i in range(40)])
        for sign in SIGNS
    )
    np.testing.assert_array_equal(one, np.repeat(drawn[:, :1], 6, axis=1))
    assert {-1.0, 1.0} == set(one[:, 0])
    assert 0.3 < (drawn > 0).mean() < 0.7


def test_initial_weights_have_xaviers_variances_and_seeds_of_their_own():
    settings = replace(TINY, balance=1.0)
    first = initial_networks(3, 4, "drawn", settings, 0)
    again = initial_networks(3, 4, "drawn", replace(settings, initialisations=99), 0)
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.isclose(first[0], initial_networks(3, 4, "drawn", settings, 1)[0]).any()
    # the product of a neuron's norms is not changed by rescaling
    products = []
    for i in range(1000):
        W1, W2 = initial_networks(1, 4, "drawn", settings, i)
        products.append((W1[0] ** 2).sum() * W2[0, 0] ** 2)
    expected = 4 * (2 / 5) * (2 / 2)  # d times the two variances
    assert np.mean(products) == pytest.approx(expected, rel=0.3)  # five standard errors


def test_the_data_are_split_and_standardised():
    framework("sklearn")
    data = breast_cancer.load_data(0)
    assert [part.shape for part in data] == [(379, 30), (379,), (190, 30), (190,)]
    np.testing.assert_allclose(data.X.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(data.X.std(axis=0), 1.0, rtol=1e-12)
    assert data.y.mean() == pytest.approx(data.y_test.mean(), abs=0.005)
    assert abs(data.X_test.mean()) > 1e-4  # not with its own mean


def test_a_missing_scikit_learn_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert figure4.main(["--quick"]) == 2
    said = capsys.readouterr().err
    assert said == "figure4: figure 4 needs scikit-learn: pip install 'obstruction[sklearn]'\n"


def fake_data(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(70, 30))
    y = (X[:, :3].sum(axis=1) > 0.0).astype(float)
    return Data(X[:50], y[:50], X[50:], y[50:])


@pytest.fixture
def tiny(monkeypatch):
    """The script with a tiny experiment on made-up data."""
    monkeypatch.setattr(breast_cancer, "load_data", fake_data)
    monkeypatch.setattr(figure4, "QUICK", TINY)
    monkeypatch.setattr(breast_cancer_report, "RESAMPLES", 20)


def test_a_width_is_what_training_one_by_one_gives(tiny):
    data = fake_data(0)
    width = breast_cancer.train_width(3, data, TINY)
    for s, sign in enumerate(SIGNS):
        for i in (0, 3):
            W1, W2 = initial_networks(3, 30, sign, TINY, i)
            for plus in range(4):
                run = ob.training.train(
                    *(W1[plus : plus + 1], W2[plus : plus + 1], data.X, data.y),
                    loss="bce",
                    optimizer=ob.training.GradientDescent(TINY.learning_rate),
                    steps=TINY.steps,
                    X_test=data.X_test,
                    y_test=data.y_test,
                )
                assert width.test_loss[s, i, plus] == run.test_losses[0, -1]
                assert width.train_loss[s, i, plus] == run.losses[0, -1]
                signs = set(np.sign(W2[plus, plus:]))
                assert width.two_signs[s, i, plus] == (len(signs) == 2)
    assert width.flips.sum() == 0
    assert not width.diverged.any()


@pytest.mark.slow
def test_the_script_writes_its_files_and_the_same_again(tiny, tmp_path):
    for folder in ("one", "two"):
        assert figure4.main(["--quick", "--out", str(tmp_path / folder)]) == 0
    for name in figure4.FILES:
        one, two = (tmp_path / folder / name for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == sorted(figure4.FILES)
    cells = pd.read_csv(tmp_path / "one" / "figure4.csv")
    assert len(cells) == 2 * (2 + 3 + 4)
    assert not cells.duplicated(["signs", "l", "l_plus"]).any()
    width = breast_cancer.train_width(2, fake_data(3), TINY)
    row = cells[(cells.signs == "one sign") & (cells.l == 2) & (cells.l_plus == 1)].iloc[0]
    assert row.test_loss_mean == pytest.approx(width.test_loss[1, :, 1].mean(), rel=1e-5)
    assert row.train_loss_sd == pytest.approx(width.train_loss[1, :, 1].std(ddof=1), rel=1e-5)
    text = (tmp_path / "one" / "figure4.md").read_text()
    assert "quick version" in text
    assert "nan" not in text


def test_an_interrupted_run_goes_on(tiny, tmp_path, monkeypatch, capsys):
    train = breast_cancer.train_width

    def stops(l, *rest):
        if l == 3:
            raise KeyboardInterrupt
        return train(l, *rest)

    words = ["--quick", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path)]
    monkeypatch.setattr(figure4.heatmaps, "save", lambda *_: None)  # drawing takes longest
    monkeypatch.setattr(breast_cancer, "train_width", stops)
    assert figure4.main(words) == 130
    assert capsys.readouterr().err == "figure4: interrupted\n"
    assert not (tmp_path / "figure4.csv").exists()
    asked = []
    monkeypatch.setattr(
        breast_cancer, "train_width", lambda l, *rest: asked.append(l) or train(l, *rest)
    )
    assert figure4.main(words) == 0
    assert asked == [3]
    resumed = (tmp_path / "figure4.csv").read_bytes()
    assert figure4.main(["--quick", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "figure4.csv").read_bytes() == resumed


def test_results_of_other_settings_are_refused(tiny, tmp_path, monkeypatch, capsys):
    words = ["--quick", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path)]
    monkeypatch.setattr(figure4.heatmaps, "save", lambda *_: None)
    assert figure4.main(words) == 0
    monkeypatch.setattr(figure4, "QUICK", replace(TINY, steps=21))
    assert figure4.main(words) == 2
    said = capsys.readouterr().err
    assert "width_01.npz was made with steps = 20, not 21" in said
    assert said.count("\n") == 1
    monkeypatch.setattr(figure4, "QUICK", TINY)
    one, two = (tmp_path / "cache" / f"width_0{l}.npz" for l in (1, 2))
    kept = one.read_bytes()
    one.write_bytes(two.read_bytes())
    assert figure4.main(words) == 2
    assert "width_01.npz: holds no results of width 1" in capsys.readouterr().err
    one.write_bytes(kept)
    (tmp_path / "cache" / "width_01.npz").write_bytes(b"PK")
    assert figure4.main(words) == 2
    assert "holds no results of this script" in capsys.readouterr().err


def test_the_figure_shows_the_means(tiny):
    results = {l: breast_cancer.train_width(l, fake_data(0), TINY) for l in TINY.widths}
    cells = figure4.table(results)
    figure = figure4.draw(cells, "4 initial functions")
    panels = figure.axes[:6]
    for row, sign in enumerate(SIGNS):
        part = cells[(cells.signs == sign) & (cells.l == 3)]
        (mesh,) = panels[3 * row].collections
        shown = mesh.get_array()
        assert shown.shape == (4, 3)  # l+ upwards, l to the right
        np.testing.assert_allclose(shown[:, 2], part.test_loss_mean)
        assert shown.mask[2, 0]  # l+ = 2 of one neuron does not exist
        by_number, by_share = panels[3 * row + 1].lines[2], panels[3 * row + 2].lines[2]
        np.testing.assert_array_equal(by_number.get_xdata(), [0, 1, 2, 3])
        np.testing.assert_allclose(by_share.get_xdata(), np.arange(4) / 3)
        for line in (by_number, by_share):
            np.testing.assert_allclose(line.get_ydata(), part.test_loss_mean)


def test_the_report_says_where_the_loss_falls():
    assert breast_cancer_report._listed([]) == "none"
    assert breast_cancer_report._listed([2, 3, 4, 7, 9, 10]) == "l = 2 to 4, 7, 9 to 10"


@pytest.mark.slow
def test_the_quick_version_sees_the_dichotomy(tmp_path):
    """Frozen weights of one sign cannot fit the data, those of both signs can."""
    framework("sklearn")
    results = dict(breast_cancer.run_experiment(figure4.QUICK))
    for width in results.values():
        mixed = width.two_signs[:, :, 0]
        loss = width.train_loss[:, :, 0]
        assert (loss[~mixed] > 0.2).all()
        assert (loss[mixed] < 0.1).all()
        assert width.flips.sum() == 0
