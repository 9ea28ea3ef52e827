"""The tensors in an ONNX file and in files beside it, and copies with new numbers.

The parts of the file are counted before the protobuf library parses it, because the library makes
an object of a hundred bytes even for a part of few bytes. Files beside the model are only read from
the folder of the model.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.models.contents import Tensor, UnreadableModel
from obstruction.models.readers.files import (
    Bytes,
    Splice,
    bytes_of,
    mapped,
    spliced,
    stored_type,
    tensor_of,
    told_as,
)
from obstruction.tools.files import replacing

# the form of raw bytes and the field of separate numbers, by the values of TensorProto.DataType
KINDS: Final = {
    1: ("<f4", "float_data"),
    2: ("u1", "int32_data"),
    3: ("i1", "int32_data"),
    4: ("<u2", "int32_data"),
    5: ("<i2", "int32_data"),
    6: ("<i4", "int32_data"),
    7: ("<i8", "int64_data"),
    9: ("?", "int32_data"),
    10: ("<f2", "int32_data"),
    11: ("<f8", "double_data"),
    12: ("<u4", "uint64_data"),
    13: ("<u8", "uint64_data"),
    16: ("bfloat16", "int32_data"),
}
_BITS: Final = ("<f2", "bfloat16")  # forms whose separate numbers are bit patterns
_EXTERNAL: Final = 1
_TENSOR: Final = 4
_PLAIN: Final = {
    "value_float": ("f", 1),
    "value_floats": ("floats", 1),
    "value_int": ("i", 7),
    "value_ints": ("ints", 7),
}
"""The attributes of a ``Constant`` node that hold plain numbers: the field, and the type."""
_FEW: Final = 500_000
_MOST_BYTES: Final = 2**31 - 1


class Store:
    """The initialisers of an ONNX file and the values of its ``Constant`` nodes.

    `tensors` and `protos` hold them by their names in the graph, as `Tensor` and as
    `onnx.TensorProto`. The `notes` say what is not read.
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
                tensor = self.tensor(name, proto)
                if tensor is not None:
                    self.tensors[name] = tensor

    def _named(self) -> Iterator[tuple[str, Any]]:
        graph, seen = self.model.graph, set()
        constants = constant_nodes(with_tensors(graph))
        for name, proto in [*((proto.name, proto) for proto in graph.initializer), *constants]:
            if name in seen:
                raise ValueError(f"damaged (two tensors are called {name!r})")
            seen.add(name)
            yield name, proto
        for sparse in graph.sparse_initializer:
            self.notes.append(f"{sparse.values.name}: a sparse tensor is not read")

    def tensor(self, name: str, proto: Any) -> Tensor | None:
        """Return the numbers of a message as a tensor, or None and a note if they are not read."""
        if proto.data_type not in KINDS:
            self.notes.append(f"{name}: holds no numbers that are read (type {proto.data_type})")
            return None
        form, field = KINDS[proto.data_type]
        shape = tuple(proto.dims)
        if any(length < 0 for length in shape):
            raise ValueError(f"damaged (the shape of {name!r} is {shape})")
        count, kind = math.prod(shape), stored_type(form)
        size = count * kind.itemsize
        if proto.data_location == _EXTERNAL:
            location, offset = self.place(name, proto, size)
            raw = self._beside[location][offset : offset + size]
        elif proto.HasField("raw_data"):
            raw = np.frombuffer(proto.raw_data, np.uint8)
            if raw.size != size:
                raise ValueError(f"damaged ({name!r} has {raw.size} bytes for shape {shape})")
        else:
            numbers = getattr(proto, field)
            if len(numbers) != count:
                raise ValueError(f"damaged ({name!r} has {len(numbers)} numbers for shape {shape})")
            if form in _BITS:
                raw = np.array(numbers, np.int64).astype("<u2").view(np.uint8)
            else:
                raw = np.array(numbers).astype(kind).view(np.uint8)
        return tensor_of(name, raw, form, shape)

    def place(self, name: str, proto: Any, size: int | None) -> tuple[str, int]:
        """Return the file beside the model that holds a tensor, and the position in it.

        The file must be in the folder of the model, and must hold the whole tensor, which has
        ``size`` bytes unless that is None.
        """
        entries = {entry.key: entry.value for entry in proto.external_data}
        location = entries.get("location", "")
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
        texts = entries.get("offset") or "0", entries.get("length") or str(size or 0)
        if not all(text.isascii() and text.isdigit() and len(text) < 20 for text in texts):
            raise ValueError(f"damaged (the place of {name!r} in {location!r})")
        offset, length = (int(text) for text in texts)
        if size not in (None, length) or offset + length > self._beside[location].size:
            raise ValueError(f"damaged ({name!r} is not whole in {location!r})")
        return location, offset

    def write(self, changes: Mapping[str, NDArray[Any]], out: Path) -> None:
        """Write a copy with new numbers, which must fit, in some tensors.

        If ``out`` is another file than the model, the files beside it are copied under names that
        begin with that of ``out``, so that they never replace those of another model. If ``out`` is
        the model, the files beside it are replaced before the model.
        """
        for proto in _tensors_of(self.model):
            if proto.data_location == _EXTERNAL:  # tensors that no layer uses are copied too
                with told_as(UnreadableModel, self.path):
                    self.place(proto.name, proto, None)
        splices: dict[str, list[Splice]] = {location: [] for location in self._beside}
        inside = False
        for name, values in changes.items():
            proto = self.protos[name]
            raw = bytes_of(values, KINDS[proto.data_type][0])
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


def constant_nodes(graph: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names and the values of the ``Constant`` nodes of a graph."""
    for node in graph.node:
        for attribute in node.attribute:
            known = attribute.name == "value" and attribute.HasField("t")
            if known and node.op_type == "Constant" and node.output:
                yield node.output[0], attribute.t


def with_tensors(graph: Any) -> Any:
    """Return a graph after all its ``Constant`` nodes of plain numbers got tensors instead."""
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            kind = _PLAIN.get(attribute.name)
            if kind is None:
                continue
            field, number = kind
            held = getattr(attribute, field)
            many = attribute.name.endswith("s")
            values = np.array(held, KINDS[number][0])
            for name in ("f", "floats", "i", "ints"):
                attribute.ClearField(name)
            attribute.name, attribute.type = "value", _TENSOR
            attribute.t.data_type, attribute.t.raw_data = number, values.tobytes()
            attribute.t.dims.extend(values.shape if many else ())
    return graph


def _put(proto: Any, raw: bytes) -> None:
    """Replace the numbers of a tensor in the field of the message that holds them."""
    if proto.HasField("raw_data"):
        proto.raw_data = raw
        return
    form, field = KINDS[proto.data_type]
    numbers = np.frombuffer(raw, "<u2" if form in _BITS else form)
    del getattr(proto, field)[:]
    getattr(proto, field).extend(numbers.tolist())


def _tensors_of(message: Any) -> Iterator[Any]:
    """Yield every tensor in a message, with those of inner graphs."""
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
    model = onnx.ModelProto()
    if not _is_frugal(text, model.DESCRIPTOR):
        raise ValueError("holds more parts than a model of its size has")
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
    """Yield the names in a model, which are bytes if they are no valid text."""
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


@cache
def _messages_in(kind: Any) -> dict[int, Any]:
    """Return the kinds of the fields of a message that are messages, by their numbers."""
    return {field.number: field.message_type for field in kind.fields if field.message_type}


def _is_frugal(text: bytes, kind: Any) -> bool:
    """Return whether the number of parts of a message of a kind is in proportion to its size."""
    left = max(_FEW, len(text) // 100)
    todo = [(0, len(text), kind)]  # the unread part of each open message, and its kind
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
                inner = _messages_in(kind).get(tag >> 3)
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
