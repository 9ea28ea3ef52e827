"""Which weights of a chain of fully connected layers can never change their sign.

Gradient flow keeps at every hidden neuron ``c_v``, the sum of squared weights (and bias) in minus
that of squared weights out. Let ``S`` be a set of hidden neurons and ``c(S)`` the sum of their
balances: what flows into ``S`` in squared weights, less what flows out. If one weight is the only
one out of ``S`` and ``c(S) < 0``, its square is at least ``-c(S)``; if it is the only one into
``S`` and ``c(S) > 0``, at least ``c(S)``. Such a weight is *frozen*: it can never pass through
zero. All others can (Gale 1957, Hoffman 1960), and every frozen weight cuts the set of parameters
with the same balances in two.

In a chain in which every layer is complete, few sets have a single weight out. It leads from a
neuron ``v`` into a layer of width 1, and ``S`` is ``{v}``, unless ``v``'s layer has width 1 as
well: then any part of the layer before may join, and if all of it does, any part of the one before
that, and so on. So the smallest ``c(S)`` is ``c_v + G``, with ``G`` from a sum over each layer.
Weights into ``S`` are the mirror image, where biases, being further ways in, must be absent.
docs/topology.md has the proof.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obstruction.validation import LARGEST_SIZE, check_count

_FloatArray: TypeAlias = NDArray[np.float64]
_Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class LayerBottlenecks:
    """What is frozen around one hidden layer. All arrays have one entry a neuron.

    Attributes
    ----------
    out_frozen : ndarray of bool
        Whether the neuron's only outgoing weight is frozen; False where it has several.
    in_frozen : ndarray of bool
        Whether the neuron's only incoming weight is frozen; False where it has several. A weight
        between two layers of width 1 is in `out_frozen` of the one and `in_frozen` of the other.
    out_boundary, in_boundary : ndarray of bool
        Whether that weight is not known to be frozen, but might be within the tolerances.
    out_bottleneck : ndarray of float64
        The smallest ``c(S)`` over all ``S`` whose only weight out it is: below zero it is frozen.
        NaN where the neuron has several outgoing weights.
    in_bottleneck : ndarray of float64
        The largest ``c(S)`` over all ``S`` whose only weight in it is: above zero it is frozen.
        NaN where the neuron has several incoming weights or a bias.
    """

    out_frozen: _Mask
    in_frozen: _Mask
    out_boundary: _Mask
    in_boundary: _Mask
    out_bottleneck: _FloatArray
    in_bottleneck: _FloatArray


@dataclass(frozen=True, eq=False)
class Bottlenecks:
    """What is frozen in a chain of layers, and into how many pieces that cuts what can be reached.

    Attributes
    ----------
    layers : tuple of LayerBottlenecks
        One a hidden layer, in order.
    frozen : int
        How many weights are frozen, each counted once.
    boundary : int
        How many others might be, within the tolerances.
    effective_components : int
        Into how many pieces up to rescaling and permutation of neurons.
    """

    layers: tuple[LayerBottlenecks, ...]
    frozen: int
    boundary: int
    effective_components: int

    @property
    def components(self) -> int:
        """The number of connected components of the invariant set, ``2^frozen``."""
        return 1 << self.frozen

    @property
    def log2_components(self) -> int:
        """The logarithm to base 2 of the number of components, which is `frozen`."""
        return self.frozen


def frozen_weights(
    balances: Sequence[ArrayLike],
    inputs: int,
    outputs: int,
    biases: Sequence[bool],
    tolerances: Sequence[ArrayLike] | None = None,
) -> Bottlenecks:
    """Return which weights of a chain of fully connected layers are frozen.

    Parameters
    ----------
    balances : sequence of array_like, shapes (n_1,), ..., (n_L,)
        The balance of each neuron of each hidden layer, in order.
    inputs, outputs : int
        The number of inputs and outputs of the chain, >= 1.
    biases : sequence of bool, length L
        Whether the neurons of each hidden layer have biases. Those of the output do not matter.
    tolerances : sequence of array_like, shapes (n_1,), ..., (n_L,), optional
        How far off each balance may be, >= 0; by default not at all. A weight counts as frozen only
        if it is for all balances within the tolerances, and as at the boundary if it is for some
        of them, or just not.

    Raises
    ------
    ValueError
        If there is no hidden layer, lengths do not fit, a number is not finite, or a tolerance is
        negative.

    Notes
    -----
    The criterion is Gale's and Hoffman's for flows; for two layers it gives Nurisso et al. 2024,
    Cor. 1 to 4, and for directed acyclic graphs see Nurisso et al. 2026, arXiv:2602.00693.

    Examples
    --------
    Two hidden layers and one output: only the last layer's negative balances freeze weights.

    >>> found = frozen_weights([[-1.0, 2.0], [3.0, -4.0]], inputs=5, outputs=1, biases=[True, True])
    >>> found.layers[1].out_frozen.tolist(), found.components
    ([False, True], 2)

    A layer of width 1 has the layer before it behind it:

    >>> found = frozen_weights([[-1.0, 2.0], [0.5]], inputs=5, outputs=1, biases=[True, True])
    >>> found.layers[0].out_frozen.tolist(), found.layers[1].out_bottleneck.tolist()
    ([True, False], [-0.5])
    """
    c = [_check(f"balances[{i}]", layer) for i, layer in enumerate(_list("balances", balances))]
    if not c:
        raise ValueError("balances = []: must hold at least one hidden layer")
    flags = _list("biases", biases)
    if len(flags) != len(c) or not all(isinstance(flag, (bool, np.bool_)) for flag in flags):
        raise ValueError(f"biases = {biases!r}: must be True or False for each of {len(c)} layers")
    off = _tolerances(tolerances, c)
    widths = [
        check_count("inputs", inputs, most=LARGEST_SIZE),
        *(layer.size for layer in c),
        check_count("outputs", outputs, most=LARGEST_SIZE),
    ]

    # Everything is computed for the balances as they are and for the ends of their tolerances.
    low = [layer - t for layer, t in zip(c, off, strict=True)]
    high = [layer + t for layer, t in zip(c, off, strict=True)]
    out, out_low, out_high = (_ways_out(x, widths) for x in (c, low, high))
    # The mirror image: the layers in reverse order, balances with the opposite sign.
    into, into_low, into_high = (_ways_in(x, widths, flags) for x in (c, low, high))

    layers = [
        _layer(out[i], out_low[i], out_high[i], into[i], into_low[i], into_high[i])
        for i in range(len(c))
    ]
    twice = [i for i in range(len(c) - 1) if widths[i + 1] == widths[i + 2] == 1]
    for i in twice:  # one weight, frozen from either side
        here, there = layers[i], layers[i + 1]
        frozen = here.out_frozen | there.in_frozen
        boundary = (here.out_boundary | there.in_boundary) & ~frozen
        here.out_frozen[:] = there.in_frozen[:] = frozen
        here.out_boundary[:] = there.in_boundary[:] = boundary

    effective = 1
    for i, layer in enumerate(layers):
        groups = [layer.out_frozen]
        if i - 1 not in twice:
            groups.append(layer.in_frozen)
        for group in groups:
            effective *= int(np.count_nonzero(group)) + 1
    return Bottlenecks(
        tuple(layers),
        frozen=_count(layers, "frozen", twice),
        boundary=_count(layers, "boundary", twice),
        effective_components=effective,
    )


def _ways_out(c: list[_FloatArray], widths: list[int]) -> list[_FloatArray]:
    """Return for each neuron the smallest c(S) over all S whose only weight out is its own."""
    found = []
    narrow = [i for i, layer in enumerate(c) if layer.size == widths[i + 2] == 1]
    last = max(narrow, default=0)  # no later layer asks for what lies before it
    before = 0.0  # the smallest c(S) over all S in earlier layers that lead only into this one
    for i, layer in enumerate(c):
        if widths[i + 2] > 1:
            found.append(np.full(layer.size, np.nan))
        else:
            found.append(layer + before if layer.size == 1 else layer.copy())
        if i < last:
            before = float(min(np.minimum(layer, 0.0).sum(), layer.sum() + before))
    return found


def _ways_in(c: list[_FloatArray], widths: list[int], biases: Sequence[Any]) -> list[_FloatArray]:
    """Return for each neuron the largest c(S) over all S whose only weight in is its own."""
    found = []
    narrow = [i for i, layer in enumerate(c) if layer.size == widths[i] == 1]
    first = min(narrow, default=len(c))  # no earlier layer asks for what lies behind it
    after = 0.0  # the largest c(S) over all S in later layers that are entered only from this one
    for i, layer in reversed(list(enumerate(c))):
        if widths[i] > 1 or biases[i]:
            found.append(np.full(layer.size, np.nan))
        else:
            found.append(layer + after if layer.size == 1 else layer.copy())
        if i > first:
            best = max(np.maximum(layer, 0.0).sum(), layer.sum() + after)
            after = 0.0 if biases[i] else float(best)
    return found[::-1]


def _layer(
    out: _FloatArray,
    out_low: _FloatArray,
    out_high: _FloatArray,
    into: _FloatArray,
    into_low: _FloatArray,
    into_high: _FloatArray,
) -> LayerBottlenecks:
    """Return what the numbers say, NaN saying nothing."""
    return LayerBottlenecks(
        out_frozen=out_high < 0.0,
        in_frozen=into_low > 0.0,
        out_boundary=(out_low <= 0.0) & (out_high >= 0.0),
        in_boundary=(into_low <= 0.0) & (into_high >= 0.0),
        out_bottleneck=out,
        in_bottleneck=into,
    )


def _count(layers: list[LayerBottlenecks], what: str, twice: Iterable[int]) -> int:
    """Return how many weights are frozen or at the boundary, each once."""
    total = sum(
        int(np.count_nonzero(getattr(layer, f"{side}_{what}")))
        for layer in layers
        for side in ("out", "in")
    )
    return total - sum(int(getattr(layers[i], f"out_{what}")[0]) for i in twice)


def _tolerances(tolerances: Sequence[ArrayLike] | None, c: list[_FloatArray]) -> list[_FloatArray]:
    if tolerances is None:
        return [np.zeros(layer.size) for layer in c]
    given = _list("tolerances", tolerances)
    if len(given) != len(c):
        raise ValueError(f"tolerances has {len(given)} layers: must have {len(c)}, as balances")
    found = []
    for i, (layer, value) in enumerate(zip(c, given, strict=True)):
        array = _check(f"tolerances[{i}]", value)
        if array.shape != layer.shape or array.min() < 0.0:
            raise ValueError(
                f"tolerances[{i}]: must be {layer.size} numbers >= 0, as balances[{i}] has"
            )
        found.append(array)
    return found


def _list(name: str, values: Any) -> list[Any]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ValueError(f"{name} = {values!r}: must be a sequence, one entry a hidden layer")
    return list(values)


def _check(name: str, value: ArrayLike) -> _FloatArray:
    try:
        array = np.asarray(value)
    except ValueError:  # nested lists of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "fiu" or array.ndim != 1 or not array.size:
        raise ValueError(f"{name}: must be a row of numbers, one for each neuron of the layer")
    array = array.astype(np.float64)
    finite = np.isfinite(array)
    if not finite.all():
        k = int(np.flatnonzero(~finite)[0])
        raise ValueError(f"{name}[{k}] = {array[k]}: must be finite")
    return array
