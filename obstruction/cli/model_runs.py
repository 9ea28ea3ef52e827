"""The command ``run --model``: sample a model by its own initialisation, judge it and write it."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from obstruction.cli.base import complain, exit_code, need_output
from obstruction.cli.factories import (
    current_folder,
    example_inputs,
    factory_of,
    literal,
    running,
)
from obstruction.cli.running import check_folder, check_level, echo_predecessor, verdict
from obstruction.cli.signals import code_of, signals
from obstruction.studies import folder
from obstruction.studies.factories import model_folder
from obstruction.studies.factories.architecture import SAVE_SECONDS
from obstruction.studies.factories.keeping import WrittenElsewhere
from obstruction.studies.factories.model_study import ModelStudy
from obstruction.studies.factories.model_text import command
from obstruction.tools.files import whole_file, writing_to
from obstruction.tools.folder_lock import only_writer
from obstruction.tools.parsing import parse_axis
from obstruction.tools.progress import tell

_STAGE: Final = ".obstruction-overwrite"
"""Where a study is made that replaces another one once it is complete."""

_RANGES: Final = re.compile(r"(geom:)?\d[\d:]*(,(geom:)?\d[\d:]*)*")
_NAMED: Final = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class ModelRun:
    """What ``obstruction run --model`` is asked for; None and empty ones are not given.

    Attributes
    ----------
    model : str or None
        The import path of the factory.
    call, inputs : tuple of str
        The texts of these options.
    loss : str or None
    axes : dict of str to list
        The values of the axes of the grid.
    networks, seed : int or None
    """

    model: str | None
    call: tuple[str, ...]
    inputs: tuple[str, ...]
    loss: str | None
    axes: Mapping[str, Sequence[Any]]
    networks: int | None
    seed: int | None

    @property
    def origin(self) -> dict[str, Any]:
        """What the folder keeps of the factory."""
        return {"model": self.model, "call": list(self.call), "inputs": list(self.inputs)}

    def resumed(self, held: ModelStudy, out: str) -> ModelRun:
        """Return the run with what is not given as it is in the study in a folder.

        Raises
        ------
        ValueError
            If the study there has another factory, or is not known to have any.
        """
        origin = held.origin
        if origin is None:
            if self.model is None:
                raise ValueError(
                    f"out = {out}: does not say what made its models; give --model and --inputs"
                )
            origin = self.origin
        for name, mine in (("model", self.model), ("call", list(self.call))):
            if mine and mine != origin[name]:
                theirs = _text(origin[name])
                raise ValueError(
                    f"out = {out}: holds another study: {name} is {_text(mine)} here and {theirs} "
                    "there"
                )
        return replace(
            self,
            model=origin["model"],
            call=tuple(origin["call"]),
            inputs=self.inputs or tuple(origin["inputs"]),
            loss=self.loss or held.loss,
            axes=self.axes or held.axes,
            networks=self.networks or held.networks,
            seed=held.seed if self.seed is None else self.seed,
        )

    def is_done(self, held: ModelStudy) -> bool:
        """Return whether a study has all that is asked for."""
        mine, theirs = (
            (one.networks, one.seed, one.loss, dict(one.axes)) for one in (self.study, held)
        )
        return held.complete and mine == theirs

    @property
    def study(self) -> ModelStudy:
        """The study that is asked for, without architectures."""
        assert self.networks is not None
        assert self.seed is not None
        axes = {name: tuple(values) for name, values in self.axes.items()}
        return ModelStudy((), axes, self.networks, self.seed, self.loss, self.origin)


def parse_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Return the axes of a grid with their values.

    Raises
    ------
    ValueError
        If a text is no axis or an axis is given twice.

    Examples
    --------
    >>> parse_grid(["width=8,16", "depth=1:3", "kind=relu,gelu"])
    {'width': [8, 16], 'depth': [1, 2, 3], 'kind': ['relu', 'gelu']}
    """
    axes: dict[str, list[Any]] = {}
    for text in texts:
        name, mark, values = text.partition("=")
        if not (mark and name.isidentifier() and all(values.split(","))):
            raise ValueError(f"grid = {text!r}: must be KEY=AXIS, such as width=8,16,32")
        if name in axes:
            raise ValueError(f"grid = {text!r}: {name} is given twice")
        axes[name] = _values(f"grid: {name}", values)
    return axes


def parse_keys(option: str, texts: Iterable[str]) -> dict[str, Any]:
    """Return the axes of a table of models with their values, None for all values.

    Examples
    --------
    >>> parse_keys("rows", ["width=8,16", "kind"])
    {'width': [8, 16], 'kind': None}
    """
    axes: dict[str, Any] = {}
    for text in texts:
        name, mark, values = text.partition("=")
        if name in axes:
            raise ValueError(f"{option}: {name} is given twice")
        axes[name] = _values(f"{option}: {name}", values) if mark else None
    return axes


def _values(name: str, text: str) -> list[Any]:
    """Return values that are given as a range, or as a list of literals and texts."""
    if ":" in text and _RANGES.fullmatch(text):
        return list(parse_axis(name, text))
    return [literal(value) for value in text.split(",")]


def run_model(
    wanted: ModelRun,
    out: str,
    *,
    mode: str,
    level: float,
    quiet: bool,
    checkpoint_seconds: float | None = None,
) -> int:
    """Run the command ``obstruction run --model`` and return its exit code.

    ``mode`` is "new", "overwrite" or "resume". If an argument or the folder is wrong, the function
    raises ValueError and leaves the folder as it was.
    """
    check_level(level)
    check_folder(out, mode)
    if not quiet:
        need_output()
    if mode == "resume":
        if not model_folder.holds_models(out):
            raise ValueError(f"out = {out}: holds a study of (d, l), and not of models")
    else:
        _need_inputs(wanted)
    with signals(), only_writer(out) as lock, current_folder():
        check_folder(out, mode)  # another run may have ended since
        if mode == "resume":
            held = model_folder.load_models(out)
            wanted = wanted.resumed(held, out)
            if wanted.is_done(held) and not _missing(held, out):
                if not quiet:
                    click.echo(str(held))
                    already = f"{out} holds these {held.networks:,} draws already"
                    click.echo(f"{already}; nothing to draw.")
                return verdict(held, level, quiet)
        _need_inputs(wanted)
        inputs = _inputs(wanted)
        if not quiet:
            echo_predecessor(lock, out)
        place = folder.prepare(out)
        replaced = mode == "overwrite" and folder.holds_study(out)
        target = place / _STAGE if replaced else place
        run = _Drawing(wanted, inputs, target, quiet, checkpoint_seconds)
        files: list[Path] = []
        complaint = ""
        try:
            try:
                study = run.study()
                _draw(study, target)
                files = _finish(target, place)
            except WrittenElsewhere as error:
                study, complaint = error.study, str(error)
        except KeyboardInterrupt as signalled:
            complain(f"interrupted; {_what_is_kept(wanted, target, out, rescued=run.told)}")
            return code_of(signalled)
        except ValueError as error:  # such as one that the factory raises
            if not _saved(target):
                raise
            kept = _what_is_kept(wanted, target, out, rescued=run.told)
            raise ValueError(f"{error}; {kept}") from error
    agreement = study.agreement(level=level)
    if not quiet:
        click.echo(str(study))
        click.echo(str(agreement))
        if files:
            click.echo("Written: " + ", ".join(map(str, files)))
    if complaint:
        raise ValueError(complaint)
    return exit_code(agreement)


def _need_inputs(wanted: ModelRun) -> None:
    if not wanted.inputs:
        raise click.UsageError(
            f"{wanted.model} is code to run: give the shape of its inputs, such as --inputs 3,64,64"
        )


def _factory(wanted: ModelRun) -> partial[Any]:
    assert wanted.model is not None
    factory = factory_of(wanted.model, wanted.call)
    for name in wanted.axes:
        if name in factory.keywords:
            raise ValueError(f"grid: {name} is given by --call already")
    return factory


def _inputs(wanted: ModelRun) -> Any:
    """Return example inputs, or a function of the values of the axes if these occur in them."""
    assert wanted.seed is not None
    seed = wanted.seed
    named = {name for text in wanted.inputs for name in _NAMED.findall(text)}
    if not named:
        return example_inputs(wanted.inputs, seed=seed)
    for name in sorted(named):
        if name not in wanted.axes:
            raise ValueError(f"inputs: {{{name}}} is no axis; --grid {name or 'KEY'}=... makes one")

    def of_cell(**cell: Any) -> Any:
        texts = [_NAMED.sub(lambda found: str(cell[found[1]]), text) for text in wanted.inputs]
        return example_inputs(texts, seed=seed)

    of_cell(**{name: values[0] for name, values in wanted.axes.items()})
    return of_cell


class _Drawing:
    """The drawing of a study in its folder, which it continues.

    A study that shall replace another one is begun again if it cannot be continued.
    """

    def __init__(
        self, wanted: ModelRun, inputs: Any, target: Path, quiet: bool, seconds: float | None
    ) -> None:
        self._wanted, self._inputs, self._target = wanted, inputs, target
        self._quiet = quiet
        self._seconds = SAVE_SECONDS if seconds is None else seconds
        self.told = False

    def study(self) -> ModelStudy:
        """Return the study."""
        target, factory = self._target, _factory(self._wanted)
        if target.name == _STAGE and target.exists():
            with contextlib.suppress(ValueError):
                if model_folder.load_models(target).origin == self._wanted.origin:
                    return self._drawn(factory)
            shutil.rmtree(target)
        return self._drawn(factory)

    def _drawn(self, factory: Callable[..., Any]) -> ModelStudy:
        from obstruction.studies.factories.sampling_models import sampled

        wanted = self._wanted

        def sample() -> ModelStudy:
            return sampled(
                factory,
                inputs=self._inputs,
                networks=wanted.networks,
                seed=wanted.seed,
                grid=wanted.axes or None,
                loss=wanted.loss,
                out=self._target,
                progress=not self._quiet,
                origin=wanted.origin,
                tell=self._tell,
                keep_seconds=self._seconds,
            )

        study: ModelStudy = running(sample)
        return study

    def _tell(self, line: str) -> None:
        self.told = True
        tell(f"obstruction: {line}")


def _missing(study: ModelStudy, out: str) -> bool:
    """Return whether a folder lacks a file of its study."""
    from obstruction.reporting.sources import can_be_drawn

    pictures = folder.PICTURES if can_be_drawn(study) else ()
    names = (model_folder.CELLS, model_folder.LAWS, *pictures)
    return not all((Path(out) / name).exists() for name in names)


def _draw(study: ModelStudy, target: Path) -> None:
    """Write the heatmaps of a grid that can be drawn."""
    from obstruction.reporting.sources import can_be_drawn

    if not can_be_drawn(study):
        return
    from obstruction.reporting import heatmaps

    figure = heatmaps.figure(study.table(), axes=tuple(study.axes))
    with writing_to(target):
        for name in folder.PICTURES:
            stream = io.BytesIO()
            heatmaps.write(figure, stream, kind=name.rpartition(".")[2])
            with whole_file(target / name) as file:
                file.write(stream.getvalue())
    figure.clear()


def _finish(target: Path, place: Path) -> list[Path]:
    """Put a complete study in the place of an older one, and return its files."""
    names = (model_folder.CELLS, model_folder.LAWS, *folder.PICTURES, model_folder.RUN)
    if target != place:
        with writing_to(place):
            (target / model_folder.RUN).replace(place / model_folder.RUN)  # all is read from it
            for name in (*names[:-1], folder.CHECKPOINT):
                if (target / name).exists():
                    (target / name).replace(place / name)
                else:
                    (place / name).unlink(missing_ok=True)
            target.rmdir()
    return [place / name for name in names if (place / name).exists()]


def _saved(target: Path) -> int:
    """Return the number of draws that a folder holds."""
    with contextlib.suppress(ValueError):
        cells = model_folder.load_models(target).cells
        return sum(cell.counts.networks for cell in cells)
    return 0


def _what_is_kept(wanted: ModelRun, target: Path, out: str, *, rescued: bool) -> str:
    """Return in words what was saved before a run ended early.

    With ``rescued``, what is not saved here was told before.
    """
    saved = _saved(target)
    total = int(wanted.networks or 0)
    for values in wanted.axes.values():
        total *= len(values)
    if saved:
        again = shlex.join(["obstruction", "run", "--resume", "--out", out])
        left = "" if saved < total else ", but not all files are made yet"
        if target.name == _STAGE:
            again = command(wanted.study, "--overwrite", "--out", out)
            left += ", beside the study that they will replace"
        return f"{saved:,} of {total:,} draws are saved in {out}{left}; go on with: {again}"
    if rescued:
        return f"no draw is saved in {out}"
    return "no draw was counted yet and nothing was changed"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else " ".join(value) or "not given"
