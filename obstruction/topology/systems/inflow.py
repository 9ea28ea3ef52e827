"""A quick proof by the actual weights that a scalar is not frozen from one side.

Let ``e`` be the only scalar out of a set ``S`` of nodes, and ``u`` its node in ``S``. Then
``c(S)`` is what flows into ``S`` less ``x_e``. Scalars that are written to ``u`` and read from no
other node that matters flow into every ``S``. If they carry more than ``e`` does, no ``c(S)`` is
negative. An example is an output weight that is smaller than the gain of the normalisation before
it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obstruction.topology.systems.magnitudes import IntArray, Scaled
from obstruction.topology.systems.rows import Rows


def inflow_suffices(
    rows: Rows, zero: NDArray[np.bool_], sign: IntArray, *, side: int, margin: float
) -> NDArray[np.bool_]:
    """Return for each row that is a part of a list whether its scalar is proved not to be frozen.

    The proof is against sets that the scalar leaves (side 1) or enters (-1). The inflow must exceed
    what the scalar carries by the share `margin`. If weights are not known, nothing is proved.
    """
    proved = np.zeros(len(rows), dtype=bool)
    if not all(block.sums for block in rows.blocks):
        return proved
    listed = rows.side == -1
    sizes = [block.sums[0] for block in rows.blocks if block.sums and len(block.sides) == 1]
    size = Scaled(
        np.concatenate([np.zeros(0), *(one.values for one in sizes)]),
        np.concatenate([np.zeros(0, dtype=np.int64), *(one.exponents for one in sizes)]),
    )
    place = np.cumsum(listed) - 1
    kept = np.flatnonzero(~zero[rows.variable] & listed[rows.row])
    row, variable, factor = rows.row[kept], rows.variable[kept], rows.coefficient[kept]
    carried = size.part(place[row]).times(np.abs(factor))
    outward = factor * sign[variable] * side
    enters = np.flatnonzero((outward > 0) & (np.bincount(row, minlength=len(rows))[row] == 1))
    inflow = carried.part(enters).sums(variable[enters], rows.variables)
    leaves = np.flatnonzero(outward < 0)
    carried, inflow = carried.part(leaves), inflow.part(variable[leaves])
    common = np.maximum(carried.exponents, inflow.exponents)
    more = carried.at(common) < (1.0 - margin) * inflow.at(common)
    proved[row[leaves[more]]] = True
    return proved
