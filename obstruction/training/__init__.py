"""Training: gradient descent of many small networks at once, and a monitor for any model.

`train` trains networks ``f(x) = W2 relu(W1 x)`` with one output and no biases. All networks have
the same shape and see all of the same data at every step. The recorded balances of the neurons show
how far finite steps deviate from gradient flow. Losses and optimizers follow PyTorch's conventions
up to rounding.

Its modules may import models, conservation laws, topology and tools. They must never know of
initialisation schemes or of probabilities.

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
