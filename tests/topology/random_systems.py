"""Random systems of balances, and what linear programs over all scalars say of them."""

import numpy as np
from scipy.optimize import linprog

from obstruction.topology.systems import Membership, Tensor


def columns(nodes, tensors):
    """Return the matrix of the system, and the tensor and position of each column."""
    found, names = [], []
    for tensor in tensors:
        block = np.zeros((nodes, *tensor.shape))
        for one in tensor.memberships:
            labels = np.broadcast_to(one.labels, tensor.shape)
            for position in np.ndindex(*tensor.shape):
                if labels[position] >= 0:
                    block[(one.first + labels[position], *position)] += one.coefficient
        found.append(block.reshape(nodes, -1))
        names += [(tensor.name, position) for position in np.ndindex(*tensor.shape)]
    return np.concatenate(found, axis=1), names


def least_squares(nodes, tensors, balances):
    """Return the smallest square of each scalar over all scalars with the same balances."""
    A, names = columns(nodes, tensors)
    found = {}
    for j, name in enumerate(names):
        if not A[:, j].any():
            found[name] = 0.0
            continue
        solved = linprog(np.eye(len(names))[j], A_eq=A, b_eq=balances, method="highs")
        assert solved.status == 0, solved.message
        found[name] = solved.fun
    return found


def certificate_holds(nodes, tensors, one):
    """Return whether a certificate proves its bound, by the columns of all scalars."""
    A, names = columns(nodes, tensors)
    sums = [0] * len(names)
    for v, a in zip(one.nodes, one.coefficients, strict=True):
        sums = [s + a * int(entry) for s, entry in zip(sums, A[v], strict=True)]
    own = names.index((one.tensor, one.position))
    return sums[own] <= 1 and all(s <= 0 for j, s in enumerate(sums) if j != own)


def random_tensors(rng, nodes, *, coefficients=(1, -1), most=2, tensors=4, size=4):
    """Return tensors whose labels vary along one axis, several, or none."""
    made = []
    for i in range(tensors):
        shape = tuple(rng.integers(1, size, rng.integers(1, 3)).tolist())
        if rng.random() < 0.3:
            shape += (int(rng.integers(1, 3)),)
        memberships = []
        for k in range(rng.integers(1, most + 1)):
            kind = rng.random()
            axis = int(rng.integers(len(shape)))
            dims = [n if a == axis or kind < 0.15 else 1 for a, n in enumerate(shape)]
            if kind > 0.9:
                dims = [1] * len(shape)
            span = int(rng.integers(1, nodes + 1))
            first = int(rng.integers(nodes - span + 1))
            labels = rng.integers(-1 if rng.random() < 0.4 else 0, span, dims)
            if rng.random() < 0.5 and max(dims) <= span:  # all labels are different
                labels = (
                    rng.permutation(span)[: int(np.prod(dims))]
                    if np.prod(dims) <= span
                    else labels.ravel()
                )
                labels = labels.reshape(dims)
            sign = coefficients[k % 2] if len(coefficients) == 2 else rng.choice(coefficients)
            memberships.append(Membership(first, labels, int(sign)))
        made.append(Tensor(f"t{i}", shape, memberships))
    return made


def random_weights(rng, tensors):
    weights = {}
    for tensor in tensors:
        w = rng.standard_normal(tensor.shape) * 2.0 ** rng.integers(-2, 3)
        weights[tensor.name] = w * (rng.random(tensor.shape) < rng.choice([1.0, 0.6]))
    return weights
