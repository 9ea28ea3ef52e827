"""The provenance of a study: what was sampled, how and when, and the command that repeats it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obstruction.tools.parsing import axis_text
from obstruction.tools.version import __version__
from obstruction.tools.words import counted, listed

if TYPE_CHECKING:
    from obstruction.sampling.runner import Range
    from obstruction.studies.study import Study


def recorded(study: Study, folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return the content of ``run.json`` in a folder, or None if it is not about the study.

    If a run was interrupted, the folder may still hold the file of an older study.
    """
    from obstruction.studies.folder import RUN
    from obstruction.studies.run_file import digest, read_run

    try:
        entries, _ = read_run(Path(folder) / RUN)
    except ValueError:
        return None
    same = isinstance(entries, dict) and entries.get("digest") == digest(
        study, version=entries.get("format")
    )
    return entries if same else None


def origin(study: Study, run: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Return the terms and descriptions of a study's provenance.

    The dates and the checksum are only known from the content ``run`` of its ``run.json``.
    """
    config = study.config
    _, nd, nl = config.shape
    run = run or {}
    number = f"{study.networks:,}"
    if not study.complete:
        number += f" of {study.target:,} (interrupted)"
    lines = [
        ("Inputs", f"d = {_sizes_in_words(config.d)}"),
        ("Hidden neurons", f"l = {_sizes_in_words(config.l)}"),
        ("Grid", f"{nd:,} × {nl:,} cells for each of {counted(len(config.schemes), 'scheme')}"),
        ("Networks per cell", number),
        ("Plan", f"{config.plan}: {_PLANS[config.plan]}"),
        ("Seeds" if study.others else "Seed", listed(study.seeds)),
        ("Estimator", _estimator(study)),
    ]
    if study.seconds > 0.0:
        lines.append(("Time", f"{study.seconds:,.1f} s on {counted(study.threads, 'thread')}"))
    if run:
        machine = run.get("machine", {})
        libraries = ", ".join(
            f"{name} {machine[name]}" for name in ("python", "numpy", "scipy", "numba")
            if name in machine
        )  # fmt: skip
        system = " ".join(machine[name] for name in ("system", "processor") if name in machine)
        lines += [
            ("Saved", str(run["written"]).replace("+00:00", " UTC").replace("T", " ", 1)),
            ("Software", f"obstruction {run['version']}, {libraries}; {system}"),
            ("Checksum", str(run["digest"])),
        ]
    else:
        lines += [
            ("Software", f"obstruction {__version__}"),
            ("Checksum", "none: the study is not saved in a folder"),
        ]
    return lines


def command(study: Study) -> str:
    """Return the command that samples a study again, or those of its parts and their merging."""
    drawn = ((study.config.seed, study.done), *study.others)
    every = [(seed, one) for seed, ranges in drawn for one in ranges]
    if len(every) == 1:
        return shlex.join(_sampling(study, *every[0]))
    lines = [
        shlex.join([*_sampling(study, *one), "--out", f"part-{number}"])
        for number, one in enumerate(every, start=1)
    ]
    parts = [f"part-{number}" for number in range(1, len(every) + 1)]
    return "\n".join([*lines, shlex.join(["obstruction", "merge", *parts])])


def _sampling(study: Study, seed: int, drawn: Range) -> list[str]:
    """Return the words of the command that samples a range of networks of one seed."""
    config = study.config
    words = ["obstruction", "run"]
    for scheme in config.schemes:
        words += ["--scheme", scheme.label]
    words += ["--d", axis_text(config.d), "--l", axis_text(config.l)]
    words += ["--networks", str(drawn[1] - drawn[0]), "--seed", str(seed)]
    if drawn[0] or study.first is not None:
        words += ["--networks-from", str(drawn[0])]
    words += ["--plan", config.plan, "--estimator", study.estimator]
    if study.estimator != "direct":
        words += ["--samples", str(study.samples)]
    return words


_PLANS = {
    "nested": "each network is the leading part of one large network, which serves all cells; "
    "every count is an honest binomial sample, neighbouring cells depend on each other",
    "independent": "each cell draws its own networks",
}


def _estimator(study: Study) -> str:
    samples = f"{study.samples:,} weighted samples"
    return {
        "direct": "direct: every cell is counted",
        "tilted": f"tilted: {samples} in every cell",
        "auto": f"auto: cells are counted, or get {samples} where there is too little to count",
    }[study.estimator]


def _sizes_in_words(sizes: tuple[int, ...]) -> str:
    """Return the sizes of an axis in words."""
    text = axis_text(sizes)
    if ":" in text:
        start, stop, *step = (f"{int(part):,}" for part in text.split(":"))
        return f"{start} to {stop}" + (f" in steps of {step[0]}" if step else "")
    words = [f"{size:,}" for size in sizes]
    if len(words) > 40:
        words = [*words[:20], "…", *words[-5:], f"({len(sizes)} sizes)"]
    return ", ".join(words)
