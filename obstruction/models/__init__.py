"""Models of any framework, in memory or in files, as networks that can be audited.

One reader per format: `matches` tells whether a source is its own, `read` what is in it. The
framework is used only if an object already is of it; files are read without any.

Its modules may import tools. They must never know what an audit asks of a network, and they must
never execute anything that a file holds.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from obstruction.models.contents import Contents, Layout, NothingAuditable, Tensor, UnreadableModel
from obstruction.models.layers.resolving import layer_names, resolve
from obstruction.models.model import Layer, Link, Model

__all__ = [
    "Contents",
    "Layer",
    "Layout",
    "Link",
    "Model",
    "NothingAuditable",
    "Tensor",
    "UnreadableModel",
    "check_target",
    "layer_names",
    "read",
    "read_contents",
    "resolve",
    "write",
]

_OBJECTS: Final = (
    "keras.objects",
    "torch.modules",
    "memory.sklearn",
    "memory.arrays",
    "memory.trees",
)
"""In this order: on PyTorch as its backend, a Keras model is a ``torch.nn.Module`` too."""

_FILES: Final = ("safetensors", "torch.files", "npz", "keras.files", "onnx.graph")
_HEAD: Final = 4096

_READABLE: Final = (
    "PyTorch files (.pt, .pth, .bin, .ckpt), .safetensors, .npz, Keras files (.keras, .h5, "
    ".weights.h5) and .onnx"
)
_OBJECTS_READABLE: Final = (
    "a path, a sequence or mapping of arrays, a torch.nn.Module or state dict, a Keras model, "
    "a tree of Flax or Haiku parameters, or a network of scikit-learn"
)
_LOAD_IT: Final = "load it yourself, if you trust it, and pass the object instead of the path"


def read(
    source: Any,
    *,
    activation: str | None = None,
    layout: Layout | None = None,
    layers: Sequence[str] | None = None,
) -> Model:
    """Return the fully connected layers of a model.

    Parameters
    ----------
    source : path or object
        A file of any format that this package reads, told by its content; a sequence or mapping
        of arrays, a ``torch.nn.Module``, a state dict, a Keras model, a tree of Flax or Haiku
        parameters, or a network of scikit-learn.
    activation, layout, layers
        What the source does not say: see `obstruction.models.layers.resolving.resolve`.

    Raises
    ------
    UnreadableModel
        If the source cannot be read, or not safely.
    ValueError
        If an argument contradicts the source, or must be given.
    """
    return resolve(read_contents(source), activation=activation, layout=layout, layers=layers)


def read_contents(source: Any) -> Contents:
    """Return what is in a file or object, before it is understood as a network.

    Raises
    ------
    UnreadableModel
        If the source cannot be read, or not safely.
    """
    if isinstance(source, (str, os.PathLike)):
        path = _path(source)
        found: Contents = _file_reader(path).read(path)
    else:
        found = _object_reader(source).read(source)
    return found


def write(
    source: Any,
    changes: Mapping[str, NDArray[Any]],
    *,
    out: str | os.PathLike[str] | None = None,
    inplace: bool = False,
) -> Any:
    """Return the model with some tensors replaced, everything else as it was.

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
        If a change does not fit, or the model cannot be written or changed as asked.
    """
    if not isinstance(source, (str, os.PathLike)):
        if out is not None:
            raise ValueError(f"out = {os.fspath(out)!r}: must be None unless the model is a file")
        return _object_reader(source).updated(source, changes, inplace=inplace)
    path = _path(source)
    if out is None:
        raise ValueError("out = None: must be the path to write to, as the model is a file")
    if inplace:
        raise ValueError("inplace = True: must be False for a file, whose path can be out")
    target = check_target(path, out)
    _file_reader(path).write(path, changes, target)
    return target


def check_target(source: str | os.PathLike[str], out: str | os.PathLike[str]) -> Path:
    """Return where a changed copy of a file goes.

    Raises
    ------
    ValueError
        If it does not end as the file does, is there and no ordinary file, or in no folder.
    """
    path, target = _path(source), _path(out)
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


def _object_reader(source: Any) -> Any:
    for name in _OBJECTS:
        reader = importlib.import_module(f"obstruction.models.readers.{name}")
        if reader.matches(source):
            return reader
    kind = f"{type(source).__module__}.{type(source).__qualname__}".removeprefix("builtins.")
    hint = ""
    if kind.startswith("flax.") or any(
        base.__module__.startswith("flax.nnx") for base in type(source).__mro__
    ):
        hint = "; of Flax give the parameters: state.params, or nnx.state(model)"
    raise UnreadableModel(f"a model cannot be read from {kind}: give {_OBJECTS_READABLE}{hint}")


def _file_reader(path: Path) -> Any:
    head = _head(path)
    readers = [importlib.import_module(f"obstruction.models.readers.{name}") for name in _FILES]
    if path.suffix != ".skops":  # an archive of arrays, which NumPy's reader would take for its own
        for named in (Path("unnamed"), path):  # the content counts, the suffix if it does not tell
            for reader in readers:
                if reader.matches(head, named):
                    return reader
    raise UnreadableModel(f"{path}: {_unknown(head, path)}")


def _path(source: str | os.PathLike[str]) -> Path:
    name = os.fsdecode(source)
    if not name or "\0" in name:
        raise UnreadableModel(f"{name!r}: is no path")
    return Path(name)


def _head(path: Path) -> bytes:
    """Return the first bytes of a file.

    Raises
    ------
    UnreadableModel
        If it is missing, empty, a folder, or cannot be read.
    """
    try:
        if path.is_dir():
            raise UnreadableModel(f"{path}: {_folder(path)}")
        if not path.exists():
            raise UnreadableModel(f"{path}: there is no such file")
        if not path.is_file():
            raise UnreadableModel(f"{path}: is not an ordinary file")
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError as error:
        raise UnreadableModel(f"{path}: cannot be read ({error.strerror or error})") from None
    if not head:
        raise UnreadableModel(f"{path}: is empty")
    return head


def _folder(path: Path) -> str:
    if (path / "saved_model.pb").exists():
        return "a TensorFlow SavedModel cannot be read: load it with Keras and save it as .keras"
    if any(
        (path / name).exists() for name in ("_METADATA", "manifest.ocdbt", "_CHECKPOINT_METADATA")
    ):
        return "an Orbax checkpoint cannot be read: restore it yourself and pass the parameters"
    endings = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".keras", ".h5", ".onnx", ".npz")
    inside = sorted(one.name for one in path.iterdir() if one.name.endswith(endings))
    return "is a folder: give a file" + (f" in it, such as {inside[0]}" if inside else "")


def _unknown(head: bytes, path: Path) -> str:
    """Return why a file of no known format is refused, and what to do."""
    if path.suffix == ".skops":
        return f"a .skops file cannot be read: {_LOAD_IT}"
    if path.suffix in (".joblib", ".pkl", ".pickle") or head[:1] == b"\x80":
        return f"a pickle is not opened, as it can run any program: {_LOAD_IT}"
    if path.suffix in (".msgpack", ".eqx"):
        return f"a {path.suffix} file cannot be read: {_LOAD_IT}"
    if path.suffix == ".index" or ".data-0" in path.name:
        return "a TensorFlow checkpoint cannot be read: load it and save it as .keras"
    return f"is of no format that can be read: {_READABLE}"
