"""Models that the user's own code makes, and example inputs for them.

Other commands only read. The code behind an import path is run, as Python does on an import.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

BATCH: Final = 4
"""The number of samples in the example inputs."""

_MOST: Final = 300
"""The number of characters that are shown of an error of the user's code."""

_MOST_NUMBERS: Final = 10**9
"""Example inputs have at most so many numbers, which is 8 GB."""

_PATH: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_INPUT: Final = re.compile(
    r"(?:(?P<name>[A-Za-z_][\w.:/-]*)=)?(?P<shape>\d+(?:,\d+)*)(?::(?P<low>-?\d+)\.\.(?P<high>-?\d+))?"
)
_SEVERAL: Final = re.compile(r",\s*[A-Za-z_]\w*=")
"""What looks like a second argument behind a first."""

_OPTIONS: Final = (
    click.option(
        "--call",
        multiple=True,
        metavar="KEY=VALUE",
        help="An argument of the factory, a Python literal or else a text. Repeat for several.",
    ),
    click.option(
        "--inputs",
        multiple=True,
        metavar="[NAME=]SHAPE[:LOW..HIGH]",
        help="The shape of an input without the axis of samples, such as 3,64,64. With LOW..HIGH "
        "it holds whole numbers, such as 16:0..99. Repeat for several inputs; with NAME= they are "
        "keywords.",
    ),
    click.option(
        "--loss",
        metavar="cross_entropy",
        help="The loss that is assumed. [default: any loss]",
    ),
    click.option(
        "--seed",
        metavar="N",
        help="The seed of the factory's random numbers and of the search. [default: 0]",
    ),
)

_DRAW_OPTIONS: Final = (
    click.option(
        "--model",
        metavar="PACKAGE.MODULE:FACTORY",
        help="Sample this model by its own initialisation, in place of a grid of (d, l): your own "
        "code is run, and called afresh in each draw.",
    ),
    click.option(
        "--grid",
        multiple=True,
        metavar="KEY=AXIS",
        help="With --model: call the factory with each of these values, such as width=8,16,32. "
        "Repeat for several keys. {width} in --inputs stands for the value.",
    ),
)


def factory_options(command: Any) -> Any:
    """Add the options about models that are made by a factory."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def model_options(command: Any) -> Any:
    """Add the options about the draws of a model that a factory makes."""
    for option in (*reversed(_OPTIONS[:-1]), *reversed(_DRAW_OPTIONS)):
        command = option(command)
    return command


def is_import_path(text: str) -> bool:
    """Return whether a text is ``package.module:factory`` and no file."""
    return _PATH.fullmatch(text) is not None and not Path(text).exists()


@contextlib.contextmanager
def current_folder() -> Iterator[None]:
    """Make modules in the current folder importable while a block runs."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def made(path: str, call: Sequence[str], *, seed: int) -> Any:
    """Import what a path names, and call it with arguments unless it is a model already.

    Raises
    ------
    ValueError
        If it cannot be imported or called; the message has one line.
    """
    from obstruction.conservation.live.inputs import short

    found, arguments = imported(path, call)
    if _is_model(found):
        if arguments:
            raise ValueError(f"call: {path} is a model and not a factory, it takes no arguments")
        return found
    _seed(seed)
    with _told(f"{path}: calling it"):
        model = found(**arguments)
    if not _is_model(model):
        raise ValueError(
            f"{path}: returns {short(model)} of type {type(model).__name__}; a factory must return "
            "a torch.nn.Module, a Keras model, a pair (apply, params) of JAX, or a module of "
            "Equinox or nnx"
        )
    return model


def factory_of(path: str, call: Sequence[str]) -> partial[Any]:
    """Import the factory that a path names, and bind arguments to it.

    Raises
    ------
    ValueError
        If it cannot be imported, is no factory, or is given a seed; the message has one line.
    """
    if not is_import_path(path):
        raise ValueError(f"model = {path!r}: must be package.module:factory")
    found, arguments = imported(path, call)
    if _is_model(found):
        raise ValueError(
            f"{path}: is a model already; each draw needs a new one, so name a function or a class "
            "that makes it"
        )
    if "seed" in arguments:
        raise ValueError(
            f"call = 'seed={arguments['seed']}': each draw has a seed of its own, which follows "
            "from --seed"
        )
    return partial(found, **arguments)


def imported(path: str, call: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """Import what a path names, a factory or a model, and return it with the arguments for it."""
    module_name, _, name = path.partition(":")
    arguments: dict[str, Any] = {}
    for text in call:
        key, value = _argument(text)
        if key in arguments:
            raise ValueError(f"call = {text!r}: {key} is given twice")
        arguments[key] = value
    with _told(f"{path}: importing {module_name}"):
        found = importlib.import_module(module_name)
    for part in name.split("."):
        if not hasattr(found, part):
            origin = getattr(sys.modules[module_name], "__file__", None)
            where = f"; it was imported from {origin}" if origin else ""
            raise ValueError(f"{path}: {module_name} has no {name}{where}")
        found = getattr(found, part)
    if not (_is_model(found) or callable(found)):
        raise ValueError(f"{path}: is a {type(found).__name__}, and no factory or model")
    return found, arguments


def example_inputs(
    texts: Sequence[str], *, seed: int, samples: Mapping[str | int, int] | None = None
) -> Any:
    """Return arrays for the option ``--inputs``: one, a tuple, or a dictionary by names.

    Parameters
    ----------
    texts : sequence of str
    seed : int
    samples : dict, optional
        Numbers of samples other than `BATCH`, by the names of inputs and by their places.

    Raises
    ------
    ValueError
        If a text is none of the allowed forms.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    names: list[str | None] = []
    arrays: list[Any] = []
    for place, text in enumerate(texts):
        found = _INPUT.fullmatch(text)
        if found is None:
            raise ValueError(
                f"inputs = {text!r}: must be a shape without the axis of samples, such as 3,64,64, "
                "or 16:0..99 for 16 whole numbers from 0 to 99, with NAME= before it if need be"
            )
        batch = (samples or {}).get(found["name"] or place, BATCH)
        shape = (batch, *map(int, found["shape"].split(",")))
        if math.prod(shape) > _MOST_NUMBERS:
            raise ValueError(
                f"inputs = {text!r}: {batch} samples have more than {_MOST_NUMBERS:,} numbers"
            )
        if found["low"] is None:
            arrays.append(generator.standard_normal(shape))
        else:
            low, high = int(found["low"]), int(found["high"])
            if low > high:
                raise ValueError(f"inputs = {text!r}: {low} is above {high}")
            if max(-low, high) >= 2**63:
                raise ValueError(f"inputs = {text!r}: numbers must be below 2^63 in size")
            arrays.append(generator.integers(low, high, shape, endpoint=True))
        names.append(found["name"])
    given = [name for name in names if name is not None]
    if given:
        if len(set(given)) < len(names):
            raise ValueError("inputs: either all have different names or none has one")
        return dict(zip(given, arrays, strict=True))
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


def file_inputs(path: str, texts: Sequence[str], *, seed: int) -> Any:
    """Return arrays for an ONNX file; None if there are no texts.

    The number of samples is that of the file, if it states one.
    """
    from obstruction.conservation.live.onnx_files import OnnxFile, can_run

    if not texts:
        return None
    samples: dict[str | int, int] = {}
    for place, one in enumerate(OnnxFile(path).inputs if can_run() else ()):
        if one.shape and isinstance(one.shape[0], int):
            samples[place] = samples[one.name] = one.shape[0]
    return example_inputs(texts, seed=seed, samples=samples)


def running(work: Callable[[], Any]) -> Any:
    """Return the result of work that runs a model; whatever the model raises becomes one line."""
    with _told("running the model"):
        return work()


@contextlib.contextmanager
def _told(doing: str) -> Iterator[None]:
    """Turn whatever the user's code raises into a ValueError, and what it prints into messages."""
    from obstruction.conservation.live.inputs import short

    try:
        with contextlib.redirect_stdout(sys.stderr):  # the standard output is for the report
            yield
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        ours = _is_ours(error)
        if ours and isinstance(error, ValueError):
            raise
        said = str(error) if ours else short(error, most=_MOST, quoted=False)
        raise ValueError(f"{doing} failed with {type(error).__name__}: {said}") from error


def _is_ours(error: BaseException) -> bool:
    """Return whether this package raised an error, and not the user's code or a framework."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    name = "" if frame is None else str(frame.tb_frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] == "obstruction"


def _argument(text: str) -> tuple[str, Any]:
    key, mark, value = text.partition("=")
    if not mark or not key.isidentifier():
        raise ValueError(f"call = {text!r}: must be KEY=VALUE")
    found = literal(value)
    if found == value and _SEVERAL.search(value):
        raise ValueError(
            f"call = {text!r}: must be one KEY=VALUE; repeat --call for every argument, "
            "and put a text with commas and = in quotes"
        )
    return key, found


def literal(text: str) -> Any:
    """Return the value of a Python literal, or else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _is_model(found: Any) -> bool:
    from obstruction.auditing.live.arguments import is_live

    return not isinstance(found, type) and is_live(found)


def _seed(seed: int) -> None:
    """Seed the random numbers of the frameworks that are loaded, which initialise models."""
    import random

    import numpy as np

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - what factories may draw from
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed % 2**63)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(seed % 2**32)
