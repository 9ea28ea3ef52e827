"""The manifest of a folder of figures: which script wrote each file, how, and its checksum.

    python scripts/manifest.py [--out figures]            # what differs; exits with 1 if anything
    python scripts/manifest.py --update [--out figures]   # after another script has written a file

``manifest.json`` has a record for every file. The run that wrote the file is known only if
``scripts/reproduce.py`` started it. Otherwise command, seed, version, date, seconds, cores and
libraries are null. They also become null if the file has changed since the run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from obstruction.tools.files import whole_file

NAME = "manifest.json"
FORMAT = 1
RUN = ("command", "seed", "version", "date", "seconds", "cores", "libraries")
"""The parts of a record that are known of files written by `scripts/reproduce.py`."""

OTHERS = {
    "benchmark.py": ("benchmark.md", "scaling.png"),
    "breast_cancer_balances.py": ("breast_cancer_balances.md",),
    "critics.py": ("critics.csv", "critics.md", "critics.pdf", "critics.png"),
    "dag_example.py": ("dag_example.pdf", "dag_example.png"),
    "dag_speed.py": ("dag_speed.md", "dag_speed.pdf", "dag_speed.png"),
    "depth_width.py": (
        "depth_width.csv",
        "depth_width.md",
        "depth_width.pdf",
        "depth_width.png",
    ),
    "drift_of_laws.py": (
        "drift_of_laws.csv",
        "drift_of_laws.md",
        "drift_of_laws.pdf",
        "drift_of_laws.png",
    ),
    "few_samples.py": (
        "few_samples.csv",
        "few_samples.md",
        "few_samples.pdf",
        "few_samples.png",
    ),
    "frameworks.py": ("frameworks.pdf", "frameworks.png"),
    "limits.py": ("limits.pdf", "limits.png"),
    "mnasnet_head.py": (
        "mnasnet_head.csv",
        "mnasnet_head.md",
        "mnasnet_head.pdf",
        "mnasnet_head.png",
    ),
    "monitor_cost.py": ("monitor_cost.md",),
    "rare.py": ("rare.pdf", "rare.png"),
    "recognition.py": ("recognition.md",),
    "repair_demo.py": ("repair_demo.png",),
    "tilted_coverage.py": ("coverage.md",),
    "unreachable.py": ("unreachable.pdf", "unreachable.png"),
    "zoo.py": ("zoo_of_laws.csv", "zoo_of_laws.md"),
}
"""Scripts that `scripts/reproduce.py` does not run, and the files they write."""

_SCRIPT_OF = {name: script for script, names in OTHERS.items() for name in names}


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the records by the names of their files; none if there is no manifest.

    Raises
    ------
    ValueError
        If the manifest is damaged or has another format.
    """
    path = folder / NAME
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"{path}: format {content['format']}: this script knows {FORMAT}")
        records = {record["file"]: record for record in content["files"]}
        if not all({"bytes", "sha256", "script", *RUN} <= set(r) for r in records.values()) or any(
            not isinstance(r["script"], str) for r in records.values()
        ):
            raise TypeError
        return records
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError(f"{path}: is damaged; delete it and write it again") from None


def write(folder: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write the records, ordered by the names of the files; all of it or nothing appears."""
    content = {"format": FORMAT, "files": sorted(records, key=lambda record: record["file"])}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with whole_file(folder / NAME) as stream:
        stream.write(text.encode())


def record(path: Path, script: str, run: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the record of a file as it is now; ``run`` has the keys `RUN`, if it is known."""
    data = path.read_bytes()
    return {
        "file": path.name,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "script": script,
        **{name: None if run is None else run[name] for name in RUN},
    }


def enter(folder: Path, names: Iterable[str], script: str, run: Mapping[str, Any]) -> None:
    """Put files that have just been written into the manifest, in place of their old records."""
    records = read(folder)
    records.update({name: record(folder / name, script, run) for name in names})
    write(folder, records.values())


def files(folder: Path) -> list[str]:
    """Return the names of the files that belong in the manifest."""
    names = {path.name for path in folder.iterdir() if path.is_file()} - {NAME}
    return sorted(name for name in names if not name.startswith("."))


def script_of(name: str) -> str | None:
    """Return the script that writes a file: from `OTHERS`, or the one whose name the file has."""
    script = _SCRIPT_OF.get(name, f"{name.partition('.')[0].partition('_')[0]}.py")
    return f"scripts/{script}" if (Path(__file__).parent / script).is_file() else None


def update(folder: Path) -> None:
    """Update the manifest to the files: new checksums, and no run for a file that has changed.

    Raises
    ------
    ValueError
        If the script that writes one of the files is not known.
    """
    before, now = read(folder), {}
    for name in files(folder):
        script = before[name]["script"] if name in before else script_of(name)
        if script is None:
            raise ValueError(
                f"{folder / name}: which script writes it is not known; run that by "
                "scripts/reproduce.py, or enter it into OTHERS of scripts/manifest.py"
            )
        found = record(folder / name, script)
        same = name in before and before[name]["sha256"] == found["sha256"]
        now[name] = before[name] if same else found
    write(folder, now.values())


def differences(folder: Path, scripts: Path) -> list[str]:
    """Return how a folder differs from its manifest, and which scripts are missing."""
    records, there = read(folder), set(files(folder))
    found = [f"{name}: is not in the manifest" for name in sorted(there - set(records))]
    for name, entry in sorted(records.items()):
        if name not in there:
            found.append(f"{name}: is in the manifest, but not there")
            continue
        now = record(folder / name, entry["script"])
        found += [f"{name}: other {key}" for key in ("bytes", "sha256") if now[key] != entry[key]]
        if not (scripts / Path(entry["script"]).name).is_file():
            found.append(f"{name}: {entry['script']} is missing")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="bring it to what is there")
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args(argv)
    try:
        if not options.out.is_dir():
            raise ValueError(f"out = {options.out}: is no folder")
        if options.update:
            update(options.out)
        found = differences(options.out, Path(__file__).parent)
    except ValueError as error:
        print(f"manifest: {error}", file=sys.stderr)
        return 2
    for line in found:
        print(line)
    if found:
        print("If that is meant: python scripts/manifest.py --update", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
