"""Keras itself: its models in memory, and the files it writes, read where it cannot be imported."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import framework
from keras_onnx_files import read_blocked

from obstruction.models import read
from obstruction.models.contents import Activation, Barrier, Dense, UnreadableModel
from obstruction.models.operations.chains import BRANCHES, steps_of
from obstruction.models.readers.keras import files as hdf5
from obstruction.models.readers.keras import objects as reader

os.environ.setdefault("KERAS_BACKEND", "jax")

# Keras itself turns its variables into arrays in a way that NumPy is going to drop
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def keras():
    module = framework("keras")
    module.utils.set_random_seed(3)
    return module


def brief(steps) -> list[str]:
    return [
        step.name
        if isinstance(step, Dense)
        else step.reason
        if isinstance(step, Barrier)
        else f"({step.name} {step.slope:g})"
        for step in steps
    ]


def out_before_hidden(keras):
    """The output layer is made first and so is called ``dense``; both matrices are square."""
    make, x = keras.layers, keras.Input((4,))
    y = make.Dense(4, bias_initializer="normal")
    hidden = make.Dense(4, activation="relu", bias_initializer="normal")
    return keras.Model(x, y(hidden(x))), [hidden, y], ["H", "(relu 0)", "Y"]


def named(keras):
    """Names of the user's own, separate activations, layers in between, and a frozen layer."""
    make = keras.layers
    dense = [make.Dense(n, name=name) for n, name in ((6, "zz"), (6, "dense_7"), (1, "a"))]
    dense[1].trainable = False
    model = keras.Sequential(
        [
            keras.Input((5,)),
            *(dense[0], make.BatchNormalization(), make.LeakyReLU(negative_slope=0.1)),
            *(dense[1], make.Dropout(0.5), make.PReLU(), make.Activation("tanh"), dense[2]),
        ]
    )
    norm = "batch normalisation makes the outputs independent of the scale of the weights"
    between = ["(LeakyReLU 0.1)", "dense_7", "(PReLU 0)", "(tanh 0)"]
    return model, dense, ["zz", norm, *between, "a"]


def branched(keras):
    """A shared layer, a nested model that is used twice, and a skip connection."""
    make, x = keras.layers, keras.Input((3, 4))
    first, shared = make.Dense(4, activation="relu", name="first"), make.Dense(4, name="shared")
    nested = [make.Dense(4, activation="relu", name="p"), make.Dense(4, name="q")]
    inner = keras.Sequential(nested, name="inner")
    last = make.Dense(2, name="last")
    h = shared(make.ReLU()(shared(first(x))))
    h = make.Add()([inner(inner(h)), h])
    skip = "a skip connection adds outputs of other layers"
    steps = ["first", "(relu 0)", "shared", "(relu 0)", "shared", BRANCHES]
    steps += ["inner/p", "(relu 0)", "inner/q"] * 2 + [skip, "last"]
    layers = [first, shared, shared, *nested, *nested, last]
    return keras.Model(x, last(h)), layers, steps


def subclassed(keras):
    """Attributes are saved in alphabetical order, not in that of the forward pass."""

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.second, self.first = keras.layers.Dense(1), keras.layers.Dense(7)

        def call(self, x):
            return self.second(keras.ops.relu(self.first(x)))

    model = Own()
    model(np.zeros((1, 5)))
    return model, [model.first, model.second], None


MODELS = [out_before_hidden, named, branched, subclassed]


def trained(model, shape, keras):
    """Let Adam take a step, so that files hold its moments too, which have the same shapes."""
    model.compile(keras.optimizers.Adam(0.01), "mse")
    x = np.random.default_rng(0).standard_normal((8, *shape)).astype("f4")
    model.fit(x, np.zeros(model(x).shape), verbose=0)
    return x


def check(tensors, steps, layers, expected, *, prefix=""):
    """Compare names, order and numbers with the layers that the model was built of."""
    values = [np.asarray(w) for layer in layers for w in layer.get_weights()]
    if expected is None:
        assert steps is None
        stored = [array for array in tensors.values() if array.ndim]
        assert sorted(a.tobytes() for a in stored) == sorted(a.tobytes() for a in values)
        return
    dense = [step for step in steps if isinstance(step, Dense)]
    real = {"H": layers[0].name, "Y": layers[-1].name}
    assert brief(steps) == [real.get(name, name) for name in expected]
    for step, layer in zip(dense, layers, strict=True):
        assert step.layout == "in_out"
        assert step.trained == layer.trainable
        kernel, bias = layer.get_weights()
        assert tensors[step.weight].tobytes() == kernel.tobytes()
        assert tensors[step.weight].shape == kernel.shape
        assert tensors[step.bias].tobytes() == bias.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("build", MODELS)
def test_files(keras, tmp_path, build):
    import warnings

    model, layers, expected = build(keras)
    x = trained(model, (5,) if expected is None else model.input_shape[1:], keras)
    paths = [tmp_path / "m.keras", tmp_path / "m.weights.h5", tmp_path / "m.h5"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(paths[0])
        model.save_weights(paths[1])
        if expected is None:
            paths.pop()
        else:
            model.save(paths[2])
    found = read_blocked(tmp_path / "found", *paths)
    for path, (arrays, steps, layout, notes) in zip(paths, found, strict=True):
        tensors = {name: array for name, (array, _) in arrays.items()}
        assert layout == "in_out"
        assert not any("adam" in name or "optimizer" in name for name in tensors)
        assert sum(a.size for a in tensors.values()) == sum(w.size for w in model.get_weights())
        if path.name.endswith(".weights.h5"):
            assert steps is None
            continue
        check(tensors, steps, layers, expected)
        if expected is not None:
            assert any("initialised by GlorotUniform" in note for note in notes)

    before = model.predict(x, verbose=0)
    for path, (arrays, *_) in zip(paths, found, strict=True):
        changes = {name: array * 0.5 for name, (array, _) in arrays.items() if array.ndim > 0}
        hdf5.write(path, changes, path)
        if path.name.endswith(".weights.h5"):
            model.load_weights(path)
            again = model
        elif expected is None:
            continue
        else:
            again = keras.saving.load_model(path, compile=False)
        if again is model:
            assert not np.array_equal(model.predict(x, verbose=0), before)
            model.set_weights([weight * 2.0 for weight in model.get_weights()])
            np.testing.assert_array_equal(model.predict(x, verbose=0), before)
        for new, old in zip(again.get_weights(), model.get_weights(), strict=True):
            assert np.array_equal(new, old if again is model else old * 0.5)


@pytest.mark.slow
def test_bfloat16_file(keras, tmp_path):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, dtype="bfloat16")])
    path = tmp_path / "m.keras"
    model.save(path)
    contents = hdf5.read(path)
    name = steps_of(contents.graph)[0].weight
    assert contents.tensors[name].dtype == "bfloat16"
    kernel = np.asarray(model.get_weights()[0]).astype("f4")
    assert np.array_equal(contents.tensors[name].array, kernel)
    hdf5.write(path, {name: kernel * 2}, path)
    again = keras.saving.load_model(path)
    assert np.array_equal(np.asarray(again.get_weights()[0]).astype("f4"), kernel * 2)


@pytest.mark.slow
@pytest.mark.parametrize("build", MODELS)
def test_models_in_memory(keras, build):
    model, layers, expected = build(keras)
    assert reader.matches(model)
    contents = reader.read(model)
    tensors = {name: tensor.array for name, tensor in contents.tensors.items()}
    assert contents.layout == "in_out"
    steps = None if contents.graph is None else steps_of(contents.graph)
    check(tensors, steps, layers, expected)

    changes = {name: -array for name, array in tensors.items()}
    old = model.get_weights()
    if expected is None:
        with pytest.raises(ValueError, match="cannot be copied; use inplace=True"):
            reader.updated(model, changes, inplace=False)
    else:
        copy = reader.updated(model, changes, inplace=False)
        assert copy is not model
        for new, kept, first in zip(copy.get_weights(), model.get_weights(), old, strict=True):
            assert np.array_equal(new, -first)
            assert np.array_equal(kept, first)
        assert brief(steps_of(reader.read(copy).graph)) == brief(steps)
    assert reader.updated(model, changes, inplace=True) is model
    for new, first in zip(model.get_weights(), old, strict=True):
        assert np.array_equal(new, -first)
    with pytest.raises(ValueError, match="there is no tensor 'x'"):
        reader.updated(model, {"x": np.zeros(1)}, inplace=True)


@pytest.mark.slow
def test_particular_models_in_memory(keras):
    make = keras.layers
    unbuilt = keras.Sequential([make.Dense(4)])
    with pytest.raises(UnreadableModel, match="has no weights yet"):
        reader.read(unbuilt)

    late = keras.Sequential([make.Dense(4, activation="relu", dtype="bfloat16"), make.Dense(1)])
    late(np.zeros((2, 3)))
    contents = reader.read(late)
    assert [t.dtype for t in contents.tensors.values()] == ["bfloat16"] * 2 + ["float32"] * 2
    copy = reader.updated(late, {}, inplace=False)
    assert all(map(np.array_equal, copy.get_weights(), late.get_weights()))

    # used in another model before, and only a part of its nodes belongs to this one
    shared, x, z = make.Dense(4, name="s"), keras.Input((4,)), keras.Input((4,))
    shared(shared(x))
    model = keras.Model(z, make.Dense(2, name="t")(shared(z)))
    assert brief(steps_of(reader.read(model).graph)) == ["s", "t"]
    shared.kernel.trainable = False
    assert not steps_of(reader.read(model).graph)[0].trained

    class Reversed(keras.Sequential):
        def call(self, x):
            return self.layers[0](self.layers[1](x))

    own = Reversed([keras.Input((4,)), make.Dense(4), make.Dense(4)])
    assert reader.read(own).graph is None

    class Odd(make.Layer):
        def __init__(self, width):
            super().__init__()
            self.inner = make.Dense(width)

        def call(self, x):
            return self.inner(x)

        def get_config(self):
            raise RuntimeError("not today")

    odd = keras.Sequential([keras.Input((4,)), make.Dense(4), Odd(3)])
    contents = reader.read(odd)
    assert contents.graph is None
    assert "not today" in contents.notes[-1]


def relu(z):
    """Has the name of another function, and is not homogeneous."""
    import keras

    return keras.ops.tanh(z)


def own_code(keras):
    """Return layers that compute something else than their names say, and what is told of them."""
    make = keras.layers

    class Squared(make.Dense):
        def call(self, x):
            return super().call(x) ** 2

    class Dropout(make.Layer):
        def call(self, x):
            return x + 1.0

    patched = make.Dense(4, name="p")
    patched.call = lambda x: keras.ops.sin(x)
    function = "a custom activation 'relu', whose code is not read"
    nameless = "a custom activation without a name, whose code is not read"
    layer = "{} is a layer of the user's own, whose code is not read".format
    dense = type("Dense", (Squared,), {"__module__": "__main__"})
    inner = make.Dense(4, activation=relu, name="i")
    registered = keras.saving.register_keras_serializable("a.b", name="relu")(lambda z: z * z)
    spelled = "a custom activation 'a.b>relu', whose code is not read"
    return [
        (make.Dense(4, activation=relu, name="f"), ["f", function]),
        (make.Dense(4, activation=lambda z: keras.ops.tanh(z), name="f"), ["f", nameless]),
        (make.Dense(4, activation=registered, name="f"), ["f", nameless, spelled]),
        (make.Activation(relu), [function]),
        (make.Dense(4, activation=make.Activation(relu), name="f"), ["f", "custom"]),
        (make.TimeDistributed(inner, name="t"), ["t", function]),
        (keras.Sequential([keras.Input((3, 4)), inner], name="s"), ["s/i", function]),
        (make.TimeDistributed(dense(4), name="t"), ["TimeDistributed layers are not audited"]),
        (Squared(4), [layer("Squared")]),
        (dense(4), [layer("Dense")]),
        (Dropout(), [layer("Dropout")]),
        (type("ReLU", (Dropout,), {"__module__": "__main__"})(), [layer("ReLU")]),
        (type("Flatten", (Dropout,), {"__module__": "keras_own"})(), [layer("Flatten")]),
        (patched, [layer("Dense")]),
    ]


@pytest.mark.slow
def test_code_of_the_users_own_is_not_taken_for_what_it_is_called(keras):
    make = keras.layers
    for layer, (*expected, told) in own_code(keras):
        first, last = make.Dense(4, name="first"), make.Dense(2, name="last")
        model = keras.Sequential([keras.Input((3, 4)), first, layer, last])
        *found, barrier = brief(steps_of(reader.read(model).graph))[1:-1]
        assert found == expected[: len(found)]
        assert told in barrier or barrier in expected
    for activation in (keras.ops.relu, keras.activations.relu, make.ReLU(), "relu"):
        model = keras.Sequential([keras.Input((4,)), make.Dense(4, activation, name="f")])
        assert brief(steps_of(reader.read(model).graph)) == ["f", "(relu 0)"]


@pytest.mark.slow
def test_a_layer_that_stands_twice_in_a_sequential_is_read_twice(keras):
    """Its description has the layer once."""
    layers = keras.layers
    dense, curve = layers.Dense(4, "relu", name="twice"), layers.Activation("tanh")
    parts = [keras.Input((4,)), dense, layers.Dense(4, name="a"), curve, dense, curve]
    expected = ["twice", "(relu 0)", "a", "(tanh 0)", "twice", "(relu 0)", "(tanh 0)", "last"]
    model = keras.Sequential([*parts, layers.Dense(2, name="last")])
    assert brief(steps_of(reader.read(model).graph)) == expected
    assert [link.reason is None for link in read(model).links] == [False] * 3
    assert "weights are shared: twice is used 2 times" in read(model).links[0].reason
    nested = keras.Sequential([keras.Sequential(parts), layers.Dense(2, name="last")])
    assert len([one for one in brief(steps_of(reader.read(nested).graph)) if "twice" in one]) == 2


def test_a_copy_does_what_the_model_does_or_is_refused(keras):
    from obstruction.auditing.repair.repair import repair

    make = keras.layers
    x = np.random.default_rng(0).standard_normal((8, 5)).astype("f4")
    for own, message in (
        (relu, "would not do what the layer 'own' does.*use inplace=True"),
        (lambda z: keras.ops.tanh(z), "cannot copy this model.*use inplace=True"),
    ):
        model = keras.Sequential(
            [
                keras.Input((5,)),
                make.Dense(16, activation=own, bias_initializer="normal", name="own"),
                make.Dense(16, activation="relu", bias_initializer="normal"),
                make.Dense(1, bias_initializer="normal"),
            ]
        )
        model.layers[1].kernel.assign(0.01 * model.layers[1].kernel)
        before, old = model.predict(x, verbose=0), model.get_weights()
        with pytest.raises(ValueError, match=message) as caught:
            repair(model)
        assert "\n" not in str(caught.value)
        assert all(map(np.array_equal, model.get_weights(), old))
        repair(model, inplace=True)
        assert not all(map(np.array_equal, model.get_weights(), old))
        assert np.array_equal(model.get_weights()[0], old[0])  # tanh: nothing to be rescaled
        np.testing.assert_allclose(model.predict(x, verbose=0), before, rtol=1e-4, atol=1e-6)
    kept = keras.Sequential([keras.Input((5,)), make.Dense(3, keras.ops.relu), make.Dense(1)])
    copy = reader.updated(kept, {}, inplace=False)
    assert np.array_equal(copy.predict(x, verbose=0), kept.predict(x, verbose=0))
    kept.layers[0].call = lambda z: z
    with pytest.raises(ValueError, match="would not do what the layer"):
        reader.updated(kept, {}, inplace=False)


@pytest.mark.slow
def test_files_of_code_of_the_users_own(keras, tmp_path):
    """Whole models in HDF5 do not tell whose a class is; archives do."""
    import warnings

    make = keras.layers
    own = type("Dense", (make.Dense,), {"__module__": "__main__"})
    nameless = make.Dense(4, activation=lambda z: z * z, name="f")
    line = type("Sequential", (keras.Sequential,), {"__module__": "__main__"})
    for kind, layer, expected in (
        (keras.Sequential, own(4), ["Dense is a layer of the user's own, whose code is not read"]),
        (
            keras.Sequential,
            nameless,
            ["f", "a custom activation without a name, whose code is not read"],
        ),
        (line, make.Dense(4), None),
    ):
        model = kind([keras.Input((4,)), layer, make.Dense(1, name="last")])
        for name in ("m.keras", "m.h5")[: 2 if layer is nameless else 1]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.save(tmp_path / name)
            graph = hdf5.read(tmp_path / name).graph
            assert (graph and brief(steps_of(graph))) == (expected and [*expected, "last"])


# --- without Keras ------------------------------------------------------------------------------


class Stand:
    """A stand-in for `keras.Model`, so that what needs no Keras is tested everywhere."""

    input_shape = (None, 2)

    def __init__(self, *weights):
        self.weights = list(weights)


class Variable:
    def __init__(self, name, values):
        self.name, self.values = name, np.asarray(values)

    def numpy(self):
        return self.values

    def assign(self, values):
        self.values = values


def test_old_keras_without_a_graph(monkeypatch):
    """As of tf_keras: variables have names that may repeat, and no paths."""
    monkeypatch.setitem(sys.modules, "tf_keras", SimpleNamespace(Model=Stand))
    model = Stand(Variable("w:0", [[1.0, 2.0]]), Variable("w:0", [3.0]), Variable("w:0", [9.0]))
    assert reader.matches(model)
    assert not reader.matches(Variable("w", [1.0]))
    contents = reader.read(model)
    assert list(contents.tensors) == ["w:0", "w:0#2", "w:0#3"]
    assert contents.graph is None
    assert reader.updated(model, {"w:0#2": np.array([4.0])}, inplace=True) is model
    assert model.weights[1].values.tolist() == [4.0]
    assert model.weights[0].values.tolist() == [[1.0, 2.0]]
    with pytest.raises(ValueError, match="must have"):
        reader.updated(model, {"w:0": np.array([4.0])}, inplace=True)
    with pytest.raises(UnreadableModel, match="has no weights yet"):
        reader.read(Stand())


def test_old_keras_with_a_graph(monkeypatch):
    """The description has the spelling of Keras 2, and layers are found by their names."""
    Sequential = type("Sequential", (Stand,), {"__module__": "tf_keras.src.engine.sequential"})
    layers = {
        "a": [Variable("a/kernel:0", np.ones((2, 3))), Variable("a/bias:0", np.zeros(3))],
        "b": [Variable("b/kernel:0", np.ones((3, 1)))],
    }
    config = {
        "name": "s",
        "layers": [
            {"class_name": "InputLayer", "config": {"name": "i"}},
            {"class_name": "Dense", "config": {"name": "a", "units": 3, "activation": "relu"}},
            {"class_name": "Dense", "config": {"name": "b", "units": 1, "use_bias": False}},
        ],
    }
    Sequential.call = lambda self, x: x
    Sequential.get_config = lambda self: config
    made = {name: kept(monkeypatch, "Dense", name, weights=layers[name]) for name in "ba"}
    Sequential.layers = list(made.values())
    Sequential.get_layer = lambda self, name: made[name]
    for variable in (*layers["a"], *layers["b"]):
        variable.trainable = True
    monkeypatch.setitem(sys.modules, "tf_keras", SimpleNamespace(Model=Stand))

    def read_again():
        return reader.read(Sequential(*layers["a"], *layers["b"]))

    def steps():
        return steps_of(read_again().graph)

    assert steps() == (
        Dense("a", "a/kernel:0", "a/bias:0", "in_out"),
        Activation("relu"),
        Dense("b", "b/kernel:0", None, "in_out"),
    )
    layers["b"][0].trainable = False
    assert not steps()[2].trained

    def relu(z):
        return np.tanh(z)

    # the description stays as it was: what it names is the user's own
    made["a"].activation = relu
    told = "a custom activation 'relu', whose code is not read"
    assert steps()[1] == Barrier("a", told)
    made["a"].activation = lambda z: z
    told = "a custom activation without a name, whose code is not read"
    assert steps()[1] == Barrier("a", told)
    relu.__module__ = "tf_keras.src.activations"
    module = SimpleNamespace(relu=relu)
    monkeypatch.setitem(sys.modules, relu.__module__, module)
    made["a"].activation = relu
    assert steps()[1] == Activation("relu")
    module.relu = np.tanh  # the name alone is not enough
    assert isinstance(steps()[1], Barrier)

    class Dense_(type(made["a"])):
        """Has the name of its parent, as it may have in a user's own module."""

        __module__ = "own"

    Dense_.__name__ = "Dense"
    made["a"].__class__ = Dense_
    own = "Dense is a layer of the user's own, whose code is not read"
    found = steps()
    assert found == (Barrier("a", own), Dense("b", "b/kernel:0", None, "in_out", trained=False))
    Sequential.layers = []
    contents = read_again()
    assert contents.graph is None
    assert "the layer 'a' is not in it" in contents.notes[-1]


def kept(monkeypatch, class_name, name, **attributes):
    """Return a layer of a class that a module of Keras holds."""
    place = "tf_keras.src.layers"
    module = sys.modules.get(place, SimpleNamespace())
    monkeypatch.setitem(sys.modules, place, module)
    if not hasattr(module, class_name):
        setattr(module, class_name, type(class_name, (), {"__module__": place}))
    layer = getattr(module, class_name)()
    vars(layer).update(name=name, **attributes)
    return layer
