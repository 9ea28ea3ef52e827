"""The command ``wild``, which studies real architectures."""

from __future__ import annotations

import click

from obstruction.cli.base import cli, complain, exit_code, level_option, need_output

DEFAULT_OUT = "results/wild"


@cli.command()
@click.option(
    "--zoo",
    default="all",
    metavar="NAMES",
    help="Families or architectures, separated by commas. [default: all]",
)
@click.option("--list", "listing", is_flag=True, help="Show the architectures and draw nothing.")
@click.option("--networks", default="1000", metavar="COUNT", help="Draws of each. [default: 1000]")
@click.option("--seed", default="0", metavar="N", help="Seed of the random numbers. [default: 0]")
@click.option(
    "--out",
    default=DEFAULT_OUT,
    metavar="FOLDER",
    help="Where wild.csv, wild.md, the figure and the studies go. What the folder holds already "
    f"is not drawn again. [default: {DEFAULT_OUT}]",
)
@click.option(
    "--remedies/--no-remedies",
    default=True,
    help="Whether to seek the smallest change of those that are often obstructed.",
)
@level_option
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
def wild(
    zoo: str,
    listing: bool,
    networks: str,
    seed: str,
    out: str,
    remedies: bool,
    level: float,
    quiet: bool,
) -> int:
    """Study how often real architectures start with a frozen sign.

    Models of public packages are built and initialised by their packages' own code. Their
    balances tell which signs are frozen. Counts are held against exact probabilities where there
    are any. Exits with 1 if they disagree. Needs pip install 'obstruction[wild]'.
    """
    from obstruction.studies.wild import ARCHITECTURES
    from obstruction.studies.wild.study import chosen
    from obstruction.tools.checks import LARGEST_SEED
    from obstruction.tools.folder_lock import only_writer
    from obstruction.tools.parsing import parse_count

    names = chosen(zoo)
    if listing:
        for name in names:
            one = ARCHITECTURES[name]
            click.echo(f"{one.family:<12} {name:<45} {one.version:<8} {one.note}".rstrip())
        return 0
    from obstruction.cli.running import check_level
    from obstruction.cli.signals import code_of, signals
    from obstruction.reporting.wild.writing import write
    from obstruction.studies.wild.study import study_wild

    check_level(level)
    if not quiet:
        need_output()
    number = parse_count("networks", networks)
    chosen_seed = parse_count("seed", seed, least=0, most=LARGEST_SEED)
    try:
        with signals(), only_writer(out):
            study = study_wild(
                names,
                networks=number,
                seed=chosen_seed,
                out=out,
                remedies=remedies,
                tell=None if quiet else click.echo,
            )
            files = write(study, out)
    except KeyboardInterrupt as signalled:
        complain(f"interrupted; draws are kept in {out}, and the same command goes on")
        return code_of(signalled)
    agreement = study.agreement(level=level)
    if not quiet:
        click.echo(str(agreement))
        click.echo("Written: " + ", ".join(map(str, files)))
    return exit_code(agreement)
