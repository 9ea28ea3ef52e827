"""Files that are only a part of a model, recognised by their names and by what lies beside them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from obstruction.models.contents import Contents, UnreadableModel
from obstruction.models.readers.files import shown
from obstruction.models.split.indices import KERAS, NUMBERED, indices, places_in
from obstruction.tools.words import listed

_ALWAYS: Final = re.compile(
    r"(?:\w+_)?zero_pp_rank_\d+_.*|layer_\d+-model_\d+-model_states\.pt"
    r"|.*[-_]rank-\d+-part-\d+\.safetensors|.*model_world_size_0*(?:[2-9]|1\d+)_rank_\d+\.pt"
)
_RANKED: Final = re.compile(
    r"(?P<before>(?:.*[-_.])?(?:mp_rank_|consolidated[.-]|(?:tp|pp|ep|fsdp|tensor_parallel"
    r"|model_parallel)_?rank_?|shard))"
    r"(?P<number>\d+)(?P<after>\D.*)?"
)
_STAGED: Final = re.compile(r"(?P<before>mp_rank_\d+_)(?P<number>\d+)(?P<after>)")
_BARE: Final = re.compile(r"(?P<before>rank_?)(?P<number>\d+)(?P<after>\.safetensors)")


def is_numbered(name: str) -> bool:
    """Return whether the name of a file says that it is one of several parts.

    Examples
    --------
    >>> is_numbered("model-00001-of-00002.safetensors"), is_numbered("model-00001-of-00001.bin")
    (True, False)
    """
    matched = NUMBERED.fullmatch(name)
    return matched is not None and int(matched["count"]) > 1 and ".data-" not in name


def index_of(part: Path) -> Path | None:
    """Return the index of several files, among them this one, that lies beside it, or None."""
    with contextlib.suppress(OSError):
        for index in indices(part.parent):
            with contextlib.suppress(UnreadableModel):
                places = places_in(index)
                if len(places) > 1 and part.name in places:
                    return index
    return None


def refuse_part(path: Path, read_one: Callable[[Path], Contents]) -> None:
    """Raise UnreadableModel if a file is only a part of a model, and say what to give instead.

    Its name and the files beside it decide, for Keras also the names of the tensors in them.
    """
    index = index_of(path)
    numbered = NUMBERED.fullmatch(path.name) if is_numbered(path.name) else None
    which = f" ({int(numbered['number'])} of {int(numbered['count'])})" if numbered else ""
    told = f"{path}: is only a part{which} of a model"
    if index is not None:
        raise UnreadableModel(f"{told}: give its index, {index.name}, with all parts beside it")
    if numbered:
        wanted = f"{numbered['stem']}{numbered['rest']}.index.json"
        raise UnreadableModel(
            f"{told}, and no index that lists it lies beside it: put all parts and their index, "
            f"{wanted}, into one folder and give the index"
        )
    if _ALWAYS.fullmatch(path.name):
        raise UnreadableModel(f"{told} that several processes wrote: {_JOIN}")
    for matched, place in _ranks(path):
        others = _siblings(matched, place)
        if others or (int(matched["number"]) and matched.re is not _BARE):
            beside = f" beside {listed([shown(one) for one in others[:3]])}" if others else ""
            raise UnreadableModel(
                f"{told}, one rank of several{beside}, each of which holds a share of every "
                f"matrix: {_JOIN}"
            )
    _refuse_keras(path, told, read_one)


_JOIN: Final = (
    "join all of them with the program that wrote them, such as a consolidation to Hugging Face's "
    "format, and give the result"
)


def _ranks(path: Path) -> Iterator[tuple[re.Match[str], Callable[[str], Path]]]:
    """Yield what the names of a file and of its folder say of ranks, and where others would be."""
    whole = path.absolute()
    places: tuple[tuple[str, Callable[[str], Path]], ...] = (
        (whole.name, whole.with_name),
        (whole.parent.name, lambda one: whole.parent.parent / one / whole.name),
    )
    for name, place in places:
        for pattern in (_RANKED, _STAGED, _BARE):
            matched = pattern.fullmatch(name)
            if matched and (name == whole.name or name.startswith("mp_rank_")):
                yield matched, place


def _siblings(matched: re.Match[str], place: Callable[[str], Path]) -> list[str]:
    """Return the names of the files of other ranks, of which there may be one before or behind."""
    number = matched["number"]
    tries = (int(number) - 1, int(number) + 1, 0, 1)
    names = {
        f"{matched['before']}{i:0{len(number)}}{matched['after'] or ''}"
        for i in tries
        if i >= 0 and i != int(number)
    }
    return sorted(name for name in names if place(name).is_file())


def _refuse_keras(path: Path, told: str, read_one: Callable[[Path], Contents]) -> None:
    """Raise UnreadableModel for a part of Keras's sharded weights without an index.

    Files of several epochs can have such names, too, but hold tensors of the same names.
    """
    matched = KERAS.fullmatch(path.name)
    if matched is None or not path.is_file():
        return
    index = f"{matched['stem']}.weights.json"
    for i in (int(matched["number"]) + 1, int(matched["number"]) - 1):
        other = path.with_name(f"{matched['stem']}_{max(i, 0):05}{matched['rest']}")
        if other == path or not other.is_file():
            continue
        with contextlib.suppress(UnreadableModel):
            apart = read_one(path).tensors.keys().isdisjoint(read_one(other).tensors)
            if apart:
                break
    else:
        return
    raise UnreadableModel(
        f"{told}, as {other.name} is: put all parts and their index, {index}, into one folder and "
        "give the index"
    )
