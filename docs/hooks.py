"""What the site needs beyond MkDocs: formulas as MathML, and the pictures of ``figures/``."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import math_core
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
BESIDE_THE_DOCS = ("CITATION.cff", "figures/*.*")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[([](.*?)\\[)\]]</\1>', re.DOTALL)
"""What pymdownx.arithmatex makes of formulas: ``\\(...\\)`` in a line, ``\\[...\\]`` as a block."""


def on_files(files: Files, config: Any) -> Files:
    """Add the files beside ``docs`` that pages show and link to."""
    for pattern in BESIDE_THE_DOCS:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links out of ``docs``, right for a reader of the repository, lead to their copies."""
    if page.file.generated_by or page.file.src_uri.startswith("api/"):
        return markdown
    return re.sub(r"\]\(\.\./(figures/|CITATION\.cff)", r"](\1", markdown)


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Write formulas as MathML, which browsers show without any script."""
    converter = math_core.LatexToMathML()

    def mathml(found: re.Match[str]) -> str:
        latex, block = html.unescape(found[2]).strip(), found[1] == "div"
        try:
            formula = converter.convert_with_local_state(latex, displaystyle=block)
        except math_core.LatexError as error:
            raise PluginError(f"{page.file.src_uri}: {latex}: {error}") from None
        return f'<div class="formula">{formula}</div>' if block else formula

    return FORMULA.sub(mathml, content)
