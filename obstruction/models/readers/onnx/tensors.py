"""The numbers in an ONNX file and beside it, and copies of the file with other numbers.

The message is measured before the protobuf library sees it: a few bytes can stand for an object of
a hundred. Numbers in files beside the model are only read from its own folder.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.models.contents import Tensor, UnreadableModel, decode_bfloat16, encode_bfloat16
from obstruction.models.readers.files import Bytes, Splice, mapped, spliced, told_as
from obstruction.tools.files import replacing

# by the numbers of TensorProto.DataType: name, type in raw bytes, field of separate numbers
KINDS: Final = {
    1: ("float32", "<f4", "float_data"),
    2: ("uint8", "u1", "int32_data"),
    3: ("int8", "i1", "int32_data"),
    4: ("uint16", "<u2", "int32_data"),
    5: ("int16", "<i2", "int32_data"),
    6: ("int32", "<i4", "int32_data"),
    7: ("int64", "<i8", "int64_data"),
    9: ("bool", "?", "int32_data"),
    10: ("float16", "<f2", "int32_data"),
    11: ("float64", "<f8", "double_data"),
    12: ("uint32", "<u4", "uint64_data"),
    13: ("uint64", "<u8", "uint64_data"),
    16: ("bfloat16", "<u2", "int32_data"),
}
_EXTERNAL: Final = 1
_FEW: Final = 500_000
_MOST_BYTES: Final = 2**31 - 1

# which fields of a message are messages, for those of which a file may have very many
_MESSAGES: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 8: "other", 14: "other", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph", 3: "other", 4: "other"},
    "graph": {
        **{1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value", 14: "other"},
        **{15: "sparse", 16: "other"},
    },
    "function": {7: "node", 9: "other", 11: "attribute", 12: "value", 14: "other"},
    "node": {5: "attribute", 9: "other"},
    "attribute": {
        **{5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 14: "type", 15: "type"},
        **{22: "sparse", 23: "sparse"},
    },
    "tensor": {3: "other", 13: "other", 16: "other"},
    "sparse": {1: "tensor", 2: "tensor"},
    "value": {2: "type", 4: "other"},
    "type": {1: "type", 2: "other", 4: "type", 5: "type", 8: "type", 9: "type"},
    "other": {},
}


class Store:
    """The tensors of an ONNX file by name.

    Parameters
    ----------
    path : Path
        The file.

    Attributes
    ----------
    model : onnx.ModelProto
        The parsed file.
    protos : dict of str to onnx.TensorProto
        Initialisers and the values of ``Constant`` nodes, by the name that the graph uses.
    tensors : dict of str to Tensor
        Their numbers.
    notes : list of str
        What was passed over.

    Raises
    ------
    UnreadableModel
        If the file is damaged or unsafe, or if the package onnx is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self._beside: dict[str, Bytes] = {}
        with told_as(UnreadableModel, path):
            self.model = _parsed(path)
            self.protos = dict(self._named())
            self.tensors: dict[str, Tensor] = {}
            for name, proto in self.protos.items():
                tensor = self._tensor(name, proto)
                if tensor is not None:
                    self.tensors[name] = tensor

    def _named(self) -> Iterator[tuple[str, Any]]:
        graph, seen = self.model.graph, set()
        constants = (
            (node.output[0], attribute.t)
            for node in graph.node
            if node.op_type == "Constant" and node.output
            for attribute in node.attribute
            if attribute.name == "value" and attribute.HasField("t")
        )
        for name, proto in [*((proto.name, proto) for proto in graph.initializer), *constants]:
            if name in seen:
                raise ValueError(f"damaged (two tensors are called {name!r})")
            seen.add(name)
            yield name, proto
        for sparse in graph.sparse_initializer:
            self.notes.append(f"{sparse.values.name}: a sparse tensor is not read")

    def _tensor(self, name: str, proto: Any) -> Tensor | None:
        if proto.data_type not in KINDS:
            self.notes.append(f"{name}: holds no numbers that are read (type {proto.data_type})")
            return None
        dtype, form, field = KINDS[proto.data_type]
        shape = tuple(proto.dims)
        if any(length < 0 for length in shape):
            raise ValueError(f"damaged (the shape of {name!r} is {shape})")
        count, kind = math.prod(shape), np.dtype(form)
        if proto.data_location == _EXTERNAL:
            location, offset = self.place(name, proto, count * kind.itemsize)
            raw = self._beside[location][offset : offset + count * kind.itemsize]
            aligned = raw.size == 0 or raw.ctypes.data % kind.itemsize == 0
            values = (raw if aligned else raw.copy()).view(kind)
        elif proto.HasField("raw_data"):
            data = proto.raw_data
            if len(data) != count * kind.itemsize:
                raise ValueError(f"damaged ({name!r} has {len(data)} bytes for shape {shape})")
            values = np.frombuffer(data, kind)
        else:
            numbers = getattr(proto, field)
            if len(numbers) != count:
                raise ValueError(f"damaged ({name!r} has {len(numbers)} numbers for shape {shape})")
            if dtype in ("float16", "bfloat16"):  # their bits, as integers
                values = np.array(numbers, np.int64).astype(np.uint16).view(kind)
            else:
                values = np.array(numbers).astype(kind)
        values = decode_bfloat16(values) if dtype == "bfloat16" else values
        return Tensor(name, values.reshape(shape), dtype)

    def place(self, name: str, proto: Any, size: int | None) -> tuple[str, int]:
        """Return in which file beside the model, and where in it, a tensor of some size is.

        Raises
        ------
        ValueError
            If that is not within the model's folder, or not within the file.
        """
        told = {entry.key: entry.value for entry in proto.external_data}
        location = told.get("location", "")
        for kind in (PurePosixPath, PureWindowsPath):
            plain = kind(location)
            if plain.is_absolute() or plain.drive or plain.root or ".." in plain.parts:
                raise ValueError(f"{name!r} is to be read from {location!r}, outside its folder")
        if not location or "\0" in location:
            raise ValueError(f"damaged (the file that holds {name!r} has no name)")
        if location not in self._beside:
            folder = Path(os.path.realpath(self.path.parent))
            file = Path(os.path.realpath(folder / location))
            if not file.is_relative_to(folder):
                raise ValueError(f"{name!r} is to be read from {location!r}, outside its folder")
            try:
                self._beside[location] = mapped(file)
            except (OSError, ValueError) as problem:
                raise ValueError(
                    f"{location!r}, which holds {name!r}, cannot be read ({problem})"
                ) from None
        texts = told.get("offset") or "0", told.get("length") or str(size or 0)
        if not all(text.isascii() and text.isdigit() and len(text) < 20 for text in texts):
            raise ValueError(f"damaged (the place of {name!r} in {location!r})")
        offset, length = (int(text) for text in texts)
        if size not in (None, length) or offset + length > self._beside[location].size:
            raise ValueError(f"damaged ({name!r} is not whole in {location!r})")
        return location, offset

    def write(self, changes: Mapping[str, NDArray[Any]], out: Path) -> None:
        """Write a copy with other numbers; ``changes`` must fit.

        If ``out`` is another file than the model, copies of files beside it are named after
        ``out``, so that they never replace those of another model. If it is the same, these files
        are replaced before the model.
        """
        for proto in _tensors_of(self.model):
            if proto.data_location == _EXTERNAL:  # those that no layer uses go along
                with told_as(UnreadableModel, self.path):
                    self.place(proto.name, proto, None)
        splices: dict[str, list[Splice]] = {location: [] for location in self._beside}
        inside = False
        for name, values in changes.items():
            proto = self.protos[name]
            kind = np.dtype(KINDS[proto.data_type][1])
            stored = encode_bfloat16(values) if self.tensors[name].dtype == "bfloat16" else values
            raw = stored.astype(kind).tobytes()
            if proto.data_location == _EXTERNAL:
                location, offset = self.place(name, proto, len(raw))
                splices[location].append((offset, len(raw), raw))
            else:
                inside = True
                _put(proto, raw)
        here = os.path.realpath(out) == os.path.realpath(self.path)
        names = {}
        for i, location in enumerate(splices):
            names[location] = location if here else f"{out.name}{f'.{i}' if i else ''}.data"
            if splices[location] or not here:
                with replacing(out.parent / names[location]) as stream:
                    spliced(self._beside[location], splices[location], stream)
        if here and not inside:
            return
        renamed = {old: new for old, new in names.items() if old != new}
        for proto in _tensors_of(self.model) if renamed else ():
            for entry in proto.external_data:
                if entry.key == "location":
                    entry.value = renamed.get(entry.value, entry.value)
        with replacing(out) as stream:
            stream.write(self.model.SerializeToString())


def _put(proto: Any, raw: bytes) -> None:
    """Replace the numbers within a message, in the field that holds them."""
    if proto.HasField("raw_data"):
        proto.raw_data = raw
        return
    dtype, form, field = KINDS[proto.data_type]
    numbers = np.frombuffer(raw, "<u2" if dtype == "float16" else form)
    del getattr(proto, field)[:]
    getattr(proto, field).extend(numbers.tolist())


def _tensors_of(message: Any) -> Iterator[Any]:
    """Yield every tensor in a message, those of inner graphs too."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if hasattr(value, "ListFields") else value:
                yield from _tensors_of(inner)


# --- parsing --------------------------------------------------------------------------------


def _parsed(path: Path) -> Any:
    if importlib.util.find_spec("onnx") is None:
        raise ValueError("reading ONNX files needs onnx: pip install 'obstruction[onnx]'")
    import onnx

    data = mapped(path)
    if data.size > _MOST_BYTES:
        raise ValueError("is no ONNX model, which has at most 2 GiB (its numbers can be beside it)")
    text = data.tobytes()
    if not _is_frugal(text):
        raise ValueError("holds more parts than a model of its size has")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(text)
    except Exception:  # protobuf raises errors of its own, a type per implementation
        raise ValueError("damaged, or no ONNX model") from None
    if not model.graph.node and not model.graph.initializer:
        raise ValueError("is no ONNX model (it has no graph)")
    if not all(isinstance(text, str) for text in _texts(model)):
        raise ValueError("damaged (a name in it is not valid text)")
    return model


def _texts(model: Any) -> Iterator[Any]:
    """Yield the names in a model, which protobuf leaves as bytes if they are no text."""
    for function in model.functions:
        yield from (function.name, function.domain)
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        yield from (value.name for value in (*graph.input, *graph.output))
        for tensor in (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)):
            yield from _texts_of(tensor)
        for node in graph.node:
            yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
            for attribute in node.attribute:
                yield attribute.name
                for tensor in (attribute.t, *attribute.tensors):
                    yield from _texts_of(tensor)
                graphs += [attribute.g] if attribute.HasField("g") else []
                graphs += attribute.graphs


def _texts_of(tensor: Any) -> Iterator[Any]:
    yield tensor.name
    for entry in tensor.external_data:
        yield from (entry.key, entry.value)


def _is_frugal(text: bytes) -> bool:
    """Return whether the messages within a model are not too many for its size."""
    left = max(_FEW, len(text) // 100)
    todo = [(0, len(text), "model")]  # what is left of the messages that are open
    while todo:
        at, stop, kind = todo.pop()
        while at < stop:
            left -= 1
            if left < 0:
                return False
            tag, at = _varint(text, at, stop)
            if tag & 7 == 0:
                _, at = _varint(text, at, stop)
            elif tag & 7 == 2:
                length, at = _varint(text, at, stop)
                end = at + length
                if end > stop:
                    raise ValueError("damaged, or no ONNX model")
                inner = _MESSAGES[kind].get(tag >> 3)
                if inner is not None and length:
                    todo.append((end, stop, kind))
                    stop, kind = end, inner
                else:
                    at = end
            elif tag & 7 in (1, 5):
                at += 8 if tag & 7 == 1 else 4
            else:
                raise ValueError("damaged, or no ONNX model")
        if at != stop:
            raise ValueError("damaged, or no ONNX model")
    return True


def _varint(text: bytes, at: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while at < stop and shift < 70:
        byte = text[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("damaged, or no ONNX model")
