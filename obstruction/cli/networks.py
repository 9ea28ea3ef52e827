"""The commands ``audit``, ``repair`` and ``inspect``, which are about a single network."""

from __future__ import annotations

from typing import Any

import click

from obstruction.cli.base import (
    EXIT_FINDINGS,
    EXIT_NOTHING,
    cli,
    complain,
    echo_table,
    read_options,
)
from obstruction.cli.factories import factory_options, is_import_path
from obstruction.tools.words import listed

DEFAULT_MAX = 10


def _count(name: str, text: str | None, least: int = 0) -> int | None:
    from obstruction.tools.parsing import parse_count

    return None if text is None else parse_count(name, text, least=least)


@cli.command()
@click.argument("file", metavar="FILE|PACKAGE.MODULE:FACTORY")
@factory_options
@read_options
@click.option(
    "--scheme",
    default="auto",
    metavar="NAME[:OPTION=VALUE,...]",
    help="The initialisation to compare with; auto: recognised from the weights; none: do not "
    "compare. [default: auto]",
)
@click.option(
    "--rtol",
    type=float,
    default=1e-6,
    metavar="TOLERANCE",
    help="Balances within this share of the weights count as zero. [default: 1e-6]",
)
@click.option(
    "--format",
    "form",
    default="table",
    metavar="table|json|csv",
    help="table: for people; json: everything, see docs/audit.md; csv: the neurons. "
    "[default: table]",
)
@click.option(
    "--fail-on",
    default="pathological",
    metavar="pathological|boundary|degenerate|never",
    help="What makes the exit code 1: frozen weights; these or undecided ones; these or, in code "
    "that is run, dead layers and equal neurons; nothing. "
    "[default: pathological]",
)
@click.option(
    "--max",
    "most",
    metavar="N",
    help=f"List at most N neurons, worst first. [default: {DEFAULT_MAX} in a table, else all]",
)
@click.option(
    "--positive",
    metavar="M",
    help="Also fail if a target with M positive output weights is cut off.",
)
@click.option(
    "--negative",
    metavar="M",
    help="Also fail if a target with M negative output weights is cut off.",
)
@click.option("--verbose", is_flag=True, help="Of code that is run: show every law and finding.")
def audit(
    file: str,
    scheme: str,
    rtol: float,
    form: str,
    fail_on: str,
    most: str | None,
    positive: str | None,
    negative: str | None,
    call: tuple[str, ...],
    inputs: tuple[str, ...],
    loss: str | None,
    seed: str | None,
    verbose: bool,
    **said: Any,
) -> int:
    """Tell which weights of a network are frozen.

    Reads .safetensors, .pt, .pth, .ckpt, .pt2, .npz, .eqx, .onnx, .keras, .weights.h5 and .h5 files
    without their frameworks and without executing anything in them. A model in several files is
    given by its index (*.index.json) or by the folder that holds it.

    With package.module:factory and --inputs, your own code is run: the module is imported (also
    from the current folder), the factory is called, and the model that it returns is run, so that
    its conservation laws are found whatever its architecture is. An ONNX file is run with --inputs,
    or if it is no chain of fully connected layers; pip install 'obstruction[onnx-run]' allows it.

    Exits with 0 if all is well, 1 with findings, 2 if the file cannot be read (safely) or must be
    told more about, or if the code fails, 3 if it holds nothing that could be audited, or only a
    part could be judged.
    """
    from obstruction.auditing.audit import audit as examine
    from obstruction.auditing.live.law_report import LawReport
    from obstruction.auditing.text import report_text
    from obstruction.cli.laws import audit_code, echo_report
    from obstruction.conservation.live.onnx_files import is_onnx
    from obstruction.models import NothingAuditable
    from obstruction.tools.checks import check_choice

    check_choice("format", form, ("table", "json", "csv"))
    check_choice("fail-on", fail_on, ("pathological", "boundary", "degenerate", "never"))
    graph = is_onnx(file)
    if is_import_path(file) or (graph and (inputs or call or loss or seed)):
        told = {**said, "max": most, "positive": positive, "negative": negative}
        told["scheme"] = None if scheme == "auto" else scheme
        _refuse(told, "is about files; a model that is run needs no more than --inputs")
        return audit_code(
            file,
            call=call,
            inputs=inputs,
            loss=loss,
            seed=seed,
            rtol=rtol,
            form=form,
            fail_on=fail_on,
            verbose=verbose,
        )
    live = {"inputs": inputs, "call": call, "loss": loss, "seed": seed, "verbose": verbose}
    live["fail-on"] = fail_on if fail_on == "degenerate" else None
    if not graph:
        _refuse(live, "is about what is run, and FILE is neither package.module:factory nor .onnx")
    limit = _count("max", most)
    needed = {
        "positive": _count("positive", positive) or 0,
        "negative": _count("negative", negative) or 0,
    }
    try:
        report = examine(file, scheme=None if scheme == "none" else scheme, rtol=rtol, **said)
    except NothingAuditable as error:
        complain(str(error))
        return EXIT_NOTHING
    if isinstance(report, LawReport):
        told = {"max": most, "positive": positive, "negative": negative}
        _refuse(told, "is about chains of layers, and this file is none")
        return echo_report(report, form=form, fail_on=fail_on, verbose=verbose)
    reached = report.reaches(**needed) if any(needed.values()) else True
    if form == "json":
        click.echo(report.to_json(neurons=limit))
    elif form == "csv":
        table = report.neurons if limit is None else report.worst(limit)
        click.echo(table.to_csv(index=False), nl=False)
    else:
        click.echo(report_text(report, most=DEFAULT_MAX if limit is None else limit))
        if any(needed.values()):
            wanted = listed(f"{count} {sign}" for sign, count in needed.items() if count)
            word = "within" if reached else "OUT OF"
            click.echo(f"A target with at least {wanted} output weights is {word} reach.")
    bad = {"pathological": ("obstructed",), "boundary": ("obstructed", "boundary")}
    bad["degenerate"] = bad["boundary"]
    found = fail_on != "never" and (
        report.verdict in bad[fail_on] or not report.learns or not reached
    )
    return EXIT_FINDINGS if found else 0


def _refuse(options: dict[str, Any], reason: str) -> None:
    """Raise ValueError if an option was given that does not go together with the source."""
    for name, value in options.items():
        if value:
            shown = "" if value is True else f" {value if isinstance(value, str) else value[0]}"
            raise ValueError(f"--{name}{shown}: {reason}")


@cli.command()
@click.argument("file")
@click.option("--out", metavar="FILE", help="Where the repaired network goes, in the same format.")
@click.option(
    "--margin",
    type=float,
    default=0.1,
    metavar="SHARE",
    help="By how much incoming norms shall exceed outgoing ones. [default: 0.1]",
)
@click.option(
    "--scope",
    default="all",
    metavar="all|frozen",
    help="Which neurons: all, or only those with a single outgoing weight. [default: all]",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done and write nothing.")
@click.option("--overwrite", is_flag=True, help="Replace the file --out names if it is there.")
@read_options
def repair(
    file: str,
    out: str | None,
    margin: float,
    scope: str,
    dry_run: bool,
    overwrite: bool,
    **said: Any,
) -> int:
    """Rescale neurons so that none is frozen.

    The network computes the same function before and after.

    Every neuron's incoming weights and bias are multiplied by a factor and its outgoing weights
    divided by it, until each incoming norm is larger than the outgoing one by the margin. Exit
    codes are those of audit; repaired or nothing to repair is 0.
    """
    from pathlib import Path

    from obstruction.auditing.repair.repair import find_repair, write_repair
    from obstruction.models import NothingAuditable, ReadOptions, check_target
    from obstruction.tools.progress import Bar

    if out is None and not dry_run:
        raise click.UsageError("give --out FILE, or --dry-run to write nothing")
    if out is not None and not dry_run and not overwrite and Path(out).exists():
        raise ValueError(f"out = {out}: is there already; --overwrite replaces it")
    if out is not None:
        check_target(file, out)
    told = ReadOptions(**said)
    try:
        with Bar(None, unit=" iterations") as bar:
            found = find_repair(file, options=told, margin=margin, scope=scope, told=bar)
    except NothingAuditable as error:
        complain(str(error))
        return EXIT_NOTHING
    if not dry_run:
        write_repair(found, file, out=out)
    click.echo(str(found))
    if not dry_run:
        click.echo(f"Written to {out}.")
    return 0


@cli.command()
@click.argument("file")
@read_options
def inspect(file: str, **said: Any) -> int:
    """Show the tensors and layers in a weight file.

    If the file does not say all that is needed, the missing option is named.
    """
    from obstruction.models import NothingAuditable, ReadOptions, read_contents, resolve

    found = read_contents(file)
    click.echo(f"{file}: {found.format}, {len(found.tensors):,} tensors")
    rows = [("tensor", "shape", "type")]
    for name, tensor in found.tensors.items():
        rows.append((name, " x ".join(map(str, tensor.shape)) or "scalar", tensor.dtype))
    echo_table(*rows)
    for note in found.notes:
        click.echo(note)
    click.echo()
    try:
        model = resolve(found, ReadOptions(**said))
    except NothingAuditable as error:
        click.echo(str(error))
        return 0
    except ValueError as error:
        click.echo(f"Layers cannot be told yet: {error}")
        return 0
    links = [None, *model.links][: len(model.layers)]
    lines = [("layer", "inputs", "outputs", "bias", "stored", "before it")]
    for layer, link in zip(model.layers, links, strict=True):
        before = "" if link is None else link.activation if link.reason is None else link.reason
        sizes = (f"{layer.inputs:,}", f"{layer.outputs:,}")
        bias = "-" if layer.bias is None else "yes"
        lines.append((layer.name, *sizes, bias, layer.layout, before))
    if model.layers:
        echo_table(*lines)
    for name, reason in model.skipped:
        click.echo(f"not a layer: {name} ({reason})")
    if len(model.layers) < 2:
        click.echo("There is no chain of fully connected layers.")
    return 0
