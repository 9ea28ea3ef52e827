"""Systems of balances: the laws of a network, one node for each conserved number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from obstruction.tools.checks import check_count, check_rtol
from obstruction.topology.systems.blocks import Block, blocks_of
from obstruction.topology.systems.magnitudes import IntArray, Places, Scaled, sums_of_squares
from obstruction.topology.systems.tensors import Group, Tensor, groups_of

RTOL = 1e-9
"""The default relative tolerance of balances, see `System.from_weights`."""


@dataclass(frozen=True, eq=False)
class System:
    """Balances ``sum of coefficient * w²``, one for each node, of scalars ``w`` in tensors.

    Attributes
    ----------
    nodes : int
    blocks : tuple of Block
        The scalars, in a form whose size is that of the labels and not that of the tensors.
    balances, tolerances : Scaled, size `nodes`
        The balance of each node, and by how much it may be off.
    rtol : float
        The relative tolerance, 0 if it was not given.
    """

    nodes: int
    blocks: tuple[Block, ...]
    balances: Scaled
    tolerances: Scaled
    rtol: float = 0.0

    @classmethod
    def from_weights(
        cls,
        nodes: int,
        tensors: Sequence[Tensor],
        weights: Mapping[str, ArrayLike],
        *,
        rtol: float = RTOL,
    ) -> System:
        """Return the system whose balances are those of given weights.

        Parameters
        ----------
        nodes : int
            The number of nodes, >= 1.
        tensors : sequence of Tensor
        weights : mapping from names to array_like
            The scalars of each tensor. Their sizes may differ as much as floats can.
        rtol : float
            The balance of a node may be off by this share of the sum of its terms with positive or
            with negative coefficients, whichever is larger. In [0, 1).

        Raises
        ------
        ValueError
            If a tensor does not fit the nodes, or weights are missing, of another shape or not
            finite, or the tolerance is out of range.
        """
        share = check_rtol(rtol)
        nodes = _checked(nodes, tensors)
        blocks: list[Block] = []
        signed: dict[int, list[tuple[IntArray, Scaled]]] = {1: [], -1: []}
        for tensor in tensors:
            groups = groups_of(tensor)
            sums = _sums(tensor, groups, weights)
            for group, total in zip(groups, sums, strict=True):
                for column in range(group.nodes.shape[1]):
                    at, factor = group.nodes[:, column], group.coefficients[:, column]
                    for sign, terms in signed.items():
                        rows = np.flatnonzero((at >= 0) & (sign * factor > 0))
                        terms.append((at[rows], total.part(rows).times(np.abs(factor[rows]))))
            blocks += blocks_of(tensor, groups, sums)
        into, out = (_added(terms, nodes) for terms in signed.values())
        return cls(nodes, tuple(blocks), into - out, into.larger(out).times(share), share)

    @classmethod
    def from_balances(
        cls,
        nodes: int,
        tensors: Sequence[Tensor],
        balances: ArrayLike | Scaled,
        *,
        tolerances: ArrayLike | Scaled = 0.0,
    ) -> System:
        """Return the system with given balances, which some weights must have.

        Parameters
        ----------
        nodes : int
            The number of nodes, >= 1.
        tensors : sequence of Tensor
        balances, tolerances : array_like or Scaled, shape (nodes,)
            Finite numbers, and tolerances >= 0.

        Raises
        ------
        ValueError
            If a tensor does not fit the nodes, or numbers are of another shape or not allowed.
        """
        nodes = _checked(nodes, tensors)
        blocks = [block for tensor in tensors for block in blocks_of(tensor, groups_of(tensor))]
        c = _numbers("balances", balances, nodes)
        t = _numbers("tolerances", tolerances, nodes)
        if np.any(t.values < 0.0):
            raise ValueError("tolerances: must be at least 0")
        return cls(nodes, tuple(blocks), c, t)


def _checked(nodes: Any, tensors: Sequence[Tensor]) -> int:
    count = check_count("nodes", nodes)
    names = set()
    for tensor in tensors:
        if tensor.name in names:
            raise ValueError(
                f"tensors: {tensor.name!r} occurs twice; all memberships of a tensor belong "
                "together"
            )
        names.add(tensor.name)
        tensor.check(count)
    return count


def _sums(tensor: Tensor, groups: list[Group], weights: Mapping[str, ArrayLike]) -> list[Scaled]:
    if tensor.name not in weights:
        raise ValueError(f"weights: must hold the scalars of tensor {tensor.name!r}")
    array = np.asarray(weights[tensor.name])
    if array.shape != tuple(tensor.shape):
        raise ValueError(
            f"weights[{tensor.name!r}] has shape {array.shape}: must be {tuple(tensor.shape)}"
        )
    if array.dtype.kind not in "fiu":
        raise ValueError(f"weights[{tensor.name!r}]: must be real numbers, not {array.dtype}")
    places = [Places(tensor.dims, one.axes, one.numbers, len(one)) for one in groups]
    return sums_of_squares(tensor.name, array, places) if groups else []


def _added(terms: list[tuple[IntArray, Scaled]], nodes: int) -> Scaled:
    places = np.concatenate([np.zeros(0, dtype=np.int64), *(at for at, _ in terms)])
    values = np.concatenate([np.zeros(0), *(part.values for _, part in terms)])
    exponents = np.concatenate(
        [np.zeros(0, dtype=np.int64), *(part.exponents for _, part in terms)]
    )
    return Scaled(values, exponents).sums(places, nodes)


def _numbers(name: str, values: ArrayLike | Scaled, nodes: int) -> Scaled:
    if not isinstance(values, Scaled):
        array = np.asarray(values)
        if array.dtype.kind not in "fiu" or array.shape not in ((nodes,), ()):
            raise ValueError(
                f"{name} has shape {array.shape}: must be one real number for each of "
                f"{nodes:,} nodes"
            )
        values = Scaled.of(np.broadcast_to(array, (nodes,)))
    if values.size != nodes or not np.isfinite(values.values).all():
        raise ValueError(f"{name}: must be one finite number for each of {nodes:,} nodes")
    return values
