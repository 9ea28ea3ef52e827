"""Record how a factory of PyTorch models fills parameters, and repeat just that.

While the factory runs, every operation on tensors is seen. A parameter has a recipe if each of its
entries got its value by the same steps on that entry alone, from a constant or from independent
random numbers of PyTorch's generator. Such parameters can be drawn without the rest of the model,
by the same operations, with the same law. This is trusted only if

- the recipe, repeated from the recorded state of the generator, gives the parameter bit by bit,
- no two parameters share random numbers, and no state of the generator occurred twice,
- nobody seeded a generator again, drew from those of Python or NumPy, or was seen to read a random
  number or the state of a generator, on which later steps might depend,
- three draws have the same steps, with different random numbers.

Otherwise the reason is given, and the whole factory is called for each draw.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

import numpy as np
import torch

from obstruction.conservation.law import FloatArray
from obstruction.studies.factories.recipes import Recipe
from obstruction.studies.factories.torch_origins import Recorder, whole

Make: TypeAlias = Callable[[int], tuple[Recorder, Any, bool]]


@dataclass(frozen=True, eq=False)
class _Recording:
    """The recipes of a draw, with the numbers that it had.

    Attributes
    ----------
    recipes : dict of str to Recipe
    values : dict of str to ndarray
        The values of the random ones.
    """

    recipes: dict[str, Recipe]
    values: dict[str, FloatArray]


def recorded(make: Make, needed: Iterable[str]) -> dict[str, Recipe] | str:
    """Return the recipes of some parameters, or the reason why there are none.

    Parameters
    ----------
    make : callable
        Returns what was recorded, the finished model of the draw of a number, and whether the other
        generators were left alone (`untouched`).
    needed : iterable of str
        The names of the parameters.
    """
    names = sorted(needed)
    first = _recording(make, 0, names)
    for number in (1, 2):
        if isinstance(first, str):
            return first
        other = _recording(make, number, names)
        if isinstance(other, str):
            return other
        if other.recipes != first.recipes:
            return "two draws were made by different steps"
        for name, value in first.values.items():
            if np.array_equal(value, other.values[name]):
                return f"{name} has the same random numbers in two draws"
    assert not isinstance(first, str)
    return first.recipes


def _recording(make: Make, number: int, names: list[str]) -> _Recording | str:
    recorder, model, untouched = make(number)
    if not untouched:
        return "the generators of Python or NumPy were used, or a generator was seeded again"
    if recorder.escaped:
        return "a random number or the state of a generator was read, on which others may depend"
    if recorder.repeated:
        return "the generator was set back to an earlier state"
    parameters = dict(model.named_parameters())
    recipes, values, events = {}, {}, set()
    for name in names:
        parameter = parameters[name].detach()
        origin = recorder.origin(parameter)
        if origin.steps is None or not whole(parameter) or parameter.is_complex():
            return f"{name} was not filled entry by entry"
        recipe = Recipe(origin.steps, tuple(parameter.shape), origin.dtype)
        if recipe.random:
            if origin.event in events:
                return f"{name} shares its random numbers with another parameter"
            events.add(origin.event)
            values[name] = parameter.double().numpy()
        generator = torch.Generator()
        if origin.state is not None:
            generator.set_state(origin.state)
        if not torch.equal(_repeat(recipe, generator), parameter):
            return f"{name} is another one when its steps are repeated"
        recipes[name] = recipe
    return _Recording(recipes, values)


@dataclass(frozen=True, eq=False)
class Redraws:
    """Draws of parameters by their recipes.

    Attributes
    ----------
    recipes : dict of str to Recipe
    seeds : callable
        Returns the seed of a draw.
    """

    recipes: Mapping[str, Recipe]
    seeds: Callable[[int], int]

    @cached_property
    def constant(self) -> dict[str, FloatArray]:
        """The parameters without random entries, which are the same in all draws."""
        return self._filled(torch.Generator(), random=False)

    def parameters(self, number: int) -> dict[str, FloatArray]:
        """Return the parameters of a draw."""
        generator = torch.Generator().manual_seed(self.seeds(number))
        return {**self.constant, **self._filled(generator, random=True)}

    def _filled(self, generator: torch.Generator, *, random: bool) -> dict[str, FloatArray]:
        return {
            name: np.atleast_1d(_repeat(recipe, generator).double().numpy())
            for name, recipe in sorted(self.recipes.items())
            if recipe.random == random
        }


def untouched(seed: int) -> Callable[[], bool]:
    """Return a function that tells whether only PyTorch's generator was used, and not seeded.

    The seed is the one with which it was started.
    """
    python, numpy = random.getstate(), _numpy_state()

    def same() -> bool:
        kept = random.getstate() == python and _numpy_state() == numpy
        return kept and torch.initial_seed() == seed

    return same


def _numpy_state() -> tuple[Any, ...]:
    name, key, *rest = np.random.get_state()  # noqa: NPY002
    return (name, np.asarray(key).tobytes(), *rest)


def _repeat(recipe: Recipe, generator: torch.Generator) -> torch.Tensor:
    """Return a tensor that is filled by the steps of a recipe."""
    first, *rest = recipe.steps
    tensor = torch.empty(recipe.shape, dtype=getattr(torch, recipe.dtype))
    if first.operation == "fill":
        tensor.fill_(*first.arguments)
    elif first.operation == "uniform":
        tensor.uniform_(*first.arguments, generator=generator)
    elif first.operation == "normal":
        tensor.normal_(*first.arguments, generator=generator)
    else:
        torch.nn.init.trunc_normal_(tensor, *first.arguments, generator=generator)
    for step in rest:
        tensor = _STEPS[step.operation](tensor, *step.arguments)
    return tensor


_STEPS: Final[dict[str, Callable[..., torch.Tensor]]] = {
    "multiply": torch.Tensor.mul_,
    "divide": torch.Tensor.div_,
    "add": torch.Tensor.add_,
    "erfinv": torch.Tensor.erfinv_,
    "clamp": torch.Tensor.clamp_,
    "cast": lambda tensor, dtype: tensor.to(getattr(torch, dtype)),
}
