"""What an ONNX file says of its inputs, and which of its initializers are weights."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

from obstruction.conservation.live.inputs import short
from obstruction.conservation.live.names import Owned

SAMPLES: Final = 4
"""The number of samples in example inputs, if the file leaves it open."""

EXTRA: Final = "pip install 'obstruction[onnx-run]'"

_FLOATS: Final = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
_WHOLE: Final = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64"}
_BOOL: Final = 9

_WEIGHTS: Final[Mapping[str, frozenset[int]]] = {
    "BatchNormalization": frozenset({1, 2}),
    "Clip": frozenset(),
    "ConstantOfShape": frozenset(),
    "DequantizeLinear": frozenset(),
    "Dropout": frozenset(),
    "OneHot": frozenset(),
    "Pad": frozenset({0}),
    "QuantizeLinear": frozenset(),
    "Range": frozenset(),
    "Resize": frozenset({0}),
    "Upsample": frozenset({0}),
}
"""The inputs at which an operation may take weights, if others are statistics or settings."""

_FACTORS: Final = frozenset({"Div", "Mul", "Pow", "Sub"})
"""Operations whose operand with a single entry is a constant of the formula."""

_STATISTICS: Final = (3, 4)
"""The inputs at which a normalisation takes its mean and variance."""

_OUTPUT_AXES: Final = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1, "Gather": -1}


class Input(NamedTuple):
    """An input of the graph; open axes have None or the name that the file gives them."""

    name: str
    shape: tuple[int | str | None, ...] | None
    type: int

    @property
    def whole(self) -> bool:
        """Whether it takes whole numbers."""
        return self.type in _WHOLE


def is_onnx(model: Any) -> TypeGuard[str | os.PathLike[str]]:
    """Return whether a model is the path of an ONNX file."""
    if not isinstance(model, (str, os.PathLike)):
        return False
    return Path(os.fsdecode(model)).suffix.lower() == ".onnx"


def can_run() -> bool:
    """Return whether what runs ONNX files is installed."""
    from importlib.util import find_spec

    return all(find_spec(name) is not None for name in ("onnx", "onnx2fx", "torch"))


class OnnxFile:
    """An ONNX file.

    Attributes
    ----------
    path : str
    model : onnx.ModelProto
        The model with its local functions inlined.
    inputs : tuple of Input
        What must be given to run it.
    weights : tuple of str
        The initializers that are taken as trained, in the order of their first use. Their names
        say to which operation they belong.
    fixed : tuple of str
        The other initializers of floats.
    output_axes, groups : dict of str to int
        See `LiveModel`.

    Raises
    ------
    ValueError
        If the file cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        import onnx
        from onnx.inliner import inline_local_functions

        self.path = os.fsdecode(path)
        if not Path(self.path).is_file():
            raise ValueError(f"{self.path}: there is no such file")
        try:
            self.model = inline_local_functions(onnx.load(self.path))
        except Exception as error:
            reason = short(str(error), most=200, quoted=False)
            raise ValueError(f"{self.path}: is no ONNX file that can be read: {reason}") from error
        graph = self.model.graph
        _part_statistics(graph)
        self.tensors = {one.name: one for one in graph.initializer}
        self.inputs = tuple(_input(one) for one in graph.input if one.name not in self.tensors)
        used = list(_uses(graph))
        reshaped = {node.input[0] for node in graph.node if node.op_type == "Reshape"}
        buffers = {
            value.name
            for value in graph.value_info
            for entry in value.metadata_props
            if entry.key.endswith("InputSpec.kind") and entry.value == "BUFFER"
        }
        self.weights = tuple(
            name
            for name in dict.fromkeys(name for name, _, _ in used)
            if name not in buffers and self._is_weight(name, used, reshaped)
        )
        floats = [name for name, one in self.tensors.items() if one.data_type in _FLOATS]
        self.fixed = tuple(name for name in floats if name not in set(self.weights))
        self.output_axes, self.groups = _axes(used, self)
        owners = _owners(graph, set(self.weights))
        self.weights = tuple(Owned(name, owners.get(name, name)) for name in self.weights)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The values of the weights, in their own types."""
        return {name: _array(self.tensors[name]) for name in self.weights}

    @property
    def precise(self) -> bool:
        """Whether all weights have 32 bits or more."""
        return all(self.tensors[name].data_type in (1, 11) for name in self.weights)

    def bind(self, inputs: Any) -> tuple[NDArray[Any], ...]:
        """Return the arrays of the inputs in order; those that follow from the file if None.

        Raises
        ------
        ValueError
            If they do not fit the file.
        """
        if inputs is None:
            return tuple(self._example(one, number) for number, one in enumerate(self.inputs))
        names = [one.name for one in self.inputs]
        if isinstance(inputs, Mapping):
            if set(inputs) != set(names):
                raise ValueError(
                    f"inputs: have the names {list(inputs)}, and {self.path} asks for {names}"
                )
            given = [inputs[name] for name in names]
        else:
            given = list(inputs) if type(inputs) is tuple else [inputs]
        if len(given) != len(names):
            raise ValueError(
                f"inputs: {len(given)} given, and {self.path} asks for {len(names)}: {names}"
            )
        return tuple(
            self._fitting(one, value) for one, value in zip(self.inputs, given, strict=True)
        )

    def _is_weight(self, name: str, used: list[tuple[str, Any, int]], reshaped: set[str]) -> bool:
        tensor = self.tensors.get(name)
        if tensor is None or tensor.data_type not in _FLOATS or not tensor.dims:
            return False
        if not np.isfinite(np.asarray(_array(tensor), dtype=np.float64)).all():
            return False
        single = int(np.prod(tensor.dims)) == 1
        return any(
            place in _WEIGHTS.get(node.op_type, {place})
            and not (single and node.op_type in _FACTORS)
            # a normalisation of groups is written as one of instances without gains of its own
            and not (node.op_type == "InstanceNormalization" and node.output[0] in reshaped)
            for other, node, place in used
            if other == name
        )

    def _example(self, one: Input, number: int) -> NDArray[Any]:
        shape = list(one.shape or ())
        if shape and not isinstance(shape[0], int):
            shape[0] = SAMPLES
        sizes = [size for size in shape if isinstance(size, int)]
        if one.shape is None or len(sizes) < len(shape) or one.type not in _FLOATS:
            why = "leaves its shape open" if one.type in _FLOATS else "does not say its range"
            raise ValueError(
                f"inputs: {self.path} asks for {one.name} of shape {_shown(one.shape)} and {why}: "
                "give an example"
            )
        return np.random.default_rng(number).standard_normal(sizes)

    def _fitting(self, one: Input, value: Any) -> NDArray[Any]:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        kinds = "f" if one.type in _FLOATS else "iu" if one.whole else "b"
        if array.dtype.kind not in kinds:
            wanted = (_FLOATS | _WHOLE | {_BOOL: "bool"}).get(one.type, "another type")
            raise ValueError(
                f"inputs: {one.name} has numbers of type {array.dtype}, and {self.path} asks for "
                f"{wanted}"
            )
        fits = one.shape is None or (
            array.ndim == len(one.shape)
            and all(
                not isinstance(size, int) or size == found
                for size, found in zip(one.shape, array.shape, strict=True)
            )
        )
        if not fits:
            raise ValueError(
                f"inputs: {one.name} has shape {array.shape}, and {self.path} asks for "
                f"{_shown(one.shape)}"
            )
        return array


def _array(tensor: Any) -> NDArray[Any]:
    from onnx import numpy_helper

    found: NDArray[Any] = numpy_helper.to_array(tensor)
    return found


def _input(value: Any) -> Input:
    tensor = value.type.tensor_type
    shape: tuple[int | str | None, ...] | None = None
    if tensor.HasField("shape"):
        shape = tuple(
            int(one.dim_value) if one.HasField("dim_value") else one.dim_param or None
            for one in tensor.shape.dim
        )
    return Input(value.name, shape, tensor.elem_type)


def _shown(shape: tuple[int | str | None, ...] | None) -> str:
    if shape is None:
        return "(unknown)"
    sizes = ["?" if size is None else str(size) for size in shape]
    return f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"


def _uses(graph: Any) -> Iterator[tuple[str, Any, int]]:
    """Yield each name that a node takes, the node, and its place, in subgraphs as well."""
    for node in graph.node:
        for place, name in enumerate(node.input):
            yield name, node, place
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _uses(inner)


def _owners(graph: Any, weights: set[str]) -> dict[str, str]:
    """Return the operation to which each weight belongs; a bias that is added to its results, too.

    Gains and offsets that a file multiplies and adds one after the other belong together.
    """
    found: dict[str, str] = {}
    made_by: dict[str, str] = {}
    for number, node in enumerate(graph.node):
        mine = [name for name in node.input if name in weights]
        if not mine:
            continue
        before = [made_by[name] for name in node.input if name in made_by]
        owner = before[0] if node.op_type == "Add" and before else f"{node.op_type} {number}"
        for name in mine:
            found.setdefault(name, owner)
        made_by.update(dict.fromkeys(node.output, owner))
    return found


def _part_statistics(graph: Any) -> None:
    """Give statistics a copy of their own where exporters share it with equal weights."""
    same = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
    tensors = {one.name: one for one in graph.initializer}
    read = {
        name
        for name, node, place in _uses(graph)
        if node.op_type != "BatchNormalization" or place not in _STATISTICS
    }
    taken = set(tensors) | {name for node in graph.node for name in node.output}
    for node in graph.node:
        for place in _STATISTICS if node.op_type == "BatchNormalization" else ():
            name = node.input[place]
            while name in same:
                name = same[name]
            if name in tensors and (name in read or name != node.input[place]):
                new, number = f"{node.input[place]} of statistics", 1
                while new in taken:
                    number += 1
                    new = f"{node.input[place]} of statistics {number}"
                taken.add(new)
                graph.initializer.add().CopyFrom(tensors[name])
                graph.initializer[-1].name = node.input[place] = new


def _axes(
    used: list[tuple[str, Any, int]], file: OnnxFile
) -> tuple[dict[str, int], dict[str, int]]:
    """Return the axes of outputs of weights of known operations, and groups of convolutions."""
    axes: dict[str, int] = {}
    groups: dict[str, int] = {}
    weights = set(file.weights)
    for name, node, place in used:
        if name not in weights or len(file.tensors[name].dims) < 2:
            continue
        told = {one.name: one.i for one in node.attribute}
        if node.op_type in ("Conv", "ConvTranspose") and place == 1:
            groups.setdefault(name, told.get("group", 1))
        if node.op_type == "Gemm" and place == 1:
            axes.setdefault(name, 0 if told.get("transB", 0) else 1)
        elif node.op_type in _OUTPUT_AXES and place == int(node.op_type != "Gather"):
            axis = _OUTPUT_AXES[node.op_type]
            axes.setdefault(name, axis % len(file.tensors[name].dims))
    return axes, groups
