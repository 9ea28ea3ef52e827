"""The monitor of the conservation laws of live models."""

from __future__ import annotations

import time

import numpy as np
import pytest
from conftest import framework

import obstruction as ob
from obstruction.conservation.law import summed
from obstruction.models import NoChain, NothingAuditable
from obstruction.training import law_records
from obstruction.training.law_values import sums_along
from obstruction.training.monitor import Monitor
from obstruction.training.signs import NONE, changes, signs_of


def mlp(torch, width=6, outputs=1, inputs=3):
    torch.manual_seed(0)
    nn = torch.nn
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, outputs)).double()


def data(torch, inputs=3, samples=64):
    torch.manual_seed(1)
    x = torch.randn(samples, inputs, dtype=torch.float64)
    return x, torch.sin(x[:, :1]) - x[:, 1:2].relu()


def balances(model):
    """Return in² - out² of the hidden neurons of `mlp`."""
    first, last = model[0], model[2]
    into = (first.weight**2).sum(1) + first.bias**2
    return (into - (last.weight**2).sum(0)).detach().numpy()


def trained(torch, model, monitor, optimiser, steps):
    x, y = data(torch)
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        optimiser.step()
        monitor.step(step)


# --- what is recorded -----------------------------------------------------------------------


def test_history_and_drift_are_those_of_the_balances():
    torch = framework("torch")
    model = mlp(torch)
    start = balances(model)
    unit = ((model[0].weight ** 2).sum(1) + model[0].bias ** 2 + model[2].weight[0] ** 2).detach()
    monitor = Monitor(model, inputs=data(torch)[0], every=10)
    trained(torch, model, monitor, torch.optim.Adam(model.parameters(), 1e-2), 40)
    history = monitor.history
    # the state before training counts as the step before the first
    assert history["step"].unique().tolist() == [0, 1, 11, 21, 31]
    now = mlp(torch)
    assert history[history["step"] == 0]["value"].to_numpy() == pytest.approx(balances(now))
    monitor.step(100)
    last = monitor.history[lambda t: t["step"] == 100]
    assert last["kind"].unique().tolist() == ["balance"]
    assert last["index"].tolist() == list(range(6))
    assert last["value"].to_numpy() == pytest.approx(balances(model), rel=1e-12)
    moved = np.abs(balances(model) - start) / unit.numpy()
    drift = monitor.drift.iloc[-1]
    assert drift["law"] == 0
    assert drift["largest"] == pytest.approx(moved.max(), rel=1e-9)
    assert drift["mean"] == pytest.approx(moved.mean(), rel=1e-9)
    assert moved.max() > 1e-3


def test_small_steps_drift_less_than_adam():
    torch = framework("torch")
    largest = []
    for make in (lambda p: torch.optim.SGD(p, 1e-3), lambda p: torch.optim.Adam(p, 1e-2)):
        model = mlp(torch)
        monitor = Monitor(model, inputs=data(torch)[0])
        trained(torch, model, monitor, make(model.parameters()), 50)
        largest.append(monitor.drift["largest"].iloc[-1])
    assert 0.0 < largest[0] < 1e-3 < largest[1]


def test_the_drift_is_that_of_the_laws():
    torch = framework("torch")
    model = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, bias=True),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 3, 1),
        torch.nn.Flatten(),
        torch.nn.Linear(48, 5),  # two linear layers: a matrix law
        torch.nn.Linear(5, 2),
    ).to(torch.float32)
    torch.manual_seed(0)
    monitor = Monitor(model, inputs=torch.randn(4, 2, 6, 6))
    assert {"balance", "scale", "matrix", "constant"} <= set(monitor.laws.counts)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    monitor.step(3)
    expected = monitor.laws.drift(model)
    found = monitor.drift[lambda t: t["step"] == 3]
    assert found["kind"].tolist() == expected["kind"].tolist()
    assert found["largest"].to_numpy() == pytest.approx(expected["largest"].to_numpy(), rel=1e-9)
    assert found["mean"].to_numpy() == pytest.approx(expected["mean"].to_numpy(), rel=1e-9)
    values = monitor.history[lambda t: t["step"] == 3]["value"].to_numpy()
    now = {name: p.detach().double().numpy() for name, p in model.named_parameters()}
    assert values == pytest.approx(
        np.concatenate([law.values(now) for law in monitor.laws]), rel=1e-9, abs=1e-12
    )


def test_only_small_laws_keep_their_values(monkeypatch):
    torch = framework("torch")
    monkeypatch.setattr(law_records, "KEPT", 7)
    torch.manual_seed(0)
    nn = torch.nn
    model = nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 2))
    monitor = Monitor(model, inputs=data(torch)[0].float())
    monitor.step(0)
    assert sorted(law.size for law in monitor.laws) == [5, 9]
    assert len(monitor.history) == 5
    assert sorted(monitor.drift["law"]) == [0, 1]


def test_laws_found_before_are_used_and_drift_begins_at_the_present_model():
    torch = framework("torch")
    model = mlp(torch)
    laws = ob.conservation_laws(model, inputs=data(torch)[0])
    with torch.no_grad():
        model[2].weight.mul_(2.0)
    monitor = Monitor(model, laws=laws)
    monitor.step(0)
    assert monitor.drift["largest"].tolist() == [0.0]
    assert monitor.history["value"].to_numpy() == pytest.approx(balances(model))


# --- signs ----------------------------------------------------------------------------------


def test_signs_that_cross_and_whether_they_were_frozen():
    torch = framework("torch")
    model = mlp(torch, width=3)
    with torch.no_grad():
        model[2].weight.copy_(torch.tensor([[50.0, 0.01, 0.01]]))  # only the first is frozen
    monitor = Monitor(model, inputs=data(torch)[0])
    monitor.step(0)
    with torch.no_grad():
        model[2].weight.copy_(torch.tensor([[-1.0, 0.0, 0.02]]))
    monitor.step(5)
    with torch.no_grad():
        model[2].weight[0, 1] = -0.01
    monitor.step(6)
    found = monitor.sign_changes
    assert found["tensor"].tolist() == ["2.weight", "2.weight"]
    assert found["position"].tolist() == [(0, 0), (0, 1)]
    assert found["frozen_at_start"].tolist() == [True, False]
    assert found["step_before"].tolist() == [0, 0]
    assert found["step_after"].tolist() == [5, 6]
    assert found["sign_before"].tolist() == [1, 1]
    assert found["sign_after"].tolist() == [-1, -1]
    labels = [text.get_text() for text in monitor.plot().get_legend().get_texts()]
    assert "sign change of a frozen weight (1)" in labels
    assert "sign change of a free weight (1)" in labels


def test_a_gain_alone_behind_a_normalisation_is_watched():
    torch = framework("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.RMSNorm(4), torch.nn.Linear(4, 5), torch.nn.Tanh()
    )
    monitor = Monitor(model, inputs=torch.randn(6, 3))
    monitor.step(0)
    with torch.no_grad():
        model[1].weight[2] = -1.0
    monitor.step(1)
    assert monitor.sign_changes["tensor"].tolist() == ["1.weight"]
    assert monitor.sign_changes["position"].tolist() == [(2,)]


def test_changes_skip_zeros_and_numbers_that_are_not_finite():
    weights = [[1.0, np.nan], [0.0, -1.0], [-1.0, np.inf], [-2.0, 3.0]]
    signs = [signs_of(np.array(row)) for row in weights]
    assert [row.tolist() for row in signs] == [[1, NONE], [0, -1], [-1, NONE], [-1, 1]]
    where, before, after = changes(signs)
    assert list(zip(where.tolist(), before.tolist(), after.tolist(), strict=True)) == [
        (0, 0, 2),
        (1, 1, 3),
    ]
    assert [part.size for part in changes([])] == [0, 0, 0]


# --- other frameworks -----------------------------------------------------------------------


def test_jax_parameters_are_given_at_each_step():
    jax = framework("jax")
    rng = np.random.default_rng(0)
    params = {
        "w1": jax.numpy.asarray(rng.standard_normal((3, 4)), dtype="float32"),
        "w2": jax.numpy.asarray(rng.standard_normal((4, 1)), dtype="float32"),
    }

    def apply(params, x):
        return jax.nn.relu(x @ params["w1"]) @ params["w2"]

    monitor = Monitor((apply, params), inputs=rng.standard_normal((8, 3)))
    monitor.step(0)
    later = {"w1": 2.0 * params["w1"], "w2": params["w2"]}
    monitor.step(1, later)
    into = (np.asarray(later["w1"], np.float64) ** 2).sum(0)
    expected = into - np.asarray(later["w2"], np.float64)[:, 0] ** 2
    values = monitor.history[lambda t: t["step"] == 1]["value"]
    assert values.to_numpy() == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="no parameter 'w1'"):
        monitor.step(2, {"w2": params["w2"]})
    with pytest.raises(ValueError, match=r"w1 has shape \(4, 3\): must be \(3, 4\)"):
        monitor.step(3, {"w1": params["w1"].T, "w2": params["w2"]})


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_callback_of_keras_records_laws(monkeypatch):
    framework("torch")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = framework("keras")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1)]
    )
    rng = np.random.default_rng(0)
    x = rng.standard_normal((32, 3)).astype(np.float32)
    monitor = Monitor(model, inputs=x[:8])
    model.compile("sgd", "mse")
    model.fit(x, x[:, :1], batch_size=8, verbose=0, callbacks=[monitor.keras_callback()])
    kernel, bias, last, _ = [np.asarray(w, np.float64) for w in model.get_weights()]
    expected = (kernel**2).sum(0) + bias**2 - last[:, 0] ** 2
    table = monitor.history
    assert table["step"].unique().tolist() == [0, 1, 2, 3, 4]
    assert table["value"].to_numpy()[-4:] == pytest.approx(expected, rel=1e-9)


# --- sums, errors, cost ---------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (5,), (4, 6), (3, 3, 4, 5), (600, 500)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sums_along_axes(shape, dtype):
    rng = np.random.default_rng(0)
    array = np.asarray(rng.standard_normal(shape)).astype(dtype)
    n = len(shape)
    wanted = {(), *((i,) for i in range(n)), *((i, j) for i in range(n) for j in range(i))}
    wanted = {tuple(sorted(axes)) for axes in wanted}
    found = sums_along(array, wanted, squared=True)
    for axes in wanted:
        others = tuple(i for i in range(n) if i not in axes)
        expected = (array.astype(np.float64) ** 2).sum(axis=others, keepdims=True)
        np.testing.assert_allclose(found[axes], expected, rtol=1e-12)
    transposed = sums_along(array.T, {()}, squared=False)[()]
    np.testing.assert_allclose(transposed.sum(), array.astype(np.float64).sum(), atol=1e-9)


def test_arguments_that_do_not_go_together():
    torch = framework("torch")
    model, x = mlp(torch), data(torch)[0]
    with pytest.raises(ValueError, match="loss = 'cross_entropy': must be None without inputs"):
        Monitor(model, loss="cross_entropy")
    with pytest.raises(ValueError, match="activation = 'relu': must be None with inputs or laws"):
        Monitor(model, inputs=x, activation="relu")
    laws = ob.conservation_laws(model, inputs=x)
    with pytest.raises(ValueError, match="inputs: must be None with laws"):
        Monitor(model, inputs=x, laws=laws)


def test_a_model_without_laws_is_refused():
    torch = framework("torch")
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    with pytest.raises(NothingAuditable, match="no conservation law"):
        Monitor(model, inputs=torch.randn(8, 3))


def test_tables_before_the_first_step_are_empty():
    torch = framework("torch")
    monitor = Monitor(mlp(torch), inputs=data(torch)[0])
    for table in (monitor.history, monitor.drift, monitor.sign_changes):
        assert table.empty
    assert "step_after" in monitor.sign_changes.columns


def test_a_record_is_cheap():
    """A record takes less time than four sums of squares of a copy in float64."""
    torch = framework("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(2000, 2000), torch.nn.ReLU(), torch.nn.Linear(2000, 3000)
    )
    monitor = Monitor(model, inputs=torch.randn(2, 2000))

    def peer():
        for weight in (model[0].weight, model[2].weight):
            squares = weight.detach().numpy().astype(np.float64) ** 2
            summed(squares, np.arange(squares.shape[0])[:, None], squares.shape[0])

    times = []
    for step in range(5):
        begun = time.perf_counter()
        monitor.step(step)
        middle = time.perf_counter()
        peer()
        times.append((middle - begun) / (time.perf_counter() - middle))
    assert min(times) < 4.0


def test_a_module_that_is_no_chain_is_watched_by_its_laws():
    torch = framework("torch")
    nn = torch.nn
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 1))
    monitor = Monitor(model)
    assert monitor.laws.counts["balance"] == 5  # of the gains and offsets
    assert Monitor(mlp(torch)).laws is None
    with pytest.raises(NoChain, match=r"ob\.Monitor\(model, inputs=torch\.randn\(4, 2, 64, 64\)\)"):
        Monitor(nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU()))
    with pytest.raises(ValueError, match=r"^activation = 'relu': Sequential is no chain"):
        Monitor(model, activation="relu")
