"""What an entry of the zoo is, and how it is built."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from compiled_parts import import_without_compiled_parts
from torch import nn

Inputs: TypeAlias = tuple[Any, ...] | dict[str, Any]
Built: TypeAlias = tuple[nn.Module, Inputs]


@dataclass(frozen=True)
class Entry:
    """A real architecture, with the initialisation of its package, and example inputs.

    Attributes
    ----------
    package, version : str
        The name under which pip knows the package, and the version with which the entry was tried.
    factory : callable
        Returns the model and its inputs. It imports the package.
    note : str
        What differs from the architecture as published: widths, depths, size of the inputs.
    fails : str
        Why the training pass in float64 fails, or an empty string.
    """

    package: str
    version: str
    factory: Callable[[], Built]
    note: str = ""
    fails: str = ""

    def build(self) -> Built:
        """Return the model in float32, in training mode, and its inputs; always the same."""
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            import_without_compiled_parts()
            model, inputs = self.factory()
        return model.train(), inputs


class Zoo(dict[str, Entry]):
    """Entries by name, filled by the decorator `add`."""

    def __init__(self, package: str, version: str) -> None:
        super().__init__()
        self.package = package
        self.version = version

    def add(
        self, name: str, note: str = "", *, fails: str = "", package: str = "", version: str = ""
    ) -> Callable[[Callable[[], Built]], Callable[[], Built]]:
        """Return a decorator that adds a factory under a name."""

        def added(factory: Callable[[], Built]) -> Callable[[], Built]:
            if name in self:
                raise ValueError(f"the zoo has an entry {name!r} already")
            self[name] = Entry(
                package or self.package, version or self.version, factory, note, fails
            )
            return factory

        return added


def images(
    size: int = 64, *, batch: int = 2, channels: int = 3, dimensions: int = 2
) -> tuple[torch.Tensor]:
    """Return a batch of normal noise in the shape of images (or volumes)."""
    return (torch.randn(batch, channels, *[size] * dimensions),)


def tokens(vocabulary: int, length: int = 12, *, batch: int = 2) -> torch.Tensor:
    """Return a batch of random tokens; 0 and 1, which often pad, do not occur."""
    return torch.randint(2, vocabulary, (batch, length))
