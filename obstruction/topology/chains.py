"""Find the weights of a chain of fully connected layers that can never change their sign.

Gradient flow conserves the balance ``c_v`` of every hidden neuron: the sum of its squared incoming
weights and bias minus the sum of its squared outgoing weights. Let ``c(S)`` be the sum of the
balances of a set ``S`` of hidden neurons. If ``c(S) < 0`` and ``S`` has only one outgoing weight,
the square of this weight is at least ``-c(S)``. If ``c(S) > 0`` and ``S`` has only one incoming
weight, the square of this weight is at least ``c(S)``. Such a weight is *frozen*: it can never pass
through zero. All other weights can (Gale 1957, Hoffman 1960). Every frozen weight cuts the set of
parameters with the same balances in two. docs/topology.md has the proof.

A chain of layers is a directed acyclic graph, so `obstruction.topology.regions` finds the frozen
weights. To avoid a list of all weights between two layers, arcs lead from each neuron of the first
layer to one extra node of balance 0, and from this node to each neuron of the second layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from obstruction.tools.checks import LARGEST_SIZE, check_count
from obstruction.topology.parameters import FloatArray, check_array
from obstruction.topology.regions import Mask, Side


@dataclass(frozen=True, eq=False)
class FrozenLayer:
    """The frozen weights around one hidden layer, in arrays with one entry per neuron.

    Attributes
    ----------
    out_frozen, in_frozen : ndarray of bool
        Whether the neuron's only outgoing or incoming weight is frozen; False if it has several.
        A weight between two layers of width 1 belongs to both layers.
    out_boundary, in_boundary : ndarray of bool
        Whether that weight is at the boundary, as defined in `frozen_weights`.
    out_bottleneck : ndarray of float64
        The smallest ``c(S)`` over all ``S`` with this only outgoing weight, which is frozen if the
        sum is negative. NaN if the neuron has several outgoing weights.
    in_bottleneck : ndarray of float64
        The largest ``c(S)`` over all ``S`` with this only incoming weight, which is frozen if the
        sum is positive. NaN if the neuron has several incoming weights or a bias.
    """

    out_frozen: Mask
    in_frozen: Mask
    out_boundary: Mask
    in_boundary: Mask
    out_bottleneck: FloatArray
    in_bottleneck: FloatArray


@dataclass(frozen=True, eq=False)
class FrozenWeights:
    """The frozen weights of a chain of layers, and the components of its invariant set.

    Attributes
    ----------
    layers : tuple of FrozenLayer
        The hidden layers, in order.
    frozen, boundary : int
        The numbers of weights that are frozen and that are at the boundary.
    effective_components : int
        The number of components up to rescaling and permutation of neurons.
    """

    layers: tuple[FrozenLayer, ...]
    frozen: int
    boundary: int
    effective_components: int

    @property
    def components(self) -> int:
        """The number of connected components of the invariant set, ``2^frozen``."""
        return 1 << self.frozen


def frozen_weights(
    balances: Sequence[ArrayLike],
    inputs: int,
    outputs: int,
    biases: Sequence[bool],
    tolerances: Sequence[ArrayLike] | None = None,
) -> FrozenWeights:
    """Return which weights of a chain of fully connected layers are frozen.

    Parameters
    ----------
    balances : sequence of array_like, shapes (n_1,), ..., (n_L,)
        The balance of each neuron of each hidden layer, in order.
    inputs, outputs : int
        The number of inputs and outputs of the chain, >= 1.
    biases : sequence of bool, length L
        Whether the neurons of each hidden layer have biases. Output biases have no influence.
    tolerances : sequence of array_like, shapes (n_1,), ..., (n_L,), optional
        The possible error of each balance, >= 0; by default 0. A weight is frozen if it is frozen
        for all balances within the tolerances. It is at the boundary if it is frozen, or its
        ``c(S)`` is 0, for some of them.

    Raises
    ------
    ValueError
        If there is no hidden layer, lengths do not fit, a number is not finite, or a tolerance is
        negative.

    Notes
    -----
    The criterion is that of Gale and Hoffman for flows. For two layers it gives Nurisso et al.
    2024, Cor. 1 to 4. For directed acyclic graphs see Nurisso et al. 2026, arXiv:2602.00693.

    Examples
    --------
    Two hidden layers and one output: only the last layer's negative balances freeze weights.

    >>> found = frozen_weights([[-1.0, 2.0], [3.0, -4.0]], inputs=5, outputs=1, biases=[True, True])
    >>> found.layers[1].out_frozen.tolist(), found.components
    ([False, True], 2)

    The neurons before a layer of width 1 have a single outgoing weight each:

    >>> found = frozen_weights([[-1.0, 2.0], [0.5]], inputs=5, outputs=1, biases=[True, True])
    >>> found.layers[0].out_frozen.tolist(), found.layers[1].out_bottleneck.tolist()
    ([True, False], [-0.5])
    """
    c = _arrays("balances", balances)
    if not c:
        raise ValueError("balances = []: must hold at least one hidden layer")
    flags = _list("biases", biases)
    if len(flags) != len(c) or not all(isinstance(flag, (bool, np.bool_)) for flag in flags):
        raise ValueError(f"biases = {biases!r}: must be True or False for each of {len(c)} layers")
    widths = [
        check_count("inputs", inputs, most=LARGEST_SIZE),
        *(layer.size for layer in c),
        check_count("outputs", outputs, most=LARGEST_SIZE),
    ]
    ends = np.cumsum(widths[1:-1])
    outward, inward = _sides(widths, flags)

    def of_nodes(layers: list[FloatArray]) -> FloatArray:
        return np.concatenate([*layers, np.zeros(outward.nodes - ends[-1])])

    values = of_nodes(c)
    slack = None if tolerances is None else of_nodes(_tolerances(tolerances, c))
    out, into = outward.decide(values, slack), inward.decide(-values, slack)
    columns = (
        out.frozen,
        into.frozen,
        out.boundary,
        into.boundary,
        np.where(outward.single, out.sums.least, np.nan),
        np.where(inward.single, -into.sums.least, np.nan),
    )
    parts = (np.split(column, ends)[:-1] for column in columns)
    layers = [FrozenLayer(*arrays) for arrays in zip(*parts, strict=True)]
    twice = [i for i in range(len(c) - 1) if widths[i + 1] == widths[i + 2] == 1]
    for i in twice:  # both layers have this weight, which either side can freeze
        here, there = layers[i], layers[i + 1]
        frozen = here.out_frozen | there.in_frozen
        boundary = (here.out_boundary | there.in_boundary) & ~frozen
        here.out_frozen[:] = there.in_frozen[:] = frozen
        here.out_boundary[:] = there.in_boundary[:] = boundary

    groups = [(layer.out_frozen, layer.out_boundary) for layer in layers]
    groups += [(x.in_frozen, x.in_boundary) for i, x in enumerate(layers) if i - 1 not in twice]
    counts = [[int(np.count_nonzero(mask)) for mask in group] for group in groups]
    n_frozen, n_boundary = (sum(column) for column in zip(*counts, strict=True))
    effective = math.prod(count + 1 for count, _ in counts)
    return FrozenWeights(tuple(layers), n_frozen, n_boundary, effective)


def _sides(widths: Sequence[int], biases: Sequence[bool]) -> tuple[Side, Side]:
    """Return the weights out and the weights in of the hidden neurons of a chain."""
    sizes = np.array(widths[1:-1])
    ends = np.cumsum(sizes)
    starts = ends - sizes
    last, nodes = len(sizes) - 1, int(ends[-1])
    tails, heads = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for i in range(last):
        here, there = np.arange(starts[i], ends[i]), np.arange(starts[i + 1], ends[i + 1])
        if min(here.size, there.size) > 1:  # through an extra node
            tails += [here, np.full(there.size, nodes)]
            heads += [np.full(here.size, nodes), there]
            nodes += 1
        else:
            here, there = np.broadcast_arrays(here, there)
            tails.append(here)
            heads.append(there)
    leaves, enters, alone_out, alone_in = np.zeros((4, nodes), dtype=bool)
    leaves[starts[last] : ends[last]] = True
    for i in range(last + 1):
        layer = slice(starts[i], ends[i])
        enters[layer] = i == 0 or biases[i]
        alone_out[layer] = widths[i + 2] == 1
        alone_in[layer] = widths[i] == 1 and not biases[i]
    out = Side(nodes, np.concatenate(tails), np.concatenate(heads), leaves, alone_out)
    return out, out.reversed(enters, alone_in)


def _tolerances(tolerances: Sequence[ArrayLike], c: list[FloatArray]) -> list[FloatArray]:
    found = _arrays("tolerances", tolerances)
    if len(found) != len(c):
        raise ValueError(f"tolerances has {len(found)} layers: must have {len(c)}, as balances")
    for i, (layer, array) in enumerate(zip(c, found, strict=True)):
        if array.shape != layer.shape or array.min() < 0.0:
            raise ValueError(
                f"tolerances[{i}]: must be {layer.size} numbers >= 0, as balances[{i}] has"
            )
    return found


def _arrays(name: str, values: Sequence[ArrayLike]) -> list[FloatArray]:
    shape = "(n,), one number for each neuron of the layer"
    return [
        check_array(f"{name}[{i}]", value, 1, shape) for i, value in enumerate(_list(name, values))
    ]


def _list(name: str, values: Any) -> list[Any]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ValueError(f"{name} = {values!r}: must be a sequence, one entry a hidden layer")
    return list(values)
