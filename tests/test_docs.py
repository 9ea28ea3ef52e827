"""The documentation: links lead somewhere, what it shows works, the reference is complete."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import framework

import obstruction as ob
from obstruction.cli import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("figures/*.md"))]
TUTORIAL = DOCS / "tutorial.ipynb"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d[\d,.e+-]*")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return language and text of the fenced blocks of a page."""
    return FENCED.findall(page.read_text(encoding="utf-8"))


def prose(page: Path) -> str:
    """Return a page without code."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return re.sub(r"`[^`\n]*`", "`code`", FENCED.sub("", text))


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, which GitHub and MkDocs name alike."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


def sessions(page: Path) -> list[tuple[list[str], list[str]]]:
    """Return the words of each command in the console blocks of a page, and the lines it prints."""
    found: list[tuple[list[str], list[str]]] = []
    for language, text in blocks(page):
        if language == "console":
            for line in text.replace("\\\n", " ").splitlines():
                if line.startswith("$ "):
                    found.append((shlex.split(line[2:], comments=True), []))
                else:
                    found[-1][1].append(line)
    return found


# --- links ------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, TUTORIAL], ids=name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name(page)}: {target}: no such file"
        if anchor:
            assert anchor in anchors(there), f"{name(page)}: {target}: no such heading"


def test_the_site_leads_to_every_page():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = text[text.index("\nnav:") : text.index("\nvalidation:")]
    entries = re.findall(r"([\w/]+\.(?:md|ipynb))$", nav, re.MULTILINE)
    assert len(entries) == len(set(entries))
    pages = {page.relative_to(DOCS).as_posix() for page in [*DOCS.rglob("*.md"), TUTORIAL]}
    assert {entry for entry in entries if not entry.startswith("figures/")} == pages
    assert all((ROOT / entry).exists() for entry in set(entries) - pages)


# --- what pages show --------------------------------------------------------------------------

COMMANDS = [
    pytest.param(words, id=f"{name(page)}: {' '.join(words)}")
    for page in PAGES
    for words, _ in sessions(page)
    if words[0] == "obstruction"
]


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_are_spelt_right(words):
    context = cli.commands[words[1]].make_context(words[1], words[2:])
    for scheme in context.params.get("schemes", None) or ():
        ob.scheme(scheme)


@pytest.mark.parametrize("page", ["index", "getting_started", "validate"])
def test_pages_can_be_worked_through(page, command, tmp_path, monkeypatch):
    """All blocks in order, in one folder; what is printed is what is shown, up to timings."""
    import matplotlib.pyplot as plt

    from obstruction.reporting import heatmaps

    monkeypatch.setattr(heatmaps, "write", lambda figure, stream, kind: stream.write(b"picture"))
    monkeypatch.chdir(tmp_path)
    path = DOCS / f"{page}.md"
    names: dict[str, object] = {}
    shown = iter(sessions(path))
    for language, text in blocks(path):
        if language == "python":
            exec(compile(text, str(path), "exec"), names)
        for _ in range(text.count("$ obstruction ") if language == "console" else 0):
            words, lines = next(shown)
            outcome = command(*words[1:])
            assert (outcome.code in (0, 1), outcome.err) == (True, "")
            printed = [line.rstrip() for line in outcome.out.splitlines()]
            if lines and words[1] == "run":  # speed varies, and lines with it
                printed, lines = ([NUMBER.sub("#", x) for x in part] for part in (printed, lines))
            assert not lines or printed == lines
    plt.close("all")


@pytest.mark.parametrize("page", ["index", "validate"])
def test_numbers_in_comments_are_right(page):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    promised = re.findall(r"^(?:\w+ = )?(ob\..+?\)) +# (\d\.\d+)\.\.\.$", text, re.MULTILINE)
    assert promised
    for call, digits in promised:
        assert f"{eval(call, {'ob': ob}):.12f}".startswith(digits)


def test_the_entries_to_cite_are_those_of_the_package():
    ((_, shown),) = [block for block in blocks(DOCS / "cite.md") if block[0] == "bibtex"]
    assert shown.strip() == ob.tables.bibtex().strip()


# --- names of modules and files ---------------------------------------------------------------

NAMED = [ROOT / "README.md", *sorted(DOCS.rglob("*.md")), ROOT / "mkdocs.yml"]


@pytest.mark.parametrize("page", NAMED, ids=name)
def test_modules_and_files_that_pages_name_exist(page):
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"(?<![\w./])(?:obstruction|tests|scripts|figures)/[\w./]*\w/?", text)
    stale = [path for path in paths if not (ROOT / path).exists()]
    for dotted in re.findall(r"(?<![\w./])obstruction(?:\.[a-zA-Z_]\w*)+", text):
        try:
            pkgutil.resolve_name(dotted)
        except (ImportError, AttributeError):
            stale.append(dotted)
    assert stale == []


def test_the_page_for_developers_shows_the_wings_of_the_contract():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    page = DOCS / "developers.md"
    shown = blocks(page)[0][1].splitlines()
    drawn = [re.findall(r"\w+", line.replace("doors", "")) for line in shown]
    wings = [layer.split(" | ") for layer in layers]
    assert [words for words in drawn if words] == wings
    rows = re.findall(r"^\| `(\w+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert {"__main__", "tables", "design", *rows} == {wing for line in wings for wing in line}


# --- reference --------------------------------------------------------------------------------


def documented() -> set[str]:
    text = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.glob("api/*.md"))
    return set(re.findall(r"^::: (obstruction[\w.]*)$", text, re.MULTILINE))


def test_the_reference_has_every_public_name():
    assert {f"obstruction.{public}" for public in ob.__all__} <= documented()
    index = (DOCS / "api" / "index.md").read_text(encoding="utf-8")
    missing = [public for public in ob.__all__ if f"`ob.{public}`" not in index]
    assert not missing


@pytest.mark.parametrize("path", sorted(documented()))
def test_the_reference_names_what_exists(path):
    home, _, last = path.rpartition(".")
    assert hasattr(importlib.import_module(home), last)


# --- tutorial and site ------------------------------------------------------------------------


def test_the_tutorial_is_kept_with_its_outputs_and_nothing_of_the_machine():
    notebook = json.loads(TUTORIAL.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert TUTORIAL.stat().st_size < 300_000
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {
        "stream",
        "display_data",
        "execute_result",
    }
    assert all(output.get("name") != "stderr" for output in outputs)
    for output in outputs:
        data = output.get("data", {})
        data.pop("image/png", None)
        found = re.search(r"/(home|root|tmp|usr|work|Users)/|[A-Z]:\\\\|0x[0-9a-f]{6}", str(output))
        assert found is None, found
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert set(notebook["metadata"]["language_info"]) == {"name"}
    assert not any(cell["metadata"] for cell in notebook["cells"])


@pytest.mark.slow
def test_the_tutorial_runs_and_prints_what_it_shows():
    framework("nbclient")
    framework("ipykernel")
    run = [sys.executable, "scripts/tutorial.py", "--check"]
    ended = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_needs_no_other_server(tmp_path):
    for needed in ("mkdocs", "material", "mkdocstrings", "mkdocs_click", "mkdocs_jupyter"):
        framework(needed)
    run = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    ended = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    built = sorted(tmp_path.rglob("*.html"))
    assert len(built) > 20
    for page in built:
        text = page.read_text(encoding="utf-8")
        fetched = r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"(?:https?:)?//[^\"]*"
        assert re.findall(fetched, text) == []
        assert "arithmatex" not in text
        assert "Sentinel.UNSET" not in text
    for module in filter(inspect.ismodule, (getattr(ob, public) for public in ob.__all__)):
        page = tmp_path / "api" / f"{module.__name__.removeprefix('obstruction.')}.html"
        text = page.read_text(encoding="utf-8")
        assert "<blockquote>" not in text, page  # how examples without their heading end up
        for public in getattr(module, "__all__", ()):
            home = getattr(getattr(module, public), "__module__", "")
            ids = f'id="{module.__name__}.{public}"', f'id="{home}.{public}"'
            assert any(one in text for one in ids), f"{page}: {public} is missing"
    reference = "\n".join(page.read_text(encoding="utf-8") for page in (tmp_path / "api").iterdir())
    for cls in filter(inspect.isclass, (getattr(ob, public) for public in ob.__all__)):
        members = inspect.getmembers(
            cls, lambda one: inspect.isroutine(one) or hasattr(one, "func")
        )
        ours = [one for one in cls.__mro__ if one.__module__.startswith("obstruction")]
        for member, _ in members:
            if not any(member in vars(one) for one in ours):
                continue  # of a base class outside the package, as of Sequence
            shown = f'id="obstruction.{cls.__name__}.{member}"' in reference
            assert shown or member.startswith("_"), f"{cls.__name__}.{member} is missing"
    theory = (tmp_path / "theory.html").read_text(encoding="utf-8")
    assert theory.count('<div class="formula"><math display="block">') >= 12
