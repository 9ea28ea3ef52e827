"""What a reader finds in a file or an object: tensors by name, and what the source says of them.

Every reader, whatever the format, returns `Contents`; `obstruction.models.layers.resolving` makes
the layers of a network of them. A reader never guesses: what its format does not say stays None.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Orientation: TypeAlias = Literal["out_in", "in_out"]
"""How a weight matrix is stored: ``(outputs, inputs)`` as PyTorch does, or ``(inputs, outputs)``
as Keras, Flax and scikit-learn do."""

ORIENTATIONS: Final[tuple[Orientation, ...]] = ("out_in", "in_out")

FLOATS: Final = ("float16", "bfloat16", "float32", "float64")
"""The types of numbers that weights may have, by the names `Tensor.dtype` gives them."""


class UnreadableModel(ValueError):
    """A file or object that cannot be read, or not safely; the message says which and why."""


class NothingAuditable(ValueError):
    """A model without a single hidden layer that keeps a balance; the message gives the reasons."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """An array of a model, as it is stored.

    Attributes
    ----------
    name : str
        The key in the file, or the path in the object, without losses.
    array : ndarray
        The numbers in their stored shape. It may be a read-only view of the file. Numbers of type
        bfloat16 are decoded to float32; other types are as stored.
    dtype : str
        The stored type: one of `FLOATS`, or the name of a type that holds no weights.
    """

    name: str
    array: NDArray[Any]
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The stored shape."""
        return tuple(self.array.shape)

    def stored(self, values: NDArray[np.float64]) -> NDArray[Any]:
        """Return values rounded to the precision in which this tensor is stored.

        For bfloat16 these are float32 numbers whose lower 16 bits are zero.
        """
        if self.dtype == "bfloat16":
            return round_bfloat16(values)
        return values.astype(self.array.dtype)


@dataclass(frozen=True)
class Dense:
    """A fully connected layer, by the names of its tensors in `Contents`.

    Attributes
    ----------
    name : str
        What the source calls the layer, such as ``"fc1"``, ``"0"`` or ``"dense_1"``.
    weight : str
        The tensor of its weights; with `magnitude`, that of their directions.
    bias : str or None
        The tensor of its biases.
    layout : {"out_in", "in_out"} or None
        How `weight` is stored, None if the source does not say.
    magnitude : str or None
        With weight normalisation, the tensor of one magnitude per output, ``(outputs, 1)``.
    trained : bool
        Whether training moves the layer; frozen layers keep no balance.
    factor, bias_factor : float
        Fixed factors of weights and biases in the forward pass (ONNX Gemm's alpha and beta).
    """

    name: str
    weight: str
    bias: str | None = None
    layout: Orientation | None = None
    magnitude: str | None = None
    trained: bool = True
    factor: float = 1.0
    bias_factor: float = 1.0


@dataclass(frozen=True)
class Activation:
    """What is applied to each output of a layer, by the source's name for it.

    Attributes
    ----------
    name : str
        Any spelling, such as ``"ReLU"``; `obstruction.models.activations` knows what it is. Empty
        if something is applied and the source does not say what.
    slope : float
        The factor of negative inputs, 0 for ReLU; used to evaluate the network, never to judge it.
    """

    name: str
    slope: float = 0.0


@dataclass(frozen=True)
class Barrier:
    """Something between layers that keeps balances from being conserved, or hides what is there.

    Attributes
    ----------
    name : str
        What the source calls it.
    reason : str
        Why no balance is kept across it, in a few words without a full stop, such as
        ``"batch normalisation makes the outputs independent of the scale of the weights"``.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Join(Barrier):
    """A barrier where outputs of several layers meet in a way that a graph of neurons can show.

    Attributes
    ----------
    operation : {"sum", "concat"}
        Whether they are added up, or put side by side as further neurons.
    """

    operation: Literal["sum", "concat"]


Step: TypeAlias = Dense | Activation | Barrier


@dataclass(frozen=True)
class Node:
    """An operation of a graph, with the values it takes and makes.

    Attributes
    ----------
    inputs, outputs : tuple of hashable
        Names of values that depend on the input of the network, so no weights.
    steps : tuple of Step
        What the operation is for the audit; nothing if it does not bear on balances.
    """

    inputs: tuple[Hashable, ...]
    outputs: tuple[Hashable, ...]
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Dataflow:
    """The operations of a network as the source has them, chain or not.

    Attributes
    ----------
    nodes : tuple of Node
        In any order.
    results : tuple of hashable
        The values that the network returns.
    """

    nodes: tuple[Node, ...]
    results: tuple[Hashable, ...]


@dataclass(frozen=True, eq=False)
class Contents:
    """All that a reader found.

    Attributes
    ----------
    format : str
        The format in words a user knows: ``"safetensors"``, ``"PyTorch module"``.
    tensors : mapping of str to Tensor
        Every array of numbers that belongs to the model, in stored order; no optimiser state.
    layout : {"out_in", "in_out"} or None
        How this format stores every weight matrix, None if that depends on the producer.
    steps : tuple of Step or None
        Layers and what lies between them in the order of the forward pass, if the source says
        so; None for a bag of tensors. What does not bear on balances (dropout, flattening,
        identity) is left out. Where the graph is not a chain, the parts that are stand one after
        the other with a `Barrier` between them.
    shared : tuple of frozenset of str
        Names of tensors that are one and the same in memory, two or more to a set.
    notes : tuple of str
        What a reader passed over and why, a sentence each.
    dataflow : Dataflow or None
        The graph that `steps` was made from, if the source has one.
    """

    format: str
    tensors: Mapping[str, Tensor]
    layout: Orientation | None = None
    steps: tuple[Step, ...] | None = None
    shared: tuple[frozenset[str], ...] = ()
    notes: tuple[str, ...] = ()
    dataflow: Dataflow | None = None


def overlapping(
    spans: Iterable[tuple[str, int, int, str]], share: Callable[[str, str], bool]
) -> tuple[frozenset[str], ...]:
    """Return the sets of names of tensors that share memory.

    Parameters
    ----------
    spans : iterable of (str, int, int, str)
        The memory in which each tensor lies, its start and end there, and its name.
    share : callable
        Whether two tensors of given names, whose spans overlap, have a number in common.
    """
    groups: list[set[str]] = []
    memory, end, widest = "", 0, ""
    for place, start, stop, name in sorted(spans):
        if place == memory and start < end and share(name, widest):
            groups[-1].add(name)
        else:
            groups.append({name})
        if place != memory or stop > end:
            memory, end, widest = place, stop, name
    return tuple(frozenset(group) for group in groups if len(group) > 1)


def round_bfloat16(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return values rounded to the nearest bfloat16 number, ties to even, held in float32.

    Examples
    --------
    >>> round_bfloat16(np.array([1.0, 1.00390625, 1.0117188])).tolist()
    [1.0, 1.0, 1.015625]
    """
    bits = np.asarray(values, dtype=np.float32).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + (np.uint32(0x7FFF) + odd)) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)


def decode_bfloat16(raw: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return the float32 numbers that bfloat16 bit patterns stand for."""
    bits = raw.astype(np.uint32)
    bits <<= np.uint32(16)
    return bits.view(np.float32)


def encode_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the bit patterns of float32 numbers that are bfloat16 numbers."""
    high = np.ascontiguousarray(values, dtype="<f4").view("<u4") >> 16
    return high.astype(np.uint16)
