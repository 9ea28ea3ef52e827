"""Random networks on directed acyclic graphs, and what is true of them by slow, plain means."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import linprog

from obstruction.dag import BIAS, Network

KINDS = ("any", "sparse", "dense", "deep", "narrow", "biased")


def random_network(rng, hidden, kind="any", inputs=None, outputs=None):
    """Return a network whose hidden nodes all lie on a path from an input to an output.

    ``deep``: every node leads to the next; ``narrow``: long chains with a few other edges.
    """
    inputs, outputs = inputs or rng.integers(1, 4), outputs or rng.integers(1, 4)
    names = [f"x{i}" for i in range(inputs)] + [f"h{i}" for i in range(hidden)]
    names += [f"y{i}" for i in range(outputs)]
    share = {"sparse": 0.15, "dense": 0.6, "deep": 0.15, "narrow": 0.04}.get(kind)
    share = share or rng.choice([0.15, 0.3, 0.6])
    last, edges = inputs + hidden, set()
    for a, b in itertools.product(range(last), range(inputs, len(names))):
        chain = kind in ("deep", "narrow") and inputs <= a == b - 1
        if a < b and (chain or rng.random() < share):
            edges.add((a, b))
    for v in range(inputs, last):
        if not any(b == v for _, b in edges):
            edges.add((int(rng.integers(v)), v))
        if not any(a == v for a, _ in edges):
            edges.add((v, int(rng.integers(v + 1, len(names)))))
    named = [(names[a], names[b]) for a, b in sorted(edges)]
    if kind == "biased" or rng.random() < 0.3:
        named += [(BIAS, name) for name in names[inputs:] if rng.random() < 0.4]
    rng.shuffle(named)
    return Network.from_edges(
        [tuple(map(str, edge)) for edge in named],
        inputs=names[:inputs],
        outputs=names[last:],
    )


class Sets:
    """All sets of hidden nodes of a network, as rows of zeros and ones, with what crosses them."""

    def __init__(self, net):
        n = len(net.hidden)
        assert n <= 14
        self.inside = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        place = {name: i for i, name in enumerate(net.hidden)}
        none = np.zeros(2**n, dtype=int)
        tail = np.array([self.inside[:, place[a]] if a in place else none for a, _ in net.edges])
        head = np.array([self.inside[:, place[b]] if b in place else none for _, b in net.edges])
        self.out, self.into = ((tail == 1) & (head == 0)).T, ((head == 1) & (tail == 0)).T

    def sums(self, balances):
        """Return ``c(S)`` for each set."""
        return self.inside @ balances

    def smallest_squares(self, balances):
        """Return the least square of each weight by Gale's and Hoffman's criterion."""
        sums, least = self.sums(balances), [0] * self.out.shape[1]
        for crossing, sign in ((self.out, -1), (self.into, 1)):
            alone = crossing.sum(axis=1) == 1
            for total, edge in zip(sums[alone], crossing[alone].argmax(axis=1), strict=True):
                least[edge] = max(least[edge], sign * total)
        return least


def smallest_by_programming(net, balances):
    """Return the least square of each weight by a linear programme for each."""
    balances = np.asarray(balances, dtype=float)
    least = []
    for row in np.eye(net.size):
        solved = linprog(row, A_eq=net.incidence(), b_eq=balances, method="highs")
        assert solved.status == 0
        least.append(solved.fun)
    return np.array(least)


def can_vanish(net, balances, edges):
    """Return whether some weights with these balances are zero on all the given edges."""
    bounds = [(0, 0 if e in edges else None) for e in range(net.size)]
    solved = linprog(
        np.zeros(net.size), A_eq=net.incidence(), b_eq=np.asarray(balances, float), bounds=bounds
    )
    assert solved.status in (0, 2)
    return solved.status == 0
