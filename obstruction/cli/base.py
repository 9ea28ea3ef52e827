"""The entry point, the group of commands, and options and tables that several commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

import click

from obstruction.tools.version import __version__
from obstruction.tools.words import columns, listed

EXIT_FINDINGS = 1
EXIT_USAGE = 2
EXIT_NOTHING = 3
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    The exit code is 0 if all is well, 1 if counts disagree with the exact values or a network has
    frozen weights, 2 after wrong use or an error, 3 if nothing or only a part of a network can be
    audited, 130 or 143 after Ctrl-C or SIGTERM, and 141 if the reader of the output has closed its
    pipe.
    """
    try:
        code = cli.main(arguments, prog_name="obstruction", standalone_mode=False)
    except click.ClickException as error:
        code = complain(error.format_message())
    except OSError as error:
        code = complain(f"{error.filename or 'system'}: {error.strerror or error}")
    except (ValueError, MemoryError) as error:
        code = complain(str(error) or "out of memory")
    except (click.Abort, KeyboardInterrupt):
        complain("interrupted")
        code = EXIT_INTERRUPTED
    sys.exit(code)


def complain(message: str) -> int:
    """Print an error as one line and return the exit code of wrong use."""
    click.echo(f"obstruction: {' '.join(message.split())}", err=True)
    return EXIT_USAGE


def exit_code(agreement: Any) -> int:
    """Return the exit code of an `Agreement` or a similar verdict."""
    return EXIT_FINDINGS if agreement.verdict == "disagrees" else 0


class _Commands(click.Group):
    """Commands that end quietly if the reader of the output, such as ``head``, closes the pipe."""

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


def scheme_option(default: Sequence[str] | None) -> Callable[[Any], Any]:
    """Return the option ``--scheme``, which is required if there is no default."""
    shown = f" [default: {listed(default)}]" if default else ""
    return click.option(
        "--scheme",
        "schemes",
        multiple=True,
        metavar="NAME[:OPTION=VALUE,...]",
        required=default is None,
        help=f"An initialisation scheme; repeat for several.{shown}",
    )


level_option: Callable[[Any], Any] = click.option(
    "--level",
    type=float,
    default=1e-3,
    metavar="RATE",
    help="How often the verdict may be a false alarm, if the formulas are right. [default: 0.001]",
)


def _split(_context: click.Context, _option: click.Parameter, text: str | None) -> Any:
    return None if text is None else [name.strip() for name in text.split(",")]


_READ_OPTIONS: Final = (
    click.option(
        "--activation",
        metavar="NAME",
        help="The activation after each layer, if the file does not say: relu, leaky_relu, ...",
    ),
    click.option(
        "--layout",
        metavar="out_in|in_out",
        help="How weight matrices are stored, if the file does not say: (outputs, inputs) as "
        "PyTorch or (inputs, outputs) as Keras and Flax.",
    ),
    click.option(
        "--layers",
        metavar="NAME,NAME,...",
        callback=_split,
        help="The fully connected layers in forward order, if the file does not say.",
    ),
)


def read_options(command: Any) -> Any:
    """Add the options for facts that a file may lack, named as in `models.ReadOptions`."""
    for option in reversed(_READ_OPTIONS):
        command = option(command)
    return command


def echo_table(*rows: Sequence[str]) -> None:
    """Print rows of words with their columns aligned to the left."""
    for line in columns(rows):
        click.echo(line)
