"""Gradient descent of many small networks at once, with all of the data at every step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obstruction.tools.checks import check_choice, check_count
from obstruction.tools.workers import Stop, available_threads, check_room, run_on_threads
from obstruction.topology.parameters import check_array
from obstruction.training import kernels
from obstruction.training.optimizers import Adam, GradientDescent, Optimizer

FloatArray: TypeAlias = NDArray[np.float64]

_LOSSES: Final = {"mse": kernels.MSE, "bce": kernels.BCE}


@dataclass(frozen=True)
class Trained:
    """Trained networks and records of their training: N networks, l neurons, R records.

    Attributes
    ----------
    W1 : ndarray of float64, shape (N, l, d)
        Hidden weights after the last step.
    W2 : ndarray of float64, shape (N, l)
        Output weights after the last step.
    steps : ndarray of int64, shape (R,)
        The numbers of steps after which there is a record, from 0 to the last step.
    losses : ndarray of float64, shape (N, R)
        The mean loss over the data.
    test_losses : ndarray of float64, shape (N, R), or None
        The mean loss over the test data; None without test data.
    balances : ndarray of float64, shape (N, R, l)
        ``|in|^2 - out^2`` of every neuron, which gradient flow would conserve.
    W1_path : ndarray of float64, shape (N, R, l, d), or None
    W2_path : ndarray of float64, shape (N, R, l), or None
        The weights at the recorded steps; None if they were not recorded.
    """

    W1: FloatArray
    W2: FloatArray
    steps: NDArray[np.int64]
    losses: FloatArray
    test_losses: FloatArray | None
    balances: FloatArray
    W1_path: FloatArray | None
    W2_path: FloatArray | None

    @property
    def diverged(self) -> NDArray[np.bool_]:
        """Whether a weight or a recorded loss of each network is not finite: shape ``(N,)``."""
        finite = np.isfinite(self.losses).all(axis=1) & np.isfinite(self.W2).all(axis=1)
        return np.asarray(~(finite & np.isfinite(self.W1).all(axis=(1, 2))))

    @property
    def drift(self) -> FloatArray:
        """The largest change of each neuron's balance among the records: shape ``(N, l)``."""
        return np.asarray(np.abs(self.balances - self.balances[:, :1]).max(axis=1))


def train(
    W1: ArrayLike,
    W2: ArrayLike,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: str = "mse",
    optimizer: Optimizer,
    steps: int,
    record_every: int | None = None,
    record_weights: bool = False,
    threads: int | None = None,
    X_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
) -> Trained:
    """Train many networks ``f(x) = W2 relu(W1 x)`` of one shape on the same data.

    Parameters
    ----------
    W1 : array_like, shape (N, l, d)
        Hidden weights of N networks at the start.
    W2 : array_like, shape (N, l)
        Output weights at the start.
    X : array_like, shape (n, d)
        The data points.
    y : array_like, shape (n,)
        Targets. For ``"bce"`` they are labels 0 and 1, and the output of a network is the logit.
    loss : {"mse", "bce"}
        The mean over the points of ``(f - y)^2``, or of the binary cross-entropy in nats.
    optimizer : GradientDescent or Adam
        Its momentum and moments are 0 at the start.
    steps : int
        The number of steps, >= 0.
    record_every : int, optional
        Losses and balances are recorded at step 0, at every multiple of this number, and at the
        end; by default only at 0 and at the end. A record takes about half as long as a step.
    record_weights : bool
        Whether to record the weights as well.
    threads : int, optional
        The number of threads, by default one per core. It does not influence the results.
    X_test, y_test : array_like, optional
        Test data, for which only the loss is recorded.

    Returns
    -------
    Trained
        All networks, including those that diverged: see `Trained.diverged`.

    Raises
    ------
    ValueError
        If an array has a number that is not finite or does not fit the others, a label is neither
        0 nor 1, another argument is out of its range, or the records would not fit into memory.

    Notes
    -----
    The derivative of ReLU at 0 is taken as 0. All computations are in double precision. The result
    of a network does not depend on the other networks. `KeyboardInterrupt` stops the work within a
    step.

    Examples
    --------
    >>> W1, W2 = [[[1.0, 0.0]]], [[0.5]]
    >>> X, y = [[1.0, 0.0], [0.0, 1.0]], [1.0, 0.0]
    >>> run = train(W1, W2, X, y, optimizer=GradientDescent(0.1), steps=1)
    >>> run.W1.round(3).tolist(), run.W2.tolist(), run.losses.round(3).tolist()
    ([[[1.025, 0.0]]], [[0.55]], [[0.125, 0.095]])
    """
    hidden = check_array("W1", W1, 3, "(N, l, d)")
    N, l, d = hidden.shape
    output = _check_shape("W2", W2, (N, l), "to fit W1")
    code = _LOSSES[check_choice("loss", loss, _LOSSES)]
    if not isinstance(optimizer, (GradientDescent, Adam)):
        raise ValueError(f"optimizer = {optimizer!r}: must be a GradientDescent or an Adam")
    if (X_test is None) != (y_test is None):
        raise ValueError("X_test, y_test: must both be given or both be left out")
    points = _points("X", X, "y", y, d, code)
    test = points._replace(x=np.empty(0), y=np.empty(0), share=np.empty(0))
    if X_test is not None:
        test = _points("X_test", X_test, "y_test", y_test, d, code)
    workers = min(available_threads() if threads is None else check_count("threads", threads), N)

    m = kernels.TILE // math.gcd(l, kernels.TILE)
    width = points.x.size // points.y.size
    packs = -(-N // m)
    at = _recorded(
        steps, record_every, packs * m * (2 + l + l * (width + 1) * bool(record_weights))
    )
    flat1 = np.zeros((packs * m, l, width))
    flat1[:N, :, :d] = hidden
    flat2 = np.zeros((packs * m, l))
    flat2[:N] = output
    flat1, flat2 = flat1.reshape(packs, -1), flat2.reshape(packs, -1)
    kept = at.size if record_weights else 0
    records = [
        kernels.Records(
            at,
            np.zeros((at.size, m)),
            np.zeros((at.size, m)),
            np.zeros((at.size, m * l)),
            np.zeros((kept, m * l * width)),
            np.zeros((kept, m * l)),
        )
        for _ in range(packs)
    ]
    rule, stop = _rule(optimizer), Stop()

    def work(pack: int) -> None:
        kernels.descend(
            flat1[pack], flat2[pack], m, code, rule, points, test, records[pack], stop.flag
        )

    run_on_threads(work, range(packs), threads=workers, stop=stop)

    def networks(name: str, *shape: int) -> FloatArray:
        """Return the records of all packs as an array of shape ``(N, R, *shape)``."""
        parts = [getattr(record, name).reshape(-1, m, *shape) for record in records]
        return np.ascontiguousarray(np.concatenate(parts, axis=1)[:, :N].swapaxes(0, 1))

    return Trained(
        W1=flat1.reshape(-1, l, width)[:N, :, :d].copy(),
        W2=flat2.reshape(-1, l)[:N].copy(),
        steps=at,
        losses=networks("losses"),
        test_losses=None if X_test is None else networks("test_losses"),
        balances=networks("balances", l),
        W1_path=networks("W1", l, width)[..., :d].copy() if record_weights else None,
        W2_path=networks("W2", l) if record_weights else None,
    )


def outputs(W1: ArrayLike, W2: ArrayLike, X: ArrayLike) -> FloatArray:
    """Return the outputs ``W2 relu(W1 x)`` of networks.

    Parameters
    ----------
    W1 : array_like, shape (N, l, d)
        Hidden weights of N networks.
    W2 : array_like, shape (N, l)
        Output weights.
    X : array_like, shape (n, d)
        The data points.

    Returns
    -------
    ndarray of float64, shape (N, n)

    Raises
    ------
    ValueError
        If shapes do not fit or an array has a number that is not finite.

    Examples
    --------
    >>> outputs([[[1.0, -1.0]]], [[2.0]], [[3.0, 1.0], [1.0, 3.0]]).tolist()
    [[4.0, 0.0]]
    """
    hidden = check_array("W1", W1, 3, "(N, l, d)")
    N, l, d = hidden.shape
    output = _check_shape("W2", W2, (N, l), "to fit W1")
    data = _check_shape("X", X, (None, d), "to fit W1")
    found = np.empty((N, len(data)))
    for one, w1, w2 in zip(found, hidden, output, strict=True):
        one[:] = w2 @ np.maximum(w1 @ data.T, 0.0)
    return found


def _points(name: str, X: Any, label: str, y: Any, d: int, loss: int) -> kernels.Points:
    """Check data and arrange them in chunks for the kernels."""
    data = _check_shape(name, X, (None, d), "to fit W1")
    n = len(data)
    values = _check_shape(label, y, (n,), f"to fit {name}")
    if loss == kernels.BCE:
        bad = np.flatnonzero((values != 0.0) & (values != 1.0))
        if bad.size:
            raise ValueError(f"{label}[{bad[0]}] = {values[bad[0]]}: must be 0 or 1 for loss 'bce'")
    chunks, width = -(-n // kernels.CHUNK), -(-d // kernels.INPUTS) * kernels.INPUTS
    filled = np.zeros((chunks * kernels.CHUNK, width))
    filled[:n, :d] = data
    x = filled.reshape(chunks, kernels.CHUNK, width).swapaxes(1, 2)
    target, share = np.zeros((2, chunks * kernels.CHUNK))
    target[:n], share[:n] = values, 1.0 / n
    return kernels.Points(np.ascontiguousarray(x).ravel(), target, share)


def _check_shape(name: str, value: Any, shape: Sequence[int | None], why: str) -> FloatArray:
    """Return an array of finite numbers of the given shape, in which None allows any length."""
    words = "(" + ", ".join("n" if size is None else str(size) for size in shape)
    words += ",)" if len(shape) == 1 else ")"
    array = check_array(name, value, len(shape), f"{words} {why}")
    if any(size not in (None, have) for size, have in zip(shape, array.shape, strict=True)):
        raise ValueError(f"{name} has shape {array.shape}: must be {words} {why}")
    return array


def _recorded(steps: Any, every: Any, size: int) -> NDArray[np.int64]:
    """Return the steps to record, if records of ``size`` numbers each fit into memory."""
    last = check_count("steps", steps, least=0)
    between = max(last, 1) if every is None else check_count("record_every", every)
    count = 1 + -(-last // between)
    check_room(f"record_every: {count:,} records", 8 * (1 + 3 * size) * count)
    return np.append(np.arange(0, last, between, dtype=np.int64), last)


def _rule(optimizer: Optimizer) -> kernels.Rule:
    """Return an optimizer as numbers for the kernels."""
    rate, decay = float(optimizer.learning_rate), float(optimizer.weight_decay)
    if isinstance(optimizer, Adam):
        first, second = map(float, optimizer.betas)
        eps, decoupled = float(optimizer.eps), optimizer.decoupled
        return kernels.Rule(kernels.ADAM, rate, first, second, eps, decay, decoupled)
    momentum = float(optimizer.momentum)
    return kernels.Rule(kernels.GRADIENT_DESCENT, rate, momentum, 0.0, 0.0, decay, False)
