"""Files that are only a part of a model, recognised by their names and by what lies beside them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from obstruction.models.contents import Contents, UnreadableModel
from obstruction.models.readers.files import shown
from obstruction.models.split.indices import KERAS, indices, places_in
from obstruction.tools.words import listed

_COPY: Final = r"(?:[-_. ]*(?:copy|copie|kopie|kopia|bak|backup|\(\d+\))(?:[-_. ]*\d+)?)*"
_EXTENSIONS: Final = r"(?:\.[a-z_-][\w-]*)+"
_NUMBERED: Final = tuple(
    re.compile(
        rf"(?:(?P<stem>.*)(?:[-_. ]|(?:part|shard|rank)[-_. ]?))?"
        rf"(?P<number>{digits})[-_. ]?of[-_. ]?(?P<count>{digits})"
        rf"(?P<rest>{rest})",
        re.IGNORECASE | re.DOTALL,
    )
    for digits, rest in (
        (r"\d{4,6}", r"[^\w].*|_.*"),
        (r"\d{1,6}", rf"{_COPY}{_EXTENSIONS}{_COPY}"),
    )
)
"""The names of parts, in which they have a number of so many, also of copies of them."""

_WHOLES: Final = re.compile(
    r"(?<![a-z])(?:folds?|kfold|cv|runs?|seeds?|epochs?|steps?|trials?|repeats?|replicates?|members?"
    r"|ensemble|draws?|samples?|candidates?|best|top)(?![a-z])",
    re.IGNORECASE,
)
"""Words before a number of so many that count whole models."""

_ALWAYS: Final = re.compile(
    r"(?:\w+_)?zero_pp_rank_\d+_.*|layer_\d+-model_\d+-model_states\.pt"
    r"|.*[-_]rank-\d+-part-\d+\.safetensors|.*model_world_size_0*(?:[2-9]|1\d+)_rank_\d+\.pt"
    r"|(?:.*[-_.])?(?:tp|mp|pp|ep)_?rank_?\d+_(?:tp|mp|pp|ep)_?rank_?\d+(?:\D.*)?",
    re.IGNORECASE,
)
_ONE_OF: Final = re.compile(
    rf"(?:.*[-_.])?(?:shard[-_]?|(?:model|weights|checkpoint|ckpt)[-_.]part[-_]?)\d+(?:[-_]shard[-_]?\d+)?{_COPY}{_EXTENSIONS}{_COPY}"
    rf"|rank[-_]?\d+{_COPY}\.safetensors{_COPY}|weights\.\d+{_COPY}\.npz{_COPY}",
    re.IGNORECASE,
)
"""Names that only one of several files has, or the only one of a program that counts them."""

_FOLDER: Final = re.compile(
    r"mp_rank_\d+(?:_\d+)*|(?:tp|pp|ep)_rank_\d+(?:_(?:tp|pp|ep)_rank_\d+)*|rank[-_]?0+",
    re.IGNORECASE,
)
"""Names of folders that hold what one rank has written."""

_RANKED: Final = re.compile(
    r"(?P<before>(?:.*[-_.])?(?:mp_rank_|consolidated[.-]|(?:tp|pp|ep|fsdp|tensor_parallel"
    r"|model_parallel)_?rank_?))"
    r"(?P<number>\d+)(?P<after>\D.*)?",
    re.IGNORECASE,
)
_MAY_BE_ONE: Final = ("mp_rank_", "consolidated.", "consolidated-")
"""How the name of a whole begins, too, if a program has run on one rank."""

_FIRST: Final = re.compile(
    r"(?!.*(?:world_size_|[-_. ]of[-_. ])0*1(?!\d))"
    r"(?P<before>(?:.*[-_.])?(?<!low[-_])rank[-_]?)(?P<number>\d+)(?P<after>\D.*)?",
    re.IGNORECASE,
)
"""The name of a rank if its number is 0 or there is one of that number; a rank of a matrix else."""


def is_numbered(name: str) -> bool:
    """Return whether the name of a file says that it is one of several parts.

    Examples
    --------
    >>> is_numbered("model-00001-of-00002.safetensors"), is_numbered("model-00001-of-00001.bin")
    (True, False)
    """
    return _numbered(name) is not None


def _numbered(name: str) -> re.Match[str] | None:
    """Return what the name of one of several parts says, None for that of a whole."""
    for pattern in _NUMBERED:
        matched = pattern.fullmatch(name)
        if matched is None or int(matched["count"]) < 2 or ".data-" in name:
            continue
        if len(matched["count"]) > 3 or not _WHOLES.search(matched["stem"] or ""):
            return matched
    return None


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

    Its name, that of its folder and the files beside it decide, for Keras also the names of the
    tensors in them. For a link they are those of its target, too.
    """
    for place in _links(path):
        _refuse(path, place, read_one)


def _links(path: Path) -> Iterator[Path]:
    """Yield a path and, as long as it is a link, what it leads to."""
    for _ in range(_MOST_LINKS):
        yield path
        with contextlib.suppress(OSError):
            if path.is_symlink():
                path = path.parent / os.readlink(path)
                continue
        return


_MOST_LINKS: Final = 40


def _refuse(path: Path, place: Path, read_one: Callable[[Path], Contents]) -> None:
    """Raise UnreadableModel for a path if the file at a place is only a part of a model."""
    index = index_of(place)
    numbered = _numbered(place.name)
    which = f" ({int(numbered['number'])} of {int(numbered['count'])})" if numbered else ""
    told = f"{path}: is only a part{which} of a model"
    if index is not None:
        raise UnreadableModel(f"{told}: give its index, {index.name}, with all parts beside it")
    if numbered:
        ends = re.search(rf"{_EXTENSIONS}(?={_COPY}$)", numbered["rest"], re.IGNORECASE)
        wanted = f"{numbered['stem'] or 'model'}{ends[0] if ends else ''}.index.json"
        raise UnreadableModel(
            f"{told}, and no index that lists it lies beside it: put all parts and their index, "
            f"{wanted}, into one folder and give the index"
        )
    if _ALWAYS.fullmatch(place.name):
        raise UnreadableModel(f"{told} that several processes wrote: {_JOIN}")
    matched = _RANKED.fullmatch(place.name)
    others = _siblings(matched, place) if matched else []
    alone = matched is not None and matched["before"].lower().endswith(_MAY_BE_ONE)
    if matched and (others or int(matched["number"]) or not alone):
        beside = f" beside {listed([shown(one) for one in others[:3]])}" if others else ""
        raise UnreadableModel(
            f"{told}, one rank of several{beside}, each of which holds a share of every "
            f"matrix: {_JOIN}"
        )
    folders = {place.absolute().parent.name, place.parent.resolve().name}
    inside = [name for name in sorted(folders) if _FOLDER.fullmatch(name)]
    if inside or _ONE_OF.fullmatch(place.name) or (matched is None and _is_rank(place)):
        by = f"the folder {shown(inside[0])}" if inside else shown(place.name)
        raise UnreadableModel(
            f"{told} by the name of {by}: {_JOIN}; a file that is the whole needs another name"
        )
    _refuse_keras(path, place, read_one)


_JOIN: Final = (
    "join all of them with the program that wrote them, such as a consolidation to Hugging Face's "
    "format, and give the result"
)


def _is_rank(place: Path) -> bool:
    """Return whether a file is by its name the first of several ranks, or lies beside the first."""
    matched = _FIRST.fullmatch(place.name)
    if matched is None:
        return False
    first = f"{matched['before']}{0:0{len(matched['number'])}}{matched['after'] or ''}"
    return int(matched["number"]) == 0 or place.with_name(first).is_file()


def _siblings(matched: re.Match[str], place: Path) -> list[str]:
    """Return the names of the files of other ranks, of which there may be one before or behind."""
    number = matched["number"]
    tries = (int(number) - 1, int(number) + 1, 0, 1)
    names = {
        f"{matched['before']}{i:0{len(number)}}{matched['after'] or ''}"
        for i in tries
        if i >= 0 and i != int(number)
    }
    return sorted(name for name in names if place.with_name(name).is_file())


def _refuse_keras(path: Path, place: Path, read_one: Callable[[Path], Contents]) -> None:
    """Raise UnreadableModel for a part of Keras's sharded weights without an index.

    Files of several epochs can have such names, too, but hold tensors of the same names.
    """
    matched = KERAS.fullmatch(place.name)
    if matched is None or not place.is_file():
        return
    index = f"{matched['stem']}.weights.json"
    for i in (int(matched["number"]) + 1, int(matched["number"]) - 1):
        other = place.with_name(f"{matched['stem']}_{max(i, 0):05}{matched['rest']}")
        if other == place or not other.is_file():
            continue
        with contextlib.suppress(UnreadableModel):
            apart = read_one(place).tensors.keys().isdisjoint(read_one(other).tensors)
            if apart:
                break
    else:
        return
    raise UnreadableModel(
        f"{path}: is only a part of a model, as {other.name} is: put all parts and their "
        f"index, {index}, into one folder and give the index"
    )
