"""Gradient flow of a small model, tight enough to tell a conserved number from a drifting one."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from every_law import floats_of, run
from kind import seeded, torch
from scipy.integrate import DOP853


def smooth_loss(outputs: Any, seed: int) -> Any:
    """Return a smooth random function of all outputs: a quadratic and log-cosh of mixtures."""
    flat = torch.cat([y.flatten() for y in floats_of(outputs)])
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(flat.shape, generator=generator, dtype=flat.dtype)
    mixing = torch.randn((4, len(flat)), generator=generator, dtype=flat.dtype)
    mixed = mixing @ flat / len(flat) ** 0.5
    return 0.5 * (flat - target).square().mean() + (mixed.cosh().log()).sum() / 4


def gradient_flow(
    model: Any,
    inputs: Any,
    *,
    time: float = 1.0,
    most: int = 500,
    seed: int = 0,
    tolerance: float = 1e-10,
    loss: Any = None,
) -> list[dict[str, np.ndarray]]:
    """Return the trainable parameters along dθ/dt = -∇L(θ), the start first.

    The equations are solved in float64 by a Runge-Kutta method of order 8, which shortens its steps
    where it crosses a kink of ReLU. Where the flow slides along a kink it would never end: it stops
    after `most` gradients. Random numbers of the model, such as dropout, are those of `seed` in
    every evaluation.
    """
    model = copy.deepcopy(model)
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    sizes = np.cumsum([p.numel() for p in named.values()])[:-1]

    def unpacked(theta: np.ndarray) -> dict[str, np.ndarray]:
        parts = np.split(theta, sizes)
        return {
            name: part.reshape(tuple(p.shape)).copy()
            for (name, p), part in zip(named.items(), parts, strict=True)
        }

    def velocity(_: float, theta: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            for name, value in unpacked(theta).items():
                named[name].copy_(torch.from_numpy(value))
        with seeded(seed):
            outputs = run(model, inputs)
        height = smooth_loss(outputs, seed) if loss is None else loss(outputs)
        found = torch.autograd.grad(height, list(named.values()), allow_unused=True)
        whole = [
            torch.zeros_like(p) if g is None else g
            for p, g in zip(named.values(), found, strict=True)
        ]
        return -torch.cat([g.flatten() for g in whole]).numpy()

    start = torch.cat([p.detach().flatten() for p in named.values()]).numpy().copy()
    solver = DOP853(velocity, 0.0, start, time, rtol=tolerance, atol=tolerance * 1e-2)
    path = [unpacked(start)]
    while solver.status == "running" and solver.nfev < most:
        solver.step()
        path.append(unpacked(solver.y))
    if solver.status == "failed":
        raise ArithmeticError("the flow could not be solved: its steps became too small")
    return path[:: max(1, len(path) // 8)] + path[-1:]


def distance(path: list[dict[str, np.ndarray]]) -> float:
    """Return how far the parameters moved, relative to their length at the start."""
    start, end = (np.concatenate([v.ravel() for v in p.values()]) for p in (path[0], path[-1]))
    return float(np.linalg.norm(end - start) / np.linalg.norm(start))
