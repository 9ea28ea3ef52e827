"""Every format there and back: what a framework writes, audited and repaired without it.

Each row of `ROWS` builds a network in its framework and saves it. The object is audited in this
process; the file by the command line, in a process that can import no framework. The reports must
be equal, and the repaired file must give the framework a network that computes the same.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Outcome, framework

import obstruction as ob

os.environ.setdefault("KERAS_BACKEND", "jax")

# Keras itself turns its variables into arrays in a way that NumPy is going to drop
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SLOPE = 0.2


@dataclass(frozen=True)
class Network:
    """A multilayer perceptron with one output, given by its widths."""

    label: str
    sizes: tuple[int, ...]
    activation: str
    dtype: str = "float32"

    @cached_property
    def layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Weights ``(outputs, inputs)`` and biases; the values are bfloat16 numbers.

        Of the neurons before the output every other has a large output weight, and one is exactly
        at the boundary.
        """
        rng = np.random.default_rng(11)
        made = []
        for inputs, outputs in itertools.pairwise(self.sizes):
            bound = math.sqrt(6.0 / inputs)
            made.append((rng.uniform(-bound, bound, (outputs, inputs)), np.empty(outputs)))
            made[-1][1][:] = rng.uniform(-bound, bound, outputs)
        (into, bias), (out, _) = made[-2:]
        out[0, ::2] *= 8.0
        into[1], bias[1], into[1, 0], out[0, 1] = 0.0, 0.0, 0.5, -0.5
        kept = np.float64 if self.dtype == "float64" else np.float32
        return [tuple(_few_bits(part).astype(kept) for part in pair) for pair in made]

    @property
    def pathological(self) -> int:
        """Frozen output weights, from the definition."""
        (into, bias), (out, _) = (
            tuple(a.astype(np.float64) for a in pair) for pair in self.layers[-2:]
        )
        return int(np.sum((into**2).sum(axis=1) + bias**2 < out[0] ** 2))

    @property
    def inputs(self) -> np.ndarray:
        rng = np.random.default_rng(3)
        kept = np.float64 if self.dtype == "float64" else np.float32
        return rng.standard_normal((60, self.sizes[0])).astype(kept)


def _few_bits(values: np.ndarray) -> np.ndarray:
    """Return values rounded to 8 bits, which all types of weights can hold."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 256.0) / 256.0, exponent)


TWO = Network("two", (3, 8, 6, 1), "relu")
THREE = Network("three", (4, 7, 5, 6, 1), "relu")
NARROW = Network("narrow", (4, 7, 1, 6, 1), "leaky_relu")  # a bottleneck of one neuron

BOTH = (TWO, NARROW)


def typed(dtype: str) -> tuple[Network, ...]:
    return tuple(Network(net.label, net.sizes, net.activation, dtype) for net in BOTH)


@dataclass(frozen=True)
class Saved:
    """A network in its framework and in a file.

    Attributes
    ----------
    source : object
        What is audited in this process.
    path : Path
        The file that is audited in the other one.
    load : callable
        Gives what the framework makes of a file.
    run : callable
        Gives the outputs of what was loaded.
    """

    source: Any
    path: Path
    load: Callable[[Path], Any]
    run: Callable[[Any], np.ndarray]


# --- PyTorch ------------------------------------------------------------------------------------


def torch_layers(net: Network) -> list[Any]:
    torch = framework("torch")
    made: list[Any] = []
    for weight, bias in net.layers:
        linear = torch.nn.Linear(*weight.shape[::-1], dtype=getattr(torch, net.dtype))
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))
        made += [linear, torch_activation(net)]
    return made[:-1]


def torch_activation(net: Network) -> Any:
    nn = framework("torch").nn
    return nn.ReLU() if net.activation == "relu" else nn.LeakyReLU(SLOPE)


def torch_sequential(net: Network) -> Any:
    return framework("torch").nn.Sequential(*torch_layers(net))


def torch_own(net: Network) -> Any:
    """A module of the user's own, whose attributes are not in the order of the forward pass."""
    torch = framework("torch")

    class Own(torch.nn.Module):
        def __init__(self, linear):
            super().__init__()
            self.head = linear[-1]
            self.body = torch.nn.ModuleDict({f"step{i}": one for i, one in enumerate(linear[:-1])})

        def forward(self, x):
            for layer in self.body.values():
                x = activation(layer(x))
            return self.head(x)

    leaky = partial(torch.nn.functional.leaky_relu, negative_slope=SLOPE)
    activation = torch.relu if net.activation == "relu" else leaky
    return Own([layer for layer in torch_layers(net) if hasattr(layer, "weight")])


def torch_run(net: Network, module: Any) -> np.ndarray:
    """Return outputs, computed in float64, so that only weights are rounded."""
    import copy

    torch = framework("torch")
    with torch.no_grad():
        return copy.deepcopy(module).double()(torch.from_numpy(net.inputs).double()).numpy()


def torch_file(
    net: Network,
    folder: Path,
    *,
    name: str = "m.pt",
    whole: bool = False,
    own: bool = False,
    zipped: bool = True,
    checkpoint: bool = False,
) -> Saved:
    torch = framework("torch")
    build = torch_own if own else torch_sequential
    module = build(net)
    what: Any = module if whole else module.state_dict()
    if checkpoint:
        optimiser = torch.optim.Adam(module.parameters(), 0.0)
        module(torch.from_numpy(net.inputs)).sum().backward()
        optimiser.step()
        what = {"model": what, "optimizer": optimiser.state_dict(), "epoch": 3, "loss": 0.5}
    torch.save(what, folder / name, _use_new_zipfile_serialization=zipped)

    def load(path: Path) -> Any:
        found = torch.load(path, weights_only=not whole)
        if whole:
            return found
        again = build(net)
        again.load_state_dict(found["model"] if checkpoint else found)
        return again

    return Saved(module, folder / name, load, partial(torch_run, net))


def lightning_checkpoint(net: Network, folder: Path) -> Saved:
    torch = framework("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning = framework("lightning.pytorch")

        class Own(lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.net = torch_sequential(net)

            def forward(self, x):
                return self.net(x)

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), 0.1)

        module = Own()
        trainer = lightning.Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.strategy.connect(module)
        trainer.save_checkpoint(folder / "m.ckpt")

    def load(path: Path) -> Any:
        return Own.load_from_checkpoint(path, weights_only=True)

    return Saved(module, folder / "m.ckpt", load, partial(torch_run, net))


def safetensors_file(net: Network, folder: Path, *, own: bool = False) -> Saved:
    build = torch_own if own else torch_sequential
    framework("torch")
    safetensors = framework("safetensors.torch")
    module, path = build(net), folder / "m.safetensors"
    safetensors.save_file(module.state_dict(), path, metadata={"format": "pt"})

    def load(path: Path) -> Any:
        again = build(net)
        again.load_state_dict(safetensors.load_file(path))
        return again

    return Saved(module, path, load, partial(torch_run, net))


def torch_npz(net: Network, folder: Path) -> Saved:
    torch, module, path = framework("torch"), torch_sequential(net), folder / "m.npz"
    np.savez(path, **{name: tensor.numpy() for name, tensor in module.state_dict().items()})

    def load(path: Path) -> Any:
        again = torch_sequential(net)
        with np.load(path) as arrays:
            again.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays})
        return again

    return Saved(module, path, load, partial(torch_run, net))


# --- ONNX ---------------------------------------------------------------------------------------


def onnx_run(x: np.ndarray, session: Any) -> np.ndarray:
    (value,) = session.get_inputs()
    return session.run(None, {value.name: x})[-1]


def onnx_session(path: Path) -> Any:
    return framework("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])


def torch_onnx(net: Network, folder: Path, *, dynamo: bool, axes: int = 2) -> Saved:
    torch = framework("torch")
    framework("onnx")
    if dynamo:
        framework("onnxscript")
    module, path = torch_sequential(net), folder / "m.onnx"
    x = net.inputs if axes == 2 else net.inputs.reshape(12, 5, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.from_numpy(x),), path, dynamo=dynamo, verbose=False)
    return Saved(module, path, onnx_session, partial(onnx_run, x))


def sklearn_onnx(net: Network, folder: Path, *, kind: str) -> Saved:
    networks, skl2onnx = framework("sklearn.neural_network"), framework("skl2onnx")
    x, more = net.inputs, {}
    fitted = getattr(networks, kind)(hidden_layer_sizes=net.sizes[1:-1], random_state=0)
    if kind == "MLPClassifier":
        more = {"classes": [0, 1]}
    fitted.partial_fit(x, (x[:, 0] > 0).astype("f4"), **more)
    fitted.coefs_ = [weight.T.copy() for weight, _ in net.layers]
    fitted.intercepts_ = [bias.copy() for _, bias in net.layers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"zipmap": False} if more else None
        made = skl2onnx.to_onnx(fitted, x[:1], options=options)
    (folder / "m.onnx").write_bytes(made.SerializeToString())
    return Saved(fitted, folder / "m.onnx", onnx_session, partial(onnx_run, x))


# --- Keras and Flax -----------------------------------------------------------------------------


def keras_dense(net: Network) -> list[Any]:
    keras = framework("keras")
    made, last = [], len(net.layers) - 1
    for i, (weight, _) in enumerate(net.layers):
        relu = net.activation == "relu" and i < last
        made.append(keras.layers.Dense(len(weight), activation="relu" if relu else None))
        if i < last and not relu:
            made.append(keras.layers.LeakyReLU(negative_slope=SLOPE))
    return made


def keras_set(net: Network, layers: list[Any]) -> None:
    dense = [layer for layer in layers if layer.get_weights()]
    for layer, (weight, bias) in zip(dense, net.layers, strict=True):
        layer.set_weights([weight.T, bias])


def keras_sequential(net: Network) -> Any:
    keras = framework("keras")
    model = keras.Sequential([keras.Input((net.sizes[0],)), *keras_dense(net)])
    keras_set(net, model.layers)
    return model


def keras_frozen(net: Network) -> Any:
    """A functional model whose first layer is not trained."""
    keras = framework("keras")
    layers = keras_dense(net)
    x = value = keras.Input((net.sizes[0],))
    for layer in layers:
        value = layer(value)
    keras_set(net, layers)
    layers[0].trainable = False
    return keras.Model(x, value)


def keras_shared(net: Network) -> Any:
    """A functional model in which a layer that the network has not is used twice at the start."""
    keras = framework("keras")
    layers = keras_dense(net)
    x = keras.Input((net.sizes[0],))
    shared = keras.layers.Dense(net.sizes[0], activation="relu")
    value = shared(shared(x))
    for layer in layers:
        value = layer(value)
    # with a margin, as it cannot be repaired
    shared.set_weights([3.0 * np.eye(net.sizes[0]), np.full(net.sizes[0], 4.0)])
    keras_set(net, layers)
    return keras.Model(x, value)


def keras_file(
    net: Network,
    folder: Path,
    *,
    name: str,
    build: Callable[[Network], Any] = keras_sequential,
    trained: bool = False,
) -> Saved:
    keras = framework("keras")
    if not name.endswith(".keras"):
        framework("h5py")
    model, path = build(net), folder / name
    if trained:  # so that the file holds an optimiser's moments too, which have the same shapes
        model.compile(keras.optimizers.Adam(0.0), "mse")
        model.train_on_batch(net.inputs, net.inputs[:, :1])
    weights = name.endswith(".weights.h5")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of .h5 as a legacy format
        (model.save_weights if weights else model.save)(path)

    def load(path: Path) -> Any:
        if not weights:
            return keras.saving.load_model(path, compile=False)
        again = build(net)
        again.set_weights([np.zeros_like(array) for array in again.get_weights()])
        if trained:
            again.compile(keras.optimizers.Adam(0.0), "mse")
        again.load_weights(path)
        return again

    return Saved(model, path, load, lambda m: keras.ops.convert_to_numpy(m(net.inputs)))


def linen_npz(net: Network, folder: Path) -> Saved:
    linen, jax = framework("flax.linen"), framework("jax")
    traverse = framework("flax.traverse_util")
    leaky = partial(linen.leaky_relu, negative_slope=SLOPE)
    activation = linen.relu if net.activation == "relu" else leaky

    class Own(linen.Module):
        @linen.compact
        def __call__(self, x):
            for width in net.sizes[1:-1]:
                x = activation(linen.Dense(width)(x))
            return linen.Dense(net.sizes[-1])(x)

    params = Own().init(jax.random.key(0), net.inputs)
    for i, (weight, bias) in enumerate(net.layers):
        dense = params["params"][f"Dense_{i}"]
        assert dense["kernel"].shape == weight.T.shape
        dense["kernel"], dense["bias"] = jax.numpy.array(weight.T), jax.numpy.array(bias)
    path = folder / "m.npz"
    np.savez(path, **traverse.flatten_dict(params, sep="/"))

    def load(path: Path) -> Any:
        with np.load(path) as arrays:
            return traverse.unflatten_dict({name: arrays[name] for name in arrays}, sep="/")

    return Saved(params, path, load, lambda tree: np.asarray(Own().apply(tree, net.inputs)))


# --- the table ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A format.

    Attributes
    ----------
    label : str
        What it is called here.
    build : callable
        Builds and saves a network in a folder.
    networks : tuple of Network
        Those that are saved.
    told : bool
        Whether the file does not say the activation, so that ``--activation`` must.
    source_told : bool
        Whether the object does not say it either.
    names : bool
        Whether the file has the object's names of layers; else layers are compared by position.
    exact : bool
        Whether numbers must be equal to the last bit; not so if the file holds transposed matrices,
        whose norms are summed in another order.
    audited : bool
        Whether what the framework loads can be audited.
    slow : bool
        Whether making the file takes seconds.
    """

    label: str
    build: Callable[[Network, Path], Saved]
    networks: tuple[Network, ...] = BOTH
    told: bool = False
    source_told: bool = False
    names: bool = True
    exact: bool = True
    audited: bool = True
    slow: bool = False


GRAPH = {"audited": False, "names": False}

ROWS = (
    Row("state-dict.pt", torch_file, told=True),
    Row("own-state-dict.pt", partial(torch_file, own=True), told=True),
    Row("half.pt", torch_file, typed("float16"), told=True),
    Row("bfloat16.pt", torch_file, typed("bfloat16"), told=True),
    Row("double.pt", torch_file, typed("float64"), told=True),
    Row("checkpoint.pt", partial(torch_file, checkpoint=True), told=True),
    Row("module.pt", partial(torch_file, whole=True)),
    Row("legacy.pth", partial(torch_file, name="m.pth", zipped=False), told=True),
    Row("legacy-module.pth", partial(torch_file, name="m.pth", whole=True, zipped=False)),
    Row("lightning.ckpt", lightning_checkpoint, told=True),
    Row("safetensors", safetensors_file, told=True),
    Row("own.safetensors", partial(safetensors_file, own=True), told=True),
    Row("half.safetensors", safetensors_file, typed("float16"), told=True),
    Row("bfloat16.safetensors", safetensors_file, typed("bfloat16"), told=True),
    Row("torch.npz", torch_npz, told=True),
    Row("linen.npz", linen_npz, told=True, source_told=True),
    Row("legacy.onnx", partial(torch_onnx, dynamo=False), **GRAPH),
    Row("legacy-3d.onnx", partial(torch_onnx, dynamo=False, axes=3), exact=False, **GRAPH),
    Row("dynamo.onnx", partial(torch_onnx, dynamo=True), slow=True, **GRAPH),
    Row(
        "dynamo-3d.onnx", partial(torch_onnx, dynamo=True, axes=3), exact=False, slow=True, **GRAPH
    ),
    Row("regressor.onnx", partial(sklearn_onnx, kind="MLPRegressor"), (TWO, THREE), **GRAPH),
    Row("classifier.onnx", partial(sklearn_onnx, kind="MLPClassifier"), (TWO, THREE), **GRAPH),
    Row("keras", partial(keras_file, name="m.keras")),
    Row("trained.keras", partial(keras_file, name="m.keras", trained=True), slow=True),
    Row("frozen.keras", partial(keras_file, name="m.keras", build=keras_frozen), slow=True),
    Row("shared.keras", partial(keras_file, name="m.keras", build=keras_shared)),
    Row("weights.h5", partial(keras_file, name="m.weights.h5"), told=True, names=False),
    Row("legacy.h5", partial(keras_file, name="m.h5")),
    Row("frozen.h5", partial(keras_file, name="m.h5", build=keras_frozen), slow=True),
    Row("shared.h5", partial(keras_file, name="m.h5", build=keras_shared), slow=True),
)

CASES = [
    pytest.param(
        (row, net),
        id=f"{row.label}-{net.label}",
        marks=[pytest.mark.slow] * (row.slow or net is not row.networks[i % 2]),
    )
    for i, row in enumerate(ROWS)
    for net in row.networks
]
"""By default one network for each row, in turn."""


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory) -> tuple[Row, Network, Saved]:
    """Build a network and save it, once for all tests."""
    row, net = request.param
    return row, net, row.build(net, tmp_path_factory.mktemp("saved"))


# --- the other process --------------------------------------------------------------------------

FRAMEWORKS = (
    *("torch", "torchvision", "lightning", "pytorch_lightning", "safetensors", "onnxruntime"),
    *("onnxscript", "sklearn", "skl2onnx", "keras", "tf_keras", "tensorflow", "jax", "flax"),
    *("jaxlib", "haiku"),
)

SERVER = """
import contextlib, faulthandler, importlib, io, json, sys, traceback
from obstruction.cli import main
found = []
for name in json.loads(sys.argv[1]):
    with contextlib.suppress(ImportError):
        found.append(importlib.import_module(name).__name__)
print(json.dumps(found), flush=True)
for line in sys.stdin:
    faulthandler.dump_traceback_later(60, exit=True)
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(json.loads(line))
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            code = -1
            traceback.print_exc()
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""

Command = Callable[..., Outcome]


@pytest.fixture(scope="module")
def blocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Run command lines in one process, which can import no framework, nor can its children.

    None in `sys.modules` would not do: SciPy takes it for an imported framework and fails.
    """
    stubs = tmp_path_factory.mktemp("stubs")
    for name in FRAMEWORKS:
        (stubs / f"{name}.py").write_text("raise ImportError('this framework is blocked')\n")
    path = os.pathsep.join(filter(None, (str(stubs), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, json.dumps(FRAMEWORKS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert json.loads(process.stdout.readline()) == []

        def run(*words: object) -> Outcome:
            process.stdin.write(json.dumps([str(word) for word in words]) + "\n")
            process.stdin.flush()
            return Outcome(*json.loads(process.stdout.readline()))

        yield run
        process.stdin.close()


# --- reports ------------------------------------------------------------------------------------


def from_file(blocked: Command, path: Path, *words: object, code: int) -> Any:
    """Return the report on a file by the command line, which must end with this code."""
    done = blocked("audit", path, "--format", "json", *words)
    assert (done.code, done.err) == (code, "")
    return json.loads(done.out)


def from_object(source: Any, **options: Any) -> Any:
    return json.loads(ob.audit(source, **options).to_json())


def differences(a: Any, b: Any, *, names: bool, exact: bool) -> list[str]:
    """Say in what two reports differ other than where they are from.

    Without `names` layers are known by their place, unless `exact` numbers may differ by rounding.
    Notes on a source stand under the name of its format: what else is in a file, how Keras
    initialises. Tensors have other names in files than in objects of Keras.
    """

    def facts(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, entry in entries:
            if isinstance(entry, (dict, list)):
                yield f"{at}/{key}", len(entry)
                yield from facts(entry, f"{at}/{key}")
            else:
                yield f"{at}/{key}", entry

    def placed(report: Any) -> dict[str, Any]:
        report = json.loads(json.dumps(report))
        about = report["summary"]
        del about["source"]
        notes = about.pop("format")
        report["skipped"] = [one for one in report["skipped"] if one["name"] != notes]
        del report["notes"]
        for row in report["layers"]:
            row["reason"] = re.sub(r"shared: \S+ is used", "shared: used", row["reason"])
        if not names:
            chain = [report["layers"][0]["layer"], *(row["following"] for row in report["layers"])]
            places = {name: i for i, name in enumerate(chain)}
            assert len(places) == len(chain)
            for row in (*report["layers"], *report["neurons"]):
                row["layer"] = places[row["layer"]]
            for row in report["layers"]:
                row["following"] = places[row["following"]]
            if report["luck"] is not None:  # a sentence, with a name in quotes if at all
                verdict = report["luck"]["verdict"]
                verdict = re.sub("'(.+?)'", lambda m: str(places[m[1]]), verdict)
                report["luck"]["verdict"] = verdict
        return dict(facts(report))

    def equal(x: Any, y: Any) -> bool:
        if exact or not (isinstance(x, float) and isinstance(y, float)):
            return x == y and type(x) is type(y)
        return math.isclose(x, y, rel_tol=1e-12, abs_tol=1e-12)

    one, two = placed(a), placed(b)
    found = [f"{key}: only in one" for key in one.keys() ^ two.keys()]
    both = (key for key in one if key in two)
    return found + [f"{k}: {one[k]} != {two[k]}" for k in both if not equal(one[k], two[k])]


def activation_words(row: Row, net: Network) -> tuple[str, ...]:
    return ("--activation", net.activation) if row.told else ()


def activation_options(row: Row, net: Network) -> dict[str, str]:
    return {"activation": net.activation} if row.source_told else {}


# --- tests --------------------------------------------------------------------------------------


def test_file_and_object_have_one_report(case, blocked):
    row, net, saved = case
    words, options = activation_words(row, net), activation_options(row, net)
    for scheme in ("torch_linear", "none"):
        theirs = from_file(blocked, saved.path, "--scheme", scheme, *words, code=1)
        ours = from_object(saved.source, scheme=None if scheme == "none" else scheme, **options)
        assert differences(ours, theirs, names=row.names, exact=row.exact) == []
        assert (theirs["luck"] is None) == (scheme == "none")
    last = theirs["layers"][-1]
    assert (last["pathological"], last["boundary"]) == (net.pathological, 1)
    assert net.pathological >= 2
    assert {one["activation"] for one in theirs["layers"] if one["audited"]} == {net.activation}


def test_repaired_file(case, blocked, tmp_path):
    row, net, saved = case
    words, options = activation_words(row, net), activation_options(row, net)
    original = saved.path.read_bytes()
    fixed, again = tmp_path / f"fixed-{saved.path.name}", tmp_path / f"again-{saved.path.name}"
    done = blocked("repair", saved.path, "--out", fixed, *words)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Rescaled ")
    assert saved.path.read_bytes() == original

    loaded = saved.load(fixed)
    before, after = saved.run(saved.load(saved.path)), saved.run(loaded)
    rounding = {"float32": 1e-5, "float64": 1e-14}.get(net.dtype, 0.0)
    assert np.ptp(before) > 0.1
    np.testing.assert_allclose(after, before, rtol=0.0, atol=rounding * np.abs(before).max())

    report = from_file(blocked, fixed, "--fail-on", "boundary", *words, code=0)
    summary = report["summary"]
    assert [summary[n] for n in ("verdict", "pathological", "dead", "components")] == [
        *("clear", 0, 0, 1)
    ]
    assert min(neuron["margin"] for neuron in report["neurons"]) >= 0.1
    repaired = ob.repair(saved.source, **options)
    objects = [repaired, *([loaded] if row.audited else [])]
    for source in objects:
        ours = from_object(source, **options)
        assert differences(ours, report, names=row.names, exact=row.exact) == []

    done = blocked("repair", fixed, "--out", again, *words)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Nothing to repair")
    assert again.read_bytes() == fixed.read_bytes()


# --- objects, and a network as PyTorch initialises it -------------------------------------------


def torch_forms(module: Any) -> dict[str, Any]:
    """Return a module's other forms in memory."""
    state = module.state_dict()
    arrays = {name: tensor.numpy().copy() for name, tensor in state.items()}
    return {"state": state, "mapping": arrays, "sequence": list(arrays.values())}


@pytest.mark.parametrize("net", [TWO, THREE, NARROW], ids=lambda net: net.label)
@pytest.mark.parametrize("fresh", [False, True], ids=["built", "fresh"])
def test_forms_of_one_network(net, fresh, blocked, tmp_path):
    torch = framework("torch")
    module = torch_sequential(net)
    if fresh:
        torch.manual_seed(4)
        for layer in module:
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
    options = {"activation": net.activation}
    report = from_object(module)
    assert "torch_linear" in report["luck"]["schemes"] or not fresh
    forms = torch_forms(module)
    for name, form in forms.items():
        again = from_object(form, **options)
        assert differences(report, again, names=name != "sequence", exact=True) == []
    torch.save(module.state_dict(), tmp_path / "m.pt")
    code = int(report["summary"]["frozen_weights"] > 0)
    again = from_file(blocked, tmp_path / "m.pt", "--activation", net.activation, code=code)
    assert differences(report, again, names=True, exact=True) == []

    fixed = [tensor.numpy() for tensor in ob.repair(module).state_dict().values()]
    assert not all(map(np.array_equal, fixed, forms["sequence"]))
    for form in forms.values():
        new = ob.repair(form, **options)
        new = list(new.values()) if isinstance(new, dict) else new
        assert all(np.array_equal(a, np.asarray(b)) for a, b in zip(fixed, new, strict=True))


def test_dead_neuron_is_refused_in_every_form(blocked, tmp_path):
    torch = framework("torch")
    module = torch_sequential(TWO)
    with torch.no_grad():
        module[2].weight[3], module[2].bias[3] = 0.0, 0.0
    torch.save(module.state_dict(), tmp_path / "m.pt")
    out, words = tmp_path / "out.pt", ("--activation", "relu")
    report = from_file(blocked, tmp_path / "m.pt", *words, code=1)
    assert report["neurons"][TWO.sizes[1] + 3]["status"] == "dead"
    assert differences(from_object(module), report, names=True, exact=True) == []
    done = blocked("repair", tmp_path / "m.pt", "--out", out, *words)
    assert (done.code, done.out, out.exists()) == (2, "", False)
    with pytest.raises(ValueError, match="dead") as refused:
        ob.repair(module)
    assert done.err == f"obstruction: {refused.value}\n"
