"""``run.json``: how a study was made, in enough detail to repeat it, and a checksum of its counts.

The same description is part of every checkpoint.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import math
import platform
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from obstruction.sampling.config import PLANS, StudyConfig
from obstruction.sampling.counts import Counts
from obstruction.sampling.streams import BLOCK
from obstruction.schemes import InitScheme, as_schemes, scheme
from obstruction.studies.rare_cells import ESTIMATORS, RareEstimates
from obstruction.studies.study import Study
from obstruction.tools.checks import check_axis, check_choice, check_count, check_seed
from obstruction.tools.version import __version__

if TYPE_CHECKING:
    from obstruction.studies.verdict import Agreement

FORMAT: Final = 3
"""The version of the description's format."""

_WITHOUT_RANGES: Final = 2
"""The format before, which is read, too: ranges of networks were no part of its checksum."""


def describe(study: Study, agreement: Agreement | None = None) -> bytes:
    """Return the description of a study, with the verdict if there is one, as JSON."""
    config = study.config
    rate = study.networks / study.seconds if study.seconds > 0.0 else None
    entries = {
        "format": FORMAT,
        "version": __version__,
        "schemes": [
            {"label": scheme.label, "name": scheme.name, "options": dict(scheme.options)}
            for scheme in config.schemes
        ],
        "d": list(config.d),
        "l": list(config.l),
        "seed": config.seed,
        "plan": config.plan,
        "block": BLOCK,
        "estimator": study.estimator,
        "samples": study.samples,
        "networks": study.networks,
        "networks_wanted": study.target,
        "networks_from": study.first,
        "done": [list(piece) for piece in study.done],
        "merged": [
            {"seed": seed, "done": [list(piece) for piece in done]} for seed, done in study.others
        ],
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(study.seconds, 3),
        "networks_per_second": None if rate is None else round(rate, 1),
        "threads": study.threads,
        "machine": {
            "processor": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
            **{name: import_module(name).__version__ for name in ("numpy", "scipy", "numba")},
        },
        "agreement": None if agreement is None else agreement.to_dict(),
        "digest": digest(study),
    }
    return (json.dumps(entries, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def digest(study: Study, *, version: Any = FORMAT) -> str:
    """Return a checksum of a study, which tells whether counts belong to a description."""
    config, counts, rare = study.config, study.counts, study.rare
    axes = [[scheme.label for scheme in config.schemes], config.d, config.l]
    rest = [config.seed, config.plan, counts.networks, study.estimator, study.samples]
    if version != _WITHOUT_RANGES:
        rest += [study.target, study.first, study.done, study.others]
    checksum = hashlib.sha256(json.dumps([*axes, *rest]).encode())
    for array in (counts.obstructed, counts.pathological):
        checksum.update(np.ascontiguousarray(array, "<i8").tobytes())
    if rare is not None:
        checksum.update(np.packbits(rare.where).tobytes())
        for field in dataclasses.fields(rare.estimate):
            values = np.asarray(getattr(rare.estimate, field.name), "<f8") + 0.0  # turns -0.0 to 0
            checksum.update(np.where(np.isnan(values), np.nan, values).tobytes())
    return checksum.hexdigest()


class Damage(ValueError):
    """The error that `describe` cannot have written an entry of a description.

    The entry is "" if the fault is not in a single entry.
    """

    def __init__(self, entry: str, why: str) -> None:
        super().__init__(why)
        self.entry = entry

    def line(self, text: str) -> str:
        """Return where the entry stands in the text of a description, as ``", line 3"``."""
        for number, line in enumerate(text.splitlines(), start=1):
            if line.lstrip(" {").startswith(f'"{self.entry}":'):
                return f", line {number}"
        return ""


def read_run(path: Path) -> tuple[Any, str]:
    """Return the content of a ``run.json``, and its text."""
    try:
        text = path.read_bytes().decode()
        return json.loads(text), text
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: damaged ({error.msg})") from None
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {number}: damaged (is not UTF-8 text)") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{path}: damaged (is not a JSON text)") from None


CountsReader: TypeAlias = Callable[[StudyConfig, int], tuple[Counts, RareEstimates | None]]
"""A function that reads counts and estimates of a configuration and a number of networks."""


def described_study(entries: Any, read_counts: CountsReader) -> Study:
    """Return the study with the description that `describe` wrote, and with its counts.

    Raises
    ------
    Damage
        If an entry is missing or has a value that no study has, or if the counts are those of
        another study.
    """
    if not isinstance(entries, dict):
        raise Damage("", "is not a JSON object")

    def entry(name: str, read: Callable[..., Any], *allowed: Any, **limits: Any) -> Any:
        if name not in entries:
            raise Damage("", f"{name!r} is missing")
        try:
            return read(name, entries[name], *allowed, **limits)
        except KeyError as error:
            raise Damage(name, f"{name}: {error} is missing") from None
        except (TypeError, ValueError, OverflowError) as error:
            why = str(error)
            raise Damage(name, why if name in why else f"{name}: {why}") from None

    version = entry("format", _known, (FORMAT, _WITHOUT_RANGES), "reads format")
    entry("block", _known, (BLOCK,), "draws blocks of")
    config = StudyConfig(
        entry("schemes", _schemes),
        entry("d", check_axis),
        entry("l", check_axis),
        entry("seed", lambda name, seed: check_seed(seed)),
        entry("plan", check_choice, PLANS),
    )
    networks = entry("networks", check_count)
    done, first, others = entry("done", _ranges, networks), None, ()
    if version != _WITHOUT_RANGES:
        first = entry(
            "networks_from", lambda n, v: None if v is None else check_count(n, v, least=0)
        )
        others = entry("merged", _merged, config.seed, networks)
    counted = sum(
        stop - start for ranges in (done, *dict(others).values()) for start, stop in ranges
    )
    if counted != networks:
        raise Damage(
            "done", f"done = {entries['done']}: must be ascending ranges of {networks:,} networks"
        )
    settings = {
        "target": entry("networks_wanted", check_count),
        "done": done,
        "first": first,
        "others": others,
        "seconds": entry("seconds", _seconds),
        "threads": entry("threads", check_count),
        "estimator": entry("estimator", check_choice, ESTIMATORS),
        "samples": entry("samples", check_count, least=2),
    }
    expected = entry("digest", lambda name, text: text)
    counts, rare = read_counts(config, networks)
    study = Study(config, counts, rare=rare, **settings)
    if digest(study, version=version) != expected:
        raise Damage("digest", "its checksum does not fit: configuration or counts changed")
    return study


def _known(name: str, value: Any, known: tuple[int, ...], verb: str) -> int:
    if isinstance(value, bool) or value not in known:
        raise ValueError(f"{name} = {value!r}: this version of obstruction {verb} {known[0]}")
    return int(value)


def _schemes(name: str, entries: Any) -> tuple[InitScheme, ...]:
    made = [scheme(entry["name"], **entry["options"]) for entry in entries]
    for one, entry in zip(made, entries, strict=True):
        if one.label != entry["label"]:
            raise ValueError(f"scheme {entry['label']!r} does not fit its options")
    return as_schemes(made)


def _ranges(name: str, entries: Any, networks: int) -> tuple[tuple[int, int], ...]:
    """Return ascending ranges of networks that do not overlap."""
    ranges = tuple(
        (check_count(name, start, least=0), check_count(name, stop)) for start, stop in entries
    )
    ends = [end for one in ranges for end in one]
    if ends != sorted(ends) or any(start == stop for start, stop in ranges):
        raise ValueError(f"{name} = {entries}: must be ascending ranges of {networks:,} networks")
    return ranges


def _merged(
    name: str, entries: Any, seed: int, networks: int
) -> tuple[tuple[int, tuple[tuple[int, int], ...]], ...]:
    """Return further seeds and their ranges, in ascending order of the seeds."""
    found = tuple(
        (check_seed(one["seed"]), _ranges(name, one["done"], networks)) for one in entries
    )
    seeds = [seed, *(one for one, _ in found)]
    if seeds != sorted(set(seeds)):
        raise ValueError(f"{name}: must have ascending seeds above {seed}")
    return found


def _seconds(name: str, value: Any) -> float:
    seconds = float(value)
    if not 0.0 <= seconds < math.inf:
        raise ValueError(f"{name} = {value!r}: must be a finite number of at least 0")
    return seconds
