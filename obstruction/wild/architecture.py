"""An architecture of the zoo: what builds it, what it is fed with, and where it comes from."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final, TypeAlias

from obstruction.wild.versions import VERSIONS

Factory: TypeAlias = Callable[..., Any]
Exact: TypeAlias = Callable[[], float]

FAMILIES: Final = (
    "vision",
    "rl",
    "generative",
    "tabular",
    "survival",
    "science",
    "graphs",
    "transformers",
    "language",
    "dense",
)
"""The families of architectures."""


@dataclass(frozen=True)
class Architecture:
    """An architecture of a public package, under the initialisation that the package ships.

    Attributes
    ----------
    name : str
        The package and the architecture, as in ``"stable-baselines3/sac_critic"``. What follows a
        dash in the second part tells variants of one architecture apart.
    package : str
        The name under which pip knows the package.
    version : str
        The version of the package that the extra ``wild`` pins.
    family : str
        One of `FAMILIES`.
    factory : callable
        Returns a new model, built and initialised by the code of its package. It has no parameters,
        or the parameter ``seed`` for libraries without global random numbers.
    inputs : callable
        Returns small example inputs, always the same.
    loss : str or None
        The loss for which laws are sought, None for any.
    note : str
        What differs from the architecture as shipped, above all its sizes.
    exact : callable or None
        Returns the exact probability that a fresh network has a frozen sign, where it is known from
        the sizes of the layers.
    most : int or None
        The most draws of it in a study, since each takes long; None for any number.
    exact_share : callable or None
        Returns the exact mean share of frozen weights where the weights depend on each other, so
        that their laws do not tell it.
    """

    name: str
    package: str
    version: str
    family: str
    factory: Factory
    inputs: Callable[[], Any]
    loss: str | None = None
    note: str = ""
    exact: Exact | None = None
    most: int | None = None
    exact_share: Exact | None = None

    @property
    def base(self) -> str:
        """The name without the variant: sizes of one architecture share it."""
        package, name = self.name.split("/", 1)
        return f"{package}/{name.split('-', 1)[0]}"

    @property
    def installed(self) -> str | None:
        """The version of the package that is installed, None if it is not."""
        return installed_version(self.package)

    @property
    def is_pinned(self) -> bool:
        """Whether the installed version is the one for which the architecture was measured."""
        return self.installed == self.version


def installed_version(package: str) -> str | None:
    """Return the installed version of a package, without the label of its build.

    Parameters
    ----------
    package : str
        The name under which pip knows the package.

    Returns
    -------
    str or None
        None if the package is not installed.
    """
    try:
        return metadata.version(package).split("+")[0]
    except metadata.PackageNotFoundError:
        return None


class Zoo(dict[str, Architecture]):
    """Architectures of a family by their names, filled by the decorator `add`."""

    def __init__(self, family: str) -> None:
        if family not in FAMILIES:
            raise ValueError(f"family = {family!r}: must be one of {', '.join(FAMILIES)}")
        super().__init__()
        self.family = family

    def add(
        self,
        name: str,
        inputs: Callable[[], Any],
        note: str = "",
        *,
        loss: str | None = None,
        exact: Exact | None = None,
        most: int | None = None,
        exact_share: Exact | None = None,
    ) -> Callable[[Factory], Factory]:
        """Return a decorator that adds a factory.

        The part of the name before the slash is the package. The warnings of packages are hidden
        while a model is built, since they would come once for each draw.
        """
        package = name.split("/")[0]
        if name in self:
            raise ValueError(f"name = {name!r}: the zoo has this architecture already")
        if package not in VERSIONS:
            raise ValueError(f"name = {name!r}: there is no pinned version of {package}")

        def added(factory: Factory) -> Factory:
            self[name] = Architecture(
                name,
                package,
                VERSIONS[package],
                self.family,
                _quiet(factory),
                inputs,
                loss,
                note,
                exact,
                most,
                exact_share,
            )
            return factory

        return added


def _quiet(factory: Factory) -> Factory:
    @functools.wraps(factory)
    def quiet(**arguments: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return factory(**arguments)

    return quiet
