"""Fully connected layers among named tensors, recognised by names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from obstruction.models.contents import (
    Contents,
    Dense,
    Orientation,
    Tensor,
    Unread,
    UnreadableModel,
)
from obstruction.models.layers import walls
from obstruction.models.layers.parametrised import why_computed
from obstruction.models.layers.walls import Wall

_OWNER: Final = r"(?:(?P<owner>.*)[./])?"
_END: Final = r"(?::\d+)?(?:[./]value)?"  # as in TensorFlow's "kernel:0", nnx's "kernel/value"

_ROLES: Final = tuple(
    (role, re.compile(pattern + _END))
    for role, pattern in (
        ("magnitude", _OWNER + r"parametrizations[./]weight[./]original0"),
        ("direction", _OWNER + r"parametrizations[./]weight[./]original1"),
        ("hidden weight", _OWNER + r"parametrizations[./]weight[./]original"),
        ("other", _OWNER + r"parametrizations[./].*"),
        ("magnitude", _OWNER + r"weight_g"),
        ("direction", _OWNER + r"weight_v"),
        ("hidden weight", _OWNER + r"weight_orig"),
        ("other", _OWNER + r"(?:(?:weight|bias)_(?:mask|u)|bias_orig)"),
        ("recurrent", _OWNER + r"(?:(?:weight|bias)_(?:ih|hh|hr)(?:_l\d+)?(?:_reverse)?)"),
        ("recurrent", _OWNER + r"(?:recurrent_kernel|recurrent_bias)"),
        ("kernel", _OWNER + r"kernel"),
        ("weight", _OWNER + r"(?:weights?|[wW])"),
        ("bias", _OWNER + r"(?:bias|biases|[bB])"),
        ("kernel", _OWNER + r"vars/0"),
        ("second", _OWNER + r"vars/1"),
        ("normalising", _OWNER + r"(?:scale|gamma|beta|offset|mean|var|average|vars/\d+)"),
        ("normalising", _OWNER + r"(?:running|moving)_(?:mean|var|variance)"),
        ("table", _OWNER + r"embeddings?"),
    )
)
_NUMBERED: Final = re.compile(
    r"(?P<path>(?:.*[./])?)(?P<word>w|weights?|kernels?|coefs?|b|bias|biases|intercepts?)"
    r"(?P<bar>_?)(?P<number>\d+)" + _END,
    re.IGNORECASE,
)
_SUFFIXED: Final = re.compile(
    r"(?P<owner>.*[^./])_(?P<word>w|weights?|kernel|b|bias|biases)" + _END, re.IGNORECASE
)
_OURS: Final = re.compile(r"[Wb][1-9]\d*")
_SAVEZ: Final = re.compile(r"arr_\d+")

_ATTENTION: Final = re.compile(
    r"(?:.*_)?(?:attn|attention|mha|multi_?head_?attention)(?:_?\d+)?"
    r"|(?:q|k|v|qkv|query|key|value|in|out)_proj|query|key|qkv|to_[qkv]|to_qkv|in_proj_weight",
    re.IGNORECASE,
)
_EMBEDDING: Final = re.compile(r"(?:.*_)?(?:embed(?:ding|dings|der)?s?|wte|wpe)(?:_?\d+)?", re.I)

CONVOLUTION: Final = "a convolution or another layer with more than two axes"
NORMALISATION: Final = "a normalisation layer"


_NO_SIZE: Final = "what it does is not known, as its {:,} numbers fit no layer"

_WEIGHTS: Final = ("weight", "kernel", "direction", "hidden weight")
"""The roles of tensors in which the weights of a layer are."""


@dataclass(frozen=True)
class Matrix:
    """A matrix that may be the weights of a fully connected layer."""

    dense: Dense
    convention: Orientation | None = None  # the usual orientation for a name such as ``kernel``
    reason: str | None = None  # why the neurons before and after it keep no balance


@dataclass(frozen=True)
class Vector:
    """A vector that may act on the neurons after some layer, such as that of a normalisation."""

    name: str  # of its layer
    width: int
    what: str  # such as "a normalisation layer"
    slopes: bool = False  # whether it may hold the slopes of a PReLU


@dataclass(frozen=True)
class Bag:
    """The layers that the names and shapes of tensors show, for a source without a graph."""

    layers: tuple[Matrix, ...]  # those named like weights of layers, or all if there are none
    unsure: tuple[Matrix, ...]  # others, which may or may not be layers
    others: tuple[tuple[Matrix, str], ...]  # those named like something else, and what that is
    vectors: tuple[Vector, ...]  # those that may act on the neurons between layers
    skipped: tuple[tuple[str, str], ...]  # the name of everything else, and what it is
    ordered: bool = False  # whether `layers` are in forward order
    walls: tuple[Wall, ...] = ()  # what cannot be read and may lie between layers
    stored: Mapping[str, int] | None = None  # the places of layers where their order tells more


def bag_of(contents: Contents) -> Bag:
    """Return the layers among the tensors of a source, and what the other tensors are."""
    tensors, bag = contents.tensors, None
    for pattern, read in ((_OURS, _own_names), (_SAVEZ, _unnamed)):
        alike = [bool(pattern.fullmatch(name)) for name in tensors]
        if alike and all(alike) and not any(map(pattern.fullmatch, contents.unread)):
            bag = read(tensors)
    odd = walls.odd_members(contents)
    if bag is None:
        return _by_names(tensors, odd)
    unread = {name: member for name, member in odd.items() if name in contents.unread}
    paths = walls.LayerNames(one.dense.name for one in bag.layers)
    found = [_wall(name, parts, name, paths) for name, parts in _apart({}, unread).walls.items()]
    return replace(bag, walls=tuple(wall for wall in found if wall is not None))


def _own_names(tensors: Mapping[str, Tensor]) -> Bag | None:
    """Return the layers ``W1``, ``b1``, ``W2``, ..., or None if a number is missing."""
    depth = sum(name[0] == "W" for name in tensors)
    biases = {name for name in tensors if name[0] == "b"}
    weights = [f"W{i}" for i in range(1, depth + 1)]
    complete = set(weights) == set(tensors) - biases
    if not complete or not {f"W{name[1:]}" for name in biases} <= set(weights):
        return None
    for name in weights:
        if tensors[name].array.ndim != 2:
            raise UnreadableModel(
                f"{name} has the shape {tensors[name].shape}: weights must be matrices, "
                "of one row or column if there is one output"
            )
    layers = [
        Matrix(Dense(w, w, bias=f"b{w[1:]}" if f"b{w[1:]}" in biases else None), "out_in")
        for w in weights
    ]
    return Bag(tuple(layers), (), (), (), (), ordered=True)


def _unnamed(tensors: Mapping[str, Tensor]) -> Bag | None:
    """Return the layers among arrays that ``np.savez`` numbered, or None if they are no layers.

    The arrays must be weights in forward order, each of which may be followed by its biases.
    """
    names = sorted(tensors, key=lambda name: int(name[4:]))
    layers: list[Matrix] = []
    for name in names:
        if tensors[name].array.ndim == 2:
            layers.append(Matrix(Dense(name, name)))
        elif tensors[name].array.ndim == 1 and layers and layers[-1].dense.bias is None:
            weight = layers[-1].dense.weight
            layers[-1] = Matrix(Dense(weight, weight, bias=name))
        else:
            return None
    return Bag(tuple(layers), (), (), (), (), ordered=True)


def _by_names(tensors: Mapping[str, Tensor], odd: Mapping[str, Tensor | Unread]) -> Bag:
    apart = _apart(tensors, odd)
    groups: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name not in apart.names:
            owner, role = _role(name)
            group = groups.setdefault(owner, {})
            group[role if role not in group else f"{role} {name}"] = tensor
    layers: list[Matrix] = []
    unsure: list[Matrix] = []
    others: list[tuple[Matrix, str]] = []
    vectors: list[Vector] = []
    skipped: list[tuple[str, str]] = []
    owners = {owner[1] or _only_name(group) for owner, group in groups.items()}
    labels = _labels(owners | set(apart.walls))
    for owner, group in groups.items():
        name = labels[owner[1] or _only_name(group)]
        group = {role: t for role, t in group.items() if not _is_passive(t, role)}
        matrix = _matrix(name, group)
        if any(tensor.array.ndim > 2 for tensor in group.values()):
            skipped.append((name, CONVOLUTION))
        elif any(role.startswith("recurrent") for role in group):
            skipped.append((name, "a recurrent layer"))
        elif matrix is not None:
            reason = apart.reasons.get(matrix.dense.weight)
            matrix = replace(matrix, reason=matrix.reason or reason)
            what = _something_else(name, matrix, group)
            if what:
                others.append((matrix, what))
            else:
                layers.append(matrix)
        else:
            for role, tensor in group.items():
                if tensor.array.ndim == 2 and role.startswith("table"):
                    others.append((Matrix(Dense(tensor.name, tensor.name)), "an embedding"))
                elif tensor.array.ndim == 2:
                    unsure.append(Matrix(Dense(tensor.name, tensor.name)))
            widths = {t.array.size for t in group.values() if t.array.ndim == 1}
            vectors += [_vector(name, width, group) for width in sorted(widths)]
    if not layers:
        layers, unsure = unsure, []
    every = [*layers, *unsure, *(matrix for matrix, _ in others)]
    sizes = {1, *(size for one in every for size in tensors[one.dense.weight].shape)}
    odd_sizes = [vector for vector in vectors if vector.width not in sizes]
    vectors = [vector for vector in vectors if vector.width in sizes]
    found = [Wall(one.name, _NO_SIZE.format(one.width), certain=False) for one in odd_sizes]
    paths = walls.LayerNames(one.dense.name for one in layers)
    for name, parts in apart.walls.items():
        wall = _wall(name, parts, labels[name], paths)
        if wall is not None:
            found.append(wall)
        else:
            vectors += [
                Vector(
                    labels[name], part.member.shape[0], walls.reason_of({part.short: part.member})
                )
                for part in parts
                if part.member.shape is not None and len(part.member.shape) == 1
            ]
    stored = walls.stored_places(
        list(
            dict.fromkeys(
                labels.get(owner[1] or name, name) for name in tensors for owner in [_role(name)[0]]
            )
        )
    )
    return Bag(
        tuple(layers),
        tuple(unsure),
        tuple(others),
        tuple(vectors),
        tuple(skipped),
        walls=tuple(found),
        stored=stored,
    )


@dataclass(frozen=True)
class _Part:
    full: str  # its name in the source
    short: str  # the part of the name that follows that of its layer
    role: str
    member: Tensor | Unread


@dataclass(frozen=True)
class _Apart:
    """What cannot be read, by its layers; `names` are those of all its tensors."""

    walls: dict[str, list[_Part]]
    reasons: dict[str, str]  # by the weights of layers that have such things beside them
    names: set[str]


def _apart(tensors: Mapping[str, Tensor], odd: Mapping[str, Tensor | Unread]) -> _Apart:
    """Return what is not read of layers, and the layers of which all weights are read."""
    held: dict[str, list[_Part]] = {}
    for name, member in {**tensors, **odd}.items():
        owner, role = _role(name)
        told = walls.packed_part(name) if role == "alone" else None
        if told is not None:
            held.setdefault(told[0], []).append(_Part(name, told[1], "packed", member))
        else:
            key = owner[1] if owner[0] in ("path", "suffix") and owner[1] else name
            short = name[len(key) :].lstrip("./_") or re.split(r"[./]", name)[-1]
            held.setdefault(key, []).append(_Part(name, short, role, member))
    found = _Apart({}, {}, set())
    for key, parts in held.items():
        strange = [part for part in parts if part.full in odd]
        weights = [
            part
            for part in parts
            if part.role in _WEIGHTS and part not in strange and len(part.member.shape or ()) == 2
        ]
        if weights:  # its mask may consist of floating-point numbers
            shape = weights[0].member.shape
            masks = [p for p in parts if p.role == "packed" and p.short.endswith("mask")]
            strange += [part for part in masks if part not in strange]
            reasons = [
                f"its weights are masked ({part.full})"
                if part.short.endswith("mask") and part.member.shape in (shape, None)
                else walls.reason_of({part.short: part.member})
                for part in strange
            ]
            if reasons:
                found.reasons.update(dict.fromkeys((p.full for p in weights), reasons[0]))
            found.names.update(part.full for part in strange)
        elif strange:
            found.walls[key] = parts
            found.names.update(part.full for part in parts)
    return found


def _wall(name: str, parts: list[_Part], label: str, layers: walls.LayerNames) -> Wall | None:
    """Return what some parts are that cannot be read, None for a vector of unknown use."""
    reason = walls.reason_of({part.short: part.member for part in parts})
    path = re.split(r"[./]", name)
    if any(_ATTENTION.fullmatch(one) or _EMBEDDING.fullmatch(one) for one in path):
        return Wall(label, reason, certain=False)
    alike = layers.are_like(label)
    shapes = [part.member.shape for part in parts]
    named = any(part.role in (*_WEIGHTS, "packed") for part in parts)
    if named or alike or any(shape is not None and len(shape) > 1 for shape in shapes):
        return Wall(label, reason)
    if None in shapes or () in shapes:
        return Wall(label, reason, certain=False)
    return None


def _role(name: str) -> tuple[tuple[str, str], str]:
    """Return the layer to which a tensor belongs, and the role of the tensor in it.

    The layer is a pair: the kind of the name, and the name of the layer or "" if it has none.
    """
    for role, pattern in _ROLES:
        if match := pattern.fullmatch(name):
            return ("path", match["owner"] or ""), role
    if match := _NUMBERED.fullmatch(name):
        word = match["word"].lower()
        is_bias = word[0] == "b" or word.startswith("intercept")
        custom = "kernel" if word[0] in "kc" else "weight"
        pair = f"{match['path']}\n{word[0] in 'ci'}{match['bar']}{match['number']}"
        return (pair, ""), "bias" if is_bias else custom
    if match := _SUFFIXED.fullmatch(name):
        word = match["word"].lower()
        role = "bias" if word[0] == "b" else "kernel" if word[0] == "k" else "weight"
        return ("suffix", match["owner"]), role
    return ("alone", name), "alone"


def _only_name(group: Mapping[str, Tensor]) -> str:
    """Return the name of the weights of a layer, to serve as the name of the layer."""
    best = [t for role, t in group.items() if role in ("weight", "kernel")] or [*group.values()]
    return best[0].name


def _labels(owners: set[str]) -> dict[str, str]:
    """Return the names of layers without the prefixes of wrappers, if they remain distinct."""
    plain = {
        owner: re.sub(r"^(?:module[./])+|(?<![^./])_orig_mod[./]", "", owner) for owner in owners
    }
    plain = {owner: re.sub(r"^(?:module[./])+", "", label) for owner, label in plain.items()}
    return plain if len(set(plain.values())) == len(plain) else {owner: owner for owner in owners}


def _is_passive(tensor: Tensor, role: str) -> bool:
    """Return whether a tensor is a single number or holds integers that are no weights."""
    whole = "int" in tensor.dtype or tensor.dtype == "bool"
    named = role in _WEIGHTS
    return tensor.array.ndim == 0 or (whole and not named)


def _matrix(name: str, group: Mapping[str, Tensor]) -> Matrix | None:
    """Return the layer that a group of tensors forms, or None if no matrix of weights is in it."""
    role = next((r for r in _WEIGHTS if r in group and group[r].array.ndim == 2), None)
    if role is None:
        return None
    weight = group[role]
    bias, reason, magnitude = None, None, None
    second = group.get("bias") or group.get("second")
    if second is not None and second.array.size == max(second.shape):  # (n,) or (1, n)
        bias = second.name
    elif second is not None:
        reason = f"{second.name} of shape {second.shape} is no bias"
    if role == "direction":
        held = group.get("magnitude")
        if held is not None and held.shape == (weight.shape[0], 1):
            magnitude = held.name
        else:
            reason = "its weights are normalised, but not each row by a magnitude of its own"
    reason = why_computed(tensor.name for tensor in group.values()) or reason
    dense = Dense(name, weight.name, bias=bias, magnitude=magnitude)
    return Matrix(dense, "in_out" if role == "kernel" else None, reason)


def _something_else(name: str, matrix: Matrix, group: Mapping[str, Tensor]) -> str | None:
    """Return what a matrix is if its name shows that it is no fully connected layer, else None."""
    parts = re.split(r"[./]", name)
    if any(_ATTENTION.fullmatch(part) for part in parts):
        return "attention, whose matrices are multiplied with each other"
    embeds = any(_EMBEDDING.fullmatch(part) for part in parts)
    return "an embedding" if embeds and matrix.dense.bias is None else None


def _vector(name: str, width: int, group: Mapping[str, Tensor]) -> Vector:
    roles = {role.split(" ")[0] for role in group}
    if "normalising" in roles or {"weight", "bias"} <= roles or {"kernel", "second"} <= roles:
        return Vector(name, width, NORMALISATION)
    if roles <= {"weight", "kernel"}:
        return Vector(name, width, "a normalisation layer or a PReLU", slopes=True)
    return Vector(name, width, "a vector of unknown use")
