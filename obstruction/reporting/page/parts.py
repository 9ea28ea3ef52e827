"""The parts of which pages are made: templates that escape, programs, and the policy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib import resources
from typing import Any

from obstruction.reporting.page.pictures import base64_text


def template(name: str) -> tuple[Any, Any]:
    """Return a template, which escapes all values, and the type of text that is not escaped."""
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError:
        raise ValueError("a report needs jinja2: pip install 'obstruction[report]'") from None
    environment = Environment(
        loader=FunctionLoader(part),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name), Markup


def part(name: str) -> str:
    """Return the text of a file of this folder."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def script(text: str) -> str:
    """Return a program as it stands in the page, so that its checksum is the browser's."""
    text = "\n" + text.replace("\r\n", "\n").strip() + "\n"
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError("a program of the report holds the end of a script")
    return text


def policy(programs: Iterable[str]) -> str:
    """Return a content security policy: the page loads nothing and runs only its own programs."""
    hashes = [base64_text(hashlib.sha256(str(text).encode()).digest()) for text in programs]
    scripts = " ".join(f"'sha256-{text}'" for text in hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def as_json(value: Any) -> str:
    """Return JSON without characters that could end the script in which it stands."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
