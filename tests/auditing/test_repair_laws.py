"""The repair of live models by the factors of their channels."""

from __future__ import annotations

import copy
import math
import re

import numpy as np
import pytest
from conftest import framework

import obstruction as ob
from obstruction.auditing.repair.laws import find_law_repair, repair_laws
from obstruction.auditing.repair.repair import find_repair


def mlp(torch, *, width=8, factor=8.0, dtype="float64"):
    """Return a network of which most output weights are frozen."""
    torch.manual_seed(1)
    nn = torch.nn
    model = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 1))
    with torch.no_grad():
        model[2].weight.mul_(factor)
    return model.to(getattr(torch, dtype))


def inputs(torch, model, *shape):
    torch.manual_seed(2)
    return torch.randn(*shape).to(next(model.parameters()).dtype)


def norms(model):
    first, last = model[0], model[2]
    into = (first.weight.double() ** 2).sum(1) + first.bias.double() ** 2
    return into.sqrt().detach().numpy(), last.weight.double().abs()[0].detach().numpy()


def frozen(model, x):
    return ob.conservation_laws(model, inputs=x).frozen()


# --- single balances ------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [0.1, 1.0])
def test_factors_are_the_least_ones_that_give_the_margin(margin):
    torch = framework("torch")
    model = mlp(torch)
    x = inputs(torch, model, 32, 2)
    laws = ob.conservation_laws(model, inputs=x)
    into, out = norms(model)
    assert 2 <= (out > into).sum() < 8
    found = find_law_repair(model, laws, inputs=x, margin=margin)
    # a·in = (1 + margin)·out/a, as in the repair of chains
    expected = np.where(out > into, np.sqrt((1.0 + margin) * out / into), 1.0)
    assert found.factors[0] == pytest.approx(expected, rel=1e-5)
    assert found.repaired == found.changed == (out > into).sum()
    assert found.largest_factor == pytest.approx(expected.max(), rel=1e-5)
    fixed = repair_laws(model, laws, inputs=x, margin=margin)
    into, out = norms(fixed)
    assert (into >= (1.0 + margin) * out * (1.0 - 1e-12))[expected > 1.0].all()


def test_a_network_of_one_hidden_layer_gets_the_repair_of_chains():
    torch = framework("torch")
    model = mlp(torch)
    with torch.no_grad():  # every neuron is frozen, so that both look after the same ones
        model[2].weight.mul_(1000.0)
    x = inputs(torch, model, 16, 2)
    found = find_law_repair(model, ob.conservation_laws(model, inputs=x), inputs=x)
    chain = find_repair(model)
    assert found.factors[0] == pytest.approx(chain.scales[0], rel=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_the_function_stays_the_same_and_nothing_is_frozen(dtype):
    torch = framework("torch")
    model = mlp(torch, dtype=dtype)
    before = copy.deepcopy(model.state_dict())
    x = inputs(torch, model, 64, 2)
    laws = ob.conservation_laws(model, inputs=x)
    assert len(laws.frozen()) >= 2
    fixed = repair_laws(model, laws, inputs=x)
    assert frozen(fixed, x).empty
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert fixed[0].weight.dtype == model[0].weight.dtype
    old, new = model(x).detach().double(), fixed(x).detach().double()
    rtol = {"float64": 1e-14, "float32": 1e-6, "bfloat16": 0.0}[dtype]
    assert float((old - new).abs().max()) <= rtol * float(old.abs().max())
    if dtype == "bfloat16":  # powers of two round nothing
        ratios = (fixed[0].weight / model[0].weight).float().log2()
        assert torch.equal(ratios, ratios.round())
        assert not torch.equal(ratios, 0.0 * ratios)
    again = find_law_repair(fixed, ob.conservation_laws(fixed, inputs=x), inputs=x)
    assert again.changed == 0


def test_the_boundary_is_left_as_well():
    torch = framework("torch")
    model = mlp(torch, width=2)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 0.0], [4.0, 0.0]]))
        model[0].bias.copy_(torch.tensor([4.0, 3.0]))
        model[2].weight.copy_(torch.tensor([[5.0, 2.0]]))  # c = 0 and c = 21
    x = inputs(torch, model, 16, 2)
    laws = ob.conservation_laws(model, inputs=x)
    assert laws.frozen()["status"].tolist() == ["boundary"]
    found = find_law_repair(model, laws, inputs=x)
    assert found.factors[0] == pytest.approx([math.sqrt(1.1), 1.0], rel=1e-5)
    assert frozen(repair_laws(model, laws, inputs=x), x).empty


# --- gains and several balances -------------------------------------------------------------


def test_a_frozen_gain_is_scaled_down():
    torch = framework("torch")
    torch.manual_seed(0)
    nn = torch.nn
    model = nn.Sequential(nn.Linear(3, 4), nn.RMSNorm(4), nn.Linear(4, 5), nn.Tanh()).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([4.0, -3.0, 0.1, 0.1]))
    x = inputs(torch, model, 16, 3)
    laws = ob.conservation_laws(model, inputs=x)
    assert laws.frozen()["position"].tolist() == [(0,), (1,)]
    fixed = repair_laws(model, laws, inputs=x)
    assert frozen(fixed, x).empty
    gain = fixed[1].weight.detach().numpy()
    column = fixed[2].weight.detach().norm(dim=0).numpy()
    assert column[:2] / np.abs(gain[:2]) == pytest.approx(1.1, rel=1e-5)
    assert np.array_equal(gain[2:], model[1].weight.detach().numpy()[2:])
    torch.testing.assert_close(fixed(x), model(x), rtol=1e-13, atol=1e-13)


def test_a_certificate_of_several_balances():
    torch = framework("torch")
    torch.manual_seed(1)
    nn = torch.nn
    model = nn.Sequential(
        nn.Linear(2, 5, bias=False), nn.ReLU(), nn.Linear(5, 1, bias=False), nn.ReLU(),
        nn.Linear(1, 1, bias=False),
    ).double()  # fmt: skip
    with torch.no_grad():
        model[0].weight.mul_(0.1)
        model[4].weight.fill_(2.0)
    x = inputs(torch, model, 16, 2)
    laws = ob.conservation_laws(model, inputs=x)
    assert max(map(len, laws.frozen()["laws"])) > 1
    fixed = repair_laws(model, laws, inputs=x)
    assert frozen(fixed, x).empty
    torch.testing.assert_close(fixed(x), model(x), rtol=1e-13, atol=1e-15)


# --- what cannot be repaired ----------------------------------------------------------------


def test_a_dead_channel_is_left_and_named():
    torch = framework("torch")
    model = mlp(torch)
    with torch.no_grad():
        model[0].weight[3] = model[0].bias[3] = 0.0
    x = inputs(torch, model, 16, 2)
    laws = ob.conservation_laws(model, inputs=x)
    with pytest.warns(UserWarning, match=re.escape("1 weight stays frozen (2.weight[0, 3]): its")):
        fixed = repair_laws(model, laws, inputs=x)
    assert frozen(fixed, x)["position"].tolist() == [(0, 3)]
    assert fixed[2].weight[0, 3] == model[2].weight[0, 3]


def test_of_two_single_weights_one_is_always_frozen():
    torch = framework("torch")
    torch.manual_seed(0)
    nn = torch.nn
    model = nn.Sequential(nn.Linear(3, 4), nn.RMSNorm(4), nn.Linear(4, 1)).double()
    x = inputs(torch, model, 16, 3)
    laws = ob.conservation_laws(model, inputs=x)
    assert len(laws.frozen()) == 4
    found = find_law_repair(model, laws, inputs=x)
    assert found.changed == found.repaired == 0
    assert len(found.left) == 4
    assert "4 weights stay frozen (1.weight[0]" in str(found)


def test_nothing_to_repair():
    torch = framework("torch")
    model = mlp(torch, factor=0.01)
    x = inputs(torch, model, 16, 2)
    found = find_law_repair(model, ob.conservation_laws(model, inputs=x), inputs=x)
    assert str(found) == "Nothing was rescaled."
    assert found.changes == {}
    assert found.largest_factor == 1.0


def test_laws_of_another_state_are_refused():
    torch = framework("torch")
    model = mlp(torch)
    x = inputs(torch, model, 16, 2)
    laws = ob.conservation_laws(model, inputs=x)
    with torch.no_grad():
        model[0].bias += 1.0
    with pytest.raises(ValueError, match=r"as it is now, but 0\.bias has changed since"):
        repair_laws(model, laws, inputs=x)
    with pytest.raises(ValueError, match=r"of this model, but .*has no parameter '0\.weight'"):
        repair_laws(model[2], laws, inputs=x)
    with pytest.raises(ValueError, match="margin = 0"):
        repair_laws(model, laws, inputs=x, margin=0)


def test_a_wrong_law_is_caught_by_the_outputs():
    torch = framework("torch")
    model = mlp(torch)
    x = inputs(torch, model, 16, 2)
    laws = ob.conservation_laws(model, inputs=x)
    model[1] = torch.nn.Softplus()  # not homogeneous, so that the laws do not hold
    with pytest.raises(ValueError, match=r"more than the .* that rounding explains"):
        repair_laws(model, laws, inputs=x)


def test_factors_that_a_type_cannot_hold():
    torch = framework("torch")
    model = mlp(torch, width=2, factor=1.0, dtype="float16")
    with torch.no_grad():
        model[0].weight.fill_(3e-5)
        model[0].bias.fill_(0.0)
        model[2].weight.fill_(6e4)
    x = inputs(torch, model, 16, 2)
    laws = ob.conservation_laws(model, inputs=x)
    found = find_law_repair(model, laws, inputs=x)
    assert found.repaired + len(found.left) == 2


# --- other frameworks -----------------------------------------------------------------------


def test_jax_gets_new_parameters():
    jax = framework("jax")
    rng = np.random.default_rng(0)
    params = {
        "w1": jax.numpy.asarray(rng.standard_normal((3, 4)), dtype="float32"),
        "w2": jax.numpy.asarray(20.0 * rng.standard_normal((4, 1)), dtype="float32"),
        "steps": 3,
    }

    def apply(params, x):
        return jax.nn.relu(x @ params["w1"]) @ params["w2"]

    x = rng.standard_normal((8, 3))
    laws = ob.conservation_laws((apply, params), inputs=x)
    assert len(laws.frozen()) > 0
    fixed = repair_laws((apply, params), laws, inputs=x)
    assert fixed["steps"] == 3
    assert fixed["w1"].dtype == np.float32
    assert ob.conservation_laws((apply, fixed), inputs=x).frozen().empty
    assert np.asarray(apply(fixed, x)) == pytest.approx(np.asarray(apply(params, x)), rel=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_keras_model_is_copied(monkeypatch):
    framework("torch")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = framework("keras")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(6, activation="relu"), keras.layers.Dense(1)]
    )
    model.layers[1].kernel.assign(20.0 * np.asarray(model.layers[1].kernel))
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    laws = ob.conservation_laws(model, inputs=x)
    assert len(laws.frozen()) > 0
    before = model.get_weights()
    fixed = repair_laws(model, laws, inputs=x)
    assert ob.conservation_laws(fixed, inputs=x).frozen().empty
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert fixed.predict(x, verbose=0) == pytest.approx(model.predict(x, verbose=0), rel=1e-4)


# --- ob.repair with the report of an audit ------------------------------------------------------


def test_repair_follows_the_report_of_a_live_audit():
    torch = framework("torch")
    model = mlp(torch)
    x = inputs(torch, model, 16, 2)
    report = ob.audit(model, inputs=x)
    fixed = ob.repair(model, report, margin=0.2)
    assert report.verdict == "obstructed"
    assert ob.audit(fixed, inputs=x).verdict == "clear"
    torch.testing.assert_close(fixed(x), model(x), rtol=1e-12, atol=1e-12)
    into, out = norms(fixed)
    changed = into != norms(model)[0]
    assert changed.any()
    assert (into[changed] >= 1.2 * out[changed] * (1 - 1e-9)).all()


@pytest.mark.parametrize(
    "options",
    [
        {"scope": "frozen"},
        {"inplace": True},
        {"out": "fixed.pt"},
        {"activation": "relu"},
        {"layout": "out_in"},
        {"layers": ["0", "2"]},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_of_chains_are_refused_with_such_a_report(options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch = framework("torch")
    model = mlp(torch)
    before = copy.deepcopy(model.state_dict())
    report = ob.audit(model, inputs=inputs(torch, model, 16, 2))
    (name,) = options
    with pytest.raises(ValueError, match=f"^{name}: must not be given with the report of a live"):
        ob.repair(model, report, **options)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not list(tmp_path.iterdir())


def test_audit_and_repair_of_a_pair_of_jax():
    jax = framework("jax")
    rng = np.random.default_rng(1)
    params = {"w": 0.3 * rng.normal(size=(4, 16)), "v": rng.normal(size=(16, 1))}

    def apply(params, x):
        return jax.nn.relu(x @ params["w"]) @ params["v"]

    x = rng.normal(size=(8, 4))
    report = ob.audit((apply, params), inputs=x)
    by_hand = (params["w"] ** 2).sum(0) < params["v"][:, 0] ** 2
    assert report.frozen_weights == by_hand.sum() > 0
    fixed = ob.repair((apply, params), report)
    assert ob.audit((apply, fixed), inputs=x).verdict == "clear"
    assert float(abs(apply(fixed, x) - apply(params, x)).max()) < 1e-5


def test_combinations_that_stay_frozen_are_told():
    torch = framework("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    with torch.no_grad():
        model[2].weight *= 9.0
    report = ob.audit(model, inputs=torch.randn(8, 3), loss="cross_entropy")
    number = int(report.frozen["combination"].sum())
    assert number > 0
    with pytest.warns(UserWarning, match=f"{number} combinations of weights stay frozen"):
        ob.repair(model, report)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_repaired_scripted_module_can_be_trained():
    torch = framework("torch")
    nn = torch.nn
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))
    with torch.no_grad():
        net[2].weight *= 30.0
    batch = torch.randn(16, 5)
    model = torch.jit.script(net)
    fixed = ob.repair(model, ob.audit(model, inputs=batch))
    assert ob.audit(fixed, inputs=batch).verdict == "clear"
    before = fixed(batch).detach()
    torch.testing.assert_close(before, model(batch))
    optimiser = torch.optim.SGD(fixed.parameters(), lr=0.01)
    fixed(batch).square().mean().backward()
    optimiser.step()
    assert (fixed(batch) - before).abs().max() > 1e-3
