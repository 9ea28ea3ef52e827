"""Keep a study of models while it is drawn, and elsewhere if its folder cannot be written."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeAlias

from obstruction.studies import folder
from obstruction.studies.factories.model_folder import save, save_run
from obstruction.studies.factories.model_study import ModelStudy
from obstruction.studies.folder import OwnFolder
from obstruction.tools.folder_lock import FolderLock

Tell: TypeAlias = Callable[[str], object]
"""A function that is called with lines on what cannot be written."""


class WrittenElsewhere(ValueError):
    """The error that a complete study could not be written to its folder.

    Attributes
    ----------
    study : ModelStudy
    """

    def __init__(self, message: str, study: ModelStudy) -> None:
        super().__init__(message)
        self.study = study


class ModelKeeper:
    """What writes a study of models to its folder, and tells what fails.

    Parameters
    ----------
    out : path-like or None
        The folder; nothing is kept without one.
    lock : FolderLock or None
        The lock that this thread holds on it.
    tell : callable
    """

    def __init__(
        self, out: str | os.PathLike[str] | None, lock: FolderLock | None, tell: Tell
    ) -> None:
        self._out, self._tell = out, tell
        self._folder = None if out is None or lock is None else OwnFolder(out, lock, tell)
        self._unsaved: ModelStudy | None = None
        self._complaint = ""

    def keep(self, study: ModelStudy) -> None:
        """Write a study that is not complete; a failure is told, and the next call tries again."""
        if self._out is None or self._folder is None or not _number(study):
            return
        self._unsaved = study
        try:
            self._folder.ensure()
            save_run(study, self._out)
        except (ValueError, MemoryError) as error:
            complaint = str(error) or "out of memory"
            if complaint != self._complaint:
                self._tell(
                    f"no checkpoint: {complaint}; {_draws(study)} are kept in memory; the run "
                    "goes on and tries again"
                )
            self._complaint = complaint
        else:
            if self._complaint:
                self._tell(f"{_draws(study)} are saved in {self._out} now")
            self._unsaved, self._complaint = None, ""

    def finish(self, study: ModelStudy) -> None:
        """Write a complete study.

        Raises
        ------
        WrittenElsewhere
            If it cannot be written to its folder.
        """
        if self._out is None or self._folder is None:
            return
        try:
            self._folder.ensure()
            save(study, self._out)
        except ValueError as error:
            found = folder.rescued(self._out, lambda other: save(study, other))
            where = (
                "and neither can another folder"
                if found is None
                else f"the study is written to {found[0]} instead"
            )
            self._unsaved = None
            raise WrittenElsewhere(f"{error}; {where}", study) from None

    def rescue(self) -> None:
        """Write what is not saved in the folder to another one, and tell which."""
        study = self._unsaved
        if study is None or self._out is None:
            return
        found = folder.rescued(self._out, lambda other: save_run(study, other))
        if found is None:
            self._tell(f"{_draws(study)} are lost: {self._complaint}, nor can another folder")
        else:
            self._tell(f"{self._complaint}; {_draws(study)} are saved in {found[0]} instead")


def _number(study: ModelStudy) -> int:
    return sum(cell.counts.networks for cell in study.cells)


def _draws(study: ModelStudy) -> str:
    return f"{_number(study):,} draws"
