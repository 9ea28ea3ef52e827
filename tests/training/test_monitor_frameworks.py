"""The monitor and the repair of networks of real frameworks, trained by their own loops."""

from __future__ import annotations

import logging
import os
import time
import warnings

import numpy as np
import pytest
from conftest import framework

from obstruction.auditing.repair.repair import find_repair, repair
from obstruction.training.monitor import Monitor


def rows(samples=64, inputs=3):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((samples, inputs)).astype(np.float32)
    return x, (np.sin(x[:, :1]) - np.maximum(x[:, 1:2], 0.0)).astype(np.float32)


def expected(model):
    """Return the balances of a torch Sequential with one hidden layer."""
    first, last = model[0], model[2]
    into = (first.weight**2).sum(1) + first.bias**2
    return (into - (last.weight**2).sum(0)).detach().numpy()


# --- PyTorch --------------------------------------------------------------------------------


def torch_network(torch, dtype=None):
    torch.manual_seed(0)
    nn = torch.nn
    return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1)).to(dtype or torch.float64)


def drift(torch, make, steps, rate):
    model = torch_network(torch)
    x, y = (torch.tensor(a, dtype=torch.float64) for a in rows())
    optimiser = make(model.parameters(), rate)
    monitor = Monitor(model, every=20)
    monitor.step(0)
    for i in range(1, steps + 1):
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        optimiser.step()
        monitor.step(i)
    table = monitor.history
    last = table[table["step"] == steps]["balance"]
    np.testing.assert_allclose(last, expected(model), rtol=1e-10, atol=1e-13)
    assert table["step"].nunique() == steps // 20 + 1
    return monitor.drift["largest"].iloc[-1]


def test_torch_optimisers_drift_as_theory_says():
    torch = framework("torch")
    flow = drift(torch, lambda p, lr: torch.optim.SGD(p, lr), rate=4e-3, steps=100)
    finer = drift(torch, lambda p, lr: torch.optim.SGD(p, lr), rate=2e-3, steps=200)
    assert flow < 1e-3
    assert flow / finer == pytest.approx(2.0, rel=0.05)
    for make in (
        lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9),
        lambda p, lr: torch.optim.Adam(p, lr),
        lambda p, lr: torch.optim.SGD(p, lr, weight_decay=0.1),
    ):
        assert drift(torch, make, steps=100, rate=4e-3) > 10.0 * flow


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32"])
def test_torch_modules_are_read_in_any_precision(kind):
    torch = framework("torch")
    model = torch_network(torch, getattr(torch, kind))
    monitor = Monitor(model)
    monitor.step(0)
    with torch.no_grad():
        model[2].weight.neg_()
    monitor.step(1)
    assert len(monitor.sign_changes) == 16
    np.testing.assert_allclose(monitor.history["balance"].iloc[:16], expected(model.double()))


def test_a_torch_step_costs_little():
    """The module is run once, when the monitor is made, and not at every step."""
    torch = framework("torch")
    from obstruction.models.readers.torch import chains

    model = torch_network(torch)
    monitor = Monitor(model)

    def never(module):
        raise AssertionError("run again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chains, "Copy", never)
        start = time.process_time()
        for i in range(200):
            monitor.step(i)
    assert (time.process_time() - start) / 200 < 5e-3


def test_torch_repair_keeps_the_function_and_the_optimiser_goes_on():
    torch = framework("torch")
    model = torch_network(torch, torch.float32)
    with torch.no_grad():
        model[2].weight *= 10.0
    x = torch.tensor(rows()[0])
    was = model(x)
    fixed = repair(model, margin=0.1)
    assert type(fixed) is type(model)
    assert fixed is not model
    torch.testing.assert_close(fixed(x), was, rtol=1e-5, atol=1e-5)
    assert find_repair(model).changed > 0
    assert find_repair(fixed).changed == 0
    held = model[0].weight
    assert repair(model, inplace=True) is model
    assert model[0].weight is held
    assert held.requires_grad
    assert torch.equal(held, fixed[0].weight)


# --- scikit-learn ---------------------------------------------------------------------------


def test_sklearn_partial_fit():
    framework("sklearn")
    from sklearn.neural_network import MLPRegressor

    x, y = rows()
    model = MLPRegressor(
        hidden_layer_sizes=(8,), solver="sgd", learning_rate_init=1e-3, random_state=0
    )
    model.partial_fit(x, y.ravel())
    monitor = Monitor(model)
    for i in range(20):
        model.partial_fit(x, y.ravel())
        monitor.step(i)
    table = monitor.history
    assert table["step"].unique().tolist() == [-1, *range(20)]
    into = np.linalg.norm(np.vstack([model.coefs_[0], model.intercepts_[0]]), axis=0)
    np.testing.assert_allclose(table["in_norm"].iloc[-8:], into, rtol=1e-6)
    assert 0.0 < monitor.drift["largest"].iloc[-1] < 0.1


# --- Keras ----------------------------------------------------------------------------------


@pytest.fixture
def keras():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    return framework("keras")


def keras_network(keras):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([keras.Input((3,)), layers.Dense(16, "relu"), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-2), "mse")
    return model


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own
def test_keras_callback(keras):
    x, y = rows()
    model = keras_network(keras)
    monitor = Monitor(model, every=3)
    callback = monitor.keras_callback()
    assert isinstance(callback, keras.callbacks.Callback)
    begun = [np.array(w) for w in model.get_weights()]
    model.fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=[callback])
    table = monitor.history
    assert table["step"].unique().tolist() == [0, 3, 6, 9, 12]
    for step, (w1, b1, w2, _) in ((0, begun), (12, model.get_weights())):
        rows_then = table[table["step"] == step]
        into = np.sqrt((w1**2).sum(0) + b1**2)
        np.testing.assert_allclose(rows_then["in_norm"], into, rtol=1e-6)
        assert rows_then["sign"].tolist() == np.sign(w2[:, 0]).tolist()
    assert monitor.drift["largest"].iloc[-1] > 0.0
    model.fit(x, y, batch_size=64, epochs=6, verbose=0, callbacks=[monitor.keras_callback(every=2)])
    assert monitor.history["step"].unique().tolist()[-3:] == [14, 16, 18]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own
def test_keras_repair(keras):
    x, _ = rows()
    model = keras_network(keras)
    model.layers[-1].set_weights([w * 10.0 for w in model.layers[-1].get_weights()])
    fixed = repair(model)
    assert find_repair(fixed).changed == 0
    np.testing.assert_allclose(
        fixed.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5
    )


# --- Lightning ------------------------------------------------------------------------------


def test_lightning_callback(tmp_path):
    torch = framework("torch")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning|pkg_resources|torch")
        lightning = framework("lightning.pytorch")

    class Network(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch_network(torch, torch.float32)

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, index):
            return torch.nn.functional.mse_loss(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.05)

    x, y = map(torch.tensor, rows())
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8)
    model = Network()
    begun = expected(model.net).copy()
    monitor = Monitor(model.net, every=2)
    callback = monitor.lightning_callback()
    assert isinstance(callback, lightning.Callback)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning|torch")
        warnings.filterwarnings("ignore", message=".*(num_workers|log_every_n_steps|litlogger).*")
        trainer = lightning.Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            accumulate_grad_batches=2,
            callbacks=[callback],
        )
        trainer.fit(model, loader)
    table = monitor.history
    assert table["step"].unique().tolist() == [0, 2, 4, 6, 8]  # 16 batches are 8 steps
    np.testing.assert_allclose(table["balance"].iloc[:16], begun, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        table["balance"].iloc[-16:], expected(model.net), rtol=1e-5, atol=1e-7
    )
    assert monitor.drift["largest"].iloc[-1] > 0.0
