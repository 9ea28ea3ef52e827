"""Random probes of a live model, and the signatures of sides of parameters that they give.

The actual parameters of a network hide laws and fake others: a branch that starts at zero lets
nothing through, and an activation near zero looks linear. So the search looks at random parameters,
whose scales are spread over several orders of magnitude, and at random inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.law import FloatArray
from obstruction.conservation.live.base import LiveModel
from obstruction.conservation.sides import Side

SPREADS: Final = (0.5, 3.0, 1.0, 4.5)
"""Probes take scales of parameters from ``2**-s`` to ``2**s`` times the usual, ``s`` in turn."""

SMALL: Final = (-10.0, -5.0)
"""Blocks that shall be small are multiplied by powers of two between these exponents."""

SHIFTED: Final = 1e-9
"""Gradients add up to zero if their sum is below this share of the sum of absolute values."""

_SATURATED: Final = 1e-3

_POOL: Final = 1_048_583
"""The number of random numbers of which parameters are cut; it is prime, so that rows differ."""


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


class Prober:
    """Draws probes of a live model, the same for the same seed.

    Parameters
    ----------
    live : LiveModel
    seed : int

    Raises
    ------
    ValueError
        If the outputs are not finite at the actual parameters.
    """

    def __init__(self, live: LiveModel, *, seed: int) -> None:
        self._live, self._seed = live, seed
        self._pool = np.random.default_rng([seed, 0]).standard_normal(_POOL)
        self._small: tuple[tuple[str, NDArray[np.bool_]], ...] = ()
        self._integers = True
        self._near = False
        outputs = live.outputs(live.parameters, live.inputs, seed=0)
        if not outputs:
            raise ValueError("the model returns no array of floats, so it has no outputs to judge")
        if not all(np.isfinite(y).all() for y in outputs):
            raise ValueError("the outputs of the model are not finite at its actual parameters")
        self._settle()

    @property
    def live(self) -> LiveModel:
        """The model."""
        return self._live

    def actual(self, *, inputs: bool = True) -> Probe:
        """Return the actual parameters, with the example inputs or with random ones."""
        drawn = self._live.inputs if inputs else self._inputs(np.random.default_rng(self._seed))
        return Probe(self._live.parameters, tuple(drawn), self._seed, self._seed)

    def shrink(self, blocks: Iterable[tuple[str, NDArray[np.bool_]]]) -> None:
        """Choose blocks of parameters that are small at the probes for which this is wanted.

        Parameters
        ----------
        blocks : iterable of (str, ndarray of bool)
            Names of parameters, and masks that broadcast to their shapes.
        """
        self._small = tuple(blocks)

    def probe(self, number: int, *, small: bool = False) -> Probe:
        """Return the probe with a given number, counted from 0.

        If `small`, the blocks given to `shrink` are so small that the variance before a
        normalisation is near its ``eps``, which then has an influence.
        """
        generator = np.random.default_rng([self._seed, 1, number])
        spread = SPREADS[number % len(SPREADS)]
        values = {
            name: self._values(name, value, spread, generator)
            for name, value in self._live.parameters.items()
        }
        for name, mask in self._small if small else ():
            factor = 2.0 ** generator.uniform(*SMALL)
            values[name] = np.where(mask, factor * values[name], values[name])
        seed = int(generator.integers(1 << 31))
        return Probe(values, self._inputs(generator), seed, seed)

    def _values(
        self, name: str, actual: FloatArray, spread: float, generator: np.random.Generator
    ) -> FloatArray:
        scale = 2.0 ** generator.uniform(-spread, spread)
        start = int(generator.integers(_POOL))
        drawn = _window(self._pool, start, actual.size).reshape(actual.shape)
        if self._near:  # the signs are kept, where logarithms or roots need them
            factor = np.exp(0.5 * drawn)
            near: FloatArray = np.where(actual == 0.0, 0.1 * drawn, actual * factor * scale)
            return near
        if actual.ndim >= 2 and actual.size:
            axis = self._live.output_axes.get(name)
            outputs = max(actual.shape[0], actual.shape[-1]) if axis is None else actual.shape[axis]
            scale *= (2.0 * outputs / actual.size) ** 0.5
        scaled: FloatArray = scale * drawn
        return scaled

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
        centre = float(np.mean(leaf.astype(np.float64)))
        return np.asarray(centre + spread * generator.standard_normal(leaf.shape))

    def _settle(self) -> None:
        """Choose how probes are drawn, so that the model runs and its outputs are finite."""
        for near in (False, True):
            for integers in (True, False):
                self._near, self._integers = near, integers
                if all(self._runs(number) for number in range(2)):
                    return
        raise ValueError(
            "the outputs of the model are not finite at random parameters near the actual ones"
        )

    def _runs(self, number: int) -> bool:
        probe = self.probe(number)
        try:
            found = self._live.outputs(probe.values, probe.inputs, seed=probe.seed)
        except Exception:  # whatever the model raises for inputs of another kind
            return False
        return all(np.isfinite(y).all() for y in found)


def _window(pool: FloatArray, start: int, size: int) -> FloatArray:
    """Return ``size`` consecutive numbers of a pool, which begins anew at its end."""
    if start + size <= pool.size:
        return pool[start : start + size]
    return np.resize(np.roll(pool, -start), size)


@dataclass(eq=False)
class Signatures:
    """What gradients at all probes say about the sides of parameters.

    Attributes
    ----------
    sums, sizes : dict of Side to list of ndarray, shape (width,)
        For every probe the sums of ``w * dL/dw`` over the groups of a side, and those of their
        absolute values.
    gradients : dict of str to list of ndarray
        For every probe the gradient of a parameter with one axis or none.
    reached : dict of str to bool
        Whether the gradient of a parameter was anything but zero at some probe.
    connected : dict of str to bool
        Whether the outputs depend on a parameter at all, in the framework's graph.
    shifts : dict of (str, int) to list of (float, float)
        For axes of parameters along which gradients may add up to zero, the largest sum of
        absolute values at every probe, and the largest sum relative to it.
    refuted : set of (str, int)
        The axes along which gradients do not add up to zero.
    probes : int
        The number of probes.
    """

    sums: dict[Side, list[FloatArray]] = field(default_factory=dict)
    sizes: dict[Side, list[FloatArray]] = field(default_factory=dict)
    gradients: dict[str, list[FloatArray]] = field(default_factory=dict)
    reached: dict[str, bool] = field(default_factory=dict)
    connected: dict[str, bool] = field(default_factory=dict)
    shifts: dict[tuple[str, int], list[tuple[float, float]]] = field(default_factory=dict)
    refuted: set[tuple[str, int]] = field(default_factory=set)
    probes: int = 0

    @property
    def unshifted(self) -> dict[tuple[str, int], float]:
        """The axes along which gradients add up to zero, with the largest relative sum.

        Probes at which hardly anything flows, as when a softmax is saturated, are left out.
        """
        found = {}
        for key, parts in self.shifts.items():
            most = max(size for size, _ in parts)
            worst = max(ratio for size, ratio in parts if size > _SATURATED * most)
            if worst <= SHIFTED:
                found[key] = worst
        return found

    def stacked(self, side: Side) -> tuple[FloatArray, FloatArray]:
        """Return the sums and sizes of a side, shape ``(probes, width)``."""
        return np.stack(self.sums[side]), np.stack(self.sizes[side])


def signatures(
    prober: Prober, sides: Iterable[Side], *, probes: Sequence[int], small: bool = False
) -> Signatures:
    """Return the signatures of sides at probes with given numbers, see `Prober.probe`."""
    found = Signatures(probes=len(probes))
    by_tensor: dict[str, list[Side]] = {}
    for side in sides:
        by_tensor.setdefault(side.tensor, []).append(side)
        found.sums[side], found.sizes[side] = [], []
    live = prober.live
    for number in probes:
        probe = prober.probe(number, small=small)
        gradients = live.gradients(
            probe.values, probe.inputs, seed=probe.seed, cotangent=probe.cotangent
        )
        for name, value in probe.values.items():
            gradient = gradients[name]
            found.connected[name] = found.connected.get(name, False) or gradient is not None
            gradient = np.zeros_like(value) if gradient is None else gradient
            found.reached[name] = found.reached.get(name, False) or bool(gradient.any())
            if value.ndim <= 1:
                found.gradients.setdefault(name, []).append(gradient)
            _add_shifts(found, name, gradient)
            product = value * gradient
            for side in by_tensor.get(name, ()):
                found.sums[side].append(side.sums(product))
            np.abs(product, out=product)
            for side in by_tensor.get(name, ()):
                found.sizes[side].append(side.sums(product))
    return found


def _add_shifts(found: Signatures, name: str, gradient: FloatArray) -> None:
    for axis in range(gradient.ndim):
        key = name, axis
        if gradient.shape[axis] < 2 or key in found.refuted:
            continue
        if not found.shifts.get(key) and _clearly_not(gradient, axis):
            found.refuted.add(key)
            continue
        total, size = np.abs(gradient.sum(axis=axis)), np.abs(gradient).sum(axis=axis)
        largest = float(size.max())
        if largest == 0.0:
            continue
        ratio = float((total / np.maximum(size, 1e-6 * largest)).max())
        found.shifts.setdefault(key, []).append((largest, ratio))
        most = max(size for size, _ in found.shifts[key])
        if ratio > SHIFTED and largest > _SATURATED * most:
            found.refuted.add(key)
            del found.shifts[key]


def _clearly_not(gradient: FloatArray, axis: int) -> bool:
    """Return whether a small part of a large gradient shows that it does not add up to zero."""
    part = gradient[tuple(slice(None) if a == axis else slice(8) for a in range(gradient.ndim))]
    if 16 * part.size > gradient.size:
        return False
    size = np.abs(part).sum(axis=axis)
    return bool((np.abs(part.sum(axis=axis)) > 1e-3 * size).mean() > 0.5)
