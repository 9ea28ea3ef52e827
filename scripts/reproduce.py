"""Draw the paper's figures and the reference table again, and record what was run.

    python scripts/reproduce.py [figure2|figure3|figure4|figure5|table1|all] [--quick] [--out DIR]
    python scripts/reproduce.py figure4 -- WORDS     # WORDS go to scripts/figure4.py

Every script runs in a process of its own. The recorded command is therefore exactly the one that
ran, its memory is released at its end, and a script that fails or is killed does not end the
others. A full run writes into ``figures/`` and enters its files into ``figures/manifest.json`` with
command, seed, version, date, time and checksums. ``--quick`` runs small versions, which take a few
minutes for all, in a new temporary folder or in DIR, which must not be the committed folder. If a
script fails, the others still run and the exit code is 1. It is 2 if the command is used wrongly.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import manifest

import obstruction
from obstruction.tools.workers import available_threads

SCRIPTS = Path(__file__).resolve().parent
FIGURES = SCRIPTS.parent / "figures"
NAMES = ("figure2", "figure3", "figure4", "figure5", "table1")
LIBRARIES = ("numpy", "scipy", "numba", "pandas", "matplotlib", "scikit-learn")
"""Libraries whose versions can change the files; the versions of installed ones are recorded."""


class Failure(Exception):
    """The reason why a script did not write its files."""


def choose(words: Sequence[str]) -> list[str]:
    """Return the names of the scripts to run, in the order of `NAMES`.

    Raises
    ------
    ValueError
        If a word is not the name of a script.
    """
    allowed = (*NAMES, "all")
    for word in words:
        if word not in allowed:
            raise ValueError(f"{word!r}: must be one of {', '.join(allowed)}")
    return [name for name in NAMES if name in words or "all" in words or not words]


def place(out: Path | None, quick: bool) -> Path:
    """Return the folder to write to.

    Raises
    ------
    ValueError
        If it cannot be made, or a quick run would overwrite the files of full runs.
    """
    if out is None and quick:
        return Path(tempfile.mkdtemp(prefix="obstruction-figures-"))
    out = FIGURES if out is None else out
    if quick and out.resolve() == FIGURES:
        raise ValueError(f"--out {out}: a quick run must not replace the committed figures")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out}: is not a folder")
    if quick and not all("--quick" in (r["command"] or "") for r in manifest.read(out).values()):
        raise ValueError(f"--out {out}: a quick run must not replace files of full runs")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out {out}: cannot be made ({error.strerror})") from None
    return out


def load(path: Path) -> ModuleType:
    """Import a script, to read the names of its files and its seed."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def libraries() -> dict[str, str]:
    """Return the versions of Python and of those `LIBRARIES` that are installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def shown(path: Path) -> str:
    """Return a path relative to the root of the project, if it is inside."""
    path = path.resolve()
    root = SCRIPTS.parent
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def reproduce(name: str, out: Path, quick: bool, further: Sequence[str]) -> tuple[float, list[str]]:
    """Run one script and enter its files into the manifest; return the seconds and the files.

    Raises
    ------
    Failure
        If the script is missing, fails, or does not write the files that it names.
    """
    path = SCRIPTS / f"{name}.py"
    if not path.exists():
        raise Failure(f"{shown(path)} is missing")
    words = [*(["--quick"] if quick else []), *further]
    begun, clock = datetime.datetime.now(datetime.UTC), time.perf_counter()
    code = subprocess.run([sys.executable, path, *words, "--out", out], check=False).returncode
    seconds = time.perf_counter() - clock
    if code:
        raise Failure(f"exited with {code} after {seconds:.1f} s")
    script = load(path)
    for file in script.FILES:
        if not (out / file).is_file() or (out / file).stat().st_mtime < begun.timestamp() - 2.0:
            raise Failure(f"did not write {file}")
    run: dict[str, Any] = {
        "command": shlex.join(["python", shown(path), *words, "--out", shown(out)]),
        "seed": script.SEED,
        "version": obstruction.__version__,
        "date": begun.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "cores": available_threads(),
        "libraries": libraries(),
    }
    manifest.enter(out, script.FILES, shown(path), run)
    return seconds, list(script.FILES)


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    cut = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)} or all")
    parser.add_argument("--quick", action="store_true", help="small versions, not into figures/")
    parser.add_argument("--out", type=Path, help="folder; figures/ or, if quick, a temporary one")
    options, further = parser.parse_args(words[:cut]), words[cut + 1 :]
    try:
        names = choose(options.names)
        if further and len(names) != 1:
            raise ValueError(f"-- {shlex.join(further)}: goes to one script, so name only one")
        out = place(options.out, options.quick)
        manifest.read(out)
    except ValueError as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 2
    failed = []
    for name in names:
        print(f"{name} ...", flush=True)
        try:
            seconds, files = reproduce(name, out, options.quick, further)
            print(f"{name}: {seconds:.1f} s, {', '.join(files)}", flush=True)
        except Failure as failure:
            failed.append(name)
            print(f"{name}: FAILED, {failure}", flush=True)
        except KeyboardInterrupt:
            print(f"reproduce: interrupted in {name}", file=sys.stderr)
            return 130
    print(f"Written to {shown(out)}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
