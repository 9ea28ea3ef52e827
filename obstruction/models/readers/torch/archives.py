"""Files of ``torch.export.save``: a zip archive of a program in JSON and of raw numbers.

Nothing in them is executed, and the pickles that some tensors need are not opened. The layout is
that of PyTorch 2.9 and later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.models.bfloat16 import bfloat16_array
from obstruction.models.contents import (
    Contents,
    Tensor,
    UnreadableModel,
    encode_bfloat16,
    overlapping,
)
from obstruction.models.readers.files import Bytes, fitting, shown, stored_type, told_as
from obstruction.models.readers.torch.aten import graph_of
from obstruction.models.readers.torch.aten_nodes import Node, Value
from obstruction.models.readers.torch.programs import FORGOTTEN
from obstruction.models.readers.zip_archives import Archive, first_member
from obstruction.tools.files import replacing

FORMAT: Final = "torch.export"
SUFFIXES: Final = (".pt2",)

SMALL_TEXT: Final = 4 * 2**20
"""The largest number of bytes of a program that is more than a tenth of its file. The objects made
of it need many times its size."""

MOST_DIMENSIONS: Final = 32

_MEMBER: Final = re.compile(rb"[^/]+/(?:data/(?:weights|constants|aotinductor)|models)/[^/]+.*")
_SCHEMA: Final = 8
_NUMBERS: Final = {
    1: "u1",
    2: "i1",
    3: "<i2",
    4: "<i4",
    5: "<i8",
    6: "<f2",
    7: "<f4",
    8: "<f8",
    12: "?",
    13: "bfloat16",
}
"""The forms of numbers, by the values of ``ScalarType`` in the schema."""

_STRIDED: Final = 7
_LOAD_IT: Final = "give torch.export.load(path), if you trust it"
_SPECS: Final = {
    "parameter": "parameter_name",
    "buffer": "buffer_name",
    "tensor_constant": "tensor_constant_name",
}


@dataclass(frozen=True)
class _Place:
    """Where a tensor is: its member of the archive, and its place there in numbers."""

    member: str
    form: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    @property
    def last(self) -> int:
        """The index of the last number of a tensor that is not empty."""
        reach = zip(self.shape, self.strides, strict=True)
        return self.offset + sum((size - 1) * stride for size, stride in reach)


def matches(head: bytes, path: Path) -> bool:
    """Return whether the first member of a zip archive is one of a program of PyTorch."""
    return bool(_MEMBER.fullmatch(first_member(head) or b"")) or path.suffix in SUFFIXES


def read(path: Path) -> Contents:
    """Return the tensors of a program and the graph of its operations."""
    with told_as(UnreadableModel, path):
        return _Program(path).contents()


def write(path: Path, changes: Mapping[str, NDArray[Any]], out: Path) -> None:
    """Write a copy with new numbers in some tensors, and in all tensors that share them."""
    with told_as(UnreadableModel, path):
        program = _Program(path)
        checked = fitting(changes, program.contents().tensors)
        members: dict[str, bytearray] = {}
        for name, new in checked.items():
            place = program.places[name]
            raw = members.setdefault(place.member, bytearray(program.archive.view(place.member)))
            values = encode_bfloat16(new) if place.form == "bfloat16" else new
            _view(np.frombuffer(raw, np.uint8), place, writeable=True)[...] = values
    with replacing(out) as stream:
        program.archive.write({name: bytes(raw) for name, raw in members.items()}, stream)


class _Program:
    def __init__(self, path: Path) -> None:
        self.archive = Archive(path)
        self.notes: list[str] = [FORGOTTEN]
        self.places: dict[str, _Place] = {}
        self._raw: dict[str, Bytes] = {}
        names = list(self.archive.members)
        found = [re.fullmatch(r"([^/]+)/models/([^/]+)\.json", name) for name in names]
        models = [match for match in found if match]
        if not models:
            compiled = any("/data/aotinductor/" in name for name in names)
            what = "a compiled model" if compiled else "no program of torch.export of PyTorch 2.9"
            raise ValueError(f"holds {what}: {_advice(compiled)}")
        if len(models) > 1:
            raise ValueError(f"holds {len(models)} programs: save one of them alone")
        self.root, self.name = models[0][1], models[0][2]
        if self._text("byteorder", b"little") != b"little":
            raise ValueError("holds numbers in another order of bytes than little-endian")

    def contents(self) -> Contents:
        try:
            return self._contents()
        except (KeyError, TypeError, AttributeError, IndexError, StopIteration):
            raise ValueError("damaged (the program is not one that PyTorch writes)") from None

    def _contents(self) -> Contents:
        trained = set()
        tensors: dict[str, Tensor] = {}
        for kind in ("weights", "constants"):
            config = self._json(f"data/{kind}/{self.name}_{kind}_config.json")["config"]
            for name, about in config.items():
                place = self._place(kind, name, about)
                if place is not None:
                    tensors[name] = self._tensor(name, place)
                    self.places[name] = place
                    if about["is_param"] and about["tensor_meta"]["requires_grad"]:
                        trained.add(name)
        program = self._json(f"models/{self.name}.json")
        version = program["schema_version"]["major"]
        if version != _SCHEMA:
            raise ValueError(f"has version {version!r} of its schema, not {_SCHEMA}: {_LOAD_IT}")
        module = program["graph_module"]
        inputs = [next(iter(one.items())) for one in module["signature"]["input_specs"]]
        weights = {
            one["arg"]["name"]: tensors.get(one[_SPECS[kind]])
            for kind, one in inputs
            if kind in _SPECS
        }
        nodes = [_node(one) for one in module["graph"]["nodes"]]
        results = [name for one in module["graph"]["outputs"] for name in _made(one)]
        graph = graph_of(nodes, results, weights, trained)
        shared = self._shared()
        return Contents("program of torch.export", tensors, None, graph, shared, tuple(self.notes))

    def _place(self, kind: str, name: str, about: Any) -> _Place | None:
        """Return where a tensor is, None if it is not kept as plain numbers."""
        meta = about["tensor_meta"]
        if about["use_pickle"] or meta is None or meta["layout"] != _STRIDED:
            self.notes.append(f"{shown(name)} is no tensor of plain numbers and is not read")
            return None
        form = _NUMBERS.get(meta["dtype"])
        if form is None:
            self.notes.append(f"{shown(name)} holds numbers of a type that is not read")
            return None
        sizes, strides = (tuple(_int(one) for one in meta[key]) for key in ("sizes", "strides"))
        if len(sizes) != len(strides) or len(sizes) > MOST_DIMENSIONS:
            raise ValueError(f"damaged (tensor {shown(name)} has no possible shape)")
        strides = tuple(s if n > 1 else 0 for n, s in zip(sizes, strides, strict=True))
        member = f"{self.root}/data/{kind}/{about['path_name']}"
        place = _Place(member, form, sizes, strides, _int(meta["storage_offset"]))
        if member not in self._raw:
            self._raw[member] = self.archive.view(member)
        count = self._raw[member].size // stored_type(form).itemsize
        if 0 not in sizes and (place.last >= count or _product(sizes) > count):
            raise ValueError(f"damaged (tensor {shown(name)} reaches beyond its numbers)")
        return place

    def _tensor(self, name: str, place: _Place) -> Tensor:
        array = _view(self._raw[place.member], place)
        if place.form == "bfloat16":
            return Tensor(name, bfloat16_array(array), "bfloat16")
        return Tensor(name, array, array.dtype.name)

    def _shared(self) -> tuple[frozenset[str], ...]:
        """Return the sets of the names of tensors that share numbers."""
        spans = []
        for name, place in self.places.items():
            if 0 not in place.shape:
                size = stored_type(place.form).itemsize
                spans.append((place.member, place.offset * size, (place.last + 1) * size, name))
        return overlapping(spans, lambda name, other: True)

    def _json(self, name: str) -> Any:
        path = f"{self.root}/{name}"
        most = max(SMALL_TEXT, self.archive.data.size // 10)
        if path in self.archive.members and self.archive.members[path].size > most:
            raise ValueError(f"{shown(path)} has more than {most:,} bytes: {_LOAD_IT}")
        try:
            return json.loads(self.archive.read(path), parse_int=_whole, parse_constant=_no_number)
        except json.JSONDecodeError as error:
            raise ValueError(f"damaged ({shown(path)} is no JSON text: {error.msg})") from None

    def _text(self, name: str, otherwise: bytes) -> bytes:
        path = f"{self.root}/{name}"
        return self.archive.read(path).strip() if path in self.archive.members else otherwise


def _advice(compiled: bool) -> str:
    if compiled:
        return "give the program that was compiled, or its module"
    return f"{_LOAD_IT}, or save it anew with torch.export.save"


def _view(raw: Bytes, place: _Place, *, writeable: bool = False) -> NDArray[Any]:
    """Return the numbers at a place among bytes."""
    kind = stored_type(place.form)
    if raw.ctypes.data % kind.alignment and not writeable:
        raw = raw.copy()
    numbers = raw[: raw.size - raw.size % kind.itemsize].view(kind)
    if 0 in place.shape:
        return np.empty(place.shape, kind)
    strides = tuple(stride * kind.itemsize for stride in place.strides)
    return np.lib.stride_tricks.as_strided(
        numbers[place.offset :], place.shape, strides, writeable=writeable
    )


def _node(about: Any) -> Node:
    given: dict[str, Any] = {}
    for i, one in enumerate(about["inputs"]):  # those of operations of a higher order have no names
        given[one["name"] if one["name"] not in ("", *given) else str(i)] = _argument(one["arg"])
    outputs = tuple(name for one in about["outputs"] for name in _made(one))
    target = about["target"].removeprefix("torch.ops.")
    return Node(target, given, outputs)


def _argument(about: Any) -> Any:
    """Return an argument as plain data, with a `Value` in place of a tensor."""
    if len(about) != 1:
        raise ValueError("damaged (an argument in the program has no single kind)")
    kind, value = next(iter(about.items()))
    if kind == "as_tensor":
        return Value(value["name"])
    if kind == "as_tensors":
        return [Value(one["name"]) for one in value]
    if kind == "as_optional_tensor":
        return _argument(value)
    if kind == "as_optional_tensors":
        return [_argument(one) for one in value]
    if kind == "as_nested_tensors":
        return [Value(one["name"]) for many in value for one in many]
    if kind == "as_none":
        return None
    if kind == "as_scalar_type":
        return stored_type(form).name if (form := _real(value)) else "another type"
    return value


def _real(kind: Any) -> str | None:
    form = _NUMBERS.get(kind)
    return "<f4" if form == "bfloat16" else form


def _made(about: Any) -> Iterator[str]:
    """Yield the names of the tensors of an output."""
    value = _argument(about)
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, Value):
            yield one.name


def _int(about: Any) -> int:
    value = about["as_int"]
    if type(value) is not int or not 0 <= value < 2**40:
        raise ValueError("damaged (a tensor has no possible shape)")
    return value


def _product(sizes: tuple[int, ...]) -> int:
    count = 1
    for size in sizes:
        count *= size
    return count


def _whole(text: str) -> int:
    if len(text) > 30:
        raise ValueError(f"damaged (the program holds a number of {len(text):,} digits)")
    return int(text)


def _no_number(text: str) -> float:
    return float(text.replace("Infinity", "inf"))
