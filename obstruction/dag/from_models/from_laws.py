"""Networks of PyTorch modules that branch, built from the conservation laws that runs show.

A channel with a balance is a hidden node. The scalars that write it are its incoming edges, and
those that read it its outgoing edges. Weights that read no channel read the inputs, and weights
that write none write the outputs. Whether that is so is decided by runs: the network must return
what the module returns, at random parameters.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.finding import conservation_laws
from obstruction.conservation.laws import Laws
from obstruction.dag.from_models.assembling import ModelNetwork
from obstruction.dag.graph.graph import FloatArray
from obstruction.dag.graph.names import BIAS
from obstruction.dag.network import Network
from obstruction.models import Contents, NoChain
from obstruction.models.readers.torch.inputs import inputs_of
from obstruction.models.readers.torch.running import Copy, unwrapped

Indices = NDArray[np.int64]

_TOLERANCE: Final = 1e-9
_DRAWS: Final = 4
_MOST_WAYS: Final = 64
"""The largest number of assignments of weights to several outputs that are tried."""


def from_laws(module: Any, contents: Contents, reason: NoChain) -> ModelNetwork:
    """Return the network of a module that is no chain of layers.

    Parameters
    ----------
    module : torch.nn.Module
    contents : Contents
        What was read of it.
    reason : NoChain
        The error that says that it is no chain.

    Raises
    ------
    NoChain
        If its balances do not show what it computes.
    """
    inputs = inputs_of(module)
    if inputs is not None and inputs.is_floating_point() and inputs.ndim == 2:
        laws = conservation_laws(module, inputs)
        try:
            wires = _Wires(laws, inputs.shape[1])
        except _Unclear:
            wires = None
        found = None if wires is None else _confirmed(wires, Copy(unwrapped(module)), inputs)
        if found is not None:
            network, names = found
            parameters = laws.parameters
            weights = np.concatenate([parameters[name].ravel() for name in names])
            return ModelNetwork(network, weights, contents.format, (), ())
    raise NoChain(
        f"{reason}; nor do its balances show a network of single weights that computes the same. "
        "Save it with torch.onnx.export: the operations in an ONNX file are read"
    ) from None


class _Unclear(Exception):
    """The laws do not tell to which nodes a weight belongs."""


@dataclass(frozen=True, eq=False)
class _Wire:
    """The nodes of a parameter: those at each of its rows and, for a matrix, columns.

    Hidden nodes are numbered from 0; None stands for the outputs. Inputs are ``-1 - index``.
    """

    rows: Indices | None
    columns: Indices | None
    turned: bool
    size: int


class _Wires:
    """The hidden nodes that parameters write and read."""

    def __init__(self, laws: Laws, inputs: int) -> None:
        if laws.fixed or any(law.kind != "balance" for law in laws):
            raise _Unclear
        self.inputs = inputs
        firsts = np.concatenate([[0], np.cumsum([law.labels for law in laws], dtype=np.int64)])
        ends: dict[tuple[str, int], list[tuple[int, Indices]]] = defaultdict(list)
        for first, law in zip(firsts.tolist(), laws, strict=False):
            for term in law.terms:
                axes = [a for a, size in enumerate(term.labels.shape) if size != 1] or [0]
                if abs(term.coefficient) != 1 or len(axes) != 1:
                    raise _Unclear
                flat = term.labels.reshape(-1)
                nodes = np.where(flat < 0, -1, flat + first)
                ends[term.tensor, term.coefficient].append((axes[0], nodes))
        self.hidden = int(firsts[-1])
        self.wires: dict[str, _Wire] = {}
        for name, shape in laws.shapes.items():
            self.wires[name] = self._wire(shape, ends[name, 1], ends[name, -1])
        self._order_nodes(laws, firsts)

    def _wire(
        self,
        shape: tuple[int, ...],
        writes: list[tuple[int, Indices]],
        reads: list[tuple[int, Indices]],
    ) -> _Wire:
        axes = {axis for axis, _ in writes} | {1 - axis for axis, _ in reads}
        if len(shape) not in (1, 2) or len(axes) > 1 or (len(shape) == 1 and reads):
            raise _Unclear
        axis = axes.pop() if axes else 0
        rows = _merged(shape[axis], [nodes for _, nodes in writes])
        if (rows < 0).any() and (rows >= 0).any():
            raise _Unclear
        known = None if (rows < 0).any() else rows
        if len(shape) == 1:
            return _Wire(known, None, False, shape[axis])
        columns = _merged(shape[1 - axis], [nodes for _, nodes in reads])
        free = columns < 0
        if free.any():
            if free.sum() != self.inputs:
                raise _Unclear
            columns[free] = -1 - np.arange(self.inputs)
        return _Wire(known, columns, axis == 1, shape[axis])

    def _order_nodes(self, laws: Laws, firsts: Indices) -> None:
        """Name the hidden nodes, and put each behind those that lead to it."""
        before: dict[int, set[int]] = {i: set() for i in range(len(laws))}
        names: dict[int, list[str]] = defaultdict(list)
        for name, wire in self.wires.items():
            if wire.rows is None or wire.columns is None:
                continue
            read = np.searchsorted(firsts, wire.columns[wire.columns >= 0], side="right") - 1
            for law in set((np.searchsorted(firsts, wire.rows, side="right") - 1).tolist()):
                before[law].update(read.tolist())
                names[law].append(name.rpartition(".")[0] or name)
        try:
            order = list(TopologicalSorter(before).static_order())
        except ValueError:  # there is a cycle
            raise _Unclear from None
        self.order = np.concatenate([np.arange(firsts[i], firsts[i + 1]) for i in order])
        self.names = [
            f"{'+'.join(names[i]) or 'hidden'}.{k}"
            for i in order
            for k in range(int(firsts[i + 1] - firsts[i]))
        ]

    def ways(self, sizes: list[int]) -> Iterator[dict[str, int]]:
        """Yield for the parameters that write outputs the first output that they may write."""
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        owners: dict[str, list[int]] = {}
        for name, wire in self.wires.items():
            if wire.rows is None:
                fits = [at for at, size in zip(starts, sizes, strict=True) if size == wire.size]
                owners[name.rpartition(".")[0] or name] = fits
        chosen = itertools.islice(itertools.product(*owners.values()), _MOST_WAYS)
        for one in chosen:
            places = dict(zip(owners, one, strict=True))
            yield {
                name: places[name.rpartition(".")[0] or name]
                for name, wire in self.wires.items()
                if wire.rows is None
            }

    def network(self, outputs: int, places: Mapping[str, int]) -> Network:
        """Return the network, whose edges are the scalars of all parameters in stored order."""
        rank = np.zeros(self.hidden, dtype=np.int64)
        rank[self.order] = self.inputs + 1 + np.arange(self.hidden)
        last = self.inputs + 1 + self.hidden
        tails, heads = [], []
        for name, wire in self.wires.items():
            rows = last + places[name] + np.arange(wire.size) if wire.rows is None else None
            into = rank[wire.rows] if rows is None else rows
            if wire.columns is None:
                tails.append(np.full(wire.size, self.inputs))
                heads.append(into)
                continue
            hidden = rank[np.maximum(wire.columns, 0)] if self.hidden else wire.columns
            out = np.where(wire.columns < 0, -1 - wire.columns, hidden)
            grid = np.meshgrid(into, out, indexing="ij")
            made = [one.T.ravel() if wire.turned else one.ravel() for one in grid]
            heads.append(made[0])
            tails.append(made[1])
        names = [
            *(f"x.{i}" for i in range(self.inputs)),
            BIAS,
            *self.names,
            *(f"y.{i}" for i in range(outputs)),
        ]
        made_of = np.concatenate(tails), np.concatenate(heads)
        network: Network = Network._of(names, self.inputs, outputs, *made_of)
        return network


def _merged(size: int, parts: list[Indices]) -> Indices:
    """Return the nodes along an axis, -1 where there is none."""
    found = np.full(size, -1, dtype=np.int64)
    for nodes in parts:
        used = np.broadcast_to(nodes >= 0, found.shape)
        if (found[used] >= 0).any():
            raise _Unclear
        found[used] = np.broadcast_to(nodes, found.shape)[used]
    return found


def _confirmed(wires: _Wires, copy: Copy, inputs: Any) -> tuple[Network, list[str]] | None:
    """Return the network that computes what a copy of the module does, and its parameters."""
    outputs = copy.outputs(inputs)
    if any(y.ndim != 2 or len(y) != len(inputs) for y in outputs) or not wires.hidden:
        return None
    sizes = [y.shape[1] for y in outputs]
    for places in wires.ways(sizes):
        try:
            network = wires.network(sum(sizes), places)
        except ValueError:  # some node has no edge in or out
            continue
        if all(_agree(network, list(wires.wires), copy, inputs, draw) for draw in range(_DRAWS)):
            return network, list(wires.wires)
    return None


def _agree(network: Network, names: list[str], copy: Copy, inputs: Any, draw: int) -> bool:
    rng = np.random.default_rng(draw)
    values = {name: rng.standard_normal(copy.values()[name].shape) for name in names}
    x: FloatArray = inputs.numpy() * 10.0 ** rng.uniform(-2, 2, (len(inputs), 1))
    copy.write(values)
    found = np.concatenate(copy.outputs(x), axis=1)
    expected = network.evaluate(np.concatenate([values[name].ravel() for name in names]), x)
    size = np.abs(expected).max(axis=1, keepdims=True)
    return bool((np.abs(found - expected) <= _TOLERANCE * size).all())
