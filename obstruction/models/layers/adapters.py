"""Adapters, such as those of LoRA, recognised by the names of their tensors.

The tensors of an adapter are added to the weights of another network, or multiply them. They look
like fully connected layers, but no balance of single neurons is kept between them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from obstruction.models.contents import AdapterFound, Contents, Tensor

_START: Final = r"(?:.*[_-])?"
_END: Final = r"(?:[_-]?\d+)?(?:[_-](?:weights?|kernels?))?"

_NAMED: Final = tuple(
    (kind, re.compile(f"{_START}(?:{pattern}){_END}", re.IGNORECASE))
    for kind, pattern in (
        ("DoRA", r"lora_magnitude_vector|dora_scale"),
        ("VeRA", r"vera_(?:a|b|lambda_[bd])"),
        ("LoHa", r"hada_(?:w[12]_[ab]|t[12])"),
        ("LoKr", r"lokr_(?:w[12](?:_[ab])?|t2)"),
        ("LoRA", r"(?:vb|rand|de|gra)lora_(?:a|b|vector_bank|logits(?:_[ab])?|lambda|gamma)"),
        ("LoRA", r"lora_(?:[abce]|up|down|mid|ranknum|(?:embeddings?|kernel)_[ab])"),
        ("OFT", r"b?oft_(?:[rs]|blocks|diag)"),
        ("IA3", r"ia3_l"),
        ("PEFT", r"fourierft_spectrum|waveft_spectrum|hra_u|c3a_kernel|shira_weight|miss_block"),
        ("PEFT", r"ln_tuning_layers|trainable_tokens_(?:delta|original)|modules_to_save"),
        ("bottleneck", r"adapter_fusion_layer|invertible_adapters"),
        ("IP-Adapter", r"to_[kv]_ip"),
    )
)
"""The parts of names that only adapters have."""

_KOHYA: Final = re.compile(r"(?:lora|lycoris)_(?:unet|te\d?|transformer|prior|text_encoder)_.+")
_PROMPTS: Final = re.compile(
    r"prompt_embeddings|adaption_(?:prompt|gate)|prefix_(?:encoder|tunings?|task_(?:cols|rows))"
)
"""Parts of names that show an adapter if no tensor has another name."""

_LORA: Final = re.compile(rf"{_START}lora(?:[_-]?\d+|_linear_layer|_layer)?", re.IGNORECASE)
_LISTED: Final = re.compile(r"[^:]+:\d+:(?:down|up)")
_ADAPTER: Final = re.compile(r".*adapt(?:er|or|_?mlp).*", re.IGNORECASE)
_BLOCK: Final = re.compile(r"adapter_(?:layer|modules)", re.IGNORECASE)
_KIND: Final = (
    r"(?:[_-]?(?:proj|project|projection|projector|sample|sampler|linear|layer|fc|dense|conv"
    r"|scale|block))?"
)
_SIDES: Final = tuple(
    re.compile(
        rf"(?P<adapter>adapter[_-])?(?:(?:linear|fc|dense|proj)[_-])?{way}{_KIND}(?P<after>[_-]adapter)?",
        re.IGNORECASE,
    )
    for way in ("down", "up")
)
_WORD: Final = (
    r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))(?:{0})"
    r"(?:(?![A-Za-z])|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z](?![A-Z])))"
)
"""A word in a part of a name, between other characters than letters or changes of case."""

_SHORT: Final = re.compile(
    _WORD.format(
        r"(?i:(?:q|ada|re|rs|dy|vb|rand|de|gra|long|olo|mi)?lora|dora|loha|lokr|locon)(?:a|b|up|down)?"
    )
)
_TOLD: Final = re.compile(
    _WORD.format(r"(?i:a|b|down|up|in|out|left|right|u|v|wa|wb|lora[ab]|lora(?:up|down))")
)
_FACTOR: Final = re.compile(r"w_?(?P<side>[ab])_?(?P<number>\d+)", re.IGNORECASE)
_MODULE: Final = re.compile(
    r"(?:.*[_-]|.*[a-z](?=[AB]))?(?P<word>(?i:adapters?|bottleneck|q?lora))(?:[_-]?\d+)?"
)
_NARROWS: Final = re.compile(_WORD.format(r"(?i:down|reduce|encode|squeeze|compress)"))
_STORED: Final = ("weight", "kernel", "w", "value", "default")

_ENDS: Final = (
    ("d_fc1", "linear_in", "linear_1", "dense1"),
    ("d_fc2", "linear_out", "linear_2", "dense2"),
)


def check_is_network(contents: Contents) -> None:
    """Raise AdapterFound if the tensors of a source are, or include, those of an adapter.

    A model that can be run is not judged by its names.
    """
    found = None if contents.run is not None else adapter_in(contents.tensors)
    if found is not None:
        kind, name = found
        raise AdapterFound(
            f"nothing in this model ({contents.format}) can be audited or repaired: it holds an "
            f"adapter ({kind}, tensor {name[:100]!r}), which is added to the weights of a network; "
            "merge both, as merge_and_unload() of PEFT does, and give the result"
        )


def adapter_in(tensors: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """Return the kind of the adapter among some tensors and one of their names, None without one.

    A layer that is merely called ``adapter``, ``alpha`` or ``up`` is none. Two layers that lead to
    few neurons and back are one if their names say so, as ``adapter.down`` and ``adapter.up``.
    Matrices without biases whose names hold a word such as ``lora`` are one, too.
    """
    paths = {name: re.split(r"[./:]", name) for name in tensors}
    for kind, pattern in _NAMED:
        for name, path in paths.items():
            if any(pattern.fullmatch(part) for part in path):
                return kind, name
    for name, path in paths.items():
        if _KOHYA.fullmatch(path[0]) or _LISTED.fullmatch(name):
            return "LoRA", name
    if paths and all(any(_PROMPTS.fullmatch(part) for part in path) for path in paths.values()):
        return "prompt or prefix", next(iter(paths))
    return (
        _pair(tensors, paths)
        or _low_rank(tensors, paths)
        or _numbered(tensors, paths)
        or _module(tensors, paths)
        or _wrapped(paths)
    )


def _pair(tensors: Mapping[str, Tensor], paths: Mapping[str, list[str]]) -> tuple[str, str] | None:
    """Return the first two layers whose names say that they lead to few neurons and back."""
    sides: defaultdict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for name, path in paths.items():
        if tensors[name].array.ndim < 2:
            continue
        for i, part in enumerate(path):
            for kind, side in _sides(path, i, part):
                sides[kind, "/".join(path[:i])].setdefault(side, name)
    for (kind, _), held in sides.items():
        if len(held) == 2 and (kind == "LoRA" or _is_bottleneck(tensors, held)):
            return kind, held[0]
    return None


def _sides(path: list[str], i: int, part: str) -> list[tuple[str, int]]:
    """Return of which kind of adapter a part of a name tells a side, 0 for down and 1 for up."""
    found = []
    before = path[:i]
    if before and _LORA.fullmatch(before[-1]) and part.lower() in ("down", "up", "a", "b"):
        found.append(("LoRA", int(part.lower() in ("up", "b"))))
    inside = any(_ADAPTER.fullmatch(one) for one in before)
    for side, pattern in enumerate(_SIDES):
        matched = pattern.fullmatch(part)
        if matched and (inside or matched["adapter"] or matched["after"]):
            found.append(("bottleneck", side))
    if any(_ADAPTER.fullmatch(one) for one in before[1:]) or any(map(_BLOCK.fullmatch, before)):
        found += [("bottleneck", side) for side, words in enumerate(_ENDS) if part.lower() in words]
    return found


def _is_bottleneck(tensors: Mapping[str, Tensor], held: Mapping[int, str]) -> bool:
    """Return whether one layer leads back to as many neurons as another one comes from."""
    down, up = (tensors[held[side]].shape for side in (0, 1))
    return len(down) != 2 or len(up) != 2 or down == up[::-1]


def _low_rank(
    tensors: Mapping[str, Tensor], paths: Mapping[str, list[str]]
) -> tuple[str, str] | None:
    """Return a tensor whose name holds a word such as ``lora``, as ``fc1.loraA`` does.

    Such a layer of a network has biases. Those of a low rank have them if the name tells its side.
    """
    places: dict[str, int] = {}
    for name, path in paths.items():
        found = [i for i, part in enumerate(path) if _SHORT.search(part)]
        if found:
            places[name] = found[-1]
    matrices = [name for name in places if tensors[name].array.ndim > 1]
    biased = any(
        tensors[name].array.ndim == 1 and re.search(r"(?i)bias|(?<![a-z])b\d*$", paths[name][-1])
        for name in places
    )
    if matrices and not biased:
        return "LoRA", matrices[0]
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in matrices:
        i = places[name]
        if any(_TOLD.search(part) for part in paths[name][i : i + 2]):
            groups["/".join(paths[name][:i])].append(name)
    for names in groups.values():
        for one in names:
            for other in names:
                if _leads_to_few(tensors[one].shape, tensors[other].shape):
                    return "LoRA", one
    return None


def _leads_to_few(down: tuple[int, ...], up: tuple[int, ...]) -> bool:
    """Return whether two matrices share an inner width that is smaller than the outer ones."""
    if len(down) != 2 or len(up) != 2:
        return False
    out_in = down[0] == up[1] and down[0] < min(down[1], up[0])
    in_out = down[1] == up[0] and down[1] < min(down[0], up[1])
    return out_in or in_out


def _numbered(
    tensors: Mapping[str, Tensor], paths: Mapping[str, list[str]]
) -> tuple[str, str] | None:
    """Return the first of factors that are called ``w_a_000`` and ``w_b_000``, in all pairs."""
    sides: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for name, path in paths.items():
        for i, part in enumerate(path):
            if (matched := _FACTOR.fullmatch(part)) and tensors[name].array.ndim == 2:
                key = "/".join(path[:i]), matched["number"]
                sides[key].setdefault(matched["side"].lower(), name)
    for held in sides.values():
        if len(held) != 2 or not _leads_to_few(*(tensors[held[side]].shape for side in "ab")):
            return None
    return ("LoRA", next(iter(sides.values()))["a"]) if sides else None


def _module(
    tensors: Mapping[str, Tensor], paths: Mapping[str, list[str]]
) -> tuple[str, str] | None:
    """Return the first layer of a module such as ``adapter`` that holds a bottleneck only.

    A module ``bottleneck`` among other layers may be one step of a network, such as the middle of
    an autoencoder, unless there are several.
    """
    groups: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    matrices = [name for name in paths if tensors[name].array.ndim > 1]
    for name in matrices:
        path = paths[name]
        layer = path[:-1] if len(path) > 1 and path[-1].lower() in _STORED else path
        groups[tuple(layer[:-1])].append(name)
    found: list[str] = []
    inside = 0
    for group, names in groups.items():
        words = [matched["word"].lower() for one in group if (matched := _MODULE.fullmatch(one))]
        if not words or len(names) != 2:
            continue
        first, second = sorted(names, key=_natural)
        if not _returns(tensors[first], tensors[second]):
            continue
        if words[-1] != "bottleneck":
            return "bottleneck", first
        found.append(first)
        inside += 2
    if found and (inside == len(matrices) or len(found) > 1):
        return "bottleneck", found[0]
    return None


def _returns(first: Tensor, second: Tensor) -> bool:
    """Return whether two layers, in this order, lead to few neurons and back to as many."""
    down, up = first.shape, second.shape
    if len(down) != 2 or down != up[::-1] or down[0] == down[1]:
        return False
    if _NARROWS.search(first.name) or _NARROWS.search(second.name):
        return True
    if first.name.endswith("weight"):
        return down[0] < down[1]
    return not first.name.endswith("kernel") or down[1] < down[0]


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts names by the numbers in them."""
    return [(int(one), "") if one.isdecimal() else (-1, one) for one in re.split(r"(\d+)", name)]


def _wrapped(paths: Mapping[str, list[str]]) -> tuple[str, str] | None:
    """Return a tensor of a layer that PEFT has wrapped, by names such as ``fc1.base_layer.weight``.

    Beside ``base_layer`` there is what belongs to an adapter called ``default``, or nothing. A
    network may have a part of that name as well, so that nothing counts only in several places
    or if ``base_layer`` holds the weights itself.
    """
    beside: defaultdict[str, list[bool]] = defaultdict(list)
    wrapped: dict[str, str] = {}
    layers: set[str] = set()
    for name, path in paths.items():
        for i in range(1, len(path)):
            place = "/".join(path[:i])
            if path[i] == "base_layer":
                wrapped.setdefault(place, name)
                if i == len(path) - 2:
                    layers.add(place)
            else:
                beside[place].append("default" in path[i + 1 :])
    found = [place for place in wrapped if all(beside[place])]
    if any(beside[place] or place in layers for place in found) or len(found) > 1:
        return "PEFT", wrapped[found[0]]
    return None
