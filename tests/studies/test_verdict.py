"""End to end: what the sampler counts against what the formulas say, and against wrong ones."""

from __future__ import annotations

import bisect
import math

import numpy as np
import pytest
from scipy import integrate, special, stats

import obstruction as ob
from obstruction.sampling.config import PLANS, StudyConfig
from obstruction.sampling.inference.binomial import detectable
from obstruction.studies import table as table_module
from obstruction.studies.verdict import agreement

# Normal weights, plain and with each of their options: the F distribution.
NORMAL = (
    "xavier_normal",
    "xavier_normal:output_gain=0.5",
    "kaiming_normal",
    "kaiming_normal:mode=fan_out",
    "kaiming_normal:mode=fan_out,negative_slope=0.3",
    "kaiming_normal:hidden_gain=0.8,output_gain=1.5",
    "lecun_normal",
    "lecun_normal:hidden_gain=2",
    "custom",
    "custom:hidden_std=0.7,output_std=1.3",
    "custom:hidden_std=0",
    "custom:output_std=0",
)
# Other laws and biases: integrals.
OTHERS = (
    "xavier_uniform:hidden_gain=1.3",
    "kaiming_uniform",
    "kaiming_uniform:mode=fan_out,negative_slope=0.5",
    "lecun_uniform:output_gain=0.4",
    "torch_linear",
    "torch_linear:bias=zero",
    "torch_linear:output_gain=1.7",
    "torch_xavier_normal",
    "torch_xavier_normal:bias=none,hidden_gain=0.6",
    "torch_xavier_uniform",
    "torch_kaiming_normal:negative_slope=0.2",
    "torch_kaiming_normal:mode=fan_out",
    "torch_kaiming_uniform",
    "torch_kaiming_uniform:mode=fan_out,negative_slope=2.236",
    "keras_dense",
    "keras_he_normal",
    "keras_he_normal:truncation=uncorrected,output_gain=0.5",
    "keras_glorot_normal",
    "keras_glorot_normal:truncation=uncorrected,bias=none",
    "flax_dense",
    "haiku_linear:output_gain=2",
    "sklearn_mlp",
    "sklearn_mlp:activation=logistic",
    "normal_002",
    "mup",
    "mup:base_width=8,bias=none",
    "mup:base_width=4,output_mult=3,parametrization=effective",
    "ntk",
    "ntk:bias_std=0.5",
    "ntk:bias_std=0.5,parametrization=effective",
    "mean_field",
    "mean_field:parametrization=effective",
    "zero_output",
    "zero_output:bias=none,hidden_gain=2",
    "custom:law=uniform",
    "custom:output_law=uniform,bias_law=normal,bias_std=0.8",
    "custom:hidden_law=uniform,output_law=truncated_normal",
    "custom:law=truncated_normal,truncation=uncorrected,bias_law=uniform,output_std=1.4",
    "custom:hidden_law=constant,output_std=2",
    "custom:hidden_law=constant,output_law=uniform,output_std=2",
    "custom:output_law=constant,hidden_law=truncated_normal,output_std=1.2",
    "custom:hidden_law=normal,output_law=uniform,bias_law=constant,bias_std=0.3,output_std=2",
    "custom:hidden_law=uniform,output_std=0",
)
UNTESTED = ("orthogonal", "orthogonal:hidden_gain=0.8,output_gain=1.5")


def neuron(d, a):
    """P(pathological neuron) for normal weights: the tail of the F distribution."""
    return stats.f.sf(d / np.asarray(a, dtype=float), 1, d)


def network(p, l):
    """P(at least one of l neurons is pathological)."""
    return -np.expm1(l * np.log1p(-p))


def xavier(d, l):
    return (d + l) / (l + 1)


# --- agreement -----------------------------------------------------------------------------


def test_every_scheme_of_the_registry_is_sampled_here():
    sampled = {label.partition(":")[0] for label in NORMAL + OTHERS + UNTESTED}
    assert sampled == set(ob.scheme_names())
    assert {ob.exact.method(label) for label in NORMAL} == {"F distribution", "certain"}
    assert {ob.exact.method(label) for label in UNTESTED} == {"none"}
    everything = {ob.exact.method(label) for label in NORMAL + OTHERS}
    integrals = {"contour integral", "Craig's integral", "real integral"}
    assert everything == {"F distribution", "certain"} | integrals


SIZES = {
    "nested": ({"d": [1, 2, 3, 4, 5, 8, 13, 30], "l": [1, 2, 3, 5, 10, 40]}, 20_000),
    "independent": ({"d": [1, 2, 3, 6], "l": [1, 2, 5, 12]}, 20_000),
}


def agrees(plan, seed, *, networks, schemes=NORMAL, **axes):
    found = ob.sample(schemes, **axes, networks=networks, seed=seed, plan=plan).agreement()
    cells = len(schemes) * len(axes["d"]) * len(axes["l"])
    assert (found.level, found.tests, found.untested) == (1e-3, 2 * cells, 0)
    assert found.agrees, str(found)
    return found


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_normal_schemes_agree_with_the_f_distribution(plan, seed):
    """Each of the six runs disagrees for at most one seed in 1000: together at most 0.6 %."""
    axes, networks = SIZES[plan]
    found = agrees(plan, seed, networks=networks, **axes)
    assert found.sensitivity["network"].smallest < 0.05  # an error of 5 % would have been caught
    assert found.sensitivity["neuron"].smallest < 0.05


@pytest.mark.parametrize("plan", PLANS)
def test_other_schemes_agree_with_their_integrals(plan):
    """Each of the two runs disagrees for at most one seed in 1000."""
    if plan == "nested":
        axes, networks = {"d": [1, 2, 3, 5, 8, 13], "l": [1, 2, 3, 5, 10, 40]}, 20_000
    else:
        axes, networks = {"d": [1, 2, 5], "l": [1, 2, 9]}, 6000
    found = agrees(plan, 1, networks=networks, schemes=OTHERS, **axes)
    assert found.sensitivity["network"].smallest < 0.1
    assert found.sensitivity["neuron"].smallest < 0.1


NEIGHBOURS = {
    "torch_linear": "torch_linear:bias=zero",
    "torch_xavier_normal": "torch_xavier_normal:bias=none",
    "sklearn_mlp": "xavier_uniform",
    "keras_he_normal": "keras_he_normal:output_gain=1.05",
    "keras_glorot_normal": "xavier_normal",
    "flax_dense": "lecun_normal",
    "haiku_linear": "lecun_uniform",
    "mup": "mup:base_width=32",
    "ntk:bias_std=0.5": "ntk",
    "mean_field": "mean_field:parametrization=effective",
    "custom:hidden_law=uniform": "custom:output_law=uniform",
}


@pytest.mark.parametrize("label", NEIGHBOURS)
def test_the_integral_of_a_neighbour_is_rejected(label, monkeypatch):
    """The right one is not, but for one seed in 1000 each."""
    axes, right = {"d": [1, 2, 4, 8], "l": [2, 5, 20]}, table_module.exact_values
    study = ob.sample(label, **axes, networks=20_000, seed=3)
    assert study.agreement().agrees
    other = StudyConfig.of(NEIGHBOURS[label], **axes)
    monkeypatch.setattr(table_module, "exact_values", lambda config: right(other))
    found = agreement(table_module.build(study.config, study.counts))
    assert found.verdict == "disagrees"
    assert found.smallest < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("seed", [11, 12])
def test_every_scheme_agrees_on_a_large_run(plan, seed):
    """Each of the four runs disagrees for at most one seed in 1000: together at most 0.4 %."""
    if plan == "nested":
        axes, networks = {"d": range(1, 41), "l": range(1, 41)}, 400_000
    else:
        axes, networks = {"d": [1, 2, 3, 4, 7, 12], "l": [1, 2, 3, 6, 11]}, 300_000
    schemes = [label for label in NORMAL if not label.endswith("=0")]  # those are certain, and slow
    found = agrees(plan, seed, networks=networks, schemes=schemes, **axes)
    assert found.detectable["detectable"].min() < 0.01
    assert found.sensitivity["network"].smallest < 0.015  # among the cells with P <= 1/2
    assert found.sensitivity["neuron"].smallest < 0.01


RARE = {
    # d = 1: p = 2/π · atan(σ2/σ1), decided by the smallest weights that can be drawn
    "custom:output_std=1e-2": 1,
    "custom:output_std=1e-3": 1,
    "custom:output_std=1e-4": 1,
    "custom:output_std=0.1": 3,
    "custom:output_std=0.3": 6,
    "custom:output_std=3e-3": 2,
}


@pytest.mark.parametrize("label", RARE)
def test_rare_events_have_their_probability(label):
    """5·10⁶ neurons, p from 1e-2 to 1e-5: each of the six disagrees for one seed in 1000."""
    study = ob.sample(label, d=RARE[label], l=50, networks=100_000, seed=4)
    found = study.agreement()
    assert 20 < study.counts.pathological.item() < 50_000
    assert found.agrees, str(found)


@pytest.mark.slow
@pytest.mark.parametrize("label", RARE)
def test_rare_events_have_their_probability_in_a_long_run(label):
    """5·10⁸ neurons: each of the six disagrees for one seed in 1000."""
    found = ob.sample(label, d=RARE[label], l=1000, networks=500_000, seed=5).agreement()
    assert found.agrees, str(found)
    assert found.sensitivity["neuron"].smallest < 0.1


# --- no bias, no over- or underdispersion --------------------------------------------------


def standardised(plan, seeds):
    """z of both kinds in every cell and seed, and the relative standard deviations of the rates.

    Under the independent plan all of them are independent, but for the two kinds in one cell.
    """
    tables = [
        ob.sample(
            ["xavier_normal", "kaiming_normal", "kaiming_normal:mode=fan_out"],
            d=[1, 2, 4, 5],
            l=[2, 3, 7],
            networks=20_000,
            seed=seed,
            plan=plan,
        ).table()
        for seed in seeds
    ]
    return {
        name: np.array([table[name] for table in tables])
        for name in ("z", "z_neuron", "exact", "exact_neuron")
    }


@pytest.fixture(scope="module")
def scores():
    return standardised("independent", range(10))


def mean_and_spread_p_values(z):
    """Whether z has mean 0, and variance 1: sums of z and z² over all cells and seeds."""
    mean = 2.0 * special.ndtr(-abs(z.sum()) / math.sqrt(z.size))
    spread = stats.chi2.cdf((z**2).sum(), z.size)
    return mean, 2.0 * min(spread, 1.0 - spread)


@pytest.mark.parametrize("name", ["z", "z_neuron"])
def test_rates_have_no_bias_and_binomial_spread(name, scores):
    """360 independent cells of 20 000 networks: four tests, one false alarm in 10⁴ seeds each."""
    assert min(mean_and_spread_p_values(scores[name])) > 1e-4


def test_a_small_bias_or_another_spread_is_noticed(scores):
    # All P too high by 1 %, which no single cell need notice.
    bias = 0.01 * np.sqrt(20_000 * scores["exact"] / (1.0 - scores["exact"]))
    assert mean_and_spread_p_values(scores["z"] - bias)[0] < 1e-4
    # Every network counted twice, as by two threads that share a stream.
    assert mean_and_spread_p_values(scores["z"] * math.sqrt(2.0))[1] < 1e-4
    # Evener than chance.
    assert mean_and_spread_p_values(scores["z"] * 0.8)[1] < 1e-4


@pytest.mark.slow
def test_numbers_of_pathological_neurons_are_binomial():
    """Not only the mean: the whole law over 20 000 replayed networks; false alarms: 1 in 10⁴."""
    d, l = 3, 5
    p = neuron(d, xavier(d, l))
    numbers = np.zeros(20_000, int)
    for i in range(numbers.size):
        W1, W2, _ = ob.replay(9, network=i, d=d, l=l, scheme="xavier_normal")
        numbers[i] = np.count_nonzero((W1**2).sum(axis=1) < W2[0] ** 2)
    expected = numbers.size * stats.binom.pmf(np.arange(l + 1), l, p)
    assert expected.min() > 5
    observed = np.bincount(numbers, minlength=l + 1)
    assert stats.chisquare(observed, expected).pvalue > 1e-4
    assert stats.chisquare(np.roll(observed, 1), expected).pvalue < 1e-4
    wider = numbers.size * stats.betabinom.pmf(np.arange(l + 1), l, 40 * p, 40 * (1 - p))
    assert stats.chisquare(observed, wider).pvalue < 1e-4


# --- wrong formulas ------------------------------------------------------------------------


def judged(table, p):
    """A table as it would be if its exact values were others."""
    counts = table[["scheme", "d", "l", "networks", "obstructed", "pathological"]]
    return counts.assign(exact=network(p, table["l"]), exact_neuron=p)


# What is wrong: the scheme, a wrong p(d, l), and with how many networks in each of 100 cells
# (d, l = 1..10) it is found out. Half as many sufficed for all of ten other seeds.
WRONG = {
    "fans swapped": ("kaiming_normal", lambda d, l: neuron(d, l / d), 40),
    "fan_out for fan_in": ("kaiming_normal", lambda d, l: neuron(d, l), 40),
    "fan_in for fan_out": ("kaiming_normal:mode=fan_out", lambda d, l: neuron(d, d / l), 40),
    "Xavier for Kaiming": ("kaiming_normal", lambda d, l: neuron(d, xavier(d, l)), 40),
    "d + 1 for d": ("kaiming_normal", lambda d, l: neuron(d + 1, (d + 1) / l), 100),
    "d - 1 for d": ("xavier_normal", lambda d, l: neuron(d - 1 + (d == 1), xavier(d, l)), 100),
    "l for l + 1": ("xavier_normal", lambda d, l: neuron(d, (d + l) / l), 1000),
    "output gain forgotten": (
        "kaiming_normal:output_gain=1.2",
        lambda d, l: neuron(d, d / l),
        500,
    ),
    "hidden gain forgotten": (
        "kaiming_normal:hidden_gain=0.9",
        lambda d, l: neuron(d, d / l),
        2000,
    ),
    "gain not squared": (
        "kaiming_normal:output_gain=1.2",
        lambda d, l: neuron(d, 1.2 * d / l),
        2000,
    ),
    "gain of the other layer": (
        "xavier_normal:output_gain=0.8",
        lambda d, l: neuron(d, xavier(d, l) / 0.64),
        100,
    ),
    "union bound": ("xavier_normal", lambda d, l: neuron(d, xavier(d, l)), 200),
}


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_formula_is_rejected(name, plan):
    """And the right one is not: each of these runs disagrees for at most one seed in 1000."""
    label, formula, networks = WRONG[name]
    axes = {"d": range(1, 11), "l": range(1, 11)}
    study = ob.sample(label, **axes, networks=networks, seed=21, plan=plan)
    assert study.agreement().agrees, str(study.agreement())
    table = study.table()
    wrong = judged(table, formula(table["d"].to_numpy(), table["l"].to_numpy()))
    if name == "union bound":  # the union bound instead of the probability of a union
        wrong["exact"] = np.minimum(table["l"] * wrong["exact_neuron"], 1.0)
    found = agreement(wrong)
    assert found.verdict == "disagrees"
    assert found.smallest < 1e-5


def rejections(networks, seeds):
    """How often a single cell of Xavier (5, 5) contradicts the formula with l for l + 1."""
    alarms = 0
    for seed in seeds:
        table = ob.sample("xavier_normal", d=5, l=5, networks=networks, seed=seed).table()
        wrong = judged(table, neuron(5, 10 / 5)).assign(exact_neuron=math.nan)
        alarms += agreement(wrong).verdict == "disagrees"
    return alarms


def networks_to_reject(exact, truth):
    """The networks at which a single test exposes an exact value that is too high, by bisection."""
    return bisect.bisect_left(
        range(10_000), True, lo=1,
        key=lambda n: detectable(n, exact, alpha=1e-3).downward <= 1 - truth / exact,
    )  # fmt: skip


def test_the_stated_number_of_networks_exposes_a_wrong_formula():
    """At power 90 %, 27 or fewer of 40 runs reject for one choice of seeds in 10⁴."""
    wrong, right = network(neuron(5, 10 / 5), 5), network(neuron(5, 10 / 6), 5)
    networks = networks_to_reject(wrong, right)
    assert 500 < networks < 5000
    assert stats.binom.cdf(27, 40, 0.9) < 1e-4
    assert rejections(networks, range(40)) > 27
    assert rejections(networks // 8, range(40)) < 15


# --- uniform weights -----------------------------------------------------------------------


def small_ball(d, a):
    """P(pathological neuron) for uniform weights and a <= 1: the ball lies inside the cube."""
    return (np.pi * a) ** (d / 2) / (special.gamma(d / 2 + 1) * 2.0**d * (d + 1))


def binomial_p_values(table, p):
    """Exact tests of the neurons and of the networks of every cell against p."""
    found = [
        stats.binomtest(int(k), int(n), float(q)).pvalue
        for k, n, q in zip(
            [*table["pathological"], *table["obstructed"]],
            [*(table["networks"] * table["l"]), *table["networks"]],
            [*p, *network(p, table["l"])],
            strict=True,
        )
    ]
    return np.array(found)


def test_the_small_ball_is_right_for_one_and_two_inputs():
    """By hand: d = 1 gives P(|w| < sqrt(a) |v|) = sqrt(a)/2, d = 2 the mean of pi a v²/4."""
    assert small_ball(1, 0.49) == pytest.approx(0.35)
    assert small_ball(2, 0.8) == pytest.approx(math.pi * 0.8 / 12)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(
    "label", ["kaiming_uniform", "lecun_uniform", "xavier_uniform:output_gain=0.4"]
)
def test_uniform_schemes_agree_where_their_value_is_known(label, plan):
    """All cells with a <= 1; Bonferroni, each of the six runs fails for one seed in 10⁴."""
    networks = 40_000 if plan == "nested" else 10_000
    study = ob.sample(label, d=[1, 2, 3, 4], l=[1, 2, 3, 4, 10], networks=networks, plan=plan)
    table = study.table()
    table = table[table["a"] <= 1.0]
    assert 10 < len(table) <= 20
    d, a = table["d"].to_numpy(), table["a"].to_numpy()
    p_values = binomial_p_values(table, small_ball(d, a))
    assert p_values.min() > 1e-4 / p_values.size
    for wrong in (neuron(d, a), small_ball(d, 0.9 * a), small_ball(d, np.sqrt(a) * 0.9)):
        assert binomial_p_values(table, wrong).min() < 1e-4 / p_values.size


@pytest.mark.parametrize("plan", PLANS)
def test_one_input_and_equal_scales_are_a_fair_coin(plan):
    """P(|w| < |v|) = 1/2 for any law; Bonferroni, one false alarm in 10⁴ seeds."""
    labels = ["xavier_uniform", "xavier_normal", "custom:law=uniform"]
    table = ob.sample(labels, d=1, l=[1, 2, 9], networks=50_000, seed=7, plan=plan).table()
    assert (table["a"] == 1.0).all()
    p_values = binomial_p_values(table, np.full(9, 0.5))
    assert p_values.min() > 1e-4 / 18
    assert binomial_p_values(table, np.full(9, 0.505)).min() < 1e-4 / 18


def one_input(hidden, output, a):
    """P(|w| < sqrt(a) |v|) by numerical integration over v."""
    laws = {"normal": stats.halfnorm(), "uniform": stats.uniform(0, math.sqrt(3.0))}
    top = 12.0 if output == "normal" else math.sqrt(3.0)
    kink = min(math.sqrt(3.0 / a), top)
    pieces = [
        integrate.quad(lambda v: laws[output].pdf(v) * laws[hidden].cdf(math.sqrt(a) * v), *ends)[0]
        for ends in ((0.0, kink), (kink, top))
    ]
    return sum(pieces)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(
    ("hidden", "output"), [("normal", "uniform"), ("uniform", "normal"), ("normal", "normal")]
)
@pytest.mark.parametrize("std", [0.3, 1.0, 2.5])
def test_laws_can_be_mixed(hidden, output, std, plan):
    """One input, by integration: each of the 18 runs fails for one seed in 10⁴."""
    label = f"custom:hidden_law={hidden},output_law={output},output_std={std}"
    table = ob.sample(label, d=1, l=20, networks=20_000, seed=8, plan=plan).table()
    p = one_input(hidden, output, std**2)
    assert one_input("normal", "normal", std**2) == pytest.approx(neuron(1, std**2))
    assert binomial_p_values(table, np.array([p])).min() > 1e-4 / 2
    other = one_input(output, hidden, std**2) if hidden != output else 1.02 * p
    assert binomial_p_values(table, np.array([other])).min() < 1e-4 / 2


@pytest.mark.parametrize("plan", PLANS)
def test_schemes_without_exact_values_stay_untested(plan):
    study = ob.sample(UNTESTED, d=[1, 2, 7], l=[1, 4], networks=300, seed=1, plan=plan)
    found, table = study.agreement(), study.table()
    assert (found.verdict, found.agrees, found.tests) == ("untested", False, 0)
    assert str(found).startswith("UNTESTED")
    empty = ["exact", "z", "p_value", "log10_exact", "z_neuron", "p_value_neuron"]
    assert table[empty].isna().all(axis=None)
    weights = ["log_mean_weight", "skewness", "largest_share", "log_bound"]
    assert table[weights].isna().all(axis=None)
    others = table.columns.difference(empty + weights)
    assert table[others].notna().all(axis=None)
    assert table["empirical"].tolist() == (table["obstructed"] / 300).tolist()


def test_schemes_without_exact_values_do_not_stop_the_others_from_being_tested():
    labels = ["kaiming_normal", "orthogonal", "xavier_normal"]
    study = ob.sample(labels, d=[1, 2, 7], l=[1, 4], networks=300, seed=1)
    found, table = study.agreement(), study.table()
    assert (found.verdict, found.tests, found.untested) == ("agrees", 24, 6)
    assert (table["exact"].isna() == (table["scheme"] == "orthogonal")).all()


# --- what is known by hand -----------------------------------------------------------------


def test_certain_and_impossible_events():
    labels = ["custom:hidden_std=0", "custom:output_std=0", "kaiming_uniform:hidden_gain=0"]
    table = ob.sample(labels, d=[1, 3], l=[1, 5], networks=200).table().set_index("scheme")
    assert (table.loc["custom:hidden_std=0", ["empirical", "exact", "ci_high"]] == 1.0).all(
        axis=None
    )
    assert (table.loc["custom:output_std=0", ["empirical", "exact", "ci_low"]] == 0.0).all(
        axis=None
    )
    assert (table.loc["kaiming_uniform:hidden_gain=0", "empirical"] == 1.0).all()
    certain = table.loc[labels[:2]]
    assert (certain["z"] == 0.0).all()
    assert (certain["p_value"] == 1.0).all()
    # All neurons of certain networks are pathological.
    assert (table.loc["custom:hidden_std=0", "empirical_neuron"] == 1.0).all()


@pytest.mark.parametrize("plan", PLANS)
def test_two_inputs_have_an_elementary_formula(plan):
    """p = 1 - (1 + a)^(-1/2); Bonferroni, one false alarm in 10⁴ seeds for each plan."""
    table = ob.sample("kaiming_normal", d=2, l=[1, 2, 5, 50], networks=20_000, plan=plan).table()
    p = 1.0 - (1.0 + table["a"].to_numpy()) ** -0.5
    assert binomial_p_values(table, p).min() > 1e-4 / 8
    assert binomial_p_values(table, 1.0 - (1.0 + 0.95 * table["a"]) ** -0.5).min() < 1e-4 / 8


@pytest.mark.parametrize("plan", PLANS)
def test_the_paper_s_figure_has_these_values(plan):
    """P to 12 digits at (10, 10), from a computation with 60; one false alarm in 10⁴ seeds."""
    known = {"kaiming_normal": 0.0967095304275, "xavier_normal": 0.341882745024}
    study = ob.sample(list(known), d=10, l=10, networks=40_000, seed=10, plan=plan)
    table = study.table().set_index("scheme")
    for label, value in known.items():
        assert table.loc[label, "exact"] == pytest.approx(value, rel=1e-11)
        obstructed = int(table.loc[label, "obstructed"])
        assert stats.binomtest(obstructed, 40_000, value).pvalue > 1e-4 / 2
        assert stats.binomtest(obstructed, 40_000, 1.1 * value).pvalue < 1e-4 / 2
