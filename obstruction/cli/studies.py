"""The commands ``run``, ``check`` and ``plot``, which are about studies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from obstruction.cli.base import cli, level_option, scheme_option
from obstruction.cli.factories import model_options

DEFAULT_SCHEMES = ("xavier_normal", "kaiming_normal")
DEFAULT_AXIS = "1:100"
DEFAULT_NETWORKS = "1e6"
DEFAULT_DRAWS = "1e4"
DEFAULT_OUT = "results"


@cli.command()
@scheme_option(DEFAULT_SCHEMES)
@click.option("--d", "d", metavar="AXIS", help=f"Numbers of inputs. [default: {DEFAULT_AXIS}]")
@click.option(
    "--l", "l", metavar="AXIS", help=f"Numbers of hidden neurons. [default: {DEFAULT_AXIS}]"
)
@click.option(
    "--networks",
    metavar="COUNT",
    help="Networks to draw per cell, say 50000 or 1e6. "
    f"[default: {DEFAULT_NETWORKS}; {DEFAULT_DRAWS} with --model]",
)
@click.option("--seed", metavar="N", help="Seed of the random numbers. [default: 0]")
@click.option(
    "--plan",
    metavar="nested|independent",
    help="nested: one large network serves all cells, fast; independent: each cell draws its own. "
    "[default: nested]",
)
@click.option(
    "--threads", metavar="N", help="Cores to use; the counts never depend on it. [default: all]"
)
@click.option(
    "--estimator",
    metavar="direct|tilted|auto",
    help="direct: count; tilted: weighted samples, for probabilities of any size; auto: count "
    "where there is enough to count, weighted samples elsewhere. [default: auto]",
)
@click.option(
    "--samples",
    metavar="COUNT",
    help="Weighted samples per cell that is not counted. [default: 20000]",
)
@click.option(
    "--shard",
    metavar="I/N",
    help="Draw the I-th of N parts of the networks, to be put together by obstruction merge.",
)
@click.option(
    "--networks-from",
    metavar="NUMBER",
    help="Draw a part whose first network has this number, to be merged with others.",
)
@model_options
@click.option(
    "--out",
    default=DEFAULT_OUT,
    metavar="FOLDER",
    help=f"Where cells.csv, run.json and the heatmaps go. [default: {DEFAULT_OUT}]",
)
@click.option("--overwrite", is_flag=True, help="Replace the study that the folder holds.")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the study that the folder holds, after an interruption or to more --networks.",
)
@click.option(
    "--checkpoint-seconds",
    type=float,
    metavar="SECONDS",
    help="Save what is counted this often during the run. [default: 30]",
)
@level_option
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
def run(
    schemes: tuple[str, ...],
    d: str | None,
    l: str | None,
    networks: str | None,
    seed: str | None,
    plan: str | None,
    threads: str | None,
    estimator: str | None,
    samples: str | None,
    shard: str | None,
    networks_from: str | None,
    model: str | None,
    grid: tuple[str, ...],
    call: tuple[str, ...],
    inputs: tuple[str, ...],
    loss: str | None,
    out: str,
    overwrite: bool,
    resume: bool,
    checkpoint_seconds: float | None,
    level: float,
    quiet: bool,
) -> int:
    """Sample a grid of (d, l) or a model, check it and draw it.

    For every scheme, number of inputs d and number of hidden neurons l (a cell), networks are
    drawn and the obstructed ones counted; the counts are held against the exact probabilities.
    Exits with 1 if they disagree.

    An AXIS is a list 2,3,5 or a range 1:100 or 1:100:5 (stop included) or geom:2:4096:20, which is
    20 sizes spaced evenly in their logarithm.

    With --model, each draw calls your factory, and the signs are counted that its balances freeze.
    """
    from obstruction.cli.running import run_study
    from obstruction.studies.factories.model_folder import holds_models
    from obstruction.tools.checks import LARGEST_SEED
    from obstruction.tools.parsing import parse_axis, parse_count

    if overwrite and resume:
        raise click.UsageError("--overwrite and --resume exclude each other")
    if checkpoint_seconds is not None and not 0.0 <= checkpoint_seconds < math.inf:
        raise ValueError(
            f"checkpoint-seconds = {checkpoint_seconds}: must be a finite number of at least 0"
        )
    how: dict[str, Any] = {
        "mode": "overwrite" if overwrite else "resume" if resume else "new",
        "level": level,
        "quiet": quiet,
        "checkpoint_seconds": checkpoint_seconds,
    }
    sizes = {"scheme": schemes, "d": d, "l": l, "plan": plan, "threads": threads}
    sizes |= {"estimator": estimator, "samples": samples}
    sizes |= {"shard": shard, "networks-from": networks_from}
    models = {"grid": grid, "call": call, "inputs": inputs, "loss": loss}
    if model is not None or (resume and holds_models(out)):
        _refuse(sizes, "is about a grid of (d, l), and not about a model")
        number = None if seed is None else parse_count("seed", seed, least=0, most=LARGEST_SEED)
        drawn = None if networks is None else parse_count("networks", networks)
        from obstruction.cli.model_runs import ModelRun, parse_grid, run_model

        if not resume:
            number = 0 if number is None else number
            drawn = drawn or parse_count("networks", DEFAULT_DRAWS)
        asked = ModelRun(model, call, inputs, loss, parse_grid(grid), drawn, number)
        return run_model(asked, out, **how)
    _refuse(models, "needs --model package.module:factory")
    given: dict[str, Any] = {"schemes": schemes or None, "plan": plan}
    given["d"] = None if d is None else parse_axis("d", d)
    given["l"] = None if l is None else parse_axis("l", l)
    given["seed"] = None if seed is None else parse_count("seed", seed, least=0, most=LARGEST_SEED)
    defaults = {
        "schemes": DEFAULT_SCHEMES,
        "d": parse_axis("d", DEFAULT_AXIS),
        "l": parse_axis("l", DEFAULT_AXIS),
        "seed": 0,
        "plan": "nested",
    }
    drawn = None if networks is None else parse_count("networks", networks)
    if resume:
        _refuse({"shard": shard, "networks-from": networks_from}, "cannot be changed by --resume")
    first, drawn = _part(shard, networks_from, drawn)
    return run_study(
        {name: value for name, value in given.items() if value is not None},
        defaults,
        out,
        networks=drawn,
        first=first,
        default_networks=parse_count("networks", DEFAULT_NETWORKS),
        threads=None if threads is None else parse_count("threads", threads),
        estimator=estimator,
        samples=None if samples is None else parse_count("samples", samples, least=2),
        **how,
    )


def _part(
    shard: str | None, networks_from: str | None, networks: int | None
) -> tuple[int | None, int | None]:
    """Return the number of the first network of a part, and of its networks; None if not asked."""
    from obstruction.tools.parsing import parse_count, parse_share

    if shard is None:
        if networks_from is None:
            return None, networks
        return parse_count("networks-from", networks_from, least=0), networks
    if networks_from is not None:
        raise click.UsageError("--shard and --networks-from exclude each other")
    number, parts = parse_share("shard", shard)
    whole = parse_count("networks", DEFAULT_NETWORKS) if networks is None else networks
    first, stop = ((number - 1) * whole // parts, number * whole // parts)
    if first == stop:
        raise ValueError(f"shard = {shard}: {whole:,} networks are too few for {parts:,} parts")
    return first, stop - first


def _refuse(options: Mapping[str, Any], why: str) -> None:
    """Raise a UsageError about the first option that is given but makes no sense."""
    for name, value in options.items():
        if value is not None and value != ():
            raise click.UsageError(f"--{name} {why}")


@cli.command()
@click.argument("folder")
@level_option
def check(folder: str, level: float) -> int:
    """Check the counts of a saved study again.

    Holds them against the exact probabilities. Exits with 1 if they disagree.
    """
    from obstruction.cli.running import check_level, verdict
    from obstruction.studies.loading import load
    from obstruction.studies.study import Study

    check_level(level)
    study = load(folder)
    click.echo(study.describe() if isinstance(study, Study) else str(study))
    return verdict(study, level)


@cli.command()
@click.argument("folder")
@click.option(
    "--value",
    default=None,
    metavar="exact|empirical|zscore|log10",
    help="Draw this value alone, or all of them with log10 of the probabilities. "
    "[default: empirical, exact and z-score side by side]",
)
@click.option("--out", default=None, metavar="STEM", help="Write STEM.png and STEM.pdf.")
def plot(folder: str, value: str | None, out: str | None) -> int:
    """Draw the heatmaps of a saved study again.

    They go into its folder, as heatmap.png and heatmap.pdf or, with --value, heatmap-VALUE.png and
    heatmap-VALUE.pdf. A study of models has a grid with two axes of whole numbers, or no heatmap.
    """
    from obstruction.studies.loading import load
    from obstruction.tools.checks import check_choice
    from obstruction.tools.files import writing_to
    from obstruction.tools.folder_lock import only_writer

    if value is not None:
        check_choice("value", value, ("exact", "empirical", "zscore", "log10"))
    if out is None:
        stem = Path(folder) / ("heatmap" + (f"-{value}" if value else ""))
    else:
        stem = Path(out.removesuffix(".png").removesuffix(".pdf"))
        if not stem.name:
            raise ValueError(f"out = {out!r}: names no file")
    from obstruction.reporting import heatmaps
    from obstruction.reporting.sources import axes_of

    whole = value == "log10"  # empirical beside exact
    inside = out is None and Path(folder).is_dir()
    with only_writer(folder) if inside else nullcontext():  # or the study may be replaced meanwhile
        study = load(folder)
        figure = heatmaps.figure(
            study.table(),
            value=None if whole else value,
            scale="log10" if whole else "linear",
            axes=axes_of(study),
        )
        with writing_to(stem):
            paths = heatmaps.save(figure, stem)
    for path in paths:
        click.echo(path)
    return 0
