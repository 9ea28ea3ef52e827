"""Write the table, the page and the figure of a study of the zoo."""

from __future__ import annotations

import io
import os
from pathlib import Path

from obstruction.reporting import heatmaps
from obstruction.tools.files import whole_file, writing_to
from obstruction.wild.figure import figure
from obstruction.wild.page import page
from obstruction.wild.study import WildStudy

NAME = "wild"


def write(study: WildStudy, path: str | os.PathLike[str]) -> list[Path]:
    """Write ``wild.csv``, ``wild.md``, ``wild.png`` and ``wild.pdf``, and return their paths.

    Raises
    ------
    ValueError
        If the folder cannot be written.
    """
    folder = Path(path)
    table = study.table()
    columns = table.drop(columns=["seconds"])  # the same on every machine
    content = {
        "csv": columns.to_csv(index=False).encode(),
        "md": page(study, f"{NAME}.png").encode(),
    }
    picture = figure(table)
    for kind in ("png", "pdf"):
        stream = io.BytesIO()
        heatmaps.write(picture, stream, kind=kind)
        content[kind] = stream.getvalue()
    files = []
    with writing_to(path):
        folder.mkdir(parents=True, exist_ok=True)
        for kind, data in content.items():
            files.append(folder / f"{NAME}.{kind}")
            with whole_file(files[-1]) as stream_out:
                stream_out.write(data)
    return files
