"""Keep what a run counts: checkpoints, and another folder if its own cannot be written."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from obstruction.studies import folder
from obstruction.studies.run import StudyRun
from obstruction.tools.folder_lock import FolderLock
from obstruction.tools.progress import tell
from obstruction.tools.words import duration

if TYPE_CHECKING:
    from obstruction.studies.study import Study

Written = TypeVar("Written")


class Keeper:
    """What saves the counts of a run now and then, and its study at the end.

    A checkpoint that fails does not end the run: it is said once, with the reason, and tried again.

    Parameters
    ----------
    run : StudyRun
    out : str
        The folder of the run, as the user names it.
    lock : FolderLock
        The lock that this process holds on it.
    seconds : float
        The least time between two checkpoints.
    replace : bool
        Whether the first one deletes the study that the folder holds.
    """

    def __init__(
        self, run: StudyRun, out: str, lock: FolderLock, seconds: float, *, replace: bool
    ) -> None:
        self._run, self._out, self._lock = run, out, lock
        self._seconds, self._replace = seconds, replace
        self._tried = time.perf_counter()
        self._kept = 0
        self._complaint = ""
        self._folder = folder.OwnFolder(out, lock, lambda line: tell(f"obstruction: {line}"))

    @property
    def failed(self) -> str:
        """Why the last checkpoint failed, "" if it did not."""
        return self._complaint

    @property
    def kept(self) -> int:
        """The number of networks that are saved in the folder."""
        return self._kept if self._lock.is_there else 0

    def save_if_due(self, networks: int) -> None:
        """Save if the last attempt is long enough ago."""
        if time.perf_counter() - self._tried > self._seconds:
            self.save(again=True)

    def save(self, *, again: bool = False) -> None:
        """Save if anything has been counted.

        With ``again``, another attempt follows later, and a failure is told.
        """
        if self._run.counted == 0:
            return
        try:
            study = self._run.study()
            self._have_folder()
            folder.save_checkpoint(study, Path(self._out), replace=self._replace)
        except (ValueError, MemoryError) as error:
            self._fail(" ".join(str(error).split()) or "out of memory", again)
        else:
            if self._complaint:
                tell(f"obstruction: {study.networks:,} networks are saved in {self._out} now")
            self._kept, self._replace, self._complaint = study.networks, False, ""
        self._tried = time.perf_counter()

    def rescue(self) -> Path | None:
        """Save the counts in another folder and return it, None if that fails, too."""
        study = self._run.study()
        found = folder.rescued(self._out, lambda other: folder.save_checkpoint(study, other))
        return None if found is None else found[0]

    def finish(
        self, study: Study, pictures: Mapping[str, bytes], agreement: Any
    ) -> tuple[list[Path], str]:
        """Write the study to its folder, or else to another one; return the files and a complaint.

        The complaint names that folder. It is empty if all is well.

        Raises
        ------
        ValueError
            If the study cannot be written anywhere.
        """

        def write(to: str | Path) -> list[Path]:
            return folder.save(study, to, pictures, agreement)

        try:
            self._have_folder()
            return write(self._out), ""
        except ValueError as error:
            return written_elsewhere(self._out, write, str(error))

    def _have_folder(self) -> None:
        if self._folder.ensure():
            self._kept = 0

    def _fail(self, complaint: str, again: bool) -> None:
        told, self._complaint = self._complaint, complaint
        if not again or told == complaint:
            return
        kept = f"{self._run.counted:,} networks are counted and kept in memory"
        if self.kept:
            kept += f", {self.kept:,} of them in {self._out}"
        after = f" after {duration(self._seconds)}" if self._seconds >= 1.0 else ""
        goes_on = f"the run goes on and tries again{after}"
        tell(f"obstruction: no checkpoint: {complaint}; {kept}; {goes_on}")


def written_elsewhere(
    out: str, write: Callable[[Path], Written], complaint: str
) -> tuple[Written, str]:
    """Write what cannot be written to ``out`` to another folder, and complete the complaint.

    Raises
    ------
    ValueError
        If that fails, too.
    """
    found = folder.rescued(out, write)
    if found is None:
        raise ValueError(f"{complaint}, and neither can another folder")
    return found[1], f"{complaint}; the study is written to {found[0]} instead"
