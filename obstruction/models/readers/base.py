"""The protocols that every reader of files and every reader of objects in memory must fulfil.

A reader is a module that has the constants and functions of one of these protocols. Where it is
listed, in `file_readers` or `object_readers`, mypy checks that it does. A reader never guesses:
what its format does not say stays None in the `Contents` that it returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from obstruction.models.contents import Contents


class FileReader(Protocol):
    """A format of weight files, which are read without executing anything that they hold."""

    @property
    def FORMAT(self) -> str:
        """The name of the format, as errors list it: ``"Keras"``."""

    @property
    def SUFFIXES(self) -> tuple[str, ...]:
        """The ends of the names of such files, the usual one first: ``(".keras", ".h5")``."""

    def matches(self, head: bytes, path: Path) -> bool:
        """Return whether a file is of this format.

        Parameters
        ----------
        head : bytes
            The first 4096 bytes of the file, or all if it has fewer.
        path : Path
            The file, of which only the name may be used. All readers are first asked with a name
            without a suffix, so that the content decides if it can.
        """

    def read(self, path: Path) -> Contents:
        """Return the tensors of a file, as views of it where that is possible.

        Raises
        ------
        UnreadableModel
            If the file is damaged or unsafe, or if what it holds is out of proportion to it.
        """

    def write(self, path: Path, changes: Mapping[str, NDArray[Any]], out: Path) -> None:
        """Write a copy of a file with new numbers in some tensors; all else stays as it is.

        Parameters
        ----------
        path : Path
            The file.
        changes : mapping of str to ndarray
            New values by the names of `Contents.tensors`, in stored shape and type.
        out : Path
            Where the copy goes. It may be `path`. It appears whole or not at all.

        Raises
        ------
        UnreadableModel
            If `path` cannot be read.
        ValueError
            If a change does not fit, or if `out` cannot be written.
        """


class ObjectReader(Protocol):
    """A kind of models in memory; its framework is used only if it is loaded already."""

    @property
    def OBJECTS(self) -> str:
        """What such an object is called where errors list it: ``"a Keras model"``."""

    def matches(self, source: Any) -> bool:
        """Return whether an object is of this kind."""

    def read(self, source: Any) -> Contents:
        """Return the tensors of an object, and what it says of its layers.

        Raises
        ------
        UnreadableModel
            If it is not built or fitted yet, or if it holds no numbers.
        """

    def updated(self, source: Any, changes: Mapping[str, NDArray[Any]], *, inplace: bool) -> Any:
        """Return an object of the same type with new numbers in some tensors.

        Parameters
        ----------
        source : object
            What was read.
        changes : mapping of str to ndarray
            New values by the names of `Contents.tensors`, in stored shape.
        inplace : bool
            Whether to change `source` itself and return it. A copy is changed otherwise.

        Raises
        ------
        ValueError
            If a change does not fit, or if the object cannot be changed in place.
        """
