"""Writing a report: the file appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obstruction.reporting.page.page import report_page
from obstruction.reporting.page.provenance import read_run
from obstruction.schemes import SchemeLike
from obstruction.tools.files import replacing

if TYPE_CHECKING:
    from obstruction.studies.study import Study


def write_report(
    study: Study | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    schemes: SchemeLike | Iterable[SchemeLike] | None = None,
    d: Any = None,
    l: Any = None,
    level: float = 1e-3,
) -> Path:
    """Write the report of a study: one HTML file that needs no network.

    Parameters
    ----------
    study : Study or path-like
        A study, or the folder of one, whose dates and checksum the report then states.
    out : path-like
        The file, whose name must end in .html or .htm; replaced if it is there. It appears whole or
        not at all, and the same study always gives the same bytes.
    schemes : str, InitScheme, or several of them, optional
        Show these schemes of the study only.
    d, l : int or iterable of int, optional
        Show these sizes of the study only. The verdict is that of all its cells.
    level : float
        How often the verdict may be a false alarm, between 0 and 0.9.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If the folder holds no study, a scheme or size is not one of its, there are more than
        100,000 cells to show, Bokeh is not installed, or the file has another name or cannot be
        written.

    Examples
    --------
    >>> import obstruction as ob
    >>> study = ob.sample("kaiming_normal", d=[2, 5, 10], l=[5, 10], networks=1000)
    >>> ob.write_report(study, "report.html")  # doctest: +SKIP
    PosixPath('report.html')
    """
    path = Path(out)
    if path.suffix.lower() not in (".html", ".htm"):  # also keeps the study's own files
        raise ValueError(f"out = {os.fspath(out)!r}: must end in .html")
    run = None
    if isinstance(study, (str, os.PathLike)):
        from obstruction.studies.folder import load

        folder, study = study, load(study)
        run = read_run(study, folder)
    text = report_page(study, schemes=schemes, d=d, l=l, level=level, run=run)
    if path.is_dir():
        raise ValueError(f"out = {path}: is a folder, name a file in it")
    with replacing(path) as stream:
        stream.write(text.encode())
    return path
