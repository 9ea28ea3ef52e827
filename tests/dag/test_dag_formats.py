"""The same network gives the same answer from PyTorch, ONNX and Keras, in memory and in files."""

from __future__ import annotations

import os
import warnings
from functools import cache

import numpy as np
import pytest
from conftest import framework

import obstruction as ob
from obstruction.dag.from_models.from_model import read_model
from obstruction.models import NoChain, NothingAuditable

os.environ.setdefault("KERAS_BACKEND", "jax")

torch, keras = framework("torch"), framework("keras")
nn, make, ops = torch.nn, keras.layers, keras.ops

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def module_of(forward, layers):
    """Return a module with a forward pass and these layers, ``name=(inputs, outputs)``."""
    module = type("Module", (nn.Module,), {"forward": forward})()
    for name, sizes in layers.items():
        setattr(module, name, nn.Linear(*sizes))
    return module


class Layers:
    """Keras layers by name: ``layers.a(x)`` applies the layer ``a``, which is made once."""

    def __init__(self, **layers):
        for name, sizes in layers.items():
            setattr(self, name, make.Dense(sizes[1], name=name))


def both(sizes, forward, connect, inputs=(3,)):
    """Return a PyTorch module and a Keras model with equal weights, and inputs for them."""
    torch.manual_seed(0)
    module = module_of(forward, sizes)
    starts = [keras.Input((width,), name=f"x{i}") for i, width in enumerate(inputs)]
    model = keras.Model(
        starts[0] if len(starts) == 1 else starts, connect(Layers(**sizes), *starts)
    )
    copy_weights(module, model)
    return module, model, tuple(torch.randn(5, width) for width in inputs)


def copy_weights(module, model):
    for layer in model.layers:
        if hasattr(layer, "layers"):
            copy_weights(module, layer)
        elif isinstance(layer, make.Dense):
            linear = getattr(module, layer.name)
            layer.set_weights([linear.weight.detach().numpy().T, linear.bias.detach().numpy()])


def relu(x):
    return torch.relu(x) if isinstance(x, torch.Tensor) else ops.relu(x)


def side_by_side(values):
    tensors = isinstance(values[0], torch.Tensor)
    return torch.cat(values, -1) if tensors else ops.concatenate(values, -1)


def chain(s, x):
    return s.c(relu(s.b(relu(s.a(x)))))


def skip(s, x):
    return s.o(relu(s.a(x))) + s.s(x)


def parallel(s, x):
    return s.o(side_by_side([relu(s.a(x)), relu(s.b(x))]))


def added(s, x):
    return s.o(relu(s.a(x) + s.b(x)))


def summed(s, x):
    return s.o(relu(sum([s.a(x), s.b(x), s.c(relu(s.a2(x)))])))


def residual(s, x):
    h = s.a(x)
    return s.o(h + s.q(relu(s.p(h))))


def dense(s, x):
    h = side_by_side([x, relu(s.a(x))])
    return s.o(side_by_side([h, relu(s.b(h))]))


def two_outputs(s, x):
    h = relu(s.a(x))
    return s.o(h), s.p(relu(s.b(h)))


def hidden_is_returned(s, x):
    h = relu(s.a(x))
    return s.o(relu(s.b(h))), h


def shared(s, x):
    return s.o(relu(s.b(relu(s.t(relu(s.t(relu(s.a(x)))))))))


def two_inputs(s, x, y):
    return s.o(side_by_side([relu(s.a(x)), relu(s.b(y))]))


def siamese(s, x, y):
    return s.o(relu(s.b(side_by_side([relu(s.a(x)), relu(s.a(y))]))))


def scaled(s, x):
    return s.o(relu(0.5 * s.a(x) + s.b(x) / 2))


def one_neuron(s, x):
    return s.o(relu(s.w(relu(s.a(x)))) + 1.0) + s.s(x)


def with_layers(s, x):
    """The same as `parallel`, added to `skip`, by layers and not by operations."""
    h = make.Concatenate()([make.ReLU()(s.a(x)), make.Activation("relu")(s.b(x))])
    return make.Add()([s.o(make.Dropout(0.1)(h)), s.s(x)])


def nested(s, x):
    u = keras.Input((4,))
    inner = keras.Model(u, s.c(make.Concatenate()([u, ops.relu(s.b(u))])))
    return make.Add()([s.o(ops.relu(inner(ops.relu(s.a(x))))), s.s(x)])


def nested_sequential(s, x):
    inner = keras.Sequential([make.Identity(), s.b, make.ReLU(), s.c])
    return keras.Sequential([keras.Input((3,)), s.a, make.ReLU(), inner])(x)


def nested_at_the_end(s, x):
    u, v = keras.Input((4,), name="u"), keras.Input((4,), name="v")
    inner = keras.Model({"u": u, "v": v}, {"t": s.o(u), "r": s.p(ops.relu(s.b(v)))})
    made = inner({"v": make.ReLU()(s.a(x)), "u": make.ReLU()(s.c(x))})
    return [made["t"], made["r"]]


NETWORKS = {
    # sizes, what PyTorch does, what Keras does; inputs, hidden nodes, outputs, edges
    "chain": ({"a": (3, 5), "b": (5, 4), "c": (4, 1)}, chain, chain, (3, 9, 1, 49)),
    "skip": ({"a": (3, 4), "o": (4, 1), "s": (3, 1)}, skip, skip, (3, 4, 1, 25)),
    "parallel": ({"a": (3, 4), "b": (3, 4), "o": (8, 1)}, parallel, parallel, (3, 8, 1, 41)),
    "added": ({"a": (3, 4), "b": (3, 4), "o": (4, 2)}, added, added, (3, 4, 2, 42)),
    "summed": (
        {"a": (3, 4), "b": (3, 4), "a2": (3, 5), "c": (5, 4), "o": (4, 1)},
        summed,
        summed,
        (3, 9, 1, 81),
    ),
    "residual": (
        {"a": (3, 4), "p": (4, 6), "q": (6, 4), "o": (4, 1)},
        residual,
        residual,
        (11, 6, 9, 79),
    ),
    "dense": ({"a": (3, 4), "b": (7, 2), "o": (9, 1)}, dense, dense, (3, 6, 1, 42)),
    "two outputs": (
        {"a": (3, 4), "o": (4, 1), "b": (4, 3), "p": (3, 2)},
        two_outputs,
        two_outputs,
        (3, 7, 3, 44),
    ),
    "a hidden layer is returned": (
        {"a": (3, 4), "b": (4, 3), "o": (3, 1)},
        hidden_is_returned,
        hidden_is_returned,
        (7, 3, 5, 35),
    ),
    "shared layer": (
        {"a": (3, 4), "t": (4, 4), "b": (4, 3), "o": (3, 1)},
        shared,
        shared,
        (4, 3, 1, 19),
    ),
    "two inputs": (
        {"a": (3, 4), "b": (2, 3), "o": (7, 2)},
        two_inputs,
        two_inputs,
        (5, 7, 2, 41),
    ),
    "siamese": ({"a": (3, 4), "b": (8, 3), "o": (3, 1)}, siamese, siamese, (8, 3, 1, 31)),
    "scaled": ({"a": (3, 4), "b": (3, 4), "o": (4, 1)}, scaled, scaled, (3, 4, 1, 37)),
    "one neuron": (
        {"a": (3, 4), "w": (4, 1), "o": (1, 2), "s": (3, 2)},
        one_neuron,
        one_neuron,
        (4, 4, 3, 33),
    ),
    "layers": (
        {"a": (3, 4), "b": (3, 4), "o": (8, 1), "s": (3, 1)},
        lambda s, x: parallel(s, x) + s.s(x),
        with_layers,
        (3, 8, 1, 45),
    ),
    "nested": (
        {"a": (3, 4), "b": (4, 2), "c": (6, 3), "o": (3, 1), "s": (3, 1)},
        lambda s, x: (
            s.o(relu((lambda h: s.c(side_by_side([h, relu(s.b(h))])))(relu(s.a(x))))) + s.s(x)
        ),
        nested,
        (3, 9, 1, 55),
    ),
    "nested chain": (
        {"a": (3, 5), "b": (5, 4), "c": (4, 1)},
        chain,
        nested_sequential,
        (3, 9, 1, 49),
    ),
    "nested at the end": (
        {"a": (3, 4), "b": (4, 3), "c": (3, 4), "o": (4, 1), "p": (3, 2)},
        lambda s, x: (s.o(relu(s.c(x))), s.p(relu(s.b(relu(s.a(x)))))),
        nested_at_the_end,
        (3, 11, 3, 60),
    ),
}
INPUTS = {"two inputs": (3, 2), "siamese": (3, 3)}
NOT_BY_RUNNING = {
    # what a run of the module does not show: fixed weights, hidden layers that are returned,
    # weights that are used twice beside others, several inputs
    *("residual", "dense", "a hidden layer is returned", "two inputs", "siamese", "scaled"),
    "one neuron",
}
SOURCES = ["PyTorch module", "ONNX", "Keras model", "Keras .keras", "Keras HDF5"]


def answer(source):
    """Return what is found in a source, up to the names of nodes and their order."""
    found = read_model(source)
    net, weights = found.network, found.weights
    sizes = len(net.inputs), len(net.hidden), len(net.outputs), net.size
    numbers = (
        np.sort(weights),
        np.sort(net.balances(weights)),
        np.sort([one.least for one in net.frozen_edges(weights, rtol=1e-6)]),
    )
    try:
        report = ob.audit(source, scheme=None)
        if isinstance(report, ob.LawReport):  # the same theorem about the same balances
            assert len(report.laws.frozen()) == len(numbers[2])
            return found.format, sizes, len(found.notes), numbers, None
        verdict = report.verdict, report.frozen_weights, sorted(report.neurons["balance"])
    except NothingAuditable:
        verdict = "nothing", 0, []
    return found.format, sizes, len(found.notes), numbers, verdict


@cache
def expected(name):
    sizes, forward, connect, _ = NETWORKS[name]
    module, model, x = both(sizes, forward, connect, INPUTS.get(name, (3,)))
    return module, model, x, answer(model)


def put(source, module, model, x, folder):
    """Return a network as a source of a format, in a file if need be."""
    if source in ("PyTorch module", "Keras model"):
        return module if source == "PyTorch module" else model
    if source == "ONNX":
        framework("onnx")
        path = folder / "model.onnx"
        torch.onnx.export(module, x, str(path), dynamo=False)
        return path
    framework("h5py")
    path = folder / ("model.h5" if source == "Keras HDF5" else "model.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
    return path


@pytest.mark.parametrize(
    ("name", "source"),
    # in an ONNX file the factor of a product is a constant like any other
    [(name, one) for name in NETWORKS for one in SOURCES if (name, one) != ("scaled", "ONNX")],
)
def test_every_format_gives_the_same_answer(name, source, tmp_path):
    module, model, x, (_, _, notes, numbers, verdict) = expected(name)
    given = put(source, module, model, x, tmp_path)
    if source == "PyTorch module" and name in NOT_BY_RUNNING:
        with pytest.raises(NoChain, match=r"Save it with torch\.onnx\.export"):
            read_model(given)
        return
    found = answer(given)
    assert found[0] == source
    assert found[1] == NETWORKS[name][3]
    # Keras also tells how weights were initialised
    if source != "PyTorch module" or found[4] is not None:
        assert notes - found[2] == (not source.startswith("Keras"))
    for one, other in zip(found[3], numbers, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    if found[4] is not None:
        assert found[4][:2] == verdict[:2]
        np.testing.assert_allclose(found[4][2], verdict[2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_both_compute_the_same(name):
    module, model, x, _ = expected(name)
    with torch.no_grad():
        made = module(*x)
    given = [one.numpy() for one in x]
    other = model(given[0] if len(given) == 1 else given)
    pairs = zip(
        made if isinstance(made, tuple) else [made],
        other if isinstance(other, list | tuple) else [other],
        strict=True,
    )
    for one, two in pairs:
        two = np.asarray(ops.convert_to_numpy(two))
        np.testing.assert_allclose(one.numpy(), two, rtol=1e-4, atol=1e-5)
