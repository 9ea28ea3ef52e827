"""The study of the zoo: how often each architecture starts with a frozen sign."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from obstruction.sampling import streams
from obstruction.sampling.inference.verdict import Verdict
from obstruction.studies.factories.model_study import ModelCell, ModelStudy
from obstruction.studies.factories.sampling_models import sample_model
from obstruction.tools.checks import check_count, check_probability, check_seed
from obstruction.wild import ARCHITECTURES, FAMILIES, Architecture, installed_version

if TYPE_CHECKING:
    import pandas as pd

STUDIES: Final = "studies"
"""The folder in which the studies of the architectures are kept."""


@dataclass(frozen=True, eq=False)
class WildStudy:
    """How often architectures of the zoo start with a frozen sign.

    Attributes
    ----------
    studies : dict of str to ModelStudy
        The study of each architecture by its name in the zoo.
    versions : dict of str to str
        The versions of their packages that made the draws.
    networks : int
        The number of draws of each.
    seed : int
    """

    studies: Mapping[str, ModelStudy]
    versions: Mapping[str, str]
    networks: int
    seed: int

    def by_hand(self) -> dict[str, tuple[float, float]]:
        """Return where an exact value was found and the zoo has one from the sizes, and both."""
        found = {}
        for name, study in self.studies.items():
            derived, (cell,) = ARCHITECTURES[name].exact, study.cells
            if derived is not None and any(cell.independent):
                found[name] = cell.exact, derived()
        return found

    def table(self) -> pd.DataFrame:
        """Return a table with a row for each architecture.

        Returns
        -------
        DataFrame
            The columns are ``architecture``, ``package`` and its ``version``, ``family``; those of
            `ModelStudy.table` from ``networks`` on; ``freezes``, the weights that are frozen most
            often; ``way``, why each draw calls the whole factory, or an empty text; ``note``, what
            differs from the architecture as shipped; and the ``seconds`` of the study. Rows are in
            descending order of the probability and then of the share.
        """
        import pandas as pd

        rows = []
        for name, study in self.studies.items():
            one = ARCHITECTURES[name]
            (cell,) = study.cells
            (row,) = study.table().drop(columns="model").to_dict("records")
            rows.append(
                {
                    "architecture": name,
                    "package": one.package,
                    "version": self.versions[one.package],
                    "family": one.family,
                    **row,
                    "freezes": freezes(study),
                    "way": cell.called,
                    "note": one.note,
                    "seconds": round(cell.seconds, 1),
                }
            )
        table = pd.DataFrame(rows)
        best = table["exact"].fillna(table["empirical"])
        order = pd.DataFrame({"p": best, "share": table["share"].fillna(0.0)})
        order["largest"] = table["largest"]
        index = order.sort_values(["p", "share", "largest"], ascending=False, kind="stable").index
        return table.loc[index].reset_index(drop=True)

    def agreement(self, *, level: float = 1e-3) -> Verdict:
        """Return the verdict on all exact values of all architectures together, by Holm's method.

        Parameters
        ----------
        level : float
            The probability, between 0 and 1, of the verdict "disagrees" if they are all right.
        """
        check_probability("level", level)
        parts = [study.agreement(level=level).p_values for study in self.studies.values()]
        return Verdict(level, np.concatenate([np.ravel(one) for one in parts]))


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
    progress: bool = False,
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
        A folder with a folder for each architecture, as `sample_model` writes them. What it holds
        already is not drawn again.
    progress : bool
        Whether to show which architecture is sampled.

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
    versions = _versions(architectures)
    studies = {}
    for one in architectures:
        place = None if out is None else Path(out) / STUDIES / one.name.replace("/", "+")
        studies[one.name] = _one(one, number, first, place, progress)
    return WildStudy(studies, versions, number, first)


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
    one: Architecture, networks: int, seed: int, place: Path | None, progress: bool
) -> ModelStudy:
    if progress:
        print(one.name, end=" ... ", flush=True)
    try:
        study = sample_model(
            one.factory,
            inputs=one.inputs(),
            networks=networks,
            seed=streams.model_seed(seed, one.name, 0),  # independent of other architectures
            loss=one.loss,
            out=place,
        )
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        raise ValueError(f"{one.name}: {error}") from error
    (cell,) = study.cells
    if one.exact is not None and np.isnan(cell.exact):
        study = replace(study, cells=(replace(cell, exact=one.exact()),))
    if progress:
        n, some = cell.counts.networks, cell.counts.obstructed
        print(f"{some:,} of {n:,} with a frozen sign, {cell.seconds:.1f} s", flush=True)
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
