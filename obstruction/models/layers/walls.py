"""Layers that cannot be read, and which layers they may lie between.

A layer whose weights are packed, sparse, whole numbers, text or the like has no place in a chain,
but it is not absent. What follows it is taken to be apart from what comes before, unless the names
show that it lies elsewhere.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from obstruction.models.contents import FLOATS, Contents, Tensor, Unread
from obstruction.models.layers import ordering

_END: Final = r"(?::\d+)?(?:[./]value)?"
_PACKED: Final = re.compile(
    r"(?P<owner>.*?[^._/])[._/]+(?P<part>"
    r"qweight|qzeros|scales?|zeros|g_idx|w_q|qidxs|codes|codebooks?|centroids|codebook_id"
    r"|(?:weight|kernel)_(?:packed|scale(?:_inv)?|shape|zero(?:_point)?|g_idx|global_scale|format)"
    r"|(?:input|output)_(?:scale|zero_point|global_scale)|zero_points?"
    r"|(?:weight[._/])?(?:(?:nested_)?(?:absmax|quant_map)|quant_state(?:[._/].*)?|_data|_scale)"
    r"|scb|cb|bitsandbytes__\w+|_packed_params(?:[._/].*)?|packed(?:_weights?)?|_?quantized_weight"
    r"|(?:weight[._/])?(?:crow_indices|ccol_indices|col_indices|row_indices|indices|indptr|values"
    r"|data|rows?|cols?|nnz)"
    r"|(?:weight_|kernel_)?mask)" + _END,
    re.IGNORECASE,
)
"""The names of tensors that, together with others, hold the weights of a layer."""

_HARMLESS: Final = re.compile(
    r"(?:.*[_-])?(?:num_batches_tracked|position_ids|token_type_ids|(?:time)?steps?|counters?|counts?"
    r"|iterations?|iters?|epochs?|seeds?|version|_extra_state|n_averaged|num_updates|shape|size"
    r"|fake_quant_enabled|observer_enabled|seed_generator_state|tokens?|vocab(?:ulary)?)",
    re.IGNORECASE,
)
"""The last parts of names of whole numbers that have no part in what a network computes."""

_RANDOM: Final = re.compile(r"rngs?|rng_state|random_state|seed_generator(?:_\d+)?", re.IGNORECASE)

_PARTS_SHOWN: Final = 5


@dataclass(frozen=True)
class Wall:
    """Something with numbers that cannot be read as a layer of a chain.

    Attributes
    ----------
    name : str
        What the source calls it.
    reason : str
        What it looks like.
    certain : bool
        Whether it is taken for a layer, which lies anywhere unless its name shows where. Otherwise
        it only counts where the names or the stored order put it between two layers.
    """

    name: str
    reason: str
    certain: bool = True


def odd_members(contents: Contents) -> dict[str, Tensor | Unread]:
    """Return the members of a source that hold something other than floating-point numbers.

    Counters, position ids, states of generators and single numbers are left out.
    """
    found: dict[str, Tensor | Unread] = {}
    for name, tensor in contents.tensors.items():
        plain = tensor.dtype in FLOATS or (
            tensor.array.size < 2 and tensor.dtype.startswith(("int", "uint", "bool", "complex"))
        )
        if not plain and not _is_harmless(name):
            found[name] = tensor
    for name, member in contents.unread.items():
        if not _is_harmless(name):
            found[name] = member
    return found


def _is_harmless(name: str) -> bool:
    path = re.split(r"[./]", re.sub(r"(?::\d+)?(?:[./]value)?$", "", name))
    return bool(_HARMLESS.fullmatch(path[-1])) or any(map(_RANDOM.fullmatch, path))


def packed_part(name: str) -> tuple[str, str] | None:
    """Return the layer and the part of it that a name of packed weights tells, else None.

    Examples
    --------
    >>> packed_part("net.fc2.qweight"), packed_part("fc2.weight.absmax"), packed_part("fc2.weight")
    (('net.fc2', 'qweight'), ('fc2', 'weight.absmax'), None)
    """
    found = _PACKED.fullmatch(name)
    if found is None:
        return None
    owner = re.sub(r"[./]weight$", "", found["owner"]) if "." in name or "/" in name else ""
    return owner or found["owner"], found["part"].lower()


def reason_of(members: Mapping[str, Tensor | Unread]) -> str:
    """Return what a layer looks like whose parts, by their short names, cannot be read."""
    parts = [part.lower() for part in members]
    shown = ", ".join(list(members)[:_PARTS_SHOWN])
    kind = _kind(set(parts), members)
    if kind is not None:
        return f"what it does is not known, as it looks {kind} ({shown})"
    strange = {part: one for part, one in members.items() if _is_odd(one)}
    told = {part: one for part, one in strange.items() if not _is_harmless(part)} or strange
    words = dict.fromkeys(map(_words, told.values()))
    scaled = any("scale" in part for part in parts)
    held = " and ".join(words) + (" with a scale" if scaled else "")
    return f"what it does is not known, as it holds {held} ({shown})"


def _is_odd(member: Tensor | Unread) -> bool:
    return isinstance(member, Unread) or member.dtype not in FLOATS


def _kind(parts: set[str], members: Mapping[str, Tensor | Unread]) -> str | None:
    """Return what wrote weights of such parts, in words that follow "it looks"."""
    ends = {part.split(".")[-1].split("/")[-1] for part in parts}
    words = " ".join(sorted(parts))
    types = {member.dtype if isinstance(member, Tensor) else "" for member in members.values()}
    if {"qweight", "qzeros"} <= ends:
        return f"quantised by {'AWQ' if 'g_idx' not in ends and _is_awq(members) else 'GPTQ'}"
    if re.search(r"absmax|quant_map|quant_state|bitsandbytes|\bscb\b|weight_format", words):
        return "quantised by bitsandbytes"
    if "codes" in ends and any(end.startswith("codebook") for end in ends):
        return "quantised by AQLM"
    if "weight_packed" in ends or {"weight_scale", "weight"} <= ends:
        return "packed by compressed-tensors"
    if {"weight", "scales", "biases"} <= ends and "uint32" in types:
        return "quantised by MLX"
    if any(one.startswith("q") and "int" in one for one in types) or "_packed_params" in words:
        return "quantised by PyTorch"
    if "crow_indices" in ends or {"indptr", "indices"} <= ends:
        return "like a sparse matrix (CSR)"
    if "ccol_indices" in ends:
        return "like a sparse matrix (CSC)"
    if {"indices", "values"} <= ends or ({"row", "col"} <= ends or {"rows", "cols"} <= ends):
        return "like a sparse matrix (COO)"
    if any("codebook" in end or "centroid" in end for end in ends):
        return "quantised with a codebook"
    return None


def _is_awq(members: Mapping[str, Tensor | Unread]) -> bool:
    """Return whether weights are packed along their outputs, as AWQ does and GPTQ does not."""
    shapes = {part.lower(): one.shape for part, one in members.items()}
    packed, scales = shapes.get("qweight"), shapes.get("scales")
    return bool(packed and scales and packed[-1] != scales[-1])


def _words(member: Tensor | Unread) -> str:
    if isinstance(member, Unread):
        return member.what
    kind = member.dtype
    if kind == "bool":
        return "truth values"
    if kind.startswith(("int", "uint")):
        return f"whole numbers ({kind})"
    if kind.startswith(("f8", "float8")):
        return f"numbers of eight bits ({kind})"
    if kind == "object":
        return "Python objects"
    if kind.startswith(("str", "bytes")):
        return "text"
    if kind.startswith(("void", "record")):
        return "records"
    return f"numbers of type {kind}"


class LayerNames:
    """The names of layers, to tell what has a name like theirs."""

    def __init__(self, names: Iterable[str]) -> None:
        paths = [re.split(r"[./]", name) for name in names]
        self._shapes = {re.sub(r"\d+", "#", "/".join(path)) for path in paths}
        self._inside = {"/".join(path[:i]) for path in paths for i in range(1, len(path) + 1)}
        self._lengths = set(map(len, paths))

    def are_like(self, name: str) -> bool:
        """Return whether something has the name of a layer, or is alone in what may be a layer.

        It has such a name if it differs from a layer in nothing but numbers.
        """
        path = re.split(r"[./]", name)
        heads = ("/".join(path[:i]) for i in range(1, len(path) + 1))
        shapes = (re.sub(r"\d+", "#", head) for head in heads)
        if any("#" in shape and shape in self._shapes for shape in shapes):
            return True
        alone = "/".join(path[:-1]) not in self._inside
        return len(path) > 1 and alone and len(path) - 1 in self._lengths


# --- where walls are --------------------------------------------------------------------------


class Blocks:
    """Walls by the blocks that hold them, which are the beginnings of their names."""

    def __init__(self, found: Iterable[Wall]) -> None:
        self._held: dict[tuple[str, ...], list[Wall]] = {}
        for wall in found:
            path = re.split(r"[./]", wall.name)
            for i in range(len(path) + 1):
                self._held.setdefault(tuple(path[:i]), []).append(wall)

    def around(self, one: str, other: str) -> list[Wall]:
        """Return the walls in the smallest block that holds two layers; others are apart."""
        pairs = zip(*(re.split(r"[./]", name) for name in (one, other)), strict=False)
        shared = itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)
        return self._held.get(tuple(first for first, _ in shared), [])


def separates(wall: str, one: str, other: str) -> bool | None:
    """Return whether something lies between two layers by their names, None if these do not tell.

    Layers that are parts of one block follow each other within it. Numbers tell an order if the
    three names differ in nothing else.

    Examples
    --------
    >>> separates("fc2", "fc1", "fc3"), separates("fc4", "fc1", "fc3"), separates("mid", "a", "b")
    (True, False, None)
    >>> separates("encoder.fc2", "head.fc1", "head.fc3"), separates("1.q", "0.fc", "2.fc")
    (False, True)
    """
    paths = [re.split(r"[./]", name) for name in (wall, one, other)]
    while all(paths) and len({path[0] for path in paths}) == 1:
        paths = [path[1:] for path in paths]
    if not all(paths):
        return None
    here, first, last = (path[0] for path in paths)
    if first == last:
        return False
    shapes = {re.sub(r"\d+", "#", part) for part in (here, first, last)}
    if len(shapes) > 1 or "#" not in shapes.pop() or here in (first, last):
        return None
    low, high = sorted(map(ordering.natural, (first, last)))
    return low < ordering.natural(here) < high


def lies_between(wall: str, one: str, other: str, stored: Mapping[str, int] | None) -> bool:
    """Return whether something seems to lie between two layers that follow each other.

    If names do not tell, it does if both names and it are in ascending order, or if the stored
    order is not that of names and has it there.
    """
    told = separates(wall, one, other)
    if told is not None:
        return told
    if ordering.natural(one) < ordering.natural(wall) < ordering.natural(other):
        return True
    places = [] if stored is None else [stored.get(name, -1) for name in (one, wall, other)]
    return bool(places) and -1 < places[0] < places[1] < places[2]


def stored_places(names: Sequence[str]) -> dict[str, int] | None:
    """Return the places of names, None if their order is only an alphabetical one."""
    if list(names) in (sorted(names), sorted(names, key=ordering.natural)):
        return None
    return {name: i for i, name in enumerate(names)}
