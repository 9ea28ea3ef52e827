"""The verdict: right formulas pass, wrong ones do not, and both rates are as stated."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from obstruction.sampling.inference.binomial import detectable, holm, p_value
from obstruction.studies.verdict import agreement


def neuron(d, ratio):
    """P(pathological neuron), normal weights."""
    return special.betainc(d / 2, 0.5, ratio / (1 + ratio))


def network(p, l):
    """P(at least one of l neurons is pathological)."""
    return -np.expm1(l * np.log1p(-p))


RATIOS = {
    "kaiming_normal": lambda d, l: d / l,
    "xavier_normal": lambda d, l: (d + l) / (l + 1),
}


def grid(size=6):
    """A small grid of both schemes, with its closed forms and without counts."""
    rows = [
        (scheme, d, l) for scheme in RATIOS for d in range(1, size + 1) for l in range(1, size + 1)
    ]
    table = pd.DataFrame(rows, columns=["scheme", "d", "l"])
    p = neuron(table["d"], np.array([RATIOS[scheme](d, l) for scheme, d, l in rows]))
    return table.assign(exact=network(p, table["l"]), exact_neuron=p)


def sampled(table, *, networks, rng, shared=False):
    """Fill in the counts, of networks of one cell or of networks that all cells share."""
    p, l = table["exact_neuron"].to_numpy(), table["l"].to_numpy()
    uniform = rng.random((networks, 1 if shared else len(table), l.max()))
    hits = (uniform < p[:, None]) & (np.arange(l.max()) < l[:, None])
    return table.assign(
        networks=networks,
        obstructed=hits.any(axis=2).sum(axis=0),
        pathological=hits.sum(axis=(0, 2)),
    )


def one_cell(k, *, networks, exact, neurons=0, exact_neuron=math.nan, l=1):
    return pd.DataFrame(
        {
            "scheme": ["custom"],
            "d": [2],
            "l": [l],
            "networks": [networks],
            "obstructed": [k],
            "pathological": [neurons],
            "exact": [exact],
            "exact_neuron": [exact_neuron],
        }
    )


@pytest.fixture(scope="module")
def honest():
    return sampled(grid(), networks=4000, rng=np.random.default_rng(11))


# --- the verdict ---------------------------------------------------------------------------


def test_the_right_formula_agrees(honest):
    # False-alarm rate 0.001, and the seed is fixed.
    found = agreement(honest)
    assert found.verdict == "agrees"
    assert found.agrees
    assert (found.tests, found.cells, found.untested, found.rejected) == (144, 72, 0, 0)
    assert str(found).startswith("AGREES")


def swap_fans(table):
    return neuron(table["d"], table["l"] / table["d"])


def forget_the_output(table):
    return neuron(table["d"], np.ones(len(table)))


def half_a_degree_of_freedom_less(table):
    ratio = np.array([RATIOS[s](d, l) for s, d, l in table[["scheme", "d", "l"]].to_numpy()])
    return neuron(table["d"] - 0.5, ratio)


def xavier_for_all(table):
    return neuron(table["d"], (table["d"] + table["l"]) / (table["l"] + 1))


@pytest.mark.parametrize(
    "wrong", [swap_fans, forget_the_output, half_a_degree_of_freedom_less, xavier_for_all]
)
def test_a_wrong_formula_disagrees(honest, wrong):
    p = wrong(honest)
    found = agreement(honest.assign(exact_neuron=p, exact=network(p, honest["l"])))
    assert found.verdict == "disagrees"
    assert not found.agrees
    assert found.rejected > 10
    assert found.smallest <= 1e-6
    assert str(found).startswith(f"DISAGREES: {found.rejected} of 72 cells")


@pytest.mark.parametrize("column", ["exact", "exact_neuron"])
def test_either_level_alone_gives_a_wrong_formula_away(honest, column):
    wrong = honest.assign(exact=np.minimum(honest["l"] * honest["exact_neuron"], 1.0))
    if column == "exact_neuron":
        wrong = honest.assign(exact_neuron=honest["exact"] / honest["l"])
    found = agreement(wrong)
    assert found.verdict == "disagrees"
    assert found.worst["test"][0] == ("network" if column == "exact" else "neuron")
    other = "p_adjusted_neuron" if column == "exact" else "p_adjusted"
    assert found.adjusted[other].min() > 0.001


def test_one_wrong_cell_among_many_is_found_and_named(honest):
    table = honest.copy()
    row = int(np.flatnonzero((table["scheme"] == "xavier_normal") & (table["d"] == 4))[2])
    table.loc[row, "exact"] *= 1.25
    found = agreement(table)
    assert (found.verdict, found.rejected) == ("disagrees", 1)
    worst = found.worst.iloc[0]
    assert (worst["scheme"], worst["d"], worst["l"]) == ("xavier_normal", 4, 3)
    assert (worst["test"], worst["networks"]) == ("network", 4000)
    assert worst["observed"] == table["obstructed"][row] / 4000
    assert worst["exact"] == table["exact"][row]
    assert worst["p_adjusted"] == found.smallest == found.adjusted["p_adjusted"][row]
    assert "obstructed networks at xavier_normal d=4 l=3" in str(found)


@pytest.mark.parametrize("shared", [True, False])
def test_false_alarms_stay_below_the_level(shared):
    """120 honest runs at level 0.2, with and without shared networks; fails once in 10⁶ seeds."""
    rng, cells = np.random.default_rng(12), grid()
    alarms = unadjusted = 0
    for _ in range(120):
        table = sampled(cells, networks=60, rng=rng, shared=shared)
        alarms += agreement(table, level=0.2).verdict == "disagrees"
        unadjusted += p_value(table["obstructed"], 60, table["exact"]).min() <= 0.2
    assert alarms <= stats.binom.isf(1e-6, 120, 0.2)
    assert unadjusted > 90  # one test alone would cry wolf: the adjustment is what keeps the level


def test_the_false_alarm_rate_of_one_cell_by_enumeration():
    n, exact, level = 40, 0.15, 0.03
    verdicts = [agreement(one_cell(k, networks=n, exact=exact), level=level) for k in range(n + 1)]
    rejecting = np.array([found.verdict == "disagrees" for found in verdicts])
    rate = stats.binom.pmf(np.arange(n + 1), n, exact)[rejecting].sum()
    assert 0.001 < rate <= level


# --- the family ----------------------------------------------------------------------------


def test_adjusted_p_values_are_holms_on_the_index_of_the_table(honest):
    table = honest.set_index(np.arange(72)[::-1] * 10)
    table.iloc[5, table.columns.get_loc("exact_neuron")] = math.nan
    found = agreement(table)
    raw = np.r_[
        p_value(table["obstructed"], 4000, table["exact"]),
        p_value(table["pathological"], 4000 * table["l"], table["exact_neuron"]),
    ]
    tested = np.flatnonzero(~np.isnan(raw))
    order = tested[np.argsort(raw[tested])]
    expected, largest = np.full(144, math.nan), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, (143 - rank) * raw[i])
        expected[i] = min(largest, 1.0)
    assert found.tests == 143
    assert found.adjusted.index.equals(table.index)
    np.testing.assert_allclose(found.adjusted["p_adjusted"], expected[:72])
    np.testing.assert_allclose(found.adjusted["p_adjusted_neuron"], expected[72:])
    assert found.worst["p_value"].tolist() == raw[order[:10]].tolist()
    assert (found.worst["p_adjusted"].diff()[1:] >= 0).all()


def test_p_values_in_the_table_are_believed(honest):
    given = honest.assign(
        p_value=p_value(honest["obstructed"], 4000, honest["exact"]), p_value_neuron=0.5
    )
    found = agreement(given)
    expected = holm(np.r_[given["p_value"], given["p_value_neuron"]])
    assert found.adjusted["p_adjusted"].tolist() == expected[:72].tolist()
    assert (found.adjusted["p_adjusted_neuron"] == 1.0).all()
    given.loc[3, "p_value"] = 1e-9
    assert agreement(given).rejected == 1
    given.loc[3, "p_value"] = math.nan
    with pytest.raises(ValueError, match="p_value: is NaN in 1 cells that have an exact value"):
        agreement(given)


def test_the_worst_tests_without_digits_left_are_ordered_by_distance():
    table = pd.concat(
        [one_cell(k, networks=10**6, exact=0.5) for k in (900_000, 10_000, 950_000)],
        ignore_index=True,
    )
    found = agreement(table)
    assert found.worst["p_value"].tolist() == [0.0] * 3
    assert found.worst["observed"].tolist() == [0.01, 0.95, 0.9]
    assert "probability at most 1e-300" in str(found)


# --- cells without a test ------------------------------------------------------------------


def test_cells_without_closed_form_or_network_are_counted_as_untested(honest):
    table = honest.copy()
    table.loc[:9, ["exact", "exact_neuron"]] = math.nan
    table.loc[10:12, ["networks", "obstructed", "pathological"]] = 0
    table.loc[20, "exact"] = math.nan
    found = agreement(table)
    assert (found.verdict, found.untested, found.tests) == ("agrees", 13, 144 - 26 - 1)
    assert found.adjusted.loc[:12].isna().all(axis=None)
    assert np.isnan(found.adjusted["p_adjusted"][20])
    assert found.adjusted["p_adjusted_neuron"][20] <= 1.0
    assert found.detectable.loc[:12].isna().all(axis=None)
    assert "13 cells are untested" in str(found)


@pytest.mark.parametrize("rows", [72, 0])
def test_a_run_without_closed_forms_is_untested(honest, rows):
    found = agreement(honest.assign(exact=math.nan, exact_neuron=math.nan)[:rows])
    assert found.verdict == "untested"
    assert not found.agrees
    assert (found.tests, found.untested, len(found.worst)) == (0, rows, 0)
    assert math.isnan(found.smallest)
    assert found.sensitivity == {}
    assert str(found).startswith(f"UNTESTED: none of the {rows} cells")
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["worst"] is None


# --- what it could have seen ---------------------------------------------------------------


def test_detectable_errors_are_those_of_the_whole_family(honest):
    found = agreement(honest, level=0.01, power=0.8)
    assert "detectable" not in vars(found)  # a verdict does not wait for it
    alpha = 0.01 / 144
    for column, trials, exact in (
        ("detectable", 4000, honest["exact"]),
        ("detectable_neuron", 4000 * honest["l"], honest["exact_neuron"]),
    ):
        expected = detectable(trials, exact, alpha=alpha, power=0.8).either
        np.testing.assert_array_equal(found.detectable[column], expected)


def test_an_error_of_detectable_size_is_detected_as_often_as_stated():
    n, exact, level = 120, 0.3, 0.02
    seen = agreement(one_cell(36, networks=n, exact=exact), level=level)
    error = seen.sensitivity["network"].smallest
    assert 0.1 < error < 0.5
    k = np.arange(n + 1)
    verdicts = [agreement(one_cell(j, networks=n, exact=exact), level=level) for j in k]
    rejecting = np.array([found.verdict == "disagrees" for found in verdicts])
    power = [stats.binom.pmf(k, n, exact * (1 + sign * error))[rejecting].sum() for sign in (-1, 1)]
    assert max(power) == pytest.approx(0.9, abs=1e-6)


def test_sensitivity_names_the_cell_that_sees_most(honest):
    found = agreement(honest)
    for test, column in (("network", "detectable"), ("neuron", "detectable_neuron")):
        seen, errors = found.sensitivity[test], found.detectable[column]
        # 1/2 itself is on the side of the unlikely, also where it was computed with a rounding
        unlikely = honest["exact" + column.removeprefix("detectable")].round(9) <= 0.5
        assert not unlikely.all() or test == "neuron"  # next to P = 1 no error of p is seen
        errors_there = errors[unlikely]
        cell = honest.loc[errors_there.idxmin()]
        assert (seen.scheme, seen.d, seen.l) == (cell["scheme"], cell["d"], cell["l"])
        assert seen.smallest == errors_there.min()
        assert seen.median == errors.median()
        assert 0 < seen.within_tenth == (errors <= 0.1).sum() < 72
        assert (seen.seeing, seen.cells) == (72, 72)


def test_what_no_cell_can_see_is_not_claimed():
    found = agreement(one_cell(0, networks=5, exact=0.5), level=0.01)
    assert found.verdict == "agrees"
    assert found.detectable["detectable"].tolist() == [math.inf]
    assert found.sensitivity == {}
    assert "Would have caught" not in str(found)


# --- words and numbers ---------------------------------------------------------------------


def test_the_text_says_what_a_reader_must_know(honest):
    text = str(agreement(honest, level=0.002))
    assert 4 <= len(text.splitlines()) <= 8
    assert max(map(len, text.splitlines())) <= 110
    assert "disagreement has probability at most\n  0.002, whatever the dependence" in text
    assert "(144 tests, Holm)" in text
    assert "Worst: " in text
    assert "Would have caught (90% power) 10 % of P in" in text
    assert "10 % of p in" in text


def test_the_dictionary_survives_json(honest):
    found = agreement(honest)
    read = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (read["verdict"], read["level"], read["tests"]) == ("agrees", 0.001, 144)
    assert read["smallest_adjusted_p"] == found.smallest
    assert read["worst"] == found.worst.iloc[0].to_dict()
    assert read["detectable"]["neuron"] == found.sensitivity["neuron"]._asdict()


def test_an_infinite_distance_becomes_null():
    found = agreement(one_cell(1, networks=9, exact=0.0))
    assert found.verdict == "disagrees"
    assert found.worst["z"].tolist() == [math.inf]
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["worst"]["z"] is None


def test_the_table_is_left_alone_and_may_hold_categories(honest):
    table = honest.astype({"scheme": "category"}).assign(comment="kept")
    before = table.copy()
    found = agreement(table)
    table["exact"] = 0.5  # what was judged is what is described
    assert str(found) == str(agreement(honest))
    pd.testing.assert_frame_equal(table.assign(exact=before["exact"]), before)


# --- arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: agreement(t.drop(columns="exact")), "table: lacks the column exact"),
        (
            lambda t: agreement(t[["scheme", "d", "l", "networks", "exact", "exact_neuron"]]),
            "lacks the column obstructed, pathological",
        ),
        (lambda t: agreement(t, level=1.0), "level = 1.0: must be strictly between 0 and 1"),
        (lambda t: agreement(t, level=0.0), "level = 0.0: must be strictly between 0 and 1"),
        (
            lambda t: agreement(t, power=0.0005),
            "level = 0.001, power = 0.0005: power must be strictly between level and 1",
        ),
        (lambda t: agreement(t.assign(obstructed=5000)), "k = 5000: must be at most n = 4000"),
        (lambda t: agreement(t.assign(exact=1.5)), "p = 1.5: must be between 0 and 1"),
    ],
)
def test_impossible_arguments_are_named(honest, call, message):
    with pytest.raises(ValueError, match=message):
        call(honest)
