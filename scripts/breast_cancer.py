"""The experiment of figure 4: networks of one initial function with more and more free neurons.

This module computes what `figure4.py` draws and keeps the results of every width, so that an
interrupted run can continue.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import obstruction as ob
from obstruction import training
from obstruction.tools.files import whole_file

FloatArray = NDArray[np.float64]

SIGNS = ("drawn", "one sign")
"""The signs of the initial output weights: as drawn, or all equal to that of the first one."""


class Data(NamedTuple):
    """Points and labels (1 is benign) to train with and to test with."""

    X: FloatArray
    y: FloatArray
    X_test: FloatArray
    y_test: FloatArray


@dataclass(frozen=True)
class Settings:
    """Everything that the results depend on; `balance` is the size of all initial balances."""

    widths: tuple[int, ...] = tuple(range(1, 26))
    initialisations: int = 100
    balance: float = 1.0
    learning_rate: float = 0.1
    steps: int = 500
    seed: int = 0


class Width(NamedTuple):
    """The networks of one width l: arrays ``(sign, initialisation, l+)`` for l+ = 0 ... l.

    Attributes
    ----------
    test_loss, train_loss : mean binary cross-entropy after training, in nats
    early_train_loss : the same after half of the steps
    accuracy : of the test set
    drift : largest change of a neuron's balance among the recorded steps, in units of `balance`
    flips : number of frozen output weights that changed their sign nevertheless
    freed : number of free output weights that changed their sign
    two_signs : whether the frozen output weights have both signs (False if there are none)
    diverged : whether a weight or a loss became infinite
    """

    test_loss: FloatArray
    train_loss: FloatArray
    early_train_loss: FloatArray
    accuracy: FloatArray
    drift: FloatArray
    flips: NDArray[np.int64]
    freed: NDArray[np.int64]
    two_signs: NDArray[np.bool_]
    diverged: NDArray[np.bool_]


def load_data(seed: int) -> Data:
    """Return the breast-cancer data, a third of which is for the test, stratified by label.

    Every feature is standardised with the mean and the standard deviation of the training points.
    """
    try:
        from sklearn.datasets import load_breast_cancer
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ValueError(
            "figure 4 needs scikit-learn: pip install 'obstruction[sklearn]'"
        ) from error
    X, y = load_breast_cancer(return_X_y=True)
    X, X_test, y, y_test = train_test_split(
        X, y.astype(np.float64), test_size=1 / 3, stratify=y, random_state=seed
    )
    mean, deviation = X.mean(axis=0), X.std(axis=0)
    return Data((X - mean) / deviation, y, (X_test - mean) / deviation, y_test)


def initial_networks(
    l: int, d: int, sign: str, settings: Settings, initialisation: int
) -> tuple[FloatArray, FloatArray]:
    """Return l + 1 networks with the same function, whose first 0, 1, ..., l neurons are free.

    Weights are drawn by Xavier's normal scheme, seeded by width and initialisation alone. They are
    then rescaled (Prop. 4) to balance ``+balance`` for free neurons and ``-balance`` for others.

    Returns
    -------
    W1 : ndarray, shape (l + 1, l, d)
    W2 : ndarray, shape (l + 1, l)
    """
    scheme = ob.scheme("xavier_normal")
    rng = np.random.default_rng(
        np.random.SeedSequence(settings.seed, spawn_key=(l, initialisation))
    )
    hidden = rng.standard_normal((l, d)) * np.sqrt(scheme.hidden_variance(d, l))
    output = rng.standard_normal((1, l)) * np.sqrt(scheme.output_variance(d, l))
    if sign == "one sign":
        output = np.copysign(output, output[0, 0])
    W1, W2 = np.empty((l + 1, l, d)), np.empty((l + 1, l))
    for free in range(l + 1):
        target = np.where(np.arange(l) < free, settings.balance, -settings.balance)
        theta = ob.topology.rescale_to_balance(hidden, output, target)
        W1[free], W2[free] = theta.W1, theta.W2[0]
    return W1, W2


def train_width(l: int, data: Data, settings: Settings, threads: int | None = None) -> Width:
    """Train all networks of one width."""
    d = data.X.shape[1]
    starts = [
        initial_networks(l, d, sign, settings, i)
        for sign in SIGNS
        for i in range(settings.initialisations)
    ]
    W1, W2 = (np.concatenate(parts) for parts in zip(*starts, strict=True))
    run = training.train(
        W1,
        W2,
        data.X,
        data.y,
        loss="bce",
        optimizer=training.GradientDescent(settings.learning_rate),
        steps=settings.steps,
        record_every=max(1, settings.steps // 4),
        threads=threads,
        X_test=data.X_test,
        y_test=data.y_test,
    )
    assert run.test_losses is not None
    frozen = run.balances[:, 0] < 0.0
    flipped = np.sign(run.W2) != np.sign(W2)
    right = (training.outputs(run.W1, run.W2, data.X_test) > 0.0) == data.y_test
    half = int(np.searchsorted(run.steps, settings.steps / 2))
    found = Width(
        test_loss=run.test_losses[:, -1],
        train_loss=run.losses[:, -1],
        early_train_loss=run.losses[:, half],
        accuracy=right.mean(axis=1),
        drift=run.drift.max(axis=1) / settings.balance,
        flips=(flipped & frozen).sum(axis=1),
        freed=(flipped & ~frozen).sum(axis=1),
        two_signs=((W2 > 0.0) & frozen).any(axis=1) & ((W2 < 0.0) & frozen).any(axis=1),
        diverged=run.diverged,
    )
    shape = len(SIGNS), settings.initialisations, l + 1
    return Width._make(array.reshape(shape) for array in found)


def run_experiment(
    settings: Settings, *, cache: Path | None = None, threads: int | None = None
) -> Iterator[tuple[int, Width]]:
    """Yield each width and its networks, read from the folder `cache` or trained and saved there.

    Raises
    ------
    ValueError
        If scikit-learn is missing, or a file in the folder comes from other settings or is broken.
    """
    data = load_data(settings.seed)
    about = _about(settings, data)
    for l in settings.widths:
        path = None if cache is None else cache / f"width_{l:02d}.npz"
        if path is not None and path.exists():
            yield l, _read(path, l, about)
            continue
        width = train_width(l, data, settings, threads)
        if path is not None:
            _write(path, width, about)
        yield l, width


def _about(settings: Settings, data: Data) -> dict[str, Any]:
    """Return the settings on which the numbers of a file depend, without its width."""
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in data))
    values = asdict(settings) | {"signs": list(SIGNS), "data": digest.hexdigest()[:16]}
    del values["widths"]
    return values


def _read(path: Path, l: int, about: dict[str, Any]) -> Width:
    try:
        with np.load(path, allow_pickle=False) as file:
            kept = json.loads(str(file["about"]))
            width = Width._make(file[name] for name in Width._fields)
    except (OSError, KeyError, ValueError, EOFError):
        raise ValueError(f"{path}: holds no results of this script; delete it") from None
    other = [name for name in {*about, *kept} if about.get(name) != kept.get(name)]
    if other:
        name = min(other)
        raise ValueError(
            f"{path} was made with {name} = {kept.get(name)!r}, not {about.get(name)!r}: "
            "give another folder to --cache"
        )
    shape = len(SIGNS), about["initialisations"], l + 1
    if any(array.shape != shape for array in width):
        raise ValueError(f"{path}: holds no results of width {l}; delete it")
    return width


def _write(path: Path, width: Width, about: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as stream:
        np.savez(stream, about=json.dumps(about), **width._asdict())
