"""Networks of scikit-learn in memory: ``MLPClassifier`` and ``MLPRegressor``.

scikit-learn is never imported here: an object can only be one of its own if it is loaded already.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from obstruction.models.contents import Activation, Contents, Dense, Step, UnreadableModel
from obstruction.models.operations.graphs import operation_chain
from obstruction.models.readers.memory.tensors import as_tensor, check_changes, overwrite

_NETWORKS = ("MLPClassifier", "MLPRegressor")


def matches(source: Any) -> bool:
    """Return whether an object is a network of scikit-learn, or a pipeline that ends in one."""
    return _is(_last(source), "sklearn.neural_network", _NETWORKS)


def read(source: Any) -> Contents:
    """Return the layers of a fitted or partially fitted network.

    Parameters
    ----------
    source : MLPClassifier, MLPRegressor or Pipeline
        A pipeline must end in one of the networks.

    Raises
    ------
    UnreadableModel
        If the network has not been fitted.
    """
    network = _last(source)
    if not hasattr(network, "coefs_"):
        name = type(network).__name__
        raise UnreadableModel(f"{name} has no weights yet: call fit or partial_fit first")
    tensors = {name: as_tensor(name, array) for name, array in _held(network).items()}
    steps: list[Step] = []
    for i in range(len(network.coefs_)):
        steps += [Activation(network.activation)] if steps else []
        steps.append(Dense(f"coefs_{i}", f"coefs_{i}", f"intercepts_{i}", "in_out"))
    return Contents("scikit-learn network", tensors, "in_out", operation_chain(steps))


def updated(source: Any, changes: Mapping[str, NDArray[Any]], *, inplace: bool) -> Any:
    """Return a network or pipeline in which some weights have other values.

    Parameters
    ----------
    source : MLPClassifier, MLPRegressor or Pipeline
        What was read.
    changes : mapping of str to ndarray
        New values by the names of `Contents.tensors`.
    inplace : bool
        Whether to change the arrays of the network itself, so that ``partial_fit`` goes on with
        them. If not, a deep copy is changed.

    Raises
    ------
    ValueError
        If a change does not fit.
    """
    check_changes(changes, _held(_last(source)))
    target = source if inplace else copy.deepcopy(source)
    held = _held(_last(target))
    for name, array in changes.items():
        overwrite(name, held[name], array)
    return target


def _is(value: Any, package: str, names: tuple[str, ...]) -> bool:
    """Return whether a value is of one of some classes, told by their names."""
    return any(
        kind.__name__ in names and kind.__module__.startswith(package)
        for kind in type(value).__mro__
    )


def _last(source: Any) -> Any:
    """Return the last step of a pipeline, or what is no pipeline."""
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
