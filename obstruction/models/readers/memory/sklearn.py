"""Networks of scikit-learn in memory: ``MLPClassifier`` and ``MLPRegressor``.

This module never imports scikit-learn, which must be loaded already if an object is of it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from numpy.typing import NDArray

from obstruction.models.contents import Activation, Contents, Dense, Step, UnreadableModel
from obstruction.models.operations.graphs import operation_chain
from obstruction.models.readers.memory.tensors import as_tensors, check_changes, overwrite

OBJECTS: Final = "a network of scikit-learn"

_NETWORKS: Final = ("MLPClassifier", "MLPRegressor")


def matches(source: Any) -> bool:
    """Return whether an object is a network of scikit-learn, or a pipeline that ends in one."""
    return _is(_last(source), "sklearn.neural_network", _NETWORKS)


def read(source: Any) -> Contents:
    """Return the layers of a network that has been fitted, at least partially."""
    network = _last(source)
    if not hasattr(network, "coefs_"):
        name = type(network).__name__
        raise UnreadableModel(f"{name} has no weights yet: call fit or partial_fit first")
    tensors = as_tensors(_held(network))
    steps: list[Step] = []
    for i in range(len(network.coefs_)):
        steps += [Activation(network.activation)] if steps else []
        steps.append(Dense(f"coefs_{i}", f"coefs_{i}", f"intercepts_{i}", "in_out"))
    return Contents("scikit-learn network", tensors, "in_out", operation_chain(steps))


def updated(source: Any, changes: Mapping[str, NDArray[Any]], *, inplace: bool) -> Any:
    """Return a network or pipeline with new weights, with which ``partial_fit`` continues."""
    check_changes(changes, _held(_last(source)))
    target = source if inplace else copy.deepcopy(source)
    overwrite(_held(_last(target)), changes)
    return target


def _is(value: Any, package: str, names: tuple[str, ...]) -> bool:
    """Return whether a value is of a class of one of some names, or of a subclass."""
    return any(
        kind.__name__ in names and kind.__module__.startswith(package)
        for kind in type(value).__mro__
    )


def _last(source: Any) -> Any:
    """Return the last step of a pipeline, or the source itself if it is no pipeline."""
    while _is(source, "sklearn.pipeline", ("Pipeline",)) and source.steps:
        source = source.steps[-1][1]
    return source


def _held(network: Any) -> dict[str, Any]:
    """Return the arrays of a network in the order of its layers."""
    pairs = zip(network.coefs_, network.intercepts_, strict=True)
    return {
        f"{kind}_{i}": array
        for i, pair in enumerate(pairs)
        for kind, array in zip(("coefs", "intercepts"), pair, strict=True)
    }
