"""Neurons of real Keras models keep the balances that are told of them, whatever the model does.

Each model is read, and the gradients of a loss are followed a little. A balance is a quadratic form
of the weights, so its change is found without an error of discretisation.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from conftest import framework
from model_balances import of_neurons, of_nodes

os.environ.setdefault("KERAS_BACKEND", "jax")

keras = framework("keras")
make, ops = keras.layers, keras.ops

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def dense(units, activation=None, **options):
    return make.Dense(units, activation, bias_initializer="normal", **options)


@keras.saving.register_keras_serializable("obstruction_tests")
class Tied(make.Layer):
    """Uses the weights of another layer, transposed."""

    def __init__(self, other=None, **options):
        super().__init__(**options)
        self.other = other

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.other.kernel))

    def get_config(self):
        return {"name": self.name}


def functional(connect, *shape):
    """Return a function that makes a model of one input with this graph."""

    def build():
        x = keras.Input(shape or (4,))
        return keras.Model(x, connect(x))

    return build


def residual(x):
    h = dense(3)(x)
    for _ in range(2):
        h = make.Add()([h, dense(3)(dense(6, "relu")(h))])
    return dense(1)(h)


def shared(x):
    twice, first = dense(5, "relu"), dense(5, "relu")
    return dense(2)(dense(3, "relu")(twice(twice(first(x)))))


def tied(x):
    first, layer = dense(4, "relu"), dense(5, "relu")
    return dense(2)(dense(6, "relu")(Tied(layer)(layer(first(x)))))


def nested(x):
    u = keras.Input((5,))
    block = keras.Model(u, [ops.relu(dense(3)(u) + dense(3)(u)), dense(2, "relu")(u)])
    return dense(1)(make.Concatenate()(block(dense(5, "relu")(x))))


def nested_twice(x):
    block = keras.Sequential([keras.Input((4,)), dense(5, "relu"), dense(4, "relu")])
    return dense(2)(dense(3, "relu")(block(block(x))))


def over_time(axis):
    def connect(x):
        h = make.Concatenate(axis=axis)([dense(4, "relu")(x), dense(4, "relu")(x)])
        return dense(1)(make.Flatten()(h) if axis == 1 else h)

    return connect


def interleaved(x):
    parts = [ops.expand_dims(dense(5, "relu")(x), -1) for _ in range(2)]
    return dense(1)(make.Flatten()(ops.concatenate(parts, -1)))


def heads(x):
    parts = [make.Reshape((2, 3))(dense(6, "relu")(x)) for _ in range(2)]
    return dense(1)(make.Flatten()(make.Concatenate()(parts)))


MODELS = {
    # what is known of, and how many nodes are found in it
    "chain": (functional(lambda x: dense(2)(dense(5, "relu")(x))), 5),
    "skip": (functional(lambda x: dense(2)(dense(5, "relu")(x)) + dense(2)(x)), 5),
    "parallel": (
        functional(
            lambda x: dense(1)(make.Concatenate()([dense(4, "relu")(x), dense(4, "relu")(x)]))
        ),
        8,
    ),
    "sum": (
        functional(lambda x: dense(2)(ops.relu(sum([dense(5)(x), dense(5)(x), dense(5)(x)])))),
        5,
    ),
    "average": (
        functional(lambda x: dense(2)(make.ReLU()(make.Average()([dense(5)(x), dense(5)(x)])))),
        5,
    ),
    "scaled": (functional(lambda x: dense(2)(ops.relu(dense(5)(x) / 3 + 2 * dense(5)(x)))), 5),
    "dense": (
        functional(lambda x: dense(2)(ops.concatenate([x, dense(5, "leaky_relu")(x)], 1))),
        5,
    ),
    "residual": (functional(residual), 12),
    "nested": (functional(nested), 10),
    "prelu": (
        functional(
            lambda x: dense(2)(make.Concatenate()([make.PReLU()(dense(3)(x)), dense(2, "relu")(x)]))
        ),
        5,
    ),
    "of many positions": (functional(over_time(-1), 3, 4), 8),
    # what must not be claimed
    "shared": (functional(shared), 3),
    "nested twice": (functional(nested_twice), 3),
    "tied": (functional(tied), 6),
    "one neuron repeated": (functional(lambda x: dense(2)(ops.relu(dense(5)(x) + dense(1)(x)))), 0),
    "gate": (
        functional(lambda x: dense(2)(dense(5, "relu")(x) * dense(5, "sigmoid")(x))),
        0,
    ),
    "shifted": (functional(lambda x: dense(2)(ops.relu(dense(5)(x) + 1.0) + dense(5)(x))), 0),
    "difference": (functional(lambda x: dense(2)(ops.relu(dense(5)(x) - dense(5)(x)))), 0),
    "added to itself": (
        functional(lambda x: (lambda z: dense(2)(ops.relu(z + ops.tanh(z))))(dense(5)(x))),
        0,
    ),
    "along the positions": (functional(over_time(1), 3, 4), 0),
    "interleaved": (functional(interleaved), 0),
    "heads": (functional(heads), 0),
    "returned": (
        functional(lambda x: (lambda h: [dense(2)(h), h])(dense(5, "relu")(x))),
        0,
    ),
    "no gradient": (functional(lambda x: dense(2)(ops.stop_gradient(dense(5, "relu")(x)))), 0),
}


def slopes(model, x):
    """Return the gradient of a loss by each weight, in the order of ``model.weights``."""
    rng = np.random.default_rng(1)

    def loss(outputs):
        made = outputs if isinstance(outputs, list | tuple) else [outputs]
        targets = [rng.standard_normal(one.shape).astype("f4") for one in made]
        return sum(
            ops.sum(ops.square(ops.subtract(one, y))) for one, y in zip(made, targets, strict=True)
        )

    if keras.backend.backend() == "torch":
        model.zero_grad()
        loss(model(x)).backward()
        found = {id(v): v.value.grad for v in model.trainable_variables}
    else:
        import jax

        others = [v.value for v in model.non_trainable_variables]
        values = [v.value for v in model.trainable_variables]
        given = jax.grad(lambda these: loss(model.stateless_call(these, others, x)[0]))(values)
        found = dict(zip(map(id, model.trainable_variables), given, strict=True))
    return [
        ops.convert_to_numpy(found[id(v)])
        if found.get(id(v)) is not None
        else np.zeros(v.shape, "f4")
        for v in model.weights
    ]


def drift(model, balances):
    """Return the fastest change of a balance under gradient flow, and how many balances there are.

    It is relative to the norms of weights and gradient.
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal((7, *model.input_shape[1:])).astype("f4")
    weights = [np.array(ops.convert_to_numpy(v.value)) for v in model.weights]
    gradient = slopes(model, x)
    norms = [np.sqrt(sum(float((one**2).sum()) for one in some)) for some in (weights, gradient)]
    size, found = norms[0] / max(norms[1], 1e-6), []
    for sign in (1, -1):
        model.set_weights([w + sign * size * g for w, g in zip(weights, gradient, strict=True)])
        found.append(balances(model))
    model.set_weights(weights)
    return np.abs(found[0] - found[1]).max(initial=0.0) / (4 * norms[0] ** 2), found[0].size


@pytest.mark.parametrize("balances", [of_nodes, of_neurons])
@pytest.mark.parametrize("name", MODELS)
def test_balances_are_conserved(name, balances):
    build, number = MODELS[name]
    keras.utils.set_random_seed(1)
    try:
        fastest, found = drift(build(), balances)
    except ValueError:
        fastest, found = 0.0, 0
    assert fastest < 1e-6
    assert found == number if balances is of_nodes else found <= number


def test_the_check_sees_what_is_not_conserved():
    """With the balance of neurons of which a copy is added to what follows."""
    keras.utils.set_random_seed(1)
    x = keras.Input((4,))
    h = dense(5)(x)
    model = keras.Model(x, dense(1)(h + dense(5)(ops.relu(h))))

    def wrong(model):
        (a, b, *_, o, _) = [ops.convert_to_numpy(v.value) for v in model.weights]
        return (a**2).sum(axis=0) + b**2 - (o**2).sum(axis=1)

    assert drift(model, wrong)[0] > 1e-3
