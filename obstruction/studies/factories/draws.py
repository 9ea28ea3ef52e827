"""Draws of a model by the code of its library: the factory is called afresh under a seed.

The seed of a draw depends on the seed of the study, on the cell of the grid and on the number of
the draw. The global generators of Python, NumPy and PyTorch start from it, and have their old
states back afterwards. Keras seeds its initialisers from that of Python. A factory with a parameter
``seed`` is given the seed, which factories of JAX need.
"""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from obstruction.conservation.law import FloatArray
from obstruction.conservation.reading import same_parameters
from obstruction.sampling import streams
from obstruction.studies.factories.recipes import Recipe
from obstruction.tools.randomness import seeded


@dataclass(frozen=True, eq=False)
class Draws:
    """The draws of one cell.

    Attributes
    ----------
    factory : callable
    arguments : dict
        The keyword arguments of the factory in this cell.
    inputs : object
        Example inputs, which build a model of Keras or with lazy layers.
    seed : int
        The seed of the study.
    label : str
        The cell in words, on which the seeds of its draws depend.
    modules : tuple of str or None
        The modules that every draw must have, in words, none if they are not of PyTorch; None if
        this is not checked.
    """

    factory: Callable[..., Any]
    arguments: Mapping[str, Any]
    inputs: Any
    seed: int
    label: str
    modules: tuple[str, ...] | None = None

    def like(self, first: Any) -> Draws:
        """Return the draws, each of which must have the modules of the first one.

        The laws of a model are found once. So its modules and its buffers, such as masks, must not
        depend on the seed.

        Raises
        ------
        ValueError
            If the second draw has other modules or buffers.
        """
        draws = replace(self, modules=modules_of(first))
        second = draws.model(1)
        draws._check_modules(second, 1)
        others = dict(second.named_buffers()) if draws.modules else {}
        for name, buffer in first.named_buffers() if draws.modules else ():
            other = others.get(name)
            if other is None or other.shape != buffer.shape or not bool((other == buffer).all()):
                raise ValueError(
                    f"factory: draw 1{self._where} has another buffer {name} than draw 0; the laws "
                    "are found once, so only parameters may differ"
                )
        return draws

    def _check_modules(self, model: Any, number: int) -> None:
        found = modules_of(model)
        if self.modules is not None and found != self.modules:
            pairs = itertools.zip_longest(found, self.modules, fillvalue="no module")
            one, other = next(pair for pair in pairs if pair[0] != pair[1])
            raise ValueError(
                f"factory: draw {number}{self._where} has {one} where draw 0 has {other}; the laws "
                "are found once, so only the values of parameters may differ"
            )

    @property
    def _where(self) -> str:
        return f" in the cell {self.label}" if self.label else ""

    def model(self, number: int) -> Any:
        """Return the model of a draw. The generators are those of the caller again."""
        with self._generators(number):
            return self._made(number)

    def parameters(
        self, number: int, shapes: Mapping[str, tuple[int, ...]], needed: set[str]
    ) -> dict[str, FloatArray]:
        """Return some parameters of a draw by the names that the first draw has for them.

        Raises
        ------
        ValueError
            If the model of this draw has other parameters than that of the first one.
        """
        with self._generators(number):
            model = self._made(number)
            self._check_modules(model, number)
            try:
                return same_parameters(model, self.inputs, shapes, needed)
            except ValueError as error:
                reason = str(error).removeprefix("other_parameters: ")
                raise ValueError(
                    f"factory: draw {number}{self._where} differs from draw 0 in more than the "
                    f"values of its parameters: {reason}"
                ) from error

    def recipes(
        self, shapes: Mapping[str, tuple[int, ...]], needed: set[str]
    ) -> dict[str, Recipe] | str:
        """Return how each draw of a PyTorch model fills some parameters, or why it is not known."""
        torch: Any = sys.modules.get("torch")
        if not needed:
            return ""
        if torch is None:
            return "only factories of PyTorch are recorded"
        if takes_seed(self.factory):
            return "it has a seed of its own"
        from obstruction.studies.factories.torch_origins import recording
        from obstruction.studies.factories.torch_recording import recorded, untouched

        def make(number: int) -> Any:
            with self._generators(number):
                same = untouched(self._seed(number))
                with recording() as recorder:
                    model = self._made(number)
                    if isinstance(model, torch.nn.Module):
                        same_parameters(model, self.inputs, shapes, ())  # fills lazy ones
                return recorder, model, same()

        try:
            return recorded(make, needed)
        except Exception as error:  # operations that cannot be recorded; the factory itself can run
            return f"its operations could not be recorded ({type(error).__name__})"

    def redraws(self, recipes: Mapping[str, Recipe]) -> Callable[[int], dict[str, FloatArray]]:
        """Return a function that draws parameters by their recipes."""
        from obstruction.studies.factories.torch_recording import Redraws

        return Redraws(recipes, self._seed).parameters

    def _made(self, number: int) -> Any:
        arguments = dict(self.arguments)
        if takes_seed(self.factory):
            arguments["seed"] = self._seed(number)
        return self.factory(**arguments)

    def _seed(self, number: int) -> int:
        return streams.model_seed(self.seed, self.label, number)

    @contextmanager
    def _generators(self, number: int) -> Iterator[None]:
        torch: Any = sys.modules.get("torch")
        seed = self._seed(number)
        with seeded(seed):
            if torch is None:
                yield
                return
            devices = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
            with torch.random.fork_rng(devices=devices):
                if torch.cuda.is_available():
                    torch.manual_seed(seed)
                else:  # the same, without traces of the stack that are kept for devices
                    torch.default_generator.manual_seed(seed)
                yield


def modules_of(model: Any) -> tuple[str, ...]:
    """Return the modules of a module of PyTorch in words; none of another model."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not isinstance(model, torch.nn.Module):
        return ()
    if hasattr(model, "trainable_variables"):  # of Keras, which gives new names to each model
        return ()
    return tuple(
        f"{name or 'the model'} = {type(one).__name__}({' '.join(one.extra_repr().split())})"
        for name, one in model.named_modules()
    )


def takes_seed(factory: Callable[..., Any]) -> bool:
    """Return whether a factory has a parameter ``seed`` of its own."""
    try:
        return "seed" in inspect.signature(factory).parameters
    except (TypeError, ValueError):  # built in
        return False
