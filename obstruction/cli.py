"""The command line: parse, call, print. Every command imports what it needs when it runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from obstruction import __version__

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

DEFAULT_SCHEMES = ("xavier_normal", "kaiming_normal")
DEFAULT_AXIS = "1:100"
DEFAULT_NETWORKS = "1e6"
DEFAULT_OUT = "results"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 well, 1 disagreement, 2 wrong use, 130 interrupted."""
    try:
        code = cli.main(arguments, prog_name="obstruction", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
        code = 0
    except click.ClickException as error:
        code = _complain(error.format_message())
    except (ValueError, MemoryError) as error:
        code = _complain(str(error) or "out of memory")
    except (click.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    sys.exit(code)


def _complain(message: str) -> int:
    click.echo(f"obstruction: {' '.join(message.split())}", err=True)
    return EXIT_USAGE


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="obstruction")
def cli() -> None:
    """Tell how likely an initialisation obstructs the training of a ReLU network.

    A hidden neuron whose output weight outweighs all its input weights can never change that
    weight's sign under gradient flow. These commands sample, compute, check and draw the
    probability that a network starts with such a neuron.
    """


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


# --- run -----------------------------------------------------------------------------------


@cli.command()
@_scheme_option(DEFAULT_SCHEMES)
@click.option("--d", "d", metavar="AXIS", help=f"Numbers of inputs. [default: {DEFAULT_AXIS}]")
@click.option(
    "--l", "l", metavar="AXIS", help=f"Numbers of hidden neurons. [default: {DEFAULT_AXIS}]"
)
@click.option(
    "--networks", metavar="COUNT", help=f"Networks per cell. [default: {DEFAULT_NETWORKS}]"
)
@click.option("--seed", metavar="N", help="Seed of the random numbers. [default: 0]")
@click.option(
    "--plan",
    metavar="nested|independent",
    help="Share networks between cells, or draw each cell its own. [default: nested]",
)
@click.option("--threads", metavar="N", help="Workers. [default: all cores]")
@click.option("--out", default=DEFAULT_OUT, show_default=True, metavar="FOLDER")
@click.option("--overwrite", is_flag=True, help="Replace the study that the folder holds.")
@click.option("--resume", is_flag=True, help="Go on with the study that the folder holds.")
@click.option("--level", default=1e-3, show_default=True, help="False-alarm rate of the verdict.")
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
    """Sample a grid of (d, l), check it against the exact values, draw it.

    An AXIS is 2,3,5 or 1:100 or 1:100:5 (stop included) or geom:2:4096:20.
    """
    from obstruction.axes import parse_axis, parse_count
    from obstruction.running import run_study

    given: dict[str, Any] = {"schemes": schemes or None, "plan": plan}
    given["d"] = None if d is None else parse_axis("d", d)
    given["l"] = None if l is None else parse_axis("l", l)
    given["seed"] = None if seed is None else _whole("seed", seed)
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
        threads=None if threads is None else _whole("threads", threads),
        mode="overwrite" if overwrite else "resume" if resume else "new",
        level=level,
        quiet=quiet,
    )


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} = {text}: must be a whole number") from None


# --- exact ---------------------------------------------------------------------------------


@cli.command()
@_scheme_option(None)
@click.option("--d", "d", required=True, metavar="AXIS", help="Numbers of inputs.")
@click.option("--l", "l", required=True, metavar="AXIS", help="Numbers of hidden neurons.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def exact(schemes: tuple[str, ...], d: str, l: str, as_json: bool) -> int:
    """Compute the exact probabilities p (of a neuron) and P (of a network), without sampling.

    a is the ratio of the variances of output and hidden weights. The logarithms do not underflow.
    """
    from obstruction.axes import parse_axis
    from obstruction.schemes import as_schemes
    from obstruction.validation import check_axis

    chosen = as_schemes(schemes)
    grid = check_axis("d", parse_axis("d", d)), check_axis("l", parse_axis("l", l))
    if as_json:
        click.echo("[", nl=False)
        for number, row in enumerate(_exact_rows(chosen, *grid)):
            click.echo((",\n " if number else "") + json.dumps(row, allow_nan=False), nl=False)
        click.echo("]")
        return 0
    width = max(len("scheme"), *(len(scheme.label) for scheme in chosen))
    click.echo(
        f"{'scheme':<{width}} {'d':>8} {'l':>8} {'a':>12} {'p':>21} {'P':>21} "
        f"{'log10 p':>14} {'log10 P':>14}"
    )
    for row in _exact_rows(chosen, *grid):
        logs = [
            f"{'-inf' if row[name] is None else format(row[name], '.9g'):>14}"
            for name in ("log10_p", "log10_P")
        ]
        click.echo(
            f"{row['scheme']:<{width}} {row['d']:>8} {row['l']:>8} {_ratio(row['a']):>12} "
            f"{row['p']:>21.14g} {row['P']:>21.14g} {logs[0]} {logs[1]}"
        )
    return 0


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


def _ratio(value: float | None) -> str:
    return "inf" if value is None else f"{value:.6g}"


# --- check, plot, schemes ------------------------------------------------------------------


@cli.command()
@click.argument("folder")
@click.option("--level", default=1e-3, show_default=True, help="False-alarm rate of the verdict.")
def check(folder: str, level: float) -> int:
    """Check a saved study against the exact values again, from its counts.

    Exits with 1 if they disagree.
    """
    from obstruction.folder import load
    from obstruction.running import verdict
    from obstruction.validation import check_probability

    check_probability("level", level)
    study = load(folder)
    click.echo(study.describe())
    return verdict(study, level)


@cli.command()
@click.argument("folder")
@click.option(
    "--value",
    default=None,
    metavar="exact|empirical|zscore|log10",
    help="Draw this value alone. [default: empirical, exact and z-score side by side]",
)
@click.option("--out", default=None, metavar="STEM", help="Write STEM.png and STEM.pdf.")
def plot(folder: str, value: str | None, out: str | None) -> int:
    """Draw the heatmaps of a saved study as PNG and PDF."""
    from obstruction.folder import load
    from obstruction.validation import check_choice

    if value is not None:
        check_choice("value", value, ("exact", "empirical", "zscore", "log10"))
    study = load(folder)
    from obstruction import heatmaps

    stem = Path(out) if out else Path(folder) / ("heatmap" + (f"-{value}" if value else ""))
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
    """List the initialisation schemes: law, variances, their ratio and the options."""
    from obstruction.schemes import scheme, scheme_names, scheme_options

    rows = []
    for name in scheme_names():
        made = scheme(name)
        variances = made.formulas()
        options = [
            key if default == "" else f"{key}={_option(default)}"
            for key, default in scheme_options(name).items()
        ]
        rows.append((name, made.hidden.law.name, *variances, ", ".join(options)))
    header = ("scheme", "law", "σ1² = Var W1", "σ2² = Var W2", "a = σ2²/σ1²", "options")
    if as_json:
        keys = ("scheme", "law", "var_w1", "var_w2", "a", "options")
        listed = [dict(zip(keys, row, strict=True)) for row in rows]
        click.echo(json.dumps(listed, indent=2, ensure_ascii=False))
        return 0
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header) - 1)]
    for row in (header, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
        click.echo("  ".join(cells).rstrip())
    click.echo()
    click.echo("d inputs, l hidden neurons, one output. Options attach to the name:")
    click.echo("  kaiming_normal:mode=fan_out,output_gain=0.5   (fan_out: a = l)")
    click.echo("Gains multiply the standard deviation of the hidden or of the output weights.")
    return 0


def _option(value: str | float) -> str:
    return f"{value:g}" if isinstance(value, float) else value
