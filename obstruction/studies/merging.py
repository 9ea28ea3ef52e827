"""Merge studies of parts of the work into one study."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from obstruction.sampling.config import StudyConfig
from obstruction.sampling.counts import Counts
from obstruction.sampling.runner import Range
from obstruction.studies.loading import load
from obstruction.studies.run import progress_bar
from obstruction.studies.study import Study
from obstruction.tools.words import listed
from obstruction.tools.workers import resolve_threads


def merge(
    *parts: Study | str | os.PathLike[str], threads: Any = None, progress: bool = False
) -> Study:
    """Merge studies of different networks or different cells into one.

    The parts have the same schemes, grid, plan, estimator and number of weighted samples, and

    - ranges of networks that do not overlap, as ``obstruction run --shard`` draws them, or
    - different seeds, or
    - cells that do not overlap and together fill a grid, with the same seeds and networks.

    Counts of parts of one seed are those of a single run, and so is everything that follows from
    them. Weighted samples of the parts are not kept: which cells need them depends on the number of
    all networks, so that they are drawn when the parts are merged.

    Parameters
    ----------
    *parts : Study or path-like
        Studies of (d, l), or folders with such studies, which may be unfinished.
    threads : int, optional
        The number of workers that draw weighted samples. The default is the number of cores that
        this process may use.
    progress : bool
        Whether to show a bar on the terminal.

    Returns
    -------
    Study
        Its `Study.first` is that of the first part, so that networks from number 0 on make a study
        of its own. If networks between those of the parts are missing, it is not complete, and
        ``obstruction run --resume`` draws them.

    Raises
    ------
    ValueError
        If there is no part, if networks would be counted twice, if the parts do not fit together,
        or if a folder holds no study of (d, l).

    Examples
    --------
    >>> import obstruction as ob
    >>> parts = [ob.sample("kaiming_normal", d=[3], l=[5], networks=500, seed=s) for s in (0, 1)]
    >>> whole = ob.merge(*parts)
    >>> whole.networks, whole.seeds
    (1000, (0, 1))
    """
    given = [_Part.of(one, i) for i, one in enumerate(parts, start=1)]
    if not given:
        raise ValueError("parts: there is no study to merge")
    for one in given[1:]:
        _check_alike(given[0], one)
    grids: dict[Any, list[_Part]] = {}
    for one in given:
        grids.setdefault(one.grid, []).append(one)
    study = _of_cells([_of_networks(alike) for alike in grids.values()])
    workers = resolve_threads(threads)
    with progress_bar(progress, 100, unit="%") as move:
        return study.with_rare(threads=workers, watch=lambda share: move(int(100 * share)))


@dataclass(frozen=True)
class _Part:
    """A study and what it is called in messages."""

    name: str
    study: Study

    @classmethod
    def of(cls, given: Any, number: int) -> _Part:
        if isinstance(given, (str, os.PathLike)):
            name, study = os.fsdecode(given), load(given)
        else:
            name, study = f"study {number}", given
        if not isinstance(study, Study):
            kind = "a study of models" if hasattr(study, "agreement") else type(study).__name__
            raise ValueError(f"{name}: is {kind}; only studies of (d, l) are merged")
        return cls(name, study)

    @property
    def grid(self) -> Any:
        config = self.study.config
        return config.schemes, config.d, config.l

    @property
    def ranges(self) -> list[tuple[int, Range]]:
        """The networks that are counted: seeds and ranges."""
        mine = ((self.study.config.seed, self.study.done), *self.study.others)
        return [(seed, one) for seed, ranges in mine for one in ranges]


def _check_alike(one: _Part, other: _Part) -> None:
    """Raise ValueError if two studies were not made in the same way."""
    pairs = [
        ("plan", one.study.config.plan, other.study.config.plan),
        ("estimator", one.study.estimator, other.study.estimator),
        ("samples", one.study.samples, other.study.samples),
    ]
    for name, mine, theirs in pairs:
        if mine != theirs and (name != "samples" or one.study.estimator != "direct"):
            raise ValueError(
                f"{other.name}: cannot be merged with {one.name}: {name} is {mine} there and "
                f"{theirs} here"
            )


def _of_networks(parts: Sequence[_Part]) -> _Part:
    """Return the study of all networks of parts of the same grid."""
    every = sorted(
        ((*one, part.name) for part in parts for one in part.ranges), key=lambda r: r[:2]
    )
    for (seed, (_, end), name), (following, (start, stop), other) in itertools.pairwise(every):
        if seed == following and start < end:
            twice = f"{start:,} to {min(end, stop) - 1:,}"
            raise ValueError(
                f"{other}: networks {twice} of seed {seed} are in {name}, too, and would be "
                "counted twice"
            )
    joined: dict[int, list[Range]] = {}
    for seed, (start, stop), _ in every:
        ranges = joined.setdefault(seed, [])
        if ranges and ranges[-1][1] == start:
            start = ranges.pop()[0]
        ranges.append((start, stop))
    first = parts[0].study
    counts = first.counts
    for part in parts[1:]:
        counts = counts + part.study.counts
    seed, *others = sorted(joined) or [first.config.seed]
    begin, target = _wanted([part.study for part in parts], several=bool(others))
    study = Study(
        replace(first.config, seed=seed),
        counts,
        tuple(joined.get(seed, ())),
        target,
        sum(part.study.seconds for part in parts),
        max(part.study.threads for part in parts),
        first.estimator,
        first.samples,
        first=begin,
        others=tuple((one, tuple(joined[one])) for one in others),
    )
    return _Part(listed(part.name for part in parts), study)


def _wanted(studies: Sequence[Study], *, several: bool) -> tuple[int | None, int]:
    """Return the number of the first network, None for 0, and the number of networks wanted.

    Networks of several seeds make a study of its own, wherever they begin.
    """
    if several:
        return None, sum(one.target for one in studies)
    start = min(one.first or 0 for one in studies)
    stop = max((one.first or 0) + one.target for one in studies)
    return start or None, stop - start


def _of_cells(parts: Sequence[_Part]) -> Study:
    """Return the study of the cells of all parts, which have the same networks."""
    first = parts[0].study
    if len(parts) == 1:
        return first
    for part in parts[1:]:
        if part.ranges != parts[0].ranges:
            raise ValueError(
                f"{part.name}: has other cells than {parts[0].name} and other networks; cells are "
                "merged only if all have the same seeds and networks"
            )
    configs = [part.study.config for part in parts]
    config = StudyConfig(
        tuple(dict.fromkeys(scheme for one in configs for scheme in one.schemes)),
        tuple(sorted({d for one in configs for d in one.d})),
        tuple(sorted({l for one in configs for l in one.l})),
        first.config.seed,
        first.config.plan,
    )
    owner = np.full(config.shape, -1)
    counts = Counts.zero(config.shape)
    for number, part in enumerate(parts):
        one = part.study.config
        where = np.ix_(
            np.array([config.schemes.index(scheme) for scheme in one.schemes]),
            np.searchsorted(config.d, one.d),
            np.searchsorted(config.l, one.l),
        )
        if (twice := owner[where] >= 0).any():
            cell = _cell(one, np.argwhere(twice)[0])
            other = parts[owner[where][twice][0]].name
            raise ValueError(f"{part.name}: {cell} is in {other}, too")
        owner[where] = number
        counts.obstructed[where] = part.study.counts.obstructed
        counts.pathological[where] = part.study.counts.pathological
    if (missing := owner < 0).any():
        raise ValueError(
            f"parts: the cells fill no grid; {_cell(config, np.argwhere(missing)[0])} is missing"
        )
    return replace(
        first,
        config=config,
        counts=replace(counts, networks=first.networks),
        seconds=sum(part.study.seconds for part in parts),
        threads=max(part.study.threads for part in parts),
        target=max(part.study.target for part in parts),
    )


def _cell(config: StudyConfig, index: Any) -> str:
    k, i, j = (int(one) for one in index)
    return f"the cell {config.schemes[k].label}, d = {config.d[i]}, l = {config.l[j]}"
