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
    return _pair(tensors, paths) or _wrapped(paths)


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


def _wrapped(paths: Mapping[str, list[str]]) -> tuple[str, str] | None:
    """Return a tensor of a layer that PEFT has wrapped, by names such as ``fc1.base_layer.weight``.

    Beside ``base_layer`` there is what belongs to an adapter called ``default``, or nothing. A
    network may have a layer of that name as well, so that nothing counts only in several places.
    """
    beside: defaultdict[str, list[bool]] = defaultdict(list)
    wrapped: dict[str, str] = {}
    for name, path in paths.items():
        for i in range(1, len(path)):
            place = "/".join(path[:i])
            if path[i] == "base_layer":
                wrapped.setdefault(place, name)
            else:
                beside[place].append("default" in path[i + 1 :])
    found = [place for place in wrapped if all(beside[place])]
    if any(beside[place] for place in found) or len(found) > 1:
        return "PEFT", wrapped[found[0]]
    return None
