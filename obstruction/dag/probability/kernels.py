"""Compiled kernels: draw the weights of networks on a graph, count the frozen ones.

The words and the laws are those of `obstruction.sampling.kernels.networks`. The counter ``(0,
group, network, law)`` names the four weights of the edges ``4 group ... 4 group + 3``, if they
follow that law. So any weight can be drawn without the others, and only those of nodes that matter
are. Nothing here validates its input; `obstruction.dag.probability.sampling` says what the arrays
mean.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.sampling.kernels.networks import CONSTANT_CODE, PAD, _jit, squares, threefry

_u32 = np.uint32

_Array: TypeAlias = NDArray[Any]


class Draws(NamedTuple):
    """The weights that must be drawn, in groups of four; one row a group and law.

    Attributes
    ----------
    laws : int64[draws]
        Codes of laws.
    groups : uint32[draws]
    variances : float64[draws, 4]
    heads, tails : int64[draws, 4]
        The node whose sum of squares in (out) the weight adds to, -1 for none that matters.
    """

    laws: _Array
    groups: _Array
    variances: _Array
    heads: _Array
    tails: _Array


class Candidates(NamedTuple):
    """The weights that could be frozen, seen from the node that has no other on that side.

    Attributes
    ----------
    nodes : int64[k]
        That node.
    signs : float64[k]
        1 if the weight leads out of it, -1 if it leads in.
    slots : int64[k]
        The place of the weight in the counts; two candidates can be one weight.
    first, last : int64[k]
        Which of `Regions.nodes` are in the region of the node; the same if it is empty.
    """

    nodes: _Array
    signs: _Array
    slots: _Array
    first: _Array
    last: _Array


class Regions(NamedTuple):
    """The regions of all candidates (`obstruction.topology.regions`), one after the other.

    Attributes
    ----------
    nodes : int64[m]
        The nodes; -1 for one without a balance, which stands for arcs.
    out_starts, in_starts : int64[m + 1]
        Where the arcs out of each and into each start.
    heads : int64[arcs]
        Where arcs lead, as places in `nodes`, ordered by tails.
    tails : int64[arcs]
        Where they come from.
    in_arcs : int64[arcs]
        Places in `heads`, ordered by heads.
    """

    nodes: _Array
    out_starts: _Array
    in_starts: _Array
    heads: _Array
    tails: _Array
    in_arcs: _Array


@_jit
def least_closed_sum(regions, first, last, left, flow, way, seen, queue):
    """Return the smallest sum of values over the closed sets of a region, at most 0.

    Values below zero look for ways along the arcs to such above zero that pay for them; what is
    left in the end is the sum (Picard 1976). ``left`` holds the values of ``first ... last - 1``
    and is used up; the other arrays are memory. Each way found is a shortest one (Edmonds and Karp
    1972). Nodes from which there is none are marked: no later way leads through them.
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
                        way[w] = -1 - arc  # against its direction
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
    """Add up the squared weights into and out of each node, for ``n`` networks."""
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
    """Count the frozen weights of some networks of a block.

    Parameters
    ----------
    key : uint32[4]
        The stream of the block.
    first, count : int
        The networks of the block to draw: ``first ... first + count - 1``.
    batch : int
        Networks in flight at a time, a multiple of `PAD`; has no influence on the counts.
    draws : Draws
    candidates : Candidates
    regions : Regions
    rtol : float
        The tolerance of balances, as a share of the larger sum of squares.
    nodes : int
        How many nodes `draws` and `candidates` speak of.
    stop : uint8[1]
        Set from outside to give up.
    numbers : int64[slots + 1]
        Networks by how many of their weights are frozen, added to.
    edges : int64[slots]
        For each weight the networks in which it is frozen, added to.

    Returns
    -------
    bool
        Whether all networks were counted (False if stopped: the arrays are then worthless).
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
                if least >= 0.0:  # whatever the arcs
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
