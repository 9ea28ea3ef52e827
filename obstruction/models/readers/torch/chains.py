"""The chain of fully connected layers that a PyTorch module is, verified by running it.

What the layers may be is proposed from the classes, names and shapes in a module. A copy of the
module is then run at random parameters and inputs, and must return what such a chain computes. Its
gradients in training mode must agree with the balances of the neurons. What does not pass is no
chain, whatever its layers are called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from obstruction.models.activations import why_not
from obstruction.models.contents import Contents, Dense, NoChain, OperationGraph, Step
from obstruction.models.layers.resolving import layer_of
from obstruction.models.model import Layer
from obstruction.models.operations.graphs import operation_chain
from obstruction.models.readers.torch.proposals import (
    Function,
    Proposal,
    Values,
    ends,
    impossible,
    leaky,
    matrices,
    proposals,
    starts,
)
from obstruction.models.readers.torch.running import Copy, FloatArray

_SCALES: Final = 10.0 ** np.arange(-3, 4)
"""The scales of random inputs. Functions that are homogeneous near 0 only differ at others."""

_DRAWS: Final = ("biased", "positive", "signed", "shifted", "actual")
"""The parameters of the runs. Those that are not biased have no biases, so that the scales of the
inputs reach every neuron. Positive weights leave no neuron dead."""

_GRADIENTS: Final = (0, 1, 2, 3)
"""The runs in which gradients are computed."""

_TOLERANCE: Final = 1e-7
"""The largest difference between outputs, relative to the largest output for the same input."""


def chain_of(
    module: Any, contents: Contents, activation: str | None, layers: Sequence[str] | None
) -> OperationGraph:
    """Return the chain of layers that a module computes.

    Parameters
    ----------
    module : torch.nn.Module
    contents : Contents
        Its tensors.
    activation : str, optional
        The activation that a user tells.
    layers : sequence of str, optional
        The layers that a user names in forward order.

    Raises
    ------
    NoChain
        If the module is no chain of fully connected layers.
    ValueError
        If it is none and the user told an activation or layers.
    UnreadableModel
        If weights are not finite floating-point numbers.
    """
    name = type(module).__name__
    known = [dense.name for dense in matrices(module, contents)]
    if layers is not None:
        _check_named(layers, module, contents)
    why = impossible(module, contents)
    if why is None and known:
        try:
            copy = Copy(module)
        except ValueError as problem:
            raise NoChain(f"{problem}, so it cannot be run") from None
        found = next(_verified(copy, module, contents, layers), None)
        if found is not None:
            return operation_chain(found)
        why = (
            "in a run its outputs or gradients are not those of its layers "
            f"({', '.join(known[:4])}{', …' if len(known) > 4 else ''}) one behind the other "
            "with known activations between them"
        )
    told = {"layers": None if layers is None else list(layers), "activation": activation}
    why = why or "it has no fully connected layers"
    for argument, value in told.items():
        if value is not None:
            raise ValueError(
                f"{argument} = {value!r}: {name} is no chain of fully connected layers: {why}; "
                f"leave {argument}= out, and its laws are found by running it"
            )
    raise NoChain(f"{name} is no chain of fully connected layers: {why}")


def _check_named(layers: Sequence[str], module: Any, contents: Contents) -> None:
    known = matrices(module, contents)
    names = {name for dense in known for name in (dense.name, dense.weight)}
    for name in layers:
        if name not in names:
            allowed = ", ".join(dense.name for dense in known[:40]) or "none"
            raise ValueError(f"layers: there is no layer {name!r} among {allowed}")


def _verified(
    copy: Copy, module: Any, contents: Contents, layers: Sequence[str] | None
) -> Iterator[list[Step]]:
    """Yield the steps of the chains that runs of a copy confirm."""
    for width in starts(module, contents):
        runs = _Runs(copy, width)
        try:
            called = copy.calls(runs.inputs)
        except Exception:  # it is the user's code that runs, which may take other inputs
            continue
        tried = set()
        for named in (None, layers) if layers is not None else (None,):
            for proposal in proposals(module, contents, called, named):
                key = tuple((one.weight, one.layout) for one in proposal.layers), proposal.gaps
                if key not in tried and _Chain(proposal.layers, contents).inputs == width:
                    tried.add(key)
                    yield from _confirmed(runs, module, contents, proposal)


def _confirmed(
    runs: _Runs, module: Any, contents: Contents, proposal: Proposal
) -> Iterator[list[Step]]:
    """Yield the steps of a proposal with the functions with which runs confirm it."""
    chain = _Chain(proposal.layers, contents)
    for gaps in _hypotheses(runs, chain, proposal):
        if runs.confirm(chain, gaps, module):
            steps: list[Step] = []
            for dense, layer, gap in zip(proposal.layers, chain.layers, gaps, strict=True):
                steps.append(replace(dense, trained=_trains(module, layer)))
                steps += [function.step for function in gap]
            yield steps


def _hypotheses(
    runs: _Runs, chain: _Chain, proposal: Proposal
) -> Iterator[list[tuple[Function, ...]]]:
    """Yield the functions that may be behind each layer."""
    *hidden, last = proposal.gaps
    tails = (last,) if last is not None else ends()
    if all(gap is not None for gap in hidden):
        yield from ([*(gap or () for gap in hidden), tail] for tail in tails)
    slopes = runs.slopes(chain) if last is None else None
    for found in (slopes, [0.0] * len(hidden)):
        if found is not None:
            solved = [(leaky(slope),) for slope in found]
            known = [gap or one for gap, one in zip(hidden, solved, strict=True)]
            yield from ([*inside, tail] for tail in tails for inside in (known, solved))


class _Chain:
    """Layers in forward order, at any values of the parameters."""

    def __init__(self, dense: Sequence[Dense], contents: Contents) -> None:
        self.layers = [layer_of(contents, one, one.layout or "out_in") for one in dense]
        self.inputs = self.layers[0].inputs
        names = [tensor.name for layer in self.layers for tensor in layer.tensors]
        shared = frozenset().union(*contents.shared)
        counts = Counter(names)
        self.shared = {name for name in names if counts[name] > 1 or name in shared}

    def at(self, values: Values) -> list[Layer]:
        """Return the layers with other values."""
        return [layer.with_values(values) for layer in self.layers]

    def outputs(
        self, x: FloatArray, values: Values, gaps: Sequence[Sequence[Function]]
    ) -> FloatArray:
        """Return what the chain computes."""
        for layer, gap in zip(self.at(values), gaps, strict=True):
            x = x @ layer.weight.T
            if layer.bias is not None:
                x = x + layer.bias
            for function in gap:
                x = function.compute(x, values)
        return x


class _Runs:
    """Runs of a copy of a module at several parameters, which are drawn once."""

    def __init__(self, copy: Copy, width: int) -> None:
        rng = np.random.default_rng(0)
        self._copy = copy
        self._start = {name: value.copy() for name, value in copy.values().items()}
        self._normal = {
            name: rng.standard_normal(value.shape) for name, value in self._start.items()
        }
        self._gains = {
            name: 10.0 ** rng.uniform(-1.0, 1.0, len(_DRAWS)) / np.sqrt(max(1, *value.shape, 1))
            for name, value in self._start.items()
        }
        rows = rng.standard_normal((2, len(_SCALES), width))
        rows[1] = np.abs(rows[1])
        self.inputs = (rows * _SCALES[:, None]).reshape(-1, width)
        self._seen: dict[tuple[int, float], list[FloatArray]] = {}

    def confirm(self, chain: _Chain, gaps: Sequence[Sequence[Function]], module: Any) -> bool:
        """Return whether outputs and gradients are those of a chain with these functions."""
        judged = [
            i
            for i, (here, after) in enumerate(zip(chain.layers, chain.layers[1:], strict=False))
            if all(why_not(function.step.name) is None for function in gaps[i])
            and after.magnitude is None
            and all(_trains(module, one) for one in (here, after))
            and not _shares(chain, here, after)
        ]
        signal = {i: np.zeros(chain.layers[i].outputs) for i in judged}
        for draw in range(len(_DRAWS)):
            values = self._write(draw)
            for sign in (1.0, -1.0):
                if (draw, sign) not in self._seen:
                    self._seen[draw, sign] = self._outputs(sign * self.inputs)
                with np.errstate(all="ignore"):
                    expected = chain.outputs(sign * self.inputs, values, gaps)
                if not _same(self._seen[draw, sign], expected):
                    return False
            if draw in _GRADIENTS and not self._balanced(chain.at(values), values, signal):
                return False
        if not all(part.all() for part in signal.values()):
            return False
        return not self._copy.draws(self.inputs)  # other numbers could give other outputs

    def _balanced(
        self, layers: Sequence[Layer], values: Values, signal: dict[int, FloatArray]
    ) -> bool:
        """Return whether gradients keep the balances of neurons, and add their size to a signal."""
        try:
            slopes = self._copy.gradients(self.inputs)
        except Exception:  # it is the user's code that runs
            return False
        for i in signal:
            written = _products(layers[i], values, slopes, axis=0)
            read = _products(layers[i + 1], values, slopes, axis=1)
            scale = np.abs(written).sum(axis=0) + np.abs(read).sum(axis=0)
            error = np.abs(written.sum(axis=0) - read.sum(axis=0))
            if not (error <= _TOLERANCE * scale).all():
                return False
            signal[i] += scale
        return True

    def slopes(self, chain: _Chain) -> list[float] | None:
        """Return the slopes for negative numbers behind all layers but the last, if there are such.

        Weights are given signs with which the neurons behind one layer are negative and all others
        positive. The outputs are then those of a linear network, times one slope.
        """
        if chain.shared:
            return None
        found = []
        for i in range(len(chain.layers) - 1):
            values = {name: np.abs(normal) for name, normal in self._normal.items()}
            for k, layer in enumerate(chain.layers):
                if layer.bias_tensor is not None:
                    values[layer.bias_tensor.name] = np.zeros(layer.bias_tensor.shape)
                if k in (i, i + 1):
                    values[layer.weight_tensor.name] = -values[layer.weight_tensor.name]
            self._copy.write(values)
            x = np.abs(self.inputs)
            outputs, linear = self._outputs(x), chain.outputs(x, values, [()] * len(chain.layers))
            if len(outputs) != 1 or outputs[0].size != linear.size:
                return None
            with np.errstate(all="ignore"):
                ratios = outputs[0].reshape(-1) / linear.reshape(-1)
            slope = float(np.median(ratios))
            if not (np.abs(ratios - slope) <= _TOLERANCE * max(1.0, slope)).all() or slope < 0.0:
                return None
            found.append(round(slope, 12))
        return found

    def _outputs(self, x: FloatArray) -> list[FloatArray]:
        try:
            with np.errstate(all="ignore"):
                return self._copy.outputs(x)
        except Exception:  # it is the user's code that runs
            return []

    def _write(self, draw: int) -> Values:
        """Give the copy the parameters of a draw, and return them."""
        kind = _DRAWS[draw]
        values = dict(self._start)
        if kind != "actual":
            for name, normal in self._normal.items():
                drawn = np.roll(normal, draw) * self._gains[name][draw]
                if normal.ndim < 2 and kind in ("signed", "positive"):
                    drawn *= 0.0
                elif normal.ndim > 1 and kind in ("positive", "shifted"):
                    drawn = np.abs(drawn)
                values[name] = drawn
        self._copy.write(values)
        return self._copy.values()  # which are others if some parameters share memory


def _shares(chain: _Chain, here: Layer, after: Layer) -> bool:
    """Return whether weights of neighbouring layers are used elsewhere too."""
    names = {tensor.name for layer in (here, after) for tensor in layer.tensors}
    return not chain.shared.isdisjoint(names)


def _products(layer: Layer, values: Values, slopes: Values, *, axis: int) -> FloatArray:
    """Return weights times their gradients, with one column per output or, for axis 1, input."""

    def product(name: str) -> FloatArray:
        made: FloatArray = values[name] * slopes.get(name, 0.0)
        return made

    if axis == 0 and layer.magnitude is not None:
        parts = [product(layer.magnitude.name).reshape(1, -1)]
    else:
        weights = layer.oriented(product(layer.weight_tensor.name))
        parts = [weights.T if axis == 0 else weights]
    if axis == 0 and layer.bias_tensor is not None:
        parts.append(product(layer.bias_tensor.name).reshape(1, -1))
    return np.concatenate(parts)


def _same(outputs: Sequence[FloatArray], expected: FloatArray) -> bool:
    """Return whether a run returns one array of the expected numbers, in any shape."""
    if len(outputs) != 1 or outputs[0].size != expected.size:
        return False
    found = outputs[0].reshape(expected.shape)
    with np.errstate(all="ignore"):
        size = np.abs(expected).max(axis=1, keepdims=True)
        return bool((np.abs(found - expected) <= _TOLERANCE * size).all())


def _trains(module: Any, layer: Layer) -> bool:
    """Return whether all parameters of a layer get their gradients, which no hook changes."""
    held = dict(module.named_parameters(remove_duplicate=False))
    found = [held.get(tensor.name) for tensor in layer.tensors]
    return all(p is not None and p.requires_grad and not p._backward_hooks for p in found)
