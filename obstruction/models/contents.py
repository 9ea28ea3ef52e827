"""The result of reading a file or an object: its tensors and the graph of its operations.

Readers of all formats return `Contents`, from which `obstruction.models.layers.resolving` makes the
layers of a network. A reader does not guess: what its source does not say is None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Orientation: TypeAlias = Literal["out_in", "in_out"]
"""How a weight matrix is stored: as ``(outputs, inputs)`` in PyTorch, and as ``(inputs, outputs)``
in Keras, Flax and scikit-learn."""

ORIENTATIONS: Final[tuple[Orientation, ...]] = ("out_in", "in_out")

FLOATS: Final = ("float16", "bfloat16", "float32", "float64")
"""The types of numbers that weights may have, as `Tensor.dtype` names them."""


_WEIGHTS: Final = re.compile(
    r"(?:.*[._/])?(?:\w*_)?(?:weights?|kernel|w\d*)(?::\d+)?", re.IGNORECASE
)


def names_weights(name: str) -> bool:
    """Return whether a name is that of the weights of a layer.

    Examples
    --------
    >>> names_weights("net.fc2.weight"), names_weights("Dense_0/kernel"), names_weights("epoch")
    (True, True, False)
    """
    return _WEIGHTS.fullmatch(name) is not None


class UnreadableModel(ValueError):
    """A file or object cannot be read safely; the message names it and says why."""


class NoChain(UnreadableModel):
    """A module that was run is no chain of fully connected layers; the message says why."""


class NothingAuditable(ValueError):
    """No hidden layer of a model keeps a balance; the message gives the reasons."""


class AdapterFound(NothingAuditable):
    """A source holds an adapter, which is added to the weights of another network."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """An array of a model, as it is stored.

    Attributes
    ----------
    name : str
        The key in the file, or the path in the object.
    array : ndarray
        The numbers in their stored shape, perhaps a read-only view of the file. Numbers of type
        bfloat16 are decoded to float32. All other types are kept.
    dtype : str
        The stored type: one of `FLOATS`, or the name of a type that weights cannot have.
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
class Unread:
    """A member of a source that no array of numbers stands for.

    Attributes
    ----------
    what : str
        What it is, in words that follow "it holds": ``"text"``, ``"a sparse tensor"``.
    shape : tuple of int or None
        Its shape, None if that is not known.
    """

    what: str
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Dense:
    """A fully connected layer, by the names of its tensors in `Contents`.

    Attributes
    ----------
    name : str
        What the source calls the layer, such as ``"fc1"``, ``"0"`` or ``"dense_1"``.
    weight : str
        The tensor of its weights. With `magnitude` this tensor gives only their directions.
    bias : str or None
        The tensor of its biases.
    layout : {"out_in", "in_out"} or None
        How `weight` is stored, None if the source does not say.
    magnitude : str or None
        With weight normalisation, the tensor of one magnitude per output, ``(outputs, 1)``.
    trained : bool
        Whether training changes the layer. Neurons at a layer that is not trained keep no balance.
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
    """A function that is applied to each output of a layer.

    Attributes
    ----------
    name : str
        The source's name of it in any spelling, such as ``"ReLU"``, which
        `obstruction.models.activations` understands. The name is empty if the source does not say
        which function is applied.
    slope : float
        The factor of negative inputs, 0 for ReLU. It is used to evaluate the network and has no
        part in the audit.
    """

    name: str
    slope: float = 0.0


@dataclass(frozen=True)
class Barrier:
    """An operation across which no balance is known to be conserved.

    Attributes
    ----------
    name : str
        What the source calls the operation.
    reason : str
        Why no balance is known to be conserved, in a few words without a full stop, such as
        ``"batch normalisation makes the outputs independent of the scale of the weights"``.
    incidental : bool
        Whether the operation is not worth mentioning if no fully connected layer follows. One that
        turns the outputs of a classifier into labels is incidental.
    """

    name: str
    reason: str
    incidental: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class Join(Barrier):
    """An operation that combines outputs of several layers.

    It ends a chain of layers, as every barrier does. A graph of neurons can follow it.

    Attributes
    ----------
    operation : {"sum", "concat"}
        Whether the values are added, or concatenated so that the result has all their neurons.
    second_axis : bool
        Whether they are concatenated along the second axis, which may be the last one or not.
    """

    operation: Literal["sum", "concat"]
    second_axis: bool = False


Step: TypeAlias = Dense | Activation | Barrier


@dataclass(frozen=True)
class Operation:
    """One operation of a model.

    Attributes
    ----------
    inputs, outputs : tuple of hashable
        The names of the values that it takes and that it makes. Values that do not depend on an
        input of the model, such as weights, are left out.
    steps : tuple of Step
        What the operation does to the neurons, in order. It is empty if that does not matter to
        balances, as for dropout or the identity.
    reshapes : bool
        Whether the operation may change the shape of its input.
    partial : bool
        Whether only a part, or combinations, of the outputs of a layer may be seen behind it.
    """

    inputs: tuple[Hashable, ...]
    outputs: tuple[Hashable, ...]
    steps: tuple[Step, ...] = ()
    reshapes: bool = False
    partial: bool = False


@dataclass(frozen=True)
class OperationGraph:
    """The operations of a model and the values that pass between them.

    `obstruction.models.operations.graphs` makes such graphs; it checks them and sorts them.

    Attributes
    ----------
    operations : tuple of Operation
        The operations on which the results depend, each after those that make its inputs. A value
        that no operation makes is an input of the model.
    results : tuple of hashable
        The names of the values that the model returns.
    """

    operations: tuple[Operation, ...]
    results: tuple[Hashable, ...]


@dataclass(frozen=True, eq=False)
class Contents:
    """What a reader found in a file or an object.

    Attributes
    ----------
    format : str
        The format in words a user knows: ``"safetensors"``, ``"PyTorch module"``.
    tensors : mapping of str to Tensor
        Every array of numbers that belongs to the model, in stored order. The state of an
        optimiser is left out.
    layout : {"out_in", "in_out"} or None
        How this format stores every weight matrix, None if that depends on the producer.
    graph : OperationGraph or None
        What the model computes, None if the source holds tensors and does not say.
    shared : tuple of frozenset of str
        Sets of two or more names of tensors that share memory.
    notes : tuple of str
        Sentences that say what the reader passed over, and why.
    run : callable or None
        Returns the graph of a model that can be run, given the activation and the layers that a
        user tells, both perhaps None. It raises `NoChain` if the model is no chain of layers.
    part : str or None
        What to do with a file whose content shows that it is only a part of a model, else None.
    unread : mapping of str to Unread
        The members that are not among `tensors`, as they hold no plain numbers. One that may be a
        layer must not be left out, as those around it would seem to follow each other.
    customary : {"out_in", "in_out"} or None
        How weights are usually stored in such a source, although it does not say so. It counts only
        if the layers then form a chain in the order of their names, and only then.
    """

    format: str
    tensors: Mapping[str, Tensor]
    layout: Orientation | None = None
    graph: OperationGraph | None = None
    shared: tuple[frozenset[str], ...] = ()
    notes: tuple[str, ...] = ()
    run: Callable[[str | None, Sequence[str] | None], OperationGraph] | None = None
    part: str | None = None
    unread: Mapping[str, Unread] = field(default_factory=dict)
    customary: Orientation | None = None

    def with_graph(self, activation: str | None, layers: Sequence[str] | None) -> Contents:
        """Return the contents with the graph that a run shows, if the model can be run.

        Raises
        ------
        NoChain
            If the model is no chain of fully connected layers.
        ValueError
            If it is none and an activation or layers were told.
        """
        if self.run is None:
            return self
        return replace(self, graph=self.run(activation, layers), run=None)


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
