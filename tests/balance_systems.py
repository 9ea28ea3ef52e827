"""Random systems of balances, and what is true of them by linear programs over all scalars."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import linprog

from obstruction.topology.systems import Membership, Tensor


def columns(nodes, tensors, size=int):
    """Return the matrix of a system, and the tensor and position of each column.

    `size` is applied to all coefficients.
    """
    found, names = [], []
    for tensor in tensors:
        block = np.zeros((nodes, *tensor.shape))
        for one in tensor.memberships:
            labels = np.broadcast_to(one.labels, tensor.shape)
            for position in np.ndindex(*tensor.shape):
                if labels[position] >= 0:
                    block[(one.first + labels[position], *position)] += size(one.coefficient)
        found.append(block.reshape(nodes, -1))
        names += [(tensor.name, position) for position in np.ndindex(*tensor.shape)]
    return np.concatenate(found, axis=1), names


def squares(tensors, weights):
    """Return the squares of all scalars in the order of `columns`."""
    return np.concatenate([np.ravel(weights[tensor.name]) ** 2 for tensor in tensors])


def least_squares(A, balances):
    """Return the smallest square of each scalar over all scalars with the same balances."""
    found = []
    for j in range(A.shape[1]):
        if A[:, j].any():
            solved = linprog(np.eye(A.shape[1])[j], A_eq=A, b_eq=balances, method="highs")
            assert solved.status == 0, solved.message
            found.append(solved.fun)
        else:
            found.append(0.0)
    return found


def check_certificate(A, names, balances, one):
    """Check by the columns of all scalars that a certificate proves its bound."""
    sums = [Fraction(0)] * len(names)
    for v, a in zip(one.nodes, one.coefficients, strict=True):
        sums = [total + a * int(entry) for total, entry in zip(sums, A[v], strict=True)]
    own = names.index((one.tensor, one.position))
    assert sums[own] == 1
    assert all(total <= 0 for j, total in enumerate(sums) if j != own)
    bound = sum(a * Fraction(balances[v]) for v, a in zip(one.nodes, one.coefficients, strict=True))
    assert float(bound) == np.float64(one.square) or abs(bound - one.square) < 1e-9 * max(
        abs(balances[v]) for v in one.nodes
    )
    # The least value is the exact root, rounded once; here the square is rounded before the root.
    assert one.least == pytest.approx(np.sqrt(max(0.0, float(one.square))), rel=2**-52, abs=0.0)


def random_tensors(rng, nodes, *, coefficients=(1, -1), most=2, tensors=4, size=4):
    """Return tensors whose labels vary along one axis, along several or along none.

    The memberships of a tensor have the `coefficients` in turn.
    """
    made = []
    for i in range(tensors):
        shape = tuple(rng.integers(1, size, rng.integers(1, 3)).tolist())
        if rng.random() < 0.2:
            shape += (2,)
        memberships = []
        for k in range(rng.integers(1, most + 1)):
            kind, axis = rng.random(), int(rng.integers(len(shape)))
            dims = [n if a == axis or kind < 0.15 else 1 for a, n in enumerate(shape)]
            if kind > 0.9:
                dims = [1] * len(shape)
            span = int(rng.integers(1, nodes + 1))
            first = int(rng.integers(nodes - span + 1))
            count = int(np.prod(dims))
            if count <= span and rng.random() < 0.5:
                labels = rng.permutation(span)[:count].reshape(dims)
            else:
                labels = rng.integers(-1 if rng.random() < 0.4 else 0, span, dims)
            memberships.append(Membership(first, labels, coefficients[k % len(coefficients)]))
        made.append(Tensor(f"t{i}", shape, memberships))
    return made


def random_weights(rng, tensors):
    """Return weights of different sizes, of which some are zero."""
    weights = {}
    for tensor in tensors:
        w = rng.standard_normal(tensor.shape) * 2.0 ** rng.integers(-2, 3)
        weights[tensor.name] = w * (rng.random(tensor.shape) < rng.choice([1.0, 0.6]))
    return weights


def chain_tensors(widths, biases):
    """Return the number of hidden neurons of a chain of layers, and its tensors."""
    starts = np.cumsum([0, *widths[1:-1]])
    tensors = []
    for i in range(len(widths) - 1):
        memberships = []
        if i < len(widths) - 2:
            rows = np.arange(widths[i + 1])
            memberships.append(Membership(int(starts[i]), rows[:, None], 1))
            if biases[i]:
                bias = Membership(int(starts[i]), rows, 1)
                tensors.append(Tensor(f"b{i}", rows.shape, [bias]))
        if i > 0:
            memberships.append(Membership(int(starts[i - 1]), np.arange(widths[i]), -1))
        tensors.append(Tensor(f"W{i}", (widths[i + 1], widths[i]), memberships))
    return int(starts[-1]), tensors
