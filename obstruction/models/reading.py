"""Reading models from files or objects of any format, and writing them with new numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from obstruction.models.contents import Contents, UnreadableModel
from obstruction.models.layers.resolving import resolve
from obstruction.models.model import Model
from obstruction.models.options import NO_OPTIONS, ReadOptions
from obstruction.models.readers.base import FileReader, ObjectReader
from obstruction.models.readers.files import mapped, told_as
from obstruction.models.split.indices import index_in, read_index
from obstruction.models.split.parts import is_numbered, refuse_part

_HEAD: Final = 4096
_OTHERS: Final = (".skops", ".distcp")  # files that would be taken for those of another format
_ORBAX: Final = ("_METADATA", "manifest.ocdbt", "_CHECKPOINT_METADATA")
_DISTRIBUTED: Final = "a distributed checkpoint of PyTorch is not read"
_CONVERT: Final = (
    "turn it into one file with torch.distributed.checkpoint.format_utils.dcp_to_torch_save({!r}, "
    "'model.pt')"
)
_LOAD_IT: Final = "load it yourself, if you trust it, and pass the object instead of the path"


def read(source: Any, options: ReadOptions = NO_OPTIONS) -> Model:
    """Return the fully connected layers of a model.

    Parameters
    ----------
    source : path or object
        A file or an object that matches one of the readers, or the index of a model in parts, or
        a folder with one index.
    options : ReadOptions, optional
        What the source does not say.

    Raises
    ------
    UnreadableModel
        If the source cannot be read, or not safely.
    ValueError
        If an option contradicts the source, or must be given.
    """
    return resolve(read_contents(source), options)


def read_contents(source: Any) -> Contents:
    """Return the tensors in a file or object, and what it says of its layers.

    Raises
    ------
    UnreadableModel
        If the source cannot be read, or not safely.
    """
    if isinstance(source, (str, os.PathLike)):
        path = _path(source)
        with told_as(UnreadableModel, path):
            index = _index(path)
        if index is not None:
            return read_index(index, _read_file)
        if path.is_file():
            refuse_part(path, _read_file)
        found = _read_file(path)
        if found.part is not None:
            raise UnreadableModel(f"{path}: is only a part of a model: {found.part}")
        return found
    return _object_reader(source).read(source)


def _read_file(path: Path) -> Contents:
    return _file_reader(path).read(path)


def _index(path: Path) -> Path | None:
    """Return the index of a model in parts that a path names, or that is in its folder, or None."""
    if path.is_dir():
        return index_in(path)
    return path if path.suffix == ".json" and path.exists() else None


def write(
    source: Any,
    changes: Mapping[str, NDArray[Any]],
    *,
    out: str | os.PathLike[str] | None = None,
    inplace: bool = False,
) -> Any:
    """Return the model with new numbers in some tensors and everything else as it was.

    Parameters
    ----------
    source : path or object
        What was read.
    changes : mapping of str to ndarray
        New values by the names of `Contents.tensors`, in stored shape and type.
    out : path, optional
        For files, where to write; it may be the source. The format is that of the source.
    inplace : bool
        For objects, whether to change the object itself and not a copy.

    Returns
    -------
    Path or object
        `out`, or the object: a copy, or with ``inplace`` the source.

    Raises
    ------
    UnreadableModel
        If the source cannot be read.
    ValueError
        If a change does not fit, or if the model cannot be written or changed as asked.
    """
    target = check_target(source, out, inplace=inplace)
    if target is None:
        return _object_reader(source).updated(source, changes, inplace=inplace)
    path = _path(source)
    _file_reader(path).write(path, changes, target)
    return target


def check_target(
    source: Any, out: str | os.PathLike[str] | None, *, inplace: bool = False
) -> Path | None:
    """Return the path to which a changed copy of a file goes, or None for an object.

    Raises
    ------
    ValueError
        If `out` is given for an object; or if for a file `inplace` is True, or `out` is None, has
        another suffix than the file, is no ordinary file, or is in a folder that does not exist; or
        if the model is in parts.
    """
    if not isinstance(source, (str, os.PathLike)):
        if out is not None:
            raise ValueError(f"out = {os.fspath(out)!r}: must be None unless the model is a file")
        return None
    if out is None:
        raise ValueError("out = None: must be the path to write to, as the model is a file")
    if inplace:
        raise ValueError("inplace = True: must be False for a file, whose path can be out")
    path, target = _path(source), _path(out)
    if path.is_dir() or _index(path) is not None:
        raise ValueError(
            f"out = {str(target)!r}: a model in parts is read but not written; join its parts into "
            "one file and give that"
        )
    if target.suffix.lower() != path.suffix.lower():
        raise ValueError(
            f"out = {str(target)!r}: must end with {path.suffix or 'no suffix'!r}, as the format "
            "of a file does not change"
        )
    if target.exists() and not target.is_file():
        raise ValueError(f"out = {str(target)!r}: must be an ordinary file")
    if not target.parent.is_dir():
        raise ValueError(f"out = {str(target)!r}: there is no folder {str(target.parent)!r}")
    return target


def _object_reader(source: Any) -> ObjectReader:
    from obstruction.models.readers.object_readers import OBJECT_READERS

    for reader in OBJECT_READERS:
        if reader.matches(source):
            return reader
    kind = f"{type(source).__module__}.{type(source).__qualname__}".removeprefix("builtins.")
    hint = ""
    if any(base.__module__.startswith("flax.") for base in type(source).__mro__):
        hint = "; of Flax give the parameters: state.params, or nnx.state(model)"
    *others, last = [reader.OBJECTS for reader in OBJECT_READERS]
    allowed = f"a path, {', '.join(others)}, or {last}"
    raise UnreadableModel(f"a model cannot be read from {kind}: give {allowed}{hint}")


def _file_reader(path: Path) -> FileReader:
    from obstruction.models.readers.file_readers import FILE_READERS

    head = _head(path)
    if path.suffix not in _OTHERS and path.name != ".metadata":
        for named in (Path("unnamed"), path):  # the suffix counts only if the content is unclear
            for reader in FILE_READERS:
                if reader.matches(head, named):
                    return reader
    raise UnreadableModel(f"{path}: {_refusal_of_content(head, path)}")


def _path(source: str | os.PathLike[str]) -> Path:
    name = os.fsdecode(source)
    if not name or "\0" in name:
        raise UnreadableModel(f"{name!r}: is no path")
    return Path(name)


def _head(path: Path) -> bytes:
    """Return the first bytes of a file, or raise UnreadableModel if there are none."""
    with told_as(UnreadableModel, path):
        if path.is_dir():
            raise ValueError(_refusal_of_folder(path))
        if not path.exists():
            raise ValueError("there is no such file")
        return mapped(path)[:_HEAD].tobytes()


def _refusal_of_folder(path: Path) -> str:
    from obstruction.models.readers.file_readers import FILE_READERS

    if (path / "saved_model.pb").exists():
        return "a TensorFlow SavedModel cannot be read: load it with Keras and save it as .keras"
    if (path / ".metadata").exists() or any(path.glob("*.distcp")):
        return f"{_DISTRIBUTED}: {_CONVERT.format(str(path))}"
    if any((path / name).exists() for name in _ORBAX):
        return "an Orbax checkpoint cannot be read: restore it yourself and pass the parameters"
    suffixes = tuple(suffix for reader in FILE_READERS for suffix in reader.SUFFIXES)
    names = sorted(one.name for one in path.iterdir() if one.name.endswith(suffixes))
    inside = [name for name in names if not is_numbered(name)]
    if names and not inside:
        return (
            f"is a folder with parts of a model, such as {names[0]}, and no index that lists them"
        )
    return "is a folder: give a file" + (f" in it, such as {inside[0]}" if inside else "")


def _refusal_of_content(head: bytes, path: Path) -> str:
    """Return why a file of no known format is refused, and what to do."""
    from obstruction.models.readers.file_readers import FILE_READERS

    if path.suffix == ".distcp" or path.name == ".metadata":
        return f"is a part: {_DISTRIBUTED}: {_CONVERT.format(str(path.parent))}"
    if path.suffix in (".skops", ".msgpack"):
        return f"a {path.suffix} file cannot be read: {_LOAD_IT}"
    if path.suffix in (".joblib", ".pkl", ".pickle") or head[:1] == b"\x80":
        return f"a pickle is not opened, as it can run any program: {_LOAD_IT}"
    if path.suffix == ".index" or ".data-0" in path.name:
        return "a TensorFlow checkpoint cannot be read: load it and save it as .keras"
    *others, last = [f"{one.FORMAT} files ({', '.join(one.SUFFIXES)})" for one in FILE_READERS]
    return f"is of no format that can be read: {', '.join(others)} and {last}"
