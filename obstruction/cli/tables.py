"""The command ``table``, which writes tables to cite."""

from __future__ import annotations

from pathlib import Path

import click

from obstruction.cli.base import cli, scheme_option


@cli.command("table")
@click.argument("folder", required=False)
@click.option(
    "--rows",
    multiple=True,
    required=True,
    metavar="AXIS[=KEYS]",
    help="What runs along the rows: d=2,5,10 or l=1:100:5 or scheme=NAME,...; d, l or scheme alone "
    "for all that the study has; of a study of models, the axes of its grid, or model. Repeat to "
    "group, outer first.",
)
@click.option("--columns", multiple=True, metavar="AXIS[=KEYS]", help="The same for the columns.")
@click.option(
    "--value",
    metavar="exact|empirical|exact,empirical",
    help="Which values, side by side. [default: exact,empirical]",
)
@click.option("--exact", is_flag=True, help="Exact values of any sizes, without a study.")
@scheme_option(())
@click.option(
    "--digits",
    metavar="N",
    help="Significant digits of exact values, 1 to 11; never more than are accurate. [default: 4]",
)
@click.option(
    "--format",
    "format_",
    metavar="latex|markdown|html|csv|typst",
    help="What to write. [default: by the suffix of --out, or markdown]",
)
@click.option(
    "--label", metavar="NAME", help="Label, in LaTeX and Typst. [default: tab:obstruction]"
)
@click.option("--landscape", is_flag=True, help="Turn a wide table, in LaTeX (package rotating).")
@click.option("--out", metavar="FILE", help="Write a file instead of printing.")
def table(
    folder: str | None,
    rows: tuple[str, ...],
    columns: tuple[str, ...],
    value: str | None,
    exact: bool,
    schemes: tuple[str, ...],
    digits: str | None,
    format_: str | None,
    label: str | None,
    landscape: bool,
    out: str | None,
) -> int:
    """Write a table of probabilities to paste into a paper.

    Of the study in FOLDER or, with --exact, of any sizes. Estimates are rounded by their intervals,
    which stand below or beside them. LaTeX needs booktabs and siunitx; its comments hold the BibTeX
    entries to cite.
    """
    from obstruction.reporting.tables import parse_axes, probability_table
    from obstruction.tools.files import replacing
    from obstruction.tools.parsing import parse_count

    if exact == (folder is not None):
        raise click.UsageError(
            "--exact takes no FOLDER; --value exact shows the exact values of a study"
            if exact
            else "name the FOLDER of a study, or --exact for exact values without one"
        )
    if exact and value is not None:
        raise click.UsageError("--exact and --value exclude each other")
    chosen = _format(format_, out)
    shown = None if digits is None else parse_count("digits", digits)
    study, parse = None, parse_axes
    if folder is not None:
        from obstruction.cli.model_runs import parse_keys
        from obstruction.studies.factories.model_study import ModelStudy
        from obstruction.studies.loading import load

        study = load(folder)
        if isinstance(study, ModelStudy):
            parse = parse_keys
    axes = {"rows": parse("rows", rows), "columns": parse("columns", columns)}
    made = probability_table(
        study,
        rows=axes["rows"],
        columns=axes["columns"],
        schemes=schemes or None,
        values=None if value is None else value.split(","),
        digits=shown,
    )
    text = made.render(chosen, label=label, landscape=landscape)
    if out is None:
        click.echo(text, nl=False)
        return 0
    with replacing(out) as stream:
        stream.write(text.encode())
    click.echo(out)
    return 0


def _format(format_: str | None, out: str | None) -> str:
    """Return the format that the user gave, or the one that fits the name of the file."""
    from obstruction.reporting.tables import FORMATS, SUFFIXES
    from obstruction.tools.checks import check_choice

    if format_ is not None:
        return check_choice("format", format_, FORMATS)
    if out is None:
        return "markdown"
    suffix = Path(out).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"out = {out!r}: which format? say --format, or end in {', '.join(SUFFIXES)}"
        )
    return SUFFIXES[suffix]
