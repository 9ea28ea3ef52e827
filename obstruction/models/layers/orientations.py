"""Orientations of stored weight matrices: ``(outputs, inputs)`` or ``(inputs, outputs)``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from obstruction.models.contents import (
    ORIENTATIONS,
    Contents,
    Dense,
    Orientation,
    Tensor,
    UnreadableModel,
)
from obstruction.models.layers.naming import Matrix


def proven(dense: Dense, tensors: Mapping[str, Tensor]) -> Orientation | None:
    """Return the orientation that the shapes of a layer prove, or None if both are possible.

    The number of biases is the number of outputs.

    Raises
    ------
    UnreadableModel
        If the biases fit neither side of the weights.
    """
    rows, columns = tensors[dense.weight].shape
    if dense.magnitude is not None and dense.layout is None:
        return "out_in"  # only PyTorch stores magnitudes, one for each row
    if dense.bias is None:
        return None
    count = tensors[dense.bias].array.size
    if count not in (rows, columns):
        raise UnreadableModel(
            f"{dense.bias} has {count} numbers, which fits neither side of "
            f"{dense.weight} with the shape {(rows, columns)}"
        )
    if rows == columns:
        return None
    return "out_in" if count == rows else "in_out"


def possible(
    matrices: Sequence[Matrix], contents: Contents, asked: Orientation | None
) -> list[tuple[Orientation, ...]]:
    """Return the orientations that some layers can have.

    The orientation of a layer is the first of these that is known: what the reader found for this
    layer, what its biases prove, what the user says, what the format always does, what is usual
    for such a name, and what the biases of the other layers prove. The list has one item, with the
    orientations of all layers, if they are known, and two if the user must choose.

    Raises
    ------
    UnreadableModel
        If the biases of a layer contradict its weights.
    ValueError
        If what the user says contradicts the source.
    """
    evidence = [proven(m.dense, contents.tensors) for m in matrices]
    for matrix, proof in zip(matrices, evidence, strict=True):
        dense, shape = matrix.dense, contents.tensors[matrix.dense.weight].shape
        if dense.layout is not None and proof not in (None, dense.layout):
            raise UnreadableModel(
                f"{dense.weight} with the shape {shape} is stored {dense.layout}, "
                f"which its biases {dense.bias} do not fit"
            )
        if asked is not None and dense.layout not in (None, asked):
            raise ValueError(
                f"layout = {asked!r}: {contents.format} stores {dense.name} {dense.layout}"
            )
        if asked is not None and proof not in (None, asked):
            raise ValueError(
                f"layout = {asked!r}: {dense.weight} with the shape {shape} is stored {proof}, "
                f"as its biases show"
            )
    usual = contents.layout
    if usual is not None and any(proof not in (None, usual) for proof in evidence):
        usual = None  # some producers, such as GPT-2's Conv1D, deviate from their format
    if asked is not None and usual not in (None, asked):
        raise ValueError(f"layout = {asked!r}: {contents.format} stores weights {usual}")
    broken = any(
        m.convention not in (None, proof or m.convention)
        for m, proof in zip(matrices, evidence, strict=True)
    )
    shown = {proof for proof in evidence if proof}
    alike = shown.pop() if len(shown) == 1 else None
    found: list[tuple[Orientation, ...]] = []
    for other in ORIENTATIONS:
        candidate = tuple(
            m.dense.layout
            or proof
            or asked
            or usual
            or (None if broken else m.convention)
            or alike
            or other
            for m, proof in zip(matrices, evidence, strict=True)
        )
        if candidate not in found:
            found.append(candidate)
    return found


def widths(
    matrices: Sequence[Matrix], contents: Contents, chosen: Sequence[Orientation]
) -> list[tuple[int, int]]:
    """Return the numbers of inputs and of outputs of layers with given orientations."""
    shapes = [contents.tensors[m.dense.weight].shape for m in matrices]
    return [width(*pair) for pair in zip(shapes, chosen, strict=True)]


def width(shape: tuple[int, ...], layout: Orientation) -> tuple[int, int]:
    """Return the numbers of inputs and of outputs of a layer."""
    return (shape[1], shape[0]) if layout == "out_in" else (shape[0], shape[1])
