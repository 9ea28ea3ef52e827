"""Small files of every format, made without the frameworks that normally write them."""

from __future__ import annotations

import io
import itertools
import json
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


def network(*sizes: int, seed: int = 0, dtype: str = "float32") -> dict[str, np.ndarray]:
    """Return weights ``(outputs, inputs)`` and biases as PyTorch names those of a Sequential."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        arrays[f"{2 * i}.weight"] = rng.normal(size=(outputs, inputs)).astype(dtype)
        arrays[f"{2 * i}.bias"] = rng.normal(size=outputs).astype(dtype)
    return arrays


# --- pickles, by hand: no class needs to exist ---------------------------------------------------


@dataclass(frozen=True)
class Named:
    """A name that a pickle imports."""

    module: str
    name: str


@dataclass
class Made:
    """Something that a pickle makes by calling, as ``copyreg`` or ``__reduce__`` would write it."""

    function: Any
    args: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    way: str = "reduce"


@dataclass(frozen=True)
class Stored:
    """A reference to a storage."""

    kind: str
    key: str
    count: int


def emit(value: Any) -> bytes:
    """Return the operations that push a value."""
    if value is None:
        return b"N"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        if 0 <= value < 256:
            return b"K" + bytes([value])
        if -(2**31) <= value < 2**31:
            return b"J" + struct.pack("<i", value)
        raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        raw = value.encode()
        return b"X" + struct.pack("<I", len(raw)) + raw
    if isinstance(value, tuple):
        return b"(" + b"".join(map(emit, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(emit, value)) + b"e"
    if isinstance(value, dict):
        return b"}" + entries(value)
    if isinstance(value, Named):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Stored):
        kind = value.kind
        pid = ("storage", Named("torch", kind), value.key, "cpu", value.count)
        return emit(pid) + b"Q"
    assert isinstance(value, Made), value
    return call(value) + (entries(value.items) if value.items else b"") + state(value.state)


def entries(value: Mapping[Any, Any]) -> bytes:
    return b"(" + b"".join(emit(part) for item in value.items() for part in item) + b"u"


def state(value: Any) -> bytes:
    return b"" if value is None else emit(value) + b"b"


def call(value: Made) -> bytes:
    parts = b"".join(map(emit, value.args))
    if value.way == "inst":
        return b"(" + parts + f"i{value.function.module}\n{value.function.name}\n".encode()
    if value.way == "obj":
        return b"(" + emit(value.function) + parts + b"o"
    if value.way == "newobj":
        return emit(value.function) + emit(value.args) + b"\x81"
    if value.way == "newobj_ex":
        return emit(value.function) + emit(value.args) + b"}\x92"
    if value.way == "stack_global":
        named = emit(value.function.module) + emit(value.function.name) + b"\x93"
        return named + emit(value.args) + b"R"
    assert value.way == "reduce"
    return emit(value.function) + emit(value.args) + b"R"


def pickled(value: Any) -> bytes:
    return b"\x80\x02" + emit(value) + b"."


# --- what torch.save writes ----------------------------------------------------------------------


def ordered(items: Mapping[Any, Any]) -> Made:
    return Made(Named("collections", "OrderedDict"), items=dict(items))


def tensor(
    key: str, array: np.ndarray, *, shape=None, strides=None, offset=0, kind=None, count=None
) -> Made:
    """Return a tensor that is all of a storage, or what the options say."""
    shape = array.shape if shape is None else shape
    if strides is None:
        strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    stored = Stored(kind or STORAGES[array.dtype.name], key, array.size if count is None else count)
    args = (stored, offset, tuple(shape), tuple(strides), False, ordered({}))
    return Made(Named("torch._utils", "_rebuild_tensor_v2"), args)


def state_dict(arrays: Mapping[str, np.ndarray]) -> Made:
    return ordered({name: tensor(str(i), a) for i, (name, a) in enumerate(arrays.items())})


def storages(arrays: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    return {str(i): array.tobytes() for i, array in enumerate(arrays.values())}


def module(name: str, modules=None, parameters=None, **attributes) -> Made:
    """Return a pickled ``torch.nn`` module; ``name`` is ``"linear.Linear"`` or a full path."""
    path = name if name.count(".") > 1 else f"torch.nn.modules.{name}"
    attributes = {
        "training": True,
        "_parameters": dict(parameters or {}),
        "_buffers": {},
        "_forward_hooks": ordered({}),
        "_forward_pre_hooks": ordered({}),
        **attributes,
        "_modules": dict(modules or {}),
    }
    return Made(Named(*path.rsplit(".", 1)), (), attributes, way="newobj")


def sequential(arrays: Mapping[str, np.ndarray]) -> Made:
    """Return a pickled Sequential of the arrays of `network`."""
    made, names = {}, list(arrays)
    for i in range(0, len(names), 2):
        parts = {
            kind: Made(
                Named("torch._utils", "_rebuild_parameter"),
                (tensor(str(i + j), arrays[names[i + j]]), True, ordered({})),
            )
            for j, kind in enumerate(("weight", "bias"))
        }
        made[str(i)] = module("linear.Linear", parameters=parts)
        if i + 2 < len(names):
            made[str(i + 1)] = module("activation.ReLU", inplace=False)
    return module("container.Sequential", made)


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def torch_zip(value: Any, stored: Mapping[str, bytes], **more: Any) -> bytes:
    """Return a file of PyTorch 1.6 or later; ``value`` may be the bytes of a pickle."""
    raw = value if isinstance(value, bytes) else pickled(value)
    members = {"model/data.pkl": raw, "model/byteorder": b"little"}
    members.update({f"model/data/{key}": data for key, data in stored.items()})
    return zipped({**members, "model/version": b"3\n"}, **more)


def torch_legacy(value: Any, stored: Mapping[str, bytes], itemsize: int = 4) -> bytes:
    """Return a file of the format before PyTorch 1.6."""
    system = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    raw = value if isinstance(value, bytes) else pickled(value)
    raw = raw.replace(b"tQ", b"NtQ")  # references to storages have one more part: no view
    head = MAGIC + pickled(1001) + pickled(system) + raw + pickled(list(stored))
    counted = (struct.pack("<q", len(data) // itemsize) + data for data in stored.values())
    return head + b"".join(counted)


# --- safetensors and NumPy -----------------------------------------------------------------------


SAFETENSORS = {
    "float32": "F32",
    "float64": "F64",
    "float16": "F16",
    "int64": "I64",
    "uint8": "U8",
    "bool": "BOOL",
}


def safetensors_header(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    header, start = {}, 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": SAFETENSORS[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, start + array.nbytes],
        }
        start += array.nbytes
    return header


def safetensors(arrays: Mapping[str, np.ndarray], header: Any = None) -> bytes:
    """Return a file; ``header`` replaces the right one, as bytes or as what becomes JSON."""
    about = safetensors_header(arrays) if header is None else header
    text = about if isinstance(about, bytes) else json.dumps(about).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(a.tobytes() for a in arrays.values())


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npy_with(header: str, data: bytes = b"") -> bytes:
    """Return an array file whose header is any text."""
    text = header.encode("latin-1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def npz(arrays: Mapping[str, np.ndarray], *, compressed: bool = False) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return stream.getvalue()


# --- what torch.export.save writes ---------------------------------------------------------------

_KINDS = {"float16": 6, "float32": 7, "float64": 8, "int64": 5}


def _meta(array: np.ndarray) -> dict[str, Any]:
    sizes, strides = array.shape, [stride // array.itemsize for stride in array.strides]
    return {
        "dtype": _KINDS[array.dtype.name],
        "sizes": [{"as_int": size} for size in sizes],
        "strides": [{"as_int": stride} for stride in strides],
        "storage_offset": {"as_int": 0},
        "requires_grad": True,
        "layout": 7,
    }


def program(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the program of a Sequential of layers with biases and ReLU between them."""
    nodes, value = [], "x"
    labels = sorted({name.split(".")[0] for name in arrays}, key=int)
    for label in labels:
        given = {"input": value, "weight": f"p_{label}_weight", "bias": f"p_{label}_bias"}
        value = f"linear_{label}"
        nodes.append(aten("linear.default", value, **given))
        if label != labels[-1]:
            nodes.append(aten("relu.default", f"relu_{label}", self=value))
            value = f"relu_{label}"
    specs = [
        {
            "parameter": {
                "arg": {"name": f"p_{name.replace('.', '_')}"},
                "parameter_name": name,
            }
        }
        for name in arrays
    ]
    specs.append({"user_input": {"arg": {"as_tensor": {"name": "x"}}}})
    graph = {"nodes": nodes, "inputs": [], "outputs": [{"as_tensor": {"name": value}}]}
    module = {"graph": graph, "signature": {"input_specs": specs, "output_specs": []}}
    return {"graph_module": module, "schema_version": {"major": 8, "minor": 20}}


def aten(target: str, output: str, **given: Any) -> dict[str, Any]:
    """Return a node of a program; arguments are names of values, lists of these, or numbers."""
    return {
        "target": f"torch.ops.aten.{target}",
        "inputs": [{"name": name, "arg": _argument(one), "kind": 1} for name, one in given.items()],
        "outputs": [{"as_tensor": {"name": output}}],
    }


def _argument(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"as_tensor": {"name": value}}
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return {"as_tensors": [{"name": one} for one in value]}
    if isinstance(value, list):
        return {"as_ints": value}
    return {"as_float" if isinstance(value, float) else "as_int": value}


def exported(
    arrays: Mapping[str, np.ndarray],
    text: bytes | None = None,
    config: bytes | None = None,
    extra: Mapping[str, bytes] | None = None,
) -> bytes:
    """Return a file of ``torch.export.save``, with another program or configuration if given."""
    members = {f"n/data/weights/weight_{i}": a.tobytes() for i, a in enumerate(arrays.values())}
    about = {
        name: {
            "path_name": f"weight_{i}",
            "is_param": True,
            "use_pickle": False,
            "tensor_meta": _meta(array),
        }
        for i, (name, array) in enumerate(arrays.items())
    }
    members["n/data/weights/model_weights_config.json"] = (
        json.dumps({"config": about}).encode() if config is None else config
    )
    members["n/data/constants/model_constants_config.json"] = b'{"config": {}}'
    members["n/models/model.json"] = json.dumps(program(arrays)).encode() if text is None else text
    return zipped(
        {**members, "n/archive_format": b"pt2", "n/byteorder": b"little", **(extra or {})}
    )
