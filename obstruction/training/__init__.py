"""Training: our own descent of many small networks, and a monitor of yours.

The networks ``f(x) = W2 relu(W1 x)`` have one output and no biases; all have the same shape and
see the same data, all of it at every step. What is recorded on the way, the balance of every
neuron above all, tells how far finite steps stray from gradient flow. Losses and optimizers follow
PyTorch's conventions to rounding.

Its modules may import models, topology and tools. They must never know of initialisation schemes or
of probabilities.

Examples
--------
>>> import numpy as np
>>> from obstruction import training
>>> rng = np.random.default_rng(0)
>>> W1, W2 = rng.normal(size=(100, 8, 2)), rng.normal(size=(100, 8))
>>> X = rng.normal(size=(500, 2))
>>> run = training.train(
...     W1, W2, X, -np.abs(X[:, 0]), optimizer=training.GradientDescent(0.01), steps=100
... )
>>> run.losses.shape, bool(run.diverged.any())
((100, 2), False)
"""

from obstruction.training.descent import Trained, outputs, train
from obstruction.training.optimizers import Adam, GradientDescent

__all__ = ["Adam", "GradientDescent", "Trained", "outputs", "train"]
