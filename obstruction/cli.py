"""The command line: parse, call, print. Every command imports what it needs when it runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from obstruction import __version__

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141

DEFAULT_SCHEMES = ("xavier_normal", "kaiming_normal")
DEFAULT_AXIS = "1:100"
DEFAULT_NETWORKS = "1e6"
DEFAULT_OUT = "results"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Exit codes: 0 all well, 1 the counts disagree with the exact values, 2 wrong use or an error,
    130 and 143 interrupted by Ctrl-C and SIGTERM, 141 nobody reads the output any more.
    """
    try:
        code = cli.main(arguments, prog_name="obstruction", standalone_mode=False)
    except click.ClickException as error:
        code = _complain(error.format_message())
    except OSError as error:
        code = _complain(f"{error.filename or 'system'}: {error.strerror or error}")
    except (ValueError, MemoryError) as error:
        code = _complain(str(error) or "out of memory")
    except (click.Abort, KeyboardInterrupt):
        _complain("interrupted")
        code = EXIT_INTERRUPTED
    sys.exit(code)


def _complain(message: str) -> int:
    click.echo(f"obstruction: {' '.join(message.split())}", err=True)
    return EXIT_USAGE


class _Commands(click.Group):
    """Commands that end quietly, and not as a disagreement, when ``| head`` has read enough."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_UNREAD


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="obstruction")
@click.pass_context
def cli(context: click.Context) -> None:
    """Tell how likely an initialisation obstructs the training of a ReLU network.

    A hidden neuron whose output weight outweighs all its input weights can never change that
    weight's sign under gradient flow. These commands sample, compute, check and draw the
    probability that a network starts with such a neuron.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _scheme_option(default: Sequence[str] | None) -> Callable[[Any], Any]:
    shown = f" [default: {' and '.join(default)}]" if default else ""
    return click.option(
        "--scheme",
        "schemes",
        multiple=True,
        metavar="NAME[:OPTION=VALUE,...]",
        required=default is None,
        help=f"An initialisation scheme; repeat for several.{shown}",
    )


_level_option = click.option(
    "--level",
    type=float,
    default=1e-3,
    metavar="RATE",
    help="How often the verdict may be a false alarm, if the formulas are right. [default: 0.001]",
)


# --- run -----------------------------------------------------------------------------------


@cli.command()
@_scheme_option(DEFAULT_SCHEMES)
@click.option("--d", "d", metavar="AXIS", help=f"Numbers of inputs. [default: {DEFAULT_AXIS}]")
@click.option(
    "--l", "l", metavar="AXIS", help=f"Numbers of hidden neurons. [default: {DEFAULT_AXIS}]"
)
@click.option(
    "--networks",
    metavar="COUNT",
    help=f"Networks to draw per cell, say 50000 or 1e6. [default: {DEFAULT_NETWORKS}]",
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
@_level_option
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
def run(
    schemes: tuple[str, ...],
    d: str | None,
    l: str | None,
    networks: str | None,
    seed: str | None,
    plan: str | None,
    threads: str | None,
    out: str,
    overwrite: bool,
    resume: bool,
    level: float,
    quiet: bool,
) -> int:
    """Sample a grid of (d, l), check it and draw it.

    For every scheme, number of inputs d and number of hidden neurons l (a cell), networks are
    drawn and the obstructed ones counted; the counts are held against the exact probabilities.
    Exits with 1 if they disagree.

    An AXIS is a list 2,3,5 or a range 1:100 or 1:100:5 (stop included) or geom:2:4096:20, which is
    20 sizes spaced evenly in their logarithm.
    """
    from obstruction.axes import parse_axis, parse_count
    from obstruction.running import run_study
    from obstruction.validation import LARGEST_SEED

    if overwrite and resume:
        raise click.UsageError("--overwrite and --resume exclude each other")
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
    return run_study(
        {name: value for name, value in given.items() if value is not None},
        defaults,
        out,
        networks=None if networks is None else parse_count("networks", networks),
        default_networks=parse_count("networks", DEFAULT_NETWORKS),
        threads=None if threads is None else parse_count("threads", threads),
        mode="overwrite" if overwrite else "resume" if resume else "new",
        level=level,
        quiet=quiet,
    )


# --- exact ---------------------------------------------------------------------------------


@cli.command()
@_scheme_option(None)
@click.option("--d", "d", required=True, metavar="AXIS", help="Numbers of inputs.")
@click.option("--l", "l", required=True, metavar="AXIS", help="Numbers of hidden neurons.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def exact(schemes: tuple[str, ...], d: str, l: str, as_json: bool) -> int:
    """Compute exact probabilities, without sampling.

    p: a given hidden neuron is pathological, its output weight outweighs its input weights.
    P: a network is obstructed, it has at least one such neuron. a: Var(output weight) / Var(hidden
    weight). Where p and P underflow to 0, their logarithms still hold; --json prints all digits.
    """
    from obstruction import exact as formulas
    from obstruction.axes import parse_axis
    from obstruction.schemes import as_schemes
    from obstruction.validation import check_axis

    chosen = as_schemes(schemes)
    d_axis, l_axis = check_axis("d", parse_axis("d", d)), check_axis("l", parse_axis("l", l))
    for scheme in chosen:
        formulas.pathological_probability(scheme, 1, 1)  # complains if there is no closed form
    rows = _exact_rows(chosen, d_axis, l_axis)
    if as_json:
        before = "["
        for row in rows:
            click.echo(before + json.dumps(row, allow_nan=False), nl=False)
            before = ",\n "
        click.echo("]")
        return 0
    widths = [
        max(len("scheme"), *(len(scheme.label) for scheme in chosen)),
        len(str(d_axis[-1])),
        len(str(l_axis[-1])),
        11,
        16,
        16,
        13,
        13,
    ]
    click.echo(_line(("scheme", "d", "l", "a", "p", "P", "log10 p", "log10 P"), widths))
    for row in rows:
        cells = [
            row["scheme"],
            str(row["d"]),
            str(row["l"]),
            "inf" if row["a"] is None else f"{row['a']:.6g}",
            f"{row['p']:.10g}",
            f"{row['P']:.10g}",
            *("-inf" if log is None else f"{log:.9g}" for log in (row["log10_p"], row["log10_P"])),
        ]
        click.echo(_line(cells, widths))
    return 0


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Align the first cell to the left and the others to the right."""
    numbers = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return " ".join([cells[0].ljust(widths[0]), *numbers])


def _exact_rows(
    schemes: Sequence[Any], d: Sequence[int], l: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Yield one row a cell, computed a line of the grid at a time."""
    import numpy as np

    from obstruction import exact as formulas

    for scheme in schemes:
        for inputs in d:
            widths = np.array(l)
            columns = {
                "a": scheme.ratio(inputs, widths),
                "p": formulas.pathological_probability(scheme, inputs, widths),
                "P": formulas.obstruction_probability(scheme, inputs, widths),
                "log10_p": formulas.log_pathological_probability(scheme, inputs, widths),
                "log10_P": formulas.log_obstruction_probability(scheme, inputs, widths),
            }
            for name in ("log10_p", "log10_P"):
                columns[name] = np.asarray(columns[name]) / np.log(10.0)
            for i, width in enumerate(l):
                values = {name: float(column[i]) for name, column in columns.items()}
                yield {
                    "scheme": scheme.label,
                    "d": inputs,
                    "l": width,
                    **{k: v if np.isfinite(v) else None for k, v in values.items()},
                }


# --- check, plot, schemes ------------------------------------------------------------------


@cli.command()
@click.argument("folder")
@_level_option
def check(folder: str, level: float) -> int:
    """Check the counts of a saved study again.

    Holds them against the exact probabilities. Exits with 1 if they disagree.
    """
    from obstruction.folder import load
    from obstruction.running import check_level, verdict

    check_level(level)
    study = load(folder)
    click.echo(study.describe())
    return verdict(study, level)


@cli.command()
@click.argument("folder")
@click.option(
    "--value",
    default=None,
    metavar="exact|empirical|zscore|log10",
    help="Draw this value alone; log10 is that of the exact one. "
    "[default: empirical, exact and z-score side by side]",
)
@click.option("--out", default=None, metavar="STEM", help="Write STEM.png and STEM.pdf.")
def plot(folder: str, value: str | None, out: str | None) -> int:
    """Draw the heatmaps of a saved study again.

    They go into its folder, as heatmap.png and heatmap.pdf or, with --value, heatmap-VALUE.png and
    heatmap-VALUE.pdf.
    """
    from obstruction.folder import load
    from obstruction.validation import check_choice

    if value is not None:
        check_choice("value", value, ("exact", "empirical", "zscore", "log10"))
    if out is None:
        stem = Path(folder) / ("heatmap" + (f"-{value}" if value else ""))
    else:
        stem = Path(out.removesuffix(".png").removesuffix(".pdf"))
        if not stem.name:
            raise ValueError(f"out = {out!r}: names no file")
    study = load(folder)
    from obstruction import heatmaps

    try:
        paths = heatmaps.save(heatmaps.figure(study.table(), value=value), stem)
    except OSError as error:
        raise ValueError(f"out = {stem}: cannot be written ({error.strerror})") from None
    for path in paths:
        click.echo(path)
    return 0


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def schemes(as_json: bool) -> int:
    """List the initialisation schemes and their options."""
    from obstruction.schemes import option_about, scheme, scheme_about, scheme_names, scheme_options

    names = scheme_names()
    if as_json:
        keys = ("var_w1", "var_w2", "a")
        listed = [
            {
                "scheme": name,
                "about": scheme_about(name),
                "law": scheme(name).hidden.law.name,
                **dict(zip(keys, scheme(name).formulas(), strict=True)),
                "options": scheme_options(name),
            }
            for name in names
        ]
        click.echo(json.dumps(listed, indent=2, ensure_ascii=False))
        return 0
    made = [scheme(name) for name in names]
    _echo_columns(
        ("scheme", "law", "σ1² = Var W1", "σ2² = Var W2", "a = σ2²/σ1²"),
        *((one.name, one.hidden.law.name, *one.formulas()) for one in made),
    )
    click.echo()
    click.echo("d inputs, l hidden neurons, one output; W1 hidden weights, W2 output weights.")
    click.echo("Options attach to the name: kaiming_normal:mode=fan_out,output_gain=0.5")
    click.echo()
    takers: dict[str, list[str]] = {}
    for name in names:
        for option in scheme_options(name):
            takers.setdefault(option, []).append(name)
    _echo_columns(
        ("option", "default", "meaning", "schemes"),
        *(
            (
                option,
                _option(scheme_options(by[0])[option]) or "as law",
                option_about(by[0], option),
                "all" if len(by) == len(names) else ", ".join(by),
            )
            for option, by in takers.items()
        ),
    )
    return 0


def _echo_columns(*rows: Sequence[str]) -> None:
    """Print rows of words with their columns aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def _option(value: str | float) -> str:
    return f"{value:g}" if isinstance(value, float) else value
