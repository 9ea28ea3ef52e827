"""The paper's toy experiment: networks learn a target that needs one negative output weight.

Called by ``scripts/figure3.py``; docs/toy.md explains the choices. Networks
``f(x) = v1 relu(w1 x) + v2 relu(w2 x)`` of two inputs and two hidden neurons, without biases, learn
``y = relu(x1) - relu(x2)`` from 8000 points by full-batch gradient descent on the mean squared
error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import nnls

import obstruction as ob
from obstruction import topology, training

Array = NDArray[np.float64]

SEED = 0
"""The seed of the data. The networks have the seeds 0, 1, 2, ..."""
POINTS = 8000
SCHEME = "xavier_normal"
POSITIVE, NEGATIVE = 1, 1
"""The number of output weights of each sign that the target needs."""
BALANCE = 1.0
"""Networks are rescaled to balances of this size."""
LEARNED = 0.01
"""A network has learned if its loss is below this part of the bound."""
VANISHED = 1e-3
"""A neuron with smaller input weights than this has vanished."""
STILL = 5e-3
"""A network with a smaller gradient than this has come to rest."""


class Plan(NamedTuple):
    """Steps of the training, their size, and the second run of networks that have not learned."""

    rate: float
    steps: int
    late_rate: float
    late_steps: int


PLAN = Plan(rate=0.004, steps=12_500, late_rate=0.02, late_steps=20_000)
QUICK = Plan(rate=0.004, steps=5_000, late_rate=0.02, late_steps=5_000)

CONDITIONS = {
    "both frozen positive": (True, (-BALANCE, -BALANCE)),
    "one free": (True, (-BALANCE, BALANCE)),
    "frozen, signs as drawn": (False, (-BALANCE, -BALANCE)),
    "all as drawn": (False, None),
}
"""Conditions: whether the output weights are made positive, and the balances to rescale to."""


def target(X: Array) -> Array:
    """Return ``relu(x1) - relu(x2)``."""
    return np.asarray(np.maximum(X[:, 0], 0.0) - np.maximum(X[:, 1], 0.0))


def data(points: int = POINTS) -> tuple[Array, Array]:
    """Return standard normal points and the target's values at them."""
    X = np.random.default_rng(SEED).standard_normal((points, 2))
    return X, target(X)


# --- what is out of reach ----------------------------------------------------------------------


class Bound(NamedTuple):
    """The least loss of networks whose output weights share a sign, from below and from above."""

    low: float
    high: float
    neurons: Array
    """Of the network with loss `high`: input times size of output weight, a row a neuron."""


def best_direction(X: Array, r: Array) -> tuple[float, float]:
    """Return the angle of the neuron that fits ``r`` best, and the mean of ``r relu(u x)`` there.

    Exact: as the unit vector ``u`` turns, points enter and leave its half-plane at known angles,
    and in between the mean is ``A cos + B sin`` of the angle of ``u``.
    """
    turn = np.arctan2(X[:, 1], X[:, 0])
    edges = np.concatenate([turn - np.pi / 2, turn + np.pi / 2]) % (2 * np.pi)
    change = np.concatenate([r[:, None] * X, -r[:, None] * X]) / len(X)
    order = np.argsort(edges)
    first = (X[:, 0] > 0.0) @ (r[:, None] * X) / len(X)  # at angle 0
    sums = first + np.concatenate([np.zeros((1, 2)), np.cumsum(change[order], axis=0)])
    edges = np.concatenate([[0.0], edges[order], [2 * np.pi]])
    peak = np.arctan2(sums[:, 1], sums[:, 0]) % (2 * np.pi)
    at = np.stack([edges[:-1], edges[1:], np.clip(peak, edges[:-1], edges[1:])])
    values = sums[:, 0] * np.cos(at) + sums[:, 1] * np.sin(at)
    best = np.unravel_index(values.argmax(), values.shape)
    return float(at[best]), float(values[best])


def least_loss(X: Array, y: Array, sign: int, gap: float = 1e-9) -> Bound:
    """Return the least loss of networks, however wide, whose output weights all have one sign.

    The functions of these networks form a convex cone, so this is a least-squares problem with
    positive coefficients. Neurons are added where they help most until the loss meets the dual
    bound of docs/toy.md.
    """
    y = sign * y
    shift = np.linalg.norm(X, axis=1)
    least = -best_direction(X, -shift)[1]
    angles: list[float] = []
    fit = np.zeros_like(y)
    neurons, low, high = np.zeros((0, 2)), 0.0, float(np.mean(y**2))
    for _ in range(50):
        angle, most = best_direction(X, y - fit)
        dual = y - fit - max(most, 0.0) / least * shift  # no neuron correlates positively with it
        gain = float(np.mean(dual * y))
        low = max(low, gain**2 / float(np.mean(dual**2)) if gain > 0.0 else 0.0)
        if high - low <= gap:
            break
        angles.append(angle)
        units = np.column_stack([np.cos(angles), np.sin(angles)])
        columns = np.maximum(X @ units.T, 0.0)
        sizes, _ = nnls(columns, y)
        fit = columns @ sizes
        high = float(np.mean((y - fit) ** 2))
        neurons = (units * sizes[:, None])[sizes > 0.0]
        angles = [angle for angle, size in zip(angles, sizes, strict=True) if size > 0.0]
    return Bound(low, high, neurons)


def out_of_reach(W1: Array, W2: Array) -> bool:
    """Return whether frozen signs of the initial weights put the target out of reach."""
    signs = topology.component_label(W1, W2[None, :]).output_signs
    l = len(W2)
    return signs.count(1) > l - NEGATIVE or signs.count(-1) > l - POSITIVE


# --- the networks ------------------------------------------------------------------------------


def draw(seeds: Sequence[int]) -> tuple[Array, Array]:
    """Return one network of the scheme for each seed: ``W1 (N, 2, 2)``, ``W2 (N, 2)``."""
    drawn = [ob.replay(seed, network=0, d=2, l=2, scheme=SCHEME) for seed in seeds]
    return np.array([one.W1 for one in drawn]), np.array([one.W2[0] for one in drawn])


def start(W1: Array, W2: Array, condition: str) -> tuple[Array, Array]:
    """Return networks under a condition; rescaling does not change their functions."""
    positive, c = CONDITIONS[condition]
    W2 = np.abs(W2) if positive else W2
    return (W1, W2) if c is None else rescaled(W1, W2, c)


def rescaled(W1: Array, W2: Array, c: Sequence[float]) -> tuple[Array, Array]:
    """Return every network rescaled to the balances ``c`` (prop. 4)."""
    new = [topology.rescale_to_balance(w, v[None, :], c) for w, v in zip(W1, W2, strict=True)]
    return np.array([one.W1 for one in new]), np.array([one.W2[0] for one in new])


def train(
    W1: Array, W2: Array, X: Array, y: Array, plan: Plan, *, records: int = 100, **options: Any
) -> training.Trained:
    """Train as long as the plan says, with this number of records on the way."""
    return training.train(
        W1,
        W2,
        X,
        y,
        optimizer=training.GradientDescent(plan.rate),
        steps=plan.steps,
        record_every=max(1, plan.steps // records),
        **options,
    )


def outcome(loss: float, bound: float) -> str:
    """Return the outcome of a training, by comparing the loss with the bound."""
    if loss < LEARNED * bound:
        return "learned"
    return "below the bound" if loss < bound else "at or above it"


def gradient_size(W1: Array, W2: Array, X: Array, y: Array) -> float:
    """Return the norm of the gradient of a network's loss."""
    active = np.maximum(X @ W1.T, 0.0)
    error = 2.0 * (active @ W2 - y) / len(y)
    inward = ((error[:, None] * (active > 0.0)).T @ X) * W2[:, None]
    return float(np.hypot(np.linalg.norm(inward), np.linalg.norm(error @ active)))


CAUSES = (
    "slow",
    "still moving",
    "vanished neuron",
    "local minimum, both signs",
    "local minimum, one sign",
)


def cause(W1: Array, W2: Array, X: Array, y: Array, later: float, bound: float) -> str:
    """Return why a network has not learned (`CAUSES`), from its weights and loss much later."""
    if later < LEARNED * bound:
        return "slow"
    if (np.linalg.norm(W1, axis=1) < VANISHED).any():
        return "vanished neuron"
    if gradient_size(W1, W2, X, y) >= STILL:
        return "still moving"
    one_sign = (W2 > 0.0).all() or (W2 < 0.0).all()
    return "local minimum, one sign" if one_sign else "local minimum, both signs"


def experiment(
    seeds: Sequence[int], X: Array, y: Array, plan: Plan, bound: float, threads: int | None = None
) -> pd.DataFrame:
    """Predict, train and compare; return one row for each network, ``len(seeds)`` per condition.

    The prediction is made before training. Networks that could learn and have not are trained on,
    to distinguish slow networks from those at rest.
    """
    drawn = draw(seeds)
    tables = []
    for condition in CONDITIONS:
        W1, W2 = start(*drawn, condition)
        stuck = np.array([out_of_reach(w, v) for w, v in zip(W1, W2, strict=True)])
        run = train(W1, W2, X, y, plan, threads=threads)
        final = run.losses[:, -1]
        ends1, ends2, later = run.W1.copy(), run.W2.copy(), final.copy()
        failed = np.flatnonzero(~stuck & (final >= LEARNED * bound))
        if failed.size:
            rest = Plan(plan.late_rate, plan.late_steps, 0.0, 0)
            more = train(run.W1[failed], run.W2[failed], X, y, rest, threads=threads)
            ends1[failed], ends2[failed], later[failed] = more.W1, more.W2, more.losses[:, -1]
        causes = [
            "" if loss < LEARNED * bound else cause(ends1[i], ends2[i], X, y, later[i], bound)
            for i, loss in enumerate(final)
        ]
        tables.append(
            pd.DataFrame(
                {
                    "condition": condition,
                    "seed": seeds,
                    "c1": run.balances[:, 0, 0],
                    "c2": run.balances[:, 0, 1],
                    "v1": W2[:, 0],
                    "v2": W2[:, 1],
                    "predicted": np.where(stuck, "stuck", "not stuck"),
                    "first_loss": run.losses[:, 0],
                    "final_loss": final,
                    "outcome": [outcome(loss, bound) for loss in final],
                    "final_v1": run.W2[:, 0],
                    "final_v2": run.W2[:, 1],
                    "final_c1": run.balances[:, -1, 0],
                    "final_c2": run.balances[:, -1, 1],
                    "drift": run.drift.max(axis=1),
                    "later_loss": later,
                    "cause": causes,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


OUTCOMES = ("learned", "below the bound", "at or above it")


def confusion(table: pd.DataFrame) -> pd.DataFrame:
    """Return the number of networks for each prediction and outcome."""
    counts = pd.crosstab(table["predicted"], table["outcome"])
    return counts.reindex(index=["stuck", "not stuck"], columns=list(OUTCOMES), fill_value=0)


# --- finite steps ------------------------------------------------------------------------------

HORIZON, SHORTEST = 20.0, 500
"""Training lasts this time (step size times steps), and at least this number of steps."""

_RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
_ADAM_RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

OPTIMIZERS: dict[str, tuple[Any, float, tuple[float, ...]]] = {
    "gradient descent": (training.GradientDescent, 1.0, _RATES),
    "momentum 0.9": (
        lambda rate: training.GradientDescent(rate, momentum=0.9),
        10.0,
        tuple(round(rate / 10, 4) for rate in _RATES),
    ),
    "weight decay 0.01": (
        lambda rate: training.GradientDescent(rate, weight_decay=0.01),
        1.0,
        _RATES,
    ),
    "Adam": (training.Adam, 1.0, _ADAM_RATES),
    "AdamW, decay 0.01": (
        lambda rate: training.Adam(rate, weight_decay=0.01, decoupled=True),
        1.0,
        _ADAM_RATES,
    ),
}
"""Optimizers: a function of the learning rate, how much farther steps go in the long run, rates."""


def escapes(
    seeds: Sequence[int],
    X: Array,
    y: Array,
    bound: float,
    sizes: Sequence[float],
    every: int = 1,
    threads: int | None = None,
) -> pd.DataFrame:
    """Train networks that cannot reach the target under gradient flow, and count those that do.

    There is one row for each optimizer, balance ``-c`` and every ``every``-th learning rate. A
    network has crossed if one of its output weights, which are positive at the start, is negative
    at the end.
    """
    W1, W2 = draw(seeds)
    rows = []
    for c in sizes:
        networks = rescaled(W1, np.abs(W2), (-c, -c))
        for name, (make, reach, rates) in OPTIMIZERS.items():
            for rate in rates[::every]:
                steps = max(SHORTEST, round(HORIZON / (reach * rate)))
                run = training.train(
                    *networks, X, y, optimizer=make(rate), steps=steps, record_every=steps // 20,
                    threads=threads,
                )  # fmt: skip
                ended = ~run.diverged
                loss = run.losses[ended, -1]
                drift = run.drift[ended].max(axis=1) / c
                spread = np.quantile(drift, (0.1, 0.5, 0.9)) if ended.any() else [np.nan] * 3
                rows.append(
                    {
                        "optimizer": name,
                        "c": -c,
                        "learning_rate": rate,
                        "steps": steps,
                        "networks": len(seeds),
                        "diverged": int(run.diverged.sum()),
                        "crossed": int((run.W2[ended] < 0.0).any(axis=1).sum()),
                        "below": int((loss < bound).sum()),
                        "learned": int((loss < LEARNED * bound).sum()),
                        **dict(zip(("drift_10", "drift_50", "drift_90"), spread, strict=True)),
                    }
                )
    return pd.DataFrame(rows)
