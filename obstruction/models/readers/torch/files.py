"""Files that ``torch.save`` wrote, read without PyTorch.

The pickle in such a file is read as data, and nothing that it names is imported or called. It may
hold a state dict, which has only tensors, or a module, whose classes tell its layers and
activations too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.models.bfloat16 import memory_of
from obstruction.models.contents import (
    Activation,
    Barrier,
    Contents,
    Dense,
    OperationGraph,
    Step,
    Tensor,
    Unread,
    UnreadableModel,
    names_weights,
    overlapping,
)
from obstruction.models.operations.graphs import operation_chain
from obstruction.models.readers.files import fitting, shown, told_as
from obstruction.models.readers.torch import layers as torch_layers
from obstruction.models.readers.torch.pickles import Call
from obstruction.models.readers.torch.storages import (
    LEGACY,
    TorchFile,
    View,
    is_tensor,
    kind_of,
    view,
)
from obstruction.models.readers.zip_archives import first_member
from obstruction.tools.files import replacing

FORMAT: Final = "PyTorch"
SUFFIXES: Final = (".pt", ".pth", ".bin", ".ckpt")

MOST_PARTS: Final = 200_000
"""The largest number of parts of a model; a part counts once for each place where it is."""

DEEPEST: Final = 100
"""The largest depth to which modules and dictionaries may be nested."""

WELL_KNOWN: Final = ("state_dict", "model_state_dict", "model", "module", "net", "network")
"""The keys under which checkpoints keep the model, in the order in which they are tried."""

_NO_MODEL: Final = re.compile(r"optim|sched|scaler|rng|random|callback|loops|history|hyper", re.I)
_AVERAGED: Final = re.compile(r"(^|_)(ema|swa)(_|$)", re.I)


def matches(head: bytes, path: Path) -> bool:
    """Return whether a file starts as one that ``torch.save`` wrote."""
    if head.startswith(LEGACY) or (first_member(head) or b"").endswith(b"data.pkl"):
        return True
    return path.suffix in SUFFIXES and not head.startswith(b"\x89HDF")


def read(path: Path) -> Contents:
    """Return the tensors of the model in a file, and its layers if it holds a module."""
    with told_as(UnreadableModel, path):
        return _Reading(TorchFile(path)).contents()


def write(path: Path, changes: Mapping[str, NDArray[Any]], out: Path) -> None:
    """Write a copy with new numbers in some tensors, and in all tensors that share them."""
    with told_as(UnreadableModel, path):
        file = TorchFile(path)
        reading = _Reading(file)
        contents = reading.contents()
    checked = fitting(changes, contents.tensors)
    places = {name: (reading.views[name], new) for name, new in checked.items()}
    with replacing(out) as stream:
        file.write(places, stream)


class _Reading:
    """The search for the model among everything that a file holds."""

    def __init__(self, file: TorchFile) -> None:
        self.file = file
        self.notes = list(file.notes)
        self.views: dict[str, View] = {}
        self.trained: dict[str, bool] = {}
        self.unread: dict[str, Unread] = {}
        self.linear: set[str] = set()  # the weights of modules of the class Linear
        self._parts = 0

    def contents(self) -> Contents:
        found = self._model(self.file.value)
        for prefix, value in found:
            self._collect(value, prefix, 0)
        if not self.views:
            raise ValueError("holds no tensors")
        tensors = {
            name: Tensor(name, self.file.array(view), view.kind)
            for name, view in self.views.items()
        }
        graph = self._chain(found[0][1], tensors) if len(found) == 1 else None
        matrices = {name for name, tensor in tensors.items() if tensor.array.ndim == 2}
        custom = torch_layers.customary(tensors)
        if custom is None:
            self.notes.append("its layers have names of GPT-2, which stores them (inputs, outputs)")
        return Contents(
            format="PyTorch file",
            tensors=tensors,
            layout="out_in" if matrices and matrices <= self.linear else None,
            graph=graph,
            shared=_shared(self.views, tensors),
            notes=tuple(self.notes),
            part=self._share(),
            unread=self.unread,
            customary=custom,
        )

    def _share(self) -> str | None:
        """Return what shows that the file holds a share of every matrix, as DeepSpeed says."""
        ranks = (_entries(self.file.value) or {}).get("mp_world_size")
        if type(ranks) is not int or ranks < 2:
            return None
        return f"one of {ranks} ranks (mp_world_size) wrote it; join the files of all ranks first"

    def _count(self, depth: int) -> None:
        self._parts += 1
        if depth > DEEPEST:
            raise ValueError(f"is nested more than {DEEPEST} deep")
        if self._parts > MOST_PARTS:
            raise ValueError(f"has more than {MOST_PARTS:,} parts: no more are read")

    # --- which part of the file is the model ---

    def _model(self, value: Any) -> list[tuple[str, Any]]:
        """Return the parts of the model, each with the prefix of its tensors' names."""
        for _ in range(DEEPEST):
            if is_tensor(value):
                return [("tensor", value)]
            if _module(value) is not None:
                return [("", value)]
            entries = _entries(value)
            if entries is None:
                raise ValueError("holds neither a state dict nor a module")
            if {"state", "param_groups"} <= entries.keys():
                raise ValueError("holds the state of an optimiser and no model")
            held = {key: part for key, part in entries.items() if self._holds_tensors(part)}
            if not held:
                raise ValueError("holds no tensors")
            beside = {
                key: part
                for key, part in entries.items()
                if key not in held and (_is_payload(part) or names_weights(str(key)))
            }
            if all(is_tensor(part) for part in held.values()):
                return [("", held | beside)]
            kept = self._kept(held)
            known = [key for key in WELL_KNOWN if key in kept and not is_tensor(kept[key])]
            if len(kept) > 1 and not known:
                return [("", kept | beside)]
            if len(kept) > 1 and known:
                kept = {known[0]: kept[known[0]]}
            passed = [shown(str(key)) for key in held if key not in kept]
            if passed:
                self.notes.append(
                    f"the model was read from {shown(str(next(iter(kept))))}; "
                    f"passed over: {', '.join(passed[:20])}"
                )
            value = next(iter(kept.values()))
        raise ValueError(f"is nested more than {DEEPEST} deep")

    def _kept(self, held: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return the entries that are no optimisers and, if any remain, no averaged copies."""
        mine = {
            key: part
            for key, part in held.items()
            if is_tensor(part) or not (_NO_MODEL.search(str(key)) or _is_optimiser(part))
        }
        if not mine:
            raise ValueError("holds the state of an optimiser and no model")
        plain = {key: part for key, part in mine.items() if not _AVERAGED.search(str(key))}
        return plain or mine

    def _holds_tensors(self, value: Any) -> bool:
        todo, seen = [value], set[int]()
        while todo:
            part = todo.pop()
            if is_tensor(part):
                return True
            if id(part) not in seen:
                seen.add(id(part))
                self._count(0)
                todo.extend(inner for _, inner in _parts(part))
        return False

    # --- its tensors ---

    def _collect(self, value: Any, name: str, depth: int) -> None:
        self._count(depth)
        if is_tensor(value):
            found, trained = view(value)
            if name in self.views:
                raise ValueError(f"holds two tensors of the name {shown(name)}")
            if found is None:
                self.notes.append(f"{shown(name)} is no tensor of plain numbers and is not read")
                self.unread[name] = Unread(kind_of(value))
                return
            self.views[name], self.trained[name] = found, trained
            return
        if _is_payload(value) or (names_weights(name) and not self._holds_tensors(value)):
            self.unread[name] = Unread(_payload(value))
            return
        if isinstance(value, Call) and torch_layers.role(value.path) == "linear":
            self.linear.add(f"{name}.weight" if name else "weight")
        for key, part in _parts(value):
            self._collect(part, f"{name}.{key}" if name else str(key), depth + 1)

    # --- its layers ---

    def _chain(self, value: Any, tensors: Mapping[str, Tensor]) -> OperationGraph | None:
        """Return the chain of a module whose class applies its parts in order, None for others."""
        name, state = "", _module(value)
        while state is not None:
            self._count(0)
            role = torch_layers.role(value.path)
            if role in ("linear", "chain"):
                return operation_chain(self._steps(value, name, tensors, 0))
            inner = _entries(state["_modules"]) or {}
            if role != "wrapper" or len(inner) != 1:
                return None
            ((key, value),) = inner.items()
            name, state = f"{name}.{key}" if name else str(key), _module(value)
        return None

    def _steps(
        self, value: Any, name: str, tensors: Mapping[str, Tensor], depth: int
    ) -> Iterator[Step]:
        self._count(depth)
        state = _module(value)
        path = value.path if isinstance(value, Call) else ""
        role = torch_layers.role(path)
        label = name or path.rpartition(".")[2][:100]
        if state is None:
            yield Barrier(label, "what it is cannot be known from the file")
        elif role == "linear":
            yield self._linear(state, name, label, tensors)
        elif _hooks(state):
            yield Barrier(label, "hooks act on it, and what they do is not known")
        elif role == "activation":
            yield self._activation(path, state, name, tensors)
        elif role in ("chain", "wrapper"):
            for key, part in (_entries(state["_modules"]) or {}).items():
                yield from self._steps(
                    part, f"{name}.{key}" if name else str(key), tensors, depth + 1
                )
        elif role == "barrier":
            yield Barrier(label, torch_layers.reason(path))

    def _linear(
        self, state: Mapping[Any, Any], name: str, label: str, tensors: Mapping[str, Tensor]
    ) -> Step:
        start = f"{name}." if name else ""
        weight, magnitude = f"{start}weight", f"{start}weight_g"
        bias = f"{start}bias" if f"{start}bias" in tensors else None
        hooks = {hook.path if isinstance(hook, Call) else "" for hook in _hooks(state)}
        if hooks == {"torch.nn.utils.weight_norm.WeightNorm"}:
            weight = f"{start}weight_v"
        elif hooks:
            return Barrier(label, "hooks act on it, and what they do is not known")
        normed = magnitude if hooks else None
        if weight not in tensors or (normed and normed not in tensors):
            return Barrier(label, "its weights are not kept as one matrix")
        if normed and tensors[normed].shape != (*tensors[weight].shape[:1], 1):
            return Barrier(label, "its weight normalisation is not one magnitude per output")
        used = [part for part in (weight, bias, normed) if part]
        trained = all(self.trained[part] for part in used)
        return Dense(label, weight, bias, "out_in", magnitude=normed, trained=trained)

    def _activation(
        self, path: str, state: Mapping[Any, Any], name: str, tensors: Mapping[str, Tensor]
    ) -> Step:
        kind, slope = path.rpartition(".")[2], state.get("negative_slope", 0.0)
        weight = tensors.get(f"{name}.weight" if name else "weight")
        if kind == "PReLU" and weight is not None and weight.array.size:
            slopes = weight.array.astype(np.float64)
            slope = float(slopes.mean())
            if slopes.min() != slopes.max():
                self.notes.append(f"{name} has a slope per neuron, of which the mean is taken")
        known = kind in ("LeakyReLU", "PReLU") and isinstance(slope, (int, float))
        return Activation(kind, float(slope) if known else 0.0)


# --- objects of a pickle, as data -------------------------------------------------------------


def _entries(value: Any) -> dict[Any, Any] | None:
    """Return the entries of a mapping or a sequence, or None for another object."""
    if isinstance(value, dict):
        return value
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    if isinstance(value, Call) and value.path in (
        "collections.OrderedDict",
        "collections.defaultdict",
        "builtins.dict",
    ):
        found: dict[Any, Any] = {}
        pairs = value.args[-1] if isinstance(value.args, tuple) and value.args else ()
        for pair in pairs if isinstance(pairs, (list, tuple)) else ():  # Python 2 wrote these
            if isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str):
                found[pair[0]] = pair[1]
        found.update(value.items or {})
        return found
    return None


def _module(value: Any) -> dict[Any, Any] | None:
    """Return the attributes of a pickled ``torch.nn.Module``, or None for another object."""
    for state in (value.states or ()) if isinstance(value, Call) else ():
        attributes = state[0] if isinstance(state, tuple) and state else state
        if isinstance(attributes, dict) and {"_modules", "_parameters"} <= attributes.keys():
            return attributes
    return None


def _hooks(state: Mapping[Any, Any]) -> list[Any]:
    """Return the hooks that are called before or after a module."""
    kinds = ("_forward_pre_hooks", "_forward_hooks")
    return [hook for kind in kinds for hook in (_entries(state.get(kind)) or {}).values()]


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the parts of an object that may hold tensors, with their names."""
    attributes = _module(value)
    if attributes is not None:
        for kind in ("_parameters", "_buffers", "_modules"):
            yield from (_entries(attributes.get(kind)) or {}).items()
    else:
        for key, part in (_entries(value) or {}).items():
            if isinstance(key, (str, int)):
                yield key, part


def _is_payload(value: Any) -> bool:
    """Return whether an object is no tensor but may hold weights, as an array of NumPy does."""
    if isinstance(value, (list, tuple)):
        return len(value) > 1 and all(_is_number(part) or _is_payload(part) for part in value)
    if isinstance(value, Call):
        return not is_tensor(value) and _module(value) is None and _entries(value) is None
    return isinstance(value, (bytes, bytearray))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _payload(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "a list of numbers"
    if value is None or isinstance(value, (str, int, float, dict)):
        return f"no tensor ({type(value).__name__})"
    if isinstance(value, Call) and value.path.endswith("._reconstruct"):
        return "an array of NumPy, as a pickle"
    return f"an object ({value.path[:60] or '?'})" if isinstance(value, Call) else "bytes"


def _is_optimiser(value: Any) -> bool:
    return {"state", "param_groups"} <= (_entries(value) or {}).keys()


def _shared(views: Mapping[str, View], tensors: Mapping[str, Tensor]) -> tuple[frozenset[str], ...]:
    """Return the sets of the names of tensors that share numbers."""

    def share(name: str, other: str) -> bool:
        one, two = memory_of(tensors[name].array), memory_of(tensors[other].array)
        try:
            work: Any = 1_000  # NumPy's stubs allow 0 and -1 only
            return np.shares_memory(one, two, max_work=work)
        except np.exceptions.TooHardError:
            return True

    full = [(name, view) for name, view in views.items() if 0 not in view.shape]
    spans = [(v.key, v.offset * v.itemsize, (v.last + 1) * v.itemsize, name) for name, v in full]
    return overlapping(spans, share)
