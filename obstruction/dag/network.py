"""The class of networks on directed acyclic graphs, with methods for all their analyses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obstruction.dag.graph.graph import Graph, WeightsLike
from obstruction.dag.graph.names import BIAS, Edge, Node, check_iterable
from obstruction.dag.reachable import betti, frozen, paths, singular
from obstruction.tools.checks import check_count, check_tolerance

if TYPE_CHECKING:
    import networkx
    from matplotlib.axes import Axes


class Pruned(NamedTuple):
    """A network without the parts that its function does not need.

    Attributes
    ----------
    network : Network
        The pruned network, with the same inputs and outputs.
    weights : ndarray, shape (size,)
        The weights of the remaining edges, unchanged.
    removed_nodes : tuple of nodes
        The removed nodes.
    removed_edges : tuple of (node, node)
        The removed edges.
    largest : float
        The largest absolute value of a nonzero weight that counted as zero. If it is 0, the pruned
        network computes the same function up to rounding.
    """

    network: Network
    weights: NDArray[Any]
    removed_nodes: tuple[Node, ...]
    removed_edges: tuple[Edge, ...]
    largest: float


class Network(Graph):
    """A feed-forward ReLU network on a directed acyclic graph with one trainable weight per edge.

    `mlp`, `from_edges` and `from_networkx` make networks, and `obstruction.dag.from_model` reads a
    real model. Methods take weights as an array in the order of `edges` or as a mapping from edges.

    The functions of `obstruction.dag` whose first argument is a graph are methods as well:
    `frozen_edges`, `smallest_squares`, `same_component`, `path`, `poincare_polynomial`,
    `is_singular`, `cut_off`, `singular_subnetworks` and `distance_to_singularity`.
    `log2_components` returns the number of frozen weights.

    Examples
    --------
    >>> net = Network.mlp([2, 3, 1], hidden_bias=True)
    >>> net
    Network: 2 inputs, 3 hidden nodes, 1 output, 12 edges
    >>> weights = net.from_layers([[[1, 0], [0, 1], [1, 1]], [[2, 1, 1]]], [[0, 0, 0]])
    >>> print(net.frozen_edges(weights))  # 1² + 0² + 0² < 2²
    1 frozen, 1 at the boundary
      h1.0 -> y0  frozen  sign +1  |w| >= 1.73205  only edge out of {h1.0}, c = -3
      h1.1 -> y0  boundary  sign +1  |w| >= 0  only edge out of {h1.1}, c = 0
    >>> net.components(weights)
    2
    """

    @classmethod
    def mlp(
        cls,
        widths: Iterable[int],
        *,
        hidden_bias: bool | Sequence[bool] = False,
        output_bias: bool = False,
    ) -> Network:
        """Return a chain of fully connected layers.

        Parameters
        ----------
        widths : iterable of int
            The numbers of inputs, of nodes of each hidden layer and of outputs, each >= 1.
        hidden_bias : bool or sequence of bool
            Whether hidden nodes have biases; a sequence has one entry for each hidden layer.
        output_bias : bool
            Whether outputs have biases.

        Returns
        -------
        Network
            Its nodes are named ``x0``, ``h1.0`` (layer and place), ``y0`` and ``bias``. Edges are
            ordered by layer: first the matrix of the layer row by row, then its biases, as in
            ``torch.nn.utils.parameters_to_vector``.

        Raises
        ------
        ValueError
            If a width is not a whole number of at least 1, there are fewer than two, or there is
            not one flag for each hidden layer.
        """
        given = check_iterable("widths", widths)
        sizes = [check_count(f"widths[{i}]", width) for i, width in enumerate(given)]
        if len(sizes) < 2:
            raise ValueError(f"widths = {sizes!r}: must hold at least the inputs and the outputs")
        if isinstance(hidden_bias, (Sequence, np.ndarray)):
            flags = list(hidden_bias)
        else:
            flags = [hidden_bias] * (len(sizes) - 2)
        if len(flags) != len(sizes) - 2 or not all(isinstance(f, (bool, np.bool_)) for f in flags):
            raise ValueError(
                f"hidden_bias = {hidden_bias!r}: must be True or False, or a sequence of them with "
                f"one for each of {len(sizes) - 2} hidden layers"
            )
        biased = [*flags, output_bias]
        names: list[Node] = [f"x{j}" for j in range(sizes[0])]
        starts, last = [0], len(sizes) - 1
        for i, size in enumerate(sizes[1:], 1):
            names += [BIAS] if i == 1 else []
            starts.append(len(names))
            names += [f"h{i}.{k}" if i < last else f"y{k}" for k in range(size)]
        tails, heads = [], []
        for i in range(1, len(sizes)):
            here, there = (starts[j] + np.arange(sizes[j]) for j in (i - 1, i))
            tails.append(np.tile(here, there.size))
            heads.append(np.repeat(there, here.size))
            if biased[i - 1]:
                tails.append(np.full(there.size, sizes[0]))
                heads.append(there)
        made: Network = cls._of(
            names, sizes[0], sizes[-1], np.concatenate(tails), np.concatenate(heads)
        )
        return made

    @classmethod
    def from_edges(
        cls,
        edges: Iterable[Edge],
        *,
        inputs: Iterable[Node],
        outputs: Iterable[Node],
        hidden_bias: bool = False,
    ) -> Network:
        """Return a network with given edges.

        Parameters
        ----------
        edges : iterable of (node, node)
            From tail to head. An edge from ``"bias"`` is a bias.
        inputs, outputs : iterable of nodes
            The inputs and outputs in order; all other nodes are hidden.
        hidden_bias : bool
            Whether to append a bias for each hidden node.

        Raises
        ------
        ValueError
            Under the conditions of `obstruction.dag.Graph`.
        """
        net = cls(edges, inputs=inputs, outputs=outputs)
        if not hidden_bias:
            return net
        biases = [(BIAS, node) for node in net.hidden]
        return cls([*net.edges, *biases], inputs=net.inputs, outputs=net.outputs)

    @classmethod
    def from_networkx(
        cls,
        graph: networkx.DiGraph[Any],
        *,
        inputs: Iterable[Node] | None = None,
        outputs: Iterable[Node] | None = None,
        hidden_bias: bool = False,
    ) -> Network:
        """Return the network of a directed graph of networkx.

        Parameters
        ----------
        graph : networkx.DiGraph
        inputs, outputs : iterable of nodes, optional
            By default the nodes without edges in except ``"bias"``, and the nodes without edges
            out, in the order of the graph.
        hidden_bias : bool
            As for `from_edges`.

        Raises
        ------
        ValueError
            If it is not a directed graph, or under the conditions of `from_edges`.
        """
        if not (hasattr(graph, "is_directed") and graph.is_directed()) or graph.is_multigraph():
            raise ValueError(f"graph = {graph!r}: must be a networkx.DiGraph")
        if inputs is None:
            inputs = [node for node in graph if not graph.in_degree(node) and node != BIAS]
        if outputs is None:
            outputs = [node for node in graph if not graph.out_degree(node)]
        return cls.from_edges(graph.edges, inputs=inputs, outputs=outputs, hidden_bias=hidden_bias)

    def from_layers(
        self, matrices: Sequence[ArrayLike], biases: Sequence[ArrayLike | None] = ()
    ) -> NDArray[Any]:
        """Return the weights of a chain of layers as an array in the order of the edges.

        Parameters
        ----------
        matrices : sequence of array_like, shapes (outputs, inputs)
            The weights of each layer.
        biases : sequence of array_like or None, optional
            The biases of each layer, None for a layer without; missing ones at the end are None.

        Raises
        ------
        ValueError
            If a shape does not fit, or there is not exactly one number for each edge.
        """
        if len(biases) > len(matrices):
            raise ValueError(f"biases: must be at most {len(matrices)} arrays, not {len(biases)}")
        hidden = np.bincount(self.depths[self.first : self.last])[1:].tolist()
        widths = [len(self.inputs), *hidden, len(self.outputs)]
        if len(matrices) != len(widths) - 1:
            raise ValueError(f"matrices: must be {len(widths) - 1} arrays, not {len(matrices)}")
        parts = []
        for i, matrix in enumerate(matrices):
            bias = biases[i] if i < len(biases) else None
            parts.append(_shaped(f"matrices[{i}]", matrix, (widths[i + 1], widths[i])))
            if bias is not None:
                parts.append(_shaped(f"biases[{i}]", bias, (widths[i + 1],)))
        return self.vector(np.concatenate(parts))

    # --- what gradient flow can reach ----------------------------------------------------------

    frozen_edges = frozen.frozen_edges
    smallest_squares = frozen.smallest_squares
    log2_components = frozen.count_frozen
    same_component = paths.same_component
    path = paths.path
    poincare_polynomial = betti.poincare_polynomial
    is_singular = singular.is_singular
    cut_off = singular.cut_off
    singular_subnetworks = singular.singular_subnetworks
    distance_to_singularity = singular.distance_to_singularity

    def components(self, weights: WeightsLike, rtol: float | None = None) -> int:
        """Return the number of connected components of the invariant set, ``2^frozen`` exactly."""
        return 1 << self.log2_components(weights, rtol)

    def betti_numbers(self, weights: WeightsLike, rtol: float | None = None) -> list[int]:
        """Return the Betti numbers of the invariant set of a small network, in order of degree."""
        return self.poincare_polynomial(weights, rtol).dense()

    def plot(self, weights: WeightsLike, ax: Axes | None = None, rtol: float | None = None) -> Axes:
        """Draw the network with its frozen weights; see `obstruction.dag.drawing.plot`."""
        from obstruction.dag import drawing

        return drawing.plot(self, weights, ax, rtol)

    # --- pruning -------------------------------------------------------------------------------

    def prune(self, weights: WeightsLike, tolerance: float = 0.0) -> Pruned:
        """Return the network without the parts that its function does not need.

        Parameters
        ----------
        weights : array_like or mapping
            As for `vector`.
        tolerance : float
            Weights of at most this absolute value count as zero, >= 0.

        Returns
        -------
        Pruned
            A network with the same inputs and outputs, and its weights. It has no sub-network that
            is cut off. With tolerance 0 it computes the same function.

        Notes
        -----
        An edge stays if its weight does not count as zero and it lies on a path of such edges from
        an input or a bias to an output. A hidden node stays if one of its edges does. A node that
        no such path reaches has the value ReLU(0) = 0, and a node from which none leads to an
        output has no effect on the function.

        Examples
        --------
        >>> net = Network.mlp([1, 2, 1])
        >>> net.prune([1.0, 0.0, 2.0, 0.0]).network
        Network: 1 input, 1 hidden node, 1 output, 2 edges
        """
        vector, limit = self.vector(weights), check_tolerance(tolerance)
        sizes = np.abs(vector.astype(np.float64))
        kept = self.on_paths(sizes > limit)
        used = np.zeros(self.nodes, dtype=bool)
        used[self.tails[kept]] = used[self.heads[kept]] = True
        used[: self.first] = used[self.last :] = True
        place = np.cumsum(used) - 1
        smaller = self._of(
            [self._names[v] for v in np.flatnonzero(used)],
            len(self.inputs),
            len(self.outputs),
            place[self.tails[kept]],
            place[self.heads[kept]],
        )
        return Pruned(
            smaller,
            vector[kept],
            tuple(self._names[v] for v in np.flatnonzero(~used)),
            tuple(self.edges[e] for e in np.flatnonzero(~kept)),
            float(sizes[sizes <= limit].max(initial=0.0)),
        )


def _shaped(name: str, values: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return an array of the given shape as a flat array."""
    array = np.asarray(values)
    if array.shape != shape:
        raise ValueError(f"{name}: must have the shape {shape}, not {array.shape}")
    return array.ravel()
