"""The audit: statuses, components, what is skipped, and agreement with the sampler's counts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import obstruction as ob
from obstruction import topology
from obstruction.models import NothingAuditable
from obstruction.studies.replay import Weights


def random_chain(*widths: int, seed: int = 0, bias: bool = False) -> list[np.ndarray | None]:
    """Return weights and biases of a chain in forward order, ``(outputs, inputs)``.

    The last weights are large, so that many neurons in front of a single output are pathological.
    """
    generator = np.random.default_rng(seed)
    arrays: list[np.ndarray | None] = []
    for inputs, outputs in itertools.pairwise(widths):
        arrays.append(generator.standard_normal((outputs, inputs)))
        arrays.append(generator.standard_normal(outputs) if bias else None)
    arrays[-2] = 3.0 * arrays[-2]
    return arrays


def audited(arrays, **options):
    options = {"activation": "relu", "layout": "out_in", "scheme": None, **options}
    return ob.audit(arrays, **options)


# --- one hidden layer -----------------------------------------------------------------------


def test_the_four_statuses():
    hidden = np.array([[3.0, 4.0], [0.6, 0.8], [1.0, 0.0], [0.0, 0.0], [2.0, 0.0]])
    output = np.array([[1.0, -2.0, 1.0, 0.5, 0.0]])
    report = audited([hidden, None, output, None])
    table = report.neurons
    assert table["status"].tolist() == ["free", "pathological", "boundary", "dead", "free"]
    assert table["sign"].tolist() == [1, -1, 1, 1, 0]
    assert table["in_norm"].tolist() == [5.0, 1.0, 1.0, 0.0, 2.0]
    assert table["out_norm"].tolist() == [1.0, 2.0, 1.0, 0.5, 0.0]
    assert table["balance"].tolist() == [24.0, -3.0, 0.0, -0.25, 4.0]
    assert table["margin"].tolist() == [4.0, -0.5, 0.0, -1.0, math.inf]
    assert table["frozen"].tolist() == ["", "out", "", "out", ""]
    assert report.components == 4  # the dead neuron's weight cannot change its sign either
    assert report.effective_components == 3
    summary = report.summary()
    wanted = {"free": 2, "pathological": 1, "boundary": 1, "dead": 1, "neurons": 5}
    assert {name: summary[name] for name in wanted} == wanted
    assert (summary["frozen_positive"], summary["frozen_negative"]) == (1, 1)
    assert summary["verdict"] == report.verdict == "obstructed"


def test_the_scale_repairs_the_neuron():
    hidden, _, output, _ = random_chain(3, 40, 1, seed=3)
    table = audited([hidden, None, output, None]).neurons
    bad = table[table["status"] == "pathological"]
    assert len(bad) > 3
    assert table[table["status"] == "free"]["scale"].eq(1.0).all()
    ratio = bad["in_norm"] * bad["scale"] / (bad["out_norm"] / bad["scale"])
    assert ratio.to_numpy() == pytest.approx(1.1)


@pytest.mark.parametrize("bias", [False, True])
def test_the_biases_belong_to_the_inputs(bias):
    hidden, b1, output, _ = random_chain(2, 30, 1, seed=1, bias=bias)
    report = audited([hidden, b1, output, None])
    expected = topology.balances(hidden, output, b1)
    assert report.neurons["balance"].to_numpy() == pytest.approx(expected, rel=1e-12)
    assert (report.neurons["status"] == "pathological").tolist() == (expected < 0).tolist()
    assert report.components == 2 ** int((expected < 0).sum())


@pytest.mark.parametrize("scheme", ["kaiming_normal", "torch_linear", "sklearn_mlp"])
@pytest.mark.parametrize(("d", "l"), [(1, 4), (3, 5), (10, 3)])
def test_replayed_networks_give_the_kernels_counts(scheme, d, l):
    study = ob.sample(scheme, d=[d], l=[l], networks=200, seed=5)
    (row,) = study.table().itertuples()
    pathological = obstructed = 0
    for network in range(200):
        report = ob.audit(ob.replay(study, network=network, d=d, l=l), scheme=None)
        count = report.summary()["pathological"]
        pathological += count
        obstructed += count > 0
    assert (obstructed, pathological) == (row.obstructed, row.pathological)


def test_several_outputs_freeze_nothing():
    report = audited(random_chain(4, 30, 3, seed=2))
    assert (report.neurons["balance"] < 0).any()
    assert report.verdict == "clear"
    assert report.components == report.effective_components == 1
    assert report.neurons["status"].eq("free").all()
    assert report.neurons["bottleneck"].isna().all()
    assert report.reachable_signs is None
    with pytest.raises(ValueError, match="one output"):
        report.reaches(negative=1)


def test_one_input_without_bias_freezes_the_inputs_of_the_others():
    report = audited(random_chain(1, 30, 1, seed=4))
    pathological = report.summary()["pathological"]
    assert 0 < pathological < 30
    assert report.components == 2**30
    assert report.effective_components == (pathological + 1) * (30 - pathological + 1)
    assert sorted(set(report.neurons["frozen"])) == ["in", "out"]
    biased = audited(random_chain(1, 30, 1, seed=4, bias=True))
    assert biased.components == 2 ** biased.summary()["pathological"] < 2**30


# --- signs that training can reach --------------------------------------------------------------


def test_reachable_signs():
    hidden, output = np.full((5, 2), 1e-3), np.array([[1.0, 2.0, 3.0, -1.0, -1.0]])
    hidden[4] = 10.0
    report = audited([hidden, None, output, None])
    assert report.reachable_signs == (4, 2)
    assert report.reaches(positive=4)
    assert not report.reaches(positive=5)
    assert report.reaches(negative=2, positive=3)
    assert not report.reaches(negative=3)
    summary = report.summary()
    assert (summary["max_positive"], summary["max_negative"]) == (4, 2)
    assert summary["both_signs_reachable"] is True
    stuck = audited([np.full((2, 2), 1e-3), None, np.ones((1, 2)), None])
    assert stuck.summary()["both_signs_reachable"] is False
    assert stuck.reachable_signs == (2, 0)
    for wrong in ({"positive": -1}, {"negative": 1.5}, {"positive": 3, "negative": 3}):
        with pytest.raises(ValueError, match=r"positive|negative"):
            report.reaches(**wrong)


def test_signs_count_only_what_can_move():
    # frozen +, free, at the boundary -, dead -, dead without an output weight
    hidden = np.array([[1e-3, 0.0], [10.0, 0.0], [0.5, 0.0], [0.0, 0.0], [0.0, 0.0]])
    report = audited([hidden, None, np.array([[1.0, 2.0, -0.5, -1.0, 0.0]]), None])
    assert report.neurons["status"].tolist() == ["pathological", "free", "boundary", "dead", "dead"]
    assert report.reachable_signs == (2, 3)
    assert report.reaches(positive=2, negative=2)
    assert not report.reaches(positive=2, negative=3)  # the second neuron has one sign at a time
    assert not report.reaches(positive=3)


# --- chains -------------------------------------------------------------------------------------


def test_only_the_last_hidden_layer_of_a_deep_network_can_be_pathological():
    report = audited(random_chain(4, 6, 5, 7, 1, seed=6))
    table = report.neurons
    assert table["layer"].cat.categories.tolist() == list(dict.fromkeys(report.layers["layer"]))
    assert len(table) == 18
    first = table[table["layer"] != table["layer"].iloc[-1]]
    assert (first["balance"] < 0).any()
    assert first["status"].eq("free").all()
    last = table[table["layer"] == table["layer"].iloc[-1]]
    assert (last["status"] == "pathological").tolist() == (last["balance"] < 0).tolist()
    assert report.components == 2 ** int((last["balance"] < 0).sum())


def test_a_layer_of_one_neuron_is_judged_by_the_set_behind_it():
    """The second neuron's own balance is positive, that of the set is not."""
    first = np.array([[0.1, 0.0], [0.0, 0.1]])
    middle = np.array([[2.0, 2.0]])
    report = audited([first, None, middle, None, np.array([[1.0]]), None])
    assert report.neurons["balance"].tolist() == pytest.approx([-3.99, -3.99, 7.0])
    assert report.neurons["bottleneck"].tolist() == pytest.approx([-3.99, -3.99, -0.98])
    assert report.neurons["status"].eq("pathological").all()
    assert report.components == 2**3
    assert report.neurons["scale"].notna().tolist() == [True, True, False]


def test_the_tolerance_decides_what_is_on_the_boundary():
    arrays = [np.array([[1.0], [1.0]]), np.ones(2), np.sqrt(2) * np.array([[1.0, 1 + 1e-5]]), None]
    assert audited(arrays).neurons["status"].tolist() == ["boundary", "pathological"]
    report = audited(arrays, rtol=1e-4)
    assert report.neurons["status"].tolist() == ["boundary", "boundary"]
    assert (report.verdict, report.components) == ("boundary", 1)
    for wrong in (-1e-3, 1.0, math.nan, "x", None):
        with pytest.raises(ValueError, match="rtol"):
            audited(arrays, rtol=wrong)


def test_dead_neurons_are_not_called_pathological():
    report = ob.audit((np.zeros((5, 3)), np.arange(1.0, 6.0)[None]), "relu", scheme="torch_linear")
    summary = report.summary()
    assert (summary["dead"], summary["pathological"], summary["frozen_weights"]) == (5, 0, 5)
    assert report.luck.observed == 0
    assert "no rescaling helps" in str(report)
    assert "obstruction repair" not in str(report)


def test_norms_that_overflow_are_refused():
    with pytest.raises(ValueError, match="W1: the weights of its neurons are too large"):
        audited([np.full((5, 3), 1.7e308), None, np.full((1, 5), 1.7e308), None])


@pytest.mark.parametrize("power", [-150, 150, 300])
def test_weights_of_any_size(power):
    hidden, _, output, _ = random_chain(3, 20, 1, seed=7)
    plain = audited([hidden, None, output, None])
    factor = 10.0**power
    scaled = audited([hidden * factor, None, output * factor, None])
    assert scaled.neurons["status"].tolist() == plain.neurons["status"].tolist()
    assert scaled.components == plain.components


# --- what cannot be audited ----------------------------------------------------------------------


def test_nothing_to_audit_is_an_error_with_the_reasons():
    with pytest.raises(NothingAuditable, match="tanh is not positively homogeneous"):
        audited(random_chain(3, 4, 1), activation="tanh")
    with pytest.raises(NothingAuditable, match="two are needed"):
        audited({"a.weight": np.ones((2, 3)), "a.bias": np.ones(2)})


def test_what_is_not_said_is_asked_for():
    arrays = random_chain(3, 4, 1)
    with pytest.raises(ValueError, match="activation"):
        ob.audit(arrays, layout="out_in")
    with pytest.raises(ValueError, match="layout"):
        ob.audit([np.ones((2, 2)), np.ones((2, 2))], activation="relu")
    with pytest.raises(ValueError, match="activation = 'rleu'"):
        ob.audit(arrays, activation="rleu")


def test_replay_says_all_by_itself():
    W1, _, W2, _ = random_chain(3, 4, 1)
    assert ob.audit(Weights(W1, W2, None), scheme=None).summary()["neurons"] == 4
