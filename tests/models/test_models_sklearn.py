"""Networks of scikit-learn in memory."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import framework

from obstruction import models
from obstruction.models.options import ReadOptions
from obstruction.models.readers.memory import sklearn as reader


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 5))
    return x, (x[:, 0] > 0).astype(int)


def fitted(data, kind="MLPClassifier", **options):
    networks = framework("sklearn.neural_network")
    network = getattr(networks, kind)(hidden_layer_sizes=(7, 4), random_state=0, **options)
    for _ in range(3):  # a few steps; `fit` would warn that it has not converged
        network.partial_fit(*data, **({"classes": [0, 1]} if "Class" in kind else {}))
    return network


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_a_network_is_read(data, kind):
    network = fitted(data, kind)
    model = models.read(network)
    assert [layer.weight.shape for layer in model.layers] == [(7, 5), (4, 7), (1, 4)]
    assert [(link.activation, link.reason) for link in model.links] == [("relu", None)] * 2
    hidden = data[0]
    for layer in model.layers[:-1]:
        hidden = np.maximum(0, hidden @ layer.weight.T + layer.bias)
    out = (hidden @ model.layers[-1].weight.T + model.layers[-1].bias)[:, 0]
    if kind == "MLPRegressor":
        np.testing.assert_allclose(out, network.predict(data[0]), rtol=1e-12)
    else:
        np.testing.assert_allclose(
            1 / (1 + np.exp(-out)), network.predict_proba(data[0])[:, 1], rtol=1e-12
        )


@pytest.mark.parametrize(
    ("activation", "auditable"), [("identity", True), ("tanh", False), ("logistic", False)]
)
def test_other_activations(data, activation, auditable):
    model = models.read(fitted(data, activation=activation))
    assert all((link.reason is None) == auditable for link in model.links)
    with pytest.raises(ValueError, match=r"^activation = 'relu': between coefs_0 and coefs_1"):
        models.read(fitted(data, activation=activation), ReadOptions("relu"))


def test_square_layers_need_no_option():
    networks = framework("sklearn.neural_network")
    network = networks.MLPRegressor(hidden_layer_sizes=(5, 5), random_state=0).partial_fit(
        np.eye(5), np.eye(5)
    )
    model = models.read(network)
    np.testing.assert_array_equal(model.layers[1].weight, network.coefs_[1].T)


def test_a_pipeline_ends_in_a_network(data):
    pipelines, scalers = framework("sklearn.pipeline"), framework("sklearn.preprocessing")
    network = fitted(data)
    pipeline = pipelines.make_pipeline(scalers.StandardScaler().fit(data[0]), network)
    np.testing.assert_array_equal(models.read(pipeline).layers[0].weight.T, network.coefs_[0])
    new = models.write(pipeline, {"intercepts_0": np.full(7, 3.0)})
    assert (new[-1].intercepts_[0] == 3.0).all()
    assert not (network.intercepts_[0] == 3.0).any()
    assert not reader.matches(pipelines.make_pipeline(scalers.StandardScaler()))


def test_a_network_that_is_not_fitted():
    networks = framework("sklearn.neural_network")
    message = "^MLPClassifier has no weights yet: call fit or partial_fit first"
    with pytest.raises(models.UnreadableModel, match=message):
        models.read(networks.MLPClassifier())


def test_copies_and_changes_in_place(data):
    network = fitted(data)
    before = network.predict_proba(data[0])
    model = models.read(network)
    factors = np.full(7, 2.0)
    changes = model.layers[0].rescaled(factors, None) | model.layers[1].rescaled(None, 1 / factors)
    new = models.write(network, changes)
    np.testing.assert_allclose(new.predict_proba(data[0]), before, rtol=1e-12)
    assert not np.array_equal(new.coefs_[0], network.coefs_[0])
    coefs = network.coefs_[0]
    assert models.write(network, changes, inplace=True) is network
    assert network.coefs_[0] is coefs
    np.testing.assert_array_equal(coefs, new.coefs_[0])
    network.partial_fit(*data)  # the optimiser goes on with the same arrays
    assert not np.array_equal(network.coefs_[0], new.coefs_[0])


def test_nothing_else_of_scikit_learn_matches():
    framework("sklearn")
    linear = framework("sklearn.linear_model").LinearRegression()
    assert not reader.matches(linear)
    with pytest.raises(models.UnreadableModel, match=r"^a model cannot be read from sklearn"):
        models.read(linear)
