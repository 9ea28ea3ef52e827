"""The command ``merge``, which makes one study of studies of its parts."""

from __future__ import annotations

import os

import click

from obstruction.cli.base import cli, exit_code, level_option, need_output


@cli.command()
@click.argument("parts", nargs=-1, required=True, metavar="FOLDER...")
@click.option(
    "--out",
    default="results",
    metavar="FOLDER",
    help="Where cells.csv, run.json and the heatmaps go. [default: results]",
)
@click.option("--overwrite", is_flag=True, help="Replace the study that the folder holds.")
@click.option("--threads", metavar="N", help="Cores to use for weighted samples. [default: all]")
@level_option
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
def merge(
    parts: tuple[str, ...],
    out: str,
    overwrite: bool,
    threads: str | None,
    level: float,
    quiet: bool,
) -> int:
    """Merge parts of a study.

    The parts are those of obstruction run --shard, runs with other seeds, or runs of the same
    networks whose cells together fill a grid. Weighted samples are drawn for the whole. Exits with
    1 if the counts disagree with the exact probabilities.
    """
    from obstruction.cli.running import check_folder, check_level, draw, echo_predecessor
    from obstruction.studies import folder
    from obstruction.studies.merging import merge
    from obstruction.tools.folder_lock import only_writer
    from obstruction.tools.parsing import parse_count

    check_level(level)
    workers = None if threads is None else parse_count("threads", threads)
    mode = "overwrite" if overwrite else "new"
    check_folder(out, mode)
    for part in parts:
        if os.path.exists(out) and os.path.exists(part) and os.path.samefile(part, out):
            raise ValueError(f"out = {out}: is one of the studies to merge; name another folder")
    if not quiet:
        need_output()
    with only_writer(out) as lock:
        check_folder(out, mode)  # another run may have ended since
        if not quiet:
            echo_predecessor(lock, out)
        study = merge(*parts, threads=workers, progress=not quiet)
        pictures = draw(study)
        agreement = study.agreement(level=level)
        files = folder.save(study, out, pictures, agreement)
    if not quiet:
        click.echo(study.describe())
        if not study.complete:
            click.echo(f"Networks are missing; obstruction run --resume --out {out} draws them.")
        click.echo(str(agreement))
        click.echo("Written: " + ", ".join(str(file) for file in files))
    return exit_code(agreement)
