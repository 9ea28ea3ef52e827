"""Compiled kernels that draw the weights of networks on a graph and count the frozen ones.

The generator and the laws are those of `obstruction.sampling.kernels.networks`. The counter ``(0,
group, network, law)`` names the weights of the edges ``4 group ... 4 group + 3`` that follow this
law. Any weight can therefore be drawn without the others, and only weights of nodes that can freeze
a weight are drawn. The kernels do not validate their input; `obstruction.dag.probability.sampling`
makes the arrays.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.sampling.kernels.networks import CONSTANT_CODE, PAD, _jit, squares, threefry

_u32 = np.uint32

_Array: TypeAlias = NDArray[Any]


class Draws(NamedTuple):
    """The weights that must be drawn, in groups of four; each row is a group and a law.

    A head or a tail is the node to whose sum of squared weights in or out the weight belongs, or -1
    if that sum is not needed.
    """

    laws: _Array  # int64[draws]: codes of laws
    groups: _Array  # uint32[draws]: group g holds the edges 4 g ... 4 g + 3
    variances: _Array  # float64[draws, 4]: variances of the weights
    heads: _Array  # int64[draws, 4]
    tails: _Array  # int64[draws, 4]


class Candidates(NamedTuple):
    """The weights that can be frozen, each as the only weight into or out of a node.

    A weight appears twice if it is the only one for the nodes at both of its ends.

    The region of a node is ``Regions.nodes[first:last]``, which may be empty.
    """

    nodes: _Array  # int64[k]: the node
    signs: _Array  # float64[k]: 1 if the weight leads out of the node, -1 if it leads in
    slots: _Array  # int64[k]: the place of the weight in the counts
    first: _Array  # int64[k]
    last: _Array  # int64[k]


class Regions(NamedTuple):
    """The regions of all candidates (`obstruction.topology.regions`), one after the other.

    Heads and tails are places in ``nodes``.
    """

    nodes: _Array  # int64[m]: nodes; -1 for a node without a balance, which replaces arcs
    out_starts: _Array  # int64[m + 1]: the first arc out of each node, as a place in `heads`
    in_starts: _Array  # int64[m + 1]: the first arc into each node, as a place in `in_arcs`
    heads: _Array  # int64[arcs]: heads of the arcs, in the order of the tails
    tails: _Array  # int64[arcs]: tails of the arcs, in the same order
    in_arcs: _Array  # int64[arcs]: the arcs as places in `heads`, in the order of the heads


@_jit
def least_closed_sum(regions, first, last, left, flow, way, seen, queue):
    """Return the smallest sum of values over the closed sets of a region, which is at most 0.

    The closure problem is solved as a maximum flow (Picard 1976): negative values send flow along
    the arcs to positive values, and the negative values that remain sum to the minimum. Paths are
    shortest ones (Edmonds and Karp 1972). Nodes from which there is no path to a positive value are
    marked in ``seen``, because no later path leads through them. ``left`` holds the values of the
    nodes ``first ... last - 1`` and is overwritten; ``flow``, ``way``, ``seen`` and ``queue`` are
    scratch.
    """
    for v in range(first, last):
        seen[v] = 0
        for arc in range(regions.out_starts[v], regions.out_starts[v + 1]):
            flow[arc] = 0.0
    unpaid = 0.0
    search = 0
    for source in range(first, last):
        while left[source] < 0.0 and seen[source] != -1:
            search += 1
            seen[source] = search
            queue[first] = source
            begin, end = first, first + 1
            found = -1
            while begin < end and found < 0:
                v = queue[begin]
                begin += 1
                for arc in range(regions.out_starts[v], regions.out_starts[v + 1]):
                    w = regions.heads[arc]
                    if seen[w] != search and seen[w] != -1:
                        seen[w] = search
                        way[w] = arc
                        queue[end] = w
                        end += 1
                        if left[w] > 0.0:
                            found = w
                            break
                if found >= 0:
                    break
                for i in range(regions.in_starts[v], regions.in_starts[v + 1]):
                    arc = regions.in_arcs[i]
                    w = regions.tails[arc]
                    if flow[arc] > 0.0 and seen[w] != search and seen[w] != -1:
                        seen[w] = search
                        way[w] = -1 - arc  # the arc is used against its direction
                        queue[end] = w
                        end += 1
                        if left[w] > 0.0:
                            found = w
                            break
            if found < 0:
                for i in range(first, end):
                    seen[queue[i]] = -1
                break
            amount = min(-left[source], left[found])
            w = found
            while w != source:
                if way[w] >= 0:
                    w = regions.tails[way[w]]
                else:
                    amount = min(amount, flow[-1 - way[w]])
                    w = regions.heads[-1 - way[w]]
            w = found
            while w != source:
                if way[w] >= 0:
                    flow[way[w]] += amount
                    w = regions.tails[way[w]]
                else:
                    flow[-1 - way[w]] -= amount
                    w = regions.heads[-1 - way[w]]
            left[source] += amount
            left[found] -= amount
        unpaid += min(left[source], 0.0)
    return unpaid


@_jit
def _draw_sums(key, draws, networks, n, words, scratch, square, stop, into, out):
    """Draw ``n`` networks and add up their squared weights into and out of each node."""
    rows = np.empty(n, np.uint32)
    into[...] = 0.0
    out[...] = 0.0
    for k in range(draws.laws.shape[0]):
        if stop[0] != 0:
            return
        law = draws.laws[k]
        if law != CONSTANT_CODE:
            rows[:] = draws.groups[k]
            threefry(key, 0, rows, networks, _u32(law), n, words)
        squares(law, words, n, scratch, square)
        for j in range(4):
            variance = draws.variances[k, j]
            head, tail = draws.heads[k, j], draws.tails[k, j]
            if head >= 0:
                for i in range(n):
                    into[head, i] += variance * square[j, i]
            if tail >= 0:
                for i in range(n):
                    out[tail, i] += variance * square[j, i]


@_jit
def count_frozen(
    key, first, count, batch, draws, candidates, regions, rtol, nodes, stop, numbers, edges
):
    """Count the frozen weights of networks of a block.

    Parameters
    ----------
    key : uint32[4]
        The key of the block.
    first, count : int
        The networks of the block to draw: ``first ... first + count - 1``.
    batch : int
        Networks that are drawn at a time, a multiple of `PAD`; has no influence on the counts.
    draws : Draws
    candidates : Candidates
    regions : Regions
    rtol : float
        The tolerance of a balance, relative to the larger of its two sums of squares.
    nodes : int
        The number of nodes in `draws` and `candidates`.
    stop : uint8[1]
        The kernel gives up soon after another thread sets it to 1.
    numbers : int64[slots + 1]
        Entry ``i`` is increased by the number of networks with ``i`` frozen weights.
    edges : int64[slots]
        Increased by the number of networks in which each weight is frozen.

    Returns
    -------
    bool
        True if all networks were counted. False if the kernel was stopped; the arrays are then
        incomplete and must be discarded.
    """
    words = np.zeros((4, batch), np.uint32)
    scratch = np.empty((2, batch), np.float32)
    square = np.empty((4, batch))
    into, out = np.empty((nodes, batch)), np.empty((nodes, batch))
    networks = np.empty(batch, np.uint32)
    frozen = np.empty((edges.shape[0], batch), np.uint8)
    number = np.empty(batch, np.int64)
    m, arcs = regions.nodes.shape[0], regions.heads.shape[0]
    left, flow = np.empty(m), np.empty(arcs)
    way, seen, queue = np.empty(m, np.int64), np.empty(m, np.int64), np.empty(m, np.int64)
    for start in range(0, count, batch):
        n = min(batch, count - start)
        padded = (n + PAD - 1) // PAD * PAD
        for i in range(padded):
            networks[i] = first + start + i
        _draw_sums(key, draws, networks, padded, words, scratch, square, stop, into, out)
        if stop[0] != 0:
            return False
        for v in range(nodes):
            for i in range(n):
                larger = max(into[v, i], out[v, i])
                into[v, i] -= out[v, i]
                out[v, i] = rtol * larger
        balance, slack = into, out
        frozen[...] = 0
        for k in range(candidates.nodes.shape[0]):
            u, sign, slot = candidates.nodes[k], candidates.signs[k], candidates.slots[k]
            begin, end = candidates.first[k], candidates.last[k]
            for i in range(n):
                own = sign * balance[u, i] + slack[u, i]
                if own < 0.0:
                    frozen[slot, i] = 1
                    continue
                if begin == end:
                    continue
                least = own
                for j in range(begin, end):
                    v = regions.nodes[j]
                    left[j] = 0.0 if v < 0 else sign * balance[v, i] + slack[v, i]
                    least += min(left[j], 0.0)
                if least >= 0.0:  # the weight is free even if every set of nodes is closed
                    continue
                if regions.out_starts[begin] < regions.out_starts[end]:
                    least = own + least_closed_sum(
                        regions, begin, end, left, flow, way, seen, queue
                    )
                if least < 0.0:
                    frozen[slot, i] = 1
        number[:n] = 0
        for slot in range(edges.shape[0]):
            for i in range(n):
                number[i] += frozen[slot, i]
                edges[slot] += frozen[slot, i]
        for i in range(n):
            numbers[number[i]] += 1
    return True
