"""The command ``laws``, and the audit of models that the user's own code makes."""

from __future__ import annotations

import json
from typing import Any

import click

from obstruction.cli.base import EXIT_FINDINGS, EXIT_NOTHING, cli
from obstruction.cli.factories import (
    current_folder,
    example_inputs,
    factory_options,
    file_inputs,
    is_import_path,
    made,
    running,
)


@cli.command()
@click.argument("path")
@factory_options
@click.option("--json", "as_json", is_flag=True, help="Print every law as JSON.")
def laws(
    path: str,
    call: tuple[str, ...],
    inputs: tuple[str, ...],
    loss: str | None,
    seed: str | None,
    as_json: bool,
) -> int:
    """Print the conservation laws of a model.

    PATH is package.module:factory or an ONNX file. Your own code is run: the module is imported,
    the factory is called, and the model that it returns is run with random inputs. It may be a
    PyTorch module, a Keras model, or a pair (apply, params) of JAX. Modules in the current folder
    can be imported. An ONNX file is run as it was exported, and needs --inputs only if its shapes
    are open.
    """
    from obstruction.auditing.live.law_report import law_object
    from obstruction.conservation.finding import conservation_laws
    from obstruction.conservation.live.onnx_files import is_onnx

    if not is_onnx(path) and not is_import_path(path):
        raise ValueError(f"{path}: must be package.module:factory or an ONNX file (.onnx)")
    model, arrays, number = opened(path, call, inputs, seed)
    with current_folder():
        found = running(lambda: conservation_laws(model, arrays, loss=loss, seed=number))
    if as_json:
        content: dict[str, Any] = {
            "source": found.source,
            "framework": found.framework,
            "loss": found.loss,
            "counts": found.counts,
            "laws": [law_object(found, place) for place in range(len(found))],
        }
        click.echo(json.dumps(content, allow_nan=False, ensure_ascii=False))
    else:
        click.echo(str(found))
    return 0


def opened(
    path: str, call: tuple[str, ...], inputs: tuple[str, ...], seed: str | None
) -> tuple[Any, Any, int]:
    """Return the model behind an import path, or the path of a file, inputs, and the seed."""
    from obstruction.conservation.live.onnx_files import is_onnx
    from obstruction.tools.parsing import parse_count

    if is_onnx(path):
        if call:
            raise ValueError(f"call = {call[0]!r}: is for a factory, and {path} is a file")
        number = 0 if seed is None else parse_count("seed", seed, least=0)
        return path, file_inputs(path, inputs, seed=number), number
    if not inputs:
        raise click.UsageError(
            f"{path} is code to run: give the shape of its inputs, such as --inputs 3,64,64"
        )
    number = 0 if seed is None else parse_count("seed", seed, least=0)
    arrays = example_inputs(inputs, seed=number)
    with current_folder():
        return made(path, call, seed=number), arrays, number


def audit_code(
    path: str,
    *,
    call: tuple[str, ...],
    inputs: tuple[str, ...],
    loss: str | None,
    seed: str | None,
    rtol: float,
    form: str,
    fail_on: str,
    verbose: bool,
) -> int:
    """Audit the model behind an import path, print the report, and return the exit code."""
    from obstruction.auditing.audit import audit

    model, arrays, number = opened(path, call, inputs, seed)
    with current_folder():
        report = running(lambda: audit(model, inputs=arrays, loss=loss, seed=number, rtol=rtol))
    return echo_report(report, form=form, fail_on=fail_on, verbose=verbose)


def echo_report(report: Any, *, form: str, fail_on: str, verbose: bool) -> int:
    """Print the report about a model that was run, and return the exit code."""
    if form == "json":
        click.echo(report.to_json())
    elif form == "csv":
        click.echo(report.frozen.to_csv(index=False), nl=False)
    else:
        click.echo(report.text(verbose=verbose))
    return law_exit_code(report, fail_on)


def law_exit_code(report: Any, fail_on: str) -> int:
    """Return the exit code of the report about a live model."""
    bad = {
        "pathological": ("obstructed",),
        "boundary": ("obstructed", "boundary"),
        "degenerate": ("obstructed", "boundary", "degenerate"),
    }
    if fail_on != "never" and (not report.learns or report.verdict in bad[fail_on]):
        return EXIT_FINDINGS
    return EXIT_NOTHING if report.partial else 0
