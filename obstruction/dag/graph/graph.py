"""The class of directed acyclic graphs of nodes and edges, and the function that they compute."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from obstruction.dag.graph.names import (
    BIAS,
    Edge,
    Node,
    as_objects,
    check_edge,
    check_iterable,
    check_nodes,
    check_numbers,
    check_sizes,
    shown,
)
from obstruction.dag.graph.order import depths, reached
from obstruction.tools.words import counted
from obstruction.topology.regions import Indices, Mask, Side

FloatArray: TypeAlias = NDArray[np.float64]
WeightsLike: TypeAlias = ArrayLike | Mapping[Edge, Any] | Sequence[Any]


class Graph:
    """A directed acyclic graph of inputs, hidden nodes and outputs with one weight per edge.

    An output is the weighted sum of the nodes from which its edges come. A hidden node applies a
    positively homogeneous activation to this sum. `evaluate` and `gradient` take it to be ReLU.

    Parameters
    ----------
    edges : iterable of (node, node)
        Pairs of tail and head, in the order in which weights are given. Nodes are any hashable
        names. An edge from ``"bias"`` is a bias.
    inputs, outputs : iterable of nodes
        The inputs and outputs in order. All other nodes are hidden.

    Attributes
    ----------
    inputs, hidden, outputs : tuple of nodes
        Hidden nodes are in topological order.
    edges : tuple of (node, node)
        The edges in the order of weights.
    tails, heads : ndarray of int, shape (size,)
        The ends of the edges as places of nodes. Places count from 0: first the inputs, then the
        bias, the hidden nodes and the outputs.
    first, last : int
        The places of the first hidden node and of the first output.

    Raises
    ------
    ValueError
        If there is a cycle, if an edge is given twice, leads into an input or the bias or leads out
        of an output, or if a hidden node is not on a path from an input or the bias to an output.
    """

    def __init__(
        self, edges: Iterable[Edge], *, inputs: Iterable[Node], outputs: Iterable[Node]
    ) -> None:
        pairs = [check_edge(i, edge) for i, edge in enumerate(check_iterable("edges", edges))]
        ends = check_nodes("inputs", inputs), check_nodes("outputs", outputs)
        known = dict.fromkeys(ends[0])
        known[BIAS] = None  # the bias has a place even if it has no edges
        if both := [node for node in ends[1] if node in known]:
            raise ValueError(f"outputs: {shown(both)} must not be inputs or the bias as well")
        inner = dict.fromkeys(node for edge in pairs for node in edge)
        middle = [node for node in inner if node not in known and node not in set(ends[1])]
        names = [*known, *middle, *ends[1]]
        place = {node: i for i, node in enumerate(names)}
        tails = np.array([place[a] for a, _ in pairs], dtype=np.int64)
        heads = np.array([place[b] for _, b in pairs], dtype=np.int64)
        codes, counts = np.unique(tails * len(names) + heads, return_counts=True)
        if twice := [divmod(code, len(names)) for code in codes[counts > 1].tolist()]:
            raise ValueError(
                f"edges: given twice: {shown([(names[a], names[b]) for a, b in twice])}"
            )
        self._build(names, len(ends[0]), len(ends[1]), tails, heads)

    def _build(
        self, names: Sequence[Node], inputs: int, outputs: int, tails: Indices, heads: Indices
    ) -> None:
        """Set the attributes from nodes in the order of their places and edges between places.

        The hidden nodes may be in any order and are sorted topologically. Edges may be parallel, as
        they are if the outputs of two layers with biases are added.
        """
        first, last = inputs + 1, len(names) - outputs
        if wrong := [names[v] for v in np.unique(heads[heads < first]).tolist()]:
            raise ValueError(f"edges: no edge may lead into the inputs or the bias: {shown(wrong)}")
        if wrong := [names[v] for v in np.unique(tails[tails >= last]).tolist()]:
            raise ValueError(f"edges: no edge may lead out of the outputs: {shown(wrong)}")
        depth = depths(names, tails, heads)
        order = np.arange(len(names))
        order[first:last] = first + np.argsort(depth[first:last], kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(names))
        self._names = tuple(names[v] for v in order.tolist())
        self._depths = depth[order]
        self.tails, self.heads = rank[tails], rank[heads]
        self.first, self.last = first, last
        problems = "that neither an input nor a bias reaches", "that lead to no output"
        for mask, problem in zip(self._reached(np.ones(self.size, bool)), problems, strict=True):
            if lost := [self._names[v] for v in range(first, last) if not mask[v]]:
                raise ValueError(f"edges: hidden nodes {problem}: {shown(lost)}")

    @classmethod
    def _of(
        cls, names: Sequence[Node], inputs: int, outputs: int, tails: Indices, heads: Indices
    ) -> Any:
        made = cls.__new__(cls)
        made._build(names, inputs, outputs, tails, heads)
        return made

    # --- nodes and edges -----------------------------------------------------------------------

    @cached_property
    def inputs(self) -> tuple[Node, ...]:
        """The inputs, in order."""
        return self._names[: self.first - 1]

    @cached_property
    def hidden(self) -> tuple[Node, ...]:
        """The hidden nodes in topological order: each comes after all nodes that lead to it."""
        return self._names[self.first : self.last]

    @cached_property
    def outputs(self) -> tuple[Node, ...]:
        """The outputs, in order."""
        return self._names[self.last :]

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """The edges, in the order of weights."""
        names = self._names
        return tuple(
            (names[a], names[b])
            for a, b in zip(self.tails.tolist(), self.heads.tolist(), strict=True)
        )

    @property
    def size(self) -> int:
        """The number of edges, which is the number of weights."""
        return self.tails.size

    @property
    def nodes(self) -> int:
        """The number of nodes, including the bias even if it has no edges."""
        return len(self._names)

    @property
    def depths(self) -> Indices:
        """The number of edges on the longest path to each node, in the order of places."""
        return self._depths.copy()

    @property
    def depth(self) -> int:
        """The number of edges on the longest path."""
        return int(self._depths.max())

    def __repr__(self) -> str:
        parts = (
            counted(len(self.inputs), "input"),
            counted(len(self.hidden), "hidden node"),
            counted(len(self.outputs), "output"),
            counted(self.size, "edge"),
        )
        return f"{type(self).__name__}: {', '.join(parts)}"

    # --- weights -------------------------------------------------------------------------------

    def vector(self, weights: WeightsLike) -> NDArray[Any]:
        """Return weights as an array in the order of the edges.

        Parameters
        ----------
        weights : array_like, shape (size,), or mapping from edges to numbers
            If all numbers are integers or fractions, they stay exact. Otherwise all become float64.

        Returns
        -------
        ndarray of float64 or object, shape (size,)

        Raises
        ------
        ValueError
            If there is not exactly one weight per edge, or a weight is neither 0 nor between 1e-150
            and 1e150 in absolute value.
        """
        if isinstance(weights, Mapping):
            if len(set(self.edges)) < self.size:
                raise ValueError("weights: must be an array, because some edges are parallel")
            missing = [edge for edge in self.edges if edge not in weights]
            if missing:
                raise ValueError(f"weights: must have a weight for {shown(missing)}")
            if len(weights) > self.size:
                extra = set(weights) - set(self.edges)
                raise ValueError(
                    "weights: must have keys that are edges of this network, not "
                    f"{shown(sorted(extra, key=str))}"
                )
            weights = [weights[edge] for edge in self.edges]
        values = (
            weights
            if isinstance(weights, np.ndarray)
            else as_objects(check_iterable("weights", weights))
        )
        if np.shape(values) != (self.size,):
            raise ValueError(
                f"weights: must be one number for each of {self.size:,} edges, "
                f"not of shape {np.shape(values)}"
            )
        numbers = check_numbers("weights", values, lambda i: shown([self.edges[i]]))
        return check_sizes("weights", numbers, lambda i: shown([self.edges[i]]))

    def balances(self, weights: WeightsLike) -> NDArray[Any]:
        """Return the balance of each hidden node, which gradient flow conserves.

        Parameters
        ----------
        weights : array_like or mapping
            As for `vector`.

        Returns
        -------
        ndarray of float64 or object, shape (hidden nodes,)
            The sum of squared weights in, including the bias, minus the sum of squared weights
            out. It is exact if the weights are integers or fractions.
        """
        into, out = self.sums_of_squares(self.vector(weights))
        found: NDArray[Any] = into - out
        return found

    def sums_of_squares(self, weights: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the sums of squared weights into and out of each hidden node."""
        inner = slice(self.first, self.last)
        if weights.dtype != object:
            squares, nodes = weights * weights, self.nodes
            return (
                np.bincount(self.heads, squares, nodes)[inner],
                np.bincount(self.tails, squares, nodes)[inner],
            )
        sums = np.zeros((2, self.nodes), dtype=object)
        np.add.at(sums[0], self.heads, weights * weights)
        np.add.at(sums[1], self.tails, weights * weights)
        return sums[0, inner], sums[1, inner]

    # --- the function --------------------------------------------------------------------------

    def evaluate(self, weights: WeightsLike, X: ArrayLike) -> FloatArray:
        """Return the outputs of the ReLU network.

        Parameters
        ----------
        weights : array_like or mapping
            As for `vector`.
        X : array_like, shape (points, inputs)

        Returns
        -------
        ndarray, shape (points, outputs)

        Raises
        ------
        ValueError
            If the weights or the shape of ``X`` do not fit.
        """
        values = self._forward(self.vector(weights).astype(np.float64), X)
        return np.ascontiguousarray(values[self.last :].T)

    def gradient(self, weights: WeightsLike, X: ArrayLike, upstream: ArrayLike) -> FloatArray:
        """Return the gradient of a loss with respect to the weights.

        Parameters
        ----------
        weights, X
            As for `evaluate`.
        upstream : array_like, shape (points, outputs)
            The derivative of the loss with respect to the outputs.

        Returns
        -------
        ndarray, shape (size,)
            The derivative of ReLU at 0 is taken as 0.

        Raises
        ------
        ValueError
            If the weights or a shape do not fit.
        """
        flat = self.vector(weights).astype(np.float64)
        values = self._forward(flat, X)
        slopes, shape = np.asarray(upstream, dtype=np.float64), (np.shape(X)[0], len(self.outputs))
        if slopes.shape != shape:
            raise ValueError(f"upstream: must have the shape {shape}, not {slopes.shape}")
        above = np.zeros_like(values)
        above[self.last :] = slopes.T
        back = sparse.csr_array((flat, (self.tails, self.heads)), shape=(len(values),) * 2)
        for start, stop in reversed(self._levels):
            above[start:stop] = (back[start:stop] @ above) * (values[start:stop] > 0.0)
        found: FloatArray = np.einsum("ei,ei->e", values[self.tails], above[self.heads])
        return found

    def _forward(self, weights: FloatArray, X: ArrayLike) -> FloatArray:
        """Return the values of all nodes, shape (nodes, points)."""
        points = np.asarray(X, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != len(self.inputs):
            raise ValueError(
                f"X: must have the shape (points, {len(self.inputs)}), with one column per input, "
                f"not {points.shape}"
            )
        values = np.zeros((self.nodes, len(points)))
        values[: self.first - 1] = points.T
        values[self.first - 1] = 1.0
        ways = sparse.csr_array((weights, (self.heads, self.tails)), shape=(len(values),) * 2)
        for start, stop in self._levels:
            values[start:stop] = np.maximum(ways[start:stop] @ values, 0.0)
        values[self.last :] = ways[self.last :] @ values
        return values

    @cached_property
    def _levels(self) -> list[tuple[int, int]]:
        """Ranges of places of hidden nodes of equal depth, in order."""
        depth = self._depths[self.first : self.last]
        cuts = self.first + np.flatnonzero(np.diff(depth)) + 1
        bounds = [self.first, *cuts.tolist(), self.last]
        return [(a, b) for a, b in itertools.pairwise(bounds) if a < b]

    # --- the structure -------------------------------------------------------------------------

    @cached_property
    def sides(self) -> tuple[Side, Side]:
        """The hidden nodes as `Side`: with their weights out, and with their weights in."""
        first, last = self.first, self.last
        n = last - first
        out = np.bincount(self.tails, minlength=self.nodes)[first:last]
        into = np.bincount(self.heads, minlength=self.nodes)[first:last]
        leads, enters = self.heads >= last, self.tails < first
        inner = ~leads & ~enters

        def marked(nodes: Indices) -> Mask:
            mask = np.zeros(self.nodes, dtype=bool)
            mask[nodes] = True
            return mask[first:last]

        side = Side(
            n,
            self.tails[inner] - first,
            self.heads[inner] - first,
            marked(self.tails[leads]),
            out == 1,
        )
        return side, side.reversed(marked(self.heads[enters]), into == 1)

    def edges_of_hidden(self) -> tuple[Indices, Indices]:
        """Return, for each hidden node, the indices of one edge out of it and one edge into it."""
        places = np.zeros((2, self.nodes), dtype=np.int64)
        places[0, self.tails] = places[1, self.heads] = np.arange(self.size)
        return places[0, self.first : self.last], places[1, self.first : self.last]

    def incidence(self) -> sparse.csr_array:
        """Return the matrix ``B`` of the flow polyhedron ``{x >= 0: B x = c}``.

        Returns
        -------
        sparse array of int, shape (hidden nodes, size)
            1 where an edge leads into a hidden node, -1 where it leads out of it.
        """
        rows, columns, signs = [], [], []
        for ends, sign in ((self.heads, 1), (self.tails, -1)):
            inner = (ends >= self.first) & (ends < self.last)
            rows.append(ends[inner] - self.first)
            columns.append(np.flatnonzero(inner))
            signs.append(np.full(rows[-1].size, sign))
        data = np.concatenate(signs), (np.concatenate(rows), np.concatenate(columns))
        return sparse.csr_array(data, shape=(self.last - self.first, self.size))

    def on_paths(self, kept: Mask) -> Mask:
        """Return which edges lie on a path of given edges from an input or the bias to an output.

        Parameters
        ----------
        kept : ndarray of bool, shape (size,)
            The edges that paths may contain.
        """
        from_inputs, to_outputs = self._reached(kept)
        return kept & from_inputs[self.tails] & to_outputs[self.heads]

    def _reached(self, kept: Mask) -> tuple[Mask, Mask]:
        """Return which nodes kept edges link to an input or the bias, and which to an output."""
        links = np.ones(int(kept.sum())), (self.tails[kept], self.heads[kept])
        forward = sparse.csr_array(links, shape=(self.nodes, self.nodes))
        return (
            reached(forward, range(self.first)),
            reached(forward.T.tocsr(), range(self.last, self.nodes)),
        )
