"""Run the tutorial notebook and save its outputs, or check that they are still the same.

    python scripts/tutorial.py [--check] [docs/tutorial.ipynb]

Needs ``pip install 'obstruction[docs]'``. Texts and pictures are saved; times, paths and the
additions of a front end are not. With ``--check`` nothing is written, and the exit code is 1 if a
cell fails or prints something else than the notebook shows. Pictures are not compared, because they
depend on the version of matplotlib.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"
SHOWN = ("text/markdown", "text/html", "image/png", "text/plain")
"""The kinds of output that are saved."""
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def run(notebook: NotebookNode) -> NotebookNode:
    """Return the notebook after running all its cells.

    Raises
    ------
    CellExecutionError
        If a cell raises an error.
    """
    ran = nbformat.from_dict(notebook)
    NotebookClient(ran, timeout=300, kernel_name="python3", coalesce_streams=True).execute()
    ran.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for number, cell in enumerate(cell for cell in ran.cells if cell.cell_type == "code"):
        cell.metadata, cell.execution_count = NotebookNode(), number + 1
        for output in cell.outputs:
            if "data" in output:
                output.data = {kind: output.data[kind] for kind in SHOWN if kind in output.data}
                output.metadata = NotebookNode()
                if "execution_count" in output:
                    output.execution_count = number + 1
    return ran


def texts(notebook: NotebookNode) -> list[str]:
    """Return the texts that the cells of a notebook print and return, without pictures."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" not in data:
                found += [output.get("text", ""), data.get("text/plain", "")]
                found.append(data.get("text/markdown", ""))
    return [text for text in found if text]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path, nargs="?", default=TUTORIAL)
    parser.add_argument("--check", action="store_true", help="compare and write nothing")
    options = parser.parse_args(argv)
    kept = nbformat.read(options.notebook, as_version=4)
    try:
        ran = run(kept)
    except CellExecutionError as error:
        print(error, file=sys.stderr)
        return 1
    if not options.check:
        nbformat.write(ran, options.notebook)
        return 0
    shown, printed = ("\n".join(texts(one)).splitlines() for one in (kept, ran))
    if shown == printed:
        return 0
    print(f"{options.notebook}: its cells print something else now", file=sys.stderr)
    for line in difflib.unified_diff(shown, printed, "shown", "printed", n=1, lineterm=""):
        print(line, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
