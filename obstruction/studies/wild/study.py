"""The study of the zoo: how often each architecture starts with a frozen sign."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from obstruction.sampling import streams
from obstruction.studies.factories.model_cell import ModelCell
from obstruction.studies.factories.model_folder import holds_study, load_models
from obstruction.studies.factories.model_study import ModelStudy
from obstruction.studies.factories.model_verdict import ModelAgreement, ModelTest
from obstruction.studies.factories.sampling_models import sample_model
from obstruction.studies.wild import ARCHITECTURES, FAMILIES, Architecture, installed_version
from obstruction.studies.wild.remedies import Remedy, keep, kept, remedy
from obstruction.tools.checks import check_count, check_probability, check_seed
from obstruction.tools.folder_lock import only_writer
from obstruction.tools.words import duration

if TYPE_CHECKING:
    import pandas as pd

OFTEN: Final = 0.01
"""The share of obstructed draws above which a change is sought."""

_VERIFIED: Final = 3
"""The fresh draws that verify a change, as a multiple of those of the study."""

STUDIES: Final = "studies"
"""The folder in which the studies of the architectures are kept."""


@dataclass(frozen=True, eq=False)
class WildStudy:
    """How often architectures of the zoo start with a frozen sign.

    Attributes
    ----------
    studies : dict of str to ModelStudy
        The study of each architecture by its name in the zoo. Exact values in them are those that
        were found from the draws.
    versions : dict of str to str
        The versions of their packages that made the draws.
    networks : int
        The number of draws of each.
    seed : int
    remedies : dict of str to Remedy
        The smallest changes for architectures that are often obstructed, if they were sought.
    """

    studies: Mapping[str, ModelStudy]
    versions: Mapping[str, str]
    networks: int
    seed: int
    remedies: Mapping[str, Remedy] = field(default_factory=dict)

    def by_hand(self) -> dict[str, tuple[float, float]]:
        """Return where an exact value was found and the zoo has one from the sizes, and both."""
        found = {}
        for name, study in self.studies.items():
            derived, (cell,) = ARCHITECTURES[name].exact, study.cells
            if derived is not None and not math.isnan(cell.exact):
                found[name] = cell.exact, derived()
        return found

    def judged(self, name: str) -> ModelStudy:
        """Return the study of an architecture with the zoo's exact value where none was found."""
        study, derived = self.studies[name], ARCHITECTURES[name].exact
        (cell,) = study.cells
        if derived is None or not math.isnan(cell.exact):
            return study
        return replace(study, cells=(replace(cell, exact=derived()),))

    def table(self) -> pd.DataFrame:
        """Return a table with a row for each architecture.

        Returns
        -------
        DataFrame
            The columns are ``architecture``, ``package`` and its ``version``, ``family``; those of
            `ModelStudy.table` from ``networks`` on; ``freezes``, the weights that are frozen most
            often; ``way``, why each draw calls the whole factory, or an empty text; ``note``, what
            differs from the architecture as shipped; the ``factor`` by which the weights
            ``scaled`` must be multiplied, with the ``exact_after`` probability and the counts
            ``networks_after`` and ``obstructed_after`` of fresh draws, all missing where no change
            was sought; and the ``seconds`` of the study. Rows are in descending order of the
            probability and then of the share.
        """
        import pandas as pd

        rows = []
        for name in self.studies:
            one, study = ARCHITECTURES[name], self.judged(name)
            (cell,) = study.cells
            (row,) = study.table().drop(columns="model").to_dict("records")
            rows.append(
                {
                    "architecture": name,
                    "package": one.package,
                    "version": self.versions[one.package],
                    "family": one.family,
                    **row,
                    "exact_share": _share(one, row["exact_share"]),
                    "freezes": freezes(study),
                    "way": cell.called,
                    "note": one.note,
                    **_changed(self.remedies.get(name)),
                    "seconds": round(cell.seconds, 1),
                }
            )
        table = pd.DataFrame(rows)
        best = table["exact"].fillna(table["empirical"])
        order = pd.DataFrame({"p": best, "share": table["share"].fillna(0.0)})
        order["largest"] = table["largest"]
        index = order.sort_values(["p", "share", "largest"], ascending=False, kind="stable").index
        return table.loc[index].reset_index(drop=True)

    def agreement(self, *, level: float = 1e-3) -> ModelAgreement:
        """Return the verdict on all exact values of all architectures together, by Holm's method.

        Parameters
        ----------
        level : float
            The probability, between 0 and 1, of the verdict "disagrees" if they are all right.
        """
        check_probability("level", level)
        p_values: list[Any] = []
        subjects: list[ModelTest] = []
        for name in self.studies:
            one = self.judged(name).agreement(level=level)
            p_values.append(np.ravel(one.p_values))
            subjects += [replace(test, place=f"{test.place} of {name}") for test in one.subjects]
        return ModelAgreement(level, np.concatenate(p_values), tuple(subjects))


def chosen(zoo: str) -> list[str]:
    """Return the names of architectures from a text: names and families, or "all".

    Raises
    ------
    ValueError
        If a part of the text is neither.
    """
    found: dict[str, None] = {}
    for part in (one.strip() for one in zoo.split(",")):
        if part == "all":
            names = list(ARCHITECTURES)
        elif part in FAMILIES:
            names = [name for name, one in ARCHITECTURES.items() if one.family == part]
        elif part in ARCHITECTURES:
            names = [part]
        else:
            raise ValueError(
                f"zoo = {part!r}: must be all, a family ({', '.join(FAMILIES)}) or the name of an "
                "architecture; obstruction wild --list shows them"
            )
        found.update(dict.fromkeys(names))
    return list(found)


def study_wild(
    names: Iterable[str],
    *,
    networks: Any = 1000,
    seed: Any = 0,
    out: str | os.PathLike[str] | None = None,
    remedies: bool = False,
    tell: Callable[[str], object] | None = None,
) -> WildStudy:
    """Sample architectures of the zoo by `sample_model`, one after another.

    Parameters
    ----------
    names : iterable of str
        Names in ``ARCHITECTURES``.
    networks : int
        The number of draws of each, >= 1.
    seed : int
        The seed, >= 0.
    out : path-like, optional
        A folder with a folder for each architecture and version of its package, as `sample_model`
        writes them. What it holds already is not drawn again.
    remedies : bool
        Whether to seek the smallest change of each architecture that has a frozen sign in more than
        1 % of its draws.
    tell : callable, optional
        Called with a line for each architecture, as soon as it is sampled.

    Returns
    -------
    WildStudy

    Raises
    ------
    ValueError
        If a name is not in the zoo, packages are missing, or a folder holds another study. The
        study of an architecture that cannot be made is named.
    """
    architectures = [_architecture(name) for name in names]
    if not architectures:
        raise ValueError("names: must hold at least one architecture")
    number, first = check_count("networks", networks), check_seed(seed)
    told = tell or (lambda line: None)
    versions = _versions(architectures)
    studies = {}
    with nullcontext() if out is None else only_writer(out):
        for one in architectures:
            place = None if out is None else Path(out) / STUDIES / _label(one, versions)
            studies[one.name] = _one(one, number, first, place, told)
        study = WildStudy(studies, versions, number, first)
        if not remedies:
            return study
        return replace(study, remedies=_remedies(architectures, study, out, told))


def _remedies(
    architectures: Iterable[Architecture],
    study: WildStudy,
    out: str | os.PathLike[str] | None,
    tell: Callable[[str], object],
) -> dict[str, Remedy]:
    """Return the changes of architectures that are often obstructed, and keep them in a folder."""
    before = {} if out is None else kept(out)
    found: dict[str, Remedy] = {}
    asked = _VERIFIED * study.networks
    for one in architectures:
        (cell,) = study.studies[one.name].cells
        if cell.counts.obstructed <= OFTEN * cell.counts.networks:
            continue
        label = _label(one, study.versions)
        held = before.get(label)
        if held is None or (held.networks_asked, held.seed) != (asked, study.seed):
            before[label] = held = remedy(one, networks=asked, seed=study.seed)
            tell(f"{one.name}: {_change(held)}")
            if out is not None:
                keep(before, out)
        found[one.name] = held
    return found


def _label(one: Architecture, versions: Mapping[str, str]) -> str:
    """Return under what the draws of an architecture are kept: another version draws afresh."""
    return f"{one.name.replace('/', '+')}@{versions[one.package]}"


def _share(one: Architecture, found: float) -> float:
    """Return the exact share that was found, or the one of the zoo."""
    return one.exact_share() if one.exact_share is not None and np.isnan(found) else found


def _change(one: Remedy) -> str:
    if math.isnan(one.factor):
        return "no factor helps"
    return (
        f"with its weights times {one.factor:.3g}, {one.obstructed:,} of {one.networks:,} draws "
        "have a frozen sign"
    )


def _changed(one: Remedy | None) -> dict[str, Any]:
    if one is None:
        return dict.fromkeys(("factor", "scaled", "exact_after"), np.nan) | dict.fromkeys(
            ("networks_after", "obstructed_after"), 0
        )
    return {
        "factor": one.factor,
        "scaled": " ".join(one.tensors),
        "exact_after": one.exact,
        "networks_after": one.networks,
        "obstructed_after": one.obstructed,
    }


def _architecture(name: str) -> Architecture:
    if name not in ARCHITECTURES:
        raise ValueError(f"names: {name!r} is not in the zoo")
    return ARCHITECTURES[name]


def _versions(architectures: Iterable[Architecture]) -> dict[str, str]:
    found = {one.package: installed_version(one.package) for one in architectures}
    missing = [package for package, version in found.items() if version is None]
    if missing:
        raise ValueError(
            f"{', '.join(missing)}: not installed; pip install 'obstruction[wild]' installs all "
            "packages of the zoo"
        )
    return {package: version for package, version in found.items() if version is not None}


def _one(
    one: Architecture, networks: int, seed: int, place: Path | None, tell: Callable[[str], object]
) -> ModelStudy:
    chosen_seed = streams.model_seed(seed, one.name, 0)  # independent of other architectures
    if place is not None and holds_study(place) and load_models(place).seed != chosen_seed:
        raise ValueError(f"seed = {seed}: {place} holds draws of another seed")
    try:
        study = sample_model(
            one.factory,
            inputs=one.inputs(),
            networks=networks if one.most is None else min(networks, one.most),
            seed=chosen_seed,
            loss=one.loss,
            out=place,
        )
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        raise ValueError(f"{one.name}: {error}") from error
    (cell,) = study.cells
    some, n = cell.counts.obstructed, cell.counts.networks
    tell(f"{one.name}: {some:,} of {n:,} draws with a frozen sign, {duration(cell.seconds)}")
    return study


def freezes(study: ModelStudy) -> str:
    """Return in words which weights of an architecture are frozen most often."""
    (cell,) = study.cells
    if not cell.sides:
        return "no weight is alone on a side of a balance"
    shares = cell.counts.weights / np.array([side.weights for side in cell.sides])
    order = sorted(
        range(len(cell.sides)), key=lambda k: (shares[k], cell.counts.largest[k]), reverse=True
    )
    side = cell.sides[order[0]]
    more = f" and {len(order) - 1} more" if len(order) > 1 else ""
    return f"{side.tensor} ({_deed(cell, order[0])} {side.weights:,} channels){more}"


def _deed(cell: ModelCell, k: int) -> str:
    words = {"read": "reads", "written": "writes", "difference": "two logits read"}
    return words.get(cell.sides[k].side, cell.sides[k].side)
