"""Divide a system into connected parts, and tell which of them are networks.

Nodes that are zero in every certificate are dropped. What remains of a column is that of a network
if it has one entry, or two of equal size and opposite signs. Multiplying the balance of a node by
-1 changes the signs of its entries. A part is a *network* if such changes give every column two
opposite signs; then the parity of changes is consistent along every cycle (Zaslavsky, "Signed
graphs", 1982).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from obstruction.topology.systems.magnitudes import IntArray
from obstruction.topology.systems.rows import Rows


def orient(rows: Rows, zero: NDArray[np.bool_]) -> IntArray:
    """Return the sign, 1 or -1, by which the balance of each variable is to be multiplied.

    Variables that are `zero` are dropped. Those of parts that are no networks have the sign 0.
    """
    kept = ~zero[rows.variable]
    row, variable = rows.row[kept], rows.variable[kept]
    coefficient = rows.coefficient[kept]
    counts = np.bincount(row, minlength=len(rows))
    starts = np.cumsum(counts) - counts
    several = counts[row] > 1
    # Connect the first variable of each row with all others, in two copies of every variable.
    first = starts[row[several]]
    a, b = variable[first], variable[several]
    equal = coefficient[first] * coefficient[several] < 0
    n = rows.variables
    tails, heads = np.concatenate([a, a + n]), np.concatenate([b, b + n])
    heads = np.where(np.concatenate([equal, equal]), heads, (heads + n) % (2 * n))
    apart = tails != heads  # the first variable of a row is also connected with itself
    itself = np.concatenate([first, first]) == np.tile(np.flatnonzero(several), 2)
    used = apart & ~itself
    graph = coo_array((np.ones(used.sum()), (tails[used], heads[used])), shape=(2 * n, 2 * n))
    copies = connected_components(graph, directed=False)[1]
    whole = connected_components(
        coo_array((np.ones(a.size), (a, b)), shape=(n, n)), directed=False
    )[1]
    broken = np.zeros(n, dtype=bool)  # by part
    broken[whole[copies[:n] == copies[n:]]] = True
    sizes = np.abs(coefficient)
    strange = (counts[row] > 2) | (several & (sizes != sizes[starts[row]]))
    broken[whole[variable[strange]]] = True
    _, start = np.unique(whole, return_index=True)
    sign = np.where(copies[:n] == copies[start[whole]], 1, -1)
    return np.where(broken[whole], 0, sign)
