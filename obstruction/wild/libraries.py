"""How the packages of the zoo are imported: late, and with an error that says what to install."""

from __future__ import annotations

import importlib
from functools import cache
from importlib.util import find_spec
from typing import Any, Final

EXTRA: Final = "pip install 'obstruction[wild]'"

_ALONE: Final = frozenset({"torch", "jax", "flax", "haiku", "keras", "sklearn", "gymnasium"})
"""Libraries that do not import torchvision."""

_OPERATORS: Final[list[Any]] = []


def library(module: str) -> Any:
    """Import a module of a package of the zoo.

    Raises
    ------
    ImportError
        If the package, or one that it needs, is not installed.
    """
    root = module.split(".")[0]
    if root not in _ALONE:
        _import_torchvision()
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or root).split(".")[0]
        raise ImportError(f"{missing} is not installed: {EXTRA}") from error


@cache
def _import_torchvision() -> None:
    """Import torchvision, which many packages do, even if its compiled operators do not load.

    They need the very build of PyTorch that they were compiled for, CUDA's or the one for CPUs. No
    model of the zoo uses them.
    """
    if find_spec("torchvision") is None or find_spec("torch") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        operators = importlib.import_module("torch").library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _OPERATORS.append(operators)  # which live as long as this object
        importlib.import_module("torchvision")
