"""The outputs of a network before and after its neurons are rescaled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.models.model import Layer, Link, Model
from obstruction.models.updating import epsilon, stored_types

FloatArray = NDArray[np.float64]

_LARGEST: Final = {"float16": 65504.0, "bfloat16": 3.38e38, "float32": 3.4e38, "float64": 1.79e308}


def largest_difference(
    model: Model, changes: Mapping[str, NDArray[Any]]
) -> tuple[float, float, int]:
    """Return by how much new tensors change the outputs of a network.

    Each run of audited layers is computed in float64 for 32 to 256 standard normal inputs, the
    fewer the larger the network. The effect of rounding is measured: the outputs are computed once
    more with random errors in the last places of the original weights.

    ``changes`` maps names of tensors to new values in stored shape and precision. The result is the
    largest absolute difference of an output, the largest ratio of that difference to the largest
    output of the same run, and the number of inputs.

    Raises
    ------
    ValueError
        If an output changes by more than 32 times the effect of rounding, or if the new output of
        a neuron overflows the stored type.
    """
    size = sum(layer.weight.size for layer in model.layers)
    inputs = int(np.clip(4e9 / max(1, size), 32, 256))
    worst, relative = 0.0, 0.0
    for part in model.segments():
        if not {t.name for i in part for t in model.layers[i].tensors} & set(changes):
            continue
        was, moved, now = _outputs(model, part, changes, inputs)
        name = model.layers[part[-1]].name
        if not np.all(np.isfinite([was, now])):
            raise ValueError(f"{name}: its outputs are not finite, so no repair can be checked")
        difference = float(np.abs(now - was).max(initial=0.0))
        if difference > 32.0 * float(np.abs(moved - was).max(initial=0.0)):
            raise ValueError(
                f"{name}: its outputs would differ by {difference:.3g}, more than rounding explains"
            )
        worst = max(worst, difference)
        if difference > 0.0:
            relative = max(relative, difference / float(np.abs(was).max()))
    return worst, relative, inputs


def _outputs(
    model: Model, part: range, changes: Mapping[str, NDArray[Any]], inputs: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the outputs as they are, with random rounding errors, and with the changes."""
    rng = np.random.default_rng(0)
    was = rng.standard_normal((inputs, model.layers[part[0]].inputs))
    moved = now = was
    for i in part:
        layer = model.layers[i]
        new = layer.with_values(changes)
        weight = layer.weight.astype(np.float64)
        was, before, moved = _apply(layer, weight, was), moved, _apply(layer, weight, moved)
        now = _apply(new, new.weight.astype(np.float64), now)
        # half a unit in the last place of the stored type, and the error of sums in float64
        place = max(map(epsilon, stored_types([layer]))) / 2.0 + 2.0**-51
        weight *= weight
        spread = layer.factor**2 * (before**2 @ weight.T)
        if layer.bias is not None:
            spread += (layer.bias_factor * layer.bias.astype(np.float64)) ** 2
        moved = moved + place * np.sqrt(spread) * rng.standard_normal(moved.shape)
        if i < part[-1]:
            was, moved, now = (_activate(model.links[i], z) for z in (was, moved, now))
            dtype = layer.weight_tensor.dtype
            if np.abs(now).max(initial=0.0) > _LARGEST.get(dtype, np.inf):
                raise ValueError(f"{layer.name}: the outputs of its neurons would overflow {dtype}")
    return was, moved, now


def _apply(layer: Layer, weight: FloatArray, x: FloatArray) -> FloatArray:
    z: FloatArray = layer.factor * (x @ weight.T)
    if layer.bias is not None:
        z += layer.bias_factor * layer.bias.astype(np.float64)
    return z


def _activate(link: Link, z: FloatArray) -> FloatArray:
    return z if link.activation == "linear" else np.where(z < 0.0, link.slope * z, z)
