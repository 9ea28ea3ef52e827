"""What ``torch.save`` writes, ``.pt``, ``.pth``, ``.bin`` and ``.ckpt``, read without PyTorch.

The pickle within is read as data: nothing that it names is imported or called. Where it holds a
state dict, that is a bag of tensors; where it holds a module, its classes tell layers and
activations as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.models.contents import (
    Activation,
    Barrier,
    Contents,
    Dense,
    Step,
    Tensor,
    UnreadableModel,
)
from obstruction.models.readers.files import fitting, shown, told_as
from obstruction.models.readers.torch import layers as torch_layers
from obstruction.models.readers.torch.pickles import Call
from obstruction.models.readers.torch.storages import LEGACY, TorchFile, View, is_tensor, view
from obstruction.tools.files import replacing

MOST_PARTS: Final = 200_000
"""The largest number of parts of a model: a part that contains another twice counts it twice."""

DEEPEST: Final = 100
"""How deeply modules and dictionaries may be nested."""

WELL_KNOWN: Final = (
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "net",
    "network",
)
"""Keys of checkpoints under which the model is, the likeliest first."""

_SUFFIXES: Final = (".pt", ".pth", ".ckpt", ".bin")
_NO_MODEL: Final = re.compile(r"optim|sched|scaler|rng|random|callback|loops|history|hyper", re.I)
_AVERAGED: Final = re.compile(r"(^|_)(ema|swa)(_|$)", re.I)
_IN_OUT: Final = re.compile(r"(^|\.)c_(fc|attn)\.weight$")


def matches(head: bytes, path: Path) -> bool:
    """Return whether a file is, or claims to be, one that ``torch.save`` wrote."""
    if head.startswith(LEGACY):
        return True
    if head.startswith(b"PK\x03\x04") and len(head) >= 30:
        name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        return name.endswith(b"data.pkl") or path.suffix in _SUFFIXES
    return path.suffix in _SUFFIXES and not head.startswith(b"\x89HDF")


def read(path: Path) -> Contents:
    """Read a file; its tensors are views of it where that can be.

    Raises
    ------
    UnreadableModel
        If it is damaged, holds no tensors, or what it holds is out of proportion to it.
    """
    with told_as(UnreadableModel, path):
        return _Reading(TorchFile(path)).contents()


def write(path: Path, changes: Mapping[str, NDArray[Any]], out: Path) -> None:
    """Write a copy with some tensors replaced; all that is not their numbers stays as it is.

    Tensors that share memory in the file change together.

    Raises
    ------
    UnreadableModel
        If ``path`` cannot be read.
    ValueError
        If a change does not fit, or ``out`` cannot be written.
    """
    with told_as(UnreadableModel, path):
        file = TorchFile(path)
        reading = _Reading(file)
        contents = reading.contents()
    checked = fitting(changes, contents.tensors)
    places = {name: (reading.views[name], new) for name, new in checked.items()}
    with replacing(out) as stream:
        file.write(places, stream)


class _Reading:
    """The model in a file, found among all that it holds."""

    def __init__(self, file: TorchFile) -> None:
        self.file = file
        self.notes = list(file.notes)
        self.views: dict[str, View] = {}
        self.trained: dict[str, bool] = {}
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
        steps = self._sequence(found[0][1], tensors) if len(found) == 1 else None
        odd = any(_IN_OUT.search(name) for name in tensors)
        if odd:
            self.notes.append("GPT-2 names its layers so, and stores them the other way round")
        return Contents(
            format="PyTorch file",
            tensors=tensors,
            layout=None if odd else "out_in",
            steps=steps,
            shared=_shared(self.views, tensors),
            notes=tuple(self.notes),
        )

    def _count(self, depth: int) -> None:
        self._parts += 1
        if depth > DEEPEST:
            raise ValueError(f"is nested more than {DEEPEST} deep")
        if self._parts > MOST_PARTS:
            raise ValueError(f"has more than {MOST_PARTS:,} parts: no more are read")

    # --- which of all that is there is the model ---

    def _model(self, value: Any) -> list[tuple[str, Any]]:
        """Return what belongs to the model, with the beginnings of its tensors' names."""
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
            if all(is_tensor(part) for part in held.values()):
                return [("", held)]
            kept = self._kept(held)
            known = [key for key in WELL_KNOWN if key in kept and not is_tensor(kept[key])]
            if len(kept) > 1 and not known:
                return [("", kept)]
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
        """Leave out optimisers and the like, and averaged copies unless there is nothing else."""
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
                return
            self.views[name], self.trained[name] = found, trained
            return
        for key, part in _parts(value):
            self._collect(part, f"{name}.{key}" if name else str(key), depth + 1)

    # --- its layers ---

    def _sequence(self, value: Any, tensors: Mapping[str, Tensor]) -> tuple[Step, ...] | None:
        """Return the steps of a module whose class says them, None for others."""
        name, state = "", _module(value)
        while state is not None:
            self._count(0)
            role = torch_layers.role(value.path)
            if role in ("linear", "chain"):
                return tuple(self._steps(value, name, tensors, 0))
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


# --- inert objects ----------------------------------------------------------------------------


def _entries(value: Any) -> dict[Any, Any] | None:
    """Return what a mapping or a sequence holds, None for anything else."""
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
        for pair in pairs if isinstance(pairs, (list, tuple)) else ():  # as Python 2 wrote
            if isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str):
                found[pair[0]] = pair[1]
        found.update(value.items or {})
        return found
    return None


def _module(value: Any) -> dict[Any, Any] | None:
    """Return the attributes of a pickled ``torch.nn.Module``, None for anything else."""
    for state in (value.states or ()) if isinstance(value, Call) else ():
        attributes = state[0] if isinstance(state, tuple) and state else state
        if isinstance(attributes, dict) and {"_modules", "_parameters"} <= attributes.keys():
            return attributes
    return None


def _hooks(state: Mapping[Any, Any]) -> list[Any]:
    """Return what is called before or after a module."""
    kinds = ("_forward_pre_hooks", "_forward_hooks")
    return [hook for kind in kinds for hook in (_entries(state.get(kind)) or {}).values()]


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what may hold tensors within an object, with its name there."""
    attributes = _module(value)
    if attributes is not None:
        for kind in ("_parameters", "_buffers", "_modules"):
            yield from (_entries(attributes.get(kind)) or {}).items()
    else:
        for key, part in (_entries(value) or {}).items():
            if isinstance(key, (str, int)):
                yield key, part


def _is_optimiser(value: Any) -> bool:
    return {"state", "param_groups"} <= (_entries(value) or {}).keys()


def _shared(views: Mapping[str, View], tensors: Mapping[str, Tensor]) -> tuple[frozenset[str], ...]:
    """Return the names of tensors that have numbers in common."""
    groups: list[set[str]] = []
    last, key, stop = "", "", 0  # the tensor that reaches furthest, its storage and end in bytes
    full = {name: view for name, view in views.items() if 0 not in view.shape}
    for name in sorted(full, key=lambda name: (views[name].key, _start(views[name]))):
        found = views[name]
        mine = (found.last + 1) * found.itemsize
        if groups and found.key == key and _start(found) < stop and _meet(tensors, name, last):
            groups[-1].add(name)
        else:
            groups.append({name})
        if found.key != key or mine > stop:
            last, key, stop = name, found.key, mine
    return tuple(frozenset(group) for group in groups if len(group) > 1)


def _start(view: View) -> int:
    return view.offset * view.itemsize


def _meet(tensors: Mapping[str, Tensor], name: str, other: str) -> bool:
    try:
        work: Any = 1_000  # NumPy's stubs allow 0 and -1 only
        return np.shares_memory(tensors[name].array, tensors[other].array, max_work=work)
    except np.exceptions.TooHardError:
        return True
