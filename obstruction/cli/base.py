"""The entry point, the group of commands, and options and tables that several commands share."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NoReturn

import click

from obstruction.cli.signals import code_of, signals
from obstruction.tools.version import __version__
from obstruction.tools.words import columns, listed

EXIT_FINDINGS = 1
EXIT_USAGE = 2
EXIT_NOTHING = 3
EXIT_UNEXPECTED = 4
EXIT_UNREAD = 141

TRACEBACK: Final = "OBSTRUCTION_TRACEBACK"
"""The variable of the environment that asks for the tracebacks of errors."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    The exit code is 0 if all is well, 1 if counts disagree with the exact values or a network has
    frozen weights, 2 after wrong use or an error that is foreseen, 3 if nothing or only a part of a
    network can be audited, 4 after an error that is not foreseen, 129, 130 or 143 after SIGHUP,
    Ctrl-C or SIGTERM, and 141 if the reader of the output has closed its pipe.
    """
    open_descriptors()
    try:
        with signals(once=False):
            code = _run(arguments)
    except KeyboardInterrupt as signalled:  # while the code was being found
        code = code_of(signalled)
    sys.exit(_flushed(code))


def _run(arguments: Sequence[str] | None) -> int:
    """Run a command and return its exit code; every error becomes one line."""
    try:
        with _one_line_warnings():
            code = cli.main(arguments, prog_name="obstruction", standalone_mode=False)
    except _Carried as carried:
        return _explained(carried.error)
    except BaseException as error:
        return _explained(error)
    return code if isinstance(code, int) else 0


@contextlib.contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Print warnings of this package as its errors, without the line of code."""
    before = warnings.formatwarning

    def one_line(message: Warning | str, category: type[Warning], *place: Any, **rest: Any) -> str:
        if category.__module__.partition(".")[0] == "obstruction":
            return f"obstruction: {message}\n"
        return before(message, category, *place, **rest)

    warnings.formatwarning = one_line
    try:
        yield
    finally:
        warnings.formatwarning = before


def _explained(error: BaseException) -> int:
    """Print an error as one line, and its traceback if that is asked for; return the exit code."""
    if isinstance(error, KeyboardInterrupt | click.Abort):
        complain("interrupted")
        return code_of(error.__cause__ or error)
    if os.environ.get(TRACEBACK, "0") not in ("", "0"):
        with contextlib.suppress(OSError, ValueError):
            traceback.print_exception(error)
    if isinstance(error, click.ClickException):
        return complain(error.format_message())
    if isinstance(error, BrokenPipeError):  # the reader, such as head, has enough
        _discard_output()
        return EXIT_UNREAD
    if isinstance(error, OSError):
        printing = _is_of_echo(error)
        if printing:
            _discard_output()
        place = "standard output" if printing else error.filename or "system"
        return complain(f"{place}: {error.strerror or error}")
    if isinstance(error, MemoryError):
        return complain(str(error) or "out of memory")
    if isinstance(error, ValueError | ImportError):
        return complain(str(error) or type(error).__name__)
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return complain("the system does not let this process start another thread")
    if isinstance(error, SystemExit):
        return complain(f"code that was run ended the process (SystemExit: {error.code})")
    said = f"{type(error).__name__}: {error}".rstrip(": ")
    complain(f"unexpected error ({said}); {TRACEBACK}=1 in the environment shows its traceback")
    return EXIT_UNEXPECTED


def _is_of_echo(error: OSError) -> bool:
    """Return whether an error arose where output is printed."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_code is click.echo.__code__ for frame in frames)


def complain(message: str) -> int:
    """Print an error as one line and return the exit code of wrong use.

    If standard error is closed, nothing is printed: there is no other place to say so.
    """
    with contextlib.suppress(OSError, ValueError):
        click.echo(f"obstruction: {' '.join(message.split())}", err=True)
    return EXIT_USAGE


def open_descriptors() -> None:
    """Open what stands for standard input, output and error if they are closed.

    Otherwise the next files that are opened would get their numbers, and whatever is printed past
    Python would be written into these files. What is printed to a closed output raises an OSError,
    and what is printed to a closed standard error is lost.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
            os.set_inheritable(opened, True)
    if sys.stdout is None:
        sys.stdout = _Closed()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


class _Closed(io.TextIOBase):
    """Standard output that is closed."""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> NoReturn:
        raise OSError(errno.EBADF, "is closed", "standard output")


def need_output() -> None:
    """Raise a ValueError if standard output is closed, before work whose result is printed."""
    if isinstance(sys.stdout, _Closed):
        raise ValueError("standard output is closed; > /dev/null or --quiet discards what is said")


def _flushed(code: int) -> int:
    """Write what is still to be printed, and return the exit code, another one if that fails."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        _discard_output()
        if isinstance(error, BrokenPipeError):
            return EXIT_UNREAD
        return complain(f"standard output: {getattr(error, 'strerror', None) or error}")
    return code


def _discard_output() -> None:
    """Discard what could not be printed, which Python would try again as it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def exit_code(agreement: Any) -> int:
    """Return the exit code of an `Agreement` or a similar verdict."""
    return EXIT_FINDINGS if agreement.verdict == "disagrees" else 0


class _Carried(Exception):
    """Carries an error past click, which takes some for an interruption or prints on its own."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class _Commands(click.Group):
    """Commands whose errors reach `main` as they are."""

    def make_context(self, *words: Any, **options: Any) -> click.Context:
        with _carrying():
            return super().make_context(*words, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _carrying():
            return super().invoke(ctx)


@contextlib.contextmanager
def _carrying() -> Iterator[None]:
    try:
        yield
    except (EOFError, KeyboardInterrupt, OSError, SystemExit) as error:
        raise _Carried(error) from error


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
