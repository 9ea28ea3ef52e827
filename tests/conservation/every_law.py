"""The dimensions of all linear, diagonal and quadratic laws, by plain linear algebra.

A direction u is a linear law if ⟨u, ∇L⟩ = 0, a symmetric matrix S is a quadratic law if
⟨Sθ, ∇L⟩ = 0, for all parameters, inputs and functions L of the outputs. These are linear equations
for the entries of u and S, which many random probes determine. No structure of the model is used.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from kind import Kind, seeded, torch, without_eps


def floats_of(outputs: Any) -> list[Any]:
    """Return all tensors of floats in outputs of any nesting."""
    if isinstance(outputs, torch.Tensor):
        return [outputs] if outputs.is_floating_point() else []
    if dataclasses.is_dataclass(outputs):
        outputs = [getattr(outputs, entry.name) for entry in dataclasses.fields(outputs)]
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if isinstance(outputs, (tuple, list)):
        return [tensor for part in outputs for tensor in floats_of(part)]
    return []


def run(model: Any, inputs: Any) -> Any:
    """Run a model on one input, a tuple of inputs or a dictionary of inputs."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def redrawn(inputs: Any, generator: Any) -> Any:
    """Return inputs with all floats drawn afresh."""
    if isinstance(inputs, dict):
        return {name: redrawn(part, generator) for name, part in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return type(inputs)(redrawn(part, generator) for part in inputs)
    if isinstance(inputs, torch.Tensor) and inputs.is_floating_point():
        return torch.randn(inputs.shape, generator=generator, dtype=inputs.dtype)
    return inputs


def trained(model: Any) -> list[Any]:
    """Return the parameters that gradient descent changes."""
    return [p for p in model.parameters() if p.requires_grad]


def gradient(model: Any, inputs: Any, generator: Any, *, count: int = 1) -> list[Any]:
    """Return gradients of random linear functions of the outputs, a tensor a parameter."""
    with seeded(int(torch.randint(2**31, (), generator=generator))):
        outputs = [y for y in floats_of(run(model, inputs)) if y.requires_grad]
    flat = torch.cat([y.flatten() for y in outputs])
    found = []
    for _ in range(min(len(flat), count)):
        direction = torch.randn(flat.shape, generator=generator, dtype=flat.dtype)
        parts = torch.autograd.grad(
            flat, trained(model), direction, retain_graph=True, allow_unused=True
        )
        pairs = zip(trained(model), parts, strict=True)
        found.append([torch.zeros_like(p) if g is None else g for p, g in pairs])
    return found


def probes(
    kind: Kind, rows: int, scales: tuple[float, float], *, exact: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return random parameters and gradients at them, both of shape (rows, parameters).

    The exponents of 2 by which the parameters of a probe are scaled lie between `scales`. If
    `exact`, the eps of normalisations vanishes.
    """
    model, inputs = kind.made()
    model = without_eps(model) if exact else model
    generator = torch.Generator().manual_seed(1)
    low, high = scales
    points, gradients = [], []
    while len(points) < rows:
        middle = low + (high - low) * torch.rand((), generator=generator)
        with torch.no_grad():
            for p in trained(model):
                p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
                p.mul_(2.0 ** (middle + 2 * torch.rand((), generator=generator) - 1))
        drawn = kind.redraw(generator) if kind.redraw else redrawn(inputs, generator)
        theta = torch.cat([p.detach().flatten() for p in trained(model)]).numpy()
        for parts in gradient(model, drawn, generator, count=6):
            whole = torch.cat([g.flatten() for g in parts]).numpy()
            if np.isfinite(whole).all() and np.abs(whole).max() > 0:
                points.append(theta)
                gradients.append(whole)
    return np.array(points), np.array(gradients)


def nullity(matrix: np.ndarray) -> int:
    """Return the dimension of the null space of a matrix with more rows than columns."""
    size = np.linalg.norm(matrix, axis=1, keepdims=True)
    matrix = matrix[size[:, 0] > 0] / size[size[:, 0] > 0]
    values = np.zeros(matrix.shape[1])
    if matrix.size:
        found = np.linalg.svd(np.linalg.qr(matrix, mode="r"), compute_uv=False)
        values[: len(found)] = found
    values = values / values.max() if values.max() > 0 else values
    if ((values > 1e-10) & (values < 1e-8)).any():  # smaller ones are rounding
        raise ArithmeticError(f"no gap between singular values: {np.sort(values)[:20]}")
    return int((values <= 1e-10).sum())


def parameters_of(kind: Kind) -> int:
    """Return the number of scalars that gradient descent changes."""
    return sum(p.numel() for p in trained(kind.made()[0]))


def linear_and_diagonal(
    kind: Kind, scales: tuple[float, float] = (0.0, 0.0), *, exact: bool = True
) -> tuple[int, int]:
    """Return the dimensions of the linear laws and of the laws of weighted squares.

    Constants count in both.
    """
    points, gradients = probes(kind, 2 * parameters_of(kind) + 30, scales, exact=exact)
    return nullity(gradients), nullity(points * gradients)


def quadratic_laws(kind: Kind) -> int:
    """Return the dimension of all quadratic laws."""
    size = parameters_of(kind)
    unknowns = size * (size + 1) // 2
    points, gradients = probes(kind, int(2.5 * unknowns) + 50, (0.0, 0.0))
    i, j = np.triu_indices(size)
    features = points[:, i] * gradients[:, j]
    features[:, i != j] += (points[:, j] * gradients[:, i])[:, i != j]
    return nullity(features)
