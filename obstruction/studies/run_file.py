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
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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

FORMAT: Final = 2
"""The version of the description's format."""


# --- writing -------------------------------------------------------------------------------


def describe(study: Study, agreement: Agreement | None = None) -> bytes:
    """Return the description of a study as JSON.

    Parameters
    ----------
    study : Study
    agreement : Agreement, optional
        The verdict to record.
    """
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
        "done": [list(piece) for piece in study.done],
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


def digest(study: Study) -> str:
    """Return a checksum of what was sampled and of all counts and estimates.

    It tells whether a description and the counts beside it belong to the same study.
    """
    config, counts, rare = study.config, study.counts, study.rare
    sampled = [
        [scheme.label for scheme in config.schemes],
        config.d,
        config.l,
        config.seed,
        config.plan,
        counts.networks,
        study.estimator,
        study.samples,
    ]
    checksum = hashlib.sha256(json.dumps(sampled).encode())
    for array in (counts.obstructed, counts.pathological):
        checksum.update(np.ascontiguousarray(array, "<i8").tobytes())
    if rare is not None:
        checksum.update(np.packbits(rare.where).tobytes())
        for field in dataclasses.fields(rare.estimate):
            values = np.asarray(getattr(rare.estimate, field.name), "<f8") + 0.0  # turns -0.0 to 0
            checksum.update(np.where(np.isnan(values), np.nan, values).tobytes())
    return checksum.hexdigest()


# --- reading -------------------------------------------------------------------------------


class Damage(ValueError):
    """An entry of a description that `describe` cannot have written.

    Attributes
    ----------
    entry : str
        The name of the entry, or "" if the fault is not in a single entry.
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


@dataclass(frozen=True)
class Description:
    """Everything about a study but its counts.

    Attributes
    ----------
    config : StudyConfig
    networks : int
        The number of networks that were counted per cell.
    others : dict
        The further arguments of `Study`, except counts and estimates.
    digest : str
        The checksum of the study.
    """

    config: StudyConfig
    networks: int
    others: dict[str, Any]
    digest: str

    def study(self, counts: Counts, rare: RareEstimates | None) -> Study:
        """Return the study with its counts and estimates.

        Raises
        ------
        Damage
            If they are not those of the study that was described.
        """
        study = Study(self.config, counts, rare=rare, **self.others)
        if digest(study) != self.digest:
            raise Damage("digest", "its checksum does not fit: configuration or counts changed")
        return study


def read_run(path: Path) -> tuple[Any, str]:
    """Return the content of a ``run.json``, and its text.

    Raises
    ------
    ValueError
        If the file cannot be read or holds no JSON.
    """
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


def understand(entries: Any) -> Description:
    """Return the description that `describe` wrote as JSON.

    Raises
    ------
    Damage
        If an entry is missing or has a value that no study has.
    """
    if not isinstance(entries, dict):
        raise Damage("", "is not a JSON object")

    def entry(name: str, read: Callable[[Any], Any]) -> Any:
        if name not in entries:
            raise Damage("", f"{name!r} is missing")
        try:
            return read(entries[name])
        except KeyError as error:
            raise Damage(name, f"{name}: {error} is missing") from None
        except (TypeError, ValueError, OverflowError) as error:
            why = str(error)
            raise Damage(name, why if name in why else f"{name}: {why}") from None

    entry("format", _known_format)
    entry("block", _known_block)
    config = StudyConfig(
        entry("schemes", lambda schemes: as_schemes([_scheme(one) for one in schemes])),
        entry("d", lambda sizes: check_axis("d", sizes)),
        entry("l", lambda sizes: check_axis("l", sizes)),
        entry("seed", check_seed),
        entry("plan", lambda plan: check_choice("plan", plan, PLANS)),
    )
    networks = entry("networks", lambda count: check_count("networks", count))
    others = {
        "target": entry("networks_wanted", lambda count: check_count("networks_wanted", count)),
        "done": entry("done", lambda ranges: _ranges(ranges, networks)),
        "seconds": entry("seconds", _seconds),
        "threads": entry("threads", lambda count: check_count("threads", count)),
        "estimator": entry("estimator", lambda name: check_choice("estimator", name, ESTIMATORS)),
        "samples": entry("samples", lambda count: check_count("samples", count, least=2)),
    }
    return Description(config, networks, others, entry("digest", str))


def _known_format(number: Any) -> None:
    if number != FORMAT:
        raise ValueError(f"format = {number!r}: this version of obstruction reads format {FORMAT}")


def _known_block(size: Any) -> None:
    if size != BLOCK:
        raise ValueError(f"block = {size!r}: this version of obstruction draws blocks of {BLOCK}")


def _scheme(entry: Any) -> InitScheme:
    made = scheme(entry["name"], **entry["options"])
    if made.label != entry["label"]:
        raise ValueError(f"scheme {entry['label']!r} does not fit its options")
    return made


def _ranges(entries: Any, networks: int) -> tuple[tuple[int, int], ...]:
    """Return ascending ranges of networks that do not overlap."""
    ranges = tuple(
        (check_count("done", start, least=0), check_count("done", stop)) for start, stop in entries
    )
    ends = [end for one in ranges for end in one]
    counted = sum(stop - start for start, stop in ranges)
    if ends != sorted(ends) or counted != networks:
        raise ValueError(f"done = {entries}: must be ascending ranges of {networks:,} networks")
    return ranges


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not 0.0 <= seconds < math.inf:
        raise ValueError(f"seconds = {value!r}: must be a finite number of at least 0")
    return seconds
