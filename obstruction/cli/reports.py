"""The command ``report``, which writes an HTML page about a study."""

from __future__ import annotations

from pathlib import Path

import click

from obstruction.cli.base import cli, level_option, scheme_option

DEFAULT_NAME = "report.html"


@cli.command()
@click.argument("folder")
@scheme_option(())
@click.option("--d", "d", metavar="AXIS", help="Show these numbers of inputs. [default: all]")
@click.option(
    "--l", "l", metavar="AXIS", help="Show these numbers of hidden neurons. [default: all]"
)
@level_option
@click.option(
    "--out", metavar="FILE", help=f"Where the report goes. [default: {DEFAULT_NAME} in FOLDER]"
)
def report(
    folder: str,
    schemes: tuple[str, ...],
    d: str | None,
    l: str | None,
    level: float,
    out: str | None,
) -> int:
    """Write a page about a saved study.

    One HTML file that needs no network: verdict, provenance, heatmaps to look at and to point at,
    a table of the cells to sort and to search. Shows up to 100,000 cells; --scheme, --d and --l
    choose some of a larger study, while the verdict is always that of all its cells.
    """
    from obstruction.cli.running import check_level
    from obstruction.reporting.page import write_report
    from obstruction.tools.parsing import parse_axis

    check_level(level)
    chosen = {
        "d": None if d is None else list(parse_axis("d", d)),
        "l": None if l is None else list(parse_axis("l", l)),
    }
    path = write_report(
        folder,
        Path(folder) / DEFAULT_NAME if out is None else out,
        schemes=schemes or None,
        level=level,
        **chosen,
    )
    click.echo(path)
    return 0
