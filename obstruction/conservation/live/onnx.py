"""ONNX files as live models: converted to PyTorch, and compared with the reference evaluator."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from obstruction.conservation.law import FloatArray
from obstruction.conservation.live.inputs import opened, short
from obstruction.conservation.live.onnx_files import OnnxFile
from obstruction.conservation.live.torch import TorchModel

TOLERANCE: Final = 1e-4
"""The largest difference between outputs of the conversion in float64 and of the reference in the
numbers of the file, relative to the largest output."""

_COARSE: Final = 3e-2
"""The same, if weights have 16 bits."""


class OnnxModel(TorchModel):
    """An ONNX file that can be run at any values of its weights.

    Parameters
    ----------
    path : path
    inputs : array, tuple or dict, optional
        One input, several in the order of the file, or inputs by their names in the file. If the
        shapes in the file are fixed, up to a number of samples, they can be left out.
    loss : str, optional
        See `obstruction.conservation.live.losses`.

    Raises
    ------
    ValueError
        If the file cannot be read or converted, if inputs do not fit it, or if the outputs of the
        conversion are not those that ONNX defines.

    Notes
    -----
    The parameters have the names of the initializers. A file does not say what is trained, so
    initializers of floats with axes are taken as trained, unless an operation takes them as
    statistics or settings, or an exporter says that they are buffers. The graph is that of the
    file: a normalisation that was exported for inference has constant statistics.
    """

    framework = "ONNX"

    def __init__(
        self, path: str | os.PathLike[str], inputs: Any, *, loss: str | None = None
    ) -> None:
        file = OnnxFile(path)
        arrays = file.bind(inputs)
        opened(arrays, lambda leaf: isinstance(leaf, np.ndarray))
        if not file.weights:
            raise ValueError(f"{file.path}: has no initializers that could be trained")
        module, names = _converted(file)
        super().__init__(module, arrays, training=False, loss=loss)
        order = {names[place]: one for place, one in self._trained.items()}
        self._trained = {name: order[name] for name in file.weights}
        values = {names[place]: one for place, one in self.parameters.items()}
        self.parameters = {name: values[name] for name in file.weights}
        self.fixed = file.fixed
        self.output_axes, self.groups = file.output_axes, file.groups
        self._compare(file, loss)

    def _compare(self, file: OnnxFile, loss: str | None) -> None:
        """Raise ValueError unless the outputs are those of the reference evaluator."""
        self._loss = None
        rng = np.random.default_rng(0)
        drawn = {name: _random(value, rng) for name, value in self.parameters.items()}
        inputs = [_like(one, rng) for one in self.inputs]
        for values in (self.parameters, drawn):
            arrays = tuple(inputs) if values is drawn else self.inputs
            wanted = _reference(file, values, arrays)
            found = self.outputs(values, arrays, seed=0)
            limit = TOLERANCE if file.precise else _COARSE
            apart = _apart(found, wanted)
            if not apart <= limit:
                raise ValueError(
                    f"{file.path}: is not run, as its conversion by onnx2fx gives other outputs "
                    f"than ONNX defines (by {apart:.2g} of the largest); no laws are claimed"
                )
        self._loss = loss


def _converted(file: OnnxFile) -> tuple[torch.nn.Module, dict[str, str]]:
    """Return a file as a module of PyTorch, and the names of initializers by those of parameters.

    The operation Gather is replaced, because version 0.0.1 of onnx2fx refuses negative indices.
    """
    import onnx
    from onnx2fx import convert

    model = onnx.ModelProto()
    model.CopyFrom(file.model)
    safe = {name: f"initializer_{number}" for number, name in enumerate(file.tensors)}
    _rename(model.graph, safe)
    try:
        module = convert(model)
    except Exception as error:
        reason = short(str(error), most=200, quoted=False)
        raise ValueError(
            f"{file.path}: cannot be run, onnx2fx fails with {type(error).__name__}: {reason}"
        ) from error
    for node in module.graph.nodes:
        if node.op == "call_function" and node.meta.get("onnx_op_type") == "Gather":
            node.target = _gather
    module.recompile()
    for name in file.weights:
        value = getattr(module, safe[name])
        delattr(module, safe[name])
        module.register_parameter(safe[name], torch.nn.Parameter(value.detach().clone()))
    return module, {place: name for name, place in safe.items()}


def _rename(graph: Any, names: Mapping[str, str]) -> None:
    """Rename initializers, in subgraphs as well; onnx2fx confuses names such as a.b and a_b."""
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, names)
    for one in (*graph.initializer, *graph.input, *graph.output):
        one.name = names.get(one.name, one.name)


def _gather(data: torch.Tensor, indices: torch.Tensor, axis: int) -> torch.Tensor:
    axis = axis % data.dim()
    places = torch.where(indices < 0, indices + data.shape[axis], indices).long()
    found = torch.index_select(data, axis, places.reshape(-1))
    return found.reshape(data.shape[:axis] + places.shape + data.shape[axis + 1 :])


def _reference(
    file: OnnxFile, values: Mapping[str, FloatArray], arrays: tuple[NDArray[Any], ...]
) -> list[FloatArray]:
    """Return the outputs that ONNX defines, all floats."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.ModelProto()
    model.CopyFrom(file.model)
    for tensor in model.graph.initializer:
        if tensor.name in values:
            kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            new = onnx.numpy_helper.from_array(values[tensor.name].astype(kind), tensor.name)
            tensor.CopyFrom(new)
    feeds = {
        one.name: array.astype(onnx.helper.tensor_dtype_to_np_dtype(one.type))
        for one, array in zip(file.inputs, arrays, strict=True)
    }
    try:
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(model, new_ops=_mended(model)).run(None, feeds)
    except Exception as error:
        reason = short(str(error), most=200, quoted=False)
        raise ValueError(
            f"{file.path}: is not run, as the reference evaluator of onnx fails with "
            f"{type(error).__name__}, so its conversion cannot be checked: {reason}"
        ) from error
    outputs = [np.asarray(one) for one in found]
    return [one.astype(np.float64) for one in outputs if one.dtype.kind not in "iubOSU"]


def _mended(model: Any) -> list[type[Any]]:
    """Return operations in place of those that the reference evaluator computes wrongly.

    It normalises with statistics of the batch before operator set 14, where a node with a single
    output takes those that it is given.
    """
    from onnx.reference.op_run import OpRun

    if max(one.version for one in model.opset_import if not one.domain) >= 14:
        return []

    class BatchNormalization(OpRun):  # type: ignore[misc]
        op_domain = ""

        def _run(self, x: Any, scale: Any, bias: Any, mean: Any, var: Any, **told: Any) -> Any:
            shape = (-1, *(1,) * (x.ndim - 2))
            factor = scale / np.sqrt(var + told.get("epsilon", 1e-5))
            offset = bias - mean * factor
            return ((x * factor.reshape(shape) + offset.reshape(shape)).astype(x.dtype),)

    return [BatchNormalization]


def _random(array: NDArray[Any], rng: np.random.Generator) -> FloatArray:
    """Return random numbers of the size of some."""
    return (float(np.abs(array).mean()) or 1.0) * rng.standard_normal(array.shape)


def _like(array: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Return random inputs: floats are positive if the given ones are and differ."""
    if array.dtype.kind != "f":
        return array
    found = _random(array, rng)
    return np.abs(found) if (array >= 0.0).all() and array.std() > 0.0 else found


def _apart(found: list[FloatArray], wanted: list[FloatArray]) -> float:
    """Return the largest difference relative to the largest output; what is no number must agree.

    The numbers of a file may overflow where float64 does not.
    """
    if [one.shape for one in found] != [one.shape for one in wanted]:
        return float("inf")
    worst = 0.0
    for one, other in zip(found, wanted, strict=True):
        if not np.array_equal(np.isnan(one), np.isnan(other)):
            return float("inf")
        known = np.isfinite(one) & np.isfinite(other)
        if known.any():
            scale = float(np.abs(other[known]).max()) or 1.0
            worst = max(worst, float(np.abs(one - other)[known].max()) / scale)
    return worst
