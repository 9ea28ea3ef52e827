"""What the audit says of good and bad luck: the numbers against SciPy, the sentences by kind."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.stats

import obstruction as ob
from obstruction import models
from obstruction.auditing.origin.expectation import LEVEL
from obstruction.auditing.origin.luck import assess
from obstruction.models.model import Link, Model
from obstruction.models.options import ReadOptions


def network(scheme: str, d: int, l: int, number: int = 0, outputs: int = 1) -> Model:
    w1, w2, b1 = ob.replay(3, network=number, d=d, l=l, scheme=scheme)
    w2 = w2.repeat(outputs, axis=0)
    arrays = [w1, w2] if b1 is None else [w1, b1, w2, np.zeros(outputs)]
    return models.read(arrays, ReadOptions("relu", layout="out_in"))


def chain(*shapes: tuple[int, int], seed: int = 0, std: float = 1.0) -> Model:
    rng = np.random.default_rng(seed)
    weights = [std * rng.normal(size=shape) for shape in shapes]
    return models.read(weights, ReadOptions("relu", layout="out_in"))


# --- the numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("observed", [0, 1, 2, 7])
@pytest.mark.parametrize(
    ("scheme", "d", "l"),
    [
        ("kaiming_normal", 10, 64),
        ("torch_linear", 4, 90),
        ("flax_dense", 3, 70),
        ("torch_xavier_uniform", 3, 80),
    ],
)
def test_numbers_are_those_of_the_binomial_law(scheme, d, l, observed):
    luck = assess(network(scheme, d, l), observed, scheme=scheme)
    p = ob.exact.pathological_probability(scheme, d, l)
    law = scipy.stats.binom(l, p)
    assert luck.expected == pytest.approx(l * p, rel=1e-12)
    assert luck.probability == pytest.approx(1.0 - (1.0 - p) ** l, rel=1e-9)
    assert luck.low == luck.high == luck.probability
    at_least = sum(law.pmf(k) for k in range(observed, l + 1))
    assert luck.p_value == pytest.approx(at_least, rel=1e-9)
    (one,) = luck.expectations
    at_most = sum(law.pmf(k) for k in range(observed + 1))
    assert one.p_fewer == pytest.approx(at_most, rel=1e-9)
    assert (luck.d, luck.l, luck.outputs, luck.observed, luck.given) == (d, l, 1, observed, True)
    assert luck.schemes == one.schemes == (scheme,)


def test_tiny_probabilities_are_not_lost():
    luck = assess(network("kaiming_normal", 100, 100), 1, scheme="kaiming_normal")
    assert luck.p_value == pytest.approx(9.90168898459e-15, rel=1e-11)
    assert luck.expected == pytest.approx(9.90168898459e-15, rel=1e-11)


def test_a_deep_chain_is_judged_by_its_last_hidden_layer():
    model = chain((90, 50), (40, 90), (1, 40))
    luck = assess(model, 0)
    assert luck.schemes == ("ntk",)
    assert (luck.d, luck.l) == (90, 40)
    p = ob.exact.pathological_probability("ntk", 90, 40)
    assert luck.expected == pytest.approx(40 * p, rel=1e-12)
    assert "No neuron of the last hidden layer is pathological" in luck.verdict


def test_the_p_value_is_as_frequent_as_it_says():
    """Of 400 networks that are drawn and counted."""
    p_values = []
    for number in range(400):
        w1, w2, _ = ob.replay(8, network=number, d=3, l=12, scheme="xavier_normal")
        observed = int(np.count_nonzero((w1**2).sum(axis=1) < w2[0] ** 2))
        model = models.read([w1, w2], ReadOptions("relu", layout="out_in"))
        p_values.append(assess(model, observed, scheme="xavier_normal").p_value)
    values = sorted(set(p_values))
    assert len(values) > 4
    for p in values:  # the values the p-value can take, each as frequent as it is
        found = sum(other <= p for other in p_values)
        assert scipy.stats.binomtest(found, 400, p).pvalue > 1e-5


def test_several_fitting_schemes_give_a_range():
    luck = assess(network("kaiming_normal", 2, 3, 1), 1)
    assert len(luck.schemes) > 3
    assert not luck.given
    probabilities = [one.probability for one in luck.expectations if one.probability is not None]
    assert (luck.low, luck.high) == (min(probabilities), max(probabilities))
    assert luck.low < luck.high
    assert luck.probability == luck.expectations[0].probability
    assert "--scheme" in luck.verdict


def test_it_goes_into_json():
    for model, observed in (
        (network("kaiming_normal", 2, 3, 1), 1),
        (network("orthogonal", 20, 30), 0),
        (network("torch_linear", 20, 30, outputs=3), 0),
        (chain((30, 40), (1, 30), std=7.0), 0),
    ):
        luck = assess(model, observed)
        fields = luck.to_dict()
        assert json.loads(json.dumps(fields, allow_nan=False)) == fields
        assert fields["verdict"] == luck.verdict
        assert len(fields["expectations"]) == len(luck.schemes)


# --- what there is no number for ----------------------------------------------------------------


def test_nothing_is_said_if_not_asked():
    model = network("torch_linear", 20, 30)
    assert assess(model, 0, scheme=None) is None


def test_neurons_that_keep_no_balance_have_no_luck():
    model = chain((30, 40), (20, 30), (1, 20))
    links = (model.links[0], Link("tanh", reason="tanh"))
    assert assess(Model(model.layers, links, (), ""), 0) is None


def test_several_outputs_cannot_be_obstructed():
    luck = assess(network("torch_linear", 20, 30, outputs=3), 0)
    assert (luck.expected, luck.probability, luck.p_value, luck.low, luck.high) == (0, 0, 1, 0, 0)
    assert luck.outputs == 3
    assert luck.verdict == (
        "With 3 outputs no neuron of the last hidden layer can be pathological, whatever the "
        "initialisation: there is nothing to do."
    )
    with pytest.raises(ValueError, match="observed = 1: "):
        assess(network("torch_linear", 20, 30, outputs=3), 1)
    one_input = assess(chain((30, 1), (3, 30)), 0).verdict
    assert "the input weight of every neuron" in one_input
    assert "a hidden layer of one neuron" in assess(chain((1, 9), (30, 1), (3, 30)), 0).verdict


def test_one_input_without_biases_disconnects_anyhow():
    luck = assess(network("kaiming_normal", 1, 30), 7)
    assert "a frozen weight, whatever the initialisation: add hidden biases" in luck.verdict
    assert "7 of 30 neurons are pathological" in luck.verdict
    biased = assess(network("torch_linear", 1, 30), 7)
    assert "whatever the initialisation" not in biased.verdict


def test_dependent_weights_have_no_exact_value():
    for scheme in ("auto", "orthogonal"):
        luck = assess(network("orthogonal", 20, 30), 0, scheme=scheme)
        assert luck.schemes == ("orthogonal",)
        assert luck.expected == 30 * ob.exact.pathological_probability("orthogonal", 20, 30)
        assert (luck.probability, luck.p_value, luck.low, luck.high) == (None,) * 4
        assert "pathological (fewer than 0.001 expected); orthogonal weights" in luck.verdict
        assert "orthogonal weights depend on each other" in luck.verdict
        assert "`obstruction run --scheme orthogonal --d 20 --l 30`" in luck.verdict


def test_the_only_neuron_of_a_deep_chain_has_no_formula():
    luck = assess(chain((30, 40), (1, 30), (1, 1)), 1, scheme="ntk")
    assert luck.expected is None
    assert "there is no formula" in luck.verdict
    assert assess(chain((1, 40), (1, 1)), 0, scheme="ntk").expected is not None


def test_trained_weights_fit_none():
    luck = assess(chain((30, 40), (1, 30), std=7.0), 0)
    assert luck.schemes == luck.expectations == ()
    assert (luck.expected, luck.probability, luck.p_value) == (None, None, None)
    assert luck.verdict == (
        "No neuron is pathological; these weights fit none of the known initialisations (they "
        "look trained, or drawn in another way), so name the one they were drawn from (scheme= "
        "or --scheme) to compare."
    )
    assert "or repair these weights" in assess(chain((30, 40), (1, 30), std=7.0), 2).verdict


# --- sentences ----------------------------------------------------------------------------------

SENTENCES = [
    # scheme, d, l, observed, what is found, what to do
    ("torch_linear", 784, 128, 0, "as was to be expected", "there is nothing to do"),
    ("xavier_normal", 20, 40, 0, "with xavier_normal (20 inputs, 40 neurons) 5.6 %", "look again"),
    ("kaiming_normal", 2, 300, 0, "63 % of fresh networks would have one", "after a new draw"),
    ("xavier_normal", 4, 100, 0, "too few for chance", "check that this is how"),
    ("torch_xavier_uniform", 4, 100, 0, "76 % of fresh", "look again"),
    ("mean_field", 20, 8, 0, "which is good luck", "keep these weights"),
    ("mean_field", 20, 50, 16, "which is usual for mean_field", "change the initialisation"),
    ("mean_field", 20, 50, 16, "likely to be no better", "obstruction repair"),
    ("mean_field", 20, 50, 2, "too few for chance", "or repair these weights"),
    ("kaiming_normal", 10, 20, 1, "which is bad luck", "draw again with another seed"),
    ("kaiming_normal", 10, 14, 1, "which is usual for", "draw again with another seed"),
    ("kaiming_normal", 10, 64, 9, "too many for bad luck", "look for what else made them"),
    ("torch_linear", 30, 64, 1, "too many for bad luck: ", "fewer than one in a million"),
]


@pytest.mark.parametrize("case", SENTENCES, ids=str)
def test_the_verdict_says_what_is_found_and_what_to_do(case):
    scheme, d, l, observed, found, todo = case
    verdict = assess(network(scheme, d, l), observed, scheme=scheme).verdict
    assert found in verdict
    assert todo in verdict
    assert verdict.endswith(".")
    assert "\n" not in verdict
    assert verdict.count(". ") == 0  # one sentence
    counted = {0: "No neuron is", 1: f"1 of {l} neurons is"}.get(
        observed, f"{observed} of {l} neurons are"
    )
    assert verdict.startswith(f"{counted} pathological")


def test_the_bounds_of_luck():
    """Bad luck is below 5 %, no luck below 0.1 %."""
    d, l = 4, 60
    model = network("kaiming_normal", d, l)
    count = ob.exact.pathological_count("kaiming_normal", d, l)
    for observed in range(1, 9):
        verdict = assess(model, observed, scheme="kaiming_normal").verdict
        p = count.sf(observed - 1)
        word = "usual" if p >= 0.05 else "bad luck: with" if p < LEVEL else "which is bad luck"
        assert word in verdict
        assert ("too many" in verdict) == (p < 1e-3)


def test_a_scheme_that_is_plainly_not_followed_is_doubted():
    model = network("kaiming_normal", 20, 40)
    luck = assess(model, 0, scheme="xavier_normal")
    assert luck.expected == pytest.approx(
        40 * ob.exact.pathological_probability("xavier_normal", 20, 40), rel=1e-12
    )
    assert luck.expectations[0].fit < 1e-30
    assert luck.verdict.startswith(
        "These weights do not look drawn from xavier_normal (the mean sq"
    )
    assert ", p = " in luck.verdict
    assert "but if they were: no neuron is pathological" in luck.verdict
    biases = assess(model, 0, scheme="torch_kaiming_normal")  # which has some
    assert "the biases of 'W1' are missing), but if they were" in biases.verdict
    right = assess(model, 0, scheme="kaiming_normal")
    assert "do not look" not in right.verdict
    assert assess(model, 0, scheme=ob.scheme("kaiming_normal")) == right


def test_schemes_that_lead_to_different_advice_are_asked_for():
    model = network("flax_dense", 2, 4)
    luck = assess(model, 0)
    assert "these weights can have been drawn from" in luck.verdict
    assert "name the one that was used (scheme= or --scheme)" in luck.verdict
    assert "% of fresh networks would have one" in luck.verdict
    assert all(math.isfinite(one.fit) and one.fit >= LEVEL for one in luck.expectations)


def test_bad_arguments_are_refused():
    model = network("torch_linear", 20, 30)
    for observed in (-1, 31, 1.5, "one"):
        with pytest.raises(ValueError, match="observed = "):
            assess(model, observed)
    with pytest.raises(ValueError, match="unknown scheme 'kaiming'"):
        assess(model, 0, scheme="kaiming")
    with pytest.raises(ValueError, match="scheme = 3"):
        assess(model, 0, scheme=3)


def test_the_only_neuron_is_not_counted():
    assert assess(network("kaiming_normal", 3, 1), 0, scheme="kaiming_normal").verdict.startswith(
        "The only neuron is not pathological"
    )
    assert assess(network("kaiming_normal", 3, 1), 1, scheme="kaiming_normal").verdict.startswith(
        "The only neuron is pathological"
    )
