"""The law and the scale that an initialisation scheme gives each weight of a network on a graph.

Schemes are defined for layers, whose weights share a fan-in and a fan-out. On a graph every weight
has its own: its *fan-in* is the number of weights into its head, without the bias, and its
*fan-out* is the number of weights out of its tail. In a chain of layers these are the sizes of the
weight's matrix.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from obstruction.dag.graph.graph import FloatArray, Graph
from obstruction.schemes import ZERO, SchemeLike, as_scheme


class EdgeLaws(NamedTuple):
    """The law and the scale of every weight, in the order of the edges.

    Attributes
    ----------
    codes : ndarray of int64, shape (size,)
        The codes of the laws, see `obstruction.schemes.laws.Law`.
    stds : ndarray of float64, shape (size,)
        The root mean squares; 0 for weights that start at zero.
    """

    codes: NDArray[np.int64]
    stds: FloatArray


def edge_laws(graph: Graph, scheme: SchemeLike) -> EdgeLaws:
    """Return the law and the standard deviation that a scheme gives to each weight.

    Parameters
    ----------
    graph : Graph
    scheme : str or InitScheme
        A scheme with independent weights. All weights into outputs follow its rule for output
        weights, and all weights into hidden nodes follow its rule for hidden weights.

    Returns
    -------
    EdgeLaws

    Raises
    ------
    ValueError
        If the weights of the scheme depend on each other, or if the scheme has hidden biases but
        no hidden node of the graph has one.

    Notes
    -----
    The graph decides which nodes have biases. All of them follow the scheme's rule for hidden
    biases, also those of outputs, which enter no balance. A bias has the fan-in and the mean
    fan-out of the weights into the same node, and both are 1 if there are none. If the scheme has
    no biases, they start at zero.

    Examples
    --------
    A chain of layers has the fans of its matrices: 2/3 and 2/4 for Kaiming.

    >>> from obstruction.dag import Network
    >>> laws = edge_laws(Network.mlp([3, 4, 1]), "kaiming_normal")
    >>> (laws.stds**2).round(3).tolist()[-5:]
    [0.667, 0.5, 0.5, 0.5, 0.5]
    """
    rule = as_scheme(scheme)
    if not rule.independent:
        raise ValueError(f"scheme = {rule.label!r}: its weights must be independent")
    bias, output = graph.tails == graph.first - 1, graph.heads >= graph.last
    if rule.has_bias and graph.hidden and not (bias & ~output).any():
        raise ValueError(
            f"scheme = {rule.label!r}: has hidden biases, but no hidden node of the network has "
            "one (most schemes with biases take bias=none)"
        )
    fan_in, fan_out = _fans(graph, bias)
    codes, stds = np.empty(graph.size, np.int64), np.empty(graph.size)
    for one, edges in (
        (rule.hidden, ~bias & ~output),
        (rule.output, ~bias & output),
        (ZERO if rule.bias is None else rule.bias, bias),
    ):
        codes[edges] = one.law.code
        stds[edges] = np.sqrt(one.variance(fan_in[edges], fan_out[edges]))
    return EdgeLaws(codes, stds)


def _fans(graph: Graph, bias: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Return the fan-in and the fan-out of each weight and bias, see `edge_laws`."""
    nodes = graph.nodes
    weights = np.bincount(graph.heads[~bias], minlength=nodes)
    fan_out = np.bincount(graph.tails, minlength=nodes)[graph.tails].astype(np.float64)
    beside = np.bincount(graph.heads[~bias], fan_out[~bias], nodes) / np.maximum(weights, 1)
    beside[weights == 0] = 1.0
    fan_out[bias] = beside[graph.heads[bias]]
    return np.maximum(weights, 1)[graph.heads].astype(np.float64), fan_out
