"""Write the reference table: exact probabilities of obstruction of common initialisations.

    python scripts/table1.py [--quick] [--out figures]

Writes ``table1.tex`` (two landscape tables, four significant digits) and ``table1.md``. They cover
Xavier and Kaiming normal, and the defaults of PyTorch's ``nn.Linear`` and Keras' ``Dense``, for d
and l from 1 to 1000. Nothing is sampled, so there is no seed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import obstruction as ob
from obstruction import tables

FILES = ("table1.tex", "table1.md")
SEED = None
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
QUICK_SIZES = (1, 10, 100)
PAGES = {
    "tab:obstruction-textbook": ("xavier_normal", "kaiming_normal"),
    "tab:obstruction-frameworks": ("torch_linear", "keras_dense"),
}
"""Labels of the tables and their schemes, as many as fit on a page."""


def pages(sizes: Sequence[int] = SIZES) -> dict[str, tables.ProbabilityTable]:
    """Return the tables by label."""
    return {
        label: tables.probability_table(rows={"scheme": schemes, "d": sizes}, columns={"l": sizes})
        for label, schemes in PAGES.items()
    }


def files(sizes: Sequence[int] = SIZES) -> dict[str, str]:
    """Return the names and the contents of the files."""
    made = pages(sizes)
    latex = [table.to_latex(label=label, landscape=True) for label, table in made.items()]
    about = (
        f"Reference table, written by `python scripts/table1.py` (obstruction {ob.__version__}). "
        "To cite: [CITATION.cff](../CITATION.cff); for LaTeX: [table1.tex](table1.tex)."
    )
    if sizes != SIZES:
        short = f"Quick version: {len(sizes)} of {len(SIZES)} sizes."
        about, latex = f"{short} {about}", [f"% {short}", *latex]
    markdown = [table.to_markdown() for table in made.values()]
    return {"table1.tex": "\n".join(latex), "table1.md": "\n".join([about + "\n", *markdown])}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three sizes instead of ten")
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, text in files(QUICK_SIZES if options.quick else SIZES).items():
        (options.out / name).write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
