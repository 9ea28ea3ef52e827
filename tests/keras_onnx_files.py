"""Keras and ONNX files built with h5py and onnx alone, and damaged copies of them.

Layouts follow what the frameworks write; the tests with the frameworks check that they do.
"""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# --- Keras: descriptions ------------------------------------------------------------------------


def layer(class_name: str, name: str, **config: Any) -> dict[str, Any]:
    """Return a layer as Keras 3 describes it."""
    return {
        "module": "keras.layers",
        "class_name": class_name,
        "config": {"name": name, "trainable": True, **config},
        "registered_name": None,
    }


def dense(name: str, units: int, activation: Any = "linear", **config: Any) -> dict[str, Any]:
    return layer("Dense", name, units=units, activation=activation, use_bias=True, **config)


def sequential(*layers: dict[str, Any], name: str = "sequential") -> dict[str, Any]:
    config = {"name": name, "trainable": True, "layers": list(layers)}
    return {"module": "keras", "class_name": "Sequential", "config": config}


def functional(
    layers: Sequence[tuple[dict[str, Any], list[list[str]]]],
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    generation: int = 3,
    name: str = "functional",
) -> dict[str, Any]:
    """Return a Functional model.

    Each layer comes with its calls, each of them a list of the layers whose output it takes; write
    ``"dense:1"`` for the output of the second call of a layer. A nested model is its own first
    call: Keras 2 counts it everywhere, Keras 3 where it lists outputs.
    """
    nested = {one["config"]["name"] for one, _ in layers if one["class_name"] == "Functional"}

    def reference(text: str, is_output: bool = False) -> list[Any]:
        who, _, node = text.partition(":")
        first = who in nested and (is_output or generation == 2)
        return [who, int(node or 0) + first, 0]

    def call(taken: list[str]) -> Any:
        if generation == 2:
            return [[*reference(text), {}] for text in taken]
        tensors = [
            {"class_name": "__keras_tensor__", "config": {"keras_history": reference(text)}}
            for text in taken
        ]
        return {"args": tensors if len(tensors) == 1 else [tensors], "kwargs": {"mask": None}}

    described = [
        {**one, "name": one["config"]["name"], "inbound_nodes": [call(taken) for taken in calls]}
        for one, calls in layers
    ]
    config = {
        "name": name,
        "trainable": True,
        "layers": described,
        "input_layers": [reference(text) for text in inputs],
        "output_layers": [reference(text, is_output=True) for text in outputs],
    }
    return {"module": "keras.models", "class_name": "Functional", "config": config}


# --- Keras: files -------------------------------------------------------------------------------


def arrays(*sizes: int, seed: int = 0, dtype: str = "float32") -> list[np.ndarray]:
    """Return weights ``(inputs, outputs)`` and biases of a chain, in turn."""
    rng = np.random.default_rng(seed)
    found = []
    for inputs, outputs in itertools.pairwise(sizes):
        found += [rng.standard_normal((inputs, outputs)), rng.standard_normal(outputs)]
    return [array.astype(dtype) for array in found]


def h5(datasets: dict[str, np.ndarray], names: dict[str, str] | None = None, **options) -> bytes:
    """Return an HDF5 file; ``names`` are attributes ``name`` of groups, ``options`` h5py's."""
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for name, values in datasets.items():
            file.create_dataset(name, data=values, **options)
        for group, name in (names or {}).items():
            file.require_group(group).attrs["name"] = name
    return stream.getvalue()


def weights_h5(*sizes: int, optimiser: bool = True, **options: Any) -> bytes:
    """Return a file as ``model.save_weights("x.weights.h5")`` writes it, with Adam's moments."""
    datasets, found = {}, arrays(*sizes)
    for i in range(len(found) // 2):
        group = f"layers/dense_{i}/vars" if i else "layers/dense/vars"
        datasets |= {f"{group}/0": found[2 * i], f"{group}/1": found[2 * i + 1]}
    if optimiser:
        moments = [np.float32(1e-3), *(np.zeros_like(a) for a in found for _ in range(2))]
        datasets |= {f"optimizer/vars/{i}": moment for i, moment in enumerate(moments)}
    return h5(datasets, **options)


def keras_archive(config: dict[str, Any], weights: bytes, compression: int = 0) -> bytes:
    """Return a ``.keras`` file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights)
    return stream.getvalue()


def keras_mlp(*sizes: int, zipped: int = 0, **options: Any) -> bytes:
    """Return a ``.keras`` file of a multilayer perceptron with ReLU."""
    last = len(sizes) - 2
    layers = [
        dense(f"layer{i}", units, "linear" if i == last else "relu")
        for i, units in enumerate(sizes[1:])
    ]
    described = sequential(layer("InputLayer", "input"), *layers)
    return keras_archive(described, weights_h5(*sizes, **options), zipped)


def whole_model_h5(
    config: dict[str, Any],
    layers: dict[str, dict[str, np.ndarray]],
    *,
    split: int = 0,
    root: str = "model_weights",
    **options: Any,
) -> bytes:
    """Return a whole model as HDF5: tensors by name (``dense/kernel:0``) by layer.

    With ``split`` lists of names are spread over attributes of that many names each, as Keras does
    when they are long.
    """
    import h5py

    def put(group: Any, key: str, names: list[str]) -> None:
        raw = [name.encode() for name in names]
        if not split:
            group.attrs[key] = raw
        for i in range(0, len(raw), split) if split else ():
            group.attrs[f"{key}{i // split}"] = raw[i : i + split]

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = b"2.15.0"
        group = file.create_group(root) if root else file
        put(group, "layer_names", list(layers))
        for name in sorted(layers):
            inner = group.create_group(name)
            put(inner, "weight_names", list(layers[name]))
            for path, values in layers[name].items():
                inner.create_dataset(path, data=values, **options)
        file.create_dataset("optimizer_weights/adam/m:0", data=np.zeros((3, 3)))
    return stream.getvalue()


def legacy_mlp(*sizes: int, suffix: str = ":0", **options: Any) -> bytes:
    """Return a multilayer perceptron with ReLU as Keras 2 writes a whole model."""
    found, last = arrays(*sizes), len(sizes) - 2
    described = sequential(
        *(
            dense(f"dense_{i}", units, "linear" if i == last else "relu")
            for i, units in enumerate(sizes[1:])
        )
    )
    layers = {
        f"dense_{i}": {
            f"dense_{i}/kernel{suffix}": found[2 * i],
            f"dense_{i}/bias{suffix}": found[2 * i + 1],
        }
        for i in range(last + 1)
    }
    return whole_model_h5(described, layers, **options)


# --- ONNX ---------------------------------------------------------------------------------------


def onnx_graph(
    nodes: Sequence[Any],
    initialisers: dict[str, Any],
    *,
    inputs: Sequence[str] = ("x",),
    outputs: Sequence[str] = ("y",),
    value_type: int = 0,
    raw: bool = True,
) -> Any:
    """Return an ONNX model of nodes; initialisers may be arrays or tensors made already."""
    import onnx

    def value(name: str) -> Any:
        return onnx.helper.make_tensor_value_info(name, kind, ("rows", "columns"))

    kind = value_type or onnx.TensorProto.FLOAT
    tensors = []
    for name, values in initialisers.items():
        if isinstance(values, onnx.TensorProto):
            tensors.append(values)
        elif raw:
            tensors.append(onnx.numpy_helper.from_array(np.asarray(values), name))
        else:
            stored = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
            tensors.append(onnx.helper.make_tensor(name, stored, values.shape, values.ravel()))
    graph = onnx.helper.make_graph(
        list(nodes), "g", [value(n) for n in inputs], [value(n) for n in outputs], tensors
    )
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )


def onnx_mlp(*sizes: int, kind: str = "gemm", dtype: str = "float32", raw: bool = True) -> Any:
    """Return a multilayer perceptron with ReLU as PyTorch exports it: ``gemm`` or ``matmul``."""
    import onnx

    found, nodes, tensors, value = arrays(*sizes, dtype=dtype), [], {}, "x"
    make, last = onnx.helper.make_node, len(sizes) - 2
    for i in range(last + 1):
        weight, bias = found[2 * i], found[2 * i + 1]
        output = "y" if i == last else f"h{i}"
        if kind == "gemm":
            tensors |= {f"{2 * i}.weight": np.ascontiguousarray(weight.T), f"{2 * i}.bias": bias}
            given = [value, f"{2 * i}.weight", f"{2 * i}.bias"]
            nodes.append(make("Gemm", given, [output], transB=1))
        else:
            tensors |= {f"onnx::MatMul_{i}": weight, f"{2 * i}.bias": bias}
            nodes.append(make("MatMul", [value, f"onnx::MatMul_{i}"], [f"p{i}"]))
            nodes.append(make("Add", [f"{2 * i}.bias", f"p{i}"], [output]))
        if i < last:
            nodes.append(make("Relu", [output], [f"r{i}"]))
            value = f"r{i}"
    kind_of = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return onnx_graph(nodes, tensors, value_type=kind_of, raw=raw)


def save_beside(model: Any, path: Path, location: str = "numbers.data") -> None:
    """Save an ONNX model with its numbers in a file beside it."""
    import onnx

    onnx.save(model, path, save_as_external_data=True, location=location, size_threshold=0)


# --- damage -------------------------------------------------------------------------------------


def damaged(data: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield copies with bits flipped, bytes replaced, cut off, left out, doubled or moved."""
    rng = np.random.default_rng(seed)
    size = len(data)
    for _ in range(count):
        new = bytearray(data)
        way = rng.integers(7)
        at, length = int(rng.integers(size)), int(rng.integers(1, 64))
        if way == 0:
            for place in rng.integers(size, size=int(rng.integers(1, 20))):
                new[place] ^= 1 << int(rng.integers(8))
        elif way == 1:
            new[at : at + length] = rng.bytes(len(new[at : at + length]))
        elif way == 2:
            del new[at:]
        elif way == 3:
            del new[at : at + length]
        elif way == 4:
            new[at:at] = new[at : at + length]
        elif way == 5:
            new[at : at + 8] = (b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7)[int(rng.integers(3))]
            del new[size:]
        else:
            other = int(rng.integers(size))
            new[at : at + length] = new[other : other + length]
        yield bytes(new)


# --- reading where the frameworks are not -------------------------------------------------------

_BLOCKED = """
import sys
for name in ("keras", "tf_keras", "torch", "tensorflow", "jax", "sklearn", "flax", "skl2onnx"):
    sys.modules[name] = None
import pickle
from pathlib import Path
from obstruction.models import read_contents
from obstruction.models.operations.chains import steps_of
found = []
for name in sys.argv[2:]:
    contents = read_contents(name)
    arrays = {n: (t.array, t.dtype) for n, t in contents.tensors.items()}
    steps = None if contents.graph is None else steps_of(contents.graph)
    found.append((arrays, steps, contents.layout, contents.notes))
Path(sys.argv[1]).write_bytes(pickle.dumps(found))
"""


def read_blocked(out: Path, *paths: Path) -> list[Any]:
    """Return tensors, steps, layout and notes of files, read where no framework can be imported."""
    import pickle

    words = [sys.executable, "-c", _BLOCKED, str(out), *map(str, paths)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return pickle.loads(out.read_bytes())
