"""Nodes of an ONNX graph that multiply values with a matrix."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Final, Literal

from obstruction.models.activations import is_activation
from obstruction.models.contents import Activation
from obstruction.models.operations.einsum import matrix_layout
from obstruction.models.readers.onnx.constants import number, text

Axis = Literal["last", "rows"]
"""The axis of a value along which neurons lie: the last one, or the one before it."""

_PRODUCTS: Final = {
    "": {"Gemm", "MatMul", "Einsum"},
    "com.microsoft": {"FusedGemm", "FusedMatMul", "TransposeMatMul"},
}


@dataclass(frozen=True)
class Product:
    """A product of a value with a matrix.

    Attributes
    ----------
    weights : str
        The matrix.
    outputs_first : bool
        Whether the matrix, as the node gets it, is (outputs, inputs).
    reads, makes : {"last", "rows"}
        The axis of the neurons that are read, and of those that are made.
    bias : str
        The biases, "" without them.
    factor, bias_factor : float
        Fixed factors of the product and of the biases.
    activation : Activation or None
        What is applied to the outputs in the same node.
    """

    weights: str
    outputs_first: bool
    reads: Axis
    makes: Axis
    bias: str = ""
    factor: float = 1.0
    bias_factor: float = 1.0
    activation: Activation | None = None


def is_product(node: Any) -> bool:
    """Return whether a node multiplies its first two inputs."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    return node.op_type in _PRODUCTS.get(domain, ()) and len(node.input) >= 2


def product_of(node: Any, data: list[str], constants: Container[str]) -> Product | None:
    """Return what a node multiplies, or None if not a single value with a single constant.

    Parameters
    ----------
    node : onnx.NodeProto
        One for which `is_product` is True.
    data : list of str
        Its inputs that are no constants.
    constants : container of str
        The names of constants.
    """
    first, second = node.input[:2]
    place = int(first not in constants)
    weights, values = (first, second)[place], (second, first)[place]
    if len(data) != 1 or data != [values] or weights not in constants:
        return None
    if node.op_type == "Einsum":
        layout = matrix_layout(text(node, "equation"), place) if len(node.input) == 2 else None
        return None if layout is None else Product(weights, layout == "out_in", "last", "last")
    turned = [number(node, name, 0.0) != 0.0 for name in ("transA", "transB")]
    if any(number(node, name, 0.0) != 0.0 for name in ("transBatchA", "transBatchB")):
        return None
    factor = number(node, "alpha", 1.0)
    reads: Axis = "rows" if turned[1 - place] != (place == 0) else "last"
    outputs_first = turned[1] if place == 1 else not turned[0]
    makes: Axis = "last" if place == 1 else "rows"
    if not node.op_type.endswith("Gemm"):
        return Product(weights, outputs_first, reads, makes, factor=factor)
    beta = number(node, "beta", 1.0)
    bias = node.input[2] if len(node.input) > 2 and beta != 0.0 else ""
    applied: Activation | None = None
    if node.op_type == "FusedGemm" and (name := text(node, "activation")):
        if not is_activation(name):
            return None
        leaky = name == "LeakyRelu"
        applied = Activation(name, number(node, "activation_alpha", 0.01) if leaky else 0.0)
    return Product(weights, outputs_first, reads, makes, bias, factor, beta, applied)
