"""What the README shows works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import framework

import obstruction as ob
from obstruction.cli import cli

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Return the lines of all blocks, and code in the text, that call the command."""
    joined = TEXT.replace("\\\n", " ")
    found = re.findall(r"^(?: {4}|\$ )(.+)$", joined, re.MULTILINE) + re.findall(
        r"`([^`\n]+)`", joined
    )
    parts = [part.strip() for line in found for part in line.split("&&")]
    return [part for part in parts if part.startswith("obstruction ")]


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_blocks_run(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "import torch" in blocks("python")[number]:
        framework("torch")
    names: dict[str, object] = {}
    exec(compile(blocks("python")[number], str(README), "exec"), names)
    if number == 0:
        assert names["study"].agreement().agrees
        assert names["W1"].shape == (names["W2"].shape[1], 3)
    if "report" in names:
        (shown,) = [block for block in blocks("text") if block.startswith("Sequential")]
        assert str(names["report"]) == shown.rstrip("\n")
        assert ob.audit(names["fixed"]).verdict == "clear"


def test_numbers_in_comments_are_right():
    promised = re.findall(r"^(ob\.exact\..+?\)) +# (-?[\d.]+)", blocks("python")[0], re.MULTILINE)
    assert promised
    for call, number in promised:
        digits = number.rstrip(".")
        value = eval(call, {"ob": ob})
        assert f"{value:.12f}".startswith(digits) or value == pytest.approx(float(digits), rel=1e-9)


def test_there_are_commands_to_check():
    assert {line.split()[1] for line in commands()} >= {"run", "check", "exact"}


@pytest.mark.parametrize("line", commands())
def test_commands_are_spelt_right(line):
    name, *words = shlex.split(line, comments=True)[1:]
    context = cli.commands[name].make_context(name, words)
    for scheme in context.params.get("schemes", None) or ():
        ob.scheme(scheme)


def test_one_line_installs_and_one_line_tests():
    lines = TEXT.splitlines()
    assert "    pip install . && obstruction run" in lines
    assert "    pip install '.[test]' && pytest" in lines


def test_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)\s]+)\)", TEXT)
    local = [target.split("#")[0] for target in targets if not target.startswith("http")]
    assert local
    missing = [target for target in local if target and not (README.parent / target).exists()]
    assert not missing


def test_the_output_shown_is_what_is_printed_now(command, tmp_path, monkeypatch):
    from obstruction.reporting import heatmaps

    monkeypatch.setattr(heatmaps, "figure", lambda table: SimpleNamespace(clear=lambda: None))
    monkeypatch.setattr(heatmaps, "write", lambda figure, stream, kind: stream.write(b"picture"))
    small = ("--d", "1:31:10", "--l", "1:31:10", "--networks", "3000", "--threads", "2")
    printed = command("run", *small, "--out", tmp_path / "a").out.splitlines()
    shown = next(block for block in blocks("text") if "AGREES" in block).splitlines()
    numbers = re.compile(r"\d[\d,.e+-]*")
    assert len(shown) == 5
    for mine, theirs in zip(shown, printed, strict=False):
        assert numbers.sub("#", mine) == numbers.sub("#", theirs)
