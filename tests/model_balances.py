"""Balances of models as the two readers of them tell: that of chains and that of graphs."""

from __future__ import annotations

from typing import Any

import numpy as np

from obstruction import models
from obstruction.dag.from_models.from_model import read_model


def of_nodes(source: Any) -> np.ndarray:
    """Return the balances of the hidden nodes of a model's network."""
    told = read_model(source)
    return told.network.balances(told.weights)


def of_neurons(source: Any) -> np.ndarray:
    """Return the balances of the neurons that the audit judges."""
    model = models.read(source)
    found = [np.zeros(0)]
    for here, after, link in zip(model.layers, model.layers[1:], model.links, strict=False):
        if link.reason is None:
            bias = 0.0 if here.bias is None else here.bias**2
            found.append((here.weight**2).sum(axis=1) + bias - (after.weight**2).sum(axis=0))
    return np.concatenate(found)
