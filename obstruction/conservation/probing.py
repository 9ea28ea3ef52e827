"""Random probes of a live model: parameters, inputs and functions of the outputs.

The actual parameters of a network hide laws and fake others: a branch that starts at zero lets
nothing through, and an activation near zero looks linear. So the search looks at random parameters,
whose scales are spread over several orders of magnitude, and at random inputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.law import FloatArray
from obstruction.conservation.live.base import STRETCHES, LiveModel, stretch
from obstruction.conservation.live.inputs import refused, short
from obstruction.conservation.live.names import owner

SPREADS: Final = (0.5, 3.0, 1.0, 4.5)
"""Probes take scales of parameters from ``2**-s`` to ``2**s`` times the usual, ``s`` in turn."""

SMALL: Final = (-10.0, -5.0)
"""Blocks that shall be small are multiplied by powers of two between these exponents."""

AWAKE: Final = -1
"""The number of the probe at the actual parameters with layers drawn that are zero as a whole.

Such layers hide what is before them, or beside them in a branch.
"""

_CALMER: Final = 6
"""A spread is halved until numbers are finite, and so many times are tried at most."""

_POOL: Final = 1_048_583
"""The number of random numbers of which parameters are cut; it is prime, so that rows differ."""


Block: TypeAlias = tuple[tuple[str, NDArray[np.bool_]], ...]


@dataclass(frozen=True)
class Probe:
    """Values of the parameters and inputs at which a model is differentiated.

    Attributes
    ----------
    values : dict of str to ndarray
    inputs : tuple of ndarray
    seed, cotangent : int
        The seeds of the random numbers of the model, and of the function of the outputs.
    """

    values: dict[str, FloatArray]
    inputs: tuple[NDArray[np.generic], ...]
    seed: int
    cotangent: int


def gradients_at(live: LiveModel, probe: Probe) -> dict[str, FloatArray | None]:
    """Return the gradients of a live model at a probe, for cotangents of the usual size.

    See `LiveModel.gradients`. Those of a backward pass that is linear do not depend on the stretch.
    """
    found = live.gradients(probe.values, probe.inputs, seed=probe.seed, cotangent=probe.cotangent)
    factor = 1.0 / stretch(probe.cotangent)
    if factor == 1.0:
        return found
    return {name: None if one is None else _times(factor, one) for name, one in found.items()}


def _times(factor: float, values: FloatArray) -> FloatArray:
    """Return values times a factor, in the same memory if that may be written."""
    out = values if values.flags.writeable else np.empty_like(values)
    return np.multiply(factor, values, out=out)


def stretched(seed: int, number: int) -> int:
    """Return a seed of cotangents near a given one that has the stretch with a given number."""
    return seed - seed % len(STRETCHES) + number % len(STRETCHES)


def outputs_at(live: LiveModel, probe: Probe) -> list[FloatArray]:
    """Return the outputs of a live model at a probe, see `LiveModel.outputs`."""
    return live.outputs(probe.values, probe.inputs, seed=probe.seed)


class Prober:
    """Draws probes of a live model, the same for the same seed.

    Parameters
    ----------
    live : LiveModel
    seed : int

    Raises
    ------
    ValueError
        If the model cannot be run with its inputs, or if its outputs are not finite at the actual
        parameters.
    """

    def __init__(self, live: LiveModel, *, seed: int) -> None:
        self._live, self._seed = live, seed
        self._pool = np.random.default_rng([seed, 0]).standard_normal(_POOL)
        self._small: tuple[Block, ...] = ()
        self._integers = True
        self._near = False
        self._last: tuple[int, Probe] | None = None
        self._problem = ""
        self._known: dict[int | None, list[FloatArray]] = {}
        self._spreads = list(SPREADS)
        for name, value in live.parameters.items():
            if not np.isfinite(value).all():
                at = tuple(map(int, np.argwhere(~np.isfinite(value))[0]))
                raise ValueError(f"model: {name}{list(at)} = {value[at]}: weights must be finite")
        try:
            outputs = outputs_at(live, self.actual())
        except Exception as error:  # whatever the model raises for inputs that it does not take
            raise refused(error, [leaf.shape for leaf in live.inputs]) from error
        if not outputs:
            raise ValueError("the model returns no array of floats, so it has no outputs to judge")
        if not all(np.isfinite(y).all() for y in outputs):
            raise ValueError("the outputs of the model are not finite at its actual parameters")
        self._settle()
        self._known[None] = outputs

    @property
    def live(self) -> LiveModel:
        """The model."""
        return self._live

    @cached_property
    def asleep(self) -> tuple[str, ...]:
        """The names of the parameters of layers that are zero as a whole."""
        actual = self._live.parameters
        alive = {owner(name) for name, value in actual.items() if value.any()}
        return tuple(name for name in actual if owner(name) not in alive)

    def actual(self, *, inputs: bool = True) -> Probe:
        """Return the actual parameters, with the example inputs or with random ones."""
        drawn = self._live.inputs if inputs else self._inputs(np.random.default_rng(self._seed))
        return Probe(self._live.parameters, tuple(drawn), self._seed, self._seed)

    @cached_property
    def actual_gradients(self) -> dict[str, FloatArray | None]:
        """The gradients at the actual parameters, with the example inputs."""
        return gradients_at(self._live, self.actual())

    def outputs(self, number: int | None) -> list[FloatArray]:
        """Return the outputs at the probe with a given number, or at the actual parameters."""
        if number is None or number == AWAKE or number in self._known:
            return self._outputs(number)
        for _ in range(_CALMER):
            found = self._outputs(number)
            if all(np.isfinite(y).all() for y in found):
                break
            self._calm(number)
        return found

    def gradients(
        self, number: int, *, small: bool = False
    ) -> tuple[Probe, dict[str, FloatArray | None]]:
        """Return the probe with a given number, see `probe`, and the gradients there."""
        for _ in range(_CALMER):
            probe = self.probe(number, small=small)
            found = gradients_at(self._live, probe)
            with np.errstate(all="ignore"):  # a sum is infinite if a term is, and costs less
                finite = all(one is None or np.isfinite(one.sum()) for one in found.values())
            if finite:
                break
            self._calm(number)
        return probe, found

    def shrink(self, blocks: Iterable[Block]) -> None:
        """Choose blocks of parameters that are small at the probes for which this is wanted.

        Parameters
        ----------
        blocks : iterable of tuple of (str, ndarray of bool)
            For every block names of parameters, and masks that broadcast to their shapes.
        """
        self._small = tuple(blocks)

    def probe(self, number: int, *, small: bool = False) -> Probe:
        """Return the probe with a given number, counted from 0, or `AWAKE`.

        If `small`, every second of the blocks given to `shrink`, the others at the next probe, is
        so small that the variance before a normalisation is near its ``eps``, which then has an
        influence. If all were, hardly anything would flow through a deep network.

        The values of a probe must not be changed: it may be returned again.
        """
        if number == AWAKE:
            return self._awake()
        if self._last is None or self._last[0] != number or small:
            found = self._drawn(number, small=small)
            self._last = None if small else (number, found)
            return found
        return self._last[1]

    def _drawn(self, number: int, *, small: bool) -> Probe:
        generator = np.random.default_rng([self._seed, 1, number])
        spread = self._spreads[number % len(SPREADS)]
        values = {
            name: self._values(name, value, spread, generator)
            for name, value in self._live.parameters.items()
        }
        for place, block in enumerate(self._small if small else ()):
            factor = 2.0 ** generator.uniform(*SMALL)
            for name, mask in block if (place + number) % 2 == 0 else ():
                values[name] = np.where(mask, factor * values[name], values[name])
        seed = int(generator.integers(1 << 31))
        cotangent = stretched(seed, number)
        return Probe(values, self._inputs(generator), seed, cotangent)

    def _awake(self) -> Probe:
        generator = np.random.default_rng([self._seed, 2])
        actual = self.actual()
        drawn = {
            name: self._values(name, actual.values[name], 0.0, generator) for name in self.asleep
        }
        return replace(actual, values={**actual.values, **drawn})

    def _values(
        self, name: str, actual: FloatArray, spread: float, generator: np.random.Generator
    ) -> FloatArray:
        scale = 2.0 ** generator.uniform(-spread, spread)
        start = int(generator.integers(_POOL))
        if self._near:  # the signs are kept, where logarithms or roots need them
            drawn = _window(self._pool, start, actual.shape)
            factor = np.exp(0.5 * drawn)
            near: FloatArray = np.where(actual == 0.0, 0.1 * drawn, actual * factor * scale)
            return near
        if actual.ndim >= 2 and actual.size:
            axis = self._live.output_axes.get(name)
            outputs = max(actual.shape[0], actual.shape[-1]) if axis is None else actual.shape[axis]
            scale *= (2.0 * outputs / actual.size) ** 0.5
        return _window(self._pool, start, actual.shape, scale)

    def _inputs(self, generator: np.random.Generator) -> tuple[NDArray[np.generic], ...]:
        return tuple(self._like(leaf, generator) for leaf in self._live.inputs)

    def _like(
        self, leaf: NDArray[np.generic], generator: np.random.Generator
    ) -> NDArray[np.generic]:
        """Return a random array whose entries could stand for those of an example."""
        if leaf.size == 0 or leaf.dtype.kind not in "iuf":
            return leaf
        low, high = leaf.min(), leaf.max()
        if leaf.dtype.kind in "iu":
            if not self._integers or low == high:
                return leaf
            return generator.integers(low, high, leaf.shape, leaf.dtype, endpoint=True)
        if np.isin(leaf, (0.0, 1.0)).all():  # a mask
            return leaf
        if low >= 0.0:
            return generator.uniform(low, high, leaf.shape) if high > low else leaf
        spread = 2.0 ** generator.uniform(-1.0, 1.0) * float(leaf.std() or 1.0)
        centre = float(np.mean(leaf.astype(np.float64))) * generator.choice((-1.0, 1.0))
        return np.asarray(centre + spread * generator.standard_normal(leaf.shape))

    def _settle(self) -> None:
        """Choose how probes are drawn, so that the model runs and its outputs are finite."""
        for near in (False, True):
            for integers in (True, False):
                self._near, self._integers = near, integers
                self._known.clear()
                self._last = None
                if all(self._runs(number) for number in range(2)):
                    return
        problem = f": {short(self._problem, most=200, quoted=False)}" if self._problem else ""
        raise ValueError(
            "the model has no finite outputs at random parameters near the actual ones" + problem
        )

    def _outputs(self, number: int | None) -> list[FloatArray]:
        if number not in self._known:
            probe = self.actual() if number is None else self.probe(number)
            self._known[number] = outputs_at(self._live, probe)
        return self._known[number]

    def _calm(self, number: int) -> None:
        """Reduce the spread at which numbers are not finite, as where a model takes powers.

        Outputs are forgotten at all probes that have this spread, as these are other probes now.
        """
        place = number % len(SPREADS)
        self._spreads[place] /= 2.0
        self._last = None
        for known in [n for n in self._known if n is not None and n % len(SPREADS) == place]:
            del self._known[known]

    def _runs(self, number: int) -> bool:
        try:
            found = self._outputs(number)
        except Exception as error:  # whatever the model raises for inputs of another kind
            self._problem = f"{type(error).__name__}: {error}"
            return False
        return all(np.isfinite(y).all() for y in found)


def _window(pool: FloatArray, start: int, shape: tuple[int, ...], scale: float = 1.0) -> FloatArray:
    """Return consecutive numbers of a pool, which begins anew at its end, times a scale."""
    found = np.empty(math.prod(shape))
    place = 0
    while place < found.size:
        part = found[place : place + pool.size - start]
        np.multiply(pool[start : start + part.size], scale, out=part)
        place, start = place + part.size, 0
    return found.reshape(shape)
