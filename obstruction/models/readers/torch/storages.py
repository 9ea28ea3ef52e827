"""The storages in files of ``torch.save``, and tensors as views of them.

PyTorch 1.6 and later write a zip archive that holds a pickle, and one member for each storage.
Earlier versions write several pickles, followed by all storages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.models.bfloat16 import bfloat16_array
from obstruction.models.contents import encode_bfloat16
from obstruction.models.readers.files import Bytes, mapped, most_expanded, shown, spliced
from obstruction.models.readers.torch import pickles
from obstruction.models.readers.torch.pickles import Call, Global
from obstruction.models.readers.zip_archives import Archive

LEGACY: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The start of files before PyTorch 1.6: a pickle of the number 0x1950a86a20f9469cfc6c."""

MOST_DIMENSIONS: Final = 32

_LEGACY_VERSION: Final = 1001
_BYTES_PER_OPERATION: Final = 64  # of a large file, which keeps the objects smaller than the file

_STORAGES: Final = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "int8",
    "QUInt8Storage": "uint8",
    "QInt32Storage": "int32",
    "QUInt4x2Storage": "uint8",
    "QUInt2x4Storage": "uint8",
    "UntypedStorage": "uint8",
}
_LATER: Final = ("uint16", "uint32", "uint64")  # types whose storages have no class of their own
_REBUILT: Final = ("torch._utils._rebuild_", "torch._tensor._rebuild_", "torch.tensor._rebuild_")
_PARAMETERS: Final = (
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch.nn.parameter.Parameter",
)
_FROM_TYPE: Final = (
    "torch._tensor._rebuild_from_type_v2",
    "torch._tensor._rebuild_from_type",
    "torch.tensor._rebuild_from_type",
)


@dataclass(frozen=True, eq=False)
class Storage:
    """A one-dimensional array of numbers to which a pickle refers."""

    key: str  # the name of the array in the file
    kind: str  # the type of its numbers, by the name that `Tensor.dtype` gives it
    count: int  # how many numbers it has


@dataclass(frozen=True)
class View:
    """A tensor as a view of a storage, in which places and steps are counted in numbers."""

    key: str  # the name of the storage
    kind: str  # the type of the numbers, by the name that `Tensor.dtype` gives it
    offset: int  # the index of the first number in the storage
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def last(self) -> int:
        """The index in the storage of the last number of a tensor that is not empty."""
        reach = zip(self.shape, self.strides, strict=True)
        return self.offset + sum((size - 1) * stride for size, stride in reach)

    @property
    def itemsize(self) -> int:
        """The number of bytes of a number."""
        return _raw_type(self.kind).itemsize


def _raw_type(kind: str) -> np.dtype[Any]:
    """Return the NumPy type in which the file holds numbers of a kind."""
    if kind.startswith("float8"):
        return np.dtype(np.uint8)
    return np.dtype("uint16" if kind == "bfloat16" else kind).newbyteorder("<")


def is_tensor(value: Any) -> bool:
    """Return whether an object of a pickle stands for a tensor of any sort."""
    return isinstance(value, Call) and (
        value.path.startswith(_REBUILT) or value.path in _PARAMETERS
    )


def view(value: Call) -> tuple[View | None, bool]:
    """Return a tensor as a view of a storage, and whether it is trained.

    The view is None if the tensor is no view of plain numbers, such as a sparse tensor, a quantised
    one or one without data. A ValueError tells of an impossible tensor.
    """
    trained = True
    for _ in range(8):  # PyTorch never nests tensors as deeply
        args = value.args
        if not isinstance(args, tuple):
            raise ValueError("damaged (a tensor without a description)")
        if value.path in _PARAMETERS and args:
            trained = trained and not (len(args) > 1 and args[1] is False)
            inner: Any = args[0]
        elif value.path in _FROM_TYPE and len(args) >= 3:
            inner = Call(args[0], args[2])
        else:
            return _plain_view(value.path.rpartition(".")[2], args), trained
        if not is_tensor(inner):
            raise ValueError("damaged (a parameter that is no tensor)")
        value = inner
    raise ValueError("damaged (a parameter that is no tensor)")


_KINDS: Final = {
    "_rebuild_qtensor": "a tensor quantised by PyTorch",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_meta_tensor_no_storage": "a tensor without numbers",
}


def kind_of(value: Call) -> str:
    """Return in words what a tensor is that `view` returns no view of."""
    for _ in range(8):
        args = value.args if isinstance(value.args, tuple) else ()
        inner = args[0] if value.path in _PARAMETERS and args else None
        if value.path in _FROM_TYPE and len(args) >= 3:
            inner = Call(args[0], args[2])
        if not isinstance(inner, Call) or not is_tensor(inner):
            break
        value = inner
    function = value.path.rpartition(".")[2]
    if "sparse" in function:
        layout = value.args[0] if isinstance(value.args, tuple) and value.args else None
        if isinstance(layout, Call) and isinstance(layout.args, tuple) and layout.args:
            layout = layout.args[0]  # torch.serialization._get_layout("torch.sparse_csr")
        form = str(layout.name if isinstance(layout, Global) else layout).rpartition("sparse_")[2]
        return f"a sparse tensor ({form.upper() if form in _SPARSE else 'COO'})"
    return _KINDS.get(function, "a tensor of a special kind")


_SPARSE: Final = ("coo", "csr", "csc", "bsr", "bsc")


def _plain_view(function: str, args: tuple[Any, ...]) -> View | None:
    if function not in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"):
        return None
    if len(args) < 4 or not isinstance(args[0], Storage):
        raise ValueError("damaged (a tensor without a storage)")
    storage, offset = args[0], args[1]
    shape, strides = _sizes(args[2]), _sizes(args[3])
    kind, count = storage.kind, storage.count
    if function == "_rebuild_tensor_v3":
        named = args[6].path.removeprefix("torch.") if _is_named(args, 6) else ""
        if named not in (*_STORAGES.values(), *_LATER) and not named.startswith("float8_"):
            return None
        kind, count = named, storage.count // _raw_type(named).itemsize
    if shape is None or strides is None or len(shape) != len(strides):
        raise ValueError("damaged (a tensor without a shape)")
    if type(offset) is not int or offset < 0 or len(shape) > MOST_DIMENSIONS:
        raise ValueError("damaged (a tensor with an impossible place)")
    strides = tuple(stride if n > 1 else 0 for n, stride in zip(shape, strides, strict=True))
    found = View(storage.key, kind, offset, shape, strides)
    if 0 not in shape:
        if found.last >= count:
            raise ValueError("damaged (a tensor reaches beyond its storage)")
        if math.prod(shape) > count:
            return None  # numbers are used several times, as after `expand`
    return found


def _is_named(args: tuple[Any, ...], index: int) -> bool:
    return len(args) > index and isinstance(args[index], Global)


def _sizes(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, Call) and value.path == "torch.Size":
        value = value.args[0] if isinstance(value.args, tuple) and value.args else None
    if not isinstance(value, (tuple, list)):
        return None
    return tuple(value) if all(type(n) is int and 0 <= n < 2**40 for n in value) else None


class TorchFile:
    """A file that ``torch.save`` wrote, of either format.

    `value` is the saved object as data, with a `Storage` in place of each storage. The `notes` are
    remarks about the file. A ValueError says that the file is damaged, or of another format.
    """

    def __init__(self, path: Path) -> None:
        self.notes: list[str] = []
        self._archive: Archive | None = None
        self._root = ""
        self._places: dict[str, tuple[int, int]] = {}  # starts and ends of storages before 1.6
        self._raw: dict[str, Bytes] = {}
        self._storages: dict[str, Storage] = {}
        self.data = mapped(path)
        self._left = most_expanded(self.data.size)
        self._most = max(pickles.MOST_OPERATIONS, self.data.size // _BYTES_PER_OPERATION)
        head = self.data[:512].tobytes()
        if head.startswith(b"PK"):
            self.value = self._from_archive(Archive(path))
        elif head.startswith(LEGACY):
            self.value = self._from_stream()
        elif head[257:262] == b"ustar":
            raise ValueError(
                "is a tar archive, as PyTorch wrote before 0.1.10: "
                "load it with PyTorch and save it anew"
            )
        elif head.startswith(b"\x80"):
            raise ValueError("is a pickle that torch.save did not write")
        else:
            raise ValueError("is no file that torch.save wrote")

    # --- the two formats ---

    def _from_archive(self, archive: Archive) -> Any:
        self._archive, names = archive, archive.members
        roots = [n[: -len("data.pkl")] for n in names if n == "data.pkl" or n.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ValueError("is no archive that torch.save wrote (it has no data.pkl of its own)")
        self._root = roots[0]
        if f"{self._root}constants.pkl" in names:
            raise ValueError("is a TorchScript archive: save the state_dict() of the model instead")
        order = f"{self._root}byteorder"
        if order in names and archive.view(order)[:9].tobytes() != b"little":
            raise ValueError("was written on a big-endian machine, whose numbers are not read")
        stream = archive.view(f"{self._root}data.pkl")
        value, _ = pickles.load(stream.data, most=self._most, fetch=self._fetch)
        return value

    def _from_stream(self) -> Any:
        at, parts = 0, []
        for _ in range(5):
            part, at = pickles.load(self.data.data, at, most=self._most, fetch=self._fetch)
            parts.append(part)
        _, version, system, value, keys = parts
        if version != _LEGACY_VERSION:
            raise ValueError("damaged (its version is not known)")
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise ValueError("was written on a big-endian machine, whose numbers are not read")
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ValueError("damaged (the list of its storages)")
        if len(set(keys)) != len(keys) or set(keys) != set(self._storages):
            raise ValueError("damaged (the list of its storages does not fit its tensors)")
        for key in keys:
            storage = self._storages[key]
            start = at + 8
            stop = start + storage.count * _raw_type(storage.kind).itemsize
            if stop > self.data.size:
                raise ValueError("damaged (the file is cut off)")
            if int.from_bytes(self.data[at:start].tobytes(), "little") != storage.count:
                raise ValueError("damaged (the size of a storage)")
            self._places[key] = start, stop
            at = stop
        if at != self.data.size:
            self.notes.append(f"{self.data.size - at:,} bytes after the end are not read")
        return value

    def _fetch(self, pid: Any) -> Any:
        """Return the object to which a pickle refers: a storage, or the class of a module."""
        kind = pid[0] if isinstance(pid, tuple) and pid else None
        if kind == "module" and len(pid) > 1:  # before 1.6 a class comes with its source
            return pid[1]
        if kind != "storage" or len(pid) not in (5, 6) or not isinstance(pid[1], Global):
            raise ValueError("damaged (a reference to something that is no storage)")
        _, made, key, _, count = pid[:5]
        if pid[5:] not in ((), (None,)):
            raise ValueError("its storages are views of each other, as PyTorch wrote before 0.4")
        type_name = _STORAGES.get(made.name)
        if type_name is None or made.module not in ("torch", "torch.cuda", "torch.storage"):
            raise ValueError(f"has a storage of type {shown(made.path)}, which is not known")
        if not isinstance(key, str) or type(count) is not int or not 0 <= count < 2**48:
            raise ValueError("damaged (a reference to a storage)")
        storage = Storage(key, type_name, count)
        known = self._storages.setdefault(key, storage)
        if (known.kind, known.count) != (type_name, count):
            raise ValueError(f"damaged (storage {shown(key)} is described in two ways)")
        return known

    # --- numbers ---

    def array(self, view: View) -> NDArray[Any]:
        """Return the numbers of a tensor, as a read-only view of the file if that is possible."""
        raw_type = _raw_type(view.kind)
        if 0 in view.shape:
            return np.empty(view.shape, np.float32 if view.kind == "bfloat16" else raw_type)
        self._left -= math.prod(view.shape) * raw_type.itemsize
        if self._left < 0:
            raise ValueError("its tensors have many times the size of the file")
        numbers = _whole(self._storage(view.key), raw_type)
        if view.last >= numbers.size:
            raise ValueError("damaged (a tensor reaches beyond its storage)")
        if view.kind == "bfloat16":
            return bfloat16_array(_strided(numbers, view, writeable=False))
        return _strided(numbers, view, writeable=False)

    def _member(self, key: str) -> str:
        return f"{self._root}data/{key}"

    def _storage(self, key: str) -> Bytes:
        """Return the bytes of a storage, aligned for numbers of every type."""
        if key not in self._raw:
            if self._archive is not None:
                raw = self._archive.view(self._member(key))
            else:
                start, stop = self._places[key]
                raw = self.data[start:stop]
            self._raw[key] = raw if raw.ctypes.data % 16 == 0 else raw.copy()
        return self._raw[key]

    def write(self, changes: Mapping[str, tuple[View, NDArray[Any]]], stream: IO[bytes]) -> None:
        """Write a copy of the file with new numbers in the tensors of some names.

        A ValueError tells of tensors that share numbers and get different ones.
        """
        new: dict[str, Bytes] = {}
        for again in (False, True):
            for name, (view, values) in changes.items():
                if 0 in view.shape:
                    continue
                if view.key not in new:
                    new[view.key] = np.array(self._storage(view.key))
                raw_type = _raw_type(view.kind)
                place = _strided(_whole(new[view.key], raw_type), view, writeable=True)
                if view.kind == "bfloat16":
                    values = encode_bfloat16(values.reshape(-1)).reshape(view.shape)
                if not again:
                    place[...] = values
                elif place.tobytes() != values.astype(raw_type).tobytes():
                    raise ValueError(
                        f"changes[{name!r}]: shares numbers with another tensor, which gets others"
                    )
        if self._archive is not None:
            self._archive.write({self._member(k): raw.data for k, raw in new.items()}, stream)
        else:
            places = [(*self._places[key], raw) for key, raw in new.items()]
            splices = [(start, stop - start, raw.data) for start, stop, raw in places]
            spliced(self.data, splices, stream)


def _whole(raw: Bytes, kind: np.dtype[Any]) -> NDArray[Any]:
    """Return the numbers of a type in the bytes of a storage, which may end with part of one."""
    return raw[: raw.size // kind.itemsize * kind.itemsize].view(kind)


def _strided(numbers: NDArray[Any], view: View, *, writeable: bool) -> NDArray[Any]:
    size = numbers.dtype.itemsize
    return np.lib.stride_tricks.as_strided(
        numbers[view.offset :],
        view.shape,
        [stride * size for stride in view.strides],
        writeable=writeable,
    )
